//! The loop around the policy: asks the metric, hears of workers by their event directories, obeys.
//!
//! It wakes when it asks the metric, when the metric answers, and when a worker goes up or down. What a worker says
//! of itself changes with each task; so it is read when it matters: before somebody is chosen to go. Only while
//! workers are draining are their directories watched (inotify).

use super::metric::Metric;
use super::place::{self, Place};
use super::policy::{Action, Event, Fact, Limits, Pool, RETRY};
use super::view::View;
use crate::diag::{self, Error, Result, Trouble, Unable, code};
use crate::process::Signal;
use crate::report::count;
use crate::servicedir::client::Client;
use crate::servicedir::control::Command;
use crate::servicedir::event::Listener;
use crate::sys::signal::{self, Blocked, SignalFd};
use crate::sys::{Errno, clock, process, spawn, wait};
use crate::time::Mono;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use std::fmt::Write as _;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

/// What svpool was told.
pub struct Options {
    /// The service directory that workers are copies of.
    pub template: String,
    /// The name before the `@`.
    pub name: String,
    /// Where the copies are.
    pub copies: String,
    /// Where they are linked.
    pub scandir: String,
    /// How many.
    pub limits: Limits,
    /// How much there is to do.
    pub metric: Option<Metric>,
    /// How often a line is logged.
    pub report: Option<Duration>,
    /// Sent to a worker that is to drain.
    pub signal: Option<Command>,
}

/// Runs until told to end.
pub fn run(options: Options) -> Result<u8> {
    let blocked = signal::block_all();
    spawn::reserve_window().unable("set up descriptors")?;
    process::raise_nofile();
    let signals = SignalFd::open(blocked).unable("open a signalfd")?;
    let Options { template, name, copies, scandir, limits, metric, report, signal } = options;
    let place = Place::open(name, &template, &copies, &scandir)?;
    let now = clock::mono();
    let pool = Pool::new(now, limits);
    let report = report.map(|interval| (interval, now.after(interval)));
    let mut runner = Runner {
        place,
        pool,
        limits,
        workers: Vec::new(),
        signals,
        blocked,
        metric,
        answer: None,
        failure: None,
        report,
        signal,
        watch: None,
        written: String::new(),
        trouble: Trouble::default(),
        over: None,
    };
    runner.begin(now)?;
    while runner.over.is_none() {
        runner.write_down();
        runner.turn()?;
    }
    if let Some(metric) = runner.metric.as_mut() {
        metric.stop();
    }
    runner.write_down();
    Ok(runner.over.unwrap_or(code::OK))
}

struct Worker {
    number: u32,
    client: Client,
    listener: Listener,
    /// While it is draining: its watches.
    watches: Vec<i32>,
    /// Its supervisor was told to stop it, or could not be told: when to see what came of it. One that was down
    /// already tells nothing.
    stop: Option<Mono>,
    /// That it was busy for too long has been said.
    late: bool,
    leaving: Option<Leaving>,
}

/// Its supervisors are leaving.
struct Leaving {
    /// They said so.
    told: bool,
    /// When to look again; they tell when they leave, unless they are killed then.
    next: Mono,
    pause: Duration,
    /// When they were first seen to be gone.
    gone: Option<Mono>,
}

/// A supervisor that has left may have been killed, and its successor about to come: it is gone after this long.
const GONE: Duration = Duration::from_millis(500);

/// What came of a stop is looked at after this.
const AGAIN: Duration = Duration::from_millis(100);

impl Worker {
    fn new(number: u32, listener: Listener, client: Client) -> Worker {
        Worker { number, client, listener, watches: Vec::new(), stop: None, late: false, leaving: None }
    }
}

fn find(workers: &mut [Worker], number: u32) -> Option<&mut Worker> {
    workers.iter_mut().find(|w| w.number == number)
}

struct Runner {
    place: Place,
    pool: Pool,
    limits: Limits,
    workers: Vec<Worker>,
    signals: SignalFd,
    blocked: Blocked,
    metric: Option<Metric>,
    /// What the metric said last.
    answer: Option<u32>,
    /// Why it says nothing.
    failure: Option<String>,
    /// How often a line is logged, and when next.
    report: Option<(Duration, Mono)>,
    signal: Option<Command>,
    /// An inotify descriptor, while somebody is draining.
    watch: Option<OwnedFd>,
    /// What the file says that others see.
    written: String,
    trouble: Trouble,
    /// The exit code.
    over: Option<u8>,
}

