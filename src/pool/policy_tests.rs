//! The policy in virtual time.

use super::*;
use crate::ordered::Map;
use proptest::prelude::*;

fn at(ms: u64) -> Mono {
    Mono(1_000_000_000).after(Duration::from_millis(ms))
}

fn limits(min: u32, max: u32) -> Limits {
    Limits {
        min,
        max,
        per_worker: Some(10),
        step: 100,
        idle: Duration::from_millis(30_000),
        cooldown: Duration::from_millis(3000),
        drain: Duration::from_millis(20_000),
    }
}

fn fact(condition: Condition, load: Load) -> Fact {
    Fact { condition, load, drain: false, renew: false }
}

const READY: Fact = Fact { condition: Condition::Ready, load: Load::Idle, drain: false, renew: false };

/// A pool, and what it has asked for.
struct Tried {
    pool: Pool,
}

impl Tried {
    fn new(limits: Limits, there: &[(u32, Fact)]) -> (Tried, Vec<Action>) {
        let mut todo = Vec::new();
        let mut pool = Pool::new(at(0), limits);
        pool.begin(at(0), there, &mut todo);
        (Tried { pool }, todo)
    }

    fn on(&mut self, ms: u64, event: Event) -> Vec<Action> {
        let mut todo = Vec::new();
        self.pool.on(at(ms), event, &mut todo);
        todo
    }

    /// With workers 1 to `count` ready and idle.
    fn ready(limits: Limits, count: u32) -> Tried {
        let there: Vec<(u32, Fact)> = (1..=count).map(|n| (n, READY)).collect();
        let (tried, todo) = Tried::new(limits, &there);
        assert_eq!(todo, []);
        tried
    }
}

#[test]
fn the_least_is_there_at_once() {
    let (_, todo) = Tried::new(limits(2, 5), &[]);
    assert_eq!(todo, [Action::Make(1), Action::Make(2), Action::Change(0, 2)]);
    let (_, todo) = Tried::new(limits(0, 5), &[]);
    assert_eq!(todo, []);
    // And more if more is asked for: that is the first change.
    let (mut t, _) = Tried::new(limits(1, 5), &[]);
    assert_eq!(t.on(10, Event::Metric(20)), [Action::Make(2), Action::Change(1, 2)]);
    assert_eq!(t.on(20, Event::Metric(50)), []);
}

#[test]
fn more_at_once_and_fewer_after_a_while() {
    let mut t = Tried::ready(limits(1, 5), 1);
    assert_eq!(t.on(1000, Event::Metric(21)), [Action::Make(2), Action::Make(3), Action::Change(1, 3)]);
    t.on(1100, Event::Seen(2, READY));
    t.on(1100, Event::Seen(3, READY));
    assert_eq!(t.on(2000, Event::Metric(500)), [], "cooldown");
    assert_eq!(t.on(4000, Event::Metric(500)), [Action::Make(4), Action::Make(5), Action::Change(3, 5)]);
    for n in [4, 5] {
        t.on(4100, Event::Seen(n, READY));
    }
    assert_eq!(t.on(33_999, Event::Metric(0)), []);
    let gone = [Action::Drain(5), Action::Drain(4), Action::Drain(3), Action::Drain(2), Action::Change(5, 1)];
    assert_eq!(t.on(34_000, Event::Metric(0)), gone);
    assert_eq!(t.on(34_001, Event::Seen(5, READY)), [Action::Stop(5, false)]);
}

#[test]
fn step_by_step() {
    let mut t = Tried::ready(Limits { step: 2, ..limits(1, 9) }, 1);
    assert_eq!(t.on(0, Event::Metric(90)).len(), 3);
    assert_eq!(t.pool.serving(), 3);
    assert_eq!(t.on(3000, Event::Metric(90)).last(), Some(&Action::Change(3, 5)));
}

