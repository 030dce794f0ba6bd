//! The container's first program: environment store, boot, the container's command, shutdown.
//!
//! Pid 1 itself is small and decides nothing that could go wrong: it reaps, keeps the scanner alive, holds
//! what must not die ([`crate::scan::reaper::Keeper`]), and starts a child for every piece of real work. What
//! is to be done when is [`phase`]; what the children do is [`boot`].

pub mod boot;
pub mod catchall;
mod command;
pub mod envstore;
pub mod legacy;
pub mod overlay;
pub mod phase;
pub mod place;
mod rubbish;
pub mod settings;
mod told;

use self::boot::Boot;
use self::command::Command;
use self::phase::{Action, Container, Event, Phase, Rules, Stage};
use self::rubbish::Rubbish;
use self::told::Told;
use crate::diag::{self, Error, Result, Trouble, Unable, code};
use crate::process::{Pid, Signal, WaitStatus};
use crate::rc::scripts::search_path;
use crate::report::took;
use crate::scan::reaper::{self, Channel, Keeper};
use crate::scan::run::{Above, HOPELESS, Options as ScanOptions};
use crate::supervise::wire::{Finish, SOCKET};
use crate::sys::signal::{self, Blocked, SignalFd, Target};
use crate::sys::spawn::{self, CArray, Spawn};
use crate::sys::{Errno, clock, env, process, socket, wait};
use crate::time::Mono;
use rustix::event::{PollFd, PollFlags, poll};
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// What the container's environment and command line ask of us.
pub struct Options {
    /// The boot.
    pub boot: Boot,
    /// The command and its arguments; empty: none.
    pub command: Vec<CString>,
    /// Nothing but the command is started.
    pub only_command: bool,
    /// From the request to stop to the exit; as long as usual, or as image and definitions ask for, if it is
    /// not said.
    pub stop_time: Option<Duration>,
    /// `S6_KILL_GRACETIME`: from the last polite signal to SIGKILL.
    pub kill_grace: Duration,
    /// Services get the container's whole environment.
    pub keep_env: bool,
    /// `S6_SYNC_DISKS`: what is in memory of file systems is written before we exit.
    pub sync_disks: bool,
}

/// Runs the container; returns its exit code.
pub fn run(options: Options, blocked: Blocked) -> Result<u8> {
    let mut init = Init::open(options, blocked)?;
    Ok(init.serve())
}

/// How long a stop takes at most: less than the 10 s after which container engines kill.
const STOP_TIME: Duration = Duration::from_secs(9);

/// How many dead strangers are remembered until it is known whether the scanner died with them.
const BATCH: usize = 256;

/// So long before the time for stopping services is up gives up who stops them.
const SAY_FIRST: Duration = Duration::from_millis(20);

/// At the very end, how often it is looked whether anybody is left.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

struct Init {
    options: Options,
    blocked: Blocked,
    container: Container,
    signals: SignalFd,
    control: OwnedFd,
    keeper: Keeper,
    keeper_end: OwnedFd,
    listener: OwnedFd,
    channel: Channel,
    /// The container's own standard input, for the command.
    input: Option<OwnedFd>,
    terminal: bool,
    workdir: String,
    scanner: Option<Pid>,
    scanner_started: Mono,
    short_lives: u32,
    /// Those among them that nobody ended with SIGKILL.
    crashes: u32,
    scanner_at: Option<Mono>,
    boot: Option<Pid>,
    stop: Option<Pid>,
    command: Option<Pid>,
    /// `S6_CMD_RECEIVE_SIGNALS`, and it runs: what would stop the container is for it to act on.
    command_gets_signals: bool,
    /// What our standard error was, if there is a catch-all logger.
    console: Option<OwnedFd>,
    /// The scanner has died once: what is reaped may be a service.
    tell: bool,
    pipe_full: bool,
    trouble: Trouble,
    exiting: bool,
    /// Some service did not stop as it was told.
    services_failed: bool,
    /// When the file of the exit code was made: what nobody else has written bears it.
    exit_code_stamp: place::Stamp,
    /// Nobody is left.
    alone: bool,
    told: Told,
    /// What an earlier run left.
    rubbish: Rubbish,
}

