//! What services are, dependencies and all: for people and for programs.

use super::graph::{Index, Kind};
use super::live::Live;
use super::source::{Definitions, Findings, Problem};
use super::times::before;
use super::timing::{self, Outcome, Timing, Timings};
use super::underway::{self, Underway};
use crate::ordered;
use crate::process::{End, WaitStatus};
use crate::report::json::Json;
use crate::report::service::Service as Longrun;
use crate::report::table::{Cell, Table, Tone};
use crate::report::{age, count, took};
use crate::servicedir;
use crate::servicedir::client::is_supervised;
use crate::servicedir::state::State;
use crate::servicedir::status::Status;
use crate::time::Tai64n;
use rustix::fs::{AtFlags, CWD, statat};
use std::fmt::Write as _;
use std::time::Duration;

/// What one service is.
pub struct Row {
    /// Which.
    pub index: Index,
    name: String,
    longrun: bool,
    /// One word for what it is, and how people are shown it.
    pub word: (String, Tone),
    /// `supervise/status`; of a service that was never supervised one that says so.
    pub status: Status,
    /// `supervise/state`
    pub state: State,
    notifies: bool,
    essential: bool,
    needs: Vec<String>,
    wants: Vec<String>,
    after: Vec<String>,
    /// It was not up in time, and given up after this long.
    pub late: Option<Duration>,
    /// What it waits for, where it waits for others, or was not started because of them.
    pub waits_for: Vec<String>,
}

/// Looks at the services of a live directory.
pub struct Look<'a> {
    live: &'a Live,
    /// When what was done, as far as that is known.
    pub timings: Timings,
    /// The change that is being made.
    pub underway: Option<Underway>,
}

impl<'a> Look<'a> {
    /// Reads what is not of a single service.
    pub fn new(live: &'a Live) -> Look<'a> {
        Look { live, timings: timing::read(&live.path), underway: underway::read(&live.path) }
    }

    /// All services that people are shown.
    pub fn rows(&self) -> Vec<Row> {
        self.live.graph.shown().map(|index| self.row(index)).collect()
    }

    /// The directory that a service has its `supervise` in.
    pub fn directory(&self, index: Index) -> String {
        match self.live.graph.services[index].longrun {
            true => format!("{}/servicedirs/{}", self.live.path, self.live.graph.name(index)),
            false => self.live.oneshot(index),
        }
    }

    /// One service.
    pub fn row(&self, index: Index) -> Row {
        let mut row = self.own(index);
        let graph = &self.live.graph;
        let over = match row.word.0.as_str() {
            "down" => self.why_down(row.name()),
            _ => None,
        };
        if over.is_some_and(|(word, ..)| word == "failed") {
            let late = self.last_try(row.name()).filter(|timing| timing.outcome == Outcome::TimedOut);
            row.late = late.and_then(|timing| Some(timing.ended?.since(timing.started?)));
        }
        if let Some((word, tone, waits)) = over {
            row.word = (word.to_owned(), tone);
            if waits {
                let names = before(graph, index).into_iter().filter(|i| !self.own(*i).is_up());
                row.waits_for = ordered::unique(names.map(|i| graph.name(i).to_owned()).collect());
            }
        }
        row
    }

    /// What a service that is down is besides: it waits for others, or the last try failed. With `true` what
    /// it waits for matters.
    fn why_down(&self, name: &str) -> Option<(&'static str, Tone, bool)> {
        if self.underway.as_ref().is_some_and(|change| change.up && change.has(name)) {
            return Some(("waiting", Tone::Fair, true));
        }
        let last = self.last_try(name)?;
        match last.outcome {
            Outcome::Failed | Outcome::TimedOut => Some(("failed", Tone::Bad, false)),
            // Its condition was asked, and is not so.
            Outcome::Skipped if last.started.is_some() => Some(("skipped", Tone::Faint, false)),
            Outcome::Skipped => Some(("blocked", Tone::Bad, true)),
            _ => None,
        }
    }

    /// The last time that it was brought up, if it was not taken down since.
    pub fn last_try(&self, name: &str) -> Option<Timing> {
        let up = self.timings.get(&(true, name.to_owned()))?;
        let down = self.timings.get(&(false, name.to_owned()));
        down.is_none_or(|down| down.asked <= up.asked).then_some(*up)
    }

    /// What its own directory says.
    fn own(&self, index: Index) -> Row {
        let live = self.live;
        let service = &live.graph.services[index];
        let path = self.directory(index);
        let read = |file: &str| servicedir::read_file(CWD, format!("{path}/supervise/{file}"));
        let status = read("status").ok().and_then(|b| Status::unpack(&b));
        let state = read("state").map(|b| State::parse(&b)).unwrap_or_default();
        let word = match service.longrun {
            true => {
                let there = |file: &str| statat(CWD, format!("{path}/{file}"), AtFlags::empty()).is_ok();
                let supervised =
                    servicedir::open(CWD, &*path).is_ok_and(|dir| is_supervised(&dir) == Ok(true));
                let longrun = Longrun {
                    name: service.name.clone(),
                    supervised,
                    status: status.unwrap_or_default(),
                    state: state.clone(),
                    down_file: there("down"),
                    notifies: service.notifies,
                };
                let (word, tone) = match (longrun.word(), state.mode.as_deref()) {
                    (("unsupervised", tone), _) => ("unsupervised", tone),
                    (_, Some("skipped")) => ("skipped", Tone::Faint),
                    (_, Some("gave-up")) => ("failed", Tone::Bad),
                    (_, Some("asking")) => ("starting", Tone::Fair),
                    (word, _) => word,
                };
                (word.to_owned(), tone)
            }
            false => oneshot_word(state.oneshot.as_deref()),
        };
        let names = |list: &[Index]| list.iter().map(|n| live.graph.name(*n).to_owned()).collect();
        Row {
            index,
            name: service.name.clone(),
            longrun: service.longrun,
            word,
            status: status.unwrap_or(Status { paused: true, ..Status::default() }),
            state,
            notifies: service.notifies,
            essential: service.essential,
            needs: names(&live.graph.shown_needs(index)),
            wants: names(&service.wants),
            after: names(&service.after),
            late: None,
            waits_for: Vec::new(),
        }
    }
}

fn oneshot_word(word: Option<&str>) -> (String, Tone) {
    let tone = match word {
        Some("up") => Tone::Good,
        Some("failed") => Tone::Bad,
        Some("starting" | "stopping") => Tone::Fair,
        _ => Tone::Faint,
    };
    (word.unwrap_or("down").to_owned(), tone)
}

impl Row {
    /// How long it took to be ready, or to run.
    pub fn took(&self) -> Option<Duration> {
        let measured = match self.longrun {
            true => self.notifies && self.status.is_ready(),
            false => self.status.pid.is_none() && !self.status.is_fresh() && self.word.0 != "down",
        };
        measured.then(|| self.status.stamp.age(self.status.ready_stamp))
    }

