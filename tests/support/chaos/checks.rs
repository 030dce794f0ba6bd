//! What must hold: once all faults are lifted, and at the end.

use super::payload::{FIRST_COUNT, Kind, log_lines};
use super::world::{Expect, PATIENCE, Svc, Tree, World, process};
use rustix::process::Signal;
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How a run of a service ended, as it wrote down itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Life {
    pid: i32,
    /// `code N` or `signal N`; empty: it did not come to that, it was killed.
    end: String,
    ready: bool,
    /// What finish got: code, signal.
    told: Vec<(i32, i32)>,
}

fn lives(records: &str) -> BTreeMap<u32, Life> {
    let mut lives: BTreeMap<u32, Life> = BTreeMap::new();
    for line in records.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let number = |i: usize| words.get(i).and_then(|w| w.parse::<i32>().ok()).unwrap_or(-1);
        match words[0] {
            "start" => {
                lives.entry(number(1) as u32).or_default().pid = number(2);
            }
            "end" => lives.entry(number(1) as u32).or_default().end = words[3..].join(" "),
            "ready" => lives.entry(number(1) as u32).or_default().ready = true,
            "finish" => {
                // A pid may come round: the last who had it. A run that was killed before it could write down
                // that it began is told of as well.
                if let Some(life) = lives.values_mut().rev().find(|life| life.pid == number(1)) {
                    life.told.push((number(2), number(3)));
                }
            }
            _ => {}
        }
    }
    lives
}

