//! The clocks of a service with features: asking whether it is ready, whether it is well, and the end of its
//! patience. See [`crate::supervise::extra`].

use super::service::{Body, Service};
use super::{Host, Id};
use crate::supervise::extra::{Ask, Asking, Life};
use crate::supervise::machine::{Event, State, Told};
use crate::sys::clock;
use crate::time::Mono;
use std::time::Duration;

impl Service {
    /// What its clocks depend on.
    fn life(&self) -> Option<Life> {
        let Body::Longrun(longrun) = &self.body else { return None };
        let machine = &longrun.machine;
        let up = matches!(machine.state(), State::Up { .. });
        Some(Life {
            began: machine.started().filter(|_| up),
            ready: up && machine.status().ready,
            tells: longrun.reader.last().tells_ready(),
            leaving: !machine.status().want_up || (up && machine.deadline().is_some()),
        })
    }
}

impl Service {
    /// That it is not ready in time.
    fn too_late(&self, now: Mono) -> String {
        let limit = self.features().and_then(|f| f.timeout_up).unwrap_or(Duration::ZERO);
        match (self.hearing(), self.features(), self.life().and_then(|life| life.began)) {
            (Some(hearing), Some(rules), Some(began)) => hearing.notes.late(now.since(began), rules),
            _ => format!("not ready within {} ms (timeout-up)", limit.as_millis()),
        }
    }
}

impl Host {
    /// Sets and stops the clocks by what the service is now.
    pub(super) fn settle_clocks(&mut self, id: Id) {
        let Some(features) = self.service(id).and_then(Service::features).filter(|f| f.need_memory()) else {
            return;
        };
        let features = features.clone();
        let Some(life) = self.service(id).and_then(Service::life) else { return };
        let Some(aux) = self.aux(id) else { return };
        let (before, now) = (aux.mind, clock::mono());
        aux.mind.settle(now, life, &features);
        let heard = aux.hearing.as_mut().is_some_and(|hearing| {
            let before = (hearing.notes.watchdog_at, hearing.notes.life());
            let ready = life.ready && !life.leaving;
            hearing.notes.settle(now, Life { ready, ..life }, &features);
            before != (hearing.notes.watchdog_at, hearing.notes.life())
        });
        if aux.mind != before {
            self.remember_aux(id);
        }
        if heard {
            self.remember_notes(id);
        }
    }

    /// Does what the clocks say.
    pub(super) fn run_clocks(&mut self, id: Id, now: Mono) {
        let overdue = self.is_overdue(id, now);
        let Some(process) = self.service(id).and_then(Service::process) else { return };
        if overdue {
            self.run_watchdog(id, now);
        }
        let Some(aux) = self.service_mut(id).and_then(|s| s.extra.as_mut()) else { return };
        let mind = &mut aux.mind;
        if mind.up_until.take_if(|at| *at <= now).is_some() {
            self.remember_aux(id);
            if let Some(service) = self.service(id) {
                service.warn(format_args!("{}: ended", service.too_late(now)));
            }
            return self.feed(id, Event::Expire(Told::NotReady));
        }
        if mind.asking.is_some() {
            return;
        }
        let ask = match () {
            () if mind.check_at.take_if(|at| *at <= now).is_some() => Ask::Check,
            () if mind.health_at.take_if(|at| *at <= now).is_some() => Ask::Health,
            () => return,
        };
        if let Err(failure) = self.ask(id, Asking::new(ask, Some(process))) {
            self.answered(id, ask, false, failure.text);
        }
    }

    /// `check` or `health` has answered.
    pub(super) fn answered(&mut self, id: Id, ask: Ask, good: bool, why: String) {
        let now = clock::mono();
        let Some(features) = self.service(id).and_then(Service::features).cloned() else { return };
        let Some(aux) = self.service_mut(id).and_then(|s| s.extra.as_mut()) else { return };
        match ask {
            Ask::Check if good => self.feed_as_read(id, Event::Ready),
            Ask::Check => {
                aux.mind.not_ready(now, &features);
                self.remember_aux(id);
            }
            _ => {
                let before = aux.mind.failures;
                let over = aux.mind.on_health(good, &features);
                let failures = aux.mind.failures;
                aux.unwell = Some(why.clone()).filter(|_| failures > 0);
                self.remember_aux(id);
                let Some(service) = self.service_mut(id) else { return };
                service.status_due |= failures != before;
                match () {
                    () if over => service.warn(format_args!("health failed {failures} times: {why}: ended")),
                    () if !good => service.warn(format_args!("health failed: {why}")),
                    () if failures < before => service.warn("health is good again"),
                    () => {}
                }
                self.mark_due(id);
                if over {
                    self.feed(id, Event::Expire(Told::Health));
                }
            }
        }
        self.settle_clocks(id);
        self.set_timer(id);
    }
}
