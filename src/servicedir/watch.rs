//! Waiting until services are as wanted, inside the waiting program: no helper, no poll, no race.
//!
//! The recipe: listen first ([`super::event::Listener`]), read the status then, and only then send commands.
//! A change in between is in both, and to learn a thing twice does no harm.
//!
//! One thing no event tells: that a supervisor has changed its mind. Who asks for a stop of what is down just now
//! and is about to be started again has to see that in the status ([`Watch::settle`]), or would take the moment
//! before a start for the end.

use super::client::Client;
use super::control::Command;
use super::event::{self, Listener};
use super::state::State;
use super::status::Status;
use crate::diag::{self, Error, Result, Unable, code};
use crate::process::Pid;
use crate::sys::{Errno, clock};
use crate::time::Mono;
use std::time::Duration;

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Goal {
    /// Up, or down.
    pub up: bool,
    /// Up and ready, or down with the finish script done.
    pub ready: bool,
    /// A restart: down must be seen first.
    pub restart: bool,
}

impl Goal {
    /// The letter of `-w`, and of the options of svwait: `u U d D r R`.
    pub fn from_letter(letter: char) -> Option<Goal> {
        let goal = |up, ready, restart| Some(Goal { up, ready, restart });
        match letter {
            'u' => goal(true, false, false),
            'U' => goal(true, true, false),
            'd' => goal(false, false, false),
            'D' => goal(false, true, false),
            'r' => goal(true, false, true),
            'R' => goal(true, true, true),
            _ => None,
        }
    }
}

/// What one service is known to be, and whether that is what is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    up: bool,
    ready: bool,
    /// Down is still to be seen; with `true` with the finish script done.
    down_first: Option<bool>,
    failed: bool,
    refused: bool,
}

impl View {
    /// From the status, read after listening began. `finished` says which down a restart must go through.
    pub fn new(status: &Status, goal: Goal, finished: bool) -> View {
        let mut view = View {
            up: status.is_up(),
            ready: status.ready,
            down_first: goal.restart.then_some(finished),
            failed: false,
            refused: false,
        };
        view.note_down();
        view
    }

    /// Takes note of an event.
    pub fn hear(&mut self, event: u8, goal: Goal) {
        (self.up, self.ready) = match event {
            b'd' => (false, false),
            b'D' => (false, true),
            b'u' => (true, false),
            b'U' => (true, true),
            // It failed for good: it will not be up.
            b'O' if goal.up => return self.give_up(goal),
            // It was not restarted, and is as it was.
            b'V' if self.down_first.is_some() => {
                self.refused = true;
                return self.give_up(goal);
            }
            // Nobody will tell us more.
            b'x' if (self.up, self.ready) != (goal.up, goal.ready) => return self.give_up(goal),
            b'x' => return self.give_in(goal),
            _ => return,
        };
        self.note_down();
    }

    /// A restart has come as far as down.
    fn note_down(&mut self) {
        if !self.up && self.down_first.is_some_and(|finished| self.ready || !finished) {
            self.down_first = None;
        }
    }

    fn give_up(&mut self, goal: Goal) {
        self.failed = true;
        self.give_in(goal);
    }

    fn give_in(&mut self, goal: Goal) {
        (self.up, self.ready, self.down_first) = (goal.up, goal.ready, None);
    }

    /// What it is, and what it should be: `up, not ready`.
    pub fn shortfall(&self, goal: Goal) -> String {
        let is = match (self.up, self.ready) {
            (true, true) => "up and ready",
            (true, false) => "up",
            (false, true) => "down",
            (false, false) => "down, with its finish script running",
        };
        let wanted = match (goal.up, goal.ready) {
            _ if self.down_first.is_some() => "restarted",
            (true, true) if self.up => "ready",
            (true, true) => "up and ready",
            (true, false) => "up",
            (false, true) if !self.up => "finished",
            (false, _) => "down",
        };
        format!("{is}, not {wanted}")
    }

