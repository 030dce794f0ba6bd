//! The files of a service directory that s6 does not have, tried on real programs.
//!
//! `cargo test --test features`, with words after `--` to run only scenarios whose name contains one of them.
//! PERENNIAL names another executable to try than the one just built.

#[path = "support/boot.rs"]
mod boot;
mod support;

use boot::Image;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use rustix::process::Signal;
use std::fs;
use std::process::ExitCode;
use support::runner;
use support::{Programs, Running, SLEEP, Service, World, is_alive, kill, stat, until, until_eq};

fn main() -> ExitCode {
    runner::run_in_worlds("features", SCENARIOS)
}

const SCENARIOS: &[runner::InWorld] = &[
    ("environment", environment),
    ("attributes", attributes),
    ("account", account),
    ("attributes_that_cannot_be", attributes_that_cannot_be),
    ("checked_by_rc", checked_by_rc),
    ("condition", condition),
    ("restart_policy", restart_policy),
    ("restart_delay", restart_delay),
    ("give_up", give_up),
    ("give_up_survives_supervisors", give_up_survives_supervisors),
    ("container_ends_with_it", container_ends_with_it),
    ("container_ends_when_it_is_given_up", container_ends_when_it_is_given_up),
    ("refused_restart", refused_restart),
    ("validate_that_hangs", validate_that_hangs),
    ("fallback", fallback),
    ("asking_is_taken_over", asking_is_taken_over),
    ("refused_restarts_lose_nothing", refused_restarts_lose_nothing),
    ("readiness_by_asking", readiness_by_asking),
    ("not_ready_in_time", not_ready_in_time),
    ("check_is_taken_over", check_is_taken_over),
    ("health", health),
    ("health_of_the_stopped", health_of_the_stopped),
    ("control_group", control_group),
    ("probe", probe),
    ("metrics", metrics),
    ("watch", watch),
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
        (
            "user",
            "nobody-of-that-name\n",
            "user: there is no account nobody-of-that-name in /etc/passwd: add it, or write UID:GID",
        ),
        (
            "limits",
            "nofile 9999999999:99999999999\n",
            "limits: unable to set nofile: Operation not permitted",
        ),
        ("nice", "low\n", "nice: \"low\" is none of the numbers -20 to 19"),
        ("env-file", "PATH\n", "env-file: line 1: there is no = in it: write NAME=value"),
        ("env", "", "env: is not a directory: make it one, with a file for each variable"),
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
    web.file("isolate", "");
    let ran = w.run("rc", &["check", "source"]);
    assert_ne!(ran.code, 0, "{ran:?}");
    for text in [
        "source/web/limits: line 1: \"files\" is no limit: there are cpu,",
        "source/web/umask: \"9\" is no umask: write octal digits, 022 say",
        "source/web/env-file: line 1: there is no = in it",
        "source/web/user: there is no account nobody-of-that-name in /etc/passwd: add it, or write UID:GID",
        "source/web/limit: nobody reads this file: did you mean limits?",
        "source/web/ulimits: nobody reads this file: did you mean limits?",
        "source/web/isolate: nobody reads this file: services of rc have one supervisor, and cannot be isolated",
    ] {
        assert!(ran.out.contains(text), "{text:?} is not said:\n{}", ran.out);
    }
}

// ------------------------------------------------------------------------------------------------ policy

