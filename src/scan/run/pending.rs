//! What the scanner was asked and has not seen done: its successor goes on with that.
//!
//! It is in a page that outlives us (`.s6-svscan/pending`), as a supervisor's memory does. The kernel writes the
//! bytes of `.s6-svscan/control` straight into it, and each is crossed out when it has been carried out; one that
//! was carried out just before its scanner was killed is carried out again, which harms nothing. What it comes to
//! takes longer than that: that services are to be pruned, or all is to end, stays noted until the supervisors have
//! heard it.
//!
//! ```text
//! word 0        magic; 1 to 6: of which boot and PID namespace
//!      7        0 nothing is to be pruned, 1 it is, 2 and loggers at once
//!      8        0 nothing ends, 1 it does, 2 and loggers at once
//!     16 to 31  commands
//! ```

use super::DIR;
use crate::scan::control::Command;
use crate::supervise::wire::Finish;
use crate::sys::map::{Shared, read_into};
use crate::sys::{Errno, process};
use rustix::fs::{Mode, OFlags};
use std::os::fd::AsFd;
use std::sync::atomic::Ordering;

const MAGIC: u32 = u32::from_be_bytes(*b"pen\x01");
const PRUNE: usize = 7;
const ENDING: usize = 8;
const COMMANDS: std::ops::Range<usize> = 16..32;
const BYTES: usize = 4096;

/// So many commands are read at a time.
pub(super) const MOST: usize = 64;

/// It.
pub(super) struct Pending(Shared);

impl Pending {
    /// Opens it, or begins a new one. Where there can be none a successor knows less.
    pub(super) fn open() -> Result<Pending, Errno> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = rustix::fs::open(format!("{DIR}/pending"), flags, Mode::from_raw_mode(0o600));
        let page =
            file.and_then(|file| Shared::file(&file, 0, BYTES)).or_else(|_| Shared::anonymous(BYTES))?;
        // What there is may be ours, and cannot be told to be just now.
        let Ok(world) = process::pid_world() else { return Shared::anonymous(BYTES).map(Pending) };
        let origin = [MAGIC].into_iter().chain(world);
        if page.iter().zip(origin.clone()).any(|(word, is)| word.load(Ordering::Relaxed) != is) {
            page.iter().for_each(|word| word.store(0, Ordering::Relaxed));
            page.iter().zip(origin).for_each(|(word, is)| word.store(is, Ordering::Relaxed));
        }
        Ok(Pending(page))
    }

    /// Reads commands, at most [`MOST`], 0 if there are none.
    pub(super) fn read(&self, fifo: impl AsFd) -> usize {
        let cells = &self.0[COMMANDS];
        cells.iter().for_each(|cell| cell.store(0, Ordering::Relaxed));
        read_into(fifo, cells).unwrap_or(0)
    }

    /// Command `index`; 0 is none.
    pub(super) fn command(&self, index: usize) -> u8 {
        self.0[COMMANDS][index / 4].load(Ordering::Relaxed).to_ne_bytes()[index % 4]
    }

    /// It has been carried out.
    pub(super) fn cross_out(&self, index: usize) {
        let cell = &self.0[COMMANDS][index / 4];
        let mut bytes = cell.load(Ordering::Relaxed).to_ne_bytes();
        bytes[index % 4] = 0;
        cell.store(u32::from_ne_bytes(bytes), Ordering::Release);
    }

    /// Nothing is to end.
    pub(super) fn forget_end(&self) {
        self.set_ending(None);
        for index in 0..MOST {
            if matches!(
                Command::try_from(self.command(index)),
                Ok(Command::Stop | Command::StopAll | Command::Abandon)
            ) {
                self.cross_out(index);
            }
        }
    }

    fn get(&self, word: usize) -> u32 {
        self.0[word].load(Ordering::Acquire)
    }

    fn set(&self, word: usize, value: u32) {
        self.0[word].store(value, Ordering::Release);
    }

    /// What is to be pruned: whether loggers go at once.
    pub(super) fn prune(&self) -> Option<bool> {
        self.get(PRUNE).checked_sub(1).map(|all| all > 0)
    }

    /// Something more is to be pruned.
    pub(super) fn add_prune(&self, all: bool) {
        self.set(PRUNE, self.get(PRUNE).max(1 + all as u32));
    }

    /// All supervisors have heard it.
    pub(super) fn pruned(&self) {
        self.set(PRUNE, 0);
    }

    /// How all is to end.
    pub(super) fn ending(&self) -> Option<Finish> {
        match self.get(ENDING) {
            1 => Some(Finish::Stop),
            2 => Some(Finish::StopAll),
            _ => None,
        }
    }

    /// All is to end like this; `None`: it has ended.
    pub(super) fn set_ending(&self, how: Option<Finish>) {
        self.set(
            ENDING,
            match how {
                Some(Finish::Stop) => 1,
                Some(Finish::StopAll) => 2,
                Some(Finish::Abandon) | None => 0,
            },
        );
    }
}
