//! Getting by with few descriptors.
//!
//! A service takes three for good: its directory, its lock, its control FIFO. Where there are more services than
//! that allows, those that come when half of all numbers are used get by with one: the directory is opened when it
//! is needed, and the lock is put away ([`Attic`]). Nothing changes where descriptors abound.

use super::service::{Body, Lock, Longrun};
use super::{Host, Id};
use crate::servicedir;
use crate::sys::{process, socket};
use std::collections::VecDeque;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

/// So many directories are open at a time that are not to stay so.
const AWAKE: usize = 256;

/// So many locks are put away together. To release one of them all are taken out.
const BATCH: usize = 32;

/// Locks that are held without a descriptor: in a message that nobody reads. They go with us, as descriptors do,
/// when both ends of its socket are closed.
#[derive(Default)]
pub(super) struct Attic {
    batches: Vec<Batch>,
    free: Vec<usize>,
    /// The batch that is not full yet.
    filling: Option<usize>,
    /// The batch that was taken out last.
    out: Option<usize>,
}

/// Some of them.
#[derive(Default)]
struct Batch {
    /// Those that have descriptors; `None`: it is in the message, or was released.
    held: Vec<Option<OwnedFd>>,
    /// Where those in the message belong, in their order, and the socket that has it.
    sent: Option<(Vec<usize>, OwnedFd, OwnedFd)>,
    /// To be released when they have descriptors.
    released: Vec<usize>,
    /// Not released yet.
    left: usize,
}

impl Batch {
    /// Puts all that have descriptors into a message. Where that is not possible they keep them.
    fn pack(&mut self) {
        if self.sent.is_some() {
            return;
        }
        let order: Vec<usize> = (0..self.held.len()).filter(|index| self.held[*index].is_some()).collect();
        let fds: Vec<_> = self.held.iter().flatten().map(AsFd::as_fd).collect();
        if let Ok((reader, writer)) = socket::pair()
            && socket::send_many(&writer, &fds).is_ok()
        {
            self.held.iter_mut().for_each(|fd| *fd = None);
            self.sent = Some((order, reader, writer));
        }
    }

    /// Takes them out, if there are numbers enough.
    fn unpack(&mut self) {
        let Some((order, reader, _)) = &self.sent else { return };
        let fds = socket::peek_many(reader).unwrap_or_default();
        if fds.len() == order.len() {
            for (index, fd) in order.iter().zip(fds) {
                self.held[*index] = Some(fd);
            }
            self.sent = None;
        }
    }
}

/// Where a lock is in the attic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ticket {
    batch: usize,
    index: usize,
}

impl Attic {
    fn put(&mut self, lock: OwnedFd) -> Ticket {
        let at = match self.filling {
            Some(at) => at,
            None => {
                let at = self.free.pop().unwrap_or_else(|| {
                    self.batches.push(Batch::default());
                    self.batches.len() - 1
                });
                self.batches[at] = Batch::default();
                self.filling = Some(at);
                at
            }
        };
        let batch = &mut self.batches[at];
        batch.held.push(Some(lock));
        batch.left += 1;
        let index = batch.held.len() - 1;
        if batch.held.len() == BATCH {
            batch.pack();
            self.filling = None;
        }
        Ticket { batch: at, index }
    }

    /// Releases the lock of a service that is not supervised any more.
    pub(super) fn unlock(&mut self, longrun: &mut Longrun) {
        if let Some(Lock::Away(ticket)) = longrun.lock.take() {
            self.release(ticket);
        }
    }

    /// Releases a lock. (Where all numbers are used it goes with the next of its batch.)
    fn release(&mut self, Ticket { batch, index }: Ticket) {
        if self.batches[batch].sent.is_some() {
            if let Some(before) = self.out.replace(batch) {
                self.batches[before].pack();
            }
            self.batches[batch].unpack();
        }
        let of = &mut self.batches[batch];
        of.released.push(index);
        if of.sent.is_none() {
            of.released.drain(..).for_each(|index| of.held[index] = None);
        }
        of.left -= 1;
        if of.left == 0 {
            of.sent = None;
        }
        if of.left == 0 && self.filling != Some(batch) {
            self.out = self.out.filter(|out| *out != batch);
            self.free.push(batch);
        }
    }
}