    /// Whether it is as wanted.
    pub fn is_reached(&self, goal: Goal) -> bool {
        self.down_first.is_none() && self.up == goal.up && (self.ready || !goal.ready)
    }
}

/// How waiting ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All (or, if so asked, one of them) are as wanted; so many of them only because they cannot be.
    Reached {
        /// Services that failed for good, are skipped, or whose supervisor left.
        failures: usize,
    },
    /// The time is up.
    TimedOut {
        /// Those that are not as wanted, each with what it is.
        waiting: Vec<String>,
    },
}

/// Services that are being listened to.
pub struct Watch<'a> {
    any: bool,
    /// Which down a restart must go through.
    finished: bool,
    listeners: Vec<Listener>,
    /// In the order of the listeners.
    services: Vec<Watched<'a>>,
    /// What services say that they are doing is shown; with `true` on a terminal.
    shows: Option<bool>,
}

struct Watched<'a> {
    client: &'a Client,
    goal: Goal,
    view: View,
    /// The process when listening began.
    pid: Option<Pid>,
    /// It is down, but only until its supervisor starts it again.
    restarting: bool,
    /// What it said last that it is doing.
    said: Option<String>,
}

impl Watched<'_> {
    /// What was taken for a restart was one before our time: an event that came late.
    fn is_deceived(&self) -> bool {
        let is_same = |status: Status| status.is_up() && status.pid == self.pid;
        self.goal.restart
            && self.pid.is_some()
            && !self.view.failed
            && self.client.status().is_ok_and(is_same)
    }

    fn is_reached(&self) -> bool {
        !self.restarting && self.view.is_reached(self.goal)
    }

    /// Shows what it says that it is doing, if that is new: in a line, which on a terminal is always the same.
    fn show(&mut self, terminal: bool) {
        let state = super::read_file(self.client.dir(), "supervise/state").unwrap_or_default();
        let said = State::parse(&state).status;
        if said == self.said {
            return;
        }
        self.said = said;
        let Some(text) = &self.said else { return };
        let (before, after) = if terminal { (CLEAR, "") } else { ("", "\n") };
        diag::put(1, format!("{before}{}: {text}{after}", self.client.path).as_bytes());
    }

    fn shortfall(&self) -> String {
        if self.restarting {
            return "down, and to be started again".to_owned();
        }
        self.view.shortfall(self.goal)
    }

    fn hear(&mut self, event: u8) {
        // What it does now it tells.
        self.restarting &= !b"uOx".contains(&event);
        self.view.hear(event, self.goal);
    }
}

/// What makes a line of a terminal empty.
const CLEAR: &str = "\r\x1b[K";

/// A changed mind is looked for after this long, then after twice as long each time,
const FIRST_LOOK: Duration = Duration::from_millis(1);

/// up to this long.
const LAST_LOOK: Duration = Duration::from_millis(100);

impl<'a> Watch<'a> {
    /// Begins to listen to `clients`, each with its goal. With `any`, one of them is enough. `finished` says
    /// which down a restart must go through: svwait takes the plain one, svc and svlisten the finished one.
    pub fn new(
        clients: impl IntoIterator<Item = (&'a Client, Goal)>,
        any: bool,
        finished: bool,
    ) -> Result<Watch<'a>> {
        let mut watch = Watch { any, finished, listeners: Vec::new(), services: Vec::new(), shows: None };
        for (client, goal) in clients {
            watch.listeners.push(client.listen()?);
            let status = match client.status() {
                // Supervision begins just now, and what it begins with is told.
                Err(e) if e.errno() == Some(Errno::NOENT) && client.is_supervised()? => {
                    Status { want_up: true, ..Status::default() }
                }
                status => status?,
            };
            let view = View::new(&status, goal, finished);
            let pid = status.pid.filter(|_| status.is_up());
            watch.services.push(Watched { client, goal, view, pid, restarting: false, said: None });
        }
        Ok(watch)
    }

