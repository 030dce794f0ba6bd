//! The client's side of a supervised service directory: is it supervised, tell it, read it.
//!
//! These speak to s6-supervise as well as to ours.

use super::event::{self, Listener};
use super::status::Status;
use super::tally::{self, Death};
use crate::diag::{self, Error, Result, Unable, code};
use crate::sys::{Errno, lock};
use rustix::fs::{Access, AtFlags, CWD, Mode, OFlags, accessat, openat};
use std::os::fd::{AsFd, OwnedFd};

/// A service directory that a client looks at.
pub struct Client {
    /// As the caller typed it, for messages.
    pub path: String,
    dir: OwnedFd,
}

impl Client {
    /// Opens the directory `path`.
    pub fn open(path: &str) -> Result<Client> {
        let dir = super::open(CWD, path).unable(format_args!("open {path}"))?;
        Ok(Client { path: path.to_owned(), dir })
    }

    /// Opens the directory `path` if a supervisor is at work on it. One that is not there is not supervised.
    pub fn open_supervised(path: &str) -> Result<Option<Client>> {
        let dir = match super::open(CWD, path) {
            Err(Errno::NOENT) => return Ok(None),
            dir => dir.unable(format_args!("open {path}"))?,
        };
        let client = Client { path: path.to_owned(), dir };
        Ok(client.is_supervised()?.then_some(client))
    }

    /// The directory.
    pub fn dir(&self) -> &OwnedFd {
        &self.dir
    }

    /// Whether a supervisor is at work on it.
    pub fn is_supervised(&self) -> Result<bool> {
        is_supervised(&self.dir).unable(format_args!("check {}/supervise/lock", self.path))
    }

    /// Its status record.
    pub fn status(&self) -> Result<Status> {
        let bytes = super::read_file(&self.dir, "supervise/status")
            .unable(format_args!("read {}/supervise/status", self.path))?;
        Status::unpack(&bytes)
            .ok_or_else(|| Error::unable(format_args!("read {}/supervise/status", self.path), Errno::PROTO))
    }

    /// Its recorded deaths, oldest first. A supervisor that has recorded none need not have the file.
    pub fn tally(&self) -> Result<Vec<Death>> {
        let bytes = match super::read_file(&self.dir, tally::FILE) {
            Err(Errno::NOENT) if accessat(&self.dir, DIR, Access::EXISTS, AtFlags::empty()).is_ok() => {
                Vec::new()
            }
            bytes => bytes.unable(format_args!("read {}/{}", self.path, tally::FILE))?,
        };
        Ok(tally::unpack_all(&bytes))
    }

    /// Forgets its recorded deaths.
    pub fn clear_tally(&self) -> Result<()> {
        let flags = OFlags::CREATE | OFlags::TRUNC;
        let file = super::open_own(&self.dir, tally::FILE, flags, Mode::from_raw_mode(0o666));
        file.map(drop).unable(format_args!("clear {}/{}", self.path, tally::FILE))
    }

    /// Begins to listen to its events. Where there is no fifodir yet, one is made, as s6's clients do: the
    /// supervisor to come will find it.
    pub fn listen(&self) -> Result<Listener> {
        let listener = match Listener::new(&self.dir) {
            Err(Errno::NOENT) => {
                let _ = event::make(&self.dir, event::DIR, event::Audience::own_group(), false);
                Listener::new(&self.dir)
            }
            other => other,
        };
        listener.unable(format_args!("listen to {}/event", self.path))
    }

    /// Sends commands to its supervisor, all in one write. None at all only finds out whether somebody would
    /// read them. That is asked of the control FIFO and not of the lock: while a supervisor that was killed
    /// has no successor yet, its FIFO is kept open, and what is written to it waits there.
    pub fn send(&self, letters: &[u8]) -> Result<()> {
        control(&self.dir, DIR, letters).map_err(|refusal| match refusal {
            Refusal::NobodyListens | Refusal::NeverWas => self.not_supervised(),
            other => other.explain(&self.path, DIR),
        })
    }

    /// The error for a service whose supervisor is not there: its fault if there was one, the caller's if
    /// there never was.
    pub fn not_supervised(&self) -> Error {
        match openat(&self.dir, "supervise", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) {
            Err(Errno::NOENT) => {
                Error::usage(format!("unable to control {}: it is not supervised", self.path))
            }
            _ => Error::new(
                code::NOT_SUPERVISED,
                format!("unable to control {}: supervisor not listening", self.path),
            ),
        }
    }
}

/// The subdirectory of a service directory in which a supervisor is spoken to.
pub const DIR: &str = "supervise";

/// Why commands could not be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is a control FIFO, and nobody reads it.
    NobodyListens,
    /// There is no directory for control: nobody ever was there.
    NeverWas,
    /// The directory for control is not one.
    Odd,
    /// Somebody has the FIFO open and does not read it.
    Full,
    /// The system refused.
    System(Errno),
}

impl Refusal {
    /// The error for this, having wanted to control `path`, whose directory for control is `subdir`.
    pub fn explain(self, path: &str, subdir: &str) -> Error {
        let (code, reason) = match self {
            Refusal::NobodyListens | Refusal::NeverWas => {
                (code::USAGE, "supervisor not listening".to_owned())
            }
            Refusal::Odd => (code::USAGE, format!("its {subdir} directory is not one of a supervisor")),
            Refusal::Full => {
                (code::SYSTEM, "its supervisor does not read commands (is it stopped?)".to_owned())
            }
            Refusal::System(errno) => (code::SYSTEM, diag::reason(errno).to_owned()),
        };
        Error::new(code, format!("unable to control {path}: {reason}"))
    }
}

/// Sends commands through `subdir/control` of `dir`, all in one write.
pub fn control(dir: impl AsFd, subdir: &str, letters: &[u8]) -> std::result::Result<(), Refusal> {
    let control = match open_control(&dir, subdir) {
        Ok(control) => control,
        Err(Errno::NXIO) => return Err(Refusal::NobodyListens),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::ISDIR) => {
            return match openat(&dir, subdir, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) {
                Err(Errno::NOENT) => Err(Refusal::NeverWas),
                _ => Err(Refusal::Odd),
            };
        }
        Err(e) => return Err(Refusal::System(e)),
    };
    match rustix::io::write(&control, letters) {
        Ok(n) if n == letters.len() => Ok(()),
        Ok(_) | Err(Errno::AGAIN) => Err(Refusal::Full),
        Err(Errno::PIPE) => Err(Refusal::NobodyListens),
        Err(e) => Err(Refusal::System(e)),
    }
}

/// Whether a supervisor holds the lock of the service directory `dir`.
pub fn is_supervised(dir: impl AsFd) -> std::result::Result<bool, Errno> {
    is_locked(dir, "supervise/lock")
}

/// Whether somebody holds the lock `path` (relative to `dir`). One that is not there is held by nobody.
pub fn is_locked(dir: impl AsFd, path: &str) -> std::result::Result<bool, Errno> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    match openat(dir, path, flags, Mode::empty()) {
        Ok(file) => lock::is_locked(&file),
        Err(Errno::NOENT) => Ok(false),
        Err(e) => Err(e),
    }
}

/// Opens a control FIFO for writing. `Err(NXIO)` if nobody reads it.
fn open_control(dir: impl AsFd, subdir: &str) -> std::result::Result<OwnedFd, Errno> {
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let fd = openat(dir, format!("{subdir}/control"), flags, Mode::empty())?;
    let kind = rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode);
    if kind.is_fifo() { Ok(fd) } else { Err(Errno::NOTDIR) }
}
