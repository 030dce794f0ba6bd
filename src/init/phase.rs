//! The life of a container, pure: what happened and the time go in, what must be done comes out.
//!
//! # States
//!
//! - **Booting**: services are being brought up. The command has to wait.
//! - **Running**: they are up. The command runs, if there is one; without one the container lives on.
//! - **Ending**: in four stages, each with a deadline: the command is told to end; services are taken down;
//!   the scanner (and with it all supervision) ends; whatever is left is told to end, then killed.
//! - **Over**: pid 1 exits.
//!
//! # Odd transitions, and why
//!
//! - A boot or a stop that was *killed* is begun again: whoever did it meant a process, not the container.
//!   It goes on from what is, so nothing is done twice.
//! - A stop during the boot ends the boot first. What it has begun is then taken down like the rest.
//! - A second request to stop changes nothing.
//! - Deadlines of the stages are parts of one budget counted from the request: a stage that is slow takes
//!   from nobody behind it.
#![forbid(unsafe_code)]

use crate::process::{End, Signal, WaitStatus};
use crate::time::Mono;
use std::time::Duration;

/// What a boot that did not succeed says with its exit code.
pub mod boot_code {
    /// Everything is up.
    pub const OK: u8 = 0;
    /// Some service failed.
    pub const FAILED: u8 = 1;
    /// The time was up.
    pub const TIMED_OUT: u8 = 2;
    /// The definitions are wrong: nothing was started.
    pub const REFUSED: u8 = 100;
}

/// `S6_BEHAVIOUR_IF_STAGE2_FAILS`: what a failed boot means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IfBootFails {
    /// 0: go on.
    GoOn,
    /// 1: warn and go on.
    Warn,
    /// 2: stop.
    Stop,
}

/// What a container is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// There is a command.
    pub has_command: bool,
    /// There are services; without them there is only the command.
    pub has_services: bool,
    /// What a failed boot means.
    pub if_boot_fails: IfBootFails,
    /// From the request to stop to the exit.
    pub stop_time: Duration,
    /// From the last polite signal to whatever is left to SIGKILL, at most.
    pub kill_grace: Duration,
}

/// How far the end has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The boot is told to end.
    Boot,
    /// The command is told to end.
    Command,
    /// Services are taken down.
    Services,
    /// The scanner is told to end.
    Scanner,
    /// Whatever is left is told to end.
    Rest,
    /// Whatever is left is killed.
    Kill,
}

/// Where the container is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Services are being brought up.
    Booting,
    /// They are up.
    Running,
    /// It ends.
    Ending {
        /// How far that is.
        stage: Stage,
        /// When it was begun.
        since: Mono,
        /// When this stage is over, done or not.
        until: Mono,
    },
    /// Nothing is left to do but to exit.
    Over,
}

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The boot has ended.
    BootEnded(WaitStatus),
    /// The command has ended, or could not be started.
    CommandEnded(WaitStatus),
    /// Somebody wants the container to stop.
    StopAsked,
    /// Taking services down has ended.
    ServicesEnded(WaitStatus),
    /// The scanner has ended.
    ScannerEnded,
    /// No process is left.
    NothingLeft,
    /// A deadline may have passed.
    Timeout,
}

/// Why a container stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Somebody wanted it.
    Asked,
    /// The command has ended.
    Command(WaitStatus),
    /// The boot failed.
    BootFailed,
}

/// What must now be done, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Bring services up.
    StartBoot,
    /// Tell the boot to end.
    EndBoot,
    /// Kill it: what it was told did not help.
    KillBoot,
    /// Start the command.
    StartCommand,
    /// Send this to the command.
    SignalCommand(Signal),
    /// Take services down, until then.
    StopServices(Mono),
    /// Tell the scanner to end.
    StopScanner,
    /// Send this to whatever is left.
    SignalAll(Signal),
    /// Write the code with which the container shall exit.
    WriteExitCode(u8),
    /// Write it unless somebody else has written one.
    ProposeExitCode(u8),
    /// Say that something took too long.
    SayLate(Stage),
    /// Say that it stops now, and why.
    SayStopping(Why),
    /// Exit.
    Exit,
}

