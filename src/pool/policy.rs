//! How many workers there are to be, and what each is told. Pure: events and the time go in, actions come out.
//!
//! # How many
//!
//! The metric wants `ceil(metric / per_worker)` workers, at least `min`, at most `max`. There are more of them as
//! soon as it wants more. There are fewer only when the last one was not wanted for `idle`: for each number of
//! workers it is remembered when so many were wanted last. While the metric fails nothing is known, and whoever is
//! there counts as wanted. Between two changes lies `cooldown`, and none is of more than `step`; but fewer than
//! `min` or more than `max` is mended at once.
//!
//! # The stages of a worker
//!
//! | stage | |
//! |---|---|
//! | serving | it works, or is about to: counts |
//! | draining | it was told to take no more work, and is not stopped while it is busy, up to a limit. Who is wanted again is told so |
//! | stopping | it was told to stop |
//! | leaving | it is down; its directory is being removed |
//! | held | somebody else stopped it. It is left alone, and takes the place of one |
//!
//! # A restart
//!
//! Workers that are `stale` are drained, stopped, removed and made anew from the template, one after another:
//! the next when all others are ready. One that is not ready goes first, for that takes nobody away.
#![forbid(unsafe_code)]

use crate::time::Mono;
use std::time::Duration;

/// What the pool was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Never fewer.
    pub min: u32,
    /// Never more, those that are leaving included. At least `min`.
    pub max: u32,
    /// So much of the metric for each worker, at least 1. None: there is no metric, and `min` are wanted.
    pub per_worker: Option<u32>,
    /// So many more or fewer at once, at least 1.
    pub step: u32,
    /// A worker goes when it was not wanted for so long.
    pub idle: Duration,
    /// Between two changes.
    pub cooldown: Duration,
    /// A busy worker has so long to come to an end.
    pub drain: Duration,
}

/// What a worker says it is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// It never says.
    Silent,
    /// It had nothing to do when that was read.
    Idle,
    /// It had nothing to do a moment ago: it says so through its supervisor, which may be behind.
    IdleLately,
    /// It is working.
    Busy,
}

/// What the supervisor says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// It is to be up, and is not ready.
    Starting,
    /// It is ready; or up, if it cannot say so.
    Ready,
    /// It is to be down, and is not.
    Stopping,
    /// It is down and is to be.
    Down,
    /// Somebody took it out of the scan directory.
    Unlinked,
}

/// What is seen of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fact {
    /// To its supervisor.
    pub condition: Condition,
    /// To itself.
    pub load: Load,
    /// It was told to drain.
    pub drain: bool,
    /// It is to be made anew.
    pub renew: bool,
}

/// What has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The time may have come. Early is no harm.
    Timeout,
    /// There is so much to do.
    Metric(u32),
    /// It is not known how much there is to do.
    MetricFailed,
    /// A worker is this. To be told after each [`Action::Drain`] too.
    Seen(u32, Fact),
    /// [`Action::Remove`] is done.
    Gone(u32),
    /// [`Action::Make`] could not be done, and nothing is left of it.
    Failed(u32),
    /// All are to be made anew.
    Renew,
    /// All are to go.
    End,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Make this worker.
    Make(u32),
    /// Tell it to take no more work, and look at it after that.
    Drain(u32),
    /// Tell it that it may work again.
    Resume(u32),
    /// Stop it. With true it is busy, and its time is up.
    Stop(u32, bool),
    /// Remove it: it is down.
    Remove(u32),
    /// Note that it is to be made anew.
    Mark(u32),
    /// The number changes, from and to: worth a line.
    Change(u32, u32),
    /// All were made anew.
    Renewed,
    /// None is left.
    End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Serving,
    Draining {
        since: Mono,
        /// It was looked at after it was told.
        seen: bool,
    },
    Stopping {
        since: Mono,
    },
    Leaving,
    Held,
}

#[derive(Clone, Copy, Debug)]
struct Worker {
    number: u32,
    stage: Stage,
    ready: bool,
    load: Load,
    stale: bool,
}

/// What cannot be made is tried again after this.
pub const RETRY: Duration = Duration::from_secs(5);

/// A worker that is idle by [`Load::IdleLately`] is believed so long after it was told to drain.
const SETTLE: Duration = Duration::from_secs(1);

