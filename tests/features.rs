//! The files of a service directory that s6 does not have, tried on real programs.
//!
//! `cargo test --test features`, with words after `--` to run only scenarios whose name contains one of them.
//! PERENNIAL names another executable to try than the one just built.

mod support;

use std::fs;
use std::process::ExitCode;
use support::runner::{self, Scenario};
use support::{Programs, SLEEP, World, stat, until};

fn main() -> ExitCode {
    let executable =
        std::env::var("PERENNIAL").unwrap_or_else(|_| env!("CARGO_BIN_EXE_perennial").to_owned());
    let programs = || Programs { dir: runner::shared_dir().join("programs"), prefix: "" };
    let scenarios: Vec<Scenario<'_>> = SCENARIOS
        .iter()
        .map(|(name, scenario)| Scenario::new(*name, move || scenario(&World::new(programs(), programs()))))
        .collect();
    runner::run("features", &scenarios, || drop(Programs::link(&executable, programs().dir, "")))
}

type Entry = (&'static str, fn(&World));

const SCENARIOS: &[Entry] = &[
    ("environment", environment),
    ("attributes", attributes),
    ("account", account),
    ("attributes_that_cannot_be", attributes_that_cannot_be),
    ("checked_by_rc", checked_by_rc),
];

// ------------------------------------------------------------------------------------------------ what run is given

/// `env-file`, and `env/` over it, for run alone.
fn environment(w: &World) {
    let a = w.service("a", &format!("env >said; {SLEEP}"));
    a.file("env-file", "# settings\nMODE=file\nQUOTED=\"two  words\"\nBASE=elsewhere\n");
    a.file("env/MODE", "directory\n").file("env/LINES", "one\0two\n").file("env/BASE", "");
    a.script("finish", "env >finish-said");
    let b = w.service("b", &format!("env >said; {SLEEP}"));
    let _svscan = w.svscan(&[]);
    until("both have said it", || a.read("said").contains("PATH=") && b.read("said").contains("PATH="));
    let said = a.read("said");
    for line in ["MODE=directory\n", "QUOTED=two  words\n", "LINES=one\ntwo\n"] {
        assert!(said.contains(line), "{line:?} is missing:\n{said}");
    }
    assert!(!said.contains("BASE="), "an empty file takes a variable away");
    assert!(b.read("said").contains("BASE=") && !b.read("said").contains("MODE="));
    w.ok("svc", &["-wD", "-T", "30000", "-d", &a.path]);
    assert!(!a.read("finish-said").contains("MODE="), "finish is not run");
    // A change counts from the next start on.
    a.file("env/MODE", "changed");
    w.ok("svc", &["-wu", "-T", "30000", "-u", &a.path]);
    until("it says the new value", || a.read("said").contains("MODE=changed\n"));
}

fn attributes(w: &World) {
    let a = w.service("a", &format!("umask >umask; touch complete; {SLEEP}"));
    a.file("umask", "027\n").file("nice", "7\n").file("oom-score", "500\n");
    a.file("limits", "nofile 100:200\ncore 0\nas unlimited\n");
    let _svscan = w.svscan(&[]);
    until("it is up", || a.has("complete"));
    let pid = a.pid();
    assert_eq!(a.read("umask").trim().trim_start_matches('0'), "27");
    assert_eq!(stat(pid, 19).unwrap(), "7");
    assert_eq!(fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap(), "500\n");
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let limit = |name: &str| {
        let line = limits.lines().find(|line| line.starts_with(name)).unwrap();
        line[name.len()..].split_whitespace().take(2).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(limit("Max open files"), "100 200");
    assert_eq!(limit("Max core file size"), "0 0");
    assert_eq!(limit("Max address space"), "unlimited unlimited");
}

/// Needs root; without it the same service says so.
fn account(w: &World) {
    let root = rustix::process::geteuid().is_root();
    let a = w.service("a", &format!("id >said; env >environment; touch complete; {SLEEP}"));
    a.file("user", "4711:4712\n").file("env/SHELL", "/bin/false");
    let open = |path: &str| support::chmod(path, 0o777);
    let above: Vec<_> = w.base.ancestors().take(2).collect();
    if !root {
        let svscan = w.svscan(&[]);
        let text =
            "supervise a: warning: unable to start run: user: unable to become it: Operation not permitted";
        until("it is said", || svscan.said().contains(text));
        return;
    }
    ["scan", "scan/a"].iter().for_each(|path| open(path));
    above.iter().for_each(|path| support::chmod(path.to_str().unwrap(), 0o755));
    let _svscan = w.svscan(&[]);
    until("it is up", || a.has("complete"));
    let said = a.read("said");
    assert!(said.contains("uid=4711") && said.contains("gid=4712"), "{said}");
    assert!(!said.contains("=0("), "no group of root is left: {said}");
    let environment = a.read("environment");
    assert!(environment.contains("HOME=/\n") && environment.contains("SHELL=/bin/false\n"), "{environment}");
    assert!(!environment.contains("USER="), "{environment}");
    let status = fs::read_to_string(format!("/proc/{}/status", a.pid())).unwrap();
    assert!(status.contains("Uid:\t4711\t4711\t4711\t4711\n"), "{status}");
    assert!(status.contains("CapEff:\t0000000000000000\n"), "{status}");
    // A command reaches it as before.
    w.ok("svc", &["-wD", "-T", "30000", "-d", &a.path]);
}

/// A wrong file is named, run is not started, and a better file is seen.
fn attributes_that_cannot_be(w: &World) {
    let a = w.service("a", SLEEP);
    let svscan = w.svscan(&[]);
    w.ok("svc", &["-wD", "-T", "30000", "-d", &a.path]);
    for (file, text, message) in [
        ("user", "nobody-of-that-name\n", "user: there is no account nobody-of-that-name in /etc/passwd"),
        (
            "limits",
            "nofile 9999999999:99999999999\n",
            "limits: unable to set nofile: Operation not permitted",
        ),
        ("nice", "low\n", "nice: \"low\" is none of the numbers -20 to 19"),
        ("env-file", "PATH\n", "env-file: line 1: there is no = in it: write NAME=value"),
        ("env", "", "env: is not a directory"),
    ] {
        a.file(file, text);
        w.ok("svc", &["-u", &a.path]);
        let line = format!("supervise a: warning: unable to start run: {message} (retrying in 1 s)");
        until(&format!("{line:?} is said"), || svscan.said().contains(&line));
        until("the status says it too", || a.state().failure.is_some_and(|f| f.contains(message)));
        assert!(a.status().is_down());
        fs::remove_file(format!("{}/{file}", a.path)).unwrap();
        w.ok("svc", &["-wu", "-T", "30000", "-u", &a.path]);
        w.ok("svc", &["-wD", "-T", "30000", "-d", &a.path]);
    }
}

/// The same files are in rc's definitions, and what is wrong with them is found before anything is started.
fn checked_by_rc(w: &World) {
    let web = w.service_at("source/web", SLEEP);
    web.file("type", "longrun\n").file("limits", "files 5\n").file("umask", "9").file("env-file", "A\n");
    web.file("user", "nobody-of-that-name").file("ulimits", "").file("limit", "");
    let ran = w.run("rc", &["check", "source"]);
    assert_ne!(ran.code, 0, "{ran:?}");
    for text in [
        "source/web/limits: line 1: \"files\" is no limit: there are cpu,",
        "source/web/umask: \"9\" is no umask: write octal digits, 022 say",
        "source/web/env-file: line 1: there is no = in it",
        "source/web/user: there is no account nobody-of-that-name in /etc/passwd: without it the service does not",
        "source/web/limit: nobody reads this file: did you mean limits?",
        "source/web/ulimits: nobody reads this file: did you mean limits?",
    ] {
        assert!(ran.out.contains(text), "{text:?} is not said:\n{}", ran.out);
    }
}
