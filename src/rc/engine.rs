//! Carries a plan out: asks the supervisor for each step that is next and hears how it went.
//!
//! The engine decides nothing twice and remembers nothing: what is up and what is down is asked of the
//! supervisor when a change begins. So an `rc` that is killed leaves steps that go on to their end, and the
//! next one starts from what is.
//!
//! # Ahead of time
//!
//! The supervisor is told of all steps when the change begins, each with the steps that it waits for, and makes
//! each the moment the last of those is settled; the engine hears of it afterwards. Its own plan says the same,
//! so it knows what is under way. Steps with a condition, what comes behind them, and all of them where only so
//! many may be made at once, are asked for when it is their turn.

use super::graph::{Graph, Index};
use super::line::{Heard, Line};
use super::live::Live;
use super::plan::{Fate, Plan};
use super::timing::{self, Outcome as Noted, Timing, Timings};
use super::underway;
use crate::diag::{self, Error, Result, Unable};
use crate::ordered::{Map, Set};
use crate::process::WaitStatus;
use crate::servicedir::client;
use crate::supervise::oneshot::Script;
use crate::supervise::wire::{Outcome, Reply, Request, SOFT, Settled, Standing, batches};
use crate::sys::signal::SignalFd;
use crate::sys::{Errno, clock};
use crate::time::Mono;
use std::collections::VecDeque;
use std::time::Duration;

/// How long a supervisor that died may take to come back.
const COME_BACK: Duration = Duration::from_secs(5);

/// How a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// As wanted.
    Done,
    /// The script, or the service, failed.
    Failed(WaitStatus),
    /// Its time was up.
    TimedOut,
    /// Somebody wanted the opposite meanwhile.
    Overtaken,
    /// The supervisor does not know it.
    Unknown,
    /// A signal ended the change while it was being made.
    Interrupted,
    /// Its condition is not so: it is left as it is, and others go on.
    Unmet,
}

impl End {
    /// Why it did not end as wanted.
    pub fn reason(self) -> String {
        match self {
            End::Done => "done".to_owned(),
            End::Failed(wait) => wait.to_string(),
            End::TimedOut => "timed out".to_owned(),
            End::Overtaken => "somebody wanted the opposite meanwhile".to_owned(),
            End::Unknown => "it is not supervised".to_owned(),
            End::Interrupted => "interrupted".to_owned(),
            End::Unmet => "its condition is not met".to_owned(),
        }
    }
}

impl From<End> for Noted {
    fn from(end: End) -> Noted {
        match end {
            End::Done => Noted::Done,
            End::Failed(_) => Noted::Failed,
            End::TimedOut => Noted::TimedOut,
            End::Overtaken => Noted::Overtaken,
            End::Unknown => Noted::Unknown,
            End::Interrupted => Noted::Interrupted,
            End::Unmet => Noted::Skipped,
        }
    }
}

/// Hears of each step.
pub trait Progress {
    /// A change begins in which these services have steps, as far as nothing fails.
    fn plans(&mut self, _graph: &Graph, _steps: &[Index], _up: bool) {}
    /// The engine is about to wait. When it is to be asked again, if nothing happens before. `says` tells what a
    /// service says that it is doing.
    fn look(&mut self, _says: &dyn Fn(&str) -> Option<String>) -> Option<Mono> {
        None
    }
    /// The change is over.
    fn is_over(&mut self) {}
    /// A step begins.
    fn begins(&mut self, name: &str, up: bool);
    /// A step has ended.
    fn ends(&mut self, name: &str, up: bool, end: End, took: Duration);
    /// Whether there may be something to do for a hidden service when its step is next.
    fn may_wake(&self, _index: Index) -> bool {
        false
    }
    /// The step of a hidden service is next: whether there is something to do by now.
    fn wakes(&mut self, _index: Index) -> bool {
        false
    }
    /// A step has used up its share of the time: it is killed.
    fn is_forced(&mut self, _name: &str, _took: Duration) {}
    /// A step was being made when the change was cut short: `end` says why. [`Report::under_way`] has it too.
    fn is_cut_short(&mut self, _name: &str, _up: bool, _end: End, _took: Duration) {}
}

/// How a change is made.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// When all of it must be done.
    pub deadline: Option<Mono>,
    /// So many steps at once at most.
    pub jobs: Option<usize>,
    /// Take essential services down too.
    pub even_essential: bool,
    /// Everything is going down, in time: a step has a share of what is left until the deadline, as many of
    /// them as there are levels behind it. What has not ended by then is killed, and whatever fails, what is
    /// behind it is taken down as well.
    pub by_force: bool,
}

