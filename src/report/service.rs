//! What a service is, for people and for programs: s6-svstat's line and fields, a table row, a JSON object.

use super::age;
use super::json::Json;
use super::table::{Cell, Tone};
use crate::process::End;
use crate::servicedir::state::State;
use crate::servicedir::status::Status;
use crate::time::Tai64n;
use std::fmt::Write as _;

/// All that can be known of a service from its directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Service {
    /// Its name in the scan directory, or its path.
    pub name: String,
    /// A supervisor is at work on it.
    pub supervised: bool,
    /// `supervise/status`
    pub status: Status,
    /// `supervise/state`
    pub state: State,
    /// There is a file `down`: it is normally down.
    pub down_file: bool,
    /// It can say that it is ready.
    pub notifies: bool,
}

/// One fact of a service, as `svstat -o` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// `up`
    Up,
    /// `wantedup`
    WantedUp,
    /// `normallyup`
    NormallyUp,
    /// `ready`
    Ready,
    /// `paused`
    Paused,
    /// `pid`
    Pid,
    /// `pgid`
    Pgid,
    /// `exitcode`
    ExitCode,
    /// `signal`
    Signal,
    /// `signum`
    Signum,
    /// `updownsince`
    UpDownSince,
    /// `readysince`
    ReadySince,
    /// `updownfor`
    UpDownFor,
    /// `readyfor`
    ReadyFor,
}

const FIELDS: [(&str, Field); 14] = [
    ("up", Field::Up),
    ("wantedup", Field::WantedUp),
    ("normallyup", Field::NormallyUp),
    ("ready", Field::Ready),
    ("paused", Field::Paused),
    ("pid", Field::Pid),
    ("pgid", Field::Pgid),
    ("exitcode", Field::ExitCode),
    ("signal", Field::Signal),
    ("signum", Field::Signum),
    ("updownsince", Field::UpDownSince),
    ("readysince", Field::ReadySince),
    ("updownfor", Field::UpDownFor),
    ("readyfor", Field::ReadyFor),
];

impl Field {
    /// By its name. As s6 up to 2.12 did, a beginning of a name is taken for it if there is only one such.
    pub fn by_name(name: &str) -> Option<Field> {
        if let Some((_, field)) = FIELDS.iter().find(|(known, _)| *known == name) {
            return Some(*field);
        }
        let mut begun = FIELDS.iter().filter(|(known, _)| !name.is_empty() && known.starts_with(name));
        match (begun.next(), begun.next()) {
            (Some((_, field)), None) => Some(*field),
            _ => None,
        }
    }
}

impl Service {
    /// The value of a field as s6-svstat prints it.
    pub fn field(&self, field: Field, now: Tai64n) -> String {
        let status = &self.status;
        let pid = status.pid.map_or(-1, |p| p.raw());
        // How the last run ended is of interest only while none is up.
        let (code, signal, signum) = match status.wait.end() {
            _ if status.is_up() => (-1, "NA".to_owned(), -1),
            End::Exit(code) => (code as i32, "NA".to_owned(), -1),
            End::Signal(s) => (-1, s.to_string(), s.0 as i32),
        };
        match field {
            Field::Up => status.is_up().to_string(),
            Field::WantedUp => status.want_up.to_string(),
            Field::NormallyUp => (!self.down_file).to_string(),
            Field::Ready => status.is_ready().to_string(),
            Field::Paused => (status.paused && !status.is_fresh()).to_string(),
            Field::Pid | Field::Pgid => if status.is_up() { pid } else { -1 }.to_string(),
            Field::ExitCode => code.to_string(),
            Field::Signal => signal,
            Field::Signum => signum.to_string(),
            Field::UpDownSince => status.stamp.to_string(),
            Field::ReadySince => status.ready_stamp.to_string(),
            Field::UpDownFor => status.stamp.age(now).as_secs().to_string(),
            Field::ReadyFor => status.ready_stamp.age(now).as_secs().to_string(),
        }
    }

