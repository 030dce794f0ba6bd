//! Services that are added and taken out while it runs, and instances of services.

use crate::support::interop::{Kit, World};
use crate::support::{SLEEP, chmod, is_alive, kill, mode, until, until_eq};
use rustix::process::Signal;
use std::fs;
use std::time::{Duration, Instant};

pub fn svlink(w: &World) {
    let _svscan = w.svscan(&[]);
    let a = w.service_at("services/a", SLEEP);
    w.ok("svlink", &["-t", "10000", "scan", "services/a"]);
    assert!(a.is_supervised(), "it is supervised when svlink has ended");
    assert_eq!(fs::read_link("scan/a").unwrap(), w.base.join("services/a"));
    let pid = a.pid();
    // With another name; and again what is there.
    let b = w.service_at("services/b", SLEEP);
    w.ok("svlink", &["-t", "10000", "scan", "services/b/", "other"]);
    assert!(b.is_supervised() && fs::exists("scan/other").unwrap());
    assert_eq!(w.code("svlink", &["scan", "services/a"]), 0);
    w.ok("svc", &["-wD", "-T", "10000", "-d", "scan/a"]);
    assert!(!is_alive(pid));
    assert_eq!(mode("services/a/event"), 0o3730);
    let c = w.service_at("services/c", SLEEP);
    w.ok("svlink", &["-P", "-t", "10000", "scan", "services/c"]);
    assert!(c.is_supervised());
    assert_eq!(mode("services/c/event"), 0o1733);
}

pub fn svlink_down(w: &World) {
    let _svscan = w.svscan(&[]);
    let a = w.service_at("services/a", SLEEP);
    w.ok("svlink", &["-d", "-t", "10000", "scan", "services/a"]);
    assert!(!a.has("down"), "down for now");
    assert!(a.status().is_down() && !a.status().wanted());
    let b = w.service_at("services/b", SLEEP);
    w.ok("svlink", &["-D", "-t", "10000", "scan", "services/b"]);
    assert!(b.has("down"), "down for good");
    assert!(b.status().is_down() && !b.status().wanted());
    w.ok("svc", &["-wu", "-T", "10000", "-u", "scan/a"]);
}

pub fn svlink_logger(w: &World) {
    let _svscan = w.svscan(&[]);
    let a = w.service_at("services/a", "echo hello; exec sleep 1000");
    let log = w.service_at("services/a/log", "exec cat >all");
    w.ok("svlink", &["-t", "10000", "scan", "services/a"]);
    assert!(a.is_supervised() && log.is_supervised());
    until_eq("hello\n".to_owned(), || log.read("all"));
    w.ok("svunlink", &["-t", "10000", "scan", "a"]);
    left(w, &a);
    left(w, &log);
}

pub fn svlink_codes(w: &World) {
    let a = w.service_at("services/a", SLEEP);
    let svscan = w.svscan(&[]);
    let link = |args: &[&str]| w.code("svlink", args);
    assert_eq!(link(&["scan"]), 100);
    assert_eq!(link(&["scan", "services/a", ".a"]), 100);
    assert_eq!(link(&["scan", "nowhere"]), 111);
    fs::create_dir("services/empty").unwrap();
    assert_eq!(link(&["scan", "services/empty"]), 111);
    chmod("services/a/run", 0o644);
    assert_eq!(link(&["scan", "services/a"]), 100);
    chmod("services/a/run", 0o755);
    // What is there under that name stays.
    fs::create_dir("scan/a").unwrap();
    assert_eq!(link(&["-t", "3000", "scan", "services/a"]), 111);
    assert!(fs::symlink_metadata("scan/a").unwrap().is_dir());
    // A scanner that does not act: time is up and everything as before.
    kill(svscan.pid(), Signal::STOP);
    if w.daemons == Kit::S6 {
        assert_eq!(link(&["-D", "-t", "300", "scan", "services/a", "b"]), 99);
        assert!(!a.has("down") && !fs::exists("scan/b").unwrap());
    }
    kill(svscan.pid(), Signal::CONT);
    w.ok("svscanctl", &["-t", "scan"]);
    assert_eq!(svscan.end().code, 0);
    assert_eq!(link(&["scan", "services/a"]), 1, "nobody scans");
}

/// A supervisor of s6 tells that it leaves and leaves then; ours has left when it tells.
fn left(w: &World, service: &crate::support::Service) {
    if w.daemons == Kit::S6 {
        until("its supervisor has left", || !service.is_supervised());
    }
    assert!(!service.is_supervised());
}

