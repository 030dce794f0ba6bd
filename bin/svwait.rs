//! Waits until services are up, ready, down or restarted.

use lexopt::prelude::*;
use perennial::cli::{self, WaitOptions};
use perennial::diag::Result;
use perennial::servicedir::client::Client;
use perennial::servicedir::watch::{self, Watch};
use perennial::sys::process;
use std::process::ExitCode;

const USAGE: &str = "svwait [ -u | -U | -d | -D | -r | -R ] [ -a | -o ] [ -t timeout ] servicedir...";

/// Each service takes four descriptors; more than this many may be more than the usual limit of 1024 allows.
const FEW: usize = 200;

/// The program.
pub fn main() -> ExitCode {
    cli::main("svwait", svwait)
}

/// Its options. Waiting for no service is over at once.
pub fn svwait(mut parser: lexopt::Parser) -> Result<u8> {
    let (mut options, mut dirs) = (WaitOptions::default(), Vec::new());
    while let Some(arg) = cli::next(&mut parser)? {
        match arg {
            Short('h') | Long("help") => return cli::help(USAGE),
            Short(letter) if WaitOptions::has(letter) => options.take(letter, &mut parser)?,
            Value(dir) => dirs.push(cli::text(dir)?),
            _ => return Err(cli::usage(USAGE)),
        }
    }
    if dirs.len() > FEW {
        process::raise_nofile();
    }
    let deadline = options.deadline();
    let clients = dirs.iter().map(|dir| Client::open(dir)).collect::<Result<Vec<_>>>()?;
    let goals = clients.iter().map(|client| (client, options.goal));
    watch::conclude(Watch::new(goals, options.any, false)?.wait(deadline)?)
}
