//! What is shown of a pool: a table, JSON, a line in its log. Read from disk, whoever asks.

use super::place::{self, LOCK, POOL};
use super::worker::{Counts, Said};
use crate::diag::{Error, Result};
use crate::ordered;
use crate::report::json::Json;
use crate::report::metrics::Usage;
use crate::report::service::Service;
use crate::report::table::{Cell, Table, Tone};
use crate::report::{age, count};
use crate::servicedir::client::{Client, is_locked};
use crate::servicedir::state::State;
use crate::servicedir::status::Status;
use crate::servicedir::{self, definition};
use crate::sys::clock;
use crate::time::Tai64n;
use rustix::fs::{AtFlags, CWD, statat};
use std::fmt::Write as _;
use std::fs;
use std::time::Duration;

/// One worker.
pub struct Worker {
    service: Service,
    /// It was told to take no more work.
    draining: bool,
    said: Said,
    usage: Option<Usage>,
}

/// A pool.
pub struct View {
    /// Its name.
    pub name: String,
    /// svpool is at work.
    pub running: bool,
    /// What svpool has written of it, as `key=value`.
    facts: Vec<(String, String)>,
    workers: Vec<Worker>,
    /// Of workers that are gone.
    retired: Counts,
    now: Tai64n,
}

impl View {
    /// Of the pool whose copies are in `copies`. None: there is no pool.
    pub fn of(copies: &str) -> Result<Option<View>> {
        let Ok(text) = fs::read_to_string(format!("{copies}/{POOL}")) else { return Ok(None) };
        let facts = text.lines().filter_map(|line| line.split_once('='));
        let facts: Vec<(String, String)> = facts.map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
        let name = facts.iter().find(|(key, _)| key == "name").map(|(_, name)| name.clone());
        let Some(name) = name else {
            return Err(Error::usage(format!("{copies}/{POOL} has no name in it")));
        };
        let entries = fs::read_dir(copies).into_iter().flatten().flatten();
        let numbers = entries.filter_map(|entry| place::number(&name, entry.file_name().to_str()?));
        let numbers = ordered::sorted(numbers.collect());
        // One that has just gone is not looked at.
        let workers = numbers.into_iter().filter_map(|n| Worker::of(copies, format!("{name}@{n}")).ok());
        let workers = workers.collect();
        let running = is_locked(CWD, &format!("{copies}/{LOCK}")).unwrap_or(false);
        let retired = place::retired(copies).0;
        Ok(Some(View { name, running, facts, workers, retired, now: clock::wall() }))
    }

    fn fact(&self, key: &str) -> Option<&str> {
        self.facts.iter().find(|(known, _)| known == key).map(|(_, value)| &**value)
    }

    fn number(&self, key: &str) -> Option<i64> {
        self.fact(key)?.parse().ok()
    }

    fn busy(&self) -> usize {
        self.workers.iter().filter(|w| w.busy() == Some(true)).count()
    }

    fn counts(&self) -> Counts {
        let mut counts = self.retired;
        self.workers.iter().for_each(|w| counts += w.said.counts);
        counts
    }

    fn usage(&self) -> Usage {
        self.workers.iter().filter_map(|w| w.usage).fold(Usage::default(), |sum, one| Usage {
            memory: sum.memory + one.memory,
            cpu: sum.cpu + one.cpu,
        })
    }

    /// How many there are and why: `5 workers (1 to 5), 3 busy, metric 812`.
    fn size(&self) -> String {
        let range = [self.fact("min").unwrap_or("?"), self.fact("max").unwrap_or("?")];
        let mut text = count(self.workers.len(), "worker");
        let _ = write!(text, " ({} to {}), {} busy", range[0], range[1], self.busy());
        if let Some(metric) = self.fact("metric") {
            let _ = write!(text, ", metric {metric}");
        }
        if let Some(left) = self.fact("restarting") {
            let _ = write!(text, ", {left} to restart");
        }
        if let Some(failure) = self.fact("failure") {
            let _ = write!(text, ", {failure}");
        }
        if !self.running {
            text.push_str(", svpool is not running");
        }
        text
    }

    /// The line for a log.
    pub fn line(&self) -> String {
        let (counts, usage) = (self.counts(), self.usage());
        let success = counts.success().map_or(String::new(), |rate| format!(" ({})", percent(rate)));
        format!(
            "{}; done {}, failed {}{success}; {}, {} of processor time",
            self.size(),
            counts.done,
            counts.failed,
            bytes(usage.memory),
            seconds(usage.cpu)
        )
    }

