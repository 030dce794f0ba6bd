//! Becomes a service that cannot say that it is ready, and has a process beside it ask and say it instead.

use lexopt::prelude::*;
use perennial::chainload::Next;
use perennial::check::{Limits, run};
use perennial::diag::{Error, Result, Unable};
use perennial::servicedir::{client, definition};
use perennial::sys::{Errno, spawn};
use perennial::{cli, execline};
use rustix::fs::CWD;
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;
use std::time::Duration;

const USAGE: &str = "notifyoncheck [ -d ] [ -3 fd ] [ -s initialsleep ] [ -T globaltimeout ] \
                     [ -t localtimeout ] [ -w waitingtime ] [ -n tries ] [ -c \"checkprog...\" ] prog...";

/// The check of a service that has one.
const CHECK: &str = "./data/check";

/// The program.
pub fn main() -> ExitCode {
    cli::main("notifyoncheck", notifyoncheck)
}

/// Its options.
pub fn notifyoncheck(mut parser: lexopt::Parser) -> Result<u8> {
    let (mut limits, mut twice, mut fd) = (Limits::default(), false, None);
    let mut check = Some(Next::new(vec![CHECK.into()])?);
    let first = loop {
        match cli::next(&mut parser)? {
            Some(Short('d')) => twice = true,
            Some(Short('3')) => fd = Some(cli::number("-3", &mut parser, 0, i32::MAX as u64)?),
            Some(Short('s')) => limits.first_pause = millis("-s", &mut parser)?,
            Some(Short('T')) => limits.all = some(millis("-T", &mut parser)?),
            Some(Short('t')) => limits.attempt = some(millis("-t", &mut parser)?),
            Some(Short('w')) => limits.pause = millis("-w", &mut parser)?,
            Some(Short('n')) => {
                let tries = cli::number("-n", &mut parser, 0, u32::MAX.into())?;
                limits.tries = Some(tries).filter(|n| *n > 0);
            }
            Some(Short('c')) => check = parse_command(parser.value()?.as_bytes())?,
            Some(Short('h') | Long("help")) => return cli::help(USAGE),
            Some(Value(word)) => break word,
            _ => return Err(cli::usage(USAGE)),
        }
    };
    let next = Next::from_args(first, parser.raw_args()?)?;
    must_be_supervised()?;
    run::beside(limits, check, notification(fd)?, twice)?;
    Err(next.exec())
}

fn millis(option: &str, parser: &mut lexopt::Parser) -> Result<Duration> {
    cli::number(option, parser, 0, u32::MAX.into()).map(Duration::from_millis)
}

/// 0 is no limit.
fn some(limit: Duration) -> Option<Duration> {
    Some(limit).filter(|d| !d.is_zero())
}

/// Reads what -c says as execline does. A command of no words is done when it begins, and well.
fn parse_command(text: &[u8]) -> Result<Option<Next>> {
    let words = execline::parse(text)
        .map_err(|e| Error::usage(format!("invalid value for -c: {}: {e}", String::from_utf8_lossy(text))))?;
    if words.is_empty() { Ok(None) } else { Next::new(words).map(Some) }
}

/// In a service directory that is supervised we are where we should be. Whoever runs as a user who may not
/// look is believed.
fn must_be_supervised() -> Result<()> {
    match client::is_supervised(rustix::fs::CWD) {
        Ok(true) | Err(Errno::ACCESS) => Ok(()),
        Ok(false) => {
            Err(Error::usage("the current directory is not supervised: run this in a service directory"))
        }
        Err(e) => Err(Error::unable("check ./supervise/lock", e)),
    }
}

/// Takes the descriptor that the supervisor listens to away from what we become.
fn notification(given: Option<RawFd>) -> Result<OwnedFd> {
    let number = match given {
        Some(number) => number,
        None => {
            let text = definition::read_head(CWD, "notification-fd")
                .ok_or(Errno::NOENT)
                .unable("read ./notification-fd")?;
            let number = definition::parse_uint(&text).and_then(|n| RawFd::try_from(n).ok());
            number.ok_or_else(|| Error::usage("invalid ./notification-fd"))?
        }
    };
    spawn::above_window(number)
        .ok_or(Errno::BADF)
        .unable(format_args!("use descriptor {number} for readiness"))
}
