//! In a finish script: stops restarting a service that has died too often of certain causes.

use lexopt::prelude::*;
use perennial::chainload::Next;
use perennial::diag::{Result, Unable};
use perennial::servicedir::tally::{self, Causes, Death};
use perennial::sys::clock;
use perennial::{cli, diag, servicedir};
use std::process::ExitCode;
use std::time::Duration;

const USAGE: &str = "permafailon seconds deathcount statuslist prog...";

/// What a finish script exits with when its service is not to be started again.
const PERMANENT_FAILURE: u8 = 125;

/// The program.
pub fn main() -> ExitCode {
    cli::main("permafailon", permafailon)
}

/// Its arguments. Without a tally to go by nothing has failed for good.
pub fn permafailon(mut parser: lexopt::Parser) -> Result<u8> {
    let first = match cli::next(&mut parser)? {
        Some(Short('h') | Long("help")) => return cli::help(USAGE),
        Some(Value(word)) => word,
        _ => return Err(cli::usage(USAGE)),
    };
    let mut words = std::iter::once(first).chain(parser.raw_args()?);
    let mut word = || words.next().ok_or_else(|| cli::usage(USAGE));
    let seconds = cli::digits("seconds", &word()?, 0, u32::MAX.into())?;
    let count: usize = cli::digits("deathcount", &word()?, 1, u32::MAX.into())?;
    let causes = Causes::parse(&cli::text(word()?)?).map_err(|bad| {
        diag::Error::usage(format!("invalid statuslist: {bad:?} is no exit code, range or signal"))
    })?;
    let program = word()?;
    let next = Next::from_args(program, words)?;
    let deaths = match servicedir::read_file(rustix::fs::CWD, tally::FILE).unable("read the death tally") {
        Ok(bytes) => tally::unpack_all(&bytes),
        Err(e) => {
            diag::warn(e);
            Vec::new()
        }
    };
    let now = clock::wall();
    let since = now.offset(-(Duration::from_secs(seconds).as_nanos() as i128));
    let counts = |death: &&Death| death.stamp >= since && causes.include(death);
    let found = deaths.iter().filter(counts).count();
    if found >= count.min(tally::MOST) {
        diag::info(format_args!("permanent failure: {found} deaths of these causes in {seconds} seconds"));
        return Ok(PERMANENT_FAILURE);
    }
    Err(next.exec())
}