/// How a change ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Steps that failed.
    pub failed: Vec<(Index, End)>,
    /// Services whose step was being made when the time was up or a signal came. It is taken back where that
    /// can be done.
    pub under_way: Vec<Index>,
    /// Services whose step was not made: because of a failure, or because the change was cut short.
    pub skipped: Vec<Index>,
    /// For each of them: whose failure it was; itself where the change was cut short.
    pub causes: Vec<Index>,
    /// Essential services that were left up.
    pub kept: Vec<Index>,
    /// Services whose condition is not met.
    pub unmet: Vec<Index>,
    /// Its time was up before all was done.
    pub timed_out: bool,
    /// A signal ended it.
    pub interrupted: bool,
}

impl Report {
    /// s6-rc's exit code for this.
    pub fn code(&self) -> u8 {
        match () {
            () if self.timed_out => 2,
            () if self.interrupted || !self.failed.is_empty() => 1,
            () => 0,
        }
    }

    /// If the change was cut short: why, what was under way then, and what was not begun.
    pub fn cut_short(&self, graph: &Graph) -> Option<String> {
        let mut text = match (self.timed_out, self.interrupted) {
            (true, _) => "the time is up".to_owned(),
            (_, true) => "interrupted".to_owned(),
            _ => return None,
        };
        for (what, list) in [("under way", &self.under_way), ("not begun", &self.skipped)] {
            if !list.is_empty() {
                let names: Vec<&str> = list.iter().map(|i| graph.name(*i)).collect();
                text.extend(["; ", what, ": ", &names.join(" ")]);
            }
        }
        Some(text)
    }
}

/// Which part of a step is being made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// Its condition is asked.
    Condition,
    /// The step itself.
    Main,
    /// The service is reloaded.
    Reload,
}

/// A step that is being made.
#[derive(Clone, Copy, Debug)]
struct Step {
    /// Nothing stood in its way any longer.
    free: Mono,
    began: Mono,
    part: Part,
    /// For longruns; the supervisor itself limits oneshots.
    limit: Option<Mono>,
    /// Its share of the time is used up.
    forced: bool,
}

/// The tag of a request of which no answer is awaited.
const NOBODY: u32 = SOFT - 1;

/// Bits of a tag that say which step: enough for a million services. The rest says of which change.
const ROUND_SHIFT: u32 = 21;

/// What is asked with more steps before it than this is asked when it is its turn: a message has its limits.
const MOST_BEFORE: usize = 500;

/// A connection to the supervisor of a live directory.
pub struct Engine<'a> {
    live: &'a Live,
    line: Line,
    now: Vec<Standing>,
    steps: Map<Index, Step>,
    /// Steps that were asked for ahead of time and are not known to be under way.
    ahead: Set<Index>,
    /// The direction of the present change.
    up: bool,
    /// Which change it is of this engine's.
    round: u32,
}

