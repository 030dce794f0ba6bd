//! File name patterns: `*`, `?`, `[a-z]`, `[!a-z]`, `[[:alpha:]]`, and a backslash before a character that is
//! meant as it is. Bytes are characters.
//!
//! The C library has this too, but with it come the account databases (for `~user`, which nobody asks for).
#![forbid(unsafe_code)]

use crate::chain::{c_string, reason_of, unable_to, warn};
use crate::ordered::sorted;
use rustix::fs::{FileType, lstat, stat};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

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
    /// Say so.
    pub verbose: bool,
    /// If nothing matches there is nothing; otherwise the pattern itself.
    pub nothing: bool,
}

/// Splits a text at blanks, and expands each word; one that matches nothing stays as it is. This is all that
/// s6-overlay does with a variable that holds a command: quotes mean nothing.
pub fn words(text: &[u8]) -> Vec<Vec<u8>> {
    let mut words = Vec::new();
    for word in text.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()) {
        match expand(word) {
            found if found.is_empty() => words.push(word.to_vec()),
            found => words.extend(found),
        }
    }
    words
}

/// The paths that match, in byte order; those that cannot be read match nothing. A pattern without special
/// characters stands for itself.
pub fn expand(pattern: &[u8]) -> Vec<Vec<u8>> {
    if !is_special(pattern) {
        return vec![pattern.to_vec()];
    }
    paths(pattern, Options { sorted: true, nothing: true, ..Options::default() }).unwrap_or_default()
}

/// The paths that match a pattern. `None`: a directory could not be read.
pub fn paths(pattern: &[u8], options: Options) -> Option<Vec<Vec<u8>>> {
    let mut found = Vec::new();
    collect(Vec::new(), pattern, options, &mut found)?;
    if found.is_empty() && !options.nothing {
        found.push(pattern.to_vec());
    }
    Some(if options.sorted { sorted(found) } else { found })
}

/// Appends all that are `done` and go on with what matches `pattern`.
fn collect(mut done: Vec<u8>, pattern: &[u8], options: Options, found: &mut Vec<Vec<u8>>) -> Option<()> {
    let slashes = pattern.iter().take_while(|b| **b == b'/').count();
    let (slashes, pattern) = pattern.split_at(slashes);
    done.extend_from_slice(slashes);
    let end = pattern.iter().position(|b| *b == b'/').unwrap_or(pattern.len());
    let (part, rest) = pattern.split_at(end);
    if part.is_empty() {
        if lstat(&*c_string(&done)).is_ok() {
            found.push(done);
        }
        return Some(());
    }
    if !is_special(part) {
        let mut escaped = false;
        for byte in part {
            escaped = *byte == b'\\' && !escaped && !options.no_escape;
            done.extend((!escaped).then_some(*byte));
        }
        return finish(done, rest, options, found);
    }
    let dir: &[u8] = if done.is_empty() { b"." } else { &done };
    let mut names = vec![b".".to_vec(), b"..".to_vec()];
    match std::fs::read_dir(OsStr::from_bytes(dir)) {
        Ok(entries) => names.extend(entries.flatten().map(|entry| entry.file_name().as_bytes().to_vec())),
        Err(e) if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
            return Some(());
        }
        Err(e) => {
            if options.verbose {
                warn(&[unable_to("read", dir, reason_of(&e)).message()]);
            }
            return (!options.strict).then_some(());
        }
    }
    let how = Matching { no_escape: options.no_escape, paths: false, dots: true };
    for name in names.iter().filter(|name| matches(part, name, how)) {
        finish([&done[..], name].concat(), rest, options, found)?;
    }
    Some(())
}

/// The same, where `done` ends with a whole name.
fn finish(mut done: Vec<u8>, rest: &[u8], options: Options, found: &mut Vec<Vec<u8>>) -> Option<()> {
    if !rest.is_empty() {
        return collect(done, rest, options, found);
    }
    let path = c_string(&done);
    if lstat(&*path).is_ok() {
        let is_directory = |st: rustix::fs::Stat| FileType::from_raw_mode(st.st_mode) == FileType::Directory;
        if options.mark && stat(&*path).is_ok_and(is_directory) {
            done.push(b'/');
        }
        found.push(done);
    }
    Some(())
}

fn is_special(pattern: &[u8]) -> bool {
    pattern.iter().any(|b| b"*?[".contains(b))
}

/// How [`matches`] takes a pattern.
#[derive(Clone, Copy, Debug, Default)]
pub struct Matching {
    /// A backslash is a character like any other.
    pub no_escape: bool,
    /// A slash only matches a slash.
    pub paths: bool,
    /// A dot at the beginning (with `paths`, of any part) only matches a dot.
    pub dots: bool,
}

/// Whether a pattern matches all of `text`.
pub fn matches(pattern: &[u8], text: &[u8], how: Matching) -> bool {
    matches_from(pattern, text, how, true)
}

