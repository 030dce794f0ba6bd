//! Where the output of a service is kept, and the end of it.
//!
//! A logger writes to the file `current` of a log directory, so the logger's process has such a file open. A
//! logger that is not running says in its `run` where it will write: a word of it is that directory.

use super::graph::Index;
use super::live::Live;
use crate::process::Pid;
use crate::servicedir;
use crate::servicedir::status::Status;
use crate::time::Tai64n;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, SeekFrom, openat, statat};

/// The file in a log directory that is being written.
const CURRENT: &str = "current";

/// So many bytes at the end of a log are looked at.
const TAIL: i64 = 8192;

/// The service that reads what `index` writes. None: nobody of them does.
pub fn logger(live: &Live, index: Index) -> Option<Index> {
    let path = format!("{}/servicedirs/{}/producer-for", live.path, live.graph.name(index));
    let bytes = servicedir::read_file(CWD, path).ok()?;
    live.graph.index(String::from_utf8_lossy(&bytes).trim_end_matches('\n'))
}

/// The log directory that the service `logger` writes to, if that can be known.
pub fn directory(live: &Live, logger: Index) -> Option<String> {
    let path = format!("{}/servicedirs/{}", live.path, live.graph.name(logger));
    let status = servicedir::read_file(CWD, format!("{path}/supervise/status"));
    let pid = status.ok().and_then(|bytes| Status::unpack(&bytes)).and_then(|status| status.pid);
    pid.and_then(open_current).or_else(|| named(&path))
}

/// The directory of the file `current` that a process has open.
fn open_current(pid: Pid) -> Option<String> {
    let fds = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
    fds.flatten().find_map(|fd| {
        let target = std::fs::read_link(fd.path()).ok()?;
        Some(target.to_str()?.strip_suffix(CURRENT)?.strip_suffix('/')?.to_owned())
    })
}

/// A directory with a file `current` that the `run` of the service directory `path` names.
fn named(path: &str) -> Option<String> {
    let run = servicedir::read_file(CWD, format!("{path}/run")).ok()?;
    let text = String::from_utf8_lossy(&run);
    let words = text.split(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | ';' | '='));
    let directory = |word: &str| match word {
        word if word.starts_with('/') => Some(word.to_owned()),
        word if word.starts_with('.') => Some(format!("{path}/{word}")),
        _ => None,
    };
    let is_log = |dir: &String| statat(CWD, format!("{dir}/{CURRENT}"), AtFlags::empty()).is_ok();
    words.filter_map(directory).find(is_log)
}

/// The last lines of a log, oldest first; `now` to turn their stamps into ages.
pub fn last_lines(dir: &str, count: usize, now: Tai64n) -> Vec<String> {
    let tail = || {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = openat(CWD, format!("{dir}/{CURRENT}"), flags, Mode::empty()).ok()?;
        let size = rustix::fs::fstat(&file).ok()?.st_size;
        rustix::fs::seek(&file, SeekFrom::Start((size - TAIL).max(0) as u64)).ok()?;
        let mut bytes = vec![0; TAIL as usize];
        let n = rustix::io::read(&file, &mut bytes).ok()?;
        bytes.truncate(n);
        Some((bytes, size > TAIL))
    };
    let Some((bytes, is_cut)) = tail() else { return Vec::new() };
    let text = String::from_utf8_lossy(&bytes);
    // The first line may be half of one.
    let lines: Vec<&str> = text.lines().skip(usize::from(is_cut)).collect();
    let from = lines.len().saturating_sub(count);
    lines[from..].iter().map(|line| shown(line, now)).collect()
}

/// A line as people read it: the age in place of a TAI64N stamp, and nothing that a terminal would obey.
fn shown(line: &str, now: Tai64n) -> String {
    let stamp = line.get(..25).and_then(|label| Tai64n::parse(label.as_bytes()));
    let text = match stamp {
        Some(at) => format!("{} ago: {}", crate::report::age(at.age(now)), line[25..].trim_start()),
        None => line.to_owned(),
    };
    text.chars().map(|c| if c.is_control() && c != '\t' { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_log() {
        let dir = std::env::temp_dir().join(format!("perennial-logs-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.to_str().unwrap();
        let now = Tai64n { secs: 1_000_000, nanos: 0 };
        assert_eq!(last_lines(path, 3, now), Vec::<String>::new());
        let stamp = Tai64n { secs: 999_995, nanos: 0 };
        let long = "x".repeat(TAIL as usize);
        std::fs::write(dir.join(CURRENT), format!("{long}\nfirst\n{stamp} second\nthird\x1b[2J\n")).unwrap();
        assert_eq!(last_lines(path, 2, now), ["5 s ago: second", "third?[2J"]);
        assert_eq!(last_lines(path, 9, now).len(), 3);
        std::fs::write(dir.join("run"), format!("#!/bin/sh\nexec s6-log n3 \"{path}\"\n")).unwrap();
        assert_eq!(named(path).as_deref(), Some(path));
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
