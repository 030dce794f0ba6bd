//! Services with a supervisor of their own: a file `isolate`, or all of them (`svscan -i`). From the outside
//! nothing differs.

mod support;

use rustix::process::Signal;
use std::fs;
use std::process::ExitCode;
use support::refuse::{BEFORE_5_3, refuse};
use support::runner;
use support::{
    Programs, Running, SLEEP, Service, World, is_alive, is_locked, kill, mkfifo, parent, until, until_eq,
};

fn main() -> ExitCode {
    runner::run_apart("isolate", SCENARIOS)
}

const SCENARIOS: &[(&str, fn())] = &[
    ("one_of_several", one_of_several),
    ("killed", killed),
    ("killed_with_its_scanner", killed_with_its_scanner),
    ("found_by_the_next_scanner", found_by_the_next_scanner),
    ("all", all),
    ("comes_and_goes", comes_and_goes),
    ("gone_while_nobody_scanned", gone_while_nobody_scanned),
    ("gone_while_there_was_nobody", gone_while_there_was_nobody),
    ("long_names", long_names),
    ("counts_when_supervision_begins", counts_when_supervision_begins),
    ("upgraded", upgraded),
    ("killed_with_its_scanner, Linux before 5.3", || on_an_old_kernel(killed_with_its_scanner)),
    ("found_by_the_next_scanner, Linux before 5.3", || on_an_old_kernel(found_by_the_next_scanner)),
];

fn programs() -> Programs {
    Programs { dir: runner::shared_dir().join("programs"), prefix: "" }
}

fn world() -> World {
    World::new(programs(), programs())
}

fn on_an_old_kernel(scenario: fn()) {
    refuse(BEFORE_5_3);
    scenario();
}

/// Whose child the process of a service is: its supervisor.
fn supervisor(service: &Service) -> i32 {
    parent(service.pid())
}

fn stop(w: &World, svscan: Running) {
    w.ok("svscanctl", &["-t", "scan"]);
    let ran = svscan.end();
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(!fs::exists("scan/.s6-svscan/isolated").unwrap(), "nothing is left behind");
}

/// Waits until a supervisor other than `old` holds the lock of a service.
fn wait_replaced(service: &Service, old: i32) {
    until("the supervisor is dead", || !is_alive(old));
    service.wait_supervised();
}

fn one_of_several() {
    let w = world();
    let a = w.service("a", "read x <gate; seq 1 1000; echo >&3; exec sleep 1000");
    a.file("isolate", "").file("notification-fd", "3");
    mkfifo("scan/a/gate");
    let log = w.service("a/log", "exec cat >all");
    let [b, c] = ["b", "c"].map(|name| w.service(name, SLEEP));
    let svscan = w.svscan(&[]);
    assert_ne!(supervisor(&a), supervisor(&b));
    assert_eq!((supervisor(&a), supervisor(&b)), (supervisor(&log), supervisor(&c)));
    assert_eq!((parent(supervisor(&a)), parent(supervisor(&b))), (svscan.pid(), svscan.pid()));
    let events = a.listen();
    a.file("gate", "\n");
    w.ok("svwait", &["-U", "-t", "30000", &a.path]);
    until_eq(1000, || log.read("all").lines().count());
    w.ok("svc", &["-wD", "-T", "30000", "-d", &a.path]);
    events.expect("UdD");
    assert_eq!(a.deaths().len(), 1);
    assert_eq!(w.code("svok", &[&a.path]), 0);
    stop(&w, svscan);
    assert!(!is_locked("scan/a/supervise/lock") && !is_locked("scan/a/log/supervise/lock"));
}

fn killed() {
    let w = world();
    let a = w.service("a", SLEEP);
    a.file("isolate", "");
    let b = w.service("b", SLEEP);
    let svscan = w.svscan(&[]);
    let pids = (a.pid(), b.pid());
    let (own, common) = (supervisor(&a), supervisor(&b));
    kill(own, Signal::KILL);
    wait_replaced(&a, own);
    until_eq(1, || a.state().adopted);
    assert_eq!((a.pid(), b.pid(), supervisor(&b)), (pids.0, pids.1, common));
    assert_eq!(b.state().adopted, 0, "the others notice nothing");
    w.ok("svc", &["-wD", "-T", "30000", "-k", "-O", &a.path]);
    assert_eq!(a.status().wait, 9, "how it ended is known although it was not our child");
    // And the other way round.
    kill(common, Signal::KILL);
    wait_replaced(&b, common);
    until_eq(1, || b.state().adopted);
    w.ok("svc", &["-wD", "-T", "30000", "-d", &b.path]);
    assert_eq!(b.status().wait, 15);
    stop(&w, svscan);
}

