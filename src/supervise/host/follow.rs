//! Another process in the place of the one that was started, in the same life of its service.
//!
//! From then on that one is run: its end is the service's, signals and stops go to it, `supervise/status` has its
//! pid. Who it is lies in the machine, and so in the journal: a successor takes it over as it would have taken over
//! the first. That is all there is to it; what supervises does not care who made the process that it follows, as
//! it does not for one that it adopted. Its end is told by whoever reaps it, which is us if it is an orphan and we
//! are a subreaper, and by its pidfd.
//!
//! Only a process of the service is followed: one that descends from the present one, or did while it lived, and
//! that was made in this life. A number in a file, or in a message, says nothing by itself.

use super::service::{Adopted, Body, Service};
use super::{Host, Id};
use crate::process::Pid;
use crate::scan::Identity;
use crate::servicedir::feature::Features;
use crate::supervise::descent::{self, Main, Member};
use crate::supervise::machine::{Event, State};
use crate::sys::attributes::brand_of;
use crate::sys::process::{self, Stat};
use crate::sys::{clock, wait};

impl Host {
    /// From now on the main process of the service is `pid`, because it says so; with `ready` that makes it ready.
    /// The error says why it is not followed.
    pub(super) fn follow(&mut self, id: Id, pid: Pid, ready: bool) -> Result<(), &'static str> {
        let all = process::snapshot();
        let Some((_, stat)) = all.iter().find(|(other, _)| *other == pid).copied() else {
            return Err("there is no such process");
        };
        if self.service(id).and_then(Service::process).is_some_and(|(main, _)| main == pid) {
            if ready {
                self.feed_as_read(id, Event::Ready);
            }
            return Ok(());
        }
        if !self.members_of_life(id, &all).iter().any(|(member, _)| *member == pid) {
            return Err("it is no process of the service");
        }
        self.hand_over(id, (pid, stat), ready);
        Ok(())
    }

    /// Who descends from the process of a service, in this life of it.
    pub(super) fn members_of_life(&self, id: Id, all: &[(Pid, Stat)]) -> Vec<Member> {
        let Some(service) = self.service(id) else { return Vec::new() };
        let Some((pid, _)) = service.process() else { return Vec::new() };
        let main = if service.is_there() { Main::Alive(pid) } else { Main::Dead(pid) };
        let mut known = self.journal.members(service.slot);
        known.extend(self.branded(id, all));
        let reaper = matches!(main, Main::Dead(_)).then(|| self.reaper_for(id)).flatten();
        let began = life_began(service) - SLACK;
        let mut members = descent::members(all, main, &known, reaper.as_ref());
        members
            .retain(|(member, start)| *start >= began && self.by_pid.get(member).is_none_or(|of| *of == id));
        members
    }

    /// Who has the brand of a service whose run leaves others behind.
    pub(super) fn branded(&self, id: Id, all: &[(Pid, Stat)]) -> Vec<Member> {
        let Some(service) = self.service(id).filter(|s| s.features().is_some_and(Features::hands_over))
        else {
            return Vec::new();
        };
        let (brand, began) = (brand(service.identity), life_began(service) - SLACK);
        let is_one = |(pid, stat): &&(Pid, Stat)| stat.start >= began && brand_of(*pid) == Some(brand);
        all.iter().filter(is_one).map(|(pid, stat)| (*pid, stat.start)).collect()
    }

    /// The service's process is this one, which is known to be of it.
    pub(super) fn hand_over(&mut self, id: Id, (pid, stat): (Pid, Stat), ready: bool) {
        let is_up =
            |body: &Body| matches!(body, Body::Longrun(l) if matches!(l.machine.state(), State::Up { .. }));
        let in_container = self.in_container;
        let Some(service) = self.service_mut(id).filter(|s| is_up(&s.body)) else { return };
        let before = service.process().map(|(pid, _)| pid);
        if before != Some(pid) {
            // Of a child of ours we are told. (A pidfd that is closed is out of the epoll set.)
            let is_child = stat.ppid == Pid::own().raw();
            let pidfd = || wait::pidfd_open(pid).ok();
            service.adopted = if is_child { None } else { Some(Adopted::watched_by(pidfd(), in_container)) };
            before.into_iter().for_each(|before| self.forget_pid(id, before));
        }
        if let Some(service) = self.service_mut(id) {
            service.dead = None;
        }
        self.feed_as_read(id, Event::MainPid { pid, boot: stat.start, ready });
        self.watch_adopted(id);
    }
}

/// What whoever descends from run of this service is known by ([`brand_of`]).
pub(super) fn brand(identity: Identity) -> u64 {
    1 << 62 | (identity.inode ^ identity.device.rotate_left(40)) & ((1 << 62) - 1)
}

/// `/proc` counts in ticks, and two of our clocks are read one after the other.
const SLACK: u64 = 3 * process::TICK_NS;

/// When this life of the service began, in nanoseconds since boot.
fn life_began(service: &Service) -> u64 {
    let Body::Longrun(longrun) = &service.body else { return u64::MAX };
    let ago = longrun.machine.started().map_or(0, |at| clock::mono().since(at).as_nanos() as u64);
    let boot = service.process().map_or(u64::MAX, |(_, boot)| boot);
    clock::boot().saturating_sub(ago).min(boot).max(SLACK)
}
