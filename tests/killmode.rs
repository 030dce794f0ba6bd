//! `kill-mode`: what a stop reaches, and what is left of a service that has ended.

mod support;

use rustix::process::Signal;
use std::fs;
use std::process::{Command, ExitCode};
use support::refuse::{BEFORE_5_3, refuse};
use support::runner;
use support::{
    Programs, Running, SLEEP, Service, World, is_alive, is_locked, kill, mkfifo, parent, stat, until,
    until_eq,
};

fn main() -> ExitCode {
    runner::run_apart("killmode", SCENARIOS)
}

const SCENARIOS: &[(&str, fn())] = &[
    ("process", process),
    ("tree", tree),
    ("asked_politely", asked_politely),
    ("that_will_not_end", that_will_not_end),
    ("that_forks_for_ever", that_forks_for_ever),
    ("crash", crash),
    ("supervisor_killed", supervisor_killed),
    ("faulty", faulty),
    ("whose_child_it_is_not", whose_child_it_is_not),
    ("tree, Linux before 5.3", || on_an_old_kernel(tree)),
    ("supervisor_killed, Linux before 5.3", || on_an_old_kernel(supervisor_killed)),
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

/// Starts one in run's own session, one in a session of its own, and one in a session of its own whose
/// parents are gone; each tells its pid.
const FAMILY: &str = r#"
    sleep 1000 & echo $! >near
    setsid sh -c 'echo $$ >far; exec sleep 1000' &
    setsid sh -c "setsid sh -c 'echo \$\$ >daemon; exec sleep 1000' &"
    until [ -s near ] && [ -s far ] && [ -s daemon ]; do sleep 0.01; done
    touch complete
    exec sleep 1000"#;

fn family(service: &Service) -> [i32; 3] {
    until("the family is complete", || service.has("complete"));
    ["near", "far", "daemon"].map(|name| service.read(name).trim().parse().unwrap())
}

/// As in s6: who is not run is left alone.
fn process() {
    let w = world();
    let a = w.service("a", FAMILY);
    let b = w.service("b", FAMILY);
    b.file("kill-mode", "process\n");
    let svscan = w.svscan(&[]);
    for service in [a, b] {
        let pids = family(&service);
        w.ok("svc", &["-wD", "-T", "30000", "-d", &service.path]);
        assert!(pids.iter().all(|pid| is_alive(*pid)));
    }
    assert!(!svscan.said().contains("left"));
}

fn tree() {
    let w = world();
    let a = w.service("a", FAMILY);
    a.file("kill-mode", "tree\n").script(
        "finish",
        // The dead may not be reaped yet.
        "for pid in $(cat near far daemon); do s=$(cut -d' ' -f3 /proc/$pid/stat 2>>no) || s=Z; \
         [ $s = Z ] || echo $pid >>left; done; touch finished",
    );
    let b = w.service("b", FAMILY);
    let svscan = w.svscan(&[]);
    let (ours, others) = (family(&a), family(&b));
    assert_eq!(parent(ours[2]), a.pid(), "orphans of the service are its own");
    w.ok("svc", &["-wD", "-T", "30000", "-d", &a.path]);
    assert!(ours.iter().all(|pid| !is_alive(*pid)));
    assert!(others.iter().all(|pid| is_alive(*pid)), "nobody else is touched");
    assert!(b.status().is_up() && b.deaths().is_empty());
    assert!(a.has("finished") && !a.has("left"), "all were gone before finish");
    // Up and down again, and with an end of everything.
    for file in ["complete", "near", "far", "daemon"] {
        fs::remove_file(format!("scan/a/{file}")).unwrap();
    }
    w.ok("svc", &["-wu", "-T", "30000", "-u", &a.path]);
    let ours = family(&a);
    w.ok("svscanctl", &["-t", "scan"]);
    assert_eq!(svscan.end().code, 0);
    assert!(ours.iter().all(|pid| !is_alive(*pid)));
}

/// Everybody gets the down signal and may end in an orderly way; then nobody is named.
fn asked_politely() {
    let w = world();
    let a = w.service(
        "a",
        "setsid sh -c 'trap \"echo bye >said; exit\" TERM; echo $$ >child; while :; do sleep 0.02; done' &
         trap 'wait; exit' TERM
         until [ -s child ]; do sleep 0.01; done
         touch complete; wait",
    );
    a.file("kill-mode", "tree");
    let svscan = w.svscan(&[]);
    until("it is up", || a.has("complete"));
    w.ok("svc", &["-wD", "-T", "30000", "-d", &a.path]);
    assert_eq!(a.read("said"), "bye\n");
    assert!(!svscan.said().contains("left"), "{}", svscan.said());
}

/// Descendants that ignore what they are told: when run has ended they are killed, and named.
fn that_will_not_end() {
    let w = world();
    let deaf = "setsid sh -c 'trap \"\" TERM; echo $$ >deaf; exec sleep 1000' &
        until [ -s deaf ]; do sleep 0.01; done";
    let a = w.service("a", &format!("{deaf}\ntouch complete; exec sleep 1000"));
    a.file("kill-mode", "tree");
    // Run itself ignores it: timeout-kill reaches all.
    let b = w.service("b", &format!("trap '' TERM\n{deaf}\ntouch complete; exec sleep 1000"));
    b.file("kill-mode", "tree").file("timeout-kill", "200");
    let svscan = w.svscan(&[]);
    for service in [&a, &b] {
        until("it is up", || service.has("complete"));
        let deaf: i32 = service.read("deaf").trim().parse().unwrap();
        w.ok("svc", &["-wD", "-T", "30000", "-d", &service.path]);
        assert!(!is_alive(deaf));
    }
    let deaf = a.read("deaf");
    let expected = format!(
        "supervise a: warning: run has ended: killed what was left of it: sleep (pid {})",
        deaf.trim()
    );
    assert!(svscan.said().contains(&expected), "{}", svscan.said());
    assert_eq!((a.status().wait, b.status().wait), (15, 9));
}

/// Its children have sessions of their own, and make more of their kind while they are killed.
fn that_forks_for_ever() {
    let w = world();
    let a = w.service(
        "a",
        // Some fifty at a time: each lives for a second.
        "setsid sh -c 'trap \"\" TERM; while :; do setsid sleep 1 & sleep 0.02; done' &
         touch complete; exec sleep 1000",
    );
    a.file("kill-mode", "tree");
    let _svscan = w.svscan(&[]);
    until("it is up", || a.has("complete"));
    let here = fs::canonicalize("scan/a").unwrap();
    let brood = || {
        let pids = fs::read_dir("/proc").unwrap().flatten();
        let pids = pids.filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok());
        let of_it = |pid: &i32| {
            fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == here) && is_alive(*pid)
        };
        pids.filter(of_it).collect::<Vec<_>>()
    };
    for _ in 0..3 {
        until("there are many", || brood().len() > 10);
        w.ok("svc", &["-wD", "-T", "30000", "-d", &a.path]);
        assert_eq!(brood(), [], "none is left");
        w.ok("svc", &["-wu", "-T", "30000", "-u", &a.path]);
    }
}

