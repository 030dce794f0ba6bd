//! `supervise/death_tally`: when and how a service died lately.
//!
//! Records of 14 bytes, oldest first: TAI64N (12), exit code (128 + signal for a killed process), signal (0
//! if it exited).
#![forbid(unsafe_code)]

use crate::process::{End, Signal, WaitStatus};
use crate::time::Tai64n;

/// Where it is in a service directory.
pub const FILE: &str = "supervise/death_tally";

/// Bytes of a record.
pub const RECORD: usize = 14;

/// The most records that are ever kept, whatever `max-death-tally` says.
pub const MOST: usize = 4096;

/// One death.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Death {
    /// When.
    pub stamp: Tai64n,
    /// How.
    pub end: End,
}

impl Death {
    /// Of a process that ended with `status`.
    pub fn new(stamp: Tai64n, status: WaitStatus) -> Death {
        Death { stamp, end: status.end() }
    }

    /// The bytes of the record.
    pub fn pack(&self) -> [u8; RECORD] {
        let mut out = [0; RECORD];
        out[..12].copy_from_slice(&self.stamp.pack());
        (out[12], out[13]) = match self.end {
            End::Exit(code) => (code, 0),
            End::Signal(signal) => (128 + signal.0, signal.0),
        };
        out
    }

    /// Reads a record.
    pub fn unpack(bytes: &[u8; RECORD]) -> Death {
        let stamp = Tai64n::unpack(bytes[..12].try_into().expect("12 of 14 bytes"));
        let end = if bytes[13] == 0 { End::Exit(bytes[12]) } else { End::Signal(Signal(bytes[13])) };
        Death { stamp, end }
    }
}

/// Reads a whole file, oldest first. A size that is no multiple of a record is a file that some writer did
/// not finish; as in s6 it then counts as empty.
pub fn unpack_all(bytes: &[u8]) -> Vec<Death> {
    if !bytes.len().is_multiple_of(RECORD) {
        return Vec::new();
    }
    bytes.chunks_exact(RECORD).map(|c| Death::unpack(c.try_into().expect("14 bytes"))).collect()
}

/// The contents of the file after one more death, at most `max` records.
pub fn append(old: &[u8], death: [u8; RECORD], max: usize) -> Vec<u8> {
    let old = if old.len().is_multiple_of(RECORD) { old } else { &[] };
    let max = max.min(MOST);
    let keep = max.saturating_sub(1) * RECORD;
    let mut new = old[old.len().saturating_sub(keep)..].to_vec();
    if max > 0 {
        new.extend(death);
    }
    new
}

/// Causes of death that somebody is interested in: `1,101-103,SIGSEGV`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Causes {
    codes: [bool; 256],
    signals: [bool; 65],
}

impl Causes {
    /// Reads a list of exit codes, of ranges of them, and of signals (by name, or a number after `SIG`),
    /// with commas, semicolons or blanks between. `Err` is what was not understood.
    pub fn parse(list: &str) -> Result<Causes, String> {
        let mut causes = Causes { codes: [false; 256], signals: [false; 65] };
        let separators = [',', ';', ' ', '\n', '\r', '\t'];
        for word in list.split(separators).filter(|word| !word.is_empty()) {
            causes.add(word).ok_or_else(|| word.to_owned())?;
        }
        Ok(causes)
    }

    fn add(&mut self, word: &str) -> Option<()> {
        if word.starts_with(|c: char| c.is_ascii_digit()) {
            let (first, last) = word.split_once('-').unwrap_or((word, word));
            let (first, last) = (parse_code(first)?, parse_code(last)?);
            if first > last {
                return None;
            }
            self.codes[first as usize..=last as usize].fill(true);
        } else {
            let number = word.get(..3).filter(|head| head.eq_ignore_ascii_case("sig")).map(|_| &word[3..]);
            let signal: Signal = match number.filter(|n| n.starts_with(|c: char| c.is_ascii_digit())) {
                Some(number) => number.parse().ok()?,
                None => word.parse().ok()?,
            };
            *self.signals.get_mut(signal.0 as usize)? = true;
        }
        Some(())
    }

    /// Whether `death` is one of these. As in s6, a signal is also found by the exit code that stands for
    /// it, 128 and its number.
    pub fn include(&self, death: &Death) -> bool {
        match death.end {
            End::Exit(code) => self.codes[code as usize],
            End::Signal(signal) => {
                self.signals.get(signal.0 as usize) == Some(&true) || self.codes[128 | signal.0 as usize]
            }
        }
    }
}

fn parse_code(text: &str) -> Option<u8> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_killed_process_is_written_as_s6_does() {
        let death = Death::new(Tai64n::default(), WaitStatus::killed(Signal::TERM));
        assert_eq!(death.pack()[12..], [0x8f, 0x0f]);
        assert_eq!(Death::unpack(&death.pack()), death);
    }

    #[test]
    fn the_oldest_goes_first() {
        let record = |n| Death::new(Tai64n::default(), WaitStatus::exited(n)).pack();
        let mut file = Vec::new();
        for n in 0..5 {
            file = append(&file, record(n), 3);
        }
        let ends: Vec<End> = unpack_all(&file).iter().map(|d| d.end).collect();
        assert_eq!(ends, [End::Exit(2), End::Exit(3), End::Exit(4)]);
        assert_eq!(append(&file, record(9), 1), record(9));
        assert_eq!(append(&file, record(9), 0), []);
        assert_eq!(append(&file[1..], record(9), 3), record(9));
    }

    #[test]
    fn causes_as_permafailon_takes_them() {
        let causes = Causes::parse("1,101-103; SIGSEGV\tsig9,143").unwrap();
        let included = |end| causes.include(&Death { stamp: Tai64n::default(), end });
        for code in [1, 101, 102, 103, 143] {
            assert!(included(End::Exit(code)), "{code}");
        }
        for code in [0, 2, 100, 104, 9, 11] {
            assert!(!included(End::Exit(code)), "{code}");
        }
        for (signal, wanted) in [(11, true), (9, true), (15, true), (2, false)] {
            assert_eq!(included(End::Signal(Signal(signal))), wanted, "{signal}");
        }
        for bad in ["256", "3-2", "1-", "-1", "SIGFOO", "sig65", "sig0", "1-2-3", "1x"] {
            assert_eq!(Causes::parse(bad), Err(bad.to_owned()), "{bad}");
        }
        assert!(Causes::parse("").is_ok());
    }
}