/// Not 0: skipped, and that is no failure. Killed, or in vain: a start that failed.
fn condition(w: &World) {
    let a = w.service("a", SLEEP);
    a.script("condition", "[ -e wanted ]");
    let b = w.service("b", SLEEP);
    b.script("condition", "kill -9 $$");
    let svscan = w.svscan(&[]);
    until_eq(Some("skipped".to_owned()), || a.state().mode);
    assert!(a.status().is_down() && !a.status().wanted() && a.state().failure.is_none());
    let text = "supervise b: warning: unable to start run: condition: signal SIGKILL (retrying in 1 s)";
    until("it is said", || svscan.said().contains(text));
    assert_eq!(w.code("svc", &["-wu", "-T", "30000", "-u", &a.path]), 1, "who waits need not wait");
    a.file("wanted", "");
    w.ok("svc", &["-wu", "-T", "30000", "-u", &a.path]);
    until_eq(None, || a.state().mode);
    assert!(!svscan.said().contains("supervise a"), "{}", svscan.said());
    // A stop takes back a start that is being thought about.
    w.ok("svc", &["-wD", "-T", "30000", "-d", &a.path]);
    a.script("condition", "echo $$ >asked; exec sleep 1000");
    w.ok("svc", &["-u", &a.path]);
    until("it is being asked", || a.read("asked").trim().parse().is_ok_and(is_alive));
    let asked: i32 = a.read("asked").trim().parse().unwrap();
    until_eq(Some("asking".to_owned()), || a.state().mode);
    w.ok("svc", &["-d", &a.path]);
    until("nobody is asked any more", || !is_alive(asked));
    assert!(a.status().is_down());
}

fn restart_policy(w: &World) {
    let clean = w.service("clean", "echo >>lives; exit 0");
    clean.file("restart", "on-failure\n");
    let failing = w.service("failing", "echo >>lives; [ $(wc -l <lives) -ge 2 ] || exit 3");
    failing.file("restart", "on-failure");
    let never = w.service("never", "echo >>lives; exit 3");
    never.file("restart", "never");
    let told = w.service("told", &format!("echo >>lives; {SLEEP}"));
    told.file("restart", "never");
    let _svscan = w.svscan(&[]);
    for (service, lives, wait) in [(&clean, 1, 0), (&failing, 2, 0), (&never, 1, 0x300)] {
        until(&service.path, || service.status().is_down() && !service.status().wanted());
        assert_eq!((service.read("lives").len(), service.status().wait), (lives, wait), "{}", service.path);
        assert_eq!(service.state().cause, None);
    }
    // A restart that somebody asks for is one.
    let first = told.pid();
    w.ok("svc", &["-wr", "-T", "30000", "-t", &told.path]);
    assert_ne!(told.pid(), first);
    until_eq(Some("restarted".to_owned()), || told.state().cause);
    kill(told.pid(), Signal::KILL);
    until("it stays down", || told.status().is_down() && !told.status().wanted());
    w.ok("svc", &["-wu", "-T", "30000", "-u", &told.path]);
    w.ok("svc", &["-wD", "-T", "30000", "-d", &told.path]);
    until_eq(Some("stopped".to_owned()), || told.state().cause);
}

fn restart_delay(w: &World) {
    let a = w.service("a", "date +%s%N >>lives");
    a.file("restart-delay", "40ms 300ms\n");
    let _svscan = w.svscan(&[]);
    until("it has lived often", || a.read("lives").lines().count() >= 6);
    let lives: Vec<u64> = a.read("lives").lines().map(|line| line.parse().unwrap()).collect();
    let pauses: Vec<u64> = lives.windows(2).map(|pair| (pair[1] - pair[0]) / 1_000_000).collect();
    for (pause, least) in pauses.iter().zip([30, 60, 120, 225, 225]) {
        assert!(*pause >= least, "{pauses:?}");
    }
}

fn give_up(w: &World) {
    let a = w.service("a", "echo >>lives; exit 7");
    a.file("restart-delay", "10ms").file("give-up", "3 1m").file("down", "");
    let b = w.service("b", SLEEP);
    b.file("restart-delay", "10ms").file("give-up", "2 1m").file("user", "nobody-of-that-name");
    let svscan = w.svscan(&[]);
    let events = a.listen();
    w.ok("svc", &["-u", &a.path]);
    events.expect("udDudDudOD");
    assert_eq!(a.read("lives").len(), 3);
    until_eq(Some("gave-up".to_owned()), || a.state().mode);
    until("it is said", || {
        svscan
            .said()
            .contains("supervise a: warning: ended 3 times in too short a time (give-up): not started again")
    });
    // What cannot be started counts too.
    until_eq(Some("gave-up".to_owned()), || b.state().mode);
    assert!(!b.status().wanted());
    // A person may try, and it is the fourth time; a reset begins anew.
    w.ok("svc", &["-wu", "-T", "30000", "-u", &a.path]);
    events.expect("udDudDudODudOD");
    w.ok("svc", &["--reset", "-u", &a.path]);
    until_eq(7, || a.read("lives").len());
    until_eq(3, || a.state().deaths);
}

