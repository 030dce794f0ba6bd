//! Why a run ended, as far as its wait status does not tell: whether memory had run out, and who asked for it.
//!
//! *Memory.* The kernel counts in a cgroup the processes of it that it killed because memory ran out. When a
//! SIGKILL ended a run and we have not sent it, and the count of our cgroup has grown by more than was accounted
//! for, that was it. Nothing is read for any other end. The count as it was is read once, when there is time for
//! that, and kept in the journal.
//!
//! *Who asked.* Nobody can tell who writes to a FIFO. `svc` signs what it writes ([`control::signed`]): the
//! kernel does not vouch for that, but only who may end the service can write it. For who talks to our socket the
//! kernel does. Of a signal that somebody sends to the process itself the kernel tells its parent the number and
//! not the sender.

use super::service::{Body, Service};
use super::{Host, Id};
use crate::process::{End, Pid, Signal, WaitStatus};
use crate::servicedir;
use crate::servicedir::control::{Claim, Claimed};
use crate::servicedir::state::State;
use crate::supervise::machine::Told;
use crate::sys::{clock, process, socket};
use crate::time::Mono;
use rustix::fs::CWD;
use std::rc::Rc;
use std::time::Duration;

/// Who told a service to end: the present run, and the last one.
#[derive(Default)]
pub(super) struct Asked {
    now: Option<Rc<str>>,
    last: Option<Rc<str>>,
}

/// What is known of who asks and of who was killed.
#[derive(Default)]
pub(super) struct Causes {
    claim: Claim,
    /// The kernel killed so many that are not accounted for, and since when that is known.
    unaccounted: (u32, Mono),
}

/// Where memory ran out several processes may have been killed; so long after the first it counts for others.
const TOGETHER: Duration = Duration::from_secs(1);

/// Who wrote a command that is not signed.
const UNSIGNED: &str = "somebody who wrote to supervise/control";

impl Host {
    /// Takes the next byte of a signature. False: it is none.
    pub(super) fn take_claim(&mut self, byte: u8) -> bool {
        self.causes.claim.take(byte)
    }

    /// Those who wrote what was read before are not those who write what comes.
    pub(super) fn forget_claim(&mut self) {
        self.causes.claim = Claim::default();
    }

    /// What a service is told to do, before it is told.
    pub(super) fn told(&self, id: Id) -> Told {
        match self.service(id).map(|service| &service.body) {
            Some(Body::Longrun(longrun)) => longrun.machine.told(),
            _ => Told::Nobody,
        }
    }

    /// A command was obeyed that came through the FIFO, or `waits` to be; `before` is who had told the service to
    /// end before that.
    pub(super) fn note_writer(&mut self, id: Id, before: Told, waits: bool) {
        if before != Told::Nobody || !(waits || self.told(id).is_wish()) {
            return;
        }
        let who = match self.causes.claim.said() {
            Some(Claimed { pid, parent }) => {
                let by =
                    parent.map_or(String::new(), |parent| format!(", run by {}", process::shown(parent)));
                Rc::from(format!("svc (pid {pid}){by}"))
            }
            None => Rc::from(UNSIGNED),
        };
        self.note_asker(id, who);
    }

    fn note_asker(&mut self, id: Id, who: Rc<str>) {
        if let Some(service) = self.service_mut(id) {
            service.asked.get_or_insert_default().now = Some(who);
        }
    }

    /// The same for a request over the socket.
    pub(super) fn note_peer(&mut self, id: Id, before: Told, link: u32) {
        if before != Told::Nobody || !self.told(id).is_wish() {
            return;
        }
        let Some(Some(l)) = self.links.get_mut(link as usize) else { return };
        let who = l.who.get_or_insert_with(|| {
            let peer = socket::peer(&l.socket).and_then(|peer| Pid::from_raw(peer.pid.as_raw_pid()));
            Rc::from(peer.map_or_else(|| "somebody".to_owned(), process::shown))
        });
        let who = who.clone();
        self.note_asker(id, who);
    }

    /// A run ended: whoever asked for that asked for the last one.
    pub(super) fn note_end(&mut self, id: Id) {
        if let Some(asked) = self.service_mut(id).and_then(|service| service.asked.as_mut()) {
            asked.last = asked.now.take();
        }
    }

