//! What svscan, supervise, svc and svstat promise, tried on real programs: what interop does not try
//! already against s6, and what only ours promise.
//!
//! `cargo test --test core`, with words after `--` to run only scenarios whose name contains one of them.
//! PERENNIAL names another executable to try than the one just built.

mod support;

use perennial::process::{End, Pid, Signal as OurSignal, WaitStatus};
use perennial::servicedir::status::Status;
use perennial::sys::lock;
use perennial::time::Tai64n;
use rustix::process::{Resource, Rlimit, Signal};
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::{Command, ExitCode};
use support::runner;
use support::{
    Running, SLEEP, World, descendants, is_alive, is_locked, kill, mkfifo, parent, read, stat, until,
    until_eq,
};

fn main() -> ExitCode {
    runner::run_in_worlds("core", SCENARIOS)
}

const SCENARIOS: &[runner::InWorld] = &[
    ("lives_are_counted", lives_are_counted),
    ("death_tally_is_bounded", death_tally_is_bounded),
    ("deaths_close_together", deaths_close_together),
    ("lock_fd", lock_fd),
    ("lock_fd_waits", lock_fd_waits),
    ("timeout_kill_of_a_group", timeout_kill_of_a_group),
    ("new_pid_namespace", new_pid_namespace),
    ("limit_of_open_files", limit_of_open_files),
    ("limit_of_open_files_in_a_container", limit_of_open_files_in_a_container),
    ("event_and_supervise_are_links", event_and_supervise_are_links),
    ("read_only_service_directory", read_only_service_directory),
    ("no_line_is_lost", no_line_is_lost),
    ("bad_entries", bad_entries),
    ("many_at_once", many_at_once),
    ("pruned", pruned),
    ("svc_exit", svc_exit),
    ("two_supervisors", two_supervisors),
    ("a_supervisor_beside_svscan", a_supervisor_beside_svscan),
    ("copied_while_running", copied_while_running),
    ("directory_deleted", directory_deleted),
    ("control_replaced", control_replaced),
    ("control_garbage", control_garbage),
    ("odd_status", odd_status),
    ("no_descriptors", no_descriptors),
    ("svscan_killed", svscan_killed),
    ("a_list_that_cannot_be_compared", a_list_that_cannot_be_compared),
    ("interrupted_with_its_scanner", interrupted_with_its_scanner),
    ("nobody_reads_of_deaths", nobody_reads_of_deaths),
    ("put_off_and_gone", put_off_and_gone),
    ("signals_before_the_scanner", signals_before_the_scanner),
];

// ------------------------------------------------------------------------------------------------ lives

/// A service that ran for a second is started again at once, whatever it had been before, and every life is
/// counted.
fn lives_are_counted(w: &World) {
    let a = w.service("a", "echo $$ >>lives; read x <gate; exit 7");
    mkfifo("scan/a/gate");
    let _svscan = w.svscan(&[]);
    for life in 1..=3u32 {
        let pid = a.pid();
        until("this life has told", || a.read("lives").lines().count() == life as usize);
        assert_eq!(a.read("lives").lines().last(), Some(&*pid.to_string()));
        fs::write("scan/a/gate", "\n").unwrap();
        until("it was started again", || a.status().is_up() && a.status().pid != pid);
        until_eq((life + 1, life, 0), || {
            let state = a.state();
            (state.starts, state.deaths, state.adopted)
        });
        assert_eq!(WaitStatus(a.status().wait), WaitStatus::exited(7));
    }
}

fn death_tally_is_bounded(w: &World) {
    let a = w.service("a", "n=$(($(cat n 2>/dev/null) + 1)); echo $n >n; exit $n");
    a.file("max-death-tally", "3\n");
    let _svscan = w.svscan(&[]);
    until("it died five times", || a.state().deaths >= 5);
    w.ok("svc", &["-wD", "-T", "30000", "-d", &a.path]);
    let deaths: Vec<End> = a.deaths().iter().map(|death| death.end).collect();
    let last: u8 = a.read("n").trim().parse().unwrap();
    assert_eq!(deaths, [End::Exit(last - 2), End::Exit(last - 1), End::Exit(last)]);
}

/// A death that could not be written down yet does not give way to the next.
fn deaths_close_together(w: &World) {
    let a = w.service("a", SLEEP);
    let _svscan = w.svscan(&[]);
    let (pid, tally) = (a.pid(), "scan/a/supervise/death_tally");
    mkfifo(tally);
    w.ok("svc", &["-wr", "-T", "30000", "-r", &a.path]);
    assert_ne!(a.pid(), pid);
    fs::remove_file(tally).unwrap();
    kill(a.pid(), Signal::KILL);
    until_eq(2, || a.state().deaths);
    let ends: Vec<End> = a.deaths().iter().map(|death| death.end).collect();
    assert_eq!(ends, [OurSignal::TERM, OurSignal::KILL].map(End::Signal));
}

// ------------------------------------------------------------------------------------------------ around run