/// What was counted is counted, and no death counts twice, whoever is killed between.
fn give_up_survives_supervisors(w: &World) {
    let a = w.service("a", &format!("echo >>lives; {SLEEP}"));
    a.file("give-up", "4 10m").file("restart-delay", "10ms");
    let svscan = w.svscan(&[]);
    for lives in 1..4 {
        until_eq(lives, || a.read("lives").len());
        let pid = a.pid();
        svscan.kill_supervisor(&[&a]);
        assert_eq!(a.pid(), pid);
        kill(pid, Signal::KILL);
    }
    until_eq(4, || a.read("lives").len());
    kill(a.pid(), Signal::KILL);
    until_eq(Some("gave-up".to_owned()), || a.state().mode);
    assert_eq!(a.read("lives").len(), 4);
}

/// `on-exit`: the container's code is the service's; a stop or restart that somebody asks for does not count.
fn container_ends_with_it(_: &World) {
    for (run, code, how) in [("exit 7", 7, "exit 7"), ("kill -9 $$", 137, "signal SIGKILL")] {
        let Some(image) = Image::new() else { return };
        let run = format!("echo >>/run/lives; [ $(wc -l </run/lives) -ge 3 ] || exec sleep 1000; {run}");
        let image = image.longrun("web", &run, &[]).file("web/on-exit", "stop-container\n");
        let image = image.longrun("other", SLEEP, &[]).script("web/finish", "echo finish $1 $2");
        let container = image.boot(&[]);
        container.wait_for("2 services up in ");
        let shown = container.shows(
            "lives() { until [ $(wc -l </run/lives) = $1 ]; do sleep 0.01; done; }
             lives 1; svc -wr -T 30000 -t /run/service/web; lives 2; svc -wD -d /run/service/web",
        );
        assert_eq!(shown, "");
        container.inside("svc -u /run/service/web");
        let ended = container.end();
        ended.exits(code).says(&format!("stopping: service web ended: {how}")).says("finish ");
    }
}

/// It may be something that cannot even be started.
fn container_ends_when_it_is_given_up(_: &World) {
    let Some(image) = Image::new() else { return };
    let image = image.longrun("web", "exit 7", &[]).file("web/give-up", "2 1m");
    let image = image.file("web/on-give-up", "stop-container").file("web/restart-delay", "10ms");
    let ended = image.run(&[]);
    ended
        .exits(7)
        .says("ended 2 times in too short a time (give-up)")
        .says("stopping: service web ended: exit 7");
    let Some(image) = Image::new() else { return };
    let image = image
        .longrun("web", "exit 7", &[])
        .file("web/give-up", "2 1m")
        .file("web/on-give-up", "stop-container");
    let image = image.file("web/restart-delay", "10ms").script("web/validate", "echo no good; exit 1");
    image.run(&[]).exits(127).says("validate failed: no good");
}

// ------------------------------------------------------------------------------------------------ validate