    /// The line that s6-svstat prints; `numeric` is its -n, signals by number.
    pub fn line(&self, now: Tai64n, numeric: bool) -> String {
        let status = &self.status;
        let seconds = status.stamp.age(now).as_secs();
        let mut line = match (status.is_up(), status.pid, status.wait.end()) {
            (true, Some(pid), _) => format!("up (pid {pid}) {seconds} seconds"),
            _ if status.is_fresh() => format!("down (not started yet) {seconds} seconds"),
            (_, _, End::Exit(code)) => format!("down (exitcode {code}) {seconds} seconds"),
            (_, _, End::Signal(s)) if numeric => format!("down (signal {}) {seconds} seconds", s.0),
            (_, _, End::Signal(signal)) => format!("down (signal {signal}) {seconds} seconds"),
        };
        let up = status.is_up();
        line.push_str(match (up, self.down_file) {
            (true, true) => ", normally down",
            (false, false) => ", normally up",
            _ => "",
        });
        if status.paused && !status.is_fresh() {
            line.push_str(", paused");
        }
        line.push_str(match (up, status.want_up) {
            (false, true) => ", want up",
            (true, false) => ", want down",
            _ => "",
        });
        if status.ready && !status.is_fresh() {
            let _ = write!(line, ", ready {} seconds", status.ready_stamp.age(now).as_secs());
        }
        self.add_features(&mut line, now);
        line
    }

    /// What there is to say of a service with files that s6 does not have.
    fn add_features(&self, line: &mut String, now: Tai64n) {
        if let Some(mode) = &self.state.mode {
            let _ = write!(line, ", {mode}");
        }
        if let Some(text) = &self.state.status {
            let _ = write!(line, ", status: {text}");
        }
        if let Some((times, why)) = &self.state.unwell {
            let _ = write!(line, ", health failed {times} times: {why}");
        }
        if let Some((at, why)) = &self.state.refused {
            let _ = write!(line, ", validate failed {} seconds ago: {why}", at.age(now).as_secs());
        }
    }

    /// One word for what it is doing.
    pub fn word(&self) -> (&'static str, Tone) {
        let status = &self.status;
        match () {
            () if !self.supervised => ("unsupervised", Tone::Bad),
            () if status.finishing => ("finishing", Tone::Fair),
            () if status.is_up() && status.paused => ("paused", Tone::Fair),
            () if status.is_up() && !status.want_up => ("stopping", Tone::Fair),
            () if status.is_up() && self.notifies && !status.ready => ("starting", Tone::Fair),
            () if status.is_up() => ("up", Tone::Good),
            () if self.state.failure.is_some() => ("failing", Tone::Bad),
            () if status.want_up => ("waiting", Tone::Fair),
            () => ("down", Tone::Faint),
        }
    }

    /// Its row in the table of all services.
    pub fn row(&self, now: Tai64n) -> Vec<Cell> {
        let status = &self.status;
        let plain = |text: String| (text, Tone::Plain);
        let faint = |text: &str| (text.to_owned(), Tone::Faint);
        let (word, tone) = self.word();
        let ready = match () {
            () if !status.is_up() => faint("-"),
            () if status.ready => ("yes".to_owned(), Tone::Good),
            () if self.notifies => ("no".to_owned(), Tone::Fair),
            () => faint("-"),
        };
        let ended = status.is_fresh() || (status.is_up() && self.state.deaths == 0);
        let last = match () {
            () if self.state.failure.is_some() && !status.is_up() => {
                (self.state.failure.clone().unwrap_or_default(), Tone::Bad)
            }
            () if ended => faint("-"),
            () if self.state.cause.as_deref() == Some("oom") => {
                (format!("{}: memory ran out", status.wait), Tone::Bad)
            }
            () => plain(status.wait.to_string()),
        };
        vec![
            plain(self.name.clone()),
            (word.to_owned(), tone),
            status.pid.map_or_else(|| faint("-"), |pid| plain(pid.to_string())),
            if self.supervised { plain(age(status.stamp.age(now))) } else { faint("-") },
            ready,
            plain(self.restarts().to_string()),
            last,
        ]
    }

    /// How often it was started again.
    pub fn restarts(&self) -> u32 {
        self.state.starts.saturating_sub(1)
    }

