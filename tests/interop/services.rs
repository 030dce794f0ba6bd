//! What a service directory says, and what its supervisor tells of it.

use crate::support::interop::{Kit, World};
use crate::support::{SLEEP, chmod, is_alive, is_locked, kill, mkfifo, stat, until, until_eq};
use rustix::process::Signal;
use std::fs;
use std::time::{Duration, Instant};

pub fn svok(w: &World) {
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

pub fn start_stop(w: &World) {
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

pub fn what_run_inherits(w: &World) {
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

pub fn restart(w: &World) {
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
pub fn restart_delay(w: &World) {
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

pub fn restart_when_ready(w: &World) {
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

pub fn readiness(w: &World) {
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

pub fn never_ready(w: &World) {
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

pub fn finish_arguments(w: &World) {
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

pub fn finish_125(w: &World) {
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

pub fn down_files(w: &World) {
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

pub fn once(w: &World) {
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

pub fn pause(w: &World) {
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

pub fn signals(w: &World) {
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
pub fn newer_signals(w: &World) {
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

pub fn down_signal(w: &World) {
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

pub fn control_bytes(w: &World) {
    let a = w.service("a", SLEEP);
    a.file("down", "");
    let events = a.listen();
    let _svscan = w.svscan(&[]);
    // Unknown bytes are ignored, the others obeyed in order.
    fs::write("scan/a/supervise/control", "uZ!d\nu").unwrap();
    events.expect("sudDu");
    assert!(a.status().wanted());
}

pub fn timeout_kill(w: &World) {
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
pub fn timeout_killpg(w: &World) {
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
pub fn lock_fd(w: &World) {
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
pub fn links_in_place_of_directories(w: &World) {
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
pub fn full_listener(w: &World) {
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

pub fn timeout_finish(w: &World) {
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
pub fn status_bytes(w: &World) {
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

pub fn death_tally(w: &World) {
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

pub fn permafailon(w: &World) {
    let a = w.service("a", "echo >>starts; exit 3");
    a.script("finish", &format!("exec {} 60 2 1-5,SIGKILL true", w.client("permafailon")));
    let events = a.listen();
    let _svscan = w.svscan(&[]);
    events.expect("sudDudOD");
    assert_eq!(a.read("starts").lines().count(), 2);
    assert!(!a.status().wanted());
}

pub fn permafailon_passes(w: &World) {
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
pub fn run_missing(w: &World) {
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

// ------------------------------------------------------------------------------------------------ more of them

/// `flag-newpidns` came with s6 2.13: before, it means nothing. Pid 1 of a namespace has no default actions.
pub fn new_pid_namespace(w: &World) {
    if !rustix::process::geteuid().is_root() {
        return println!("new_pid_namespace: not tried: this needs root");
    }
    let a = w.service("a", "echo $$ >told; exec sleep 1000");
    a.file("flag-newpidns", "");
    let b = w.service("b", "trap 'exit 7' TERM; echo $$ >told; while :; do sleep 0.05; done");
    b.file("flag-newpidns", "");
    let _svscan = w.svscan(&[]);
    for service in [&a, &b] {
        let pid = service.pid();
        let own = if w.daemons == Kit::Ours { 1 } else { pid };
        until_eq(format!("{own}\n"), || service.read("told"));
        assert_eq!(w.ok("svstat", &["-p", &service.path]), format!("{pid}\n"));
    }
    w.ok("svc", &["-d", &a.path]);
    w.ok("svc", &["-wD", "-T", "10000", "-d", &b.path]);
    assert_eq!(b.status().wait, 7 << 8);
    if w.daemons == Kit::Ours {
        assert!(a.status().is_up(), "it has no handler");
        w.ok("svc", &["-k", &a.path]);
    }
    w.ok("svwait", &["-D", "-t", "10000", &a.path]);
}

/// What belongs together is one write: `dD` where there is no finish script (since s6 2.12), `OD`. A listener with
/// room for one byte tells: it gets all of a write or nothing.
pub fn merged_events(w: &World) {
    let a = w.service("a", "read x <gate; exit 1");
    let b = w.service("b", "read x <gate; exit 1");
    b.script("finish", "read x <gate; exit 125");
    let services = [(a, if w.daemons == Kit::S6 { 1 } else { 0 }), (b, 1)];
    for (service, _) in &services {
        service.file("down", "");
        mkfifo(&format!("{}/gate", service.path));
    }
    let _svscan = w.svscan(&[]);
    use rustix::fs::{Mode, OFlags, open};
    for (service, heard) in services {
        w.ok("svc", &["-wu", "-T", "10000", "-o", &service.path]);
        let narrow = format!("{}/event/ftrig1:@400000006553f1000000000a:AbCdEf", service.path);
        mkfifo(&narrow);
        let narrow = open(&*narrow, OFlags::RDWR | OFlags::NONBLOCK, Mode::empty()).unwrap();
        rustix::pipe::fcntl_setpipe_size(&narrow, 4096).unwrap();
        assert_eq!(rustix::io::write(&narrow, &[b'.'; 4095]).unwrap(), 4095);
        let events = service.listen();
        service.file("gate", "\n");
        if service.has("finish") {
            events.expect("d");
            service.file("gate", "\n");
        }
        events.expect(if service.has("finish") { "dOD" } else { "dD" });
        let mut bytes = vec![0; 8192];
        let n = rustix::io::read(&narrow, &mut bytes).unwrap();
        assert_eq!(n, 4095 + heard, "{}", service.path);
        assert!(bytes[4095..n].iter().all(|byte| *byte == b'd'));
    }
}

/// Several bytes in one read are so many events, in order, and none hides another.
pub fn events_in_one_read(w: &World) {
    let a = w.service("a", SLEEP);
    let _svscan = w.svscan(&[]);
    a.pid();
    // What a supervisor says, from another mouth: nothing has happened.
    for (goal, events, code) in [("-D", "dD", 0), ("-d", "sdDu", 0), ("-U", "OD", 1)] {
        let waiting = w.start("svwait", &[goal, "-t", "10000", &a.path]);
        until_eq(1, || a.listeners());
        w.ok("ftrig-notify", &[&format!("{}/event", a.path), events]);
        assert_eq!(waiting.end().code, code, "{goal} {events}");
        until_eq(0, || a.listeners());
    }
    // What is told of a restart before ours comes late: ours do not take it for the one that they wait for. s6's
    // svwait never sees one that is told of in one write.
    if w.clients == Kit::Ours {
        let pid = a.pid();
        for goal in ["-r", "-R"] {
            let mut waiting = w.start("svwait", &[goal, "-t", "120000", &a.path]);
            until_eq(1, || a.listeners());
            w.ok("ftrig-notify", &[&format!("{}/event", a.path), "dDuU"]);
            w.ok("ftrig-notify", &[&format!("{}/event", a.path), "dDuU"]);
            assert_eq!(w.code("svwait", &[goal, "-t", "300", &a.path]), 99);
            assert!(waiting.is_running() && a.pid() == pid);
            kill(waiting.pid(), Signal::TERM);
            waiting.end();
            w.ok("cleanfifodir", &[&format!("{}/event", a.path)]);
        }
    }
}

/// Who hears an event and looks finds the status as told, or a later one.
pub fn status_before_event(w: &World) {
    let a = w.service("a", "read x <gate; echo >&3; exec sleep 1000");
    a.script("finish", "read x <gate").file("notification-fd", "3").file("down", "");
    mkfifo("scan/a/gate");
    let events = a.listen();
    let _svscan = w.svscan(&[]);
    events.expect("s");
    let mut heard = "s".to_owned();
    let mut then = |event: &str| {
        heard += event;
        events.expect(&heard);
        a.status()
    };
    for round in 0..20 {
        w.ok("svc", &["-u", &a.path]);
        let up = then("u");
        assert_eq!((up.is_up(), up.flags & 8), (true, 0), "{round}");
        a.file("gate", "\n");
        assert_eq!(then("U").flags & 8, 8, "{round}");
        w.ok("svc", &["-d", &a.path]);
        let finishing = then("d");
        assert_eq!((finishing.is_up(), finishing.flags & (2 | 8), finishing.wait), (false, 2, 15), "{round}");
        a.file("gate", "\n");
        let down = then("D");
        assert_eq!((down.pid, down.flags & (2 | 8)), (0, 8), "{round}");
    }
}

/// What a number in a file may look like. What is none is said, and means that there is no file.
pub fn numbers_in_files(w: &World) {
    let texts = ["3", "3\n", "3\nrubbish", "00000000003", "3x", "3 ", " 3", "+3", "", "\n", "4294967299"];
    for (n, text) in texts.iter().enumerate() {
        // Some shells tell of what they cannot do and end.
        let service = w.service(&format!("s{n}"), "(echo >&3) 2>/dev/null; touch tried; exec sleep 1000");
        service.file("notification-fd", text);
    }
    let svscan = w.svscan(&[]);
    for (n, text) in texts.iter().enumerate() {
        let service = w.at(&format!("scan/s{n}"));
        until("it has tried", || service.has("tried"));
        service.pid();
        if n < 4 {
            // The first eleven bytes count.
            until_eq(8, || service.status().flags & 8);
        } else {
            assert_eq!(service.status().flags & 8, 0, "{text:?}");
            let said = format!("supervise s{n}: warning: invalid notification-fd");
            until(&said, || svscan.said().contains(&said));
        }
    }
}

/// A descriptor for readiness may be any number; the others are what they are.
pub fn notification_fd_numbers(w: &World) {
    for fd in [1, 2, 3, 9, 200] {
        let service =
            w.service(&format!("s{fd}"), &format!("ls -l /proc/self/fd >fds; exec {} {fd}", "./say"));
        service.file("notification-fd", &fd.to_string());
        service.script("say", "exec python3 -c 'import os, sys, time; os.write(int(sys.argv[1]), b\"\\n\"); time.sleep(1000)' $1");
    }
    let _svscan = w.svscan(&[]);
    for fd in [1, 2, 3, 9, 200] {
        let service = w.at(&format!("scan/s{fd}"));
        w.ok("svwait", &["-U", "-t", "30000", &service.path]);
        for other in (0..3).filter(|other| *other != fd) {
            let link = fs::read_link(format!("/proc/{}/fd/{other}", service.pid())).unwrap();
            assert!(!link.to_string_lossy().starts_with("pipe:"), "{fd}: {other} is {link:?}");
        }
    }
}

/// Of what finish exits with only 125 means something.
pub fn finish_codes(w: &World) {
    for code in [0, 1, 100, 111, 126, 127] {
        let service = w.service(&format!("s{code}"), "echo >>lives; exit 1");
        service.script("finish", &format!("exit {code}"));
    }
    let _svscan = w.svscan(&[]);
    for code in [0, 1, 100, 111, 126, 127] {
        let service = w.at(&format!("scan/s{code}"));
        until(&format!("{code} means nothing"), || service.read("lives").lines().count() >= 2);
        assert!(service.status().wanted());
    }
}

/// `r` sends the down-signal and that is all: no time limit, no SIGCONT.
pub fn restart_is_only_a_signal(w: &World) {
    let a = w.service("a", "trap 'echo >>told' TERM; touch trapped; while :; do sleep 0.05; done");
    a.file("timeout-kill", "200");
    let _svscan = w.svscan(&[]);
    until("a has set its trap", || a.has("trapped"));
    let pid = a.pid();
    w.ok("svc", &["-r", &a.path]);
    until("a was told", || a.has("told"));
    assert_eq!(w.code("svwait", &["-d", "-t", "700", &a.path]), 99);
    w.ok("svc", &["-p", &a.path]);
    until_eq(Some("T".to_owned()), || stat(pid, 3));
    w.ok("svc", &["-r", &a.path]);
    assert_eq!(w.code("svwait", &["-d", "-t", "300", &a.path]), 99);
    assert_eq!(stat(pid, 3).as_deref(), Some("T"));
    w.ok("svc", &["-wD", "-T", "10000", "-d", &a.path]);
    assert_eq!(a.status().wait, 9);
}

/// A read-only service directory, as both the supervisor and the clients see it: `event` and `supervise` are links
/// to places that are not there yet.
pub fn read_only(w: &World) {
    if !rustix::process::geteuid().is_root() {
        return println!("read_only: not tried: this needs root");
    }
    let a = w.service_at("a", "echo >&3; exec sleep 1000");
    a.file("notification-fd", "3").file("max-death-tally", "5").script("finish", ":");
    fs::create_dir("state").unwrap();
    for name in ["event", "supervise"] {
        std::os::unix::fs::symlink(w.base.join("state").join(name), format!("a/{name}")).unwrap();
    }
    let script = format!(
        "mount --bind a a && mount -o remount,ro,bind a && mount -t tmpfs tmpfs state && cd {} && ! touch a/x 2>&3 &&",
        w.base.display()
    );
    let inside = ["-m", "--propagation", "private", "sh", "-c"];
    let supervise = |words: &str| {
        let script = format!("exec 3>/dev/null; {script} {words} exec {} a 3>&-", w.daemon("supervise"));
        let mut command = std::process::Command::new("unshare");
        command.args(inside).arg(script);
        crate::support::Running::new(command, "supervise a".into())
    };
    let supervisor = supervise("");
    // In there too, and it has the same working directory.
    let ask = |program: &str, args: &[&str]| {
        let mut command = std::process::Command::new("nsenter");
        command.args(["-m", "-t", &supervisor.pid().to_string(), &format!("--wd={}", w.base.display())]);
        command.arg(w.client(program)).args(args);
        let ran = crate::support::Running::new(command, program.into()).end();
        (ran.code, ran.out)
    };
    until("it is supervised, and that is told", || ask("svstat", &["a"]).0 == 0);
    assert_eq!(ask("svwait", &["-U", "-t", "60000", "a"]).0, 0);
    assert_eq!(ask("svc", &["-wR", "-T", "60000", "-k", "a"]).0, 0);
    assert_eq!(ask("svdt", &["a"]).1.lines().count(), 1);
    assert_eq!(ask("svc", &["-wD", "-T", "60000", "-D", "a"]).0, 0, "it counts for now");
    assert!(!a.has("down") && !a.has("state"));
    assert_eq!(ask("svstat", &["-o", "up,wantedup,normallyup", "a"]).1, "false false true\n");
    assert_eq!(ask("svc", &["-x", "a"]).0, 0);
    assert_eq!(supervisor.end().code, 0);
    assert!(fs::read_dir("state").unwrap().next().is_none(), "all was on the other file system");
}