/// The heart of it: a bad configuration does not cost a running service.
fn refused_restart(w: &World) {
    let a = w.service("a", &format!("echo $MODE >mode; {SLEEP}"));
    a.script(
        "validate",
        "echo $MODE >asked; echo all read; [ -e good ] || { echo 'line 3: no such colour' >&2; exit 1; }",
    );
    a.file("env/MODE", "production").file("good", "");
    let svscan = w.svscan(&[]);
    let pid = a.pid();
    until("it runs", || a.read("mode") == "production\n");
    assert_eq!(a.read("asked"), "production\n", "in the service's environment");
    w.ok("svc", &["--validate", &a.path]);
    fs::remove_file("scan/a/good").unwrap();
    let events = a.listen();
    for args in [&["-wr", "-T", "30000", "-t"][..], &["-wR", "-T", "30000", "-r"]] {
        let ran = w.run("svc", &[args, &[&*a.path]].concat());
        let text = "svc: fatal: scan/a: validate failed: line 3: no such colour (not restarted; --force restarts it \
                    nevertheless)\n";
        assert_eq!(ran.code, 1, "{ran:?}");
        assert!(ran.err.ends_with(text), "{ran:?}");
        assert_eq!((a.pid(), a.status().wanted()), (pid, true));
    }
    events.expect("VV");
    assert_eq!(a.state().refused.unwrap().1, "line 3: no such colour");
    let said = svscan.said();
    assert!(
        said.contains("supervise a: warning: validate failed: line 3: no such colour: not restarted"),
        "{said}"
    );
    let ran = w.run("svc", &["--validate", &a.path]);
    assert_eq!((ran.code, ran.err.contains("validate failed: line 3: no such colour")), (1, true), "{ran:?}");
    let shown = w.run("svstat", &[&a.path]).out;
    assert!(shown.contains("validate failed 0 seconds ago: line 3: no such colour"), "{shown}");
    // Another supervisor knows it too.
    let refused = a.state().refused.unwrap();
    svscan.kill_supervisor(&[&a]);
    until_eq(Some(refused), || a.state().refused);
    // By force, or when it is good again.
    w.ok("svc", &["-wr", "-T", "30000", "--force", "-t", &a.path]);
    assert_ne!(a.pid(), pid);
    assert!(a.state().refused.is_some(), "nobody has said that it is good");
    a.file("good", "");
    let pid = a.pid();
    w.ok("svc", &["-wr", "-T", "30000", "-t", &a.path]);
    assert_ne!(a.pid(), pid);
    until_eq(None, || a.state().refused);
    // Other commands are obeyed at once.
    fs::remove_file("scan/a/good").unwrap();
    w.ok("svc", &["-wD", "-T", "30000", "-d", &a.path]);
    let b = w.service_at("plain", SLEEP);
    assert_eq!(w.code("svc", &["--validate", &b.path]), 100, "there is nothing to ask");
}

/// It is killed, with all that it started, and that is a no. Meanwhile the service may be stopped.
fn validate_that_hangs(w: &World) {
    let a = w.service("a", SLEEP);
    let _svscan = w.svscan(&[]);
    let pid = a.pid();
    a.script("validate", "sleep 1000 & echo $! >child; echo thinking; wait")
        .file("timeout-validate", "300ms\n");
    let ran = w.run("svc", &["-wr", "-T", "30000", "-t", &a.path]);
    assert!(ran.code == 1 && ran.err.contains("validate failed: no answer within 300 ms"), "{ran:?}");
    assert_eq!(a.pid(), pid);
    let child: i32 = a.read("child").trim().parse().unwrap();
    until("what it started is gone too", || !is_alive(child));
    a.file("timeout-validate", "1h");
    fs::remove_file("scan/a/child").unwrap();
    w.ok("svc", &["-t", &a.path]);
    until("it is being asked", || !a.read("child").is_empty());
    w.ok("svc", &["-wD", "-T", "30000", "-d", &a.path]);
    let child: i32 = a.read("child").trim().parse().unwrap();
    until("nobody is asked about who is gone", || !is_alive(child));
}

fn fallback(w: &World) {
    let a = w.service("a", &format!("echo run >what; {SLEEP}"));
    a.script("fallback", &format!("echo fallback >what; {SLEEP}"));
    a.script("validate", "[ -e good ] || { echo broken; exit 2; }");
    let b = w.service("b", SLEEP);
    b.script("validate", "echo broken too; exit 1");
    let svscan = w.svscan(&[]);
    until("fallback runs", || a.read("what") == "fallback\n");
    until_eq(Some("fallback".to_owned()), || a.state().mode);
    assert!(svscan.said().contains("supervise a: warning: validate failed: broken: starting fallback"));
    let shown = w.run("svstat", &[&a.path]).out;
    assert!(shown.contains(", fallback"), "{shown}");
    // Without one it is a failed start.
    until("b is not started", || {
        svscan.said().contains("supervise b: warning: validate failed: broken too (retrying in 1 s)")
    });
    assert!(b.status().is_down() && b.status().wanted());
    // The next good restart leaves it.
    a.file("good", "");
    svscan.kill_supervisor(&[&a, &b]);
    assert_eq!(a.state().mode.as_deref(), Some("fallback"));
    w.ok("svc", &["-wr", "-T", "30000", "-t", &a.path]);
    until("run runs", || a.read("what") == "run\n");
    until_eq(None, || a.state().mode);
}