/// Run dies by itself: who is still in its session, or below who is, does not disturb its successor.
fn crash() {
    let w = world();
    let a = w.service("a", "sleep 1000 & echo $! >child; touch complete; exec sleep 1000");
    a.file("kill-mode", "tree");
    let _svscan = w.svscan(&[]);
    until("it is up", || a.has("complete"));
    let (pid, child): (i32, i32) = (a.pid(), a.read("child").trim().parse().unwrap());
    assert_eq!(stat(child, 6), Some(pid.to_string()), "in its session");
    kill(pid, Signal::SEGV);
    until("it is up again", || a.status().is_up() && a.status().pid != pid);
    assert!(!is_alive(child));
}

fn supervisor_killed() {
    let w = world();
    let a = w.service("a", FAMILY);
    a.file("kill-mode", "tree");
    mkfifo("scan/a/gate");
    let family_only = FAMILY.strip_suffix("exec sleep 1000").unwrap();
    a.script("run", &format!("{family_only}trap 'read x <gate; exit' TERM; while :; do sleep 0.02; done"));
    let _svscan = w.svscan(&[]);
    let (pids, supervisor) = (family(&a), parent(a.pid()));
    kill(supervisor, Signal::KILL);
    until("there is another", || a.state().adopted == 1 && is_locked("scan/a/supervise/lock"));
    assert!(pids.iter().all(|pid| is_alive(*pid)));
    // Told to end, and the supervisor is killed before it has.
    w.ok("svc", &["-d", &a.path]);
    until("those that listen are gone", || !is_alive(pids[0]));
    let supervisor = common_supervisor(&a);
    kill(supervisor, Signal::KILL);
    until("there is another", || a.state().adopted == 2);
    a.file("gate", "\n");
    w.ok("svwait", &["-D", "-t", "30000", &a.path]);
    assert!(pids.iter().all(|pid| !is_alive(*pid)));
}

/// The supervisor of a service that was taken over: whoever has its control FIFO open and is called so.
fn common_supervisor(service: &Service) -> i32 {
    let control = fs::canonicalize(format!("{}/supervise/control", service.path)).unwrap();
    let has_it = |pid: &i32| {
        fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == "supervise")
            && fs::read_dir(format!("/proc/{pid}/fd"))
                .is_ok_and(|fds| fds.flatten().any(|fd| fs::read_link(fd.path()).is_ok_and(|l| l == control)))
    };
    support::descendants().into_iter().find(has_it).expect("there is one")
}

/// A word that nobody knows is an error, not a default.
fn faulty() {
    let w = world();
    let a = w.service("a", SLEEP);
    a.file("kill-mode", "trees\n");
    let svscan = w.svscan(&[]);
    until("it is said", || {
        svscan.said().contains(
            "supervise a: warning: unable to start run: kill-mode: \"trees\" is none of: process, tree",
        )
    });
    assert!(a.status().is_down());
    a.file("kill-mode", "tree\n");
    w.ok("svc", &["-wu", "-T", "30000", "-u", &a.path]);
    until_eq(true, || a.status().is_up());
}

/// Who became a supervisor had a child: that is none of its service's.
fn whose_child_it_is_not() {
    let w = world();
    let a = w.service("a", "setsid sh -c '(echo $$ >orphan; exec sleep 1000) &'; exec sleep 1000");
    a.file("kill-mode", "tree\n");
    let mut command = Command::new("/bin/sh");
    command.args(["-c", r#"sleep 1000 & echo $! >helper; exec "$0" scan/a"#]);
    command.arg(programs().path("supervise"));
    let supervise = Running::new(command, "supervise".to_owned());
    a.wait_supervised();
    until("there is an orphan", || a.read("orphan").ends_with('\n'));
    w.ok("svc", &["-wD", "-T", "30000", "-d", &a.path]);
    let helper = support::read("helper").trim().parse().unwrap();
    assert!(is_alive(helper), "{}", supervise.said());
    w.ok("svc", &["-x", &a.path]);
    assert_eq!(supervise.end().code, 0);
    kill(helper, Signal::KILL);
}
