//! From one command to the next.

use super::{Args, Command, Next, Result, Step, Word, c_string, find};
use crate::chainload::{self, DEFAULT_PATH};
use crate::diag::{self, Error};
use crate::sys::spawn::candidates;
use crate::sys::{Errno, env, process, spawn, start};
use rustix::fs::{Access, AtFlags, CWD, FileType, accessat, stat};
use std::ffi::CString;

/// A command with its arguments, and all that follow it. Returns the exit code; becomes another program if
/// one follows that is not ours.
pub fn main(command: &'static Command, called: Word, words: Vec<Word>) -> u8 {
    start::close_what_was_opened();
    let mut todo = (command, called, words);
    loop {
        match step(todo.0, todo.1, todo.2).and_then(go) {
            Ok(Ok(next)) => todo = next,
            Ok(Err(code)) => return code,
            Err(error) => return diag::exit_code(Err(error)),
        }
    }
}

/// A command, the name it is called by, and its arguments.
type Call = (&'static Command, Word, Vec<Word>);

fn step(command: &'static Command, called: Word, words: Vec<Word>) -> Result<Step> {
    diag::set_program(command.shown_name());
    if words.len() == 1 && words[0] == b"--help" {
        return super::print_and_exit(["usage: ", command.usage, "\n"].concat().as_bytes());
    }
    (command.function)(&mut Args::called(called, words, command.usage))
}

/// The command that is next, or the exit code. Does not return if what is next is not ours.
fn go(step: Step) -> Result<std::result::Result<Call, u8>> {
    let mut next = match step {
        Step::Exit(code) => return Ok(Err(code)),
        Step::Next(next) if next.argv.is_empty() => return Ok(Err(0)),
        Step::Next(next) => next,
    };
    let found = Found::of(&next);
    if !next.changes.is_empty() {
        env::replace(env::changed(&next.changes));
    }
    if let Some(command) = found.ours {
        let called = next.argv.remove(0);
        return Ok(Ok((command, called, next.argv)));
    }
    Err(found.exec(next.argv))
}

/// Where a program is.
pub(super) struct Found {
    name: CString,
    path: Vec<u8>,
    /// The paths to try in turn.
    pub programs: Vec<CString>,
    /// It is this command, in this very file.
    pub ours: Option<&'static Command>,
}

impl Found {
    fn of(next: &Next) -> Found {
        match &next.file {
            Some(file) => Found { ours: None, ..Found::look_for(file) },
            None => Found::look_for(next.argv[0]),
        }
    }

    /// Looks for it along our PATH.
    pub fn look_for(name: &[u8]) -> Found {
        let path = env::value(b"PATH").unwrap_or(DEFAULT_PATH).to_vec();
        let command = find(&String::from_utf8_lossy(name.rsplit(|&b| b == b'/').next().unwrap_or_default()));
        let name = c_string(name);
        let mut programs = candidates(&name, &path);
        let mut ours = None;
        if let Some(command) = command {
            match first_is_ours(&programs) {
                Some(true) => ours = Some(command),
                None if !name.to_bytes().contains(&b'/') => {
                    ours = Some(command);
                    programs.extend(process::executable());
                }
                _ => {}
            }
        }
        Found { name, path, programs, ours }
    }

    fn exec(self, argv: Vec<Word>) -> Error {
        let argv = argv.iter().map(|word| c_string(word)).collect();
        let next = chainload::Next::found(self.name, self.programs, argv, self.path);
        let errno = spawn::exec(next.programs(), next.argv(), None);
        let error = next.explain(errno, None);
        let nameless = next.programs().iter().all(|program| program.is_empty());
        if errno == Errno::NOENT && !nameless { error } else { error.with_code(126) }
    }
}

/// Whether the first of these files that can be executed is the one that we are. `None`: none can.
fn first_is_ours(programs: &[CString]) -> Option<bool> {
    let own = stat("/proc/self/exe").ok();
    programs.iter().find_map(|program| {
        let found = stat(&**program).ok()?;
        let is_file = FileType::from_raw_mode(found.st_mode) == FileType::RegularFile;
        let executable = is_file && accessat(CWD, &**program, Access::EXEC_OK, AtFlags::EACCESS).is_ok();
        executable
            .then(|| own.as_ref().is_some_and(|own| (own.st_dev, own.st_ino) == (found.st_dev, found.st_ino)))
    })
}