/// Supervise is killed while a program is being asked: it is asked again, by one only, and the answer counts.
fn asking_is_taken_over(w: &World) {
    let a = w.service("a", SLEEP);
    let asking = "echo $$ >>asked; while [ ! -e go ]; do sleep 0.01; done; [ -e good ]";
    let b = w.service("b", SLEEP);
    b.script("condition", asking);
    let svscan = w.svscan(&[]);
    let pid = a.pid();
    a.script("validate", asking).file("timeout-validate", "5m");
    w.ok("svc", &["-t", &a.path]);
    for round in 1..4 {
        for service in [&a, &b] {
            let asked = || service.read("asked").lines().map(|l| l.parse().unwrap()).collect::<Vec<i32>>();
            until("it is being asked", || asked().len() >= round);
            until("by one only", || asked().iter().filter(|pid| is_alive(**pid)).count() == 1);
        }
        svscan.kill_supervisor(&[&a, &b]);
        assert_eq!(a.pid(), pid);
    }
    a.file("good", "").file("go", "");
    b.file("good", "").file("go", "");
    until("it is restarted", || a.status().is_up() && a.pid() != pid);
    until("it is up", || b.status().is_up());
    until_eq(1, || a.deaths().len());
}

/// Whatever is asked for in whatever order, and whoever is killed: while `validate` says no, a service that is up
/// and not told to go down stays what it is.
fn refused_restarts_lose_nothing(w: &World) {
    let a = w.service("a", SLEEP);
    a.script(
        "validate",
        "echo $$ >asked; case $(cat mood) in good) ;; hangs) exec sleep 1000;; dies) kill -9 $$;;
         slow) sleep 0.0$(($$ % 5)); exit 1;; *) exit 1;; esac",
    );
    a.file("mood", "good").file("timeout-validate", "50ms");
    let svscan = w.svscan(&[]);
    let pid = a.pid();
    let option = ["-t", "-r", "-tu", "-rt", "-u", "--validate", "-U", "-h2"];
    // One that listens to what is no end for it.
    a.script("run", &format!("trap '' HUP USR2; {SLEEP}"));
    w.ok("svc", &["-wr", "-T", "30000", "-t", &a.path]);
    let pid = if a.pid() == pid { panic!("it was restarted") } else { a.pid() };
    let (lives, deaths) = (a.state().starts, a.deaths().len());
    let step = prop_oneof![
        8 => prop::sample::select(option.to_vec()).prop_map(|option| ("svc", option)),
        3 => prop::sample::select(vec!["no", "slow", "hangs", "dies"]).prop_map(|mood| ("mood", mood)),
        2 => Just(("kill", "validate")),
        1 => Just(("kill", "supervise")),
    ];
    let mut runner = TestRunner::new(Config { cases: 16, failure_persistence: None, ..Config::default() });
    let outcome = runner.run(&prop::collection::vec(step, 1..8), |steps| {
        a.file("mood", "no");
        for step in steps {
            match step {
                ("svc", option) => drop(w.run("svc", &[option, &a.path])),
                ("mood", mood) => drop(a.file("mood", mood)),
                (_, "validate") => {
                    let asked = a.read("asked").trim().parse().unwrap_or(0);
                    let is_it = |line: String| line.contains("validate") || line.contains("sleep");
                    if asked > 1 && fs::read_to_string(format!("/proc/{asked}/cmdline")).is_ok_and(is_it) {
                        kill(asked, Signal::KILL);
                    }
                }
                _ => svscan.kill_supervisor(&[&a]),
            }
            prop_assert_eq!(a.status().pid, pid);
        }
        let ran = w.run("svc", &["-wr", "-T", "30000", "-t", &a.path]);
        prop_assert_eq!(ran.code, 1, "{:?}", ran);
        prop_assert!(a.status().pid == pid && is_alive(pid));
        prop_assert_eq!((a.state().starts, a.deaths().len()), (lives, deaths));
        Ok(())
    });
    outcome.unwrap();
}

