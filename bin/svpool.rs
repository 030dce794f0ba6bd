//! Keeps so many instances of a template as a metric asks for; shows and restarts them.

use lexopt::prelude::*;
use perennial::chainload::Next;
use perennial::cli;
use perennial::diag::{self, Error, Result, code};
use perennial::execline;
use perennial::init::place;
use perennial::pool::metric::Metric;
use perennial::pool::policy::Limits;
use perennial::pool::run::{self, Options};
use perennial::pool::view::View;
use perennial::process::Signal;
use perennial::report::json::Json;
use perennial::report::table::colour;
use perennial::servicedir::client::Client;
use perennial::servicedir::control::Command;
use perennial::sys::env;
use perennial::time::parse_duration;
use std::process::ExitCode;
use std::time::Duration;

const USAGE: &str = "svpool template --min n [ --max n ] [ --metric command [ --per-worker n ] \
                     [ --interval time ] [ --metric-timeout time ] ] [ --idle time ] [ --cooldown time ] \
                     [ --step n ] [ --drain time ] [ --drain-signal signal ] [ --report time ] \
                     [ --name name ] [ --instances dir ] [ -S scandir ]\n\
                     \x20      svpool status [ -S scandir ] [ --json ] [ pool... ]\n\
                     \x20      svpool restart [ -S scandir ] pool...";

/// More instances than this nobody can mean.
const MOST: u64 = 9999;

/// Where the copies are, unless it is said otherwise.
const COPIES: &str = "instances";

/// The program.
pub fn main() -> ExitCode {
    cli::main("svpool", svpool)
}

/// Its options. They come in any order, and what it is to do may stand among them.
pub fn svpool(mut parser: lexopt::Parser) -> Result<u8> {
    let mut limits = Limits {
        min: 1,
        max: 0,
        per_worker: None,
        step: MOST as u32,
        idle: Duration::from_secs(30),
        cooldown: Duration::from_secs(3),
        drain: Duration::from_secs(30),
    };
    let (mut words, mut json, mut scandir, mut name, mut copies) = (Vec::new(), false, None, None, None);
    let (mut command, mut per_worker, mut report, mut signal) = (None, 1, None, None);
    let (mut interval, mut timeout) = (Duration::from_secs(1), Duration::from_secs(10));
    let mut pool_option = false;
    while let Some(arg) = parser.next()? {
        match arg {
            Short('h') | Long("help") => return cli::help(USAGE),
            Short('S') | Long("scandir") => scandir = Some(parser.value()?.string()?),
            Long("json") => json = true,
            Value(word) => words.push(word.string()?),
            Long(option) => {
                let option = format!("--{option}");
                let value = parser.value()?;
                let number = |least| cli::number::<u32>(&option, &value, least, MOST);
                let time = |least| duration(&option, &value, least);
                match &*option {
                    "--min" => limits.min = number(0)?,
                    "--max" => limits.max = number(1)?,
                    "--step" => limits.step = number(1)?,
                    "--per-worker" => per_worker = cli::number(&option, &value, 1, u32::MAX.into())?,
                    "--idle" => limits.idle = time(0)?,
                    "--cooldown" => limits.cooldown = time(0)?,
                    "--drain" => limits.drain = time(0)?,
                    "--interval" => interval = time(10)?,
                    "--metric-timeout" => timeout = time(10)?,
                    "--report" => report = Some(time(1000)?),
                    "--metric" => command = Some(value.string()?),
                    "--name" => name = Some(value.string()?),
                    "--instances" => copies = Some(value.string()?),
                    "--drain-signal" => signal = Some(drain_signal(&value.string()?)?),
                    _ => return Err(cli::usage(USAGE)),
                }
                pool_option = true;
            }
            _ => return Err(cli::usage(USAGE)),
        }
    }
    let scandir =
        scandir.or_else(|| env::get("PERENNIAL_SCANDIR").and_then(|v| v.to_str()).map(str::to_owned));
    let scandir = scandir.unwrap_or_else(place::scandir);
    match words.first().map(|word| &**word) {
        Some("status") if !pool_option => return status(&scandir, &words[1..], json),
        Some("restart") if words.len() == 1 || pool_option || json => return Err(cli::usage(USAGE)),
        Some("restart") => return restart(&scandir, &words[1..]),
        _ => {}
    }
    let [template] = &words[..] else { return Err(cli::usage(USAGE)) };
    if json {
        return Err(cli::usage(USAGE));
    }
    if command.is_some() && limits.max == 0 {
        return Err(Error::usage("with --metric there must be --max"));
    }
    limits.max = if limits.max == 0 { limits.min.max(1) } else { limits.max };
    if limits.min > limits.max {
        return Err(Error::usage(format!("--min {} is more than --max {}", limits.min, limits.max)));
    }
    limits.per_worker = command.as_ref().map(|_| per_worker);
    let metric = command.map(|text| metric(text, interval, timeout)).transpose()?;
    let name = name.map_or_else(|| name_of(template), Ok)?;
    diag::set_program(format!("svpool {name}"));
    run::run(Options {
        template: template.clone(),
        name,
        copies: copies.unwrap_or_else(|| COPIES.to_owned()),
        scandir,
        limits,
        metric,
        report,
        signal,
    })
}

