//! Runs a program and waits until services are as its command is meant to make them.

use lexopt::prelude::*;
use perennial::chainload::Next;
use perennial::cli::{self, WaitOptions};
use perennial::diag::{self, Error, Result};
use perennial::execline::block::{self, Block};
use perennial::servicedir::client::Client;
use perennial::servicedir::watch::{self, Watch};
use perennial::sys::env;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;

const USAGE: &str =
    "svlisten [ -u | -U | -d | -D | -r | -R ] [ -a | -o ] [ -t timeout ] servicedir... \"\" prog...";

/// The program.
pub fn main() -> ExitCode {
    cli::main("svlisten", svlisten)
}

/// Its options, the block of service directories, and the program.
pub fn svlisten(mut parser: lexopt::Parser) -> Result<u8> {
    let mut options = WaitOptions::default();
    let first = loop {
        match cli::next(&mut parser)? {
            Some(Short('h') | Long("help")) => return cli::help(USAGE),
            Some(Short(letter)) if WaitOptions::has(letter) => options.take(letter, &mut parser)?,
            Some(Value(word)) => break word,
            _ => return Err(cli::usage(USAGE)),
        }
    };
    if options.goal.restart && options.any {
        diag::warn("-o means nothing with -r and -R: waiting for all services (-a)");
        options.any = false;
    }
    let words: Vec<OsString> = std::iter::once(first).chain(parser.raw_args()?).collect();
    let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
    let Some(block) = block::take(&words) else { return Err(Error::usage("unterminated block")) };
    check_quoting(&words, &block)?;
    if block.rest.is_empty() {
        return Err(cli::usage(USAGE));
    }
    let next = Next::new(block.rest.iter().map(|word| word.to_vec()).collect())?;
    if block.words.is_empty() {
        return Err(next.exec());
    }
    let deadline = options.deadline();
    let clients = block.words.iter().map(|dir| open(dir)).collect::<Result<Vec<_>>>()?;
    let goals = clients.iter().map(|client| (client, options.goal));
    let mut watch = Watch::new(goals, options.any, true)?;
    next.start()?;
    watch::conclude(watch.wait(deadline)?)
}

/// A word without its space was typed by hand, which EXECLINE_STRICT forbids if it is 2 or more.
fn check_quoting(words: &[&[u8]], block: &Block<'_, &[u8]>) -> Result<()> {
    let strict = env::get("EXECLINE_STRICT").and_then(|v| v.to_str()?.parse::<u32>().ok()).unwrap_or(0);
    match block.unquoted {
        Some(n) if strict >= 2 => {
            let word = String::from_utf8_lossy(words[n]);
            Err(Error::usage(format!("{word:?} in a block has no space before it")))
        }
        _ => Ok(()),
    }
}

fn open(dir: &[u8]) -> Result<Client> {
    let path = std::str::from_utf8(dir).map_err(|_| Error::usage("a path is not UTF-8"))?;
    Client::open(path)
}
