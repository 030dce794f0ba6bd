//! Says what services are: one as s6-svstat does, or all of a scan directory as a table.

use lexopt::prelude::*;
use perennial::cli;
use perennial::diag::{self, Error, Result, Unable, code};
use perennial::log::place::last_words as last_words_of;
use perennial::report::json::Json;
use perennial::report::metrics::{self, Seen, Usage};
use perennial::report::service::{Field, HEAD, Service};
use perennial::report::table::{Table, colour};
use perennial::report::{cause, count};
use perennial::scan::{self, Limits};
use perennial::servicedir;
use perennial::servicedir::client::Client;
use perennial::servicedir::definition;
use perennial::servicedir::event;
use perennial::servicedir::state::State;
use perennial::servicedir::status::Status;
use perennial::sys::{clock, env};
use rustix::fs::{AtFlags, statat};
use std::process::ExitCode;
use std::time::Duration;

const USAGE: &str = "svstat [ -uwNrpgest | -o field,... ] [ -n ] [ -v ] [ --json ] servicedir...\n\
                     \x20      svstat [ -S scandir ] [ --json | --metrics | --watch ]\n\
                     \x20      svstat [ -S scandir ] --probe [ name... ]";

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
    let (mut verbose, mut view) = (false, View::Table);
    while let Some(arg) = cli::next(&mut parser)? {
        match arg {
            Short('n') => numeric = true,
            Short('v') => verbose = true,
            Short('o') => {
                for name in cli::value(&mut parser)?.split(',') {
                    fields.push(Field::by_name(name).ok_or_else(|| unknown_field(name))?);
                }
            }
            Short('S') | Long("scandir") => scandir = Some(cli::value(&mut parser)?),
            Long("json") => json = true,
            Long("metrics") => view = View::Metrics,
            Long("watch") => view = View::Watch,
            Long("probe") => view = View::Probe,
            Short('h') | Long("help") => return cli::help(USAGE),
            Short(letter) => fields.push(shorthand(letter).ok_or_else(|| cli::usage(USAGE))?),
            Value(dir) => dirs.push(cli::text(dir)?),
            _ => return Err(cli::usage(USAGE)),
        }
    }
    let plain = fields.is_empty() && !numeric && !verbose;
    match view {
        View::Table => {}
        View::Probe if plain && !json => return probe(scandir, &dirs),
        View::Metrics if plain && !json && dirs.is_empty() => return metrics(scandir),
        View::Watch if plain && !json && dirs.is_empty() => return follow(scandir),
        _ => return Err(cli::usage(USAGE)),
    }
    if dirs.is_empty() {
        if !plain {
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
            if !service.status.is_fresh() && (!service.status.is_up() || service.state.deaths > 0) {
                out.extend(["  last exit: ", &cause::whole(service.status.wait, &service.state), "\n"]);
            }
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

/// What is shown of a scan directory.
#[derive(Clone, Copy, PartialEq, Eq)]
enum View {
    Table,
    Metrics,
    Watch,
    Probe,
}

/// The services of a scan directory, and why others could not be looked at.
struct Gathered {
    path: String,
    services: Vec<Service>,
    unseen: Vec<Error>,
}

/// Where services are looked for.
fn scandir_of(scandir: Option<String>) -> (String, &'static str) {
    let given = env::get("PERENNIAL_SCANDIR").and_then(|v| v.to_str()).map(str::to_owned);
    let hint = if scandir.is_none() && given.is_none() { " (-S says where else to look)" } else { "" };
    (scandir.or(given).unwrap_or_else(perennial::init::place::scandir), hint)
}

/// Looks at every service of a scan directory.
fn gather(scandir: Option<String>) -> Result<Gathered> {
    let (path, hint) = scandir_of(scandir);
    let base = servicedir::open(rustix::fs::CWD, &*path).map_err(|errno| {
        Error::new(code::SYSTEM, format!("unable to open {path}: {}{hint}", diag::reason(errno)))
    })?;
    let limits = Limits { services: usize::MAX, name: 1019 };
    let listing = scan::list(&base, limits, false, |_| {}).unable(format_args!("list {path}"))?;
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
    Ok(Gathered { path, services, unseen })
}

impl Gathered {
    /// The error for those that could not be looked at. For somebody who may see none they all have the same
    /// reason.
    fn unseen(&self) -> Result<()> {
        let [first, rest @ ..] = self.unseen.as_slice() else { return Ok(()) };
        let more = match rest.len() {
            0 => String::new(),
            n => format!(" (and {} more)", count(n, "service")),
        };
        Err(Error::new(first.code(), format!("{first}{more}")))
    }

    fn print_table(&self) -> Result<()> {
        if !self.services.is_empty() {
            let now = clock::wall();
            let mut table = Table::new(&HEAD.0, HEAD.1);
            self.services.iter().for_each(|s| table.row(s.row(now)));
            diag::print(table.to_text(colour()))?;
        } else if self.unseen.is_empty() {
            diag::info(format_args!("there are no services in {}", self.path));
        }
        Ok(())
    }
}

/// Every service of a scan directory.
fn all(scandir: Option<String>, json: bool) -> Result<u8> {
    let gathered = gather(scandir)?;
    if json {
        let now = clock::wall();
        let list = Json::List(gathered.services.iter().map(|s| s.json(now)).collect());
        diag::print(list.to_text() + "\n")?;
    } else {
        gathered.print_table()?;
    }
    gathered.unseen()?;
    Ok(verdict(&gathered.services))
}

/// For a collector of metrics.
fn metrics(scandir: Option<String>) -> Result<u8> {
    let gathered = gather(scandir)?;
    let now = clock::wall();
    let usage = |s: &Service| s.status.pid.filter(|_| s.status.is_up()).and_then(Usage::of);
    let services = gathered.services.iter();
    let all: Vec<Seen<'_>> = services.map(|service| Seen { service, usage: usage(service), now }).collect();
    diag::print(metrics::text(&all))
}

/// Whether all is well: what is not is said in a line each. Of services that are named, all are to be up.
fn probe(scandir: Option<String>, names: &[String]) -> Result<u8> {
    let (services, unseen) = if names.is_empty() {
        let gathered = gather(scandir)?;
        (gathered.services, gathered.unseen)
    } else {
        let (path, _) = scandir_of(scandir);
        let (mut services, mut unseen) = (Vec::new(), Vec::new());
        for name in names {
            let seen = Client::open(&format!("{path}/{name}")).and_then(|client| {
                let supervised = client.is_supervised()?;
                look(name, &client, supervised, true)
            });
            match seen {
                Ok(service) => services.push(service),
                Err(e) => unseen.push(e),
            }
        }
        (services, unseen)
    };
    let complaints = services.iter().filter_map(|s| Some((&s.name, s.complaint(!names.is_empty())?)));
    let mut lines: Vec<String> = complaints.map(|(name, why)| format!("{name}: {why}\n")).collect();
    lines.extend(unseen.iter().map(|e| format!("{e}\n")));
    diag::print(lines.concat())?;
    Ok(if lines.is_empty() { code::OK } else { code::NO })
}

/// On a terminal the table, always as it is; elsewhere it once, and then a line for each change.
fn follow(scandir: Option<String>) -> Result<u8> {
    let path = scandir_of(scandir).0;
    let terminal = rustix::termios::isatty(rustix::stdio::stdout());
    let mut before: Option<Vec<Service>> = None;
    loop {
        // Who listens before it looks misses nothing.
        let listeners = listen(&path);
        let gathered = gather(Some(path.clone()))?;
        match &before {
            _ if terminal => {
                diag::print("\x1b[H\x1b[2J")?;
                gathered.print_table()?;
            }
            None => gathered.print_table()?,
            Some(before) => {
                let now = clock::wall();
                let changed = gathered.services.iter().filter(|s| !before.contains(s));
                let lines: String =
                    changed.map(|s| format!("{}: {}\n", s.name, s.line(now, false))).collect();
                diag::print(lines)?;
            }
        }
        before = Some(gathered.services);
        // Directories that come and go are no event of a service, nor is it that time goes by.
        let until = clock::mono().after(Duration::from_secs(1));
        event::listen(&listeners, Some(until), |_, _| true).unable("wait for events")?;
    }
}

fn listen(path: &str) -> Vec<event::Listener> {
    let Ok(base) = servicedir::open(rustix::fs::CWD, path) else { return Vec::new() };
    let limits = Limits { services: usize::MAX, name: 1019 };
    let listing = scan::list(&base, limits, false, |_| {}).unwrap_or_default();
    let clients = listing.keys().filter_map(|name| Client::open(&format!("{path}/{name}")).ok());
    clients.filter_map(|client| client.listen().ok()).collect()
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
