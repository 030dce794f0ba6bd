//! Telling machines what happened, and doing what they want done.

use super::faults::Step;
use super::launch::{Failure, Launched, Surroundings};
use super::service::{Adopted, Body, Longrun, Service};
use super::{Goal, Host, Id, Token, launch};
use crate::diag;
use crate::diag::{Error, code};
use crate::process::{Pid, Signal, WaitStatus};
use crate::servicedir::control::Command;
use crate::supervise::machine::{Event, Job, To, Todo};
use crate::supervise::oneshot;
use crate::supervise::oneshot::Script;
use crate::supervise::wire::Outcome;
use crate::sys::signal::Target;
use crate::sys::{Errno, clock, signal};
use std::cell::Cell;
use std::os::fd::AsFd;
use std::time::Duration;

/// That a script of a oneshot runs is written down if it still does after this. Most have ended by then, and
/// what nobody had the time to read need not be written. What a successor needs is in the journal.
const SHOW_AFTER: Duration = Duration::from_millis(20);

impl Host {
    /// The process of a service has died.
    pub(super) fn died(&mut self, id: Id, pid: Pid, status: WaitStatus) {
        self.forget_pid(id, pid);
        if self.ask_ended(id, pid, status) {
            return;
        }
        let Some(service) = self.service_mut(id) else { return };
        if service.process().map(|(p, _)| p) != Some(pid) {
            return;
        }
        // Closing the pidfd, of which there is no copy, takes it out of the epoll set.
        service.adopted = None;
        if self.goes_on_without(id, status) {
            return;
        }
        if !self.hunt_what_is_left(id, pid, status) {
            self.bury(id, status);
        }
    }

    /// The process of a service has died, and so has its descent if that was to die with it.
    pub(super) fn bury(&mut self, id: Id, status: WaitStatus) {
        let Some(service) = self.service(id) else { return };
        match &service.body {
            Body::Longrun(longrun) => {
                if longrun.machine.status().want_up && !self.restarts && !service.reads_others() {
                    self.feed(id, Event::Command(Command::OnceAtMost));
                }
                if let Some(service) = self.service_mut(id) {
                    service.read_definition();
                }
                self.write_death_before(id);
                self.note_last_words(id);
                self.note_end(id);
                self.judge_death(id, status);
                self.feed_as_read(id, Event::Died(status));
                self.note_killer(id, status);
            }
            Body::Oneshot(_) => self.feed_oneshot(id, oneshot::Event::Died(status)),
        }
    }

    /// There is room for one death that is not in the tally yet: it must not give way to the next.
    fn write_death_before(&mut self, id: Id) {
        if self.service(id).is_some_and(|service| service.death.is_some()) {
            self.wake(id);
            let Some(service) = self.services[id as usize].as_deref_mut() else { return };
            service.write_death(&self.journal);
        }
    }

    /// A process of a service is no more. One that was taken over may have been reaped a while ago, and its
    /// number be another service's by now.
    pub(super) fn forget_pid(&mut self, id: Id, pid: Pid) {
        if self.by_pid.get(&pid) == Some(&id) {
            self.by_pid.remove(&pid);
        }
    }

    /// Tells a longrun's machine what happened and does at once what cannot wait. The files of the service
    /// count as they are now.
    pub(super) fn feed(&mut self, id: Id, event: Event) {
        self.wake(id);
        if let Some(service) = self.service_mut(id) {
            service.read_definition();
        }
        self.settle_main(id, event);
        self.feed_as_read(id, event);
    }

    /// The same, with the service's files as they were read last.
    pub(super) fn feed_as_read(&mut self, id: Id, event: Event) {
        self.wake(id);
        let mut next = Some(event);
        while let Some(event) = next.take() {
            let now = clock::now();
            let reads_on = self.has_more_to_read(id);
            let Some(Body::Longrun(longrun)) = self.service_mut(id).map(|s| &mut s.body) else { return };
            let mut todo = Todo::default();
            longrun.machine.note_input(reads_on);
            // Signals are for the process that was there: one that is left behind gets its last one too.
            let process = longrun.machine.process();
            longrun.machine.on(now, event, longrun.reader.last(), &mut todo);
            next = self.obey(id, todo, process.map(|(pid, _)| pid));
        }
        self.cancel_if_vain(id);
        self.settle_clocks(id);
        self.mark_due(id);
        self.set_timer(id);
    }