#[test]
fn the_idle_one_goes_and_a_busy_one_is_waited_for() {
    let mut t = Tried::ready(limits(1, 3), 3);
    for (n, load) in [(1, Load::Busy), (2, Load::Idle), (3, Load::Busy)] {
        t.on(10, Event::Seen(n, fact(Condition::Ready, load)));
    }
    let todo = t.on(30_000, Event::Metric(15));
    assert_eq!(todo, [Action::Drain(2), Action::Change(3, 2)]);
    assert_eq!(t.on(30_001, Event::Seen(2, READY)), [Action::Stop(2, false)]);
    assert_eq!(t.on(30_002, Event::Seen(2, fact(Condition::Stopping, Load::Silent))), []);
    assert_eq!(t.on(30_003, Event::Seen(2, fact(Condition::Down, Load::Silent))), [Action::Remove(2)]);
    assert_eq!(t.on(30_004, Event::Gone(2)), []);
    // Only busy ones are left.
    assert_eq!(t.on(60_004, Event::Metric(0)), [Action::Drain(3), Action::Change(2, 1)]);
    let busy = fact(Condition::Ready, Load::Busy);
    assert_eq!(t.on(60_005, Event::Seen(3, busy)), []);
    assert_eq!(t.pool.deadline(), Some(at(80_004)));
    assert_eq!(t.on(80_003, Event::Timeout), []);
    assert_eq!(t.on(80_004, Event::Timeout), [Action::Stop(3, true)]);
}

#[test]
fn who_is_wanted_again_works_on() {
    let mut t = Tried::ready(limits(1, 3), 2);
    t.on(0, Event::Seen(2, fact(Condition::Ready, Load::Busy)));
    t.on(0, Event::Seen(1, fact(Condition::Ready, Load::Busy)));
    assert_eq!(t.on(30_000, Event::Metric(0)), [Action::Drain(2), Action::Change(2, 1)]);
    assert_eq!(t.on(30_001, Event::Seen(2, fact(Condition::Ready, Load::Busy))), []);
    assert_eq!(t.on(33_000, Event::Metric(20)), [Action::Resume(2), Action::Change(1, 2)]);
}

#[test]
fn what_a_supervisor_tells_may_be_late() {
    let mut t = Tried::ready(limits(0, 1), 1);
    assert_eq!(t.on(30_000, Event::Metric(0)), [Action::Drain(1), Action::Change(1, 0)]);
    let lately = fact(Condition::Ready, Load::IdleLately);
    assert_eq!(t.on(30_001, Event::Seen(1, lately)), []);
    assert_eq!(t.pool.deadline(), Some(at(31_000)));
    assert_eq!(t.on(31_000, Event::Timeout), [Action::Stop(1, false)]);
}

#[test]
fn while_the_metric_fails_all_stay() {
    let mut t = Tried::ready(limits(1, 5), 5);
    for ms in (1000..100_000).step_by(1000) {
        assert_eq!(t.on(ms, Event::MetricFailed), []);
    }
    assert_eq!(t.on(100_000, Event::Metric(0)), []);
    assert_eq!(t.on(128_999, Event::Metric(0)), []);
    assert_eq!(t.on(129_000, Event::Metric(0)).len(), 5);
}

#[test]
fn without_a_metric_the_least() {
    let (mut t, todo) = Tried::new(Limits { per_worker: None, ..limits(1, 3) }, &[(1, READY), (2, READY)]);
    assert_eq!(todo, []);
    assert_eq!(t.pool.deadline(), Some(at(30_000)));
    assert_eq!(t.on(30_000, Event::Timeout), [Action::Drain(2), Action::Change(2, 1)]);
}

#[test]
fn more_than_allowed_go_at_once() {
    let there: Vec<(u32, Fact)> = (1..=4).map(|n| (n, READY)).collect();
    let (_, todo) = Tried::new(limits(1, 2), &there);
    assert_eq!(todo, [Action::Drain(4), Action::Drain(3), Action::Change(4, 2)]);
}

#[test]
fn what_somebody_stopped_is_left_alone() {
    let mut t = Tried::ready(limits(2, 2), 2);
    assert_eq!(t.on(0, Event::Seen(1, fact(Condition::Down, Load::Silent))), [], "its place is taken");
    assert_eq!(t.on(10, Event::Seen(1, READY)), []);
    let mut t = Tried::ready(limits(2, 3), 2);
    let todo = t.on(0, Event::Seen(1, fact(Condition::Down, Load::Silent)));
    assert_eq!(todo, [Action::Make(3), Action::Change(1, 2)]);
}

