//! Descriptors by number: what redirections on a command line are about. Nothing in Rust owns them.

use super::{Errno, check};
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};

/// Where copies that we keep for ourselves are put: above the numbers that command lines speak of most.
const ASIDE: RawFd = 10;

/// Makes `to` a copy of `from`, inherited by what we execute. They must differ.
pub fn copy(from: RawFd, to: RawFd) -> Result<(), Errno> {
    // SAFETY: dup2 touches no memory; the caller means these numbers, which have no owner in Rust.
    check(unsafe { libc::dup2(from, to) }).map(drop)
}

/// As [`copy`], and closes `from`. If they are the same it only becomes inherited.
pub fn rename(from: RawFd, to: RawFd) -> Result<(), Errno> {
    if from == to {
        // SAFETY: only a flag is cleared.
        return check(unsafe { libc::fcntl(to, libc::F_SETFD, 0) }).map(drop);
    }
    copy(from, to)?;
    close(from);
    Ok(())
}

/// Closes a number; it does not matter whether it was open.
pub fn close(fd: RawFd) {
    // SAFETY: numbers that command lines speak of have no owner in Rust.
    unsafe { libc::close(fd) };
}

/// A copy that is not inherited.
pub fn aside(fd: RawFd) -> Result<OwnedFd, Errno> {
    // SAFETY: F_DUPFD only reads the table; the copy has no other owner.
    unsafe { Ok(OwnedFd::from_raw_fd(check(libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, ASIDE))?)) }
}

/// A pipe, reading and writing end, whose numbers are out of the way even if standard input is closed.
pub fn pipe() -> Result<[OwnedFd; 2], Errno> {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    Ok([aside(read.as_raw_fd())?, aside(write.as_raw_fd())?])
}

/// Gives a descriptor of ours the number `to`, for whoever comes after us.
pub fn hand_over(fd: OwnedFd, to: RawFd) -> Result<(), Errno> {
    rename(fd.into_raw_fd(), to)
}

/// Takes or gives the flag that makes reads and writes fail instead of waiting.
pub fn set_nonblocking(fd: RawFd, on: bool) -> Result<(), Errno> {
    // SAFETY: only flags are read and written.
    unsafe {
        let flags = check(libc::fcntl(fd, libc::F_GETFL))?;
        let flags = if on { flags | libc::O_NONBLOCK } else { flags & !libc::O_NONBLOCK };
        check(libc::fcntl(fd, libc::F_SETFL, flags)).map(drop)
    }
}

/// Opens a path with these flags of open(2), inherited. New files have mode 0666 less the umask.
pub fn open(path: &std::ffi::CStr, flags: i32) -> Result<RawFd, Errno> {
    // SAFETY: a C string and integers.
    check(unsafe { libc::open(path.as_ptr(), flags, 0o666) })
}

/// Reads what there is, at most `buffer`. 0 is the end.
pub fn read(fd: RawFd, buffer: &mut [u8]) -> Result<usize, Errno> {
    loop {
        // SAFETY: the kernel writes at most the length of the buffer.
        let got = unsafe { libc::read(fd, buffer.as_mut_ptr().cast(), buffer.len()) };
        match usize::try_from(got) {
            Ok(n) => return Ok(n),
            Err(_) if super::last_errno() == Errno::INTR => {}
            Err(_) => return Err(super::last_errno()),
        }
    }
}

/// Reads to the end.
pub fn read_all(fd: RawFd) -> Result<Vec<u8>, Errno> {
    let (mut all, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        match read(fd, &mut buffer)? {
            0 => return Ok(all),
            n => all.extend_from_slice(&buffer[..n]),
        }
    }
}

/// Writes until nothing is left or it fails; says how much of it was written.
pub fn write(fd: RawFd, bytes: &[u8]) -> Result<(), (usize, Errno)> {
    let mut done = 0;
    while done < bytes.len() {
        // SAFETY: the kernel reads at most the length of the rest.
        let got = unsafe { libc::write(fd, bytes[done..].as_ptr().cast(), bytes.len() - done) };
        match usize::try_from(got) {
            Ok(n) => done += n,
            Err(_) if super::last_errno() == Errno::INTR => {}
            Err(_) => return Err((done, super::last_errno())),
        }
    }
    Ok(())
}

/// Whether it is a terminal.
pub fn is_terminal(fd: RawFd) -> bool {
    // SAFETY: isatty only asks.
    unsafe { libc::isatty(fd) == 1 }
}
