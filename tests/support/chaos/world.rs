//! The world of a chaos run: the tree under test in a PID and mount namespace of its own, its services, and
//! what is known of them.

use super::payload::{CONFIG, Kind, Random};
use perennial::process::WaitStatus;
use perennial::servicedir::status::Status;
use perennial::sys::{lock, wait};
use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Who is pid 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tree {
    /// Our init; the driver is its command.
    Init,
    /// The driver, which starts svscan and starts it again.
    Svscan,
}

/// What the driver knows a service to be told last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// To be up.
    Up,
    /// To be down.
    Down,
    /// A command may or may not have arrived, or says nothing about that.
    Unknown,
}

/// A service.
pub struct Svc {
    /// Its name in the scan directory; a logger's ends with `/log`.
    pub name: String,
    pub kind: Kind,
    /// Its directory.
    pub dir: PathBuf,
    /// Where its records are.
    pub data: PathBuf,
    pub expect: Expect,
    /// It is not removed.
    pub permanent: bool,
    /// It is in the scan directory.
    pub listed: bool,
    /// It was told to leave, since the last checkpoint.
    pub leaving: bool,
    /// Its directory has been deleted under it.
    pub deleted: bool,
}

impl Svc {
    pub fn status(&self) -> Option<Status> {
        Status::unpack(&fs::read(self.dir.join("supervise/status")).ok()?)
    }

    /// The process that holds the service's lock.
    pub fn holder(&self) -> Option<i32> {
        let path = self.data.join("lock");
        let file = rustix::fs::open(&path, OFlags::RDONLY, Mode::empty()).ok()?;
        lock::is_locked(&file).unwrap_or(false).then(|| {
            let text = fs::read_to_string(&path).unwrap_or_default();
            text.trim().parse().unwrap_or(0)
        })
    }

    pub fn is_supervised(&self) -> bool {
        let file = rustix::fs::open(self.dir.join("supervise/lock"), OFlags::RDONLY, Mode::empty());
        file.is_ok_and(|f| lock::is_locked(f).unwrap_or(false))
    }

    /// Others than us tell it what to be.
    pub fn is_of_rc(&self) -> bool {
        self.name == "r1"
    }

    pub fn records(&self) -> String {
        fs::read_to_string(self.data.join("records")).unwrap_or_default()
    }
}

/// What is undone when its time has come, or when all faults are lifted.
#[derive(Clone, Debug)]
pub enum Undo {
    Continue(i32),
    EmptyDisk,
    FreePids,
    FreeFiles(i32, rustix::process::Rlimit),
    Rescan,
    KillClient(i32),
}

/// A process as `/proc` shows it.
pub struct Process {
    pub pid: i32,
    pub state: u8,
    /// It leads a session.
    pub leads: bool,
    /// It was made a moment ago and has not executed anything yet. (A supervisor that was forked and stays what it
    /// is, is older.)
    pub on_its_way: bool,
    pub words: Vec<String>,
}

pub struct World {
    pub mode: Tree,
    pub base: PathBuf,
    pub scan: PathBuf,
    pub random: Random,
    pub seed: u64,
    pub began: Instant,
    pub services: Vec<Svc>,
    pub undo: Vec<(Instant, Undo)>,
    pub violations: Vec<String>,
    pub counts: BTreeMap<&'static str, u64>,
    /// Clients that were started and not waited for.
    pub clients: Vec<i32>,
    pub ended: BTreeMap<i32, WaitStatus>,
    /// The pids cgroup, if there is one for us.
    pub cgroup: Option<PathBuf>,
    /// Who we killed, or who may be gone without anybody's fault.
    pub killed: Vec<i32>,
    pub supervise: Option<i32>,
    pub svscan: Option<i32>,
    /// There is nobody of ours above svscan: when it has been killed, nobody can tell how a service ended that
    /// dies while there is no supervisor either.
    pub lossy: bool,
    /// Loggers may have been told to end at once, since the last checkpoint.
    pub pruned_all: bool,
    last_kill: Option<Instant>,
    /// When they were first seen.
    pub supervise_since: Option<Instant>,
    pub svscan_since: Option<Instant>,
    history: fs::File,
    next: u32,
}

/// A fact may take this long to become true after all faults are lifted. The machine may be busy.
pub const PATIENCE: Duration = Duration::from_secs(40);