/// Services whose directory was opened for a while, the oldest first.
pub(super) type Awake = VecDeque<Id>;

/// Whether a descriptor is one of those that are for services to come.
fn is_scarce(fd: &OwnedFd) -> bool {
    // Mostly there is no need to ask.
    fd.as_raw_fd() > 500 && fd.as_raw_fd() >= process::nofile() / 2
}

impl Host {
    /// Before something is done with a service: its directory is open, if there is one.
    pub(super) fn wake(&mut self, id: Id) {
        let Some(service) = self.service_mut(id) else { return };
        if !std::mem::take(&mut service.dir_away) {
            return;
        }
        let identity = service.identity;
        let (path, renamed) =
            (service.name.clone(), service.longrun().and_then(|l| l.control.as_ref()?.home()));
        let open = |path: &Path| {
            servicedir::open(&self.base, path).ok().filter(|dir| super::equip::is(dir, identity))
        };
        let opened = open(Path::new(&*path)).or_else(|| open(&renamed?));
        match opened {
            Some(dir) => {
                if let Some(service) = self.service_mut(id) {
                    service.dir = Some(dir);
                }
            }
            // It is gone, or cannot be opened just now.
            None => {
                self.equip(id);
            }
        }
        self.awake.push_back(id);
        if self.awake.len() > AWAKE
            && let Some(oldest) = self.awake.pop_front()
        {
            self.put_away(oldest);
        }
    }

    /// A service needs nothing for now.
    pub(super) fn put_away(&mut self, id: Id) {
        let single = self.single;
        let Some(service) = self.services[id as usize].as_deref_mut().filter(|_| !single) else { return };
        if service.dir.as_ref().is_some_and(is_scarce) {
            (service.dir, service.dir_away) = (None, true);
        }
        if let Body::Longrun(longrun) = &mut service.body
            && let Some(Lock::Held(fd)) = &longrun.lock
            && is_scarce(fd)
            && let Some(Lock::Held(fd)) = longrun.lock.take()
        {
            longrun.lock = Some(Lock::Away(self.attic.put(fd)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::pipe::pipe;

    /// A descriptor that is held, and one that tells whether it still is.
    fn held() -> (OwnedFd, OwnedFd) {
        let (reader, writer) = pipe().unwrap();
        (writer, reader)
    }

    fn is_held(watch: &OwnedFd) -> bool {
        let mut fds = [rustix::event::PollFd::new(watch, rustix::event::PollFlags::IN)];
        rustix::event::poll(&mut fds, Some(&Default::default())).unwrap() == 0
    }

    #[test]
    fn what_is_put_away_is_held_until_it_is_released() {
        let mut attic = Attic::default();
        let (mut tickets, mut watches) = (Vec::new(), Vec::new());
        for _ in 0..BATCH * 3 + 5 {
            let (fd, watch) = held();
            tickets.push(attic.put(fd));
            watches.push(watch);
        }
        assert_eq!(attic.batches.iter().filter(|b| b.sent.is_some()).count(), 3, "without descriptors");
        let all: Vec<usize> = (0..tickets.len()).map(|n| n * 7 % tickets.len()).collect();
        for (done, n) in all.iter().enumerate() {
            assert!(is_held(&watches[*n]));
            attic.release(tickets[*n]);
            assert!(!is_held(&watches[*n]), "it is released at once");
            assert!(all[done + 1..].iter().all(|n| is_held(&watches[*n])), "and nothing else");
        }
        assert_eq!(attic.free.len(), 3);
        let (fd, watch) = held();
        let ticket = attic.put(fd);
        assert!(is_held(&watch));
        attic.release(ticket);
        assert!(!is_held(&watch));
    }

    #[test]
    fn all_go_with_it() {
        let mut attic = Attic::default();
        let watches: Vec<OwnedFd> = (0..BATCH)
            .map(|_| {
                let (fd, watch) = held();
                attic.put(fd);
                watch
            })
            .collect();
        assert!(watches.iter().all(is_held));
        drop(attic);
        // The kernel closes what was in a message in its own time.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while watches.iter().any(is_held) {
            assert!(std::time::Instant::now() < deadline);
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }
}