impl Init {
    fn open(options: Options, blocked: Blocked) -> Result<Init> {
        process::raise_nofile();
        if Pid::own().raw() != 1 {
            wait::become_subreaper().unable("become a subreaper")?;
        }
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
        let workdir = std::env::current_dir().map_or("/".into(), |d| d.to_string_lossy().into_owned());
        place::choose()?;
        let (control, rubbish) = place::prepare(&workdir)?;
        let console = catchall::begin()?;
        settle_environment(options.keep_env)?;
        let terminal = rustix::termios::isatty(rustix::stdio::stdin());
        let input = take_input(terminal);
        let scandir = place::scandir();
        rustix::process::chdir(&*scandir).unable(format_args!("chdir to {scandir}"))?;
        let listener = socket::listen(SOCKET).unable(format_args!("listen at {SOCKET}"))?;
        rustix::process::chdir("/").unable("chdir to /")?;
        let (up, down) = socket::pair().unable("make a socket pair")?;
        let channel = Channel::new().unable("make a pipe")?;
        let signals = SignalFd::open(blocked).unable("create a signal descriptor")?;
        let rules = Rules {
            has_command: !options.command.is_empty(),
            has_services: !options.only_command,
            if_boot_fails: options.boot.if_it_fails,
            stop_time: options.stop_time.unwrap_or(STOP_TIME),
            kill_grace: options.kill_grace,
        };
        let (container, todo) = Container::new(rules);
        let verbosity = options.boot.verbosity;
        let mut init = Init {
            options,
            blocked,
            container,
            signals,
            control,
            keeper: Keeper::new(up),
            keeper_end: down,
            listener,
            channel,
            input,
            terminal,
            workdir,
            scanner: None,
            scanner_started: clock::mono(),
            short_lives: 0,
            crashes: 0,
            scanner_at: None,
            boot: None,
            stop: None,
            command: None,
            command_gets_signals: false,
            console,
            tell: false,
            pipe_full: false,
            trouble: Trouble::default(),
            exiting: false,
            services_failed: false,
            exit_code_stamp: place::exit_code_stamp(),
            alone: false,
            told: Told::new(verbosity),
            rubbish,
        };
        // The boot first: everybody waits for it, and it has much to read before it needs a supervisor.
        init.obey(todo);
        if rules.has_services {
            init.start_scanner(true);
        }
        Ok(init)
    }

    fn serve(&mut self) -> u8 {
        while !self.exiting {
            self.turn();
        }
        if self.options.sync_disks {
            rustix::fs::sync();
        }
        let code = place::exit_code();
        self.told.stopped(clock::mono(), code);
        code
    }

