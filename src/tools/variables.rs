//! envdir: variables from files.

use crate::chain::*;
use crate::sys::{Errno, fd};
use std::os::unix::ffi::OsStrExt;

/// How the files are read.
struct Manner {
    /// `-f`: all of it, not only the first line.
    verbatim: bool,
    /// `-n`: blanks at the end of the line (with `-f`, the newline at the end) are kept.
    no_chomp: bool,
    /// `-L`: a file may be longer than [`LONGEST`].
    no_limit: bool,
    /// `-c`: what NUL becomes.
    nul: u8,
}

/// What is read of a file, unless `-L` says all.
const LONGEST: usize = 4095;

/// `envdir`
pub fn envdir(args: &mut Args) -> Result<Step> {
    let mut manner = Manner { verbatim: false, no_chomp: false, no_limit: false, nul: b'\n' };
    let mut must_be_there = true;
    loop {
        match args.option("IinfLc:")? {
            b'n' => manner.no_chomp = true,
            b'f' => manner.verbatim = true,
            b'L' => manner.no_limit = true,
            b'c' => manner.nul = args.value().first().copied().ok_or_else(|| args.misused())?,
            0 => break,
            letter => must_be_there = letter == b'i',
        }
    }
    args.at_least(2)?;
    let dir = args.word()?;
    let changes = match std::fs::read_dir(std::ffi::OsStr::from_bytes(dir)) {
        Ok(entries) => {
            let mut changes = Vec::new();
            for entry in entries {
                let entry = entry.map_err(|e| unable_to("read", dir, reason_of(&e)))?;
                let name = entry.file_name();
                let name = name.as_bytes();
                if !name.starts_with(b".") && !name.contains(&b'=') {
                    changes.push(manner.change(name, cat(&[dir, b"/", name]))?);
                }
            }
            changes
        }
        Err(e) => match Errno::from_io_error(&e) {
            Some(Errno::NOENT) if !must_be_there => Vec::new(),
            errno => return Err(unable_to("read directory", dir, errno.unwrap_or(Errno::IO))),
        },
    };
    next_with(args.rest(), changes)
}

impl Manner {
    /// What a file does to the environment: an empty one removes the variable.
    fn change(&self, name: &[u8], path: &[u8]) -> Result<Word> {
        let read = |number| {
            let text = if self.no_limit { fd::read_all(number) } else { read_head(number) };
            fd::close(number);
            text
        };
        let mut text =
            fd::open(&c_string(path), 0).and_then(read).map_err(|errno| unable_to("read", path, errno))?;
        if text.is_empty() {
            return Ok(cat(&[name]));
        }
        if !self.verbatim {
            text.truncate(text.iter().position(|b| *b == b'\n').unwrap_or(text.len()));
        }
        if !self.no_chomp {
            if self.verbatim {
                text.pop_if(|b| *b == b'\n');
            } else {
                while text.pop_if(|b| b" \t\r".contains(b)).is_some() {}
            }
        }
        text.iter_mut().filter(|b| **b == 0).for_each(|b| *b = self.nul);
        Ok(setting(name, &text))
    }
}

fn read_head(number: i32) -> std::result::Result<Vec<u8>, Errno> {
    let (mut head, mut filled) = (vec![0; LONGEST], 0);
    loop {
        match fd::read(number, &mut head[filled..])? {
            0 => break,
            n => filled += n,
        }
    }
    head.truncate(filled);
    Ok(head)
}
