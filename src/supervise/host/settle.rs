//! What comes after a turn: writing down, answering, letting go, and the timers.

use super::faults::Step;
use super::service::{Body, Longrun, Service, Written};
use super::tree::Hunt;
use super::{Goal, Host, Id, UNKNOWN_END};
use crate::diag::Error;
use crate::ordered::Map;
use crate::process::WaitStatus;
use crate::supervise::journal::Source;
use crate::supervise::machine::Event;
use crate::supervise::oneshot;
use crate::supervise::wire::{Outcome, Reply, Settled};
use crate::sys::{Errno, clock, process, wait};
use crate::time::Mono;
use std::time::Duration;

impl Host {
    pub(super) fn mark_due(&mut self, id: Id) {
        if let Some(service) = self.service_mut(id)
            && !service.due
        {
            service.due = true;
            self.due.push_back(id);
        }
    }

    /// Writes down what has become due, answers who waits, and lets go of what is gone.
    pub(super) fn write_down_due(&mut self) {
        loop {
            // What is next is begun before what was is written down.
            for id in self.due.iter().copied().collect::<Vec<_>>() {
                self.check_goals(id, self.service(id).is_some_and(Service::failed_for_good));
            }
            self.start_followers();
            self.send_replies();
            let due = std::mem::take(&mut self.due);
            if due.is_empty() {
                break;
            }
            due.into_iter().for_each(|id| self.write_down(id));
        }
        while let Some(id) = self.awake.pop_front() {
            self.put_away(id);
        }
        self.release_soon();
    }

    fn write_down(&mut self, id: Id) {
        // Where many end together, they die while others are written down: one record says it all.
        let status = self.service(id).map(Service::status);
        if self.finishing.is_some() || status.is_some_and(|status| status.is_up() && !status.want_up) {
            self.reap();
        }
        self.hear_readiness(id);
        self.wake(id);
        let Some(service) = self.services[id as usize].as_deref_mut() else { return };
        let written = service.write_down_all(&self.journal, &mut self.attic);
        self.after_writing(id, written);
    }

    /// Where many are started together, one is ready by the time that it is written down: one record says it all.
    pub(super) fn hear_readiness(&mut self, id: Id) {
        if let Some(Service { body: Body::Longrun(Longrun { notify: Some(_), .. }), .. }) = self.service(id) {
            self.on_input(id, Source::Notification);
        }
    }

    /// What depends on what was written down.
    pub(super) fn after_writing(&mut self, id: Id, Written { failed_for_good, refused }: Written) {
        self.note_refusal(id, refused);
        self.check_goals(id, failed_for_good);
        if self.service(id).is_some_and(Service::is_gone) {
            self.let_go(id);
        } else {
            self.set_timer(id);
            self.put_away(id);
        }
    }

    /// Says that the disk refuses, and that it does no more.
    fn note_refusal(&mut self, id: Id, refused: Option<(&str, Errno)>) {
        let Some(service) = self.service_mut(id) else { return };
        let said = std::mem::replace(&mut service.refused, refused.map(|(_, errno)| errno));
        let name = match refused.is_some() || said.is_some() {
            true => service.label().to_owned(),
            false => return,
        };
        match refused {
            Some((doing, errno)) => {
                let text = format!("{} (retrying every second)", Error::unable(doing, errno));
                self.complain(&name, Step::Write, Some(errno), said == Some(errno), text);
            }
            None => self.fault_over(&name, Step::Write),
        }
    }

