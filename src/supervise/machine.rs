//! The machine of one service: an event and the time go in, what must be done comes out.
//!
//! # States
//!
//! - **Down**: nothing runs. A service that is wanted up is started when `start_at` is reached; one that is
//!   not wanted has no `start_at` and waits for a command.
//! - **Up**: `./run` runs. Being ready is not a state of its own but a property of this one: it changes
//!   nothing about what events do.
//! - **Finish**: `./run` has died and `./finish` runs.
//! - **Gone**: the machine is over; the last thing it did was to send `x`.
//!
//! Beside the state stand three things a person decides: whether the service is *wanted up*, whether this is
//! its *last life* (s6's LASTUP and LASTFINISH: supervision ends with it), and whether it is *paused*.
//!
//! # The table
//!
//! It is s6-supervise's, with one deliberate difference, and is written out below event by event
//! ([`Machine::on`]), impossible pairs too. The difference is the brake: s6 waits a second after each death
//! of a service that does not notify. Here a start comes not earlier than [`MIN_LIFE`] after the last
//! *start*: a service that ran for a second or more is restarted at once.
//!
//! # Odd transitions, and why
//!
//! - A start is a question. [`Todo::start`] asks for a process and [`Event::Started`] or
//!   [`Event::NotStarted`] answers; until then the machine is Down with `starting` set. So a service that
//!   cannot be started has not died, is not counted, and tells nobody `u`.
//! - After a death without `finish` the question for the successor is asked in the same step as the reports
//!   of the death, and whoever obeys asks it first: execution comes before book-keeping.
//! - `u` after `d` does not take back the SIGKILL that `timeout-kill` has announced, as in s6: a process that
//!   was told to end shall end.
//! - A logger that is told to leave (its input is closed) reads to the end first, in a life more if it must:
//!   one that is between two lives is started once more, and one that dies while there is still something to
//!   read is started again ([`Machine::note_input`]). s6 leaves, and what waits in the pipe is lost.
//! - The answer to a start may take its time: something may have to be asked first. A service that is not wanted
//!   up any more meanwhile is not started, and whoever asks sees that ([`Machine::starting`]).
//! - An end that nobody asked for may have been judged ([`Machine::judge`]) before it is told: then the judgement
//!   says when the service is started again, or that it is not. A person who says `u` overrules it.
//! - A process may be ours without being our child (adopted). The machine does not know the difference.
//! - The process may hand over to another one ([`Event::MainPid`]), in the same life: nothing but who it is
//!   changes, and a stop that is under way goes on.
#![forbid(unsafe_code)]

use super::extra::Verdict;
use crate::process::{End, Pid, Signal, WaitStatus};
use crate::servicedir::control::Command;
use crate::servicedir::definition::{Definition, LAST_GRACE};
use crate::servicedir::status::Status;
use crate::servicedir::tally::Death;
use crate::time::{Mono, Now, Stamp};
use std::time::Duration;

/// A service is not started again earlier than this after its last start.
pub const MIN_LIFE: Duration = Duration::from_secs(1);

/// SIGKILL is repeated this often, to a process that cannot die yet.
const KILL_AGAIN: Duration = Duration::from_secs(5);

/// A logger that is to read to the end and has died so often within [`MIN_LIFE`] will never do it.
const DRAINS_MOST: u8 = 10;

/// Signals that are sent to end a process.
const ENDS: [Signal; 5] = [Signal::TERM, Signal::KILL, Signal::INT, Signal::QUIT, Signal::ABRT];

/// The longest pause between attempts to start what cannot be executed. s6 waits 60 s, which is an outage
/// for whoever mends the file; this much is no load.
const RETRY_MOST: Duration = Duration::from_secs(10);

/// Where the supervised process is. Each state carries only what it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing runs.
    Down {
        /// When it is to be started.
        start_at: Option<Mono>,
    },
    /// `./run` runs.
    Up {
        /// It.
        pid: Pid,
        /// When it gets SIGKILL: it was told to end.
        kill_at: Option<Mono>,
    },
    /// `./finish` runs.
    Finish {
        /// It.
        pid: Pid,
        /// When it gets SIGKILL: it has taken too long.
        kill_at: Option<Mono>,
    },
    /// The end.
    Gone,
}

