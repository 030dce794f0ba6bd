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

mod pending;
mod supervisor;
pub mod upgrade;

use self::pending::Pending;
use self::supervisor::{Around, Supervisor, is_held};
use self::upgrade::{Again, Probe};
use super::control::Command;
use super::reaper::{self, Channel, Keeper};
use super::{Limits, Listing, Skipped, changes, list, loggers_first};
use crate::diag::{self, Error, Result, Trouble, Unable, code};
use crate::init::place;
use crate::ordered::Map;
use crate::ordered::map;
use crate::process::{Signal, WaitStatus};
use crate::servicedir;
use crate::supervise::place::{ISOLATED, Place};
use crate::supervise::wire::{Finish, Request, SOCKET, batches};
use crate::sys::notice::{self, Notice};
use crate::sys::signal::{self, Blocked, SignalFd};
use crate::sys::spawn::{self, CArray, Spawn};
use crate::sys::{Errno, clock, lock, process, socket, wait};
use crate::time::Mono;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode as FileMode, OFlags};
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

/// The private directory of a scan directory.
pub const DIR: &str = ".s6-svscan";
const CONTROL: &str = ".s6-svscan/control";

/// The key of the supervisor of all services that are not isolated; no service has this name.
const COMMON: &str = "";

/// An executable whose process has died at once so often, killed by nobody, is not executed any more: a fork
/// must do.
pub const HOPELESS: u32 = 3;

/// So much is shown of what is no command.
const MOST_RUBBISH: usize = 60;

/// After something appeared in the scan directory we wait this long for its author to finish writing it.
const SETTLE: Duration = Duration::from_millis(100);

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
    /// `-i`: every service has a supervisor of its own.
    pub isolate: bool,
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
        let isolate = self.isolate.then(|| "-i".to_owned());
        let mut words = vec![format!("-C{services}"), format!("-L{name}"), format!("-t{rescan}")];
        words.extend(isolate);
        words
    }
}

impl Default for Options {
    fn default() -> Options {
        Options {
            limits: Limits { services: 160_000, name: 251 },
            rescan: None,
            notify: None,
            isolate: false,
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
    signal::hand_over();
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
    pending: Pending,
    signals: SignalFd,
    /// Without it, requests must do.
    watch: Option<Notice>,
    above: Above,
    /// Ours, when nobody is above.
    keeper: Option<Keeper>,
    /// That of all services, which is [`COMMON`], and those of isolated ones by their names.
    supervisors: Map<String, Supervisor>,
    /// We are what our predecessor became: the supervisor is to follow.
    upgraded: bool,
    /// A new version is being tried.
    probe: Option<Probe>,
    /// The reapers' pipe is full.
    pipe_full: bool,
    /// None: not scanned yet.
    listing: Option<Listing>,
    /// `-t`, or an attempt that failed.
    scan_at: Option<Mono>,
    /// Something changed; when it will have settled, and when the first change was.
    settles: Option<(Mono, Mono)>,
    said: Vec<Skipped>,
    trouble: Trouble,
    /// The supervisors are to be greeted again.
    greet_at: Option<Mono>,
    /// What is no command is not told of before.
    rubbish_at: Option<Mono>,
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
            // Init starts us when our predecessor is dead.
            None => lock_scan_directory(options.above.is_some())?,
        };
        let control = match again.control_of() {
            Some(control) => control,
            None => open_control()?,
        };
        wait::become_subreaper().unable("become a subreaper")?;
        process::raise_nofile();
        let alone = options.above.is_none();
        let (above, keeper) = match options.above.take() {
            Some(above) => (above, again.keeper.take().map(Keeper::new)),
            None => {
                let (up, down) = socket::pair().unable("make a socket pair")?;
                let channel = Channel::new().unable("make a pipe")?;
                (Above { listener: None, keeper: down, channel }, Some(Keeper::new(up)))
            }
        };
        if let Ok(identity) = super::Identity::of(&control) {
            let _ = reaper::hold(&above.keeper, &control, identity, identity);
        }
        let signals = SignalFd::open(blocked).unable("create a signal descriptor")?;
        let pending = Pending::open().unable("map memory")?;
        if alone {
            // Whoever starts one that stands alone wants services to run.
            pending.forget_end();
        }
        let mut above = above;
        let mut common = Supervisor::new(Place::common());
        (common.listener, common.child) = (above.listener.take(), again.child);
        Ok(Scanner {
            blocked,
            ending: options.ending,
            options,
            base,
            lock: lock_file,
            control,
            pending,
            signals,
            watch: Notice::of_current_directory(),
            above,
            keeper,
            supervisors: map([(COMMON.to_owned(), common)]),
            upgraded,
            probe: None,
            pipe_full: false,
            listing: None,
            scan_at: None,
            settles: None,
            said: Vec::new(),
            trouble: Trouble::default(),
            greet_at: None,
            rubbish_at: None,
            abandoned: false,
            ended: false,
        })
    }

