//! A container's first program: prepares, boots, runs the command, reaps, stops.

use lexopt::prelude::*;
use perennial::cli;
use perennial::diag::{self, Result, Unable};
use perennial::init::boot::Boot;
use perennial::init::{Options, legacy, run, settings};
use perennial::sys::{signal, spawn};
use std::ffi::CString;
use std::os::unix::ffi::OsStringExt;
use std::process::ExitCode;
use std::time::Duration;

const USAGE: &str = "init [ -d source ]... [ command [ argument... ] ]";

/// The program.
pub fn main() -> ExitCode {
    cli::main("init", init)
}

/// How long a stop takes at most: less than the 10 s after which container engines kill.
const STOP_TIME: Duration = Duration::from_secs(9);

/// Its options. Everything from the first other word on is the command.
pub fn init(mut parser: lexopt::Parser) -> Result<u8> {
    let (mut sources, mut command) = (Vec::new(), Vec::new());
    while let Some(arg) = parser.next()? {
        match arg {
            Short('d') => sources.push(cli::absolute(&parser.value()?.string()?)?),
            Long("step") => return step(&mut parser),
            Short('h') | Long("help") => return cli::help(USAGE),
            Value(word) => {
                command.push(word);
                command.extend(parser.raw_args()?);
            }
            _ => return Err(cli::usage(USAGE)),
        }
    }
    let blocked = signal::block_all();
    spawn::reserve_window().unable("set up descriptors")?;
    let stop_time = match settings::text("PERENNIAL_STOP_TIME") {
        None => STOP_TIME,
        Some(text) => perennial::time::parse_duration(&text).unwrap_or_else(|| {
            diag::warn(format_args!("PERENNIAL_STOP_TIME={text:?} is no duration: using 9s"));
            STOP_TIME
        }),
    };
    let command = command.into_iter().map(|w| CString::new(w.into_vec()).expect("arguments have no NUL"));
    let options = Options {
        boot: Boot::now(sources),
        command: command.collect(),
        stop_time,
        kill_grace: settings::millis("S6_KILL_GRACETIME").unwrap_or(Duration::from_secs(3)),
        keep_env: settings::flag("S6_KEEP_ENV"),
    };
    run(options, blocked)
}

/// What a built-in oneshot runs: `--step NAME up|down`.
fn step(parser: &mut lexopt::Parser) -> Result<u8> {
    let (name, direction) = (parser.value()?.string()?, parser.value()?.string()?);
    let blocked = signal::block_all();
    spawn::reserve_window().unable("set up descriptors")?;
    Ok(legacy::run(&name, direction == "up", blocked))
}
