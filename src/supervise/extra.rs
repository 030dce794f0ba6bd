//! What a service has in mind that has files of ours: how often it ended, what is being asked about it, what came
//! of that. Pure, as the [machine](super::machine) is, and kept in the journal beside it.
//!
//! # Policy
//!
//! An end that nobody asked for is judged ([`Extra::on_end`]): whether the service is started again (`restart`),
//! when (`restart-delay`), or not any more (`give-up`). The machine is told before it is told of the death. What
//! was judged is counted once, also if we are killed between the two: deaths have numbers.
//!
//! # Asking
//!
//! One program at a time is run beside the service to ask something: `condition` and `validate` before a start,
//! `validate` before a restart. It is a process of its own and is remembered like one: a successor that finds it
//! ends it and asks again, so that nobody is asked twice at a time and every question has an answer.
//! # Clocks
//!
//! Three, which have nothing to do with each other: until when it must be ready (`timeout-up`), when it is asked
//! whether it is (`check`, ever less often), and, once it is, when it is asked whether it is well (`health`).
//! [`Extra::settle`] sets and stops them by what the machine is: they belong to one life of the service.
#![forbid(unsafe_code)]

use crate::process::{End, Pid, Signal, WaitStatus};
use crate::servicedir::control::Command;
use crate::servicedir::feature::{Features, MOST_ENDS, Restart};
use crate::time::{Mono, Now, Stamp};
use std::time::Duration;

/// Words of [`Extra::save`].
pub const EXTRA_WORDS: usize = 50;

/// What a program is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// `condition`: shall it be started at all?
    Condition,
    /// `validate`: can it be started?
    Start,
    /// `validate`: can it be restarted by this command?
    Restart(Command),
    /// `validate`: what does it say? Nothing follows from it.
    Only,
    /// `check`: is it ready?
    Check,
    /// `health`: is it well?
    Health,
}

/// A question that is being asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asking {
    /// Which.
    pub ask: Ask,
    /// Who is asked: pid, and when it was made.
    pub process: Option<(Pid, u64)>,
    /// When it is killed.
    pub until: Option<Mono>,
    /// It was killed because it took too long.
    pub overdue: bool,
    /// Of a restart: the process that is to be restarted, and no other.
    pub target: Option<(Pid, u64)>,
}

/// What follows from an end that nobody asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Start it again: not before this, or as if nothing were said about it.
    Again(Option<Mono>),
    /// `restart` says no.
    NotAgain,
    /// `give-up` says no.
    GiveUp,
}

/// What becomes of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// The machine is told.
    Obey,
    /// The machine is told, and whoever is being asked is not asked any more.
    Force,
    /// This is asked first, and the machine is told if the answer is yes.
    Ask(Asking),
    /// There is nobody to ask, who could only have said yes.
    Yes,
    /// It was about what comes next.
    Noted,
}

/// Ends are remembered in tenths of a second since boot.
const TICK: u64 = 100_000_000;

/// See the module's description.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extra {
    /// When it ended, the newest last; 0 for none.
    ends: [u32; MOST_ENDS],
    /// The number of the last death that was judged.
    judged: u32,
    /// Starts that were put off in a row.
    step: u32,
    /// What is being asked.
    pub asking: Option<Asking>,
    /// Why `validate` refused, and when: the reason is in a file.
    pub refused: Option<Stamp>,
    /// It was tried too often.
    pub gave_up: bool,
    /// `condition` said no.
    pub skipped: bool,
    /// What runs, or is about to, is `fallback`.
    pub fallback: bool,
    /// The next command is obeyed without asking.
    pub force: bool,
    /// The next start is made without asking `validate`: it is that of a restart by force.
    pub force_start: bool,
    /// Which life the clocks are of: when it began.
    clocks_of: Mono,
    /// `check` is asked.
    pub check_at: Option<Mono>,
    /// So often it was, in this life.
    checks: u32,
    /// It must be ready.
    pub up_until: Option<Mono>,
    /// `health` is asked.
    pub health_at: Option<Mono>,
    /// What it said no in a row, and after that yes.
    pub failures: u16,
    successes: u16,
}

/// What the clocks depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// When run was started, if it is up.
    pub began: Option<Mono>,
    /// It is ready.
    pub ready: bool,
    /// It can be.
    pub tells: bool,
    /// It was told to end.
    pub leaving: bool,
}

