//! Opening what a service is supervised with: its directory, its lock, its FIFOs.
//!
//! A successor takes a service over even when nothing can be opened just now: what the journal says is enough
//! to wait for its process and to tell who asks over the socket. What is missing is tried again. A service
//! that were left out because of that would be started a second time when all is well again.
//!
//! A directory that was renamed while nobody supervised it is found by its process, which is in it, or by its
//! FIFOs, which one of our ancestors keeps: `/proc` tells what their names are now. One that was deleted leaves a
//! process that nobody can ask for any more; it is supervised until it ends, or is pruned, and then it must end
//! ([`crate::servicedir::definition::LAST_GRACE`]).

use super::faults::Step;
use super::fifo::Fifo;
use super::service::{self, Body, Lock, Service};
use super::{Host, Id, Token, launch};
use crate::diag::{self, Error, Result, Unable, code};
use crate::ordered::Map;
use crate::process::Pid;
use crate::scan::Identity;
use crate::servicedir;
use crate::supervise::machine::{Event, Leave};
use crate::sys::{Errno, clock, process};
use rustix::event::epoll;
use rustix::fs::CWD;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What is missing is tried again this soon.
const PAUSE: Duration = Duration::from_secs(1);

impl Host {
    /// Opens what a service that is taken over lacks. False: another supervisor is at work on it, and it is no
    /// longer ours.
    pub(super) fn equip(&mut self, id: Id) -> bool {
        let Some(service) = self.service_mut(id) else { return false };
        let (name, said) = (service.name.clone(), service.missing_at.take().is_some());
        match self.try_equip(id) {
            Ok(()) => {
                self.fault_over(&name, Step::Open);
                if said {
                    self.mark_due(id);
                    self.tell_keeper_again();
                }
            }
            Err(error) if error.code() == code::USAGE => {
                diag::warn(format_args!("unable to take over {name}: {error}"));
                self.let_go(id);
                return false;
            }
            Err(error) => {
                let text = format!("unable to take over all of it: {error} (retrying every second)");
                self.complain(&name, Step::Open, error.errno(), said, text);
                if let Some(service) = self.service_mut(id) {
                    service.missing_at = Some(clock::mono().after(PAUSE));
                }
            }
        }
        self.set_timer(id);
        if self.adopted {
            // Names that were right during the takeover may not be so later.
            self.kept_directories = None;
        }
        true
    }

    fn try_equip(&mut self, id: Id) -> Result<()> {
        let single = self.single;
        let Some(service) = self.services[id as usize].as_deref_mut() else { return Ok(()) };
        service.dir_away = false;
        if service.dir.is_none() {
            let path = if single { "." } else { &*service.name };
            let (identity, process) = (service.identity, service.process().map(|(pid, _)| pid));
            // Its control FIFO knows where it was renamed to.
            let home = match &service.body {
                Body::Longrun(longrun) => longrun.control.as_ref().and_then(Fifo::home),
                Body::Oneshot(_) => None,
            };
            let mut dir = find(&self.base, path, identity, process).unable("open the service directory")?;
            if let (None, Some(home)) = (&dir, home) {
                dir = match servicedir::open(&self.base, &home) {
                    Err(e) if diag::is_exhausted(e) => {
                        return Err(Error::unable("open the service directory", e));
                    }
                    opened => opened.ok().filter(|dir| is(dir, identity)),
                };
            }
            if dir.is_none() && !single && service.longrun().is_some() {
                let identity = service.identity;
                let kept = self.kept_directories.get_or_insert_with(kept_directories).get(&identity);
                dir = kept.and_then(|path| servicedir::open(CWD, path).ok()).filter(|dir| is(dir, identity));
            }
            self.services[id as usize].as_deref_mut().expect("looked at just now").dir = dir;
        }
        let Some(service) = self.services[id as usize].as_deref_mut() else { return Ok(()) };
        service.status_due = true;
        service.read_definition();
        let Some(dir) = service.dir.take() else {
            service.longrun().into_iter().for_each(|longrun| longrun.reader.lose());
            return Ok(());
        };
        let opened = self.open_missing(id, &dir);
        if let Some(service) = self.service_mut(id) {
            service.dir = Some(dir);
            service.admit_or_warn();
            service.forget_recorded_death();
        }
        self.close_pipe_if_over(id);
        self.keep(id);
        opened
    }

