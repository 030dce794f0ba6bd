//! What the tests with real programs stand on: a world in a temporary directory, programs started in it, the
//! services in it, and facts to wait for. [`runner`] gives each scenario a process of its own and leaves no
//! process behind.
//!
//! Nobody waits for a duration: a fact is looked for until it is there, and a deadline far longer than it
//! needs says that it never will be.

// Each test program uses a part of this.
#![allow(dead_code)]

pub mod clock;
pub mod interop;
pub mod killer;
pub mod refuse;
pub mod runner;

use perennial::servicedir::event::{self, Audience, Listener};
use perennial::servicedir::state::State;
use perennial::servicedir::tally::Death;
use perennial::sys::lock;
use rustix::fs::{CWD, Mode, OFlags};
use rustix::process::{Pid, Signal, kill_process};
use std::cell::RefCell;
use std::fmt::Debug;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A fact may take this long to become true, a program this long to end. Far longer than either needs: the
/// machine may be busy.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A service that sleeps.
pub const SLEEP: &str = "exec sleep 1000";

/// Programs: where they are, and what stands before their names.
#[derive(Clone, Debug)]
pub struct Programs {
    /// The directory.
    pub dir: PathBuf,
    /// `s6-`, or nothing.
    pub prefix: &'static str,
}

impl Programs {
    /// All programs that `executable`, a `perennial`, contains: links to it in a new directory.
    pub fn link(executable: &str, dir: PathBuf, prefix: &'static str) -> Programs {
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        let list = Command::new(executable).arg("list").output().unwrap().stdout;
        for name in String::from_utf8(list).unwrap().lines() {
            symlink(executable, dir.join(format!("{prefix}{name}"))).unwrap();
        }
        Programs { dir, prefix }
    }

    /// The path of a program.
    pub fn path(&self, program: &str) -> PathBuf {
        self.dir.join(format!("{}{program}", self.prefix))
    }
}

/// One scenario's world.
pub struct World {
    /// Whose clients are tried.
    clients: Programs,
    /// Whose supervisors they speak to.
    daemons: Programs,
    /// The temporary directory, which is also our working directory.
    pub base: PathBuf,
    services: RefCell<Vec<String>>,
}

/// What a program did.
#[derive(Debug)]
pub struct Ran {
    /// Its exit code.
    pub code: i32,
    /// What it wrote to standard output.
    pub out: String,
    /// What it wrote to standard error.
    pub err: String,
}

impl World {
    /// One in the current directory, which is empty.
    pub fn new(clients: Programs, daemons: Programs) -> World {
        fs::create_dir_all("scan").unwrap();
        World { clients, daemons, base: std::env::current_dir().unwrap(), services: RefCell::default() }
    }

    // ------------------------------------------------------------------------------------ services

    /// Makes the service `scan/NAME` with this shell script as run.
    pub fn service(&self, name: &str, run: &str) -> Service {
        let path = format!("scan/{name}");
        self.services.borrow_mut().push(path.clone());
        self.service_at(&path, run)
    }

    /// Makes a service directory anywhere.
    pub fn service_at(&self, path: &str, run: &str) -> Service {
        let service = Service { path: path.to_owned() };
        fs::create_dir_all(path).unwrap();
        service.script("run", run);
        service
    }

    /// One that is there.
    pub fn at(&self, path: &str) -> Service {
        Service { path: path.to_owned() }
    }

    // ------------------------------------------------------------------------------------ programs

    /// A program, to be started in this world.
    pub fn command(&self, programs: &Programs, program: &str) -> Command {
        let mut command = Command::new(programs.path(program));
        let path = format!("{}:/usr/bin:/bin", self.daemons.dir.display());
        command.env("PATH", path).env("BASE", &self.base).env_remove("EXECLINE_STRICT");
        command.stdin(Stdio::null());
        command
    }

    /// A path to a client program, for scripts.
    pub fn client(&self, program: &str) -> String {
        self.clients.path(program).display().to_string()
    }

    /// A path to a program that supervises, for scripts.
    pub fn daemon(&self, program: &str) -> String {
        self.daemons.path(program).display().to_string()
    }

    /// Runs a client program to its end.
    pub fn run(&self, program: &str, args: &[&str]) -> Ran {
        self.start(program, args).end()
    }

    /// Runs a client program, which must succeed; what it printed.
    pub fn ok(&self, program: &str, args: &[&str]) -> String {
        let ran = self.run(program, args);
        assert_eq!(ran.code, 0, "{program} {args:?}: {ran:?}");
        ran.out
    }

