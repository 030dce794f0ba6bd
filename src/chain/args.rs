//! Options and blocks on a command line.

use super::{Result, Word, decimal, failed, number, shown, usage, warn};
use crate::diag::{Error, code};
use crate::sys::env;

/// The words that a command was called with, its name left out, read from the front.
pub struct Args {
    words: Vec<Word>,
    /// Index of the word that is next.
    at: usize,
    /// Within an option word: the byte that is next.
    inside: usize,
    /// The value of the last option that takes one.
    value: Word,
    usage: &'static str,
    /// How many blocks have been taken.
    blocks: u32,
    name: Word,
}

impl Args {
    /// Words, and what to say of how they should have been.
    pub fn new(words: Vec<Word>, usage: &'static str) -> Args {
        Args::called(b"", words, usage)
    }

    /// The same of a command that was called by this name.
    pub fn called(name: Word, words: Vec<Word>, usage: &'static str) -> Args {
        Args { words, at: 0, inside: 0, value: b"", usage, blocks: 0, name }
    }

    /// The name that the command was called by.
    pub fn name(&self) -> Word {
        self.name
    }

    /// The next option of those in `letters`, where a colon follows each that takes a value; 0 when there is
    /// none any more. As getopt in POSIX: letters may be combined, `--` ends them, so does the first word
    /// that is none.
    pub fn option(&mut self, letters: &str) -> Result<u8> {
        if self.inside == 0 {
            match self.words.get(self.at).copied() {
                Some(b"--") => {
                    self.at += 1;
                    return Ok(0);
                }
                Some([b'-', _, ..]) => self.inside = 1,
                _ => return Ok(0),
            }
        }
        let word = self.words[self.at];
        let letter = word[self.inside];
        let place = letters.bytes().position(|b| b == letter && b != b':').ok_or_else(|| self.misused())?;
        self.inside += 1;
        let rest = &word[self.inside..];
        if letters.as_bytes().get(place + 1) == Some(&b':') {
            self.value = if rest.is_empty() {
                self.at += 1;
                self.words.get(self.at).ok_or_else(|| self.misused())?
            } else {
                rest
            };
        } else if !rest.is_empty() {
            return Ok(letter);
        }
        self.at += 1;
        self.inside = 0;
        Ok(letter)
    }

    /// The value of the option just read.
    pub fn value(&self) -> Word {
        self.value
    }

    /// The same, as a number.
    pub fn value_number(&self) -> Result<u32> {
        number(self.value).ok_or_else(|| self.misused())
    }

    /// The error for a command line that is not as it should be.
    #[inline(never)]
    pub fn misused(&self) -> Error {
        usage(&["usage: ", self.usage])
    }

    /// How many words are left.
    pub fn left(&self) -> usize {
        self.words.len() - self.at
    }

    /// There must be as many words as this, or more.
    pub fn at_least(&self, words: usize) -> Result<()> {
        if self.left() < words { Err(self.misused()) } else { Ok(()) }
    }

    /// The next word.
    pub fn word(&mut self) -> Result<Word> {
        self.at_least(1)?;
        self.at += 1;
        Ok(self.words[self.at - 1])
    }

    /// The next word, which must be a number.
    pub fn number(&mut self) -> Result<u32> {
        let word = self.word()?;
        number(word).ok_or_else(|| self.misused())
    }

    /// The next word, which must be a descriptor.
    pub fn descriptor(&mut self) -> Result<i32> {
        self.number().and_then(|n| i32::try_from(n).map_err(|_| self.misused()))
    }

    /// The next word, which must be able to be the name of a variable.
    pub fn variable(&mut self) -> Result<Word> {
        let name = self.word()?;
        if name.is_empty() || name.contains(&b'=') {
            Err(usage(&["invalid variable name"]))
        } else {
            Ok(name)
        }
    }

    /// The block that is next. `what` is for messages: `if `, or nothing.
    #[inline(never)]
    pub fn block(&mut self, what: &str) -> Result<Vec<Word>> {
        let words = &self.words[self.at..];
        let end = words.iter().position(|word| word.is_empty());
        let words = &words[..end.ok_or_else(|| usage(&["unterminated ", what, "block"]))?];
        self.blocks += 1;
        if let Some(unquoted) = words.iter().position(|word| word[0] != b' ') {
            complain_of_unquoted(words[unquoted], self.blocks, unquoted)?;
        }
        self.at += words.len() + 1;
        Ok(words.iter().map(|word| word.strip_prefix(b" ").unwrap_or(word)).collect())
    }

    /// A block that may not be empty.
    pub fn full_block(&mut self) -> Result<Vec<Word>> {
        match self.block("")? {
            words if words.is_empty() => Err(usage(&["empty block"])),
            words => Ok(words),
        }
    }

    /// Everything that is left.
    pub fn rest(&mut self) -> Vec<Word> {
        let rest = self.words[self.at..].to_vec();
        self.at = self.words.len();
        rest
    }
}

/// How strict execline's commands are: EXECLINE_STRICT, or 0.
pub fn strictness() -> u32 {
    env::value(b"EXECLINE_STRICT").and_then(number).unwrap_or(0)
}

/// A word in a block that lacks its space: no matter, worth a warning, or an error, as EXECLINE_STRICT says.
pub fn complain_of_unquoted(word: &[u8], block: u32, at: usize) -> Result<()> {
    let strict = strictness();
    if strict == 0 {
        return Ok(());
    }
    let text = [
        "unquoted argument ",
        shown(word),
        " at block ",
        shown(decimal(block)),
        " position ",
        shown(decimal(at as i64)),
    ];
    if strict > 1 {
        return Err(failed(code::USAGE, &text));
    }
    warn(&text);
    Ok(())
}
