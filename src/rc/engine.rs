//! Carries a plan out: asks the supervisor for each step that is next and hears how it went.
//!
//! The engine decides nothing twice and remembers nothing: what is up and what is down is asked of the
//! supervisor when a change begins. So an `rc` that is killed leaves steps that go on to their end, and the
//! next one starts from what is.

use super::graph::{Graph, Index};
use super::live::Live;
use super::plan::{Fate, Plan};
use super::timing::{self, Outcome as Noted, Timing, Timings};
use crate::diag::{Error, Result, Unable};
use crate::ordered::sorted;
use crate::process::{Signal, WaitStatus};
use crate::supervise::oneshot::Script;
use crate::supervise::wire::{Outcome, Reply, Request, SOCKET, Standing, batches};
use crate::sys::signal::SignalFd;
use crate::sys::{Errno, clock, socket};
use crate::time::Mono;
use rustix::event::{PollFd, PollFlags, poll};
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, OwnedFd};
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
        }
    }
}

/// Hears of each step.
pub trait Progress {
    /// A step begins.
    fn begins(&mut self, name: &str, up: bool);
    /// A step has ended.
    fn ends(&mut self, name: &str, up: bool, end: End, took: Duration);
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
}

/// How a change ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Steps that failed.
    pub failed: Vec<(Index, End)>,
    /// Services whose step was being made when the time was up or a signal came. It is taken back where that
    /// can be done.
    pub under_way: Vec<Index>,
    /// Services whose step was not made: because of a failure, or because the change was cut short.
    pub skipped: Vec<Index>,
    /// Essential services that were left up.
    pub kept: Vec<Index>,
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

/// A step that is being made.
struct Step {
    /// Nothing stood in its way any longer.
    free: Mono,
    began: Mono,
    /// For longruns; the supervisor itself limits oneshots.
    limit: Option<Mono>,
}

/// A connection to the supervisor of a live directory.
pub struct Engine<'a> {
    live: &'a Live,
    socket: OwnedFd,
    now: Vec<Standing>,
    steps: BTreeMap<Index, Step>,
    /// The direction of the present change.
    up: bool,
}