pub fn svunlink(w: &World) {
    let _svscan = w.svscan(&[]);
    let a = w.service_at("services/a", SLEEP);
    w.ok("svlink", &["-t", "10000", "scan", "services/a"]);
    let pid = a.pid();
    w.ok("svunlink", &["scan", "a"]);
    left(w, &a);
    assert!(!fs::exists("scan/a").unwrap() && !is_alive(pid));
    // One that will not stop: the time is up, which is no error.
    let b = w.service_at("services/b", "trap '' TERM; touch trapped; while :; do sleep 0.1; done");
    w.ok("svlink", &["-t", "10000", "scan", "services/b"]);
    until("b ignores SIGTERM", || b.has("trapped"));
    let asked = Instant::now();
    w.ok("svunlink", &["-t", "500", "scan", "b"]);
    assert!(asked.elapsed() >= Duration::from_millis(500));
    assert!(b.is_supervised() && !fs::exists("scan/b").unwrap());
    let c = w.service_at("services/c", SLEEP);
    w.ok("svlink", &["-t", "10000", "scan", "services/c"]);
    w.ok("svunlink", &["-X", "scan", "c"]);
    assert!(!fs::exists("scan/c").unwrap());
    until("c has no supervisor", || !c.is_supervised());
    w.ok("svunlink", &["scan", "nowhere"]);
    assert_eq!(w.code("svunlink", &["scan", ".a"]), 100);
    assert_eq!(w.code("svunlink", &["scan"]), 100);
}

fn instanced(w: &World) -> crate::support::Service {
    let service = w.service("many", "exec s6-svscan -d3 -c 50 -- instance");
    service.file("notification-fd", "3\n");
    fs::create_dir("scan/many/instance").unwrap();
    service.script("template/run", "exec sleep 1000").file("template/data/x", "y");
    service.script("template/log/run", "exec cat");
    chmod("scan/many/template/data/x", 0o640);
    service
}

pub fn instances(w: &World) {
    let many = instanced(w);
    let _svscan = w.svscan(&[]);
    w.ok("svwait", &["-U", "-t", "10000", &many.path]);
    assert_eq!(w.ok("instance-list", &[&many.path]), "");
    w.ok("instance-create", &["-t", "10000", &many.path, "a"]);
    let a = w.at("scan/many/instance/a");
    assert!(a.is_supervised() && w.at("scan/many/instance/a/log").is_supervised());
    assert_eq!(fs::read_link("scan/many/instance/a").unwrap().to_str(), Some("../instances/a"));
    assert_eq!((many.read("instances/a/data/x"), mode("scan/many/instances/a/data/x")), ("y".into(), 0o640));
    let pid = a.pid();
    assert!(w.ok("instance-status", &[&many.path, "a"]).starts_with(&format!("up (pid {pid}) ")));
    assert_eq!(w.ok("instance-status", &["-o", "pid", &many.path, "a"]), format!("{pid}\n"));
    w.ok("instance-control", &["-wD", "-T", "10000", "-d", &many.path, "a"]);
    assert!(!is_alive(pid));
    w.ok("instance-create", &["-d", "-t", "10000", &many.path, "b"]);
    let b = w.at("scan/many/instance/b");
    assert!(b.status().is_down() && !b.has("down"));
    w.ok("instance-create", &["-D", "-t", "10000", &many.path, "c"]);
    assert!(w.at("scan/many/instance/c").has("down"));
    let mut names: Vec<String> = w.ok("instance-list", &[&many.path]).lines().map(str::to_owned).collect();
    names.sort();
    assert_eq!(names, ["a", "b", "c"]);
    w.ok("instance-control", &["-wu", "-T", "10000", "-u", &many.path, "b"]);
    let pid = b.pid();
    w.ok("instance-delete", &["-t", "10000", &many.path, "b"]);
    assert!(!is_alive(pid) && !many.has("instances/b") && !many.has("instance/b"));
    w.ok("instance-delete", &["-X", &many.path, "c"]);
    assert!(!many.has("instance/c"));
}

pub fn instance_codes(w: &World) {
    let many = instanced(w);
    let _svscan = w.svscan(&[]);
    w.ok("svwait", &["-U", "-t", "10000", &many.path]);
    w.ok("instance-create", &["-t", "10000", &many.path, "a"]);
    assert_eq!(w.code("instance-create", &[&many.path, "a"]), 100, "it is there");
    for bad in ["", ".a", "a b"] {
        assert_eq!(w.code("instance-create", &[&many.path, bad]), 100, "{bad:?}");
        assert_eq!(w.code("instance-delete", &[&many.path, bad]), 100, "{bad:?}");
        assert_eq!(w.code("instance-status", &[&many.path, bad]), 100, "{bad:?}");
        assert_eq!(w.code("instance-control", &["-u", &many.path, bad]), 100, "{bad:?}");
    }
    assert_eq!(w.code("instance-status", &[&many.path, "none"]), 1);
    assert_eq!(w.code("instance-control", &["-u", &many.path, "none"]), 111);
    assert_eq!(w.code("instance-delete", &[&many.path, "none"]), 0, "that is what was wanted");
    assert_eq!(w.code("instance-list", &["nowhere"]), 111);
    assert_eq!(w.code("instance-create", &["nowhere", "a"]), 111);
    assert_eq!(w.code("instance-create", &[&many.path]), 100);
    w.ok("svc", &["-wD", "-T", "10000", "-d", &many.path]);
    assert_eq!(w.code("instance-list", &[&many.path]), 1, "it does not run");
    assert_eq!(w.code("instance-create", &[&many.path, "b"]), 1);
    assert_eq!(w.code("instance-delete", &[&many.path, "a"]), 1);
}