/// What happens to a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Supervision begins. First event, once.
    Begin,
    /// What [`Todo::start`] asked for runs.
    Started {
        /// It.
        pid: Pid,
        /// Nanoseconds since boot just before it was made: with the pid, who it is.
        boot: u64,
    },
    /// What [`Todo::start`] asked for could not be started.
    NotStarted {
        /// Something was exhausted; nothing is wrong with the service.
        temporary: bool,
    },
    /// What [`Todo::start`] asked for shall not be started, and that is no failure.
    Skipped,
    /// The process has died.
    Died(WaitStatus),
    /// From now on the main process is another one: run has put itself in the background, or says so.
    MainPid {
        /// It.
        pid: Pid,
        /// When it was made, in nanoseconds since boot.
        boot: u64,
        /// That makes the service ready.
        ready: bool,
    },
    /// A newline came on the notification descriptor, or it was found out in another way.
    Ready,
    /// It is not what it should be, and is to begin anew.
    Expire(Told),
    /// It was told to end, and asks for time until then.
    Extend(Mono),
    /// A command byte.
    Command(Command),
    /// The scanner (or a signal to a supervisor of one service) wants supervision to end.
    Leave(Leave),
    /// A deadline may have passed. Early calls do nothing.
    Timeout,
    /// The wall clock was set: stamps are made true again.
    ClockSet,
}

/// How supervision is to end; s6-supervise's signals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    /// SIGTERM: stop the service, then go.
    Stop,
    /// SIGHUP: let the service end by itself (its input is closed), then go.
    CloseInput,
    /// SIGQUIT: go now and leave the service running.
    Abandon,
    /// SIGINT: interrupt the service's group and go now.
    Interrupt,
}

/// What is to be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Job {
    /// `./run`
    Run,
    /// `./finish`, for a run that ended like this and was this process.
    Finish(WaitStatus, Pid),
}

/// Who gets a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To {
    /// The process.
    Process,
    /// Its process group.
    Group,
    /// It and whoever descends from it.
    Tree,
}

/// At most so many event bytes are ever due at once: each event appends no more than four, and a death that
/// cannot be followed by a start no more than three.
pub const MOST_EVENTS: usize = 16;

/// Event bytes that are due, in order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Events {
    bytes: [u8; MOST_EVENTS],
    len: u8,
}

impl Events {
    /// Appends bytes; beyond [`MOST_EVENTS`] the oldest are dropped, the newest tell more.
    pub fn push(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            if self.len as usize == MOST_EVENTS {
                self.bytes.copy_within(1.., 0);
                self.len -= 1;
            }
            self.bytes[self.len as usize] = byte;
            self.len += 1;
        }
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len as usize]
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// What must now be done. Obey in this order: `down_file`, `signals`, `null_io`, `close_notify`, `start`
/// (and feed its answer), then, when nothing more is to be fed, `deaths`, `status`, `events`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Todo {
    /// Create (true) or remove the file `down`.
    pub down_file: Option<bool>,
    /// Send these to the process that was there when the event came.
    pub signals: Vec<(To, Signal)>,
    /// Point our input and output at nothing: a logger must see its end.
    pub null_io: bool,
    /// Close the notification descriptor.
    pub close_notify: bool,
    /// Start this and say how it went.
    pub start: Option<Job>,
    /// Append to the death tally.
    pub death: Option<Death>,
    /// Write the status.
    pub status: bool,
    /// Then send these.
    pub events: Events,
}

/// Who told run to end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Told {
    /// Nobody.
    #[default]
    Nobody = 0,
    /// It was to be down.
    Stop = 1,
    /// It was to be restarted, or got a signal that ends.
    Restart = 2,
    /// It was told to end and did not in time.
    Timeout = 3,
    /// It was not ready in time.
    NotReady = 4,
    /// It was not well.
    Health = 5,
    /// It gave no sign of life.
    Watchdog = 6,
    /// Nobody did, but the kernel killed it when memory ran out.
    Oom = 7,
}

impl Told {
    fn from_bits(bits: u32) -> Told {
        match bits & 15 {
            1 => Told::Stop,
            2 => Told::Restart,
            3 => Told::Timeout,
            4 => Told::NotReady,
            5 => Told::Health,
            6 => Told::Watchdog,
            7 => Told::Oom,
            _ => Told::Nobody,
        }
    }

    /// For `supervise/state`.
    pub fn word(self) -> Option<&'static str> {
        match self {
            Told::Nobody => None,
            Told::Stop => Some("stopped"),
            Told::Restart => Some("restarted"),
            Told::Timeout => Some("timeout"),
            Told::NotReady => Some("not-ready"),
            Told::Health => Some("health"),
            Told::Watchdog => Some("watchdog"),
            Told::Oom => Some("oom"),
        }
    }

    /// Whether a person wanted the end.
    pub fn is_wish(self) -> bool {
        matches!(self, Told::Stop | Told::Restart | Told::Timeout)
    }
}

