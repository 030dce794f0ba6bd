//! `forking`: programs that put themselves in the background, followed to the process that remains.

mod support;

use rustix::process::Signal;
use std::fs;
use std::process::{Command, ExitCode};
use support::runner;
use support::{Service, World, is_alive, kill, mkfifo, parent, until, until_eq};

fn main() -> ExitCode {
    runner::run_in_worlds("forking", SCENARIOS)
}

const SCENARIOS: &[runner::InWorld] = &[
    ("once_twice_and_without_a_session", once_twice_and_without_a_session),
    ("pid_file", pid_file),
    ("strangers_and_stale_files", strangers_and_stale_files),
    ("without_brands", without_brands),
    ("failed_starts", failed_starts),
    ("dead_at_once", dead_at_once),
    ("many_at_once", many_at_once),
    ("stopped_meanwhile", stopped_meanwhile),
    ("not_in_time", not_in_time),
    ("a_successor_of_its_own", a_successor_of_its_own),
    ("killed_before_between_and_after", killed_before_between_and_after),
    ("alone", alone),
    ("nginx", nginx),
    ("redis", redis),
];

/// Tells its pid, and ends as it is told through its gate.
const MAIN: &str = "echo \\$\\$ >main.new; mv main.new main; read x <gate; exit \\$x";

/// A service whose run is `run`, in which MAIN stands for the program that is to remain.
fn service(w: &World, name: &str, run: &str) -> Service {
    let service = w.service(name, &run.replace("MAIN", &format!("sh -c \"{MAIN}\"")));
    service.file("forking", "");
    mkfifo(&format!("{}/gate", service.path));
    service
}

/// Ends the one that remains.
fn end(service: &Service, code: &str) {
    fs::write(format!("{}/gate", service.path), format!("{code}\n")).unwrap();
}

fn named(service: &Service) -> i32 {
    until("the one that remains has told its pid", || !service.read("main").is_empty());
    service.read("main").trim().parse().unwrap()
}

/// In a session of its own, as a child of one that ended, and in the session of run: each is followed, ready, told
/// of, restarted and stopped.
fn once_twice_and_without_a_session(w: &World) {
    let once = service(w, "once", "setsid -f MAIN");
    let twice = service(w, "twice", "setsid -f sh -c './main.sh & exit 0'");
    twice.script("main.sh", &MAIN.replace('\\', ""));
    let plain = service(
        w,
        "plain",
        "sleep 1000 & echo $! >stray; (MAIN) & until [ -s main ]; do sleep 0.01; done; kill $(cat stray)",
    );
    let slow = service(w, "slow", "(setsid -f MAIN) & sleep 0.5");
    let _svscan = w.svscan(&[]);
    for service in [&once, &twice, &plain, &slow] {
        let path = &service.path;
        w.ok("svc", &["-wU", "-T", "30000", "-u", path]);
        let main = named(service);
        assert_eq!(service.pid(), main, "{path}");
        fs::remove_file(format!("{path}/main")).unwrap();
        end(service, "42");
        until("it was started again", || service.state().deaths == 1 && service.status().is_up());
        assert_eq!(service.status().wait, 42 << 8, "{path}");
        assert!(service.state().cause.is_none());
        until("that one is followed too", || service.pid() == named(service));
        let main = service.pid();
        kill(main, Signal::SEGV);
        until_eq(2, || service.state().deaths);
        assert_eq!(service.status().wait & 0x7f, 11, "{path}");
        w.ok("svc", &["-wU", "-T", "30000", "-u", path]);
        w.ok("svc", &["-wD", "-T", "30000", "-d", path]);
        assert!(!is_alive(named(service)), "{path}");
        assert_eq!(
            (service.status().wait, service.state().cause.as_deref()),
            (15, Some("stopped")),
            "{path}"
        );
    }
}

/// The file says which of several; what is stopped is all of them.
fn pid_file(w: &World) {
    let run = "setsid -f sh -c 'echo $$ >other; exec sleep 1000'; setsid -f MAIN
               (until [ -e write ] && [ -s main ]; do sleep 0.01; done; cat main >run.pid) >/dev/null 2>&1 &";
    let a = service(w, "a", run);
    a.file("pid-file", "run.pid\n");
    let _svscan = w.svscan(&[]);
    until("both are there", || !a.read("other").is_empty() && !a.read("main").is_empty());
    let events = a.listen();
    assert_ne!(a.status().pid, named(&a), "it is not known yet");
    assert_eq!(a.status().flags & 8, 0, "so it is not ready");
    a.file("write", "");
    until_eq(named(&a), || a.pid());
    events.expect("U");
    let other: i32 = a.read("other").trim().parse().unwrap();
    assert!(is_alive(other));
    w.ok("svc", &["-wD", "-T", "30000", "-d", &a.path]);
    assert!(!is_alive(other) && !is_alive(named(&a)));
}

