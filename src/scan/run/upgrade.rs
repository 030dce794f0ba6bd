//! Going over to the program that is on disk now, while everything runs.
//!
//! Both processes become the new program by executing it in place. So they keep their pids, and children stay
//! children: no service sees another parent, and nobody has to pass on how it ends. The scanner goes first; it
//! takes with it what must not be closed for a moment (its lock, its control FIFO, what init gave it, or what
//! it keeps for the supervisor if there is no init). It then asks the supervisor to do the same, whose memory
//! is in the journal anyway, and whose FIFOs the keeper holds meanwhile.
//!
//! A program that cannot be executed leaves everything as it was: `execve` fails, and that is said. One that
//! can be executed but is not what it should be (a library is missing, it is another program) would take us
//! with it, so it is tried first: called with `--probe`, each program answers with an exit code of its own.
//!
//! What is handed over is named by letters, one for each descriptor ([`Again`]), so that a version that hands
//! over more can be followed by one that knows less.
//!
//! Pid 1 is not replaced. A new version of `init` that executes and then fails ends the container, and what
//! it does is small: it reaps, keeps, and executes the scanner that is on disk.

use super::{Above, COMMON, CONTROL, DIR, Scanner};
use crate::diag::{self, Error};
use crate::process::{Pid, Signal, WaitStatus};
use crate::scan::Identity;
use crate::scan::reaper::Channel;
use crate::supervise::wire::Request;
use crate::sys::signal::{self, Target};
use crate::sys::spawn::{self, CArray, Spawn};
use crate::sys::{clock, process};
use crate::time::Mono;
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// The exit code of `svscan --probe` and `supervise --probe`: nothing else ends like this by chance.
pub const PROBE_ANSWER: u8 = 57;

/// A probe takes a millisecond; one that takes this long is not what it should be.
const PROBE_TIME: Duration = Duration::from_secs(5);

/// What is probed, in this order.
const PROBED: [&str; 2] = ["svscan", "supervise"];

/// A probe that runs.
pub(super) struct Probe {
    pid: Pid,
    path: String,
    /// Which of [`PROBED`].
    index: usize,
    kill_at: Option<Mono>,
}

/// What a scanner that was executed by its predecessor got from it.
#[derive(Default)]
pub struct Again {
    /// `d`: the lock of the scan directory.
    pub(super) lock: Option<OwnedFd>,
    /// `c`: the control FIFO.
    pub(super) control: Option<OwnedFd>,
    /// `u`: the end of the keeper's socket at which it takes what it shall keep, if that was the scanner.
    pub(super) keeper: Option<OwnedFd>,
    /// `x`: the console of `-X`.
    pub console: Option<OwnedFd>,
    /// The supervisor, which is our child.
    pub child: Option<Pid>,
}

impl Again {
    /// Takes over the inherited descriptors from [`Above::FIRST_FD`] on: one for each letter. `None`: one that
    /// is needed is missing.
    pub fn take(letters: &str) -> Option<(Above, Again)> {
        let mut again = Again::default();
        let (mut listener, mut keeper, mut reader, mut writer) = (None, None, None, None);
        for (letter, number) in letters.bytes().zip(Above::FIRST_FD..) {
            let fd = spawn::above_window(number);
            match letter {
                b'l' => listener = fd,
                b'k' => keeper = fd,
                b'r' => reader = fd,
                b'w' => writer = fd,
                b'd' => again.lock = fd,
                b'c' => again.control = fd,
                b'u' => again.keeper = fd,
                b'x' => again.console = fd,
                // A later version had more to hand over.
                _ => drop(fd),
            }
        }
        let channel = Channel { reader: reader?, writer: writer? };
        Some((Above { listener, keeper: keeper?, channel }, again))
    }

    /// The lock, if it is of the file that has its name.
    pub(super) fn lock_of(&mut self) -> Option<OwnedFd> {
        take_if_named(&mut self.lock, &format!("{DIR}/lock"))
    }

    /// The control FIFO, if it is the one that has its name.
    pub(super) fn control_of(&mut self) -> Option<OwnedFd> {
        take_if_named(&mut self.control, CONTROL)
    }
}

fn take_if_named(fd: &mut Option<OwnedFd>, path: &str) -> Option<OwnedFd> {
    let there = Identity::at(path);
    fd.take_if(|fd| there.is_ok() && Identity::of(fd) == there)
}

impl Scanner {
    /// Somebody wants the version that is on disk: begins to find out whether it is any good.
    pub(super) fn upgrade(&mut self) {
        if self.ending.is_some() {
            return refuse("it is ending");
        }
        if self.probe.is_none() {
            self.start_probe(0);
        }
    }

