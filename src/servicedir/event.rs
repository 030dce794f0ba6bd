//! `event/`: a fifodir. Whoever wants to hear of changes makes a FIFO in it; the notifier writes the same
//! bytes to every one.
//!
//! A FIFO's name is `ftrig1:`, `@` and 24 hexadecimal digits (when it was made), `:` and six random
//! characters: 39 bytes. It is made under that name with a dot before it and renamed when somebody reads it,
//! so that a notifier never meets one without a reader whose owner is alive.
//!
//! Bytes that a supervisor sends: `s` it listens, `u` up, `U` ready, `d` down, `D` down and finished, `O`
//! failed for good, `x` it leaves. Ours adds what `validate` said: `v` yes, `V` no, nothing was done; and
//! `p`, that `supervise/state` has something new that the service says of itself. One write may carry several.

use crate::sys::{Errno, clock};
use crate::time::Mono;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{
    AtFlags, Gid, Mode, OFlags, RawDir, chmodat, chownat, fstat, mkdirat, mknodat, openat, renameat, statat,
    unlinkat,
};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// The subdirectory of a service directory.
pub const DIR: &str = "event";

/// The mode of a fifodir for members of its group: they may make FIFOs, not list, not remove others'.
pub const MODE_GROUP: u32 = 0o3730;

/// The mode of a fifodir for everybody.
pub const MODE_PUBLIC: u32 = 0o1733;

const PREFIX: &[u8] = b"ftrig1:@";
const NAME_LEN: usize = 39;

/// More listeners than this are not served at one event: their owners are at it to exhaust us.
const MOST_LISTENERS: usize = 2000;

fn is_listener(name: &[u8]) -> bool {
    name.len() == NAME_LEN && name.starts_with(PREFIX)
}

/// Who may listen at a fifodir.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// Everybody.
    Public,
    /// The members of a group.
    Group(u32),
}

impl Audience {
    /// The members of our own group: what supervisors and clients make fifodirs for.
    pub fn own_group() -> Audience {
        Audience::Group(rustix::process::getegid().as_raw())
    }
}

/// Makes the fifodir `path` (relative to `at`). One that is there must belong to us, and is left as it is
/// unless `force` says that its audience shall change. `Err(ACCESS)`: it is somebody else's.
pub fn make(
    at: impl AsFd,
    path: impl rustix::path::Arg + Copy,
    audience: Audience,
    force: bool,
) -> Result<(), Errno> {
    match mkdirat(&at, path, Mode::from_raw_mode(0o700)) {
        Ok(()) => {}
        Err(Errno::EXIST) => {
            let st = statat(&at, path, AtFlags::empty())?;
            if !rustix::fs::FileType::from_raw_mode(st.st_mode).is_dir() {
                return Err(Errno::NOTDIR);
            }
            if st.st_uid != rustix::process::getuid().as_raw() {
                return Err(Errno::ACCESS);
            }
            if !force {
                return Ok(());
            }
        }
        Err(e) => return Err(e),
    }
    set_audience(at, path, audience)
}

/// Changes who may listen at a fifodir.
pub fn set_audience(
    at: impl AsFd,
    path: impl rustix::path::Arg + Copy,
    audience: Audience,
) -> Result<(), Errno> {
    let mode = match audience {
        Audience::Public => MODE_PUBLIC,
        Audience::Group(gid) => {
            // Before the mode: changing the group may clear the setgid bit.
            chownat(&at, path, None, Some(Gid::from_raw(gid)), AtFlags::empty())?;
            MODE_GROUP
        }
    };
    chmodat(at, path, Mode::from_raw_mode(mode), AtFlags::empty())
}

/// Sends `bytes` to all listeners of the service directory `dir`. Listeners that are gone are removed. Never
/// blocks, never fails: a listener whose FIFO is full loses the event.
///
/// # Errors
/// Only a lack of descriptors or memory, and then nobody has heard: it may be tried again.
pub fn notify(dir: impl AsFd, bytes: &[u8]) -> Result<(), Errno> {
    match open(dir, DIR) {
        Ok(event) => notify_in(event, bytes),
        Err(e) if is_exhaustion(e) => Err(e),
        Err(_) => Ok(()),
    }
}

fn is_exhaustion(errno: Errno) -> bool {
    matches!(errno, Errno::MFILE | Errno::NFILE | Errno::NOMEM)
}

/// Removes listeners of the service directory `dir` that are gone.
pub fn clean(dir: impl AsFd) {
    if let Ok(event) = open(dir, DIR) {
        clean_in(event);
    }
}