impl<'a> Engine<'a> {
    /// Connects, and asks what is up.
    pub fn new(live: &'a Live) -> Result<Engine<'a>> {
        let mut engine = Engine::of_new(live)?;
        engine.refresh()?;
        Ok(engine)
    }

    /// Connects where nothing was ever up: there is nothing to ask.
    pub fn of_new(live: &'a Live) -> Result<Engine<'a>> {
        let (line, now) = (Line::open(&live.scandir)?, vec![Standing::Down; live.graph.services.len()]);
        Ok(Engine { live, line, now, steps: Map::new(), ahead: Set::new(), up: true, round: 0 })
    }

    /// What each service is.
    pub fn states(&self) -> &[Standing] {
        &self.now
    }

    /// What is up, or between, that people are shown.
    pub fn up(&self) -> Vec<Index> {
        let graph = &self.live.graph;
        graph.shown().filter(|index| self.now[*index] != Standing::Down).collect()
    }

    /// Tells the supervisor of service directories that were just linked; it need not wait for a scan.
    pub fn add(&mut self, names: Vec<String>) -> Result<()> {
        batches(names, Request::Add).iter().try_for_each(|request| self.send(request))
    }

    /// Everything is about to be taken down: what dies meanwhile is not started again.
    pub fn restart_nothing(&mut self) -> Result<()> {
        self.send(&Request::NoRestarts)
    }

    /// Sends a request, to the supervisor's successor if it has died.
    pub fn send(&mut self, request: &Request) -> Result<()> {
        if self.line.put(request).and_then(|()| self.line.flush()).is_ok() {
            return Ok(());
        }
        self.reconnect()?;
        self.line.put(request).and_then(|()| self.line.flush()).unable("talk to the supervisor")
    }

    /// Asks anew what is up. When it returns, all that was sent before has been dealt with. Answers that come
    /// before this one are returned.
    pub fn refresh(&mut self) -> Result<Vec<Settled>> {
        let mut settled = Vec::new();
        let by_name = loop {
            self.send(&Request::States)?;
            match hear_states(&mut self.line, &mut settled, None) {
                Ok(by_name) => break by_name,
                Err(_) => self.reconnect()?,
            }
        };
        let state = |index: Index| {
            let longrun = self.live.graph.services[index].longrun;
            let name = if longrun { self.live.entry(index) } else { self.live.oneshot(index) };
            by_name.get(&name).copied().unwrap_or(Standing::Down)
        };
        self.now = (0..self.live.graph.services.len()).map(state).collect();
        Ok(settled)
    }

    /// Returns when all that was asked before has been dealt with and written down.
    fn settle_down(&mut self) -> Result<()> {
        loop {
            self.send(&Request::Sync)?;
            match hear_states(&mut self.line, &mut Vec::new(), None) {
                Ok(_) => return Ok(()),
                Err(_) => self.reconnect()?,
            }
        }
    }

    /// What a change would do, in an order in which it may do it.
    pub fn rehearse(&self, selection: &Set<Index>, up: bool, even_essential: bool) -> Vec<Index> {
        let graph = &self.live.graph;
        let keep = |index: Index| !even_essential && graph.services[index].essential;
        let mut order = Plan::new(graph, selection, up, &self.now, keep).rehearse(graph);
        order.retain(|index| !graph.services[*index].hidden);
        order
    }

    /// Brings `selection` up with what it needs, or takes it down with what needs it.
    pub fn change(
        &mut self,
        selection: &Set<Index>,
        up: bool,
        options: Options,
        signals: Option<&SignalFd>,
        progress: &mut dyn Progress,
    ) -> Result<Report> {
        (self.up, self.round) = (up, self.round + 1);
        let graph = &self.live.graph;
        let keep = |index: Index| !options.even_essential && graph.services[index].essential;
        let plan = Plan::new(graph, selection, up, &self.now, keep);
        let steps: Vec<Index> = plan.with(Fate::Waiting).chain(plan.with(Fate::Running)).collect();
        let _note = underway::begin(&self.live.path, up, steps.iter().map(|index| graph.name(*index)));
        progress.plans(graph, &steps, up);
        let levels = if options.by_force { levels(graph, plan.clone()) } else { Vec::new() };
        let mut change = Change {
            graph,
            engine: self,
            plan,
            options,
            asked: clock::mono(),
            waiting: VecDeque::new(),
            timings: Timings::new(),
            limits: Set::new(),
            heard: Map::new(),
            levels,
            report: Report::default(),
            progress,
        };
        change.make(signals)?;
        Ok(change.conclude())
    }

    /// Reloads services, all at once: longruns by their signal, oneshots by their script `reload`, if they have
    /// one. Dependencies have no say in it.
    pub fn reload(
        &mut self,
        selection: &Set<Index>,
        options: Options,
        signals: Option<&SignalFd>,
        progress: &mut dyn Progress,
    ) -> Result<Report> {
        self.round += 1;
        let graph = &self.live.graph;
        let mut report = Report::default();
        let now = clock::mono();
        for index in selection.iter().copied().filter(|i| !graph.services[*i].hidden) {
            let service = &graph.services[index];
            progress.begins(&service.name, true);
            if service.longrun {
                let dir = format!("{}/servicedirs/{}", self.live.path, service.name);
                let told = crate::servicedir::open(rustix::fs::CWD, &*dir)
                    .is_ok_and(|dir| client::control(dir, client::DIR, b"l").is_ok());
                let end = if told { End::Done } else { End::Unknown };
                report.failed.extend(Some((index, end)).filter(|_| !told));
                progress.ends(&service.name, true, end, Duration::ZERO);
            } else if service.reload {
                self.steps.insert(
                    index,
                    Step { free: now, began: now, part: Part::Reload, limit: None, forced: false },
                );
                self.ask(index)?;
            } else {
                progress.ends(&service.name, true, End::Done, Duration::ZERO);
            }
        }
        while !self.steps.is_empty() {
            match self.wait(options.deadline, signals)? {
                Some(Heard::Reply(Reply::Settled(settled))) => {
                    let Some((index, step)) = self.step_of(&settled) else { continue };
                    self.steps.remove(&index);
                    let end = End::of(&settled);
                    progress.ends(graph.name(index), true, end, clock::mono().since(step.began));
                    report.failed.extend(Some((index, end)).filter(|_| end != End::Done));
                }
                Some(Heard::Reply(_)) | None => {}
                Some(why) => {
                    report.timed_out = why == Heard::Deadline;
                    report.interrupted = why == Heard::Signal;
                    for index in std::mem::take(&mut self.steps).into_keys() {
                        self.send(&Request::Cancel(self.live.reload(index)))?;
                        report.under_way.push(index);
                    }
                }
            }
        }
        Ok(report)
    }

    /// What the answer to a request is known by. An answer to an earlier change's request is not mistaken for
    /// one to this change's.
    fn tag(&self, index: Index, part: Part) -> u32 {
        let round = self.round % (1 << (31 - ROUND_SHIFT));
        (round << ROUND_SHIFT) | (index as u32 * 2) | u32::from(part == Part::Condition)
    }

    /// The step that an answer is to, if it is being made.
    fn step_of(&self, settled: &Settled) -> Option<(Index, Step)> {
        let index = (settled.tag % (1 << ROUND_SHIFT) / 2) as Index;
        let step = self.steps.get(&index).filter(|step| self.tag(index, step.part) == settled.tag)?;
        Some((index, *step))
    }

    /// Asks for the part of a step that is next.
    fn ask(&mut self, index: Index) -> Result<()> {
        match self.put_step(index) {
            Ok(()) => Ok(()),
            Err(_) => self.reconnect(),
        }
    }

    fn put_step(&mut self, index: Index) -> std::result::Result<(), Errno> {
        let step = self.steps[&index];
        let limit = step.limit.map(|at| at.since(clock::mono()).max(Duration::from_millis(1)));
        let tag = self.tag(index, step.part);
        let again = |line: &mut Line, path: String| {
            // It may have been so the last time: it is to run once more.
            line.put(&Request::Ask { tag: NOBODY, script: Script::Down, limit: None, path: path.clone() })?;
            line.put(&Request::Ask { tag, script: Script::Up, limit, path })
        };
        match step.part {
            Part::Condition => again(&mut self.line, self.live.condition(index)),
            Part::Reload => again(&mut self.line, self.live.reload(index)),
            Part::Main => {
                let request = self.request(index, self.up, tag, limit);
                self.line.put(&request)
            }
        }
    }

    fn request(&self, index: Index, up: bool, tag: u32, limit: Option<Duration>) -> Request {
        if self.live.graph.services[index].longrun {
            return Request::Bring { tag, up, name: self.live.entry(index) };
        }
        let script = if up { Script::Up } else { Script::Down };
        Request::Ask { tag, script, limit, path: self.live.oneshot(index) }
    }

    /// Nobody waits for this step any longer: undo it as far as that can be done.
    fn give_up(&mut self, index: Index, part: Part) -> Result<()> {
        let request = match (part, self.live.graph.services[index].longrun) {
            (Part::Condition, _) => Request::Cancel(self.live.condition(index)),
            (_, false) => Request::Cancel(self.live.oneshot(index)),
            (_, true) if self.up => self.request(index, false, NOBODY, None),
            (_, true) => return Ok(()),
        };
        match self.line.put(&request) {
            Ok(()) => Ok(()),
            Err(_) => self.send(&request),
        }
    }

    /// How long a step may take by its own rule.
    fn own_limit(&self, index: Index) -> Option<Duration> {
        let service = &self.live.graph.services[index];
        let millis = if self.up { service.timeout_up } else { service.timeout_down };
        (millis > 0).then(|| Duration::from_millis(millis.into()))
    }

    /// Waits for what comes next. None: the supervisor had to be asked anew.
    fn wait(&mut self, limit: Option<Mono>, signals: Option<&SignalFd>) -> Result<Option<Heard>> {
        match self.line.wait(limit, signals) {
            Ok(heard) => Ok(Some(heard)),
            Err(_) => self.reconnect().map(|()| None),
        }
    }

    /// The supervisor died. Its successor has taken everything over; what we asked for we ask again. What was
    /// to follow is asked for when it is its turn.
    fn reconnect(&mut self) -> Result<()> {
        let give_up = clock::mono().after(COME_BACK);
        self.ahead.clear();
        loop {
            std::thread::sleep(Duration::from_millis(5));
            match Line::open(&self.live.scandir) {
                Ok(line) => {
                    self.line = line;
                    let steps: Vec<Index> = self.steps.keys().copied().collect();
                    let sent = steps.into_iter().try_for_each(|index| self.put_step(index));
                    if sent.and_then(|()| self.line.flush()).is_ok() {
                        return Ok(());
                    }
                }
                Err(e) if clock::mono() > give_up => return Err(e),
                Err(_) => {}
            }
        }
    }
}

impl End {
    fn of(settled: &Settled) -> End {
        match settled.outcome {
            Outcome::Done => End::Done,
            Outcome::Failed => End::Failed(settled.wait),
            Outcome::TimedOut => End::TimedOut,
            Outcome::Overtaken => End::Overtaken,
            Outcome::Unknown => End::Unknown,
        }
    }
}

/// A change that is being made.
struct Change<'c, 'a> {
    graph: &'c Graph,
    engine: &'c mut Engine<'a>,
    plan: Plan,
    options: Options,
    asked: Mono,
    /// Steps that could be made if so many were not being made, and since when.
    waiting: VecDeque<(Index, Mono)>,
    timings: Timings,
    /// When the time of a longrun's step is up; by force, of any.
    limits: Set<(Mono, Index)>,
    /// What a service said that it was doing when its time was up.
    heard: Map<Index, String>,
    /// By force: for each service how many steps come one after the other from its own on.
    levels: Vec<u32>,
    report: Report,
    progress: &'c mut dyn Progress,
}

impl Change<'_, '_> {
    fn make(&mut self, signals: Option<&SignalFd>) -> Result<()> {
        self.engine.ahead.clear();
        // If it does not get there, that is noticed with the first step.
        let _ = self.engine.line.put(&Request::BeginChange);
        self.begin_free()?;
        self.ask_ahead()?;
        while !(self.plan.is_over() && self.waiting.is_empty()) {
            let own = self.limits.first().map(|(at, _)| *at);
            let look = self.progress.look(&|name| self.engine.live.state(name).status);
            let limit = own.into_iter().chain(self.options.deadline).chain(look).min();
            match self.engine.wait(limit, signals)? {
                Some(Heard::Reply(Reply::Settled(settled))) => self.hear(&settled)?,
                Some(Heard::Reply(_)) => {}
                Some(Heard::Deadline) => self.be_late()?,
                Some(Heard::Signal) => self.report.interrupted = true,
                // Asked anew, a step that was to follow by itself does not.
                None => {}
            }
            if self.report.timed_out || self.report.interrupted {
                return self.cut_short();
            }
            self.begin_free()?;
        }
        self.progress.is_over();
        // What clients see is as we say before we say it.
        if self.timings.is_empty() { Ok(()) } else { self.engine.settle_down() }
    }

    /// Notes a step that is being made. The time of a longrun's is for us to watch.
    fn watch(&mut self, index: Index, step: Step) {
        let longrun = self.graph.services[index].longrun && step.part == Part::Main;
        if let Some(at) = step.limit.filter(|_| longrun || self.options.by_force) {
            self.limits.insert((at, index));
        }
        self.engine.steps.insert(index, step);
    }

    /// Begins what can be begun.
    fn begin_free(&mut self) -> Result<()> {
        loop {
            let (now, ready) = (clock::mono(), self.plan.take_ready());
            self.waiting.extend(ready.into_iter().map(|index| (index, now)));
            if self.waiting.is_empty() || self.engine.steps.len() >= self.options.jobs.unwrap_or(usize::MAX) {
                return Ok(());
            }
            let Some((index, free)) = self.waiting.pop_front() else { return Ok(()) };
            match self.graph.services[index].hidden && !self.progress.wakes(index) {
                true => self.plan.done(self.graph, index),
                false => self.begin(index, free, now)?,
            }
        }
    }

    /// Begins a step, or notes that the supervisor has begun it.
    fn begin(&mut self, index: Index, free: Mono, began: Mono) -> Result<()> {
        self.progress.begins(self.graph.name(index), self.plan.is_up());
        let service = &self.graph.services[index];
        let asks = service.condition && self.plan.is_up();
        let part = if asks { Part::Condition } else { Part::Main };
        let rest = self.options.deadline.filter(|_| !service.longrun || asks);
        let own = self.engine.own_limit(index).map(|limit| began.after(limit));
        let limit = own.into_iter().chain(rest).chain(self.share(index, began)).min();
        self.watch(index, Step { free, began, part, limit, forced: false });
        match self.engine.ahead.remove(&index) {
            true => Ok(()),
            false => self.engine.ask(index),
        }
    }

    /// When a step has used up its share of the time.
    fn share(&self, index: Index, began: Mono) -> Option<Mono> {
        let levels = self.levels.get(index)?;
        // What says itself how long it may take is killed by its supervisor.
        let own = || format!("{}/servicedirs/{}/timeout-kill", self.engine.live.path, self.graph.name(index));
        if self.graph.services[index].longrun && rustix::fs::access(own(), rustix::fs::Access::EXISTS).is_ok()
        {
            return None;
        }
        // A part is for seeing how what is killed ends.
        Some(began.after(self.options.deadline?.since(began) * 9 / (10 * levels)))
    }

    /// Tells the supervisor of steps that are to follow.
    fn ask_ahead(&mut self) -> Result<()> {
        if self.options.jobs.is_some() || self.plan.with(Fate::Waiting).next().is_none() {
            return Ok(());
        }
        let (engine, part) = (&*self.engine, Part::Main);
        let mut known = Followers {
            graph: self.graph,
            plan: &self.plan,
            tag: &|index| engine.tag(index, part),
            any_answer: self.options.by_force,
            asleep: (0..self.graph.services.len()).find(|index| self.progress.may_wake(*index)),
            known: Map::new(),
        };
        let waiting: Vec<Index> = self.plan.with(Fate::Waiting).collect();
        let followers: Vec<(Index, Vec<u32>)> =
            waiting.into_iter().filter_map(|index| Some((index, known.before(index)?))).collect();
        for (index, before) in followers {
            let (tag, own) = (self.engine.tag(index, part), self.engine.own_limit(index));
            let request = self.engine.request(index, self.plan.is_up(), tag, own);
            if self.engine.line.put(&Request::After(before, Box::new(request))).is_err() {
                return self.engine.reconnect();
            }
            self.engine.ahead.insert(index);
        }
        Ok(())
    }

    /// Hears how a step, or a part of it, ended.
    fn hear(&mut self, settled: &Settled) -> Result<()> {
        let Some((index, step)) = self.engine.step_of(settled) else { return Ok(()) };
        let end = match (step.part, End::of(settled)) {
            (Part::Condition, End::Done) => {
                let limit = step.limit.filter(|_| !self.graph.services[index].longrun);
                let own = self.engine.own_limit(index).map(|limit| clock::mono().after(limit));
                let limit = own.into_iter().chain(limit).min();
                self.watch(index, Step { part: Part::Main, limit, ..step });
                return self.engine.ask(index);
            }
            (Part::Condition, End::Failed(_)) => End::Unmet,
            // The supervisor had this step's share of our time as its limit, and was first to see it end.
            (_, End::TimedOut) if is_over(self.options.deadline) => {
                self.report.timed_out = true;
                return Ok(());
            }
            (_, end) => end,
        };
        self.settle(index, end);
        Ok(())
    }

    fn settle(&mut self, index: Index, end: End) {
        let Some(step) = self.engine.steps.remove(&index) else { return };
        if let Some(at) = step.limit {
            self.limits.remove(&(at, index));
        }
        let up = self.plan.is_up();
        self.note(index, &step, end);
        if step.forced {
            self.report.failed.push((index, End::TimedOut));
            return self.plan.done(self.graph, index);
        }
        self.progress.ends(self.graph.name(index), up, end, clock::mono().since(step.began));
        match end {
            End::Done => {
                self.engine.now[index] = if up { Standing::Up } else { Standing::Down };
                self.plan.done(self.graph, index);
            }
            End::Unmet => {
                self.report.unmet.push(index);
                self.plan.done(self.graph, index);
            }
            _ => {
                self.report.failed.push((index, end));
                match self.options.by_force {
                    true => self.plan.done(self.graph, index),
                    false => self.plan.failed(self.graph, index),
                }
            }
        }
    }

    fn note(&mut self, index: Index, step: &Step, end: End) {
        let [free, started, ended] = [step.free, step.began, clock::mono()].map(Some);
        let timing = Timing { asked: self.asked, free, started, ended, outcome: end.into() };
        self.timings.insert((self.plan.is_up(), self.graph.name(index).to_owned()), timing);
    }

    /// The time of a step is up, or that of all.
    fn be_late(&mut self) -> Result<()> {
        if is_over(self.options.deadline) {
            self.report.timed_out = true;
            return Ok(());
        }
        let now = clock::mono();
        let late = self.limits.iter().take_while(|(at, _)| *at <= now).map(|(_, index)| *index);
        let late: Vec<Index> = late.collect();
        for index in late {
            if self.options.by_force {
                self.force(index, now)?;
                continue;
            }
            if self.gets_on(index, now) {
                continue;
            }
            self.engine.give_up(index, Part::Main)?;
            self.settle(index, End::TimedOut);
        }
        Ok(())
    }

    /// A service that says something else than before (STATUS) has its time anew.
    fn gets_on(&mut self, index: Index, now: Mono) -> bool {
        let is_it = self.plan.is_up() && self.graph.services[index].longrun;
        let (Some(own), true) = (self.engine.own_limit(index), is_it) else { return false };
        let name = self.graph.name(index);
        let state = self.engine.live.state(name);
        // Its supervisor has ended one start that took too long: the next does not get on either.
        if state.cause.as_deref() == Some("not-ready") {
            diag::warn(format_args!("{name}: {}", state.why.unwrap_or_default()));
            return false;
        }
        let Some(text) = state.status else { return false };
        if self.heard.get(&index) == Some(&text) {
            diag::warn(format_args!("{name} is not ready in time: last status: {text}"));
            return false;
        }
        self.heard.insert(index, text);
        let Some(step) = self.engine.steps.get(&index).copied() else { return false };
        if let Some(at) = step.limit {
            self.limits.remove(&(at, index));
        }
        let limit = [Some(now.after(own)), self.share(index, step.began)].into_iter().flatten().min();
        self.watch(index, Step { limit, ..step });
        true
    }

    /// Kills what a step waits for. If that does not help either, nobody waits any longer.
    fn force(&mut self, index: Index, now: Mono) -> Result<()> {
        let Some(step) = self.engine.steps.get(&index).copied() else { return Ok(()) };
        if step.forced {
            // What follows by itself would wait for ever.
            let _ = self.engine.line.put(&Request::BeginChange);
            self.engine.ahead.clear();
            self.settle(index, End::TimedOut);
            return Ok(());
        }
        self.progress.is_forced(self.graph.name(index), now.since(step.began));
        match self.graph.services[index].longrun {
            true => {
                let dir = format!("{}/{}", self.engine.live.scandir, self.engine.live.entry(index));
                let dir = crate::servicedir::open(rustix::fs::CWD, &*dir);
                let _ = dir.map(|dir| client::control(dir, client::DIR, b"k"));
            }
            false => self.engine.give_up(index, step.part)?,
        }
        if let Some(at) = step.limit {
            self.limits.remove(&(at, index));
        }
        let left = self.options.deadline.map_or(Duration::ZERO, |at| at.since(now));
        let limit = Some(now.after(left / (2 * self.levels[index])));
        self.watch(index, Step { forced: true, limit, ..step });
        Ok(())
    }

    /// Ends it: what is under way is taken back, and nothing more is begun.
    fn cut_short(&mut self) -> Result<()> {
        self.plan.abandon();
        let up = self.plan.is_up();
        let end = if self.report.timed_out { End::TimedOut } else { End::Interrupted };
        self.engine.send(&Request::BeginChange)?;
        // What was to follow may have begun this moment.
        for index in std::mem::take(&mut self.engine.ahead) {
            self.engine.give_up(index, Part::Main)?;
        }
        for (index, step) in std::mem::take(&mut self.engine.steps) {
            self.note(index, &step, end);
            self.engine.give_up(index, step.part)?;
            self.progress.is_cut_short(self.graph.name(index), up, end, clock::mono().since(step.began));
            self.report.under_way.push(index);
        }
        self.engine.refresh().map(drop)
    }

    /// What came of it, written down.
    fn conclude(mut self) -> Report {
        let shown = |index: &Index| !self.graph.services[*index].hidden;
        let waiting: Set<Index> = self.waiting.iter().map(|(index, _)| *index).collect();
        let left = (0..self.graph.services.len())
            .filter(|index| self.plan.fate(*index) == Fate::Skipped || waiting.contains(index));
        self.report.skipped = left.filter(shown).collect();
        self.report.causes = self.report.skipped.iter().map(|index| self.plan.cause(*index)).collect();
        self.report.kept = self.plan.with(Fate::Kept).collect();
        let asked = self.asked;
        for index in &self.report.skipped {
            let never = Timing { asked, free: None, started: None, ended: None, outcome: Noted::Skipped };
            self.timings.insert((self.plan.is_up(), self.graph.name(*index).to_owned()), never);
        }
        // A change is as good without.
        let _ = timing::note(&self.engine.live.path, self.timings);
        self.report
    }
}

/// Which steps can be asked for ahead of time, and behind which others.
struct Followers<'p> {
    graph: &'p Graph,
    plan: &'p Plan,
    tag: &'p dyn Fn(Index) -> u32,
    /// A step is made also if one before it fails.
    any_answer: bool,
    /// A hidden one that may turn out to have something to do.
    asleep: Option<Index>,
    /// What is known already; None: it cannot be asked for ahead of time.
    known: Map<Index, Option<Vec<u32>>>,
}

impl Followers<'_> {
    /// The tags of the steps before a step; None where it must wait for its turn.
    fn before(&mut self, index: Index) -> Option<Vec<u32>> {
        // Walked with a stack of its own: chains may be long.
        let mut stack = vec![index];
        while let Some(top) = stack.last().copied() {
            if self.known.contains_key(&top) {
                stack.pop();
                continue;
            }
            let unknown = |(other, _): &(Index, bool)| {
                self.plan.fate(*other) == Fate::Waiting && !self.known.contains_key(other)
            };
            let missing: Vec<Index> =
                self.plan.before(self.graph, top).filter(unknown).map(|(i, _)| i).collect();
            if missing.is_empty() {
                let tags = self.tags(top);
                self.known.insert(top, tags);
                stack.pop();
            } else {
                stack.extend(missing);
            }
        }
        self.known[&index].clone().filter(|_| !self.graph.services[index].hidden)
    }

