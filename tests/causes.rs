//! Why a service ended, and who asked for it: in the status, the state, JSON and words.

mod support;

use rustix::process::Signal;
use std::fs;
use std::process::ExitCode;
use support::runner;
use support::{SLEEP, World, kill, until, until_eq};

fn main() -> ExitCode {
    runner::run_in_worlds("causes", SCENARIOS)
}

const SCENARIOS: &[runner::InWorld] = &[
    ("who_asked", who_asked),
    ("who_asked_rc", who_asked_rc),
    ("nobody_asked", nobody_asked),
    ("memory_ran_out", memory_ran_out),
];

/// `svc` says who it is and who runs it; what is written by others says nothing; and a successor knows it too.
fn who_asked(w: &World) {
    let a = w.service("a", SLEEP);
    let svscan = w.svscan(&[]);
    let own = std::process::id();
    let comm = fs::read_to_string("/proc/self/comm").unwrap();
    let by_us = |by: &str| {
        by.starts_with("svc (pid ") && by.ends_with(&format!(", run by {} (pid {own})", comm.trim()))
    };
    for (option, cause) in [("-d", "stopped"), ("-t", "restarted"), ("-k", "restarted"), ("-r", "restarted")]
    {
        w.ok("svc", &["-wu", "-T", "30000", "-u", &a.path]);
        let deaths = a.deaths().len();
        w.ok("svc", &[option, &a.path]);
        until("it has ended", || a.deaths().len() > deaths);
        until_eq(Some(cause.to_owned()), || a.state().cause);
        assert!(by_us(&a.state().by.unwrap()), "{:?}", a.state());
    }
    let json = w.ok("svstat", &["--json", &a.path]);
    assert!(json.contains(&format!(r#"run by {} (pid {own})""#, comm.trim())), "{json}");
    // A successor has it from the state.
    w.ok("svc", &["-wu", "-T", "30000", "-u", &a.path]);
    let (old, said) = (svscan.supervisor(), a.state().by);
    kill(old, Signal::KILL);
    until("there is another supervisor", || svscan.supervisor() != old);
    a.wait_supervised();
    until_eq(1, || a.state().adopted);
    assert_eq!(a.state().by, said);
    // As s6-svc writes it: and what svc said before is not taken for it.
    for (letters, cause) in [("t", "restarted"), ("d", "stopped")] {
        w.ok("svc", &["-wu", "-T", "30000", "-u", &a.path]);
        let deaths = a.deaths().len();
        fs::write("scan/a/supervise/control", letters).unwrap();
        until("it has ended", || a.deaths().len() > deaths);
        until_eq(
            (Some(cause.to_owned()), Some("somebody who wrote to supervise/control".to_owned())),
            || (a.state().cause, a.state().by),
        );
    }
    let said = w.ok("svstat", &["-v", &a.path]);
    let text =
        "  last exit: signal SIGTERM (it was told to stop, by somebody who wrote to supervise/control)\n";
    assert!(said.contains(text), "{said}");
    // One that has to be killed was stopped by somebody too.
    a.script("run", "trap '' TERM; touch deaf; while :; do sleep 0.1; done").file("timeout-kill", "50\n");
    w.ok("svc", &["-u", &a.path]);
    until("it does not listen", || a.has("deaf"));
    w.ok("svc", &["-wD", "-T", "30000", "-d", &a.path]);
    until_eq(Some("timeout".to_owned()), || a.state().cause);
    assert!(by_us(&a.state().by.unwrap()));
}

fn who_asked_rc(w: &World) {
    let a = w.service_at("source/a", SLEEP);
    a.file("type", "longrun\n");
    let _svscan = w.svscan(&[]);
    w.ok("rc", &["compile", "db", "source"]);
    w.ok("rc", &["init", "-c", "db", "-l", "live", "scan"]);
    w.ok("rc", &["-l", "live", "up", "a"]);
    let service = w.at("scan/a");
    w.ok("rc", &["-l", "live", "down", "a"]);
    until("it is said who asked", || service.state().by.is_some_and(|by| by.starts_with("rc (pid ")));
    let why = w.ok("rc", &["-l", "live", "why", "a"]);
    assert!(why.contains("signal SIGTERM (it was told to stop, by rc (pid "), "{why}");
}

/// A signal from elsewhere is named; nobody is.
fn nobody_asked(w: &World) {
    let a = w.service("a", SLEEP);
    let b =
        w.service("b", "[ -e again ] && exec sleep 1000; touch again; ulimit -c unlimited; kill -SEGV $$");
    let c = w.service("c", "exit 3");
    let _svscan = w.svscan(&[]);
    w.ok("svc", &["-wr", "-T", "30000", "-t", &a.path]);
    kill(a.pid(), Signal::KILL);
    until_eq(2, || a.deaths().len());
    until_eq(9, || a.status().wait);
    until_eq((None, None), || (a.state().cause, a.state().by));
    until("the others have ended", || !b.deaths().is_empty() && !c.deaths().is_empty());
    let said = w.ok("svstat", &["-v", &a.path, &b.path, &c.path]);
    for text in [
        "  last exit: signal SIGKILL (killed outright:",
        "  last exit: signal SIGSEGV",
        "  last exit: exit 3\n",
    ] {
        assert!(said.contains(text), "{text:?} is missing:\n{said}");
    }
    let json = w.ok("svstat", &["--json", &b.path]);
    let dumped = b.status().wait & 0x80 != 0;
    assert!(
        json.contains(r#""signal":"SIGSEGV""#) && json.contains(&format!(r#""core_dumped":{dumped}"#)),
        "{json}"
    );
}

/// A cgroup with little memory, if one can be had: its path and the file that takes a pid.
fn small_cgroup() -> Option<(String, String)> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    for line in groups.lines() {
        let (kind, path) = line.split_once(':')?.1.split_once(':')?;
        let (base, limit) = match kind {
            "" => ("/sys/fs/cgroup", "memory.max"),
            "memory" => ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
            _ => continue,
        };
        let parent = format!("{base}{}", path.trim_end_matches('/'));
        let dir = format!("{parent}/perennial-{}", std::process::id());
        if fs::create_dir(&dir).is_err() {
            continue;
        }
        if fs::write(format!("{dir}/{limit}"), "33554432").is_ok() {
            let _ = fs::write(format!("{dir}/memory.swap.max"), "0");
            let _ = fs::write(format!("{dir}/memory.memsw.limit_in_bytes"), "33554432");
            return Some((dir.clone(), format!("{dir}/cgroup.procs")));
        }
        let _ = fs::remove_dir(&dir);
    }
    None
}

fn memory_ran_out(w: &World) {
    let Some((dir, procs)) = small_cgroup() else {
        println!("  no cgroup can be made here: not tried");
        return;
    };
    let a = w
        .service("a", "[ -e eat ] || exec sleep 1000; rm eat; x=$(head -c 200000000 /dev/zero | tr '\\0' x)");
    let svscan = w.svscan_after(&format!("echo 0 >{procs};"), &[]);
    let pid = a.pid();
    // Killed by somebody: it does not count.
    kill(pid, Signal::KILL);
    until_eq(1, || a.deaths().len());
    until_eq(9, || a.status().wait);
    assert_eq!(a.state().cause, None);
    a.file("eat", "");
    w.ok("svc", &["-wr", "-T", "30000", "-t", &a.path]);
    until("the kernel has killed it", || a.state().cause.as_deref() == Some("oom"));
    until("it is said", || {
        svscan.said().contains("supervise a: warning: killed by the kernel: memory ran out (oom_kill)")
    });
    let said = w.ok("svstat", &["-v", &a.path]);
    assert!(said.contains("signal SIGKILL (the kernel killed it: memory ran out)"), "{said}");
    until("it was started again", || a.status().is_up());
    let deaths = a.deaths().len();
    kill(a.pid(), Signal::KILL);
    until("it has ended", || a.deaths().len() > deaths);
    until_eq(None, || a.state().cause);
    drop(svscan);
    for pid in support::read(&procs).lines() {
        kill(pid.parse().unwrap(), Signal::KILL);
    }
    until("the cgroup is empty", || support::read(&procs).is_empty());
    fs::remove_dir(dir).unwrap();
}
