//! The FIFOs that services are supervised with, and having them kept by somebody who does not die.

use super::service::{Body, Longrun};
use super::{Host, Id};
use crate::scan::{Identity, reaper};
use crate::sys::{Errno, clock};
use crate::time::Mono;
use rustix::event::epoll;
use rustix::fs::{FileType, Mode, OFlags, fstat, openat};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

/// An open FIFO, and which one it is.
pub(super) struct Fifo {
    fd: OwnedFd,
    pub(super) identity: Identity,
}

impl Fifo {
    /// Opens a FIFO for reading and writing, so that it never ends. `Err(INVAL)`: it is something else.
    pub(super) fn open(dir: impl AsFd, path: &str, blocking: bool) -> Result<Fifo, Errno> {
        let mut flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        flags.set(OFlags::NONBLOCK, !blocking);
        let fd = openat(dir, path, flags, Mode::empty())?;
        let st = fstat(&fd)?;
        if !FileType::from_raw_mode(st.st_mode).is_fifo() {
            return Err(Errno::INVAL);
        }
        Ok(Fifo { fd, identity: Identity { device: st.st_dev, inode: st.st_ino } })
    }
}

impl Fifo {
    /// The directory of the service in whose `supervise` this is, by the name that it has now.
    pub(super) fn home(&self) -> Option<PathBuf> {
        let path = std::fs::read_link(format!("/proc/self/fd/{}", self.fd.as_raw_fd())).ok()?;
        Some(path.parent().filter(|dir| dir.ends_with("supervise"))?.parent()?.to_owned())
    }

    /// The same FIFO, for reading only.
    pub(super) fn reopen_for_reading(&self) -> Result<Fifo, Errno> {
        let path = format!("/proc/self/fd/{}", self.fd.as_raw_fd());
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let fd = rustix::fs::open(path, flags, Mode::empty())?;
        Ok(Fifo { fd, identity: self.identity })
    }
}

impl AsFd for Fifo {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Longrun {
    /// All that are open.
    pub(super) fn fifos(&self) -> impl Iterator<Item = &Fifo> {
        [&self.control, &self.pipe, &self.notify].into_iter().flatten()
    }
}

/// The keeper had too much to read: how soon it is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(5);

/// So many FIFOs that need not be kept any more are a message.
const MANY_RELEASED: usize = 32;

/// What the keeper is still to be told.
#[derive(Default)]
pub(super) struct Untold {
    /// Services whose FIFOs it could not take.
    ids: Vec<Id>,
    pub(super) released: Vec<Identity>,
    /// What is left of saying everything: see [`reaper::begin`].
    all: All,
    pub(super) retry_at: Option<Mono>,
}

/// How far we are with telling the keeper all that there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum All {
    #[default]
    Said,
    /// It is to be announced.
    Due,
    /// It was announced, and is over when nothing is untold.
    Saying,
}

impl Host {
    /// Has the FIFOs of a service kept.
    pub(super) fn keep(&mut self, id: Id) {
        let (Some(keeper), Some(service)) = (&self.keeper, self.service(id)) else { return };
        let Body::Longrun(longrun) = &service.body else { return };
        let refused =
            longrun.fifos().find_map(|fifo| reaper::hold(keeper, fifo, fifo.identity, self.identity).err());
        let keyed = |(number, fd): (u16, &OwnedFd)| {
            reaper::hold(keeper, fd, service.identity.keyed(number), self.identity).err()
        };
        let refused = refused.or_else(|| service.hearing()?.kept().find_map(keyed));
        match refused {
            None => {}
            Some(e) if is_full(e) => self.keep_later(id),
            Some(_) => self.forget_keeper(),
        }
    }

    /// The keeper is gone. The next scanner brings another.
    fn forget_keeper(&mut self) {
        self.keeper = None;
        self.untold = Untold::default();
    }

    pub(super) fn keep_later(&mut self, id: Id) {
        self.untold.ids.push(id);
        self.untold.retry_at.get_or_insert(clock::mono().after(ASK_AGAIN));
    }

    /// Tells the keeper all that there is. What else it keeps for us is of a predecessor.
    pub(super) fn keep_all(&mut self) {
        self.untold.ids = self.ids();
        self.untold.all = All::Due;
        self.tell_keeper_again();
    }

    /// Tells the keeper what it could not take before.
    pub(super) fn tell_keeper_again(&mut self) {
        self.untold.retry_at = None;
        let Some(keeper) = &self.keeper else { return };
        if self.untold.all == All::Due {
            match reaper::begin(keeper, self.identity) {
                Ok(()) => {}
                Err(e) if !is_full(e) => return self.forget_keeper(),
                Err(_) => {
                    self.untold.retry_at = Some(clock::mono().after(ASK_AGAIN));
                    return;
                }
            }
            self.untold.all = All::Saying;
        }
        for id in std::mem::take(&mut self.untold.ids) {
            self.keep(id);
        }
        self.release();
        // What a service lacks may be what the keeper keeps.
        let complete =
            self.untold.ids.is_empty() && self.services.iter().flatten().all(|s| s.missing_at.is_none());
        if self.untold.all == All::Saying && complete {
            match self.keeper.as_ref().map(|keeper| reaper::end(keeper, self.identity)) {
                Some(Ok(())) => self.untold.all = All::Said,
                Some(Err(e)) if !is_full(e) => self.forget_keeper(),
                _ => self.untold.retry_at = Some(clock::mono().after(ASK_AGAIN)),
            }
        }
    }

    /// We are about to close a FIFO: nobody need keep it, and it must not wake us any more. (The keeper's copy
    /// keeps it in the epoll set: it is taken out by hand.)
    pub(super) fn unkeep(&mut self, fifo: &Fifo) {
        let _ = epoll::delete(&self.epoll, fifo);
        self.untold.released.push(fifo.identity);
    }

    /// Has the keeper told soon what it need not keep any more: each message wakes it, and nothing depends on when.
    pub(super) fn release_soon(&mut self) {
        match self.untold.released.len() {
            0 => {}
            MANY_RELEASED.. => self.release(),
            _ => drop(self.untold.retry_at.get_or_insert_with(|| clock::mono().after(ASK_AGAIN))),
        }
    }

    /// Tells the keeper what it need not keep any more.
    pub(super) fn release(&mut self) {
        let released = std::mem::take(&mut self.untold.released);
        if let (Some(keeper), false) = (&self.keeper, released.is_empty())
            && let Err(e) = reaper::release(keeper, &released)
        {
            if !is_full(e) {
                return self.forget_keeper();
            }
            self.untold.released = released;
            self.untold.retry_at.get_or_insert(clock::mono().after(ASK_AGAIN));
        }
    }
}

/// It has too much to read, and will have read it.
fn is_full(e: Errno) -> bool {
    matches!(e, Errno::AGAIN | Errno::NOBUFS | Errno::NOMEM | Errno::TOOMANYREFS)
}
