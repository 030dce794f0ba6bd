//! Ends the container: `halt`, `poweroff`, `reboot` and `shutdown`, which mean the same in one.

use lexopt::prelude::*;
use perennial::cli;
use perennial::diag::{Error, Result, Unable, code};
use perennial::init::place::CONTROL;
use rustix::fs::{Mode, OFlags, open};
use std::process::ExitCode;

const USAGE: &str = "halt | poweroff | reboot | shutdown [ -hpr ] [ now ]";

/// The program.
pub fn main() -> ExitCode {
    cli::main("halt", halt)
}

/// Its options. Those of other systems' programs of these names are taken and mean nothing here.
pub fn halt(mut parser: lexopt::Parser) -> Result<u8> {
    let mut letter = b'h';
    while let Some(arg) = parser.next()? {
        match arg {
            Short('h' | 'f' | 'd' | 'w' | 'n') => {}
            Short('p') => letter = b'p',
            Short('r') => letter = b'r',
            Long("help") => return cli::help(USAGE),
            Value(_) => {}
            _ => return Err(cli::usage(USAGE)),
        }
    }
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let control = open(CONTROL, flags, Mode::empty())
        .map_err(|e| Error::unable(format_args!("talk to init ({CONTROL})"), e).with_code(code::USAGE))?;
    rustix::io::write(&control, &[letter]).unable(format_args!("write to {CONTROL}"))?;
    Ok(code::OK)
}
