//! `supervise/state`: what s6's status record has no field for, as text, one `key=value` a line.
//!
//! Written beside and put in its place, after the status, and only where there is something to say that is not the
//! default: a service that is up for the first time has no such file. Unknown keys are to be ignored, absent
//! ones have their default.
//!
//! | key | value |
//! |---|---|
//! | `starts` | how often run was started under this supervision |
//! | `deaths` | how often it died |
//! | `adopted` | how often a new supervisor took it over running |
//! | `retry` | TAI64N of the next attempt to start it |
//! | `failure` | why it could not be started |
//! | `cause` | who ended the last run: `stopped`, `restarted`, `timeout` (it was stopped, and killed), `not-ready`, `health`, `watchdog`, `oom` (the kernel, when memory ran out); absent: it ended by itself, or by a signal from elsewhere |
//! | `by` | who asked for that, of `stopped`, `restarted` and `timeout` |
//! | `unwell` | how often in a row `health` said no, and why |
//! | `refused` | TAI64N and the reason: `validate` failed, and the service was not restarted, or not started |
//! | `status` | the last STATUS that it sent to NOTIFY_SOCKET in this life |
//! | `why` | what there is to say of the last end beside `cause`: the last STATUS before it, ERRNO, EXIT_STATUS |
//! | `mode` | `fallback` runs, a program is being asked whether it may start (`asking`), it is `skipped`, `gave-up`, or says that it is `reloading` or `stopping` |
//! | `oneshot` | `up`, `down`, `starting`, `stopping` or `failed`: it is a oneshot |
#![forbid(unsafe_code)]

use crate::time::Tai64n;
use std::fmt::Write as _;

/// The contents of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// `starts`
    pub starts: u32,
    /// `deaths`
    pub deaths: u32,
    /// `adopted`
    pub adopted: u32,
    /// `retry`
    pub retry: Option<Tai64n>,
    /// `failure`
    pub failure: Option<String>,
    /// `oneshot`
    pub oneshot: Option<String>,
    /// `cause`
    pub cause: Option<String>,
    /// `by`
    pub by: Option<String>,
    /// `refused`
    pub refused: Option<(Tai64n, String)>,
    /// `mode`
    pub mode: Option<String>,
    /// `status`
    pub status: Option<String>,
    /// `why`
    pub why: Option<String>,
    /// `unwell`
    pub unwell: Option<(u32, String)>,
}

impl State {
    /// Whether there is anything to say.
    pub fn is_default(&self) -> bool {
        *self == State { starts: self.starts.min(1), ..State::default() }
    }

    /// The text of the file.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        let _ = writeln!(text, "starts={}\ndeaths={}\nadopted={}", self.starts, self.deaths, self.adopted);
        if let Some(retry) = self.retry {
            let _ = writeln!(text, "retry={retry}");
        }
        if let Some(failure) = &self.failure {
            let _ = writeln!(text, "failure={}", failure.replace('\n', " "));
        }
        if let Some((at, why)) = &self.refused {
            let _ = writeln!(text, "refused={at} {}", why.replace('\n', " "));
        }
        if let Some((times, why)) = &self.unwell {
            let _ = writeln!(text, "unwell={times} {}", why.replace('\n', " "));
        }
        let texts = [
            ("oneshot", &self.oneshot),
            ("cause", &self.cause),
            ("by", &self.by),
            ("mode", &self.mode),
            ("status", &self.status),
            ("why", &self.why),
        ];
        for (key, value) in texts {
            if let Some(value) = value {
                let _ = writeln!(text, "{key}={value}");
            }
        }
        text
    }

    /// Reads the text of the file; what it does not understand it leaves out.
    pub fn parse(text: &[u8]) -> State {
        let mut state = State::default();
        for line in String::from_utf8_lossy(text).lines() {
            let Some((key, value)) = line.split_once('=') else { continue };
            match key {
                "starts" => state.starts = value.parse().unwrap_or(0),
                "deaths" => state.deaths = value.parse().unwrap_or(0),
                "adopted" => state.adopted = value.parse().unwrap_or(0),
                "retry" => state.retry = Tai64n::parse(value.as_bytes()),
                "failure" => state.failure = Some(value.to_owned()),
                "oneshot" => state.oneshot = Some(value.to_owned()),
                "cause" => state.cause = Some(value.to_owned()),
                "by" => state.by = Some(value.to_owned()),
                "mode" => state.mode = Some(value.to_owned()),
                "status" => state.status = Some(value.to_owned()),
                "why" => state.why = Some(value.to_owned()),
                "unwell" => {
                    let (times, why) = value.split_once(' ').unwrap_or((value, ""));
                    state.unwell = times.parse().ok().map(|times| (times, why.to_owned()));
                }
                "refused" => {
                    let (at, why) = value.split_once(' ').unwrap_or((value, ""));
                    state.refused = Tai64n::parse(at.as_bytes()).map(|at| (at, why.to_owned()));
                }
                _ => {}
            }
        }
        state
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_and_unknown_keys() {
        let state = State {
            starts: 3,
            deaths: 2,
            adopted: 1,
            retry: Some(Tai64n { secs: 1000, nanos: 1 }),
            failure: Some("unable to execute ./run: no such file".into()),
            oneshot: Some("up".into()),
            cause: Some("stopped".into()),
            by: Some("svc (pid 12), run by sh (pid 3)".into()),
            refused: Some((Tai64n { secs: 5, nanos: 7 }, "line 3: syntax error".into())),
            mode: Some("fallback".into()),
            status: Some("loading weights 3/5".into()),
            why: Some("No such file or directory (ERRNO=2)".into()),
            unwell: Some((2, "no answer within 10000 ms".into())),
        };
        assert_eq!(State::parse(state.to_text().as_bytes()), state);
        assert_eq!(State::parse(b"colour=blue\nstarts=x\nrubbish\n"), State::default());
        assert!(State { starts: 1, ..State::default() }.is_default());
        assert!(!State { starts: 2, ..State::default() }.is_default());
    }
}
