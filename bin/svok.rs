//! Says by its exit code whether a service is supervised.

use lexopt::prelude::*;
use perennial::cli;
use perennial::diag::{Result, code};
use perennial::servicedir::client::Client;
use std::process::ExitCode;

const USAGE: &str = "svok servicedir";

/// The program.
pub fn main() -> ExitCode {
    cli::main("svok", svok)
}

/// Its options.
pub fn svok(mut parser: lexopt::Parser) -> Result<u8> {
    let mut dir = None;
    while let Some(arg) = cli::next(&mut parser)? {
        match arg {
            Short('h') | Long("help") => return cli::help(USAGE),
            Value(value) if dir.is_none() => dir = Some(cli::text(value)?),
            _ => return Err(cli::usage(USAGE)),
        }
    }
    let dir = dir.ok_or_else(|| cli::usage(USAGE))?;
    Ok(if Client::open_supervised(&dir)?.is_some() { code::OK } else { code::NO })
}
