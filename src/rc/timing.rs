//! When each service was asked for, was free to start, was started, and was as it shall be.
//!
//! The engine keeps this while it makes a change and writes it down once, when the change is over, however it
//! ended: `/run/s6-rc/timing`, text. The first line is `perennial-timing 1`. Then there is one line for each
//! service and direction, sorted by direction and name; a change replaces the lines of the services that it
//! had a step for (or would have had) and leaves the others:
//!
//! ```text
//! DIRECTION RESULT ASKED FREE STARTED ENDED NAME
//! up done 81230417 81231002 81231010 81240119 web
//! up skipped 81230417 - - - shop
//! ```
//!
//! | field | |
//! |---|---|
//! | DIRECTION | `up` or `down` |
//! | RESULT | `done`, `failed`, `timed-out`, `overtaken`, `unknown`, `interrupted`, or `skipped` |
//! | ASKED | the change began that the service is part of; lines of one change have the same number |
//! | FREE | nothing stood in its way any longer: what it needs was done |
//! | STARTED | its step was asked of the supervisor; later than FREE only where `--jobs` made it wait |
//! | ENDED | the step was settled: a oneshot's script had ended, a longrun was up, and ready if it notifies |
//! | NAME | the rest of the line, which may hold blanks |
//!
//! Times are microseconds of CLOCK_MONOTONIC; `-` is "that did not happen". What was as wanted already had no
//! step and gets no line: its old one is still true. A change that was killed leaves none.
#![forbid(unsafe_code)]

use crate::diag::{Result, Unable};
use crate::ordered::Map;
use crate::ordered::map;
use crate::servicedir;
use crate::time::Mono;
use rustix::fs::CWD;
use std::fmt::Write as _;

/// The file's name in the live directory.
pub const FILE: &str = "timing";

const HEADER: &str = "perennial-timing 1";

/// How a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As wanted.
    Done,
    /// The script, or the service, failed.
    Failed,
    /// Its time was up, or that of the change.
    TimedOut,
    /// Somebody wanted the opposite meanwhile.
    Overtaken,
    /// The supervisor does not know it.
    Unknown,
    /// A signal, or a second change, ended the change.
    Interrupted,
    /// It was never made: something that it needs failed, or the change was cut short.
    Skipped,
}

/// Outcomes and their words.
const WORDS: [(Outcome, &str); 7] = [
    (Outcome::Done, "done"),
    (Outcome::Failed, "failed"),
    (Outcome::TimedOut, "timed-out"),
    (Outcome::Overtaken, "overtaken"),
    (Outcome::Unknown, "unknown"),
    (Outcome::Interrupted, "interrupted"),
    (Outcome::Skipped, "skipped"),
];

impl Outcome {
    /// Its word in the file.
    pub fn word(self) -> &'static str {
        WORDS.iter().find(|(outcome, _)| *outcome == self).map_or("", |(_, word)| word)
    }
}

/// One step of one service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// When the change began.
    pub asked: Mono,
    /// When nothing stood in its way any longer.
    pub free: Option<Mono>,
    /// When the supervisor was asked.
    pub started: Option<Mono>,
    /// When it was settled.
    pub ended: Option<Mono>,
    /// How.
    pub outcome: Outcome,
}

/// Which step: up or down (false comes first), and the service.
pub type Key = (bool, String);

/// What the file says.
pub type Timings = Map<Key, Timing>;

/// Reads the file of the live directory `live`. Nothing is known where there is none; a line that makes no
/// sense is passed over.
pub fn read(live: &str) -> Timings {
    let bytes = servicedir::read_file(CWD, format!("{live}/{FILE}")).unwrap_or_default();
    parse(&String::from_utf8_lossy(&bytes))
}

