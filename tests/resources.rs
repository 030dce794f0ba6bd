//! What happens when something runs out: room on the disk, processes, descriptors. Services go on and are
//! restarted, what is told is true again when the fault is over, and a fault is said once, not once for each
//! service and attempt.
//!
//! `cargo test --test resources`, with words after `--` to run only scenarios whose name contains one of them.

mod support;

use rustix::process::{Resource, Rlimit, Signal};
use std::fs;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};
use support::runner;
use support::{Running, SLEEP, Service, World, is_alive, kill, parent, until};

/// Says to a copy of this program that it may mount.
const MAY_MOUNT: &str = "PERENNIAL_RESOURCES_MAY_MOUNT";

fn main() -> ExitCode {
    enter_mount_namespace();
    runner::run_in_worlds("resources", SCENARIOS)
}

/// Goes on in a mount namespace, where one is to be had, so that scenarios can have file systems of their own.
fn enter_mount_namespace() {
    if std::env::var_os(MAY_MOUNT).is_some() {
        return;
    }
    let mut way = vec!["--mount", "--propagation", "private"];
    if !rustix::process::geteuid().is_root() {
        way.splice(0..0, ["--user", "--map-root-user"]);
    }
    let works = Command::new("unshare").args(&way).arg("true").status().is_ok_and(|s| s.success());
    if works {
        let own = std::env::current_exe().expect("own path");
        let error = Command::new("unshare")
            .args(&way)
            .arg(own)
            .args(std::env::args_os().skip(1))
            .env(MAY_MOUNT, "yes")
            .exec();
        eprintln!("resources: unable to execute unshare: {error}");
    }
}

const SCENARIOS: &[runner::InWorld] = &[
    ("full_disk", full_disk),
    ("no_processes", no_processes),
    ("no_descriptors_to_tell", no_descriptors_to_tell),
    ("no_room_for_what_svscan_hands_over", no_room_for_what_svscan_hands_over),
    ("many_services_with_few_descriptors", many_services_with_few_descriptors),
    ("read_only_while_it_runs", read_only_while_it_runs),
    ("no_memory", no_memory),
    ("no_descriptors_to_scan", no_descriptors_to_scan),
    ("directory_deleted_under_a_stubborn_service", directory_deleted_under_a_stubborn_service),
];

/// A file system of its own on `scan`. False: that cannot be had.
fn mount_scan(options: &str) -> bool {
    let mounted = std::env::var_os(MAY_MOUNT).is_some()
        && Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "tmpfs", "scan"])
            .status()
            .unwrap()
            .success();
    if !mounted {
        println!("not tried: nothing can be mounted here");
    }
    mounted
}

fn many(w: &World, count: usize) -> Vec<Service> {
    (0..count).map(|n| w.service(&format!("s{n}"), SLEEP)).collect()
}

/// Kills the process of each and waits until its status tells of another one.
fn all_restart(services: &[Service]) {
    let old: Vec<i32> = services.iter().map(Service::pid).collect();
    old.iter().for_each(|pid| kill(*pid, Signal::KILL));
    for (service, old) in services.iter().zip(old) {
        let is_new = |pid: i32| pid != old && is_alive(pid);
        until(&format!("{} runs again", service.path), || {
            service.status().is_up() && is_new(service.status().pid)
        });
    }
}

/// How often something was said.
fn times_said(svscan: &Running, text: &str) -> usize {
    svscan.said().matches(text).count()
}

/// A full disk: services are restarted, their status is told, commands are obeyed, a supervisor is replaced.
fn full_disk(w: &World) {
    if !mount_scan("size=4m") {
        return;
    }
    let services = many(w, 30);
    let svscan = w.svscan(&[]);
    services.iter().for_each(|s| assert!(is_alive(s.pid())));
    let mut filling = fs::File::create("scan/.filling").unwrap();
    let mut piece = vec![b'x'; 65536];
    while !piece.is_empty() {
        if filling.write(&piece).is_err() {
            piece.truncate(piece.len() / 2);
        }
    }
    all_restart(&services);
    const FULL: &str = "No space left on device";
    until("the fault is said", || times_said(&svscan, FULL) > 0);
    assert_eq!(times_said(&svscan, FULL), 1, "{}", svscan.said());
    w.ok("svc", &["-wD", "-T", "30000", "-d", &services[0].path]);
    w.ok("svc", &["-wu", "-T", "30000", "-u", &services[0].path]);

    let pids: Vec<i32> = services.iter().map(Service::pid).collect();
    let supervisor = parent(pids[0]);
    kill(supervisor, Signal::KILL);
    until("there is another supervisor", || {
        !is_alive(supervisor) && services.iter().all(Service::is_supervised)
    });
    w.ok("svc", &["-wr", "-T", "30000", "-r", &services[0].path]);
    for (service, pid) in services.iter().zip(&pids).skip(1) {
        assert!(is_alive(*pid) && service.status().pid == *pid, "{} is taken over", service.path);
    }
    until("the successor says it", || times_said(&svscan, FULL) > 1);
    drop(filling);
    fs::remove_file("scan/.filling").unwrap();
    until("it is over", || svscan.said().contains(&format!("over: {FULL}")));
    until("what could not be written is", || services[1].state().adopted == 1);
}

