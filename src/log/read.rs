//! Logs read again: a directory's lines in order, over archives and `current`, and on while they are written.
//!
//! Works on directories of ours and of s6-log's alike. A line begins with a TAI64N stamp, or with a local time,
//! or with neither; then its time is that of the line before it.

use super::archive::{self, Archive};
use super::spool::Place;
use crate::sys::clock::{self, Local};
use crate::sys::{Errno, lines};
use crate::time::Tai64n;
use rustix::buffer::spare_capacity;
use rustix::fs::{CWD, Mode, OFlags, fstat, openat};
use rustix::io::pread;
use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

/// So much is read at once.
const CHUNK: usize = 32 * 1024;

/// A line that was logged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line {
    /// When; of a line without a stamp, when the one before it was.
    pub at: Tai64n,
    /// Whether it has a stamp of its own.
    pub stamped: bool,
    /// What was logged, without the stamp.
    pub text: Vec<u8>,
}

/// A log directory that is being read.
pub struct Reader {
    dir: OwnedFd,
    /// Files to read before `current`.
    queue: VecDeque<String>,
    file: Option<OwnedFd>,
    place: Place,
    is_current: bool,
    at: u64,
    buf: Vec<u8>,
    taken: usize,
    /// The newest archive that was seen.
    newest: Tai64n,
    /// So many archives are still to come of what has been read: a processor has it.
    processed_later: usize,
    last: Tai64n,
}

impl Reader {
    /// Begins at the oldest line.
    pub fn open(path: &str) -> Result<Reader, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = openat(CWD, path, flags, Mode::empty())?;
        let archives = archive::list(&dir)?;
        let newest = archives.last().map(|archive| archive.stamp).unwrap_or_default();
        let mut queue: VecDeque<String> = archives.into_iter().map(|archive| archive.name).collect();
        queue.extend(["previous".to_owned()].into_iter().filter(|name| open(&dir, name).is_ok()));
        let processed_later = usize::from(queue.back().is_some_and(|name| name == "previous"));
        Ok(Reader {
            dir,
            queue,
            file: None,
            place: Place::default(),
            is_current: false,
            at: 0,
            buf: Vec::new(),
            taken: 0,
            newest,
            processed_later,
            last: Tai64n::default(),
        })
    }

    /// Begins at the first file that may have a line of this time or later; or at the oldest.
    pub fn skip_before(&mut self, time: Tai64n) {
        // An archive was made after its last line was written.
        let is_older = |name: &String| Archive::by_name(name.as_bytes()).is_some_and(|a| a.stamp < time);
        while self.queue.front().is_some_and(is_older) {
            self.queue.pop_front();
        }
    }

    /// Begins so many lines before the end.
    pub fn skip_to_last(&mut self, mut count: usize) -> Result<(), Errno> {
        let mut names: Vec<String> = self.queue.drain(..).collect();
        names.push("current".to_owned());
        while let Some(name) = names.pop() {
            let at = match open(&self.dir, &name) {
                Ok(file) => nth_line_from_end(&file, &mut count)?,
                Err(_) => 0,
            };
            if count == 0 || names.is_empty() {
                self.start(&name, at);
                return Ok(());
            }
            if name != "current" {
                self.queue.push_front(name);
            }
        }
        Ok(())
    }

    /// Goes on with this file. One that is not there any more is read as empty.
    fn start(&mut self, name: &str, at: u64) {
        self.file = open(&self.dir, name).ok();
        self.place = self.file.as_ref().and_then(|file| Place::of(file).ok()).unwrap_or_default();
        self.is_current = name == "current";
        self.at = at;
        self.buf.clear();
        self.taken = 0;
    }

    /// The next line. `None`: there is none now, but there may be later. What is not ended by a newline is no
    /// line, unless its file has come to its end.
    pub fn next_line(&mut self) -> Result<Option<Line>, Errno> {
        loop {
            if let Some(n) = lines::newline(&self.buf[self.taken..]) {
                let text = self.buf[self.taken..self.taken + n].to_vec();
                self.taken += n + 1;
                return Ok(Some(self.line(text)));
            }
            if self.fill()? {
                continue;
            }
            if self.is_current {
                if !self.was_rotated() {
                    return Ok(None);
                }
                // What was written to it until then is still to be read.
                self.queue_new()?;
                self.is_current = false;
            } else if self.buf.len() > self.taken {
                self.buf.push(b'\n');
            } else {
                let next = self.queue.pop_front().unwrap_or_else(|| "current".to_owned());
                self.start(&next, 0);
            }
        }
    }

    fn fill(&mut self) -> Result<bool, Errno> {
        let Some(file) = &self.file else { return Ok(false) };
        if self.is_current && fstat(file).is_ok_and(|s| (s.st_size as u64) < self.at) {
            // A logger that took over from a dead one has cut it, and writes the same again.
            self.at = fstat(file)?.st_size as u64;
            self.buf.clear();
            self.taken = 0;
        }
        self.buf.drain(..self.taken);
        self.taken = 0;
        self.buf.reserve(CHUNK);
        let n = pread(file, spare_capacity(&mut self.buf), self.at)?;
        self.at += n as u64;
        Ok(n > 0)
    }

    /// Whether what is being read as `current` is something else by now.
    fn was_rotated(&self) -> bool {
        let current = open(&self.dir, "current").and_then(Place::of);
        match (current, &self.file) {
            (Ok(current), Some(_)) => !current.is_same_file(&self.place),
            (Ok(_), None) => true,
            // Between two files, or for good.
            (Err(_), _) => false,
        }
    }

    /// Queues archives that are new.
    fn queue_new(&mut self) -> Result<(), Errno> {
        let new = archive::list(&self.dir)?.into_iter().filter(|archive| archive.stamp > self.newest);
        let mut found = self.file.is_none();
        for archive in new.collect::<Vec<_>>() {
            self.newest = archive.stamp;
            let place = open(&self.dir, &archive.name).ok().and_then(|file| Place::of(file).ok());
            if place.is_some_and(|place| place.is_same_file(&self.place)) {
                found = true;
            } else if self.processed_later > 0 {
                self.processed_later -= 1;
            } else {
                self.queue.push_back(archive.name);
            }
        }
        // A processor makes an archive of it, which is not to be read again.
        self.processed_later += usize::from(!found && open(&self.dir, "previous").is_ok());
        Ok(())
    }

    fn line(&mut self, text: Vec<u8>) -> Line {
        let (stamp, length) = stamp(&text);
        self.last = stamp.unwrap_or(self.last);
        Line { at: self.last, stamped: stamp.is_some(), text: text[length..].to_vec() }
    }
}