/// The lock is held for as long as run lives, under whatever number, and by whoever inherits it.
fn lock_fd(w: &World) {
    for fd in [3, 9, 15, 16, 40] {
        let service = w.service(&format!("fd{fd}"), &format!("readlink /proc/self/fd/{fd} >told; {SLEEP}"));
        service.file("lock-fd", &format!("{fd}\n"));
    }
    let _svscan = w.svscan(&[]);
    for fd in [3, 9, 15, 16, 40] {
        let service = w.at(&format!("scan/fd{fd}"));
        let lock = format!("{}/supervise/service-lock", service.path);
        until(&format!("{lock} is locked"), || is_locked(&lock));
        // Only a static number of dash is two digits long; the kernel's own view is asked instead.
        let link = format!("/proc/{}/fd/{fd}", service.pid());
        until_eq(w.base.join(&lock), || fs::read_link(&link).unwrap_or_default());
        w.ok("svc", &["-wD", "-T", "30000", "-d", &service.path]);
        assert!(!is_locked(&lock), "{lock} is free when run is dead");
    }
}

/// Somebody who holds the lock keeps run waiting, and nobody else.
fn lock_fd_waits(w: &World) {
    let a = w.service("a", "echo $$ >>lives; exec sleep 1000");
    a.file("lock-fd", "7\n").file("supervise/service-lock", "");
    let b = w.service("b", SLEEP);
    let other = fs::OpenOptions::new().write(true).open("scan/a/supervise/service-lock").unwrap();
    assert!(lock::try_lock(&other).unwrap());
    let _svscan = w.svscan(&[]);
    let pid = a.pid();
    // The supervisor goes on meanwhile.
    w.ok("svc", &["-wr", "-T", "30000", "-r", &b.path]);
    w.ok("svc", &["-wr", "-T", "30000", "-k", &a.path]);
    assert_ne!(a.pid(), pid);
    assert_eq!(a.read("lives"), "", "the lock is held by somebody else");
    drop(other);
    until_eq(format!("{}\n", a.pid()), || a.read("lives"));
}

fn timeout_kill_of_a_group(w: &World) {
    let stubborn = "trap '' TERM; sleep 1000 & echo $! >child; wait; wait";
    let group = w.service("group", stubborn);
    group.file("timeout-kill", "200\n").file("flag-timeout-killpg", "");
    let process = w.service("process", stubborn);
    process.file("timeout-kill", "200\n");
    let _svscan = w.svscan(&[]);
    let mut children = Vec::new();
    for service in [&group, &process] {
        until("its child is there", || service.read("child").ends_with('\n'));
        children.push(service.read("child").trim().parse::<i32>().unwrap());
        w.ok("svc", &["-wD", "-T", "30000", "-d", &service.path]);
        assert_eq!(WaitStatus(service.status().wait), WaitStatus::killed(OurSignal::KILL));
    }
    until("the child died with its group", || !is_alive(children[0]));
    assert!(is_alive(children[1]), "without the flag only the process is killed");
    kill(children[1], Signal::KILL);
}

fn new_pid_namespace(w: &World) {
    if !rustix::process::geteuid().is_root() {
        return println!("new_pid_namespace: not tried: this needs root");
    }
    let a = w.service("a", "echo $$ >told; (sleep 1000 & ); exec sleep 1000");
    a.file("flag-newpidns", "");
    let _svscan = w.svscan(&[]);
    until_eq("1\n".to_owned(), || a.read("told"));
    let pid = a.pid();
    assert_ne!(pid, 1);
    until("its child is there", || descendants().iter().any(|p| parent_of(*p) == Some(pid)));
    let child = descendants().into_iter().find(|p| parent_of(*p) == Some(pid)).unwrap();
    w.ok("svc", &["-wD", "-T", "30000", "-k", "-d", &a.path]);
    until("the namespace ended with its pid 1", || !is_alive(child));
    assert_eq!(WaitStatus(a.status().wait), WaitStatus::killed(OurSignal::KILL));
}

fn parent_of(pid: i32) -> Option<i32> {
    stat(pid, 4)?.parse().ok()
}