impl Runner {
    /// Finds out what is there.
    fn begin(&mut self, now: Mono) -> Result<()> {
        let mut there = Vec::new();
        for number in self.place.numbers()? {
            // A link that leads nowhere is all that is left.
            let Ok(client) = Client::open(&self.place.path(number)) else {
                self.place.unlink(number)?;
                continue;
            };
            self.workers.push(Worker::new(number, client.listen()?, client));
            // It is watched before it is looked at, so that nothing it says is missed.
            if self.place.is_marked(number, place::DRAIN) {
                self.watch(number);
            }
            there.extend(self.workers.last().map(|w| (number, self.place.look(number, &w.client))));
        }
        let mut todo = Vec::new();
        self.pool.begin(now, &there, &mut todo);
        self.obey(todo);
        Ok(())
    }

    /// Waits for something and deals with it.
    fn turn(&mut self) -> Result<()> {
        let (heard, said) = self.wait()?;
        for number in heard {
            self.look(number);
        }
        if said {
            let draining: Vec<u32> = self.pool.draining().collect();
            draining.into_iter().for_each(|number| self.look(number));
        }
        let now = clock::mono();
        while let Some(signal) = self.signals.next() {
            match signal {
                Signal::CHLD => self.reap(),
                Signal::TERM | Signal::INT => {
                    let workers = count(self.workers.len(), "worker");
                    diag::info(format_args!("stopping {workers}, each when it is idle"));
                    self.tell(Event::End);
                }
                Signal::QUIT => self.over = Some(code::OK),
                Signal::HUP => self.restart(),
                _ => {}
            }
        }
        if let Some(answer) = self.metric.as_mut().and_then(|metric| metric.tick(now, self.blocked)) {
            self.take(answer);
        }
        if self.pool.deadline().is_some_and(|due| due <= now) {
            self.tell(Event::Timeout);
        }
        self.look_after_leaving(now);
        if let Some((interval, at)) = self.report.filter(|(_, at)| *at <= now) {
            self.report = Some((interval, at.after(interval).max(now)));
            self.write_down();
            if let Ok(Some(view)) = View::of(&self.place.copies) {
                diag::info(view.line());
            }
        }
        Ok(())
    }

