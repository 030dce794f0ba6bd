//! Removes listeners that are gone from a fifodir.

use lexopt::prelude::*;
use perennial::cli;
use perennial::diag::{Result, Unable, code};
use perennial::servicedir::event;
use rustix::fs::CWD;
use std::process::ExitCode;

const USAGE: &str = "cleanfifodir fifodir";

/// The program.
pub fn main() -> ExitCode {
    cli::main("cleanfifodir", cleanfifodir)
}

/// Its options.
pub fn cleanfifodir(mut parser: lexopt::Parser) -> Result<u8> {
    let mut dir = None;
    while let Some(arg) = cli::next(&mut parser)? {
        match arg {
            Short('h') | Long("help") => return cli::help(USAGE),
            Value(value) if dir.is_none() => dir = Some(cli::text(value)?),
            _ => return Err(cli::usage(USAGE)),
        }
    }
    let dir = dir.ok_or_else(|| cli::usage(USAGE))?;
    event::clean_in(event::open(CWD, &*dir).unable(format_args!("open fifodir {dir}"))?);
    Ok(code::OK)
}
