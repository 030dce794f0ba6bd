//! Where a service logs to. Nothing in s6's formats says so: its logger knows.
//!
//! A logger that is up holds the lock of its directory open, be it ours or s6-log; `/proc` shows that. Of one that is
//! down, `run` is read: a word that is a path with a `current` in it is taken for the directory.

use super::read::{Line, last_lines};
use crate::servicedir::client::Client;
use crate::time::Tai64n;
use std::fs;
use std::path::Path;

/// The log directories of what is at `path`: a service (its logger's), a logger, or a log directory itself.
pub fn log_dirs(path: &str) -> Vec<String> {
    if is_log_dir(path) {
        return vec![path.to_owned()];
    }
    let mut found = Vec::new();
    for logger in [format!("{path}/log"), path.to_owned()] {
        found = open_dirs(&logger);
        if found.is_empty() {
            found = named_dirs(&logger);
        }
        if !found.is_empty() {
            break;
        }
    }
    found
}

/// What the service at `path` said last before it died the last time, at most so many lines: for whoever is to say
/// why. Nothing if it never died, or logs nowhere that can be found.
///
/// While it is down those are the last lines that there are. While it is up they are those from before its
/// start: the words of a dying service may be read, and stamped, a little after its death.
pub fn last_words(path: &str, count: usize) -> Vec<Line> {
    let Ok(client) = Client::open(path) else { return Vec::new() };
    let (Ok(status), Ok(deaths)) = (client.status(), client.tally()) else { return Vec::new() };
    if deaths.is_empty() {
        return Vec::new();
    }
    let before = if status.is_up() { status.stamp } else { Tai64n { secs: i64::MAX >> 8, nanos: 0 } };
    let lines = log_dirs(path).into_iter().filter_map(|dir| last_lines(&dir, before, count).ok());
    lines.max_by_key(|lines| lines.last().map(|line| line.at)).unwrap_or_default()
}

fn is_log_dir(path: &str) -> bool {
    let there = |name: &str| Path::new(path).join(name).is_file();
    there("current") && there("lock")
}

/// What the process of a logger has open.
fn open_dirs(service: &str) -> Vec<String> {
    let status = Client::open(service).and_then(|client| client.status());
    let Some(pid) = status.ok().and_then(|status| status.pid) else { return Vec::new() };
    let fds = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let mut found: Vec<String> = Vec::new();
    for target in fds.filter_map(|fd| fs::read_link(fd.path()).ok()) {
        let dir = target.to_string_lossy().strip_suffix("/lock").map(str::to_owned);
        found.extend(dir.filter(|dir| is_log_dir(dir) && !found.contains(dir)));
    }
    found
}

/// What `run` names.
fn named_dirs(service: &str) -> Vec<String> {
    let text = fs::read(format!("{service}/run")).unwrap_or_default();
    let text = String::from_utf8_lossy(&text).into_owned();
    let words = text.split(|c: char| c.is_whitespace() || "\"';{}()".contains(c));
    let words = words.filter(|word| word.starts_with('/') || word.starts_with('.'));
    let mut found = Vec::new();
    for word in words {
        let path = if word.starts_with('/') { word.to_owned() } else { format!("{service}/{word}") };
        if is_log_dir(&path) && !found.contains(&path) {
            found.push(path);
        }
    }
    found
}