/// The machine.
pub struct Pool {
    limits: Limits,
    /// By number.
    workers: Vec<Worker>,
    /// At index k: when k + 1 workers were wanted last.
    needed: Vec<Mono>,
    wanted: u32,
    /// Not before this is there another change.
    change_after: Mono,
    /// Nothing is made before this.
    retry: Option<Mono>,
    /// The one that is being made anew: it was drained for that, is being stopped or removed, or is starting.
    renewing: Option<u32>,
    /// A restart is under way.
    restart: bool,
    ending: bool,
}

impl Pool {
    /// One that does nothing yet.
    pub fn new(now: Mono, limits: Limits) -> Pool {
        Pool {
            limits,
            workers: Vec::new(),
            needed: vec![now; limits.max as usize],
            wanted: limits.min,
            change_after: now,
            retry: None,
            renewing: None,
            restart: false,
            ending: false,
        }
    }

    /// Begins, with these workers there.
    pub fn begin(&mut self, now: Mono, there: &[(u32, Fact)], todo: &mut Vec<Action>) {
        for (number, fact) in there {
            self.see(now, *number, *fact, todo);
            self.restart |= fact.renew;
            // It was being made anew when the one before us died.
            let anew = fact.renew && fact.drain && self.renewing.is_none();
            self.renewing = if anew { Some(*number) } else { self.renewing };
        }
        self.proceed(now, false, todo);
    }

    /// How many are wanted.
    pub fn wanted(&self) -> u32 {
        self.wanted
    }

    /// How many there are that work, or will.
    pub fn serving(&self) -> u32 {
        let counts = |w: &&Worker| w.stage == Stage::Serving || self.renewing == Some(w.number);
        self.workers.iter().filter(counts).count() as u32 + self.absent().is_some() as u32
    }

    /// How many are still to be made anew.
    pub fn stale(&self) -> u32 {
        self.workers.iter().filter(|w| w.stale).count() as u32
    }

    /// Those whose load matters just now: they are draining.
    pub fn draining(&self) -> impl Iterator<Item = u32> {
        let draining = |w: &&Worker| matches!(w.stage, Stage::Draining { .. });
        self.workers.iter().filter(draining).map(|w| w.number)
    }

    /// Whether it may be decided at this event who goes: then what each is doing should be looked at before.
    pub fn chooses(&self, event: Event) -> bool {
        let wanted = match event {
            Event::Metric(metric) => self.asked(metric),
            _ => self.wanted,
        };
        self.restart || event == Event::Renew || self.serving() > wanted
    }

    /// How many workers a metric asks for.
    fn asked(&self, metric: u32) -> u32 {
        metric.div_ceil(self.limits.per_worker.unwrap_or(1)).clamp(self.limits.min, self.limits.max)
    }

    /// When [`Event::Timeout`] is next due; changes after every `on`.
    pub fn deadline(&self) -> Option<Mono> {
        let drains = self.workers.iter().filter_map(|w| match w.stage {
            Stage::Draining { since, .. } if w.load == Load::IdleLately => {
                Some(since.after(SETTLE.min(self.limits.drain)))
            }
            Stage::Draining { since, .. } => Some(since.after(self.limits.drain)),
            _ => None,
        });
        let serving = self.serving();
        let unasked = self.limits.per_worker.is_none() && !self.ending && serving > self.wanted;
        let fewer = unasked.then(|| self.needed[serving as usize - 1].after(self.limits.idle));
        drains.chain(self.retry).chain(fewer.map(|at| at.max(self.change_after))).min()
    }

    /// Takes note of an event and appends what is to be done.
    pub fn on(&mut self, now: Mono, event: Event, todo: &mut Vec<Action>) {
        self.retry = self.retry.filter(|at| *at > now);
        match event {
            Event::Timeout => {}
            Event::Metric(metric) => {
                self.wanted = self.asked(metric);
                self.need(now, self.wanted);
            }
            Event::MetricFailed => self.need(now, self.serving()),
            Event::Seen(number, fact) => self.see(now, number, fact, todo),
            Event::Gone(number) => {
                self.workers.retain(|w| w.number != number);
            }
            Event::Failed(number) => {
                self.workers.retain(|w| w.number != number);
                self.retry = Some(now.after(RETRY));
            }
            Event::Renew => {
                for worker in self.workers.iter_mut() {
                    worker.stale |= worker.stage != Stage::Leaving;
                    todo.extend(worker.stale.then_some(Action::Mark(worker.number)));
                }
                self.restart = true;
            }
            Event::End => self.ending = true,
        }
        self.proceed(now, matches!(event, Event::Metric(_)), todo);
    }