impl World {
    pub fn new(mode: Tree, base: PathBuf, seed: u64) -> World {
        let scan = match mode {
            Tree::Init => PathBuf::from("/run/service"),
            Tree::Svscan => base.join("tmpfs/scan"),
        };
        let history = fs::File::create(base.join("history")).expect("history");
        let cgroup = fs::read_to_string(base.join("cgroup")).ok().map(|p| PathBuf::from(p.trim()));
        World {
            mode,
            base,
            scan,
            random: Random(seed),
            seed,
            began: Instant::now(),
            services: Vec::new(),
            undo: Vec::new(),
            violations: Vec::new(),
            counts: BTreeMap::new(),
            clients: Vec::new(),
            ended: BTreeMap::new(),
            cgroup,
            killed: Vec::new(),
            supervise: None,
            svscan: None,
            lossy: mode == Tree::Svscan,
            pruned_all: false,
            last_kill: None,
            supervise_since: None,
            svscan_since: None,
            history,
            next: 0,
        }
    }

    /// Where the small file system is.
    pub fn small(&self) -> PathBuf {
        match self.mode {
            Tree::Init => "/run".into(),
            Tree::Svscan => self.base.join("tmpfs"),
        }
    }

    /// Writes a step down.
    pub fn note(&self, text: impl AsRef<str>) {
        use std::io::Write;
        let at = self.began.elapsed().as_millis();
        let _ = writeln!(&self.history, "{:>6}.{:03} {}", at / 1000, at % 1000, text.as_ref());
    }

    pub fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    /// What should never be.
    pub fn violation(&mut self, text: impl Into<String>) {
        let text = text.into();
        self.note(format!("VIOLATION {text}"));
        if !self.violations.contains(&text) {
            self.violations.push(text);
        }
    }

    // ------------------------------------------------------------------------------------ processes