    /// The object for programs.
    pub fn json(&self, now: Tai64n) -> Json {
        let status = &self.status;
        let (code, signal) = match status.wait.end() {
            _ if status.is_fresh() || (status.is_up() && self.state.deaths == 0) => (None, None),
            End::Exit(code) => (Some(code as i64), None),
            End::Signal(signal) => (None, Some(signal.to_string())),
        };
        let (seconds, signal_of) = (|t: Tai64n| Json::Seconds(t.age(now)), signal.clone());
        Json::Object(vec![
            ("name", self.name.clone().into()),
            ("state", self.word().0.into()),
            ("supervised", self.supervised.into()),
            ("up", status.is_up().into()),
            ("ready", status.is_ready().into()),
            ("wanted_up", status.want_up.into()),
            ("normally_up", (!self.down_file).into()),
            ("paused", (status.paused && !status.is_fresh()).into()),
            ("pid", status.pid.map(|p| p.raw() as i64).into()),
            ("age_seconds", seconds(status.stamp)),
            ("ready_seconds", if status.is_ready() { seconds(status.ready_stamp) } else { Json::Null }),
            ("restarts", (self.restarts() as i64).into()),
            ("deaths", (self.state.deaths as i64).into()),
            ("adopted", (self.state.adopted as i64).into()),
            ("exit_code", code.into()),
            ("signal", signal.into()),
            ("failure", self.state.failure.clone().into()),
            ("core_dumped", (signal_of.is_some() && status.wait.dumped_core()).into()),
            ("cause", self.state.cause.clone().into()),
            ("by", self.state.by.clone().into()),
            ("mode", self.state.mode.clone().into()),
            ("status", self.state.status.clone().into()),
            ("why", self.state.why.clone().into()),
            ("unwell", self.state.unwell.as_ref().map(|(_, why)| why.clone()).into()),
            ("validate_failed", self.state.refused.as_ref().map(|(_, why)| why.clone()).into()),
        ])
    }
}

/// The headings of [`Service::row`], and which columns are numbers.
pub const HEAD: ([&str; 7], &[usize]) =
    (["name", "state", "pid", "age", "ready", "restarts", "last exit"], &[2, 5]);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::{Pid, Signal, WaitStatus};

    fn now() -> Tai64n {
        Tai64n { secs: 100, nanos: 0 }
    }

    fn up() -> Service {
        let at = Tai64n { secs: 90, nanos: 0 };
        let status =
            Status { pid: Pid::from_raw(42), want_up: true, stamp: at, ready_stamp: at, ..Status::default() };
        Service { name: "web".into(), supervised: true, status, ..Service::default() }
    }

    #[test]
    fn lines_as_s6_svstat_prints_them() {
        let mut s = up();
        assert_eq!(s.line(now(), false), "up (pid 42) 10 seconds");
        s.status.ready = true;
        s.down_file = true;
        s.status.paused = true;
        s.status.want_up = false;
        assert_eq!(
            s.line(now(), false),
            "up (pid 42) 10 seconds, normally down, paused, want down, ready 10 seconds"
        );
        s = up();
        s.status.pid = None;
        s.status.ready = true;
        s.status.wait = WaitStatus::killed(Signal::TERM);
        assert_eq!(
            s.line(now(), false),
            "down (signal SIGTERM) 10 seconds, normally up, want up, ready 10 seconds"
        );
        assert!(s.line(now(), true).starts_with("down (signal 15) 10 seconds"));
    }

    #[test]
    fn fields_by_name_and_beginning() {
        assert_eq!(Field::by_name("up"), Some(Field::Up));
        assert_eq!(Field::by_name("want"), Some(Field::WantedUp));
        assert_eq!(Field::by_name("sig"), None);
        assert_eq!(Field::by_name(""), None);
        let s = up();
        let all: Vec<String> = ["up", "ready", "pid", "exitcode", "signal", "updownfor"]
            .map(|f| s.field(Field::by_name(f).unwrap(), now()))
            .into();
        assert_eq!(all.join(" "), "true false 42 -1 NA 10");
    }

    #[test]
    fn words() {
        let mut s = up();
        assert_eq!(s.word().0, "up");
        s.notifies = true;
        assert_eq!(s.word().0, "starting");
        s.status.pid = None;
        assert_eq!(s.word().0, "waiting");
        s.state.failure = Some("unable to execute ./run: no such file".into());
        assert_eq!(s.word().0, "failing");
        s.supervised = false;
        assert_eq!(s.word().0, "unsupervised");
    }
}