#[test]
fn what_cannot_be_made_is_tried_again() {
    let (mut t, todo) = Tried::new(limits(1, 2), &[]);
    assert_eq!(todo, [Action::Make(1), Action::Change(0, 1)]);
    assert_eq!(t.on(0, Event::Failed(1)), []);
    assert_eq!(t.pool.deadline(), Some(at(5000)));
    assert_eq!(t.on(4999, Event::Metric(100)), []);
    assert_eq!(t.on(5000, Event::Timeout), [Action::Make(1), Action::Change(0, 1)]);
}

#[test]
fn a_restart_one_after_another() {
    let mut t = Tried::ready(limits(2, 2), 2);
    t.on(0, Event::Seen(1, fact(Condition::Ready, Load::Busy)));
    assert_eq!(t.on(0, Event::Renew), [Action::Mark(1), Action::Mark(2), Action::Drain(2)]);
    let renew = |load, condition| Fact { renew: true, drain: true, ..fact(condition, load) };
    assert_eq!(
        t.on(1, Event::Seen(2, renew(Load::Idle, Condition::Ready))),
        [Action::Stop(2, false)],
        "nobody is made for it meanwhile"
    );
    assert_eq!(t.on(2, Event::Seen(2, renew(Load::Silent, Condition::Down))), [Action::Remove(2)]);
    assert_eq!(t.on(3, Event::Gone(2)), [Action::Make(2)]);
    assert_eq!(t.on(4, Event::Seen(2, fact(Condition::Starting, Load::Silent))), []);
    assert_eq!(t.on(5, Event::Seen(2, READY)), [Action::Drain(1)]);
    assert_eq!(t.on(6, Event::Seen(1, renew(Load::Idle, Condition::Ready))), [Action::Stop(1, false)]);
    assert_eq!(t.on(7, Event::Seen(1, renew(Load::Silent, Condition::Down))), [Action::Remove(1)]);
    assert_eq!(t.on(8, Event::Gone(1)), [Action::Make(1)]);
    assert_eq!(t.on(8, Event::Failed(1)), [], "the template is gone");
    assert_eq!(t.on(5008, Event::Timeout), [Action::Make(1)]);
    assert_eq!(t.on(5009, Event::Seen(1, READY)), [Action::Renewed]);
}

#[test]
fn a_new_one_that_does_not_get_ready_keeps_the_old_ones() {
    let mut t = Tried::ready(limits(3, 3), 3);
    t.on(0, Event::Renew);
    t.on(1, Event::Seen(1, Fact { renew: true, ..READY }));
    t.on(2, Event::Seen(1, fact(Condition::Down, Load::Silent)));
    assert_eq!(t.on(3, Event::Gone(1)), [Action::Make(1)]);
    for ms in (1000..100_000).step_by(1000) {
        assert_eq!(t.on(ms, Event::Seen(1, fact(Condition::Starting, Load::Silent))), []);
        assert_eq!(t.on(ms, Event::Metric(30)), []);
    }
}

#[test]
fn a_drain_and_a_restart_are_continued_by_the_next() {
    let (drain, renew) = (Fact { drain: true, ..READY }, Fact { renew: true, drain: true, ..READY });
    // Wanted again: works on.
    let (_, todo) = Tried::new(limits(2, 2), &[(1, READY), (2, drain)]);
    assert_eq!(todo, [Action::Resume(2), Action::Change(1, 2)]);
    // Not wanted: goes.
    let (_, todo) = Tried::new(limits(1, 2), &[(1, READY), (2, drain)]);
    assert_eq!(todo, [Action::Stop(2, false)]);
    let stale = Fact { renew: true, ..READY };
    let (mut t, todo) = Tried::new(limits(2, 2), &[(1, stale), (2, renew)]);
    assert_eq!(todo, [Action::Stop(2, false)]);
    t.on(1, Event::Seen(2, fact(Condition::Down, Load::Silent)));
    assert_eq!(t.on(2, Event::Gone(2)), [Action::Make(2)]);
    assert_eq!(t.on(3, Event::Seen(2, READY)), [Action::Drain(1)]);
}

