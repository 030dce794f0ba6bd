//! The machine of a oneshot: a script that brings something up, and one that takes it down again.
//!
//! # States
//!
//! - **Idle**: nothing runs. What the last script did is remembered: up, down, or failed while doing which.
//! - **Running**: a script runs. It has a deadline; after that it is told to end, and after [`GRACE`] more
//!   it is killed. The same happens when somebody cancels it.
//!
//! A oneshot is started because somebody asked, never because it ended. Asking for what is so already is
//! answered at once; asking for the other direction while a script runs cancels the script first.
#![forbid(unsafe_code)]

use super::machine::{Loader, SAVED_WORDS, Saver};
use crate::process::{Pid, Signal, WaitStatus};
use crate::servicedir::status::Status;
use crate::time::{Mono, Now, Stamp};
use std::time::Duration;

/// From the polite signal to SIGKILL.
pub const GRACE: Duration = Duration::from_secs(5);

/// Which script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Script {
    /// `up`
    Up,
    /// `down`
    Down,
}

/// What a oneshot is when nothing of it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Never brought up, or taken down.
    Down,
    /// Brought up.
    Up,
    /// The script failed. After a failed `up` it counts as down, after a failed `down` as up.
    Failed(Script),
}

impl Outcome {
    /// Whether it counts as up.
    pub fn is_up(self) -> bool {
        matches!(self, Outcome::Up | Outcome::Failed(Script::Down))
    }
}

/// Where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing runs.
    Idle,
    /// A script runs.
    Running {
        /// Which.
        script: Script,
        /// It.
        pid: Pid,
        /// When it is told to end, or killed if it was told.
        limit: Option<Mono>,
        /// It was told to end.
        told: bool,
    },
}

/// What happens to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Somebody wants a script to have run, within this time.
    Ask(Script, Option<Duration>),
    /// Somebody does not want it any longer.
    Cancel,
    /// What [`Todo::start`] asked for runs.
    Started {
        /// It.
        pid: Pid,
        /// Nanoseconds since boot just before it was made.
        boot: u64,
    },
    /// The script is empty: there is nothing to run, and that has succeeded.
    Nothing,
    /// What [`Todo::start`] asked for could not be started.
    NotStarted,
    /// The process has died.
    Died(WaitStatus),
    /// A deadline may have passed.
    Timeout,
    /// The wall clock was set.
    ClockSet,
}

/// What must now be done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Todo {
    /// Send these to the script's whole process group.
    pub signals: Vec<Signal>,
    /// Start this script and say how it went.
    pub start: Option<Script>,
    /// It is idle again, or was already what was asked for: whoever waits is to be answered.
    pub settled: bool,
    /// Write status and state.
    pub status: bool,
}

/// The exit code that stands for "could not be started", as a shell has it for a command not found.
const NOT_STARTED: u8 = 127;

/// One oneshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Oneshot {
    state: State,
    outcome: Outcome,
    starting: Option<Script>,
    /// What to do when the present script has ended: it was cancelled for this.
    next: Option<(Script, Option<Duration>)>,
    limit: Option<Duration>,
    /// It ended because its time was up.
    timed_out: bool,
    wait: WaitStatus,
    began: Stamp,
    ended: Stamp,
    boot: u64,
}

impl Oneshot {
    /// One that has never run.
    pub fn new(now: Now) -> Oneshot {
        Oneshot {
            state: State::Idle,
            outcome: Outcome::Down,
            starting: None,
            next: None,
            limit: None,
            timed_out: false,
            wait: WaitStatus::default(),
            began: now.into(),
            ended: now.into(),
            boot: 0,
        }
    }

    /// Where it is.
    pub fn state(&self) -> State {
        self.state
    }

    /// What it is, or was before the present script began.
    pub fn outcome(&self) -> Outcome {
        self.outcome
    }

    /// How the last script ended.
    pub fn wait(&self) -> WaitStatus {
        self.wait
    }

    /// Whether the last script ended because its time was up.
    pub fn timed_out(&self) -> bool {
        self.timed_out
    }

    /// How long the last script took.
    pub fn took(&self) -> Duration {
        self.ended.mono.since(self.began.mono)
    }

    /// What [`Todo::start`] asked for and nobody has answered yet.
    pub fn starting(&self) -> Option<Script> {
        self.starting
    }

    /// The process, and when it was made.
    pub fn process(&self) -> Option<(Pid, u64)> {
        match self.state {
            State::Running { pid, .. } => Some((pid, self.boot)),
            State::Idle => None,
        }
    }

    /// When [`Event::Timeout`] is next due.
    pub fn deadline(&self) -> Option<Mono> {
        match self.state {
            State::Running { limit, .. } => limit,
            State::Idle => None,
        }
    }

    /// The record for `supervise/status`: up means that a script runs.
    pub fn status(&self) -> Status {
        Status {
            stamp: self.began.wall,
            ready_stamp: self.ended.wall,
            pid: self.process().map(|(pid, _)| pid),
            wait: self.wait,
            want_up: matches!(self.state, State::Running { script: Script::Up, .. }) || self.outcome.is_up(),
            ready: self.state == State::Idle,
            ..Status::default()
        }
    }