/// The same, `text` being the rest of a longer one unless it is its `beginning`.
fn matches_from(mut pattern: &[u8], mut text: &[u8], how: Matching, mut beginning: bool) -> bool {
    loop {
        let hidden = how.dots && beginning && text.first() == Some(&b'.');
        match pattern {
            [] => return text.is_empty(),
            [b'*', rest @ ..] => {
                let stops = |b: &u8| how.paths && *b == b'/';
                let most = if hidden { 0 } else { text.iter().position(stops).unwrap_or(text.len()) };
                return (0..=most).any(|n| matches_from(rest, &text[n..], how, beginning && n == 0));
            }
            _ => {}
        }
        let Some((byte, text_rest)) = text.split_first() else { return false };
        let special = !(hidden || how.paths && *byte == b'/');
        let (matched, rest) = match pattern {
            [b'?', rest @ ..] => (special, rest),
            [b'[', class @ ..] => match bracket(class, *byte, how) {
                Some((matched, rest)) => (matched && special, rest),
                None => (*byte == b'[', class),
            },
            [b'\\', escaped, rest @ ..] if !how.no_escape => (escaped == byte, rest),
            [plain, rest @ ..] => (plain == byte, rest),
            [] => return false,
        };
        if !matched {
            return false;
        }
        beginning = how.paths && *byte == b'/';
        (pattern, text) = (rest, text_rest);
    }
}

/// Whether a byte is in the class that `class` goes on with after its `[`, and what follows the `]`. `None`: it
/// has none, and is no class.
fn bracket(class: &[u8], byte: u8, how: Matching) -> Option<(bool, &[u8])> {
    let negated = matches!(class.first(), Some(b'!' | b'^'));
    let mut class = &class[usize::from(negated)..];
    let (mut found, mut first) = (false, true);
    loop {
        class = match class {
            [] => return None,
            [b']', rest @ ..] if !first => return Some((found != negated, rest)),
            [b'[', b':', rest @ ..] => {
                let end = rest.windows(2).position(|w| w == b":]")?;
                found |= is_of(&rest[..end], byte);
                &rest[end + 2..]
            }
            _ => {
                let (low, rest) = one(class, how)?;
                match rest {
                    [b'-', rest @ ..] if rest.first().is_some_and(|b| *b != b']') => {
                        let (high, rest) = one(rest, how)?;
                        found |= (low..=high).contains(&byte);
                        rest
                    }
                    _ => {
                        found |= low == byte;
                        rest
                    }
                }
            }
        };
        first = false;
    }
}

fn one(class: &[u8], how: Matching) -> Option<(u8, &[u8])> {
    match class {
        [b'\\', byte, rest @ ..] if !how.no_escape => Some((*byte, rest)),
        [byte, rest @ ..] => Some((*byte, rest)),
        [] => None,
    }
}

/// Whether a byte is one of these: `alpha`, `digit` …
fn is_of(class: &[u8], byte: u8) -> bool {
    match class {
        b"alpha" => byte.is_ascii_alphabetic(),
        b"digit" => byte.is_ascii_digit(),
        b"alnum" => byte.is_ascii_alphanumeric(),
        b"lower" => byte.is_ascii_lowercase(),
        b"upper" => byte.is_ascii_uppercase(),
        b"space" => byte.is_ascii_whitespace() || byte == 0x0b,
        b"blank" => matches!(byte, b' ' | b'\t'),
        b"punct" => byte.is_ascii_punctuation(),
        b"xdigit" => byte.is_ascii_hexdigit(),
        b"cntrl" => byte.is_ascii_control(),
        b"graph" => byte.is_ascii_graphic(),
        b"print" => byte.is_ascii_graphic() || byte == b' ',
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        let plain = Matching::default();
        let names = Matching { dots: true, ..plain };
        let paths = Matching { paths: true, dots: true, ..plain };
        let cases = [
            ("a*c", "abbc", plain, true),
            ("a*c", "ab", plain, false),
            ("*", "", plain, true),
            ("**a*", "xxay", plain, true),
            ("?", "", plain, false),
            ("[a-c]x", "bx", plain, true),
            ("[!a-c]x", "bx", plain, false),
            ("[]a]", "]", plain, true),
            ("[a-]", "-", plain, true),
            ("[[:digit:]b]", "7", plain, true),
            ("[[:digit:]b]", "b", plain, true),
            ("[a", "[a", plain, true),
            ("[", "[", plain, true),
            ("\\*", "*", plain, true),
            ("\\*", "\\x", Matching { no_escape: true, ..plain }, true),
            ("[\\]]", "]", plain, true),
            ("*", ".a", plain, true),
            ("*", ".a", names, false),
            (".*", ".a", names, true),
            ("?a", ".a", names, false),
            ("[.]a", ".a", names, false),
            ("a*", "a/b", paths, false),
            ("a/*", "a/.b", paths, false),
            ("*/b", "a/b", paths, true),
            ("a/*", "a/.b", names, true),
        ];
        for (pattern, text, how, expected) in cases {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes(), how), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn paths_are_expanded_and_words_split() {
        let dir = std::env::temp_dir().join(format!("perennial-glob-{}", std::process::id()));
        for name in ["b/run", "a/run", ".c/run", "d/other"] {
            std::fs::create_dir_all(dir.join(name).parent().unwrap()).unwrap();
            std::fs::write(dir.join(name), "").unwrap();
        }
        let dir = dir.to_str().unwrap();
        let all = words(format!(" x  {dir}/*/run {dir}/*/none\t'y").as_bytes());
        let all: Vec<String> = all.into_iter().map(|word| String::from_utf8(word).unwrap()).collect();
        let expected =
            ["x", &format!("{dir}/a/run"), &format!("{dir}/b/run"), &format!("{dir}/*/none"), "'y"];
        assert_eq!(all, expected);
        std::fs::remove_dir_all(dir).unwrap();
    }
}
