//! What pid 1 says of the end: why, how long, what took long, the exit code.
//!
//! "Why did my container stop?" must have an answer in its log. At the default verbosity that is two lines,
//! one at the beginning and one at the end; at 1 only a stop that nobody asked for says why; at 0 nothing.

use super::phase::{Phase, Stage, Why};
use crate::diag::{self, Level};
use crate::process::{End, WaitStatus};
use crate::report::took;
use crate::time::Mono;
use std::time::Duration;

/// A stage that took less is not worth mentioning.
const SLOW: Duration = Duration::from_millis(200);

/// Remembers what it needs for saying that.
pub struct Told {
    /// As S6_VERBOSITY.
    verbosity: u8,
    /// Who wanted the stop that will be, or was, said.
    asked: Option<String>,
    /// The command could not even be started.
    not_started: bool,
    since: Option<Mono>,
    /// The stages of the end, and when each began.
    stages: Vec<(Stage, Mono)>,
}

impl Told {
    /// Nothing has happened.
    pub fn new(verbosity: u8) -> Told {
        Told { verbosity, asked: None, not_started: false, since: None, stages: Vec::new() }
    }

    /// Somebody wants it to stop. The first one counts.
    pub fn asked(&mut self, who: String) {
        self.asked.get_or_insert(who);
    }

    /// The command could not be started: it did not end of itself.
    pub fn command_not_started(&mut self) {
        self.not_started = true;
    }

    /// It stops.
    pub fn stopping(&mut self, now: Mono, why: Why) {
        self.since = Some(now);
        let (wanted, text) = match why {
            Why::Asked => (true, self.asked.clone().unwrap_or_default()),
            Why::Command(_) if self.not_started => (false, "the command could not be started".to_owned()),
            Why::Command(status) => (status == WaitStatus::exited(0), command_ended(status)),
            Why::BootFailed => (false, "the boot failed".to_owned()),
        };
        let level = if wanted { Level::Info } else { Level::Warning };
        if self.verbosity >= if wanted { 2 } else { 1 } {
            diag::say(level, format_args!("stopping: {text}"));
        }
    }

    /// Takes note of where it is.
    pub fn note(&mut self, now: Mono, phase: Phase) {
        if let Phase::Ending { stage, .. } = phase
            && self.stages.last().is_none_or(|(last, _)| *last != stage)
        {
            self.stages.push((stage, now));
        }
    }

    /// How long the present stage has lasted.
    pub fn in_stage(&self, now: Mono) -> Duration {
        self.stages.last().map_or(Duration::ZERO, |(_, began)| now.since(*began))
    }

    /// It has stopped, and exits with `code`.
    pub fn stopped(&self, now: Mono, code: u8) {
        if let (Some(since), true) = (self.since, self.verbosity >= 2) {
            let slow = self.slow(now);
            diag::info(format_args!("stopped in {}{slow}: exit code {code}", took(now.since(since))));
        }
    }

    /// The stages that took long, if there is more than one to tell apart.
    fn slow(&self, now: Mono) -> String {
        let ends = self.stages.iter().skip(1).map(|(_, at)| *at).chain([now]);
        let times = self.stages.iter().zip(ends).map(|((stage, began), end)| (*stage, end.since(*began)));
        let slow = times.filter(|(_, time)| *time >= SLOW);
        let shown: Vec<String> =
            slow.map(|(stage, time)| format!("{} {}", stage_name(stage), took(time))).collect();
        if shown.is_empty() { String::new() } else { format!(" ({})", shown.join(", ")) }
    }
}

fn command_ended(status: WaitStatus) -> String {
    match status.end() {
        End::Exit(code) => format!("the command ended with exit code {code}"),
        End::Signal(_) => format!("the command was ended by {status}"),
    }
}

fn stage_name(stage: Stage) -> &'static str {
    match stage {
        Stage::Boot => "the boot",
        Stage::Command => "the command",
        Stage::Services => "services",
        Stage::Scanner => "supervision",
        Stage::Rest | Stage::Kill => "other processes",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_stages_are_named() {
        let at = |ms: u64| Mono(ms * 1_000_000);
        let ending = |stage, ms: u64| Phase::Ending { stage, since: at(0), until: at(ms + 1000) };
        let mut told = Told::new(0);
        told.note(at(0), ending(Stage::Command, 0));
        told.note(at(10), ending(Stage::Command, 0));
        assert_eq!(told.in_stage(at(300)), Duration::from_millis(300));
        told.note(at(1500), ending(Stage::Services, 1500));
        told.note(at(1510), ending(Stage::Scanner, 1510));
        told.note(at(1511), ending(Stage::Rest, 1511));
        assert_eq!(told.slow(at(1900)), " (the command 1.50 s, other processes 389 ms)");
    }

    #[test]
    fn ends_of_commands() {
        assert_eq!(command_ended(WaitStatus::exited(3)), "the command ended with exit code 3");
        let killed = WaitStatus::killed(crate::process::Signal::KILL);
        assert_eq!(command_ended(killed), "the command was ended by signal SIGKILL");
    }
}
