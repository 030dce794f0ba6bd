//! Faults that are nobody's own: descriptors, memory, processes, room on a disk are exhausted. They hit every
//! service at once, so they are said once, with the first service that they hit, and once more when the last
//! one is over them.
#![forbid(unsafe_code)]

use super::Host;
use crate::diag::{self, Level};
use crate::ordered::{Map, Set};
use crate::sys::Errno;
use std::fmt;

/// What could not be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    /// To take a service in, or to open what it is supervised with.
    Open,
    /// To start a process of it.
    Start,
    /// To write down what it is.
    Write,
}

/// Who is hit by what. Empty nearly always.
#[derive(Default)]
pub(super) struct Faults(Map<i32, Hit>);

#[derive(Default)]
struct Hit {
    now: Set<(Box<str>, Step)>,
    ever: Set<Box<str>>,
}

impl Faults {
    /// Takes note of a fault; whether nobody has been hit by it before.
    fn note(&mut self, name: &str, step: Step, errno: Errno) -> bool {
        let raw = errno.raw_os_error();
        self.0.retain(|other, hit| {
            *other == raw || !hit.now.remove(&(name.into(), step)) || !hit.now.is_empty()
        });
        let hit = self.0.entry(raw).or_default();
        let first = hit.ever.is_empty();
        hit.now.insert((name.into(), step));
        hit.ever.insert(name.into());
        first
    }

    /// A step was done; the faults that nobody has any more, and how many had them.
    fn over(&mut self, name: &str, step: Step) -> Vec<(Errno, usize)> {
        let mut over = Vec::new();
        self.0.retain(|raw, hit| {
            let was = hit.now.remove(&(name.into(), step));
            if was && hit.now.is_empty() {
                over.push((Errno::from_raw_os_error(*raw), hit.ever.len()));
            }
            !hit.now.is_empty()
        });
        over
    }
}

impl Host {
    /// Says that something could not be done: once for all services if something is exhausted, and not at all
    /// if that is `said` already of this one.
    pub(super) fn complain(
        &mut self,
        name: &str,
        step: Step,
        errno: Option<Errno>,
        said: bool,
        text: impl fmt::Display,
    ) {
        let exhausted = errno.filter(|e| diag::is_exhausted(*e));
        let say = match exhausted {
            Some(errno) => self.faults.note(name, step, errno),
            None => !said,
        };
        if say {
            let once = if exhausted.is_some() && !self.single { "; said once for all services" } else { "" };
            let who = format!("supervise {name}");
            diag::say_as(&who, Level::Warning, format_args!("{text}{once}"));
        }
    }

    /// A step was done, or is not to be done any more.
    pub(super) fn fault_over(&mut self, name: &str, step: Step) {
        if self.faults.0.is_empty() {
            return;
        }
        for (errno, count) in self.faults.over(name, step) {
            let services = if count == 1 { "service" } else { "services" };
            diag::info(format_args!("over: {} ({count} {services} had to wait)", diag::reason(errno)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_said_once_and_is_over_with_the_last() {
        let mut faults = Faults::default();
        assert!(faults.note("a", Step::Write, Errno::NOSPC));
        assert!(!faults.note("b", Step::Write, Errno::NOSPC));
        assert!(!faults.note("a", Step::Write, Errno::NOSPC));
        assert!(faults.note("a", Step::Start, Errno::AGAIN));
        assert_eq!(faults.over("a", Step::Write), []);
        assert_eq!(faults.over("c", Step::Write), []);
        assert_eq!(faults.over("b", Step::Write), [(Errno::NOSPC, 2)]);
        assert!(faults.note("b", Step::Write, Errno::NOSPC), "a new one is said again");
        assert_eq!(faults.over("a", Step::Start), [(Errno::AGAIN, 1)]);
    }

    #[test]
    fn a_step_has_one_fault() {
        let mut faults = Faults::default();
        assert!(faults.note("a", Step::Open, Errno::MFILE));
        assert!(faults.note("a", Step::Open, Errno::NOSPC));
        assert_eq!(faults.over("a", Step::Open), [(Errno::NOSPC, 1)]);
        assert!(faults.0.is_empty());
    }
}
