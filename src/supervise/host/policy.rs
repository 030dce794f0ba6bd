//! What follows from an end that nobody asked for: `restart`, `restart-delay`, `give-up`, and whether the container
//! ends with the service.

use super::service::{Body, Service};
use super::{Host, Id};
use crate::diag::{self, Error};
use crate::init::place;
use crate::process::WaitStatus;
use crate::supervise::extra::Verdict;
use crate::supervise::machine::State;
use crate::sys::clock;
use rustix::fs::{Mode, OFlags, open};

/// The exit code for what could not be started, as a shell has it for a command not found.
const NOT_STARTED: u8 = 127;

impl Host {
    /// Judges the death of run, before its machine is told of it.
    pub(super) fn judge_death(&mut self, id: Id, status: WaitStatus) {
        let Some(Body::Longrun(longrun)) = self.service(id).map(|s| &s.body) else { return };
        let machine = &longrun.machine;
        if !matches!(machine.state(), State::Up { .. }) || machine.told().is_wish() {
            return;
        }
        // One that was to be in the background and is not has failed, whatever it says.
        let vain = longrun.reader.last().is_forking() && !machine.is_followed();
        let judged =
            if vain && status == WaitStatus::exited(0) { WaitStatus::exited(NOT_STARTED) } else { status };
        self.judge(id, Some(machine.deaths() + 1), judged);
    }

    /// Judges an attempt to start run that failed.
    pub(super) fn judge_failure(&mut self, id: Id) {
        self.judge(id, None, WaitStatus::exited(NOT_STARTED));
    }

    fn judge(&mut self, id: Id, number: Option<u32>, status: WaitStatus) {
        if self.aux(id).is_none() {
            return;
        }
        let (now, journal) = (clock::mono(), &self.journal);
        let Some(service) = self.services[id as usize].as_deref_mut() else { return };
        let (Body::Longrun(longrun), Some(aux)) = (&mut service.body, &mut service.extra) else { return };
        let Some(features) = longrun.reader.last().features.as_deref() else { return };
        if !longrun.machine.status().want_up {
            return;
        }
        let lived = longrun.machine.started().map_or_else(Default::default, |started| now.since(started));
        let verdict = aux.mind.on_end(now, number, status, lived, features);
        aux.remember(journal);
        longrun.machine.judge(verdict);
        let ends = match verdict {
            Verdict::Again(_) => false,
            Verdict::NotAgain => features.on_exit,
            Verdict::GiveUp => features.on_give_up || features.on_exit,
        };
        if verdict == Verdict::GiveUp {
            let count = features.give_up.map_or(0, |(count, _)| count);
            service
                .warn(format_args!("ended {count} times in too short a time (give-up): not started again"));
        }
        if ends {
            self.stop_container(id, status);
        }
    }

    /// Ends the container with the code of a service, as `halt` in its finish script would.
    fn stop_container(&mut self, id: Id, status: WaitStatus) {
        let Some(service) = self.service(id) else { return };
        let asked = ask_init(service, status);
        match asked {
            Ok(()) => self.restart_nothing(),
            Err(e) => service.warn(format_args!("{e}: the container goes on")),
        }
    }
}

fn ask_init(service: &Service, status: WaitStatus) -> diag::Result<()> {
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let path = place::control();
    let unable = |e| Error::unable(format_args!("stop the container (talk to init at {path})"), e);
    let control = open(&*path, flags, Mode::empty()).map_err(unable)?;
    place::set_exit_code(status.shell_code())?;
    let request = format!("sservice {} ended: {status}\n", service.label());
    rustix::io::write(&control, request.as_bytes()).map_err(unable)?;
    Ok(())
}