/// One service. See the module's description.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    state: State,
    starting: Option<Job>,
    want_up: bool,
    last_life: bool,
    paused: bool,
    ready: bool,
    /// Nothing has ever been started.
    fresh: bool,
    /// Before it leaves it reads its input to the end.
    drains: bool,
    /// There is more to read. Not saved: it is noted whenever it counts.
    input_waits: bool,
    /// Lives shorter than [`MIN_LIFE`] in which it did not come to the end.
    vain_drains: u8,
    wait: WaitStatus,
    stamp: Stamp,
    ready_stamp: Stamp,
    /// The last start of run; the brake counts from here.
    started: Option<Mono>,
    /// When the present process was made, in nanoseconds since boot.
    boot: u64,
    /// It is not the one that was started, but one that took its place.
    followed: bool,
    /// Attempts to start that failed since the last success.
    failures: u32,
    starts: u32,
    deaths: u32,
    /// Who told the present run to end.
    told: Told,
    /// Who told the last one.
    last_told: Told,
    /// It is not started before.
    pause: Option<Mono>,
    /// It is not started again; with `true` because that was tried too often.
    stop: Option<bool>,
}

impl Machine {
    /// A service that nothing has happened to yet. Feed [`Event::Begin`].
    pub fn new() -> Machine {
        Machine {
            state: State::Down { start_at: None },
            starting: None,
            want_up: false,
            last_life: false,
            paused: false,
            ready: true,
            fresh: true,
            drains: false,
            input_waits: false,
            vain_drains: 0,
            wait: WaitStatus::default(),
            stamp: Stamp::default(),
            ready_stamp: Stamp::default(),
            started: None,
            boot: 0,
            followed: false,
            failures: 0,
            starts: 0,
            deaths: 0,
            told: Told::Nobody,
            last_told: Told::Nobody,
            pause: None,
            stop: None,
        }
    }

    /// A service of which only the status record is left (its supervisor was another program, or its memory
    /// is lost) and whose process still runs. `boot` is when the kernel says that it was made.
    pub fn from_status(status: &Status, boot: u64, now: Now) -> Machine {
        let stamp = |wall: crate::time::Tai64n| {
            let age = u64::try_from(wall.age(now.wall).as_nanos()).unwrap_or(u64::MAX);
            Stamp { mono: Mono(now.mono.0.saturating_sub(age)), wall }
        };
        let mut machine = Machine::new();
        if let Some(pid) = status.pid {
            machine.state = match status.finishing {
                false => State::Up { pid, kill_at: None },
                true => State::Finish { pid, kill_at: None },
            };
        }
        machine.want_up = status.want_up;
        machine.paused = status.paused;
        machine.ready = status.ready;
        machine.fresh = false;
        machine.wait = status.wait;
        machine.stamp = stamp(status.stamp);
        machine.ready_stamp = stamp(status.ready_stamp);
        machine.started = Some(machine.stamp.mono);
        machine.boot = boot;
        machine.starts = 1;
        machine
    }

    /// Where it is.
    pub fn state(&self) -> State {
        self.state
    }

    /// The process, and when it was made (nanoseconds since boot).
    pub fn process(&self) -> Option<(Pid, u64)> {
        match self.state {
            State::Up { pid, .. } | State::Finish { pid, .. } => Some((pid, self.boot)),
            State::Down { .. } | State::Gone => None,
        }
    }

    /// Whether the process is one that took the place of the one that was started.
    pub fn is_followed(&self) -> bool {
        self.followed
    }

    /// What [`Todo::start`] asked for and nobody has answered yet.
    pub fn starting(&self) -> Option<Job> {
        self.starting
    }

    /// Whether it is over.
    pub fn is_gone(&self) -> bool {
        self.state == State::Gone
    }

    /// Whether supervision ends with this life.
    pub fn is_last_life(&self) -> bool {
        self.last_life
    }

    /// Whether it leaves when it has read its input to the end.
    pub fn drains(&self) -> bool {
        self.drains
    }

    /// Whether more waits in the input of one that [drains](Self::drains), or may still come. To be noted before
    /// a death is told.
    pub fn note_input(&mut self, waits: bool) {
        self.input_waits = waits;
    }

    /// Whether run is up and has not said that it is ready.
    pub fn awaits_readiness(&self) -> bool {
        matches!(self.state, State::Up { .. }) && !self.ready
    }

