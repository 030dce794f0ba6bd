//! Sends commands to the scanner of a scan directory.

use lexopt::prelude::*;
use perennial::cli;
use perennial::diag::{Error, Result, code};
use perennial::scan::client::ScanDir;
use perennial::scan::control::Command;
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
    while let Some(arg) = cli::next(&mut parser)? {
        match arg {
            Short(letter) => letters.push(command(letter).ok_or_else(|| cli::usage(USAGE))?),
            Long("upgrade") => letters.push(Command::Upgrade.letter()),
            Long("help") => return cli::help(USAGE),
            Value(value) if dir.is_none() => dir = Some(cli::text(value)?),
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

/// The byte for an option. The upgrade has none: its letter is not s6's.
fn command(letter: char) -> Option<u8> {
    let byte = u8::try_from(letter).ok()?;
    Command::try_from(byte).ok().filter(|command| *command != Command::Upgrade).map(|_| byte)
}
