//! What fits nowhere else: rotations, loggers that come later, odd names, start directories, and services that speak
//! to their own supervisor.

use super::processes::descriptors;
use crate::support::{SLEEP, World, mkfifo, parent, until, until_eq};
use std::fs;

/// Hundreds of rotations: no descriptor is left.
pub fn a064_hundreds_of_rotations(w: &World) {
    let line = "0123456789".repeat(10);
    let a = w.service("a", &format!("read x <gate; yes {line} | head -n 30000; touch done; {SLEEP}"));
    mkfifo("scan/a/gate");
    let svlog = w.programs().path("svlog");
    let log = w.service("a/log", &format!("mkdir -p dir; exec {} -b n5 s4096 ./dir", svlog.display()));
    let _svscan = w.svscan(&[]);
    let pid = log.pid();
    until("it waits for lines", || fs::exists("scan/a/log/dir/current").unwrap());
    let before = descriptors(pid);
    a.file("gate", "\n");
    until("all is written", || a.has("done"));
    until("many are rotated", || fs::read_dir("scan/a/log/dir").unwrap().count() > 5);
    until_eq(before, || descriptors(pid));
    assert_eq!(log.status().pid, pid);
}

/// A logger that is made while its service runs gets what that writes from its next start on.
pub fn a069_a_logger_that_comes_later(w: &World) {
    let a = w.service("a", "echo here; exec sleep 1000");
    let _svscan = w.svscan(&[]);
    a.pid();
    let log = w.service("a/log", "exec cat >>all");
    w.ok("svscanctl", &["-a", "scan"]);
    log.wait_supervised();
    w.ok("svc", &["-wr", "-T", "30000", "-r", &a.path]);
    until_eq("here\n".to_owned(), || log.read("all"));
}

/// A name that begins with a digit is no number.
pub fn a099_names_that_begin_with_a_digit(w: &World) {
    let a = w.service("a", "id -u >uid; exec sleep 1000");
    a.file("user", "1234abc\n");
    let svscan = w.svscan(&[]);
    until("it is said", || svscan.said().contains("there is no account 1234abc"));
    assert_ne!(w.code("setuidgid", &["1234abc", "true"]), 0);
    assert_ne!(w.code("applyuidgid", &["-u", "1234abc", "true"]), 0);
    assert!(!a.has("uid"));
}

/// Whoever supervises is in the scan directory and nowhere else.
pub fn a104_start_directories(w: &World) {
    let a = w.service("a", SLEEP);
    let svscan = w.svscan(&[]);
    let scan = fs::canonicalize("scan").unwrap();
    for pid in [svscan.pid(), parent(a.pid())] {
        assert_eq!(fs::read_link(format!("/proc/{pid}/cwd")).unwrap(), scan);
    }
}

/// A service that restarts itself, by the very program that others use.
pub fn a086_a_service_that_restarts_itself(w: &World) {
    let svc = w.programs().path("svc");
    let restart = format!("[ $(wc -l <lives) -ge 3 ] || {} -r .; exec sleep 1000", svc.display());
    let a = w.service("a", &format!("echo >>lives; {restart}"));
    let _svscan = w.svscan(&[]);
    until_eq(3, || a.read("lives").lines().count());
    w.ok("svwait", &["-u", "-t", "30000", &a.path]);
    w.ok("svc", &["-wD", "-T", "30000", "-d", &a.path]);
    assert_eq!((a.read("lives").lines().count(), a.deaths().len()), (3, 3));
}
