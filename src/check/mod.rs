//! Finding out by asking whether a service is ready: when to ask, how long to wait for an answer, when to
//! give up. Pure; [`run`] is the loop around it.
//!
//! The limits are those of s6-notifyoncheck, and so are the defaults.

pub mod run;

use crate::time::Mono;
use std::time::Duration;

/// When to ask, and how often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// `-s`: before the first attempt.
    pub first_pause: Duration,
    /// `-w`: between the end of an attempt and the next.
    pub pause: Duration,
    /// `-t`: what an attempt may take; then it is killed and has failed. None: for ever.
    pub attempt: Option<Duration>,
    /// `-T`: what all may take, counted from the start. None: for ever.
    pub all: Option<Duration>,
    /// `-n`: attempts. None: without end.
    pub tries: Option<u32>,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            first_pause: Duration::from_millis(10),
            pause: Duration::from_millis(1000),
            attempt: None,
            all: None,
            tries: Some(7),
        }
    }
}

/// What has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The time may have come. Early is no harm.
    Timeout,
    /// The check could not be started.
    NotStarted,
    /// The check ended; whether it said "ready".
    Ended(bool),
    /// The service is not there any more.
    ServiceDied,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing before the deadline.
    Wait,
    /// Start a check.
    Start,
    /// Kill the check. Its end is of no interest any more.
    Kill,
    /// End. A check that is running is to be killed.
    End(Outcome),
}

/// How asking ended. The numbers are the exit codes of the asking process, for whoever may look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Outcome {
    /// It is ready.
    Ready = 0,
    /// No attempt is left.
    NeverReady = 1,
    /// It died.
    ServiceDied = 2,
    /// `-T` is over.
    TimedOut = 3,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Until the next attempt.
    Pausing { until: Mono },
    /// An attempt is under way.
    Checking { until: Option<Mono> },
}

/// The machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Check {
    limits: Limits,
    give_up: Option<Mono>,
    tries_left: Option<u32>,
    state: State,
}

impl Check {
    /// One that begins now.
    pub fn new(now: Mono, limits: Limits) -> Check {
        Check {
            limits,
            give_up: limits.all.map(|all| now.after(all)),
            tries_left: limits.tries,
            state: State::Pausing { until: now.after(limits.first_pause) },
        }
    }

    /// When [`Event::Timeout`] is next due.
    pub fn deadline(&self) -> Option<Mono> {
        let next = match self.state {
            State::Pausing { until } => Some(until),
            State::Checking { until } => until,
        };
        [next, self.give_up].into_iter().flatten().min()
    }

    /// Takes note of an event and says what is to be done.
    pub fn on(&mut self, now: Mono, event: Event) -> Step {
        match (self.state, event) {
            (_, Event::ServiceDied) => Step::End(Outcome::ServiceDied),
            (State::Checking { .. }, Event::Ended(true)) => Step::End(Outcome::Ready),
            (_, Event::Timeout) if self.give_up.is_some_and(|at| at <= now) => Step::End(Outcome::TimedOut),
            (State::Pausing { until }, Event::Timeout) if until <= now => self.attempt(now),
            (State::Checking { until: Some(until) }, Event::Timeout) if until <= now => {
                match self.failed(now) {
                    Step::Wait => Step::Kill,
                    end => end,
                }
            }
            (State::Checking { .. }, Event::NotStarted | Event::Ended(false)) => self.failed(now),
            (State::Pausing { .. }, Event::NotStarted | Event::Ended(_) | Event::Timeout)
            | (State::Checking { .. }, Event::Timeout) => Step::Wait,
        }
    }

    fn attempt(&mut self, now: Mono) -> Step {
        self.tries_left = self.tries_left.map(|n| n.saturating_sub(1));
        self.state = State::Checking { until: self.limits.attempt.map(|limit| now.after(limit)) };
        Step::Start
    }

