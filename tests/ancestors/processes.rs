//! Making processes, and telling them apart.

use super::control::answers;
use crate::support::{
    Running, SLEEP, Service, World, chmod, descendants, is_alive, is_locked, kill, parent, read, stat, until,
    until_eq,
};
use perennial::process::{End, WaitStatus};
use rustix::process::Signal;
use std::fs;
use std::process::Command;
use std::time::Duration;

pub fn descriptors(pid: i32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

/// Starts that fail leave no descriptor behind.
pub fn a005_no_descriptor_is_left(w: &World) {
    let a = w.service("a", SLEEP);
    a.file("notification-fd", "3\n").file("lock-fd", "4\n");
    w.service("a/log", "exec cat");
    let other = w.service("other", SLEEP);
    let svscan = w.svscan(&[]);
    let supervisor = parent(other.pid());
    w.ok("svc", &["-wD", "-T", "30000", "-d", &a.path]);
    let fail = |n: usize| {
        let run = "scan/a/run";
        let _ = fs::remove_file(run);
        let _ = fs::remove_dir(run);
        match n % 3 {
            0 => {}
            1 => fs::create_dir(run).unwrap(),
            _ => {
                fs::write(run, "x").unwrap();
                chmod(run, 0o644);
            }
        }
        w.ok("svc", &["-u", "-d", &a.path]);
    };
    // What is there while nothing is going on.
    answers(w, &other);
    let before = (descriptors(supervisor), descriptors(svscan.pid()));
    (0..200).for_each(fail);
    answers(w, &other);
    until("no more are open", || {
        descriptors(supervisor) <= before.0 && descriptors(svscan.pid()) <= before.1
    });
    fs::remove_dir("scan/a/run").unwrap();
    a.script("run", SLEEP);
    w.ok("svc", &["-wu", "-T", "30000", "-u", &a.path]);
}

/// A signal that comes to somebody who sleeps is acted on, and not at the next event.
pub fn a013_a_signal_is_acted_on(w: &World) {
    for n in 0..30 {
        let a = w.service_at("a", SLEEP);
        let supervisor = w.supervise(&a);
        a.pid();
        std::thread::sleep(Duration::from_millis(n % 7));
        kill(supervisor.pid(), Signal::TERM);
        assert_eq!(supervisor.end().code, 0);
    }
}

/// A supervisor that dies while it is scanned is replaced, and nobody who is there is pruned.
pub fn a014_replaced_while_scanning(w: &World) {
    let a = w.service("a", SLEEP);
    let svscan = w.svscan(&[]);
    let pid = a.pid();
    for _ in 1..=5 {
        let victim = supervisor_of(&svscan);
        kill(victim, Signal::KILL);
        kill(svscan.pid(), Signal::HUP);
        until("there is a successor", || a.is_supervised() && supervisor_of(&svscan) != victim);
        answers_without_restart(w, &a);
        assert_eq!((a.status().pid, is_alive(pid)), (pid, true));
    }
}

/// Somebody reads commands there.
fn answers_without_restart(w: &World, service: &Service) {
    w.ok("svc", &["-O", &service.path]);
    until("it is not wanted", || !service.status().wanted());
    w.ok("svc", &["-u", &service.path]);
    until("it is wanted", || service.status().wanted());
}

/// Hundreds of restarts while others look: no child is stuck on its way to its program.
pub fn a015_restarts_among_readers(w: &World) {
    let a = w.service("a", "exit 0");
    let b = w.service("b", SLEEP);
    let _svscan = w.svscan(&[]);
    let mut readers: Vec<Running> = (0..3)
        .map(|n| {
            let script = format!("while :; do {} scan/a scan/b; done >/dev/null", w.client("svstat"));
            let mut command = Command::new("sh");
            command.args(["-c", &script]);
            Running::new(command, format!("reader {n}"))
        })
        .collect();
    let supervisor = parent(b.pid());
    for _ in 0..300 {
        w.ok("svc", &["-u", &a.path]);
    }
    assert!(readers.iter_mut().all(|reader| reader.is_running()));
    w.ok("svc", &["-wD", "-T", "30000", "-d", &a.path]);
    let stuck = || {
        let children = read(&format!("/proc/{supervisor}/task/{supervisor}/children"));
        let is_named = |pid: &&str| read(&format!("/proc/{pid}/comm")) == "supervise\n";
        children.split_whitespace().filter(is_named).count()
    };
    until_eq(0, stuck);
    answers(w, &b);
}

/// `run` that is deleted while it runs: down then, and up again when it is there again.
pub fn a021_run_comes_back(w: &World) {
    let a = w.service("a", SLEEP);
    let svscan = w.svscan(&[]);
    let pid = a.pid();
    fs::rename("scan/a/run", "run").unwrap();
    kill(pid, Signal::KILL);
    until("it is down, and why is said", || {
        a.status().is_down() && svscan.said().contains("unable to execute ./run: no such file")
    });
    fs::rename("run", "scan/a/run").unwrap();
    until("it is up again", || a.status().is_up());
    assert_eq!(a.deaths().len(), 1);
}

/// More environment than the kernel takes: it is said, and nobody dies of it.
pub fn a023_too_large_an_environment(w: &World) {
    let a = w.service("a", SLEEP);
    a.file("notification-fd", "3\n");
    // Each piece is as much as one variable may be; all together are just not too much for svscan itself.
    let mut command = Command::new("sh");
    let script = format!(
        "i=0; piece=$(head -c 100000 /dev/zero | tr '\\0' x)
         while [ $i -lt 18 ]; do export V$i=$piece; i=$((i+1)); done
         exec {} scan",
        w.daemon("svscan")
    );
    command.args(["-c", &script]).stdin(std::process::Stdio::null());
    let mut svscan = Running::new(command, "svscan".into());
    a.pid();
    let supervisor = supervisor_of(&svscan);
    // The limit is a quarter of the stack's, when a program is executed.
    let stack = rustix::process::getrlimit(rustix::process::Resource::Stack);
    let small = rustix::process::Rlimit { current: Some(1 << 20), maximum: stack.maximum };
    let limited = rustix::process::Pid::from_raw(supervisor);
    let old = rustix::process::prlimit(limited, rustix::process::Resource::Stack, small).unwrap();
    w.ok("svc", &["-k", &a.path]);
    until("it is said", || svscan.said().contains("Argument list too long"));
    assert!(a.status().is_down() && svscan.is_running());
    rustix::process::prlimit(limited, rustix::process::Resource::Stack, old).unwrap();
    until("it is up again", || a.status().is_up());
    assert_eq!(supervisor_of(&svscan), supervisor);
    w.ok("svscanctl", &["-t", "scan"]);
    assert_eq!(svscan.end().code, 0);
}

fn supervisor_of(svscan: &Running) -> i32 {
    let children = || read(&format!("/proc/{0}/task/{0}/children", svscan.pid()));
    let is_it =
        |pid: &&str| read(&format!("/proc/{pid}/comm")) == "supervise\n" && is_alive(pid.parse().unwrap());
    let mut found = None;
    until("there is a supervisor", || {
        found = children().split_whitespace().find(is_it).and_then(|pid| pid.parse().ok());
        found.is_some()
    });
    found.unwrap()
}

/// Every combination of what can be set for a start has its effect.
pub fn a024_flags_together(w: &World) {
    let root = rustix::process::geteuid().is_root();
    for bits in 0..8 {
        let name = format!("a{bits}");
        let a = w.service(&name, "echo $$ >told; echo >&4; exec sleep 1000");
        if bits & 1 != 0 {
            a.file("notification-fd", "4\n");
        } else {
            a.script("run", "echo $$ >told; exec sleep 1000");
        }
        if bits & 2 != 0 {
            a.file("lock-fd", "5\n");
        }
        if bits & 4 != 0 && root {
            a.file("flag-newpidns", "");
        }
    }
    let _svscan = w.svscan(&[]);
    for bits in 0..8 {
        let a = w.at(&format!("scan/a{bits}"));
        let pid = a.pid();
        let own = if bits & 4 != 0 && root { 1 } else { pid };
        until_eq(format!("{own}\n"), || a.read("told"));
        if bits & 1 != 0 {
            w.ok("svwait", &["-U", "-t", "30000", &a.path]);
        }
        assert_eq!(is_locked(&format!("{}/supervise/service-lock", a.path)), bits & 2 != 0, "{bits}");
    }
}

/// Deaths by the dozen keep no new service from being seen.
pub fn a047_scans_among_deaths(w: &World) {
    for n in 0..50 {
        w.service(&format!("crash{n}"), "exit 1");
    }
    let _svscan = w.svscan(&["-t", "1000"]);
    for n in 0..3 {
        w.service(&format!("new{n}"), SLEEP).pid();
    }
}

/// Numbers of processes that come round belong to somebody else: no signal goes to a stranger.
pub fn a058_recycled_numbers(w: &World) {
    if !rustix::process::geteuid().is_root() {
        return println!("not tried: this needs root");
    }
    // In a namespace with few numbers.
    let a = w.service("a", "exit 0");
    let script = format!(
        "mount -t proc proc /proc; echo 400 >/proc/sys/kernel/pid_max 2>/dev/null
         [ $(cat /proc/sys/kernel/pid_max) = 400 ] || exit 77
         cd {}; i=0
         while [ $i -lt 20 ]; do sh -c 'echo $$ >>strangers; exec sleep 1000' & i=$((i+1)); done
         {} scan & scanner=$!
         until [ -p scan/a/supervise/control ]; do :; done; touch ready
         i=0; while [ $i -lt 400 ]; do {} -ukti scan/a; i=$((i+1)); done
         for pid in $(cat strangers); do kill -0 $pid || echo $pid >>killed; done
         kill $scanner; wait $scanner; echo $? >code",
        w.base.display(),
        w.daemon("svscan"),
        w.client("svc"),
    );
    let mut command = Command::new("unshare");
    command.args(["-fpm", "--propagation", "private", "--kill-child", "sh", "-c", &script]);
    let ran = Running::new(command, "a namespace".into()).end();
    if ran.code == 77 {
        return println!("not tried: pid_max is everybody's here");
    }
    assert_eq!((ran.code, &*read("killed"), &*read("code")), (0, "", "0\n"), "{ran:?}");
    drop(a);
}

/// A service with a process group of its own making is stopped like any other, and one that forks has died.
pub fn a059_another_group(w: &World) {
    let a = w.service("a", "exec python3 -c 'import os, time; os.fork() or os.setpgid(0, 0); os.setpgid(0, os.getpid()) if os.getsid(0) != os.getpid() else None; time.sleep(1000)'");
    let b = w.service(
        "b",
        "exec python3 -c 'import os, time; os.fork() and os._exit(9); os.setsid(); time.sleep(1000)'",
    );
    b.file("down", "");
    let _svscan = w.svscan(&[]);
    let pid = a.pid();
    w.ok("svc", &["-wD", "-T", "30000", "-d", &a.path]);
    assert!(!is_alive(pid));
    assert_eq!(WaitStatus(a.status().wait), WaitStatus::killed(perennial::process::Signal::TERM));
    // One that puts itself in the background has died.
    w.ok("svc", &["-wu", "-T", "30000", "-o", &b.path]);
    w.ok("svwait", &["-D", "-t", "30000", &b.path]);
    assert_eq!(WaitStatus(b.status().wait).end(), End::Exit(9));
}

/// A service that signals its own group meets nobody but itself.
pub fn a060_a_service_that_signals_its_group(w: &World) {
    let a = w.service("a", "kill -TERM 0");
    let b = w.service("b", SLEEP);
    let mut svscan = w.svscan(&[]);
    let (pid, supervisor) = (b.pid(), parent(b.pid()));
    until("it did so twice", || a.deaths().len() >= 2);
    assert!(svscan.is_running() && is_alive(supervisor) && b.status().pid == pid && is_alive(pid));
}

/// What a service writes to its logger may block, and must: nothing would be lost quietly.
pub fn a067_output_blocks(w: &World) {
    let a = w.service("a", "cat /proc/$$/fdinfo/1 >info; exec sleep 1000");
    w.service("a/log", "cat /proc/$$/fdinfo/0 >info; exec cat >/dev/null");
    let b = w.service("b", "cat /proc/$$/fdinfo/1 >info; exec sleep 1000");
    let _svscan = w.svscan(&[]);
    for service in [&a, &w.at("scan/a/log"), &b] {
        until("it has looked", || service.read("info").contains("flags:"));
        let info = service.read("info");
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap().trim();
        assert_eq!(u32::from_str_radix(flags, 8).unwrap() & 0o4000, 0, "{}: {info}", service.path);
    }
}

/// A logger that ends at once is started once a second, and its service runs.
pub fn a068_a_logger_that_dies_at_once(w: &World) {
    let a = w.service("a", "echo here; exec sleep 1000");
    let log = w.service("a/log", "cut -d' ' -f1 /proc/uptime >>starts; exit 111");
    let _svscan = w.svscan(&[]);
    let pid = a.pid();
    until("it was started three times", || log.read("starts").lines().count() >= 3);
    let starts: Vec<f64> = log.read("starts").lines().map(|line| line.parse().unwrap()).collect();
    assert!(starts.windows(2).all(|pair| pair[1] - pair[0] > 0.9), "{starts:?}");
    assert_eq!(a.status().pid, pid);
}

/// Services that come and go by the hundred: nothing is left of them, and whoever stays is not touched.
pub fn a088_services_that_come_and_go(w: &World) {
    let stays = w.service("stays", SLEEP);
    let svscan = w.svscan(&[]);
    let (pid, supervisor) = (stays.pid(), supervisor_of(&svscan));
    let before = (descriptors(svscan.pid()), descriptors(supervisor));
    for round in 0..4 {
        let names: Vec<String> = (0..30).map(|n| format!("s{n}")).collect();
        let services: Vec<Service> =
            names.iter().map(|name| w.service_at(&format!("services/{round}-{name}"), SLEEP)).collect();
        for (name, service) in names.iter().zip(&services) {
            let path = w.base.join(&service.path);
            std::os::unix::fs::symlink(path, format!("scan/{name}")).unwrap();
        }
        w.ok("svscanctl", &["-a", "scan"]);
        let pids: Vec<i32> = services.iter().map(Service::pid).collect();
        names.iter().for_each(|name| fs::remove_file(format!("scan/{name}")).unwrap());
        w.ok("svscanctl", &["-an", "scan"]);
        until("all are gone", || {
            !pids.iter().any(|pid| is_alive(*pid)) && !services.iter().any(Service::is_supervised)
        });
    }
    assert_eq!((stays.status().pid, is_alive(pid)), (pid, true));
    until_eq(before, || (descriptors(svscan.pid()), descriptors(supervisor)));
    let mine = descendants();
    until("no ghost is left", || {
        mine.iter().filter(|p| parent_is(**p, supervisor) && is_alive(**p)).count() <= 1
    });
}

fn parent_is(pid: i32, of: i32) -> bool {
    stat(pid, 4).is_some_and(|parent| parent == of.to_string())
}

/// Hundreds of scans, restarts and commands: neither memory nor descriptors grow.
pub fn a111_nothing_grows(w: &World) {
    let a = w.service("a", SLEEP);
    let b = w.service("b", "exit 0");
    b.file("down", "");
    let svscan = w.svscan(&[]);
    let supervisor = parent(a.pid());
    let pages = |pid: i32| stat(pid, 24).unwrap().parse::<u64>().unwrap();
    let round = |many: usize| {
        for _ in 0..many {
            w.ok("svc", &["-r", &a.path]);
            w.ok("svc", &["-oyp1", "-c", &b.path]);
            w.ok("svscanctl", &["-az", "scan"]);
        }
        answers(w, &a);
        w.ok("svc", &["-wD", "-T", "30000", "-d", &b.path]);
    };
    round(40);
    // One that is open for the moment is not counted.
    let still = |pid: i32| (0..1000).map(|_| descriptors(pid)).min().unwrap();
    let known = || [svscan.pid(), supervisor].map(|pid| (still(pid), pages(pid)));
    let before = known();
    round(120);
    for (before, after) in before.into_iter().zip(known()) {
        assert_eq!(before.0, after.0, "descriptors");
        assert!(after.1 <= before.1 + before.1 / 20 + 16, "pages: {} and {}", before.1, after.1);
    }
}