fn duration(option: &str, value: &std::ffi::OsStr, least: u64) -> Result<Duration> {
    let text = value.to_str().unwrap_or_default();
    parse_duration(text).filter(|d| *d >= Duration::from_millis(least)).ok_or_else(|| {
        let least = if least > 0 { format!(" of at least {least} ms") } else { String::new() };
        Error::usage(format!("invalid value for {option}: {text:?} is no time{least} (500ms, 30s, 2m, 1h)"))
    })
}

fn drain_signal(name: &str) -> Result<Command> {
    let signal = name.parse::<Signal>().ok().and_then(Command::for_signal);
    signal.ok_or_else(|| {
        Error::usage(format!("invalid value for --drain-signal: {name:?} is no signal that svc can send"))
    })
}

fn metric(text: String, interval: Duration, timeout: Duration) -> Result<Metric> {
    let words = execline::parse(text.as_bytes())
        .map_err(|e| Error::usage(format!("invalid value for --metric: {text}: {e}")))?;
    if words.is_empty() {
        return Err(Error::usage("invalid value for --metric: there is no command in it"));
    }
    Ok(Metric::new(Next::new(words)?, text, interval, timeout))
}

/// A template is mostly called that: then its instances are called as what it lies in.
fn name_of(template: &str) -> Result<String> {
    let path = cli::absolute(template)?;
    let mut names = path.rsplit('/').filter(|name| !name.is_empty());
    let name = names.find(|name| *name != "template");
    name.map(str::to_owned).ok_or_else(|| Error::usage("the pool has no name: --name says it"))
}

/// A pool's service directory: by path, or by name in the scan directory.
fn path_of(scandir: &str, pool: &str) -> String {
    if pool.contains('/') { pool.to_owned() } else { format!("{scandir}/{pool}") }
}

/// Shows pools: those that are named, or all in the scan directory.
fn status(scandir: &str, pools: &[String], json: bool) -> Result<u8> {
    let (mut views, mut verdict) = (Vec::new(), code::OK);
    if pools.is_empty() {
        let entries = std::fs::read_dir(scandir).into_iter().flatten().flatten();
        let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
        for name in perennial::ordered::sorted(names.collect()) {
            views.extend(View::of(&format!("{scandir}/{name}/{COPIES}"))?);
        }
    }
    for pool in pools {
        let path = path_of(scandir, pool);
        let view = View::of(&format!("{path}/{COPIES}"))?;
        match view.map_or_else(|| View::of(&path), |view| Ok(Some(view)))? {
            Some(view) => views.push(view),
            None => return Err(Error::usage(format!("{path} is no pool: no svpool has run in it"))),
        }
    }
    if views.iter().any(|view| !view.running) {
        verdict = code::NO;
    }
    let text = if json {
        let mut objects: Vec<Json> = views.iter().map(View::json).collect();
        let one = (pools.len() == 1).then(|| objects.pop()).flatten();
        one.unwrap_or(Json::List(objects)).to_text() + "\n"
    } else {
        views.iter().map(|view| view.table(colour())).collect::<Vec<_>>().join("\n")
    };
    if views.is_empty() && !json {
        diag::info(format_args!("there are no pools in {scandir}"));
    }
    diag::print(text).map(|_| verdict)
}

/// Has pools make all their workers anew, one after another.
fn restart(scandir: &str, pools: &[String]) -> Result<u8> {
    cli::survive_broken_pipes();
    for pool in pools {
        let client = Client::open(&path_of(scandir, pool))?;
        client.send(&[Command::Signal(Signal::HUP).letter()])?;
    }
    Ok(code::OK)
}
