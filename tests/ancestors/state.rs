//! What is told, and when.

use super::control::answers;
use crate::support::{SLEEP, Service, World, chmod, is_alive, mkfifo, parent, stat, until, until_eq};
use perennial::servicedir::event::Listener;
use rustix::fs::{Mode, OFlags};
use std::fs;
use std::time::{Duration, Instant};

/// In every state a definition may be changed, and be nonsense for a while: what is new counts from the next start on.
pub fn a004_edited_while_it_runs(w: &World) {
    let a = w.service("a", "echo >>lives; read x <gate; exit 1");
    mkfifo("scan/a/gate");
    mkfifo("scan/a/gate2");
    a.script("finish", "read x <gate2");
    let mut svscan = w.svscan(&[]);
    let phases = ["up", "finish", "down", "throttled"];
    // The shell has opened the script, which is about to be replaced.
    let begun = |lives: usize| until_eq(lives, || a.read("lives").lines().count());
    for phase in phases {
        match phase {
            "up" => begun(1),
            "finish" => {
                a.file("gate", "\n");
                until("finish runs", || a.status().flags & 2 != 0);
            }
            "down" => {
                w.ok("svc", &["-d", &a.path]);
                a.file("gate2", "\n");
                w.ok("svwait", &["-D", "-t", "30000", &a.path]);
            }
            _ => {
                w.ok("svc", &["-u", &a.path]);
                begun(2);
            }
        }
        for name in [
            "run",
            "finish",
            "timeout-kill",
            "timeout-finish",
            "down-signal",
            "notification-fd",
            "max-death-tally",
        ] {
            let path = format!("scan/a/{name}");
            let old = fs::read(&path).ok();
            let _ = fs::remove_file(&path);
            fs::create_dir(&path).unwrap();
            w.ok("svscanctl", &["-h", "scan"]);
            assert!(w.ok("svstat", &["-o", "wantedup", &a.path]).ends_with('\n'));
            fs::remove_dir(&path).unwrap();
            if let Some(old) = old {
                fs::write(&path, old).unwrap();
                chmod(&path, 0o755);
            }
        }
        assert!(svscan.is_running(), "{phase}");
    }
    a.script("run", SLEEP);
    fs::remove_file("scan/a/finish").unwrap();
    a.file("gate", "\n");
    until("the new one runs", || {
        a.status().is_up()
            && fs::read(format!("/proc/{}/comm", a.status().pid)).is_ok_and(|comm| comm == b"sleep\n")
    });
    answers(w, &a);
}

/// What `svstat` says in each state.
pub fn a033_states_as_told(w: &World) {
    let a = w.service("a", "read x <gate; echo >&3; exec sleep 1000");
    a.file("notification-fd", "3\n").file("down", "").script("finish", "read x <gate");
    mkfifo("scan/a/gate");
    let _svscan = w.svscan(&[]);
    let told = || w.ok("svstat", &["-o", "up,wantedup,normallyup,ready,exitcode,signal", &a.path]);
    let ages = || {
        let text = w.ok("svstat", &["-o", "updownfor,readyfor", &a.path]);
        assert!(text.split_whitespace().all(|age| age.parse::<u64>().is_ok_and(|age| age < 60)), "{text}");
    };
    until_eq("false false false false 0 NA\n".to_owned(), told);
    assert!(w.ok("svstat", &[&a.path]).starts_with("down (not started yet) "));
    ages();
    w.ok("svc", &["-wu", "-T", "30000", "-u", &a.path]);
    assert_eq!(told(), "true true false false -1 NA\n");
    a.file("gate", "\n");
    w.ok("svwait", &["-U", "-t", "30000", &a.path]);
    assert_eq!(told(), "true true false true -1 NA\n");
    ages();
    w.ok("svc", &["-wd", "-T", "30000", "-d", &a.path]);
    assert_eq!(told(), "false false false false -1 SIGTERM\n");
    assert_eq!(w.ok("svstat", &["-p", &a.path]), "-1\n", "a finish script is no service");
    a.file("gate", "\n");
    w.ok("svwait", &["-D", "-t", "30000", &a.path]);
    assert_eq!(told(), "false false false false -1 SIGTERM\n");
    ages();
}

/// Twenty who wait for each of many changes: none hangs, and none is told what is not so.
pub fn a034_many_waiters(w: &World) {
    let a = w.service("a", SLEEP);
    a.file("down", "");
    let _svscan = w.svscan(&[]);
    for _ in 0..5 {
        for (goal, letter) in [("-u", "-u"), ("-D", "-d")] {
            let waiting: Vec<_> =
                (0..20).map(|_| w.start("svwait", &[goal, "-t", "30000", &a.path])).collect();
            w.ok("svc", &[letter, &a.path]);
            waiting.into_iter().for_each(|waiting| assert_eq!(waiting.end().code, 0));
            assert_eq!(a.status().is_up(), letter == "-u");
        }
    }
    until_eq(0, || a.listeners());
}