    /// Answers those who waited for what a longrun now is, or can never be.
    pub(super) fn check_goals(&mut self, id: Id, failed_for_good: bool) {
        let Some(service) = self.service_mut(id) else { return };
        let Body::Longrun(longrun) = &service.body else { return };
        if service.goals.is_empty() {
            return;
        }
        let status = longrun.machine.status();
        let notifies = longrun.reader.last().tells_ready();
        let is_up = status.is_up() && (status.ready || !notifies);
        let is_down = status.pid.is_none() && !longrun.machine.is_gone();
        let skipped = service.extra.as_ref().is_some_and(|aux| aux.mind.skipped);
        let verdict = |goal: &Goal| match goal.up {
            // Whoever depends on it goes on without.
            true if skipped && !status.want_up => Some(Outcome::Done),
            true if is_up => Some(Outcome::Done),
            true if failed_for_good => Some(Outcome::Failed),
            true if !status.want_up => Some(Outcome::Overtaken),
            false if is_down && !status.want_up => Some(Outcome::Done),
            false if status.want_up => Some(Outcome::Overtaken),
            _ => None,
        };
        let wait = status.wait;
        let mut answers = Vec::new();
        service.goals.retain(|goal| match verdict(goal) {
            Some(outcome) => {
                answers.push((*goal, outcome));
                false
            }
            None => true,
        });
        for (goal, outcome) in answers {
            self.answer(vec![goal], outcome, wait);
        }
    }

    pub(super) fn answer(&mut self, goals: Vec<Goal>, outcome: Outcome, wait: WaitStatus) {
        for Goal { link, tag, .. } in goals {
            self.reply(link, &Reply::Settled(Settled { tag, outcome, wait }));
            self.let_follow(link, tag, outcome == Outcome::Done);
        }
    }

    /// A machine has ended.
    pub(super) fn let_go(&mut self, id: Id) {
        self.cancel(id);
        let Some(mut service) = self.services[id as usize].take() else { return };
        self.close_ears(&mut service);
        service.longrun().into_iter().for_each(|longrun| self.attic.unlock(longrun));
        let unread = if service.is_logger() { service.unread() } else { 0 };
        if unread > 0 {
            service
                .warn(format_args!("{unread} bytes in its pipe are lost: it has ended without reading them"));
        }
        self.retitle_soon();
        self.lives[id as usize] = self.lives[id as usize].wrapping_add(1);
        self.free.push(id);
        self.hunts.remove(&id).into_iter().for_each(Hunt::end);
        self.identities.remove(&service.identity);
        if let Some(at) = service.timer {
            self.timers.remove(&(at, id));
        }
        if let Some((pid, _)) = service.process() {
            self.forget_pid(id, pid);
        }
        self.journal.release(service.slot);
        for step in [Step::Open, Step::Start, Step::Write] {
            self.fault_over(service.label(), step);
        }
        if let Body::Longrun(longrun) = &service.body {
            longrun.fifos().for_each(|fifo| self.unkeep(fifo));
        }
        self.answer(service.goals.clone(), Outcome::Failed, service.status().wait);
        let current = self.names.get(&service.name) == Some(&id);
        if current {
            self.names.remove(&service.name);
        }
        if !service.is_logger()
            && let Some(logger) = self.names.get(&*format!("{}/log", service.name)).copied()
        {
            self.close_pipe_if_over(logger);
        }
        self.let_catch_all_end();
        // As svscan does with a supervisor that ended: while its directory is there it is begun again.
        if current && service.listed && !self.single && self.finishing.is_none() {
            let at = service.began.after(Duration::from_secs(1));
            self.defer(service.name.into(), at, Duration::from_secs(1), String::new());
        }
    }

