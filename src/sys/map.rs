//! Memory that outlives the process: a file mapped shared, seen as atomic words.
//!
//! What is stored here is in the page cache the moment it is stored; `kill -9` cannot take it back. Words
//! are 32 bits because the kernel writes pids into them ([`super::spawn`]) and `siginfo` over them
//! ([`super::wait`]).

use super::Errno;
use rustix::fs::{FallocateFlags, fallocate, ftruncate};
use rustix::mm::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};
use std::ffi::c_void;
use std::ops::Deref;
use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU32;

/// A mapping of whole pages. Dereferences to its words.
pub struct Shared {
    start: NonNull<c_void>,
    bytes: usize,
}

impl Shared {
    /// Maps `bytes` of `file` from `offset`; both multiples of 4096. The room is reserved first, so that a
    /// full disk is an error here and not a SIGBUS later.
    pub fn file(file: impl AsFd, offset: u64, bytes: usize) -> Result<Shared, Errno> {
        match fallocate(&file, FallocateFlags::empty(), offset, bytes as u64) {
            Err(Errno::OPNOTSUPP) => ftruncate(&file, offset + bytes as u64)?,
            other => other?,
        }
        // SAFETY: a new mapping at an address the kernel chooses aliases nothing of ours, and all access
        // goes through atomics, so that other processes may write to it at any time.
        let start = unsafe {
            mmap(
                std::ptr::null_mut(),
                bytes,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                file.as_fd(),
                offset,
            )?
        };
        Ok(Shared { start: NonNull::new(start).ok_or(Errno::NOMEM)?, bytes })
    }

    /// Memory of the same form that does not outlive us, for when there is no file to be had.
    pub fn anonymous(bytes: usize) -> Result<Shared, Errno> {
        // SAFETY: as above; nothing is mapped over.
        let start = unsafe {
            mmap_anonymous(
                std::ptr::null_mut(),
                bytes,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE,
            )?
        };
        Ok(Shared { start: NonNull::new(start).ok_or(Errno::NOMEM)?, bytes })
    }
}

impl Deref for Shared {
    type Target = [AtomicU32];
    fn deref(&self) -> &[AtomicU32] {
        // SAFETY: the mapping is page aligned, `bytes` long, readable and writable until drop, and an
        // AtomicU32 may be looked at through any number of shared references.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr().cast(), self.bytes / 4) }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: exactly what was mapped; the slices handed out borrow self and are gone.
        let _ = unsafe { munmap(self.start.as_ptr(), self.bytes) };
    }
}

/// Reads from `fd` straight into words of shared memory, as bytes: what is taken out of a FIFO is then
/// nowhere but in the FIFO or in here, even if we are killed in the middle.
pub fn read_into(fd: impl AsFd, words: &[AtomicU32]) -> Result<usize, Errno> {
    use std::os::fd::AsRawFd;
    let bytes = words.len() * 4;
    // SAFETY: atomics may be written through a shared reference; only the kernel writes, for the duration
    // of this call, and at most as many bytes as there are.
    let n = unsafe { libc::read(fd.as_fd().as_raw_fd(), words.as_ptr().cast_mut().cast(), bytes) };
    usize::try_from(n).map_err(|_| super::last_errno())
}
