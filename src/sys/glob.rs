//! File name patterns: those of the C library, which both musl and glibc have.

use std::ffi::CStr;

/// What [`paths`] is asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// In order.
    pub sorted: bool,
    /// A slash after directories.
    pub mark: bool,
    /// A backslash is a character like any other.
    pub no_escape: bool,
    /// Give up if a directory cannot be read.
    pub strict: bool,
    /// If nothing matches there is nothing; otherwise the pattern itself.
    pub nothing: bool,
}

/// The paths that match a pattern. `None`: it could not be found out.
pub fn paths(pattern: &CStr, options: Options, complain: bool) -> Option<Vec<Vec<u8>>> {
    let flag = |on: bool, flag| if on { flag } else { 0 };
    let flags = flag(!options.sorted, libc::GLOB_NOSORT)
        | flag(options.mark, libc::GLOB_MARK)
        | flag(options.no_escape, libc::GLOB_NOESCAPE)
        | flag(options.strict, libc::GLOB_ERR)
        | flag(!options.nothing, libc::GLOB_NOCHECK);
    // SAFETY: the structure is plain data that glob fills; room behind it, for the other C library's may be
    // larger than the one that we were compiled for.
    let mut room: (libc::glob_t, [u64; 8]) = unsafe { std::mem::zeroed() };
    // SAFETY: a C string, a structure of ours, and a function of the right type or none.
    let result = unsafe { libc::glob(pattern.as_ptr(), flags, complain.then_some(told as _), &mut room.0) };
    let mut found = Vec::new();
    if result == 0 {
        for i in 0..room.0.gl_pathc {
            // SAFETY: the array has that many C strings.
            found.push(unsafe { CStr::from_ptr(*room.0.gl_pathv.add(i)).to_bytes().to_vec() });
        }
    }
    // SAFETY: glob filled it, or left it zeroed.
    unsafe { libc::globfree(&mut room.0) };
    (result == 0 || result == libc::GLOB_NOMATCH).then_some(found)
}

/// Called for each directory that cannot be read.
extern "C" fn told(path: *const std::ffi::c_char, errno: libc::c_int) -> libc::c_int {
    // SAFETY: glob passes a C string.
    let path = unsafe { CStr::from_ptr(path) }.to_string_lossy();
    crate::diag::warn(crate::diag::Error::unable(
        format_args!("read {path} while globbing"),
        super::Errno::from_raw_os_error(errno),
    ));
    0
}

/// How [`matches`] takes a pattern.
#[derive(Clone, Copy, Debug, Default)]
pub struct Matching {
    /// A backslash is a character like any other.
    pub no_escape: bool,
    /// A slash only matches a slash.
    pub paths: bool,
    /// A leading dot only matches a dot.
    pub dots: bool,
}

/// Whether a shell pattern matches all of `text`. `None`: it is no pattern.
pub fn matches(pattern: &CStr, text: &CStr, how: Matching) -> Option<bool> {
    let flag = |on: bool, flag| if on { flag } else { 0 };
    let flags = flag(how.no_escape, libc::FNM_NOESCAPE)
        | flag(how.paths, libc::FNM_PATHNAME)
        | flag(how.dots, libc::FNM_PERIOD);
    // SAFETY: two C strings, only read.
    match unsafe { libc::fnmatch(pattern.as_ptr(), text.as_ptr(), flags) } {
        0 => Some(true),
        libc::FNM_NOMATCH => Some(false),
        _ => None,
    }
}
