//! POSIX extended regular expressions: those of the C library, which both musl and glibc have.

use std::ffi::CStr;

/// A compiled expression.
pub struct Regex(Box<Room>);

/// The C library's structure, and room behind it: a program built for one C library may be linked with the
/// other, whose structure could be larger.
#[repr(C)]
struct Room {
    regex: libc::regex_t,
    _spare: [u64; 16],
}

/// Which word of the structure says how many groups the expression has.
#[cfg(any(perennial_musl, target_env = "musl"))]
const COUNT_OF_GROUPS: usize = 0;
#[cfg(not(any(perennial_musl, target_env = "musl")))]
const COUNT_OF_GROUPS: usize = 6;

impl Room {
    fn count_groups(&self) -> usize {
        // SAFETY: both C libraries' structures have a size_t there, and ours is larger than either.
        unsafe { *std::ptr::from_ref(self).cast::<usize>().add(COUNT_OF_GROUPS) }
    }
}

/// What kind of expression it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Kind {
    /// A basic expression.
    pub basic: bool,
    /// Capitals do not matter.
    pub ignore_case: bool,
    /// [`Regex::groups`] will be asked for.
    pub groups: bool,
}

/// The most groups that [`Regex::groups`] tells of.
const MOST_GROUPS: usize = 64;

/// A match as the C library has it: musl counts in longs, glibc in ints.
#[repr(C)]
#[derive(Clone, Copy)]
struct Match {
    start: Offset,
    end: Offset,
}

#[cfg(any(perennial_musl, target_env = "musl"))]
type Offset = libc::c_long;
#[cfg(not(any(perennial_musl, target_env = "musl")))]
type Offset = libc::c_int;

impl Regex {
    /// Compiles an extended expression that only answers whether there is a match.
    pub fn extended(pattern: &CStr) -> Result<Regex, &'static str> {
        Regex::new(pattern, Kind::default())
    }

    /// Compiles an expression.
    pub fn new(pattern: &CStr, kind: Kind) -> Result<Regex, &'static str> {
        // SAFETY: the structure is plain data, which regcomp fills; it stays where it is for its whole life.
        let mut room: Box<Room> = Box::new(unsafe { std::mem::zeroed() });
        let flag = |on: bool, flag| if on { flag } else { 0 };
        let flags = flag(!kind.basic, libc::REG_EXTENDED)
            | flag(kind.ignore_case, libc::REG_ICASE)
            | flag(!kind.groups, libc::REG_NOSUB);
        // SAFETY: the structure is ours to be written, and the pattern is a C string that is only read.
        match unsafe { libc::regcomp(&mut room.regex, pattern.as_ptr(), flags) } {
            0 => Ok(Regex(room)),
            error => Err(describe(error)),
        }
    }

    /// Whether it matches anywhere in `text`.
    pub fn matches(&self, text: &CStr) -> bool {
        // SAFETY: the expression is compiled; with REG_NOSUB no array of matches is written.
        unsafe { libc::regexec(&self.0.regex, text.as_ptr(), 0, std::ptr::null_mut(), 0) == 0 }
    }
}

impl Regex {
    /// What each group of the expression matched in `text`, the whole match first; a group that took no part
    /// is empty. `None`: it does not match.
    pub fn groups<'t>(&self, text: &'t CStr) -> Option<Vec<&'t [u8]>> {
        let mut found = [Match { start: -1, end: -1 }; MOST_GROUPS];
        let wanted = MOST_GROUPS.min(self.0.count_groups() + 1);
        // SAFETY: the expression is compiled, and there is room for as many matches as we say.
        let code =
            unsafe { libc::regexec(&self.0.regex, text.as_ptr(), wanted, found.as_mut_ptr().cast(), 0) };
        let part = |m: &Match| text.to_bytes().get(m.start as usize..m.end as usize).unwrap_or_default();
        (code == 0).then(|| found[..wanted].iter().map(part).collect())
    }
}

impl Drop for Regex {
    fn drop(&mut self) {
        // SAFETY: it was compiled, and nobody uses it after this.
        unsafe { libc::regfree(&mut self.0.regex) };
    }
}

/// Why an expression is none. (`regerror` would bring `printf`, 9 KiB.)
fn describe(error: libc::c_int) -> &'static str {
    match error {
        libc::REG_ECOLLATE => "unknown collating element",
        libc::REG_ECTYPE => "unknown character class",
        libc::REG_EESCAPE => "backslash at the end",
        libc::REG_ESUBREG => "reference to no group",
        libc::REG_EBRACK => "bracket [ without ]",
        libc::REG_EPAREN => "parenthesis ( without )",
        libc::REG_EBRACE => "brace { without }",
        libc::REG_BADBR => "invalid repeat count in braces",
        libc::REG_ERANGE => "invalid range of characters",
        libc::REG_ESPACE => "out of memory",
        libc::REG_BADRPT => "nothing to repeat before an operator",
        _ => "invalid regular expression",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extended_expressions() {
        let regex = Regex::extended(c"^s?(u|U)+$").unwrap();
        for text in [c"u", c"suU", c"UU"] {
            assert!(regex.matches(text), "{text:?}");
        }
        for text in [c"", c"s", c"ud"] {
            assert!(!regex.matches(text), "{text:?}");
        }
        assert!(Regex::extended(c"d").unwrap().matches(c"udu"));
        assert_eq!(Regex::extended(c"a(b").err(), Some("parenthesis ( without )"));
    }
}