    /// Takes note of what was judged of the end that it is told of next.
    pub fn judge(&mut self, verdict: Verdict) {
        (self.pause, self.stop) = match verdict {
            Verdict::Again(at) => (at, None),
            Verdict::NotAgain => (None, Some(false)),
            Verdict::GiveUp => (None, Some(true)),
        };
    }

    /// Whether it was judged that it is not started again.
    pub fn is_to_stop(&self) -> bool {
        self.stop.is_some()
    }

    /// Before when it was judged that it is not started.
    pub fn pause(&self) -> Option<Mono> {
        self.pause
    }

    /// Who told the present run to end.
    pub fn told(&self) -> Told {
        self.told
    }

    /// The end that it was told of last was the kernel's doing: memory ran out.
    pub fn note_oom(&mut self) {
        if self.last_told == Told::Nobody {
            self.last_told = Told::Oom;
        }
    }

    /// Who told the last one that has ended.
    pub fn last_told(&self) -> Told {
        self.last_told
    }

    /// When run was started last.
    pub fn started(&self) -> Option<Mono> {
        self.started
    }

    /// How often run was started.
    pub fn starts(&self) -> u32 {
        self.starts
    }

    /// How often run died.
    pub fn deaths(&self) -> u32 {
        self.deaths
    }

    /// When it will be started: after an attempt that failed, or a life that was short.
    pub fn retry_at(&self) -> Option<Mono> {
        match self.state {
            State::Down { start_at } if self.want_up => start_at,
            _ => None,
        }
    }

    /// When [`Event::Timeout`] is next due; changes with every event.
    pub fn deadline(&self) -> Option<Mono> {
        match self.state {
            State::Down { start_at } => start_at.filter(|_| self.want_up),
            State::Up { kill_at, .. } | State::Finish { kill_at, .. } => kill_at,
            State::Gone => None,
        }
    }

    /// The record for `supervise/status`.
    pub fn status(&self) -> Status {
        let finishing = matches!(self.state, State::Finish { .. });
        Status {
            stamp: self.stamp.wall,
            ready_stamp: self.ready_stamp.wall,
            pid: self.process().map(|(pid, _)| pid),
            wait: self.wait,
            paused: self.paused || self.fresh,
            finishing,
            want_up: self.want_up,
            ready: self.ready,
        }
    }

    /// Feeds one event and appends what must now be done. Never blocks, never fails.
    pub fn on(&mut self, now: Now, event: Event, rules: &Definition, todo: &mut Todo) {
        match event {
            Event::Begin => self.begin(now, rules, todo),
            Event::Started { pid, boot } => self.on_started(now, pid, boot, rules, todo),
            Event::NotStarted { temporary } => self.on_not_started(now, temporary, todo),
            Event::Skipped => self.on_skipped(todo),
            Event::Died(status) => self.on_died(now, status, rules, todo),
            Event::MainPid { pid, boot, ready } => self.on_main_pid(now, pid, boot, ready, todo),
            Event::Ready => self.on_ready(now, todo),
            Event::Expire(why) => self.on_expire(now, why, rules, todo),
            Event::Extend(until) => self.on_extend(until),
            Event::Command(command) => self.on_command(now, command, rules, todo),
            Event::Leave(how) => self.on_leave(now, how, rules, todo),
            Event::Timeout => self.on_timeout(now, rules, todo),
            Event::ClockSet => {
                self.stamp = self.stamp.reanchored(now);
                self.ready_stamp = self.ready_stamp.reanchored(now);
                todo.status = true;
            }
        }
    }

    fn begin(&mut self, now: Now, rules: &Definition, todo: &mut Todo) {
        self.want_up = !rules.down;
        self.stamp = now.into();
        self.ready_stamp = now.into();
        todo.status = true;
        todo.events.push(b"s");
        if self.want_up {
            self.start(todo);
        }
    }

    fn start(&mut self, todo: &mut Todo) {
        self.state = State::Down { start_at: None };
        self.ask(Job::Run, todo);
    }

    fn ask(&mut self, job: Job, todo: &mut Todo) {
        self.starting = Some(job);
        todo.start = Some(job);
    }

    fn on_started(&mut self, now: Now, pid: Pid, boot: u64, rules: &Definition, todo: &mut Todo) {
        let Some(job) = self.starting.take() else { return };
        self.boot = boot;
        self.failures = 0;
        todo.status = true;
        match job {
            Job::Run => {
                self.state = State::Up { pid, kill_at: None };
                self.fresh = false;
                (self.ready, self.followed) = (false, false);
                self.told = Told::Nobody;
                self.stamp = now.into();
                self.started = Some(now.mono);
                self.starts = self.starts.saturating_add(1);
                todo.events.push(b"u");
            }
            Job::Finish(..) => {
                let kill_at = rules.timeout_finish.map(|limit| now.mono.after(limit));
                self.state = State::Finish { pid, kill_at };
                todo.events.push(b"d");
            }
        }
    }

