//! The wall clock is only for showing: a machine that boots in 1970 and learns the time later, a clock that is set to
//! 2100 and back while everything runs. No limit comes early or late for that, nobody dies, and what is told is true.
//!
//! `cargo test --test clock`, with words after `--` to run only scenarios whose name contains one of them. The clock of
//! the machine is not touched: the programs under test read another one (`support/clock.rs`).

mod support;

use perennial::servicedir::tally::Death;
use rustix::process::Signal;
use std::fs;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use support::clock::{self, today};
use support::runner::{self, Scenario};
use support::{Programs, Running, SLEEP, Service, World, is_alive, kill, mkfifo, parent, until};

fn main() -> ExitCode {
    let programs = || Programs { dir: runner::shared_dir().join("programs"), prefix: "" };
    let scenarios: Vec<Scenario<'_>> = SCENARIOS
        .iter()
        .map(|(name, scenario)| {
            Scenario::new(*name, move || match clock::can_be_moved() {
                true => scenario(&World::new(programs(), programs())),
                false => println!("not tried: clocks cannot be moved here"),
            })
        })
        .collect();
    runner::run("clock", &scenarios, || {
        Programs::link(env!("CARGO_BIN_EXE_perennial"), programs().dir, "");
    })
}

type Entry = (&'static str, fn(&World));

const SCENARIOS: &[Entry] = &[
    ("boots_in_1970", boots_in_1970),
    ("nobody_tells", nobody_tells),
    ("a_successor_after_a_jump", a_successor_after_a_jump),
    ("pauses", pauses),
    ("limits", limits),
    ("waiting_clients", waiting_clients),
    ("tally", tally),
    ("times_of_directories", times_of_directories),
    ("far_years", far_years),
];

/// 2100-01-01.
const YEAR_2100: i64 = 4_102_444_800;

/// An hour after the beginning.
const YEAR_1970: i64 = 3600;

/// Starts a scanner whose clock is at `to`, and waits until all services that were made are supervised.
fn svscan(w: &World, to: i64) -> Running {
    let running = clock::start(w, to, "svscan", &["scan"]);
    w.wait_supervised();
    running
}

/// Sets the clock of the scanner and the supervisor, and tells them as the kernel does.
fn set_all(svscan: &Running, service: &Service, to: i64) {
    clock::set_and_tell(svscan.pid(), to);
    clock::set_and_tell(parent(service.pid()), to);
}

/// Since when it is up, in seconds, as somebody says whose clock is at `now`.
fn age(w: &World, service: &Service, now: i64) -> u64 {
    let ran = clock::start(w, now, "svstat", &["-o", "updownfor", &service.path]).end();
    assert_eq!(ran.code, 0, "{ran:?}");
    ran.out.trim().parse().unwrap()
}

/// The machine learns the time while services run: they go on, and their ages are what they were.
fn boots_in_1970(w: &World) {
    let began = Instant::now();
    let a = w.service("a", "echo >&3; exec sleep 1000");
    a.file("notification-fd", "3\n");
    let scanner = svscan(w, YEAR_1970);
    w.ok("svwait", &["-U", "-t", "30000", &a.path]);
    let pid = a.pid();
    assert!(age(w, &a, YEAR_1970) <= began.elapsed().as_secs() + 1);
    for (n, to) in [today(), YEAR_2100, YEAR_1970, today()].into_iter().enumerate() {
        set_all(&scanner, &a, to);
        until(&format!("the age at {to} is true"), || age(w, &a, to) <= began.elapsed().as_secs() + 1);
        assert_eq!(a.pid(), pid);
        assert_eq!(a.status().flags & 8, 8, "it is still ready");
        // And everything works.
        let b = w.service(&format!("b{n}"), SLEEP);
        let other = b.pid();
        w.ok("svc", &["-wr", "-T", "30000", "-r", &b.path]);
        assert_ne!(b.pid(), other);
        assert!(age(w, &b, to) <= began.elapsed().as_secs() + 1);
        let other = b.pid();
        fs::rename(&b.path, format!("gone{n}")).unwrap();
        w.ok("svscanctl", &["-an", "scan"]);
        until("it was pruned", || !is_alive(other));
    }
    w.ok("svscanctl", &["-t", "scan"]);
    assert_eq!(scanner.end().code, 0);
    assert!(!is_alive(pid));
}

/// Where the kernel does not tell (it is too old, or a sandbox) the next change is told with the new time.
fn nobody_tells(w: &World) {
    let a = w.service("a", SLEEP);
    let scanner = svscan(w, today());
    for to in [YEAR_1970, YEAR_2100, today()] {
        let pid = a.pid();
        clock::set(scanner.pid(), to);
        clock::set(parent(pid), to);
        w.ok("svc", &["-wr", "-T", "30000", "-r", &a.path]);
        assert_ne!(a.pid(), pid);
        assert!(age(w, &a, to) < 60);
    }
    w.ok("svscanctl", &["-t", "scan"]);
    assert_eq!(scanner.end().code, 0);
}

/// A successor finds memory of another time. Whom it takes over it knows by another clock.
fn a_successor_after_a_jump(w: &World) {
    let began = Instant::now();
    let a = w.service("a", "echo >>lives; exec sleep 1000");
    let scanner = svscan(w, YEAR_2100);
    let pid = a.pid();
    for (n, to) in (1..).zip([YEAR_1970, YEAR_2100, today()]) {
        let supervisor = parent(pid_of_supervisor(&scanner));
        assert_eq!(supervisor, scanner.pid());
        // The new one executes a program, so that its clock is the machine's: it is set when it is at work.
        kill(pid_of_supervisor(&scanner), Signal::KILL);
        until("there is a successor", || a.state().adopted == n);
        assert_eq!(a.status().pid, pid);
        clock::set_and_tell(scanner.pid(), to);
        clock::set_and_tell(pid_of_supervisor(&scanner), to);
        until(&format!("the age at {to} is true"), || age(w, &a, to) <= began.elapsed().as_secs() + 1);
    }
    w.ok("svc", &["-wD", "-T", "30000", "-d", &a.path]);
    assert_eq!((a.status().wait, &*a.read("lives")), (15, "\n"));
}

fn pid_of_supervisor(scanner: &Running) -> i32 {
    let children = || {
        let all = support::read(&format!("/proc/{0}/task/{0}/children", scanner.pid()));
        all.split_whitespace().map(|pid| pid.parse::<i32>().unwrap()).collect::<Vec<_>>()
    };
    let is_it = |pid: &i32| support::read(&format!("/proc/{pid}/comm")) == "supervise\n" && is_alive(*pid);
    until("there is a supervisor", || children().iter().any(is_it));
    children().into_iter().find(is_it).unwrap()
}

/// Between two starts lies a second, whatever the clock says, and not more because of it.
fn pauses(w: &World) {
    let a = w.service("a", "cut -d' ' -f1 /proc/uptime >>starts; exit 1");
    let b = w.service("b", SLEEP);
    let scanner = svscan(w, today());
    let starts = || -> Vec<f64> { a.read("starts").lines().map(|line| line.parse().unwrap()).collect() };
    for to in [YEAR_1970, YEAR_2100, YEAR_1970] {
        let before = starts().len();
        set_all(&scanner, &b, to);
        until("it was started twice more", || starts().len() >= before + 2);
    }
    let all = starts();
    assert!(all.windows(2).all(|pair| pair[1] - pair[0] > 0.9), "{all:?}");
    drop(scanner);
}

/// `timeout-kill` and `timeout-finish` count in real seconds.
fn limits(w: &World) {
    let stubborn = "trap '' TERM; touch trapped; while :; do sleep 0.1; done";
    let a = w.service("a", stubborn);
    a.file("timeout-kill", "1000");
    let b = w.service("b", SLEEP);
    b.script("finish", "exec sleep 1000").file("timeout-finish", "1000");
    let c = w.service("c", SLEEP);
    let scanner = svscan(w, today());
    until("a ignores SIGTERM", || a.has("trapped"));
    a.pid();
    b.pid();
    let supervisor = parent(c.pid());
    let asked = Instant::now();
    w.ok("svc", &["-d", &a.path]);
    w.ok("svc", &["-d", &b.path]);
    for to in [YEAR_2100, YEAR_1970] {
        clock::set_and_tell(supervisor, to);
    }
    w.ok("svwait", &["-D", "-t", "30000", &a.path, &b.path]);
    let took = asked.elapsed();
    assert!(took >= Duration::from_millis(1000), "{took:?}");
    assert_eq!((a.status().wait, b.status().wait), (9, 15));
    drop(scanner);
}

/// A client that waits waits in real seconds too.
fn waiting_clients(w: &World) {
    let a = w.service("a", SLEEP);
    a.file("down", "");
    let _scanner = w.svscan(&[]);
    for (program, args) in [
        ("svc", &["-wu", "-T", "1000", "scan/a"][..]),
        ("svwait", &["-u", "-t", "1000", "scan/a"]),
        ("svlisten1", &["-u", "-t", "1000", "scan/a", "true"]),
        ("ftrig-wait", &["-t", "1000", "scan/a/event", "x"]),
    ] {
        for (from, to) in [(today(), YEAR_2100), (YEAR_2100, YEAR_1970)] {
            let began = Instant::now();
            let waiting = clock::start(w, from, program, args);
            until("it listens", || a.listeners() == 1);
            clock::set(waiting.pid(), to);
            assert_eq!(waiting.end().code, 99, "{program}");
            let took = began.elapsed();
            assert!(took >= Duration::from_millis(1000), "{program}: {took:?}");
        }
    }
}

/// Deaths have the time of their death, in the order in which they happened.
fn tally(w: &World) {
    let a = w.service("a", "read x <gate; exit $x");
    mkfifo("scan/a/gate");
    let c = w.service("c", SLEEP);
    let scanner = svscan(w, today());
    let times = [today(), YEAR_1970, YEAR_2100];
    for (code, to) in times.into_iter().enumerate() {
        set_all(&scanner, &c, to);
        a.pid();
        a.file("gate", &format!("{code}\n"));
        until("it died", || a.deaths().len() == code + 1);
        w.ok("svwait", &["-u", "-t", "30000", &a.path]);
    }
    let deaths: Vec<Death> = a.deaths();
    for (death, to) in deaths.iter().zip(times) {
        assert!((to..to + 60).contains(&death.stamp.secs), "{death:?} at {to}");
    }
    assert_eq!(w.ok("svdt", &[&a.path]).lines().count(), 3);
}

/// What a directory's times say means nothing to a scanner: whatever is new is seen.
fn times_of_directories(w: &World) {
    let a = w.service("a", SLEEP);
    let scanner = svscan(w, YEAR_1970);
    a.pid();
    for (n, date) in ["1970-01-02", "2100-01-01", "now"].iter().enumerate() {
        let name = format!("b{n}");
        w.service_at(&name, SLEEP);
        std::os::unix::fs::symlink(format!("../{name}"), format!("scan/{name}")).unwrap();
        for dir in ["scan", &name] {
            assert!(std::process::Command::new("touch").args(["-d", date, dir]).status().unwrap().success());
        }
        w.ok("svscanctl", &["-a", "scan"]);
        let b = w.at(&name);
        let pid = b.pid();
        // And what is changed in it counts from the next start on.
        b.script("run", "touch changed; exec sleep 1000");
        b.file("down-signal", "KILL\n");
        assert!(std::process::Command::new("touch").args(["-d", date, &name]).status().unwrap().success());
        w.ok("svc", &["-wr", "-T", "30000", "-r", &name]);
        until("the new one runs", || b.has("changed"));
        assert_ne!(b.pid(), pid);
        assert_eq!(b.status().wait, 9);
    }
    drop(scanner);
}

/// Seconds that do not fit 31 or 32 bits, in supervisors and clients.
fn far_years(w: &World) {
    let a = w.service("a", "exit 3");
    a.script("finish", "exit 125");
    let b = w.service("b", SLEEP);
    // 2038-01-20, 2106-02-08, and one of the last years that a stamp can tell of.
    for to in [2_147_558_400, 4_295_030_400, 8_000_000_000] {
        let scanner = svscan(w, to);
        until("it died", || a.deaths().len() == 1 && !a.status().wanted());
        assert!((to..to + 60).contains(&a.deaths()[0].stamp.secs));
        assert!(age(w, &b, to) < 60);
        let told = clock::start(w, to, "svdt", &[&a.path]).end();
        assert_eq!(told.out, format!("{} exitcode 3\n", a.deaths()[0].stamp));
        let told = clock::start(w, to, "svstat", &["-S", "scan"]).end();
        assert!(told.out.contains("exit 3"), "{told:?}");
        w.ok("svscanctl", &["-t", "scan"]);
        assert_eq!(scanner.end().code, 0);
    }
}