    /// The numbers of workers of whom something is heard, and whether draining ones have said something.
    fn wait(&mut self) -> Result<(Vec<u32>, bool)> {
        let timeout = self.deadline().map(|at| {
            let left = at.since(clock::mono());
            rustix::time::Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos() as _ }
        });
        let descriptor = |fd| PollFd::from_borrowed_fd(fd, PollFlags::IN);
        let signals = self.signals.as_fd();
        let watch = self.watch.as_ref().map_or(signals, |watch| watch.as_fd());
        let mut fds = vec![descriptor(signals), descriptor(watch)];
        fds.extend(self.workers.iter().map(|w| descriptor(w.listener.as_fd())));
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(e) => return Err(Error::unable("wait for events", e)),
        }
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        let said = self.watch.is_some() && ready[1];
        if said {
            let mut buffer = [0; 4096];
            while rustix::io::read(watch, &mut buffer).is_ok_and(|n| n > 0) {}
        }
        let mut heard = Vec::new();
        for (worker, _) in self.workers.iter_mut().zip(&ready[2..]).filter(|(_, ready)| **ready) {
            let mut bytes = Vec::new();
            worker.listener.read(&mut bytes);
            if let Some(leaving) = worker.leaving.as_mut() {
                leaving.told |= bytes.contains(&b'x');
            }
            heard.push(worker.number);
        }
        Ok((heard, said))
    }

    fn deadline(&self) -> Option<Mono> {
        let metric = self.metric.as_ref().map(Metric::deadline);
        let workers = self.workers.iter().filter_map(|w| {
            let leaving = w.leaving.as_ref().map(|leaving| leaving.next);
            [leaving, w.stop].into_iter().flatten().min()
        });
        let report = self.report.map(|(_, at)| at);
        [metric, report, self.pool.deadline()].into_iter().flatten().chain(workers).min()
    }

    /// Looks at a worker and tells the policy.
    fn look(&mut self, number: u32) {
        let Some(worker) = find(&mut self.workers, number) else { return };
        if let Some(leaving) = worker.leaving.as_mut() {
            leaving.next = clock::mono();
            return;
        }
        let fact = self.place.look(number, &worker.client);
        self.tell_one(number, fact);
    }

    fn tell_one(&mut self, number: u32, fact: Fact) {
        let mut todo = Vec::new();
        self.pool.on(clock::mono(), Event::Seen(number, fact), &mut todo);
        self.obey(todo);
    }

    fn tell(&mut self, event: Event) {
        if self.pool.chooses(event) {
            let all: Vec<u32> = self.workers.iter().map(|w| w.number).collect();
            all.into_iter().for_each(|number| self.look(number));
        }
        let mut todo = Vec::new();
        self.pool.on(clock::mono(), event, &mut todo);
        self.obey(todo);
    }

    fn obey(&mut self, todo: Vec<Action>) {
        let mut made = true;
        for action in todo {
            match action {
                Action::Make(number) => made &= self.make(number),
                Action::Drain(number) => self.drain(number),
                Action::Resume(number) => {
                    self.unwatch(number);
                    let done = self.place.unmark(number, place::DRAIN);
                    self.complain("drain", done);
                }
                Action::Stop(number, busy) => {
                    let worker = find(&mut self.workers, number).filter(|worker| busy && !worker.late);
                    if let Some(worker) = worker {
                        worker.late = true;
                        let name = self.place.instance(number);
                        let limit = self.limits.drain.as_millis();
                        diag::warn(format_args!("{name} is still busy after {limit} ms: stopping it"));
                    }
                    self.stop(number);
                }
                Action::Remove(number) => self.leave(number),
                Action::Mark(number) => {
                    let done = self.place.mark(number, place::RENEW);
                    self.complain("renew", done);
                }
                Action::Change(from, to) if made => self.say_change(from, to),
                // That has been said.
                Action::Change(..) => {}
                Action::Renewed => diag::info("all workers were restarted"),
                Action::End => self.over = self.over.or(Some(code::OK)),
            }
        }
    }

    fn complain(&mut self, what: &'static str, done: Result<()>) {
        match done {
            Ok(()) => self.trouble.over(what),
            Err(e) => self.trouble.note(what, e, "going on"),
        }
    }

    fn say_change(&mut self, from: u32, to: u32) {
        let way = if to > from { "up" } else { "down" };
        let mut why = String::new();
        if let Some(metric) = self.answer {
            let _ = write!(why, " (metric {metric})");
        }
        diag::info(format_args!("scaling {way} from {from} to {}{why}", count(to as usize, "worker")));
    }

    /// False: it could not be made.
    fn make(&mut self, number: u32) -> bool {
        match self.place.make(number) {
            Ok((client, listener)) => {
                self.workers.push(Worker::new(number, listener, client));
                self.trouble.over("make");
                true
            }
            Err(e) => {
                let again = format!("retrying in {} seconds", RETRY.as_secs());
                self.trouble.note("make", e, &again);
                self.tell(Event::Failed(number));
                false
            }
        }
    }

    fn drain(&mut self, number: u32) {
        let done = self.place.mark(number, place::DRAIN);
        self.complain("drain", done);
        if let (Some(command), Some(worker)) = (self.signal, find(&mut self.workers, number)) {
            let _ = worker.client.send(&[command.letter()]);
        }
        // In this order here too.
        self.watch(number);
        self.look(number);
    }

    /// Has a worker's supervisor stop it. One that is not there yet is told when it is: as long as the worker is
    /// wanted up it is seen to drain, and is to be stopped again.
    fn stop(&mut self, number: u32) {
        self.unwatch(number);
        let Some(worker) = find(&mut self.workers, number) else { return };
        // What its supervisor knows of it goes with the process.
        let done = self.place.keep_counts(number, &worker.client);
        let _ = worker.client.send(&[Command::Down.letter()]);
        worker.stop = Some(clock::mono().after(AGAIN));
        self.complain("keep", done);
    }

    fn leave(&mut self, number: u32) {
        self.unwatch(number);
        let done = self.place.unlink(number);
        self.complain("unlink", done);
        let Some(worker) = find(&mut self.workers, number) else { return };
        worker.stop = None;
        let pause = Duration::from_millis(10);
        worker.leaving = Some(Leaving { told: false, next: clock::mono().after(pause), pause, gone: None });
    }

    fn look_after_leaving(&mut self, now: Mono) {
        let mut stopped = Vec::new();
        for worker in self.workers.iter_mut() {
            stopped.extend(worker.stop.take_if(|at| *at <= now).map(|_| worker.number));
        }
        stopped.into_iter().for_each(|number| self.look(number));
        let due = |w: &Worker| w.leaving.as_ref().is_some_and(|leaving| leaving.next <= now);
        let due: Vec<u32> = self.workers.iter().filter(|w| due(w)).map(|w| w.number).collect();
        for number in due {
            if self.has_left(number, now) {
                if let Some(at) = self.workers.iter().position(|w| w.number == number) {
                    let worker = self.workers.remove(at);
                    let done = self.place.remove(number, &worker.client);
                    self.complain("remove", done);
                }
                self.tell(Event::Gone(number));
            }
        }
    }

    /// Whether a worker's supervisors are gone.
    fn has_left(&mut self, number: u32, now: Mono) -> bool {
        let Some(worker) = find(&mut self.workers, number) else { return false };
        let Some(leaving) = worker.leaving.as_mut() else { return false };
        if self.place.has_supervisor(&worker.client) {
            leaving.gone = None;
            leaving.pause = (leaving.pause * 2).min(Duration::from_secs(1));
            leaving.next = now.after(leaving.pause);
            if leaving.pause >= Duration::from_secs(1) {
                // Whoever was to see to it may have been killed.
                let done = self.place.unlink(number);
                self.complain("unlink", done);
            }
            return false;
        }
        let gone = leaving.gone.get_or_insert(now).after(GONE);
        leaving.next = gone;
        leaving.told || gone <= now
    }

    fn watch(&mut self, number: u32) {
        let flags = CreateFlags::CLOEXEC | CreateFlags::NONBLOCK;
        self.watch = self.watch.take().or_else(|| inotify::init(flags).ok());
        let worker = find(&mut self.workers, number);
        let (Some(watch), Some(worker)) = (&self.watch, worker) else { return };
        let what = WatchFlags::CLOSE_WRITE | WatchFlags::MOVED_TO | WatchFlags::DELETE;
        let dir = self.place.path(number);
        for dir in [format!("{dir}/supervise"), dir] {
            worker.watches.extend(inotify::add_watch(watch, dir, what));
        }
    }

    fn unwatch(&mut self, number: u32) {
        let Some(worker) = find(&mut self.workers, number) else { return };
        let watches = std::mem::take(&mut worker.watches);
        if let Some(watch) = &self.watch {
            for wd in watches {
                let _ = inotify::remove_watch(watch, wd);
            }
        }
        if self.workers.iter().all(|w| w.watches.is_empty()) {
            self.watch = None;
        }
    }

    /// SIGHUP: all workers anew, one after another.
    fn restart(&mut self) {
        // With a bad template they would go and not come back.
        match self.place.check_template() {
            Ok(()) => {
                let workers = count(self.workers.len(), "worker");
                diag::info(format_args!("restarting {workers}, one after another"));
                self.tell(Event::Renew);
            }
            Err(e) => diag::warn(format_args!("not restarting: {e}")),
        }
    }

    fn reap(&mut self) {
        while let Some((pid, status)) = wait::reap() {
            if let Some(answer) = self.metric.as_mut().and_then(|metric| metric.ended(pid, status)) {
                self.take(answer);
            }
        }
    }

    fn take(&mut self, answer: Result<u32>) {
        match answer {
            Ok(number) => {
                (self.answer, self.failure) = (Some(number), None);
                self.trouble.over("metric");
                self.tell(Event::Metric(number));
            }
            Err(e) => {
                (self.answer, self.failure) = (None, Some(e.message().to_owned()));
                self.trouble.note("metric", e, "the number of workers stays as it is");
                self.tell(Event::MetricFailed);
            }
        }
    }

    /// Writes for others what the pool is and wants, if that has changed.
    fn write_down(&mut self) {
        let Limits { min, max, .. } = self.limits;
        let (name, wanted) = (&self.place.name, self.pool.wanted());
        let mut text = format!("name={name}\nmin={min}\nmax={max}\nwanted={wanted}\n");
        let stale = Some(self.pool.stale()).filter(|stale| *stale > 0);
        for (key, value) in [("metric", self.answer), ("restarting", stale)] {
            if let Some(value) = value {
                let _ = writeln!(text, "{key}={value}");
            }
        }
        if let Some(failure) = &self.failure {
            let _ = writeln!(text, "failure={}", failure.replace('\n', " "));
        }
        if text != self.written {
            let done = self.place.write(place::POOL, &text);
            self.complain("write", done);
            self.written = text;
        }
    }
}