    /// After an attempt to start run that fails now: how long until the next.
    pub fn retry_pause(&self, temporary: bool) -> Duration {
        let pause = if temporary { MIN_LIFE } else { MIN_LIFE * (1 << self.failures.min(10)) };
        pause.min(RETRY_MOST)
    }

    fn on_not_started(&mut self, now: Now, temporary: bool, todo: &mut Todo) {
        match self.starting.take() {
            None => {}
            Some(Job::Run) if self.last_life && !temporary => self.end(todo),
            Some(Job::Run) => {
                let next = self.pause.take().unwrap_or(now.mono.after(self.retry_pause(temporary)));
                self.failures = self.failures.saturating_add(1);
                self.state = State::Down { start_at: Some(next) };
                if self.stop.take().is_some() {
                    self.want(false, todo);
                    todo.events.push(b"O");
                }
            }
            Some(Job::Finish(..)) => self.down_ready(now, b"dD", todo),
        }
    }

    /// Whoever waits for it hears that it will not be up; whoever brings it up for others looks closer.
    fn on_skipped(&mut self, todo: &mut Todo) {
        if self.starting != Some(Job::Run) {
            return;
        }
        self.starting = None;
        if self.last_life {
            return self.end(todo);
        }
        self.state = State::Down { start_at: None };
        self.want(false, todo);
        todo.events.push(b"O");
    }

    fn on_died(&mut self, now: Now, status: WaitStatus, rules: &Definition, todo: &mut Todo) {
        match self.state {
            State::Up { pid, .. } => {
                self.wait = status;
                self.last_told = self.told;
                self.paused = false;
                self.ready = false;
                self.stamp = now.into();
                self.deaths = self.deaths.saturating_add(1);
                if self.drains {
                    let short = self.started.is_some_and(|started| now.mono.since(started) < MIN_LIFE);
                    self.vain_drains = if short { self.vain_drains.saturating_add(1) } else { 0 };
                }
                self.state = State::Down { start_at: None };
                todo.close_notify = true;
                todo.status = true;
                todo.death = Some(Death::new(now.wall, status));
                if rules.finish {
                    self.ask(Job::Finish(status, pid), todo);
                } else {
                    self.down_ready(now, b"dD", todo);
                }
            }
            State::Finish { .. } => {
                if status.end() == End::Exit(125) {
                    self.want_up = false;
                    self.down_ready(now, b"OD", todo);
                } else {
                    self.down_ready(now, b"D", todo);
                }
            }
            State::Down { .. } | State::Gone => {}
        }
    }

    /// The end of a life: what is told of it, and what comes next.
    fn down_ready(&mut self, now: Now, tell: &[u8], todo: &mut Todo) {
        self.ready = true;
        self.ready_stamp = now.into();
        todo.status = true;
        let (stop, pause) = (self.stop.take().filter(|_| self.want_up), self.pause.take());
        if let Some(given_up) = stop {
            self.want_up = false;
            let (before, last) = tell.split_at(tell.len() - 1);
            todo.events.push(before);
            todo.events.push(if given_up { b"O" } else { b"" });
            todo.events.push(last);
        } else {
            todo.events.push(tell);
        }
        let reads_on = self.drains && self.input_waits && self.want_up && self.vain_drains < DRAINS_MOST;
        if self.last_life && !reads_on {
            return self.end(todo);
        }
        let brake = self.started.map_or(now.mono, |started| started.after(MIN_LIFE));
        let earliest = pause.unwrap_or(brake);
        self.state = State::Down { start_at: Some(earliest) };
        if self.want_up && earliest <= now.mono {
            self.start(todo);
        }
    }

    fn end(&mut self, todo: &mut Todo) {
        self.state = State::Gone;
        self.starting = None;
        todo.events.push(b"x");
    }

    fn on_main_pid(&mut self, now: Now, main: Pid, boot: u64, ready: bool, todo: &mut Todo) {
        if let State::Up { pid, .. } = &mut self.state {
            (*pid, self.boot, self.followed) = (main, boot, true);
            todo.status = true;
            if ready {
                self.on_ready(now, todo);
            }
        }
    }

    fn on_ready(&mut self, now: Now, todo: &mut Todo) {
        todo.close_notify = true;
        if self.awaits_readiness() {
            self.ready = true;
            self.ready_stamp = now.into();
            todo.status = true;
            todo.events.push(b"U");
        }
    }