/// Supervisors raise their own limit; whatever they start gets the one that they were given.
fn limit_of_open_files(w: &World) {
    const TELL: &str = "echo $(ulimit -S -n) $(ulimit -H -n)";
    let a = w.service("a", &format!("{TELL} >>told; {SLEEP}"));
    a.script("finish", &format!("{TELL} >>told"));
    fs::create_dir_all("scan/.s6-svscan").unwrap();
    let told = |name: &str| w.base.join(name).display().to_string();
    script("scan/.s6-svscan/SIGUSR1", &format!("{TELL} >{}", told("signalled")));
    script("scan/.s6-svscan/finish", &format!("{TELL} >{}", told("finished")));
    let svscan = w.svscan_after("ulimit -S -n 77; ulimit -H -n 333;", &[]);
    let pid = a.pid();
    let supervisor = parent(pid);
    let raised = |pid: i32| {
        let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap().to_owned();
        line.split_whitespace().skip(3).take(2).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(raised(supervisor), ["333", "333"]);
    until_eq("77 333\n".to_owned(), || a.read("told"));
    w.ok("svc", &["-wr", "-T", "30000", "-r", &a.path]);
    until_eq("77 333\n".repeat(3), || a.read("told"));
    // An executed successor.
    kill(supervisor, Signal::KILL);
    until("it has a successor", || a.state().adopted == 1);
    w.ok("svc", &["-wr", "-T", "30000", "-r", &a.path]);
    until_eq("77 333\n".repeat(5), || a.read("told"));
    assert_eq!(raised(parent(a.pid())), ["333", "333"]);
    kill(svscan.pid(), Signal::USR1);
    until_eq("77 333\n".to_owned(), || read("signalled"));
    kill(svscan.pid(), Signal::TERM);
    assert_eq!(svscan.end().code, 0);
    assert_eq!(read("finished"), "77 333\n");
}

fn limit_of_open_files_in_a_container(w: &World) {
    if !rustix::process::geteuid().is_root() {
        return println!("limit_of_open_files_in_a_container: not tried: this needs root");
    }
    const TELL: &str = "echo $(ulimit -S -n) $(ulimit -H -n)";
    let told = |name: &str| w.base.join(name).display().to_string();
    let web = w.service_at("source/web", &format!("{TELL} >{}; {SLEEP}", told("run")));
    web.file("type", "longrun\n");
    let once = w.service_at("source/once", "");
    once.file("type", "oneshot\n").file("up", &told("once.sh"));
    script("once.sh", &format!("{TELL} >{}", told("once")));
    w.at("source/user").file("type", "bundle\n").file("contents.d/web", "").file("contents.d/once", "");
    script("command", &format!("while ! [ -s {} ]; do sleep 0.01; done; {TELL}", told("run")));
    let script = format!(
        "mount -t proc proc /proc; mount -t tmpfs tmpfs /run; ulimit -S -n 77; ulimit -H -n 333
         exec {} -d {} {}",
        w.client("init"),
        told("source"),
        told("command"),
    );
    let mut command = Command::new("unshare");
    command.args(["-fpm", "--propagation", "private", "--kill-child", "sh", "-c", &script]);
    let ran = Running::new(command, "a container".into()).end();
    assert_eq!((ran.code, &*ran.out), (0, "77 333\n"), "{}", ran.err);
    assert_eq!((&*read("run"), &*read("once")), ("77 333\n", "77 333\n"), "{}", ran.err);
}

fn script(path: &str, text: &str) {
    fs::write(path, format!("#!/bin/sh\n{text}\n")).unwrap();
    support::chmod(path, 0o755);
}

// ------------------------------------------------------------------------------------------------ places

/// Links to places that are there, and to places that are not there yet.
fn event_and_supervise_are_links(w: &World) {
    let a = w.service("a", SLEEP);
    for name in ["event", "supervise"] {
        symlink(w.base.join(format!("state-{name}")), format!("scan/a/{name}")).unwrap();
    }
    for _ in 0..2 {
        let svscan = w.svscan(&[]);
        a.pid();
        assert!(w.ok("svstat", &[&a.path]).starts_with("up (pid "));
        w.ok("svc", &["-wr", "-T", "30000", "-r", &a.path]);
        assert!(fs::exists("state-supervise/status").unwrap());
        kill(svscan.pid(), Signal::TERM);
        assert_eq!(svscan.end().code, 0);
    }
}

fn read_only_service_directory(w: &World) {
    if !rustix::process::geteuid().is_root() {
        return println!("read_only_service_directory: not tried: this needs root");
    }
    fs::create_dir("state").unwrap();
    let a = w.service_at("a", SLEEP);
    a.file("max-death-tally", "5\n").file("down", "");
    for name in ["event", "supervise"] {
        symlink(w.base.join(format!("state/{name}")), format!("a/{name}")).unwrap();
    }
    let script = format!(
        "mount --bind a a && mount -o remount,ro,bind a && cd {} && exec {} a",
        w.base.display(),
        w.client("supervise")
    );
    let mut command = Command::new("unshare");
    command.args(["-m", "--propagation", "private", "sh", "-c", &script]);
    let supervisor = Running::new(command, "supervise a".into());
    a.wait_supervised();
    w.ok("svc", &["-wu", "-T", "30000", "-u", &a.path]);
    w.ok("svc", &["-wr", "-T", "30000", "-k", &a.path]);
    assert_eq!(a.deaths().len(), 1);
    // Making it permanent is refused, and said; it counts all the same.
    w.ok("svc", &["-wD", "-T", "30000", "-D", &a.path]);
    w.ok("svc", &["-wu", "-T", "30000", "-U", &a.path]);
    assert!(supervisor.said().contains("unable to remove ./down: Read-only file system"));
    w.ok("svc", &["-wD", "-T", "30000", "-dx", &a.path]);
    assert_eq!(supervisor.end().code, 0);
}

// ------------------------------------------------------------------------------------------------ logger

/// Kill -9 of the logger, of its service and of the supervisor: every line arrives, once and in order.
fn no_line_is_lost(w: &World) {
    let a = w.service(
        "a",
        "while read from to; do
             n=$from; while [ $n -le $to ]; do echo line $n; n=$((n+1)); done
         done <>gate",
    );
    mkfifo("scan/a/gate");
    w.service("a/log", "exec cat >>lines");
    let log = w.at("scan/a/log");
    let svscan = w.svscan(&[]);
    let mut lines = 0;
    for round in 0..4 {
        let (service, logger) = (a.pid(), log.pid());
        let supervisor = parent(service);
        // All that was written has arrived: the logger has nothing in its hands.
        until("all lines arrived", || log.read("lines").lines().count() == lines);
        kill(logger, Signal::KILL);
        until("the logger is dead", || !is_alive(logger));
        let mut gate = fs::OpenOptions::new().write(true).read(true).open("scan/a/gate").unwrap();
        writeln!(gate, "{} {}", lines + 1, lines + 300).unwrap();
        lines += 300;
        if round % 2 == 1 {
            kill(supervisor, Signal::KILL);
        }
        until("the logger is there again", || log.status().is_up() && log.status().pid != logger);
        until("all lines arrived", || log.read("lines").lines().count() == lines);
        assert_eq!(a.status().pid, service, "the service is untouched");
        kill(service, Signal::KILL);
        until("the service is there again", || a.status().is_up() && a.status().pid != service);
    }
    let expected: String = (1..=lines).map(|n| format!("line {n}\n")).collect();
    assert_eq!(log.read("lines"), expected);
    // At the end the logger sees the end of its input and leaves by itself.
    kill(svscan.pid(), Signal::TERM);
    assert_eq!(svscan.end().code, 0);
    assert_eq!(WaitStatus(log.status().wait), WaitStatus::exited(0));
}

// ------------------------------------------------------------------------------------------------ scanning

/// Nothing that lies about in a scan directory keeps a service from being started, and each is named.
fn bad_entries(w: &World) {
    fs::write("scan/a-file", "").unwrap();
    symlink("nowhere", "scan/b-dangling").unwrap();
    symlink("c-loop", "scan/c-loop").unwrap();
    fs::create_dir("scan/.hidden").unwrap();
    fs::create_dir("scan/d-empty").unwrap();
    fs::create_dir(std::ffi::OsStr::from_bytes(b"scan/e-odd\xff")).unwrap();
    fs::create_dir(format!("scan/f-{}", "x".repeat(252))).unwrap();
    fs::create_dir_all("scan/g-directory/run").unwrap();
    w.service("h-not-executable", SLEEP);
    support::chmod("scan/h-not-executable/run", 0o644);
    w.service("i-carriage-return", "");
    fs::write("scan/i-carriage-return/run", "#!/bin/sh\r\nexec sleep 1000\r\n").unwrap();
    mkfifo("scan/j-fifo");
    fs::create_dir("scan/k-supervise-is-a-file").unwrap();
    fs::write("scan/k-supervise-is-a-file/supervise", "").unwrap();
    w.service("with a space", SLEEP);
    let good = w.service("z", SLEEP);
    let svscan = w.svscan(&[]);
    good.pid();
    w.at("scan/with a space").pid();
    for said in [
        "svscan: warning: b-dangling is not supervised: No such file or directory",
        "svscan: warning: c-loop is not supervised: Too many symbolic links encountered",
        "is not supervised: its name is not UTF-8",
        "is not supervised: its name is longer than 251 bytes (-L)",
        "supervise d-empty: warning: unable to execute ./run: no such file (retrying in 1 s)",
        "supervise g-directory: warning: unable to execute ./run: not a regular file",
        "supervise h-not-executable: warning: unable to execute ./run: not executable (chmod +x it)",
        "supervise i-carriage-return: warning: unable to execute ./run: the first line ends with a carriage",
        "supervise k-supervise-is-a-file: warning: unable to ",
    ] {
        until(&format!("it has said: {said}"), || svscan.said().contains(said));
    }
    assert!(!svscan.said().contains("warning: a-file") && !svscan.said().contains("hidden"));
    // Mended while it runs: tried again without being told.
    fs::remove_file("scan/k-supervise-is-a-file/supervise").unwrap();
    support::chmod("scan/h-not-executable/run", 0o755);
    w.at("scan/h-not-executable").pid();
    w.at("scan/k-supervise-is-a-file").wait_supervised();
}

/// Many new services are started while directories of others are made: it is all the same.
fn many_at_once(w: &World) {
    let names: Vec<String> = (0..300).map(|n| format!("s{n}")).collect();
    let services: Vec<_> = names.iter().map(|name| w.service(name, SLEEP)).collect();
    // Somebody listens already, and one was made by hand.
    fs::create_dir("scan/s299/event").unwrap();
    fs::create_dir("scan/s150/supervise").unwrap();
    fs::set_permissions("scan/s150/supervise", fs::Permissions::from_mode(0o755)).unwrap();
    let _svscan = w.svscan(&[]);
    let modes = |path: &str| {
        let mode = |name: &str| fs::metadata(format!("{path}/{name}")).unwrap().permissions().mode() & 0o7777;
        ["supervise", "event", "supervise/control", "supervise/lock"].map(mode)
    };
    for service in &services {
        w.ok("svwait", &["-u", "-t", "30000", &service.path]);
    }
    for (n, service) in services.iter().enumerate() {
        let expected = match n {
            150 => [0o755, 0o3730, 0o600, 0o644],
            299 => [0o700, 0o755, 0o600, 0o644],
            _ => [0o700, 0o3730, 0o600, 0o644],
        };
        assert_eq!(modes(&service.path), expected, "{}", service.path);
    }
}

/// What is taken out of the scan directory goes on until it is pruned; what comes back is the same.
fn pruned(w: &World) {
    let (a, b) = (w.service("a", SLEEP), w.service("b", SLEEP));
    let _svscan = w.svscan(&[]);
    let (first, other) = (a.pid(), b.pid());
    fs::rename("scan/a", "a").unwrap();
    w.ok("svscanctl", &["-a", "scan"]);
    let moved = w.at("a");
    w.ok("svc", &["-wr", "-T", "30000", "-r", "a"]);
    assert_ne!(moved.pid(), first, "it is still supervised, wherever it is");
    let second = moved.pid();
    fs::rename("a", "scan/a").unwrap();
    w.ok("svscanctl", &["-an", "scan"]);
    w.ok("svc", &["-wr", "-T", "30000", "-r", &b.path]);
    assert_eq!(a.pid(), second, "one that is back is not pruned");
    assert_ne!(b.pid(), other);
    let other = b.pid();
    fs::rename("scan/a", "a").unwrap();
    w.ok("svscanctl", &["-an", "scan"]);
    until("it is pruned", || !moved.is_supervised() && !is_alive(second));
    assert_eq!(WaitStatus(moved.status().wait), WaitStatus::killed(OurSignal::TERM));
    assert_eq!(b.pid(), other);
    fs::rename("a", "scan/a").unwrap();
    until("it is started anew", || a.status().is_up() && a.status().pid != second);
}

/// `svc -x`: supervision ends with the present life. In a scan directory it begins again.
fn svc_exit(w: &World) {
    let a = w.service("a", SLEEP);
    let _svscan = w.svscan(&[]);
    let first = a.pid();
    let events = a.listen();
    w.ok("svc", &["-x", &a.path]);
    w.ok("svc", &["-P", "-C", &a.path]);
    assert_eq!(a.pid(), first, "it may live");
    kill(first, Signal::KILL);
    until("it began again", || events.heard().starts_with("dDxsu"));
    assert_ne!(a.pid(), first);
    // Of its own, supervise ends.
    let b = w.service_at("b", SLEEP);
    let supervisor = w.supervise(&b);
    b.pid();
    w.ok("svc", &["-x", "-d", "b"]);
    assert_eq!(supervisor.end().code, 0);
    assert!(!b.is_supervised());
    let supervisor = w.supervise(&b);
    b.pid();
    w.ok("svc", &["-wD", "-T", "30000", "-d", "b"]);
    w.ok("svc", &["-x", "b"]);
    assert_eq!(supervisor.end().code, 0);
}

// ------------------------------------------------------------------------------------------------ trouble

/// The second supervisor of a directory says so and fails, and the first one's memory is untouched: a
/// successor knows all.
fn two_supervisors(w: &World) {
    let a = w.service_at("a", "echo >&4; exec sleep 1000");
    a.file("notification-fd", "4\n");
    let first = w.supervise(&a);
    w.ok("svwait", &["-U", "-t", "30000", "a"]);
    w.ok("svc", &["-wR", "-T", "30000", "-k", "a"]);
    let pid = a.pid();
    let memory = || {
        let journal = fs::read("a/supervise/journal").unwrap();
        let status = fs::read("a/supervise/status").unwrap();
        (journal, status, a.state())
    };
    // Who hears an event hears it before the supervisor has crossed it out of its memory.
    until_eq(Some("S".to_owned()), || stat(first.pid(), 3));
    let before = memory();
    for _ in 0..3 {
        let ran = w.start_daemon("supervise", &["a"]).end();
        assert_eq!(ran.code, 100);
        let said = "supervise a: fatal: unable to lock supervise/lock: another supervisor is at work\n";
        assert_eq!(ran.err, said);
    }
    assert!(memory() == before, "nothing of it has changed");
    kill(first.pid(), Signal::KILL);
    first.end();
    let second = w.supervise(&a);
    until_eq((2, 1, 1), || (a.state().starts, a.state().deaths, a.state().adopted));
    assert_eq!(a.pid(), pid);
    w.ok("svc", &["-wD", "-T", "30000", "-dx", "a"]);
    assert_eq!(second.end().code, 0);
    assert_eq!(a.deaths().len(), 2);
}

fn a_supervisor_beside_svscan(w: &World) {
    let a = w.service("a", SLEEP);
    let b = w.service_at("b", SLEEP);
    // It is supervised already when svscan finds it.
    let own = w.supervise(&b);
    let pid = b.pid();
    symlink("../b", "scan/b").unwrap();
    let svscan = w.svscan(&[]);
    a.pid();
    until("it is said", || {
        svscan.said().contains("supervise b: warning: unable to lock supervise/lock: another supervisor")
    });
    let ran = w.start_daemon("supervise", &["scan/a"]).end();
    assert_eq!(ran.code, 100, "{}", ran.err);
    w.ok("svc", &["-wr", "-T", "30000", "-r", &a.path]);
    // svscan takes it over as soon as it may.
    kill(own.pid(), Signal::KILL);
    own.end();
    until("svscan's supervisor has it", || b.is_supervised() && b.state().adopted == 1);
    assert_eq!(b.status().pid, pid, "and nothing was restarted");
    w.ok("svc", &["-wD", "-T", "30000", "-d", "b"]);
    assert!(!is_alive(pid));
}

/// A copy of a service directory, memory and all, is another service.
fn copied_while_running(w: &World) {
    let a = w.service_at("a", SLEEP);
    let original = w.supervise(&a);
    let pid = a.pid();
    assert!(Command::new("cp").args(["-a", "a", "b"]).status().unwrap().success());
    let b = w.at("b");
    let copy = w.supervise(&b);
    until("the copy runs something of its own", || b.status().is_up() && b.status().pid != pid);
    w.ok("svc", &["-wD", "-T", "30000", "-dx", "b"]);
    assert_eq!(copy.end().code, 0);
    assert_eq!(a.pid(), pid);
    w.ok("svc", &["-wD", "-T", "30000", "-dx", "a"]);
    assert_eq!(original.end().code, 0);
}

/// The service runs on; nothing spins; the others are untouched; pruning ends it.
fn directory_deleted(w: &World) {
    let (a, b) = (w.service("a", SLEEP), w.service("b", SLEEP));
    let svscan = w.svscan(&[]);
    let (pid, other) = (a.pid(), b.pid());
    let supervisor = parent(pid);
    fs::remove_dir_all("scan/a").unwrap();
    w.ok("svscanctl", &["-a", "scan"]);
    w.ok("svc", &["-wr", "-T", "30000", "-r", &b.path]);
    assert!(is_alive(pid));
    assert_ne!(b.pid(), other);
    until_sleeping(supervisor);
    // The successor of a supervisor finds no directory, and a process.
    kill(supervisor, Signal::KILL);
    until("there is a successor", || b.state().adopted == 1);
    assert!(is_alive(pid), "it runs on");
    until_sleeping(parent_of_service(&svscan));
    w.ok("svscanctl", &["-N", "scan"]);
    until("it is stopped", || !is_alive(pid));
    // A new directory under the old name is a new service.
    a.script("run", SLEEP);
    until("the new one is up", || a.status().is_up());
    assert_ne!(a.pid(), pid);
}

/// The one child of svscan that supervises.
fn parent_of_service(svscan: &Running) -> i32 {
    let supervises = |pid: &i32| {
        parent_of(*pid) == Some(svscan.pid())
            && fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.starts_with(b"supervise\0"))
    };
    until("there is a supervisor", || descendants().iter().any(supervises));
    descendants().into_iter().find(supervises).unwrap()
}

