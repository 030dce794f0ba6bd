//! `kill-mode` `tree`: a stop reaches everybody who descends from run, and what is left when run has ended is
//! killed.
//!
//! Killing who may fork meanwhile is a race, which is won by stopping them first: a process that is stopped
//! does not fork, and the child of one that was faster has a parent that is still there. When nobody new turns
//! up any more all of them get SIGKILL, and it is looked once more. All of this takes a millisecond or two; it is bounded by
//! [`PATIENCE`] and [`DYING`], for it is the one thing for which everybody else in this process has to wait.
//!
//! What it cannot win against is a chain of processes each of which makes the next and ends, faster than
//! `/proc` can be read. A PID namespace (`flag-newpidns`) ends those too.
//!
//! A cgroup for each service would do the same in one write. It is not used: it would change what the service
//! is accounted to and limited by, and in most containers there is none to be had.

use super::service::{Body, Service};
use super::{Host, Id};
use crate::process::{Pid, Signal};
use crate::supervise::descent::{self, Main, Member, Reaper};
use crate::supervise::machine::{State, To};
use crate::sys::signal;
use crate::sys::{clock, process, wait};
use rustix::event::{PollFd, PollFlags, poll};
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::time::Duration;

/// After this time it ends even if there are always new ones. On a machine that is busy a look at all processes
/// takes a fifth of a second, and it takes several.
const PATIENCE: Duration = Duration::from_secs(3);

/// Whoever has not died of SIGKILL by then (it waits for a disk, say) is left.
const DYING: Duration = Duration::from_millis(500);

/// So many of those who were left are named.
const NAMED: usize = 8;

impl Host {
    /// Before run gets a signal that may end it: who descends from it now. When it is dead it is too late.
    pub(super) fn note_descent(&mut self, id: Id) {
        let Some(pid) = self.service(id).filter(|s| s.is_there()).and_then(run_of_tree) else { return };
        let found = descent::members(&process::snapshot(), Main::Alive(pid), &[], None);
        self.descents.insert(id, found);
    }

    /// Sends a signal to run, which is `pid`, and to everybody who descends from it.
    pub(super) fn signal_tree(&mut self, id: Id, pid: Pid, signal: Signal) {
        if signal == Signal::KILL {
            if self.service(id).is_some_and(Service::is_there) {
                self.kill_descent(Main::Alive(pid), Vec::new(), None);
            }
            return self.signal(id, pid, To::Process, signal);
        }
        self.signal(id, pid, To::Process, signal);
        for member in self.descents.get(&id).into_iter().flatten() {
            if let Some(pidfd) = open(*member) {
                let _ = signal::send_pidfd(&pidfd, signal);
            }
        }
    }

    /// Run has ended: what is left of its descent is killed, and named. Also says whether somebody could not be
    /// killed.
    pub(super) fn kill_what_is_left(&mut self, id: Id) {
        let Some(pid) = self.service(id).and_then(run_of_tree) else { return };
        let known = self.descents.remove(&id).unwrap_or_default();
        let (killed, alive) = self.kill_descent(Main::Dead(pid), known, self.reaper_for(id));
        let Some(service) = self.service(id) else { return };
        if !killed.is_empty() {
            service.warn(format_args!("run has ended: killed what was left of it: {}", named(&killed)));
        }
        if !alive.is_empty() {
            service.warn(format_args!("unable to kill what was left of run: {}", named(&alive)));
        }
    }

    /// Before run is started: we shall get its orphans, if they can be nobody else's.
    pub(super) fn prepare_for_orphans(&self, id: Id) {
        let Some(Body::Longrun(longrun)) = self.service(id).map(|s| &s.body) else { return };
        if longrun.reader.last().kill_tree && self.has_one_service() {
            let _ = wait::become_subreaper();
        }
    }

    fn has_one_service(&self) -> bool {
        self.is_single() || self.place.is_isolated()
    }