impl<'a> Engine<'a> {
    /// Connects, and asks what is up.
    pub fn new(live: &'a Live) -> Result<Engine<'a>> {
        let socket = connect(&live.scandir)?;
        let mut engine = Engine { live, socket, now: Vec::new(), steps: BTreeMap::new(), up: true };
        engine.refresh()?;
        Ok(engine)
    }

    /// What each service is.
    pub fn states(&self) -> &[Standing] {
        &self.now
    }

    /// Tells the supervisor of service directories that were just linked; it need not wait for a scan.
    pub fn add(&mut self, names: Vec<String>) -> Result<()> {
        for request in batches(names, Request::Add) {
            self.send(&request)?;
        }
        Ok(())
    }

    /// Everything is about to be taken down: what dies meanwhile is not started again.
    pub fn restart_nothing(&mut self) -> Result<()> {
        self.send(&Request::NoRestarts)
    }

    /// Sends a request, to the supervisor's successor if it has died.
    fn send(&mut self, request: &Request) -> Result<()> {
        if send(&self.socket, request).is_ok() {
            return Ok(());
        }
        self.reconnect()?;
        send(&self.socket, request).unable("talk to the supervisor")
    }

    /// Asks anew what is up. When it returns, all that was sent before has been dealt with.
    pub fn refresh(&mut self) -> Result<()> {
        let by_name = loop {
            self.send(&Request::States)?;
            match hear_states(&self.socket) {
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
        Ok(())
    }

    /// Brings `selection` up with what it needs, or takes it down with what needs it.
    pub fn change(
        &mut self,
        selection: &BTreeSet<Index>,
        up: bool,
        options: Options,
        signals: Option<&SignalFd>,
        progress: &mut dyn Progress,
    ) -> Result<Report> {
        self.up = up;
        let graph = &self.live.graph;
        let keep = |index: Index| !options.even_essential && graph.services[index].essential;
        let mut plan = Plan::new(graph, selection, up, &self.now, keep);
        let mut report = Report {
            failed: Vec::new(),
            under_way: Vec::new(),
            skipped: Vec::new(),
            kept: Vec::new(),
            timed_out: false,
            interrupted: false,
        };
        let asked = clock::mono();
        let mut timings = Timings::new();
        let note = |index: Index, step: &Step, end: End| {
            let times = [step.free, step.began, clock::mono()].map(Some);
            let [free, started, ended] = times;
            let key = (up, graph.name(index).to_owned());
            (key, Timing { asked, free, started, ended, outcome: end.into() })
        };
        let mut waiting: Vec<(Index, Mono)> = Vec::new();
        let free = |list: Vec<Index>| {
            let now = clock::mono();
            list.into_iter().map(move |index| (index, now))
        };
        loop {
            waiting.extend(free(plan.take_ready()));
            while !waiting.is_empty() && self.steps.len() < options.jobs.unwrap_or(usize::MAX) {
                let (index, since) = waiting.remove(0);
                if graph.services[index].hidden {
                    plan.done(graph, index, &self.now, keep);
                    waiting.extend(free(plan.take_ready()));
                    continue;
                }
                progress.begins(graph.name(index), up);
                self.begin(index, up, since, options.deadline)?;
            }
            if plan.is_over() && waiting.is_empty() {
                break;
            }
            let limit = self.steps.values().filter_map(|s| s.limit).chain(options.deadline).min();
            let mut settle = |engine: &mut Engine<'_>, index: Index, end: End| {
                let Some(step) = engine.steps.remove(&index) else { return };
                timings.extend([note(index, &step, end)]);
                progress.ends(graph.name(index), up, end, clock::mono().since(step.began));
                if end == End::Done {
                    engine.now[index] = if up { Standing::Up } else { Standing::Down };
                    plan.done(graph, index, &engine.now, keep);
                } else {
                    report.failed.push((index, end));
                    plan.failed(graph, index, &engine.now, keep);
                }
            };
            match self.wait(limit, signals)? {
                // The supervisor had this step's share of our time as its limit, and was first to see it end.
                Heard::Settled(_, End::TimedOut) if is_over(options.deadline) => {
                    report.timed_out = true;
                    break;
                }
                Heard::Settled(index, end) => settle(self, index, end),
                Heard::Deadline => {
                    let now = clock::mono();
                    if is_over(options.deadline) {
                        report.timed_out = true;
                        break;
                    }
                    let late = |s: &&Index| self.steps[*s].limit.is_some_and(|at| at <= now);
                    let late: Vec<Index> = self.steps.keys().filter(late).copied().collect();
                    for index in late {
                        self.give_up(index, up)?;
                        settle(self, index, End::TimedOut);
                    }
                }
                Heard::Signal => {
                    report.interrupted = true;
                    break;
                }
                Heard::Nothing => {}
            }
        }
        if report.timed_out || report.interrupted {
            plan.abandon();
            let end = if report.timed_out { End::TimedOut } else { End::Interrupted };
            for (index, step) in std::mem::take(&mut self.steps) {
                timings.extend([note(index, &step, end)]);
                self.give_up(index, up)?;
                progress.is_cut_short(graph.name(index), up, end, clock::mono().since(step.began));
                report.under_way.push(index);
            }
        }
        let shown = |index: &Index| !graph.services[*index].hidden;
        let waiting = waiting.into_iter().map(|(index, _)| index);
        report.skipped = sorted(plan.with(Fate::Skipped).chain(waiting).filter(shown).collect());
        for index in &report.skipped {
            let never = Timing { asked, free: None, started: None, ended: None, outcome: Noted::Skipped };
            timings.insert((up, graph.name(*index).to_owned()), never);
        }
        // A change is as good without.
        let _ = timing::note(&self.live.path, timings);
        report.kept = plan.with(Fate::Kept).collect();
        Ok(report)
    }

    /// Asks for a step.
    fn begin(&mut self, index: Index, up: bool, free: Mono, deadline: Option<Mono>) -> Result<()> {
        let service = &self.live.graph.services[index];
        let millis = if up { service.timeout_up } else { service.timeout_down };
        let own = (millis > 0).then(|| Duration::from_millis(millis.into()));
        let began = clock::mono();
        let rest = deadline.map(|at| at.since(began).max(Duration::from_millis(1)));
        let limit = [own, rest].into_iter().flatten().min();
        let request = self.request(index, up, limit);
        let limit = own.filter(|_| service.longrun).map(|limit| began.after(limit));
        self.steps.insert(index, Step { free, began, limit });
        match self.send(&request) {
            Ok(()) => Ok(()),
            // Its death is noticed, and the step asked for again, when we listen next.
            Err(_) => self.reconnect(),
        }
    }

    fn request(&self, index: Index, up: bool, limit: Option<Duration>) -> Request {
        let tag = index as u32;
        if self.live.graph.services[index].longrun {
            return Request::Bring { tag, up, name: self.live.entry(index) };
        }
        let script = if up { Script::Up } else { Script::Down };
        Request::Ask { tag, script, limit, path: self.live.oneshot(index) }
    }

    /// Nobody waits for this step any longer: undo it as far as that can be done.
    fn give_up(&mut self, index: Index, up: bool) -> Result<()> {
        let request = match self.live.graph.services[index].longrun {
            false => Request::Cancel(self.live.oneshot(index)),
            true if up => Request::Bring { tag: u32::MAX, up: false, name: self.live.entry(index) },
            true => return Ok(()),
        };
        self.send(&request)
    }

    fn wait(&mut self, limit: Option<Mono>, signals: Option<&SignalFd>) -> Result<Heard> {
        match listen(&self.socket, limit, signals) {
            Ok(Some(Reply::Settled(settled))) => {
                let index = settled.tag as Index;
                let end = match settled.outcome {
                    Outcome::Done => End::Done,
                    Outcome::Failed => End::Failed(settled.wait),
                    Outcome::TimedOut => End::TimedOut,
                    Outcome::Overtaken => End::Overtaken,
                    Outcome::Unknown => End::Unknown,
                };
                Ok(Heard::Settled(index, end))
            }
            Ok(_) => Ok(Heard::Nothing),
            Err(Errno::TIMEDOUT) => Ok(Heard::Deadline),
            Err(Errno::INTR) => Ok(Heard::Signal),
            Err(_) => self.reconnect().map(|()| Heard::Nothing),
        }
    }

    /// The supervisor died. Its successor has taken everything over; what we asked for we ask again.
    fn reconnect(&mut self) -> Result<()> {
        let give_up = clock::mono().after(COME_BACK);
        loop {
            std::thread::sleep(Duration::from_millis(5));
            match connect(&self.live.scandir) {
                Ok(socket) => {
                    self.socket = socket;
                    let steps: Vec<Index> = self.steps.keys().copied().collect();
                    let sent = steps.into_iter().try_for_each(|index| {
                        let limit = self.steps[&index].limit.map(|at| at.since(clock::mono()));
                        send(&self.socket, &self.request(index, self.up, limit))
                    });
                    if sent.is_ok() {
                        return Ok(());
                    }
                }
                Err(e) if clock::mono() > give_up => return Err(e),
                Err(_) => {}
            }
        }
    }
}

fn is_over(deadline: Option<Mono>) -> bool {
    deadline.is_some_and(|at| at <= clock::mono())
}

/// What waiting brought.
enum Heard {
    Settled(Index, End),
    Deadline,
    Signal,
    Nothing,
}

fn hear_states(socket: &OwnedFd) -> std::result::Result<BTreeMap<String, Standing>, Errno> {
    let mut by_name = BTreeMap::new();
    loop {
        match receive(socket, None)? {
            Some(Reply::States(list)) => by_name.extend(list),
            Some(Reply::StatesEnd) => return Ok(by_name),
            Some(Reply::Settled(_) | Reply::Pruned) | None => {}
        }
    }
}

fn connect(scandir: &str) -> Result<OwnedFd> {
    let path = format!("{scandir}/{SOCKET}");
    socket::connect(&path)
        .or_else(|e| match e {
            Errno::NAMETOOLONG | Errno::INVAL => {
                use std::os::fd::AsRawFd;
                let dir = crate::servicedir::open(rustix::fs::CWD, scandir)?;
                socket::connect(&format!("/proc/self/fd/{}/{SOCKET}", dir.as_raw_fd()))
            }
            e => Err(e),
        })
        .unable(format_args!("connect to {path} (is svscan running there?)"))
}

/// Tells the supervisor of `scandir` that everything is about to be taken down, and waits, for `patience` at
/// most, until it has heard it.
pub fn restart_nothing(scandir: &str, patience: Duration) -> Result<()> {
    let socket = connect(scandir)?;
    let limit = Some(clock::mono().after(patience));
    let sent = send(&socket, &Request::NoRestarts).and_then(|()| send(&socket, &Request::States));
    sent.unable("talk to the supervisor")?;
    while receive(&socket, limit).unable("hear from the supervisor")? != Some(Reply::StatesEnd) {}
    Ok(())
}

/// Sends a request; while the supervisor is slow to read, waits.
fn send(socket: &OwnedFd, request: &Request) -> std::result::Result<(), Errno> {
    let message = request.encode();
    loop {
        match socket::send(socket, &message, &[]) {
            Err(Errno::AGAIN | Errno::NOBUFS) => {
                poll(&mut [PollFd::new(socket, PollFlags::OUT)], None)?;
            }
            other => return other,
        }
    }
}

/// The next reply. `Ok(None)`: it made no sense. `Err(TIMEDOUT)` at `limit`; `Err(PIPE)` when the other end
/// is gone.
fn receive(socket: &OwnedFd, limit: Option<Mono>) -> std::result::Result<Option<Reply>, Errno> {
    listen(socket, limit, None)
}

/// As [`receive`]; `Err(INTR)` when a signal came that ends a change.
fn listen(
    socket: &OwnedFd,
    limit: Option<Mono>,
    signals: Option<&SignalFd>,
) -> std::result::Result<Option<Reply>, Errno> {
    let mut buf = [0u8; socket::MAX_MESSAGE];
    loop {
        match socket::receive(socket, &mut buf) {
            Ok(message) if message.len == 0 => return Err(Errno::PIPE),
            Ok(message) => return Ok(Reply::decode(&buf[..message.len])),
            Err(Errno::AGAIN) => {}
            Err(e) => return Err(e),
        }
        let left = limit.map(|at| at.since(clock::mono()));
        if left == Some(Duration::ZERO) {
            return Err(Errno::TIMEDOUT);
        }
        let timeout = left
            .map(|d| rustix::time::Timespec { tv_sec: d.as_secs() as i64, tv_nsec: d.subsec_nanos() as _ });
        let mut fds = vec![PollFd::new(socket, PollFlags::IN)];
        fds.extend(signals.map(|s| PollFd::from_borrowed_fd(s.as_fd(), PollFlags::IN)));
        poll(&mut fds, timeout.as_ref())?;
        let signalled = fds.get(1).is_some_and(|fd| !fd.revents().is_empty());
        if let (true, Some(signals)) = (signalled, signals) {
            while let Some(signal) = signals.next() {
                if matches!(signal, Signal::TERM | Signal::INT | Signal::HUP | Signal::QUIT) {
                    return Err(Errno::INTR);
                }
            }
        }
    }
}

/// What a command says for an error that has no other cause.
pub fn unknown_service(name: &str, hint: Option<&str>) -> Error {
    let hint = hint.map_or(String::new(), |h| format!(": did you mean {h}?"));
    Error::new(3, format!("there is no service named {name}{hint}"))
}