    fn serve(&mut self) -> Result<()> {
        self.start_supervisor(COMMON);
        self.find_isolated();
        self.scan(false);
        self.take_up_pending();
        if std::mem::take(&mut self.upgraded) {
            self.upgrade_supervisors();
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
        let now = clock::mono();
        let keeper_rested = self.keeper.as_ref().and_then(|keeper| keeper.deadline(now));
        let probe = self.probe_deadline();
        let due = self.supervisors.values().filter_map(Supervisor::deadline).min();
        let deadlines = [self.scan_at, self.greet_at, due, settles, keeper_rested, probe];
        let deadline = deadlines.into_iter().flatten().min();
        let timeout = deadline.map(|at| {
            let left = at.since(now);
            rustix::time::Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos() as _ }
        });
        let mut fds = Vec::with_capacity(6 + self.supervisors.len());
        let readable = PollFlags::IN;
        fds.push(PollFd::from_borrowed_fd(self.signals.as_fd(), readable));
        fds.push(PollFd::from_borrowed_fd(self.control.as_fd(), readable));
        let optional = [
            self.watch.as_ref().and_then(Notice::descriptor).map(|fd| PollFd::from_borrowed_fd(fd, readable)),
            self.keeper.as_ref().map(|keeper| keeper.poll(now)),
            self.pipe_full.then(|| PollFd::new(&self.above.channel.writer, PollFlags::OUT)),
        ];
        let at: Vec<Option<usize>> = optional
            .into_iter()
            .map(|fd| {
                fds.push(fd?);
                Some(fds.len() - 1)
            })
            .collect();
        let links = self.supervisors.iter().filter_map(|(key, s)| Some((key, s.poll()?)));
        let first_link = fds.len();
        let mut linked = Vec::new();
        for (key, fd) in links {
            linked.push(key);
            fds.push(fd);
        }
        match poll(&mut fds, timeout.as_ref()) {
            // What is short now may be there again when something happens.
            Err(Errno::INTR | Errno::NOMEM | Errno::AGAIN) => return Ok(()),
            result => result.unable("wait for events")?,
        };
        let hit = |index: Option<usize>| index.is_some_and(|i| !fds[i].revents().is_empty());
        let (signals, control) = (hit(Some(0)), hit(Some(1)));
        let (watch, keeper, pipe) = (hit(at[0]), hit(at[1]), hit(at[2]));
        let linked: Vec<String> = linked
            .into_iter()
            .zip(first_link..)
            .filter(|(_, at)| hit(Some(*at)))
            .map(|(key, _)| key.clone())
            .collect();
        drop(fds);
        if keeper && let Some(keeper) = &mut self.keeper {
            keeper.serve(clock::mono());
            if keeper.take_missed() {
                // Whoever is greeted again says again what is to be kept.
                let error = Error::unable("keep a FIFO of the supervisor", Errno::MFILE);
                self.trouble.note("keep", error, "retrying every second");
                self.greet_at = Some(clock::mono().after(Duration::from_secs(1)));
            }
        }
        if signals {
            self.on_signals();
        }
        linked.iter().for_each(|key| self.on_link(key));
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
        if self.greet_at.take_if(|at| *at <= now).is_some() {
            self.trouble.over("keep");
            for key in self.supervisors.keys().cloned().collect::<Vec<_>>() {
                self.with(&key, |supervisor, around| supervisor.greet(around));
            }
        }
        let due = |(key, s): (&String, &Supervisor)| (s.deadline()? <= now).then(|| key.clone());
        let due: Vec<String> = self.supervisors.iter().filter_map(due).collect();
        due.iter().for_each(|key| self.on_supervisor_timer(key, now));
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
                self.prune(false);
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
        let n = self.pending.read(&self.control);
        let mut unknown = String::new();
        for index in 0..n {
            let byte = self.pending.command(index);
            match Command::try_from(byte) {
                Ok(command) => self.carry_out(command),
                Err(()) => unknown.extend((byte as char).escape_default()),
            }
            self.pending.cross_out(index);
        }
        let now = clock::mono();
        if !unknown.is_empty() && self.rubbish_at.is_none_or(|at| at <= now) {
            // Whoever writes such things may have many of them.
            self.rubbish_at = Some(now.after(Duration::from_secs(1)));
            unknown.truncate(MOST_RUBBISH);
            diag::warn(format_args!("unknown commands in {CONTROL}: {unknown}"));
        }
    }

