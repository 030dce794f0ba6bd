//! The process that runs the machines: one event loop for all services of a scan directory, or for one.
//!
//! The loop waits, tells machines what happened, and obeys. It never waits for anything else: every
//! descriptor is non-blocking, and the one call that does stop us, making a child, ends when the child has
//! executed. Nothing polls; when nothing happens, nothing wakes it.
//!
//! # The order of things
//!
//! One turn of the loop: take what the kernel has (into the journal's inboxes), feed the machines, do at
//! once what cannot wait (signals, the successor of what died), remember, and when everything that came in
//! this turn is fed, write down what is due: death tally, status, state, events, answers. A service that
//! dies is restarted before anybody is told that it died.
//!
//! # Being killed
//!
//! At any line. The journal has what was decided; `adopt` takes it from there. Whoever adds a line asks:
//! what if we are killed before it, and what if after?

mod admit;
mod adopt;
mod ahead;
mod asking;
mod cause;
mod clocks;
mod equip;
mod errand;
mod faults;
mod fifo;
mod follow;
mod forking;
mod launch;
mod notified;
mod obey;
mod outfit;
mod policy;
mod requests;
mod roster;
mod service;
mod settle;
mod thrift;
mod tree;
mod upgrade;

use self::ahead::Ahead;
use self::faults::Faults;
use self::fifo::Untold;
use self::service::{Body, Service};
use self::thrift::{Attic, Awake};
use self::tree::Hunt;
use super::descent::Member;
use super::journal::{INPUT_BYTES, Journal, Source};
use super::machine::{Event, Leave};
use super::oneshot;
use super::place::Place;
use super::wire::{Finish, Request};
use crate::diag::{self, Error, Result, Trouble, Unable, code};
use crate::ordered::{Map, Set};
use crate::process::{Pid, Signal, WaitStatus};
use crate::scan::Identity;
use crate::servicedir;
use crate::servicedir::control::Command;
use crate::sys::signal::{Blocked, SignalFd};
use crate::sys::{Errno, clock, process, socket, wait};
use crate::time::Mono;
use rustix::event::epoll;
use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

/// Which service: an index that is used again when its service is gone.
type Id = u32;

/// What woke us. Packed into the 64 bits that epoll keeps for us: kind, count of lives of the index, index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    Signals,
    ClockSet,
    Listener,
    Records,
    Link(u32),
    Control(Id, u16),
    Notification(Id, u16),
    Adopted(Id, u16),
    Hunted(Id, u16),
    Output(Id, u16),
    Notified(Id, u16),
}

impl Token {
    fn pack(self) -> epoll::EventData {
        let (kind, life, index) = match self {
            Token::Signals => (0, 0, 0),
            Token::ClockSet => (1, 0, 0),
            Token::Listener => (2, 0, 0),
            Token::Records => (3, 0, 0),
            Token::Link(n) => (4, 0, n),
            Token::Control(id, life) => (5, life, id),
            Token::Notification(id, life) => (6, life, id),
            Token::Adopted(id, life) => (7, life, id),
            Token::Hunted(id, life) => (8, life, id),
            Token::Output(id, life) => (9, life, id),
            Token::Notified(id, life) => (10, life, id),
        };
        epoll::EventData::new_u64((kind as u64) << 56 | (life as u64) << 32 | index as u64)
    }

    fn unpack(data: epoll::EventData) -> Token {
        let n = data.u64();
        let (life, index) = ((n >> 32) as u16, n as u32);
        match n >> 56 {
            0 => Token::Signals,
            1 => Token::ClockSet,
            2 => Token::Listener,
            3 => Token::Records,
            4 => Token::Link(index),
            5 => Token::Control(index, life),
            6 => Token::Notification(index, life),
            7 => Token::Adopted(index, life),
            8 => Token::Hunted(index, life),
            9 => Token::Output(index, life),
            _ => Token::Notified(index, life),
        }
    }
}

/// Somebody who waits for a service to be as asked.
#[derive(Clone, Copy, Debug)]
struct Goal {
    link: u32,
    tag: u32,
    up: bool,
}

