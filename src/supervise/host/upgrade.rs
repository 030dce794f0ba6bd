//! Becoming the program that is on disk now, without anybody noticing.
//!
//! All that we know is in the journal, as if we were to be killed; only the connections to us break, and
//! those at their other ends connect again. We execute in place: the pid stays, and children stay ours. If
//! that fails we go on as if nothing had been.

use super::Host;
use crate::diag::{self, Error};
use crate::supervise::{LISTEN_FD, LOCK_FD};
use crate::sys::process;
use crate::sys::spawn::{self, CArray};
use std::ffi::CString;
use std::os::fd::AsFd;

impl Host {
    /// Does what [`Request::Upgrade`](crate::supervise::wire::Request::Upgrade) asks, between two turns:
    /// nothing is half done.
    pub(super) fn upgrade_if_asked(&mut self) {
        if self.untold.retry_at.is_some() {
            // What the keeper does not have yet would be closed for a moment.
            return;
        }
        if std::mem::take(&mut self.upgrading)
            && self.finishing.is_none()
            && let Err(why) = self.become_successor()
        {
            diag::warn(format_args!("unable to upgrade: {why} (going on as before)"));
        }
    }

    fn become_successor(&self) -> Result<std::convert::Infallible, String> {
        if !self.journal.is_kept() {
            return Err("there is no journal to remember anything by".to_owned());
        }
        let (program, name) = process::sibling("supervise").ok_or("its executable is gone")?;
        let words = self.place.words().into_iter().map(|w| CString::new(w).expect("names have no NUL"));
        let argv = CArray::new([name].into_iter().chain(words).collect());
        let listener = self.listener.as_ref().map(|fd| (fd.as_fd(), LISTEN_FD));
        let lock = self.lock.as_ref().map(|fd| (fd.as_fd(), LOCK_FD));
        let fds: Vec<_> = listener.into_iter().chain(lock).collect();
        let e = spawn::exec_with(std::slice::from_ref(&program), &argv, None, &fds);
        Err(Error::unable(format_args!("execute {}", program.to_string_lossy()), e.errno).to_string())
    }
}
