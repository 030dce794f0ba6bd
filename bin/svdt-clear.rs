//! Forgets how a service died lately.

use lexopt::prelude::*;
use perennial::cli;
use perennial::diag::{Result, code};
use perennial::servicedir::client::Client;
use std::process::ExitCode;

const USAGE: &str = "svdt-clear servicedir";

/// The program.
pub fn main() -> ExitCode {
    cli::main("svdt-clear", svdt_clear)
}

/// Its options.
pub fn svdt_clear(mut parser: lexopt::Parser) -> Result<u8> {
    let mut dir = None;
    while let Some(arg) = cli::next(&mut parser)? {
        match arg {
            Short('h') | Long("help") => return cli::help(USAGE),
            Value(value) if dir.is_none() => dir = Some(cli::text(value)?),
            _ => return Err(cli::usage(USAGE)),
        }
    }
    Client::open(&dir.ok_or_else(|| cli::usage(USAGE))?)?.clear_tally()?;
    Ok(code::OK)
}
