//! Who is supervised: services that come, wait, and are taken in.

use super::service::{Body, Service};
use super::{DEFER_MOST, Deferred, Host, Id, Token, launch};
use crate::diag::{Level, Result, Unable};
use crate::scan::{Identity, reaper};
use crate::supervise::machine::Event;
use crate::sys::clock;
use crate::time::Mono;
use crate::{diag, servicedir};
use rustix::event::epoll;
use std::os::fd::OwnedFd;
use std::time::Duration;

impl Host {
    /// Puts off the supervision of an entry.
    pub(super) fn defer(&mut self, name: String, at: Mono, pause: Duration, said: String) {
        self.deferred.retain(|d| d.name != name);
        self.deferred.push(Deferred { name, at, pause, said });
    }

    /// Supervises an entry, or says why not and when it is tried again.
    pub(super) fn try_add(&mut self, name: String, pause: Duration, said: String) {
        let Err(error) = self.add(&name, &name) else { return };
        let text = error.to_string();
        if text != said {
            let who = format!("supervise {name}");
            let again = pause.as_millis();
            diag::say_as(&who, Level::Warning, format_args!("{text} (retrying in {again} ms)"));
        }
        let at = clock::mono().after(pause);
        self.defer(name, at, (pause * 2).min(DEFER_MOST), text);
    }

    /// Supervises the service directory `path` under `name`, unless that is done already.
    pub(super) fn add(&mut self, name: &str, path: &str) -> Result<()> {
        let dir = servicedir::open(&self.base, path).unable("open the service directory")?;
        let identity = Identity::of(&dir).unable("look at the service directory")?;
        if let Some(id) = self.identities.get(&identity).copied() {
            self.relist(id, name);
            return Ok(());
        }
        self.begin_service(name, dir, identity).map(drop)
    }

    /// A life of supervision begins.
    pub(super) fn begin_life(&mut self, id: Id) {
        self.begin_tally(id);
        self.feed(id, Event::Begin);
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
        use rustix::fs::{Mode, OFlags, openat};
        let flags = OFlags::WRONLY | OFlags::TRUNC | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let _ = openat(dir, "supervise/death_tally", flags, Mode::empty());
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
        let logs = service.is_logger();
        if let (Body::Longrun(longrun), Some(dir)) = (&mut service.body, &service.dir) {
            let mut complaints = Vec::new();
            let consumes = longrun.reader.read(dir, |invalid| complaints.push(invalid)).consumer;
            for invalid in complaints {
                diag::say_as(&format!("supervise {}", service.name), Level::Warning, invalid);
            }
            if (logs || consumes) && !self.single {
                longrun.pipe = launch::open_pipe(dir).ok();
            }
            if let Some(fifo) = &longrun.control {
                let _ = self.watch(fifo, control);
            }
        }
        self.names.insert(service.name.clone(), id);
        self.identities.insert(service.identity, id);
        self.services[id as usize] = Some(Box::new(service));
        self.keep(id);
        id
    }

    /// We are about to close a FIFO: nobody need keep it, and it must not wake us any more. (The keeper's copy
    /// keeps it in the epoll set: it is taken out by hand.)
    pub(super) fn unkeep(&self, fd: &OwnedFd) {
        let _ = epoll::delete(&self.epoll, fd);
        if let (Some(keeper), Ok(identity)) = (&self.keeper, Identity::of(fd)) {
            let _ = reaper::release(keeper, identity);
        }
    }

    /// Has the FIFOs of a service kept by somebody who does not die.
    pub(super) fn keep(&self, id: Id) {
        let (Some(keeper), Some(service)) = (&self.keeper, self.service(id)) else { return };
        let Body::Longrun(longrun) = &service.body else { return };
        let pipe = longrun.pipe.as_ref().map(|(fd, _)| fd);
        let notify = longrun.notify.as_ref().map(|(fd, _)| fd);
        for fd in [longrun.control.as_ref(), pipe, notify].into_iter().flatten() {
            let _ = reaper::hold(keeper, fd);
        }
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