fn killed_with_its_scanner() {
    let w = world();
    let a = w.service("a", "echo >>starts; exec sleep 1000");
    a.file("isolate", "");
    let mut svscan = w.svscan(&[]);
    let (pid, own) = (a.pid(), supervisor(&a));
    for pid in [svscan.pid(), own] {
        kill(pid, Signal::KILL);
    }
    until("both are dead", || !svscan.is_running() && !is_alive(own));
    let svscan = w.svscan(&[]);
    until_eq(1, || a.state().adopted);
    assert_eq!((a.pid(), a.read("starts").len()), (pid, 1));
    w.ok("svc", &["-wD", "-T", "30000", "-d", &a.path]);
    stop(&w, svscan);
}

fn found_by_the_next_scanner() {
    let w = world();
    let a = w.service("a", SLEEP);
    a.file("isolate", "");
    let mut svscan = w.svscan(&[]);
    let (pid, own) = (a.pid(), supervisor(&a));
    kill(svscan.pid(), Signal::KILL);
    until("the scanner is dead", || !svscan.is_running());
    // The file is not needed any more: it has its supervisor.
    fs::remove_file("scan/a/isolate").unwrap();
    let svscan = w.svscan(&[]);
    assert_eq!((a.pid(), supervisor(&a)), (pid, own));
    kill(own, Signal::KILL);
    wait_replaced(&a, own);
    assert_eq!(a.pid(), pid);
    stop(&w, svscan);
    assert!(!is_alive(pid));
}

fn all() {
    let w = world();
    let services: Vec<Service> = (0..10).map(|n| w.service(&format!("s{n}"), SLEEP)).collect();
    let svscan = w.svscan(&["-i"]);
    let mut supervisors: Vec<i32> = services.iter().map(supervisor).collect();
    supervisors.sort();
    supervisors.dedup();
    assert_eq!(supervisors.len(), 10, "each has its own");
    let late = w.service("late", SLEEP);
    late.wait_supervised();
    assert!(!supervisors.contains(&supervisor(&late)));
    w.ok("svscanctl", &["-q", "scan"]);
    assert_eq!(svscan.end().code, 0);
    assert!(supervisors.iter().all(|pid| !is_alive(*pid)));
}

fn comes_and_goes() {
    let w = world();
    let _b = w.service("b", SLEEP);
    let svscan = w.svscan(&[]);
    let a = w.service("a", SLEEP);
    a.file("isolate", "");
    w.service("a/log", "exec cat >all");
    w.ok("svscanctl", &["-a", "scan"]);
    a.wait_supervised();
    let (pid, own) = (a.pid(), supervisor(&a));
    fs::rename("scan/a", "a").unwrap();
    w.ok("svscanctl", &["-a", "scan"]);
    assert!(w.at("a").is_supervised() && is_alive(pid), "inactive, not stopped");
    w.ok("svscanctl", &["-n", "scan"]);
    until("it is stopped and its supervisor has left", || !is_alive(pid) && !is_alive(own));
    assert!(!w.at("a").is_supervised());
    until("nothing is left of it", || !fs::exists("scan/.s6-svscan/isolated/a").unwrap());
    fs::rename("a", "scan/a").unwrap();
    w.ok("svscanctl", &["-a", "scan"]);
    a.wait_supervised();
    assert_ne!(a.pid(), pid);
    // Told to leave while its directory is there, it is begun again, as any is.
    let pid = a.pid();
    w.ok("svc", &["-dx", &a.path]);
    until("it is started again", || a.status().is_up() && a.status().pid != pid);
    stop(&w, svscan);
}

/// Its directory went away while there was no scanner: the next one prunes it all the same.
fn gone_while_nobody_scanned() {
    let w = world();
    let a = w.service("a", SLEEP);
    a.file("isolate", "");
    let mut svscan = w.svscan(&[]);
    let (pid, own) = (a.pid(), supervisor(&a));
    kill(svscan.pid(), Signal::KILL);
    until("the scanner is dead", || !svscan.is_running());
    fs::rename("scan/a", "a").unwrap();
    let w = World::new(programs(), programs());
    let svscan = w.svscan(&[]);
    assert!(is_alive(pid));
    w.ok("svscanctl", &["-n", "scan"]);
    until("it is stopped and its supervisor has left", || !is_alive(pid) && !is_alive(own));
    until("nothing is left of it", || !fs::exists("scan/.s6-svscan/isolated/a").unwrap());
    stop(&w, svscan);
}

