//! s6's clients and ours, on s6's supervisors and ours: one list of scenarios, four combinations, the same
//! expectations. Where we differ on purpose the scenario says so.
//!
//! `cargo test --test interop`, with words after `--` to run only what contains one of them. Each scenario
//! runs in a process and a directory of its own, which end with it. PERENNIAL names another executable to
//! try than the one just built.

mod support;

use rustix::process::Signal;
use std::fs;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use support::interop::{self, Kit, Scenario, World};
use support::{
    SLEEP, chmod, is_alive, is_locked, kill, listeners, mkfifo, mode, parent, read, stat, until, until_eq,
};

fn main() -> ExitCode {
    let shipped = std::env::var("PERENNIAL").ok();
    interop::run(SCENARIOS, shipped.as_deref().unwrap_or(env!("CARGO_BIN_EXE_perennial")))
}

const SCENARIOS: &[Scenario] = &[
    // The longest first.
    ("same_codes", same_codes),
    ("svok", svok),
    ("start_stop", start_stop),
    ("what_run_inherits", what_run_inherits),
    ("restart", restart),
    ("restart_delay", restart_delay),
    ("restart_when_ready", restart_when_ready),
    ("readiness", readiness),
    ("never_ready", never_ready),
    ("finish_arguments", finish_arguments),
    ("finish_125", finish_125),
    ("down_files", down_files),
    ("once", once),
    ("pause", pause),
    ("signals", signals),
    ("newer_signals", newer_signals),
    ("down_signal", down_signal),
    ("control_bytes", control_bytes),
    ("timeout_kill", timeout_kill),
    ("timeout_killpg", timeout_killpg),
    ("lock_fd", lock_fd),
    ("links_in_place_of_directories", links_in_place_of_directories),
    ("full_listener", full_listener),
    ("timeout_finish", timeout_finish),
    ("status_bytes", status_bytes),
    ("death_tally", death_tally),
    ("permafailon", permafailon),
    ("permafailon_passes", permafailon_passes),
    ("run_missing", run_missing),
    ("supervise_signals", supervise_signals),
    ("adoption", adoption),
    ("lock", lock),
    ("svc_codes", svc_codes),
    ("svc_waits", svc_waits),
    ("svc_waits_for_an_answer", svc_waits_for_an_answer),
    ("svstat", svstat),
    ("svwait", svwait),
    ("svwait_restart", svwait_restart),
    ("svwait_failures", svwait_failures),
    ("svlisten1", svlisten1),
    ("svlisten1_restart", svlisten1_restart),
    ("svlisten", svlisten),
    ("svscan_add_remove", svscan_add_remove),
    ("svscan_prune", svscan_prune),
    ("svscan_bad_entry", svscan_bad_entry),
    ("svscan_terminate", svscan_terminate),
    ("svscan_quit", svscan_quit),
    ("svscan_abort", svscan_abort),
    ("svscan_scripts", svscan_scripts),
    ("svscan_crash", svscan_crash),
    ("svscan_catch_all", svscan_catch_all),
    ("svscan_options", svscan_options),
    ("svscanctl_codes", svscanctl_codes),
    ("nested_logger", nested_logger),
    ("logger_gets_everything", logger_gets_everything),
    ("svlink", svlink),
    ("svlink_down", svlink_down),
    ("svlink_logger", svlink_logger),
    ("svlink_codes", svlink_codes),
    ("svunlink", svunlink),
    ("instances", instances),
    ("instance_codes", instance_codes),
    ("fifodir", fifodir),
    ("fifodir_cleaning", fifodir_cleaning),
    ("svperms", svperms),
    ("notifyoncheck_command", notifyoncheck_command),
    ("notifyoncheck_file", notifyoncheck_file),
    ("notifyoncheck_hanging", notifyoncheck_hanging),
    ("notifyoncheck_gives_up", notifyoncheck_gives_up),
    ("notifyoncheck_ends", notifyoncheck_ends),
];

// ------------------------------------------------------------------------------------------------ services

fn svok(w: &World) {
    let a = w.service_at("a", SLEEP);
    assert_eq!(w.code("svok", &["a"]), 1);
    assert_eq!(w.code("svok", &["nowhere"]), 1);
    assert_eq!(w.code("svok", &[]), 100);
    let supervisor = w.supervise(&a);
    assert_eq!(w.code("svok", &["a"]), 0);
    a.pid();
    w.ok("svc", &["-wD", "-T", "10000", "-dx", "a"]);
    assert_eq!(supervisor.end().code, 0);
    assert_eq!(w.code("svok", &["a"]), 1);
}

fn start_stop(w: &World) {
    let a = w.service("a", SLEEP);
    a.file("down", "");
    let events = a.listen();
    let _svscan = w.svscan(&[]);
    assert!(a.status().is_down());
    w.ok("svc", &["-u", &a.path]);
    w.ok("svwait", &["-u", "-t", "10000", &a.path]);
    let pid = a.pid();
    assert!(is_alive(pid));
    assert!(w.ok("svstat", &[&a.path]).starts_with(&format!("up (pid {pid}) ")));
    w.ok("svc", &["-d", &a.path]);
    w.ok("svwait", &["-D", "-t", "10000", &a.path]);
    events.expect("sudD");
    assert!(!is_alive(pid));
    let status = a.status();
    assert_eq!((status.pid, status.wait, status.wanted()), (0, 15, false));
    assert!(w.ok("svstat", &[&a.path]).starts_with("down (signal SIGTERM) "));
}

fn what_run_inherits(w: &World) {
    let script = r#"
        exec >told
        echo "$0 $*"; pwd -P; umask; echo $$; cut -d" " -f5,6 /proc/$$/stat
        while read -r name value; do [ $name = SigBlk: ] && echo $value; done </proc/$$/status
        echo "$BASE" >base
        exec sleep 1000"#;
    let a = w.service("a", script);
    let _svscan = w.svscan(&[]);
    let pid = a.pid();
    until_eq(format!("{}\n", w.base.display()), || a.read("base"));
    let told = a.read("told");
    let [called, dir, umask, own, group_and_session, blocked] = told.lines().collect::<Vec<_>>()[..] else {
        panic!("{told}");
    };
    assert_eq!(called, "./run a", "one argument: the name");
    assert_eq!(dir, w.base.join("scan/a").to_str().unwrap());
    assert_eq!(umask, "0022");
    assert_eq!(own, pid.to_string());
    assert_eq!(group_and_session, format!("{pid} {pid}"), "a session of its own");
    assert_eq!(blocked, "0000000000000000", "no signal is blocked");
}

fn restart(w: &World) {
    let a = w.service("a", SLEEP);
    let _svscan = w.svscan(&[]);
    let first = a.pid();
    w.ok("svc", &["-wr", "-T", "10000", "-r", &a.path]);
    let second = a.pid();
    assert_ne!(first, second);
    assert!(!is_alive(first));
    assert!(a.status().wanted());
}

/// s6 waits for a second after each death. Ours counts the second from the last start: a service that ran
/// for longer restarts at once. In both, one that cannot stay up is not started more than once in a second.
fn restart_delay(w: &World) {
    let a = w.service("a", SLEEP);
    let b = w.service("b", "date +%s.%N >>starts");
    let _svscan = w.svscan(&[]);
    a.pid();
    let up = Instant::now();
    until("b was started three times", || b.read("starts").lines().count() >= 3);
    let starts: Vec<f64> = b.read("starts").lines().map(|line| line.parse().unwrap()).collect();
    for pair in starts.windows(2) {
        assert!(pair[1] - pair[0] > 0.9, "{starts:?}");
    }
    until("a was up for more than a second", || up.elapsed() > Duration::from_millis(1200));
    let events = a.listen();
    let killed = Instant::now();
    w.ok("svc", &["-k", &a.path]);
    events.expect("dDu");
    let pause = killed.elapsed();
    match w.daemons {
        Kit::S6 => assert!(pause > Duration::from_millis(900), "{pause:?}"),
        Kit::Ours => assert!(pause < Duration::from_millis(800), "{pause:?}"),
    }
}

fn restart_when_ready(w: &World) {
    let a = w.service("a", "echo >&3; exec sleep 1000");
    a.file("notification-fd", "3\n");
    let _svscan = w.svscan(&[]);
    w.ok("svwait", &["-U", "-t", "10000", &a.path]);
    let ready = Instant::now();
    until("a was ready for more than a second", || ready.elapsed() > Duration::from_millis(1200));
    let events = a.listen();
    let killed = Instant::now();
    w.ok("svc", &["-k", &a.path]);
    events.expect("dDuU");
    assert!(killed.elapsed() < Duration::from_millis(800), "{:?}", killed.elapsed());
}

fn readiness(w: &World) {
    let a = w.service("a", "read x <gate; printf 'almost\\nready' >&4; exec sleep 1000");
    a.file("notification-fd", "4\n");
    mkfifo("scan/a/gate");
    let events = a.listen();
    let _svscan = w.svscan(&[]);
    a.pid();
    assert_eq!(w.code("svwait", &["-U", "-t", "300", &a.path]), 99);
    assert_eq!(w.ok("svstat", &["-o", "ready", &a.path]), "false\n");
    assert_eq!(a.status().flags & 8, 0);
    a.file("gate", "\n");
    w.ok("svwait", &["-U", "-t", "10000", &a.path]);
    events.expect("suU");
    assert_eq!(w.ok("svstat", &["-r", &a.path]), "true\n");
    assert_eq!(a.status().flags & 8, 8);
    assert!(w.ok("svstat", &[&a.path]).contains(", ready "));
    w.ok("svc", &["-wU", "-T", "10000", "-u", &a.path]);
}

fn never_ready(w: &World) {
    let a = w.service("a", "printf almost >&3; exec 3>&-; touch closed; exec sleep 1000");
    a.file("notification-fd", "3");
    let b = w.service("b", SLEEP);
    let _svscan = w.svscan(&[]);
    until("a has closed its descriptor", || a.has("closed"));
    assert_eq!(w.code("svwait", &["-U", "-t", "300", &a.path]), 99);
    // Who cannot say so is not waited for.
    b.pid();
    w.ok("svc", &["-wU", "-T", "10000", "-u", &b.path]);
}

fn finish_arguments(w: &World) {
    let a = w.service("a", "echo $$ >>pids; [ -e second ] || { touch second; exit 3; }; exec sleep 1000");
    a.script("finish", "echo \"$0 $*\" >>told");
    let events = a.listen();
    let _svscan = w.svscan(&[]);
    events.expect("sudDu");
    w.ok("svc", &["-wD", "-T", "10000", "-d", &a.path]);
    events.expect("sudDudD");
    let pids: Vec<String> = a.read("pids").lines().map(str::to_owned).collect();
    let told = a.read("told");
    // The process group is a fourth argument since s6 2.13.
    let expected = match w.daemons {
        Kit::S6 => "./finish 3 0 a\n./finish 256 15 a\n".to_owned(),
        Kit::Ours => format!("./finish 3 0 a {}\n./finish 256 15 a {}\n", pids[0], pids[1]),
    };
    assert_eq!(told, expected);
}