/// No more processes: said once for a hundred services, and all come back when there may be more.
fn no_processes(w: &World) {
    let name = format!("perennial-resources-{}", std::process::id());
    let tops = ["/sys/fs/cgroup/pids", "/sys/fs/cgroup"];
    let cgroup = tops.into_iter().map(|top| Path::new(top).join(&name)).find(|cgroup| {
        fs::create_dir(cgroup).is_ok()
            && (cgroup.join("pids.max").exists() || fs::remove_dir(cgroup).is_err())
    });
    let Some(cgroup) = cgroup else { return println!("not tried: no pids cgroup to be had") };
    let services = many(w, 100);
    let svscan = w.svscan_after(&format!("echo $$ >{}/cgroup.procs;", cgroup.display()), &[]);
    let old: Vec<i32> = services.iter().map(Service::pid).collect();
    let most = |text: &str| fs::write(cgroup.join("pids.max"), text).unwrap();
    most("20");
    old.iter().for_each(|pid| kill(*pid, Signal::KILL));
    const FAULT: &str = "unable to fork";
    until("the fault is said", || times_said(&svscan, FAULT) > 0);
    until("all have died", || !old.iter().any(|pid| is_alive(*pid)));
    let down = || services.iter().filter(|s| s.status().is_down()).count();
    until("most are told to be down", || down() >= 80);
    assert_eq!(times_said(&svscan, FAULT), 1, "{}", svscan.said());
    most("max");
    until("all run again", || services.iter().all(|s| s.status().is_up() && is_alive(s.status().pid)));
    until("it is over", || svscan.said().contains("over: Try again"));
    kill(svscan.pid(), Signal::TERM);
    assert_eq!(svscan.end().code, 0);
    until("the cgroup is empty", || fs::remove_dir(&cgroup).is_ok());
}

/// A supervisor with no descriptor to spare restarts its services all the same, says once that it cannot tell,
/// and tells when it can.
fn no_descriptors_to_tell(w: &World) {
    let services = many(w, 100);
    let svscan = w.svscan(&[]);
    let old: Vec<i32> = services.iter().map(Service::pid).collect();
    let supervisor = parent(old[0]);
    let open = fs::read_dir(format!("/proc/{supervisor}/fd")).unwrap().count() as u64;
    let limit = |to: u64| {
        let maximum = rustix::process::getrlimit(Resource::Nofile).maximum;
        let pid = rustix::process::Pid::from_raw(supervisor);
        let new = Rlimit { current: Some(to), maximum };
        rustix::process::prlimit(pid, Resource::Nofile, new).unwrap().current.unwrap()
    };
    let before = limit(open);
    old.iter().for_each(|pid| kill(*pid, Signal::KILL));
    const FAULT: &str = "Too many open files";
    until("the fault is said", || times_said(&svscan, FAULT) > 0);
    until("all have died", || !old.iter().any(|pid| is_alive(*pid)));
    limit(before);
    for (service, old) in services.iter().zip(&old) {
        until(&format!("{} is told to run again", service.path), || {
            let status = service.status();
            status.is_up() && status.pid != *old && is_alive(status.pid)
        });
    }
    until("it is over", || svscan.said().contains(&format!("over: {FAULT}")));
    assert_eq!(times_said(&svscan, FAULT), 2, "once, and that it is over:\n{}", svscan.said());
}

