//! A supervisor as its scanner sees it: a process that is kept alive, and a connection to it.
//!
//! There is one for all services, and one for each that is isolated. What the scanner does with all of them
//! is in [`super`]; here is what it does with one.

use super::HOPELESS;
use crate::diag::{self, Error, Result, Trouble, Unable};
use crate::process::{Pid, WaitStatus};
use crate::scan::Identity;
use crate::scan::reaper::Channel;
use crate::servicedir;
use crate::supervise::place::Place;
use crate::supervise::wire::{Reply, Request, batches};
use crate::supervise::{self, Mode};
use crate::sys::signal::Blocked;
use crate::sys::spawn::{self, CArray, Spawn};
use crate::sys::{Errno, clock, lock, process, socket, wait};
use crate::time::Mono;
use rustix::event::{PollFd, PollFlags};
use rustix::fs::{CWD, Mode as FileMode, OFlags};
use std::collections::VecDeque;
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

/// Whether a supervisor that is not our child really lives is looked at again after this, then at doubling
/// intervals up to [`VERIFY_LAST`], and no more: from then on its connection tells.
const VERIFY_FIRST: Duration = Duration::from_millis(20);
const VERIFY_LAST: Duration = Duration::from_secs(3);

/// A supervisor.
pub(super) struct Supervisor {
    pub(super) place: Place,
    /// Where it listens. None: it is made with the supervisor.
    pub(super) listener: Option<OwnedFd>,
    /// How it is told of the dead; None: as init told us.
    pub(super) channel: Option<Channel>,
    /// The process, if it is our child.
    pub(super) child: Option<Pid>,
    /// Our connection to it.
    link: Option<OwnedFd>,
    /// What it was too slow to read.
    unsent: VecDeque<Vec<u8>>,
    /// What it was asked and has not answered: see [`Request::Prune`].
    prunes: VecDeque<bool>,
    /// It could not take what it was handed over.
    pub(super) misses_hello: bool,
    trouble: Trouble,
    started: Option<Mono>,
    /// Lives of less than a second, one after the other.
    short_lives: u32,
    /// Those among them that nobody ended with SIGKILL.
    crashes: u32,
    /// When it is to be started, or connected to.
    start_at: Option<Mono>,
    /// When it is looked again whether one that is not our child lives, and the pause after that.
    verify: Option<(Mono, Duration)>,
    /// Some process that we reap may be a service of its that it took over.
    pub(super) tell: bool,
    /// Nothing is known of what it knows: it must get the whole list.
    pub(super) list_whole: bool,
    /// It was asked to become its new version: it closes its connections without dying.
    pub(super) upgrading: bool,
    /// It has ended, as it was told.
    pub(super) ended: bool,
}

/// What a supervisor needs of the scanner.
pub(super) struct Around<'a> {
    pub(super) blocked: Blocked,
    pub(super) keeper: &'a OwnedFd,
    pub(super) channel: &'a Channel,
    pub(super) console: Option<&'a OwnedFd>,
}

impl Supervisor {
    /// One that does not run yet.
    pub(super) fn new(place: Place) -> Supervisor {
        Supervisor {
            place,
            listener: None,
            channel: None,
            child: None,
            link: None,
            unsent: VecDeque::new(),
            prunes: VecDeque::new(),
            misses_hello: false,
            trouble: Trouble::default(),
            started: None,
            short_lives: 0,
            crashes: 0,
            start_at: None,
            verify: None,
            tell: false,
            list_whole: true,
            upgrading: false,
            ended: false,
        }
    }

