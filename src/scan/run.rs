//! The scanner: watches the scan directory, tells the supervisor what came and went, keeps it alive, and
//! reaps what it left.
//!
//! # Being killed, and others being killed
//!
//! The supervisor is a child. When it dies its services become our children (we are a subreaper) and we
//! start a successor, which takes them over; until then, and for ever after for those it took over, we tell
//! it how they end ([`super::reaper`]). When *we* die the supervisor goes on; the next scanner connects to
//! it. What must outlive both is held by whoever is above: init gives us the listening socket, the keeper's
//! socket and the reapers' pipe. Standing alone we make them ourselves.
//!
//! # The first supervisor is a fork
//!
//! It is the same executable, so there is nothing to execute. Its successors are executed from the file
//! system, so that an upgrade is one `kill`; if the file is gone, a fork must do.

pub mod upgrade;

use self::upgrade::{Again, Probe};
use super::reaper::{self, Channel, Keeper};
use super::{Limits, Listing, Skipped, changes, client, list, loggers_first};
use crate::diag::{self, Error, Result, Unable, code};
use crate::process::{Pid, Signal, WaitStatus};
use crate::servicedir;
use crate::supervise::wire::{Finish, Request, SOCKET, batches};
use crate::supervise::{self, Mode};
use crate::sys::notice::{self, Notice};
use crate::sys::signal::{self, Blocked, SignalFd};
use crate::sys::spawn::{self, CArray, Spawn};
use crate::sys::{Errno, clock, lock, process, socket, wait};
use crate::time::Mono;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode as FileMode, OFlags};
use std::collections::VecDeque;
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

/// The private directory of a scan directory.
pub const DIR: &str = ".s6-svscan";
const CONTROL: &str = ".s6-svscan/control";

/// Held by the supervisor for as long as it lives.
pub const SUPERVISE_LOCK: &str = ".s6-svscan/supervise-lock";

/// An executable whose process has died at once so often is not executed any more: a fork must do.
pub const HOPELESS: u32 = 3;

/// After something appeared in the scan directory we wait this long for its author to finish writing it.
const SETTLE: Duration = Duration::from_millis(100);

/// Whether a supervisor that is not our child really lives is looked at again after this, then at doubling
/// intervals up to [`VERIFY_LAST`], and no more: from then on its connection tells.
const VERIFY_FIRST: Duration = Duration::from_millis(20);
const VERIFY_LAST: Duration = Duration::from_secs(3);

/// What a scanner gets from init, and makes for itself when it stands alone.
pub struct Above {
    /// Where the supervisor listens. None: it is made with the supervisor.
    pub listener: Option<OwnedFd>,
    /// Where the keeper takes what it shall keep.
    pub keeper: OwnedFd,
    /// How reapers tell of the dead.
    pub channel: Channel,
}

impl Above {
    /// The numbers under which an executed scanner finds what it is given begin here.
    pub const FIRST_FD: i32 = 3;

    /// Four descriptors in the order listener, keeper, reader, writer.
    pub fn from_fds(fds: Vec<OwnedFd>) -> Option<Above> {
        let [listener, keeper, reader, writer] = <[OwnedFd; 4]>::try_from(fds).ok()?;
        Some(Above { listener: Some(listener), keeper, channel: Channel { reader, writer } })
    }
}

/// How to scan.
pub struct Options {
    /// What there may be.
    pub limits: Limits,
    /// `-t`: rescan this often.
    pub rescan: Option<Duration>,
    /// `-d`: say that commands are taken.
    pub notify: Option<OwnedFd>,
    /// `-X`: what the catch-all logger has as descriptor 2, and we ourselves once it is to end.
    pub console: Option<OwnedFd>,
    /// What init gave, or our predecessor.
    pub above: Option<Above>,
    /// Supervision is ending: it takes the place of a scanner that was killed while it ended it.
    pub ending: Option<Finish>,
    /// What our predecessor gave: we are an upgrade of it.
    pub again: Option<Again>,
}