/// A process that waits for something to happen, and does not ask all the time whether it has.
fn until_sleeping(pid: i32) {
    until(&format!("{pid} sleeps"), || {
        let asleep = || stat(pid, 3).as_deref() == Some("S") && stat(pid, 14) == stat(pid, 14);
        let before = (stat(pid, 14), stat(pid, 15));
        let quiet = (0..40).all(|_| {
            std::thread::sleep(std::time::Duration::from_millis(5));
            asleep()
        });
        quiet && before == (stat(pid, 14), stat(pid, 15))
    });
}

fn control_replaced(w: &World) {
    let a = w.service("a", SLEEP);
    let b = w.service("b", SLEEP);
    let svscan = w.svscan(&[]);
    a.pid();
    // By a file: nobody listens there. It is mended when svscan is told to look.
    fs::remove_file("scan/a/supervise/control").unwrap();
    fs::write("scan/a/supervise/control", "d").unwrap();
    fs::remove_file("scan/b/supervise/control").unwrap();
    assert_ne!(w.code("svc", &["-r", &b.path]), 0);
    w.ok("svscanctl", &["-a", "scan"]);
    for service in [&a, &b] {
        until("it can be controlled", || w.code("svc", &["-wr", "-T", "30000", "-r", &service.path]) == 0);
    }
    until("it was said", || {
        svscan.said().contains("supervise a: warning: supervise/control was removed or replaced")
    });
    // A successor mends it on its own.
    fs::remove_file("scan/a/supervise/control").unwrap();
    fs::write("scan/a/supervise/control", "d").unwrap();
    let pid = a.pid();
    kill(parent(pid), Signal::KILL);
    until("it can be controlled", || {
        a.state().adopted == 1 && w.code("svc", &["-wr", "-T", "30000", "-r", &a.path]) == 0
    });
    assert!(!is_alive(pid));
}

