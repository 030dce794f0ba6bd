//! Noticing that something came into a directory or went from it.
//!
//! Two ways, for the same events. `F_NOTIFY` (dnotify) sends SIGIO, which arrives where all signals do. With
//! inotify there is a descriptor to read; but closing it makes the kernel wait until nobody can be looking at
//! its watches any more (`fsnotify_wait_marks_destroyed`), 12 to 25 ms on an idle machine: more than all the
//! rest of a container's end. So inotify is for where the other is not to be had: gVisor, `fs.dir-notify-enable`
//! = 0.

use super::{Errno, check};
use crate::process::Signal;
use rustix::fs::{Mode, OFlags, inotify};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// The signal that tells of a change, where no descriptor does.
pub const SIGNAL: Signal = Signal(libc::SIGIO as u8);

/// Holds for as long as it is kept.
pub enum Notice {
    /// [`SIGNAL`] comes.
    Signal {
        /// The directory.
        _dir: OwnedFd,
    },
    /// The descriptor becomes readable.
    Descriptor(OwnedFd),
}

impl Notice {
    /// Of entries that come to, go from or are renamed in the current directory. `None`: neither way works.
    pub fn of_current_directory() -> Option<Notice> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::open(".", flags, Mode::empty()).ok()?;
        match ask_for_signal(&dir) {
            Ok(()) => Some(Notice::Signal { _dir: dir }),
            Err(_) => watch().ok().map(Notice::Descriptor),
        }
    }

    /// What to wait for beside signals.
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Notice::Signal { .. } => None,
            Notice::Descriptor(fd) => Some(fd.as_fd()),
        }
    }

    /// Takes what the descriptor has to tell: that there was something is all that counts.
    pub fn drain(&self) {
        let mut buf = [0u8; 4096];
        while self.descriptor().is_some_and(|fd| rustix::io::read(fd, &mut buf).is_ok_and(|n| n > 0)) {}
    }
}

fn ask_for_signal(dir: &OwnedFd) -> Result<(), Errno> {
    const DN_CREATE: libc::c_long = 4;
    const DN_DELETE: libc::c_long = 8;
    const DN_RENAME: libc::c_long = 16;
    const DN_MULTISHOT: libc::c_long = 0x8000_0000;
    let what = DN_CREATE | DN_DELETE | DN_RENAME | DN_MULTISHOT;
    // SAFETY: F_NOTIFY takes a number and touches no memory of ours.
    check(unsafe { libc::fcntl(dir.as_raw_fd(), libc::F_NOTIFY, what) }).map(drop)
}

fn watch() -> Result<OwnedFd, Errno> {
    let fd = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
    let what = inotify::WatchFlags::CREATE
        | inotify::WatchFlags::DELETE
        | inotify::WatchFlags::MOVED_FROM
        | inotify::WatchFlags::MOVED_TO
        | inotify::WatchFlags::ONLYDIR;
    inotify::add_watch(&fd, ".", what)?;
    Ok(fd)
}