impl Options {
    /// The same as words of the command line, as far as they hold for a successor too.
    fn words(&self) -> Vec<String> {
        let Limits { services, name } = self.limits;
        let rescan = self.rescan.map_or(0, |pause| pause.as_millis());
        vec![format!("-C{services}"), format!("-L{name}"), format!("-t{rescan}")]
    }
}

impl Default for Options {
    fn default() -> Options {
        Options {
            limits: Limits { services: 160_000, name: 251 },
            rescan: None,
            notify: None,
            console: None,
            above: None,
            ending: None,
            again: None,
        }
    }
}

/// Scans the current directory until told to end; returns the exit code, or becomes
/// `.s6-svscan/finish`.
pub fn run(options: Options, blocked: Blocked) -> Result<u8> {
    let mut scanner = Scanner::open(options, blocked)?;
    // From here on an error is no reason to end. What nobody foresaw is.
    std::panic::set_hook(Box::new(|bug| {
        crash(Error::new(code::BUG, bug.to_string()));
    }));
    match scanner.serve() {
        Ok(()) => Ok(scanner.end()),
        Err(e) => crash(e),
    }
}

/// Becomes `.s6-svscan/crash`, which the user wrote for a scanner that cannot go on.
fn crash(why: Error) -> ! {
    diag::say(diag::Level::Fatal, why);
    let program = CString::new(format!("{DIR}/crash")).expect("no NUL in it");
    let argv = CArray::new(vec![program.clone()]);
    signal::unblock_all();

    let errno = spawn::exec(std::slice::from_ref(&program), &argv, None);
    diag::say(diag::Level::Fatal, Error::unable(format_args!("execute {DIR}/crash"), errno));
    spawn::exit(if errno == Errno::NOENT { code::NOT_FOUND } else { code::NOT_EXECUTABLE })
}

struct Scanner {
    blocked: Blocked,
    options: Options,
    base: OwnedFd,
    lock: OwnedFd,
    control: OwnedFd,
    signals: SignalFd,
    /// Without it, requests must do.
    watch: Option<Notice>,
    above: Above,
    /// Ours, when nobody is above.
    keeper: Option<Keeper>,
    /// The supervisor, if it is our child.
    child: Option<Pid>,
    /// We are what our predecessor became: the supervisor is to follow.
    upgraded: bool,
    /// The supervisor was asked to follow: it closes its connections without dying.
    upgrading: bool,
    /// A new version is being tried.
    probe: Option<Probe>,
    /// Our connection to it.
    link: Option<OwnedFd>,
    /// What it was too slow to read.
    unsent: VecDeque<Vec<u8>>,
    started: Option<Mono>,
    /// Deaths of supervisors that did not live for a second.
    short_lives: u32,
    start_at: Option<Mono>,
    /// When it is looked again whether a supervisor that is not our child lives, and the pause after that.
    verify: Option<(Mono, Duration)>,
    /// Some process may be a service: it is told of before it is reaped.
    tell: bool,
    /// The reapers' pipe is full.
    pipe_full: bool,
    /// None: not scanned yet.
    listing: Option<Listing>,
    /// Nothing is known of what the supervisor knows: it must get the whole list.
    list_whole: bool,
    /// `-t`, or an attempt that failed.
    scan_at: Option<Mono>,
    /// Something changed; when it will have settled, and when the first change was.
    settles: Option<(Mono, Mono)>,
    said: Vec<Skipped>,
    ending: Option<Finish>,
    /// It ends without its supervisor.
    abandoned: bool,
    ended: bool,
}