    fn failed(&mut self, now: Mono) -> Step {
        if self.tries_left == Some(0) {
            return Step::End(Outcome::NeverReady);
        }
        self.state = State::Pausing { until: now.after(self.limits.pause) };
        Step::Wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(ms: u64) -> Mono {
        Mono(0).after(Duration::from_millis(ms))
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn asks_until_the_answer_is_yes() {
        let mut check = Check::new(at(0), Limits::default());
        assert_eq!(check.deadline(), Some(at(10)));
        assert_eq!(check.on(at(9), Event::Timeout), Step::Wait);
        assert_eq!(check.on(at(10), Event::Timeout), Step::Start);
        assert_eq!(check.deadline(), None);
        assert_eq!(check.on(at(50), Event::Ended(false)), Step::Wait);
        assert_eq!(check.deadline(), Some(at(1050)));
        assert_eq!(check.on(at(1050), Event::Timeout), Step::Start);
        assert_eq!(check.on(at(1060), Event::Ended(true)), Step::End(Outcome::Ready));
    }

    #[test]
    fn a_hanging_attempt_is_killed_and_has_failed() {
        let limits = Limits { attempt: Some(ms(200)), tries: Some(2), ..Limits::default() };
        let mut check = Check::new(at(0), limits);
        assert_eq!(check.on(at(10), Event::Timeout), Step::Start);
        assert_eq!(check.deadline(), Some(at(210)));
        assert_eq!(check.on(at(210), Event::Timeout), Step::Kill);
        assert_eq!(check.on(at(211), Event::Ended(true)), Step::Wait, "too late");
        assert_eq!(check.deadline(), Some(at(1210)));
        assert_eq!(check.on(at(1210), Event::Timeout), Step::Start);
        assert_eq!(check.on(at(1410), Event::Timeout), Step::End(Outcome::NeverReady));
    }

    #[test]
    fn the_whole_time_counts_from_the_start() {
        let limits = Limits { all: Some(ms(500)), tries: None, ..Limits::default() };
        let mut check = Check::new(at(0), limits);
        assert_eq!(check.on(at(10), Event::Timeout), Step::Start);
        assert_eq!(check.deadline(), Some(at(500)));
        assert_eq!(check.on(at(500), Event::Timeout), Step::End(Outcome::TimedOut));
    }

    #[test]
    fn what_cannot_be_started_is_an_attempt_too() {
        let mut check = Check::new(at(0), Limits { tries: Some(1), ..Limits::default() });
        assert_eq!(check.on(at(10), Event::Timeout), Step::Start);
        assert_eq!(check.on(at(10), Event::NotStarted), Step::End(Outcome::NeverReady));
    }

    #[test]
    fn nobody_asks_for_the_dead() {
        let mut check = Check::new(at(0), Limits::default());
        assert_eq!(check.on(at(1), Event::ServiceDied), Step::End(Outcome::ServiceDied));
        check.on(at(10), Event::Timeout);
        assert_eq!(check.on(at(11), Event::ServiceDied), Step::End(Outcome::ServiceDied));
    }

    proptest! {
        /// However checks end, there are exactly as many attempts as allowed, one at a time.
        #[test]
        fn as_many_attempts_as_allowed(tries in 1u32..20, ends in prop::collection::vec(0u8..3, 20)) {
            let limits = Limits { tries: Some(tries), attempt: Some(ms(5)), ..Limits::default() };
            let mut check = Check::new(at(0), limits);
            let mut started = 0;
            loop {
                let now = check.deadline().unwrap();
                prop_assert_eq!(check.on(now, Event::Timeout), Step::Start);
                let end = ends[started as usize];
                started += 1;
                let step = match end {
                    0 => check.on(now, Event::NotStarted),
                    1 => check.on(now, Event::Ended(false)),
                    _ => check.on(check.deadline().unwrap(), Event::Timeout),
                };
                if step == Step::End(Outcome::NeverReady) {
                    break;
                }
                prop_assert_eq!(step, if end == 2 { Step::Kill } else { Step::Wait });
            }
            prop_assert_eq!(started, tries);
        }
    }
}