/// Bytes that are no command mean nothing, however many; those between them count.
fn control_garbage(w: &World) {
    let a = w.service("a", SLEEP);
    let _svscan = w.svscan(&[]);
    let pid = a.pid();
    let commands = b"abqhktipcyr12lPCKodDuUxOQ";
    let noise: Vec<u8> = (0..=255u8).filter(|byte| !commands.contains(byte)).collect();
    let mut control = fs::OpenOptions::new().write(true).open("scan/a/supervise/control").unwrap();
    for _ in 0..100 {
        control.write_all(&noise).unwrap();
    }
    control.write_all(b"\0\xff\nd\0\xff").unwrap();
    w.ok("svwait", &["-D", "-t", "30000", &a.path]);
    assert_eq!(WaitStatus(a.status().wait), WaitStatus::killed(OurSignal::TERM));
    control.write_all(b"\0u\0").unwrap();
    w.ok("svwait", &["-u", "-t", "30000", &a.path]);
    assert_ne!(a.pid(), pid);
}

/// Status files of other times and of no time at all: svstat says something, and supervision begins.
fn odd_status(w: &World) {
    let stranger = Pid::own();
    let stamps = [0, 1, -1, 1 << 62, 4102444800, i64::MIN, i64::MAX - 60];
    let mut statuses: Vec<Vec<u8>> = Vec::new();
    for secs in stamps {
        let stamp = Tai64n { secs, nanos: 999_999_999 };
        for pid in [None, Some(stranger)] {
            let status =
                Status { stamp, ready_stamp: stamp, pid, want_up: true, ready: true, ..Status::default() };
            statuses.push(status.pack().to_vec());
        }
    }
    statuses.extend([vec![], vec![0; 34], vec![0xff; 35], vec![0; 35], vec![b'x'; 100]]);
    for (n, bytes) in statuses.iter().enumerate() {
        let service = w.service(&format!("s{n}"), SLEEP);
        fs::create_dir("scan/".to_owned() + &format!("s{n}/supervise")).unwrap();
        fs::write(format!("{}/supervise/status", service.path), bytes).unwrap();
        fs::write(format!("{}/supervise/state", service.path), b"starts=-1\nretry=@zzz\n\xff\xfe=\n")
            .unwrap();
        fs::write(format!("{}/supervise/death_tally", service.path), bytes).unwrap();
    }
    assert_eq!(w.code("svstat", &["-S", "scan"]), 100, "nobody ever scanned it");
    fs::create_dir("scan/.s6-svscan").unwrap();
    assert_eq!(w.code("svstat", &["-S", "scan"]), 1, "none is supervised");
    let svscan = w.svscan(&[]);
    for (n, bytes) in statuses.iter().enumerate() {
        let service = w.at(&format!("scan/s{n}"));
        // Supervision begins with a lock, and with a status a moment later: until then the old one is there.
        until("there is another status", || {
            fs::read(format!("{}/supervise/status", service.path)).unwrap() != *bytes
        });
        let pid = service.pid();
        assert_ne!(pid, stranger.raw(), "status {n}: nobody believes that we are the service");
        assert!(w.ok("svstat", &[&service.path]).starts_with(&format!("up (pid {pid}) ")));
    }
    // The same under a supervisor that knows better.
    for (n, bytes) in statuses.iter().enumerate() {
        fs::write(format!("scan/s{n}/supervise/status"), bytes).unwrap();
        let code = w.code("svstat", &[&format!("scan/s{n}")]);
        assert!(code == 0 || code == 111, "status {n}: {code}");
    }
    assert!(matches!(w.code("svstat", &["-S", "scan"]), 0 | 3 | 111));
    kill(svscan.pid(), Signal::TERM);
    assert_eq!(svscan.end().code, 0);
}

