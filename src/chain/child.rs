//! Processes beside us.

use super::run::Found;
use super::{Result, c_string, decimal, failed, shown, unable, unable_to};
use crate::process::{End, Pid, WaitStatus};
use crate::sys::signal::Mask;
use crate::sys::spawn::{self, CArray, Spawn, SpawnError};
use crate::sys::{Errno, env, fd, signal, wait};
use std::os::fd::AsRawFd;

/// How a child ended, as execline counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended(pub WaitStatus);

impl Ended {
    /// It was good.
    pub const WELL: Ended = Ended(WaitStatus(0));

    /// The exit code that stands for it: its own, but at most 128; 128 and the signal that killed it.
    pub fn code(self) -> u8 {
        match self.0.end() {
            End::Exit(code) => code.min(128),
            End::Signal(signal) => 128 + signal.0,
        }
    }

    /// What the variable `?` says: its exit code, or 256 and the signal that killed it.
    pub fn question_mark(self) -> u32 {
        match self.0.end() {
            End::Exit(code) => code.into(),
            End::Signal(signal) => 256 + u32::from(signal.0),
        }
    }

    /// The error for a child that a signal killed.
    pub fn crash(self) -> Result<()> {
        match self.0.end() {
            End::Exit(_) => Ok(()),
            End::Signal(signal) => {
                Err(failed(self.code(), &["child crashed with signal ", shown(decimal(signal.0))]))
            }
        }
    }
}

/// Starts a program with our descriptors and signals, and changes to the environment.
pub fn start(argv: &[&[u8]], changes: &[&[u8]]) -> std::result::Result<Pid, Errno> {
    start_with(argv, changes, None)
}

/// The same with another signal mask than ours.
pub fn start_with(
    argv: &[&[u8]],
    changes: &[&[u8]],
    its_mask: Option<&Mask>,
) -> std::result::Result<Pid, Errno> {
    let found = Found::look_for(argv[0]);
    let argv = CArray::new(argv.iter().map(|word| c_string(word)).collect());
    let environment = (!changes.is_empty()).then(|| CArray::new(env::changed(changes)));
    let (mask, blocked) = signal::hold();
    let spawn = Spawn {
        all_descriptors: true,
        env: environment.as_ref(),
        mask: Some(its_mask.unwrap_or(&mask)),
        ..Spawn::new(&found.programs, &argv)
    };
    let started = spawn.start(blocked);
    mask.restore();
    started.map_err(|SpawnError { errno, .. }| errno)
}

/// The same, where not being able to is the end.
pub fn spawn(argv: &[&[u8]], changes: &[&[u8]]) -> Result<Pid> {
    start(argv, changes).map_err(|errno| match errno {
        Errno::NOENT if argv[0].starts_with(b" ") => {
            let hint = ": no such program (its name begins with a space: is it a block where none belongs?)";
            failed(111, &["unable to spawn ", shown(argv[0]), hint])
        }
        _ => unable_to("spawn", argv[0], errno),
    })
}

/// The same as somebody else's child: it is never ours to wait for.
pub fn spawn_detached(argv: &[&[u8]]) -> Result<Pid> {
    let failed = |errno| unable_to("spawn", argv[0], errno);
    let [read, write] = fd::pipe().map_err(failed)?;
    let between = fork(|| {
        let report = match start(argv, &[]) {
            Ok(pid) => pid.raw(),
            Err(errno) => -errno.raw_os_error(),
        };
        u8::from(fd::write(write.as_raw_fd(), &report.to_ne_bytes()).is_err())
    })?;
    drop(write);
    let mut report = [0; 4];
    let got = fd::read(read.as_raw_fd(), &mut report).map_err(failed)?;
    reap(between);
    let report = i32::from_ne_bytes(report);
    match Pid::from_raw(report) {
        Some(pid) if got == 4 => Ok(pid),
        _ if got == 4 => Err(failed(Errno::from_raw_os_error(-report))),
        _ => Err(failed(Errno::CHILD)),
    }
}

/// A copy of us, which goes on with `life`.
pub fn fork(life: impl FnOnce() -> u8) -> Result<Pid> {
    let (mask, blocked) = signal::hold();
    let forked = spawn::fork_all(blocked, || {
        mask.restore();
        life()
    });
    mask.restore();
    forked.map_err(|errno| unable("fork", errno))
}

/// Waits for a child.
pub fn reap(pid: Pid) -> Ended {
    Ended(wait::reap_pid(pid).map_or(WaitStatus::exited(255), |(_, status)| status))
}

/// Runs a command line to its end. One without words does nothing, and well.
pub fn after(argv: &[&[u8]], changes: &[&[u8]]) -> Result<Ended> {
    if argv.is_empty() { Ok(Ended::WELL) } else { spawn(argv, changes).map(reap) }
}