/// From the start of run to the first `check`; twice as long to the next, and so on.
const FIRST_CHECK: Duration = Duration::from_millis(20);

/// The longest pause between two, where nothing else is said.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Between two times that `health` is asked, where nothing else is said.
const HEALTH_INTERVAL: Duration = Duration::from_secs(30);

/// What `check` and `health` may take where nothing else is said.
const TIMEOUT: Duration = Duration::from_secs(10);

impl Default for Extra {
    fn default() -> Extra {
        Extra {
            ends: [0; MOST_ENDS],
            judged: 0,
            step: 0,
            asking: None,
            refused: None,
            gave_up: false,
            skipped: false,
            fallback: false,
            force: false,
            force_start: false,
            clocks_of: Mono::default(),
            check_at: None,
            checks: 0,
            up_until: None,
            health_at: None,
            failures: 0,
            successes: 0,
        }
    }
}

impl Extra {
    /// Judges an end: of run, its `number`th, or (without number) an attempt to start it. `lived`: how long it
    /// was up.
    pub fn on_end(
        &mut self,
        now: Mono,
        number: Option<u32>,
        status: WaitStatus,
        lived: Duration,
        rules: &Features,
    ) -> Verdict {
        let is_new = number.is_none_or(|number| number != self.judged);
        self.judged = number.unwrap_or(self.judged);
        if is_new {
            self.count(now, lived, rules);
        }
        if let Some((most, window)) = rules.give_up {
            let since = ticks(now).saturating_sub((window.as_nanos() / u128::from(TICK)) as u32);
            let ends = self.ends.iter().filter(|end| **end != 0 && **end >= since).count();
            if ends >= most as usize {
                self.gave_up = true;
                return Verdict::GiveUp;
            }
        }
        let failed = number.is_none() || status.end() != End::Exit(0);
        match rules.restart_or_default() {
            Restart::Never if number.is_some() => return Verdict::NotAgain,
            Restart::OnFailure if !failed => return Verdict::NotAgain,
            Restart::Always | Restart::OnFailure | Restart::Never => {}
        }
        Verdict::Again(rules.restart_delay.map(|(first, most)| now.after(self.delay(now, first, most))))
    }

    fn count(&mut self, now: Mono, lived: Duration, rules: &Features) {
        self.ends.rotate_left(1);
        self.ends[MOST_ENDS - 1] = ticks(now).max(1);
        let long = rules.restart_delay.is_some_and(|(_, most)| lived > most);
        self.step = if long { 1 } else { self.step.saturating_add(1) };
    }

    /// The first time `first`, doubled each time until it is `most`; a quarter of it is left to chance, so that
    /// services that die together do not start together. Those whose delay is always the same have it exactly.
    fn delay(&self, now: Mono, first: Duration, most: Duration) -> Duration {
        let doublings = self.step.saturating_sub(1).min(30);
        let delay = first.saturating_mul(1 << doublings).min(most);
        if first == most {
            return delay;
        }
        // The time of a death, to the nanosecond, is nobody's choice.
        let chance = (now.0 % 1009) as u32;
        delay - delay / 4 * chance / 1009
    }

    /// Sets and stops the clocks.
    pub fn settle(&mut self, now: Mono, life: Life, rules: &Features) {
        let Some(began) = life.began else {
            (self.check_at, self.up_until, self.health_at) = (None, None, None);
            return;
        };
        if self.clocks_of != began {
            (self.clocks_of, self.checks) = (began, 0);
            (self.failures, self.successes) = (0, 0);
            self.check_at = rules.check.then(|| now.after(FIRST_CHECK));
            self.up_until = rules.timeout_up.filter(|_| life.tells).map(|limit| began.after(limit));
            self.health_at = None;
        }
        if life.ready || !life.tells {
            (self.check_at, self.up_until) = (None, None);
            let asked = self.asking.is_some_and(|asking| asking.ask == Ask::Health);
            if rules.health && self.health_at.is_none() && !asked {
                self.health_at = Some(now.after(rules.health_interval.unwrap_or(HEALTH_INTERVAL)));
            }
        }
    }

