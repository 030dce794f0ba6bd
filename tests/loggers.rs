//! What was written reaches its logger: whoever is killed, renamed or taken away, whoever ends, and when.
//!
//! `cargo test --test loggers`, with words after `--` to run only scenarios whose name contains one of them.
//! PERENNIAL names another executable to try than the one just built.

mod support;

use rustix::process::Signal;
use std::fs;
use std::io::Write;
use std::process::ExitCode;
use support::runner;
use support::{Service, World, descendants, is_alive, kill, parent, read, stat, until};

fn main() -> ExitCode {
    runner::run_in_worlds("loggers", SCENARIOS)
}

const SCENARIOS: &[runner::InWorld] = &[
    ("renamed_while_nobody_supervises", renamed_while_nobody_supervises),
    ("taken_away_while_the_logger_finishes", taken_away_while_the_logger_finishes),
    ("the_last_logger_is_killed", the_last_logger_is_killed),
    ("the_last_logger_is_killed_by_supervise_dying", the_last_logger_and_supervise_are_killed),
    ("what_is_not_read_is_said", what_is_not_read_is_said),
    ("a_logger_that_never_reads_is_given_up", a_logger_that_never_reads_is_given_up),
];

/// So many lines wait in the pipe.
const LINES: usize = 100;

/// A service that has written its lines, and a logger that has not read any: it does when there is a file
/// `read`. Neither is more than the two can hold.
fn pair(w: &World, logger: &str) -> (Service, Service) {
    let a = w.service(
        "a",
        &format!(
            "i=0; while [ $i -lt {LINES} ]; do echo line $i; i=$((i+1)); done; : >written; exec sleep 1000"
        ),
    );
    let log = w.service("a/log", &format!("[ -e $BASE/read ] || {{ {logger}; }}; exec cat >>$BASE/a.log"));
    (a, log)
}

/// All lines have come, once.
fn all_came() {
    let expected: String = (0..LINES).map(|n| format!("line {n}\n")).collect();
    until("all lines have come", || read("a.log").len() >= expected.len());
    assert_eq!(read("a.log"), expected);
}

fn allow_reading() {
    fs::write("read", "").unwrap();
}

/// The supervisor of all.
fn supervise_below(svscan: i32) -> Option<i32> {
    let ours = |pid: &i32| {
        stat(*pid, 4) == Some(svscan.to_string())
            && read(&format!("/proc/{pid}/comm")).trim() == "supervise"
            && is_alive(*pid)
    };
    descendants().into_iter().find(ours)
}

/// Both are gone from where they were, and nobody supervises them any more.
fn gone(name: &str) {
    for path in [name.to_owned(), format!("{name}/log")] {
        let service = Service { path };
        until(&format!("{} is not supervised", service.path), || !service.is_supervised());
    }
}

/// Neither has a process when its directory is renamed, and nobody is there to see it: the FIFOs that are kept
/// tell where it is.
fn renamed_while_nobody_supervises(w: &World) {
    let (a, log) = pair(w, "exec sleep 1000");
    let svscan = w.svscan(&[]);
    let supervise = parent(a.pid());
    until("the lines are written", || a.has("written"));
    w.ok("svc", &["-wD", "-d", &a.path, &log.path]);
    allow_reading();
    kill(svscan.pid(), Signal::STOP);
    kill(supervise, Signal::KILL);
    until("supervise is dead", || !is_alive(supervise));
    let mut control = fs::OpenOptions::new().write(true).open("scan/a/log/supervise/control").unwrap();
    control.write_all(b"u").unwrap();
    drop(control);
    fs::rename("scan/a", "renamed").unwrap();
    kill(svscan.pid(), Signal::CONT);
    w.ok("svscanctl", &["-an", "scan"]);
    all_came();
    gone("renamed");
    assert!(!svscan.said().contains("lost"), "{}", svscan.said());
}

/// A logger was killed, and its finish script runs when it is told to leave.
fn taken_away_while_the_logger_finishes(w: &World) {
    let (a, log) = pair(w, "exec sleep 1000");
    log.script("finish", "until [ -e $BASE/finish ]; do sleep 0.02; done");
    let _svscan = w.svscan(&[]);
    until("the lines are written", || a.has("written"));
    allow_reading();
    kill(log.pid(), Signal::KILL);
    until("its finish script runs", || log.status().flags & 2 != 0);
    fs::rename("scan/a", "renamed").unwrap();
    w.ok("svscanctl", &["-an", "scan"]);
    let a = w.at("renamed");
    until("the service is gone", || !a.is_supervised());
    fs::write("finish", "").unwrap();
    all_came();
    gone("renamed");
}

/// A logger that was told to leave, and whose service is gone, dies before it has read anything.
fn the_last_logger_is_killed(w: &World) {
    last_logger(w, false);
}

/// The same, and the supervisor is killed just before.
fn the_last_logger_and_supervise_are_killed(w: &World) {
    last_logger(w, true);
}

fn last_logger(w: &World, kill_supervise: bool) {
    let (a, log) = pair(w, "exec sleep 1000");
    let svscan = w.svscan(&[]);
    let logger = log.pid();
    until("the lines are written", || a.has("written"));
    fs::rename("scan/a", "renamed").unwrap();
    w.ok("svscanctl", &["-an", "scan"]);
    let a = w.at("renamed");
    until("the service is gone", || !a.is_supervised());
    allow_reading();
    if kill_supervise {
        let old = supervise_below(svscan.pid()).expect("supervise");
        kill(svscan.pid(), Signal::STOP);
        kill(old, Signal::KILL);
        kill(logger, Signal::KILL);
        until("both are dead", || !is_alive(old) && !is_alive(logger));
        kill(svscan.pid(), Signal::CONT);
    } else {
        kill(logger, Signal::KILL);
    }
    all_came();
    gone("renamed");
}

/// Who wants a logger to end at once loses what it has not read, and is told.
fn what_is_not_read_is_said(w: &World) {
    let (a, _log) = pair(w, "exec sleep 1000");
    let svscan = w.svscan(&[]);
    until("the lines are written", || a.has("written"));
    fs::rename("scan/a", "renamed").unwrap();
    w.ok("svscanctl", &["-aN", "scan"]);
    gone("renamed");
    let bytes: usize = (0..LINES).map(|n| format!("line {n}\n").len()).sum();
    let said = format!("supervise a/log: warning: {bytes} bytes in its pipe are lost");
    until("the loss is told", || svscan.said().contains(&said));
}

/// Nobody waits for ever for a logger that dies before it reads.
fn a_logger_that_never_reads_is_given_up(w: &World) {
    let (a, _log) = pair(w, "[ -e $BASE/die ] || exec sleep 1000; exit 1");
    let svscan = w.svscan(&[]);
    until("the lines are written", || a.has("written"));
    fs::write("die", "").unwrap();
    fs::rename("scan/a", "renamed").unwrap();
    let log = w.at("renamed/log");
    kill(log.pid(), Signal::KILL);
    w.ok("svscanctl", &["-an", "scan"]);
    gone("renamed");
    until("the loss is told", || svscan.said().contains("bytes in its pipe are lost"));
}