    fn carry_out(&mut self, command: Command) {
        match command {
            Command::Reap => self.reap(),
            Command::Scan => self.scan(false),
            Command::Abandon => self.on_signal(Signal::ABRT),
            Command::Rescan => self.on_signal(Signal::HUP),
            Command::Stop => self.on_stop_asked(Finish::Stop),
            Command::StopAll => self.on_stop_asked(Finish::StopAll),
            Command::Prune => self.prune(false),
            Command::PruneAll => self.prune(true),
            Command::Upgrade => self.upgrade(),
        }
    }

    /// Goes on with what a scanner that was killed left undone.
    fn take_up_pending(&mut self) {
        if let Some(all) = self.pending.prune() {
            self.prune(all);
        }
        if let Some(how) = self.pending.ending() {
            self.finish(how);
        }
        for index in 0..pending::MOST {
            if let Ok(command) = Command::try_from(self.pending.command(index)) {
                self.carry_out(command);
            }
            self.pending.cross_out(index);
        }
    }

    /// In a container that means the container: init takes everything down in order, and ends us then.
    fn on_stop_asked(&mut self, how: Finish) {
        if self.keeper.is_some() || !place::ask_to_stop("svscanctl") {
            self.finish(how);
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
            self.pending.set_ending(Some(how));
            self.ending = Some(how);
            if self.listing.as_ref().is_some_and(|listing| listing.contains_key(super::CATCH_ALL)) {
                process::speak_to(self.options.console.as_ref());
            }
            self.tell_all(&Request::Finish(how));
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
                let error = Error::unable("list the scan directory", e);
                self.trouble.note("list", error, "retrying every second");
                self.scan_at = Some(clock::mono().after(Duration::from_secs(1)));
                return;
            }
        };
        self.trouble.over("list");
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
        changes.came.iter().for_each(|name| self.isolate(name));
        for key in self.supervisors.keys().cloned().collect::<Vec<_>>() {
            let mine = |names: &Vec<String>| -> Vec<String> {
                names.iter().filter(|name| self.key_of(name) == key).cloned().collect()
            };
            let (gone, came) = (mine(&changes.gone), mine(&changes.came));
            let supervisor = self.supervisors.get_mut(&key).expect("just listed");
            if !supervisor.list_whole {
                let gone = batches(gone, Request::Gone).into_iter();
                gone.chain(batches(came, Request::Add)).for_each(|request| supervisor.tell(&request));
                if !complete_only {
                    supervisor.tell(&Request::Check);
                }
            }
            self.inform(&key);
        }
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

    // ------------------------------------------------------------------------------------ supervisors