    /// `check` said no: it is asked again, ever less often.
    pub fn not_ready(&mut self, now: Mono, rules: &Features) {
        self.checks = self.checks.saturating_add(1);
        let most = rules.check_interval.unwrap_or(CHECK_INTERVAL);
        let pause = FIRST_CHECK.saturating_mul(1 << self.checks.min(20)).min(most);
        self.check_at = Some(now.after(pause));
    }

    /// `health` has answered. True: it has said no too often.
    pub fn on_health(&mut self, good: bool, rules: &Features) -> bool {
        let (most, enough) = rules.health_retries.unwrap_or((3, 1));
        if !good {
            (self.failures, self.successes) = (self.failures.saturating_add(1), 0);
            return u32::from(self.failures) >= most;
        }
        self.successes = self.successes.saturating_add(1);
        if u32::from(self.successes) >= enough {
            (self.failures, self.successes) = (0, 0);
        }
        false
    }

    /// Looks at a command before the machine does. `validates`: there is a `validate`; `restarts`: the process, if
    /// a restart would end one that is wanted up.
    pub fn guard(&mut self, command: Command, validates: bool, restarts: Option<(Pid, u64)>) -> Guard {
        match command {
            Command::Validate if !validates => Guard::Yes,
            Command::Validate => Guard::Ask(Asking::new(Ask::Only, None)),
            Command::Force => {
                self.force = true;
                Guard::Noted
            }
            Command::Restart | Command::Signal(Signal::TERM) if validates && restarts.is_some() => {
                self.force_start |= self.force;
                match std::mem::take(&mut self.force) {
                    true => Guard::Force,
                    false => Guard::Ask(Asking::new(Ask::Restart(command), restarts)),
                }
            }
            command => {
                self.force = false;
                if command == Command::Reset {
                    self.reset();
                }
                Guard::Obey
            }
        }
    }

    /// A person wants to begin anew.
    pub fn reset(&mut self) {
        (self.ends, self.judged, self.step, self.gave_up) = ([0; MOST_ENDS], 0, 0, false);
    }

    /// When something must be done about who is asked.
    pub fn deadline(&self) -> Option<Mono> {
        let asking = self.asking.filter(|asking| !asking.overdue).and_then(|asking| asking.until);
        let free = self.asking.is_none();
        let questions = [self.check_at, self.health_at].map(|at| at.filter(|_| free));
        [asking, self.up_until, questions[0], questions[1]].into_iter().flatten().min()
    }

    /// When who is asked has to have answered.
    pub fn answer_until(&self) -> Option<Mono> {
        self.asking.filter(|asking| !asking.overdue).and_then(|asking| asking.until)
    }

    /// Stamps are made true after the wall clock was set.
    pub fn clock_set(&mut self, now: Now) {
        self.refused = self.refused.map(|stamp| stamp.reanchored(now));
    }
}

impl Asking {
    /// That something is to be asked; nobody is asked yet.
    pub fn new(ask: Ask, target: Option<(Pid, u64)>) -> Asking {
        Asking { ask, process: None, until: None, overdue: false, target }
    }

    /// What an answer may take.
    pub fn limit(&self, rules: &Features) -> Duration {
        match self.ask {
            Ask::Check => rules.timeout_check.unwrap_or(TIMEOUT),
            Ask::Health => rules.health_timeout.unwrap_or(TIMEOUT),
            Ask::Condition | Ask::Start | Ask::Restart(_) | Ask::Only => rules.validate_limit(),
        }
    }

    /// The answer is of no use any more: the start is not wanted, or whom it is about has ended.
    pub fn is_vain(&self, starting: bool, process: Option<(Pid, u64)>) -> bool {
        match self.is_for_start() {
            true => !starting,
            false => self.target.is_some() && self.target != process,
        }
    }

    /// The command that is to be obeyed now that the answer is there.
    pub fn permits(&self, good: bool, process: Option<(Pid, u64)>) -> Option<Command> {
        match self.ask {
            // Another process runs by now: it was started after the question.
            Ask::Restart(command) if good && process == self.target => Some(command),
            _ => None,
        }
    }

    /// A start depends on it.
    pub fn is_for_start(&self) -> bool {
        matches!(self.ask, Ask::Condition | Ask::Start)
    }
}

fn ticks(now: Mono) -> u32 {
    u32::try_from(now.0 / TICK).unwrap_or(u32::MAX)
}

