//! Going over to another version of the programs while everything runs: on purpose (`svscanctl --upgrade`), by
//! being killed, and not at all when the new version is no good.
//!
//! A version is a copy of the executable: a file of its own, so that `/proc/PID/exe` tells which one a process
//! runs.

mod support;

use rustix::process::Signal;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;
use support::runner::{self, Scenario};
use support::{
    Programs, Running, SLEEP, World, chmod, is_alive, is_locked, kill, mkfifo, parent, read, stat, until,
    until_eq,
};

fn main() -> ExitCode {
    let scenarios: Vec<Scenario<'_>> = SCENARIOS.iter().map(|(name, f)| Scenario::new(*name, *f)).collect();
    runner::run("upgrade", &scenarios, || {})
}

const SCENARIOS: &[(&str, fn())] = &[
    ("nobody_notices", nobody_notices),
    ("single_binaries", single_binaries),
    ("logged_lines", logged_lines),
    ("supervisor_of_a_dead_scanner", supervisor_of_a_dead_scanner),
    ("dies_meanwhile", dies_meanwhile),
    ("waiting_clients", waiting_clients),
    ("console", console),
    ("again_and_again", again_and_again),
    ("not_while_it_ends", not_while_it_ends),
    ("broken", broken),
    ("killed", killed),
    ("killed_and_broken", killed_and_broken),
    ("under_init", under_init),
];

/// Where the version is that is used.
const BIN: &str = "bin";

fn executable() -> String {
    std::env::var("PERENNIAL").unwrap_or_else(|_| env!("CARGO_BIN_EXE_perennial").to_owned())
}

/// A world whose programs are links to `bin/perennial`, a copy.
fn world() -> World {
    fs::create_dir(BIN).unwrap();
    install(&executable(), "perennial");
    let dir = fs::canonicalize(BIN).unwrap();
    let list = Command::new(dir.join("perennial")).arg("list").output().unwrap().stdout;
    for name in String::from_utf8(list).unwrap().lines() {
        symlink("perennial", dir.join(name)).unwrap();
    }
    let programs = Programs { dir, prefix: "" };
    World::new(programs.clone(), programs)
}

/// Puts a new copy of `source` in the place of `bin/NAME`, as package managers do: beside it, then renamed.
fn install(source: &str, name: &str) -> u64 {
    replace(name, &fs::read(source).unwrap())
}

/// Puts an executable with these bytes in the place of `bin/NAME`. Its inode.
fn replace(name: &str, bytes: &[u8]) -> u64 {
    let new = format!("{BIN}/{name}.new");
    fs::write(&new, bytes).unwrap();
    chmod(&new, 0o755);
    fs::rename(&new, format!("{BIN}/{name}")).unwrap();
    fs::metadata(format!("{BIN}/{name}")).unwrap().ino()
}

/// Which executable a process runs; 0 for none.
fn version(pid: i32) -> u64 {
    fs::metadata(format!("/proc/{pid}/exe")).map_or(0, |meta| meta.ino())
}

fn wait_upgraded(pid: i32, to: u64) {
    until(&format!("{pid} runs the new version"), || version(pid) == to);
}

