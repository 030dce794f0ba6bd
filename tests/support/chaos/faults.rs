//! The steps of a chaos run: what is done to the tree, chosen by the seed, and how all of it is lifted.

use super::payload::Kind;
use super::world::{Expect, Tree, Undo, World, process, replace_by_file, write_fifo};
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, prlimit};
use std::fs;
use std::io::Write;
use std::time::{Duration, Instant};

/// All that `svc` sends. Up and down are the most interesting.
const LETTERS: &[u8] = b"uuuuuuddddddUDoOQxxabqhktirl12ypcPCK";

/// So many services at most are added to those that are there from the beginning.
const MOST_EXTRA: usize = 14;

type Step = fn(&mut World);

/// The steps and how often each comes.
const STEPS: &[(u32, Step)] = &[
    (14, kill_service),
    (5, kill_logger),
    (6, kill_supervise),
    (5, kill_svscan),
    (3, kill_both),
    (30, command),
    (6, kill_client),
    (6, scan_command),
    (6, add),
    (4, remove),
    (5, stop_service),
    (3, stop_supervise),
    (3, stop_svscan),
    (2, fill_disk),
    (2, limit_pids),
    (2, limit_files),
    (3, garbage),
    (1, replace_control),
    (4, rc),
];

impl World {
    /// One step, then a little pause.
    pub fn step(&mut self) {
        let all: u32 = STEPS.iter().map(|(weight, _)| weight).sum();
        let mut at = self.random.below(all.into()) as u32;
        for (weight, step) in STEPS {
            if at < *weight {
                step(self);
                break;
            }
            at -= weight;
        }
        let most = *self.random.pick(&[1, 5, 20, 60]);
        let until = Instant::now() + self.random.millis(most);
        loop {
            self.reap();
            self.undo_due(Instant::now());
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            std::thread::sleep(left.min(Duration::from_millis(5)));
        }
        self.find_supervisors();
    }

    fn undo_due(&mut self, now: Instant) {
        let (due, rest) = std::mem::take(&mut self.undo).into_iter().partition(|(at, _)| *at <= now);
        self.undo = rest;
        for (_, undo) in due {
            self.note(format!("undo {undo:?}"));
            self.undo(undo);
        }
    }

    fn undo(&mut self, undo: Undo) {
        match undo {
            Undo::Continue(pid) => self.kill(pid, Signal::CONT),
            Undo::EmptyDisk => {
                let _ = fs::remove_file(self.small().join("filling"));
            }
            Undo::FreePids => self.write_pids_max("max"),
            Undo::FreeFiles(pid, limit) => {
                let _ = prlimit(Pid::from_raw(pid), Resource::Nofile, limit);
            }
            Undo::Rescan => self.tell_scanner(b"a"),
            Undo::KillClient(pid) => {
                if self.clients.contains(&pid) {
                    self.kill(pid, Signal::KILL);
                }
            }
        }
    }

    /// Undoes everything at once. What must reach svscan reaches it: it is not stopped any more.
    pub fn lift(&mut self) {
        self.note("lift all faults");
        for (_, undo) in std::mem::take(&mut self.undo) {
            self.undo(undo);
        }
        for process in self.processes() {
            if process.state == b'T' {
                self.kill(process.pid, Signal::CONT);
            }
        }
        let own = getrlimit(Resource::Nofile);
        for pid in [self.supervise, self.svscan].into_iter().flatten() {
            let limit = Rlimit { current: own.maximum, maximum: own.maximum };
            let _ = prlimit(Pid::from_raw(pid), Resource::Nofile, limit);
        }
    }

    pub fn tell_scanner(&mut self, letters: &[u8]) {
        write_fifo(&self.scan.join(".s6-svscan/control"), letters);
    }

    fn later(&mut self, most: u64, undo: Undo) {
        let at = Instant::now() + self.random.millis(most);
        self.undo.push((at, undo));
    }

    fn write_pids_max(&self, text: &str) {
        if let Some(cgroup) = &self.cgroup {
            let _ = fs::write(cgroup.join("pids.max"), text);
        }
    }

    /// Some service for which this holds.
    fn some(&mut self, of: impl Fn(&super::world::Svc) -> bool) -> Option<usize> {
        let all: Vec<usize> = (0..self.services.len()).filter(|i| of(&self.services[*i])).collect();
        (!all.is_empty()).then(|| *self.random.pick(&all))
    }

    fn signal_service(&mut self, index: usize, signal: Signal) -> Option<i32> {
        let pid = self.services[index].status()?.pid?.raw();
        // The status may be old, and the pid somebody else's by now.
        let is_ours = |w: &String| w.starts_with("./") || w == "run" || w == "finish";
        let ours = process(pid).is_some_and(|p| p.words.iter().take(2).any(is_ours));
        if !ours {
            return None;
        }
        let name = self.services[index].name.clone();
        self.note(format!("{signal:?} {name} ({pid})"));
        self.kill(pid, signal);
        Some(pid)
    }
}