// ------------------------------------------------------------------------------------------------ readiness, liveness

/// `check` is asked until it says yes, and no longer; that is the same as a newline.
fn readiness_by_asking(w: &World) {
    let a = w.service("a", SLEEP);
    a.script("check", "echo $MODE >>asked; [ -e ready ]")
        .file("check-interval", "30ms")
        .file("env/MODE", "x");
    let _svscan = w.svscan(&[]);
    a.pid();
    let events = a.listen();
    until("it is asked often", || a.read("asked").lines().count() > 5);
    assert!(a.status().is_up() && a.status().flags & 8 == 0);
    assert_eq!(w.code("svc", &["-wU", "-T", "50", &a.path]), 99);
    a.file("ready", "");
    events.expect("U");
    w.ok("svc", &["-wU", "-T", "30000", &a.path]);
    let asked = a.read("asked").lines().count();
    assert!(a.read("asked").lines().all(|line| line == "x"), "in the service's environment");
    // One that hangs is killed, and one that cannot be executed says no.
    let b = w.service_at("b", SLEEP);
    b.script("check", "echo >>asked; [ -e ready ] || exec sleep 1000").file("timeout-check", "50ms");
    let supervise = w.supervise(&b);
    until("it is asked again", || b.read("asked").len() > 2);
    b.file("ready", "");
    w.ok("svc", &["-wU", "-T", "30000", &b.path]);
    assert_eq!(a.read("asked").lines().count(), asked, "nobody asks any more");
    w.ok("svc", &["-wR", "-T", "30000", "-r", &b.path]);
    w.ok("svc", &["-dx", &b.path]);
    assert_eq!(supervise.end().code, 0);
}

/// `timeout-up`: it is ended and started again, and `give-up` counts that.
fn not_ready_in_time(w: &World) {
    let a = w.service("a", &format!("echo >>lives; {SLEEP}"));
    a.script("check", "exit 1")
        .file("timeout-up", "200ms")
        .file("give-up", "2 1m")
        .file("restart-delay", "10ms");
    let svscan = w.svscan(&[]);
    until_eq(Some("gave-up".to_owned()), || a.state().mode);
    assert_eq!(a.read("lives").len(), 2);
    assert_eq!(a.state().cause.as_deref(), Some("not-ready"));
    assert!(svscan.said().contains("supervise a: warning: not ready within 200 ms (timeout-up): ended"));
}

fn check_is_taken_over(w: &World) {
    let a = w.service("a", SLEEP);
    a.script("check", "echo $$ >>asked; while [ ! -e go ]; do sleep 0.01; done").file("timeout-check", "1h");
    let svscan = w.svscan(&[]);
    let pid = a.pid();
    let asked = || a.read("asked").lines().map(|line| line.parse().unwrap()).collect::<Vec<i32>>();
    for round in 1..4 {
        until("it is being asked", || asked().len() >= round);
        until("by one only", || asked().iter().filter(|pid| is_alive(**pid)).count() == 1);
        svscan.kill_supervisor(&[&a]);
    }
    a.file("go", "");
    w.ok("svc", &["-wU", "-T", "30000", &a.path]);
    assert_eq!(a.pid(), pid);
}