fn nobody_notices() {
    let w = world();
    let a = w.service("a", "ulimit -Sn >limit; echo >&3; exec sleep 1000");
    a.file("notification-fd", "3");
    let down = w.service("down", SLEEP);
    down.file("down", "");
    let finishing = w.service("finishing", SLEEP);
    finishing.script("finish", "read x <gate").file("timeout-finish", "0");
    mkfifo("scan/finishing/gate");
    w.at("scan/.s6-svscan").script("finish", "exit 7");
    let svscan = w.svscan_after("ulimit -Sn 777;", &["-L", "64", "-t", "60000"]);
    w.ok("svwait", &["-U", "-t", "30000", &a.path]);
    finishing.pid();
    w.ok("svc", &["-wd", "-T", "30000", "-r", &finishing.path]);
    let services = [&a, &down, &finishing];
    let before = services.map(|s| (s.status(), s.read("supervise/death_tally")));
    let (pid, supervisor) = (a.pid(), parent(a.pid()));
    let events = services.map(|s| s.listen());
    let new = install(&executable(), "perennial");
    assert_ne!(version(svscan.pid()), new);
    w.ok("svscanctl", &["--upgrade", "scan"]);
    wait_upgraded(svscan.pid(), new);
    wait_upgraded(supervisor, new);
    // Commands to it wait in its FIFO meanwhile. So does the reader of the readiness of a start.
    w.ok("svc", &["-wU", "-T", "30000", "-u", &down.path]);
    a.wait_supervised();
    let after = services.map(|s| (s.status(), s.read("supervise/death_tally")));
    assert_eq!((before[0].clone(), before[2].clone()), (after[0].clone(), after[2].clone()));
    assert_eq!((a.pid(), parent(pid), parent(supervisor)), (pid, supervisor, svscan.pid()));
    assert_eq!([events[0].heard(), events[2].heard()], ["", ""], "nobody is told anything");
    assert_eq!(a.state().adopted, 0, "its children are still its children");
    // What was going on goes on: a finish script, its end, and the way it ended.
    assert_eq!(finishing.status().flags & 2, 2);
    finishing.file("gate", "\n");
    until("it is up again", || finishing.status().is_up());
    w.ok("svc", &["-wD", "-T", "30000", "-dk", &a.path]);
    assert!([9, 15].contains(&a.status().wait), "whichever came first");
    assert!(is_locked("scan/.s6-svscan/lock"));
    w.ok("svc", &["-wU", "-T", "30000", "-u", &a.path]);
    assert_eq!(a.read("limit"), "777\n", "limits of children are what they were");
    fs::remove_file("scan/finishing/finish").unwrap();
    // What the directory had to say in between is heard, and options are what they were.
    w.service("late", SLEEP).wait_supervised();
    fs::create_dir(format!("scan/{}", "x".repeat(65))).unwrap();
    w.ok("svscanctl", &["-a", "scan"]);
    until("the long name is refused", || svscan.said().contains("longer than 64 bytes"));
    w.ok("svscanctl", &["-t", "scan"]);
    let ran = svscan.end();
    assert_eq!(ran.code, 7, "{ran:?}");
    assert!(!is_alive(supervisor) && !ran.err.contains("warning: unable"), "{ran:?}");
}

/// Each program is an executable of its own.
fn single_binaries() {
    let w = world();
    for (name, source) in
        [("svscan", env!("CARGO_BIN_EXE_svscan")), ("supervise", env!("CARGO_BIN_EXE_supervise"))]
    {
        fs::remove_file(format!("{BIN}/{name}")).unwrap();
        install(source, name);
    }
    let a = w.service("a", SLEEP);
    let svscan = w.svscan(&[]);
    let (pid, supervisor) = (a.pid(), parent(a.pid()));
    let scanner = install(env!("CARGO_BIN_EXE_svscan"), "svscan");
    let new = install(env!("CARGO_BIN_EXE_supervise"), "supervise");
    w.ok("svscanctl", &["--upgrade", "scan"]);
    wait_upgraded(svscan.pid(), scanner);
    // It was a fork of svscan until now.
    wait_upgraded(supervisor, new);
    w.ok("svc", &["-wD", "-T", "30000", "-d", &a.path]);
    assert!(!is_alive(pid));
}

fn logged_lines() {
    let w = world();
    let a = w.service("a", "i=0; while :; do i=$((i+1)); echo $i; sleep 0.001; done");
    let log = w.service("a/log", "exec cat >>all");
    let svscan = w.svscan(&[]);
    let (pid, supervisor) = (a.pid(), parent(a.pid()));
    let count = || log.read("all").lines().count();
    for _ in 0..3 {
        let (new, so_far) = (install(&executable(), "perennial"), count());
        w.ok("svscanctl", &["--upgrade", "scan"]);
        wait_upgraded(svscan.pid(), new);
        wait_upgraded(supervisor, new);
        until("more is logged", || count() > so_far + 20);
    }
    assert_eq!(a.pid(), pid);
    w.ok("svc", &["-wD", "-T", "30000", "-d", &a.path]);
    w.ok("svscanctl", &["-t", "scan"]);
    assert_eq!(svscan.end().code, 0, "the logger sees the end of its input");
    let all = log.read("all");
    let numbers: Vec<usize> = all.lines().map(|line| line.parse().unwrap()).collect();
    assert!(numbers.iter().enumerate().all(|(n, number)| n + 1 == *number), "{numbers:?}");
}

