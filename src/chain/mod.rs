//! Programs that do one thing and then become the program that follows on their command line: the commands
//! of the execline language, `setuidgid`, `envdir`, `s6-sleep` and their like.
//!
//! A script of such commands is one process that executes one program after another. Most of these programs
//! are ours, are in this very file, and are over in a few microseconds, while executing one takes hundreds.
//! So a command does not execute what follows: it says what that is ([`Step::Next`]), and [`run`] goes on in
//! the same process where that makes no difference to anybody:
//!
//! - *The program that would be executed is this file.* The name is looked for along PATH exactly as execve
//!   would be tried; the first file that is there decides. Another program of the same name that stands
//!   earlier in PATH is executed.
//! - *Nothing is lost by not executing.* Descriptors that we open for ourselves are not inherited and are
//!   closed when a step ends; the environment is changed as a whole between two steps, and the PATH that the
//!   next program is looked for in is the one before the change, as in execline; signal mask, children,
//!   process id, directory and umask stay as execve leaves them; no step installs a signal handler and goes
//!   on.
//!
//! Where a name of ours is nowhere in PATH it is found all the same: a script runs as well where only
//! `execlineb` has a link.
//!
//! [`Args`] reads options as skalibs' programs do, and the blocks of execline.
#![forbid(unsafe_code)]

mod args;
mod child;
mod run;
mod table;

pub use crate::diag::Result;
pub use args::{Args, complain_of_unquoted, strictness};
pub use child::{Ended, after, fork, reap, spawn, spawn_detached, start, start_with};
pub use run::main;
pub use table::{Command, Names, all, find};

use crate::diag::Error;
use crate::sys::{Errno, env, fd};

/// A word of a command line: any bytes but NUL. What commands make words of is never freed: soon another
/// program is in their place. (Loops, which stay, make none that last.)
pub type Word = &'static [u8];

/// What a command comes to.
#[derive(Debug)]
pub enum Step {
    /// The end, with this exit code.
    Exit(u8),
    /// Another program.
    Next(Next),
}

/// A program to become.
#[derive(Clone, Debug, Default)]
pub struct Next {
    /// The words of its command line. Without any, this is the end, and a good one.
    pub argv: Vec<Word>,
    /// The program, if it is not the first word.
    pub file: Option<Word>,
    /// Changes to the environment ([`env::changed`]).
    pub changes: Vec<Word>,
}

/// The change to the environment that removes all of it.
pub const EVERYTHING: Word = b"";

/// Goes on with a command line.
pub fn next(argv: Vec<Word>) -> Result<Step> {
    next_with(argv, Vec::new())
}

/// Goes on with a command line and changes to the environment.
pub fn next_with(argv: Vec<Word>, changes: Vec<Word>) -> Result<Step> {
    Ok(Step::Next(Next { argv, file: None, changes }))
}

/// Bytes as a word.
pub fn word(bytes: Vec<u8>) -> Word {
    bytes.leak()
}

/// Several byte strings as one word.
pub fn cat(parts: &[&[u8]]) -> Word {
    word(parts.concat())
}

/// `NAME=value`.
pub fn setting(name: &[u8], value: &[u8]) -> Word {
    cat(&[name, b"=", value])
}

/// A word with its length before it and a comma behind.
pub fn netstring(text: &[u8]) -> Word {
    cat(&[decimal(text.len() as i64), b":", text, b","])
}

/// A number in decimal digits.
pub fn decimal(number: impl Into<i64>) -> Word {
    digits(number.into())
}

fn digits(number: i64) -> Word {
    word(number.to_string().into_bytes())
}

/// A word for people.
pub fn shown(word: &[u8]) -> &'static str {
    String::from_utf8_lossy(word).into_owned().leak()
}

/// A word as the system takes it.
pub fn c_string(word: &[u8]) -> std::ffi::CString {
    std::ffi::CString::new(word).unwrap_or_default()
}

/// A number: decimal digits and nothing else.
pub fn number(word: &[u8]) -> Option<u32> {
    parse(word, 10)
}

/// A number to this base, without a sign.
pub fn parse(word: &[u8], radix: u32) -> Option<u32> {
    let text = std::str::from_utf8(word).ok()?;
    u32::from_str_radix(text, radix).ok().filter(|_| word[0] != b'+')
}

/// A variable that must be there.
pub fn variable(name: &[u8]) -> Result<Word> {
    env::value(name).ok_or_else(|| usage(&[shown(name), " is not set"]))
}

/// A variable that must be a number.
pub fn variable_number(name: &[u8]) -> Result<u32> {
    number(variable(name)?).ok_or_else(|| usage(&["invalid ", shown(name)]))
}

/// The error of this code with this text.
#[inline(never)]
pub fn failed(code: u8, text: &[&str]) -> Error {
    Error::new(code, text.concat())
}

/// The caller's mistake.
pub fn usage(text: &[&str]) -> Error {
    failed(crate::diag::code::USAGE, text)
}

/// "unable to DOING: reason".
pub fn unable(doing: &str, errno: Errno) -> Error {
    failed(crate::diag::code::SYSTEM, &["unable to ", doing, ": ", crate::diag::reason(errno)])
}

/// "unable to DOING WHAT: reason".
#[inline(never)]
pub fn unable_to(doing: &str, what: &[u8], errno: Errno) -> Error {
    unable(&[doing, " ", shown(what)].concat(), errno)
}

/// Why the standard library failed.
pub fn reason_of(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

/// A warning.
pub fn warn(text: &[&str]) {
    crate::diag::warn(text.concat());
}

/// Writes to standard output.
pub fn print(bytes: &[u8]) -> Result<()> {
    fd::write(1, bytes).map_err(|(_, errno)| unable("write to standard output", errno))
}

/// Writes to standard output; that is all.
pub fn print_and_exit(bytes: &[u8]) -> Result<Step> {
    print(bytes).map(|()| Step::Exit(0))
}