/// What must survive the process: everything.
impl Extra {
    /// As words, for memory that outlives us.
    pub fn save(&self) -> [u32; EXTRA_WORDS] {
        let mut words = [0; EXTRA_WORDS];
        let mut at = 0;
        let mut put = |n: u32| {
            words[at] = n;
            at += 1;
        };
        self.ends.iter().for_each(|end| put(*end));
        put(self.judged);
        put(self.step);
        let overdue = self.asking.is_some_and(|asking| asking.overdue);
        let flags = [self.gave_up, self.skipped, self.fallback, self.force, overdue, self.force_start];
        put(flags.iter().enumerate().fold(0, |bits, (i, on)| bits | (*on as u32) << i));
        let (kind, letter) = match self.asking.map(|asking| asking.ask) {
            None => (0, 0),
            Some(Ask::Condition) => (1, 0),
            Some(Ask::Start) => (2, 0),
            Some(Ask::Restart(command)) => (3, command.letter()),
            Some(Ask::Only) => (4, 0),
            Some(Ask::Check) => (5, 0),
            Some(Ask::Health) => (6, 0),
        };
        put(kind | u32::from(letter) << 8);
        let asking = self.asking;
        for process in [asking.and_then(|a| a.process), asking.and_then(|a| a.target)] {
            let (pid, boot) = process.map_or((0, 0), |(pid, boot)| (pid.raw() as u32, boot));
            put(pid);
            put(boot as u32);
            put((boot >> 32) as u32);
        }
        let until = asking.and_then(|a| a.until);
        for at in [until, self.check_at, self.up_until, self.health_at, Some(self.clocks_of)] {
            let at = at.map_or(0, |at| at.0.saturating_add(1));
            put(at as u32);
            put((at >> 32) as u32);
        }
        put(self.checks);
        put(u32::from(self.failures) | u32::from(self.successes) << 16);
        let stamp = self.refused.unwrap_or_default();
        put(self.refused.is_some() as u32);
        for n in [stamp.mono.0, stamp.wall.secs as u64] {
            put(n as u32);
            put((n >> 32) as u32);
        }
        put(stamp.wall.nanos);
        words
    }

    /// What [`save`](Self::save) saved.
    pub fn load(words: &[u32; EXTRA_WORDS]) -> Extra {
        let mut at = words.iter().copied();
        let mut get = || at.next().unwrap_or_default();
        let ends = std::array::from_fn(|_| get());
        let (judged, step, flags, kind) = (get(), get(), get(), get());
        let mut process = || {
            let (pid, low, high) = (get(), get(), get());
            let pid = i32::try_from(pid).ok().and_then(Pid::from_raw)?;
            Some((pid, u64::from(low) | u64::from(high) << 32))
        };
        let (asked, target) = (process(), process());
        let mut wide = || u64::from(get()) | u64::from(get()) << 32;
        let mut time = || wide().checked_sub(1).map(Mono);
        let (until, check_at, up_until, health_at) = (time(), time(), time(), time());
        let clocks_of = time().unwrap_or_default();
        let (checks, health) = (get(), get());
        let is_refused = get() != 0;
        let mut wide = || u64::from(get()) | u64::from(get()) << 32;
        let (mono, secs) = (Mono(wide()), wide() as i64);
        let wall = crate::time::Tai64n { secs, nanos: get().min(999_999_999) };
        let flag = |bit: u32| flags >> bit & 1 != 0;
        let ask = match kind & 0xff {
            1 => Some(Ask::Condition),
            2 => Some(Ask::Start),
            3 => Command::try_from((kind >> 8) as u8).ok().map(Ask::Restart),
            4 => Some(Ask::Only),
            5 => Some(Ask::Check),
            6 => Some(Ask::Health),
            _ => None,
        };
        Extra {
            ends,
            judged,
            step,
            asking: ask.map(|ask| Asking { ask, process: asked, until, overdue: flag(4), target }),
            refused: is_refused.then_some(Stamp { mono, wall }),
            gave_up: flag(0),
            skipped: flag(1),
            fallback: flag(2),
            force: flag(3),
            force_start: flag(5),
            clocks_of,
            check_at,
            checks,
            up_until,
            health_at,
            failures: health as u16,
            successes: (health >> 16) as u16,
        }
    }
}