    /// The one of the service `name` alone. What it has on disk is made.
    pub(super) fn isolated(name: &str) -> Result<Supervisor> {
        let mut supervisor = Supervisor::new(Place::isolated(name));
        for dir in [supervise::place::ISOLATED, supervisor.place.dir()] {
            match rustix::fs::mkdir(dir, FileMode::from_raw_mode(0o700)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(e) => return Err(Error::unable(format_args!("make {dir}"), e)),
            }
        }
        let file = supervisor.place.name_file();
        // It is never there in part: a scanner that is killed is followed by one that reads it.
        if std::fs::read(&file).ok().as_deref() != Some(name.as_bytes()) {
            servicedir::replace(CWD, &file, &format!("{file}.new"), name.as_bytes())
                .unable(format_args!("write {file}"))?;
        }
        supervisor.channel = Some(Channel::at(&supervisor.place.records()).unable("make a pipe")?);
        Ok(supervisor)
    }

    /// Which one is the FIFO by which it alone is told of the dead.
    pub(super) fn records(&self) -> Option<(&OwnedFd, Identity)> {
        let reader = &self.channel.as_ref()?.reader;
        Some((reader, Identity::of(reader).ok()?))
    }

    /// Whether one is alive at its place, whoever's child it is.
    pub(super) fn lives(&self) -> bool {
        is_held(&self.place.lock())
    }

