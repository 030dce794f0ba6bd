//! What a successor knows: commands, a stop that has begun, and who was killed by whom.
//!
//! `cargo test --test takeover`, with words after `--` to run only scenarios whose name contains one of them.

mod support;

use rustix::process::Signal;
use std::fs;
use std::process::ExitCode;
use std::time::Duration;
use support::refuse::{BEFORE_5_3, refuse};
use support::runner;
use support::{SLEEP, World, is_alive, kill, parent, until};

fn main() -> ExitCode {
    runner::run_in_worlds("takeover", SCENARIOS)
}

const SCENARIOS: &[runner::InWorld] = &[
    ("a_stop_that_has_begun", a_stop_that_has_begun),
    ("what_was_to_be_pruned", what_was_to_be_pruned),
    ("killed_is_not_crashed", killed_is_not_crashed),
    ("few_descriptors_lose_nothing", few_descriptors_lose_nothing),
    ("nobody_tells_of_its_end", nobody_tells_of_its_end),
];

/// The container is about to be stopped: what dies then is not started again, whoever supervises it.
fn a_stop_that_has_begun(w: &World) {
    let (a, b) = (w.service("a", SLEEP), w.service("b", "echo start >>$BASE/starts; exec sleep 1000"));
    let _svscan = w.svscan(&[]);
    let supervise = parent(a.pid());
    let pid = b.pid();
    perennial::rc::engine::restart_nothing("scan", Duration::from_secs(30)).unwrap();
    kill(supervise, Signal::KILL);
    until("another supervisor is there", || b.state().adopted > 0);
    kill(pid, Signal::KILL);
    until("it is down", || b.status().is_down());
    assert!(!b.status().wanted());
    assert_eq!(fs::read_to_string("starts").unwrap(), "start\n");
}

/// A scanner that has read a command, and the supervisor to which it passed it on, are killed before anything came
/// of it.
fn what_was_to_be_pruned(w: &World) {
    let a = w.service("a", SLEEP);
    let svscan = w.svscan(&[]);
    let (pid, supervise) = (a.pid(), parent(a.pid()));
    kill(supervise, Signal::STOP);
    fs::rename("scan/a", "renamed").unwrap();
    w.ok("svscanctl", &["-an", "scan"]);
    let control = fs::File::options().read(true).write(true).open("scan/.s6-svscan/control").unwrap();
    until("the commands are read", || rustix::io::ioctl_fionread(&control) == Ok(0));
    kill(svscan.pid(), Signal::KILL);
    kill(supervise, Signal::KILL);
    until("both are dead", || !is_alive(svscan.pid()) && !is_alive(supervise));
    drop(control);
    let _successor = w.start_daemon("svscan", &["scan"]);
    until("it is stopped", || !is_alive(pid));
}

/// A supervisor that somebody kills again and again is not said to be one that does not work.
fn killed_is_not_crashed(w: &World) {
    let a = w.service("a", SLEEP);
    let svscan = w.svscan(&[]);
    let pid = a.pid();
    let mut supervise = parent(pid);
    for lives in 1..6 {
        kill(supervise, Signal::KILL);
        until("another supervisor has taken over", || a.state().adopted >= lives);
        supervise = supervisor(svscan.pid());
    }
    assert_eq!(a.pid(), pid);
    assert_eq!(svscan.said(), "");
}

/// Whatever a successor cannot open for want of descriptors: what is remembered of the service stays. A supervisor
/// that took its journal for another boot's started a service that was down.
fn few_descriptors_lose_nothing(w: &World) {
    let a = w.service("a", "echo start >>$BASE/starts; exec sleep 1000");
    let first = w.supervise(&a);
    a.pid();
    w.ok("svc", &["-T", "30000", "-wD", "-d", &a.path]);
    drop(first);
    for limit in 16..36 {
        let mut starved = w.start_daemon_after(&format!("ulimit -n {limit};"), "supervise", &[&a.path]);
        let told = || w.code("svc", &["-T", "30000", "-wd", "-d", &a.path]) == 0;
        until("it has given up or works", || !starved.is_running() || told());
        drop(starved);
        assert_eq!(fs::read_to_string("starts").unwrap(), "start\n", "with {limit} descriptors");
    }
    let _last = w.supervise(&a);
    w.ok("svc", &["-T", "30000", "-wU", "-u", &a.path]);
    assert_eq!(fs::read_to_string("starts").unwrap(), "start\nstart\n");
    assert_eq!(a.deaths().len(), 1, "deaths are remembered");
}

/// The kernel has no pidfds, and whoever reaps what was taken over is no program of ours: it is looked whether it lives.
/// That this is so is said once.
fn nobody_tells_of_its_end(w: &World) {
    refuse(BEFORE_5_3);
    let a = w.service("a", SLEEP);
    let svscan = w.svscan(&[]);
    let (pid, supervise) = (a.pid(), parent(a.pid()));
    [svscan.pid(), supervise].into_iter().for_each(|pid| kill(pid, Signal::KILL));
    until("both are dead", || !is_alive(svscan.pid()) && !is_alive(supervise));
    let svscan = w.start_daemon("svscan", &["scan"]);
    until("it is taken over", || a.state().adopted == 1);
    assert_eq!(a.pid(), pid);
    kill(pid, Signal::TERM);
    until("it is started again", || a.status().is_up() && a.status().pid != pid);
    assert_eq!(svscan.said().matches("unable to open a pidfd: Function not implemented").count(), 1);
    kill(parent(a.pid()), Signal::KILL);
    until("it is taken over again", || a.state().adopted == 2);
    w.ok("svc", &["-wD", "-T", "30000", "-k", "-O", &a.path]);
    assert_eq!(a.status().wait, 9, "whoever is ours tells how");
}

/// The child of svscan that holds the lock.
fn supervisor(svscan: i32) -> i32 {
    let is_ours = |pid: &i32| is_alive(*pid) && parent(*pid) == svscan && runs_supervise(*pid);
    let find = || support::descendants().into_iter().find(is_ours);
    let mut found = None;
    until("there is a supervisor", || {
        found = find();
        found.is_some()
    });
    found.unwrap()
}

fn runs_supervise(pid: i32) -> bool {
    support::read(&format!("/proc/{pid}/comm")).trim() == "supervise"
}
