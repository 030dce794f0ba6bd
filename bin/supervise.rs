//! Keeps one service running; under svscan, all services of its scan directory.

use lexopt::prelude::*;
use perennial::cli;
use perennial::diag::{self, Result, Unable};
use perennial::scan::run::upgrade::PROBE_ANSWER;
use perennial::supervise::place::Place;
use perennial::supervise::{LISTEN_FD, LOCK_FD, Mode, run};
use perennial::sys::{process, signal, spawn};
use std::process::ExitCode;

const USAGE: &str = "supervise servicedir";

/// The program.
pub fn main() -> ExitCode {
    cli::main("supervise", supervise)
}

/// Its options. `--listen` is svscan's: descriptor 3 is a listening socket, the directory a scan directory;
/// descriptor 4, after an upgrade, its lock; `--place` is where an isolated service's supervisor has its own
/// things. `--probe`: is this a supervisor?
pub fn supervise(mut parser: lexopt::Parser) -> Result<u8> {
    let (mut dir, mut many, mut place) = (None, false, Place::common());
    while let Some(arg) = cli::next(&mut parser)? {
        match arg {
            Long("listen") => many = true,
            Long("place") => place = Place::at(&cli::value(&mut parser)?),
            Long("probe") => return Ok(PROBE_ANSWER),
            Short('h') | Long("help") => return cli::help(USAGE),
            Value(value) if dir.is_none() => dir = Some(cli::text(value)?),
            _ => return Err(cli::usage(USAGE)),
        }
    }
    let dir = dir.ok_or_else(|| cli::usage(USAGE))?;
    let blocked = signal::block_all();
    let [listener, lock] = [LISTEN_FD, LOCK_FD].map(|n| spawn::above_window(n).filter(|_| many));
    spawn::reserve_window().unable("set up descriptors")?;
    rustix::process::chdir(&*dir).unable(format_args!("chdir to {dir}"))?;
    if many {
        // As the first one looks, which svscan forked.
        process::set_title("supervise", &place.title().iter().map(|word| &**word).collect::<Vec<_>>());
        return run(Mode::Many { place, listener, lock }, blocked);
    }
    diag::set_program(format!("supervise {dir}"));
    run(Mode::One(dir), blocked)
}