    fn start_probe(&mut self, index: usize) {
        let Some((program, name)) = process::sibling(PROBED[index]) else {
            let gone = format!("there is no executable {} where this one came from", PROBED[index]);
            return refuse(&gone);
        };
        let path = program.to_string_lossy().into_owned();
        let argv = CArray::new(vec![name, c"--probe".to_owned()]);
        let spawn = Spawn { new_session: true, ..Spawn::new(std::slice::from_ref(&program), &argv) };
        match spawn.start(self.blocked) {
            Ok(pid) => {
                let kill_at = Some(clock::mono().after(PROBE_TIME));
                self.probe = Some(Probe { pid, path, index, kill_at });
            }
            Err(e) => refuse(&Error::unable(format_args!("execute {path}"), e.errno).to_string()),
        }
    }

    /// When a probe has taken too long.
    pub(super) fn probe_deadline(&self) -> Option<Mono> {
        self.probe.as_ref().and_then(|probe| probe.kill_at)
    }

    /// Kills a probe that has taken too long.
    pub(super) fn check_probe(&mut self, now: Mono) {
        if let Some(probe) = self.probe.as_mut().filter(|p| p.kill_at.is_some_and(|at| at <= now)) {
            probe.kill_at = None;
            let _ = signal::send(Target::Group(probe.pid), Signal::KILL);
        }
    }

    /// Whether it was a probe that died; if so, goes on from there.
    pub(super) fn is_probe(&self, pid: Pid) -> bool {
        self.probe.as_ref().is_some_and(|probe| probe.pid == pid)
    }

    /// The probe has ended.
    pub(super) fn on_probe_end(&mut self, status: WaitStatus) {
        let Some(probe) = self.probe.take() else { return };
        if status != WaitStatus::exited(PROBE_ANSWER) {
            let late = if probe.kill_at.is_none() { "it did not answer: " } else { "" };
            return refuse(&format!(
                "{} does not work as {}: {late}{status}",
                probe.path, PROBED[probe.index]
            ));
        }
        match probe.index + 1 {
            next if next < PROBED.len() => self.start_probe(next),
            _ if self.ending.is_some() => refuse("it is ending"),
            _ => self.become_successor(),
        }
    }

    /// Executes the scanner on disk in our place. When this returns, that failed.
    fn become_successor(&mut self) {
        let Some((program, name)) = process::sibling("svscan") else {
            return refuse("its executable has just disappeared");
        };
        let (fds, letters) = self.handed_over();
        let mut words = vec![name, c"--again".to_owned(), text(&letters)];
        if let Some(child) = self.supervisors.get(COMMON).and_then(|common| common.child) {
            words.extend([c"--child".to_owned(), text(&child.to_string())]);
        }
        words.extend(self.options.words().iter().map(|word| text(word)));
        let here = std::env::current_dir().ok();
        let here = here.as_ref().and_then(|dir| dir.to_str()).unwrap_or(".");
        words.extend([c"--".to_owned(), text(here)]);
        let argv = CArray::new(words);
        let e = spawn::exec_with(std::slice::from_ref(&program), &argv, None, &fds);
        refuse(&Error::unable(format_args!("execute {}", program.to_string_lossy()), e.errno).to_string());
    }

    /// What the successor gets, and the letters that say what is what.
    fn handed_over(&self) -> (Vec<(BorrowedFd<'_>, i32)>, String) {
        let all = [
            ('l', self.supervisors.get(COMMON).and_then(|common| common.listener.as_ref())),
            ('k', Some(&self.above.keeper)),
            ('r', Some(&self.above.channel.reader)),
            ('w', Some(&self.above.channel.writer)),
            ('d', Some(&self.lock)),
            ('c', Some(&self.control)),
            ('u', self.keeper.as_ref().map(|keeper| keeper.socket())),
            ('x', self.options.console.as_ref()),
        ];
        let there = all.into_iter().filter_map(|(letter, fd)| Some((letter, fd?)));
        there.zip(Above::FIRST_FD..).map(|((letter, fd), n)| ((fd.as_fd(), n), letter)).unzip()
    }

    /// We are the new version: now the supervisors.
    pub(super) fn upgrade_supervisors(&mut self) {
        diag::info(concat!("upgraded: this is version ", env!("CARGO_PKG_VERSION")));
        for supervisor in self.supervisors.values_mut() {
            supervisor.upgrading = true;
            supervisor.tell(&Request::Upgrade);
        }
    }
}

fn refuse(why: &str) {
    diag::warn(format_args!("unable to upgrade: {why} (going on as before)"));
}

fn text(word: &str) -> CString {
    CString::new(word).expect("words of ours have no NUL")
}