    /// Does what a longrun's machine wants done at once and notes the rest. Returns the answer if it asked
    /// for a process.
    pub(super) fn obey(&mut self, id: Id, todo: Todo, process: Option<Pid>) -> Option<Event> {
        // Where all is being stopped, the journal keeps what is down from being started.
        if let Some(create) = todo.down_file.filter(|create| !create || self.restarts) {
            self.service(id)?.touch_down(create);
        }
        if let Some(pid) = process {
            if !todo.signals.is_empty() {
                self.note_descent(id);
            }
            for (to, signal) in todo.signals {
                match to {
                    To::Tree => self.signal_tree(id, pid, signal),
                    To::Process | To::Group => self.signal(id, pid, to, signal),
                }
            }
        }
        if todo.null_io {
            self.null_io(id);
        }
        if todo.close_notify {
            self.close_notification(id);
        }
        let service = self.service_mut(id)?;
        if let Some(death) = todo.death {
            service.death = Some(death.pack());
        }
        service.status_due |= todo.status;
        service.events.push(todo.events.as_bytes());
        self.service(id)?.remember(&self.journal);
        todo.start.and_then(|job| self.start(id, job))
    }

    /// Starts `run` or `finish` and says how it went, unless something must be asked first: that is said later.
    pub(super) fn start(&mut self, id: Id, job: Job) -> Option<Event> {
        self.wake(id);
        if job == Job::Run
            && let Some(answer) = self.gate(id)
        {
            return answer;
        }
        Some(self.start_now(id, job))
    }

    /// Starts `run` or `finish` and says how it went.
    pub(super) fn start_now(&mut self, id: Id, job: Job) -> Event {
        self.wake(id);
        self.prepare_for_orphans(id);
        if job == Job::Run {
            self.remove_stale_pid_file(id);
        }
        let logger = self.logger_of(id);
        if job == Job::Run && self.logger_is_late(id, logger) {
            let text = "its logger is not supervised yet".to_owned();
            self.note_failure(id, job, Failure { temporary: true, text, errno: None });
            return Event::NotStarted { temporary: true };
        }
        if job == Job::Run
            && let Err(failure) = self.open_ears(id)
        {
            let temporary = failure.temporary;
            self.note_failure(id, job, failure);
            return Event::NotStarted { temporary };
        }
        let index = id as usize;
        if self.services[index].is_none() {
            return Event::NotStarted { temporary: false };
        }
        let mut errand = self.take_errand(id, logger);
        let mut service = self.services[index].take().expect("it was there just now");
        if matches!(job, Job::Finish(..)) {
            // The script may look at the tally (permafailon does): this death must be in it.
            service.write_death(&self.journal);
        }
        let pipe = logger.and_then(|l| match &self.service(l)?.body {
            Body::Longrun(longrun) => longrun.pipe.as_ref().map(AsFd::as_fd),
            Body::Oneshot(_) => None,
        });
        let mut run_errand = errand.as_mut().map(|errand| || self.run_errand(errand));
        let meanwhile = run_errand.as_mut().map(|run| run as &mut dyn FnMut());
        let around = self.surroundings();
        let launched = launch::longrun(&mut service, job, pipe, &around, meanwhile);
        let unkept = around.unkept.get();
        self.services[index] = Some(service);
        if let Some(errand) = errand {
            self.end_errand(errand);
        }
        if unkept {
            self.keep_later(id);
        }
        match launched {
            Ok(Launched::Running { pid, boot }) => {
                self.by_pid.insert(pid, id);
                self.watch_notification(id);
                if job == Job::Run {
                    self.note_start(id);
                    self.note_brand(id, pid);
                }
                let service = self.services[index].as_mut().expect("put back just now");
                if job == Job::Run && service.failure.take().is_some() {
                    service.status_due = true;
                    let name = service.label().to_owned();
                    self.fault_over(&name, Step::Start);
                }
                Event::Started { pid, boot }
            }
            Ok(Launched::Nothing) => Event::NotStarted { temporary: false },
            Err(failure) => {
                let temporary = failure.temporary;
                self.note_failure(id, job, failure);
                Event::NotStarted { temporary }
            }
        }
    }

    /// It has a logger for which something could not be opened yet. What it wrote before that would go nowhere.
    fn logger_is_late(&self, id: Id, logger: Option<Id>) -> bool {
        let late = logger.and_then(|id| self.service(id)).is_some_and(|l| l.missing_at.is_some());
        let deferred = || {
            let name = self.service(id).filter(|s| !s.is_logger()).map(|s| format!("{}/log", s.name));
            name.is_some_and(|name| self.deferred.contains_key(&name))
        };
        late || (!self.deferred.is_empty() && deferred())
    }