    pub fn processes(&self) -> Vec<Process> {
        let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
        let pids = entries.flatten().filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok());
        pids.filter_map(process).collect()
    }

    /// Finds the supervisors. One that is another than before, and was not killed by us, has died.
    pub fn find_supervisors(&mut self) {
        let processes = self.processes();
        let find = |name: &str| {
            // A child that has not executed yet looks like its parent.
            let called = |p: &&Process| {
                !p.leads
                    && !p.on_its_way
                    && p.state != b'Z'
                    && p.words.first().is_some_and(|w| w.rsplit('/').next() == Some(name))
            };
            processes.iter().find(called).map(|p| p.pid)
        };
        for (name, found, known) in
            [("supervise", find("supervise"), self.supervise), ("svscan", find("svscan"), self.svscan)]
        {
            if let Some(old) = known
                && found != known
                && !self.killed.contains(&old)
                && process(old).is_none_or(|p| p.state == b'Z')
            {
                self.violation(format!("died: {name} {old} is gone and nobody killed it"));
                self.killed.push(old);
            }
            if found.is_some() {
                let since = if name == "svscan" { &mut self.svscan_since } else { &mut self.supervise_since };
                if found != known {
                    *since = Some(Instant::now());
                }
                let place = if name == "svscan" { &mut self.svscan } else { &mut self.supervise };
                *place = found;
            }
        }
    }

    /// A supervisor that can be harmed: it is alive, and whom it would hurt beyond what anybody can mend is
    /// not. Both at once is only for a tree with our init above; and with svscan alone, one that is stopped or
    /// has just begun has not yet taken what the other holds.
    pub fn victim(&mut self, name: &'static str) -> Option<i32> {
        self.find_supervisors();
        let (own, other) = match name {
            "svscan" => (self.svscan?, self.supervise),
            _ => (self.supervise?, self.svscan),
        };
        let alive = |pid: i32| process(pid).filter(|p| p.state != b'Z' && !self.killed.contains(&pid));
        alive(own)?;
        if self.mode == Tree::Svscan {
            let other = alive(other?)?;
            let stopped =
                [own, other.pid].into_iter().any(|pid| process(pid).is_none_or(|p| p.state == b'T'));
            let recent = |at: Option<Instant>| at.is_some_and(|at| at.elapsed() < Duration::from_millis(700));
            if stopped
                || recent(self.last_kill)
                || recent(self.supervise_since)
                || !self.both_hold(own, other.pid)
            {
                return None;
            }
            self.last_kill = Some(Instant::now());
        }
        Some(own)
    }

    /// Each of the two has what is written to loggers, should the other die. One that was stopped until a moment
    /// ago has not, perhaps.
    fn both_hold(&self, one: i32, other: i32) -> bool {
        let open = |pid: i32| -> Vec<PathBuf> {
            let fds = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
            fds.filter_map(|fd| fs::read_link(fd.path()).ok()).collect()
        };
        let (one, other) = (open(one), open(other));
        let loggers = self.services.iter().filter(|svc| svc.listed && svc.kind == Kind::Logger);
        loggers
            .map(|svc| svc.dir.join("supervise/stdin"))
            .all(|pipe| one.contains(&pipe) && other.contains(&pipe))
    }

    pub fn kill(&mut self, pid: i32, signal: Signal) {
        if signal == Signal::KILL {
            self.killed.push(pid);
        }
        if let Some(pid) = Pid::from_raw(pid) {
            let _ = kill_process(pid, signal);
        }
    }

    /// A program of ours.
    pub fn command(&self, name: &str) -> Command {
        let mut command = Command::new(self.base.join("bin").join(name));
        command.stdin(Stdio::null());
        if name != "svscan"
            && let Ok(file) = fs::File::options().append(true).create(true).open(self.base.join("clients"))
        {
            command.stderr(file);
        }
        command
    }

    /// Starts a program and leaves it to [`reap`](Self::reap).
    pub fn start(&mut self, command: &mut Command) -> Option<i32> {
        command.spawn().ok().map(|child| child.id() as i32)
    }

    /// Takes note of who has died: our children, and as pid 1 everybody's.
    pub fn reap(&mut self) {
        let mut scanner_ended = None;
        while let Some((pid, status)) = wait::reap() {
            if self.ended.len() > 4000 {
                self.ended.clear();
            }
            self.ended.insert(pid.raw(), status);
            self.clients.retain(|client| *client != pid.raw());
            if self.mode == Tree::Svscan && self.svscan == Some(pid.raw()) {
                scanner_ended = Some(status);
            }
        }
        if let Some(status) = scanner_ended {
            self.on_scanner_end(status);
        }
    }

    /// As pid 1, keeps svscan alive.
    fn on_scanner_end(&mut self, status: WaitStatus) {
        if let Some(old) = self.svscan.take()
            && !self.killed.contains(&old)
        {
            self.violation(format!("died: svscan {old} ended with {status}"));
        }
        self.start_svscan();
    }

    pub fn start_svscan(&mut self) {
        let mut command = self.command("svscan");
        command.arg(&self.scan);
        while self.svscan.is_none() {
            self.svscan = self.start(&mut command);
            // Nobody else will lift the limit that we are under ourselves.
            if self.svscan.is_none()
                && let Some(cgroup) = &self.cgroup
            {
                let _ = fs::write(cgroup.join("pids.max"), "max");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Runs a program to its end, or for so long; its exit code, 128 + n for a signal, -1 if it hangs, -2 if
    /// it could not be started.
    pub fn run(&mut self, name: &str, args: &[&str], most: Duration) -> i32 {
        let mut command = self.command(name);
        command.args(args);
        let Some(pid) = self.start(&mut command) else { return -2 };
        let deadline = Instant::now() + most;
        loop {
            self.reap();
            if let Some(status) = self.ended.remove(&pid) {
                return status.shell_code().into();
            }
            if Instant::now() > deadline {
                self.kill(pid, Signal::KILL);
                return -1;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    // ------------------------------------------------------------------------------------ services

    /// Makes a service, with its logger if it has one, in the scan directory or as a link in it.
    pub fn add(&mut self, kind: Kind, permanent: bool) {
        self.next += 1;
        let name = format!("{}{}", format!("{kind:?}").to_lowercase(), self.next);
        let linked = self.random.below(2) == 0;
        let store = self.small().join("store");
        let dir = if linked { store.join(&name) } else { self.scan.join(&name) };
        let draft = store.join(format!("draft-{name}"));
        let down = !permanent && self.random.below(6) == 0;
        let made = self.make(&draft, &name, kind, down);
        let logged = kind == Kind::Logged;
        let made = made.and_then(|()| match logged {
            true => self.make(&draft.join("log"), &format!("{name}/log"), Kind::Logger, false),
            false => Ok(()),
        });
        let made = made.and_then(|()| fs::rename(&draft, &dir)).and_then(|()| match linked {
            true => symlink(&dir, self.scan.join(&name)),
            false => Ok(()),
        });
        if let Err(e) = made {
            self.note(format!("add {name}: {e}"));
            let _ = fs::remove_dir_all(&draft);
            let _ = fs::remove_dir_all(&dir);
            return;
        }
        self.note(format!("add {name}{}", if down { " (down)" } else { "" }));
        self.count("services added");
        let expect = if down { Expect::Down } else { Expect::Up };
        let data = self.base.join("data").join(&name);
        if logged {
            let (name, dir, data) = (format!("{name}/log"), dir.join("log"), data.join("log"));
            self.services.push(Svc {
                name,
                kind: Kind::Logger,
                dir,
                data,
                expect: Expect::Up,
                permanent,
                listed: true,
                leaving: false,
                deleted: false,
            });
        }
        self.services.push(Svc {
            name,
            kind,
            dir,
            data,
            expect,
            permanent,
            listed: true,
            leaving: false,
            deleted: false,
        });
    }

    fn make(&self, dir: &Path, name: &str, kind: Kind, down: bool) -> std::io::Result<()> {
        let data = self.base.join("data").join(name);
        fs::create_dir_all(&data)?;
        fs::create_dir_all(dir.join("data"))?;
        fill(dir, &data, kind, self.seed, down)
    }

    /// Takes a service out of the scan directory.
    pub fn remove(&mut self, index: usize, delete: bool) {
        // Nobody says anything else to it after us.
        for client in self.clients.clone() {
            self.kill(client, Signal::KILL);
        }
        while !self.clients.is_empty() {
            self.reap();
            std::thread::sleep(Duration::from_millis(1));
        }
        let svc = &self.services[index];
        let (name, dir) = (svc.name.clone(), svc.dir.clone());
        let linked = dir.parent() != Some(&self.scan);
        let store = self.small().join("store").join(format!("gone-{name}"));
        // A logger that is down reads nothing: what is in its pipe would be gone with it.
        let logger = dir.join("log/supervise/control");
        let heard = write_fifo(&logger, b"u");
        self.note(format!("u to the logger of {name}: {heard}"));
        let done = match (linked, delete) {
            (true, false) => fs::remove_file(self.scan.join(&name)).map(|()| dir.clone()),
            (false, false) => fs::rename(&dir, &store).map(|()| store),
            (true, true) => fs::remove_file(self.scan.join(&name))
                .and_then(|()| fs::remove_dir_all(&dir))
                .map(|()| dir.clone()),
            (false, true) => fs::remove_dir_all(&dir).map(|()| dir.clone()),
        };
        self.note(format!("remove {name}, delete {delete}: {:?}", done.as_ref().err()));
        let Ok(now_at) = done else { return };
        self.count("services removed");
        for svc in &mut self.services {
            let logger = svc.name.strip_suffix("/log") == Some(&name);
            if svc.name == name || logger {
                svc.listed = false;
                svc.deleted = delete;
                svc.expect = Expect::Unknown;
                svc.dir = if logger { now_at.join("log") } else { now_at.clone() };
            }
        }
    }
}

/// Fills a service directory.
pub fn fill(dir: &Path, data: &Path, kind: Kind, seed: u64, down: bool) -> std::io::Result<()> {
    let exe = std::env::current_exe()?;
    fs::write(dir.join(CONFIG), format!("{kind:?} {} {}\n", seed as u32, data.display()))?;
    if kind.finishes() {
        symlink(&exe, dir.join("finish"))?;
    }
    match kind {
        Kind::Notifying | Kind::Mute => fs::write(dir.join("notification-fd"), "5\n")?,
        Kind::Stubborn => fs::write(dir.join("timeout-kill"), "700\n")?,
        Kind::Tally => fs::write(dir.join("max-death-tally"), "5\n")?,
        Kind::SlowFinish => fs::write(dir.join("timeout-finish"), "3000\n")?,
        _ => {}
    }
    if down {
        fs::write(dir.join("down"), "")?;
    }
    symlink(&exe, dir.join("run"))
}

/// Makes `run` and `finish` scripts that call us, for whoever copies them.
pub fn make_scripts(dir: &Path) -> std::io::Result<()> {
    let exe = std::env::current_exe()?.display().to_string();
    for name in ["run", "finish"] {
        fs::remove_file(dir.join(name))?;
        fs::write(dir.join(name), format!("#!/bin/sh\nexec {exe} {name} \"$@\"\n"))?;
        fs::set_permissions(dir.join(name), fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}

/// Looks at a process.
pub fn process(pid: i32) -> Option<Process> {
    // Before its words, which are its parent's until it has executed.
    let seen = perennial::sys::process::stat(perennial::process::Pid::from_raw(pid)?)?;
    let age = Duration::from_nanos(perennial::sys::clock::boot().saturating_sub(seen.start));
    let on_its_way = seen.unexecuted && age < Duration::from_millis(500);
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    let state = *fields[0].as_bytes().first()?;
    let leads = fields[3].parse() == Ok(pid);
    let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let words = line.split(|b| *b == 0).filter(|w| !w.is_empty());
    let words = words.map(|w| String::from_utf8_lossy(w).into_owned()).collect();
    Some(Process { pid, state, leads, on_its_way, words })
}

/// Makes a FIFO's place a plain file.
pub fn replace_by_file(path: &Path) -> std::io::Result<()> {
    fs::remove_file(path)?;
    fs::write(path, "not a FIFO\n")
}

/// Writes bytes to a FIFO that somebody reads; none if nobody does.
pub fn write_fifo(path: &Path, bytes: &[u8]) -> bool {
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW;
    let Ok(fifo) = rustix::fs::openat(CWD, path, flags, Mode::empty()) else { return false };
    let is_fifo = rustix::fs::fstat(&fifo).is_ok_and(|st| FileType::from_raw_mode(st.st_mode).is_fifo());
    is_fifo && rustix::io::write(&fifo, bytes).is_ok()
}