/// A program connected to our socket.
struct Link {
    socket: OwnedFd,
    /// It is svscan.
    scanner: bool,
    /// It is telling a complete list.
    listing: Option<Listed>,
    /// Answers that it was too slow to read.
    unsent: VecDeque<Vec<u8>>,
    /// We are waiting for it to read.
    awaits_room: bool,
    /// What it wants done later.
    ahead: Option<Ahead>,
    /// Who that is, once it matters.
    who: Option<Rc<str>>,
}

/// What is on a list.
#[derive(Default)]
struct Listed {
    supervised: Set<Identity>,
    /// By name.
    deferred: Set<String>,
}

impl Link {
    fn new(socket: OwnedFd) -> Link {
        Link {
            socket,
            scanner: false,
            listing: None,
            unsent: VecDeque::new(),
            awaits_room: false,
            ahead: None,
            who: None,
        }
    }
}

/// An entry that could not be supervised yet.
struct Deferred {
    at: Mono,
    pause: Duration,
    said: String,
}

/// How long the next attempt at supervising an entry is put off, at most.
const DEFER_MOST: Duration = Duration::from_secs(5);

/// A dead process that is not our child: how long its reaper may take to tell how it died. It takes
/// microseconds, unless somebody stopped the reaper.
const STATUS_WAIT: Duration = Duration::from_secs(2);

/// What is recorded when nobody can tell how an adopted process died: the kernel is older than 6.15 and its
/// reaper was not ours.
const UNKNOWN_END: WaitStatus = WaitStatus(0xff00);

/// What a host supervises.
pub enum Mode {
    /// The services that svscan names.
    Many {
        /// What is ours.
        place: Place,
        /// Our socket, made by somebody who outlives us, or none yet.
        listener: Option<OwnedFd>,
        /// The lock of the scan directory: we are an upgrade of whoever had it.
        lock: Option<OwnedFd>,
    },
    /// The service directory that we are in, under this name.
    One(String),
}

/// The process.
struct Host {
    blocked: Blocked,
    base: OwnedFd,
    /// Of the directory of our place: who we are for the keeper.
    identity: Identity,
    journal: Journal,
    epoll: OwnedFd,
    signals: SignalFd,
    clock_watch: Option<OwnedFd>,
    listener: Option<OwnedFd>,
    /// Of the scan directory; held, never looked at.
    lock: Option<OwnedFd>,
    /// Lock and control FIFO of the only service, until it is taken in.
    only: Option<service::Supervise>,
    keeper: Option<OwnedFd>,
    untold: Untold,
    /// What the catch-all logger speaks to.
    console: Option<OwnedFd>,
    faults: Faults,
    causes: cause::Causes,
    trouble: Trouble,
    /// Connections are not taken until then.
    listen_at: Option<Mono>,
    /// This is the scan directory that init made.
    in_container: bool,
    /// What is supervised has changed: when that is to be seen in our command line.
    retitle_at: Option<Mono>,
    /// What svscan hands over could not be taken; when it is asked for again.
    hello_at: Option<Mono>,
    records: Option<OwnedFd>,
    links: Vec<Option<Link>>,
    /// Something was answered in this turn and not sent yet.
    replied: bool,
    /// What is in the input inbox is being dealt with.
    dealing: bool,
    /// Requests that are next, by link: what they waited for is settled.
    followers: VecDeque<(u32, Request)>,
    /// Requests that came before we knew what is ours already.
    early: Vec<(u32, Request)>,
    adopted: bool,
    upcoming: errand::Upcoming,
    services: Vec<Option<Box<Service>>>,
    /// Counts who an index has been of, so that an event for an earlier one is told apart.
    lives: Vec<u16>,
    free: Vec<Id>,
    identities: Map<Identity, Id>,
    by_pid: Map<Pid, Id>,
    names: Map<Box<str>, Id>,
    timers: Set<(Mono, Id)>,
    due: VecDeque<Id>,
    /// By name.
    deferred: Map<String, Deferred>,
    /// Where directories are now that are not where they were; looked for when first needed.
    kept_directories: Option<Map<Identity, PathBuf>>,
    /// What the keeper has that has no name; asked for when first needed.
    kept_sockets: Option<Map<Identity, OwnedFd>>,
    attic: Attic,
    awake: Awake,
    /// Descents of services with `kill-mode` `tree` that are being ended.
    hunts: Map<Id, Hunt>,
    /// Children of whoever became us: they are no service's.
    inherited: Vec<Member>,
    single: bool,
    place: Place,
    /// There has been a service, or it is known that there is none: an isolated one's supervisor ends with it.
    busy: bool,
    finishing: Option<Finish>,
    /// What dies is started again.
    restarts: bool,
    began: Mono,
    /// The program on disk is to take our place when this turn is over.
    upgrading: bool,
}