fn finish_125(w: &World) {
    let a = w.service("a", "read x <gate; exit 1");
    a.script("finish", "exit 125");
    mkfifo("scan/a/gate");
    let events = a.listen();
    let _svscan = w.svscan(&[]);
    a.pid();
    let waiting = w.start("svwait", &["-U", "-t", "10000", &a.path]);
    let listening = w.start("svlisten1", &["-U", "-t", "10000", &a.path, "true"]);
    until_eq(3, || a.listeners());
    a.file("gate", "\n");
    assert_eq!(waiting.end().code, 1);
    assert_eq!(listening.end().code, 1);
    events.expect("sudOD");
    assert_eq!(w.ok("svstat", &["-o", "up,wantedup", &a.path]), "false false\n");
}

fn down_files(w: &World) {
    let a = w.service("a", SLEEP);
    a.file("down", "");
    let _svscan = w.svscan(&[]);
    assert_eq!(w.ok("svstat", &["-N", &a.path]), "false\n");
    w.ok("svc", &["-wu", "-T", "10000", "-U", &a.path]);
    assert!(!a.has("down"));
    w.ok("svc", &["-Q", &a.path]);
    until("Q has made down", || a.has("down"));
    until_eq(false, || a.status().wanted());
    assert!(a.status().is_up(), "Q stops nothing");
    w.ok("svc", &["-U", &a.path]);
    until("U has removed down", || !a.has("down"));
    until_eq(true, || a.status().wanted());
    w.ok("svc", &["-wD", "-T", "10000", "-D", &a.path]);
    assert!(a.has("down"));
    assert!(w.ok("svstat", &[&a.path]).starts_with("down (signal SIGTERM) "));
}

fn once(w: &World) {
    let a = w.service("a", SLEEP);
    a.file("down", "");
    let _svscan = w.svscan(&[]);
    w.ok("svc", &["-wu", "-T", "10000", "-o", &a.path]);
    assert!(!a.status().wanted());
    w.ok("svc", &["-wD", "-T", "10000", "-t", &a.path]);
    assert_eq!(w.code("svwait", &["-u", "-t", "1500", &a.path]), 99, "it is not restarted");
    w.ok("svc", &["-wu", "-T", "10000", "-u", &a.path]);
    assert!(a.status().wanted());
    w.ok("svc", &["-O", &a.path]);
    until_eq(false, || a.status().wanted());
    assert!(a.status().is_up());
}

fn pause(w: &World) {
    let a = w.service("a", SLEEP);
    let _svscan = w.svscan(&[]);
    let pid = a.pid();
    w.ok("svc", &["-p", &a.path]);
    until_eq(Some("T".to_owned()), || stat(pid, 3));
    until_eq("true\n".to_owned(), || w.ok("svstat", &["-o", "paused", &a.path]));
    assert!(w.ok("svstat", &[&a.path]).contains(", paused"));
    w.ok("svc", &["-c", &a.path]);
    until_eq(Some("S".to_owned()), || stat(pid, 3));
    until_eq("false\n".to_owned(), || w.ok("svstat", &["-o", "paused", &a.path]));
    w.ok("svc", &["-p", &a.path]);
    until_eq(Some("T".to_owned()), || stat(pid, 3));
    // A stop reaches what is paused.
    w.ok("svc", &["-wD", "-T", "10000", "-d", &a.path]);
}

/// Notes down the signals it gets.
const NOTER: &str = r#"
    for s in ALRM ABRT QUIT HUP TERM INT USR1 USR2 WINCH; do trap "echo $s >>got" $s; done
    touch trapped
    while :; do sleep 0.05; done"#;

fn signals(w: &World) {
    let a = w.service("a", NOTER);
    let _svscan = w.svscan(&[]);
    until("a has set its traps", || a.has("trapped"));
    let letters = [
        ("-a", "ALRM"),
        ("-b", "ABRT"),
        ("-q", "QUIT"),
        ("-h", "HUP"),
        ("-t", "TERM"),
        ("-i", "INT"),
        ("-1", "USR1"),
        ("-2", "USR2"),
        ("-y", "WINCH"),
    ];
    for (letter, signal) in letters {
        w.ok("svc", &[letter, &a.path]);
        until_eq(format!("{signal}\n"), || a.read("got"));
        fs::remove_file("scan/a/got").unwrap();
    }
    assert!(a.status().is_up());
    let events = a.listen();
    w.ok("svc", &["-k", &a.path]);
    until("a was killed", || events.heard().starts_with('d'));
    assert_eq!(a.status().wait, 9);
}

/// Letters that s6 has had since 2.13 (P, C, K) and 2.15 (l). Debian's clients do not know them; its
/// supervisors ignore them, as they ignore every byte that they do not know.
fn newer_signals(w: &World) {
    let a = w.service("a", NOTER);
    a.file("reload-signal", "USR2\n");
    let b = w.service("b", "sleep 1000 & echo $! >child; wait");
    let _svscan = w.svscan(&[]);
    until("a has set its traps", || a.has("trapped"));
    until("b has a child", || b.read("child").ends_with('\n'));
    let group = [b.pid(), b.read("child").trim().parse().unwrap()];
    if w.clients == Kit::S6 {
        return assert_eq!(w.code("svc", &["-l", &a.path]), 100);
    }
    w.ok("svc", &["-l", &a.path]);
    w.ok("svc", &["-P", &b.path]);
    if w.daemons == Kit::Ours {
        until_eq("USR2\n".to_owned(), || a.read("got"));
        group.iter().for_each(|pid| until_eq(Some("T".to_owned()), || stat(*pid, 3)));
        w.ok("svc", &["-C", &b.path]);
        group.iter().for_each(|pid| until_eq(Some("S".to_owned()), || stat(*pid, 3)));
        w.ok("svc", &["-wD", "-T", "10000", "-OK", &b.path]);
        group.iter().for_each(|pid| until("the group is dead", || !is_alive(*pid)));
    }
    w.ok("svc", &["-s", "SIGUSR1", &a.path]);
    until("a signal by its name arrives", || a.read("got").ends_with("USR1\n"));
}

fn down_signal(w: &World) {
    let a = w.service("a", NOTER);
    a.file("down-signal", "SIGUSR1\n");
    let _svscan = w.svscan(&[]);
    until("a has set its traps", || a.has("trapped"));
    w.ok("svc", &["-r", &a.path]);
    until_eq("USR1\n".to_owned(), || a.read("got"));
    assert!(a.status().wanted());
    w.ok("svc", &["-d", &a.path]);
    until_eq("USR1\nUSR1\n".to_owned(), || a.read("got"));
    // The signal comes first, the status after it.
    until_eq(false, || a.status().wanted());
    // A blank behind the name makes it no name: SIGTERM it is.
    a.file("down-signal", "SIGUSR1 \n");
    w.ok("svc", &["-d", &a.path]);
    until_eq("USR1\nUSR1\nTERM\n".to_owned(), || a.read("got"));
}

fn control_bytes(w: &World) {
    let a = w.service("a", SLEEP);
    a.file("down", "");
    let events = a.listen();
    let _svscan = w.svscan(&[]);
    // Unknown bytes are ignored, the others obeyed in order.
    fs::write("scan/a/supervise/control", "uZ!d\nu").unwrap();
    events.expect("sudDu");
    assert!(a.status().wanted());
}

fn timeout_kill(w: &World) {
    let a = w.service("a", "trap '' TERM; touch trapped; while :; do sleep 0.1; done");
    a.file("timeout-kill", "300");
    let _svscan = w.svscan(&[]);
    until("a ignores SIGTERM", || a.has("trapped"));
    // It is up as soon as it runs, and said to be a moment later: who asks in between is told that it is down.
    a.pid();
    let asked = Instant::now();
    w.ok("svc", &["-wD", "-T", "10000", "-d", &a.path]);
    assert!(asked.elapsed() >= Duration::from_millis(300));
    assert_eq!(a.status().wait, 9);
}

/// `flag-timeout-killpg` came with s6 2.15: before, only run is killed.
fn timeout_killpg(w: &World) {
    let a = w.service("a", "trap '' TERM; sleep 1000 & echo $! >child; while :; do sleep 0.1; done");
    a.file("timeout-kill", "300").file("flag-timeout-killpg", "");
    let _svscan = w.svscan(&[]);
    until("a has a child", || a.read("child").ends_with('\n'));
    let child = a.read("child").trim().parse().unwrap();
    w.ok("svc", &["-wD", "-T", "10000", "-d", &a.path]);
    match w.daemons {
        Kit::S6 => assert!(is_alive(child)),
        Kit::Ours => until("the group is dead", || !is_alive(child)),
    }
}

/// The lock is held for as long as run is up, whatever its number; with 9 s6 has the descriptor open, but no
/// lock. s6 2.11 wants the file to be there.
fn lock_fd(w: &World) {
    let a = w.service("a", "echo >&4; ls /proc/$$/fd >fds; exec sleep 1000");
    a.file("lock-fd", "9\n").file("notification-fd", "4").file("down", "");
    fs::create_dir("scan/a/supervise").unwrap();
    chmod("scan/a/supervise", 0o700);
    a.file("supervise/service-lock", "");
    let _svscan = w.svscan(&[]);
    assert!(!is_locked("scan/a/supervise/service-lock"));
    w.ok("svc", &["-wU", "-T", "10000", "-u", &a.path]);
    assert_eq!(is_locked("scan/a/supervise/service-lock"), w.daemons == Kit::Ours);
    until("it has looked", || a.read("fds").ends_with('\n'));
    assert!(a.read("fds").lines().any(|fd| fd == "9"));
    w.ok("svc", &["-wD", "-T", "10000", "-d", &a.path]);
    assert!(!is_locked("scan/a/supervise/service-lock"));
}

/// A service directory may be read-only: `event` and `supervise` are links to places that do not exist yet. s6
/// does not start again over the same links; ours does.
fn links_in_place_of_directories(w: &World) {
    let a = w.service_at("a", SLEEP);
    fs::create_dir("elsewhere").unwrap();
    for name in ["event", "supervise"] {
        std::os::unix::fs::symlink(w.base.join("elsewhere").join(name), format!("a/{name}")).unwrap();
    }
    let supervisor = w.supervise(&a);
    a.pid();
    assert!(fs::exists("elsewhere/supervise/status").unwrap() && fs::exists("elsewhere/event").unwrap());
    w.ok("svc", &["-wD", "-T", "10000", "-dx", "a"]);
    assert_eq!(supervisor.end().code, 0);
    if w.daemons == Kit::S6 {
        return assert_eq!(w.run_of(Kit::S6, "supervise", &["a"]).code, 111);
    }
    let supervisor = w.supervise(&a);
    a.pid();
    w.ok("svc", &["-wD", "-T", "10000", "-dx", "a"]);
    assert_eq!(supervisor.end().code, 0);
}