/// A container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Container {
    phase: Phase,
    rules: Rules,
    command_runs: bool,
    scanner_runs: bool,
}

impl Container {
    /// One that is about to boot.
    pub fn new(rules: Rules) -> (Container, Vec<Action>) {
        let (phase, action) = match rules.has_services {
            true => (Phase::Booting, Action::StartBoot),
            false => (Phase::Running, Action::StartCommand),
        };
        let command_runs = !rules.has_services;
        (Container { phase, rules, command_runs, scanner_runs: rules.has_services }, vec![action])
    }

    /// Where it is.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// What a failed boot means: that may have been changed meanwhile.
    pub fn set_if_boot_fails(&mut self, if_boot_fails: IfBootFails) {
        self.rules.if_boot_fails = if_boot_fails;
    }

    /// How long a stop may take, from the request to the exit.
    pub fn set_stop_time(&mut self, stop_time: Duration) {
        self.rules.stop_time = stop_time;
    }

    /// Whether the scanner is still wanted: if so, one that ends is started again.
    pub fn wants_scanner(&self) -> bool {
        match self.phase {
            Phase::Booting | Phase::Running => true,
            Phase::Ending { stage, .. } => matches!(stage, Stage::Boot | Stage::Command | Stage::Services),
            Phase::Over => false,
        }
    }

    /// Whether everything waits for the scanner to end.
    pub fn awaits_scanner(&self) -> bool {
        matches!(self.phase, Phase::Ending { stage: Stage::Scanner, .. })
    }

    /// When [`Event::Timeout`] is next due.
    pub fn deadline(&self) -> Option<Mono> {
        match self.phase {
            Phase::Ending { until, .. } => Some(until),
            Phase::Booting | Phase::Running | Phase::Over => None,
        }
    }

    /// Feeds one event.
    pub fn on(&mut self, now: Mono, event: Event) -> Vec<Action> {
        let mut todo = Vec::new();
        match (event, self.phase) {
            (_, Phase::Over) => {}
            (Event::BootEnded(status), Phase::Booting) => self.on_boot_ended(now, status, &mut todo),
            (Event::BootEnded(_), Phase::Ending { stage: Stage::Boot, since, .. }) => {
                self.enter(Stage::Command, since, now, &mut todo);
            }
            (Event::BootEnded(_), _) => {}
            (Event::CommandEnded(status), phase) => self.on_command_ended(now, status, phase, &mut todo),
            (Event::StopAsked, Phase::Booting) => {
                todo.extend([Action::SayStopping(Why::Asked), Action::EndBoot]);
                self.enter(Stage::Boot, now, now, &mut todo);
            }
            (Event::StopAsked, Phase::Running) => {
                todo.push(Action::SayStopping(Why::Asked));
                self.enter(Stage::Command, now, now, &mut todo);
            }
            (Event::StopAsked, Phase::Ending { .. }) => {}
            (Event::ServicesEnded(status), Phase::Ending { stage: Stage::Services, since, until }) => {
                match status.end() {
                    End::Signal(_) => todo.push(Action::StopServices(until)),
                    End::Exit(_) => self.enter(Stage::Scanner, since, now, &mut todo),
                }
            }
            (Event::ServicesEnded(_), _) => {}
            (Event::ScannerEnded, phase) => {
                self.scanner_runs = self.wants_scanner();
                if let Phase::Ending { stage: Stage::Scanner, since, .. } = phase {
                    self.enter(Stage::Rest, since, now, &mut todo);
                }
            }
            (Event::NothingLeft, Phase::Ending { stage: Stage::Rest | Stage::Kill, .. }) => {
                self.over(&mut todo);
            }
            (Event::NothingLeft, _) => {}
            (Event::Timeout, Phase::Ending { stage, since, until }) if until <= now => {
                self.on_late(now, stage, since, &mut todo);
            }
            (Event::Timeout, _) => {}
        }
        todo
    }