    /// A stop was asked for. Waits until the supervisor of each service that is down has taken that in: until its
    /// status says that it is not wanted up any more, or until it tells of something. The status is read again
    /// for that, which it must be at most a few times: to obey takes a supervisor no time.
    pub fn settle(&mut self, deadline: Option<Mono>) -> Result<()> {
        for service in self.services.iter_mut() {
            service.restarting = service.view.is_reached(service.goal);
        }
        let mut pause = FIRST_LOOK;
        loop {
            for service in self.services.iter_mut().filter(|s| s.restarting) {
                let status = service.client.status()?;
                service.restarting = status.want_up;
                if !status.want_up {
                    // It may have been started just before.
                    service.view = View::new(&status, service.goal, true);
                }
            }
            let now = clock::mono();
            if self.services.iter().all(|s| !s.restarting) || deadline.is_some_and(|at| at <= now) {
                return Ok(());
            }
            let next = deadline.map_or(now.after(pause), |at| at.min(now.after(pause)));
            let Watch { listeners, services, .. } = self;
            event::listen(listeners, Some(next), |n, byte| {
                services[n].hear(byte);
                false
            })
            .unable("wait for events")?;
            pause = (pause * 2).min(LAST_LOOK);
        }
    }

    /// From now on what services say that they are doing (STATUS) is shown on standard output.
    pub fn show(&mut self) {
        self.shows = Some(rustix::termios::isatty(rustix::stdio::stdout()));
    }

    /// Waits until it is as wanted, or until `deadline`.
    pub fn wait(&mut self, deadline: Option<Mono>) -> Result<Verdict> {
        let verdict = self.wait_showing(deadline);
        if self.shows == Some(true) && self.services.iter().any(|service| service.said.is_some()) {
            diag::put(1, CLEAR.as_bytes());
        }
        verdict
    }

    fn wait_showing(&mut self, deadline: Option<Mono>) -> Result<Verdict> {
        let Watch { any, finished, listeners, services, shows } = self;
        let waited_for = services.iter_mut().filter(|service| !service.is_reached());
        if let Some(terminal) = *shows {
            waited_for.for_each(|service| service.show(terminal));
        }
        let reached = loop {
            // Every byte counts: a service that was up for a moment has been up.
            let reached = is_reached(services, *any)
                || event::listen(listeners, deadline, |n, byte| {
                    services[n].hear(byte);
                    if let (b'p', Some(terminal)) = (byte, *shows) {
                        services[n].show(terminal);
                    }
                    is_reached(services, *any)
                })
                .unable("wait for events")?;
            let deceived =
                services.iter_mut().filter(|s| reached && s.view.is_reached(s.goal) && s.is_deceived());
            if deceived.map(|s| s.view.down_first = Some(*finished)).count() == 0 {
                break reached;
            }
        };
        let failures = services.iter().filter(|s| s.view.failed).count();
        if reached {
            return Ok(Verdict::Reached { failures });
        }
        let waiting = services.iter().filter(|s| !s.is_reached());
        let waiting = waiting.map(|s| format!("{} is {}", s.client.path, s.shortfall())).collect();
        Ok(Verdict::TimedOut { waiting })
    }
}

impl Watch<'_> {
    /// The paths of those that were not restarted because `validate` said no.
    pub fn refused(&self) -> impl Iterator<Item = &str> {
        self.services.iter().filter(|s| s.view.refused).map(|s| &*s.client.path)
    }
}