/// A listener that does not read keeps nobody from anything, and others hear everything.
fn full_listener(w: &World) {
    const DEAF: &str = "scan/a/event/ftrig1:@400000006553f1000000000a:AbCdEf";
    let a = w.service("a", SLEEP);
    a.file("down", "");
    let events = a.listen();
    mkfifo(DEAF);
    use rustix::fs::{Mode, OFlags, open};
    let deaf = open(DEAF, OFlags::RDWR | OFlags::NONBLOCK, Mode::empty()).unwrap();
    while rustix::io::write(&deaf, &[b'.'; 4096]).is_ok() {}
    let _svscan = w.svscan(&[]);
    w.ok("svc", &["-wu", "-T", "10000", "-u", &a.path]);
    w.ok("svc", &["-wD", "-T", "10000", "-d", &a.path]);
    events.expect("sudD");
    assert!(fs::exists(DEAF).unwrap(), "it is full, not dead");
}

fn timeout_finish(w: &World) {
    let a = w.service("a", SLEEP);
    a.script("finish", "echo $$ >finishing; exec sleep 1000").file("timeout-finish", "300\n");
    let _svscan = w.svscan(&[]);
    a.pid();
    w.ok("svc", &["-wd", "-T", "10000", "-d", &a.path]);
    until("finish runs", || a.status().flags & 2 != 0);
    let pid = a.status().pid;
    until_eq(format!("{pid}\n"), || a.read("finishing"));
    assert!(w.ok("svstat", &[&a.path]).starts_with("down (signal SIGTERM) "));
    w.ok("svwait", &["-D", "-t", "10000", &a.path]);
    assert!(!is_alive(pid));
    assert_eq!(a.status().wait, 15, "finish does not count");
}

/// Ours says of a service that never was started that it is paused, as s6 does since 2.13.2: readers take
/// "paused, and no process" for "not started yet".
fn status_bytes(w: &World) {
    let a = w.service("a", "echo >&3; exec sleep 1000");
    a.file("notification-fd", "3").file("down", "");
    let _svscan = w.svscan(&[]);
    let fresh = a.status();
    let paused = (w.daemons == Kit::Ours) as u8;
    assert_eq!((fresh.pid, fresh.wait, fresh.flags), (0, 0, 8 | paused));
    w.ok("svc", &["-wU", "-T", "10000", "-u", &a.path]);
    let up = a.status();
    assert_eq!((up.wait, up.flags), (0, 4 | 8));
    w.ok("svc", &["-p", &a.path]);
    until_eq(1 | 4 | 8, || a.status().flags);
    w.ok("svc", &["-wD", "-T", "10000", "-dk", &a.path]);
    let down = a.status();
    assert_eq!((down.pid, down.flags), (0, 8));
    let bytes = fs::read("scan/a/supervise/status").unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    for at in [0, 12] {
        let label = u64::from_be_bytes(bytes[at..at + 8].try_into().unwrap());
        let age = ((1 << 62) + 37 + now).checked_sub(label).expect("no stamp from the future");
        assert!(age < 60, "{age}");
    }
}

// ------------------------------------------------------------------------------------------------ deaths

fn death_tally(w: &World) {
    let a = w.service("a", "[ -e second ] || { touch second; exit 7; }; exec sleep 1000");
    a.file("max-death-tally", "2");
    let events = a.listen();
    let _svscan = w.svscan(&[]);
    events.expect("sudDu");
    w.ok("svc", &["-wD", "-T", "10000", "-dk", &a.path]);
    let ends = |args: &[&str]| -> Vec<String> {
        let out = w.ok("svdt", args);
        let stamped = |line: &str| {
            let (stamp, end) = line.split_once(' ').unwrap();
            assert!(stamp.len() == 25 && stamp.starts_with("@40000000"), "{line}");
            end.to_owned()
        };
        out.lines().map(stamped).collect()
    };
    let last = a.status().wait;
    let (name, number) =
        if last == 9 { ("signal SIGKILL", "signal 9") } else { ("signal SIGTERM", "signal 15") };
    assert_eq!(ends(&[&a.path]), ["exitcode 7", name]);
    assert_eq!(ends(&["-s", &a.path]), ["exitcode 7", number]);
    assert_eq!(ends(&["-n", "1", "-S", &a.path]), [name]);
    let bytes = fs::read("scan/a/supervise/death_tally").unwrap();
    assert_eq!(bytes.len(), 28);
    assert_eq!(
        (bytes[12..14].to_vec(), bytes[26..].to_vec()),
        (vec![7, 0], vec![128 + last as u8, last as u8])
    );
    // The oldest goes.
    w.ok("svc", &["-wu", "-T", "10000", "-u", &a.path]);
    w.ok("svc", &["-wD", "-T", "10000", "-d", &a.path]);
    assert_eq!(ends(&[&a.path]), [name, "signal SIGTERM"]);
    w.ok("svdt-clear", &[&a.path]);
    assert_eq!(w.ok("svdt", &[&a.path]), "");
    assert_eq!(w.code("svdt", &["nowhere"]), 111);
    assert_eq!(w.code("svdt-clear", &["nowhere"]), 111);
    assert_eq!(w.code("svdt", &[]), 100);
}

fn permafailon(w: &World) {
    let a = w.service("a", "echo >>starts; exit 3");
    a.script("finish", &format!("exec {} 60 2 1-5,SIGKILL true", w.client("permafailon")));
    let events = a.listen();
    let _svscan = w.svscan(&[]);
    events.expect("sudDudOD");
    assert_eq!(a.read("starts").lines().count(), 2);
    assert!(!a.status().wanted());
}

fn permafailon_passes(w: &World) {
    let a = w.service_at("a", SLEEP);
    fs::create_dir("a/supervise").unwrap();
    // Two deaths long ago, one by SIGTERM just now.
    let mut tally = Vec::new();
    for (secs, code, signal) in [(1_000_000, 1, 0), (1_000_001, 1, 0)] {
        tally.extend(((1u64 << 62) + secs).to_be_bytes());
        tally.extend([0, 0, 0, 0, code, signal]);
    }
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    tally.extend(((1u64 << 62) + 37 + now).to_be_bytes());
    tally.extend([0, 0, 0, 0, 128 + 15, 15]);
    fs::write("a/supervise/death_tally", tally).unwrap();
    let code = |arguments: &str| {
        a.script("try", &format!("exec {} {arguments} sh -c 'exit 4'", w.client("permafailon")));
        let script = std::process::Command::new("./try").current_dir("a").status().unwrap();
        script.code().unwrap()
    };
    assert_eq!(code("60 1 1"), 4, "too long ago");
    assert_eq!(code("60 1 SIGKILL,2-200x"), 100);
    assert_eq!(code("60 1 SIGKILL"), 4);
    assert_eq!(code("60 1 'SIGKILL; sigterm'"), 125);
    assert_eq!(code("60 1 15"), 4, "15 is an exit code");
    assert_eq!(code("60 1 143"), 125, "and 143 stands for the signal");
    assert_eq!(code("60 2 SIGTERM"), 4);
    assert_eq!(code("60 0 SIGTERM"), 100);
    assert_eq!(w.code("permafailon", &["60", "1"]), 100);
}

/// s6 2.11 tries again after ten seconds, ours after a time of its own; asking helps at once.
fn run_missing(w: &World) {
    let a = w.service("a", SLEEP);
    fs::rename("scan/a/run", "scan/a/walk").unwrap();
    let b = w.service("b", SLEEP);
    chmod("scan/b/run", 0o644);
    let _svscan = w.svscan(&[]);
    assert_eq!(w.code("svwait", &["-u", "-t", "300", "-o", &a.path, &b.path]), 99);
    fs::rename("scan/a/walk", "scan/a/run").unwrap();
    chmod("scan/b/run", 0o755);
    for service in [a, b] {
        w.ok("svc", &["-wu", "-T", "5000", "-u", &service.path]);
        assert_eq!(service.status().wait, 0, "that was no death");
    }
}

// ------------------------------------------------------------------------------------------------ supervisors