    /// How its last process ended, if one has.
    pub fn last_exit(&self) -> Option<WaitStatus> {
        let none = self.status.is_fresh()
            || self.status.pid.is_some() && (self.state.deaths == 0 || !self.longrun)
            || !self.longrun && self.word.0 == "down";
        (!none).then_some(self.status.wait)
    }

    /// How long it has been what it is. None: it never was anything else.
    pub fn age(&self, now: Tai64n) -> Option<Duration> {
        let over = !self.longrun && self.status.pid.is_none();
        let since = if over { self.status.ready_stamp } else { self.status.stamp };
        (!self.status.is_fresh()).then(|| since.age(now))
    }

    /// When it is tried again.
    pub fn retry(&self, now: Tai64n) -> Option<Duration> {
        self.state.retry.filter(|_| self.status.pid.is_none()).map(|at| now.age(at))
    }

    /// That it was not up in time, if so.
    pub fn not_in_time(&self) -> Option<String> {
        self.late.map(|time| format!("not up within {}", took(time)))
    }

    /// What there is to say beside its word.
    fn note(&self, now: Tai64n) -> String {
        let mut parts = Vec::new();
        if !self.waits_for.is_empty() {
            parts.push(format!(
                "{} {}",
                if self.word.0 == "waiting" { "for" } else { "by" },
                self.waits_for.join(" ")
            ));
        }
        match (&self.state.failure, self.last_exit()) {
            _ if self.late.is_some() => parts.extend(self.not_in_time()),
            (Some(failure), _) if !self.status.is_up() => parts.push(failure.clone()),
            (_, Some(wait)) if !self.is_up() && self.word.0 != "down" => parts.push(wait.to_string()),
            _ => {}
        }
        match self.state.mode.as_deref() {
            Some("fallback") => parts.push("its fallback runs".to_owned()),
            Some("gave-up") => parts.push("given up after many deaths".to_owned()),
            _ => {}
        }
        if let Some(text) = &self.state.status {
            parts.push(text.clone());
        }
        if let Some((_, why)) = &self.state.refused {
            parts.push(format!("validate failed: {why}"));
        }
        if let Some(wait) = self.retry(now) {
            parts.push(format!("again in {}", took(wait)));
        }
        parts.join(", ")
    }

