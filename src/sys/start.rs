//! The way into a program without the Rust runtime.
//!
//! Before `main` the runtime probes the stack (with musl by some thirty system calls), sets up a second one
//! for a handler of stack overflows, and ignores SIGPIPE, which what we execute would then inherit. A
//! program that is started by the thousand and passes on what it was given needs none of it.

use std::ffi::{CStr, OsStr, OsString, c_char, c_int};
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicU8, Ordering};

/// Defines `main` as a call of this function with all arguments, the name first; what it returns is the exit
/// code. For the file of an executable, with `#![no_main]`.
#[macro_export]
macro_rules! entry {
    ($function:path) => {
        // SAFETY: an executable has one `main`, and this is its C signature.
        #[allow(unsafe_code)]
        #[unsafe(no_mangle)]
        extern "C" fn main(argc: std::ffi::c_int, argv: *const *const std::ffi::c_char) -> std::ffi::c_int {
            // SAFETY: these are the arguments of `main`.
            let arguments = unsafe { $crate::sys::start::arguments(argc, argv) };
            std::ffi::c_int::from($function(arguments))
        }
    };
}

/// The arguments of `main` as strings of ours. Sees to it that descriptors 0 to 2 are open: what we open
/// must not be taken for standard output.
///
/// # Safety
/// Only with what `main` was called with.
pub unsafe fn arguments(argc: c_int, argv: *const *const c_char) -> Vec<OsString> {
    open_standard_descriptors();
    // SAFETY: `argv` is an array of `argc` C strings that live as long as the process.
    let one = |i| unsafe { CStr::from_ptr(*argv.add(i)) };
    (0..usize::try_from(argc).unwrap_or(0)).map(|i| OsStr::from_bytes(one(i).to_bytes()).to_owned()).collect()
}

fn open_standard_descriptors() {
    let mut fds = [0, 1, 2].map(|fd| libc::pollfd { fd, events: 0, revents: 0 });
    // SAFETY: an array of three, and its length.
    if unsafe { libc::poll(fds.as_mut_ptr(), 3, 0) } <= 0 {
        return;
    }
    for _ in fds.iter().filter(|fd| fd.revents & libc::POLLNVAL != 0) {
        // SAFETY: opening touches nothing that is open; it takes the lowest number that is not.
        let fd = unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR) };
        OPENED.fetch_or(1 << fd.clamp(0, 3), Ordering::Relaxed);
    }
}

/// Which of the three were opened here.
static OPENED: AtomicU8 = AtomicU8::new(0);

/// Closes again what [`arguments`] opened: for a program that is to pass on exactly what it was given, and
/// sees for itself to where its descriptors are.
pub fn close_what_was_opened() {
    for fd in 0..3 {
        if OPENED.load(Ordering::Relaxed) & 1 << fd != 0 {
            super::fd::close(fd);
        }
    }
    OPENED.store(0, Ordering::Relaxed);
}