    pub(super) fn set_timer(&mut self, id: Id) {
        let Some(service) = self.services[id as usize].as_deref_mut() else { return };
        let at = service.deadline();
        if at != service.timer {
            if let Some(old) = service.timer {
                self.timers.remove(&(old, id));
            }
            if let Some(new) = at {
                self.timers.insert((new, id));
            }
            service.timer = at;
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Mono> {
        let deferred = self.deferred.values().map(|d| d.at).min();
        let timer = self.timers.first().map(|(at, _)| *at);
        let hunt = self.hunts.values().map(Hunt::deadline).min();
        [deferred, timer, hunt, self.untold.retry_at, self.listen_at, self.hello_at, self.retitle_at]
            .into_iter()
            .flatten()
            .min()
    }

    /// In a container, scripts look in the list of processes for `s6-supervise NAME`. There is time for that
    /// when nothing more urgent is to be done.
    pub(super) fn retitle_soon(&mut self) {
        if self.retitle_at.is_none() && self.in_container && self.finishing.is_none() {
            self.retitle_at = Some(clock::mono().after(Duration::from_millis(50)));
        }
    }

    fn retitle(&mut self) {
        self.retitle_at = None;
        self.begin_account();
        let own = self.place.title();
        let services = self.services.iter().flatten().filter(|s| matches!(s.body, Body::Longrun(_)));
        let all = services.flat_map(|service| ["s6-supervise", &*service.name]);
        process::set_arguments(own.iter().map(|word| &**word).chain(all));
    }

    pub(super) fn run_timers(&mut self) {
        let now = clock::mono();
        if self.retitle_at.is_some_and(|at| at <= now) {
            self.retitle();
        }
        while let Some((at, id)) = self.timers.first().copied().filter(|(at, _)| *at <= now) {
            self.timers.remove(&(at, id));
            let Some(service) = self.service_mut(id) else { continue };
            service.timer = None;
            if self.look_after(id, now) {
                continue;
            }
            let Some(service) = self.service_mut(id) else { continue };
            if service.rewrite_at.take_if(|at| *at <= now).is_some() {
                self.mark_due(id);
            }
            if self.service(id).and_then(|s| s.missing_at).is_some_and(|at| at <= now) && !self.equip(id) {
                continue;
            }
            self.leave_if_nothing_left(id);
            self.ask_overdue(id, now);
            self.run_clocks(id, now);
            self.seek_on(id, now);
            self.give_up_on_status(id, now);
            match self.service(id).map(|s| &s.body) {
                Some(Body::Longrun(_)) => self.feed(id, Event::Timeout),
                Some(Body::Oneshot(_)) => self.feed_oneshot(id, oneshot::Event::Timeout),
                None => {}
            }
        }
        let due = |(id, hunt): (&Id, &Hunt)| (hunt.deadline() <= now).then_some(*id);
        for id in self.hunts.iter().filter_map(due).collect::<Vec<_>>() {
            self.hunt(id);
        }
        if self.hello_at.is_some_and(|at| at <= now) {
            self.ask_for_hello();
        }
        if self.listen_at.is_some_and(|at| at <= now) {
            self.listen_again();
        }
        if self.untold.retry_at.is_some_and(|at| at <= now) {
            self.tell_keeper_again();
        }
        self.try_deferred(now);
    }

    /// Tries what was put off until now, each logger before its service.
    fn try_deferred(&mut self, now: Mono) {
        if self.deferred.values().all(|d| d.at > now) {
            return;
        }
        let waiting = std::mem::take(&mut self.deferred);
        let (ready, rest): (Map<_, _>, _) = waiting.into_iter().partition(|(_, d)| d.at <= now);
        self.deferred = rest;
        let (loggers, services): (Vec<_>, Vec<_>) =
            ready.into_iter().partition(|(name, _)| name.ends_with("/log"));
        for (name, deferred) in loggers.into_iter().chain(services) {
            self.try_add(name, deferred.pause, deferred.said);
        }
    }

    /// An adopted process is dead and nobody has told how: go on without knowing.
    pub(super) fn give_up_on_status(&mut self, id: Id, now: Mono) {
        let Some(service) = self.service(id) else { return };
        let overdue = service.adopted.as_ref().and_then(|a| a.dead_since).is_some_and(|at| at <= now);
        if let (true, Some((pid, _))) = (overdue, service.process()) {
            let known = service.adopted.as_ref().and_then(|a| a.pidfd.as_ref()).and_then(wait::pidfd_exit);
            if known.is_none() {
                service.warn(format_args!(
                    "process {pid} ended and nobody can tell how: recording {UNKNOWN_END}"
                ));
            }
            self.died(id, pid, known.unwrap_or(UNKNOWN_END));
        }
    }
}