    fn on_command(&mut self, now: Now, command: Command, rules: &Definition, todo: &mut Todo) {
        match command {
            Command::Up => self.on_up(todo),
            Command::UpPersistent => {
                todo.down_file = Some(false);
                self.on_up(todo);
            }
            Command::Down => self.on_down(now, rules, todo),
            Command::DownPersistent => {
                todo.down_file = Some(true);
                self.on_down(now, rules, todo);
            }
            Command::Once => {
                (self.pause, self.stop) = (None, None);
                self.want(false, todo);
                if self.is_idle() {
                    self.start(todo);
                }
            }
            Command::OnceAtMost => {
                self.take_back_start();
                self.want(false, todo);
            }
            Command::NoRestart => {
                todo.down_file = Some(true);
                self.take_back_start();
                self.want(false, todo);
            }
            Command::Exit => match self.state {
                State::Down { .. } => self.end(todo),
                State::Up { .. } | State::Finish { .. } => {
                    self.last_life = true;
                    todo.null_io = true;
                }
                State::Gone => {}
            },
            Command::Restart => {
                self.note_told(Told::Restart);
                self.signal(To::Process, rules.down_signal, todo);
            }
            Command::Reload => self.signal(To::Process, rules.reload_signal, todo),
            Command::Signal(signal) => {
                if ENDS.contains(&signal) {
                    self.note_told(Told::Restart);
                }
                self.signal(To::Process, signal, todo);
            }
            Command::KillGroup => {
                self.note_told(Told::Restart);
                self.signal(To::Group, Signal::KILL, todo);
            }
            Command::Pause(group) => self.freeze(true, group, todo),
            Command::Continue(group) => self.freeze(false, group, todo),
            Command::Reset => {
                self.starts = u32::from(matches!(self.state, State::Up { .. }));
                (self.deaths, self.failures) = (0, 0);
                todo.status = true;
            }
            // What they are about is beside the machine.
            Command::Force | Command::Validate => {}
        }
        // One that was to be started for what waits in its input, and shall not be any more.
        if self.last_life && !self.want_up && self.is_idle() {
            self.end(todo);
        }
    }

    /// Down, and nothing asked for.
    fn is_idle(&self) -> bool {
        matches!(self.state, State::Down { .. }) && self.starting.is_none()
    }

    /// A start that was asked for and is not answered is not wanted any more.
    fn take_back_start(&mut self) {
        if self.starting == Some(Job::Run) {
            self.starting = None;
        }
    }

    /// Every change of mind rewrites the status, also one that changes nothing, as in s6.
    fn want(&mut self, up: bool, todo: &mut Todo) {
        self.want_up = up;
        todo.status = true;
    }

    /// Tells run to end, so that it is started again. It has a limited time for that.
    fn on_expire(&mut self, now: Now, why: Told, rules: &Definition, todo: &mut Todo) {
        self.note_told(why);
        let to = if rules.kill_tree { To::Tree } else { To::Process };
        // Of one that hangs it is of interest where.
        let signal = if why == Told::Watchdog { Signal::ABRT } else { rules.down_signal };
        self.signal(to, signal, todo);
        self.signal(to, Signal::CONT, todo);
        if let State::Up { kill_at, .. } = &mut self.state {
            self.paused = false;
            todo.status = true;
            kill_at.get_or_insert(now.mono.after(rules.timeout_kill.unwrap_or(LAST_GRACE)));
        }
    }

    /// Nobody but a person who stops or restarts it waits for it.
    fn on_extend(&mut self, until: Mono) {
        if let (State::Up { kill_at: Some(at), .. }, Told::Stop | Told::Restart) =
            (&mut self.state, self.told)
        {
            *at = until.max(*at);
        }
    }

    fn note_told(&mut self, told: Told) {
        if let (State::Up { .. }, Told::Nobody) = (self.state, self.told) {
            self.told = told;
        }
    }

    fn on_up(&mut self, todo: &mut Todo) {
        (self.pause, self.stop) = (None, None);
        self.want(true, todo);
        if self.is_idle() {
            self.start(todo);
        }
    }

    fn on_down(&mut self, now: Now, rules: &Definition, todo: &mut Todo) {
        match self.state {
            State::Up { .. } => self.terminate(now, rules, todo),
            State::Down { .. } | State::Finish { .. } => {
                self.take_back_start();
                self.want(false, todo);
            }
            State::Gone => {}
        }
    }