impl Scanner {
    fn open(mut options: Options, blocked: Blocked) -> Result<Scanner> {
        let base = servicedir::open(rustix::fs::CWD, ".").unable("open the scan directory")?;
        match rustix::fs::mkdir(DIR, FileMode::from_raw_mode(0o700)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(e) => return Err(Error::unable(format_args!("make {DIR}"), e)),
        }
        let upgraded = options.again.is_some();
        let mut again = options.again.take().unwrap_or_default();
        let lock_file = match again.lock_of() {
            Some(held) => held,
            None => lock_scan_directory()?,
        };
        let control = match again.control_of() {
            Some(control) => control,
            None => open_control()?,
        };
        wait::become_subreaper().unable("become a subreaper")?;
        process::raise_nofile();
        let (above, keeper) = match options.above.take() {
            Some(above) => (above, again.keeper.take().map(Keeper::new)),
            None => {
                let (up, down) = socket::pair().unable("make a socket pair")?;
                let channel = Channel::new().unable("make a pipe")?;
                (Above { listener: None, keeper: down, channel }, Some(Keeper::new(up)))
            }
        };
        if let Ok(identity) = super::Identity::of(&control) {
            let _ = reaper::hold(&above.keeper, &control, identity);
        }
        let signals = SignalFd::open(blocked).unable("create a signal descriptor")?;
        Ok(Scanner {
            blocked,
            ending: options.ending,
            options,
            base,
            lock: lock_file,
            control,
            signals,
            watch: Notice::of_current_directory(),
            above,
            keeper,
            child: again.child,
            upgraded,
            upgrading: false,
            probe: None,
            link: None,
            unsent: VecDeque::new(),
            started: None,
            short_lives: 0,
            start_at: None,
            verify: None,
            tell: false,
            pipe_full: false,
            listing: None,
            list_whole: true,
            scan_at: None,
            settles: None,
            said: Vec::new(),
            abandoned: false,
            ended: false,
        })
    }

    fn serve(&mut self) -> Result<()> {
        self.start_supervisor();
        self.scan(false);
        if std::mem::take(&mut self.upgraded) {
            self.upgrade_supervisor();
        }
        if let Some(fd) = self.options.notify.take() {
            let _ = rustix::io::write(&fd, b"\n");
        }
        while !self.ended {
            self.turn()?;
        }
        Ok(())
    }

