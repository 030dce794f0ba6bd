//! A container's first program: prepares, boots, runs the command, reaps, stops.

use lexopt::prelude::*;
use perennial::cli;
use perennial::diag::{self, Result, Unable};
use perennial::init::boot::Boot;
use perennial::init::{Options, catchall, legacy, run, settings};
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

/// Its options. Everything from the first other word on is the command.
pub fn init(parser: lexopt::Parser) -> Result<u8> {
    settings::store_is_ours(false);
    start(parser, settings::flag("PERENNIAL_ONLY_CMD"))
}

/// Starts; with `only_command` without any service.
pub fn start(mut parser: lexopt::Parser, only_command: bool) -> Result<u8> {
    let (mut sources, mut command) = (Vec::new(), Vec::new());
    while let Some(arg) = cli::next(&mut parser)? {
        match arg {
            Short('d') => sources.push(cli::absolute(&cli::value(&mut parser)?)?),
            Long("step") => return step(&mut parser),
            Short('h') | Long("help") => return cli::help(USAGE),
            Value(word) => {
                command.push(word);
                command.extend(parser.raw_args()?);
            }
            _ => return Err(cli::usage(USAGE)),
        }
    }
    if only_command && command.is_empty() {
        return Err(cli::usage(USAGE));
    }
    let blocked = signal::block_all();
    wait_for_closing();
    spawn::reserve_window().unable("set up descriptors")?;
    let stop_time = settings::text("PERENNIAL_STOP_TIME").and_then(|text| {
        let time = perennial::time::parse_duration(&text);
        if time.is_none() {
            diag::warn(format_args!("PERENNIAL_STOP_TIME={text:?} is no duration: ignored"));
        }
        time
    });
    let command = command.into_iter().map(|w| CString::new(w.into_vec()).expect("arguments have no NUL"));
    let options = Options {
        boot: Boot::now(sources),
        only_command,
        command: command.collect(),
        stop_time,
        kill_grace: settings::millis("S6_KILL_GRACETIME").unwrap_or(Duration::from_secs(3)),
        keep_env: settings::flag("S6_KEEP_ENV"),
        sync_disks: settings::flag("S6_SYNC_DISKS"),
    };
    run(options, blocked)
}

/// `S6_WAIT_FOR_CLOSING_FD`: whoever starts the container may have something to do first, and closes this
/// descriptor when it is done.
fn wait_for_closing() {
    let Some(number) = settings::number("S6_WAIT_FOR_CLOSING_FD").filter(|n| *n >= 3) else { return };
    let Some(fd) = i32::try_from(number).ok().and_then(spawn::inherited) else { return };
    if rustix::io::read(&fd, &mut [0u8]).is_ok_and(|n| n > 0) {
        diag::warn(format_args!("descriptor {number} was written to, not closed: going on"));
    }
}

/// What a built-in oneshot runs, `--step NAME up|down`, and the interpreter of the catch-all logger's `run`.
fn step(parser: &mut lexopt::Parser) -> Result<u8> {
    settings::store_is_ours(true);
    let (name, direction) = (cli::value(parser)?, cli::value(parser)?);
    let blocked = signal::block_all();
    spawn::reserve_window().unable("set up descriptors")?;
    if name == "./run" {
        return catchall::become_logger();
    }
    Ok(legacy::run(&name, direction == "up", blocked))
}