fn long_names() {
    let w = world();
    let names = ["x".repeat(200), format!("{}y", "x".repeat(199))];
    let services = names.map(|name| w.service(&name, SLEEP));
    for service in &services {
        service.file("isolate", "");
    }
    let svscan = w.svscan(&[]);
    let pids = [services[0].pid(), services[1].pid()];
    assert_ne!(parent(pids[0]), parent(pids[1]));
    let own = supervisor(&services[0]);
    kill(own, Signal::KILL);
    wait_replaced(&services[0], own);
    assert_eq!(services[0].pid(), pids[0]);
    stop(&w, svscan);
}

fn counts_when_supervision_begins() {
    let w = world();
    let a = w.service("a", SLEEP);
    let b = w.service("b", SLEEP);
    let mut svscan = w.svscan(&[]);
    let (pid, common) = (a.pid(), supervisor(&a));
    a.file("isolate", "");
    w.ok("svscanctl", &["-a", "scan"]);
    kill(svscan.pid(), Signal::KILL);
    until("the scanner is dead", || !svscan.is_running());
    let svscan = w.svscan(&[]);
    w.ok("svc", &["-wr", "-T", "30000", "-r", &a.path]);
    assert!(!is_alive(pid));
    assert_eq!((supervisor(&a), supervisor(&b)), (common, common));
    // From the next time that it is added on.
    fs::rename("scan/a", "a").unwrap();
    w.ok("svscanctl", &["-an", "scan"]);
    until("it has no supervisor", || !w.at("a").is_supervised());
    fs::rename("a", "scan/a").unwrap();
    w.ok("svscanctl", &["-a", "scan"]);
    a.wait_supervised();
    assert_ne!(supervisor(&a), common);
    stop(&w, svscan);
}

fn upgraded() {
    let w = world();
    let a = w.service("a", SLEEP);
    a.file("isolate", "");
    let b = w.service("b", SLEEP);
    let svscan = w.svscan(&[]);
    let before = (a.pid(), supervisor(&a), b.pid(), supervisor(&b));
    w.ok("svscanctl", &["--upgrade", "scan"]);
    until("it is upgraded", || svscan.said().contains("upgraded"));
    let executed = |pid: i32, name: &str| {
        // One that was forked has the scanner's name for its executable's first argument until then.
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.starts_with(name.as_bytes()) && a.is_supervised() && b.is_supervised()
    };
    until("both supervisors are there", || {
        executed(before.1, "supervise") && executed(before.3, "supervise")
    });
    w.ok("svc", &["-wu", "-T", "30000", "-u", &a.path]);
    w.ok("svc", &["-wu", "-T", "30000", "-u", &b.path]);
    assert_eq!((a.pid(), supervisor(&a), b.pid(), supervisor(&b)), before);
    // And killed after that they come back.
    kill(before.1, Signal::KILL);
    wait_replaced(&a, before.1);
    assert_eq!(a.pid(), before.0);
    w.ok("svc", &["-wD", "-T", "30000", "-d", &a.path]);
    assert_eq!(a.status().wait, 15);
    stop(&w, svscan);
}

/// Its directory went away while there was nobody at all: the next scanner has it taken over, and pruned.
fn gone_while_there_was_nobody() {
    let w = world();
    let a = w.service("a", SLEEP);
    a.file("isolate", "");
    let mut svscan = w.svscan(&[]);
    let (pid, own) = (a.pid(), supervisor(&a));
    [svscan.pid(), own].into_iter().for_each(|pid| kill(pid, Signal::KILL));
    until("both are dead", || !svscan.is_running() && !is_alive(own));
    fs::rename("scan/a", "a").unwrap();
    let svscan = world().svscan(&[]);
    until_eq(1, || w.at("a").state().adopted);
    assert!(is_alive(pid));
    w.ok("svscanctl", &["-n", "scan"]);
    until("it is stopped", || !is_alive(pid));
    until("nothing is left of it", || !fs::exists("scan/.s6-svscan/isolated/a").unwrap());
    stop(&w, svscan);
}