    fn turn(&mut self) -> Result<()> {
        let settles = self.settles.map(|(at, _)| at);
        let keeper_rested = self.keeper.as_ref().and_then(Keeper::deadline);
        let verify = self.verify.map(|(at, _)| at);
        let probe = self.probe_deadline();
        let deadlines = [self.scan_at, self.start_at, settles, verify, keeper_rested, probe];
        let deadline = deadlines.into_iter().flatten().min();
        let now = clock::mono();
        let timeout = deadline.map(|at| {
            let left = at.since(now);
            rustix::time::Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos() as _ }
        });
        let mut fds = Vec::with_capacity(6);
        let readable = PollFlags::IN;
        fds.push(PollFd::from_borrowed_fd(self.signals.as_fd(), readable));
        fds.push(PollFd::from_borrowed_fd(self.control.as_fd(), readable));
        let link = if self.unsent.is_empty() { readable } else { readable | PollFlags::OUT };
        let optional = [
            self.watch.as_ref().and_then(Notice::descriptor).map(|fd| PollFd::from_borrowed_fd(fd, readable)),
            self.link.as_ref().map(|fd| PollFd::new(fd, link)),
            self.keeper.as_mut().map(|keeper| keeper.poll(now)),
            self.pipe_full.then(|| PollFd::new(&self.above.channel.writer, PollFlags::OUT)),
        ];
        let at: Vec<Option<usize>> = optional
            .into_iter()
            .map(|fd| {
                fds.push(fd?);
                Some(fds.len() - 1)
            })
            .collect();
        match poll(&mut fds, timeout.as_ref()) {
            // What is short now may be there again when something happens.
            Err(Errno::INTR | Errno::NOMEM | Errno::AGAIN) => return Ok(()),
            result => result.unable("wait for events")?,
        };
        let hit = |index: Option<usize>| index.is_some_and(|i| !fds[i].revents().is_empty());
        let (signals, control) = (hit(Some(0)), hit(Some(1)));
        let (watch, link, keeper, pipe) = (hit(at[0]), hit(at[1]), hit(at[2]), hit(at[3]));
        drop(fds);
        if keeper && let Some(keeper) = &mut self.keeper {
            keeper.serve(clock::mono());
        }
        if signals {
            self.on_signals();
        }
        if link {
            self.on_link();
        }
        if pipe {
            self.pipe_full = false;
            self.reap();
        }
        if control {
            self.on_control();
        }
        if watch {
            self.on_change();
        }
        self.run_timers();
        Ok(())
    }

    fn run_timers(&mut self) {
        let now = clock::mono();
        if self.start_at.is_some_and(|at| at <= now) {
            self.start_at = None;
            self.start_supervisor();
        }
        if self.verify.is_some_and(|(at, _)| at <= now) {
            self.verify_supervisor(now);
        }
        if self.scan_at.is_some_and(|at| at <= now) {
            self.scan(false);
        }
        self.check_probe(now);
        if self.settles.is_some_and(|(at, _)| at <= now) {
            self.settles = None;
            self.scan(true);
        }
    }

    // ------------------------------------------------------------------------------------ commands

    fn on_signals(&mut self) {
        while let Some(signal) = self.signals.next() {
            if signal == Signal::CHLD {
                self.reap();
            } else if signal == notice::SIGNAL {
                self.on_change();
            } else if !self.run_script(signal) {
                self.on_signal(signal);
            }
        }
    }

    fn on_signal(&mut self, signal: Signal) {
        match signal {
            Signal::ALRM => self.scan(false),
            Signal::ABRT => self.abandon(),
            Signal::HUP => {
                self.scan(false);
                self.tell_supervisor(&Request::Prune(false));
            }
            Signal::INT | Signal::TERM => self.finish(Finish::Stop),
            Signal::QUIT => self.finish(Finish::StopAll),
            _ => {}
        }
    }

    /// Runs `.s6-svscan/SIGNAME` in place of what the signal does by default, if it is there.
    fn run_script(&mut self, signal: Signal) -> bool {
        const OPEN_TO_SCRIPTS: [Signal; 8] = [
            Signal::HUP,
            Signal::INT,
            Signal::TERM,
            Signal::QUIT,
            Signal::USR1,
            Signal::USR2,
            Signal::PWR,
            Signal::WINCH,
        ];
        let path = format!("{DIR}/{signal}");
        use rustix::fs::{Access, access};
        if !OPEN_TO_SCRIPTS.contains(&signal) || access(&path, Access::EXEC_OK).is_err() {
            return false;
        }
        let program = CString::new(path.clone()).expect("no NUL in it");
        let argv = CArray::new(vec![program.clone()]);
        match Spawn::new(&[program], &argv).start(self.blocked) {
            Ok(_) => true,
            Err(e) => {
                diag::warn(Error::unable(format_args!("execute {path}"), e.errno));
                false
            }
        }
    }

    fn on_control(&mut self) {
        let mut buf = [0u8; 64];
        let Ok(n) = rustix::io::read(&self.control, &mut buf) else { return };
        for byte in &buf[..n] {
            match *byte {
                b'z' => self.reap(),
                b'a' => self.scan(false),
                b'b' => self.on_signal(Signal::ABRT),
                b'h' => self.on_signal(Signal::HUP),
                b'i' | b't' => self.finish(Finish::Stop),
                b'q' => self.finish(Finish::StopAll),
                b'n' => self.tell_supervisor(&Request::Prune(false)),
                b'N' => self.tell_supervisor(&Request::Prune(true)),
                client::UPGRADE => self.upgrade(),
                byte => diag::warn(format_args!("unknown command {:?} in {CONTROL}", byte as char)),
            }
        }
    }

    /// Something changed in the scan directory. Its author may not be done.
    fn on_change(&mut self) {
        self.watch.iter().for_each(Notice::drain);
        let now = clock::mono();
        let first = self.settles.map_or(now, |(_, first)| first);
        // A stream of changes must not put it off for ever.
        self.settles = Some((now.after(SETTLE).min(first.after(SETTLE * 10)), first));
    }

    fn finish(&mut self, how: Finish) {
        if self.ending != Some(how) {
            self.ending = Some(how);
            if self.listing.as_ref().is_some_and(|listing| listing.contains_key(super::CATCH_ALL)) {
                process::speak_to(self.options.console.as_ref());
            }
            self.tell_supervisor(&Request::Finish(how));
        }
    }

    /// Ends at once. The supervisor goes on, as it does when we are killed; the next scanner finds it.
    fn abandon(&mut self) {
        self.abandoned = true;
        self.ended = true;
    }

    // ------------------------------------------------------------------------------------ scanning

    /// Lists the directory and tells the supervisor what has changed.
    fn scan(&mut self, complete_only: bool) {
        self.scan_at = self.options.rescan.map(|pause| clock::mono().after(pause));
        if self.ending.is_some() {
            return;
        }
        let mut skipped = Vec::new();
        let mut listing = match list(&self.base, self.options.limits, complete_only, |s| skipped.push(s)) {
            Ok(listing) => listing,
            Err(e) => {
                diag::warn(format_args!(
                    "{} (retrying in 1 second)",
                    Error::unable("list the scan directory", e)
                ));
                self.scan_at = Some(clock::mono().after(Duration::from_secs(1)));
                return;
            }
        };
        self.complain(skipped);
        let old = self.listing.take().unwrap_or_default();
        if complete_only {
            // What is supervised already stays so, complete or not.
            for (name, identity) in &old {
                if !listing.contains_key(name) && still_there(&self.base, name) == Some(*identity) {
                    listing.insert(name.clone(), *identity);
                }
            }
        }
        let changes = changes(&old, &listing);
        self.listing = Some(listing);
        if self.list_whole {
            self.tell_everything();
            return;
        }
        for request in
            batches(changes.gone, Request::Gone).into_iter().chain(batches(changes.came, Request::Add))
        {
            self.tell_supervisor(&request);
        }
        if !complete_only {
            self.tell_supervisor(&Request::Check);
        }
    }

    fn tell_everything(&mut self) {
        self.list_whole = false;
        let mut names: Vec<String> = self.listing.iter().flatten().map(|(name, _)| name.clone()).collect();
        loggers_first(&mut names);
        self.tell_supervisor(&Request::Begin);
        for request in batches(names, Request::Add) {
            self.tell_supervisor(&request);
        }
        self.tell_supervisor(&Request::End);
    }

    /// Says what was left out, once as long as it stays the same.
    fn complain(&mut self, skipped: Vec<Skipped>) {
        for one in skipped.iter().filter(|s| !self.said.contains(s)) {
            match one {
                Skipped::LongName(name) => diag::warn(format_args!(
                    "{name} is not supervised: its name is longer than {} bytes (-L)",
                    self.options.limits.name
                )),
                Skipped::TooMany(most) => {
                    diag::warn(format_args!("more than {most} services (-C): the rest is not supervised"));
                }
                Skipped::Unreadable(name, e) => {
                    diag::warn(format_args!("{name} is not supervised: {}", diag::reason(*e)));
                }
                Skipped::OddName(name) => {
                    diag::warn(format_args!("{name} is not supervised: its name is not UTF-8"));
                }
            }
        }
        self.said = skipped;
    }

    // ------------------------------------------------------------------------------------ the supervisor

    fn start_supervisor(&mut self) {
        self.start_at = None;
        if let Err(e) = self.try_start_supervisor() {
            diag::warn(format_args!("{e} (retrying in 1 second)"));
            self.start_at = Some(clock::mono().after(Duration::from_secs(1)));
        }
    }

    fn try_start_supervisor(&mut self) -> Result<()> {
        if supervisor_lives() {
            // Another scanner's child: its services are told of by whoever reaps them.
            self.tell = true;
            self.verify = Some((clock::mono().after(VERIFY_FIRST), VERIFY_FIRST * 2));
            let _ = self.connect();
            return Ok(());
        }
        self.verify = None;
        if self.above.listener.is_none() || rustix::fs::access(SOCKET, rustix::fs::Access::EXISTS).is_err() {
            let listener = socket::listen(SOCKET).unable(format_args!("listen at {SOCKET}"))?;
            self.above.listener = Some(listener);
        }
        let first = self.started.is_none();
        self.started = Some(clock::mono());
        let hopeless = self.short_lives >= HOPELESS;
        if hopeless {
            diag::warn("the supervisor on disk does not stay up: starting the one that we are instead");
        }
        let executed = if first || hopeless { None } else { self.execute_supervisor() };
        self.child = Some(match executed {
            Some(pid) => pid,
            None => self.fork_supervisor().unable("fork")?,
        });
        self.list_whole = true;
        if let Err(e) = self.connect() {
            diag::warn(e);
        }
        Ok(())
    }

    /// A supervisor that seems to live may be dead: its lock goes a moment after its sockets, and a child that
    /// it was making when it was killed holds it until it executes. Nobody would tell us.
    fn verify_supervisor(&mut self, now: Mono) {
        let Some((_, pause)) = self.verify.take() else { return };
        if !supervisor_lives() {
            return self.on_supervisor_death(None);
        }
        if pause <= VERIFY_LAST {
            self.verify = Some((now.after(pause), pause * 2));
        }
        if self.link.is_none()
            && let Err(e) = self.connect()
            && pause > VERIFY_LAST
        {
            diag::warn(e);
        }
    }

    fn fork_supervisor(&self) -> std::result::Result<Pid, Errno> {
        let blocked = self.blocked;
        let keep: Vec<_> = self.above.listener.iter().map(|l| l.as_fd()).collect();
        spawn::fork(blocked, &keep, |kept| {
            drop(std::panic::take_hook());
            diag::set_program("supervise");
            process::set_title("supervise", &["supervise", "--listen", "."]);
            let mode = Mode::Many { listener: kept.into_iter().next(), lock: None };
            diag::exit_code(supervise::run(mode, blocked))
        })
    }

    /// Starts a supervisor from the file system, which may be a newer one.
    fn execute_supervisor(&self) -> Option<Pid> {
        let (program, name) = process::sibling("supervise")?;
        let argv = CArray::new(vec![name, c"--listen".to_owned(), c".".to_owned()]);
        let fds: Vec<_> = self.above.listener.iter().map(|l| (l.as_fd(), supervise::LISTEN_FD)).collect();
        let spawn = Spawn { fds: &fds, ..Spawn::new(std::slice::from_ref(&program), &argv) };
        spawn
            .start(self.blocked)
            .inspect_err(|e| {
                let shown = program.to_string_lossy();
                diag::warn(Error::unable(format_args!("execute {shown}"), e.errno));
            })
            .ok()
    }

    /// Connects to the supervisor, hands over what it needs, and tells it everything.
    fn connect(&mut self) -> Result<()> {
        self.link = None;
        self.unsent.clear();
        let link = socket::connect(SOCKET).unable(format_args!("connect to {SOCKET}"))?;
        let always = [&self.above.keeper, &self.above.channel.reader];
        let fds: Vec<_> = always.into_iter().chain(&self.options.console).map(AsFd::as_fd).collect();
        socket::send(&link, &Request::Hello.encode(), &fds).unable(format_args!("write to {SOCKET}"))?;
        self.link = Some(link);
        if let Some(how) = self.ending {
            self.tell_supervisor(&Request::Finish(how));
        } else if self.listing.is_some() {
            self.tell_everything();
        }
        Ok(())
    }

    /// Sends a request. What the supervisor is too slow to read waits in line; if it is dead, its successor
    /// gets the whole list.
    fn tell_supervisor(&mut self, request: &Request) {
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
                    break;
                }
            };
        }
        if self.link.is_none() {
            self.unsent.clear();
            self.list_whole = true;
        }
    }

    /// The supervisor closed the connection: it is dead. It says nothing that we need to hear.
    fn on_link(&mut self) {
        self.send_unsent();
        let Some(link) = &self.link else { return };
        let mut buf = [0u8; 64];
        if !matches!(socket::receive(link, &mut buf), Ok(message) if message.len == 0) {
            return;
        }
        self.link = None;
        if std::mem::take(&mut self.upgrading) && supervisor_lives() {
            // It has executed its new version, which waits for us to say hello.
            self.start_supervisor();
        } else if self.child.is_none() {
            // It was not our child: nobody will tell us how it ended.
            self.on_supervisor_death(None);
        }
    }

    fn on_supervisor_death(&mut self, status: Option<WaitStatus>) {
        self.child = None;
        self.upgrading = false;
        self.link = None;
        self.tell = true;
        self.list_whole = true;
        if self.ending.is_some() && status == Some(WaitStatus::exited(0)) {
            self.ended = true;
            return;
        }
        let now = clock::mono();
        let lived = self.started.map_or(Duration::MAX, |started| now.since(started));
        if lived >= Duration::from_secs(1) {
            self.short_lives = 0;
            return self.start_supervisor();
        }
        let pause = Duration::from_millis(10 << self.short_lives.min(6));
        self.short_lives += 1;
        self.start_at = Some(now.after(pause));
    }

    // ------------------------------------------------------------------------------------ reaping

    /// Reaps what has died. Whatever may have been a service is told of first: we may be killed here.
    fn reap(&mut self) {
        let mut died = None;
        while let Some((pid, status)) = wait::peek() {
            if Some(pid) == self.child {
                wait::reap_pid(pid);
                died = Some(status);
                self.tell = true;
                self.child = None;
                continue;
            }
            if self.is_probe(pid) {
                wait::reap_pid(pid);
                self.on_probe_end(status);
                continue;
            }
            self.tell |= self.child.is_none_or(wait::is_dying);
            if !self.tell {
                wait::reap_pid(pid);
            } else if !reaper::tell_and_reap(&self.above.channel.writer, (pid, status)) {
                self.pipe_full = true;
                break;
            }
        }
        if let Some(status) = died {
            self.on_supervisor_death(Some(status));
        }
    }

    // ------------------------------------------------------------------------------------ the end

    fn end(&mut self) -> u8 {
        let program = CString::new(format!("{DIR}/finish")).expect("no NUL in it");
        let argv = CArray::new(vec![program.clone()]);
        // What is pending must not end us when it is let through.
        self.watch = None;
        signal::ignore(notice::SIGNAL);
        signal::set_default(notice::SIGNAL);
        signal::unblock_all();
        if self.keeper.is_some() && !self.abandoned {
            let _ = rustix::fs::unlink(SOCKET);
        }
        if self.options.console.is_some() {
            process::speak_to(self.options.console.as_ref());
        }
        match spawn::exec(std::slice::from_ref(&program), &argv, None) {
            Errno::NOENT => code::OK,
            e => diag::exit_code(Err(Error::unable(format_args!("execute {DIR}/finish"), e))),
        }
    }
}