    fn on_boot_ended(&mut self, now: Mono, status: WaitStatus, todo: &mut Vec<Action>) {
        let code = match status.end() {
            End::Signal(_) => return todo.push(Action::StartBoot),
            End::Exit(code) => code,
        };
        let refused = !matches!(code, boot_code::OK | boot_code::FAILED | boot_code::TIMED_OUT);
        if refused || code != boot_code::OK && self.rules.if_boot_fails == IfBootFails::Stop {
            let code = if code == boot_code::REFUSED { 1 } else { code };
            todo.extend([Action::WriteExitCode(code), Action::SayStopping(Why::BootFailed)]);
            return self.enter(Stage::Services, now, now, todo);
        }
        self.phase = Phase::Running;
        if self.rules.has_command {
            self.command_runs = true;
            todo.push(Action::StartCommand);
        }
    }

    fn on_command_ended(&mut self, now: Mono, status: WaitStatus, phase: Phase, todo: &mut Vec<Action>) {
        self.command_runs = false;
        let code = status.shell_code();
        // Once it was told to end, how it did so counts less than what a service says of the whole.
        todo.push(match phase {
            Phase::Ending { .. } => Action::ProposeExitCode(code),
            Phase::Booting | Phase::Running | Phase::Over => Action::WriteExitCode(code),
        });
        match phase {
            Phase::Running => {
                todo.push(Action::SayStopping(Why::Command(status)));
                self.enter(Stage::Services, now, now, todo);
            }
            Phase::Ending { stage: Stage::Command, since, .. } => {
                self.enter(Stage::Services, since, now, todo);
            }
            Phase::Booting | Phase::Ending { .. } | Phase::Over => {}
        }
    }

    /// Begins a stage of the end; passes over one in which there is nothing to do.
    fn enter(&mut self, stage: Stage, since: Mono, now: Mono, todo: &mut Vec<Action>) {
        let ninth = self.rules.stop_time / 9;
        // The command and the services have most of the time; what is behind them takes microseconds
        // unless something is wrong.
        let until = match stage {
            Stage::Boot => since.after(ninth),
            Stage::Command => since.after(ninth * 3),
            Stage::Services => since.after(ninth * 7),
            Stage::Scanner => since.after(ninth * 8).min(now.after(self.rules.kill_grace)),
            Stage::Rest => since.after(ninth * 9).min(now.after(self.rules.kill_grace)),
            Stage::Kill => now.after(ninth),
        };
        self.phase = Phase::Ending { stage, since, until };
        match stage {
            Stage::Boot => {}
            Stage::Command if self.command_runs => {
                todo.extend([Action::SignalCommand(Signal::TERM), Action::SignalCommand(Signal::CONT)]);
            }
            Stage::Command => self.enter(Stage::Services, since, now, todo),
            Stage::Services if self.rules.has_services => todo.push(Action::StopServices(until)),
            Stage::Services => self.enter(Stage::Rest, since, now, todo),
            Stage::Scanner if self.scanner_runs => todo.push(Action::StopScanner),
            Stage::Scanner => self.enter(Stage::Rest, since, now, todo),
            Stage::Rest => {
                todo.extend([Action::SignalAll(Signal::TERM), Action::SignalAll(Signal::CONT)]);
            }
            Stage::Kill => todo.push(Action::SignalAll(Signal::KILL)),
        }
    }

    fn on_late(&mut self, now: Mono, stage: Stage, since: Mono, todo: &mut Vec<Action>) {
        todo.push(Action::SayLate(stage));
        match stage {
            Stage::Boot => {
                todo.push(Action::KillBoot);
                self.enter(Stage::Command, since, now, todo);
            }
            Stage::Command => {
                todo.push(Action::SignalCommand(Signal::KILL));
                self.enter(Stage::Services, since, now, todo);
            }
            Stage::Services => self.enter(Stage::Scanner, since, now, todo),
            Stage::Scanner => self.enter(Stage::Rest, since, now, todo),
            Stage::Rest => self.enter(Stage::Kill, since, now, todo),
            Stage::Kill => self.over(todo),
        }
    }

