//! Shows what services have logged, merged by time.

use lexopt::prelude::*;
use perennial::cli;
use perennial::diag::{self, Error, Result, Unable, code};
use perennial::log::place;
use perennial::log::tail::{self, Options, Source};
use perennial::report::table::colour;
use perennial::scan::{self, Limits};
use perennial::servicedir;
use perennial::sys::env;
use std::process::ExitCode;

const USAGE: &str = "svtail [ -f ] [ -n lines ] [ --since time ] [ -S scandir ] [ name | directory ]...";

/// The program.
pub fn main() -> ExitCode {
    cli::main("svtail", svtail)
}

/// Lines shown unless something else is asked for.
const COUNT: usize = 10;

/// Its options.
pub fn svtail(mut parser: lexopt::Parser) -> Result<u8> {
    let (mut options, mut scandir, mut names) = (Options::default(), None, Vec::new());
    while let Some(arg) = cli::next(&mut parser)? {
        match arg {
            Short('f') => options.follow = true,
            Short('n') => options.count = Some(cli::number("-n", &mut parser, 0, u32::MAX.into())?),
            Long("since") => options.since = Some(tail::since(&cli::value(&mut parser)?)?),
            Short('S') | Long("scandir") => scandir = Some(cli::value(&mut parser)?),
            Short('h') | Long("help") => return cli::help(USAGE),
            Value(name) => names.push(cli::text(name)?),
            _ => return Err(cli::usage(USAGE)),
        }
    }
    if options.count.is_none() && options.since.is_none() {
        options.count = Some(COUNT);
    }
    options.colour = colour();
    cli::survive_broken_pipes();
    let given = env::get("PERENNIAL_SCANDIR").and_then(|v| v.to_str()).map(str::to_owned);
    let scandir = scandir.or(given).unwrap_or_else(|| "/run/service".to_owned());
    let sources = if names.is_empty() { all(&scandir)? } else { some(&scandir, &names)? };
    tail::show(sources, &options)
}

/// Those that are named.
fn some(scandir: &str, names: &[String]) -> Result<Vec<Source>> {
    let mut sources = Vec::new();
    for name in names {
        let path = if name.contains('/') { name.clone() } else { format!("{scandir}/{name}") };
        let dirs = place::log_dirs(&path);
        if dirs.is_empty() {
            let why = "no logger of it holds a log directory, and none is named in its run script";
            return Err(Error::new(code::SYSTEM, format!("unable to find the log of {name}: {why}")));
        }
        for dir in dirs {
            sources.push(Source::open(name, &dir)?);
        }
    }
    Ok(sources)
}

/// All of a scan directory that log.
fn all(scandir: &str) -> Result<Vec<Source>> {
    let base = servicedir::open(rustix::fs::CWD, scandir).unable(format_args!("open {scandir}"))?;
    let limits = Limits { services: usize::MAX, name: 1019 };
    let listing = scan::list(&base, limits, false, |_| {}).unable(format_args!("list {scandir}"))?;
    let mut sources = Vec::new();
    for name in listing.keys().filter(|name| !name.ends_with("/log")) {
        for dir in place::log_dirs(&format!("{scandir}/{name}")) {
            sources.push(Source::open(name, &dir)?);
        }
    }
    if sources.is_empty() {
        diag::info(format_args!("no service in {scandir} has a log"));
    }
    Ok(sources)
}
