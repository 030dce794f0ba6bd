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

/// What stands on the command line.
#[derive(Default)]
struct Given {
    words: Vec<String>,
    /// Options with their values; of one that is given twice the last counts.
    options: Vec<(String, String)>,
    scandir: Option<String>,
    json: bool,
}

/// The options of a pool. All have a value.
const OPTIONS: &[&str] = &[
    "min",
    "max",
    "metric",
    "per-worker",
    "interval",
    "metric-timeout",
    "idle",
    "cooldown",
    "step",
    "drain",
    "drain-signal",
    "report",
    "name",
    "instances",
];

impl Given {
    /// Options come in any order, and words may stand among them.
    fn parse(mut parser: lexopt::Parser) -> Result<Option<Given>> {
        let mut given = Given::default();
        while let Some(arg) = cli::next(&mut parser)? {
            let name = match arg {
                Short('h') | Long("help") => return Ok(None),
                Long("json") => {
                    given.json = true;
                    continue;
                }
                Value(word) => {
                    given.words.push(cli::text(word)?);
                    continue;
                }
                Short('S') | Long("scandir") => "scandir".to_owned(),
                Long(name) if OPTIONS.contains(&name) => name.to_owned(),
                _ => return Err(cli::usage(USAGE)),
            };
            let value = cli::value(&mut parser)?;
            match &*name {
                "scandir" => given.scandir = Some(value),
                _ => given.options.push((name, value)),
            }
        }
        Ok(Some(given))
    }

    fn text(&self, name: &str) -> Option<&str> {
        let given = self.options.iter().rfind(|(given, _)| given == name);
        given.map(|(_, value)| &**value)
    }

    fn number(&self, name: &str, default: u32, least: u64, most: u64) -> Result<u32> {
        let Some(value) = self.text(name) else { return Ok(default) };
        cli::digits(&format!("--{name}"), value.as_ref(), least, most)
    }

    /// In milliseconds; one below `least` is no such time.
    fn time(&self, name: &str, default: u64, least: u64) -> Result<Duration> {
        let Some(text) = self.text(name) else { return Ok(Duration::from_millis(default)) };
        parse_duration(text).filter(|d| *d >= Duration::from_millis(least)).ok_or_else(|| {
            let least = if least > 0 { format!(" of at least {least} ms") } else { String::new() };
            self.invalid(name, format_args!("{text:?} is no time{least} (500ms, 30s, 2m, 1h)"))
        })
    }

    fn invalid(&self, name: &str, why: impl std::fmt::Display) -> Error {
        Error::usage(format!("invalid value for --{name}: {why}"))
    }

    fn limits(&self) -> Result<Limits> {
        let min = self.number("min", 1, 0, MOST)?;
        let metric = self.text("metric").is_some();
        let max = self.number("max", if metric { 0 } else { min.max(1) }, 1, MOST)?;
        if max == 0 {
            return Err(Error::usage("with --metric there must be --max"));
        }
        if min > max {
            return Err(Error::usage(format!("--min {min} is more than --max {max}")));
        }
        let per_worker = self.number("per-worker", 1, 1, u32::MAX.into())?;
        Ok(Limits {
            min,
            max,
            per_worker: metric.then_some(per_worker),
            step: self.number("step", MOST as u32, 1, MOST)?,
            idle: self.time("idle", 30_000, 0)?,
            cooldown: self.time("cooldown", 3000, 0)?,
            drain: self.time("drain", 30_000, 0)?,
        })
    }

    fn metric(&self) -> Result<Option<Metric>> {
        let interval = self.time("interval", 1000, 10)?;
        let timeout = self.time("metric-timeout", 10_000, 10)?;
        let Some(text) = self.text("metric") else { return Ok(None) };
        let words = execline::parse(text.as_bytes())
            .map_err(|e| self.invalid("metric", format_args!("{text}: {e}")))?;
        if words.is_empty() {
            return Err(self.invalid("metric", "there is no command in it"));
        }
        Ok(Some(Metric::new(Next::new(words)?, text.to_owned(), interval, timeout)))
    }

    /// What tells a worker that it is to drain.
    fn signal(&self) -> Result<Option<Command>> {
        let Some(name) = self.text("drain-signal") else { return Ok(None) };
        let signal = name.parse::<Signal>().ok().and_then(Command::for_signal);
        let why = format_args!("{name:?} is no signal that svc can send").to_string();
        signal.map(Some).ok_or_else(|| self.invalid("drain-signal", why))
    }

    fn pool(self, scandir: String) -> Result<Options> {
        let [template] = &self.words[..] else { return Err(cli::usage(USAGE)) };
        if self.json {
            return Err(cli::usage(USAGE));
        }
        let report = self.time("report", 0, 1000)?;
        Ok(Options {
            template: template.clone(),
            name: self.text("name").map_or_else(|| name_of(template), |name| Ok(name.to_owned()))?,
            copies: self.text("instances").unwrap_or(COPIES).to_owned(),
            scandir,
            limits: self.limits()?,
            metric: self.metric()?,
            report: Some(report).filter(|report| !report.is_zero()),
            signal: self.signal()?,
        })
    }
}

/// What it is to do, by its first word, and does.
pub fn svpool(parser: lexopt::Parser) -> Result<u8> {
    let Some(mut given) = Given::parse(parser)? else { return cli::help(USAGE) };
    let variable = || env::get("PERENNIAL_SCANDIR").and_then(|v| v.to_str()).map(str::to_owned);
    let scandir = given.scandir.take().or_else(variable).unwrap_or_else(place::scandir);
    let bare = given.options.is_empty();
    match given.words.first().map(|word| &**word) {
        Some("status") if bare => return status(&scandir, &given.words[1..], given.json),
        Some("restart") if given.words.len() == 1 || !bare || given.json => return Err(cli::usage(USAGE)),
        Some("restart") => return restart(&scandir, &given.words[1..]),
        _ => {}
    }
    let options = given.pool(scandir)?;
    diag::set_program(format!("svpool {}", options.name));
    run::run(options)
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
