//! A container's first program: prepares, boots, runs the command, reaps, stops.

use lexopt::prelude::*;
use perennial::cli;
use perennial::diag::{self, Result, Unable};
use perennial::init::boot::Boot;
use perennial::init::phase::IfBootFails;
use perennial::init::{Options, run};
use perennial::sys::{env, signal, spawn};
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
    let if_boot_fails = match number("S6_BEHAVIOUR_IF_STAGE2_FAILS", 0) {
        0 => IfBootFails::GoOn,
        1 => IfBootFails::Warn,
        _ => IfBootFails::Stop,
    };
    let limit = number("S6_CMD_WAIT_FOR_SERVICES_MAXTIME", 0);
    let boot = Boot {
        sources,
        verbosity: number("S6_VERBOSITY", 2).min(255) as u8,
        hook: text("S6_STAGE2_HOOK"),
        limit: (limit > 0).then(|| Duration::from_millis(limit)),
        if_it_fails: if_boot_fails,
    };
    let stop_time = match text("PERENNIAL_STOP_TIME") {
        None => STOP_TIME,
        Some(text) => perennial::time::parse_duration(&text).unwrap_or_else(|| {
            diag::warn(format_args!("PERENNIAL_STOP_TIME={text:?} is no duration: using 9s"));
            STOP_TIME
        }),
    };
    let command = command.into_iter().map(|w| CString::new(w.into_vec()).expect("arguments have no NUL"));
    let options = Options {
        boot,
        command: command.collect(),
        stop_time,
        kill_grace: Duration::from_millis(number("S6_KILL_GRACETIME", 3000)),
        keep_env: number("S6_KEEP_ENV", 0) != 0,
    };
    run(options, blocked)
}

fn text(name: &str) -> Option<String> {
    env::get(name).map(|v| v.to_string_lossy().into_owned()).filter(|v| !v.is_empty())
}

/// A variable that is a number; anything else counts as not set, as in s6-overlay.
fn number(name: &str, default: u64) -> u64 {
    text(name).and_then(|v| v.parse().ok()).unwrap_or(default)
}