    fn reaper_for(&self, id: Id) -> Option<Reaper> {
        let alone = self.has_one_service() && !self.service(id)?.is_logger();
        let own = || self.by_pid.keys().copied().collect();
        alone.then(|| Reaper { pid: Pid::own().raw(), own: own(), inherited: self.inherited.clone() })
    }

    /// Kills all members of a descent, and those that they make meanwhile. Who was killed, and who was not.
    fn kill_descent(
        &self,
        main: Main,
        mut known: Vec<Member>,
        reaper: Option<Reaper>,
    ) -> (Vec<String>, Vec<String>) {
        let mut killed = Vec::new();
        let give_up = clock::mono().after(PATIENCE);
        loop {
            let held = freeze(main, &mut known, reaper.as_ref(), give_up);
            if held.is_empty() {
                return (killed, Vec::new());
            }
            for (_, pidfd, _) in held.values() {
                let _ = signal::send_pidfd(pidfd, Signal::KILL);
            }
            let until = clock::mono().after(DYING);
            let mut alive = Vec::new();
            for (_, pidfd, name) in held.into_values() {
                let died = wait_for(&pidfd, until.since(clock::mono()));
                if died { killed.push(name) } else { alive.push(name) }
            }
            // Again, for whoever /proc did not show: it is no picture of one moment.
            if !alive.is_empty() || clock::mono() > give_up {
                return (killed, alive);
            }
        }
    }
}

/// The children that we have.
pub(super) fn children() -> Vec<Member> {
    if !wait::have_children() {
        return Vec::new();
    }
    let own = Pid::own().raw();
    let all = process::snapshot().into_iter();
    all.filter(|(_, stat)| stat.ppid == own).map(|(pid, stat)| (pid, stat.start)).collect()
}

type Held = BTreeMap<Pid, (Member, OwnedFd, String)>;

/// Stops everybody until nobody new turns up.
fn freeze(main: Main, known: &mut Vec<Member>, reaper: Option<&Reaper>, give_up: crate::time::Mono) -> Held {
    let mut held = Held::new();
    loop {
        let all = process::snapshot();
        let found = descent::members(&all, main, known, reaper);
        let mut settled = true;
        for member in found {
            // Who waits for a disk does not fork either.
            let may_fork = |state: u8| matches!(state, b'R' | b'S' | b'I');
            settled &= !all.iter().any(|(pid, stat)| *pid == member.0 && may_fork(stat.state));
            if held.get(&member.0).is_none_or(|(m, ..)| *m != member)
                && let Some(pidfd) = open(member)
            {
                let name = process::shown(member.0);
                let _ = signal::send_pidfd(&pidfd, Signal::STOP);
                held.insert(member.0, (member, pidfd, name));
                settled = false;
            }
            if !known.contains(&member) {
                known.push(member);
            }
        }
        if settled || clock::mono() > give_up {
            return held;
        }
    }
}

/// Opens a process if it is still the same.
fn open((pid, start): Member) -> Option<OwnedFd> {
    let pidfd = wait::pidfd_open(pid).ok()?;
    (process::stat(pid)?.start == start).then_some(pidfd)
}

/// Waits until a process is dead.
fn wait_for(pidfd: &OwnedFd, limit: Duration) -> bool {
    let timeout =
        rustix::time::Timespec { tv_sec: limit.as_secs() as i64, tv_nsec: limit.subsec_nanos() as _ };
    let mut fds = [PollFd::new(pidfd, PollFlags::IN)];
    poll(&mut fds, Some(&timeout)).is_ok_and(|n| n > 0)
}

/// The process of a service whose descent is to be killed with it.
fn run_of_tree(service: &Service) -> Option<Pid> {
    let Body::Longrun(longrun) = &service.body else { return None };
    match longrun.machine.state() {
        State::Up { pid, .. } if longrun.reader.last().kill_tree => Some(pid),
        _ => None,
    }
}

fn named(names: &[String]) -> String {
    let mut text = names.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    if names.len() > NAMED {
        text.push_str(&format!(" and {} more", names.len() - NAMED));
    }
    text
}
