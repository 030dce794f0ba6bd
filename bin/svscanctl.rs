//! Sends commands to the scanner of a scan directory.

use lexopt::prelude::*;
use perennial::cli;
use perennial::diag::{Error, Result, code};
use perennial::scan::client::{COMMANDS, ScanDir, UPGRADE};
use std::process::ExitCode;

const USAGE: &str = "svscanctl [ -zabhitqnN ] [ --upgrade ] scandir";

/// Commands are sent in one write; no more than the scanner reads at once.
const MOST_LETTERS: usize = 64;

/// The program.
pub fn main() -> ExitCode {
    cli::main("svscanctl", svscanctl)
}

/// Its options.
pub fn svscanctl(mut parser: lexopt::Parser) -> Result<u8> {
    let (mut letters, mut dir) = (Vec::new(), None);
    while let Some(arg) = parser.next()? {
        match arg {
            Short(letter) if letter.is_ascii() && COMMANDS.contains(&(letter as u8)) => {
                letters.push(letter as u8);
            }
            Long("upgrade") => letters.push(UPGRADE),
            Long("help") => return cli::help(USAGE),
            Value(value) if dir.is_none() => dir = Some(value.string()?),
            _ => return Err(cli::usage(USAGE)),
        }
    }
    if letters.len() > MOST_LETTERS {
        return Err(Error::usage("too many commands"));
    }
    let dir = dir.ok_or_else(|| cli::usage(USAGE))?;
    cli::survive_broken_pipes();
    // Without a command this still finds out whether anybody listens.
    ScanDir::open(&dir)?.send(&letters)?;
    Ok(code::OK)
}