/// The supervisor is nobody's child any more, or another scanner's; it follows all the same.
fn supervisor_of_a_dead_scanner() {
    let w = world();
    let a = w.service("a", SLEEP);
    let mut first = w.svscan(&[]);
    let (pid, supervisor) = (a.pid(), parent(a.pid()));
    kill(first.pid(), Signal::KILL);
    until("the scanner is dead", || !first.is_running());
    let svscan = w.svscan(&[]);
    let new = install(&executable(), "perennial");
    w.ok("svscanctl", &["--upgrade", "scan"]);
    wait_upgraded(svscan.pid(), new);
    wait_upgraded(supervisor, new);
    assert_eq!((a.pid(), parent(pid)), (pid, supervisor));
    w.ok("svc", &["-wD", "-T", "30000", "-d", &a.path]);
    w.ok("svscanctl", &["-t", "scan"]);
    assert_eq!(svscan.end().code, 0);
}

/// Services die all the time while their supervisor becomes another: each death is counted once, with the
/// right end.
fn dies_meanwhile() {
    let w = world();
    let names: Vec<String> = (0..8).map(|n| format!("s{n}")).collect();
    for name in &names {
        w.service(name, "echo >>starts; exec sleep 1000").file("max-death-tally", "4096");
    }
    let svscan = w.svscan(&[]);
    let supervisor = parent(w.at("scan/s0").pid());
    for round in 0..10 {
        let new = install(&executable(), "perennial");
        let pids: Vec<i32> = names.iter().map(|name| w.at(&format!("scan/{name}")).pid()).collect();
        // A shell that is killed before it has said so did start, and nobody knows.
        for name in &names {
            until_eq(round as usize + 1, || w.at(&format!("scan/{name}")).read("starts").lines().count());
        }
        w.ok("svscanctl", &["--upgrade", "scan"]);
        for (n, pid) in pids.iter().enumerate() {
            // Some before, some during, some after.
            std::thread::sleep(std::time::Duration::from_micros(200 * (n as u64 + round % 3)));
            kill(*pid, if n % 2 == 0 { Signal::KILL } else { Signal::TERM });
        }
        wait_upgraded(svscan.pid(), new);
        wait_upgraded(supervisor, new);
        for (n, name) in names.iter().enumerate() {
            let service = w.at(&format!("scan/{name}"));
            until("it is up again", || service.status().is_up() && service.status().pid != pids[n]);
            until_eq(round as usize + 1, || service.deaths().len());
            assert_eq!(service.status().wait, if n % 2 == 0 { 9 } else { 15 });
        }
    }
    for name in &names {
        let service = w.at(&format!("scan/{name}"));
        until(&format!("{name} has started 11 times"), || service.read("starts").lines().count() >= 11);
        assert_eq!(service.read("starts").lines().count(), 11, "{name}: never a second copy");
    }
}

/// Who waits for events, or for rc, waits on.
fn waiting_clients() {
    let w = world();
    let a = w.service("a", "read x <gate; echo >&3; exec sleep 1000");
    a.file("notification-fd", "3");
    mkfifo("scan/a/gate");
    let svscan = w.svscan(&[]);
    let supervisor = parent(a.pid());
    let waiting = w.start("svwait", &["-U", "-t", "60000", &a.path]);
    until_eq(1, || a.listeners());
    let new = install(&executable(), "perennial");
    w.ok("svscanctl", &["--upgrade", "scan"]);
    wait_upgraded(svscan.pid(), new);
    wait_upgraded(supervisor, new);
    a.file("gate", "\n");
    assert_eq!(waiting.end().code, 0, "readiness is seen by the new supervisor");
}

/// The catch-all logger has its console (`-X`) from the new version too.
fn console() {
    let w = world();
    let log = w.service("s6-svscan-log", "echo here >&2; exec sleep 1000");
    let svscan = w.svscan_after("exec 4>console;", &["-X", "4"]);
    let supervisor = parent(log.pid());
    until_eq("here\n".to_owned(), || read("console"));
    let new = install(&executable(), "perennial");
    w.ok("svscanctl", &["--upgrade", "scan"]);
    wait_upgraded(svscan.pid(), new);
    wait_upgraded(supervisor, new);
    w.ok("svc", &["-wr", "-T", "30000", "-r", &log.path]);
    until_eq("here\nhere\n".to_owned(), || read("console"));
}

/// Without a new version nothing changes either; and no descriptor is left over each time.
fn again_and_again() {
    let w = world();
    for n in 0..40 {
        w.service(&format!("s{n}"), SLEEP);
    }
    let svscan = w.svscan(&[]);
    let pids: Vec<i32> = (0..40).map(|n| w.at(&format!("scan/s{n}")).pid()).collect();
    let supervisor = parent(pids[0]);
    let descriptors = |pid: i32| fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    for _ in 0..5 {
        let new = install(&executable(), "perennial");
        w.ok("svscanctl", &["--upgrade", "scan"]);
        wait_upgraded(svscan.pid(), new);
        wait_upgraded(supervisor, new);
        for n in 0..40 {
            w.at(&format!("scan/s{n}")).wait_supervised();
        }
        // The keeper has each control FIFO, once.
        until("descriptors are few again", || descriptors(svscan.pid()) < 40 + 40);
        until("the supervisor's too", || descriptors(supervisor) < 4 * 40 + 60);
    }
    let now: Vec<i32> = (0..40).map(|n| w.at(&format!("scan/s{n}")).pid()).collect();
    assert_eq!(now, pids);
}