#[cfg(test)]
#[path = "guard_tests.rs"]
mod guard_tests;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::Signal;
    use proptest::prelude::*;

    const CRASH: WaitStatus = WaitStatus(11);

    fn at(ms: u64) -> Mono {
        Mono(ms * 1_000_000)
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn rules(files: &[(&'static str, &str)]) -> Features {
        let mut features = Features::default();
        files.iter().for_each(|(name, text)| features.take(name, text.as_bytes()).unwrap());
        features
    }

    #[test]
    fn delays_double_up_to_the_most_and_begin_anew_after_a_long_life() {
        let rules = rules(&[("restart-delay", "100ms 1s")]);
        let mut extra = Extra::default();
        let mut delay = |number, now: Mono, lived| match extra.on_end(now, Some(number), CRASH, lived, &rules)
        {
            Verdict::Again(Some(until)) => until.since(now),
            other => panic!("{other:?}"),
        };
        for (number, full) in [(1, 100), (2, 200), (3, 400), (4, 800), (5, 1000), (6, 1000)] {
            let delay = delay(number, at(number as u64 * 1000 + 500), ms(500));
            assert!(delay <= ms(full) && delay >= ms(full) * 3 / 4, "{number}: {delay:?}");
        }
        assert!(delay(7, at(9_000), ms(1001)) <= ms(100), "it was up for longer than the longest delay");
    }

    #[test]
    fn a_flat_delay_is_exact() {
        let rules = rules(&[("restart-delay", "5s\n")]);
        let mut extra = Extra::default();
        for number in 1..4 {
            let verdict = extra.on_end(at(7), Some(number), WaitStatus(0), ms(0), &rules);
            assert_eq!(verdict, Verdict::Again(Some(at(5007))));
        }
    }

    #[test]
    fn gives_up_after_so_many_ends_within_the_window() {
        let rules = rules(&[("give-up", "3 10s")]);
        let mut extra = Extra::default();
        let times = [(1_000, false), (8_000, false), (12_000, false), (13_000, true)];
        for (number, (time, over)) in times.into_iter().enumerate() {
            let verdict = extra.on_end(at(time), Some(number as u32 + 1), CRASH, ms(0), &rules);
            assert_eq!(verdict == Verdict::GiveUp, over, "at {time}");
        }
        assert!(extra.gave_up);
        extra.reset();
        assert_eq!(extra.on_end(at(13_100), Some(1), CRASH, ms(0), &rules), Verdict::Again(None));
    }

    #[test]
    fn a_death_is_judged_again_and_counted_once() {
        let rules = rules(&[("give-up", "2 10s")]);
        let mut extra = Extra::default();
        for _ in 0..5 {
            assert_eq!(extra.on_end(at(1000), Some(1), CRASH, ms(0), &rules), Verdict::Again(None));
            extra = Extra::load(&extra.save());
        }
        assert_eq!(
            extra.on_end(at(1000), None, CRASH, ms(0), &rules),
            Verdict::GiveUp,
            "a failed start is an end"
        );
    }

    #[test]
    fn restart_says_which_ends_count() {
        for (word, clean, failed) in [
            ("always", Verdict::Again(None), Verdict::Again(None)),
            ("on-failure", Verdict::NotAgain, Verdict::Again(None)),
            ("never", Verdict::NotAgain, Verdict::NotAgain),
        ] {
            let rules = rules(&[("restart", word)]);
            let judge = |status| Extra::default().on_end(at(1), Some(1), status, ms(0), &rules);
            assert_eq!((judge(WaitStatus(0)), judge(WaitStatus::exited(1))), (clean, failed), "{word}");
            assert_eq!(judge(WaitStatus::killed(Signal::KILL)), failed, "{word}");
            let not_started = Extra::default().on_end(at(1), None, CRASH, ms(0), &rules);
            assert_eq!(not_started, Verdict::Again(None), "what could not be started has not run yet");
        }
        let rules = rules(&[("on-exit", "stop-container")]);
        let judge = |status| Extra::default().on_end(at(1), Some(1), status, ms(0), &rules);
        assert_eq!(judge(CRASH), Verdict::NotAgain, "where nothing is said about restarts");
    }

    fn life(ready: bool) -> Life {
        Life { began: Some(at(1000)), ready, tells: true, leaving: false }
    }

    #[test]
    fn readiness_is_asked_for_ever_less_often_until_it_is_there() {
        let rules = rules(&[("check", ""), ("check-interval", "300ms"), ("timeout-up", "5s")]);
        let mut extra = Extra::default();
        extra.settle(at(1001), life(false), &rules);
        assert_eq!((extra.check_at, extra.up_until), (Some(at(1021)), Some(at(6000))));
        for pause in [40, 80, 160, 300, 300] {
            extra.check_at = None;
            extra.not_ready(at(2000), &rules);
            extra.settle(at(2001), life(false), &rules);
            assert_eq!(extra.check_at, Some(at(2000 + pause)));
            assert_eq!(extra.deadline(), extra.check_at);
        }
        extra.settle(at(3000), life(true), &rules);
        assert_eq!(extra.deadline(), None);
        extra.settle(at(9000), Life { began: Some(at(8000)), ..life(false) }, &rules);
        assert_eq!((extra.check_at, extra.up_until), (Some(at(9020)), Some(at(13_000))), "another life");
        extra.settle(at(9500), Life { began: None, ..life(false) }, &rules);
        assert_eq!(extra.deadline(), None);
    }

    #[test]
    fn health_is_asked_for_once_it_is_ready() {
        let rules = rules(&[("health", ""), ("health-interval", "2s"), ("health-retries", "3 2")]);
        let mut extra = Extra::default();
        extra.settle(at(1001), life(false), &rules);
        assert_eq!(extra.deadline(), None);
        extra.settle(at(4000), life(true), &rules);
        assert_eq!(extra.deadline(), Some(at(6000)));
        let answers = [false, false, true, false, true, true, false, false, false];
        let over: Vec<bool> = answers.map(|good| extra.on_health(good, &rules)).into();
        assert_eq!(
            over,
            [false, false, false, true, false, false, false, false, true],
            "one success is not enough"
        );
        // One that cannot say that it is ready is asked from its start on.
        let mut extra = Extra::default();
        extra.settle(at(1000), Life { tells: false, ..life(false) }, &rules);
        assert_eq!(extra.deadline(), Some(at(3000)));
    }

    proptest! {
        #[test]
        fn round_trip(
            times in prop::collection::vec(1u64..1 << 40, 0..30), flags in 0u8..64, kind in 0u8..7,
            clocks: [Option<u32>; 3], counts: [u16; 3],
            pid in 0i32..i32::MAX, boot: u64, until: Option<u32>, refused: Option<u32>,
        ) {
            let mut extra = Extra::default();
            let rules = rules(&[("give-up", "5 1m")]);
            for (n, time) in times.into_iter().enumerate() {
                extra.on_end(Mono(time), Some(n as u32), CRASH, ms(5), &rules);
            }
            (extra.gave_up, extra.skipped) = (flags & 1 != 0, flags & 2 != 0);
            (extra.fallback, extra.force) = (flags & 4 != 0, flags & 8 != 0);
            extra.force_start = flags & 32 != 0;
            let ask = match kind {
                1 => Some(Ask::Condition),
                2 => Some(Ask::Start),
                3 => Some(Ask::Restart(Command::Signal(Signal::TERM))),
                4 => Some(Ask::Only),
                5 => Some(Ask::Check),
                6 => Some(Ask::Health),
                _ => None,
            };
            let at = |n: Option<u32>| n.map(|n| Mono(n.into()));
            [extra.check_at, extra.up_until, extra.health_at] = clocks.map(at);
            (extra.checks, extra.failures, extra.successes) = (counts[0].into(), counts[1], counts[2]);
            extra.clocks_of = Mono(boot >> 1);
            let process = Pid::from_raw(pid).map(|pid| (pid, boot));
            extra.asking = ask.map(|ask| Asking {
                ask,
                process,
                until: until.map(|n| Mono(n.into())),
                overdue: flags & 16 != 0,
                target: process,
            });
            extra.refused = refused.map(|n| {
                Stamp { mono: Mono(n.into()), wall: crate::time::Tai64n { secs: -i64::from(n), nanos: 5 } }
            });
            prop_assert_eq!(Extra::load(&extra.save()), extra);
        }
    }
}
