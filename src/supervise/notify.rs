//! What a service says of itself at `NOTIFY_SOCKET`, pure: a datagram and the time go in, what follows comes out.
//!
//! The words are systemd's (sd_notify(3)): lines `NAME=value`, of which those that nobody here knows mean nothing.
//! What must be known when we are dead is in [`Notes`], which lie in the journal.
//!
//! # Progress
//!
//! Until it is ready a service has `timeout-up`. That deadline moves when the service gets on: a STATUS other than
//! the one before puts it off by the whole `timeout-up`, EXTEND_TIMEOUT_USEC to what it says if that is later. A
//! service that repeats itself, or is silent, is ended, and its last STATUS says where it was.
//!
//! # Liveness
//!
//! From readiness on a service with `watchdog` has to say WATCHDOG=1 within that time, again and again. It may
//! change the time (WATCHDOG_USEC, 0 for none), and ask for its own end (WATCHDOG=trigger).
#![forbid(unsafe_code)]

use super::extra::Life;
use super::machine::Told;
use crate::process::Pid;
use crate::report::{age, took};
use crate::servicedir::feature::Features;
use crate::time::Mono;
use std::time::Duration;

/// The longest STATUS that is kept, in bytes.
pub const LONGEST: usize = 200;

/// So many descriptors are stored. As many as a child can be given besides those that it has anyway.
pub const MOST_STORED: usize = 8;

/// The longest name of one.
const LONGEST_NAME: usize = 255;

/// What a service with `notify-socket` has said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    /// The last STATUS of this life.
    pub status: String,
    /// The last before it was told to end: where it was then.
    busy: String,
    /// What is to be said of the end of the one before.
    pub why: String,
    /// RELOADING=1 was said, and not yet READY=1.
    pub reloading: bool,
    /// STOPPING=1 was said.
    pub stopping: bool,
    /// ERRNO
    pub errno: u32,
    /// EXIT_STATUS, plus 1.
    pub exit_status: u32,
    /// WATCHDOG_USEC.
    watchdog: Option<Duration>,
    /// When WATCHDOG=1 must have been said.
    pub watchdog_at: Option<Mono>,
    /// Which life this is of: when it began.
    life: Mono,
    /// Descriptors that are stored: a number of ours, and the name.
    pub stored: Vec<(u8, String)>,
}

/// What follows from a datagram.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// READY=1
    pub ready: bool,
    /// There is something new to show.
    pub shown: bool,
    /// STATUS is not what it was.
    pub progress: bool,
    /// EXTEND_TIMEOUT_USEC
    pub extend: Option<Duration>,
    /// WATCHDOG=trigger
    pub trigger: bool,
    /// MAINPID
    pub main: Option<Pid>,
    /// FDSTORE=1, FDSTOREREMOVE=1: whether they are to be stored, and the name.
    pub store: Option<(bool, String)>,
}

impl Notes {
    /// Takes in a datagram. `leaving`: it was told to end.
    pub fn hear(&mut self, now: Mono, datagram: &[u8], leaving: bool, rules: &Features) -> Said {
        let mut said = Said::default();
        let text = String::from_utf8_lossy(datagram);
        // As systemd has it: what has a NUL in it is no text.
        if text.trim_end_matches('\0').contains('\0') {
            return said;
        }
        let before = (self.reloading, self.stopping);
        let (mut name, mut store) = ("stored", None);
        for (key, value) in text.trim_end_matches('\0').lines().filter_map(|line| line.split_once('=')) {
            let number = || value.parse::<u64>().ok();
            let time = || number().map(Duration::from_micros);
            let one = value == "1";
            match key {
                "READY" if one => (said.ready, self.reloading) = (true, false),
                "RELOADING" if one => self.reloading = true,
                "STOPPING" if one => self.stopping = true,
                "STATUS" => {
                    let status = shortened(value);
                    said.progress = status != self.status;
                    self.status = status;
                }
                "EXTEND_TIMEOUT_USEC" => said.extend = time(),
                "WATCHDOG" if one => self.watchdog_at = self.watchdog_at.and(self.next_sign(now, rules)),
                "WATCHDOG" => said.trigger |= value == "trigger",
                "WATCHDOG_USEC" => {
                    self.watchdog = time().or(self.watchdog);
                    self.watchdog_at = self.watchdog_at.and(self.next_sign(now, rules));
                }
                "MAINPID" => said.main = value.parse().ok().and_then(Pid::from_raw).or(said.main),
                "ERRNO" => self.errno = value.parse().unwrap_or(self.errno),
                "EXIT_STATUS" => {
                    self.exit_status = value.parse::<u8>().map_or(self.exit_status, |n| u32::from(n) + 1);
                }
                "FDSTORE" if one => store = Some(true),
                "FDSTOREREMOVE" if one => store = Some(false),
                "FDNAME" if is_name(value) => name = value,
                _ => {}
            }
        }
        if !leaving && !self.stopping {
            self.busy.clone_from(&self.status);
        }
        said.store = store.map(|store| (store, name.to_owned()));
        said.shown = said.progress || before != (self.reloading, self.stopping);
        said
    }