    /// What to wait for.
    pub(super) fn poll(&self) -> Option<PollFd<'_>> {
        let room = if self.unsent.is_empty() { PollFlags::empty() } else { PollFlags::OUT };
        self.link.as_ref().map(|link| PollFd::new(link, PollFlags::IN | room))
    }

    /// Starts it, or connects to one that lives.
    pub(super) fn start(&mut self, around: &Around<'_>) {
        self.start_at = None;
        if self.child.is_some() {
            return self.connect_or_retry(around);
        }
        match self.try_start(around) {
            Ok(()) => self.trouble.over("start"),
            Err(e) => {
                self.trouble.note("start", e, "retrying every second");
                self.start_at = Some(clock::mono().after(Duration::from_secs(1)));
            }
        }
    }

    /// Our child is there, and we must be able to talk to it.
    fn connect_or_retry(&mut self, around: &Around<'_>) {
        match self.connect(around) {
            Ok(()) => self.trouble.over("connect"),
            Err(e) => {
                self.trouble.note("connect", e, "retrying every second");
                self.start_at = Some(clock::mono().after(Duration::from_secs(1)));
            }
        }
    }

    fn try_start(&mut self, around: &Around<'_>) -> Result<()> {
        if self.lives() {
            // Another scanner's child: its services are told of by whoever reaps them.
            self.tell = true;
            self.verify = Some((clock::mono().after(VERIFY_FIRST), VERIFY_FIRST * 2));
            let _ = self.connect(around);
            return Ok(());
        }
        self.verify = None;
        let path = self.place.socket();
        if self.listener.is_none() || rustix::fs::access(&*path, rustix::fs::Access::EXISTS).is_err() {
            self.listener = Some(socket::listen(&path).unable(format_args!("listen at {path}"))?);
        }
        let first = self.started.is_none();
        self.started = Some(clock::mono());
        let hopeless = self.crashes >= HOPELESS;
        if hopeless {
            diag::warn("the supervisor on disk does not stay up: starting the one that we are instead");
        }
        let executed = if first || hopeless { None } else { self.execute(around)? };
        self.child = Some(match executed {
            Some(pid) => pid,
            None => self.fork(around).unable("fork")?,
        });
        self.connect_or_retry(around);
        Ok(())
    }

    /// When it has something to do by itself: [`start`](Self::start) or [`verify`](Self::verify).
    pub(super) fn deadline(&self) -> Option<Mono> {
        [self.start_at, self.verify.map(|(at, _)| at)].into_iter().flatten().min()
    }

    /// Whether it is time to start it.
    pub(super) fn is_due(&self, now: Mono) -> bool {
        self.start_at.is_some_and(|at| at <= now)
    }

    /// One that seems to live may be dead: its lock goes a moment after its sockets, and a child that it was
    /// making when it was killed holds it until it executes. Nobody would tell us. False: it is dead.
    pub(super) fn verify(&mut self, now: Mono, around: &Around<'_>) -> bool {
        let Some((_, pause)) = self.verify.take_if(|(at, _)| *at <= now) else { return true };
        if !self.lives() {
            return false;
        }
        if pause <= VERIFY_LAST {
            self.verify = Some((now.after(pause), pause * 2));
        }
        if self.link.is_none()
            && let Err(e) = self.connect(around)
            && pause > VERIFY_LAST
        {
            diag::warn(e);
        }
        true
    }

    fn fork(&self, around: &Around<'_>) -> std::result::Result<Pid, Errno> {
        let blocked = around.blocked;
        let keep: Vec<_> = self.listener.iter().map(|l| l.as_fd()).collect();
        let place = self.place.clone();
        let title = place.title();
        spawn::fork(blocked, &keep, |kept| {
            drop(std::panic::take_hook());
            diag::set_program("supervise");
            process::set_title("supervise", &title.iter().map(|word| &**word).collect::<Vec<_>>());
            let mode = Mode::Many { place, listener: kept.into_iter().next(), lock: None };
            diag::exit_code(supervise::run(mode, blocked))
        })
    }

    /// Starts one from the file system, which may be newer. `None`: that is not possible.
    fn execute(&self, around: &Around<'_>) -> Result<Option<Pid>> {
        let Some((program, name)) = process::sibling("supervise") else { return Ok(None) };
        let words = self.place.words().into_iter().map(|w| CString::new(w).expect("names have no NUL"));
        let argv = CArray::new([name].into_iter().chain(words).collect());
        let fds: Vec<_> = self.listener.iter().map(|l| (l.as_fd(), supervise::LISTEN_FD)).collect();
        let spawn = Spawn { fds: &fds, ..Spawn::new(std::slice::from_ref(&program), &argv) };
        match spawn.start(around.blocked) {
            Ok(pid) => Ok(Some(pid)),
            Err(e) => {
                let error = Error::unable(format_args!("execute {}", program.to_string_lossy()), e.errno);
                if diag::is_exhausted(e.errno) {
                    return Err(error);
                }
                diag::warn(error);
                Ok(None)
            }
        }
    }

    /// Connects to it and hands over what it needs. It must then be told everything.
    fn connect(&mut self, around: &Around<'_>) -> Result<()> {
        self.link = None;
        self.unsent.clear();
        self.list_whole = true;
        let path = self.place.socket();
        self.link = Some(socket::connect(&path).unable(format_args!("connect to {path}"))?);
        let greeted = self.greet(around).unable(format_args!("write to {path}"));
        if greeted.is_err() {
            self.link = None;
        }
        greeted
    }

    /// Hands over what it needs. Done again, it says again what is to be kept for it.
    pub(super) fn greet(&self, around: &Around<'_>) -> std::result::Result<(), Errno> {
        let Some(link) = &self.link else { return Ok(()) };
        let records = &self.channel.as_ref().unwrap_or(around.channel).reader;
        let always = [around.keeper, records].into_iter();
        let fds: Vec<_> = always.chain(around.console).map(AsFd::as_fd).collect();
        socket::send(link, &Request::Hello.encode(), &fds)
    }

    /// Has it end what is gone from the directory. If it dies over that its successor does it: whoever asked
    /// us was told that it will be done.
    pub(super) fn prune(&mut self, all: bool) {
        // More need not be remembered: asked twice is not asked for more.
        if self.prunes.len() < 8 {
            self.prunes.push_back(all);
        }
        self.tell(&Request::Prune(all));
    }

    /// Whether it has done, or never been asked, what [`prune`](Self::prune) asks.
    pub(super) fn has_pruned(&self) -> bool {
        self.prunes.is_empty()
    }

    /// Tells it this and nothing more: there is no list any more.
    pub(super) fn tell_alone(&mut self, request: &Request) {
        self.list_whole = false;
        self.tell(request);
    }

    /// Tells it of all its services.
    pub(super) fn tell_everything(&mut self, names: Vec<String>) {
        self.list_whole = false;
        self.tell(&Request::Begin);
        for request in batches(names, Request::Add) {
            self.tell(&request);
        }
        self.tell(&Request::End);
        for all in self.prunes.clone() {
            self.tell(&Request::Prune(all));
        }
    }

    /// Sends a request. What the supervisor is too slow to read waits in line; if it is dead, its successor
    /// gets the whole list.
    pub(super) fn tell(&mut self, request: &Request) {
        let idle = self.unsent.is_empty();
        self.unsent.push_back(request.encode());
        if idle {
            self.send_unsent();
        }
    }

    fn send_unsent(&mut self) {
        while let (Some(link), Some(message)) = (&self.link, self.unsent.front()) {
            match socket::send(link, message, &[]) {
                Ok(()) => self.unsent.pop_front(),
                Err(Errno::AGAIN | Errno::NOBUFS) => return,
                Err(_) => {
                    self.link = None;
                    // If it was our child, its death is told in a moment.
                    let pause = Duration::from_millis(if self.child.is_some() { 200 } else { 10 });
                    self.start_at.get_or_insert(clock::mono().after(pause));
                    break;
                }
            };
        }
        if self.link.is_none() {
            self.unsent.clear();
            self.list_whole = true;
        }
    }

    /// Something happened to the connection: an answer, or (true) it is closed.
    pub(super) fn on_link(&mut self) -> bool {
        self.send_unsent();
        let mut buf = [0u8; 64];
        while let Some(link) = &self.link {
            match socket::receive(link, &mut buf) {
                Ok(message) if message.len == 0 => {
                    self.link = None;
                    if self.child.is_some() {
                        // Its death is told in a moment; if not, we connect again.
                        self.start_at.get_or_insert(clock::mono().after(Duration::from_millis(200)));
                    }
                    return true;
                }
                Ok(message) => match Reply::decode(&buf[..message.len]) {
                    Some(Reply::Pruned) => drop(self.prunes.pop_front()),
                    Some(Reply::HelloAgain) => self.misses_hello = true,
                    _ => {}
                },
                Err(_) => return false,
            }
        }
        false
    }

    /// It is dead; `status` says how, if it was our child. True: it is to be started at once; else `start_at`
    /// says when.
    pub(super) fn on_death(&mut self, status: Option<WaitStatus>) -> bool {
        self.child = None;
        self.upgrading = false;
        (self.start_at, self.verify) = (None, None);
        self.link = None;
        self.tell = true;
        self.list_whole = true;
        let now = clock::mono();
        let lived = self.started.map_or(Duration::MAX, |started| now.since(started));
        if lived >= Duration::from_secs(1) {
            (self.short_lives, self.crashes) = (0, 0);
            return true;
        }
        self.crashes += status.is_some_and(WaitStatus::is_crash) as u32;
        let pause = Duration::from_millis(10 << self.short_lives.min(6));
        self.short_lives += 1;
        self.start_at = Some(now.after(pause));
        false
    }

    /// It has ended as it was told, and is not started any more.
    pub(super) fn retire(&mut self) {
        self.start_at = None;
        self.ended = true;
    }

    /// Before somebody is reaped: whether it may be one that this supervisor waits for without being its
    /// parent.
    pub(super) fn may_wait_for_others(&mut self) -> bool {
        self.tell |= self.child.is_none_or(wait::is_dying);
        self.tell
    }

    /// Whether this is how one ends that was told to.
    pub(super) fn is_good_end(status: Option<WaitStatus>) -> bool {
        status == Some(WaitStatus::exited(0))
    }
}

/// Whether somebody holds the lock that is this file.
pub(super) fn is_held(path: &str) -> bool {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    rustix::fs::open(path, flags, FileMode::empty()).is_ok_and(|file| lock::is_locked(&file) == Ok(true))
}
