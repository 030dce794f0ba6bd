//! Passing wait statuses on.
//!
//! A reborn supervisor is not the parent of the services it takes over. Whoever is (svscan as subreaper, or
//! init when svscan died as well) reaps them and writes what it saw to a pipe that the supervisor reads:
//! pid and wait status, two 32-bit words in native byte order, one atomic write each. Pid 1 keeps both ends
//! open, so that a record written between two lives waits there.
//!
//! A record is written *before* the process is reaped. Thus a reaper that is killed forgets nothing (the
//! next one sees the same dead process again), and when a pid is used again its old record is already read
//! or stands before everything that is told of the new process.

use crate::ordered::Map;
use crate::process::{Pid, WaitStatus};
use crate::sys::wait::{self, Dead};
use crate::sys::{Errno, socket};
use crate::time::Mono;
use rustix::event::{PollFd, PollFlags};
use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat};
use rustix::pipe::{PipeFlags, pipe_with};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

/// Both ends of the pipe.
pub struct Channel {
    /// For the supervisor.
    pub reader: OwnedFd,
    /// For the reapers.
    pub writer: OwnedFd,
}

impl Channel {
    /// A new pipe, non-blocking, close-on-exec.
    pub fn new() -> Result<Channel, Errno> {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        Ok(Channel { reader, writer })
    }
}

impl Channel {
    /// One that is a FIFO, made where it is not there: whoever comes next finds it, and what is in it.
    pub fn at(path: &str) -> Result<Channel, Errno> {
        match mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o600), 0) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(e) => return Err(e),
        }
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let open = || rustix::fs::open(path, flags, Mode::empty());
        Ok(Channel { reader: open()?, writer: open()? })
    }
}

/// Tells of a death. False: the pipe is full, the supervisor does not read (it is stopped, perhaps); leave
/// the process unreaped and try again later.
pub fn tell(writer: impl AsFd, dead: Dead) -> bool {
    let (pid, status) = dead;
    let mut record = [0; 8];
    record[..4].copy_from_slice(&pid.raw().to_ne_bytes());
    record[4..].copy_from_slice(&u32::from(status.0).to_ne_bytes());
    rustix::io::write(writer, &record) != Err(Errno::AGAIN)
}

/// Reads a record.
pub fn decode(words: [u32; 2]) -> Option<Dead> {
    let pid = Pid::from_raw(i32::try_from(words[0]).ok()?)?;
    Some((pid, WaitStatus(words[1] as u16)))
}

/// Reaps one dead process that is not ours in particular, telling of it first. False: it could not be told
/// and was left.
pub fn tell_and_reap(writer: impl AsFd, dead: Dead) -> bool {
    let told = tell(writer, dead);
    if told {
        wait::reap_pid(dead.0);
    }
    told
}

/// FIFOs that must not die: kept open by somebody who does not.
///
/// A supervisor sends each FIFO that it opens (control, readiness, logger's pipe) up to the keeper, which is
/// pid 1, or svscan where there is no init of ours. A FIFO that somebody has open for reading and writing
/// loses nothing and raises no SIGPIPE, whoever else dies. The supervisor's successor finds it by its name;
/// the keeper only keeps.
///
/// A supervisor that is killed cannot say what need not be kept any more. So its successor says what there is
/// ([`begin`], all of it, [`end`]), and what of that holder was not said again is let go. A holder is known by
/// its directory.
///
/// A socket has no name by which it could be opened again, nor has a descriptor that a service stored. Those are
/// held under keys of their makers ([`super::Identity::keyed`]), and a successor asks for them ([`fetch`]): they come
/// over a connection that it sends along.
///
/// A message keeps what it carries while it waits to be read. So after reading the keeper rests for a moment:
/// a thousand services that start wake it a few times, not a thousand.
pub struct Keeper {
    /// Where messages arrive.
    socket: OwnedFd,
    held: Map<super::Identity, Held>,
    rests_until: Option<Mono>,
    missed: bool,
}

/// What is kept, for whom, and whether that was said since its last [`begin`].
struct Held {
    fd: OwnedFd,
    holder: super::Identity,
    said: bool,
}

const HOLD: u8 = b'H';
const RELEASE: u8 = b'R';
const BEGIN: u8 = b'B';
const END: u8 = b'E';
const FETCH: u8 = b'F';

/// How long messages may wait. A socket holds some 270 of them, and a service takes 0.1 ms to start.
const REST: Duration = Duration::from_millis(2);

impl Keeper {
    /// One that keeps what is sent to the other end of `socket`.
    pub fn new(socket: OwnedFd) -> Keeper {
        Keeper { socket, held: Map::new(), rests_until: None, missed: false }
    }

    /// When it has rested; the loop around it must look again then. None: it does not rest.
    pub fn deadline(&self, now: Mono) -> Option<Mono> {
        self.rests_until.filter(|at| now < *at)
    }

