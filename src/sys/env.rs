//! The environment as the kernel handed it over, byte for byte.
//!
//! `std::env` would copy it into strings; a program that only passes it on need not.

use std::ffi::{CStr, CString, OsStr, c_char};
use std::os::unix::ffi::OsStrExt;

unsafe extern "C" {
    static mut environ: *const *const c_char;
}

/// Our environment, for passing it on as it is. Only [`replace`] changes it, as a whole.
pub(super) fn raw() -> *const *const c_char {
    // SAFETY: libc set it before main; a single-threaded program that calls no setenv only ever reads it.
    unsafe { environ }
}

/// The strings of our environment, `NAME=value` as a rule.
pub fn strings() -> impl Iterator<Item = &'static CStr> {
    let mut at = raw();
    std::iter::from_fn(move || {
        // SAFETY: the array ends with a null pointer, which stops us; each entry is a C string that lives
        // as long as the process.
        unsafe {
            if at.is_null() || (*at).is_null() {
                return None;
            }
            let entry = CStr::from_ptr(*at);
            at = at.add(1);
            Some(entry)
        }
    })
}

/// The value of one variable.
pub fn get(name: &str) -> Option<&'static OsStr> {
    strings().find_map(|entry| {
        let rest = entry.to_bytes().strip_prefix(name.as_bytes())?;
        Some(OsStr::from_bytes(rest.strip_prefix(b"=")?))
    })
}

/// Replaces our environment: from here on, what we start inherits this.
pub fn replace(strings: Vec<CString>) {
    let list: &'static [CString] = strings.leak();
    let pointers: Vec<*const c_char> = list.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect();
    // SAFETY: the program has one thread, and the leaked array and strings are never freed or changed.
    unsafe { environ = pointers.leak().as_ptr() };
}