/// Whether a supervisor of this scan directory is alive, whoever's child it is.
fn supervisor_lives() -> bool {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    rustix::fs::open(SUPERVISE_LOCK, flags, FileMode::empty()).is_ok_and(|f| lock::is_locked(&f) == Ok(true))
}

fn lock_scan_directory() -> Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = rustix::fs::open(format!("{DIR}/lock"), flags, FileMode::from_raw_mode(0o600))
        .unable(format_args!("open {DIR}/lock"))?;
    match lock::try_lock(&file).unable(format_args!("lock {DIR}/lock"))? {
        true => Ok(file),
        false => Err(Error::usage(format!("unable to lock {DIR}/lock: another svscan is at work"))),
    }
}

fn open_control() -> Result<OwnedFd> {
    match rustix::fs::mknodat(
        rustix::fs::CWD,
        CONTROL,
        rustix::fs::FileType::Fifo,
        FileMode::from_raw_mode(0o600),
        0,
    ) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(e) => return Err(Error::unable(format_args!("make {CONTROL}"), e)),
    }
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    rustix::fs::open(CONTROL, flags, FileMode::empty()).unable(format_args!("open {CONTROL}"))
}

fn still_there(base: &OwnedFd, name: &str) -> Option<super::Identity> {
    let dir = servicedir::open(base, name).ok()?;
    super::Identity::of(&dir).ok()
}