fn open(dir: &OwnedFd, name: &str) -> Result<OwnedFd, Errno> {
    openat(dir, name, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK, Mode::empty())
}

/// Where the line begins that is the `count`th from the end; or 0, and `count` is what is missing.
fn nth_line_from_end(file: impl AsFd, count: &mut usize) -> Result<u64, Errno> {
    let size = fstat(&file)?.st_size as u64;
    let mut end = size;
    let mut buf = vec![0; CHUNK];
    while end > 0 {
        let begin = end.saturating_sub(CHUNK as u64);
        let mut got = pread(&file, &mut buf[..(end - begin) as usize], begin)?;
        while let Some(n) = buf[..got].iter().rposition(|&b| b == b'\n') {
            let behind = begin + n as u64 + 1;
            if behind < size {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    return Ok(behind);
                }
            }
            got = n;
        }
        end = begin;
    }
    *count = count.saturating_sub(usize::from(size > 0));
    Ok(0)
}

/// The stamp that a line begins with, and how many bytes that is.
fn stamp(text: &[u8]) -> (Option<Tai64n>, usize) {
    if text.len() >= 25
        && let Some(at) = Tai64n::parse(&text[..25])
    {
        return (Some(at), 25 + usize::from(text.get(25) == Some(&b' ')));
    }
    match iso(text) {
        Some(at) => (Some(at), 29 + text[29..].iter().take(2).take_while(|&&b| b == b' ').count()),
        None => (None, 0),
    }
}