fn not_while_it_ends() {
    let w = world();
    let a = w.service("a", "trap '' TERM; touch trapped; read x <gate");
    mkfifo("scan/a/gate");
    let svscan = w.svscan(&[]);
    until("a ignores SIGTERM", || a.has("trapped"));
    w.ok("svscanctl", &["-t", "scan"]);
    let old = version(svscan.pid());
    install(&executable(), "perennial");
    w.ok("svscanctl", &["--upgrade", "scan"]);
    until("it is refused", || svscan.said().contains("unable to upgrade: it is ending"));
    assert_eq!(version(svscan.pid()), old);
    a.file("gate", "\n");
    assert_eq!(svscan.end().code, 0);
}

/// What cannot take over does not: everything goes on as it was, and it is said why.
fn broken() {
    let w = world();
    let a = w.service("a", SLEEP);
    let svscan = w.svscan(&[]);
    let (pid, supervisor) = (a.pid(), parent(a.pid()));
    let old = version(svscan.pid());
    // An executable for another machine: the header says so.
    let mut foreign = fs::read(executable()).unwrap();
    foreign[18..20].copy_from_slice(&[0xf3, 0]);
    let whole = fs::read(executable()).unwrap();
    let cases: [(&str, &[u8], &str); 6] = [
        ("no program at all", b"nonsense", "Exec format error"),
        ("another machine's", &foreign, "Exec format error"),
        ("half a file", &whole[..8192], "bin/"),
        ("it needs what is not there", b"#!/nowhere\n", "No such file or directory"),
        ("another program that succeeds", b"#!/bin/sh\nexit 0\n", "does not work as svscan: exit 0"),
        ("another program that fails", b"#!/bin/sh\nexit 1\n", "does not work as svscan: exit 1"),
    ];
    let upgrade = |what: &str, said: &str| {
        let before = svscan.said().len();
        // The client is none of those that are replaced.
        let sent = Command::new(executable()).args(["svscanctl", "--upgrade", "scan"]).status().unwrap();
        assert!(sent.success());
        until(&format!("it is refused: {what}"), || {
            let all = svscan.said();
            let new = &all[before..];
            new.contains("svscan: warning: unable to upgrade: ") && new.contains("going on as before")
        });
        let said_now = svscan.said()[before..].to_owned();
        assert!(said_now.contains(said), "{what}: {said_now}");
        assert_eq!((version(svscan.pid()), version(supervisor), a.pid()), (old, old, pid), "{what}");
    };
    for (what, bytes, said) in cases {
        replace("perennial", bytes);
        upgrade(what, said);
    }
    fs::remove_file("bin/perennial").unwrap();
    upgrade("it is not there", "there is no executable svscan");
    // Each link of its own is looked at: a supervisor that does not work is found out too.
    let new = install(&executable(), "perennial");
    fs::remove_file("bin/supervise").unwrap();
    replace("supervise", b"#!/bin/sh\nexit 3\n");
    upgrade("half of it works", "does not work as supervise: exit 3");
    fs::remove_file("bin/supervise").unwrap();
    symlink("perennial", "bin/supervise").unwrap();
    w.ok("svscanctl", &["--upgrade", "scan"]);
    wait_upgraded(svscan.pid(), new);
    wait_upgraded(supervisor, new);
    assert_eq!(a.pid(), pid);
    w.ok("svc", &["-wD", "-T", "30000", "-d", &a.path]);
}

fn killed() {
    let w = world();
    let a = w.service("a", SLEEP);
    let svscan = w.svscan(&[]);
    let (pid, supervisor) = (a.pid(), parent(a.pid()));
    let new = install(&executable(), "perennial");
    kill(supervisor, Signal::KILL);
    let successor = || {
        let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", svscan.pid())).unwrap();
        children.split_whitespace().map(|c| c.parse().unwrap()).find(|c| version(*c) == new)
    };
    until("there is one of the new version", || successor().is_some());
    a.wait_supervised();
    assert_eq!(a.pid(), pid);
    w.ok("svc", &["-wD", "-T", "30000", "-d", &a.path]);
    assert_eq!(a.status().wait, 15);
}

