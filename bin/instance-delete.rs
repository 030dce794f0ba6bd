//! Stops an instance of a service and removes it.

use lexopt::prelude::*;
use perennial::cli;
use perennial::diag::{Result, code};
use perennial::instance::{self, Instances};
use perennial::servicedir::watch;
use std::process::ExitCode;

const USAGE: &str = "instance-delete [ -X ] [ -t timeout ] service instancename";

/// The program.
pub fn main() -> ExitCode {
    cli::main("instance-delete", instance_delete)
}

/// Its options.
pub fn instance_delete(mut parser: lexopt::Parser) -> Result<u8> {
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
    let [service, name] = &words[..] else { return Err(cli::usage(USAGE)) };
    cli::survive_broken_pipes();
    instance::path(service, name)?;
    let deadline = watch::deadline(timeout);
    Instances::open(service)?.delete(name, wait, deadline)?;
    Ok(code::OK)
}