/// So many times no, and it is started again; fewer are forgotten. A takeover forgets none.
fn health(w: &World) {
    let a = w.service("a", &format!("touch well; {SLEEP}"));
    a.script("health", "echo >>asked; [ -e well ] || { echo pale; exit 1; }");
    a.file("health-interval", "30ms").file("health-retries", "3");
    let svscan = w.svscan(&[]);
    let pid = a.pid();
    let events = a.listen();
    until("it is asked", || a.read("asked").len() > 2);
    svscan.kill_supervisor(&[&a]);
    let asked = a.read("asked").len();
    until("it is asked again", || a.read("asked").len() > asked + 1);
    assert_eq!(a.pid(), pid);
    fs::remove_file("scan/a/well").unwrap();
    events.expect("dDu");
    until_eq(Some("health".to_owned()), || a.state().cause);
    let said = svscan.said();
    assert!(said.contains("supervise a: warning: health failed: pale\n"), "{said}");
    assert!(said.contains("supervise a: warning: health failed 3 times: pale: ended\n"), "{said}");
    until_eq(None, || a.state().unwell);
    // Long in between, what it says is shown.
    a.file("health-interval", "1h").file("health-retries", "3");
    let b = w.service_at("b", SLEEP);
    b.script("health", "echo pale; exit 1").file("health-interval", "50ms").file("health-retries", "1000");
    let _supervise = w.supervise(&b);
    until("it is unwell", || b.state().unwell.is_some_and(|(times, why)| times > 2 && why == "pale"));
    let shown = w.run("svstat", &[&b.path]).out;
    assert!(shown.contains(" times: pale"), "{shown}");
}

/// A stop ends a question with the service, and asks no other.
fn health_of_the_stopped(w: &World) {
    let a = w.service("a", SLEEP);
    a.script("health", "echo $$ >asked; exec sleep 1000")
        .file("health-interval", "20ms")
        .file("health-timeout", "1h");
    let _svscan = w.svscan(&[]);
    until("it is asked", || a.read("asked").trim().parse().is_ok_and(is_alive));
    w.ok("svc", &["-wD", "-T", "30000", "-d", &a.path]);
    let asked: i32 = a.read("asked").trim().parse().unwrap();
    until("nobody is asked", || !is_alive(asked));
}

// ------------------------------------------------------------------------------------------------ who may, who asks

/// Its members may control, see and listen; also after everything was made anew.
fn control_group(w: &World) {
    let a = w.service("a", SLEEP);
    a.file("control-group", "4711\n");
    let b = w.service("b", SLEEP);
    b.file("control-group", "4712").file("down", "");
    let svscan = w.svscan(&[]);
    let groups = |service: &Service| {
        let of = |name: &str| {
            let path = format!("{}/{name}", service.path);
            (support::mode(&path), std::os::unix::fs::MetadataExt::gid(&fs::metadata(path).unwrap()))
        };
        ["supervise", "supervise/control", "event"].map(of)
    };
    let let_in = |gid| [(0o710, gid), (0o620, gid), (0o3730, gid)];
    if !rustix::process::geteuid().is_root() {
        let text = "control-group: unable to let it in: Operation not permitted";
        return until("it is said", || svscan.said().contains(text));
    }
    until_eq(let_in(4711), || groups(&a));
    until_eq(let_in(4712), || groups(&b));
    // A control FIFO that was damaged.
    fs::remove_file("scan/b/supervise/control").unwrap();
    w.ok("svscanctl", &["-a", "scan"]);
    until("it is there again", || b.has("supervise/control"));
    until_eq(let_in(4712), || groups(&b));
    svscan.kill_supervisor(&[&a, &b]);
    support::chmod("scan/a/supervise", 0o700);
    w.ok("svc", &["-wr", "-T", "30000", "-r", &a.path]);
    assert_eq!(groups(&a), let_in(4711));
    // Who is in the group may.
    let above: Vec<_> = w.base.ancestors().take(2).collect();
    above.iter().for_each(|path| support::chmod(path.to_str().unwrap(), 0o755));
    let as_member = |gid: &str, arguments: &str| {
        let mut command = std::process::Command::new("setpriv");
        let script = format!("{} {arguments}", w.client("svc"));
        command.args(["--reuid", "4000", "--regid", gid, "--clear-groups", "sh", "-c", &script]);
        Running::new(command, script).end()
    };
    let ran = as_member("4711", "-wD -T 30000 -d scan/a");
    assert!(ran.code == 0 || ran.err.contains("setpriv"), "{ran:?}");
    assert_ne!(as_member("4712", "-u scan/a").code, 0);
    // A group that is not there.
    let c = w.service("c", SLEEP);
    c.file("control-group", "no-such-group");
    w.ok("svscanctl", &["-a", "scan"]);
    let text = "supervise c: warning: unable to start run: control-group: there is no group no-such-group in /etc/group";
    until("it is said", || svscan.said().contains(text));
}