#[test]
fn an_end_waits_for_the_busy() {
    let mut t = Tried::ready(limits(2, 2), 2);
    t.on(0, Event::Seen(1, fact(Condition::Ready, Load::Busy)));
    assert_eq!(t.on(0, Event::End), [Action::Drain(1), Action::Drain(2)]);
    assert_eq!(t.on(1, Event::Seen(1, fact(Condition::Ready, Load::Busy))), []);
    assert_eq!(t.on(1, Event::Seen(2, READY)), [Action::Stop(2, false)]);
    assert_eq!(t.on(2, Event::Seen(2, fact(Condition::Down, Load::Silent))), [Action::Remove(2)]);
    assert_eq!(t.on(3, Event::Gone(2)), []);
    assert_eq!(t.on(4, Event::Seen(1, READY)), [Action::Stop(1, false)]);
    assert_eq!(t.on(5, Event::Seen(1, fact(Condition::Down, Load::Silent))), [Action::Remove(1)]);
    assert_eq!(t.on(6, Event::Gone(1)), [Action::End]);
}

/// A worker as a supervisor and it itself have it.
#[derive(Clone, Copy)]
struct Real {
    condition: Condition,
    busy: bool,
    /// When it was told to drain.
    drain: Option<Mono>,
    renew: bool,
}

/// Workers that begin, get ready, work, die and are stopped as chance has it.
struct World {
    pool: Pool,
    limits: Limits,
    real: Map<u32, Real>,
    changes: Vec<(u32, u32)>,
    seed: u64,
    ended: bool,
    renewals: u32,
}