/// A number that is another's is not followed, be it in a file of a former life or of this one.
fn strangers_and_stale_files(w: &World) {
    let stranger = w.service("stranger", "exec sleep 1000");
    let a = service(w, "a", "[ -e keep ] && cp keep run.pid; setsid -f MAIN");
    a.file("pid-file", &format!("{}\n", w.base.join("scan/a/run.pid").display())).file("down", "");
    a.file("timeout-up", "500ms").file("restart", "never");
    let svscan = w.svscan(&[]);
    let pid = stranger.pid();
    for text in
        [format!("{pid}\n"), "1\n".to_owned(), "999999999\n".to_owned(), "rubbish".to_owned(), String::new()]
    {
        a.file("keep", &text).file("run.pid", &text);
        let _ = fs::remove_file("scan/a/main");
        w.ok("svc", &["-u", &a.path]);
        let main = named(&a);
        until("it is not ready in time", || {
            a.state().cause.as_deref() == Some("not-ready") && a.status().is_down()
        });
        until("nobody is left of it", || !is_alive(main));
    }
    assert_eq!((stranger.pid(), stranger.deaths().len()), (pid, 0));
    until("why is said", || {
        svscan.said().contains(&format!("names {pid}, which is no process of the service"))
    });
    until("the file is shown", || svscan.said().contains("\"rubbish\" is no pid"));
    // A stale file of a former life is gone before the start.
    fs::remove_file("scan/a/keep").unwrap();
    let _ = fs::remove_file("scan/a/main");
    a.file("run.pid", &format!("{pid}\n")).script("run", "ls run.pid >seen 2>/dev/null; exec ./later");
    a.script(
        "later",
        &format!("setsid -f sh -c '{}; exit'", "echo $$ >main; echo $$ >run.pid; exec sleep 1000"),
    );
    w.ok("svc", &["-wU", "-T", "30000", "-u", &a.path]);
    assert_eq!((a.pid(), a.read("seen")), (named(&a), String::new()));
}

/// Where the limit that tells them apart is somebody else's, a pid-file does.
fn without_brands(w: &World) {
    let a = service(w, "a", "setsid -f MAIN");
    a.file("limits", "locks 1000\n").file("restart", "never");
    let run = "setsid -f MAIN; until [ -s main ]; do sleep 0.01; done; cp main run.pid";
    let b = service(w, "b", run);
    b.file("limits", "locks 1000\n").file("pid-file", "run.pid");
    let svscan = w.svscan(&[]);
    w.ok("svc", &["-wU", "-T", "30000", "-u", &b.path]);
    assert_eq!(b.pid(), named(&b));
    until("nobody is found", || {
        svscan.said().contains("supervise a: warning: unable to start run: forking: ")
    });
    kill(named(&a), Signal::KILL);
    w.ok("svc", &["-wD", "-T", "30000", "-d", &b.path]);
    assert!(!is_alive(named(&b)));
}

/// Each says why, keeps its code, and leaves nobody behind.
fn failed_starts(w: &World) {
    let all = [
        ("code", "exit 3", "it ended before it was in the background: exit 3", 3 << 8),
        ("signal", "kill -9 $$", "it ended before it was in the background: signal SIGKILL", 9),
        (
            "leaves",
            "setsid -f MAIN; until [ -s main ]; do sleep 0.01; done; exit 4",
            "background: exit 4",
            4 << 8,
        ),
        ("nobody", "exit 0", "it ended and left nobody in the background", 0),
        ("several", "setsid -f sleep 1000; setsid -f sleep 1001", "several processes remain: sleep (pid", 0),
    ];
    let services = all.map(|(name, run, ..)| service(w, name, run));
    let no_file = service(w, "no-file", "exit 0");
    no_file.file("pid-file", "run.pid");
    let wrong = service(w, "wrong", "exec sleep 1000");
    fs::remove_file("scan/wrong/forking").unwrap();
    wrong.file("pid-file", "a.pid");
    let alone = service(w, "own-namespace", "exec sleep 1000");
    alone.file("flag-newpidns", "");
    let svscan = w.svscan(&[]);
    for ((name, _, text, wait), service) in all.iter().zip(&services) {
        let line = format!("supervise {name}: warning: unable to start run: forking: ");
        until(&format!("{text:?} is said"), || {
            svscan.said().lines().any(|said| said.starts_with(&line) && said.contains(text))
        });
        until("it has died", || !service.deaths().is_empty());
        until_eq(*wait, || service.status().wait);
        w.ok("svc", &["-wD", "-T", "30000", "-d", &service.path]);
    }
    assert!(!is_alive(named(&services[2])), "it is not left behind");
    let said = svscan.said();
    assert!(said.contains("name the one in a pid-file"), "{said}");
    for text in [
        "supervise no-file: warning: unable to start run: forking: it ended and left nobody in the background",
        "supervise wrong: warning: unable to start run: pid-file: means nothing without forking: make an empty file \
         forking, or remove this",
        "supervise own-namespace: warning: unable to start run: forking: what run leaves behind dies with it: remove \
         this, or flag-newpidns",
    ] {
        until(&format!("{text:?} is said"), || svscan.said().contains(text));
    }
}