    fn cells(&self, now: Tai64n) -> Vec<Cell> {
        let faint = || ("-".to_owned(), Tone::Faint);
        let plain = |text: String| (text, Tone::Plain);
        let note = self.note(now);
        vec![
            plain(self.name.clone()),
            plain(if self.longrun { "longrun" } else { "oneshot" }.to_owned()),
            self.word.clone(),
            self.status.pid.map_or_else(faint, |pid| plain(pid.to_string())),
            self.age(now).map_or_else(faint, |d| plain(age(d))),
            self.took().map_or_else(faint, |d| plain(took(d))),
            plain(self.restarts().to_string()),
            if note.is_empty() { faint() } else { plain(note) },
        ]
    }

    /// How often it was started again.
    fn restarts(&self) -> u32 {
        self.state.starts.saturating_sub(1)
    }

    fn json(&self, now: Tai64n) -> Json {
        let seconds = |d: Option<Duration>| d.map_or(Json::Null, Json::Seconds);
        let names = |list: &[String]| Json::List(list.iter().map(|n| n.clone().into()).collect());
        let (code, signal) = match self.last_exit().map(WaitStatus::end) {
            None => (None, None),
            Some(End::Exit(code)) => (Some(i64::from(code)), None),
            Some(End::Signal(signal)) => (None, Some(signal.to_string())),
        };
        Json::Object(vec![
            ("name", self.name.clone().into()),
            ("type", if self.longrun { "longrun" } else { "oneshot" }.into()),
            ("state", self.word.0.clone().into()),
            ("up", self.is_up().into()),
            ("pid", self.status.pid.map(|p| p.raw() as i64).into()),
            ("age_seconds", seconds(self.age(now))),
            ("took_seconds", seconds(self.took())),
            ("restarts", i64::from(self.restarts()).into()),
            ("exit_code", code.into()),
            ("signal", signal.into()),
            ("cause", self.state.cause.clone().into()),
            ("by", self.state.by.clone().into()),
            ("status", self.state.status.clone().into()),
            ("why", self.state.why.clone().into()),
            ("mode", self.state.mode.clone().into()),
            ("failure", self.state.failure.clone().into()),
            ("validate_failed", self.state.refused.as_ref().map(|(_, why)| why.clone()).into()),
            ("retry_seconds", seconds(self.retry(now))),
            ("waits_for", names(&self.waits_for)),
            ("essential", self.essential.into()),
            ("needs", names(&self.needs)),
            ("wants", names(&self.wants)),
            ("after", names(&self.after)),
        ])
    }

    /// The service's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it is up, and ready if it can say so.
    pub fn is_up(&self) -> bool {
        self.word.0 == "up"
    }
}

/// The table of `rc status`.
pub fn table(rows: &[Row], now: Tai64n, colour: bool) -> String {
    let head = ["name", "type", "state", "pid", "age", "took", "restarts", "note"];
    let mut table = Table::new(&head, &[3, 6]);
    rows.iter().for_each(|row| table.row(row.cells(now)));
    table.to_text(colour)
}

/// The array of `rc status --json`.
pub fn json(rows: &[Row], now: Tai64n) -> String {
    Json::List(rows.iter().map(|row| row.json(now)).collect()).to_text() + "\n"
}

/// What `rc check` prints: every problem on a line of its own, then how many.
pub fn findings(findings: &Findings, definitions: &Definitions) -> String {
    let mut text = String::new();
    let mut list = |level: &str, problems: &[Problem]| {
        for problem in problems {
            let _ = writeln!(text, "{level}: {problem}");
        }
    };
    list("warning", &findings.warnings);
    list("error", &findings.errors);
    let own = |kind: Kind| definitions.values().filter(|d| !d.is_built_in() && d.kind == Some(kind)).count();
    let _ = writeln!(
        text,
        "{}, {}, {}: {}, {}",
        count(own(Kind::Longrun), "longrun"),
        count(own(Kind::Oneshot), "oneshot"),
        count(own(Kind::Bundle), "bundle"),
        count(findings.errors.len(), "error"),
        count(findings.warnings.len(), "warning")
    );
    if findings.layer {
        text += "this is a layer of an image: interpreters were not looked for\n";
    }
    text
}
