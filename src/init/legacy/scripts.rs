//! `cont-init.d` and `cont-finish.d`: scripts that are run one after the other.

use super::{is_chatty, names};
use crate::diag;
use crate::process::{Pid, Signal, WaitStatus};
use crate::servicedir::diagnose;
use crate::sys::signal::{self, Blocked, SignalFd, Target};
use crate::sys::spawn::{CArray, Spawn};
use crate::sys::{Errno, clock, process, wait};
use crate::time::Mono;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::CWD;
use std::ffi::CString;
use std::os::fd::AsFd;
use std::time::Duration;

/// Runs all of them; whether one failed. What fails keeps none of the others from being run.
pub fn run(dir: &str, limit: Option<Duration>, blocked: Blocked) -> bool {
    let chatty = is_chatty();
    let Ok(signals) = SignalFd::open(blocked) else { return true };
    let mut failed = false;
    for name in names(dir) {
        let path = format!("{dir}/{name}");
        if chatty {
            diag::info(format_args!("running {path}"));
        }
        let code = match start(&path, blocked) {
            Ok(pid) => wait_for(pid, &path, limit, &signals).shell_code(),
            Err(e) => {
                diag::warn(format_args!(
                    "unable to execute {path}: {}",
                    diagnose::exec_failure(CWD, &path, e)
                ));
                if e == Errno::NOENT { diag::code::NOT_FOUND } else { diag::code::NOT_EXECUTABLE }
            }
        };
        failed |= code != 0;
        if chatty {
            diag::info(format_args!("{path} exited {code}"));
        }
    }
    failed
}

/// One without an interpreter line is for the shell, as when a shell runs it.
fn start(path: &str, blocked: Blocked) -> Result<Pid, Errno> {
    let word = |text: &str| CString::new(text).expect("names have no NUL");
    let (program, argv) = ([word(path)], CArray::new(vec![word(path)]));
    match Spawn::new(&program, &argv).start(blocked) {
        Err(e) if e.errno == Errno::NOEXEC => {
            let (shell, argv) = ([word("/bin/sh")], CArray::new(vec![word("sh"), word(path)]));
            Spawn::new(&shell, &argv).start(blocked).map_err(|_| Errno::NOEXEC)
        }
        started => started.map_err(|e| e.errno),
    }
}

/// Waits for its end. When we are told to end, so is it with all that it started, and we after it.
fn wait_for(pid: Pid, path: &str, limit: Option<Duration>, signals: &SignalFd) -> WaitStatus {
    let mut deadline = limit.map(|limit| clock::mono().after(limit));
    loop {
        if let Some((_, status)) = wait::reap_pid_if_dead(pid) {
            return status;
        }
        if deadline.take_if(|at| *at <= clock::mono()).is_some() {
            diag::warn(format_args!("{path} did not end in time: killing it (S6_KILL_FINISH_MAXTIME)"));
            let _ = signal::send(Target::Process(pid), Signal::KILL);
        }
        let left = deadline.map(|at: Mono| at.since(clock::mono()));
        let left =
            left.map(|d| rustix::time::Timespec { tv_sec: d.as_secs() as _, tv_nsec: d.subsec_nanos() as _ });
        let _ = poll(&mut [PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN)], left.as_ref());
        while let Some(signal) = signals.next() {
            if signal == Signal::TERM {
                for pid in process::descendants(Pid::own()) {
                    let _ = signal::send(Target::Process(pid), Signal::TERM);
                    let _ = signal::send(Target::Process(pid), Signal::CONT);
                }
                wait::reap_pid(pid);
                crate::sys::spawn::exit(WaitStatus::killed(Signal::TERM).shell_code());
            }
        }
    }
}