    pub(super) fn surroundings(&self) -> Surroundings<'_> {
        Surroundings {
            blocked: self.blocked,
            journal: &self.journal,
            keeper: self.keeper.as_ref(),
            console: self.console.as_ref(),
            holder: self.identity,
            unkept: Cell::new(false),
        }
    }

    /// Says why something was not started, once while the reason stays the same.
    pub(super) fn note_failure(&mut self, id: Id, job: Job, failure: Failure) {
        if job == Job::Run && !failure.temporary {
            self.judge_failure(id);
        }
        let Some(service) = self.service_mut(id) else { return };
        let (run, temporary) = (job == Job::Run, failure.temporary);
        let said = temporary && service.failure.as_deref() == Some(&failure.text);
        let again = match &service.body {
            Body::Longrun(l) if run && l.machine.status().want_up => match l.machine.retry_pause(temporary) {
                _ if l.machine.is_to_stop() => String::new(),
                pause if l.machine.pause().is_none() => format!(" (retrying in {} s)", pause.as_secs()),
                _ => " (retrying after restart-delay)".to_owned(),
            },
            _ => String::new(),
        };
        let name = service.label().to_owned();
        self.complain(&name, Step::Start, failure.errno, said, format_args!("{}{again}", failure.text));
        let Some(service) = self.service_mut(id) else { return };
        if run {
            service.failure = Some(failure.text);
            service.status_due = true;
            if !failure.temporary {
                self.disappoint(id, WaitStatus::exited(code::NOT_FOUND));
            }
        }
    }

    /// Whoever waits for it to be up need not wait for a miracle.
    pub(super) fn disappoint(&mut self, id: Id, status: WaitStatus) {
        let Some(service) = self.service_mut(id) else { return };
        let (up, rest) = std::mem::take(&mut service.goals).into_iter().partition(|g: &Goal| g.up);
        service.goals = rest;
        self.answer(up, Outcome::Failed, status);
    }

    pub(super) fn signal(&self, id: Id, pid: Pid, to: To, signal: Signal) {
        let Some(service) = self.service(id) else { return };
        if service.dead.is_some() || service.adopted.as_ref().is_some_and(Adopted::is_gone) {
            return;
        }
        let adopted = service.adopted.as_ref();
        // One that is not held is looked for: its number may be another's.
        let found = match adopted.filter(|a| a.pidfd.is_none()).map(|_| service.find_process()) {
            Some(Ok(None)) => return,
            // The kernel has no such descriptors, or none for us: the number must do.
            Some(Err(_)) | None => None,
            Some(Ok(found)) => found,
        };
        let sent = match (to, adopted.and_then(|a| a.pidfd.as_ref()).or(found.as_ref())) {
            (To::Process, Some(pidfd)) => signal::send_pidfd(pidfd, signal),
            (To::Process, None) => signal::send(Target::Process(pid), signal),
            // The group is the process's own for as long as the process is there.
            (To::Group, Some(pidfd)) if signal::send_pidfd(pidfd, Signal(0)).is_err() => Ok(()),
            (To::Group | To::Tree, _) => match signal::send(Target::Group(pid), signal) {
                Err(Errno::SRCH) => signal::send(Target::Process(pid), signal),
                other => other,
            },
        };
        if let Err(e) = sent
            && e != Errno::SRCH
        {
            service.warn(Error::unable(format_args!("send {signal}"), e));
        }
    }

    /// The input and output that a service had from us end. In a supervisor of one these are our own; else
    /// it is the pipe between a service and its logger.
    pub(super) fn null_io(&mut self, id: Id) {
        if self.single {
            let null = rustix::fs::open("/dev/null", rustix::fs::OFlags::RDWR, rustix::fs::Mode::empty());
            if let Ok(null) = null {
                let _ = rustix::stdio::dup2_stdin(&null);
                let _ = rustix::stdio::dup2_stdout(&null);
            }
        }
        if let Some(longrun) = self.service_mut(id).and_then(Service::longrun) {
            longrun.closing = true;
        }
        self.close_pipe_if_over(id);
    }

    /// Lets the input of logger `id` end when it is to, and nobody of ours writes to it any more.
    pub(super) fn close_pipe_if_over(&mut self, id: Id) {
        let Some(service) = self.service(id) else { return };
        let busy = self.has_producer(service);
        let over = |l: &&mut Longrun| l.closing && !l.pipe_ends && !busy;
        let Some(longrun) = self.service_mut(id).and_then(Service::longrun).filter(over) else { return };
        let Some(pipe) = &longrun.pipe else { return };
        // The keeper has this one in place of the other, which goes with the last who could write.
        match pipe.reopen_for_reading() {
            Ok(end) => {
                (longrun.pipe, longrun.pipe_ends) = (Some(end), true);
                self.keep(id);
            }
            Err(_) => self.equip_later(id),
        }
    }

    /// Somebody writes, or may yet write, what this logger reads.
    fn has_producer(&self, logger: &Service) -> bool {
        let producer = logger.name.strip_suffix("/log").and_then(|name| self.names.get(name));
        producer.is_some_and(|p| self.service(*p).is_some_and(|s| !s.is_gone()))
    }

    /// A logger that is to read to the end is not there yet.
    fn has_more_to_read(&self, id: Id) -> bool {
        let Some(service) = self.service(id) else { return false };
        let Body::Longrun(longrun) = &service.body else { return false };
        longrun.machine.drains() && (service.unread() > 0 || self.has_producer(service))
    }

    /// The service whose input is this one's output.
    pub(super) fn logger_of(&self, id: Id) -> Option<Id> {
        let service = self.service(id)?;
        if service.is_logger() || self.single {
            return None;
        }
        let beside = || self.names.get(&*format!("{}/log", service.name));
        match &service.body {
            Body::Longrun(longrun) => {
                let named = longrun.reader.last().producer_for.as_deref();
                named.and_then(|name| self.names.get(name)).or_else(beside).copied()
            }
            Body::Oneshot(_) => None,
        }
    }

    pub(super) fn watch_notification(&mut self, id: Id) {
        let token = Token::Notification(id, self.lives[id as usize]);
        if let Some(Body::Longrun(longrun)) = self.service(id).map(|s| &s.body)
            && let Some(fifo) = &longrun.notify
            && self.watch(fifo, token).is_err()
        {
            diag::warn("unable to watch supervise/notify: readiness will not be seen");
        }
    }

    pub(super) fn close_notification(&mut self, id: Id) {
        let taken = self.service_mut(id).and_then(Service::longrun).and_then(|l| l.notify.take());
        if let Some(fifo) = taken {
            self.unkeep(&fifo);
        }
    }

    /// Tells a oneshot's machine what happened and does what it wants done.
    pub(super) fn feed_oneshot(&mut self, id: Id, event: oneshot::Event) {
        self.wake(id);
        let (mut next, mut due) = (Some(event), false);
        while let Some(event) = next.take() {
            let now = clock::now();
            let Some(service) = self.service_mut(id) else { return };
            let Body::Oneshot(machine) = &mut service.body else { return };
            let mut todo = oneshot::Todo::default();
            machine.on(now, event, &mut todo);
            service.status_due |= todo.status;
            due = !matches!(event, oneshot::Event::Started { .. });
            if !due {
                service.rewrite_at = Some(now.mono.after(SHOW_AFTER));
            }
            if let Some(service) = self.service(id) {
                if let Some((pid, _)) = service.process() {
                    todo.signals.iter().for_each(|signal| self.signal(id, pid, To::Group, *signal));
                }
                service.remember(&self.journal);
            }
            next = todo.start.map(|script| self.start_oneshot(id, script));
            if todo.settled {
                self.settle_oneshot(id);
            }
        }
        if due {
            self.mark_due(id);
        }
        self.set_timer(id);
    }

    /// Starts a script and says how it went.
    pub(super) fn start_oneshot(&mut self, id: Id, script: Script) -> oneshot::Event {
        self.wake(id);
        let mut errand = self.take_errand(id, None);
        let Some(service) = self.service(id) else { return oneshot::Event::NotStarted };
        let mut run_errand = errand.as_mut().map(|errand| || self.run_errand(errand));
        let meanwhile = run_errand.as_mut().map(|run| run as &mut dyn FnMut());
        let launched = launch::oneshot(service, script, &self.surroundings(), meanwhile);
        errand.into_iter().for_each(|errand| self.end_errand(errand));
        let service = self.service_mut(id).expect("still there");
        service.failure = None;
        match launched {
            Ok(Launched::Running { pid, boot }) => {
                self.by_pid.insert(pid, id);
                oneshot::Event::Started { pid, boot }
            }
            Ok(Launched::Nothing) => oneshot::Event::Nothing,
            Err(failure) => {
                let name = service.label().to_owned();
                service.failure = Some(failure.text.clone());
                self.complain(&name, Step::Start, failure.errno, false, failure.text);
                // It is not tried again unless somebody asks.
                self.fault_over(&name, Step::Start);
                oneshot::Event::NotStarted
            }
        }
    }

    pub(super) fn settle_oneshot(&mut self, id: Id) {
        let Some(service) = self.service_mut(id) else { return };
        let Body::Oneshot(machine) = &service.body else { return };
        let (outcome, wait, timed_out) = (machine.outcome(), machine.wait(), machine.timed_out());
        let answer = |goal: &Goal| {
            let script = if goal.up { Script::Up } else { Script::Down };
            match outcome {
                oneshot::Outcome::Up if goal.up => Outcome::Done,
                oneshot::Outcome::Down if !goal.up => Outcome::Done,
                oneshot::Outcome::Failed(s) if s == script && timed_out => Outcome::TimedOut,
                oneshot::Outcome::Failed(s) if s == script => Outcome::Failed,
                _ => Outcome::Overtaken,
            }
        };
        let answers: Vec<(Goal, Outcome)> = service.goals.drain(..).map(|g| (g, answer(&g))).collect();
        for (goal, outcome) in answers {
            self.answer(vec![goal], outcome, wait);
        }
    }
}