    /// Tells run to end. A second time it is told again, and its deadline counts anew.
    fn terminate(&mut self, now: Now, rules: &Definition, todo: &mut Todo) {
        self.want(false, todo);
        let to = if rules.kill_tree { To::Tree } else { To::Process };
        self.signal(to, rules.down_signal, todo);
        self.signal(to, Signal::CONT, todo);
        self.paused = false;
        self.note_told(Told::Stop);
        if let State::Up { kill_at, .. } = &mut self.state {
            *kill_at = rules.timeout_kill.map(|limit| now.mono.after(limit));
        }
    }

    fn signal(&mut self, to: To, signal: Signal, todo: &mut Todo) {
        if let State::Up { .. } = self.state {
            todo.signals.push((to, signal));
        }
    }

    fn freeze(&mut self, paused: bool, group: bool, todo: &mut Todo) {
        if let State::Up { .. } = self.state {
            let signal = if paused { Signal::STOP } else { Signal::CONT };
            todo.signals.push((if group { To::Group } else { To::Process }, signal));
            self.paused = paused;
            todo.status = true;
        }
    }

    fn on_leave(&mut self, now: Now, how: Leave, rules: &Definition, todo: &mut Todo) {
        self.drains = how == Leave::CloseInput;
        match (how, self.state) {
            (_, State::Gone) => {}
            // A logger between two lives: what waits in its pipe is for another.
            (Leave::CloseInput, State::Down { .. }) if self.want_up => {
                self.last_life = true;
                todo.null_io = true;
                if self.starting.is_none() {
                    self.start(todo);
                }
            }
            (_, State::Down { .. }) => self.end(todo),
            (Leave::Abandon, _) => self.end(todo),
            (Leave::Interrupt, State::Up { .. } | State::Finish { .. }) => {
                todo.signals.push((To::Group, Signal::INT));
                self.end(todo);
            }
            (Leave::Stop, State::Up { .. }) => {
                self.last_life = true;
                self.terminate(now, rules, todo);
            }
            // It is going already.
            (Leave::Stop, State::Finish { .. }) if self.last_life => {}
            (Leave::CloseInput, State::Up { .. })
            | (Leave::Stop | Leave::CloseInput, State::Finish { .. }) => {
                self.last_life = true;
                todo.null_io = true;
            }
        }
    }

    fn on_timeout(&mut self, now: Now, rules: &Definition, todo: &mut Todo) {
        match &mut self.state {
            State::Down { start_at } => {
                if start_at.is_some_and(|at| at <= now.mono) && self.want_up && self.starting.is_none() {
                    self.start(todo);
                }
            }
            State::Up { kill_at, .. } => {
                if kill_at.is_some_and(|at| at <= now.mono) {
                    *kill_at = Some(now.mono.after(KILL_AGAIN));
                    if matches!(self.told, Told::Nobody | Told::Stop | Told::Restart) {
                        self.told = Told::Timeout;
                    }
                    let to = match () {
                        () if rules.kill_tree => To::Tree,
                        () if rules.kill_group => To::Group,
                        () => To::Process,
                    };
                    todo.signals.extend([(to, Signal::KILL), (to, Signal::CONT)]);
                }
            }
            State::Finish { kill_at, .. } => {
                if kill_at.is_some_and(|at| at <= now.mono) {
                    *kill_at = Some(now.mono.after(KILL_AGAIN));
                    todo.signals.extend([(To::Process, Signal::CONT), (To::Process, Signal::KILL)]);
                }
            }
            State::Gone => {}
        }
    }
}

impl Default for Machine {
    fn default() -> Machine {
        Machine::new()
    }
}

/// How many words [`Machine::save`] makes.
pub const SAVED_WORDS: usize = 28;

/// What of a machine must survive its process: everything.
impl Machine {
    /// As words, for memory that outlives us.
    pub fn save(&self) -> [u32; SAVED_WORDS] {
        let mut out = Saver::default();
        let (kind, pid, at) = match self.state {
            State::Down { start_at } => (1, None, start_at),
            State::Up { pid, kill_at } => (2, Some(pid), kill_at),
            State::Finish { pid, kill_at } => (3, Some(pid), kill_at),
            State::Gone => (4, None, None),
        };
        out.u32(kind);
        out.pid(pid);
        out.time(at);
        let (job, status, of) = match self.starting {
            None => (0, WaitStatus::default(), None),
            Some(Job::Run) => (1, WaitStatus::default(), None),
            Some(Job::Finish(status, pid)) => (2, status, Some(pid)),
        };
        out.u32(job);
        out.u32(status.0.into());
        out.pid(of);
        let flags = [self.want_up, self.last_life, self.paused, self.ready, self.fresh, self.drains];
        let flags = flags.iter().enumerate().fold(0, |bits, (i, on)| bits | (*on as u32) << i);
        let stop = match self.stop {
            None => 0,
            Some(given_up) => 1 << 6 | (given_up as u32) << 7,
        };
        let more = u32::from(self.vain_drains) << 8 | (self.followed as u32) << 24;
        out.u32(flags | stop | more | (self.told as u32) << 16 | (self.last_told as u32) << 20);
        out.u32(self.wait.0.into());
        out.stamp(self.stamp);
        out.stamp(self.ready_stamp);
        out.time(self.started);
        out.u64(self.boot);
        out.u32(self.failures);
        out.u32(self.starts);
        out.u32(self.deaths);
        out.time(self.pause);
        out.words
    }

