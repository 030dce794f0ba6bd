//! Listens at a fifodir until what it hears matches a regular expression, and prints it.

use lexopt::prelude::*;
use perennial::diag::{self, Error, Result, Unable, code};
use perennial::servicedir::event::{self, Listener};
use perennial::servicedir::watch;
use perennial::sys::regex::Regex;
use perennial::{cli, sys::Errno};
use rustix::fs::CWD;
use std::ffi::CString;
use std::os::unix::ffi::OsStringExt;
use std::process::ExitCode;

const USAGE: &str = "ftrig-wait [ -t timeout ] fifodir regexp";

/// The program.
pub fn main() -> ExitCode {
    cli::main("ftrig-wait", ftrig_wait)
}

/// Its options.
pub fn ftrig_wait(mut parser: lexopt::Parser) -> Result<u8> {
    let mut timeout = 0;
    let dir = loop {
        match cli::next(&mut parser)? {
            Some(Short('t')) => timeout = cli::number("-t", &mut parser, 0, u32::MAX.into())?,
            Some(Short('h') | Long("help")) => return cli::help(USAGE),
            Some(Value(dir)) => break cli::text(dir)?,
            _ => return Err(cli::usage(USAGE)),
        }
    };
    let mut words = parser.raw_args()?;
    let (Some(pattern), None) = (words.next(), words.next()) else { return Err(cli::usage(USAGE)) };
    let pattern = CString::new(pattern.into_vec()).map_err(|_| Errno::INVAL).unable("read the regexp")?;
    let regex = Regex::extended(&pattern).map_err(|reason| {
        let text = format!("invalid regular expression {}: {reason}", pattern.to_string_lossy());
        Error::new(code::SYSTEM, text)
    })?;
    let deadline = watch::deadline(timeout);
    let listener = Listener::at(CWD, &*dir).unable(format_args!("listen to {dir}"))?;
    let mut heard = Vec::new();
    let matched = event::listen(&[listener], deadline, |_, byte| {
        // An expression cannot be matched against a NUL.
        heard.extend((byte != 0).then_some(byte));
        CString::new(&*heard).is_ok_and(|text| regex.matches(&text))
    })
    .unable("wait for events")?;
    if !matched {
        return Err(Error::new(code::TIMED_OUT, "timed out"));
    }
    heard.push(b'\n');
    diag::print(heard)
}