fn supervise_signals(w: &World) {
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
fn adoption(w: &World) {
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

fn lock(w: &World) {
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

// ------------------------------------------------------------------------------------------------ clients

fn svc_codes(w: &World) {
    let a = w.service_at("a", SLEEP);
    assert_eq!(w.code("svc", &["-u", "a"]), 100, "never supervised");
    assert_eq!(w.code("svc", &["-u", "nowhere"]), 111);
    assert_eq!(w.code("svc", &[]), 100);
    assert_eq!(w.code("svc", &["-wx", "a"]), 100);
    assert_eq!(w.code("svc", &["-Z", "a"]), 100);
    let many = format!("-{}", "u".repeat(63));
    assert_eq!(w.code("svc", &[&many, "a"]), 100);
    let supervisor = w.supervise(&a);
    a.pid();
    w.ok("svc", &["-wD", "-T", "10000", "-dx", "a"]);
    assert_eq!(supervisor.end().code, 0);
    // A supervisor that is not there any more has a code of its own since s6 2.14.
    let gone = if w.clients == Kit::S6 { 100 } else { 102 };
    assert_eq!(w.code("svc", &["-u", "a"]), gone);
}

fn svc_waits(w: &World) {
    let a = w.service("a", "read x <gate; exec sleep 1000");
    a.file("down", "");
    mkfifo("scan/a/gate");
    let _svscan = w.svscan(&[]);
    assert_eq!(w.code("svc", &["-wu", "-T", "300", &a.path]), 99);
    w.ok("svc", &["-wd", "-T", "10000", &a.path]);
    w.ok("svc", &["-wD", "-T", "10000", "-d", &a.path]);
    w.ok("svc", &["-wr", "-T", "10000", "-u", &a.path]);
    let first = a.pid();
    w.ok("svc", &["-wr", "-T", "10000", "-r", &a.path]);
    assert_ne!(a.pid(), first);
    assert_eq!(w.code("svc", &["-wD", "-T", "300", &a.path]), 99);
}

/// A service between two lives is down, and soon up again. A supervisor that has not taken a command in has stopped
/// nothing: s6's svc says that it is done, ours waits until that is so.
fn svc_waits_for_an_answer(w: &World) {
    let a = w.service_at("a", "exit 1");
    // s6 takes a second for it. Ours tries what it cannot execute after one, two, four seconds.
    let supervisor = w.supervise(&a);
    until("it died", || !a.deaths().is_empty());
    until("it waits", || a.status().is_down() && a.status().wanted());
    kill(supervisor.pid(), Signal::STOP);
    until_eq(Some("T".to_owned()), || stat(supervisor.pid(), 3));
    // It may have been started meanwhile, and there is nobody who could have seen it die.
    let down = a.status().is_down();
    let code = w.code("svc", &["-wD", "-T", "500", "-d", "a"]);
    assert_eq!(code, if down && w.clients == Kit::S6 { 0 } else { 99 });
    let waiting = w.start("svc", &["-wD", "-T", "20000", "-d", "a"]);
    kill(supervisor.pid(), Signal::CONT);
    assert_eq!(waiting.end().code, 0);
    if w.clients == Kit::Ours {
        assert!(a.status().is_down() && !a.status().wanted(), "{:?}", a.status());
    }
    until("it is not wanted", || a.status().is_down() && !a.status().wanted());
    w.ok("svc", &["-x", "a"]);
    assert_eq!(supervisor.end().code, 0);
}

/// Where the two kits' clients may differ: since a later version of s6, or on purpose.
#[rustfmt::skip]
const OTHER_CODES: &[(&str, i32, i32, &str)] = &[
    // program and arguments, s6 2.11, ours, why
    ("svok -Z", 1, 100, "no option is the name of a directory"),
    ("svok a extra", 0, 100, "an argument too many is a mistake"),
    ("svok b extra", 1, 100, "an argument too many is a mistake"),
    ("svc dead", 100, 102, "since s6 2.14"),
    ("svc -c dead", 100, 102, "since s6 2.14"),
    ("svc -wu -T 2000 -c dead", 99, 102, "since s6 2.14, and at once"),
    ("svc -wu -T 2000 -c b", 111, 100, "the same with -w and without"),
    ("svc -wu -T 2000 -c odd", 111, 100, "the same with -w and without"),
    ("svc -wu -T 2000 -c .", 111, 100, "the same with -w and without"),
    ("svc -c a b", 0, 100, "several services, since s6 2.14"),
    ("svc -wuU a", 0, 100, "a goal is one letter"),
    ("svstat", 100, 1, "of the current directory, here no scan directory"),
    ("svstat -o up, a", 0, 100, "names of fields, complete since s6 2.13"),
    ("svstat -o up,up,up,up,up,up,up,up,up,up,up,up,up,up,up,up,up a", 100, 0, "as many as you like"),
    ("svstat a b", 0, 1, "several services"),
    ("svwait", 100, 0, "since s6 2.12"),
    ("svlisten -u @ true", 100, 0, "since s6 2.12"),
    ("svdt-clear -Z", 111, 100, "no option is the name of a directory"),
    ("cleanfifodir -Z", 111, 100, "no option is the name of a directory"),
    ("ftrig-notify -Z a", 111, 100, "no option is the name of a directory"),
    ("ftrig-notify a/event x y", 0, 100, "an argument too many is a mistake"),
    ("ftrig-wait -t 2000 a/event x", 1, 99, "since s6 2.15"),
    ("ftrig-wait -t 2000 b x", 1, 99, "since s6 2.15"),
    ("permafailon 60 2 1", 0, 100, "there is no program to go on with"),
    ("permafailon 60 1 ,1 true", 100, 0, "separators may stand at the beginning"),
    ("svunlink scan a/b", 0, 100, "a name is no path"),
    ("svunlink nowhere b", 0, 111, "there is no scan directory"),
    ("mkfifodir -g 4294967295 new", 0, 100, "that is no group"),
];

/// What clients are asked, a line each; `@` is an empty argument, `DIR` each of several directories, `NUMBER` each
/// of several things that may or may not be numbers.
const ASKED: &str = "\
svok|svok -Z|svok DIR|svok a extra|svok b extra|svc|svc -Z a|svc DIR|svc -c DIR|svc -wu -T 2000 -c DIR|svc -c a b
svc -wx a|svc -w|svc -T|svc -wuU a|svc -cc a|svc -T NUMBER -wu -c a|svc -s SIGFOO a|svc -wD -T 2000 a|svc -wd -T 2000 a
svc -wR -T 2000 a|svc -cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc a|svc -- a|svc -wU -T 2000 -c a
svc -ccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc a
svstat|svstat -Z a|svstat DIR|svstat -u DIR|svstat -o pid,up a|svstat -o nope a|svstat -o up, a|svstat -n a|svstat a b
svstat -o up,up,up,up,up,up,up,up,up,up,up,up,up,up,up,up,up a|svstat -uwNrpest a|svstat -ux a
svwait|svwait -Z a|svwait -t 2000 DIR|svwait -U -t 2000 a|svwait -d -t 2000 DIR|svwait -R -t 2000 a|svwait -t NUMBER a
svwait -o -t 2000 a DIR|svwait -a -t 2000 a DIR|svwait -D -t 2000 -- a
svlisten1|svlisten1 -Z a true|svlisten1 -t 2000 DIR true|svlisten1 -D -t 2000 DIR true|svlisten1 -t NUMBER a true
svlisten1 a|svlisten1 a /nowhere|svlisten1 -r -t 2000 a false
svlisten|svlisten -Z a @ true|svlisten -t 2000 DIR @ true|svlisten -d -o -t 2000 a b @ true|svlisten -t NUMBER a @ true
svlisten a true|svlisten a @|svlisten a @ /nowhere|svlisten -u @ true
svscanctl|svscanctl -Z scan|svscanctl DIR|svscanctl -z DIR|svscanctl -z scan|svscanctl scan
svdt|svdt -Z a|svdt DIR|svdt -n NUMBER a|svdt -s -S a|svdt-clear|svdt-clear -Z|svdt-clear DIR
permafailon|permafailon 60|permafailon 60 2|permafailon 60 2 1|permafailon NUMBER 2 1 true|permafailon 60 NUMBER 1 true
permafailon 60 1 SIGFOO true|permafailon 60 1 5-1 true|permafailon 60 1 256 true|permafailon 60 1 @ true
permafailon 60 1 1- true|permafailon 60 1 1,2;SIGTERM,5-9 true|permafailon 60 1 ,1 true|permafailon 60 5000 1 true
svperms|svperms -Z a|svperms DIR|svperms -v DIR|svperms -u DIR|svperms -g none-such a|svperms -g :x a|svperms -g @ a
svlink|svlink -Z scan b|svlink scan|svlink DIR b|svlink scan b .b|svlink scan file|svlink scan empty|svlink -t NUMBER scan empty
svlink scan odd|svunlink|svunlink -Z scan b|svunlink scan|svunlink scan nowhere|svunlink scan .a|svunlink -t NUMBER scan nowhere
svunlink scan a/b|svunlink nowhere b|svunlink empty nowhere
mkfifodir|mkfifodir -Z new|mkfifodir file|mkfifodir fifo|mkfifodir nowhere/x|mkfifodir -g x new|mkfifodir -g NUMBER new
mkfifodir -g 4294967295 new|cleanfifodir|cleanfifodir -Z|cleanfifodir DIR|ftrig-notify|ftrig-notify -Z a|ftrig-notify DIR x
ftrig-notify a/event x y|ftrig-notify a/event|ftrig-notify a/event x|ftrig-wait|ftrig-wait -Z a x|ftrig-wait a
ftrig-wait -t 2000 a/event x|ftrig-wait -t 2000 a/event (|ftrig-wait -t 2000 b x|ftrig-wait nowhere x|ftrig-wait file x|ftrig-wait -t NUMBER nowhere x
notifyoncheck|notifyoncheck -Z true|notifyoncheck -n NUMBER true|notifyoncheck -t NUMBER true|notifyoncheck -d true
notifyoncheck -w NUMBER true|notifyoncheck -s NUMBER true|notifyoncheck -T NUMBER true
instance-create|instance-create -Z a i|instance-create a|instance-create DIR i|instance-create -t NUMBER empty i
instance-create a @|instance-create a .i|instance-delete|instance-delete -Z a i|instance-delete a|instance-delete DIR i
instance-delete a .i|instance-control|instance-control -c DIR i|instance-control -c a .i|instance-control -c a
instance-status|instance-status DIR i|instance-status a .i|instance-list|instance-list -Z|instance-list DIR";

/// Both kits' clients, asked the same, answer with the same code.
fn same_codes(w: &World) {
    if (w.clients, w.daemons) != (Kit::Ours, Kit::Ours) || !Kit::S6.is_installed() {
        return;
    }
    let a = w.service("a", SLEEP);
    std::os::unix::fs::symlink("scan/a", "a").unwrap();
    w.service_at("b", SLEEP);
    let dead = w.service_at("dead", SLEEP);
    dead.file("down", "");
    let supervisor = w.supervise(&dead);
    w.ok("svc", &["-x", "dead"]);
    assert_eq!(supervisor.end().code, 0);
    w.at("odd").file("supervise", "");
    fs::create_dir("empty").unwrap();
    fs::write("file", "").unwrap();
    mkfifo("fifo");
    let _svscan = w.svscan(&[]);
    a.pid();
    const DIRS: [&str; 10] = ["a", "a/", "scan/../a", "b", "dead", "odd", "nowhere", "file", "fifo", "."];
    const NUMBERS: [&str; 10] =
        ["x", "@", "-1", "5x", "0x5", "-0", "5.0", "1e3", "4294967296", "99999999999999999999"];
    let mut lines = Vec::new();
    for line in ASKED.split(['|', '\n']) {
        let many = [("NUMBER", NUMBERS), ("DIR", DIRS)].into_iter().find(|(word, _)| line.contains(word));
        match many {
            Some((word, values)) => lines.extend(values.map(|value| line.replace(word, value))),
            None => lines.push(line.to_owned()),
        }
    }
    let mut other = Vec::new();
    // Many wait for their time to be up: so many are asked at once.
    for lines in lines.chunks(64) {
        let asked: Vec<_> =
            lines.iter().map(|line| [Kit::S6, Kit::Ours].map(|kit| ask(w, kit, line))).collect();
        for (line, answers) in lines.iter().zip(asked) {
            let [s6, ours] = answers.map(|running| running.end().code);
            let expected = OTHER_CODES.iter().find(|(known, ..)| known == line);
            if expected.map_or(s6 != ours, |(_, theirs, own, _)| (s6, ours) != (*theirs, *own)) {
                other.push(format!("{line}: s6 {s6}, ours {ours}, expected {expected:?}"));
            }
        }
    }
    assert!(other.is_empty(), "{other:#?}");
}

/// Starts what a line says.
fn ask(w: &World, kit: Kit, line: &str) -> support::Running {
    let (program, rest) = line.split_once(' ').unwrap_or((line, ""));
    let args = rest.split(' ').filter(|word| !word.is_empty());
    let args: Vec<&str> = args.map(|word| if word == "@" { "" } else { word }).collect();
    w.start_with(kit, program, &args)
}

fn svstat(w: &World) {
    let a = w.service("a", SLEEP);
    a.file("down", "");
    let _svscan = w.svscan(&[]);
    w.ok("svc", &["-wu", "-T", "10000", "-o", &a.path]);
    let pid = a.pid().to_string();
    let fields = "up,wantedup,normallyup,ready,paused,pid,exitcode,signal,signum";
    let up = format!("true false false false false {pid} -1 NA -1\n");
    assert_eq!(w.ok("svstat", &["-o", fields, &a.path]), up);
    assert_eq!(w.ok("svstat", &["-upe", &a.path]), format!("true {pid} -1\n"));
    assert!(w.ok("svstat", &[&a.path]).contains(" seconds, normally down, want down"));
    w.ok("svc", &["-wD", "-T", "10000", "-k", &a.path]);
    assert_eq!(w.ok("svstat", &["-o", fields, &a.path]), "false false false false false -1 -1 SIGKILL 9\n");
    assert_eq!(w.ok("svstat", &["-es", &a.path]), "-1 SIGKILL\n");
    assert!(w.ok("svstat", &["-n", &a.path]).starts_with("down (signal 9) "));
    assert!(w.ok("svstat", &["-t", &a.path]).trim().parse::<u32>().unwrap() < 60);
    let since = w.ok("svstat", &["-o", "updownsince,readysince", &a.path]);
    assert!(since.trim().split(' ').all(|s| s.len() == 25 && s.starts_with("@40000000")), "{since}");
    let age = w.ok("svstat", &["-o", "updownfor,readyfor", &a.path]);
    assert!(age.trim().split(' ').all(|s| s.parse::<u32>().unwrap() < 60), "{age}");
    assert_eq!(w.code("svstat", &["nowhere"]), 1);
    assert_eq!(w.code("svstat", &["scan"]), 1);
    assert_eq!(w.code("svstat", &["-o", "colour", &a.path]), 100);
}

fn svwait(w: &World) {
    let a = w.service("a", "echo >&3; exec sleep 1000");
    a.file("down", "").file("notification-fd", "3");
    let b = w.service("b", SLEEP);
    b.file("down", "");
    let _svscan = w.svscan(&[]);
    let both = [a.path.as_str(), b.path.as_str()];
    let wait = |options: &[&str]| w.code("svwait", &[&["-t", "300"], options, &both].concat());
    assert_eq!((wait(&["-d"]), wait(&["-D"]), wait(&["-u"]), wait(&["-u", "-o"])), (0, 0, 99, 99));
    let waiting = w.start("svwait", &["-U", "-t", "10000", &a.path]);
    until_eq(1, || a.listeners());
    w.ok("svc", &["-u", &a.path]);
    assert_eq!(waiting.end().code, 0);
    assert_eq!((wait(&["-u"]), wait(&["-a"]), wait(&["-o"]), wait(&["-oU"])), (99, 99, 0, 0));
    assert_eq!((wait(&["-d"]), wait(&["-do"])), (99, 0));
    let waiting = w.start("svwait", &["-t", "10000", &a.path, &b.path]);
    until_eq(1, || b.listeners());
    w.ok("svc", &["-u", &b.path]);
    assert_eq!(waiting.end().code, 0);
    assert_eq!((wait(&[]), wait(&["-U"]), wait(&["-D"])), (0, 99, 99));
    until_eq(0, || a.listeners() + b.listeners());
    assert_eq!(w.code("svwait", &["nowhere"]), 111);
    assert_eq!(w.code("svwait", &["-x", &a.path]), 100);
    // Nothing to wait for is an error up to s6 2.11, and done since.
    assert_eq!(w.code("svwait", &[]), if w.clients == Kit::S6 { 100 } else { 0 });
}

fn svwait_restart(w: &World) {
    let a = w.service("a", "echo >&3; exec sleep 1000");
    a.file("notification-fd", "3");
    let _svscan = w.svscan(&[]);
    for goal in ["-r", "-R"] {
        let pid = a.pid();
        let waiting = w.start("svwait", &[goal, "-t", "10000", &a.path]);
        until_eq(1, || a.listeners());
        w.ok("svc", &["-r", &a.path]);
        assert_eq!(waiting.end().code, 0, "{goal}");
        assert_ne!(a.pid(), pid);
        until_eq(0, || a.listeners());
    }
    assert_eq!(w.code("svwait", &["-r", "-t", "300", &a.path]), 99);
}

fn svwait_failures(w: &World) {
    let services = ["a", "b"].map(|name| {
        let service = w.service_at(name, SLEEP);
        service.file("down", "");
        let supervisor = w.supervise(&service);
        (service, supervisor)
    });
    let waiting = w.start("svwait", &["-u", "-t", "10000", "a", "b"]);
    until_eq(1, || services[1].0.listeners());
    for (service, supervisor) in services {
        w.ok("svc", &["-x", &service.path]);
        assert_eq!(supervisor.end().code, 0);
    }
    assert_eq!(waiting.end().code, 2, "as many as have lost their supervisor");
}

fn svlisten1(w: &World) {
    let a = w.service("a", "echo >&3; exec sleep 1000");
    a.file("down", "").file("notification-fd", "3");
    let _svscan = w.svscan(&[]);
    let svc = w.client("svc");
    let listen = |goal: &str, program: &[&str]| {
        w.code("svlisten1", &[&[goal, "-t", "5000", &a.path], program].concat())
    };
    assert_eq!(listen("-u", &[&svc, "-u", &a.path]), 0);
    assert_eq!(listen("-d", &[&svc, "-d", &a.path]), 0);
    assert_eq!(listen("-U", &[&svc, "-u", &a.path]), 0);
    assert_eq!(listen("-D", &[&svc, "-d", &a.path]), 0);
    assert_eq!(w.code("svlisten1", &["-t", "300", &a.path, "false"]), 99, "its exit code is ignored");
    assert_eq!(listen("-u", &["/nowhere/to/be/found"]), 111);
    assert_eq!(w.code("svlisten1", &["nowhere", "true"]), 111);
    assert_eq!(w.code("svlisten1", &["-u", &a.path]), 100);
    assert_eq!(w.code("svlisten1", &["-Z", &a.path, "true"]), 100);
    // The program runs although the goal is reached already, in our directory, with our descriptors.
    assert_eq!(listen("-D", &["sh", "-c", "pwd >told"]), 0);
    until_eq(format!("{}\n", w.base.display()), || read("told"));
    until_eq(0, || a.listeners());
}

fn svlisten1_restart(w: &World) {
    let a = w.service("a", "echo >&3; exec sleep 1000");
    a.file("notification-fd", "3");
    let _svscan = w.svscan(&[]);
    let svc = w.client("svc");
    for goal in ["-r", "-R"] {
        let pid = a.pid();
        w.ok("svlisten1", &[goal, "-t", "10000", &a.path, &svc, "-r", &a.path]);
        assert_ne!(a.pid(), pid, "{goal}");
    }
    w.ok("svc", &["-wD", "-T", "10000", "-d", &a.path]);
    // From down it is only the way up.
    w.ok("svlisten1", &["-r", "-t", "10000", &a.path, &svc, "-u", &a.path]);
}

fn svlisten(w: &World) {
    let a = w.service("a", SLEEP);
    let b = w.service("b", SLEEP);
    for service in [&a, &b] {
        service.file("down", "");
    }
    let _svscan = w.svscan(&[]);
    let svc = w.client("svc");
    let tell = |letter: &str| format!("{svc} {letter} {}; {svc} {letter} {}", a.path, b.path);
    let (quoted_a, quoted_b) = (format!(" {}", a.path), format!(" {}", b.path));
    w.ok("svlisten", &["-u", "-t", "10000", &quoted_a, &quoted_b, "", "sh", "-c", &tell("-u")]);
    w.ok("svlisten", &["-D", "-t", "10000", &a.path, &b.path, "", "sh", "-c", &tell("-d")]);
    w.ok("svlisten", &["-o", "-u", "-t", "10000", &a.path, &b.path, "", &svc, "-u", &b.path]);
    assert!(a.status().is_down());
    // In s6 all must be down at the same time once, which ours, that restart at once, need not be.
    w.ok("svc", &["-wu", "-T", "10000", "-u", &a.path]);
    let (both, one) = ([&*a.path, &*b.path, ""], [&*a.path, ""]);
    let (block, script) = match w.clients {
        Kit::S6 => (&one[..], format!("{svc} -r {}", a.path)),
        Kit::Ours => (&both[..], tell("-r")),
    };
    w.ok("svlisten", &[&["-r", "-t", "10000"], block, &["sh", "-c", &script]].concat());
    assert_eq!(w.code("svlisten", &["-d", "-t", "300", &a.path, "", "true"]), 99);
    assert_eq!(w.code("svlisten", &[&a.path, &b.path, "true"]), 100, "the block does not end");
    assert_eq!(w.code("svlisten", &[&a.path, ""]), 100);
}

// ------------------------------------------------------------------------------------------------ scanning

fn svscan_add_remove(w: &World) {
    let a = w.service("a", SLEEP);
    let svscan = w.svscan(&[]);
    let first = a.pid();
    let b = w.service("b", SLEEP);
    w.service(".hidden", SLEEP);
    fs::create_dir_all("scan/c").unwrap();
    fs::write("scan/file", "").unwrap();
    w.ok("svscanctl", &["-a", "scan"]);
    let second = b.pid();
    // Out of the scan directory it keeps running, and is not restarted any more.
    fs::rename("scan/b", "b").unwrap();
    let b = w.at("b");
    w.ok("svscanctl", &["-az", "scan"]);
    assert_eq!(w.code("svwait", &["-d", "-t", "500", "b"]), 99);
    assert!(is_alive(second) && b.is_supervised());
    // And back again it is the same.
    fs::rename("b", "scan/b").unwrap();
    w.ok("svscanctl", &["-an", "scan"]);
    let b = w.at("scan/b");
    w.ok("svwait", &["-u", "-t", "10000", &b.path]);
    assert_eq!(b.pid(), second);
    assert_eq!(a.pid(), first);
    assert!(!fs::exists("scan/.hidden/supervise").unwrap());
    drop(svscan);
}

fn svscan_prune(w: &World) {
    for name in ["a", "b", "c"] {
        w.service(name, SLEEP);
        w.service(&format!("{name}/log"), "exec cat");
    }
    let keep = w.service("keep", SLEEP);
    let _svscan = w.svscan(&[]);
    let kept = keep.pid();
    for (name, commands) in [("a", "-an"), ("b", "-h"), ("c", "-aN")] {
        let pid = w.at(&format!("scan/{name}")).pid();
        fs::rename(format!("scan/{name}"), name).unwrap();
        w.ok("svscanctl", &[commands, "scan"]);
        until(&format!("{name} has no supervisor after {commands}"), || {
            !w.at(name).is_supervised() && !w.at(&format!("{name}/log")).is_supervised()
        });
        assert!(!is_alive(pid));
    }
    assert_eq!(keep.pid(), kept);
}

/// Newer versions of s6 let one bad entry keep all others from being started. 2.11 does not, nor do we.
fn svscan_bad_entry(w: &World) {
    std::os::unix::fs::symlink("nowhere", "scan/0").unwrap();
    let a = w.service("a", SLEEP);
    let _svscan = w.svscan(&["-t", "300"]);
    a.pid();
    // Rescanned without being told.
    w.service("b", SLEEP).pid();
}

fn svscan_terminate(w: &World) {
    for (scan, letter) in [("scan", "-t"), ("scan2", "-i")] {
        if scan != "scan" {
            let _ = fs::remove_dir_all("scan");
            fs::create_dir("scan").unwrap();
        }
        let a = w
            .service("a", "echo up; trap 'echo bye; exit' TERM; touch trapped; while :; do sleep 0.05; done");
        // Gets a SIGTERM never: it ends when its input has ended.
        let log = w.service("a/log", "trap '' TERM; cat >all; echo end >>all");
        w.at("scan/.s6-svscan").script("finish", "pwd -P >../finished; exit 5");
        let svscan = w.svscan(&[]);
        log.pid();
        until("a has set its trap", || a.has("trapped"));
        w.ok("svscanctl", &[letter, "scan"]);
        assert_eq!(svscan.end().code, 5, "finish has become the scanner");
        assert_eq!(log.read("all"), "up\nbye\nend\n");
        assert_eq!(read("finished").trim(), w.base.join("scan").to_str().unwrap());
        assert!(!a.is_supervised() && !log.is_supervised() && !is_locked("scan/.s6-svscan/lock"));
    }
}

fn svscan_quit(w: &World) {
    let a = w.service("a", SLEEP);
    // It would wait for the end of its input for ever: another process has it open.
    let log = w.service("a/log", "exec sleep 1000");
    let svscan = w.svscan(&[]);
    let pids = [a.pid(), log.pid()];
    w.ok("svscanctl", &["-q", "scan"]);
    assert_eq!(svscan.end().code, 0);
    assert!(pids.iter().all(|pid| !is_alive(*pid)));
}

fn svscan_abort(w: &World) {
    let a = w.service("a", SLEEP);
    let svscan = w.svscan(&[]);
    let pid = a.pid();
    w.ok("svscanctl", &["-b", "scan"]);
    assert_eq!(svscan.end().code, 0);
    assert!(is_alive(pid), "nobody is killed");
    assert!(a.is_supervised(), "nor is it left alone");
    w.ok("svc", &["-wD", "-T", "10000", "-d", &a.path]);
}

fn svscan_scripts(w: &World) {
    let a = w.service("a", SLEEP);
    for signal in ["SIGUSR1", "SIGHUP", "SIGTERM"] {
        let script = r#"
            { pwd -P; echo "$0 $#"; echo "$BASE"; cut -d" " -f5 /proc/$PPID/stat /proc/$$/stat | uniq | wc -l
            while read -r name value; do [ $name = SigBlk: ] && echo $value; done </proc/$$/status
            } >../told.new; mv ../told.new ../"#;
        w.at("scan/.s6-svscan").script(signal, &format!("{script}{signal}"));
    }
    let mut svscan = w.svscan(&[]);
    a.pid();
    for (signal, name) in [(Signal::USR1, "SIGUSR1"), (Signal::HUP, "SIGHUP"), (Signal::TERM, "SIGTERM")] {
        kill(svscan.pid(), signal);
        until(&format!("{name} was run"), || fs::exists(name).unwrap());
        let (base, told) = (w.base.display(), read(name));
        assert_eq!(told, format!("{base}/scan\n.s6-svscan/{name} 0\n{base}\n1\n{:016}\n", 0));
    }
    kill(svscan.pid(), Signal::USR2);
    w.ok("svscanctl", &["-z", "scan"]);
    assert!(svscan.is_running(), "a script takes the place of what the signal does");
    kill(svscan.pid(), Signal::QUIT);
    assert_eq!(svscan.end().code, 0);
}

/// What makes a scanner unable to go on: the kernel will not wait for more descriptors than a limit allows.
fn svscan_crash(w: &World) {
    let a = w.service("a", SLEEP);
    w.at("scan/.s6-svscan").script("crash", "echo \"$# $$ $(pwd -P)\" >../crashed; exit 3");
    let svscan = w.svscan(&[]);
    let (pid, scanner) = (a.pid(), svscan.pid());
    if w.daemons == Kit::S6 {
        // No script could be run under such a limit, and s6 does not take it back.
        return;
    }
    let limit = std::process::Command::new("prlimit")
        .args([&format!("--pid={scanner}"), "--nofile=1:"])
        .status()
        .expect("util-linux is installed");
    assert!(limit.success());
    // Whatever wakes it; it may have been awake already, and be gone.
    assert!(matches!(w.code("svscanctl", &["-z", "scan"]), 0 | 100));
    let ran = svscan.end();
    assert_eq!(ran.code, 3, "{ran:?}");
    assert_eq!(read("crashed"), format!("0 {scanner} {}\n", w.base.join("scan").display()));
    assert!(ran.err.contains("svscan: fatal: unable to wait for events"), "{ran:?}");
    // As after kill -9: services and their supervisor go on.
    assert!(is_alive(pid) && a.is_supervised());
    w.ok("svc", &["-wD", "-T", "10000", "-d", &a.path]);
}

/// The service s6-svscan-log reads what all others say, and ends when all of them have.
fn svscan_catch_all(w: &World) {
    mkfifo("said");
    let a =
        w.service("a", "trap 'echo bye; exit' TERM; echo out; echo err >&2; while :; do sleep 0.05; done");
    let log = w.service("s6-svscan-log", "trap '' TERM; exec <../../said; echo here >&2; exec cat >all");
    let b = w.service("b", "exec echo with a logger");
    w.service("b/log", "exec cat >all");
    b.file("down", "");
    let svscan = w.svscan_after("exec 9<>said 4>console >said 2>&1; exec 9<&-;", &["-X", "4"]);
    until_eq("here\n".to_owned(), || read("console"));
    until_eq("out\nerr\n".to_owned(), || log.read("all"));
    a.pid();
    w.ok("svscanctl", &["-t", "scan"]);
    assert_eq!(svscan.end().code, 0);
    let all = log.read("all");
    assert!(all.starts_with("out\nerr\n") && all.lines().any(|line| line == "bye"), "{all}");
    assert!(!log.is_supervised());
}

/// What options say may be any number; what is too much or too little is as much as can be.
fn svscan_options(w: &World) {
    let [short, long] = [10, 12].map(|length| w.service(&"x".repeat(length), SLEEP));
    // -L came with s6 2.12.
    let name = if w.daemons == Kit::S6 { &[][..] } else { &["-L", "5000"] };
    let svscan = w.svscan(&[name, &["-t", "0", "-c", "1000"]].concat());
    short.pid();
    long.pid();
    drop(svscan);
    for bad in [&["-d", "2"][..], &["-X", "2"], &["-t", "x"], &["-L", ""], &["-c", "-1"], &["-y"]] {
        let ran = w.run_of(w.daemons, "svscan", &[bad, &["scan"]].concat());
        assert_eq!(ran.code, 100, "{bad:?}: {ran:?}");
    }
    assert_eq!(w.run_of(w.daemons, "svscan", &["nowhere"]).code, 111);
}

fn svscanctl_codes(w: &World) {
    let never = w.run("svscanctl", &["-a", "scan"]);
    assert_eq!(never.code, 100, "never scanned");
    assert!(never.err.contains("unable to control scan: supervisor not listening"), "{never:?}");
    assert_eq!(w.code("svscanctl", &["-a", "nowhere"]), 111);
    assert_eq!(w.code("svscanctl", &[]), 100);
    assert_eq!(w.code("svscanctl", &["-x", "scan"]), 100);
    let svscan = w.svscan(&[]);
    assert_eq!(w.code("svscanctl", &["-az", "scan"]), 0);
    w.ok("svscanctl", &["-t", "scan"]);
    assert_eq!(svscan.end().code, 0);
    assert_eq!(w.code("svscanctl", &["-a", "scan"]), 100, "not any more");
}

fn nested_logger(w: &World) {
    let a = w.service("a", "i=0; while :; do i=$((i+1)); echo $i; echo $i >last; sleep 0.02; done");
    let log = w.service("a/log", "exec cat >>all");
    let _svscan = w.svscan(&[]);
    let (first, logger) = (a.pid(), log.pid());
    let numbers = || log.read("all").lines().map(|l| l.parse::<u32>().unwrap_or(0)).collect::<Vec<_>>();
    until("ten lines are logged", || numbers().len() >= 10);
    // The logger goes on when its service restarts,
    w.ok("svc", &["-wr", "-T", "10000", "-r", &a.path]);
    assert_ne!(a.pid(), first);
    assert_eq!(log.pid(), logger);
    until("the new one logs", || numbers().iter().filter(|n| **n == 5).count() == 2);
    // and nothing is lost when the logger does.
    w.ok("svc", &["-p", &a.path]);
    until_eq(Some("T".to_owned()), || stat(a.pid(), 3));
    let said = a.read("last").trim().parse().unwrap_or(0);
    until("all is logged", || numbers().last().is_some_and(|logged| *logged >= said));
    w.ok("svc", &["-wd", "-T", "10000", "-k", &log.path]);
    w.ok("svc", &["-c", &a.path]);
    w.ok("svwait", &["-u", "-t", "10000", &log.path]);
    let so_far = numbers().len();
    until("more is logged", || numbers().len() > so_far + 5);
    let all = numbers();
    let second_life = &all[all.iter().rposition(|n| *n == 1).unwrap()..];
    assert!(second_life.windows(2).all(|pair| pair[1] == pair[0] + 1), "{second_life:?}");
}

fn logger_gets_everything(w: &World) {
    let a = w.service("a", "read x <gate; seq 1 10000; exec sleep 1000");
    let log = w.service("a/log", "exec cat >>all");
    mkfifo("scan/a/gate");
    let _svscan = w.svscan(&[]);
    log.pid();
    // While there is no logger its input waits in the pipe.
    w.ok("svc", &["-wD", "-T", "10000", "-d", &log.path]);
    a.pid();
    a.file("gate", "\n");
    w.ok("svc", &["-u", &log.path]);
    let expected: String = (1..=10000).map(|n| format!("{n}\n")).collect();
    until("all is logged", || log.read("all").len() == expected.len());
    assert_eq!(log.read("all"), expected);
}

// ------------------------------------------------------------------------------------------------ links

fn svlink(w: &World) {
    let _svscan = w.svscan(&[]);
    let a = w.service_at("services/a", SLEEP);
    w.ok("svlink", &["-t", "10000", "scan", "services/a"]);
    assert!(a.is_supervised(), "it is supervised when svlink has ended");
    assert_eq!(fs::read_link("scan/a").unwrap(), w.base.join("services/a"));
    let pid = a.pid();
    // With another name; and again what is there.
    let b = w.service_at("services/b", SLEEP);
    w.ok("svlink", &["-t", "10000", "scan", "services/b/", "other"]);
    assert!(b.is_supervised() && fs::exists("scan/other").unwrap());
    assert_eq!(w.code("svlink", &["scan", "services/a"]), 0);
    w.ok("svc", &["-wD", "-T", "10000", "-d", "scan/a"]);
    assert!(!is_alive(pid));
    assert_eq!(mode("services/a/event"), 0o3730);
    let c = w.service_at("services/c", SLEEP);
    w.ok("svlink", &["-P", "-t", "10000", "scan", "services/c"]);
    assert!(c.is_supervised());
    assert_eq!(mode("services/c/event"), 0o1733);
}

fn svlink_down(w: &World) {
    let _svscan = w.svscan(&[]);
    let a = w.service_at("services/a", SLEEP);
    w.ok("svlink", &["-d", "-t", "10000", "scan", "services/a"]);
    assert!(!a.has("down"), "down for now");
    assert!(a.status().is_down() && !a.status().wanted());
    let b = w.service_at("services/b", SLEEP);
    w.ok("svlink", &["-D", "-t", "10000", "scan", "services/b"]);
    assert!(b.has("down"), "down for good");
    assert!(b.status().is_down() && !b.status().wanted());
    w.ok("svc", &["-wu", "-T", "10000", "-u", "scan/a"]);
}

fn svlink_logger(w: &World) {
    let _svscan = w.svscan(&[]);
    let a = w.service_at("services/a", "echo hello; exec sleep 1000");
    let log = w.service_at("services/a/log", "exec cat >all");
    w.ok("svlink", &["-t", "10000", "scan", "services/a"]);
    assert!(a.is_supervised() && log.is_supervised());
    until_eq("hello\n".to_owned(), || log.read("all"));
    w.ok("svunlink", &["-t", "10000", "scan", "a"]);
    left(w, &a);
    left(w, &log);
}

fn svlink_codes(w: &World) {
    let a = w.service_at("services/a", SLEEP);
    let svscan = w.svscan(&[]);
    let link = |args: &[&str]| w.code("svlink", args);
    assert_eq!(link(&["scan"]), 100);
    assert_eq!(link(&["scan", "services/a", ".a"]), 100);
    assert_eq!(link(&["scan", "nowhere"]), 111);
    fs::create_dir("services/empty").unwrap();
    assert_eq!(link(&["scan", "services/empty"]), 111);
    chmod("services/a/run", 0o644);
    assert_eq!(link(&["scan", "services/a"]), 100);
    chmod("services/a/run", 0o755);
    // What is there under that name stays.
    fs::create_dir("scan/a").unwrap();
    assert_eq!(link(&["-t", "3000", "scan", "services/a"]), 111);
    assert!(fs::symlink_metadata("scan/a").unwrap().is_dir());
    // A scanner that does not act: time is up and everything as before.
    kill(svscan.pid(), Signal::STOP);
    if w.daemons == Kit::S6 {
        assert_eq!(link(&["-D", "-t", "300", "scan", "services/a", "b"]), 99);
        assert!(!a.has("down") && !fs::exists("scan/b").unwrap());
    }
    kill(svscan.pid(), Signal::CONT);
    w.ok("svscanctl", &["-t", "scan"]);
    assert_eq!(svscan.end().code, 0);
    assert_eq!(link(&["scan", "services/a"]), 1, "nobody scans");
}

/// A supervisor of s6 tells that it leaves and leaves then; ours has left when it tells.
fn left(w: &World, service: &support::Service) {
    if w.daemons == Kit::S6 {
        until("its supervisor has left", || !service.is_supervised());
    }
    assert!(!service.is_supervised());
}

fn svunlink(w: &World) {
    let _svscan = w.svscan(&[]);
    let a = w.service_at("services/a", SLEEP);
    w.ok("svlink", &["-t", "10000", "scan", "services/a"]);
    let pid = a.pid();
    w.ok("svunlink", &["scan", "a"]);
    left(w, &a);
    assert!(!fs::exists("scan/a").unwrap() && !is_alive(pid));
    // One that will not stop: the time is up, which is no error.
    let b = w.service_at("services/b", "trap '' TERM; touch trapped; while :; do sleep 0.1; done");
    w.ok("svlink", &["-t", "10000", "scan", "services/b"]);
    until("b ignores SIGTERM", || b.has("trapped"));
    let asked = Instant::now();
    w.ok("svunlink", &["-t", "500", "scan", "b"]);
    assert!(asked.elapsed() >= Duration::from_millis(500));
    assert!(b.is_supervised() && !fs::exists("scan/b").unwrap());
    let c = w.service_at("services/c", SLEEP);
    w.ok("svlink", &["-t", "10000", "scan", "services/c"]);
    w.ok("svunlink", &["-X", "scan", "c"]);
    assert!(!fs::exists("scan/c").unwrap());
    until("c has no supervisor", || !c.is_supervised());
    w.ok("svunlink", &["scan", "nowhere"]);
    assert_eq!(w.code("svunlink", &["scan", ".a"]), 100);
    assert_eq!(w.code("svunlink", &["scan"]), 100);
}

// ------------------------------------------------------------------------------------------------ instances

fn instanced(w: &World) -> support::Service {
    let service = w.service("many", "exec s6-svscan -d3 -c 50 -- instance");
    service.file("notification-fd", "3\n");
    fs::create_dir("scan/many/instance").unwrap();
    service.script("template/run", "exec sleep 1000").file("template/data/x", "y");
    service.script("template/log/run", "exec cat");
    chmod("scan/many/template/data/x", 0o640);
    service
}

fn instances(w: &World) {
    let many = instanced(w);
    let _svscan = w.svscan(&[]);
    w.ok("svwait", &["-U", "-t", "10000", &many.path]);
    assert_eq!(w.ok("instance-list", &[&many.path]), "");
    w.ok("instance-create", &["-t", "10000", &many.path, "a"]);
    let a = w.at("scan/many/instance/a");
    assert!(a.is_supervised() && w.at("scan/many/instance/a/log").is_supervised());
    assert_eq!(fs::read_link("scan/many/instance/a").unwrap().to_str(), Some("../instances/a"));
    assert_eq!((many.read("instances/a/data/x"), mode("scan/many/instances/a/data/x")), ("y".into(), 0o640));
    let pid = a.pid();
    assert!(w.ok("instance-status", &[&many.path, "a"]).starts_with(&format!("up (pid {pid}) ")));
    assert_eq!(w.ok("instance-status", &["-o", "pid", &many.path, "a"]), format!("{pid}\n"));
    w.ok("instance-control", &["-wD", "-T", "10000", "-d", &many.path, "a"]);
    assert!(!is_alive(pid));
    w.ok("instance-create", &["-d", "-t", "10000", &many.path, "b"]);
    let b = w.at("scan/many/instance/b");
    assert!(b.status().is_down() && !b.has("down"));
    w.ok("instance-create", &["-D", "-t", "10000", &many.path, "c"]);
    assert!(w.at("scan/many/instance/c").has("down"));
    let mut names: Vec<String> = w.ok("instance-list", &[&many.path]).lines().map(str::to_owned).collect();
    names.sort();
    assert_eq!(names, ["a", "b", "c"]);
    w.ok("instance-control", &["-wu", "-T", "10000", "-u", &many.path, "b"]);
    let pid = b.pid();
    w.ok("instance-delete", &["-t", "10000", &many.path, "b"]);
    assert!(!is_alive(pid) && !many.has("instances/b") && !many.has("instance/b"));
    w.ok("instance-delete", &["-X", &many.path, "c"]);
    assert!(!many.has("instance/c"));
}

fn instance_codes(w: &World) {
    let many = instanced(w);
    let _svscan = w.svscan(&[]);
    w.ok("svwait", &["-U", "-t", "10000", &many.path]);
    w.ok("instance-create", &["-t", "10000", &many.path, "a"]);
    assert_eq!(w.code("instance-create", &[&many.path, "a"]), 100, "it is there");
    for bad in ["", ".a", "a b"] {
        assert_eq!(w.code("instance-create", &[&many.path, bad]), 100, "{bad:?}");
        assert_eq!(w.code("instance-delete", &[&many.path, bad]), 100, "{bad:?}");
        assert_eq!(w.code("instance-status", &[&many.path, bad]), 100, "{bad:?}");
        assert_eq!(w.code("instance-control", &["-u", &many.path, bad]), 100, "{bad:?}");
    }
    assert_eq!(w.code("instance-status", &[&many.path, "none"]), 1);
    assert_eq!(w.code("instance-control", &["-u", &many.path, "none"]), 111);
    assert_eq!(w.code("instance-delete", &[&many.path, "none"]), 0, "that is what was wanted");
    assert_eq!(w.code("instance-list", &["nowhere"]), 111);
    assert_eq!(w.code("instance-create", &["nowhere", "a"]), 111);
    assert_eq!(w.code("instance-create", &[&many.path]), 100);
    w.ok("svc", &["-wD", "-T", "10000", "-d", &many.path]);
    assert_eq!(w.code("instance-list", &[&many.path]), 1, "it does not run");
    assert_eq!(w.code("instance-create", &[&many.path, "b"]), 1);
    assert_eq!(w.code("instance-delete", &[&many.path, "a"]), 1);
}

// ------------------------------------------------------------------------------------------------ events

/// s6 up to 2.14 exits 1 when the time is up and prints the last event that matched, and ^ and $ match
/// nowhere; since 2.15, and so in ours, it is 99, all events that were heard, and the ends of these.
fn fifodir(w: &World) {
    let [gid, _] = groups();
    let group = gid.to_string();
    w.ok("mkfifodir", &["public"]);
    assert_eq!(mode("public"), 0o1733);
    w.ok("mkfifodir", &["-g", &group, "private"]);
    assert_eq!(mode("private"), 0o3730);
    assert_eq!(std::os::unix::fs::MetadataExt::gid(&fs::metadata("private").unwrap()), gid);
    w.ok("mkfifodir", &["-g", &group, "public"]);
    assert_eq!(mode("public"), 0o1733, "what is there stays as it is");
    w.ok("mkfifodir", &["-f", "-g", &group, "public"]);
    assert_eq!(mode("public"), 0o3730);
    w.ok("mkfifodir", &["-f", "public"]);
    assert_eq!(mode("public"), 0o1733);
    fs::write("file", "").unwrap();
    assert_eq!(w.code("mkfifodir", &["file"]), 111);
    assert_eq!(w.code("mkfifodir", &["-g", "users", "x"]), 100);
    for notifier in [w.clients, w.daemons] {
        let waiting = w.start("ftrig-wait", &["-t", "10000", "public", "[sS]"]);
        until_eq(1, || listeners("public"));
        assert_eq!(w.run_of(notifier, "ftrig-notify", &["public", "s"]).code, 0);
        let ran = waiting.end();
        assert_eq!((ran.code, &*ran.out), (0, "s\n"));
        until_eq(0, || listeners("public"));
    }
    let waiting = w.start("ftrig-wait", &["-t", "10000", "public", "(u|U)d+D"]);
    until_eq(1, || listeners("public"));
    for events in ["suU", "d", "dDx"] {
        w.ok("ftrig-notify", &["public", events]);
    }
    let ran = waiting.end();
    assert_eq!((ran.code, &*ran.out), (0, if w.clients == Kit::S6 { "D\n" } else { "suUddD\n" }));
    if w.clients == Kit::Ours {
        let waiting = w.start("ftrig-wait", &["-t", "10000", "public", "^s.*U$"]);
        until_eq(1, || listeners("public"));
        w.ok("ftrig-notify", &["public", "suUd"]);
        assert_eq!(waiting.end().out, "suU\n");
    }
    let timed_out = if w.clients == Kit::S6 { 1 } else { 99 };
    assert_eq!(w.code("ftrig-wait", &["-t", "200", "public", "x"]), timed_out);
    assert_eq!(w.code("ftrig-wait", &["nowhere", "x"]), 111);
    assert_eq!(w.code("ftrig-wait", &["public", "x("]), 111);
    assert_eq!(w.code("ftrig-wait", &["public"]), 100);
    assert_eq!(w.code("ftrig-notify", &["nowhere", "x"]), 111);
    assert_eq!(w.code("ftrig-notify", &["public"]), 100);
}

/// In s6 up to 2.12 cleaning does nothing; notifying removes the dead in all.
fn fifodir_cleaning(w: &World) {
    const DEAD: &str = "public/ftrig1:@400000006553f1000000000a:AbCdEf";
    w.ok("mkfifodir", &["public"]);
    mkfifo(DEAD);
    mkfifo("public/ftrig1:other");
    w.ok("cleanfifodir", &["public"]);
    assert_eq!(fs::exists(DEAD).unwrap(), w.clients == Kit::S6);
    if w.clients == Kit::Ours {
        mkfifo(DEAD);
    }
    w.ok("ftrig-notify", &["public", "x"]);
    assert!(!fs::exists(DEAD).unwrap());
    assert!(fs::exists("public/ftrig1:other").unwrap(), "what has not the name of a listener is none");
    assert_eq!(w.code("cleanfifodir", &["nowhere"]), 111);
    assert_eq!(w.code("cleanfifodir", &[]), 100);
}

/// Two groups that are not our own, which only root can give files to; for others it is their own twice.
fn groups() -> [u32; 2] {
    match rustix::process::geteuid().is_root() {
        true => [12, 4711],
        false => [rustix::process::getegid().as_raw(); 2],
    }
}

fn svperms(w: &World) {
    let a = w.service("a", SLEEP);
    let _svscan = w.svscan(&[]);
    a.pid();
    let modes = || {
        use std::os::unix::fs::MetadataExt;
        let one = |name: &str| {
            let meta = fs::metadata(format!("scan/a/{name}")).unwrap();
            (meta.mode() & 0o7777, meta.gid())
        };
        (one("supervise"), one("supervise/control"), one("event"))
    };
    let own = rustix::process::getegid().as_raw();
    let (supervise, control, event) = ((0o700, own), (0o600, own), (0o3730, own));
    assert_eq!(modes(), (supervise, control, event));
    let said = w.ok("svperms", &[&a.path]);
    let lines: Vec<&str> = said.lines().map(|l| l.strip_prefix("scan/a ").unwrap()).collect();
    assert_eq!(lines[..2], ["status: owner", "control: owner"]);
    let own_name = lines[2].strip_prefix("events: group ").unwrap();
    let [one, two] = groups();
    let (group_one, group_two) = (format!(":{one}"), format!(":{two}"));
    // Nobody has given 4711 a name.
    let name_two = if two == own { own_name } else { "4711" };
    w.ok("svperms", &["-g", &group_one, &a.path]);
    assert_eq!(modes(), ((0o710, one), control, event));
    w.ok("svperms", &["-G", &group_two, &a.path]);
    assert_eq!(modes(), ((0o710, two), (0o620, two), event));
    w.ok("svperms", &["-o", &a.path]);
    assert_eq!(modes(), ((0o711, own), control, event));
    w.ok("svperms", &["-O", &group_two, "-E", &group_one, &a.path]);
    assert_eq!(modes(), ((0o711, own), (0o620, two), (0o3730, one)));
    assert_eq!(
        w.ok("svperms", &["-v", "-e", "-O", &group_two, &a.path]),
        format!("scan/a status: public\nscan/a control: group {name_two}\nscan/a events: public\n")
    );
    w.ok("svperms", &["-E", own_name, &a.path]);
    assert_eq!(modes().2, event, "a group by its name");
    w.ok("svperms", &["-u", &a.path]);
    assert_eq!(modes(), (supervise, control, event));
    assert!(a.is_supervised());
    w.ok("svc", &["-wD", "-T", "10000", "-d", &a.path]);
    chmod("scan/a/supervise", 0o777);
    assert_eq!(w.code("svperms", &[&a.path]), 1);
    assert_eq!(w.code("svperms", &["-u", "nowhere"]), 111);
    assert_eq!(w.code("svperms", &["-g", "nobody has such a group", &a.path]), 100);
    assert_eq!(w.code("svperms", &[]), 100);
}

// ------------------------------------------------------------------------------------------------ notifyoncheck

/// Starts a service whose run is notifyoncheck with these arguments, and waits until it is up.
fn checked(w: &World, arguments: &str) -> support::Service {
    let run = format!("exec 8<run\nexec {} {arguments}", w.client("notifyoncheck"));
    let a = w.service("a", &run);
    a.file("notification-fd", "867\n");
    let _svscan = w.svscan(&[]);
    a.pid();
    a
}

fn notifyoncheck_command(w: &World) {
    let a = checked(
        w,
        r#"-d -n 300 -w 100 -c "test -e 'good' -a \"-e\" good" sh -c 'ls /proc/$$/fd >fds; echo $$ $BASE >told; cd /; exec sleep 1000'"#,
    );
    let pid = a.pid();
    until_eq(format!("{pid} {}\n", w.base.display()), || a.read("told"));
    let fds = a.read("fds");
    let fds: Vec<&str> = fds.lines().collect();
    assert!(["0", "1", "2", "8"].iter().all(|fd| fds.contains(fd)), "{fds:?}");
    assert!(!fds.contains(&"867"), "{fds:?}");
    assert_eq!(w.code("svwait", &["-U", "-t", "300", &a.path]), 99);
    let events = a.listen();
    a.file("'good'", "").file("good", "");
    w.ok("svwait", &["-U", "-t", "10000", &a.path]);
    assert_eq!(a.pid(), pid);
    events.expect("U");
    // Once for each life.
    w.ok("svc", &["-wR", "-T", "10000", "-r", &a.path]);
    events.expect("UdDuU");
}

fn notifyoncheck_file(w: &World) {
    let a = w.at("scan/a");
    a.script("data/check", "echo \"$# $(pwd -P)\" >>asked; [ $(wc -l <asked) -ge 3 ]");
    let a = checked(w, "-s 50 -w 50 -n 0 sleep 1000");
    w.ok("svwait", &["-U", "-t", "10000", &a.path]);
    let here = w.base.join("scan/a");
    assert_eq!(a.read("asked"), format!("0 {}\n", here.display()).repeat(3));
}

/// s6 2.11 goes on to the next attempt and leaves the one that hangs alone; ours kills it, as s6's page
/// says, and all that it started.
fn notifyoncheck_hanging(w: &World) {
    let a = w.at("scan/a");
    a.script("data/check", "[ -e asked ] && exit; sleep 1000 & echo $$ $! >asked; wait");
    let a = checked(w, "-d -t 500 -w 100 -n 3 sleep 2000");
    w.ok("svwait", &["-U", "-t", "10000", &a.path]);
    let asked = a.read("asked");
    let mut pids = asked.split_whitespace().map(|pid| pid.parse::<i32>().unwrap());
    if w.clients == Kit::Ours {
        until("the first attempt is gone", || pids.all(|pid| !is_alive(pid)));
    }
}

fn notifyoncheck_gives_up(w: &World) {
    let a = w.at("scan/a");
    a.script("data/check", "echo >>asked; exit 1");
    let a = checked(w, "-w 50 -n 4 sleep 1000");
    until("it was asked four times", || a.read("asked").len() == 4);
    let pid = a.pid();
    assert_eq!(w.code("svwait", &["-U", "-t", "500", &a.path]), 99);
    assert_eq!(a.read("asked").len(), 4);
    assert_eq!(a.pid(), pid, "the service is up all the same");
    let ran = w.run("notifyoncheck", &["true"]);
    assert_eq!(ran.code, 100, "not in a service directory: {ran:?}");
    assert_eq!(w.code("notifyoncheck", &["-n", "x", "true"]), 100);
    assert_eq!(w.code("notifyoncheck", &["-d"]), 100);
}

/// The asking ends with the service.
fn notifyoncheck_ends(w: &World) {
    let a = w.at("scan/a");
    a.script("data/check", "echo $$ >asking; exec sleep 1000");
    let a = checked(w, "-d -n 0 sleep 2000");
    until("it is asked", || a.read("asking").ends_with('\n'));
    let asking: i32 = a.read("asking").trim().parse().unwrap();
    let asker = parent(asking);
    assert!(is_alive(asking) && is_alive(asker));
    w.ok("svc", &["-wD", "-T", "10000", "-d", &a.path]);
    until("nobody asks", || !is_alive(asking) && !is_alive(asker));
    if w.clients == Kit::S6 {
        return;
    }
    // Asked to end it ends too, and takes the check with it; the service goes on.
    w.ok("svc", &["-wu", "-T", "10000", "-u", &a.path]);
    until("it is asked again", || a.read("asking").trim().parse().is_ok_and(|pid: i32| is_alive(pid)));
    let asking: i32 = a.read("asking").trim().parse().unwrap();
    kill(parent(asking), Signal::TERM);
    until("nobody asks", || !is_alive(asking));
    assert!(a.status().is_up());
}
