//! Takes a service out of a running scan directory and waits until its supervisor has left.

use lexopt::prelude::*;
use perennial::cli;
use perennial::diag::{Error, Result, code};
use perennial::scan::client::ScanDir;
use perennial::scan::link;
use perennial::servicedir::watch;
use std::process::ExitCode;

const USAGE: &str = "svunlink [ -X ] [ -t timeout ] scandir servicename";

/// The program.
pub fn main() -> ExitCode {
    cli::main("svunlink", svunlink)
}

/// Its options.
pub fn svunlink(mut parser: lexopt::Parser) -> Result<u8> {
    let (mut wait, mut timeout, mut words) = (true, 0, Vec::new());
    while let Some(arg) = cli::next(&mut parser)? {
        match arg {
            Short('X') => wait = false,
            Short('t') => timeout = cli::number("-t", &mut parser, 0, u32::MAX.into())?,
            Short('h') | Long("help") => return cli::help(USAGE),
            Value(word) => words.push(cli::text(word)?),
            _ => return Err(cli::usage(USAGE)),
        }
    }
    let [scandir, name] = &words[..] else { return Err(cli::usage(USAGE)) };
    if name.is_empty() || name.starts_with('.') || name.contains('/') {
        return Err(Error::usage(format!("invalid service name {name:?}")));
    }
    cli::survive_broken_pipes();
    let deadline = watch::deadline(timeout);
    link::remove(&ScanDir::open(scandir)?, name, wait, deadline)?;
    Ok(code::OK)
}
