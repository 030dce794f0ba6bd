//! Two symbols that the gnu target's standard library refers to and musl does not have (`cargo ship`).
#![cfg(perennial_musl)]

use std::ffi::{c_char, c_int, c_void};

/// The oldest glibc that Rust supports: the standard library then takes no newer function for granted.
// SAFETY: no other definition exists, musl has no such symbol; the signature is glibc's.
#[unsafe(no_mangle)]
extern "C" fn gnu_get_libc_version() -> *const c_char {
    c"2.17".as_ptr()
}

/// "Nothing found". Only unwinding asks, and a panic aborts.
// SAFETY: no other definition exists, musl has no such symbol; the signature is glibc's.
#[unsafe(no_mangle)]
extern "C" fn _dl_find_object(_address: *mut c_void, _result: *mut c_void) -> c_int {
    -1
}
