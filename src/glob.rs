//! Names with `*`, `?` and `[...]` in them, as a shell expands them.
#![forbid(unsafe_code)]

use crate::ordered::sorted;
use rustix::fs::{CWD, OFlags, RawDir};
use std::mem::MaybeUninit;

/// Splits a text at blanks, and expands each word; one that matches nothing stays as it is. This is all that
/// s6-overlay does with a variable that holds a command: quotes mean nothing.
pub fn words(text: &[u8]) -> Vec<Vec<u8>> {
    let words = text.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    words
        .flat_map(|word| match expand(word) {
            found if found.is_empty() => vec![word.to_vec()],
            found => found,
        })
        .collect()
}

/// The paths that match, in byte order. A pattern without special characters stands for itself.
pub fn expand(pattern: &[u8]) -> Vec<Vec<u8>> {
    if !pattern.iter().any(|byte| b"*?[".contains(byte)) {
        return vec![pattern.to_vec()];
    }
    let mut found = vec![Vec::new()];
    for (n, part) in pattern.split(|&byte| byte == b'/').enumerate() {
        let mut next = Vec::new();
        for mut base in found {
            if n > 0 {
                base.push(b'/');
            }
            if part.iter().any(|byte| b"*?[".contains(byte)) {
                let names = names(&base).into_iter().filter(|name| matches(part, name));
                next.extend(names.map(|name| [&base[..], &name].concat()));
            } else {
                base.extend(part);
                next.push(base);
            }
        }
        found = next;
    }
    found.retain(|path| rustix::fs::lstat(&path[..]).is_ok());
    sorted(found)
}

/// What is in a directory; the empty path is the working directory.
fn names(dir: &[u8]) -> Vec<Vec<u8>> {
    let dir = if dir.is_empty() { b"." } else { dir };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(open) = rustix::fs::openat(CWD, dir, flags, rustix::fs::Mode::empty()) else { return Vec::new() };
    let mut space = [MaybeUninit::uninit(); 4096];
    let mut entries = RawDir::new(&open, &mut space);
    let mut names = Vec::new();
    while let Some(Ok(entry)) = entries.next() {
        names.push(entry.file_name().to_bytes().to_vec());
    }
    names
}

/// Whether a name without slash matches. A dot in front must be there in the pattern.
pub fn matches(pattern: &[u8], name: &[u8]) -> bool {
    (!name.starts_with(b".") || pattern.starts_with(b".")) && rest_matches(pattern, name)
}

fn rest_matches(pattern: &[u8], name: &[u8]) -> bool {
    let Some((&first, rest)) = pattern.split_first() else { return name.is_empty() };
    match first {
        b'*' => (0..=name.len()).any(|skipped| rest_matches(rest, &name[skipped..])),
        b'?' => name.split_first().is_some_and(|(_, left)| rest_matches(rest, left)),
        b'[' => match (class(rest), name.split_first()) {
            (Some((set, rest)), Some((&byte, left))) => is_in(set, byte) && rest_matches(rest, left),
            (Some(_), None) => false,
            (None, _) => name.strip_prefix(b"[").is_some_and(|left| rest_matches(rest, left)),
        },
        b'\\' if !rest.is_empty() => name.first() == Some(&rest[0]) && rest_matches(&rest[1..], &name[1..]),
        byte => name.first() == Some(&byte) && rest_matches(rest, &name[1..]),
    }
}

/// What is between the brackets, and what follows. A bracket that is the first character counts as one.
fn class(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let negated = usize::from(matches!(text.first(), Some(b'!' | b'^')));
    let end = negated + 1 + text.get(negated + 1..)?.iter().position(|&byte| byte == b']')?;
    Some((&text[..end], &text[end + 1..]))
}

fn is_in(set: &[u8], byte: u8) -> bool {
    let negated = matches!(set.first(), Some(b'!' | b'^'));
    let mut set = &set[usize::from(negated)..];
    let mut found = false;
    while let [first, rest @ ..] = set {
        set = match rest {
            [b'-', last, rest @ ..] => {
                found |= (*first..=*last).contains(&byte);
                rest
            }
            rest => {
                found |= *first == byte;
                rest
            }
        };
    }
    found != negated
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_as_in_a_shell() {
        for (pattern, name) in [
            ("*", "a"),
            ("*.sh", "x.sh"),
            ("a?c", "abc"),
            ("[a-c]x", "bx"),
            ("[!a-c]x", "dx"),
            ("[]x]", "]"),
            (".*", ".hidden"),
            ("a*b*c", "axxbyyc"),
            ("[", "["),
            ("\\*", "*"),
        ] {
            assert!(matches(pattern.as_bytes(), name.as_bytes()), "{pattern} {name}");
        }
        for (pattern, name) in [("*", ".hidden"), ("?", ""), ("[a-c]", "d"), ("a*b", "abc"), ("[!x]", "x")] {
            assert!(!matches(pattern.as_bytes(), name.as_bytes()), "{pattern} {name}");
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
