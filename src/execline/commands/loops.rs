//! forx, forstdin, forbacktickx, loopwhilex.

use super::control::with_descriptor;
use crate::chain::*;
use crate::execline::substitute::{Key, substituted};
use crate::process::Pid;
use crate::sys::{Errno, fd, wait};
use std::os::fd::AsRawFd;

/// A list of exit codes: numbers with commas, colons, semicolons or blanks between. What follows something
/// else is ignored; nothing but that is an error.
fn codes(args: &Args) -> Result<Vec<u32>> {
    let value = args.value();
    let mut codes = Vec::new();
    for word in value.split(|b| b",:; \t\r\n".contains(b)).filter(|word| !word.is_empty()) {
        let digits = word.iter().take_while(|b| b.is_ascii_digit()).count();
        codes.extend(crate::chain::number(&word[..digits]));
        if digits < word.len() {
            break;
        }
    }
    if codes.is_empty() { Err(args.misused()) } else { Ok(codes) }
}

/// Options that the loops have in common, and the processes of those that run side by side.
struct Loop {
    /// `-p`, `-P`: how many at once.
    at_once: u32,
    /// `-o`, `-x`
    codes: Vec<u32>,
    /// The loop goes on with these codes, not in spite of them.
    codes_are_good: bool,
    /// `-E`
    import: bool,
    running: Vec<Pid>,
    variable: Word,
    argv: Vec<Word>,
}

impl Loop {
    fn new() -> Loop {
        Loop {
            at_once: 1,
            codes: Vec::new(),
            codes_are_good: false,
            import: false,
            running: Vec::new(),
            variable: b"",
            argv: Vec::new(),
        }
    }

