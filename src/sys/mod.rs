//! The only unsafe code and the only raw system calls.
//!
//! # Safety
//!
//! Everything else in the crate is safe Rust over these modules and over `rustix`, which makes most system
//! calls safe by their types. What is left for here is what no library has in the form that a supervisor
//! needs: a child that shares our memory until it executes ([`spawn`]), memory that outlives us ([`map`]),
//! a wait whose result lands in that memory ([`wait`]), signals as descriptors ([`signal`]), locks that
//! belong to a descriptor instead of a process ([`lock`]), datagrams with who sent them ([`datagram`]), descriptors that command lines name by number ([`fd`]),
//! lines found and copied 16 bytes at a time ([`lines`]), and the C library's regular expressions ([`regex`])
//! and calendar ([`clock`]).
//! Every block states the fact that makes it sound.
#![allow(unsafe_code)]

pub mod attributes;
pub mod clock;
pub mod datagram;
pub mod env;
pub mod fd;
pub mod lines;
pub mod lock;
pub mod map;
mod musl;
pub mod notice;
pub mod process;
mod raw;
pub mod regex;
pub mod signal;
pub mod socket;
pub mod spawn;
pub mod start;
pub mod wait;

pub use rustix::io::Errno;

/// The errno that a libc call just left behind.
fn last_errno() -> Errno {
    Errno::from_raw_os_error(std::io::Error::last_os_error().raw_os_error().unwrap_or(0))
}

/// Turns libc's -1 into the errno.
fn check(ret: libc::c_int) -> Result<libc::c_int, Errno> {
    if ret < 0 { Err(last_errno()) } else { Ok(ret) }
}
