//! `kill-mode` `tree`: a stop reaches everybody who descends from run, and what is left when run has ended is
//! killed.
//!
//! Killing who may fork meanwhile is a race, which is won by stopping them first: a process that is stopped
//! does not fork, and the child of one that was faster has a parent that is still there. When nobody new turns
//! up any more all of them get SIGKILL, and it is looked once more. All of this takes a few milliseconds, and
//! [`PATIENCE`] and [`DYING`] at most. Nobody else waits for it: a [`Hunt`] goes on from one turn of the loop to
//! the next, with a look at `/proc` (some 10 µs for each process that there is) in each, and until it is over the
//! machine does not know that its run is dead.
//!
//! Who is known to belong to a descent, and how run ended, is in the journal before anybody is stopped. So a
//! successor goes on with the hunt.
//!
//! What it cannot win against is a chain of processes each of which makes the next and ends, faster than
//! `/proc` can be read. A PID namespace (`flag-newpidns`) ends those too.
//!
//! A cgroup for each service would do the same in one write. It is not used: it would change what the service
//! is accounted to and limited by, and in most containers there is none to be had. Nor is one that the service
//! has put itself in: nobody can tell whether it is alone in there.

use super::service::{Body, Service};
use super::{Host, Id, Token};
use crate::ordered::Map;
use crate::process::{Pid, Signal, WaitStatus};
use crate::supervise::descent::{self, Main, Member, Reaper};
use crate::supervise::machine::{State, To};
use crate::sys::process::Stat;
use crate::sys::signal::{self, Target};
use crate::sys::{Errno, clock, process, wait};
use crate::time::Mono;
use rustix::event::{PollFd, PollFlags, poll};
use std::os::fd::OwnedFd;
use std::time::Duration;

/// After this time it ends even if there are always new ones. On a machine that is busy a look at all processes
/// takes a fifth of a second, and it takes several.
const PATIENCE: Duration = Duration::from_secs(3);

/// Whoever has not died of SIGKILL by then (it waits for a disk, say) is left.
const DYING: Duration = Duration::from_millis(500);

/// Whoever was told to stop has done so by then.
const BETWEEN_LOOKS: Duration = Duration::from_millis(1);

/// So many of those who were left are named.
const NAMED: usize = 8;

/// A descent that is being ended.
pub(super) struct Hunt {
    main: Main,
    held: Held,
    killed: Vec<String>,
    /// When to stop looking for more.
    give_up: Mono,
    /// The next look; or when all that got SIGKILL must be dead.
    next: Mono,
    /// Those who are held got SIGKILL.
    dying: bool,
}

impl Hunt {
    fn new(main: Main) -> Hunt {
        let now = clock::mono();
        let give_up = now.after(PATIENCE);
        Hunt { main, held: Held::new(), killed: Vec::new(), give_up, next: now, dying: false }
    }

    /// When it is to go on.
    pub(super) fn deadline(&self) -> Mono {
        self.next
    }

    /// Nobody will go on with it: whoever is stopped must not stay so.
    pub(super) fn end(self) {
        self.held.values().for_each(|(found, _)| found.send(Signal::KILL));
    }
}

impl Host {
    /// Before run gets a signal that may end it: who descends from it now. When it is dead it is too late.
    pub(super) fn note_descent(&mut self, id: Id) {
        let Some(service) = self.service(id).filter(|s| s.is_there()) else { return };
        let (slot, Some(pid)) = (service.slot, run_of_tree(service)) else { return };
        if !self.hunts.contains_key(&id) {
            let all = process::snapshot();
            let found = descent::members(&all, Main::Alive(pid), &self.branded(id, &all), None);
            self.journal.remember_members(slot, &found);
        }
    }