    /// Takes one of these options; false: it is none of them.
    fn take(&mut self, letter: u8, args: &Args) -> Result<bool> {
        match letter {
            b'p' => self.at_once = u32::MAX,
            b'P' => self.at_once = args.value_number()?,
            b'o' | b'x' => {
                self.codes = codes(args)?;
                self.codes_are_good = letter == b'o';
            }
            b'E' | b'e' => self.import = letter == b'E',
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Runs the body with a value. The exit code, if that was the last time.
    fn run(&mut self, value: &[u8]) -> Result<Option<u8>> {
        self.running.push(if self.import {
            let key = Key { name: self.variable, values: vec![value] };
            let argv = substituted(&self.argv, &[key]);
            let argv: Vec<&[u8]> = argv.iter().map(|word| &word[..]).collect();
            spawn(&argv, &[self.variable])?
        } else {
            spawn(&self.argv, &[&[self.variable, b"=", value].concat()])?
        });
        while self.running.len() as u64 >= u64::from(self.at_once.max(1)) {
            let code = self.wait();
            if self.at_once <= 1 && self.codes.contains(&code.into()) != self.codes_are_good {
                return Ok(Some(code));
            }
        }
        Ok(None)
    }

    /// Waits for one that runs. Other children of ours, from before, do not matter any more.
    fn wait(&mut self) -> u8 {
        loop {
            let Some((pid, status)) = wait::reap_any() else {
                self.running.clear();
                return 0;
            };
            if let Some(at) = self.running.iter().position(|running| *running == pid) {
                self.running.swap_remove(at);
                return Ended(status).code();
            }
        }
    }

    fn finish(mut self, code: u8) -> Result<Step> {
        while !self.running.is_empty() {
            self.wait();
        }
        Ok(Step::Exit(code))
    }
}

/// `forx`
pub fn forx(args: &mut Args) -> Result<Step> {
    let mut body = Loop::new();
    loop {
        match args.option("pP:o:x:Ee")? {
            0 => break,
            letter => drop(body.take(letter, args)?),
        }
    }
    args.at_least(2)?;
    body.variable = args.variable()?;
    let values = args.block("")?;
    body.argv = args.rest();
    if body.argv.is_empty() {
        return Ok(Step::Exit(0));
    }
    for value in values {
        if let Some(code) = body.run(value)? {
            return Ok(Step::Exit(code));
        }
    }
    body.finish(0)
}

/// How text becomes values, one after another.
struct Reader {
    fd: i32,
    buffer: Vec<u8>,
    /// Empty for netstrings.
    delimiters: Word,
    chomp: bool,
    crunch: bool,
}

impl Reader {
    fn new() -> Reader {
        Reader { fd: 0, buffer: Vec::new(), delimiters: b"\n", chomp: true, crunch: false }
    }

    fn take(&mut self, letter: u8, args: &Args) {
        match letter {
            b'N' | b'n' => self.chomp = letter == b'n',
            b'C' | b'c' => self.crunch = letter == b'C',
            b'0' => self.delimiters = b"\0",
            _ => self.delimiters = args.value(),
        }
    }

    /// More bytes; false at the end.
    fn fill(&mut self) -> Result<bool> {
        let mut chunk = [0; 8192];
        let got = fd::read(self.fd, &mut chunk).map_err(|errno| unable("read values", errno))?;
        self.buffer.extend_from_slice(&chunk[..got]);
        Ok(got > 0)
    }

    /// The next value; `None` at the end.
    fn next(&mut self) -> Result<Option<Vec<u8>>> {
        if self.delimiters.is_empty() {
            return self.netstring();
        }
        loop {
            let end = self.buffer.iter().position(|b| self.delimiters.contains(b));
            let (length, ended) = match end {
                Some(at) => (at + 1, true),
                None if self.fill()? => continue,
                // What no delimiter ends counts only if delimiters are kept.
                None if self.buffer.is_empty() || self.chomp => return Ok(None),
                None => (self.buffer.len(), false),
            };
            let mut value: Vec<u8> = self.buffer.drain(..length).collect();
            if self.crunch && value.len() == 1 {
                continue;
            }
            if self.chomp && ended {
                value.pop();
            }
            // A variable ends at its first NUL.
            value.truncate(value.iter().position(|b| *b == 0).unwrap_or(value.len()));
            return Ok(Some(value));
        }
    }

    fn netstring(&mut self) -> Result<Option<Vec<u8>>> {
        let broken = || unable("read a netstring", Errno::PROTO);
        loop {
            let colon = self.buffer.iter().position(|&b| b == b':');
            let length =
                colon.map(|at| crate::chain::number(&self.buffer[..at]).ok_or_else(broken)).transpose()?;
            if let (Some(colon), Some(length)) = (colon, length) {
                let end = colon + 1 + length as usize;
                if let Some(comma) = self.buffer.get(end) {
                    if *comma != b',' {
                        return Err(broken());
                    }
                    let value = self.buffer[colon + 1..end].to_vec();
                    self.buffer.drain(..=end);
                    return Ok(Some(value));
                }
            } else if self.buffer.len() > 20 {
                return Err(broken());
            }
            if !self.fill()? {
                return if self.buffer.is_empty() { Ok(None) } else { Err(broken()) };
            }
        }
    }

    /// Runs the loop's body for each value; 1 if there was none.
    fn run(mut self, mut body: Loop) -> Result<Step> {
        let mut outcome = 1;
        while let Some(value) = self.next()? {
            outcome = 0;
            if let Some(code) = body.run(&value)? {
                return Ok(Step::Exit(code));
            }
        }
        body.finish(outcome)
    }
}

/// Options and variable of forstdin and forbacktickx.
fn reading(args: &mut Args) -> Result<(Reader, Loop)> {
    let (mut reader, mut body) = (Reader::new(), Loop::new());
    loop {
        match args.option("pP:NnCc0d:o:x:Ee")? {
            0 => break,
            letter => {
                if !body.take(letter, args)? {
                    reader.take(letter, args);
                }
            }
        }
    }
    args.at_least(2)?;
    body.variable = args.variable()?;
    Ok((reader, body))
}

/// `forstdin`
pub fn forstdin(args: &mut Args) -> Result<Step> {
    let (reader, mut body) = reading(args)?;
    body.argv = args.rest();
    reader.run(body)
}

/// `forbacktickx`
pub fn forbacktickx(args: &mut Args) -> Result<Step> {
    let (mut reader, mut body) = reading(args)?;
    let block = args.full_block()?;
    body.argv = args.rest();
    args_needed(&body.argv, args)?;
    let [read, write] = fd::pipe().map_err(|errno| unable("create pipe", errno))?;
    with_descriptor(write, 1, || spawn(&block, &[]))?;
    reader.fd = read.as_raw_fd();
    reader.run(body)
}

fn args_needed(argv: &[Word], args: &Args) -> Result<()> {
    if argv.is_empty() { Err(args.misused()) } else { Ok(()) }
}

/// `loopwhilex`
pub fn loopwhilex(args: &mut Args) -> Result<Step> {
    let (mut not, mut good, mut list) = (false, true, vec![0]);
    loop {
        match args.option("no:x:")? {
            b'n' => not = true,
            0 => break,
            letter => {
                list = codes(args)?;
                good = letter == b'o';
            }
        }
    }
    args.at_least(1)?;
    let argv = args.rest();
    loop {
        let code = after(&argv, &[])?.code();
        if (list.contains(&code.into()) == good) == not {
            return Ok(Step::Exit(code));
        }
    }
}