    /// What to wait for: messages, or nothing while it rests.
    pub fn poll(&self, now: Mono) -> PollFd<'_> {
        let flags = if self.deadline(now).is_some() { PollFlags::empty() } else { PollFlags::IN };
        PollFd::new(&self.socket, flags)
    }

    /// Takes all messages that have come. False: the other end is gone.
    pub fn serve(&mut self, now: Mono) -> bool {
        self.rests_until = Some(now.after(REST));
        let mut buf = [0u8; socket::MAX_MESSAGE];
        loop {
            match socket::receive(&self.socket, &mut buf) {
                Ok(message) if message.len == 0 => return false,
                Ok(message) => self.take(&buf[..message.len], message.fds),
                Err(_) => return true,
            }
        }
    }

    fn take(&mut self, message: &[u8], fds: Vec<OwnedFd>) {
        let Some((what, rest)) = message.split_first() else { return };
        let mut identities = rest
            .chunks_exact(16)
            .map(|bytes| super::Identity::from_bytes(bytes.try_into().expect("16 bytes")));
        if *what == RELEASE {
            return identities.for_each(|identity| drop(self.held.remove(&identity)));
        }
        let Some(holder) = identities.next() else { return };
        match *what {
            HOLD => {
                // The kernel drops what it cannot give us a number for.
                self.missed |= fds.is_empty();
                for (identity, fd) in identities.zip(fds) {
                    self.held.insert(identity, Held { fd, holder, said: true });
                }
            }
            BEGIN => self.held.values_mut().filter(|h| h.holder == holder).for_each(|h| h.said = false),
            FETCH => fds.iter().for_each(|to| self.hand_out(holder, to)),
            END => self.held.retain(|_, h| h.said || h.holder != holder),
            _ => {}
        }
    }

    /// Sends what is held under keys for `holder`: in each message descriptors, and their keys in the same order.
    fn hand_out(&self, holder: super::Identity, to: &OwnedFd) {
        let keyed = self.held.iter().filter(|(key, held)| key.is_keyed() && held.holder == holder);
        for some in keyed.collect::<Vec<_>>().chunks(socket::MAX_FDS) {
            let keys: Vec<u8> = some.iter().flat_map(|(key, _)| key.to_bytes()).collect();
            let fds: Vec<_> = some.iter().map(|(_, held)| held.fd.as_fd()).collect();
            let _ = socket::send(to, &keys, &fds);
        }
    }

    /// Whether something came that could not be taken, because too many files are open. Asked once, said once.
    pub fn take_missed(&mut self) -> bool {
        std::mem::take(&mut self.missed)
    }

    /// Where messages arrive.
    pub fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    /// How many are held.
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether none is held.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }
}

/// Asks the keeper at the other end of `socket` to hold `fd`, which is `identity`, for `holder`. Safe from the
/// moment this returns: the message itself keeps the descriptor. An error says that the keeper has too much to
/// read.
pub fn hold(
    socket: impl AsFd,
    fd: impl AsFd,
    identity: super::Identity,
    holder: super::Identity,
) -> Result<(), Errno> {
    socket::send(socket, &message(HOLD, &[holder, identity]), &[fd.as_fd()])
}

/// What the keeper has under keys for `holder`. It is waited for, for a moment: an older keeper has nothing and hangs
/// up.
pub fn fetch(socket: impl AsFd, holder: super::Identity) -> Map<super::Identity, OwnedFd> {
    const PATIENCE: rustix::time::Timespec = rustix::time::Timespec { tv_sec: 2, tv_nsec: 0 };
    let mut found = Map::new();
    let Ok((ours, theirs)) = socket::pair() else { return found };
    let asked = socket::send(socket, &message(FETCH, &[holder]), &[theirs.as_fd()]);
    drop(theirs);
    let mut buf = [0u8; socket::MAX_FDS * 16];
    while asked.is_ok() {
        match socket::receive(&ours, &mut buf) {
            Ok(message) if message.len == 0 => break,
            Ok(message) => {
                let keys = buf[..message.len].chunks_exact(16);
                let keys = keys.map(|key| super::Identity::from_bytes(key.try_into().expect("16 bytes")));
                keys.zip(message.fds).for_each(|(key, fd)| drop(found.insert(key, fd)));
            }
            Err(Errno::AGAIN) => {
                let mut fds = [PollFd::new(&ours, PollFlags::IN)];
                if rustix::event::poll(&mut fds, Some(&PATIENCE)) == Ok(0) {
                    break;
                }
            }
            Err(_) => break,
        }
    }
    found
}

/// Announces that `holder` will say all that is to be held for it.
pub fn begin(socket: impl AsFd, holder: super::Identity) -> Result<(), Errno> {
    socket::send(socket, &message(BEGIN, &[holder]), &[])
}

/// It has said all: the rest need not be held.
pub fn end(socket: impl AsFd, holder: super::Identity) -> Result<(), Errno> {
    socket::send(socket, &message(END, &[holder]), &[])
}

/// Asks the keeper to let go of these.
pub fn release(socket: impl AsFd, identities: &[super::Identity]) -> Result<(), Errno> {
    identities
        .chunks((socket::MAX_MESSAGE - 1) / 16)
        .try_for_each(|some| socket::send(&socket, &message(RELEASE, some), &[]))
}