    /// Begins and ends what belongs to a life.
    pub fn settle(&mut self, now: Mono, life: Life, rules: &Features) {
        let Some(began) = life.began else {
            self.watchdog_at = None;
            return;
        };
        if self.life != began {
            let (why, stored) = (std::mem::take(&mut self.why), std::mem::take(&mut self.stored));
            *self = Notes { why, stored, life: began, ..Notes::default() };
        }
        if !life.ready {
            self.watchdog_at = None;
        } else if self.watchdog_at.is_none() {
            self.watchdog_at = self.next_sign(now, rules);
        }
    }

    /// Which life this is of: when it began.
    pub fn life(&self) -> Mono {
        self.life
    }

    fn next_sign(&self, now: Mono, rules: &Features) -> Option<Mono> {
        self.limit(rules).map(|limit| now.after(limit))
    }

    /// The time within which it has to give a sign of life, if it has to.
    pub fn limit(&self, rules: &Features) -> Option<Duration> {
        self.watchdog.or(rules.watchdog).filter(|limit| !limit.is_zero())
    }

    /// The end of its life: notes what is to be said of it. `lived`: how long it was; `ready`: it has been.
    pub fn end(&mut self, told: Told, ready: bool, lived: Duration, rules: &Features) {
        let mut parts: Vec<String> = Vec::new();
        match told {
            Told::NotReady => parts.push(self.late(lived, rules)),
            Told::Watchdog => parts.push(match self.limit(rules) {
                Some(limit) => format!("no WATCHDOG=1 within {}", shown(limit)),
                None => "WATCHDOG=trigger".to_owned(),
            }),
            _ => {}
        }
        if let errno @ 1..4096 = self.errno {
            let text = crate::diag::reason(crate::sys::Errno::from_raw_os_error(errno as i32));
            parts.push(format!("{text} (ERRNO={errno})"));
        }
        if let Some(code) = self.exit_status.checked_sub(1) {
            parts.push(format!("EXIT_STATUS={code}"));
        }
        // Somebody who stops what works knows why.
        if !(self.busy.is_empty() || told.is_wish() && ready || told == Told::NotReady) {
            parts.push(format!("last status: {}", self.busy));
        }
        self.why = parts.join(": ");
        (self.status, self.busy) = Default::default();
        (self.reloading, self.stopping) = (false, false);
    }

    /// That it was not ready in time, and where it was.
    pub fn late(&self, lived: Duration, rules: &Features) -> String {
        let limit = rules.timeout_up.unwrap_or_default();
        let mut text = format!("start timed out after {}", shown(lived.max(limit)));
        if lived > limit + Duration::from_secs(1) {
            text += " without getting on any more";
        }
        if !self.busy.is_empty() {
            text += ": last status: ";
            text += &self.busy;
        }
        text
    }

    /// As bytes, for memory that outlives us.
    pub fn save(&self) -> Vec<u8> {
        let time = |at: Option<Mono>| at.map_or(0, |at| at.0.saturating_add(1));
        let watchdog = self.watchdog.map_or(0, |limit| limit.as_micros() as u64 + 1);
        let ends = u64::from(self.errno) | u64::from(self.exit_status) << 32;
        let flags = u64::from(self.reloading) | u64::from(self.stopping) << 1;
        let words = [flags, ends, watchdog, time(self.watchdog_at), self.life.0];
        let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        for text in [&self.status, &self.busy, &self.why] {
            put(&mut bytes, 0, text);
        }
        self.stored.iter().for_each(|(number, name)| put(&mut bytes, *number, name));
        bytes
    }

