//! Becoming another program, which is the last act of `with-contenv` and of every program like it; or
//! running it beside us, as `svlisten` does.
#![forbid(unsafe_code)]

use crate::diag::{Error, Result, code, reason};
use crate::process::{Pid, Signal};
use crate::servicedir::diagnose::{self, Fault};
use crate::sys::spawn::{self, CArray, Spawn, candidates};
use crate::sys::{Errno, env, signal};
use rustix::fs::CWD;
use std::ffi::{CStr, CString, OsString};
use std::os::unix::ffi::OsStringExt;

/// Where programs are looked for when there is no PATH.
pub const DEFAULT_PATH: &[u8] = b"/usr/bin:/bin";

/// The longest string that the kernel takes as an argument or a variable, in bytes, its NUL included:
/// MAX_ARG_STRLEN, 32 pages.
const LONGEST: usize = 131_072;

/// A program with its arguments, to be executed. Unless its name has a slash it is looked for along PATH.
pub struct Next {
    /// What it was called, for messages.
    name: CString,
    argv: CArray,
    programs: Vec<CString>,
    path: Vec<u8>,
}

impl Next {
    /// `first` and the rest of a command line, as it is.
    pub fn from_args(first: OsString, rest: impl Iterator<Item = OsString>) -> Result<Next> {
        Next::new(std::iter::once(first).chain(rest).map(OsString::into_vec).collect())
    }

    /// Of these words, of which there must be one.
    pub fn new(words: Vec<Vec<u8>>) -> Result<Next> {
        let words: std::result::Result<Vec<CString>, _> = words.into_iter().map(CString::new).collect();
        let words = words.map_err(|_| Error::usage("unable to execute a program: a word contains NUL"))?;
        Next::find(words, None)
    }

    fn find(argv: Vec<CString>, environment: Option<&[CString]>) -> Result<Next> {
        let Some(name) = argv.first() else { return Err(Error::usage("no program to execute")) };
        let path = match environment {
            Some(strings) => strings.iter().find_map(|string| string.to_bytes().strip_prefix(b"PATH=")),
            None => env::get("PATH").map(|path| path.as_encoded_bytes()),
        };
        let path = path.unwrap_or(DEFAULT_PATH).to_vec();
        Ok(Next { name: name.clone(), programs: candidates(name, &path), argv: CArray::new(argv), path })
    }

    /// `programs` is where `name` was looked for along `path`, if it has no slash.
    pub fn found(name: CString, programs: Vec<CString>, argv: Vec<CString>, path: Vec<u8>) -> Next {
        Next { name, argv: CArray::new(argv), programs, path }
    }

    /// Becomes it, in our environment. Returns only the reason why not, with the exit code that goes with it.
    pub fn exec(&self) -> Error {
        self.exec_in(None)
    }

    fn exec_in(&self, environment: Option<&CArray>) -> Error {
        signal::set_default(Signal::PIPE);
        let errno = spawn::exec(&self.programs, &self.argv, environment);
        // We go on, if only to say so.
        signal::ignore(Signal::PIPE);
        self.explain(errno, environment)
    }

    /// Starts it and goes on beside it. It has all descriptors that we do not close on exec. How it ends is
    /// never asked: the kernel reaps it. That it cannot be executed is the system's fault here.
    pub fn start(&self) -> Result<Pid> {
        let mask = signal::mask();
        let blocked = signal::block_all();
        let spawn = Spawn { all_descriptors: true, ..Spawn::new(&self.programs, &self.argv) };
        let started = spawn.start(blocked);
        signal::ignore(Signal::PIPE);
        signal::ignore(Signal::CHLD);
        mask.restore();
        started.map_err(|e| self.explain(e.errno, None).with_code(code::SYSTEM))
    }

    /// Where it may be.
    pub fn programs(&self) -> &[CString] {
        &self.programs
    }

    /// Its arguments, the name first.
    pub fn argv(&self) -> &CArray {
        &self.argv
    }

    /// Why it could not be executed.
    pub fn explain(&self, errno: Errno, environment: Option<&CArray>) -> Error {
        let name = &self.name;
        let cause = match errno {
            Errno::TOOBIG => too_long(self.argv.strings(), environment.map_or(&[], CArray::strings)),
            _ if name.to_bytes().contains(&b'/') => fault(name, errno),
            _ => not_found(name, &self.programs, &self.path, errno),
        };
        // s6's rule: whatever is missing, be it the interpreter, makes 127.
        let code = if errno == Errno::NOENT { code::NOT_FOUND } else { code::NOT_EXECUTABLE };
        Error::new(code, format!("unable to execute {}: {cause}", shown(name)))
    }
}

/// Becomes the program that `argv` begins with, in `environment` (`NAME=value`) or else in our own. It is
/// looked for along the PATH of that environment. Returns only if that failed, with the reason.
///
/// SIGPIPE has its default action in the new program: the Rust runtime ignored it in ours, and what it was
/// before nobody knows any more.
pub fn exec(argv: Vec<CString>, environment: Option<Vec<CString>>) -> Error {
    match Next::find(argv, environment.as_deref()) {
        Ok(next) => next.exec_in(environment.map(CArray::new).as_ref()),
        Err(e) => e,
    }
}

/// What is wrong with the program at `path`.
fn fault(path: &CStr, errno: Errno) -> String {
    match diagnose::exec_failure(CWD, &shown(path), errno) {
        // It is there, but has a name that text cannot carry.
        Fault::Missing if errno != Errno::NOENT => reason(errno).to_owned(),
        fault => fault.to_string(),
    }
}

/// Why none of `programs` could be executed: what is wrong with the first that is there, if one is.
fn not_found(name: &CStr, programs: &[CString], path: &[u8], errno: Errno) -> String {
    let there = programs.iter().find_map(|program| {
        let fault = diagnose::script(CWD, &shown(program), true).filter(|fault| *fault != Fault::Missing)?;
        Some(format!("{}: {fault}", shown(program)))
    });
    let path = String::from_utf8_lossy(path);
    match there {
        Some(text) => text,
        None if errno != Errno::NOENT => reason(errno).to_owned(),
        None if name.to_bytes().contains(&b' ') => {
            format!("not found in {path} (it is one word: all that follows the interpreter in a #! line is)")
        }
        None => format!("not found in {path}"),
    }
}

/// Why there is too much to pass on.
fn too_long(argv: &[CString], environment: &[CString]) -> String {
    let variable = environment.iter().find(|string| string.to_bytes_with_nul().len() > LONGEST);
    let total: usize = argv.iter().chain(environment).map(|string| string.to_bytes_with_nul().len()).sum();
    match variable {
        Some(string) => {
            let name = string.to_bytes().split(|&b| b == b'=').next().unwrap_or_default();
            let name = String::from_utf8_lossy(name).into_owned();
            format!("variable {name} has {} bytes, the kernel takes {LONGEST}", string.to_bytes().len())
        }
        None => format!("arguments and environment have {total} bytes, more than the kernel takes"),
    }
}

fn shown(name: &CStr) -> String {
    match name.to_bytes() {
        b"" => "\"\"".to_owned(),
        bytes => String::from_utf8_lossy(bytes).into_owned(),
    }
}