/// Runs until there is nothing left to supervise; returns the exit code.
pub fn run(mode: Mode, blocked: Blocked) -> Result<u8> {
    let mut host = Host::open(mode, blocked)?;
    host.serve()
}

impl Host {
    fn open(mut mode: Mode, blocked: Blocked) -> Result<Host> {
        process::raise_nofile();
        let base = servicedir::open(rustix::fs::CWD, ".").unable("open the current directory")?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).unable("create an epoll descriptor")?;
        let signals = SignalFd::open(blocked).unable("create a signal descriptor")?;
        let (single, place) = match &mode {
            Mode::One(_) => (true, Place::common()),
            Mode::Many { place, .. } => (false, place.clone()),
        };
        let home = if single { "." } else { place.dir() };
        let identity = servicedir::open(&base, home).and_then(|dir| Identity::of(&dir));
        let identity = identity.unable(format_args!("look at {home}"))?;
        let journal_name = if single { "supervise/journal".to_owned() } else { place.journal() };
        let mut only = None;
        if single {
            servicedir::prepare(&base).unable("make event and supervise")?;
            // The lock comes before the journal: another supervisor's memory is not ours to change.
            only = Some(service::open_supervise(&base)?);
        }
        let lock = match &mut mode {
            Mode::One(_) => None,
            Mode::Many { lock, .. } => Some(take_lock(&place.lock(), lock.take())?),
        };
        let (journal, why) = Journal::open(&base, &journal_name).unable("map memory")?;
        if let Some(errno) = why {
            let error = Error::unable(format_args!("open {journal_name}"), errno);
            diag::warn(format_args!("{error}: a successor of this process will know less"));
        }
        let restarts = !journal.is_stopping() || journal.used().is_empty();
        let mut host = Host {
            blocked,
            base,
            identity,
            journal,
            epoll,
            signals,
            clock_watch: watch_clock(),
            listener: None,
            lock,
            only,
            keeper: None,
            untold: Untold::default(),
            console: None,
            faults: Faults::default(),
            causes: cause::Causes::default(),
            trouble: Trouble::default(),
            listen_at: None,
            in_container: !single && is_in_container(),
            retitle_at: None,
            hello_at: None,
            records: None,
            links: Vec::new(),
            replied: false,
            dealing: false,
            followers: VecDeque::new(),
            early: Vec::new(),
            adopted: false,
            upcoming: errand::Upcoming::default(),
            services: Vec::new(),
            lives: Vec::new(),
            free: Vec::new(),
            identities: Map::new(),
            by_pid: Map::new(),
            names: Map::new(),
            timers: Set::new(),
            due: VecDeque::new(),
            deferred: Map::new(),
            kept_directories: None,
            kept_sockets: None,
            attic: Attic::default(),
            awake: Awake::new(),
            hunts: Map::new(),
            inherited: if single { tree::children() } else { Vec::new() },
            single,
            place,
            busy: false,
            finishing: None,
            restarts,
            began: clock::mono(),
            upgrading: false,
        };
        if !host.in_container {
            host.begin_account();
        }
        match mode {
            Mode::One(name) => host.begin_single(&name)?,
            Mode::Many { listener, .. } => host.begin_many(listener)?,
        }
        // Until now nobody would have dealt with them, and they would have woken us again and again.
        host.watch(host.signals.as_fd(), Token::Signals).unable("watch signals")?;
        if let Some(clock) = &host.clock_watch {
            let _ = host.watch(clock.as_fd(), Token::ClockSet);
        }
        Ok(host)
    }

    fn begin_single(&mut self, name: &str) -> Result<()> {
        self.adopt_all();
        if self.services.iter().all(Option::is_none) {
            self.add(name, ".")?;
        }
        self.write_down_due();
        Ok(())
    }

    /// Waits for svscan to say hello, which it does at once: it brings what it takes to know how services
    /// died that were left alone meanwhile.
    fn begin_many(&mut self, listener: Option<OwnedFd>) -> Result<()> {
        let listener = match listener {
            Some(listener) => listener,
            None => socket::listen(&self.place.socket()).unable("listen for requests")?,
        };
        self.watch(listener.as_fd(), Token::Listener).unable("watch the socket")?;
        self.listener = Some(listener);
        let give_up = clock::mono().after(Duration::from_secs(1));
        while self.records.is_none() && clock::mono() < give_up {
            let left = give_up.since(clock::mono());
            self.turn(Some(left), |token| matches!(token, Token::Listener | Token::Link(_)))?;
        }
        if self.records.is_none() {
            diag::warn("svscan does not talk: taking over without it");
            self.adopt_once();
        }
        Ok(())
    }

    fn watch(&self, fd: impl AsFd, token: Token) -> std::result::Result<(), Errno> {
        epoll::add(&self.epoll, fd, token.pack(), epoll::EventFlags::IN)
    }

    // ------------------------------------------------------------------------------------ the loop

    fn serve(&mut self) -> Result<u8> {
        loop {
            self.write_down_due();
            if self.is_over() {
                self.release();
                if self.finishing != Some(Finish::Abandon) {
                    // Who comes after us begins anew.
                    self.journal.set_stopping(false);
                }
                // Who went without having ended what it supervises is to be replaced, also where all shall end.
                return Ok(if self.finishing == Some(Finish::Abandon) { code::NO } else { code::OK });
            }
            self.upgrade_if_asked();
            let wait = self.next_deadline().map(|at| at.since(clock::mono()));
            self.turn(wait, |_| true)?;
            self.run_timers();
        }
    }

    fn is_over(&self) -> bool {
        let nothing_left = self.names.is_empty() && self.services.iter().all(Option::is_none);
        match self.finishing {
            Some(Finish::Abandon) => true,
            Some(Finish::Stop | Finish::StopAll) => nothing_left,
            None if self.place.is_isolated() => self.busy && nothing_left && self.deferred.is_empty(),
            None => self.single && nothing_left,
        }
    }

    /// Waits once and deals with what came. What `accept` refuses stays for later.
    fn turn(&mut self, wait: Option<Duration>, accept: fn(Token) -> bool) -> Result<()> {
        let mut events = [const { std::mem::MaybeUninit::<epoll::Event>::uninit() }; 64];
        let timeout = wait.map(|d| rustix::time::Timespec {
            tv_sec: d.as_secs().min(1 << 30) as i64,
            tv_nsec: d.subsec_nanos() as _,
        });
        let events = match epoll::wait(&self.epoll, &mut events, timeout.as_ref()) {
            Ok((events, _)) => events,
            Err(Errno::INTR) => return Ok(()),
            Err(e) => return Err(Error::unable("wait for events", e)),
        };
        for event in events.iter() {
            let token = Token::unpack(event.data);
            if accept(token) {
                self.dispatch(token, event.flags);
            }
        }
        Ok(())
    }

    fn dispatch(&mut self, token: Token, flags: epoll::EventFlags) {
        match token {
            Token::Signals => self.on_signals(),
            Token::ClockSet => self.on_clock_set(),
            Token::Listener => self.on_connection(),
            Token::Records => self.on_records(flags.contains(epoll::EventFlags::HUP)),
            Token::Link(n) => self.on_link(n, flags.contains(epoll::EventFlags::OUT)),
            Token::Control(id, life) if self.is_life(id, life) => {
                self.on_input(id, Source::Control);
            }
            Token::Notification(id, life) if self.is_life(id, life) => {
                self.on_input(id, Source::Notification);
            }
            Token::Adopted(id, life) if self.is_life(id, life) => {
                self.on_adopted(id, flags.contains(epoll::EventFlags::HUP));
            }
            Token::Hunted(id, life) if self.is_life(id, life) => self.hunt(id),
            Token::Output(id, life) if self.is_life(id, life) => {
                self.on_output(id, flags.contains(epoll::EventFlags::HUP));
            }
            Token::Notified(id, life) if self.is_life(id, life) => self.on_notified(id),
            // It was dealt with and is gone since this was reported.
            Token::Control(..)
            | Token::Notification(..)
            | Token::Adopted(..)
            | Token::Hunted(..)
            | Token::Output(..)
            | Token::Notified(..) => {}
        }
    }

    fn is_life(&self, id: Id, life: u16) -> bool {
        self.lives.get(id as usize) == Some(&life) && self.service(id).is_some()
    }

    fn service(&self, id: Id) -> Option<&Service> {
        self.services.get(id as usize)?.as_deref()
    }

    fn service_mut(&mut self, id: Id) -> Option<&mut Service> {
        self.services.get_mut(id as usize)?.as_deref_mut()
    }

    fn ids(&self) -> Vec<Id> {
        (0..self.services.len() as Id).filter(|id| self.service(*id).is_some()).collect()
    }

    // ------------------------------------------------------------------------------------ what comes

    fn on_signals(&mut self) {
        // One at a time: if there are others, we are woken at once.
        if let Some(signal) = self.signals.next() {
            match signal {
                Signal::CHLD => self.reap(),
                Signal::TERM => self.on_told_to_leave(Leave::Stop),
                Signal::HUP => self.on_told_to_leave(Leave::CloseInput),
                Signal::QUIT => self.on_told_to_leave(Leave::Abandon),
                Signal::INT => self.on_told_to_leave(Leave::Interrupt),
                _ => {}
            }
        }
    }

    /// A supervisor of one service is told by signals. One of many is not: svscan talks to it, and a signal
    /// by anybody else shall harm no service. It goes, and its successor takes all of them over.
    fn on_told_to_leave(&mut self, how: Leave) {
        if self.single {
            for id in self.ids() {
                self.feed(id, Event::Leave(how));
            }
        } else {
            self.finishing.get_or_insert(Finish::Abandon);
        }
    }

    fn reap(&mut self) {
        while let Some((pid, status)) = self.journal.reap() {
            if let Some(id) = self.by_pid.get(&pid).copied() {
                self.died(id, pid, status);
            }
            self.journal.reaped_done();
        }
    }

    fn on_clock_set(&mut self) {
        // The read fails with ECANCELED and so takes note of the change; the timer goes on watching.
        if let Some(clock) = &self.clock_watch {
            let _ = rustix::io::read(clock, &mut [0u8; 8]);
        }
        for id in self.ids() {
            match &mut self.service_mut(id).expect("just listed").body {
                Body::Longrun(_) => self.feed(id, Event::ClockSet),
                Body::Oneshot(_) => self.feed_oneshot(id, oneshot::Event::ClockSet),
            }
            self.clock_set_for_aux(id, clock::now());
        }
    }

    /// Records of dead processes that were adopted. Those of strangers are skipped, and those of earlier
    /// processes with the same number. `over`: nobody is left who could write any (a scanner that stood alone was
    /// killed); the next scanner brings another pipe.
    fn on_records(&mut self, over: bool) {
        while let Some((pid, status)) = self.records.as_ref().and_then(|r| self.journal.read_record(r)) {
            self.hear_record(pid, status);
            self.journal.record_done();
        }
        if over && let Some(records) = self.records.take() {
            let _ = epoll::delete(&self.epoll, &records);
        }
    }

    /// An adopted process is dead (or, with `reaped`, reaped as well).
    fn on_adopted(&mut self, id: Id, reaped: bool) {
        let Some(service) = self.service_mut(id) else { return };
        let process = service.process();
        let Some(adopted) = &mut service.adopted else { return };
        let known = match reaped {
            true => adopted.pidfd.as_ref().and_then(wait::pidfd_exit),
            false => process.and_then(|(pid, _)| process::zombie_status(pid)),
        };
        match (known, process) {
            (Some(status), Some((pid, _))) => self.died(id, pid, status),
            _ => {
                // How it died comes on the reaper's pipe, or from the kernel once it is reaped. Until then
                // only that moment is of interest.
                if adopted.dead_since.is_none() {
                    adopted.dead_since = Some(clock::mono().after(STATUS_WAIT));
                }
                let pidfd = adopted.pidfd.take();
                if let Some(pidfd) = pidfd {
                    let token = Token::Adopted(id, self.lives[id as usize]);
                    if reaped {
                        let _ = epoll::delete(&self.epoll, &pidfd);
                    } else {
                        let _ = epoll::modify(&self.epoll, &pidfd, token.pack(), epoll::EventFlags::empty());
                    }
                    if let Some(adopted) = self.service_mut(id).and_then(|s| s.adopted.as_mut()) {
                        adopted.pidfd = Some(pidfd);
                    }
                }
                self.set_timer(id);
            }
        }
    }

    /// Commands, or readiness. How many bytes there were. There is one inbox: while what is in it is dealt with, which
    /// may start something, nothing else is read.
    fn on_input(&mut self, id: Id, source: Source) -> usize {
        if self.dealing {
            return 0;
        }
        let Some(service) = self.service(id) else { return 0 };
        let (slot, Body::Longrun(longrun)) = (service.slot, &service.body) else { return 0 };
        let fd = match source {
            Source::Control => longrun.control.as_ref(),
            Source::Notification => longrun.notify.as_ref(),
        };
        let Some(fd) = fd else { return 0 };
        let n = self.journal.read_input(slot, source, fd);
        self.take_input(id, source, n);
        n
    }

    /// Deals with `n` bytes in the input inbox.
    fn take_input(&mut self, id: Id, source: Source, n: usize) {
        self.dealing = true;
        for index in 0..n.min(INPUT_BYTES) {
            let byte = self.journal.input_byte(index);
            match source {
                Source::Control => {
                    if !self.take_claim(byte)
                        && let Ok(command) = Command::try_from(byte)
                    {
                        let before = self.told(id);
                        let waits = self.guard(id, command);
                        if !waits {
                            self.feed(id, Event::Command(command));
                        }
                        self.note_writer(id, before, waits);
                    }
                }
                Source::Notification => {
                    if byte == b'\n' {
                        // Nothing in its directory has a say in this.
                        self.feed_as_read(id, Event::Ready);
                        break;
                    }
                }
            }
            self.journal.cross_out(index);
        }
        self.dealing = false;
        self.forget_claim();
        self.journal.input_done();
    }
}