    /// Does something with one supervisor and what it needs of us.
    fn with<T>(&mut self, key: &str, f: impl FnOnce(&mut Supervisor, &Around<'_>) -> T) -> Option<T> {
        let supervisor = self.supervisors.get_mut(key)?;
        let around = Around {
            blocked: self.blocked,
            keeper: &self.above.keeper,
            channel: &self.above.channel,
            console: self.options.console.as_ref(),
        };
        Some(f(supervisor, &around))
    }

    fn start_supervisor(&mut self, key: &str) {
        self.with(key, Supervisor::start);
        self.inform(key);
    }

    fn on_supervisor_timer(&mut self, key: &str, now: Mono) {
        if self.supervisors.get(key).is_some_and(|s| s.is_due(now)) {
            return self.start_supervisor(key);
        }
        match self.with(key, |supervisor, around| supervisor.verify(now, around)) {
            Some(false) => self.on_supervisor_death(key, None),
            _ => self.inform(key),
        }
    }

    /// Tells a supervisor that knows nothing what it has to do.
    fn inform(&mut self, key: &str) {
        if self.supervisors.get(key).is_none_or(|supervisor| !supervisor.list_whole) {
            return;
        }
        let names = self.names_of(key);
        let (ending, scanned) = (self.ending, self.listing.is_some());
        self.with(key, |supervisor, _| match ending {
            Some(how) => supervisor.tell_alone(&Request::Finish(how)),
            None if scanned => supervisor.tell_everything(names),
            None => {}
        });
    }

    /// What a supervisor has to supervise, loggers first.
    fn names_of(&self, key: &str) -> Vec<String> {
        let mut names: Vec<String> = self.listing.iter().flatten().map(|(name, _)| name.clone()).collect();
        if self.supervisors.len() > 1 {
            names.retain(|name| self.key_of(name) == key);
        }
        loggers_first(&mut names);
        names
    }

    /// Which supervisor has this service.
    fn key_of<'a>(&self, name: &'a str) -> &'a str {
        let service = name.strip_suffix("/log").unwrap_or(name);
        if self.supervisors.contains_key(service) { service } else { COMMON }
    }

    fn prune(&mut self, all: bool) {
        self.pending.add_prune(all);
        self.supervisors.values_mut().for_each(|supervisor| supervisor.prune(all));
    }

    fn tell_all(&mut self, request: &Request) {
        self.supervisors.values_mut().for_each(|supervisor| supervisor.tell(request));
    }

    /// A service that is new in the directory gets a supervisor of its own if it is to.
    fn isolate(&mut self, name: &str) {
        let service = name.strip_suffix("/log").unwrap_or(name);
        if self.supervisors.contains_key(service) || !self.is_to_be_isolated(service) {
            return;
        }
        match Supervisor::isolated(service) {
            Ok(supervisor) => {
                self.keep_records(&supervisor);
                self.supervisors.insert(service.to_owned(), supervisor);
                self.with(service, Supervisor::start);
            }
            Err(e) => diag::warn(format_args!("unable to isolate {service}: {e}")),
        }
    }

    /// What an isolated supervisor is told of the dead waits for its successor, also when we die with it.
    fn keep_records(&self, supervisor: &Supervisor) {
        if let Some((fifo, identity)) = supervisor.records() {
            let _ = reaper::hold(&self.above.keeper, fifo, identity, identity);
        }
    }

    /// It counts when supervision begins: one that is supervised with the others stays where it is.
    fn is_to_be_isolated(&self, service: &str) -> bool {
        let wanted = self.options.isolate
            || rustix::fs::access(format!("{service}/isolate"), rustix::fs::Access::EXISTS).is_ok();
        wanted && !is_held(&format!("{service}/supervise/lock"))
    }

    /// Supervisors of isolated services that another scanner left. Where one is dead and its service is gone from
    /// the directory, nobody else would take over what runs.
    fn find_isolated(&mut self) {
        let Ok(entries) = std::fs::read_dir(ISOLATED) else { return };
        for entry in entries.flatten() {
            let dir = format!("{}/{}", ISOLATED, entry.file_name().to_string_lossy());
            let Ok(name) = std::fs::read_to_string(Place::at(&dir).name_file()) else { continue };
            let gone = rustix::fs::access(&*name, rustix::fs::Access::EXISTS) == Err(Errno::NOENT);
            if !name.is_empty()
                && (gone || is_held(&Place::at(&dir).lock()))
                && let Ok(supervisor) = Supervisor::isolated(&name)
            {
                self.keep_records(&supervisor);
                self.supervisors.insert(name.clone(), supervisor);
                self.start_supervisor(&name);
            }
        }
    }

    /// A supervisor closed its connection: it is dead, or becomes its new version.
    fn on_link(&mut self, key: &str) {
        let Some(supervisor) = self.supervisors.get_mut(key) else { return };
        let is_over = supervisor.on_link();
        if std::mem::take(&mut supervisor.misses_hello) {
            self.with(key, |supervisor, around| supervisor.greet(around));
        }
        if self.supervisors.values().all(Supervisor::has_pruned) {
            self.pending.pruned();
        }
        let Some(supervisor) = self.supervisors.get_mut(key).filter(|_| is_over) else { return };
        if std::mem::take(&mut supervisor.upgrading) && supervisor.lives() {
            // It has executed its new version, which waits for us to say hello.
            self.start_supervisor(key);
        } else if supervisor.child.is_none() {
            // It was not our child: nobody will tell us how it ended.
            self.on_supervisor_death(key, None);
        }
    }

    fn on_supervisor_death(&mut self, key: &str, status: Option<WaitStatus>) {
        let nothing_to_do = key != COMMON && self.names_of(key).is_empty();
        let ending = self.ending.is_some();
        let Some(supervisor) = self.supervisors.get_mut(key) else { return };
        let at_once = supervisor.on_death(status);
        if Supervisor::is_good_end(status) && (ending || nothing_to_do) {
            supervisor.retire();
            if key != COMMON {
                let released = supervisor.records().map(|(_, identity)| identity);
                let _ = reaper::release(&self.above.keeper, released.as_slice());
                let _ = std::fs::remove_dir_all(supervisor.place.dir());
                self.supervisors.remove(key);
            }
            self.ended |= ending && self.supervisors.values().all(|s| s.ended);
        } else if at_once {
            self.start_supervisor(key);
        }
    }

    // ------------------------------------------------------------------------------------ reaping

    /// Reaps what has died. Whatever may have been a service is told of first: we may be killed here.
    fn reap(&mut self) {
        let mut died = Vec::new();
        while let Some((pid, status)) = wait::peek() {
            if let Some((key, supervisor)) = self.supervisors.iter_mut().find(|(_, s)| s.child == Some(pid)) {
                wait::reap_pid(pid);
                died.push((key.clone(), status));
                supervisor.tell = true;
                supervisor.child = None;
                continue;
            }
            if self.is_probe(pid) {
                wait::reap_pid(pid);
                self.on_probe_end(status);
                continue;
            }
            if !self.tell((pid, status)) {
                self.pipe_full = true;
                // A supervisor that died, and so reads nothing, may be behind those who stay.
                for (key, supervisor) in &mut self.supervisors {
                    if let Some((_, status)) = supervisor.child.and_then(wait::reap_pid_if_dead) {
                        died.push((key.clone(), status));
                        supervisor.tell = true;
                        supervisor.child = None;
                    }
                }
                break;
            }
            wait::reap_pid(pid);
        }
        for (key, status) in died {
            self.on_supervisor_death(&key, Some(status));
        }
    }

    /// Tells whoever may wait for it of a death. False: it could not be told.
    fn tell(&mut self, dead: wait::Dead) -> bool {
        let mut told = true;
        for supervisor in self.supervisors.values_mut().filter_map(|s| s.may_wait_for_others().then_some(s)) {
            match &supervisor.channel {
                None => told &= reaper::tell(&self.above.channel.writer, dead),
                // One that does not read must not keep the others waiting; it learns it from the kernel.
                Some(own) => drop(reaper::tell(&own.writer, dead)),
            }
        }
        told
    }

    // ------------------------------------------------------------------------------------ the end

    fn end(&mut self) -> u8 {
        if !self.abandoned {
            self.pending.set_ending(None);
        }
        let program = CString::new(format!("{DIR}/finish")).expect("no NUL in it");
        let argv = CArray::new(vec![program.clone()]);
        self.watch = None;
        signal::hand_over();
        if self.keeper.is_some() && !self.abandoned {
            let _ = rustix::fs::unlink(SOCKET);
            let _ = std::fs::remove_dir(ISOLATED);
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

fn lock_scan_directory(takes_over: bool) -> Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = rustix::fs::open(format!("{DIR}/lock"), flags, FileMode::from_raw_mode(0o600))
        .unable(format_args!("open {DIR}/lock"))?;
    let lock = if takes_over { lock::take_over } else { lock::try_lock };
    match lock(&file).unable(format_args!("lock {DIR}/lock"))? {
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