    /// So many are wanted at this time.
    fn need(&mut self, now: Mono, count: u32) {
        self.needed.iter_mut().take(count as usize).for_each(|at| *at = now);
    }

    fn find(&mut self, number: u32) -> Option<&mut Worker> {
        self.workers.iter_mut().find(|w| w.number == number)
    }

    fn is_there(&self, number: u32) -> bool {
        self.workers.iter().any(|w| w.number == number)
    }

    /// The one that is being made anew, if it is not there at all.
    fn absent(&self) -> Option<u32> {
        self.renewing.filter(|number| !self.is_there(*number))
    }

    fn insert(&mut self, number: u32, stage: Stage, stale: bool) {
        let at = self.workers.partition_point(|w| w.number < number);
        self.workers.insert(at, Worker { number, stage, ready: false, load: Load::Silent, stale });
    }

    fn see(&mut self, now: Mono, number: u32, fact: Fact, todo: &mut Vec<Action>) {
        if !self.is_there(number) {
            // It was there before us.
            let stage = if fact.drain { Stage::Draining { since: now, seen: true } } else { Stage::Serving };
            self.insert(number, stage, fact.renew);
        }
        let Some(worker) = self.find(number) else { return };
        worker.ready = fact.condition == Condition::Ready;
        worker.load = fact.load;
        worker.stage = match (worker.stage, fact.condition) {
            (Stage::Leaving, _) => Stage::Leaving,
            (_, Condition::Unlinked) => Stage::Leaving,
            (Stage::Serving | Stage::Held, Condition::Starting | Condition::Ready) => Stage::Serving,
            (Stage::Serving | Stage::Held, Condition::Stopping | Condition::Down) => Stage::Held,
            (Stage::Draining { since, .. }, Condition::Starting | Condition::Ready) => {
                Stage::Draining { since, seen: true }
            }
            // Somebody wants it up again. It is draining still.
            (Stage::Stopping { since }, Condition::Starting | Condition::Ready) => {
                Stage::Draining { since, seen: true }
            }
            (Stage::Draining { since, .. } | Stage::Stopping { since }, Condition::Stopping) => {
                Stage::Stopping { since }
            }
            (Stage::Draining { .. } | Stage::Stopping { .. }, Condition::Down) => Stage::Leaving,
        };
        let leaves = worker.stage == Stage::Leaving;
        if leaves && fact.condition != Condition::Stopping && !todo.contains(&Action::Remove(number)) {
            todo.push(Action::Remove(number));
        }
    }

    /// Does what follows from what is known. With `fresh` the metric has just been told.
    fn proceed(&mut self, now: Mono, fresh: bool, todo: &mut Vec<Action>) {
        if self.ending {
            self.renewing = None;
            self.end(now, todo);
        } else {
            self.size(now, fresh || self.limits.per_worker.is_none(), todo);
            self.renew(now, todo);
        }
        self.stop_drained(now, todo);
    }

    fn end(&mut self, now: Mono, todo: &mut Vec<Action>) {
        for worker in self.workers.iter_mut() {
            match worker.stage {
                Stage::Serving => {
                    worker.stage = Stage::Draining { since: now, seen: false };
                    todo.push(Action::Drain(worker.number));
                }
                Stage::Held => {
                    worker.stage = Stage::Leaving;
                    todo.push(Action::Remove(worker.number));
                }
                Stage::Draining { .. } | Stage::Stopping { .. } | Stage::Leaving => {}
            }
        }
        if self.workers.is_empty() {
            todo.push(Action::End);
        }
    }

    /// More of them, or fewer.
    fn size(&mut self, now: Mono, decide: bool, todo: &mut Vec<Action>) {
        let (Limits { min, max, step, idle, .. }, serving) = (self.limits, self.serving());
        let needed = self.needed.iter().filter(|at| at.after(idle) > now).count() as u32;
        let fewest = needed.max(self.wanted);
        let decide = decide && now >= self.change_after;
        let aim = match () {
            () if serving < min => min,
            () if serving > max => max,
            () if decide && self.wanted > serving => self.wanted.min(serving.saturating_add(step)),
            () if decide && fewest < serving => fewest.max(serving.saturating_sub(step)),
            () => return,
        };
        let mut count = serving;
        while count < aim && self.one_more(todo) {
            count += 1;
        }
        while count > aim && self.one_fewer(now, todo) {
            count -= 1;
        }
        if count != serving {
            // To mend what is wrong is no answer to the metric, which may ask for more just now.
            let asked = serving >= min && serving <= max;
            self.change_after = if asked { now.after(self.limits.cooldown) } else { self.change_after };
            todo.push(Action::Change(serving, count));
        } else if aim < serving {
            // The only one is being made anew.
            self.change_after = now.after(RETRY);
        }
    }