impl World {
    /// Waits until everything is as it should be; a violation for each thing that is not, when patience is at
    /// its end.
    pub fn converge(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        let began = Instant::now();
        loop {
            self.reap();
            self.find_supervisors();
            let problems = self.problems();
            if problems.is_empty() {
                self.note(format!("converged in {:?}", began.elapsed()));
                return;
            }
            if Instant::now() > deadline {
                self.list_descriptors(&format!("stuck-{}", began.elapsed().as_millis()));
                for problem in problems {
                    self.violation(format!("not converged: {problem}"));
                }
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn problems(&mut self) -> Vec<String> {
        let mut problems = Vec::new();
        if !self.clients.is_empty() {
            problems.push(format!("clients {:?} have not ended", self.clients));
        }
        for (name, pid) in [("supervise", self.supervise), ("svscan", self.svscan)] {
            if pid.and_then(process).is_none_or(|p| p.state == b'Z') {
                problems.push(format!("{name} is not there"));
            }
        }
        for svc in &self.services {
            if let Some(problem) = problem_of(svc) {
                problems.push(format!("{}: {problem}", svc.name));
            }
        }
        problems
    }

    /// A pause in the faults: everything comes to be as wanted, and is as told; and a few commands work.
    pub fn checkpoint(&mut self) {
        self.lift();
        self.count("checkpoints");
        // What somebody paused goes on; what was taken out of the scan directory goes.
        self.tell_scanner(b"a");
        for svc in self.services.iter().filter(|s| !s.deleted) {
            super::world::write_fifo(&svc.dir.join("supervise/control"), b"c");
        }
        let scan = self.scan.display().to_string();
        // Where svscan is alone nobody listens in its place while it is not there.
        let deadline = Instant::now() + PATIENCE;
        let mut code = 100;
        while code == 100 && Instant::now() < deadline {
            self.reap();
            code = self.run("svscanctl", &["-an", &scan], PATIENCE);
        }
        if code != 0 {
            self.violation(format!("unanswered: svscanctl -an: {code}"));
        }
        self.converge();
        for svc in std::mem::take(&mut self.services) {
            if svc.listed {
                self.services.push(svc);
            } else {
                self.check_records(&svc);
                // Where there is no directory, no logger can be started for what is still in its pipe.
                if svc.kind == Kind::Logged && !svc.deleted {
                    self.check_log(&svc);
                }
                if !svc.deleted {
                    let _ = fs::remove_dir_all(&svc.dir);
                }
            }
        }
        self.pruned_all = false;
        self.end_leaving();
        for _ in 0..3 {
            let index = self.random.below(self.services.len() as u64) as usize;
            let up = self.random.below(2) == 0;
            self.must_obey(&[index], up);
        }
        if self.mode == Tree::Init {
            self.rc_must_obey();
        }
        self.check_messages();
    }

    /// The supervision of those that were told to leave ends with their present life, and begins anew.
    fn end_leaving(&mut self) {
        let leaving: Vec<usize> = (0..self.services.len()).filter(|i| self.services[*i].leaving).collect();
        if leaving.is_empty() {
            return;
        }
        for index in leaving {
            let dir = self.services[index].dir.display().to_string();
            self.run("svc", &["-wD", "-T", "30000", "-d", &dir], PATIENCE);
            (self.services[index].leaving, self.services[index].expect) = (false, Expect::Unknown);
        }
        // Where there is something to wait for it is a second away.
        std::thread::sleep(Duration::from_millis(1200));
        self.converge();
    }

    /// A command with nothing in its way must be answered, and soon.
    fn must_obey(&mut self, which: &[usize], up: bool) {
        let (wait, letter) = if up { ("-wu", "-u") } else { ("-wD", "-d") };
        let dirs: Vec<String> = which.iter().map(|i| self.services[*i].dir.display().to_string()).collect();
        let args = [wait, "-T", "30000", letter].into_iter().chain(dirs.iter().map(String::as_str));
        let code = self.run("svc", &args.collect::<Vec<_>>(), PATIENCE);
        for index in which {
            let svc = &mut self.services[*index];
            svc.expect = match up {
                _ if svc.is_of_rc() => Expect::Unknown,
                true => Expect::Up,
                false => Expect::Down,
            };
        }
        if code != 0 {
            let names: Vec<&str> = which.iter().map(|i| &*self.services[*i].name).collect();
            self.violation(format!("unanswered: svc {wait} {letter} {}: {code}", names.join(" ")));
        }
    }

    fn rc_must_obey(&mut self) {
        for (name, up) in [("o3", "up"), ("r1", "up")] {
            let code = self.run("rc-quiet", &["-t", "30000", up, name], PATIENCE);
            if code != 0 {
                self.violation(format!("unanswered: rc {up} {name}: {code}"));
            }
        }
    }

    // ------------------------------------------------------------------------------------ the end

    /// Everything that is permanent is up, was started by the present supervisor, and nothing else is there.
    pub fn settle(&mut self) {
        for index in (0..self.services.len()).rev() {
            let svc = &self.services[index];
            if !svc.permanent && svc.listed && svc.kind != Kind::Logger {
                self.remove(index, false);
            }
        }
        self.checkpoint();
        let (loggers, others): (Vec<usize>, Vec<usize>) =
            (0..self.services.len()).partition(|index| self.services[*index].kind == Kind::Logger);
        for (which, up) in [(&others, false), (&loggers, false), (&loggers, true), (&others, true)] {
            self.must_obey(which, up);
        }
        self.converge();
    }

    /// How many descriptors each supervisor has, and how many processes there are, when all is quiet. Fast
    /// services come and go: they are put down for this.
    pub fn inventory(&mut self) -> BTreeMap<String, usize> {
        // The one that started the supervisor listens in its place: the same one each time.
        self.checkpoint();
        for name in ["svscan", "supervise"] {
            std::thread::sleep(Duration::from_secs(1));
            if let Some(pid) = self.victim(name) {
                self.kill(pid, Signal::KILL);
            }
            self.checkpoint();
        }
        self.settle();
        let restless: Vec<usize> =
            (0..self.services.len()).filter(|index| self.services[*index].kind.is_restless()).collect();
        self.must_obey(&restless, false);
        let deadline = Instant::now() + PATIENCE;
        let mut last = BTreeMap::new();
        // Children that were left behind end within a second.
        loop {
            std::thread::sleep(Duration::from_millis(300));
            self.reap();
            self.find_supervisors();
            let now = self.count_everything();
            let strangers = now.contains_key("processes sleep") || now.contains_key("processes zombie");
            if now == last && !strangers || Instant::now() > deadline {
                return now;
            }
            last = now;
        }
    }

    fn count_everything(&self) -> BTreeMap<String, usize> {
        let mut found = BTreeMap::new();
        let descriptors = |pid: i32| fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, |d| d.count());
        for (name, pid) in [("supervise", self.supervise), ("svscan", self.svscan)] {
            found.insert(format!("descriptors of {name}"), pid.map_or(0, descriptors));
        }
        if self.mode == Tree::Init {
            found.insert("descriptors of init".into(), descriptors(1));
        }
        for process in self.processes() {
            let name =
                process.words.first().map_or("zombie", |w| w.rsplit('/').next().unwrap_or(w)).to_owned();
            *found.entry(format!("processes {name}")).or_default() += 1;
        }
        found
    }

    /// Writes down what the descriptors are, for whoever looks for a leak.
    pub fn list_descriptors(&self, when: &str) {
        let mut text = String::new();
        for pid in [self.supervise, self.svscan, Some(1)].into_iter().flatten() {
            let mut all: Vec<(u32, PathBuf)> = fs::read_dir(format!("/proc/{pid}/fd"))
                .into_iter()
                .flatten()
                .flatten()
                .filter_map(|e| Some((e.file_name().to_str()?.parse().ok()?, fs::read_link(e.path()).ok()?)))
                .collect();
            all.sort();
            for (number, what) in all {
                text += &format!("{pid} {number} {}\n", what.display());
            }
        }
        let _ = fs::write(self.base.join(format!("descriptors-{when}")), text);
    }

    pub fn check_everything(&mut self) {
        for oneshot in ["o1", "o2", "o3"] {
            let records = fs::read_to_string(self.base.join("data").join(oneshot).join("records"));
            for line in records.unwrap_or_default().lines().filter_map(|line| line.strip_prefix("VIOLATION "))
            {
                self.violation(format!("{oneshot}: {line}"));
            }
        }
        for svc in std::mem::take(&mut self.services) {
            self.check_records(&svc);
            if svc.kind == Kind::Logged {
                self.check_log(&svc);
            }
            self.services.push(svc);
        }
        self.check_messages();
    }

    /// What a service wrote down of itself, and what its finish script was told.
    fn check_records(&mut self, svc: &Svc) {
        let records = svc.records();
        for line in records.lines().filter_map(|line| line.strip_prefix("VIOLATION ")) {
            self.violation(format!("{}: {line}", svc.name));
        }
        let lives = lives(&records);
        *self.counts.entry("runs of services").or_default() += lives.len() as u64;
        for (number, life) in &lives {
            if life.told.len() > 1 {
                self.violation(format!("{}: run {number} was finished twice: {life:?}", svc.name));
            }
            for (code, signal) in &life.told {
                let ours = match (life.end.split_once(' '), *code) {
                    // It was killed on the way out, or before it could say anything. Only SIGKILL can do that.
                    (_, 256) if *signal == 9 => true,
                    (Some(("code", n)), code) => n.parse() == Ok(code) && *signal == 0,
                    (Some(("signal", n)), 256) => n.parse() == Ok(*signal),
                    _ => false,
                };
                // 255 is what is recorded when nobody can tell.
                if !(ours || self.lossy && *code == 255) {
                    self.violation(format!("{}: run {number} ended otherwise than told: {life:?}", svc.name));
                }
                *self.counts.entry("exit codes checked").or_default() += 1;
            }
        }
    }

    /// Each life's lines are all there, in order, up to the last that it wrote.
    fn check_log(&mut self, svc: &Svc) {
        // Its logger was told to end at once, with something left to read.
        let messages = fs::read_to_string(self.base.join("messages")).unwrap_or_default();
        let ended = format!("supervise {}/log: warning: ", svc.name);
        let said = |line: &str| line.starts_with(&ended) && line.contains("bytes in its pipe are lost");
        if self.pruned_all && messages.lines().any(said) {
            return;
        }
        // Before the log: lines may still come.
        let counts = fs::read(svc.data.join("counts")).unwrap_or_default();
        std::thread::sleep(Duration::from_millis(50));
        let mut seen: BTreeMap<u32, u32> = BTreeMap::new();
        for line in log_lines(&svc.data.join("log")) {
            match line {
                Ok((_, life, number)) => {
                    let next = seen.entry(life).or_default();
                    if number != *next {
                        let text =
                            format!("{}: log of run {life}: line {number} where {next} should be", svc.name);
                        self.violation(text);
                    }
                    *next = number + 1;
                    *self.counts.entry("log lines checked").or_default() += 1;
                }
                Err(text) => self.violation(format!("{}: torn log line {text:?}", svc.name)),
            }
        }
        for (index, word) in counts.chunks_exact(4).enumerate().skip(FIRST_COUNT) {
            let (life, written) =
                ((index - FIRST_COUNT) as u32, u32::from_ne_bytes(word.try_into().expect("4")));
            let got = seen.get(&life).copied().unwrap_or(0);
            // One more than it could count before it was killed is none too many.
            if got < written {
                let text = format!("{}: log of run {life}: {got} lines of {written} arrived", svc.name);
                self.violation(text);
            }
        }
    }

    /// What the programs said must never be these.
    fn check_messages(&mut self) {
        let log = fs::read(self.base.join("messages")).unwrap_or_default();
        let log = String::from_utf8_lossy(&log).into_owned();
        for line in log.lines() {
            let unknown = self.lossy && line.contains("while nobody supervised it");
            let bad = ["panicked", "nobody can tell", "fatal:", "RUST_BACKTRACE", "stack overflow"];
            if bad.iter().any(|word| line.contains(word)) && !unknown {
                self.violation(format!("message: {line}"));
            }
        }
    }
}

/// What is not as it should be with a service, when no fault is in its way.
fn problem_of(svc: &Svc) -> Option<String> {
    let holder = svc.holder();
    if !svc.listed {
        return holder.map(|pid| format!("it was removed and still runs ({pid})"));
    }
    if !svc.is_supervised() {
        return Some("it is not supervised".into());
    }
    let Some(status) = svc.status() else { return Some("its status cannot be read".into()) };
    let told = status.pid.map(|p| p.raw());
    match svc.expect {
        Expect::Up if !status.want_up => return Some(format!("it should be wanted up: {status:?}")),
        Expect::Down if status.want_up => return Some(format!("it should be wanted down: {status:?}")),
        Expect::Down if told.is_some() => return Some(format!("it should be down: {status:?}")),
        _ => {}
    }
    if svc.kind.is_restless() && status.want_up {
        return None;
    }
    if status.finishing {
        return Some(format!("it finishes: {status:?}"));
    }
    if status.want_up && !status.is_up() {
        return Some(format!("it is wanted up and is not: {status:?}"));
    }
    if status.is_up() && holder != told {
        return Some(format!("told {told:?}, real {holder:?}"));
    }
    if let Some(pid) = holder {
        if told != Some(pid) {
            return Some(format!("told {told:?}, real {holder:?}"));
        }
        if process(pid).is_none_or(|p| p.state == b'T' || p.state == b'Z') {
            return Some(format!("its process {pid} is stopped or dead"));
        }
        let records = svc.records();
        if let Some((_, life)) = lives(&records).into_iter().next_back()
            && svc.kind == Kind::Notifying
            && !(life.ready && status.ready)
        {
            return Some(format!("ready: told {}, real {}", status.ready, life.ready));
        }
    }
    None
}
