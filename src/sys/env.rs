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
    value(name.as_bytes()).map(OsStr::from_bytes)
}

/// The same, of a name that may be any bytes.
pub fn value(name: &[u8]) -> Option<&'static [u8]> {
    strings().find_map(|entry| entry.to_bytes().strip_prefix(name)?.strip_prefix(b"="))
}

/// Our environment with changes: `NAME=value` sets, `NAME` alone removes, the empty word removes everything.
/// The order is the one that execline's programs leave.
pub fn changed(changes: &[&[u8]]) -> Vec<CString> {
    let mut strings: Vec<CString> = strings().map(CStr::to_owned).collect();
    for change in changes {
        let name = change.iter().position(|&b| b == b'=').unwrap_or(change.len());
        let is_it = |s: &CString| {
            s.to_bytes().strip_prefix(&change[..name]).is_some_and(|r| r.first() == Some(&b'='))
        };
        if change.is_empty() {
            strings.clear();
        } else if let Some(at) = strings.iter().position(is_it) {
            strings.swap_remove(at);
        }
        if name < change.len() {
            strings.extend(CString::new(*change));
        }
    }
    strings
}

/// Replaces our environment: from here on, what we start inherits this.
pub fn replace(strings: Vec<CString>) {
    let list: &'static [CString] = strings.leak();
    let pointers: Vec<*const c_char> = list.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect();
    // SAFETY: the program has one thread, and the leaked array and strings are never freed or changed.
    unsafe { environ = pointers.leak().as_ptr() };
}