/// There is one supervisor of many at each place, and a scanner can tell whether it lives. `held`: we may have
/// become what we are with the lock in our hands.
fn take_lock(path: &str, held: Option<OwnedFd>) -> Result<OwnedFd> {
    use rustix::fs::{Mode as FileMode, OFlags};
    let there = Identity::at(path);
    if let Some(lock) = held.filter(|lock| there.is_ok() && Identity::of(lock) == there) {
        return Ok(lock);
    }
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let lock =
        rustix::fs::open(path, flags, FileMode::from_raw_mode(0o600)).unable(format_args!("open {path}"))?;
    if !crate::sys::lock::take_over(&lock).unable(format_args!("lock {path}"))? {
        return Err(Error::usage(format!("unable to lock {path}: another supervisor is at work")));
    }
    Ok(lock)
}

/// A descriptor that becomes readable when somebody sets the wall clock: a timer that is never due.
fn watch_clock() -> Option<OwnedFd> {
    use rustix::time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
        timerfd_settime,
    };
    let fd = timerfd_create(TimerfdClockId::Realtime, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC).ok()?;
    let never = Itimerspec {
        it_interval: Timespec { tv_sec: 0, tv_nsec: 0 },
        it_value: Timespec { tv_sec: i64::MAX / 2_000_000_000, tv_nsec: 0 },
    };
    let flags = TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET;
    timerfd_settime(&fd, flags, &never).ok()?;
    Some(fd)
}

/// Whether the current directory is the scan directory that init made.
fn is_in_container() -> bool {
    let here = rustix::process::getcwd(Vec::new());
    here.is_ok_and(|here| here.to_bytes() == crate::init::place::scandir().as_bytes())
}
