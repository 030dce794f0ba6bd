//! Substitution: `${KEY}` and `$KEY` in the words of a command line, and the values that stand for them.
//!
//! A key that nobody defined is left as it stands. Backslashes before `$` count only if the key is defined:
//! of two of them one is left; an odd one out quotes the `$`. `$KEY` is a key only up to the next `$`, `{`,
//! `}`, backslash or the end of the word; that is all of `1-2` in `$1-2`. A word with a key that has several
//! values becomes several words, one with a key that has none is gone; with several keys it becomes all
//! combinations, the last key the fastest.
#![forbid(unsafe_code)]

use crate::chain::{Args, Word, number, word};

/// A key and its values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key<'k> {
    /// What stands after the `$`.
    pub name: &'k [u8],
    /// What it stands for.
    pub values: Vec<&'k [u8]>,
}

/// What a word consists of.
enum Piece<'k> {
    Text(Vec<u8>),
    Key(&'k Key<'k>),
}

/// The words with all keys replaced.
pub fn substitute(words: &[Word], keys: &[Key<'_>]) -> Vec<Word> {
    substituted(words, keys).into_iter().map(word).collect()
}

/// The same, not for ever.
pub fn substituted(words: &[&[u8]], keys: &[Key<'_>]) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    for word in words {
        expand(&pieces(word, keys), Vec::new(), &mut out);
    }
    out
}

/// Appends all words that begin with `start` and go on with `pieces`.
fn expand(pieces: &[Piece<'_>], start: Vec<u8>, out: &mut Vec<Vec<u8>>) {
    let mut word = start;
    for (i, piece) in pieces.iter().enumerate() {
        match piece {
            Piece::Text(text) => word.extend_from_slice(text),
            Piece::Key(key) => {
                for value in &key.values {
                    expand(&pieces[i + 1..], [&word[..], value].concat(), out);
                }
                return;
            }
        }
    }
    out.push(word);
}

fn pieces<'k>(word: &[u8], keys: &'k [Key<'k>]) -> Vec<Piece<'k>> {
    let (mut pieces, mut text, mut backslashes) = (Vec::new(), Vec::new(), 0usize);
    let mut at = 0;
    while at < word.len() {
        let (name, length) = key_at(&word[at..]);
        match keys.iter().find(|key| !name.is_empty() && key.name == name) {
            Some(key) => {
                // Half of them are left, and if they are odd that one goes too.
                text.truncate(text.len() - backslashes.div_ceil(2));
                if backslashes % 2 == 1 {
                    text.extend_from_slice(&word[at..at + length]);
                } else {
                    pieces.push(Piece::Text(std::mem::take(&mut text)));
                    pieces.push(Piece::Key(key));
                }
                at += length;
                backslashes = 0;
            }
            None => {
                backslashes = if word[at] == b'\\' { backslashes + 1 } else { 0 };
                text.push(word[at]);
                at += 1;
            }
        }
    }
    pieces.push(Piece::Text(text));
    pieces
}

/// The key that `text` begins with, empty if with none, and how many bytes it takes.
fn key_at(text: &[u8]) -> (&[u8], usize) {
    let plain = |text: &[u8]| text.iter().position(|b| b"\\${}".contains(b)).unwrap_or(text.len());
    match text {
        [b'$', b'{', rest @ ..] => {
            let length = plain(rest);
            if rest.get(length) == Some(&b'}') { (&rest[..length], length + 3) } else { (&[], 0) }
        }
        [b'$', rest @ ..] => {
            let length = plain(rest);
            (&rest[..length], length + 1)
        }
        _ => (&[], 0),
    }
}

/// How a text becomes values: the options `-C -c`, `-n -N`, `-s` and `-d` of the commands that define keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transform {
    /// Of delimiters in a row only the first is left.
    pub crunch: bool,
    /// One delimiter at the end is taken away.
    pub chomp: bool,
    /// One value for each piece that a delimiter ends, or nothing does if no `chomp` asks for it.
    pub split: bool,
    /// Which bytes delimit. None: with `split`, the text is netstrings.
    pub delimiters: Word,
}

impl Default for Transform {
    fn default() -> Transform {
        Transform { crunch: false, chomp: false, split: false, delimiters: b" \n\r\t" }
    }
}

impl Transform {
    /// Takes an option; false: it is none of these.
    pub fn take(&mut self, letter: u8, args: &Args) -> bool {
        match letter {
            b'N' | b'n' => self.chomp = letter == b'n',
            b'C' | b'c' => self.crunch = letter == b'C',
            b's' => self.split = true,
            b'd' => self.delimiters = args.value(),
            _ => return false,
        }
        true
    }

    /// The values; `None`: these are no netstrings.
    pub fn values(&self, text: Word) -> Option<Vec<Word>> {
        let is_delimiter = |b: &u8| self.delimiters.contains(b);
        let mut text = text;
        if self.crunch {
            let mut crunched = text.to_vec();
            let mut before = false;
            crunched.retain(|b| !std::mem::replace(&mut before, is_delimiter(b)) || !is_delimiter(b));
            text = word(crunched);
        }
        let mut chomped = false;
        if let Some((last, rest)) = text.split_last().filter(|(last, _)| self.chomp && is_delimiter(last)) {
            (text, chomped) = (rest, is_delimiter(last));
        }
        if !self.split {
            return Some(vec![text]);
        }
        if self.delimiters.is_empty() {
            return netstrings(text);
        }
        let mut values: Vec<Word> = text.split(is_delimiter).collect();
        // The last piece has no delimiter of its own.
        if values.last().is_some_and(|last| last.is_empty()) || self.chomp && !chomped {
            values.pop();
        }
        Some(values)
    }
}

fn netstrings(mut text: Word) -> Option<Vec<Word>> {
    let mut values = Vec::new();
    while !text.is_empty() {
        let colon = text.iter().position(|&b| b == b':')?;
        let length = number(&text[..colon])? as usize;
        let rest = &text[colon + 1..];
        if rest.get(length) != Some(&b',') {
            return None;
        }
        values.push(&rest[..length]);
        text = &rest[length + 1..];
    }
    Some(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&'static str]) -> Vec<Word> {
        words.iter().map(|word| word.as_bytes()).collect()
    }

    fn key(name: &'static str, values: &[&'static str]) -> Key<'static> {
        Key { name: name.as_bytes(), values: words(values) }
    }

    #[test]
    fn keys_and_what_only_looks_like_one() {
        let keys = [key("A", &["1"]), key("B", &["x", "y"]), key("C", &["p", "q"]), key("E", &[])];
        let cases = [
            ("$A", "1"),
            ("a${A}b", "a1b"),
            ("$AB", "$AB"),
            ("$A$A-", "1$A-"),
            ("${A", "${A"),
            ("$${A}", "$1"),
            ("${${A}}", "${1}"),
            ("\\$A", "$A"),
            ("\\\\$A", "\\1"),
            ("\\\\\\${A}", "\\${A}"),
            ("\\$Z\\", "\\$Z\\"),
            ("$", "$"),
            ("${}", "${}"),
            ("$B", "x y"),
            ("-${B}${C}", "-xp -xq -yp -yq"),
            ("a${E}", ""),
            ("\\$E", "$E"),
        ];
        for (word, expected) in cases {
            let out = substitute(&words(&[word]), &keys).join(&b' ');
            assert_eq!(String::from_utf8(out).unwrap(), expected, "{word}");
        }
    }

    #[test]
    fn texts_become_values() {
        let with = |text: &'static str, options: &str| {
            let has = |letter| options.contains(letter);
            let transform =
                Transform { crunch: has('C'), chomp: has('n'), split: has('s'), ..Transform::default() };
            String::from_utf8(transform.values(text.as_bytes()).unwrap().join(&b'|')).unwrap()
        };
        assert_eq!(with("a  b ", ""), "a  b ");
        assert_eq!(with("a  b ", "n"), "a  b");
        assert_eq!(with("  a \t b  ", "C"), " a b ");
        assert_eq!(with("a  b ", "s"), "a||b");
        assert_eq!(with("a  b", "Cs"), "a|b");
        assert_eq!(with("a b", "ns"), "a");
        assert_eq!(with("a b ", "ns"), "a|b");
        assert_eq!(with("a  ", "ns"), "a");
        let nets = Transform { split: true, delimiters: b"", ..Transform::default() };
        assert_eq!(nets.values(b"1:a,0:,2:b,,"), Some(words(&["a", "", "b,"])));
        assert_eq!(nets.values(b"1:a"), None);
    }
}