    /// What [`save`](Self::save) saved.
    pub fn load(bytes: &[u8]) -> Notes {
        let word = |n: usize| {
            let bytes = bytes.get(n * 8..n * 8 + 8).and_then(|word| word.try_into().ok());
            bytes.map_or(0, u64::from_ne_bytes)
        };
        let mut rest = bytes.get(WORDS * 8..).unwrap_or_default();
        let mut texts = std::iter::from_fn(|| {
            let (head, tail) = rest.split_at_checked(3)?;
            let (text, tail) = tail.split_at_checked(u16::from_ne_bytes([head[1], head[2]]).into())?;
            rest = tail;
            Some((head[0], String::from_utf8_lossy(text).into_owned()))
        });
        let mut text = || texts.next().unwrap_or_default().1;
        let (status, busy, why) = (text(), text(), text());
        Notes {
            status,
            busy,
            why,
            reloading: word(0) & 1 != 0,
            stopping: word(0) & 2 != 0,
            errno: word(1) as u32,
            exit_status: (word(1) >> 32) as u32,
            watchdog: word(2).checked_sub(1).map(Duration::from_micros),
            watchdog_at: word(3).checked_sub(1).map(Mono),
            life: Mono(word(4)),
            stored: texts.collect(),
        }
    }
}

/// Numbers of [`Notes::save`].
const WORDS: usize = 5;

fn put(bytes: &mut Vec<u8>, number: u8, text: &str) {
    bytes.push(number);
    bytes.extend((text.len() as u16).to_ne_bytes());
    bytes.extend(text.as_bytes());
}

/// A time that somebody chose, or a long one, is in whole seconds.
fn shown(time: Duration) -> String {
    let whole = time.subsec_millis() == 0 && time.as_secs() > 0;
    if whole || time.as_secs() > 9 { age(time) } else { took(time) }
}

/// One line for people.
fn shortened(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let line = line.trim();
    let end = (0..=LONGEST.min(line.len())).rev().find(|at| line.is_char_boundary(*at));
    line[..end.unwrap_or(0)].to_owned()
}

fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= LONGEST_NAME
        && name.bytes().all(|b| (b' '..127).contains(&b) && b != b':')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(ms: u64) -> Mono {
        Mono(ms * 1_000_000)
    }

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    fn rules() -> Features {
        Features { watchdog: Some(secs(2)), timeout_up: Some(secs(30)), ..Features::default() }
    }

    fn life(began: u64, ready: bool) -> Life {
        Life { began: Some(at(began)), ready, tells: true, leaving: false }
    }

    fn hear(notes: &mut Notes, text: &str) -> Said {
        notes.hear(at(1000), text.as_bytes(), false, &rules())
    }

    #[test]
    fn words_that_are_understood() {
        let mut notes = Notes::default();
        let said = hear(&mut notes, "READY=1\nSTATUS=serving 5 users\nMAINPID=4711\nX_OWN=what\nrubbish\n");
        assert!(said.ready && said.progress && said.shown && said.extend.is_none());
        assert_eq!((&*notes.status, said.main.unwrap().raw()), ("serving 5 users", 4711));
        assert_eq!(hear(&mut notes, "STATUS=serving 5 users"), Said::default(), "nothing new");
        let said = hear(&mut notes, "RELOADING=1\nMONOTONIC_USEC=123456");
        assert!(said.shown && notes.reloading);
        assert!(hear(&mut notes, "READY=1").shown && !notes.reloading);
        assert!(hear(&mut notes, "STOPPING=1").shown && notes.stopping);
        assert_eq!(hear(&mut notes, "EXTEND_TIMEOUT_USEC=1500000").extend, Some(Duration::from_millis(1500)));
        assert!(hear(&mut notes, "WATCHDOG=trigger").trigger);
        assert_eq!(hear(&mut notes, "FDSTORE=1").store, Some((true, "stored".into())));
        assert_eq!(hear(&mut notes, "FDNAME=db\nFDSTOREREMOVE=1").store, Some((false, "db".into())));
        assert_eq!(hear(&mut notes, "FDNAME=d:b\nFDSTORE=1").store, Some((true, "stored".into())));
    }

    #[test]
    fn odd_datagrams_mean_nothing() {
        for odd in
            ["", "\n\n", "READY", "READY=", "READY=yes", "ready=1", " READY=1", "READY=1\0STATUS=x", "="]
        {
            let mut notes = Notes::default();
            assert_eq!((hear(&mut notes, odd), &notes), (Said::default(), &Notes::default()), "{odd:?}");
        }
        assert!(hear(&mut Notes::default(), "READY=1\n\0").ready, "a C string");
        let mut notes = Notes::default();
        let bad = "EXTEND_TIMEOUT_USEC=-1\nWATCHDOG_USEC=x\nMAINPID=0\nMAINPID=99999999999\nERRNO=e\nEXIT_STATUS=256";
        assert_eq!((hear(&mut notes, bad), notes), (Said::default(), Notes::default()));
        let mut notes = Notes::default();
        hear(&mut notes, &format!("STATUS=\u{1b}[1m{}", "ä".repeat(300)));
        assert!(notes.status.len() <= LONGEST && notes.status.starts_with("[1mä"), "{:?}", notes.status);
    }

    #[test]
    fn a_sign_of_life_is_due_from_readiness_on() {
        let (rules, mut notes) = (rules(), Notes::default());
        notes.settle(at(1000), life(1000, false), &rules);
        hear(&mut notes, "WATCHDOG=1");
        assert_eq!(notes.watchdog_at, None);
        notes.settle(at(5000), life(1000, true), &rules);
        assert_eq!(notes.watchdog_at, Some(at(7000)));
        notes.hear(at(6500), b"WATCHDOG=1", false, &rules);
        notes.settle(at(6600), life(1000, true), &rules);
        assert_eq!(notes.watchdog_at, Some(at(8500)));
        notes.hear(at(7000), b"WATCHDOG_USEC=500000", false, &rules);
        assert_eq!(notes.watchdog_at, Some(at(7500)));
        let mut silent = notes.clone();
        silent.end(Told::Watchdog, true, secs(9), &rules);
        assert_eq!(silent.why, "no WATCHDOG=1 within 500 ms");
        notes.hear(at(7100), b"WATCHDOG_USEC=0", false, &rules);
        notes.settle(at(7200), life(1000, true), &rules);
        assert_eq!(notes.watchdog_at, None, "no more");
        notes.settle(at(9000), life(9000, true), &rules);
        assert_eq!(notes.watchdog_at, Some(at(11_000)), "what was said in a life ends with it");
        notes.settle(at(9500), Life { began: None, ..life(0, false) }, &rules);
        assert_eq!(notes.watchdog_at, None);
    }

    #[test]
    fn what_is_said_of_an_end() {
        let rules = rules();
        let why = |told, ready, lived, datagrams: &str| {
            let mut notes = Notes::default();
            notes.settle(at(500), life(500, false), &rules);
            hear(&mut notes, datagrams);
            notes.hear(at(1001), b"STATUS=stopping", true, &rules);
            notes.end(told, ready, secs(lived), &rules);
            assert_eq!(notes.status, "");
            notes.why
        };
        assert_eq!(
            why(Told::NotReady, false, 30, "STATUS=loading weights 3/5"),
            "start timed out after 30 s: last status: loading weights 3/5"
        );
        assert_eq!(
            why(Told::NotReady, false, 95, "STATUS=loading weights 3/5"),
            "start timed out after 1 min 35 s without getting on any more: last status: loading weights 3/5"
        );
        assert_eq!(
            why(Told::Nobody, true, 1, "ERRNO=2\nEXIT_STATUS=3"),
            "No such file or directory (ERRNO=2): EXIT_STATUS=3"
        );
        assert_eq!(why(Told::Nobody, true, 1, "STATUS=at work"), "last status: at work");
        assert_eq!(why(Told::Stop, true, 1, "STATUS=at work"), "");
        assert_eq!(
            why(Told::Stop, false, 1, "STATUS=loading"),
            "last status: loading",
            "somebody lost patience"
        );
    }

    proptest! {
        #[test]
        fn round_trip(datagrams in prop::collection::vec("[A-Z_]{1,8}=[0-9a-z:ä]{0,9}|STATUS=.{0,300}", 0..9),
                      stored in prop::collection::vec((any::<u8>(), "[a-z]{1,9}"), 0..9), why in ".{0,90}") {
            let mut notes = Notes { stored, why, ..Notes::default() };
            notes.settle(at(70), life(70, true), &rules());
            notes.stored.truncate(MOST_STORED);
            datagrams.iter().for_each(|datagram| drop(hear(&mut notes, datagram)));
            prop_assert_eq!(Notes::load(&notes.save()), notes);
        }

        #[test]
        fn any_bytes_are_read_without_harm(bytes: Vec<u8>) {
            Notes::default().hear(at(1), &bytes, false, &rules());
            Notes::load(&bytes);
        }
    }
}