    /// All before it being known.
    fn tags(&self, index: Index) -> Option<Vec<u32>> {
        let service = &self.graph.services[index];
        if service.condition && self.plan.is_up() || self.plan.is_kept(index) {
            return None;
        }
        let mut tags = Vec::new();
        for (other, hard) in self.plan.before(self.graph, index) {
            let before = &self.graph.services[other];
            let soft = if hard && !self.any_answer { 0 } else { SOFT };
            match self.plan.fate(other) {
                Fate::Done => {}
                _ if self.asleep == Some(other) && before.hidden => return None,
                Fate::Kept if !hard => {}
                Fate::Running if before.condition && self.plan.is_up() => return None,
                // One that is hidden stands for what is before it.
                Fate::Running if before.hidden => {}
                Fate::Running => tags.push((self.tag)(other) | soft),
                Fate::Waiting if before.hidden => {
                    let behind = self.known.get(&other)?.as_ref()?;
                    tags.extend(behind.iter().map(|tag| tag | soft));
                }
                Fate::Waiting if self.known.get(&other)?.is_some() => {
                    tags.push((self.tag)(other) | soft);
                }
                _ => return None,
            }
        }
        (tags.len() <= MOST_BEFORE).then_some(tags)
    }
}

/// For each service that is to go down: how many steps come one after the other from its own on.
fn levels(graph: &Graph, plan: Plan) -> Vec<u32> {
    let mut levels = vec![0; graph.services.len()];
    for index in plan.rehearse(graph).into_iter().rev() {
        let behind = graph.services[index].needs.iter().map(|need| levels[*need]).max();
        levels[index] = behind.unwrap_or(0) + u32::from(!graph.services[index].hidden);
    }
    levels.iter_mut().for_each(|levels| *levels = (*levels).max(1));
    levels
}

