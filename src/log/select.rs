//! Which lines: extended regular expressions, and a short way for those that need none.
//!
//! The expressions are the C library's ([`crate::sys::regex`]), compiled once; in the C locale, where every byte
//! is a character. musl's matcher (TRE) takes 10 to 30 ns for each byte of a line, 1 to 3 µs for 100 bytes; so
//! an expression that is only text, `-^debug: ` say, as most are, is compared as text (5 to 30 ns).
//!
//! The C library's functions end at a NUL. A NUL in a line is shown to them as the byte 1.

use crate::sys::regex::Regex;
use std::ffi::{CStr, CString};

/// A compiled expression.
pub struct Matcher(Kind);

enum Kind {
    Text { text: Vec<u8>, begins: bool, ends: bool },
    Regex(Regex),
}

impl std::fmt::Debug for Matcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if matches!(self.0, Kind::Regex(_)) { "Regex" } else { "Text" })
    }
}

impl Matcher {
    /// Compiles an extended regular expression.
    pub fn new(pattern: &[u8]) -> Result<Matcher, &'static str> {
        if let Some(text) = plain(pattern) {
            return Ok(Matcher(text));
        }
        let pattern = CString::new(pattern).map_err(|_| "it contains NUL")?;
        Ok(Matcher(Kind::Regex(Regex::extended(&pattern)?)))
    }

    /// Whether `line` matches. `scratch` is room to work in.
    pub fn matches(&self, line: &[u8], scratch: &mut Vec<u8>) -> bool {
        match &self.0 {
            Kind::Text { text, begins: true, ends: true } => line == text,
            Kind::Text { text, begins: true, .. } => line.starts_with(text),
            Kind::Text { text, ends: true, .. } => line.ends_with(text),
            Kind::Text { text, .. } => contains(line, text),
            Kind::Regex(regex) => {
                scratch.clear();
                scratch.extend(line.iter().map(|&b| b.max(1)));
                scratch.push(0);
                CStr::from_bytes_with_nul(scratch).is_ok_and(|text| regex.matches(text))
            }
        }
    }
}

/// The expression as text, if it is no more than that.
fn plain(pattern: &[u8]) -> Option<Kind> {
    let (begins, rest) = match pattern.strip_prefix(b"^") {
        Some(rest) => (true, rest),
        None => (false, pattern),
    };
    let mut text = Vec::with_capacity(rest.len());
    let mut bytes = rest.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        match byte {
            b'$' if bytes.peek().is_none() => return Some(Kind::Text { text, begins, ends: true }),
            // Before a letter or a digit a backslash may mean something else.
            b'\\' => {
                text.push(bytes.next().filter(u8::is_ascii_punctuation).filter(|b| !b"<>`'".contains(b))?)
            }
            b'.' | b'[' | b'(' | b')' | b'*' | b'+' | b'?' | b'{' | b'|' | b'^' | b'$' | 0 => return None,
            _ => text.push(byte),
        }
    }
    Some(Kind::Text { text, begins, ends: false })
}

fn contains(line: &[u8], text: &[u8]) -> bool {
    let Some(&first) = text.first() else { return true };
    let last = line.len().checked_sub(text.len());
    last.is_some_and(|last| (0..=last).any(|at| line[at] == first && line[at..].starts_with(text)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(pattern: &[u8], line: &[u8]) -> Option<bool> {
        Some(Matcher::new(pattern).ok()?.matches(line, &mut Vec::new()))
    }

    #[test]
    fn whole_language_and_nul() {
        for (pattern, line, is) in [
            (&b""[..], &b"x"[..], true),
            (b"^a|b$", b"cb", true),
            (b"a.c", b"xa\0c", true),
            (b"^a\\.c$", b"a.c", true),
            (b"^a\\.c$", b"abc", false),
            (b"[[:digit:]]{3}", b"ab12", false),
            (b"[[:digit:]]{3}", b"ab123", true),
            (b"\xff.\xfe", b"\xff\x80\xfe", true),
            (b"err", b"an error", true),
        ] {
            assert_eq!(check(pattern, line), Some(is), "{pattern:?} {line:?}");
        }
        assert_eq!(Matcher::new(b"a(b").err(), Some("parenthesis ( without )"));
    }

    proptest! {
        /// The short way says what the C library says.
        #[test]
        fn text_as_the_library(pattern in "\\^?([ab]|\\\\[.*+?|$^({])*\\$?", line in "[ab.*+?|$^({]{0,8}") {
            let regex = Regex::extended(&CString::new(pattern.clone()).unwrap()).unwrap();
            let expected = regex.matches(&CString::new(line.clone()).unwrap());
            prop_assert!(plain(pattern.as_bytes()).is_some());
            prop_assert_eq!(check(pattern.as_bytes(), line.as_bytes()), Some(expected));
        }
    }
}