/// However often it is scanned: who runs runs, since when he ran.
pub fn a037_nothing_is_forgotten_by_scanning(w: &World) {
    let (a, b) = (w.service("a", SLEEP), w.service("b", SLEEP));
    let _svscan = w.svscan(&[]);
    let known = || [&a, &b].map(|s| (s.pid(), fs::read(format!("{}/supervise/status", s.path)).unwrap()));
    let before = known();
    for n in 0..100 {
        w.ok("svscanctl", &[["-a", "-h", "-n", "-N", "-z"][n % 5], "scan"]);
    }
    answers(w, &w.service("c", SLEEP));
    assert!(before == known());
}

/// A service that fails for good at once is not waited for.
pub fn a038_failure_is_not_hidden(w: &World) {
    let a = w.service("a", "exit 1");
    a.script("finish", "exit 125").file("notification-fd", "3\n").file("down", "");
    let _svscan = w.svscan(&[]);
    for n in 0..20 {
        let goal = ["-wU", "-wu"][n % 2];
        let code = w.code("svc", &[goal, "-T", "30000", "-u", &a.path]);
        // Up it was for a moment, which is what -wu asks for.
        assert!(code == 1 || (code == 0 && goal == "-wu"), "{goal}: {code}");
        w.ok("svwait", &["-D", "-t", "30000", &a.path]);
    }
}

/// A service that has just appeared may be waited for, or it is said that it is not supervised. Nobody hangs.
pub fn a039_waiting_for_what_is_new(w: &World) {
    let _svscan = w.svscan(&[]);
    for n in 0..30 {
        let a = w.service(&format!("a{n}"), "echo >&3; exec sleep 1000");
        a.file("notification-fd", "3\n");
        w.ok("svscanctl", &["-a", "scan"]);
        std::thread::sleep(Duration::from_millis(n % 10));
        let code = w.code("svc", &["-wU", "-T", "30000", "-u", &a.path]);
        assert!(matches!(code, 0 | 100 | 102), "{code}");
        a.wait_supervised();
        w.ok("svwait", &["-U", "-t", "30000", &a.path]);
    }
}

/// Megabytes before the newline, and newlines after it: it is ready once, and nobody's memory grows.
pub fn a041_readiness_after_megabytes(w: &World) {
    let a = w.service("a", "head -c 10000000 /dev/zero >&3; touch said; read x <gate; yes '' | head -1000 >&3; touch all; exec sleep 1000");
    a.file("notification-fd", "3\n");
    mkfifo("scan/a/gate");
    let events = a.listen();
    let _svscan = w.svscan(&[]);
    let supervisor = parent(a.pid());
    let pages = || stat(supervisor, 24).unwrap().parse::<u64>().unwrap();
    let before = pages();
    until("it has said a lot", || a.has("said"));
    assert_eq!(a.status().flags & 8, 0);
    a.file("gate", "\n");
    events.expect("suU");
    until("it has said all", || a.has("all") || !is_alive(a.status().pid));
    assert!(pages() < before + 500, "{before} and now {}", pages());
    let c = w.service("c", SLEEP);
    answers(w, &c);
    assert!(!events.heard().contains("UU"));
}

/// A thousand FIFOs that nobody reads and a thousand that somebody has open and does not read.
pub fn a044_listeners_that_do_not_listen(w: &World) {
    let a = w.service("a", SLEEP);
    a.file("down", "");
    let _svscan = w.svscan(&[]);
    let dir = rustix::fs::open("scan/a", OFlags::PATH, Mode::empty()).unwrap();
    let deaf: Vec<Listener> = (0..200).map(|_| Listener::new(&dir).unwrap()).collect();
    for n in 0..1000 {
        mkfifo(&format!("scan/a/event/ftrig1:@400000006553f1000000{n:04x}:AbCdEf"));
    }
    let began = Instant::now();
    for _ in 0..10 {
        w.ok("svc", &["-wu", "-T", "30000", "-u", &a.path]);
        w.ok("svc", &["-wD", "-T", "30000", "-d", &a.path]);
    }
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    until_eq(200, || a.listeners());
    drop(deaf);
}

/// Hundreds are waited for at once, and hundreds wait for one.
pub fn a113_hundreds_of_services(w: &World) {
    let services: Vec<Service> = (0..300).map(|n| w.service(&format!("s{n}"), SLEEP)).collect();
    let _svscan = w.svscan(&[]);
    let paths: Vec<&str> = services.iter().map(|s| &*s.path).collect();
    w.ok("svwait", &[&["-u", "-t", "30000"], &paths[..]].concat());
    w.ok("svc", &[&["-wr", "-T", "60000", "-r"], &paths[..]].concat());
    w.ok("svc", &[&["-wD", "-T", "60000", "-d"], &paths[..]].concat());
    assert!(services.iter().all(|s| s.status().is_down()));
    let a = &services[0];
    let waiting: Vec<_> = (0..100).map(|_| w.start("svwait", &["-u", "-t", "60000", &a.path])).collect();
    until_eq(100, || a.listeners());
    w.ok("svc", &["-u", &a.path]);
    waiting.into_iter().for_each(|waiting| assert_eq!(waiting.end().code, 0));
}