/// Out of descriptors: said once for each service, tried again, and over when there is room.
fn no_descriptors(w: &World) {
    const MANY: usize = 30;
    let first = w.service("first", SLEEP);
    let svscan = w.svscan(&[]);
    let supervisor = parent(first.pid());
    let open = fs::read_dir(format!("/proc/{supervisor}/fd")).unwrap().count() as u64;
    let old = limit_files(supervisor, open + 45);
    let services: Vec<_> = (0..MANY).map(|n| w.service_at(&format!("scan/s{n}"), SLEEP)).collect();
    w.ok("svscanctl", &["-a", "scan"]);
    let up = || services.iter().filter(|s| s.status().is_up()).count();
    until("some are up", || up() > 3);
    until("it is said", || svscan.said().contains("Too many open files"));
    until_sleeping(supervisor);
    assert!(up() < MANY);
    // Those that are up can be controlled.
    let lucky = services.iter().find(|s| s.status().is_up()).unwrap();
    w.ok("svc", &["-wr", "-T", "30000", "-r", &lucky.path]);
    w.ok("svc", &["-wr", "-T", "30000", "-r", &first.path]);
    until_sleeping(supervisor);
    let mut said: Vec<String> = svscan.said().lines().map(str::to_owned).collect();
    let lines = said.len();
    said.sort();
    said.dedup();
    assert_eq!(said.len(), lines, "each thing is said once:\n{}", svscan.said());
    // Room is made: all that had to wait come up by themselves.
    limit_files(supervisor, old);
    until("all are up", || up() == MANY);
}

