//! Supervisors of one service: signals, locks, being killed.

use crate::support::interop::{Kit, World};
use crate::support::{SLEEP, is_alive, is_locked, kill, parent, until};
use rustix::process::Signal;
use std::fs;

pub fn supervise_signals(w: &World) {
    // SIGTERM: stop and leave.
    let a = w.service_at("a", SLEEP);
    let events = a.listen();
    let supervisor = w.supervise(&a);
    let pid = a.pid();
    events.expect("su");
    kill(supervisor.pid(), Signal::TERM);
    assert_eq!(supervisor.end().code, 0);
    assert!(!is_alive(pid));
    events.expect("sudDx");
    // SIGHUP: leave when it ends.
    let b = w.service_at("b", SLEEP);
    let mut supervisor = w.supervise(&b);
    let pid = b.pid();
    kill(supervisor.pid(), Signal::HUP);
    until("standard input and output are closed", || {
        // s6 closes it first: for a moment it is not there.
        let output = fs::read_link(format!("/proc/{}/fd/1", supervisor.pid()));
        output.is_ok_and(|to| to.ends_with("null"))
    });
    assert!(supervisor.is_running() && is_alive(pid));
    kill(pid, Signal::TERM);
    assert_eq!(supervisor.end().code, 0);
    // SIGQUIT: leave at once, and leave it alone.
    let c = w.service_at("c", SLEEP);
    let supervisor = w.supervise(&c);
    let pid = c.pid();
    kill(supervisor.pid(), Signal::QUIT);
    assert_eq!(supervisor.end().code, 0);
    assert!(is_alive(pid));
    // SIGINT: as a terminal does, to the whole group.
    let d = w.service_at("d", SLEEP);
    let supervisor = w.supervise(&d);
    let pid = d.pid();
    kill(supervisor.pid(), Signal::INT);
    assert_eq!(supervisor.end().code, 0);
    until("it is interrupted", || !is_alive(pid));
    assert_eq!(w.run_of(w.daemons, "supervise", &[]).code, 100);
    assert_eq!(w.run_of(w.daemons, "supervise", &["nowhere"]).code, 111);
}

/// s6 starts a second copy when its supervisor is killed; ours takes over the one that runs.
pub fn adoption(w: &World) {
    let a = w.service("a", "echo $$ >>pids; exec sleep 1000");
    let _svscan = w.svscan(&[]);
    let pid = a.pid();
    until("it has written its pid", || a.read("pids") == format!("{pid}\n"));
    let supervisor = parent(pid);
    kill(supervisor, Signal::KILL);
    until("the supervisor is dead", || !is_alive(supervisor));
    if w.daemons == Kit::S6 {
        until("there are two", || a.read("pids").lines().count() == 2);
        return assert!(is_alive(pid));
    }
    a.wait_supervised();
    w.ok("svwait", &["-u", "-t", "10000", &a.path]);
    assert_eq!((a.status().pid, a.status().is_up()), (pid, true));
    w.ok("svc", &["-wD", "-T", "10000", "-d", &a.path]);
    assert_eq!(a.status().wait, 15, "the exit status of an adopted process is exact");
    assert_eq!(a.read("pids").lines().count(), 1);
}

pub fn lock(w: &World) {
    let a = w.service("a", SLEEP);
    assert!(!is_locked("scan/a/supervise/lock"));
    let _svscan = w.svscan(&[]);
    a.pid();
    assert!(is_locked("scan/a/supervise/lock"));
    assert!(is_locked("scan/.s6-svscan/lock"));
    for kit in [Kit::S6, Kit::Ours].into_iter().filter(|kit| kit.is_installed()) {
        assert_eq!(w.run_of(kit, "supervise", &[&a.path]).code, 100, "{kit:?}");
        assert_eq!(w.run_of(kit, "svscan", &["scan"]).code, 100, "{kit:?}");
    }
}

/// The lock goes with the supervisor, although what it started lives on.
pub fn lock_of_the_dead(w: &World) {
    let a = w.service_at("a", SLEEP);
    let supervisor = w.supervise(&a);
    let pid = a.pid();
    kill(supervisor.pid(), Signal::KILL);
    supervisor.end();
    assert!(!a.is_supervised() && is_alive(pid));
    for fd in fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten() {
        let to = fs::read_link(fd.path()).unwrap_or_default();
        assert!(!to.to_string_lossy().contains("supervise"), "{to:?} is open in the service");
    }
    assert_eq!(w.code("svok", &["a"]), 1);
    kill(pid, Signal::KILL);
}
