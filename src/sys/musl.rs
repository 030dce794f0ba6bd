//! What the gnu target's standard library refers to and musl does not have, or should not bring (`cargo ship`).
#![cfg(perennial_musl)]

use std::ffi::{c_char, c_int, c_void};

/// The oldest glibc that Rust supports: the standard library then takes no newer function for granted.
// SAFETY: no other definition exists, musl has no such symbol; the signature is glibc's.
#[unsafe(no_mangle)]
extern "C" fn gnu_get_libc_version() -> *const c_char {
    c"2.17".as_ptr()
}

/// A walk up the stack that ends at once: without symbols a backtrace would say nothing. As the callback is never
/// called, the standard library's printer of backtraces, a fifth of the file, is reached by nothing and left out.
// SAFETY: it takes the place of libgcc's function (the linker looks there only for what is missing), with its
// signature; 5 is _URC_END_OF_STACK.
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Backtrace(_callback: *const c_void, _argument: *mut c_void) -> c_int {
    5
}

/// The rest of what is asked of libgcc's unwinder, so that it is not linked: the accessors of a frame, of which
/// there is none, as a panic aborts.
macro_rules! never_called {
    ($($name:ident)*) => {$(
        // SAFETY: as above; nothing calls it.
        #[unsafe(no_mangle)]
        extern "C" fn $name() -> usize {
            0
        }
    )*};
}

never_called! {
    _Unwind_GetIP _Unwind_GetIPInfo _Unwind_GetLanguageSpecificData _Unwind_GetRegionStart _Unwind_GetTextRelBase
    _Unwind_GetDataRelBase _Unwind_SetGR _Unwind_SetIP _Unwind_Resume
}