    /// The table, with a line before it.
    pub fn table(&self, colour: bool) -> String {
        let mut table = Table::new(
            &["worker", "state", "load", "pid", "age", "done", "failed", "success", "memory", "cpu"],
            &[3, 5, 6, 7, 8, 9],
        );
        self.workers.iter().for_each(|w| table.row(w.row(self.now)));
        let mut total = vec![plain("total"), plain(""), plain(""), plain(""), plain("")];
        total.extend(numbers(self.counts(), Some(self.usage())));
        table.row(total);
        format!("{}: {}\n{}", self.name, self.size(), table.to_text(colour))
    }

    /// The object for programs.
    pub fn json(&self) -> Json {
        let mut pairs = vec![
            ("name", self.name.clone().into()),
            ("running", self.running.into()),
            ("min", self.number("min").into()),
            ("max", self.number("max").into()),
            ("wanted", self.number("wanted").into()),
            ("metric", self.number("metric").into()),
            ("failure", self.fact("failure").map(str::to_owned).into()),
            ("restarting", self.number("restarting").unwrap_or(0).into()),
            ("busy", (self.busy() as i64).into()),
        ];
        pairs.extend(json_numbers(self.counts(), Some(self.usage())));
        pairs.push(("workers", Json::List(self.workers.iter().map(|w| w.json(self.now)).collect())));
        Json::Object(pairs)
    }
}

impl Worker {
    fn of(copies: &str, name: String) -> Result<Worker> {
        let client = Client::open(&format!("{copies}/{name}"))?;
        let supervised = client.is_supervised()?;
        let status = client.status().unwrap_or(Status { paused: true, ..Status::default() });
        let state = servicedir::read_file(client.dir(), "supervise/state").unwrap_or_default();
        let state = State::parse(&state);
        let notifies = definition::tells_ready(client.dir());
        let service = Service { name, supervised, status, state, down_file: false, notifies };
        let said = place::said(&client).map_or(Said::default(), |(said, _)| said);
        let draining = statat(client.dir(), place::DRAIN, AtFlags::empty()).is_ok();
        let usage = status.pid.filter(|_| status.is_up()).and_then(Usage::of);
        Ok(Worker { service, draining, said, usage })
    }

    fn word(&self) -> (&'static str, Tone) {
        match self.service.word() {
            ("up", _) if self.draining => ("draining", Tone::Fair),
            word => word,
        }
    }

    fn busy(&self) -> Option<bool> {
        self.said.busy.filter(|_| self.service.status.is_up())
    }

    fn load(&self) -> Option<&'static str> {
        self.busy().map(|busy| if busy { "busy" } else { "idle" })
    }

    fn row(&self, now: Tai64n) -> Vec<Cell> {
        let (status, (word, tone)) = (&self.service.status, self.word());
        let pid = status.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string());
        let mut row = vec![
            plain(&self.service.name),
            (word.to_owned(), tone),
            plain(self.load().unwrap_or("-")),
            plain(&pid),
            plain(&age(status.stamp.age(now))),
        ];
        row.extend(numbers(self.said.counts, self.usage));
        row
    }

    fn json(&self, now: Tai64n) -> Json {
        let Json::Object(mut pairs) = self.service.json(now) else { return Json::Null };
        pairs.push(("load", self.load().map(str::to_owned).into()));
        pairs.push(("draining", self.draining.into()));
        pairs.extend(json_numbers(self.said.counts, self.usage));
        Json::Object(pairs)
    }
}

fn plain(text: &str) -> Cell {
    (text.to_owned(), Tone::Plain)
}

/// The columns that are added up.
fn numbers(counts: Counts, usage: Option<Usage>) -> [Cell; 5] {
    let success = counts.success().map_or_else(|| "-".to_owned(), percent);
    let usage = usage.map(|usage| (bytes(usage.memory), seconds(usage.cpu)));
    let (memory, cpu) = usage.unwrap_or_else(|| ("-".to_owned(), "-".to_owned()));
    [counts.done.to_string(), counts.failed.to_string(), success, memory, cpu].map(|text| plain(&text))
}

fn json_numbers(counts: Counts, usage: Option<Usage>) -> [(&'static str, Json); 5] {
    let thousandths = |n: u64| Json::Seconds(Duration::from_millis(n));
    [
        ("done", (counts.done as i64).into()),
        ("failed", (counts.failed as i64).into()),
        ("success_rate", counts.success().map_or(Json::Null, thousandths)),
        ("memory_bytes", usage.map(|usage| usage.memory as i64).into()),
        ("cpu_seconds", usage.map_or(Json::Null, |usage| thousandths(usage.cpu * 10))),
    ]
}

/// `99.8 %`
fn percent(thousandths: u64) -> String {
    format!("{}.{} %", thousandths / 10, thousandths % 10)
}

/// `12.3 MiB`
fn bytes(n: u64) -> String {
    let tenths = n * 10 / (1 << 20);
    format!("{}.{} MiB", tenths / 10, tenths % 10)
}

/// `1.25 s`, of hundredths
fn seconds(n: u64) -> String {
    format!("{}.{:02} s", n / 100, n % 100)
}