    fn over(&mut self, todo: &mut Vec<Action>) {
        self.phase = Phase::Over;
        todo.push(Action::Exit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(ms: u64) -> Mono {
        Mono(ms * 1_000_000)
    }

    fn rules(has_command: bool) -> Rules {
        Rules {
            has_command,
            has_services: true,
            if_boot_fails: IfBootFails::GoOn,
            stop_time: Duration::from_secs(9),
            kill_grace: Duration::from_secs(3),
        }
    }

    fn exited(code: u8) -> WaitStatus {
        WaitStatus::exited(code)
    }

    fn running(has_command: bool) -> Container {
        let (mut c, _) = Container::new(rules(has_command));
        c.on(at(10), Event::BootEnded(exited(0)));
        c
    }

    #[test]
    fn booting_then_command_then_end_with_its_code() {
        let (mut c, todo) = Container::new(rules(true));
        assert_eq!(todo, [Action::StartBoot]);
        assert_eq!(c.on(at(5), Event::BootEnded(exited(0))), [Action::StartCommand]);
        let todo = c.on(at(100), Event::CommandEnded(WaitStatus::killed(Signal::KILL)));
        let why = Why::Command(WaitStatus::killed(Signal::KILL));
        let stop = Action::StopServices(at(7100));
        assert_eq!(todo, [Action::WriteExitCode(137), Action::SayStopping(why), stop]);
        assert_eq!(c.on(at(101), Event::ServicesEnded(exited(0))), [Action::StopScanner]);
        let todo = c.on(at(102), Event::ScannerEnded);
        assert_eq!(todo, [Action::SignalAll(Signal::TERM), Action::SignalAll(Signal::CONT)]);
        assert_eq!(c.on(at(103), Event::NothingLeft), [Action::Exit]);
        assert_eq!(c.phase(), Phase::Over);
    }

    #[test]
    fn running_stop_tells_the_command_first_and_keeps_its_code() {
        let mut c = running(true);
        let todo = c.on(at(1000), Event::StopAsked);
        assert_eq!(todo[0], Action::SayStopping(Why::Asked));
        assert_eq!(todo[1..], [Action::SignalCommand(Signal::TERM), Action::SignalCommand(Signal::CONT)]);
        assert_eq!(c.on(at(1001), Event::StopAsked), []);
        let todo = c.on(at(1500), Event::CommandEnded(exited(3)));
        assert_eq!(todo, [Action::ProposeExitCode(3), Action::StopServices(at(8000))]);
    }

    #[test]
    fn without_services_there_is_only_the_command() {
        let (mut c, todo) = Container::new(Rules { has_services: false, ..rules(true) });
        assert_eq!(todo, [Action::StartCommand]);
        let todo = c.on(at(5), Event::CommandEnded(exited(3)));
        let rest = [Action::SignalAll(Signal::TERM), Action::SignalAll(Signal::CONT)];
        assert_eq!(todo[..2], [Action::WriteExitCode(3), Action::SayStopping(Why::Command(exited(3)))]);
        assert_eq!(todo[2..], rest);
        assert_eq!(c.on(at(6), Event::NothingLeft), [Action::Exit]);
    }

    #[test]
    fn running_without_command_lives_until_it_is_told() {
        let mut c = running(false);
        assert_eq!(c.phase(), Phase::Running);
        let stop = Action::StopServices(at(8000));
        assert_eq!(c.on(at(1000), Event::StopAsked), [Action::SayStopping(Why::Asked), stop]);
    }

    #[test]
    fn booting_stop_ends_the_boot_then_all_of_it() {
        let (mut c, _) = Container::new(rules(true));
        assert_eq!(c.on(at(0), Event::StopAsked), [Action::SayStopping(Why::Asked), Action::EndBoot]);
        assert_eq!(c.on(at(1), Event::BootEnded(exited(1))), [Action::StopServices(at(7000))]);
    }

    #[test]
    fn a_boot_or_stop_that_is_killed_is_begun_again() {
        let (mut c, _) = Container::new(rules(false));
        let killed = WaitStatus::killed(Signal::KILL);
        assert_eq!(c.on(at(0), Event::BootEnded(killed)), [Action::StartBoot]);
        c.on(at(1), Event::BootEnded(exited(0)));
        c.on(at(1000), Event::StopAsked);
        assert_eq!(c.on(at(1001), Event::ServicesEnded(killed)), [Action::StopServices(at(8000))]);
        assert!(c.wants_scanner());
    }

    #[test]
    fn booting_refused_ends_with_1_and_runs_nothing() {
        let (mut c, _) = Container::new(rules(true));
        let todo = c.on(at(0), Event::BootEnded(exited(boot_code::REFUSED)));
        let stop = Action::StopServices(at(7000));
        assert_eq!(todo, [Action::WriteExitCode(1), Action::SayStopping(Why::BootFailed), stop]);
    }

    #[test]
    fn booting_failed_is_what_the_rules_say() {
        for (rule, code, first) in [
            (IfBootFails::GoOn, 1, Action::StartCommand),
            (IfBootFails::Warn, 2, Action::StartCommand),
            (IfBootFails::Stop, 1, Action::WriteExitCode(1)),
            (IfBootFails::Stop, 2, Action::WriteExitCode(2)),
        ] {
            let (mut c, _) = Container::new(Rules { if_boot_fails: rule, ..rules(true) });
            assert_eq!(c.on(at(0), Event::BootEnded(exited(code)))[0], first, "{rule:?} {code}");
        }
    }

    #[test]
    fn every_stage_has_its_deadline() {
        let mut c = running(true);
        c.on(at(0), Event::StopAsked);
        let mut seen = Vec::new();
        while let Some(until) = c.deadline() {
            assert_eq!(c.on(Mono(until.0 - 1), Event::Timeout), []);
            seen.push((until.0 / 1_000_000, c.on(until, Event::Timeout).last().copied()));
        }
        assert_eq!(
            seen,
            [
                (3000, Some(Action::StopServices(at(7000)))),
                (7000, Some(Action::StopScanner)),
                (8000, Some(Action::SignalAll(Signal::CONT))),
                (9000, Some(Action::SignalAll(Signal::KILL))),
                (10000, Some(Action::Exit)),
            ]
        );
    }

    proptest! {
        /// Whatever happens: once it was told to stop it is over within its time, and it exits once.
        #[test]
        fn any_history_ends(events in proptest::collection::vec((0u8..8, 0u64..2000, any::<bool>()), 0..60), has_command: bool) {
            let (mut c, mut all) = Container::new(rules(has_command));
            let (mut now, mut asked) = (0, None);
            for (kind, ms, killed) in events {
                now += ms;
                let status = if killed { WaitStatus::killed(Signal::TERM) } else { exited(0) };
                let event = match kind {
                    0 => Event::BootEnded(status),
                    1 => Event::CommandEnded(status),
                    2 => { asked.get_or_insert(now); Event::StopAsked }
                    3 => Event::ServicesEnded(status),
                    4 => Event::ScannerEnded,
                    5 => Event::NothingLeft,
                    _ => Event::Timeout,
                };
                all.extend(c.on(at(now), event));
                if !matches!(c.phase(), Phase::Booting | Phase::Running) { asked.get_or_insert(now); }
            }
            if let Some(asked) = asked {
                while let Some(until) = c.deadline() {
                    now = now.max(until.0 / 1_000_000);
                    all.extend(c.on(at(now), Event::Timeout));
                }
                prop_assert!(now.max(asked + 10_000) >= now);
                prop_assert_eq!(c.phase(), Phase::Over);
                prop_assert_eq!(all.iter().filter(|a| **a == Action::Exit).count(), 1);
            }
        }
    }
}
