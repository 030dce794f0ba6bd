//! The client's side of a scan directory: is it scanned, tell the scanner.
//!
//! These speak to s6-svscan as well as to ours.

use super::run::DIR;
use crate::diag::{Error, Result, Unable, code};
use crate::servicedir::client::{control, is_locked};
use rustix::fs::{Access, AtFlags, CWD, accessat};
use std::os::fd::OwnedFd;

const LOCK: &str = ".s6-svscan/lock";

/// A scan directory that a client looks at.
pub struct ScanDir {
    /// As the caller typed it, for messages.
    pub path: String,
    dir: OwnedFd,
}

impl ScanDir {
    /// Opens the directory `path`.
    pub fn open(path: &str) -> Result<ScanDir> {
        let dir = crate::servicedir::open(CWD, path).unable(format_args!("open {path}"))?;
        Ok(ScanDir { path: path.to_owned(), dir })
    }

    /// The directory.
    pub fn dir(&self) -> &OwnedFd {
        &self.dir
    }

    /// Whether a scanner is at work on it.
    pub fn is_scanned(&self) -> Result<bool> {
        is_locked(&self.dir, LOCK).unable(format_args!("check {}/{LOCK}", self.path))
    }

    /// Fails if no scanner is at work on it. One on which none ever was is no scan directory, and a system error,
    /// as in s6.
    pub fn must_be_scanned(&self) -> Result<()> {
        if self.is_scanned()? {
            return Ok(());
        }
        let (code, never) = match accessat(&self.dir, LOCK, Access::EXISTS, AtFlags::empty()) {
            Ok(()) => (code::NO, ""),
            Err(_) => (code::SYSTEM, ", and never was"),
        };
        Err(Error::new(code, format!("svscan is not running on {}{never}", self.path)))
    }

    /// Sends commands to its scanner, all in one write.
    pub fn send(&self, letters: &[u8]) -> Result<()> {
        control(&self.dir, DIR, letters).map_err(|refusal| refusal.explain(&self.path, DIR))
    }
}