fn is_over(deadline: Option<Mono>) -> bool {
    deadline.is_some_and(|at| at <= clock::mono())
}

fn hear_states(
    line: &mut Line,
    settled: &mut Vec<Settled>,
    deadline: Option<Mono>,
) -> std::result::Result<Map<String, Standing>, Errno> {
    let mut by_name = Map::new();
    loop {
        match line.wait(deadline, None)? {
            Heard::Reply(Reply::States(list)) => by_name.extend(list),
            Heard::Reply(Reply::StatesEnd) => return Ok(by_name),
            Heard::Reply(Reply::Settled(answer)) => settled.push(answer),
            Heard::Deadline => return Err(Errno::TIMEDOUT),
            Heard::Reply(Reply::Pruned | Reply::HelloAgain) | Heard::Signal => {}
        }
    }
}

/// Tells the supervisor of `scandir` that everything is about to be taken down, and waits, for `patience` at
/// most, until it has heard it.
pub fn restart_nothing(scandir: &str, patience: Duration) -> Result<()> {
    let mut line = Line::open(scandir)?;
    let limit = Some(clock::mono().after(patience));
    let sent = line.put(&Request::NoRestarts).and_then(|()| line.put(&Request::States));
    sent.unable("talk to the supervisor")?;
    loop {
        match line.wait(limit, None).unable("hear from the supervisor")? {
            Heard::Reply(Reply::StatesEnd) => return Ok(()),
            Heard::Reply(_) => {}
            Heard::Deadline | Heard::Signal => {
                return Err(Errno::TIMEDOUT).unable("hear from the supervisor");
            }
        }
    }
}

/// Tells the supervisor of `scandir` of service directories that were just put there, and waits until it has
/// made what it supervises them with, until `deadline` at most.
pub fn add(scandir: &str, names: Vec<String>, deadline: Option<Mono>) -> Result<()> {
    let mut line = Line::open(scandir)?;
    let mut requests = batches(names, Request::Add).into_iter().chain([Request::States]);
    requests.try_for_each(|request| line.put(&request)).unable("talk to the supervisor")?;
    let heard = hear_states(&mut line, &mut Vec::new(), deadline);
    heard.map(drop).unable("hear from the supervisor")
}

/// What a command says for an error that has no other cause.
pub fn unknown_service(name: &str, hint: Option<&str>) -> Error {
    let hint = hint.map_or(String::new(), |h| format!(": did you mean {h}?"));
    Error::new(3, format!("there is no service named {name}{hint}"))
}