    fn turn(&mut self) {
        // Nobody tells us of the end of a process that another namespace put here.
        let look = self.waits_for_the_end().then(|| clock::mono().after(LOOK_AGAIN));
        let now = clock::mono();
        let clean = self.has_time_to_clean().then_some(now);
        let deadline = [self.container.deadline(), self.scanner_at, self.keeper.deadline(now), look, clean]
            .into_iter()
            .flatten()
            .min();
        let timeout = deadline.map(|at| {
            let left = at.since(now);
            rustix::time::Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos() as _ }
        });
        let mut fds = vec![
            PollFd::from_borrowed_fd(self.signals.as_fd(), PollFlags::IN),
            self.keeper.poll(now),
            PollFd::new(&self.control, PollFlags::IN),
        ];
        if self.pipe_full {
            fds.push(PollFd::new(&self.channel.writer, PollFlags::OUT));
        }
        if poll(&mut fds, timeout.as_ref()).is_err() {
            return;
        }
        let hit: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        drop(fds);
        if hit[1] {
            self.keeper.serve(clock::mono());
            if self.keeper.take_missed() {
                let error = Error::unable("keep a FIFO of the supervisor", Errno::MFILE);
                self.trouble.note("keep", error, "what is in it is lost if the supervisor dies");
            }
        }
        if hit.get(3) == Some(&true) {
            self.pipe_full = false;
            self.reap();
        }
        if hit[0] {
            self.on_signals();
        }
        if hit[2] {
            self.on_control();
        }
        if self.scanner_at.is_some_and(|at| at <= clock::mono()) {
            self.scanner_at = None;
            self.start_scanner(false);
        }
        self.feed(Event::Timeout);
        if self.has_time_to_clean() {
            self.rubbish.remove_some();
        }
        self.look_for_the_end();
    }

    /// Whether there is something to be removed, and nobody waits for us.
    fn has_time_to_clean(&self) -> bool {
        self.rubbish.is_left() && !matches!(self.container.phase(), Phase::Ending { .. } | Phase::Over)
    }

    fn feed(&mut self, event: Event) {
        let now = clock::mono();
        let todo = self.container.on(now, event);
        self.obey(todo);
        self.told.note(now, self.container.phase());
    }

    // ------------------------------------------------------------------------------------ what comes

    fn on_signals(&mut self) {
        /// `SIGRTMIN+3`: systemd's "halt", and what some container engines send to stop.
        const RTMIN_3: Signal = Signal(37);
        while let Some((signal, sender)) = self.signals.next_from() {
            match signal {
                Signal::CHLD => self.reap(),
                Signal::HUP => self.signal_scanner(Signal::HUP),
                Signal::TERM | Signal::INT | Signal::QUIT | Signal::PWR | Signal::USR1 | Signal::USR2 => {
                    self.on_stop_signal(signal, sender);
                }
                Signal::WINCH | RTMIN_3 => self.on_stop_signal(signal, sender),
                _ => {}
            }
        }
    }

    fn on_stop_signal(&mut self, signal: Signal, sender: Option<Pid>) {
        if let (true, Some(pid)) = (self.command_gets_signals, self.command) {
            let _ = signal::send(Target::Process(pid), signal);
            return;
        }
        self.told.asked(match sender {
            Some(pid) => format!("{signal} from {}", process::shown(pid)),
            None => format!("{signal} received"),
        });
        self.feed(Event::StopAsked);
    }

    /// `halt`, `poweroff`, `reboot`: each ends the container. A letter, and who called. Other lines mean
    /// nothing.
    fn on_control(&mut self) {
        let mut buf = [0u8; 512];
        let Ok(n) = rustix::io::read(&self.control, &mut buf) else { return };
        let wanted = buf[..n].split(|&b| b == b'\n').find_map(|line| {
            // A service with which the container ends.
            if let Some(who) = line.strip_prefix(b"s") {
                let who = String::from_utf8_lossy(who);
                return Some(who.chars().filter(|c| !c.is_control()).collect());
            }
            let caller = line.strip_prefix(b"h").or(line.strip_prefix(b"p")).or(line.strip_prefix(b"r"))?;
            let shown: String = String::from_utf8_lossy(caller).chars().filter(|c| !c.is_control()).collect();
            Some(if shown.is_empty() { "halt".to_owned() } else { format!("halt, called by {shown}") })
        });
        if let Some(wanted) = wanted {
            self.told.asked(wanted);
            self.feed(Event::StopAsked);
        }
    }

    /// Reaps what has died. Who may be a service is told of: before it is reaped once the scanner has died,
    /// and until then only if the scanner turns out to have died in the same batch (a dead parent and its
    /// orphans become ours in one instant).
    fn reap(&mut self) {
        let mut batch: Vec<wait::Dead> = Vec::new();
        loop {
            if batch.len() >= BATCH {
                self.tell |= self.scanner.is_none_or(wait::is_dying);
                if self.tell {
                    break;
                }
                batch.clear();
            }
            let Some(dead) = (if self.tell { wait::peek() } else { wait::reap() }) else { break };
            if self.is_ours(dead.0) {
                if self.tell {
                    wait::reap_pid(dead.0);
                }
                self.on_own_death(dead);
            } else if !self.tell {
                batch.push(dead);
            } else if !reaper::tell_and_reap(&self.channel.writer, dead) {
                self.pipe_full = true;
                self.reap_own();
                break;
            }
        }
        if !batch.is_empty() {
            self.tell |= self.scanner.is_none_or(wait::is_dying);
        }
        if self.tell {
            for dead in batch {
                reaper::tell(&self.channel.writer, dead);
            }
        }
    }

    fn is_ours(&self, pid: Pid) -> bool {
        self.own().contains(&Some(pid))
    }

    fn own(&self) -> [Option<Pid>; 4] {
        [self.scanner, self.boot, self.stop, self.command]
    }

    /// Of strangers nobody can be told just now, so they stay; those who matter to ourselves may be behind them.
    fn reap_own(&mut self) {
        for pid in self.own().into_iter().flatten() {
            if let Some(dead) = wait::reap_pid_if_dead(pid) {
                self.on_own_death(dead);
            }
        }
    }

    fn on_own_death(&mut self, (pid, status): wait::Dead) {
        let pid = Some(pid);
        if pid == self.scanner {
            self.scanner = None;
            self.tell = true;
            self.on_scanner_death(status);
        } else if pid == self.boot {
            self.boot = None;
            self.heed_settings();
            self.feed(Event::BootEnded(status));
        } else if pid == self.stop {
            self.stop = None;
            self.services_failed = status != WaitStatus::exited(0);
            self.feed(Event::ServicesEnded(status));
        } else if pid == self.command {
            self.command = None;
            if std::mem::take(&mut self.command_gets_signals) {
                let _ = std::fs::remove_file(command::pid_file());
            }
            self.feed(Event::CommandEnded(status));
        }
    }

    /// What the hook, scripts and definitions say by now.
    fn heed_settings(&mut self) {
        self.container.set_if_boot_fails(settings::if_boot_fails());
        let long = |time: &Duration| *time > Duration::from_secs(3);
        let grace = settings::millis("S6_SERVICES_GRACETIME").filter(long);
        let asked = place::stop_time().unwrap_or_default() + grace.unwrap_or_default();
        let last = Some(self.options.kill_grace).filter(long).unwrap_or_default();
        // Services have at least four ninths of the whole.
        let stop_time = STOP_TIME + asked * 9 / 4 + last;
        self.container.set_stop_time(self.options.stop_time.unwrap_or(stop_time));
    }

    /// One that is killed while it ends supervision has left its work undone: another one finishes it.
    fn on_scanner_death(&mut self, status: WaitStatus) {
        let undone = self.container.awaits_scanner() && status != WaitStatus::exited(0);
        if !self.container.wants_scanner() && !undone {
            return self.feed(Event::ScannerEnded);
        }
        let now = clock::mono();
        if now.since(self.scanner_started) >= Duration::from_secs(1) {
            (self.short_lives, self.crashes) = (0, 0);
            return self.start_scanner(false);
        }
        self.crashes += status.is_crash() as u32;
        let pause = Duration::from_millis(10 << self.short_lives.min(6));
        self.short_lives += 1;
        self.scanner_at = Some(now.after(pause));
    }

    fn waits_for_the_end(&self) -> bool {
        matches!(self.container.phase(), Phase::Ending { stage: Stage::Rest | Stage::Kill, .. })
    }

    /// At the end: whether anybody is left.
    fn look_for_the_end(&mut self) {
        if self.waits_for_the_end() && self.alone() {
            self.feed(Event::NothingLeft);
        }
    }

    /// Whether nobody is left of those whom we would tell to end. To try a signal, as pid 1, makes the
    /// kernel go through all processes of the machine; /proc knows it for our namespace. What was seen once,
    /// at the very end, is not asked again.
    fn alone(&mut self) -> bool {
        self.alone = self.alone
            || match Pid::own().raw() {
                1 => !wait::have_children() && process::alone().unwrap_or_else(|| !signal::anyone_left()),
                _ => !wait::have_children(),
            };
        self.alone
    }

    // ------------------------------------------------------------------------------------ what is done

    fn obey(&mut self, todo: Vec<Action>) {
        for action in todo {
            match action {
                Action::StartBoot => self.start_boot(),
                Action::EndBoot => {
                    if let Some(pid) = self.boot {
                        let _ = signal::send(Target::Process(pid), boot::END_BOOT);
                    }
                }
                Action::KillBoot => {
                    if let Some(pid) = self.boot {
                        let _ = signal::send(Target::Process(pid), Signal::KILL);
                    }
                }
                Action::StartCommand => self.start_command(),
                Action::SignalCommand(signal) => {
                    if let Some(pid) = self.command {
                        // What it started and did not tell goes with it when it must be killed.
                        let group = signal == Signal::KILL;
                        let to = if group { Target::Group(pid) } else { Target::Process(pid) };
                        let _ = signal::send(to, signal);
                    }
                }
                Action::StopServices(until) => self.stop_services(until),
                Action::StopScanner => {
                    if self.console.is_some() {
                        process::speak_to(self.console.as_ref());
                    }
                    self.signal_scanner(Signal::TERM);
                }
                Action::SignalAll(signal) => self.signal_all(signal),
                Action::ProposeExitCode(_) if place::exit_code_stamp() != self.exit_code_stamp => {}
                Action::WriteExitCode(code) | Action::ProposeExitCode(code) => {
                    if let Err(e) = place::set_exit_code(code) {
                        diag::warn(e);
                    }
                }
                Action::SayLate(stage) => self.say_late(stage),
                Action::SayStopping(why) => self.told.stopping(clock::mono(), why),
                Action::Exit => self.exiting = true,
            }
        }
    }

    fn start_scanner(&mut self, first: bool) {
        self.scanner_at = None;
        self.scanner_started = clock::mono();
        let to_end = self.container.awaits_scanner();
        let hopeless = self.crashes >= HOPELESS;
        if hopeless && !to_end {
            diag::warn("the svscan on disk does not stay up: starting the one that we are instead");
        }
        let started = match first || to_end || hopeless {
            true => Ok(None),
            false => self.execute_scanner(),
        };
        let started = started.and_then(|executed| match executed {
            Some(pid) => Ok(pid),
            None => self.fork_scanner(to_end.then_some(Finish::Stop)).unable("fork"),
        });
        match started {
            Ok(pid) => {
                self.trouble.over("scanner");
                self.scanner = Some(pid);
            }
            Err(e) => {
                self.trouble.note("scanner", e, "retrying every second");
                self.scanner_at = Some(clock::mono().after(Duration::from_secs(1)));
            }
        }
    }

    /// What a scanner gets: at last the console, if there is one.
    fn handed_down(&self) -> Vec<BorrowedFd<'_>> {
        let always = [&self.listener, &self.keeper_end, &self.channel.reader, &self.channel.writer];
        always.into_iter().chain(&self.console).map(|fd| fd.as_fd()).collect()
    }

    fn fork_scanner(&self, ending: Option<Finish>) -> std::result::Result<Pid, Errno> {
        let blocked = self.blocked;
        let logs = self.console.is_some();
        spawn::fork(blocked, &self.handed_down(), |mut kept| {
            let console = if logs { kept.pop() } else { None };
            diag::set_program("svscan");
            process::set_title("svscan", &["svscan", &place::scandir()]);
            let Some(above) = Above::from_fds(kept) else { return code::BUG };
            if rustix::process::chdir(&*place::scandir()).is_err() {
                return code::SYSTEM;
            }
            let options = ScanOptions { above: Some(above), ending, console, ..ScanOptions::default() };
            diag::exit_code(crate::scan::run::run(options, blocked))
        })
    }

    /// Starts a scanner from the file system, which may be a newer one. `None`: that is not possible.
    fn execute_scanner(&self) -> Result<Option<Pid>> {
        let Some((program, name)) = process::sibling("svscan") else { return Ok(None) };
        let console = self.console.is_some().then(|| c"-X7".to_owned());
        let words = [name, c"--above".to_owned()].into_iter().chain(console);
        let argv =
            CArray::new(words.chain([CString::new(place::scandir()).expect("no NUL in it")]).collect());
        let fds: Vec<_> = self.handed_down().into_iter().zip(Above::FIRST_FD..).collect();
        let spawn = Spawn { fds: &fds, ..Spawn::new(std::slice::from_ref(&program), &argv) };
        match spawn.start(self.blocked) {
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

    fn signal_scanner(&mut self, signal: Signal) {
        match self.scanner {
            Some(pid) => {
                let _ = signal::send(Target::Process(pid), signal);
            }
            // It was killed a moment ago.
            None if signal == Signal::TERM && self.scanner_at.is_some() => self.start_scanner(true),
            None if signal == Signal::TERM => self.feed(Event::ScannerEnded),
            None => {}
        }
    }

    fn start_boot(&mut self) {
        let blocked = self.blocked;
        let boot = self.options.boot.clone();
        self.boot = self.fork_child("init: boot", move || {
            // Until it talks to the supervisor it ends when it is told, as any program does.
            signal::allow(boot::END_BOOT);
            boot.up(blocked)
        });
        if self.boot.is_none() {
            self.feed(Event::BootEnded(WaitStatus::exited(phase::boot_code::REFUSED)));
        }
    }

    fn stop_services(&mut self, until: Mono) {
        let blocked = self.blocked;
        let boot = self.options.boot.clone();
        // It shall be the first to say that the time is up: it knows for whom.
        let until = Mono(until.0.saturating_sub(SAY_FIRST.as_nanos() as u64));
        self.stop = self.fork_child("init: stop", move || boot.down(until, blocked));
        if self.stop.is_none() {
            self.feed(Event::ServicesEnded(WaitStatus::exited(phase::boot_code::FAILED)));
        }
    }

    fn fork_child(&self, title: &str, work: impl FnOnce() -> u8) -> Option<Pid> {
        let forked = spawn::fork(self.blocked, &[], |_| {
            process::set_title("init", &[title]);
            work()
        });
        forked.inspect_err(|e| diag::warn(Error::unable("fork", *e))).ok()
    }

    fn start_command(&mut self) {
        let command = Command {
            words: &self.options.command,
            input: self.input.as_ref(),
            terminal: self.terminal,
            workdir: &self.workdir,
        };
        match command.start(self.blocked) {
            Ok(pid) => {
                self.command = Some(pid);
                if settings::flag("S6_CMD_RECEIVE_SIGNALS") {
                    self.command_gets_signals = true;
                    let _ = std::fs::write(command::pid_file(), format!("{pid}\n"));
                }
            }
            Err((text, code)) => {
                diag::say(diag::Level::Fatal, text);
                self.told.command_not_started();
                self.feed(Event::CommandEnded(WaitStatus::exited(code)));
            }
        }
    }

    /// As pid 1 everybody; else only our own descendants, of whom the orphans are our children.
    fn signal_all(&mut self, signal: Signal) {
        if self.alone() {
            return;
        }
        if Pid::own().raw() == 1 {
            let _ = signal::send(Target::Everyone, signal);
            return;
        }
        for pid in process::descendants(Pid::own()) {
            let _ = signal::send(Target::Process(pid), signal);
        }
    }

    fn say_late(&self, stage: Stage) {
        let limit = took(self.told.in_stage(clock::mono()));
        let text = match stage {
            Stage::Boot => format!("the boot did not end within {limit}: killing it"),
            Stage::Command => {
                let who = self.command.map_or("the command".to_owned(), process::shown);
                format!("the command, {who}, did not end within {limit} of SIGTERM: killing it")
            }
            // Which they are has been said by who waits for them.
            Stage::Services => format!("services did not stop within {limit}: going on without them"),
            // It waits for those services.
            Stage::Scanner if self.services_failed => return,
            Stage::Scanner => format!("supervision did not end within {limit}: going on without it"),
            Stage::Rest => {
                format!("did not end within {limit} of SIGTERM: {}: killing what is left", self.left())
            }
            Stage::Kill => format!("cannot be killed: {}: leaving what is left", self.left()),
        };
        diag::warn(text);
    }

    /// Some of the processes that are left.
    fn left(&self) -> String {
        const MOST: usize = 5;
        let pids = match Pid::own().raw() {
            1 => process::others(),
            _ => process::descendants(Pid::own()),
        };
        let names: Vec<String> = pids.iter().take(MOST).map(|pid| process::shown(*pid)).collect();
        match pids.len() {
            0 => "processes that /proc does not show".to_owned(),
            n if n > MOST => format!("{} and {} more", names.join(", "), n - MOST),
            _ => names.join(", "),
        }
    }
}

/// Remembers the environment for `with-contenv`, and leaves to services only what they shall have.
fn settle_environment(keep: bool) -> Result<()> {
    let path = search_path(env::get("PATH").map(|p| p.to_string_lossy().into_owned()));
    let path = CString::new(format!("PATH={path}")).expect("it came without NUL");
    let rest = env::strings()
        .filter(|s| !s.to_bytes().starts_with(b"PATH=") && !s.to_bytes().starts_with(b"PERENNIAL_RUN="))
        .map(CString::from);
    let always = [Some(path), place::variable()].into_iter().flatten();
    let all: Vec<CString> = rest.chain(always.clone()).collect();
    if keep {
        env::replace(all);
        return Ok(());
    }
    let variables = all.iter().map(|s| s.as_c_str());
    let store = envstore::dir();
    envstore::Store::create(&*store, variables, |skipped| diag::warn(skipped))
        .unable(format_args!("make {store}"))?;
    env::replace(always.collect());
    settings::store_is_ours(true);
    Ok(())
}

/// Takes the container's standard input for the command; ours is /dev/null from here on. A terminal is
/// given up: the command's session will have it.
fn take_input(terminal: bool) -> Option<OwnedFd> {
    if terminal {
        process::give_up_terminal();
    }
    let input = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 16).ok();
    let null = rustix::fs::open("/dev/null", rustix::fs::OFlags::RDWR, rustix::fs::Mode::empty());
    if let Ok(null) = null {
        let _ = rustix::stdio::dup2_stdin(&null);
    }
    input
}