/// A new svscan comes while the supervisor has one number left, for the connection: what is handed over on it is
/// asked for again.
fn no_room_for_what_svscan_hands_over(w: &World) {
    let a = w.service("a", SLEEP);
    let mut svscan = w.svscan(&[]);
    let (pid, supervise) = (a.pid(), parent(a.pid()));
    let numbers = || -> Vec<u64> {
        let fds = fs::read_dir(format!("/proc/{supervise}/fd")).unwrap().flatten();
        fds.filter_map(|fd| fd.file_name().to_str()?.parse().ok()).collect()
    };
    let before = numbers().len();
    kill(svscan.pid(), Signal::KILL);
    until("svscan is dead, and seen to be", || !svscan.is_running() && numbers().len() + 2 <= before);
    let open = numbers();
    let free = (0..).find(|n| !open.contains(n)).unwrap();
    let limit = |to: u64| {
        let maximum = rustix::process::getrlimit(Resource::Nofile).maximum;
        let new = Rlimit { current: Some(to), maximum };
        rustix::process::prlimit(rustix::process::Pid::from_raw(supervise), Resource::Nofile, new).unwrap();
    };
    limit(free + 1);
    let successor = w.start_daemon("svscan", &["scan"]);
    until("there is no room", || svscan.said().contains("unable to take what svscan hands over"));
    limit(4096);
    let control = fs::canonicalize("scan/a/supervise/control").unwrap();
    until("the new svscan keeps the control FIFO", || {
        let fds = fs::read_dir(format!("/proc/{}/fd", successor.pid())).unwrap().flatten();
        fds.map(|fd| fs::read_link(fd.path())).any(|link| link.is_ok_and(|link| link == control))
    });
    assert_eq!(a.pid(), pid);
}

/// More services than there would be descriptors for if each had three: all are supervised, told, taken over and
/// ended.
fn many_services_with_few_descriptors(w: &World) {
    const COUNT: usize = 260;
    let services = many(w, COUNT);
    let svscan = w.svscan_after("ulimit -n 700;", &[]);
    let pids: Vec<i32> = services.iter().map(Service::pid).collect();
    let supervise = parent(pids[0]);
    let last = services.last().unwrap();
    assert!(fs::read_dir(format!("/proc/{supervise}/fd")).unwrap().count() < 3 * COUNT);
    assert!(services.iter().all(Service::is_supervised));
    kill(pids[COUNT - 1], Signal::KILL);
    until("it runs again", || last.status().is_up() && last.status().pid != pids[COUNT - 1]);
    kill(supervise, Signal::KILL);
    until("all are taken over", || services.iter().all(|s| s.state().adopted == 1 && s.is_supervised()));
    let same = |(service, pid): (&Service, &i32)| service.pid() == *pid;
    assert!(services.iter().zip(&pids).take(COUNT - 1).all(same));
    // One that is renamed is itself still, and one that leaves is not supervised any more.
    fs::rename(&last.path, "scan/renamed").unwrap();
    w.ok("svc", &["-wD", "-T", "30000", "-d", "scan/renamed"]);
    w.ok("svc", &["-x", "scan/renamed"]);
    fs::rename("scan/renamed", "away").unwrap();
    until("it is not supervised any more", || !w.at("away").is_supervised());
    w.ok("svc", &["-wD", "-T", "30000", "-d", "scan/s1", "scan/s0"]);
    w.ok("svscanctl", &["-t", "scan"]);
    assert_eq!(svscan.end().code, 0);
    assert!(pids.iter().all(|pid| !is_alive(*pid)));
    assert!(services[..COUNT - 1].iter().all(|service| !service.is_supervised()));
}

/// What supervisors write to becomes read-only while services run: they go on and are restarted, they can be told to
/// stop and to start, and when it can be written again, what is told is true again. (A file system on which somebody
/// has files open for writing cannot be made read-only; a mount upon a directory can.)
fn read_only_while_it_runs(w: &World) {
    if std::env::var_os(MAY_MOUNT).is_none() {
        return println!("not tried: nothing can be mounted here");
    }
    let services = many(w, 10);
    let svscan = w.svscan(&[]);
    let old: Vec<i32> = services.iter().map(Service::pid).collect();
    let supervisor = parent(old[0]);
    let mount =
        |args: &[&str]| assert!(Command::new("mount").args(args).status().unwrap().success(), "{args:?}");
    for service in &services {
        let dir = format!("{}/supervise", service.path);
        mount(&["--bind", &dir, &dir]);
        mount(&["-o", "remount,ro,bind", &dir]);
    }
    const READ_ONLY: &str = "Read-only file system";
    old.iter().for_each(|pid| kill(*pid, Signal::KILL));
    until("the fault is said", || times_said(&svscan, READ_ONLY) > 0);
    let running = || {
        let all = support::read(&format!("/proc/{supervisor}/task/{supervisor}/children"));
        all.split_whitespace().filter(|pid| support::read(&format!("/proc/{pid}/comm")) == "sleep\n").count()
    };
    until("all run again", || running() == services.len());
    // Who is told by the way that is left.
    fs::write("scan/s0/supervise/control", "d").unwrap();
    until("one was stopped", || running() == services.len() - 1);
    fs::write("scan/s0/supervise/control", "u").unwrap();
    until("and started", || running() == services.len());
    assert_eq!(times_said(&svscan, READ_ONLY), 1, "{}", svscan.said());
    for service in &services {
        assert!(
            Command::new("umount").arg(format!("{}/supervise", service.path)).status().unwrap().success()
        );
    }
    for (service, old) in services.iter().zip(&old) {
        until(&format!("{} is told to run again", service.path), || {
            let status = service.status();
            status.is_up() && status.pid != *old && is_alive(status.pid)
        });
    }
    until("it is over", || svscan.said().contains(&format!("over: {READ_ONLY}")));
}