/// One that dies in the moment in which it is found has its own status, not run's.
fn dead_at_once(w: &World) {
    let services: Vec<Service> = (0..10)
        .map(|n| {
            let run = format!("exec setsid -f sh -c 'sleep 0.00{n}; exit 7'");
            let service = w.service(&format!("s{n}"), &run);
            service.file("forking", "").file("restart", "never");
            service
        })
        .collect();
    let _svscan = w.svscan(&[]);
    for service in &services {
        until_eq(7 << 8, || service.status().wait);
        until_eq(1, || service.deaths().len());
    }
}

/// Nobody takes another's process for its own.
fn many_at_once(w: &World) {
    let services: Vec<Service> = (0..20).map(|n| service(w, &format!("s{n}"), "setsid -f MAIN")).collect();
    let _svscan = w.svscan(&[]);
    for service in &services {
        w.ok("svc", &["-wU", "-T", "30000", "-u", &service.path]);
        assert_eq!(service.pid(), named(service));
        assert!(service.deaths().is_empty());
    }
}

/// A stop does not wait for what is being waited for.
fn stopped_meanwhile(w: &World) {
    let a = service(w, "a", "setsid -f MAIN");
    a.file("pid-file", "never");
    let b = service(w, "b", "setsid -f MAIN; exec sleep 1000");
    let _svscan = w.svscan(&[]);
    for service in [&a, &b] {
        let main = named(service);
        w.ok("svc", &["-wD", "-T", "30000", "-d", &service.path]);
        assert!(!is_alive(main));
        assert_eq!((service.state().cause.as_deref(), service.state().failure), (Some("stopped"), None));
    }
}

fn not_in_time(w: &World) {
    let a = service(w, "a", "exec sleep 1000");
    a.file("timeout-up", "100ms").file("restart", "never");
    let _svscan = w.svscan(&[]);
    until_eq(Some("not-ready".to_owned()), || a.state().cause);
    until("it is down", || a.status().is_down());
}

/// A process that ends well and leaves one in its place, as in an upgrade, is no death.
fn a_successor_of_its_own(w: &World) {
    let a = w.service("a", "setsid -f sh ./main");
    a.script("main", "trap 'setsid -f sleep 1000; exit 0' USR2; while :; do sleep 0.01; done")
        .file("forking", "");
    let _svscan = w.svscan(&[]);
    w.ok("svc", &["-wU", "-T", "30000", "-u", &a.path]);
    let first = a.pid();
    w.ok("svc", &["-2", &a.path]);
    until("the other one is followed", || a.pid() != first);
    assert_eq!((a.deaths().len(), a.status().flags & 8, a.state().starts.max(1)), (0, 8, 1));
    let second = a.pid();
    w.ok("svc", &["-wD", "-T", "30000", "-d", &a.path]);
    assert!(!is_alive(second));
}

/// The supervisor is killed while run still runs, when it has ended and nobody knows whom to follow, and when
/// somebody is followed: one start, one process, its code.
fn killed_before_between_and_after(w: &World) {
    let run = "echo $$ >>starts; read x <go; setsid -f MAIN";
    let a = service(w, "a", run);
    a.file("pid-file", "run.pid").script("finish", "echo \"$@\" >>finished");
    mkfifo("scan/a/go");
    let svscan = w.svscan(&[]);
    until("run runs", || !a.read("starts").is_empty());
    let run: i32 = a.read("starts").trim().parse().unwrap();
    svscan.kill_supervisor(&[&a]);
    assert_eq!(a.pid(), run);
    fs::write("scan/a/go", "\n").unwrap();
    let main = named(&a);
    until("run has ended", || !is_alive(run));
    svscan.kill_supervisor(&[&a]);
    assert_eq!(a.status().flags & 8, 0);
    a.file("run.pid", &format!("{main}\n"));
    until_eq(main, || a.pid());
    until("it is ready", || a.status().flags & 8 != 0);
    svscan.kill_supervisor(&[&a]);
    assert_eq!((a.pid(), a.status().flags & 8, a.read("starts").lines().count()), (main, 8, 1));
    assert_eq!(parent(main), svscan.pid());
    end(&a, "33");
    until_eq((33 << 8, format!("33 0 a {main}\n")), || (a.status().wait, a.read("finished")));
    assert_eq!(a.deaths().len(), 1);
    // And while nobody supervises.
    fs::write("scan/a/go", "\n").unwrap();
    fs::remove_file("scan/a/main").unwrap();
    let main = named(&a);
    a.file("run.pid", &format!("{main}\n"));
    until_eq(main, || a.pid());
    let (old, scanner) = (svscan.supervisor(), svscan.pid());
    kill(scanner, Signal::STOP);
    kill(old, Signal::KILL);
    kill(main, Signal::SEGV);
    kill(scanner, Signal::CONT);
    until_eq(2, || a.deaths().len());
    until_eq(11, || a.status().wait & 0x7f);
}