/// `2026-11-21 18:23:16.123456789`
fn iso(text: &[u8]) -> Option<Tai64n> {
    let text = std::str::from_utf8(text.get(..29)?).ok()?;
    let (time, nanos) = text.split_once('.')?;
    Some(Tai64n { nanos: nanos.parse().ok()?, ..moment(time)? })
}

/// `2026-11-21`, `2026-11-21 18:23`, `2026-11-21 18:23:16`, in local time.
fn moment(text: &str) -> Option<Tai64n> {
    let mut numbers = [0; 6];
    let mut given = 0;
    for word in text.split(['-', ' ', ':', 'T']) {
        let width = if given == 0 { 4 } else { 2 };
        let is_number = word.len() == width && word.bytes().all(|b| b.is_ascii_digit());
        *numbers.get_mut(given).filter(|_| is_number)? = word.parse().ok()?;
        given += 1;
    }
    let [year, month, day, hour, minute, second] = numbers;
    let local = Local { year: year.into(), month, day, hour, minute, second };
    (given >= 3).then(|| Tai64n { secs: clock::from_local(&local), nanos: 0 })
}

/// A time as people give it: `10m` ago, `18:23`, `2026-11-21`, `2026-11-21 18:23:16`, or a TAI64N stamp.
pub fn parse_time(text: &str, now: Tai64n) -> Option<Tai64n> {
    if let Some(at) = Tai64n::parse(text.as_bytes()) {
        return Some(at);
    }
    let ago = match text.strip_suffix('d') {
        Some(days) => days.parse::<u32>().ok().map(|days| Duration::from_secs(u64::from(days) * 86_400)),
        None => crate::time::parse_duration(text).filter(|_| !text.bytes().all(|b| b.is_ascii_digit())),
    };
    if let Some(ago) = ago {
        return Some(now.offset(-(ago.as_nanos() as i128)));
    }
    if text.contains(':') && !text.contains('-') {
        let today = clock::local(now.secs);
        return moment(&format!("{:04}-{:02}-{:02} {text}", today.year, today.month, today.day));
    }
    moment(text)
}

/// The last lines of a log directory that were written at `before` or earlier, oldest first: what a service said
/// before it died. Lines without stamps are taken to be early enough.
pub fn last_lines(path: &str, before: Tai64n, count: usize) -> Result<Vec<Line>, Errno> {
    /// What may have been logged since.
    const SINCE: usize = 500;
    let mut reader = Reader::open(path)?;
    reader.skip_to_last(count + SINCE)?;
    let mut found = VecDeque::new();
    while let Some(line) = reader.next_line()? {
        if line.at > before {
            break;
        }
        found.push_back(line);
        if found.len() > count {
            found.pop_front();
        }
    }
    Ok(found.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_of_both_kinds() {
        let at = Tai64n { secs: 1_795_285_396, nanos: 7 };
        assert_eq!(stamp(format!("{at} hello").as_bytes()), (Some(at), 26));
        let mut text = Vec::new();
        super::super::dress::iso(at, 9, &mut text);
        text.extend_from_slice(b"  hello");
        assert_eq!(stamp(&text), (Some(at), 31));
        for none in ["", "@40", "hello", "2026-11-21 18:23:16", "2026-11-21 18:23:16.12345678x  y"] {
            assert_eq!(stamp(none.as_bytes()), (None, 0), "{none}");
        }
    }

    #[test]
    fn times() {
        let now = Tai64n { secs: 1_795_285_396, nanos: 0 };
        let today = clock::local(now.secs);
        let day = format!("{:04}-{:02}-{:02}", today.year, today.month, today.day);
        let parse = |text: &str| parse_time(text, now);
        assert_eq!(parse("10m"), Some(now.offset(-600_000_000_000)));
        assert_eq!(parse("1d"), Some(now.offset(-86_400_000_000_000)));
        assert_eq!(parse(&now.to_string()), Some(now));
        assert_eq!(parse("12:30"), parse(&format!("{day} 12:30:00")));
        assert_eq!(parse(&day), parse("00:00"));
        for bad in ["", "yesterday", "12", "1:2", "2026-11", "2026-11-21 18:23:16:00x"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