/// No more memory for a supervisor: it answers, starts what it can, and all of it when there is memory again.
fn no_memory(w: &World) {
    let services = many(w, 20);
    let svscan = w.svscan(&[]);
    let old: Vec<i32> = services.iter().map(Service::pid).collect();
    let supervisor = parent(old[0]);
    let pages: u64 = support::stat(supervisor, 23).unwrap().parse().unwrap();
    let limit = |to: Option<u64>| {
        let pid = rustix::process::Pid::from_raw(supervisor);
        let new = Rlimit { current: to, maximum: None };
        rustix::process::prlimit(pid, Resource::As, new).unwrap();
    };
    limit(Some(pages));
    old.iter().for_each(|pid| kill(*pid, Signal::KILL));
    until("all have died", || !old.iter().any(|pid| is_alive(*pid)));
    // What comes now needs memory, and so do those who talk to it.
    for n in 0..50 {
        w.service_at(&format!("scan/new{n}"), SLEEP)
            .file("notification-fd", "3\n")
            .file("down-signal", "INT\n");
    }
    w.ok("svscanctl", &["-a", "scan"]);
    w.ok("svc", &["-x1y", &services[0].path]);
    limit(None);
    for service in &services {
        until("it runs", || service.status().is_up() && is_alive(service.status().pid));
    }
    for n in 0..50 {
        w.at(&format!("scan/new{n}")).pid();
    }
    w.ok("svc", &["-wr", "-T", "30000", "-r", &services[1].path]);
    w.ok("svscanctl", &["-t", "scan"]);
    assert_eq!(svscan.end().code, 0);
}

/// A scanner with no descriptor to spare: what appears meanwhile is seen when it has some, and nobody is dropped.
fn no_descriptors_to_scan(w: &World) {
    let a = &many(w, 1)[0];
    let mut svscan = w.svscan(&[]);
    let pid = a.pid();
    let open = fs::read_dir(format!("/proc/{}/fd", svscan.pid())).unwrap().count() as u64;
    let limit = |to: u64| {
        let maximum = rustix::process::getrlimit(Resource::Nofile).maximum;
        let new = Rlimit { current: Some(to), maximum };
        let scanner = rustix::process::Pid::from_raw(svscan.pid());
        rustix::process::prlimit(scanner, Resource::Nofile, new).unwrap().current.unwrap()
    };
    let before = limit(open);
    let new: Vec<Service> = (0..3).map(|n| w.service_at(&format!("scan/new{n}"), SLEEP)).collect();
    for service in &new {
        service.script("log/run", "exec cat >/dev/null");
    }
    w.ok("svscanctl", &["-a", "scan"]);
    until("the fault is said", || times_said(&svscan, "Too many open files") > 0);
    assert!(is_alive(pid));
    limit(before);
    new.iter().for_each(|service| {
        service.pid();
        w.at(&format!("{}/log", service.path)).pid();
    });
    assert_eq!(a.status().pid, pid);
    assert!(svscan.is_running());
}

/// A service whose directory is deleted keeps its `timeout-kill`, of which nobody can read any more.
fn directory_deleted_under_a_stubborn_service(w: &World) {
    let a = w.service("a", "trap '' TERM; : >ready; while :; do sleep 1; done");
    a.file("timeout-kill", "300\n");
    let _svscan = w.svscan(&[]);
    let pid = a.pid();
    until("it ignores SIGTERM", || a.has("ready"));
    fs::remove_dir_all("scan/a").unwrap();
    w.ok("svscanctl", &["-an", "scan"]);
    until("it is killed", || !is_alive(pid));
}
