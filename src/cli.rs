//! What the programs' files in `bin/` share: the way in and out.

use crate::diag::{self, Error, Result, Unable};
use crate::instance;
use crate::process::Signal;
use crate::scan::link::Begin;
use crate::servicedir::event::Audience;
use crate::servicedir::watch::{self, Goal};
use crate::sys::signal;
use crate::time::Mono;
use std::ffi::{OsStr, OsString};
use std::process::ExitCode;

/// A program: its options in, its exit code out.
pub type Program = fn(lexopt::Parser) -> Result<u8>;

/// Runs a program that is an executable of its own.
pub fn main(name: &str, program: Program) -> ExitCode {
    ExitCode::from(run(name, program, lexopt::Parser::from_env()))
}

/// Runs a program under its name; returns its exit code.
pub fn run(name: &str, program: Program, parser: lexopt::Parser) -> u8 {
    diag::set_program(name);
    diag::exit_code(program(parser))
}

/// For programs that write to FIFOs: a reader that goes away is an error to be told, not the end of us.
/// Not for those that execute others, who would inherit it.
pub fn survive_broken_pipes() {
    signal::ignore(Signal::PIPE);
}

/// The error for arguments that do not fit: the whole usage line.
pub fn usage(line: &str) -> Error {
    Error::usage(format!("usage: {line}"))
}

/// What `-h` and `--help` do: the usage on standard output, success, and nothing else.
pub fn help(line: &str) -> Result<u8> {
    diag::put(1, format!("usage: {line}\n").as_bytes());
    Ok(diag::code::OK)
}

/// The next argument.
#[inline(never)]
pub fn next(parser: &mut lexopt::Parser) -> Result<Option<lexopt::Arg<'_>>> {
    Ok(parser.next()?)
}

/// The value of the option that was just read, as text.
pub fn value(parser: &mut lexopt::Parser) -> Result<String> {
    text(parser.value()?)
}

/// An argument as text.
#[inline(never)]
pub fn text(word: OsString) -> Result<String> {
    Ok(lexopt::ValueExt::string(word)?)
}

/// The value of the option that was just read, which is a number: decimal digits only, within bounds.
pub fn number<T: TryFrom<u64>>(
    option: &str,
    parser: &mut lexopt::Parser,
    least: u64,
    most: u64,
) -> Result<T> {
    digits(option, &parser.value()?, least, most)
}

/// A number given to us as an option or an argument.
pub fn digits<T: TryFrom<u64>>(name: &str, value: &OsStr, least: u64, most: u64) -> Result<T> {
    let text = value.to_str().unwrap_or_default();
    let number = plain_number(text).filter(|n| (least..=most).contains(n));
    number.and_then(|n| T::try_from(n).ok()).ok_or_else(|| no_number(name, text, least, most))
}

fn plain_number(text: &str) -> Option<u64> {
    text.parse().ok().filter(|_| text.bytes().all(|b| b.is_ascii_digit()))
}

#[cold]
fn no_number(name: &str, text: &str, least: u64, most: u64) -> Error {
    Error::usage(format!("invalid value for {name}: {text:?} is no number from {least} to {most}"))
}

/// A path given to us, for those who are in another directory: supervisors, and whoever comes after us.
pub fn absolute(path: &str) -> Result<String> {
    let full = std::path::absolute(path).unable(format_args!("resolve {path:?}"))?;
    Ok(full.to_string_lossy().into_owned())
}

/// The options that svwait, svlisten and svlisten1 have in common.
pub struct WaitOptions {
    /// `-u -U -d -D -r -R`, the last one counts.
    pub goal: Goal,
    /// `-o`: one service is enough. `-a`: it is not.
    pub any: bool,
    /// `-t`: milliseconds, 0 for no limit.
    timeout: u64,
}

impl Default for WaitOptions {
    fn default() -> WaitOptions {
        WaitOptions { goal: Goal { up: true, ready: false, restart: false }, any: false, timeout: 0 }
    }
}

impl WaitOptions {
    /// Whether `letter` is one of these.
    pub fn has(letter: char) -> bool {
        matches!(letter, 'a' | 'o' | 't') || Goal::from_letter(letter).is_some()
    }

    /// Takes the option `letter`, which is one of these.
    pub fn take(&mut self, letter: char, parser: &mut lexopt::Parser) -> Result<()> {
        match letter {
            'a' => self.any = false,
            'o' => self.any = true,
            't' => self.timeout = number("-t", parser, 0, u32::MAX.into())?,
            letter => self.goal = Goal::from_letter(letter).unwrap_or(self.goal),
        }
        Ok(())
    }

    /// The deadline that `-t` sets, counted from now.
    pub fn deadline(&self) -> Option<Mono> {
        watch::deadline(self.timeout)
    }
}

/// The options that svlink and instance-create have in common.
pub struct LinkOptions {
    /// `-d`, `-D`, the last one counts.
    pub begin: Begin,
    /// `-f`: the audience of the events is set also where `event` is there.
    pub force: bool,
    /// `-P`
    public: bool,
    /// `-t`: milliseconds, 0 for no limit.
    timeout: u64,
}

impl Default for LinkOptions {
    fn default() -> LinkOptions {
        LinkOptions { begin: Begin::AsItIs, force: false, public: false, timeout: 0 }
    }
}

impl LinkOptions {
    /// Whether `letter` is one of these.
    pub fn has(letter: char) -> bool {
        matches!(letter, 'd' | 'D' | 'f' | 'P' | 't')
    }

    /// Takes the option `letter`, which is one of these.
    pub fn take(&mut self, letter: char, parser: &mut lexopt::Parser) -> Result<()> {
        match letter {
            'd' => self.begin = Begin::Down,
            'D' => self.begin = Begin::DownForGood,
            'f' => self.force = true,
            'P' => self.public = true,
            _ => self.timeout = number("-t", parser, 0, u32::MAX.into())?,
        }
        Ok(())
    }

    /// Who may listen to the events of what is added.
    pub fn audience(&self) -> Audience {
        if self.public { Audience::Public } else { Audience::own_group() }
    }

    /// The deadline that `-t` sets, counted from now.
    pub fn deadline(&self) -> Option<Mono> {
        watch::deadline(self.timeout)
    }
}

/// Runs `program`, whose arguments end with a service directory, on an instance: the command line ends with
/// a service and the instance's name instead.
pub fn on_instance(mut parser: lexopt::Parser, line: &str, program: Program) -> Result<u8> {
    let mut words: Vec<OsString> = parser.raw_args()?.collect();
    if matches!(words.first().and_then(|w| w.to_str()), Some("-h" | "--help")) && words.len() == 1 {
        return help(line);
    }
    let (Some(name), Some(service)) = (words.pop(), words.pop()) else { return Err(usage(line)) };
    let (Some(name), Some(service)) = (name.to_str(), service.to_str()) else { return Err(usage(line)) };
    words.push(instance::path(service, name)?.into());
    program(lexopt::Parser::from_args(words))
}
