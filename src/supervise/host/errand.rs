//! What is done while the child of a start is on its way to executing.
//!
//! Of what a start costs us a third is spent in the child, a quarter on what is made and opened in the service
//! directory before, and a tenth on writing down that it was started. When svscan names many entries at once, the
//! next one is prepared and an earlier one written down while this one's child is busy: on two processors both go
//! on at the same time. What was prepared is what [`Host::add`] would have done first; it waits for the next
//! name and no longer. In the same way what a step waited for is written down while the step is begun.

use super::service::{self, Service, Supervise, Written};
use super::thrift::Attic;
use super::{Host, Id};
use crate::scan::Identity;
use crate::servicedir;
use std::os::fd::OwnedFd;

/// An entry whose supervision can begin at once.
pub(super) struct Prepared {
    name: String,
    pub(super) dir: OwnedFd,
    pub(super) identity: Identity,
    pub(super) supervise: Supervise,
}

/// The next name on a list, and what was done for it.
#[derive(Default)]
pub(super) struct Upcoming {
    next: Option<String>,
    prepared: Option<Prepared>,
}

impl Upcoming {
    /// What was prepared under this name.
    pub(super) fn take(&mut self, name: &str) -> Option<Prepared> {
        self.prepared.take().filter(|prepared| prepared.name == name)
    }
}

/// Something to do during a start.
pub(super) struct Errand {
    /// To be prepared.
    name: Option<String>,
    prepared: Option<Prepared>,
    /// To be written down.
    due: Option<(Id, Box<Service>)>,
    /// Ours, for as long as the errand takes.
    attic: Attic,
    written: Option<Written>,
}

impl Host {
    /// Supervises what svscan or rc named.
    pub(super) fn add_all(&mut self, link: u32, names: Vec<String>) {
        let mut names = names.into_iter().peekable();
        while let Some(name) = names.next() {
            let is_new = |next: &&String| {
                self.finishing.is_none()
                    && !self.names.contains_key(next.as_str())
                    && !self.deferred.contains_key(next.as_str())
                    && !self.is_for_another(link, next)
            };
            self.upcoming.next = names.peek().filter(is_new).cloned();
            self.add_listed(link, name);
        }
        self.upcoming = Upcoming::default();
    }

    /// What is to be done during a start, if anything. The service that is started and its logger have a part in
    /// that: neither is written down meanwhile.
    pub(super) fn take_errand(&mut self, started: Id, logger: Option<Id>) -> Option<Errand> {
        let name = self.upcoming.next.take();
        let first = self.due.front().copied().filter(|id| *id != started && Some(*id) != logger);
        first.into_iter().for_each(|id| {
            self.hear_readiness(id);
            self.wake(id);
        });
        let due = first.and_then(|id| Some((id, self.services[id as usize].take()?)));
        if due.is_some() {
            self.due.pop_front();
        } else if name.is_none() {
            return None;
        }
        let attic = std::mem::take(&mut self.attic);
        Some(Errand { name, prepared: None, due, attic, written: None })
    }

    /// Does it. A child of ours is on its way: see [`start_while`](crate::sys::spawn::Spawn::start_while).
    pub(super) fn run_errand(&self, errand: &mut Errand) {
        errand.prepared = errand.name.as_deref().and_then(|name| self.prepare(name));
        let (journal, attic) = (&self.journal, &mut errand.attic);
        errand.written = errand.due.as_mut().map(|(_, service)| service.write_down_all(journal, attic));
    }

    /// Remembers what was prepared, and sees to what follows from what was written.
    pub(super) fn end_errand(&mut self, errand: Errand) {
        self.upcoming.prepared = errand.prepared;
        self.attic = errand.attic;
        let Some((id, service)) = errand.due else { return };
        self.services[id as usize] = Some(service);
        match errand.written {
            Some(written) => self.after_writing(id, written),
            None => self.due.push_front(id),
        }
    }

    /// Does for a name what can be done before it is its turn. If that fails, it fails again then and is told.
    fn prepare(&self, name: &str) -> Option<Prepared> {
        let dir = servicedir::open(&self.base, name).ok()?;
        let identity = Identity::of(&dir).ok()?;
        if self.identities.contains_key(&identity) {
            return None;
        }
        let supervise = service::open_supervise(&dir).ok()?;
        Some(Prepared { name: name.to_owned(), dir, identity, supervise })
    }
}