fn kill_service(w: &mut World) {
    if let Some(index) = w.some(|s| s.kind != Kind::Logger)
        && w.signal_service(index, Signal::KILL).is_some()
    {
        w.count("services killed");
    }
}

fn kill_logger(w: &mut World) {
    if let Some(index) = w.some(|s| s.kind == Kind::Logger && s.listed)
        && w.signal_service(index, Signal::KILL).is_some()
    {
        w.count("loggers killed");
    }
}

fn kill_supervise(w: &mut World) {
    if let Some(pid) = w.victim("supervise") {
        w.note(format!("kill supervise ({pid})"));
        w.count("supervise killed");
        w.kill(pid, Signal::KILL);
    }
}

fn kill_svscan(w: &mut World) {
    if let Some(pid) = w.victim("svscan") {
        w.note(format!("kill svscan ({pid})"));
        w.count("svscan killed");
        w.kill(pid, Signal::KILL);
    }
}

fn kill_both(w: &mut World) {
    if w.mode == Tree::Svscan {
        // The control FIFOs, the readiness FIFOs and the pipes to loggers were held by these two alone: what
        // was in them is gone, and who writes to them meanwhile gets SIGPIPE. That is why init keeps them.
        return;
    }
    let (Some(supervise), Some(svscan)) = (w.victim("supervise"), w.victim("svscan")) else { return };
    w.note(format!("kill supervise and svscan ({supervise}, {svscan})"));
    w.count("supervise and svscan killed at once");
    w.kill(supervise, Signal::KILL);
    w.kill(svscan, Signal::KILL);
}

/// What a command makes of what is expected.
fn expectation(letters: &[u8], before: Expect) -> Expect {
    letters.iter().fold(before, |expect, letter| match letter {
        b'u' | b'U' => Expect::Up,
        b'd' | b'D' => Expect::Down,
        b'o' | b'O' | b'Q' | b'x' => Expect::Unknown,
        _ => expect,
    })
}

fn some_command(w: &mut World) -> Option<(usize, Vec<u8>)> {
    let index = w.some(|s| s.listed)?;
    let count = 1 + w.random.below(2) * w.random.below(3);
    let letters: Vec<u8> = (0..count).map(|_| *w.random.pick(LETTERS)).collect();
    // A logger that is told to go takes its service's output with it; it goes when the service does.
    let logger = w.services[index].kind == Kind::Logger;
    (!(logger && letters.contains(&b'x'))).then_some((index, letters))
}

fn command(w: &mut World) {
    let Some((index, letters)) = some_command(w) else { return };
    let text = format!("-{}", String::from_utf8_lossy(&letters));
    let (dir, name) = (w.services[index].dir.display().to_string(), w.services[index].name.clone());
    let waits = *w.random.pick(&[false, false, true]) && letters.len() == 1 && b"ud".contains(&letters[0]);
    let code = if waits {
        let goal = if letters[0] == b'u' { "-wu" } else { "-wD" };
        w.run("svc", &[goal, "-T", "300", &text, &dir], Duration::from_secs(5))
    } else {
        w.run("svc", &[&text, &dir], Duration::from_secs(5))
    };
    w.note(format!("svc {text} {name}: {code}"));
    w.count("commands");
    let svc = &mut w.services[index];
    svc.leaving |= letters.contains(&b'x');
    svc.expect = match code {
        _ if svc.is_of_rc() => Expect::Unknown,
        // What is left of its life after an x is not ours to know, nor with which commands the next begins.
        _ if svc.leaving => Expect::Unknown,
        // What is not told in time was sent all the same.
        0 | 99 => expectation(&letters, svc.expect),
        _ => Expect::Unknown,
    };
}

fn kill_client(w: &mut World) {
    let Some((index, letters)) = some_command(w) else { return };
    let dir = w.services[index].dir.display().to_string();
    let mut client = w.command("svc");
    client.args(["-wu", "-T", "20000", &format!("-{}", String::from_utf8_lossy(&letters)), &dir]);
    let Some(pid) = w.start(&mut client) else { return };
    w.note(format!("svc ({pid}) to be killed, on {}", w.services[index].name));
    w.count("clients killed");
    w.services[index].expect = Expect::Unknown;
    w.services[index].leaving |= letters.contains(&b'x');
    w.clients.push(pid);
    w.later(12, Undo::KillClient(pid));
}

fn scan_command(w: &mut World) {
    let scan = w.scan.display().to_string();
    let letters = *w.random.pick(&["-a", "-n", "-an", "-h", "-z", "-N"]);
    w.pruned_all |= letters == "-N";
    let code = w.run("svscanctl", &[letters, &scan], Duration::from_secs(5));
    w.note(format!("svscanctl {letters}: {code}"));
    w.count("scanner commands");
}

