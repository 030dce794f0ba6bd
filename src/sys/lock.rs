//! Whole-file write locks that s6's clients can see.
//!
//! s6 tests a supervisor with `fcntl(F_GETLK)`, so `flock(2)` will not do; and a POSIX lock is lost when the
//! process closes *any* descriptor of the file. Open file description locks are seen by `F_GETLK`, conflict
//! with POSIX locks, and live exactly as long as the descriptor.

use super::{Errno, check};
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

fn whole_file(kind: libc::c_int) -> libc::flock {
    // SAFETY: flock is plain data and all zeroes is "from the start, to the end, pid 0", as OFD locks want.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = kind as libc::c_short;
    lock.l_whence = libc::SEEK_SET as libc::c_short;
    lock
}

/// Takes the write lock if nobody else has it. `fd` must be open for writing.
pub fn try_lock(fd: impl AsFd) -> Result<bool, Errno> {
    let lock = whole_file(libc::F_WRLCK);
    // SAFETY: the descriptor is borrowed for the call and the kernel only reads the structure.
    match check(unsafe { libc::fcntl(fd.as_fd().as_raw_fd(), libc::F_OFD_SETLK, &lock) }) {
        Ok(_) => Ok(true),
        Err(Errno::AGAIN | Errno::ACCESS) => Ok(false),
        Err(e) => Err(e),
    }
}

/// As [`try_lock`], for somebody whose predecessor is dead: a child that it was just making may still share its
/// descriptors, for the moment until it executes.
pub fn take_over(fd: impl AsFd) -> Result<bool, Errno> {
    let give_up = Instant::now() + Duration::from_secs(2);
    loop {
        let taken = try_lock(&fd)?;
        if taken || Instant::now() > give_up {
            return Ok(taken);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Whether somebody holds a write lock, of either kind. `fd` must be open for reading.
pub fn is_locked(fd: impl AsFd) -> Result<bool, Errno> {
    let mut lock = whole_file(libc::F_RDLCK);
    // SAFETY: the descriptor is borrowed for the call and the structure is ours to be written.
    check(unsafe { libc::fcntl(fd.as_fd().as_raw_fd(), libc::F_GETLK, &mut lock) })?;
    Ok(lock.l_type != libc::F_UNLCK as libc::c_short)
}

/// Takes a lock that belongs to this process, which keeps it through exec and does not share it with children.
/// False: somebody else has it, and we do not wait for them.
pub fn lock_as_process(fd: std::os::fd::RawFd, exclusive: bool, wait: bool) -> Result<bool, Errno> {
    let lock = whole_file(if exclusive { libc::F_WRLCK } else { libc::F_RDLCK });
    let way = if wait { libc::F_SETLKW } else { libc::F_SETLK };
    // SAFETY: the kernel only reads the structure.
    match check(unsafe { libc::fcntl(fd, way, &lock) }) {
        Ok(_) => Ok(true),
        Err(Errno::AGAIN | Errno::ACCESS) => Ok(false),
        Err(e) => Err(e),
    }
}

/// Takes the write lock; waits as long as somebody else has it.
pub fn wait_lock(fd: impl AsFd) -> Result<(), Errno> {
    let lock = whole_file(libc::F_WRLCK);
    // SAFETY: the descriptor is borrowed for the call and the kernel only reads the structure.
    check(unsafe { libc::fcntl(fd.as_fd().as_raw_fd(), libc::F_OFD_SETLKW, &lock) }).map(drop)
}