/// Sets the limit of open files of a process; returns what it was.
fn limit_files(pid: i32, to: u64) -> u64 {
    let pid = rustix::process::Pid::from_raw(pid);
    let old = rustix::process::getrlimit(Resource::Nofile);
    let new = Rlimit { current: Some(to), maximum: old.maximum };
    rustix::process::prlimit(pid, Resource::Nofile, new).unwrap().current.unwrap()
}

/// Without an init above it, svscan may be killed too: the supervisor goes on, waits quietly, and the next
/// scanner finds it.
fn svscan_killed(w: &World) {
    let a = w.service("a", "echo >&4; exec sleep 1000");
    a.file("notification-fd", "4\n");
    a.script("finish", "echo \"$@\" >told");
    let b = w.service_at("later/b", SLEEP);
    let svscan = w.svscan(&[]);
    let pid = a.pid();
    let supervisor = parent(pid);
    kill(svscan.pid(), Signal::KILL);
    svscan.end();
    w.ok("svc", &["-wR", "-T", "30000", "-r", &a.path]);
    let pid = {
        assert_ne!(a.pid(), pid);
        a.pid()
    };
    until_sleeping(supervisor);
    let svscan = w.svscan(&[]);
    symlink("../later/b", "scan/b").unwrap();
    b.pid();
    assert_eq!(parent(b.pid()), supervisor, "the same supervisor");
    assert_eq!(a.pid(), pid);
    // It is not the scanner's child; when it dies the scanner notices all the same.
    kill(supervisor, Signal::KILL);
    until("there is a successor", || a.state().adopted == 1);
    assert_eq!(parent(parent_of_service(&svscan)), svscan.pid());
    // An adopted process whose parent is a stranger: the kernel tells how it ended, where it can.
    w.ok("svc", &["-wD", "-T", "30000", "-d", &a.path]);
    assert_eq!(a.read("told"), format!("256 15 a {pid}\n"));
    w.ok("svc", &["-wD", "-T", "30000", "-d", &b.path]);
}

/// A supervisor that cannot open directories when a new scanner names them does not take them for gone: nothing of
/// them is pruned.
fn a_list_that_cannot_be_compared(w: &World) {
    let services: Vec<_> = (0..4).map(|n| w.service(&format!("s{n}"), SLEEP)).collect();
    let mut svscan = w.svscan(&[]);
    let pids: Vec<i32> = services.iter().map(|s| s.pid()).collect();
    let supervisor = parent(pids[0]);
    let highest = || {
        let numbers = fs::read_dir(format!("/proc/{supervisor}/fd")).unwrap();
        numbers.filter_map(|entry| entry.unwrap().file_name().to_str()?.parse::<u64>().ok()).max().unwrap()
    };
    for room in 0..6 {
        kill(svscan.pid(), Signal::KILL);
        svscan.end();
        until_sleeping(supervisor);
        let old = limit_files(supervisor, highest() + 1 + room);
        svscan = w.svscan(&[]);
        w.ok("svscanctl", &["-n", "scan"]);
        until_sleeping(svscan.pid());
        until_sleeping(supervisor);
        limit_files(supervisor, old);
        // What comes on the same way later was taken in later.
        w.service(&format!("later{room}"), SLEEP).pid();
        let now: Vec<i32> = services.iter().map(|s| s.pid()).collect();
        assert_eq!(now, pids, "room for {room}: {}", svscan.said());
    }
}