fn message(what: u8, identities: &[super::Identity]) -> Vec<u8> {
    let mut message = vec![what];
    identities.iter().for_each(|identity| message.extend_from_slice(&identity.to_bytes()));
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_loses_nothing() {
        let (up, down) = socket::pair().unwrap();
        let mut keeper = Keeper::new(up);
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        let identity = super::super::Identity::of(&reader).unwrap();
        let at = |ms| Mono::default().after(Duration::from_millis(ms));
        let listens = |keeper: &mut Keeper, now| {
            let mut fds = [keeper.poll(now)];
            rustix::event::poll(&mut fds, Some(&Default::default())).unwrap() == 1
        };
        let holder = super::super::Identity { device: 0, inode: 1 };
        hold(&down, &reader, identity, holder).unwrap();
        hold(&down, &reader, identity, holder).unwrap();
        drop(reader);
        assert!(listens(&mut keeper, at(0)));
        assert!(keeper.serve(at(0)));
        assert_eq!(keeper.len(), 1, "the same FIFO is held once");
        assert_eq!(rustix::io::write(&writer, b"x"), Ok(1), "somebody can read it");
        release(&down, &[identity]).unwrap();
        assert!(!listens(&mut keeper, at(1)), "it rests");
        assert!(listens(&mut keeper, at(2)));
        assert!(keeper.serve(at(2)));
        assert!(keeper.is_empty());
        drop(down);
        assert!(!keeper.serve(at(6)));
    }

    #[test]
    fn what_a_successor_does_not_say_again_is_let_go() {
        let (up, down) = socket::pair().unwrap();
        let mut keeper = Keeper::new(up);
        let pipes: Vec<OwnedFd> = (0..3).map(|_| rustix::pipe::pipe().unwrap().0).collect();
        let identity = |fd: &OwnedFd| super::super::Identity::of(fd).unwrap();
        let (ours, other) = (identity(&pipes[0]), identity(&pipes[1]));
        for (pipe, holder) in pipes.iter().zip([ours, ours, other]) {
            hold(&down, pipe, identity(pipe), holder).unwrap();
        }
        begin(&down, ours).unwrap();
        assert!(keeper.serve(Mono::default()));
        assert_eq!(keeper.len(), 3, "nothing is let go before all is said");
        hold(&down, &pipes[1], identity(&pipes[1]), ours).unwrap();
        end(&down, ours).unwrap();
        assert!(keeper.serve(Mono::default()));
        let left: Vec<_> = keeper.held.keys().copied().collect();
        let mut expected = vec![identity(&pipes[1]), identity(&pipes[2])];
        expected.sort();
        assert_eq!(left, expected);
    }

    #[test]
    fn what_has_no_name_is_handed_out_to_a_successor() {
        let (up, down) = socket::pair().unwrap();
        let mut keeper = Keeper::new(up);
        let pipes: Vec<OwnedFd> = (0..7).map(|_| rustix::pipe::pipe().unwrap().0).collect();
        let identity = |fd: &OwnedFd| super::super::Identity::of(fd).unwrap();
        let (ours, other) = (identity(&pipes[0]), identity(&pipes[1]));
        for (n, pipe) in pipes.iter().enumerate() {
            hold(&down, pipe, ours.keyed(n as u16), ours).unwrap();
        }
        hold(&down, &pipes[0], identity(&pipes[0]), ours).unwrap();
        hold(&down, &pipes[0], other.keyed(1), other).unwrap();
        let serving = std::thread::spawn(move || {
            while keeper.len() < 9 {
                keeper.serve(Mono::default());
            }
            // Until somebody has asked and hung up.
            while keeper.serve(Mono::default()) {}
        });
        let found = fetch(&down, ours);
        let all: Vec<_> =
            pipes.iter().enumerate().map(|(n, fd)| (ours.keyed(n as u16), identity(fd))).collect();
        let mut found: Vec<_> = found.iter().map(|(key, fd)| (*key, identity(fd))).collect();
        found.sort();
        assert_eq!(found, all);
        drop(down);
        serving.join().unwrap();
    }

    #[test]
    fn records_round_trip() {
        let channel = Channel::new().unwrap();
        let dead = (Pid::from_raw(4711).unwrap(), WaitStatus(0x8b));
        assert!(tell(&channel.writer, dead));
        let mut buf = [0u8; 8];
        assert_eq!(rustix::io::read(&channel.reader, &mut buf), Ok(8));
        let word = |at: usize| u32::from_ne_bytes(buf[at..at + 4].try_into().unwrap());
        assert_eq!(decode([word(0), word(4)]), Some(dead));
        assert_eq!(decode([0, 5]), None);
    }

    #[test]
    fn a_full_pipe_is_said() {
        let channel = Channel::new().unwrap();
        let dead = (Pid::from_raw(1).unwrap(), WaitStatus(0));
        let told = (0..100_000).take_while(|_| tell(&channel.writer, dead)).count();
        assert!((512..100_000).contains(&told));
    }
}