    /// Runs a client program; its exit code.
    pub fn code(&self, program: &str, args: &[&str]) -> i32 {
        let ran = self.run(program, args);
        eprintln!("{program} {args:?}: {ran:?}");
        ran.code
    }

    /// Starts a client program.
    pub fn start(&self, program: &str, args: &[&str]) -> Running {
        self.start_of(&self.clients, program, args)
    }

    /// Starts one of the programs that supervise.
    pub fn start_daemon(&self, program: &str, args: &[&str]) -> Running {
        self.start_of(&self.daemons, program, args)
    }

    /// The same, with words of shell before it: what it finds open, say.
    pub fn start_daemon_after(&self, words: &str, program: &str, args: &[&str]) -> Running {
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", &format!(r#"{words} exec "$0" "$@""#)])
            .arg(self.daemons.path(program))
            .args(args);
        let like = self.command(&self.daemons, program);
        command.envs(like.get_envs().filter_map(|(k, v)| Some((k, v?)))).stdin(Stdio::null());
        Running::new(command, format!("{program} {args:?}"))
    }

    /// Starts any program.
    pub fn start_of(&self, programs: &Programs, program: &str, args: &[&str]) -> Running {
        let mut command = self.command(programs, program);
        command.args(args);
        Running::new(command, format!("{program} {args:?}"))
    }

    /// Starts a supervisor of one service and waits until it supervises.
    pub fn supervise(&self, service: &Service) -> Running {
        let running = self.start_daemon("supervise", &[&service.path]);
        service.wait_supervised();
        running
    }

    /// Starts svscan on `scan` and waits until all services that were made are supervised.
    pub fn svscan(&self, options: &[&str]) -> Running {
        self.svscan_after("", options)
    }

    /// The same, with words of shell before it: limits, say.
    pub fn svscan_after(&self, words: &str, options: &[&str]) -> Running {
        let mut command = Command::new("/bin/sh");
        let script = format!(r#"{words} exec "$0" "$@" 3>svscan-ready"#);
        command.args(["-c", &script]).arg(self.daemons.path("svscan")).args(["-d", "3"]);
        // PERENNIAL_SVSCAN_OPTIONS: the same scenarios with other options, `-i` say.
        let more = std::env::var("PERENNIAL_SVSCAN_OPTIONS").unwrap_or_default();
        command.args(options).args(more.split_whitespace()).args(["--", "scan"]);
        let like = self.command(&self.daemons, "svscan");
        command.envs(like.get_envs().filter_map(|(k, v)| Some((k, v?)))).stdin(Stdio::null());
        let _ = fs::remove_file("svscan-ready");
        let running = Running::new(command, format!("svscan {options:?}"));
        until("svscan is ready", || read("svscan-ready") == "\n");
        self.wait_supervised();
        running
    }

    /// What was made until now is not waited for any more.
    pub fn forget_services(&self) {
        self.services.borrow_mut().clear();
    }

    /// Waits until all services that were made are supervised.
    pub fn wait_supervised(&self) {
        for path in self.services.borrow().iter() {
            self.at(path).wait_supervised();
        }
    }

    /// The programs under test.
    pub fn programs(&self) -> &Programs {
        &self.daemons
    }
}

/// A program that was started. Killed when dropped.
#[must_use]
pub struct Running {
    child: Child,
    what: String,
    out: String,
    err: String,
}

impl Running {
    /// Starts `command`, called `what` in messages.
    pub fn new(mut command: Command, what: String) -> Running {
        static NUMBER: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let (out, err) = (format!("out.{number}"), format!("err.{number}"));
        command.stdout(fs::File::create(&out).unwrap()).stderr(fs::File::create(&err).unwrap());
        let child = command.spawn().unwrap_or_else(|e| panic!("{what}: {e}"));
        Running { child, what, out, err }
    }

    /// The process that supervises for it, which is a scanner: its child of that name, which may die while it is
    /// looked for.
    pub fn supervisor(&self) -> i32 {
        let mut found = None;
        until("there is a supervisor", || {
            found = descendants().into_iter().rev().find(|pid| {
                stat(*pid, 4) == Some(self.pid().to_string())
                    && fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm == "supervise\n")
            });
            found.is_some()
        });
        found.unwrap()
    }