/// Puts `new` in the place of what the file said of the same steps.
///
/// # Errors
///
/// The live directory cannot be written.
pub fn note(live: &str, new: Timings) -> Result<()> {
    if new.is_empty() {
        return Ok(());
    }
    let mut all = read(live);
    all.extend(new);
    let dir = servicedir::open(CWD, live).unable(format_args!("open {live}"))?;
    servicedir::replace(&dir, FILE, "timing.new", format(&all).as_bytes())
        .unable(format_args!("write {live}/{FILE}"))
}

/// Forgets services that are not defined any more.
///
/// # Errors
///
/// The live directory cannot be written.
pub fn forget(live: &str, is_defined: impl Fn(&str) -> bool) -> Result<()> {
    let all = read(live);
    let count = all.len();
    let left: Timings = map(all.into_iter().filter(|((_, name), _)| is_defined(name)));
    if left.len() == count {
        return Ok(());
    }
    let dir = servicedir::open(CWD, live).unable(format_args!("open {live}"))?;
    servicedir::replace(&dir, FILE, "timing.new", format(&left).as_bytes())
        .unable(format_args!("write {live}/{FILE}"))
}

fn format(all: &Timings) -> String {
    let mut text = format!("{HEADER}\n");
    for ((up, name), timing) in all {
        let direction = if *up { "up" } else { "down" };
        let _ = write!(text, "{direction} {} {}", timing.outcome.word(), micros(timing.asked));
        for at in [timing.free, timing.started, timing.ended] {
            match at {
                Some(at) => drop(write!(text, " {}", micros(at))),
                None => text.push_str(" -"),
            }
        }
        text.extend([" ", name, "\n"]);
    }
    text
}

fn micros(at: Mono) -> u64 {
    at.0 / 1000
}

fn parse(text: &str) -> Timings {
    let mut lines = text.lines();
    if lines.next() != Some(HEADER) {
        return Timings::new();
    }
    map(lines.filter_map(line))
}

fn line(line: &str) -> Option<(Key, Timing)> {
    let mut fields = line.splitn(7, ' ');
    let up = match fields.next()? {
        "up" => true,
        "down" => false,
        _ => return None,
    };
    let word = fields.next()?;
    let outcome = WORDS.iter().find(|(_, known)| *known == word)?.0;
    let mut time = || match fields.next()? {
        "-" => Some(None),
        digits => Some(Some(Mono(digits.parse::<u64>().ok()?.checked_mul(1000)?))),
    };
    let (asked, free, started, ended) = (time()??, time()?, time()?, time()?);
    let name = fields.next()?.to_owned();
    Some(((up, name), Timing { asked, free, started, ended, outcome }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_file_as_it_is_described() {
        let text = "perennial-timing 1\n\
            up done 81230417 81231002 81231010 81240119 web\n\
            up skipped 81230417 - - - the shop\n\
            sideways done 1 - - - x\nup done\nup done x - - - x\nup done - - - - x\n";
        let all = parse(text);
        assert_eq!(all.len(), 2);
        let web = all[&(true, "web".to_owned())];
        assert_eq!((web.asked, web.ended), (Mono(81_230_417_000), Some(Mono(81_240_119_000))));
        assert_eq!(all[&(true, "the shop".to_owned())].outcome, Outcome::Skipped);
        assert_eq!(parse("something else\nup done 1 - - - x\n"), Timings::new());
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(
            lines in proptest::collection::vec((any::<bool>(), "[a-z][a-z ]{0,5}[a-z]", 0usize..7, proptest::collection::vec(proptest::option::of(0u64..1 << 40), 3), 0u64..1 << 40), 0..20)
        ) {
            let mono = |us: u64| Mono(us * 1000);
            let all: Timings = lines.into_iter().map(|(up, name, word, times, asked)| {
                let [free, started, ended] = [0, 1, 2].map(|n| times[n].map(mono));
                ((up, name), Timing { asked: mono(asked), free, started, ended, outcome: WORDS[word].0 })
            }).collect();
            prop_assert_eq!(parse(&format(&all)), all);
        }

        #[test]
        fn any_text_is_read_without_harm(text: String) {
            let _ = parse(&format!("{HEADER}\n{text}"));
        }
    }
}