    /// The word for `supervise/state`.
    pub fn word(&self) -> &'static str {
        match (self.state, self.outcome) {
            (State::Running { script: Script::Up, .. }, _) => "starting",
            (State::Running { script: Script::Down, .. }, _) => "stopping",
            (State::Idle, Outcome::Up) => "up",
            (State::Idle, Outcome::Down) => "down",
            (State::Idle, Outcome::Failed(_)) => "failed",
        }
    }

    /// Feeds one event and appends what must now be done. Never blocks, never fails.
    pub fn on(&mut self, now: Now, event: Event, todo: &mut Todo) {
        match (event, self.state) {
            (Event::Ask(script, limit), State::Idle) => self.ask(now, script, limit, todo),
            (Event::Ask(script, limit), State::Running { script: running, .. }) => {
                if script == running {
                    self.next = None;
                } else {
                    self.next = Some((script, limit));
                    self.tell(now, todo);
                }
            }
            (Event::Cancel, State::Running { .. }) => {
                self.next = None;
                self.tell(now, todo);
            }
            (Event::Cancel, State::Idle) => todo.settled = true,
            (Event::Started { pid, boot }, _) => {
                let Some(script) = self.starting.take() else { return };
                self.boot = boot;
                self.state = State::Running {
                    script,
                    pid,
                    limit: self.limit.map(|limit| now.mono.after(limit)),
                    told: false,
                };
                todo.status = true;
            }
            (Event::Nothing, _) => self.settle(now, WaitStatus::exited(0), todo),
            (Event::NotStarted, _) => self.settle(now, WaitStatus::exited(NOT_STARTED), todo),
            (Event::Died(status), State::Running { script, .. }) => {
                self.starting = Some(script);
                self.state = State::Idle;
                self.settle(now, status, todo);
            }
            (Event::Died(_), State::Idle) => {}
            (Event::Timeout, State::Running { script, pid, limit, told }) => {
                if limit.is_none_or(|at| at > now.mono) {
                    return;
                }
                if told {
                    todo.signals.push(Signal::KILL);
                    let limit = Some(now.mono.after(GRACE));
                    self.state = State::Running { script, pid, limit, told };
                } else {
                    self.timed_out = true;
                    self.tell(now, todo);
                }
            }
            (Event::Timeout, State::Idle) => {}
            (Event::ClockSet, _) => {
                self.began = self.began.reanchored(now);
                self.ended = self.ended.reanchored(now);
                todo.status = true;
            }
        }
    }

    fn ask(&mut self, now: Now, script: Script, limit: Option<Duration>, todo: &mut Todo) {
        let is_so = self.outcome
            == match script {
                Script::Up => Outcome::Up,
                Script::Down => Outcome::Down,
            };
        if is_so {
            todo.settled = true;
            return;
        }
        self.limit = limit;
        self.timed_out = false;
        self.began = now.into();
        self.starting = Some(script);
        todo.start = Some(script);
    }

    /// Tells the running script to end.
    fn tell(&mut self, now: Now, todo: &mut Todo) {
        if let State::Running { script, pid, told: false, .. } = self.state {
            todo.signals.extend([Signal::TERM, Signal::CONT]);
            self.state = State::Running { script, pid, limit: Some(now.mono.after(GRACE)), told: true };
        }
    }

    fn settle(&mut self, now: Now, status: WaitStatus, todo: &mut Todo) {
        let Some(script) = self.starting.take() else { return };
        self.wait = status;
        self.ended = now.into();
        self.outcome = match (script, status) {
            (Script::Up, WaitStatus(0)) => Outcome::Up,
            (Script::Down, WaitStatus(0)) => Outcome::Down,
            (script, _) => Outcome::Failed(script),
        };
        todo.status = true;
        match self.next.take() {
            // A failed `up` leaves things half up: `down` shall run all the same.
            Some((script, limit)) => self.ask(now, script, limit, todo),
            None => todo.settled = true,
        }
        if todo.start.is_none() {
            todo.settled = true;
        }
    }

    /// As words, for memory that outlives us.
    pub fn save(&self) -> [u32; SAVED_WORDS] {
        let script = |s: Option<Script>| match s {
            None => 0,
            Some(Script::Up) => 1,
            Some(Script::Down) => 2,
        };
        let millis = |d: Option<Duration>| d.map_or(0, |d| d.as_millis() as u32 + 1);
        let mut out = Saver::default();
        let (running, pid, limit, told) = match self.state {
            State::Idle => (None, None, None, false),
            State::Running { script, pid, limit, told } => (Some(script), Some(pid), limit, told),
        };
        out.u32(script(running));
        out.pid(pid);
        out.time(limit);
        out.u32(told as u32 | (self.timed_out as u32) << 1);
        out.u32(match self.outcome {
            Outcome::Down => 0,
            Outcome::Up => 1,
            Outcome::Failed(Script::Up) => 2,
            Outcome::Failed(Script::Down) => 3,
        });
        out.u32(script(self.starting));
        out.u32(script(self.next.map(|(s, _)| s)));
        out.u32(millis(self.next.and_then(|(_, limit)| limit)));
        out.u32(millis(self.limit));
        out.u32(self.wait.0.into());
        out.stamp(self.began);
        out.stamp(self.ended);
        out.u64(self.boot);
        out.words
    }

    /// What [`save`](Self::save) saved; `None` if these are not such words.
    pub fn load(words: &[u32; SAVED_WORDS]) -> Option<Oneshot> {
        let script = |n: u32| match n {
            1 => Some(Script::Up),
            2 => Some(Script::Down),
            _ => None,
        };
        let millis = |n: u32| n.checked_sub(1).map(|ms| Duration::from_millis(ms.into()));
        let mut from = Loader { words, at: 0 };
        let (running, pid, limit) = (script(from.u32()), from.pid(), from.time());
        let flags = from.u32();
        let state = match running {
            None => State::Idle,
            Some(script) => State::Running { script, pid: pid?, limit, told: flags & 1 != 0 },
        };
        let outcome = match from.u32() {
            0 => Outcome::Down,
            1 => Outcome::Up,
            2 => Outcome::Failed(Script::Up),
            3 => Outcome::Failed(Script::Down),
            _ => return None,
        };
        let starting = script(from.u32());
        let next = (script(from.u32()), millis(from.u32()));
        Some(Oneshot {
            state,
            outcome,
            starting,
            next: next.0.map(|script| (script, next.1)),
            limit: millis(from.u32()),
            timed_out: flags & 2 != 0,
            wait: WaitStatus(from.u32() as u16),
            began: from.stamp(),
            ended: from.stamp(),
            boot: from.u64(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Now {
        Now { mono: Mono(ms * 1_000_000), wall: crate::time::Tai64n { secs: ms as i64 / 1000, nanos: 0 } }
    }

    fn pid(n: i32) -> Pid {
        Pid::from_raw(n).unwrap()
    }

    fn feed(oneshot: &mut Oneshot, ms: u64, event: Event) -> Todo {
        let mut todo = Todo::default();
        oneshot.on(at(ms), event, &mut todo);
        assert_eq!(Oneshot::load(&oneshot.save()), Some(*oneshot), "after {event:?}");
        todo
    }

    fn running(limit: Option<u64>) -> Oneshot {
        let mut o = Oneshot::new(at(0));
        let ask = Event::Ask(Script::Up, limit.map(Duration::from_millis));
        assert_eq!(feed(&mut o, 0, ask).start, Some(Script::Up));
        feed(&mut o, 0, Event::Started { pid: pid(7), boot: 3 });
        o
    }

    #[test]
    fn idle_ask_runs_once_and_remembers() {
        let mut o = running(None);
        assert_eq!(o.word(), "starting");
        let todo = feed(&mut o, 5, Event::Died(WaitStatus::exited(0)));
        assert!(todo.settled && todo.status);
        assert_eq!((o.word(), o.outcome(), o.took()), ("up", Outcome::Up, Duration::from_millis(5)));
        let again = feed(&mut o, 6, Event::Ask(Script::Up, None));
        assert!(again.settled && again.start.is_none());
    }

    #[test]
    fn running_timeout_tells_then_kills() {
        let mut o = running(Some(100));
        assert_eq!(o.deadline(), Some(at(100).mono));
        assert_eq!(feed(&mut o, 99, Event::Timeout), Todo::default());
        assert_eq!(feed(&mut o, 100, Event::Timeout).signals, [Signal::TERM, Signal::CONT]);
        assert_eq!(feed(&mut o, 5100, Event::Timeout).signals, [Signal::KILL]);
        feed(&mut o, 5101, Event::Died(WaitStatus::killed(Signal::KILL)));
        assert!(o.timed_out());
        assert_eq!(o.outcome(), Outcome::Failed(Script::Up));
        assert!(!o.outcome().is_up());
    }

    #[test]
    fn running_ask_for_the_other_cancels_and_turns_round() {
        let mut o = running(None);
        assert_eq!(feed(&mut o, 1, Event::Ask(Script::Down, None)).signals, [Signal::TERM, Signal::CONT]);
        let todo = feed(&mut o, 2, Event::Died(WaitStatus::killed(Signal::TERM)));
        assert_eq!((todo.start, todo.settled), (Some(Script::Down), false));
        feed(&mut o, 2, Event::Started { pid: pid(8), boot: 4 });
        assert!(feed(&mut o, 3, Event::Died(WaitStatus::exited(0))).settled);
        assert_eq!(o.outcome(), Outcome::Down);
    }

    #[test]
    fn nothing_to_run_succeeds_and_not_started_fails() {
        let mut o = Oneshot::new(at(0));
        feed(&mut o, 0, Event::Ask(Script::Up, None));
        assert!(feed(&mut o, 0, Event::Nothing).settled);
        assert_eq!(o.outcome(), Outcome::Up);
        feed(&mut o, 1, Event::Ask(Script::Down, None));
        assert!(feed(&mut o, 1, Event::NotStarted).settled);
        assert_eq!((o.outcome(), o.wait()), (Outcome::Failed(Script::Down), WaitStatus::exited(127)));
        assert!(o.outcome().is_up());
    }
}