    /// Sends a signal to run, which is `pid`, and to everybody who descends from it. SIGKILL for run comes when
    /// they are dead.
    pub(super) fn signal_tree(&mut self, id: Id, pid: Pid, signal: Signal) {
        if self.hunts.contains_key(&id) {
            // They are stopped, and that is to stay so.
            return;
        }
        if signal == Signal::KILL {
            if self.service(id).is_some_and(Service::is_there) {
                self.hunts.insert(id, Hunt::new(Main::Alive(pid)));
                self.hunt(id);
            }
            return;
        }
        self.signal(id, pid, To::Process, signal);
        let Some(slot) = self.service(id).map(|service| service.slot) else { return };
        for member in self.journal.members(slot) {
            open(member).into_iter().for_each(|found| found.send(signal));
        }
    }

    /// Run, which was `pid`, has ended: what is left of its descent is to be killed, and named. False: there is
    /// nobody.
    pub(super) fn hunt_what_is_left(&mut self, id: Id, pid: Pid, status: WaitStatus) -> bool {
        let Some(service) = self.service(id) else { return false };
        let slot = service.slot;
        if run_of_tree(service) != Some(pid) {
            return false;
        }
        let begun = self.hunts.remove(&id);
        if begun.is_none() && self.look(id, Main::Dead(pid)).0.is_empty() {
            self.journal.remember_members(slot, &[]);
            return false;
        }
        if let Some(service) = self.service_mut(id) {
            service.dead = Some(status);
        }
        if let Some(service) = self.service(id) {
            service.remember(&self.journal);
        }
        let hunt = Hunt::new(Main::Dead(pid));
        // Those who were being ended with run are not what was left of it.
        self.hunts.insert(id, Hunt { held: begun.map(|b| b.held).unwrap_or_default(), ..hunt });
        self.hunt(id);
        true
    }

    /// Goes on where a predecessor was killed.
    pub(super) fn hunt_again(&mut self, id: Id) {
        if let Some((pid, _)) = self.service(id).and_then(Service::process) {
            self.hunts.insert(id, Hunt::new(Main::Dead(pid)));
        }
    }

    /// Goes on with a hunt.
    pub(super) fn hunt(&mut self, id: Id) {
        let Some(mut hunt) = self.hunts.remove(&id) else { return };
        let now = clock::mono();
        if hunt.dying {
            hunt.held.retain(|_, (found, name)| {
                let dead = found.is_dead();
                if dead {
                    hunt.killed.push(std::mem::take(name));
                }
                !dead
            });
            if !hunt.held.is_empty() && now < hunt.next {
                self.hunts.insert(id, hunt);
                return;
            }
            if !hunt.held.is_empty() || now > hunt.give_up {
                return self.end_hunt(id, hunt);
            }
            // Again, for whoever /proc did not show: it is no picture of one moment.
            hunt.dying = false;
        }
        let settled = self.freeze(id, &mut hunt);
        if hunt.held.is_empty() {
            return self.end_hunt(id, hunt);
        }
        hunt.next = now.after(BETWEEN_LOOKS);
        if settled || now > hunt.give_up {
            (hunt.dying, hunt.next) = (true, now.after(DYING));
            let token = Token::Hunted(id, self.lives[id as usize]);
            for (found, _) in hunt.held.values() {
                found.send(Signal::KILL);
                let _ = found.pidfd.as_ref().map(|pidfd| self.watch(pidfd, token));
            }
        }
        self.hunts.insert(id, hunt);
    }

    /// All are dead that could be killed.
    fn end_hunt(&mut self, id: Id, hunt: Hunt) {
        let Some(service) = self.service_mut(id) else { return };
        let (slot, status) = (service.slot, service.dead.take());
        let alive: Vec<String> = hunt.held.into_values().map(|(_, name)| name).collect();
        let Some(status) = status else {
            if let Main::Alive(pid) = hunt.main {
                self.signal(id, pid, To::Process, Signal::KILL);
            }
            return;
        };
        if !hunt.killed.is_empty() {
            service.warn(format_args!("run has ended: killed what was left of it: {}", named(&hunt.killed)));
        }
        if !alive.is_empty() {
            service.warn(format_args!("unable to kill what was left of run: {}", named(&alive)));
        }
        self.journal.remember_members(slot, &[]);
        self.bury(id, status);
    }

