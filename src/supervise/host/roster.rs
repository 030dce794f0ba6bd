//! Who is supervised: services that come, wait, and are taken in.

use super::errand::Prepared;
use super::faults::Step;
use super::service::Service;
use super::{DEFER_MOST, Deferred, Host, Id, Token};
use crate::diag::{Result, Unable};
use crate::scan::Identity;
use crate::servicedir;
use crate::supervise::machine::Event;
use crate::sys::clock;
use crate::time::Mono;
use std::time::Duration;

impl Host {
    /// Puts off the supervision of an entry.
    pub(super) fn defer(&mut self, name: String, at: Mono, pause: Duration, said: String) {
        self.deferred.insert(name, Deferred { at, pause, said });
    }

    /// Supervises an entry, or says why not and when it is tried again.
    pub(super) fn try_add(&mut self, name: String, pause: Duration, said: String) -> Option<Identity> {
        let error = match self.add(&name, &name) {
            Ok(identity) => {
                self.fault_over(&name, Step::Open);
                return Some(identity);
            }
            Err(error) => error,
        };
        let (text, again) = (error.to_string(), pause.as_millis());
        let line = format!("{text} (retrying in {again} ms)");
        self.complain(&name, Step::Open, error.errno(), text == said, line);
        let at = clock::mono().after(pause);
        self.defer(name, at, (pause * 2).min(DEFER_MOST), text);
        None
    }

    /// Supervises the service directory `path` under `name`, unless that is done already.
    pub(super) fn add(&mut self, name: &str, path: &str) -> Result<Identity> {
        if let Some(Prepared { dir, identity, supervise, .. }) = self.upcoming.take(path) {
            self.begin_service(name, dir, identity, Some(supervise))?;
            return Ok(identity);
        }
        let dir = servicedir::open(&self.base, path).unable("open the service directory")?;
        let identity = Identity::of(&dir).unable("look at the service directory")?;
        if let Some(id) = self.identities.get(&identity).copied() {
            self.relist(id, name);
            return Ok(identity);
        }
        self.begin_service(name, dir, identity, None)?;
        Ok(identity)
    }

    /// A life of supervision begins. In a `new` place there is nothing of an earlier one.
    pub(super) fn begin_life(&mut self, id: Id, new: bool) {
        if !new {
            self.begin_tally(id);
        }
        // Its files were read a moment ago.
        self.feed_as_read(id, Event::Begin);
    }

    /// An entry that we know is (still, or again) in the directory.
    pub(super) fn relist(&mut self, id: Id, name: &str) {
        let Some(service) = self.service_mut(id) else { return };
        service.listed = true;
        // One that was renamed keeps its name, and nothing restarts.
        if *service.name == *name {
            self.names.insert(name.into(), id);
        }
    }

    /// Where a life of supervision begins, deaths are counted from none.
    pub(super) fn begin_tally(&mut self, id: Id) {
        let Some(dir) = self.service(id).and_then(|s| s.dir.as_ref()) else { return };
        use rustix::fs::{Mode, OFlags};
        let _ = servicedir::open_own(dir, "supervise/death_tally", OFlags::TRUNC, Mode::empty());
        let _ = rustix::fs::unlinkat(dir, "supervise/state", rustix::fs::AtFlags::empty());
        servicedir::event::clean(dir);
    }

    /// Takes a service in: descriptors are watched and kept, and it can be found by its name.
    pub(super) fn insert(&mut self, mut service: Service) -> Id {
        let id = self.free.pop().unwrap_or_else(|| {
            self.services.push(None);
            self.lives.push(0);
            self.services.len() as Id - 1
        });
        let control = Token::Control(id, self.lives[id as usize]);
        if let Some(fifo) = service.longrun().and_then(|longrun| longrun.control.as_ref()) {
            let _ = self.watch(fifo, control);
        }
        self.busy = true;
        self.retitle_soon();
        // A name is one directory's.
        let before = self.names.insert(service.name.clone(), id).filter(|before| *before != id);
        if let Some(before) = before.and_then(|before| self.service_mut(before)) {
            before.listed = false;
        }
        self.identities.insert(service.identity, id);
        self.services[id as usize] = Some(Box::new(service));
        self.keep(id);
        id
    }

    /// Watches the process of a service that is not our child.
    pub(super) fn watch_adopted(&mut self, id: Id) {
        let token = Token::Adopted(id, self.lives[id as usize]);
        let Some(service) = self.service(id) else { return };
        let Some((pid, _)) = service.process() else { return };
        if let Some(pidfd) = service.adopted.as_ref().and_then(|a| a.pidfd.as_ref()) {
            let _ = self.watch(pidfd, token);
        }
        self.by_pid.insert(pid, id);
    }

    pub(super) fn is_single(&self) -> bool {
        self.single
    }
}