    /// Kills the supervisor, and waits until another one is at work.
    pub fn kill_supervisor(&self, services: &[&Service]) {
        let old = self.supervisor();
        kill(old, rustix::process::Signal::KILL);
        until("there is another supervisor", || self.supervisor() != old);
        services.iter().for_each(|service| service.wait_supervised());
    }

    /// Its process.
    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// What it has said until now.
    pub fn said(&self) -> String {
        read(&self.err)
    }

    /// Whether it has not ended.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for its end.
    pub fn end(mut self) -> Ran {
        let what = self.what.clone();
        until(&format!("{what} ends"), || !self.is_running());
        let status = self.child.wait().unwrap();
        let code = std::os::unix::process::ExitStatusExt::signal(&status).map_or(status.code(), |s| Some(-s));
        Ran { code: code.unwrap(), out: read(&self.out), err: read(&self.err) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.is_running() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// A service directory.
pub struct Service {
    /// Relative to the world.
    pub path: String,
}

/// `supervise/status`, read by hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// 0 for none.
    pub pid: i32,
    /// The raw wait status of the last run.
    pub wait: u16,
    /// 1 paused, 2 finishing, 4 wanted up, 8 ready.
    pub flags: u8,
}

impl Status {
    /// Run is running.
    pub fn is_up(&self) -> bool {
        self.pid != 0 && self.flags & 2 == 0
    }

    /// Nothing is running.
    pub fn is_down(&self) -> bool {
        self.pid == 0
    }

    /// It is to be up.
    pub fn wanted(&self) -> bool {
        self.flags & 4 != 0
    }
}

impl Service {
    /// Writes a file.
    pub fn file(&self, name: &str, text: &str) -> &Self {
        let path = Path::new(&self.path).join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }

    /// Writes an executable shell script.
    pub fn script(&self, name: &str, text: &str) -> &Self {
        self.file(name, &format!("#!/bin/sh\n{text}\n"));
        chmod(&format!("{}/{name}", self.path), 0o755);
        self
    }

    /// Whether it has this file.
    pub fn has(&self, name: &str) -> bool {
        Path::new(&self.path).join(name).exists()
    }

    /// The text of a file; empty if it is not there.
    pub fn read(&self, name: &str) -> String {
        read(&format!("{}/{name}", self.path))
    }

    /// Its status; one of a service that never was, as long as there is none.
    pub fn status(&self) -> Status {
        let bytes = fs::read(format!("{}/supervise/status", self.path)).unwrap_or_default();
        if bytes.is_empty() {
            return Status { pid: 0, wait: 0, flags: 0 };
        }
        assert_eq!(bytes.len(), 35, "a status has 35 bytes");
        Status {
            pid: u64::from_be_bytes(bytes[24..32].try_into().unwrap()) as i32,
            wait: u16::from_be_bytes([bytes[32], bytes[33]]),
            flags: bytes[34],
        }
    }

    /// The process, which must be up; waits for it.
    pub fn pid(&self) -> i32 {
        until(&format!("{} is up", self.path), || self.status().is_up());
        self.status().pid
    }

    /// Whether a supervisor holds the lock, as `F_GETLK` says.
    pub fn is_supervised(&self) -> bool {
        is_locked(&format!("{}/supervise/lock", self.path))
    }

    /// Waits until it is supervised and has a status.
    pub fn wait_supervised(&self) {
        until(&format!("{} is supervised", self.path), || {
            self.is_supervised() && self.has("supervise/status") && self.has("supervise/control")
        });
    }

    /// Begins to listen to its events.
    pub fn listen(&self) -> Events {
        event::make(CWD, &*format!("{}/event", self.path), Audience::own_group(), false).unwrap();
        let dir = rustix::fs::open(&*self.path, OFlags::PATH, Mode::empty()).unwrap();
        Events { listener: Listener::new(dir).unwrap(), heard: RefCell::default() }
    }

    /// What `supervise/state` says; of a service with nothing special to say, the default.
    pub fn state(&self) -> State {
        State::parse(self.read("supervise/state").as_bytes())
    }

    /// Its death tally.
    pub fn deaths(&self) -> Vec<Death> {
        let bytes = fs::read(format!("{}/supervise/death_tally", self.path)).unwrap_or_default();
        bytes.chunks(14).map(|record| Death::unpack(record.try_into().expect("whole records"))).collect()
    }

    /// How many listen to its events.
    pub fn listeners(&self) -> usize {
        listeners(&format!("{}/event", self.path))
    }
}

/// How many listen at a fifodir.
pub fn listeners(fifodir: &str) -> usize {
    let names = fs::read_dir(fifodir).into_iter().flatten().flatten();
    names.filter(|e| e.file_name().to_string_lossy().starts_with("ftrig1:@")).count()
}

/// What is heard of a service.
pub struct Events {
    listener: Listener,
    heard: RefCell<Vec<u8>>,
}

impl Events {
    /// All until now.
    pub fn heard(&self) -> String {
        let mut heard = self.heard.borrow_mut();
        self.listener.read(&mut heard);
        String::from_utf8_lossy(&heard).into_owned()
    }

    /// Waits until all that was heard is exactly this. How many writes it came in does not matter: s6 2.11
    /// writes `d` and `D` one by one where later versions, and ours, write `dD`. Nor does it matter whether we
    /// began to listen before the `s` and `u` of the beginning: a status is there earlier.
    pub fn expect(&self, events: &str) {
        until(&format!("events are {events}"), || {
            let heard = self.heard();
            let late = |c: char| !events.starts_with(c);
            let heard = heard.strip_prefix('s').filter(|_| late('s')).unwrap_or(&heard);
            let heard = heard.strip_prefix('u').filter(|_| late('u') && late('s')).unwrap_or(heard);
            assert!(events.starts_with(heard), "heard {heard}, not {events}");
            heard == events
        });
    }
}

// ------------------------------------------------------------------------------------------------ facts

/// Waits until something is so.
pub fn until(what: &str, mut fact: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !fact() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until something has the value that it should have.
pub fn until_eq<T: PartialEq + Debug>(expected: T, mut value: impl FnMut() -> T) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = value();
        if found == expected {
            return;
        }
        assert!(Instant::now() < deadline, "waited in vain for {expected:?}: it is {found:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The text of a file; empty if it is not there.
pub fn read(path: &str) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

/// The permission bits of a file.
pub fn mode(path: &str) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

/// Sets the permission bits of a file.
pub fn chmod(path: &str, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Makes a named pipe.
pub fn mkfifo(path: &str) {
    rustix::fs::mknodat(CWD, path, rustix::fs::FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
}

/// Whether somebody holds a lock on a file, as `F_GETLK` says.
pub fn is_locked(path: &str) -> bool {
    let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty());
    file.is_ok_and(|file: OwnedFd| lock::is_locked(file).unwrap())
}

/// A field of `/proc/PID/stat`, counted from 3, the state; `None` if there is no such process.
pub fn stat(pid: i32, field: usize) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let tail = text.rsplit_once(") ")?.1;
    tail.split(' ').nth(field - 3).map(str::to_owned)
}

/// Whether a process is there and no zombie.
pub fn is_alive(pid: i32) -> bool {
    stat(pid, 3).is_some_and(|state| state != "Z")
}

/// The parent of a process.
pub fn parent(pid: i32) -> i32 {
    stat(pid, 4).unwrap().parse().unwrap()
}

/// Sends a signal to a process.
pub fn kill(pid: i32, signal: Signal) {
    let _ = kill_process(Pid::from_raw(pid).unwrap(), signal);
}

/// All processes that descend from us.
pub fn descendants() -> Vec<i32> {
    let mut parents = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        if let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>()
            && let Some(ppid) = stat(pid, 4).and_then(|p| p.parse::<i32>().ok())
        {
            parents.push((pid, ppid));
        }
    }
    let mut found = vec![std::process::id() as i32];
    let mut at = 0;
    while at < found.len() {
        let children = parents.iter().filter(|(_, ppid)| *ppid == found[at]).map(|(pid, _)| *pid);
        found.extend(children.collect::<Vec<_>>());
        at += 1;
    }
    found.split_off(1)
}

/// Everything that may explain a failure.
pub fn show() {
    let _ = Command::new("/bin/ls").args(["-laR", "--time-style=full-iso", "."]).status();
    for entry in fs::read_dir(".").unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type().unwrap().is_file() {
            eprintln!("--- {name}\n{}", read(&name));
        }
    }
    for pid in descendants() {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let number = |field| stat(pid, field).unwrap_or_default();
        let fds = (0..6).filter_map(|n| Some((n, fs::read_link(format!("/proc/{pid}/fd/{n}")).ok()?)));
        let fds: Vec<String> = fds.map(|(n, to)| format!("{n}={}", to.display())).collect();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        eprintln!("{pid} {} (parent {}): {line} {}", number(3), number(4), fds.join(" "));
    }
}
