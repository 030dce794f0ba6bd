//! What services are, dependencies and all: for people and for programs.

use super::graph::{Index, Kind};
use super::live::Live;
use super::source::{Definitions, Findings, Problem};
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
    name: String,
    longrun: bool,
    needs: Vec<String>,
    word: (String, Tone),
    status: Status,
    restarts: u32,
    notifies: bool,
    failure: Option<String>,
}

/// Looks at every service of a live directory that people are shown.
pub fn rows(live: &Live) -> Vec<Row> {
    live.graph.shown().map(|index| row(live, index)).collect()
}

fn row(live: &Live, index: Index) -> Row {
    let service = &live.graph.services[index];
    let path = match service.longrun {
        true => format!("{}/servicedirs/{}", live.path, service.name),
        false => live.oneshot(index),
    };
    let read = |file: &str| servicedir::read_file(CWD, format!("{path}/supervise/{file}"));
    let status = read("status").ok().and_then(|b| Status::unpack(&b));
    let state = read("state").map(|b| State::parse(&b)).unwrap_or_default();
    let word = match service.longrun {
        true => {
            let there = |file: &str| statat(CWD, format!("{path}/{file}"), AtFlags::empty()).is_ok();
            let supervised = servicedir::open(CWD, &*path).is_ok_and(|dir| is_supervised(&dir) == Ok(true));
            let longrun = Longrun {
                name: service.name.clone(),
                supervised,
                status: status.unwrap_or_default(),
                state: state.clone(),
                down_file: there("down"),
                notifies: service.notifies,
            };
            let (word, tone) = longrun.word();
            (word.to_owned(), tone)
        }
        false => oneshot_word(state.oneshot.as_deref()),
    };
    Row {
        name: service.name.clone(),
        longrun: service.longrun,
        needs: live.graph.shown_needs(index).iter().map(|n| live.graph.name(*n).to_owned()).collect(),
        word,
        status: status.unwrap_or(Status { paused: true, ..Status::default() }),
        restarts: state.starts.saturating_sub(1),
        notifies: service.notifies,
        failure: state.failure,
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
    fn took(&self) -> Option<Duration> {
        let measured = match self.longrun {
            true => self.notifies && self.status.is_ready(),
            false => self.status.pid.is_none() && !self.status.is_fresh() && self.word.0 != "down",
        };
        measured.then(|| self.status.stamp.age(self.status.ready_stamp))
    }

    fn cells(&self, now: Tai64n) -> Vec<Cell> {
        let faint = || ("-".to_owned(), Tone::Faint);
        let plain = |text: String| (text, Tone::Plain);
        let since = if self.longrun { self.status.stamp } else { self.status.ready_stamp };
        vec![
            plain(self.name.clone()),
            plain(if self.longrun { "longrun" } else { "oneshot" }.to_owned()),
            (self.word.0.clone(), self.word.1),
            self.status.pid.map_or_else(faint, |pid| plain(pid.to_string())),
            if self.status.is_fresh() { faint() } else { plain(age(since.age(now))) },
            self.took().map_or_else(faint, |d| plain(took(d))),
            plain(self.restarts.to_string()),
            if self.needs.is_empty() { faint() } else { plain(self.needs.join(" ")) },
        ]
    }

    fn json(&self, now: Tai64n) -> Json {
        let seconds = |d: Duration| Json::Seconds(d);
        Json::Object(vec![
            ("name", self.name.clone().into()),
            ("type", if self.longrun { "longrun" } else { "oneshot" }.into()),
            ("state", self.word.0.clone().into()),
            ("pid", self.status.pid.map(|p| p.raw() as i64).into()),
            (
                "age_seconds",
                if self.status.is_fresh() { Json::Null } else { seconds(self.status.stamp.age(now)) },
            ),
            ("took_seconds", self.took().map_or(Json::Null, seconds)),
            ("restarts", (self.restarts as i64).into()),
            ("failure", self.failure.clone().into()),
            ("needs", Json::List(self.needs.iter().map(|n| n.clone().into()).collect())),
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
    let head = ["name", "type", "state", "pid", "age", "took", "restarts", "needs"];
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
