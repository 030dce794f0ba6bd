//! A service directory: what its author says, and the formats in it that everybody speaks.
//!
//! | here | there |
//! |---|---|
//! | [`definition`] | `run`, `finish`, `down`, `notification-fd`, `timeout-kill` … |
//! | [`feature`] | those of them that are ours: `user`, `limits` … |
//! | [`account`], [`environment`] | what `user`, `env` and `env-file` name |
//! | [`status`] | `supervise/status` |
//! | [`control`] | `supervise/control` |
//! | [`tally`] | `supervise/death_tally` |
//! | [`event`] | `event/` |
//! | [`perms`] | who may read, control and listen |
//! | [`state`] | `supervise/state`, what s6 has no field for |
//! | [`client`] | is it supervised, tell it, read it |
//! | [`watch`] | wait until it is as wanted |
//! | [`prepare`] | making `supervise/` and `event/` |
//!
//! All of it is s6's, byte for byte, except `supervise/state` and what [`feature`] lists.

pub mod account;
pub mod client;
pub mod control;
pub mod definition;
pub mod diagnose;
pub mod environment;
pub mod event;
pub mod feature;
pub mod perms;
pub mod state;
pub mod status;
pub mod tally;
pub mod watch;

use crate::servicedir::status::Status;
use crate::sys::Errno;
use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, RenameFlags, chmodat, chownat, fstat, mkdirat, mknodat, openat,
    readlinkat, renameat, renameat_with, unlinkat,
};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// Opens a service directory for use as the base of paths. It stays the same directory when it is renamed.
pub fn open(at: impl AsFd, path: impl rustix::path::Arg) -> Result<OwnedFd, Errno> {
    openat(at, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// Makes what supervision needs in the service directory `dir`, as far as it is not there: `event/`,
/// `supervise/`, `supervise/control`. Where `event` or `supervise` is a link to a place that does not exist
/// yet, that place is made (so that service directories can be read-only). Whatever the umask, modes are
/// s6's. Returns whether all of it is new.
pub fn prepare(dir: impl AsFd) -> Result<bool, Errno> {
    if !umask_takes_from_owner() {
        return prepare_unmasked(dir);
    }
    let umask = rustix::process::umask(Mode::empty());
    let done = prepare_unmasked(dir);
    rustix::process::umask(umask);
    done
}

/// Modes that give nothing to group and others are what is asked for under any ordinary umask.
fn umask_takes_from_owner() -> bool {
    static TAKES: OnceLock<bool> = OnceLock::new();
    *TAKES.get_or_init(|| {
        let umask = rustix::process::umask(Mode::empty());
        rustix::process::umask(umask);
        umask.intersects(Mode::RWXU)
    })
}

fn prepare_unmasked(dir: impl AsFd) -> Result<bool, Errno> {
    // `supervise` first: it is never there without `event` unless somebody was killed between the two, and
    // then `event` is made now.
    let supervise = make_dir(&dir, "supervise", 0o700)?;
    let event = make_dir(&dir, event::DIR, 0o700)?;
    if event {
        if fstat(&dir)?.st_gid != rustix::process::getegid().as_raw() {
            let _ = chownat(&dir, event::DIR, None, Some(rustix::process::getegid()), AtFlags::empty());
        }
        chmodat(&dir, event::DIR, Mode::from_raw_mode(event::MODE_GROUP), AtFlags::empty())?;
    }
    // Before anybody can take the service for supervised.
    let _ = begin_status(&dir);
    match mknodat(&dir, "supervise/control", FileType::Fifo, Mode::from_raw_mode(0o600), 0) {
        Ok(()) => Ok(supervise && event),
        Err(Errno::EXIST) => Ok(false),
        Err(e) => Err(e),
    }
}

/// `supervise/status`.
pub const STATUS: &str = "supervise/status";

/// Makes a first `supervise/status` where there is none. `Err(NOENT)`: there is no `supervise`.
pub fn begin_status(dir: impl AsFd) -> Result<(), Errno> {
    let file = open_own(&dir, STATUS, OFlags::CREATE | OFlags::EXCL, Mode::from_raw_mode(0o644))?;
    rustix::io::write(&file, &first_status(dir).pack()).map(drop)
}

/// The status of a service whose supervision begins: nothing has been started.
pub fn first_status(dir: impl AsFd) -> Status {
    let down = rustix::fs::accessat(dir, "down", rustix::fs::Access::EXISTS, AtFlags::empty());
    let stamp = crate::sys::clock::now().wall;
    let nothing = Status { stamp, ready_stamp: stamp, paused: true, ready: true, ..Status::default() };
    Status { want_up: down.is_err(), ..nothing }
}

/// Makes a directory, or the one that a dangling link points to. False: it was there.
fn make_dir(dir: impl AsFd, name: &str, mode: u32) -> Result<bool, Errno> {
    match mkdirat(&dir, name, Mode::from_raw_mode(mode)) {
        Err(Errno::EXIST) => {}
        other => return other.map(|()| true),
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match openat(&dir, name, flags, Mode::empty()) {
        Ok(_) => Ok(false),
        Err(Errno::NOENT) => {
            let target = readlinkat(&dir, name, Vec::new())?;
            mkdirat(&dir, target, Mode::from_raw_mode(mode)).map(|()| true)
        }
        Err(e) => Err(e),
    }
}

/// Replaces a file of `dir` whole: readers see the old bytes or the new ones. Not synced to disk: it
/// describes processes, which do not outlive the machine either.
pub fn replace(dir: impl AsFd, name: &str, temporary: &str, bytes: &[u8]) -> Result<(), Errno> {
    replace_with_mode(dir, name, temporary, bytes, None)
}

/// The same, for a file that is to have this mode whatever the umask.
pub fn replace_with_mode(
    dir: impl AsFd,
    name: impl rustix::path::Arg,
    temporary: &str,
    bytes: &[u8],
    mode: Option<Mode>,
) -> Result<(), Errno> {
    let done = write_file(&dir, temporary, bytes, mode).and_then(|()| renameat(&dir, temporary, &dir, name));
    if done.is_err() {
        let _ = unlinkat(&dir, temporary, AtFlags::empty());
    }
    done
}

/// The same for what is replaced often: the two files change places, and the older one is written over the next
/// time. Where a file is renamed over another one, ext4 writes it to the disk at once (`auto_da_alloc`), which takes
/// a hundred microseconds and more.
pub fn exchange(dir: impl AsFd, name: &str, temporary: &str, bytes: &[u8]) -> Result<(), Errno> {
    static CANNOT: AtomicBool = AtomicBool::new(false);
    let written = write_over(&dir, temporary, bytes);
    if written.is_ok() && !CANNOT.load(Ordering::Relaxed) {
        match renameat_with(&dir, temporary, &dir, name, RenameFlags::EXCHANGE) {
            Ok(()) => return Ok(()),
            // Not every file system can, and not every sandbox lets us.
            Err(Errno::INVAL | Errno::NOSYS | Errno::PERM) => CANNOT.store(true, Ordering::Relaxed),
            Err(_) => {}
        }
    }
    let done = written.and_then(|()| renameat(&dir, temporary, &dir, name));
    if done.is_err() {
        let _ = unlinkat(&dir, temporary, AtFlags::empty());
    }
    done
}

/// Opens a file of ours for writing. A link in its place leads to what is somebody else's, and gives way.
pub fn open_own(dir: impl AsFd, name: &str, flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    match openat(&dir, name, flags, mode) {
        Err(Errno::LOOP) => {
            unlinkat(&dir, name, AtFlags::empty())?;
            openat(dir, name, flags, mode)
        }
        file => file,
    }
}

fn write_file(dir: impl AsFd, name: &str, bytes: &[u8], mode: Option<Mode>) -> Result<(), Errno> {
    let flags = OFlags::CREATE | OFlags::TRUNC;
    let file = open_own(&dir, name, flags, mode.unwrap_or(Mode::from_raw_mode(0o666)))?;
    if let Some(mode) = mode {
        rustix::fs::fchmod(&file, mode)?;
    }
    write_all(&file, bytes)
}

/// Writes a file that nobody reads, without emptying it first: ext4 writes a file that was emptied to the disk when
/// it is closed.
fn write_over(dir: impl AsFd, name: &str, bytes: &[u8]) -> Result<(), Errno> {
    let file = open_own(dir, name, OFlags::CREATE, Mode::from_raw_mode(0o666))?;
    write_all(&file, bytes)?;
    match fstat(&file)?.st_size as usize > bytes.len() {
        true => rustix::fs::ftruncate(&file, bytes.len() as u64),
        false => Ok(()),
    }
}

fn write_all(file: &OwnedFd, bytes: &[u8]) -> Result<(), Errno> {
    let mut left = bytes;
    while !left.is_empty() {
        match rustix::io::write(file, left) {
            Ok(n) => left = &left[n..],
            Err(Errno::INTR) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Reads a small file whole.
pub fn read_file(dir: impl AsFd, name: impl rustix::path::Arg) -> Result<Vec<u8>, Errno> {
    read_until(dir, name, 0)
}

/// The same with one system call less, for a file that is one on a disk: what gives less than it is asked for is at
/// its end. (In /proc that need not be so.)
pub fn read_on_disk(dir: impl AsFd, name: impl rustix::path::Arg) -> Result<Vec<u8>, Errno> {
    read_until(dir, name, READ_BYTES - 1)
}

const READ_BYTES: usize = 4096;

/// Reads until a read gives `least` bytes or less.
fn read_until(dir: impl AsFd, name: impl rustix::path::Arg, least: usize) -> Result<Vec<u8>, Errno> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = openat(dir, name, flags, Mode::empty())?;
    let mut bytes = Vec::new();
    let mut buf = [0u8; READ_BYTES];
    loop {
        match rustix::io::read(&file, &mut buf) {
            Ok(n) => {
                bytes.extend_from_slice(&buf[..n]);
                if n <= least {
                    return Ok(bytes);
                }
            }
            Err(Errno::INTR) => {}
            Err(e) => return Err(e),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn exchanged_files_are_whole_whatever_was_there() {
        let path = std::env::temp_dir().join(format!("perennial-exchange-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        let dir = open(rustix::fs::CWD, &path).unwrap();
        for text in ["first", "the second is longer", "third", "", "4", "the fifth is longer again"] {
            exchange(&dir, "file", "file.new", text.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(path.join("file")).unwrap(), text);
        }
        fs::write(path.join("other"), "other").unwrap();
        fs::remove_file(path.join("file.new")).unwrap();
        std::os::unix::fs::symlink("other", path.join("file.new")).unwrap();
        exchange(&dir, "file", "file.new", b"sixth").unwrap();
        assert_eq!(fs::read_to_string(path.join("file")).unwrap(), "sixth");
        assert_eq!(fs::read_to_string(path.join("other")).unwrap(), "other");
        fs::remove_dir_all(&path).unwrap();
    }
}