impl World {
    fn chance(&mut self, one_in: u64) -> bool {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.seed >> 33).is_multiple_of(one_in)
    }

    fn fact(&self, number: u32) -> Fact {
        let real = self.real[&number];
        let load = if real.busy { Load::Busy } else { Load::Idle };
        Fact { condition: real.condition, load, drain: real.drain.is_some(), renew: real.renew }
    }

    fn obey(&mut self, now: Mono, mut todo: Vec<Action>) {
        let mut next = 0;
        while let Some(action) = todo.get(next).copied() {
            next += 1;
            let mut more = Vec::new();
            match action {
                Action::Make(n) => {
                    let new = Real { condition: Condition::Starting, busy: false, drain: None, renew: false };
                    assert!(self.real.insert(n, new).is_none(), "{n} is there already");
                    assert!(self.real.len() as u32 <= self.limits.max, "more than allowed");
                }
                Action::Drain(n) => {
                    let real = self.real.get_mut(&n).unwrap();
                    assert!(real.drain.is_none(), "{n} is told twice");
                    real.drain = Some(now);
                    self.pool.on(now, Event::Seen(n, self.fact(n)), &mut more);
                }
                Action::Resume(n) => self.real.get_mut(&n).unwrap().drain = None,
                Action::Stop(n, late) => {
                    let limit = self.limits.drain;
                    let real = self.real.get_mut(&n).unwrap();
                    let drained = real.drain.expect("drained before it is stopped");
                    assert_eq!(late, real.busy);
                    assert!(!real.busy || drained.after(limit) <= now, "a busy one is stopped");
                    real.condition = Condition::Stopping;
                }
                Action::Remove(n) => {
                    assert_eq!(self.real[&n].condition, Condition::Down);
                    self.real.remove(&n);
                    self.pool.on(now, Event::Gone(n), &mut more);
                }
                Action::Mark(n) => self.real.get_mut(&n).unwrap().renew = true,
                Action::Change(from, to) => self.changes.push((from, to)),
                Action::Renewed => self.renewals += 1,
                Action::End => self.ended = true,
            }
            todo.extend(more);
        }
    }

    fn tell(&mut self, now: Mono, event: Event) {
        let mut todo = Vec::new();
        self.pool.on(now, event, &mut todo);
        self.obey(now, todo);
    }

    /// What happens to workers in 100 ms.
    fn live(&mut self, now: Mono) {
        let numbers: Vec<u32> = self.real.keys().copied().collect();
        for n in numbers {
            let Some(before) = self.real.get(&n).copied() else { continue };
            let mut real = before;
            match real.condition {
                Condition::Starting if self.chance(5) => real.condition = Condition::Ready,
                Condition::Ready if self.chance(500) => {
                    (real.condition, real.busy) = (Condition::Starting, false);
                }
                Condition::Ready if real.busy => real.busy = !self.chance(30),
                Condition::Ready if real.drain.is_none() => real.busy = self.chance(3),
                Condition::Stopping if self.chance(3) => {
                    (real.condition, real.busy) = (Condition::Down, false);
                }
                _ => {}
            }
            self.real.insert(n, real);
            if (before.condition, before.busy) != (real.condition, real.busy) {
                self.tell(now, Event::Seen(n, self.fact(n)));
            }
        }
    }

    /// svpool is killed, and its successor reads what there is.
    fn be_replaced(&mut self, now: Mono) {
        let there: Vec<(u32, Fact)> = self.real.keys().map(|n| (*n, self.fact(*n))).collect();
        let mut todo = Vec::new();
        self.pool = Pool::new(now, self.limits);
        self.pool.begin(now, &there, &mut todo);
        self.obey(now, todo);
    }

    fn serving(&self) -> u32 {
        let serves = |r: &Real| r.drain.is_none() && r.condition != Condition::Down;
        self.real.values().filter(|r| serves(r)).count() as u32
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever the metric says: the bounds hold, nobody is stopped at work, and there are as few changes as the
    /// times between them allow. Once the metric is still, so is the pool.
    #[test]
    fn bounds_hold_and_nothing_flaps(
        seed: u64,
        min in 0u32..3,
        more in 0u32..6,
        step in 1u32..4,
        metrics in prop::collection::vec(prop::option::weighted(0.9, 0u32..100), 60..200),
        kills in any::<bool>(),
        restart in prop::option::of(0usize..60),
    ) {
        let limits = Limits {
            step,
            idle: Duration::from_secs(8),
            cooldown: Duration::from_secs(2),
            drain: Duration::from_secs(5),
            ..limits(min, (min + more).max(1))
        };
        let mut todo = Vec::new();
        let mut pool = Pool::new(at(0), limits);
        pool.begin(at(0), &[], &mut todo);
        let mut world =
            World { pool, limits, real: Map::new(), changes: Vec::new(), seed, ended: false, renewals: 0 };
        world.obey(at(0), todo);
        world.changes.clear();
        let (mut ms, mut killed) = (0, 0);
        let last = metrics.last().copied().flatten().unwrap_or(7);
        let still = std::iter::repeat_n(Some(last), 120);
        for (i, metric) in metrics.iter().copied().chain(still).enumerate() {
            if i == metrics.len() {
                // From here on nothing new is asked.
                prop_assert!(world.changes.len() <= ms as usize / 2000 + 1 + 2 * killed);
                let turns = world.changes.windows(2).filter(|w| (w[0].0 < w[0].1) != (w[1].0 < w[1].1));
                prop_assert!(turns.count() <= 2 * (ms as usize / 8000 + 1) + 2 * killed);
            }
            if restart == Some(i) {
                world.tell(at(ms), Event::Renew);
            }
            world.tell(at(ms), metric.map_or(Event::MetricFailed, Event::Metric));
            for _ in 0..10 {
                ms += 100;
                world.live(at(ms));
                while world.pool.deadline().is_some_and(|due| due <= at(ms)) {
                    world.tell(at(ms), Event::Timeout);
                }
                prop_assert!(world.serving() <= limits.max);
                prop_assert!(world.serving() + restart.is_some() as u32 >= limits.min);
            }
            if kills && i < metrics.len() && world.chance(20) {
                killed += 1;
                world.be_replaced(at(ms));
            }
        }
        prop_assert_eq!(world.serving(), last.div_ceil(10).clamp(limits.min, limits.max));
        prop_assert!(world.real.values().all(|r| !r.renew), "a restart came to its end");
        world.changes.clear();
        world.tell(at(ms), Event::Metric(last));
        prop_assert!(world.changes.is_empty());
        // And it ends.
        world.tell(at(ms), Event::End);
        for _ in 0..2000 {
            ms += 100;
            world.live(at(ms));
            world.tell(at(ms), Event::Timeout);
        }
        prop_assert!(world.ended && world.real.is_empty());
    }
}
