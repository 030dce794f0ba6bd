//! The container's command: what is started, how, and what a failure to start it means.

use super::{place, settings};
use crate::glob;
use crate::process::Pid;
use crate::servicedir::diagnose;
use crate::sys::signal::Blocked;
use crate::sys::spawn::{self, CArray, Spawn, Step};
use crate::sys::{Errno, env};
use rustix::fs::CWD;
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};

/// Where the pid of a command is that receives signals; scripts look there.
pub fn pid_file() -> String {
    place::below("/s6/cmdpid")
}

/// A command that is to be run.
pub struct Command<'a> {
    /// What the container was started with.
    pub words: &'a [CString],
    /// The container's own standard input.
    pub input: Option<&'a OwnedFd>,
    /// That is a terminal.
    pub terminal: bool,
    /// The directory in which the container was started.
    pub workdir: &'a str,
}

impl Command<'_> {
    /// Starts it in a session of its own. A failure is a sentence and an exit code.
    pub fn start(&self, blocked: Blocked) -> Result<Pid, (String, u8)> {
        let words = self.all_words();
        let name = words[0].to_string_lossy().into_owned();
        let path = env::get("PATH").map_or(&b"/usr/bin:/bin"[..], |p| p.as_encoded_bytes());
        let (programs, argv) = (spawn::candidates(&words[0], path), CArray::new(words));
        let dir = crate::servicedir::open(CWD, self.workdir).ok();
        let all = self.terminal && settings::flag("S6_CMD_USE_TERMINAL");
        let numbers = if all { 0..3 } else { 0..1 };
        let fds: Vec<_> = self.input.iter().flat_map(|fd| numbers.clone().map(|n| (fd.as_fd(), n))).collect();
        let spawn = Spawn {
            dir: dir.as_ref().map(|d| d.as_fd()),
            fds: &fds,
            new_session: true,
            controlling_terminal: self.terminal,
            ..Spawn::new(&programs, &argv)
        };
        spawn.start(blocked).map_err(|e| {
            let there = |p: &&CString| rustix::fs::access(p.as_c_str(), rustix::fs::Access::EXISTS).is_ok();
            let shown = match (programs.iter().find(there), programs.as_slice()) {
                (Some(one), _) | (None, [one]) => {
                    let dir = dir.as_ref().map_or(CWD, |d| d.as_fd());
                    diagnose::exec_failure(dir, &one.to_string_lossy(), e.errno).to_string()
                }
                _ => format!("not found in PATH ({})", String::from_utf8_lossy(path)),
            };
            use crate::diag::code;
            let code = match (e.step, e.errno) {
                (Step::Exec, Errno::NOENT | Errno::NOTDIR) => code::NOT_FOUND,
                (Step::Exec, _) => code::NOT_EXECUTABLE,
                _ => code::SYSTEM,
            };
            (format!("unable to execute {name}: {shown}"), code)
        })
    }

    /// `S6_CMD_ARG0` goes before it.
    fn all_words(&self) -> Vec<CString> {
        let before = settings::bytes("S6_CMD_ARG0").map(|text| glob::words(&text)).unwrap_or_default();
        let before = before.into_iter().filter_map(|word| CString::new(word).ok());
        before.chain(self.words.iter().cloned()).collect()
    }
}