/// Opens a fifodir for its owner, who notifies and cleans.
pub fn open(at: impl AsFd, path: impl rustix::path::Arg) -> Result<OwnedFd, Errno> {
    openat(at, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// As [`notify`], in any fifodir.
pub fn notify_in(fifodir: impl AsFd, bytes: &[u8]) -> Result<(), Errno> {
    let (mut heard, mut exhausted) = (false, None);
    for_each_listener(fifodir, |event, name| {
        let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        match openat(event, name, flags, Mode::empty()) {
            // What only has the name of a listener could be somebody's file.
            Ok(fd) if is_fifo(&fd) => {
                heard = true;
                rustix::io::write(&fd, bytes).err() != Some(Errno::PIPE)
            }
            Ok(_) => true,
            Err(e) => {
                exhausted = exhausted.or(Some(e).filter(|e| is_exhaustion(*e)));
                e != Errno::NXIO
            }
        }
    });
    match exhausted {
        Some(e) if !heard => Err(e),
        _ => Ok(()),
    }
}

/// As [`clean`], in any fifodir.
pub fn clean_in(fifodir: impl AsFd) {
    for_each_listener(fifodir, |event, name| {
        let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        openat(event, name, flags, Mode::empty()).err() != Some(Errno::NXIO)
    });
}

/// Calls `alive` for every listener and removes those for which it says no.
fn for_each_listener(event: impl AsFd, mut alive: impl FnMut(BorrowedFd<'_>, &std::ffi::CStr) -> bool) {
    let mut space = [MaybeUninit::uninit(); 2048];
    let mut entries = RawDir::new(&event, &mut space);
    let mut served = 0;
    while let Some(Ok(entry)) = entries.next() {
        let name = entry.file_name();
        if !is_listener(name.to_bytes()) {
            continue;
        }
        served += 1;
        if served > MOST_LISTENERS {
            return;
        }
        if !alive(event.as_fd(), name) {
            let _ = unlinkat(&event, name, AtFlags::empty());
        }
    }
}

fn is_fifo(fd: impl AsFd) -> bool {
    fstat(fd).is_ok_and(|st| rustix::fs::FileType::from_raw_mode(st.st_mode).is_fifo())
}

/// A FIFO of ours in a service directory's `event`; removed when dropped.
pub struct Listener {
    event: OwnedFd,
    name: String,
    reader: OwnedFd,
    /// Keeps the FIFO from ever reaching its end, and the notifier from taking us for gone.
    writer: OwnedFd,
    /// Another process listens at it now and will remove it.
    left: bool,
}

impl Listener {
    /// Starts listening to the service directory `dir`. What happens from now on is heard; read the status
    /// *after* this.
    pub fn new(dir: impl AsFd) -> Result<Listener, Errno> {
        Listener::at(dir, DIR)
    }

    /// Starts listening to any fifodir.
    pub fn at(at: impl AsFd, fifodir: impl rustix::path::Arg) -> Result<Listener, Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let event = openat(at, fifodir, flags, Mode::empty())?;
        let name = fresh_name();
        let hidden = format!(".{name}");
        // 0622 whatever the umask: a notifier of another uid must be able to write.
        let umask = rustix::process::umask(Mode::empty());
        let made = mknodat(&event, &hidden, rustix::fs::FileType::Fifo, Mode::from_raw_mode(0o622), 0);
        rustix::process::umask(umask);
        made?;
        let open = |flags| openat(&event, &hidden, flags | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty());
        let ready = open(OFlags::RDONLY)
            .and_then(|reader| Ok((reader, open(OFlags::WRONLY)?)))
            .and_then(|fds| renameat(&event, &hidden, &event, &name).map(|()| fds));
        match ready {
            Ok((reader, writer)) => Ok(Listener { event, name, reader, writer, left: false }),
            Err(e) => {
                let _ = unlinkat(&event, &hidden, AtFlags::empty());
                Err(e)
            }
        }
    }

    /// Its descriptors, for a forked child that shall listen in our place.
    pub fn descriptors(&self) -> [BorrowedFd<'_>; 3] {
        [self.event.as_fd(), self.reader.as_fd(), self.writer.as_fd()]
    }

    /// The same listener in that child, which has copies of the descriptors, in the same order.
    pub fn moved(&self, [event, reader, writer]: [OwnedFd; 3]) -> Listener {
        Listener { event, name: self.name.clone(), reader, writer, left: false }
    }

    /// Leaves it to that child.
    pub fn leave(mut self) {
        self.left = true;
    }

    /// Appends what has happened since the last call.
    pub fn read(&self, into: &mut Vec<u8>) {
        let mut buf = [0u8; 512];
        while let Ok(n @ 1..) = rustix::io::read(&self.reader, &mut buf) {
            into.extend_from_slice(&buf[..n]);
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if !self.left {
            let _ = unlinkat(&self.event, &self.name, AtFlags::empty());
        }
    }
}

/// Listens until `enough`, which is told every byte and the number of the listener that heard it, says so.
/// False: `deadline` came first.
pub fn listen(
    listeners: &[Listener],
    deadline: Option<Mono>,
    mut enough: impl FnMut(usize, u8) -> bool,
) -> Result<bool, Errno> {
    let mut bytes = Vec::new();
    loop {
        let left = deadline.map(|at| at.since(clock::mono()));
        let timeout = left
            .map(|d| rustix::time::Timespec { tv_sec: d.as_secs() as i64, tv_nsec: d.subsec_nanos() as _ });
        let mut fds: Vec<PollFd<'_>> =
            listeners.iter().map(|l| PollFd::from_borrowed_fd(l.as_fd(), PollFlags::IN)).collect();
        match poll(&mut fds, timeout.as_ref()) {
            Ok(0) if left == Some(Duration::ZERO) => return Ok(false),
            Ok(_) | Err(Errno::INTR) => {}
            Err(e) => return Err(e),
        }
        for (n, listener) in listeners.iter().enumerate().filter(|(n, _)| !fds[*n].revents().is_empty()) {
            bytes.clear();
            listener.read(&mut bytes);
            if bytes.iter().any(|byte| enough(n, *byte)) {
                return Ok(true);
            }
        }
    }
}

fn fresh_name() -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut random = [0u8; 6];
    if rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::NONBLOCK) != Ok(6) {
        // No entropy yet: the stamp and the pid must do. A clash is an error, not a danger.
        let seed = clock::mono().0 ^ crate::process::Pid::own().raw() as u64;
        random.copy_from_slice(&seed.to_le_bytes()[..6]);
    }
    let mut name = format!("ftrig1:{}:", clock::wall());
    name.extend(random.iter().map(|b| LETTERS[(b % 64) as usize] as char));
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_39_bytes_and_recognised() {
        let name = fresh_name();
        assert!(is_listener(name.as_bytes()), "{name}");
        assert!(!is_listener(format!(".{name}").as_bytes()));
        assert!(!is_listener(&name.as_bytes()[..38]));
    }
}