    /// What [`save`](Self::save) saved; `None` if these are not such words.
    pub fn load(words: &[u32; SAVED_WORDS]) -> Option<Machine> {
        let mut from = Loader { words, at: 0 };
        let kind = from.u32();
        let (pid, at) = (from.pid(), from.time());
        let state = match kind {
            1 => State::Down { start_at: at },
            2 => State::Up { pid: pid?, kill_at: at },
            3 => State::Finish { pid: pid?, kill_at: at },
            4 => State::Gone,
            _ => return None,
        };
        let (job, status, of) = (from.u32(), WaitStatus(from.u32() as u16), from.pid());
        let starting = match job {
            0 => None,
            1 => Some(Job::Run),
            2 => Some(Job::Finish(status, of?)),
            _ => return None,
        };
        let flags = from.u32();
        let flag = |bit: u32| flags >> bit & 1 != 0;
        Some(Machine {
            state,
            starting,
            want_up: flag(0),
            last_life: flag(1),
            paused: flag(2),
            ready: flag(3),
            fresh: flag(4),
            drains: flag(5),
            input_waits: false,
            vain_drains: (flags >> 8) as u8,
            wait: WaitStatus(from.u32() as u16),
            stamp: from.stamp(),
            ready_stamp: from.stamp(),
            started: from.time(),
            boot: from.u64(),
            followed: flag(24),
            failures: from.u32(),
            starts: from.u32(),
            deaths: from.u32(),
            told: Told::from_bits(flags >> 16),
            last_told: Told::from_bits(flags >> 20),
            pause: from.time(),
            stop: flag(6).then(|| flag(7)),
        })
    }
}

/// Appends numbers to words.
#[derive(Default)]
pub(super) struct Saver {
    pub(super) words: [u32; SAVED_WORDS],
    at: usize,
}

impl Saver {
    pub(super) fn u32(&mut self, n: u32) {
        self.words[self.at] = n;
        self.at += 1;
    }

    pub(super) fn u64(&mut self, n: u64) {
        self.u32(n as u32);
        self.u32((n >> 32) as u32);
    }

    pub(super) fn pid(&mut self, pid: Option<Pid>) {
        self.u32(pid.map_or(0, |p| p.raw() as u32));
    }

    /// No time is told from time 0, which is before everything.
    pub(super) fn time(&mut self, at: Option<Mono>) {
        self.u64(at.map_or(0, |t| t.0.saturating_add(1)));
    }

    pub(super) fn stamp(&mut self, stamp: Stamp) {
        self.u64(stamp.mono.0);
        self.u64(stamp.wall.secs as u64);
        self.u32(stamp.wall.nanos);
    }
}

/// Takes them off again.
pub(super) struct Loader<'a> {
    pub(super) words: &'a [u32; SAVED_WORDS],
    pub(super) at: usize,
}

impl Loader<'_> {
    pub(super) fn u32(&mut self) -> u32 {
        self.at += 1;
        self.words[self.at - 1]
    }

    pub(super) fn u64(&mut self) -> u64 {
        self.u32() as u64 | (self.u32() as u64) << 32
    }

    pub(super) fn pid(&mut self) -> Option<Pid> {
        i32::try_from(self.u32()).ok().and_then(Pid::from_raw)
    }

    pub(super) fn time(&mut self) -> Option<Mono> {
        self.u64().checked_sub(1).map(Mono)
    }

    pub(super) fn stamp(&mut self) -> Stamp {
        let mono = Mono(self.u64());
        let secs = self.u64() as i64;
        Stamp { mono, wall: crate::time::Tai64n { secs, nanos: self.u32().min(999_999_999) } }
    }
}

#[cfg(test)]
#[path = "judged_tests.rs"]
mod judged_tests;

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "machine_table.rs"]
mod table;