/// A supervisor of one service gets the orphans too.
fn alone(w: &World) {
    let a = service(w, "a", "setsid -f sh -c './main.sh & exit 0'");
    a.script("main.sh", &MAIN.replace('\\', ""));
    let supervise = w.supervise(&a);
    w.ok("svc", &["-wU", "-T", "30000", "-u", &a.path]);
    let main = named(&a);
    assert_eq!((a.pid(), parent(main)), (main, supervise.pid()));
    end(&a, "9");
    until("it was started again", || a.state().deaths == 1 && a.status().is_up());
    assert_eq!(a.status().wait, 9 << 8);
    w.ok("svc", &["-wD", "-T", "30000", "-d", &a.path]);
}

// ------------------------------------------------------------------------------------------------ real ones

fn is_installed(program: &str) -> bool {
    let there = Command::new("sh")
        .args(["-c", &format!("PATH=$PATH:/usr/sbin command -v {program}")])
        .output()
        .unwrap();
    if !there.status.success() {
        println!("  {program} is not installed: not tried");
    }
    there.status.success()
}

fn nginx(w: &World) {
    if !is_installed("nginx") {
        return;
    }
    let a = w.service(
        "a",
        "rm -f nginx.sock; PATH=$PATH:/usr/sbin exec nginx -p \"$PWD\" -c nginx.conf -e error.log",
    );
    a.file(
        "nginx.conf",
        "daemon on; user root; worker_processes 2; pid nginx.pid;
         events { worker_connections 16; }
         http { access_log off; client_body_temp_path t1; proxy_temp_path t2; fastcgi_temp_path t3;
                uwsgi_temp_path t4; scgi_temp_path t5;
                server { listen unix:nginx.sock; location / { return 200 hello; } } }",
    );
    a.file("forking", "").file("down", "");
    let svscan = w.svscan(&[]);
    for pid_file in ["", "nginx.pid\n"] {
        if !pid_file.is_empty() {
            a.file("pid-file", pid_file);
        }
        w.ok("svc", &["-wU", "-T", "30000", "-u", &a.path]);
        let master = a.pid();
        assert_eq!(a.read("nginx.pid").trim(), master.to_string());
        svscan.kill_supervisor(&[&a]);
        w.ok("svc", &["-h", &a.path]);
        assert_eq!((a.pid(), a.deaths().len()), (master, 0), "a reload is none");
        w.ok("svc", &["-wD", "-T", "30000", "-d", &a.path]);
        assert!(!is_alive(master));
        let deaths = a.deaths().len();
        // Killed outright: its workers do not stay.
        w.ok("svc", &["-wU", "-T", "30000", "-u", &a.path]);
        let workers = support::descendants();
        let workers: Vec<i32> = workers.into_iter().filter(|pid| parent(*pid) == a.pid()).collect();
        kill(a.pid(), Signal::KILL);
        until("it was started again", || a.deaths().len() > deaths && a.status().is_up());
        w.ok("svc", &["-wU", "-T", "30000", "-u", &a.path]);
        assert!(workers.iter().all(|worker| !is_alive(*worker)));
        w.ok("svc", &["-wD", "-T", "30000", "-d", &a.path]);
        w.ok("svdt-clear", &[&a.path]);
    }
}

fn redis(w: &World) {
    if !is_installed("redis-server") {
        return;
    }
    let a = w.service("a", "exec redis-server ./redis.conf");
    a.file("redis.conf", "daemonize yes\nport 0\nunixsocket ./redis.sock\npidfile ./redis.pid\nsave \"\"\n");
    a.file("forking", "").file("pid-file", "redis.pid");
    let svscan = w.svscan(&[]);
    w.ok("svc", &["-wU", "-T", "30000", "-u", &a.path]);
    let pid = a.pid();
    assert_eq!(fs::read_to_string(format!("/proc/{pid}/comm")).unwrap(), "redis-server\n");
    svscan.kill_supervisor(&[&a]);
    assert_eq!(a.pid(), pid);
    kill(pid, Signal::KILL);
    until("it was started again", || a.deaths().len() == 1 && a.status().is_up());
    w.ok("svc", &["-wU", "-T", "30000", "-u", &a.path]);
    w.ok("svc", &["-wD", "-T", "30000", "-d", &a.path]);
}
