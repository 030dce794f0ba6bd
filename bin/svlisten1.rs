//! Runs a program and waits until one service is as its command is meant to make it.

use lexopt::prelude::*;
use perennial::chainload::Next;
use perennial::cli::{self, WaitOptions};
use perennial::diag::Result;
use perennial::servicedir::client::Client;
use perennial::servicedir::watch::{self, Watch};
use std::process::ExitCode;

const USAGE: &str = "svlisten1 [ -u | -U | -d | -D | -r | -R ] [ -t timeout ] servicedir prog...";

/// The program.
pub fn main() -> ExitCode {
    cli::main("svlisten1", svlisten1)
}

/// Its options.
pub fn svlisten1(mut parser: lexopt::Parser) -> Result<u8> {
    let mut options = WaitOptions::default();
    let dir = loop {
        match cli::next(&mut parser)? {
            Some(Short('h') | Long("help")) => return cli::help(USAGE),
            Some(Short(letter)) if WaitOptions::has(letter) && !matches!(letter, 'a' | 'o') => {
                options.take(letter, &mut parser)?;
            }
            Some(Value(dir)) => break cli::text(dir)?,
            _ => return Err(cli::usage(USAGE)),
        }
    };
    let mut words = parser.raw_args()?;
    let Some(program) = words.next() else { return Err(cli::usage(USAGE)) };
    let next = Next::from_args(program, words)?;
    let deadline = options.deadline();
    let client = Client::open(&dir)?;
    let mut watch = Watch::new([(&client, options.goal)], true, true)?;
    next.start()?;
    watch::conclude(watch.wait(deadline)?)
}