fn add(w: &mut World) {
    if w.services.iter().filter(|s| !s.permanent).count() < MOST_EXTRA {
        let kind = *w.random.pick(&Kind::ALL);
        w.add(kind, false);
    }
}

fn remove(w: &mut World) {
    if let Some(index) = w.some(|s| !s.permanent && s.listed && s.kind != Kind::Logger) {
        let delete = w.random.below(3) == 0;
        w.remove(index, delete);
    }
}

fn stop_service(w: &mut World) {
    if let Some(index) = w.some(|_| true)
        && let Some(pid) = w.signal_service(index, Signal::STOP)
    {
        w.count("services stopped");
        w.later(2000, Undo::Continue(pid));
    }
}

fn stop_supervise(w: &mut World) {
    w.find_supervisors();
    if let Some(pid) = w.supervise.filter(|pid| process(*pid).is_some()) {
        w.note(format!("stop supervise ({pid})"));
        w.count("supervise stopped");
        w.kill(pid, Signal::STOP);
        w.later(1500, Undo::Continue(pid));
    }
}

fn stop_svscan(w: &mut World) {
    w.find_supervisors();
    if let Some(pid) = w.svscan.filter(|pid| process(*pid).is_some()) {
        w.note(format!("stop svscan ({pid})"));
        w.count("svscan stopped");
        w.kill(pid, Signal::STOP);
        w.later(3000, Undo::Continue(pid));
    }
}

fn fill_disk(w: &mut World) {
    let Ok(mut file) = fs::File::create(w.small().join("filling")) else { return };
    let mut piece = 1 << 20;
    while piece > 0 {
        match file.write(&vec![b'x'; piece]) {
            Ok(n) if n > 0 => {}
            _ => piece /= 4,
        }
    }
    w.note("disk full");
    w.count("disk filled");
    w.later(2500, Undo::EmptyDisk);
}

fn limit_pids(w: &mut World) {
    let Some(cgroup) = &w.cgroup else { return };
    let now: u64 = fs::read_to_string(cgroup.join("pids.current"))
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(0);
    let limit = (now + w.random.below(4)).saturating_sub(2);
    w.note(format!("no more than {limit} pids"));
    w.count("pids limited");
    w.write_pids_max(&limit.to_string());
    w.later(2500, Undo::FreePids);
}

fn limit_files(w: &mut World) {
    w.find_supervisors();
    let both = [(w.supervise, w.supervise_since), (w.svscan, w.svscan_since)];
    let (Some(pid), Some(since)) = *w.random.pick(&both) else { return };
    // One that is just beginning ends at once, and rightly so; it may have been stopped before it came to anything.
    let open = fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, |d| d.count()) as u64;
    if since.elapsed() < Duration::from_millis(500) || open < 16 {
        return;
    }
    let limit = open + w.random.below(6);
    let maximum = getrlimit(Resource::Nofile).maximum;
    let low = Rlimit { current: Some(limit), maximum };
    if let Ok(old) = prlimit(Pid::from_raw(pid), Resource::Nofile, low) {
        w.note(format!("no more than {limit} files for {pid}"));
        w.count("files limited");
        w.later(2500, Undo::FreeFiles(pid, old));
    }
}

fn garbage(w: &mut World) {
    let bytes: Vec<u8> = (0..200).map(|i| [0, b'!', 255, b'\n', b'9', b'Z'][i % 6]).collect();
    if w.random.below(4) == 0 {
        write_fifo(&w.scan.join(".s6-svscan/control"), &bytes[..20]);
    } else if let Some(index) = w.some(|s| s.listed) {
        write_fifo(&w.services[index].dir.join("supervise/control"), &bytes);
    }
    w.count("garbage written");
}

fn replace_control(w: &mut World) {
    if let Some(index) = w.some(|s| s.listed) {
        let path = w.services[index].dir.join("supervise/control");
        w.services[index].expect = Expect::Unknown;
        let done = replace_by_file(&path);
        w.note(format!("a file for {}: {:?}", path.display(), done.err()));
        w.count("control FIFOs replaced");
        w.later(500, Undo::Rescan);
    }
}

/// Oneshots, and what depends on them.
fn rc(w: &mut World) {
    if w.mode == Tree::Svscan {
        return;
    }
    let name = *w.random.pick(&["o1", "o2", "o3", "r1"]);
    let up = *w.random.pick(&["up", "down"]);
    let mut client = w.command("rc");
    client.args(["-t", "5000", up, name]).stdout(std::process::Stdio::null());
    let Some(pid) = w.start(&mut client) else { return };
    w.note(format!("rc {up} {name} ({pid})"));
    w.count("rc changes");
    w.clients.push(pid);
    if w.random.below(3) == 0 {
        w.later(100, Undo::KillClient(pid));
    }
    let _ = process(pid);
}