    /// Who belongs to a descent now, and everybody that there is.
    fn look(&self, id: Id, main: Main) -> (Vec<Member>, Vec<(Pid, Stat)>) {
        let Some(slot) = self.service(id).map(|service| service.slot) else { return Default::default() };
        let all = process::snapshot();
        let mut known = self.journal.members(slot);
        known.extend(self.branded(id, &all));
        let reaper = matches!(main, Main::Dead(_)).then(|| self.reaper_for(id)).flatten();
        (descent::members(&all, main, &known, reaper.as_ref()), all)
    }

    /// Stops all of a descent. False: there may be more.
    fn freeze(&mut self, id: Id, hunt: &mut Hunt) -> bool {
        let (found, all) = self.look(id, hunt.main);
        self.note_found(id, &found);
        let mut settled = true;
        for member in found {
            // Who waits for a disk does not fork either.
            let may_fork = |state: u8| matches!(state, b'R' | b'S' | b'I');
            settled &= !all.iter().any(|(pid, stat)| *pid == member.0 && may_fork(stat.state));
            if hunt.held.get(&member.0).is_none_or(|(found, _)| found.member != member)
                && let Some(found) = open(member)
            {
                let name = process::shown(member.0);
                found.send(Signal::STOP);
                hunt.held.insert(member.0, (found, name));
                settled = false;
            }
        }
        settled
    }

    /// Remembers those who were not known yet.
    fn note_found(&mut self, id: Id, found: &[Member]) {
        let Some(slot) = self.service(id).map(|service| service.slot) else { return };
        let mut known = self.journal.members(slot);
        let before = known.len();
        for member in found {
            if !known.contains(member) {
                known.push(*member);
            }
        }
        if known.len() > before {
            self.journal.remember_members(slot, &known);
        }
    }

    /// Before run is started: we shall get its orphans, if they can be nobody else's, or if one of them is to be
    /// followed.
    pub(super) fn prepare_for_orphans(&self, id: Id) {
        let Some(Body::Longrun(longrun)) = self.service(id).map(|s| &s.body) else { return };
        let rules = longrun.reader.last();
        let hands_over = rules.features.as_ref().is_some_and(|features| features.hands_over());
        if hands_over || rules.kill_tree && self.has_one_service() {
            let _ = wait::become_subreaper();
        }
    }

    fn has_one_service(&self) -> bool {
        self.is_single() || self.place.is_isolated()
    }

    pub(super) fn reaper_for(&self, id: Id) -> Option<Reaper> {
        let alone = self.has_one_service() && !self.service(id)?.is_logger();
        let own = || self.by_pid.keys().copied().collect();
        alone.then(|| Reaper { pid: Pid::own().raw(), own: own(), inherited: self.inherited.clone() })
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

type Held = Map<Pid, (Found, String)>;

/// A process that was still the same when it was looked for.
struct Found {
    member: Member,
    /// None: the kernel has no such descriptors, or none for us now.
    pidfd: Option<OwnedFd>,
}

/// Finds a process if it is still the same.
fn open(member: Member) -> Option<Found> {
    let pidfd = match wait::pidfd_open(member.0) {
        Err(Errno::SRCH) => return None,
        pidfd => pidfd.ok(),
    };
    let found = Found { member, pidfd };
    found.stat().map(|_| found)
}

impl Found {
    fn stat(&self) -> Option<Stat> {
        process::stat(self.member.0).filter(|stat| stat.start == self.member.1)
    }

    fn send(&self, signal: Signal) {
        let _ = match &self.pidfd {
            Some(pidfd) => signal::send_pidfd(pidfd, signal),
            None if self.stat().is_none() => Ok(()),
            None => signal::send(Target::Process(self.member.0), signal),
        };
    }

    fn is_dead(&self) -> bool {
        let Some(pidfd) = &self.pidfd else { return self.stat().is_none_or(|stat| stat.state == b'Z') };
        let mut fds = [PollFd::new(pidfd, PollFlags::IN)];
        poll(&mut fds, Some(&Default::default())).is_ok_and(|n| n > 0)
    }
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