    /// One that is draining works on; or a new one is made.
    fn one_more(&mut self, todo: &mut Vec<Action>) -> bool {
        let renewing = self.renewing;
        let draining = |w: &&mut Worker| matches!(w.stage, Stage::Draining { .. }) && w.ready;
        let mut able = self.workers.iter_mut().filter(draining).filter(|w| renewing != Some(w.number));
        if let Some(worker) = able.next() {
            worker.stage = Stage::Serving;
            todo.push(Action::Resume(worker.number));
            return true;
        }
        let absent = self.absent();
        let taken = self.workers.len() as u32 + absent.is_some() as u32;
        if taken >= self.limits.max || self.retry.is_some() {
            return false;
        }
        let mut number = 1;
        while self.is_there(number) || absent == Some(number) {
            number += 1;
        }
        self.make(number, todo);
        true
    }

    fn make(&mut self, number: u32, todo: &mut Vec<Action>) {
        self.insert(number, Stage::Serving, false);
        todo.push(Action::Make(number));
    }

    /// One is drained: of whom it takes the least away. Of equal ones the last.
    fn one_fewer(&mut self, now: Mono, todo: &mut Vec<Action>) -> bool {
        let mut best: Option<(u32, (bool, bool, bool))> = None;
        for w in self.workers.iter().filter(|w| w.stage == Stage::Serving) {
            let loss = (w.ready, w.load == Load::Busy, !w.stale);
            if best.is_none_or(|(_, least)| loss <= least) {
                best = Some((w.number, loss));
            }
        }
        let Some((number, _)) = best else { return false };
        self.renewing = self.renewing.filter(|n| *n != number);
        self.drain(now, number, todo);
        true
    }

    fn drain(&mut self, now: Mono, number: u32, todo: &mut Vec<Action>) {
        if let Some(worker) = self.find(number) {
            worker.stage = Stage::Draining { since: now, seen: false };
            todo.push(Action::Drain(number));
        }
    }

    /// The next step of a restart.
    fn renew(&mut self, now: Mono, todo: &mut Vec<Action>) {
        if let Some(number) = self.renewing {
            match self.workers.iter().find(|w| w.number == number) {
                None if self.retry.is_none() => return self.make(number, todo),
                None => return,
                // It is ready; or held, and there is no use in waiting for it.
                Some(w) if w.stage == Stage::Held || w.stage == Stage::Serving && w.ready && !w.stale => {}
                Some(_) => return,
            }
            self.renewing = None;
        }
        if !self.restart {
            return;
        }
        let serving = || self.workers.iter().filter(|w| w.stage == Stage::Serving);
        let stale = || serving().filter(|w| w.stale);
        let next = match stale().find(|w| !w.ready) {
            None if serving().any(|w| !w.ready) => return,
            None => stale().find(|w| w.load != Load::Busy).or_else(|| stale().next()),
            unready => unready,
        };
        match next.map(|w| w.number) {
            Some(number) => {
                self.renewing = Some(number);
                self.drain(now, number, todo);
            }
            None => {
                self.restart = false;
                todo.push(Action::Renewed);
            }
        }
    }

    /// Stops those that have come to an end, or should have.
    fn stop_drained(&mut self, now: Mono, todo: &mut Vec<Action>) {
        for worker in self.workers.iter_mut() {
            let Stage::Draining { since, seen: true } = worker.stage else { continue };
            let late = since.after(self.limits.drain) <= now;
            let busy = match worker.load {
                Load::Busy => true,
                Load::IdleLately => since.after(SETTLE) > now,
                Load::Idle | Load::Silent => false,
            };
            if late || !busy {
                worker.stage = Stage::Stopping { since };
                todo.push(Action::Stop(worker.number, worker.load == Load::Busy));
            }
        }
    }
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
