//! Shows when and how a service died lately.

use lexopt::prelude::*;
use perennial::cli;
use perennial::diag::{self, Result};
use perennial::process::End;
use perennial::servicedir::client::Client;
use perennial::servicedir::tally;
use std::fmt::Write as _;
use std::process::ExitCode;

const USAGE: &str = "svdt [ -S | -s ] [ -n maxentries ] servicedir";

/// The program.
pub fn main() -> ExitCode {
    cli::main("svdt", svdt)
}

/// Its options.
pub fn svdt(mut parser: lexopt::Parser) -> Result<u8> {
    let (mut numeric, mut most, mut dir) = (false, tally::MOST, None);
    while let Some(arg) = cli::next(&mut parser)? {
        match arg {
            Short('S') => numeric = false,
            Short('s') => numeric = true,
            Short('n') => most = cli::number("-n", &mut parser, 0, u32::MAX.into())?,
            Short('h') | Long("help") => return cli::help(USAGE),
            Value(value) if dir.is_none() => dir = Some(cli::text(value)?),
            _ => return Err(cli::usage(USAGE)),
        }
    }
    let dir = dir.ok_or_else(|| cli::usage(USAGE))?;
    let deaths = Client::open(&dir)?.tally()?;
    let mut text = String::new();
    for death in &deaths[deaths.len().saturating_sub(most)..] {
        let _ = match death.end {
            End::Exit(code) => writeln!(text, "{} exitcode {code}", death.stamp),
            End::Signal(signal) if numeric => writeln!(text, "{} signal {}", death.stamp, signal.0),
            End::Signal(signal) => writeln!(text, "{} signal {signal}", death.stamp),
        };
    }
    diag::print(&text)
}