    /// The same when the machine knows of it, and what comes next is on its way: looking takes a while.
    pub(super) fn note_killer(&mut self, id: Id, status: WaitStatus) {
        let last_told = |service: &Service| match &service.body {
            Body::Longrun(longrun) => longrun.machine.last_told(),
            Body::Oneshot(_) => Told::Nobody,
        };
        if status.end() != End::Signal(Signal::KILL)
            || self.service(id).map(last_told) != Some(Told::Nobody)
            || !self.memory_ran_out()
        {
            return;
        }
        let Some(service) = self.services[id as usize].as_deref_mut() else { return };
        service.longrun().into_iter().for_each(|longrun| longrun.machine.note_oom());
        service.remember(&self.journal);
        service.warn("killed by the kernel: memory ran out (oom_kill)");
    }

    /// What a predecessor knew.
    pub(super) fn recall_who_asked(&mut self, id: Id) {
        let Some(service) = self.service_mut(id) else { return };
        if let (true, Some(dir)) = (service.has_state && service.was_asked(), &service.dir) {
            let text = servicedir::read_file(dir, "supervise/state").unwrap_or_default();
            let last = State::parse(&text).by.map(Rc::from);
            service.asked = Some(Box::new(Asked { now: None, last }));
        }
    }

    // ------------------------------------------------------------------------------------ memory

    /// Reads how many were killed before there was anything to account for.
    pub(super) fn begin_account(&mut self) {
        if self.journal.oom_kills().is_none()
            && let Some(count) = oom_kills()
        {
            self.journal.set_oom_kills(count);
        }
    }

    /// Whether somebody who was killed just now was killed because memory had run out.
    fn memory_ran_out(&mut self) -> bool {
        let Some(count) = oom_kills() else { return false };
        let (now, (left, since)) = (clock::mono(), &mut self.causes.unaccounted);
        let new = count.saturating_sub(self.journal.oom_kills().unwrap_or(0));
        self.journal.set_oom_kills(count);
        if now.since(*since) > TOGETHER {
            *left = 0;
        }
        if new > 0 {
            (*left, *since) = (left.saturating_add(new), now);
        }
        let any = *left > 0;
        *left = left.saturating_sub(1);
        any
    }
}

/// How many processes of our cgroup the kernel has killed because memory ran out. None: that cannot be seen.
fn oom_kills() -> Option<u32> {
    let read = |path: &str| servicedir::read_file(CWD, path).ok().and_then(|text| count_in(&text));
    let groups = String::from_utf8_lossy(&servicedir::read_file(CWD, "/proc/self/cgroup").ok()?).into_owned();
    groups.lines().find_map(|line| {
        let (kind, path) = line.split_once(':')?.1.split_once(':')?;
        let (base, file) = match kind {
            "" => ("/sys/fs/cgroup", "memory.events"),
            "memory" => ("/sys/fs/cgroup/memory", "memory.oom_control"),
            _ => return None,
        };
        // In a container the path may be that of the host, and what is mounted begins with our group.
        read(&format!("{base}{path}/{file}")).or_else(|| read(&format!("{base}/{file}")))
    })
}

/// The number behind `oom_kill`.
fn count_in(text: &[u8]) -> Option<u32> {
    let text = String::from_utf8_lossy(text);
    text.lines().find_map(|line| line.strip_prefix("oom_kill "))?.trim().parse().ok()
}

impl Service {
    /// Whether somebody asked for the end of the last run.
    fn was_asked(&self) -> bool {
        matches!(&self.body, Body::Longrun(longrun) if longrun.machine.last_told().is_wish())
    }

    /// Who that was.
    pub(super) fn who_asked(&self) -> Option<String> {
        let last = self.asked.as_ref()?.last.as_ref()?;
        self.was_asked().then(|| last.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_found_in_both_kinds_of_files() {
        assert_eq!(count_in(b"low 0\nhigh 0\nmax 3\noom 2\noom_kill 1\noom_group_kill 5\n"), Some(1));
        assert_eq!(count_in(b"oom_kill_disable 0\nunder_oom 0\noom_kill 7\n"), Some(7));
        assert_eq!(count_in(b"oom_kill_disable 0\n"), None);
    }
}
