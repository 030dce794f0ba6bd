//! Options and blocks on a command line.

use super::{Word, cat_str, decimal, number, shown};
use crate::diag::{self, Error, Result};
use crate::execline::block;
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
        Args::called(Word::new(), words, usage)
    }

    /// The same of a command that was called by this name.
    pub fn called(name: Word, words: Vec<Word>, usage: &'static str) -> Args {
        Args { words, at: 0, inside: 0, value: Vec::new(), usage, blocks: 0, name }
    }

    /// The name that the command was called by.
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// The next option of those in `letters`, where a colon follows each that takes a value; 0 when there is
    /// none any more. As getopt in POSIX: letters may be combined, `--` ends them, so does the first word
    /// that is none.
    pub fn option(&mut self, letters: &str) -> Result<u8> {
        if self.inside == 0 {
            match self.words.get(self.at).map(Vec::as_slice) {
                Some(b"--") => {
                    self.at += 1;
                    return Ok(0);
                }
                Some([b'-', _, ..]) => self.inside = 1,
                _ => return Ok(0),
            }
        }
        let word = &self.words[self.at];
        let letter = word[self.inside];
        let place = letters.bytes().position(|b| b == letter && b != b':').ok_or_else(|| self.misused())?;
        self.inside += 1;
        let rest = &word[self.inside..];
        if letters.as_bytes().get(place + 1) == Some(&b':') {
            self.value = if rest.is_empty() {
                self.at += 1;
                self.words.get(self.at).ok_or_else(|| self.misused())?.clone()
            } else {
                rest.to_vec()
            };
        } else if !rest.is_empty() {
            return Ok(letter);
        }
        self.at += 1;
        self.inside = 0;
        Ok(letter)
    }

    /// The value of the option just read.
    pub fn value(&mut self) -> Word {
        std::mem::take(&mut self.value)
    }

    /// The same, as a number.
    pub fn value_number(&mut self) -> Result<u32> {
        number(&self.value).ok_or_else(|| self.misused())
    }

    /// The error for a command line that is not as it should be.
    pub fn misused(&self) -> Error {
        Error::usage(cat_str(&["usage: ", self.usage]))
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
        Ok(std::mem::take(&mut self.words[self.at - 1]))
    }

    /// The next word, which must be a number.
    pub fn number(&mut self) -> Result<u32> {
        let word = self.word()?;
        number(&word).ok_or_else(|| self.misused())
    }

    /// The next word, which must be a descriptor.
    pub fn descriptor(&mut self) -> Result<i32> {
        self.number().and_then(|n| i32::try_from(n).map_err(|_| self.misused()))
    }

    /// The next word, which must be able to be the name of a variable.
    pub fn variable(&mut self) -> Result<Word> {
        let name = self.word()?;
        if name.is_empty() || name.contains(&b'=') {
            Err(Error::usage("invalid variable name"))
        } else {
            Ok(name)
        }
    }

    /// The block that is next. `what` is for messages: `if `, or nothing.
    pub fn block(&mut self, what: &str) -> Result<Vec<Word>> {
        let unterminated = || Error::usage(cat_str(&["unterminated ", what, "block"]));
        let taken = block::take(&self.words[self.at..]).ok_or_else(unterminated)?;
        self.blocks += 1;
        if let Some(unquoted) = taken.unquoted {
            let place = self.blocks;
            complain_of_unquoted(&self.words[self.at + unquoted], place, unquoted)?;
        }
        let words = taken.words.iter().map(|word| word.to_vec()).collect();
        self.at = self.words.len() - taken.rest.len();
        Ok(words)
    }

    /// A block that may not be empty.
    pub fn full_block(&mut self) -> Result<Vec<Word>> {
        match self.block("")? {
            words if words.is_empty() => Err(Error::usage("empty block")),
            words => Ok(words),
        }
    }

    /// Everything that is left.
    pub fn rest(&mut self) -> Vec<Word> {
        let at = std::mem::replace(&mut self.at, 0);
        let mut words = std::mem::take(&mut self.words);
        words.drain(..at);
        words
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
    let place = [decimal(block), decimal(at as i64)];
    let text = cat_str(&[
        "unquoted argument ",
        &shown(word),
        " at block ",
        &shown(&place[0]),
        " position ",
        &shown(&place[1]),
    ]);
    if strict > 1 {
        return Err(Error::usage(text));
    }
    diag::warn(text);
    Ok(())
}