    /// Opens what is not open yet.
    fn open_missing(&mut self, id: Id, dir: &OwnedFd) -> Result<()> {
        let (single, life) = (self.single, self.lives[id as usize]);
        let unlocked = self.service_mut(id).and_then(Service::longrun).is_some_and(|l| l.lock.is_none());
        if unlocked {
            let supervise = self.open_supervise_again(dir)?;
            let data = Token::Control(id, life).pack();
            let _ = epoll::add(&self.epoll, &supervise.control, data, epoll::EventFlags::IN);
            if let Some(longrun) = self.service_mut(id).and_then(Service::longrun) {
                (longrun.lock, longrun.control) = (Some(Lock::Held(supervise.lock)), Some(supervise.control));
            }
        }
        let Some(service) = self.service_mut(id) else { return Ok(()) };
        let logs = service.is_logger();
        let Some(longrun) = service.longrun() else { return Ok(()) };
        if !single && (logs || longrun.reader.last().consumer) && longrun.pipe.is_none() {
            longrun.pipe = Some(launch::open_pipe(dir).unable("open supervise/stdin")?);
        }
        if longrun.machine.awaits_readiness() && longrun.notify.is_none() {
            longrun.notify = match launch::open_notification(dir) {
                Err(e) if diag::is_exhausted(e) => return Err(Error::unable("open supervise/notify", e)),
                // One that cannot tell, perhaps.
                opened => opened.ok(),
            };
            self.watch_notification(id);
        }
        Ok(())
    }

    /// Something is missing, or not as it should be: it is looked at again soon.
    pub(super) fn equip_later(&mut self, id: Id) {
        if let Some(service) = self.service_mut(id) {
            service.missing_at = Some(clock::mono().after(PAUSE));
        }
        self.set_timer(id);
    }

    /// When a service has lost its directory and has no process, there is nothing left of it.
    pub(super) fn leave_if_nothing_left(&mut self, id: Id) {
        if let Some(service) = self.service(id)
            && service.dir.is_none()
            && !service.dir_away
            && service.missing_at.is_none()
            && service.process().is_none()
        {
            self.feed(id, Event::Leave(Leave::Stop));
        }
    }
}

/// The directory that is `identity`: by its name, or because the process is in it. `None`: it is gone.
fn find(
    base: &OwnedFd,
    path: &str,
    identity: Identity,
    process: Option<Pid>,
) -> std::result::Result<Option<OwnedFd>, Errno> {
    let ours = |dir: &OwnedFd| is(dir, identity);
    match servicedir::open(base, path) {
        Ok(dir) if ours(&dir) => return Ok(Some(dir)),
        Ok(_) | Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
        Err(e) => return Err(e),
    }
    let Some(pid) = process else { return Ok(None) };
    match servicedir::open(CWD, format!("/proc/{pid}/cwd")) {
        Err(e) if diag::is_exhausted(e) => Err(e),
        found => Ok(found.ok().filter(ours)),
    }
}

pub(super) fn is(dir: &OwnedFd, identity: Identity) -> bool {
    Identity::of(dir) == Ok(identity) && !service::is_deleted(dir)
}

/// The service directories whose FIFOs our ancestors keep, under the names that they have now.
fn kept_directories() -> Map<Identity, PathBuf> {
    let mut found = Map::new();
    let mut next = process::stat(Pid::own()).and_then(|own| Pid::from_raw(own.ppid));
    while let Some(pid) = next {
        for entry in std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten() {
            let Ok(path) = std::fs::read_link(entry.path()) else { continue };
            if let Some(dir) = path.parent().filter(|dir| dir.ends_with("supervise")).and_then(Path::parent)
                && let Ok(st) = rustix::fs::stat(dir)
            {
                found.insert(Identity { device: st.st_dev, inode: st.st_ino }, dir.to_owned());
            }
        }
        next = process::stat(pid).and_then(|stat| Pid::from_raw(stat.ppid));
    }
    found
}