/// Nothing usable on disk: the version that runs must do.
fn killed_and_broken() {
    let w = world();
    let a = w.service("a", SLEEP);
    let svscan = w.svscan(&[]);
    let pid = a.pid();
    for bytes in [&b"nonsense"[..], b"#!/bin/sh\nexit 1\n"] {
        replace("perennial", bytes);
        let lock = "scan/.s6-svscan/supervise-lock";
        until("there is a supervisor", || is_locked(lock));
        let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", svscan.pid())).unwrap();
        let is_supervisor = |c: &i32| stat(*c, 3).is_some() && *c != pid;
        let supervisor = children.split_whitespace().map(|c| c.parse().unwrap()).find(is_supervisor).unwrap();
        kill(supervisor, Signal::KILL);
        until("it is dead", || !is_alive(supervisor));
        until("there is another", || is_locked(lock));
        a.wait_supervised();
        assert_eq!(a.pid(), pid);
    }
    assert!(svscan.said().contains("does not stay up: starting the one that we are instead"));
    install(&executable(), "perennial");
    w.ok("svc", &["-wD", "-T", "30000", "-d", &a.path]);
}

/// Below init: svscan and its supervisor become the new version, and pid 1 does not notice either.
fn under_init() {
    if !rustix::process::geteuid().is_root() {
        println!("under_init: skipped: only root makes PID namespaces here");
        return;
    }
    let _w = world();
    fs::create_dir_all("source/web").unwrap();
    fs::create_dir_all("source/user/contents.d").unwrap();
    fs::write("source/user/type", "bundle\n").unwrap();
    fs::write("source/user/contents.d/web", "").unwrap();
    fs::write("source/web/type", "longrun\n").unwrap();
    fs::write("source/web/run", "#!/bin/sh\nexec sleep 1000\n").unwrap();
    fs::set_permissions("source/web/run", fs::Permissions::from_mode(0o755)).unwrap();
    let here = std::env::current_dir().unwrap();
    let script =
        "mount -t proc proc /proc && mount -t tmpfs tmpfs /run && exec bin/init -d $PWD/source sleep 1000";
    let mut command = Command::new("unshare");
    command.args(["-fpm", "--propagation", "private", "sh", "-c", script]).stdin(Stdio::null());
    let container = Running::new(command, "init".to_owned());
    let children = |pid: i32| -> Vec<i32> {
        let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        text.split_whitespace().map(|c| c.parse().unwrap()).collect()
    };
    let named = |of: i32, name: &str| {
        children(of)
            .into_iter()
            .find(|pid| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == name))
    };
    until("there is an init", || named(container.pid(), "init").is_some());
    let init = named(container.pid(), "init").unwrap();
    let inside = |words: &str| {
        let out = Command::new("nsenter")
            .args(["-t", &init.to_string(), "-p", "-m", "sh", "-c"])
            .arg(format!("cd {}; {words}", here.display()))
            .output()
            .unwrap();
        (out.status.code().unwrap_or(-1), String::from_utf8_lossy(&out.stdout).into_owned())
    };
    until("web is up", || inside("bin/svstat -u /run/service/web") == (0, "true\n".to_owned()));
    let (_, before) = inside("bin/svstat -p /run/service/web");
    let scanner = named(init, "svscan").unwrap();
    let supervisor = named(scanner, "supervise").unwrap();
    let old = version(init);
    let new = install(&executable(), "perennial");
    assert_eq!(inside("bin/svscanctl --upgrade /run/service").0, 0);
    wait_upgraded(scanner, new);
    wait_upgraded(supervisor, new);
    until("web is supervised", || inside("bin/svok /run/service/web").0 == 0);
    assert_eq!(inside("bin/svstat -p /run/service/web").1, before);
    assert_eq!((version(init), named(init, "svscan")), (old, Some(scanner)), "pid 1 stays what it is");
    // The next one that is killed is replaced from disk, by the old pid 1.
    let newer = install(&executable(), "perennial");
    kill(scanner, Signal::KILL);
    until("there is a new scanner", || named(init, "svscan").is_some_and(|pid| version(pid) == newer));
    assert_eq!(inside("bin/svstat -p /run/service/web").1, before);
    let asked = Instant::now();
    kill(init, Signal::TERM);
    assert_eq!(container.end().code, 143, "after {:?}", asked.elapsed());
}
