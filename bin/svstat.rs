//! Says what services are: one as s6-svstat does, or all of a scan directory as a table.

use lexopt::prelude::*;
use perennial::cli;
use perennial::diag::{self, Error, Result, Unable, code};
use perennial::log::place::last_words as last_words_of;
use perennial::report::count;
use perennial::report::json::Json;
use perennial::report::service::{Field, HEAD, Service};
use perennial::report::table::{Table, colour};
use perennial::scan::{self, Limits};
use perennial::servicedir;
use perennial::servicedir::client::Client;
use perennial::servicedir::definition;
use perennial::servicedir::state::State;
use perennial::servicedir::status::Status;
use perennial::sys::{clock, env};
use rustix::fs::{AtFlags, statat};
use std::process::ExitCode;

const USAGE: &str = "svstat [ -uwNrpgest | -o field,... ] [ -n ] [ -v ] [ --json ] servicedir...\n\
                     \x20      svstat [ -S scandir ] [ --json ]";

/// The program.
pub fn main() -> ExitCode {
    cli::main("svstat", svstat)
}

/// Some service is wanted up and is not.
const SOME_DOWN: u8 = 3;

/// All that are wanted are up, some not ready.
const SOME_NOT_READY: u8 = 4;

/// Its options.
pub fn svstat(mut parser: lexopt::Parser) -> Result<u8> {
    let (mut fields, mut numeric, mut json, mut scandir, mut dirs) =
        (Vec::new(), false, false, None, Vec::new());
    let mut verbose = false;
    while let Some(arg) = parser.next()? {
        match arg {
            Short('n') => numeric = true,
            Short('v') => verbose = true,
            Short('o') => {
                for name in parser.value()?.string()?.split(',') {
                    fields.push(Field::by_name(name).ok_or_else(|| unknown_field(name))?);
                }
            }
            Short('S') | Long("scandir") => scandir = Some(parser.value()?.string()?),
            Long("json") => json = true,
            Short('h') | Long("help") => return cli::help(USAGE),
            Short(letter) => fields.push(shorthand(letter).ok_or_else(|| cli::usage(USAGE))?),
            Value(dir) => dirs.push(dir.string()?),
            _ => return Err(cli::usage(USAGE)),
        }
    }
    if dirs.is_empty() {
        if !fields.is_empty() || numeric || verbose {
            return Err(cli::usage(USAGE));
        }
        return all(scandir, json);
    }
    if scandir.is_some() {
        return Err(cli::usage(USAGE));
    }
    some(&dirs, &fields, numeric, json, verbose)
}

fn unknown_field(name: &str) -> Error {
    Error::usage(format!("invalid field {name:?} for -o"))
}

/// The options that stand for fields.
fn shorthand(letter: char) -> Option<Field> {
    Some(match letter {
        'u' => Field::Up,
        'w' => Field::WantedUp,
        'N' => Field::NormallyUp,
        'r' => Field::Ready,
        'p' => Field::Pid,
        'g' => Field::Pgid,
        'e' => Field::ExitCode,
        's' => Field::Signal,
        't' => Field::UpDownFor,
        _ => return None,
    })
}

/// The services named on the command line.
fn some(dirs: &[String], fields: &[Field], numeric: bool, json: bool, verbose: bool) -> Result<u8> {
    let now = clock::wall();
    let (mut out, mut objects, mut verdict) = (String::new(), Vec::new(), code::OK);
    for dir in dirs {
        let Some(client) = Client::open_supervised(dir)? else {
            diag::warn(format_args!("{dir}: supervisor not listening"));
            verdict = code::NO;
            continue;
        };
        let service = look(dir, &client, true, fields.is_empty())?;
        if json {
            objects.push(service.json(now));
            continue;
        }
        if dirs.len() > 1 {
            out.extend([dir, ": "]);
        }
        if fields.is_empty() {
            out.push_str(&service.line(now, numeric));
        } else {
            let values: Vec<String> = fields.iter().map(|field| service.field(*field, now)).collect();
            out.push_str(&values.join(" "));
        }
        out.push('\n');
        if verbose {
            last_words(dir, &mut out);
        }
    }
    if json {
        let list = if dirs.len() == 1 { objects.pop().unwrap_or(Json::Null) } else { Json::List(objects) };
        out = list.to_text() + "\n";
    }
    diag::print(&out).map(|_| verdict)
}