fn is_reached(services: &[Watched<'_>], any: bool) -> bool {
    let mut reached = services.iter().map(Watched::is_reached);
    if any { services.is_empty() || reached.any(|r| r) } else { reached.all(|r| r) }
}

/// The deadline that `-T ms` or `-t ms` sets; 0 is none.
pub fn deadline(millis: u64) -> Option<Mono> {
    (millis > 0).then(|| clock::mono().after(Duration::from_millis(millis)))
}

/// What a program that only waits ends with: success, or the failures counted, or the time up.
pub fn conclude(verdict: Verdict) -> Result<u8> {
    match verdict {
        Verdict::Reached { failures: 0 } => Ok(code::OK),
        Verdict::Reached { failures } => Err(Error::new(
            failures.min(MOST_FAILURES) as u8,
            match failures {
                1 => "a service failed for good, is skipped (condition), or its supervisor left".to_owned(),
                n => format!(
                    "{n} services failed for good, are skipped (condition), or their supervisors left"
                ),
            },
        )),
        Verdict::TimedOut { waiting } => {
            let more = waiting.len().saturating_sub(MOST_NAMED);
            let mut text = format!("timed out: {}", waiting[..waiting.len() - more].join("; "));
            if more > 0 {
                text += &format!("; and {more} more");
            }
            Err(Error::new(code::TIMED_OUT, text))
        }
    }
}

/// A message names no more services than these.
const MOST_NAMED: usize = 8;

/// An exit code that counts failures must not be one that says something else.
const MOST_FAILURES: usize = code::TIMED_OUT as usize - 1;

/// The option letters of `svc` that are commands.
pub fn is_command_letter(letter: char) -> bool {
    letter.is_ascii_alphanumeric() && Command::try_from(letter as u8).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::Pid;

    fn status(up: bool, ready: bool) -> Status {
        Status { pid: Pid::from_raw(up as i32), ready, ..Status::default() }
    }

    fn reached_after(start: (bool, bool), letter: char, events: &[u8]) -> Option<usize> {
        let goal = Goal::from_letter(letter).unwrap();
        let mut view = View::new(&status(start.0, start.1), goal, true);
        for n in 0..=events.len() {
            if view.is_reached(goal) {
                return Some(n);
            }
            if n < events.len() {
                view.hear(events[n], goal);
            }
        }
        None
    }

    #[test]
    fn goals_are_reached_when_s6_says_so() {
        assert_eq!(reached_after((true, false), 'u', b""), Some(0));
        assert_eq!(reached_after((false, true), 'u', b"u"), Some(1));
        assert_eq!(reached_after((true, false), 'U', b"uU"), Some(2));
        assert_eq!(reached_after((true, true), 'd', b"dD"), Some(1));
        assert_eq!(reached_after((true, true), 'D', b"dD"), Some(2));
        assert_eq!(reached_after((false, true), 'D', b""), Some(0));
        assert_eq!(reached_after((true, true), 'r', b"dDu"), Some(3));
        assert_eq!(reached_after((true, true), 'R', b"dDuU"), Some(4));
        assert_eq!(reached_after((true, true), 'r', b"u"), None);
        // Down is down, whether it was so from the beginning or not.
        assert_eq!(reached_after((false, true), 'r', b"u"), Some(1));
        assert_eq!(reached_after((false, false), 'R', b"DuU"), Some(3));
        assert_eq!(reached_after((true, true), 'd', b"su"), None);
    }

    #[test]
    fn what_was_waited_for_in_vain_is_said() {
        let shortfall = |start: (bool, bool), letter| {
            let goal = Goal::from_letter(letter).unwrap();
            View::new(&status(start.0, start.1), goal, true).shortfall(goal)
        };
        assert_eq!(shortfall((true, false), 'U'), "up, not ready");
        assert_eq!(shortfall((false, true), 'U'), "down, not up and ready");
        assert_eq!(shortfall((false, false), 'u'), "down, with its finish script running, not up");
        assert_eq!(shortfall((true, true), 'D'), "up and ready, not down");
        assert_eq!(shortfall((false, false), 'D'), "down, with its finish script running, not finished");
        assert_eq!(shortfall((true, true), 'R'), "up and ready, not restarted");
    }

    #[test]
    fn failures_end_the_waiting() {
        let up = Goal::from_letter('U').unwrap();
        for event in *b"Ox" {
            let mut view = View::new(&status(false, true), up, true);
            view.hear(event, up);
            assert!(view.is_reached(up) && view.failed, "{}", event as char);
        }
        let down = Goal::from_letter('D').unwrap();
        let mut view = View::new(&status(true, true), down, true);
        for event in *b"ODx" {
            view.hear(event, down);
        }
        assert!(view.is_reached(down) && !view.failed);
    }
}