/// Up, ready, well: 0. What is not is said, and makes it 1.
fn probe(w: &World) {
    let a = w.service("a", SLEEP);
    a.script("check", "[ -e ready ]").script("health", "[ -e well ] || { echo pale; exit 1; }");
    a.file("check-interval", "20ms")
        .file("health-interval", "20ms")
        .file("health-retries", "1000")
        .file("well", "");
    let idle = w.service("idle", SLEEP);
    idle.file("down", "");
    let _svscan = w.svscan(&[]);
    let probe = |names: &[&str]| {
        let ran = w.run("svstat", &[&["-S", "scan", "--probe"], names].concat());
        (ran.code, ran.out)
    };
    a.pid();
    assert_eq!(probe(&[]), (1, "a: not ready\n".to_owned()));
    a.file("ready", "");
    until_eq((0, String::new()), || probe(&[]));
    assert_eq!(probe(&["a"]), (0, String::new()));
    assert_eq!(probe(&["a", "idle"]), (1, "idle: down\n".to_owned()), "what is named is to be up");
    let (code, out) = probe(&["missing"]);
    assert!(code == 1 && out.contains("missing"), "{out}");
    fs::remove_file("scan/a/well").unwrap();
    until("it is unwell", || probe(&["a"]).1.starts_with("a: health failed "));
    a.file("well", "");
    until_eq((0, String::new()), || probe(&[]));
    w.ok("svc", &["-wD", "-T", "30000", "-d", &a.path]);
    assert_eq!(probe(&[]), (0, String::new()), "nobody wants it up");
}

fn metrics(w: &World) {
    let a = w.service("a", SLEEP);
    w.service("idle", SLEEP).file("down", "");
    let _svscan = w.svscan(&[]);
    kill(a.pid(), Signal::KILL);
    until_eq(1, || a.state().deaths);
    until("it is up again", || a.status().is_up() && a.state().starts == 2);
    let text = w.ok("svstat", &["-S", "scan", "--metrics"]);
    for line in [
        "perennial_service_up{service=\"a\"} 1",
        "perennial_service_up{service=\"idle\"} 0",
        "perennial_service_restarts_total{service=\"a\"} 1",
        "perennial_service_deaths_total{service=\"a\"} 1",
        "# EOF",
    ] {
        assert!(text.lines().any(|l| l == line), "{line:?} is missing:\n{text}");
    }
    let memory = text.lines().find_map(|l| l.strip_prefix("perennial_service_memory_bytes{service=\"a\"} "));
    assert!(memory.is_some_and(|bytes| bytes.parse::<u64>().unwrap() > 4096), "{text}");
    assert!(!text.contains("memory_bytes{service=\"idle\"}"), "what does not run uses nothing");
}

/// Not on a terminal: the table, and then a line for each change.
fn watch(w: &World) {
    let a = w.service("a", SLEEP);
    let _svscan = w.svscan(&[]);
    a.pid();
    let mut command =
        w.command(&Programs { dir: runner::shared_dir().join("programs"), prefix: "" }, "svstat");
    let out = fs::File::create("watched").unwrap();
    let mut child = command.args(["-S", "scan", "--watch"]).stdout(out).spawn().unwrap();
    let watched = || support::read("watched");
    until("the table is there", || watched().starts_with("name "));
    w.ok("svc", &["-wD", "-T", "30000", "-d", &a.path]);
    until("the stop is told", || watched().lines().any(|l| l.starts_with("a: down (signal SIGTERM)")));
    w.ok("svc", &["-wu", "-T", "30000", "-u", &a.path]);
    until("the start is told", || watched().lines().filter(|l| l.starts_with("a: up (pid ")).count() >= 1);
    child.kill().unwrap();
    child.wait().unwrap();
}