/// So many lines are shown of what a service said before it died.
const LAST_WORDS: usize = 5;

/// `-v`: what it said before it died the last time.
fn last_words(dir: &str, out: &mut String) {
    let lines = last_words_of(dir, LAST_WORDS);
    if !lines.is_empty() {
        out.push_str("  before it died:\n");
    }
    for line in lines {
        out.extend(["    ", &String::from_utf8_lossy(&line.text), "\n"]);
    }
}

/// Every service of a scan directory.
fn all(scandir: Option<String>, json: bool) -> Result<u8> {
    let given = env::get("PERENNIAL_SCANDIR").and_then(|v| v.to_str()).map(str::to_owned);
    let hint = if scandir.is_none() && given.is_none() { " (-S says where else to look)" } else { "" };
    let path = scandir.or(given).unwrap_or_else(perennial::init::place::scandir);
    let base = servicedir::open(rustix::fs::CWD, &*path).map_err(|errno| {
        Error::new(code::SYSTEM, format!("unable to open {path}: {}{hint}", diag::reason(errno)))
    })?;
    let limits = Limits { services: usize::MAX, name: 1019 };
    let listing = scan::list(&base, limits, false, |_| {}).unable(format_args!("list {path}"))?;
    let now = clock::wall();
    let (mut services, mut unseen) = (Vec::new(), Vec::new());
    for name in listing.keys() {
        let seen = Client::open(&format!("{path}/{name}")).and_then(|client| {
            let supervised = client.is_supervised()?;
            look(name, &client, supervised, true)
        });
        match seen {
            Ok(service) => services.push(service),
            Err(e) => unseen.push(e),
        }
    }
    let anything = !unseen.is_empty() || services.iter().any(|s| s.supervised);
    if !anything && statat(&base, scan::run::DIR, AtFlags::empty()).is_err() {
        return Err(Error::usage(format!(
            "{path} is no scan directory: there is no {} in it, and nothing in it is supervised",
            scan::run::DIR
        )));
    }
    if json {
        let list = Json::List(services.iter().map(|s| s.json(now)).collect());
        diag::print(list.to_text() + "\n")?;
    } else if !services.is_empty() {
        let mut table = Table::new(&HEAD.0, HEAD.1);
        services.iter().for_each(|s| table.row(s.row(now)));
        diag::print(table.to_text(colour()))?;
    } else if unseen.is_empty() {
        diag::info(format_args!("there are no services in {path}"));
    }
    // For somebody who may see none of them they all have the same reason.
    if let [first, rest @ ..] = unseen.as_slice() {
        let more = match rest.len() {
            0 => String::new(),
            n => format!(" (and {} more)", count(n, "service")),
        };
        return Err(Error::new(first.code(), format!("{first}{more}")));
    }
    Ok(verdict(&services))
}

fn look(name: &str, client: &Client, supervised: bool, whole: bool) -> Result<Service> {
    let there = |file: &str| statat(client.dir(), file, AtFlags::empty()).is_ok();
    let status = match client.status() {
        Err(_) if !supervised => Status { paused: true, ..Status::default() },
        status => status?,
    };
    Ok(Service {
        name: name.to_owned(),
        supervised,
        status,
        state: match whole.then(|| servicedir::read_file(client.dir(), "supervise/state")) {
            Some(Ok(text)) => State::parse(&text),
            _ => State::default(),
        },
        down_file: there("down"),
        notifies: whole && definition::tells_ready(client.dir()),
    })
}

fn verdict(services: &[Service]) -> u8 {
    let wanted = |s: &&Service| s.supervised && s.status.want_up;
    match () {
        () if services.iter().any(|s| !s.supervised) => code::NO,
        () if services.iter().filter(wanted).any(|s| !s.status.is_up()) => SOME_DOWN,
        () if services.iter().filter(wanted).any(|s| s.notifies && !s.status.ready) => SOME_NOT_READY,
        () => code::OK,
    }
}
