//! Sends events to everybody who listens at a fifodir.

use lexopt::prelude::*;
use perennial::cli;
use perennial::diag::{Result, Unable, code};
use perennial::servicedir::event;
use rustix::fs::CWD;
use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;

const USAGE: &str = "ftrig-notify fifodir message";

/// The program.
pub fn main() -> ExitCode {
    cli::main("ftrig-notify", ftrig_notify)
}

/// Its arguments. The message may begin with a dash.
pub fn ftrig_notify(mut parser: lexopt::Parser) -> Result<u8> {
    let dir = match cli::next(&mut parser)? {
        Some(Short('h') | Long("help")) => return cli::help(USAGE),
        Some(Value(dir)) => cli::text(dir)?,
        _ => return Err(cli::usage(USAGE)),
    };
    let mut words = parser.raw_args()?;
    let (Some(message), None) = (words.next(), words.next()) else { return Err(cli::usage(USAGE)) };
    cli::survive_broken_pipes();
    let fifodir = event::open(CWD, &*dir).unable(format_args!("notify {dir}"))?;
    event::notify_in(fifodir, message.as_bytes()).unable(format_args!("notify {dir}"))?;
    Ok(code::OK)
}