/// Control-C comes to both. A supervisor that goes before it was told to end its services has not ended them.
fn interrupted_with_its_scanner(w: &World) {
    let a = w.service("a", "trap 'echo >ended; exit' TERM; : >ready; while :; do sleep 0.1; done");
    let svscan = w.svscan(&[]);
    let pid = a.pid();
    until("it can be told", || a.has("ready"));
    let supervisor = parent(pid);
    kill(svscan.pid(), Signal::STOP);
    kill(supervisor, Signal::INT);
    until("the supervisor has gone", || !is_alive(supervisor));
    kill(svscan.pid(), Signal::INT);
    kill(svscan.pid(), Signal::CONT);
    let ran = svscan.end();
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(!is_alive(pid) && a.has("ended"));
}

/// A supervisor reads nothing, so that svscan cannot tell of a death any more, and is then killed. Its own death
/// must be seen all the same, although somebody who died before it cannot be reaped yet.
fn nobody_reads_of_deaths(w: &World) {
    let orphans =
        "read x <gate; i=0; while [ $i -lt 600 ]; do i=$((i+1)); (sleep 0 &); done; echo >done; read x <gate";
    let (a, b) = (w.service("a", orphans), w.service("b", SLEEP));
    mkfifo("scan/a/gate");
    let svscan = w.svscan(&[]);
    let (pid, first) = (b.pid(), parent(b.pid()));
    kill(first, Signal::KILL);
    until("there is a second supervisor", || !is_alive(first) && b.is_supervised());
    until_eq((1, 1), || (a.state().adopted, b.state().adopted));
    let second =
        children(svscan.pid()).into_iter().find(|pid| read(&format!("/proc/{pid}/comm")) == "supervise\n");
    let second = second.expect("svscan has a supervisor");
    kill(second, Signal::STOP);
    for pipe in pipes(svscan.pid()) {
        rustix::pipe::fcntl_setpipe_size(pipe, 4096).unwrap();
    }
    a.file("gate", "\n");
    until("many have died", || a.has("done"));
    let left = || children(svscan.pid()).into_iter().filter(|pid| !is_alive(*pid)).count();
    until("not all can be told of", || left() > 0);
    kill(pid, Signal::KILL);
    kill(second, Signal::KILL);
    until("b runs again", || b.is_supervised() && b.status().is_up() && b.status().pid != pid);
    assert_eq!(b.deaths().last().map(|death| death.end), Some(End::Signal(OurSignal::KILL)));
    until_eq(0, left);
}

/// The pipes that a process has open.
fn pipes(pid: i32) -> Vec<fs::File> {
    let all = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    let is_pipe = |path: &std::path::Path| {
        fs::read_link(path).is_ok_and(|to| to.to_string_lossy().starts_with("pipe:"))
    };
    all.map(|fd| fd.path()).filter(|path| is_pipe(path)).map(|path| fs::File::open(path).unwrap()).collect()
}

fn children(pid: i32) -> Vec<i32> {
    let all = read(&format!("/proc/{pid}/task/{pid}/children"));
    all.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

/// What could not be supervised yet is forgotten with its entry, also where nobody scanned when that went:
/// nothing is left to wake up for.
fn put_off_and_gone(w: &World) {
    let a = w.service_at("a", SLEEP);
    let other = w.supervise(&a);
    symlink("../a", "scan/a").unwrap();
    let mut svscan = w.svscan(&[]);
    until("it is put off", || svscan.said().contains("another supervisor is at work"));
    let supervisor = children(svscan.pid())[0];
    kill(svscan.pid(), Signal::KILL);
    until("the scanner is dead", || !svscan.is_running());
    fs::remove_file("scan/a").unwrap();
    let svscan = w.svscan(&[]);
    // The fourth argument of epoll_pwait: for how long.
    until("it waits for ever", || {
        let call = read(&format!("/proc/{supervisor}/syscall"));
        call.split(' ').nth(4).is_some_and(|limit| limit.ends_with("ffffffff"))
    });
    w.ok("svscanctl", &["-t", "scan"]);
    assert_eq!(svscan.end().code, 0);
    drop(other);
}

/// A supervisor that waits for svscan waits quietly, also when signals come that it cannot deal with before.
fn signals_before_the_scanner(w: &World) {
    fs::create_dir_all("scan/.s6-svscan").unwrap();
    let supervise = w.start_daemon("supervise", &["--listen", "scan"]);
    until("it waits", || fs::exists("scan/.s6-svscan/socket").unwrap());
    kill(supervise.pid(), Signal::WINCH);
    kill(supervise.pid(), Signal::CHILD);
    until("it has given up on svscan", || supervise.said().contains("taking over without it"));
    let ticks = |field| stat(supervise.pid(), field).unwrap().parse::<u32>().unwrap();
    assert!(ticks(14) + ticks(15) < 20, "of 100 that it waited");
    kill(supervise.pid(), Signal::TERM);
    supervise.end();
}
