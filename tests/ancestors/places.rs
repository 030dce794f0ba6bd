//! Where things are, and who put them there.

use super::control::answers;
use crate::support::{Running, SLEEP, World, chmod, is_alive, mkfifo, mode, read, until};
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::process::Command;

/// Runs a shell script in mount and PID namespaces of its own, in the world's directory. `None`: they cannot be had.
fn apart(w: &World, script: &str) -> Option<crate::support::Ran> {
    if !rustix::process::geteuid().is_root() {
        println!("not tried: this needs root");
        return None;
    }
    let script = format!("set -e; mount -t proc proc /proc; cd {}; {script}", w.base.display());
    let mut command = Command::new("unshare");
    command.args(["-fpm", "--propagation", "private", "--kill-child", "sh", "-c", &script]);
    Some(Running::new(command, "a namespace".into()).end())
}

/// What scripts wait with, and the programs by their names.
fn words(w: &World) -> String {
    format!(
        "PATH={}:$PATH; until_() {{ n=0; until \"$@\" 2>/dev/null; do n=$((n+1)); [ $n -lt 3000 ] || {{ echo waited in vain: \"$@\" >&2; exit 99; }}; sleep 0.01; done; }}",
        w.daemon("svscan").trim_end_matches("/svscan")
    )
}

/// Without /dev/null services run all the same. (A shell opens it for what it has in the background, and makes it where
/// it writes to it: here it does neither.)
pub fn a011_nothing_in_dev(w: &World) {
    let a = w.service("a", "echo up >told; exec sleep 1000");
    let script = format!(
        "{}; mount -t tmpfs tmpfs /dev; exec 0<&-; setsid -f svscan scan >said 2>&1
         while ! test -s scan/a/told; do sleep 0.01; done; svc -wr -T 30000 -r scan/a; svstat -u scan/a; svscanctl -t scan
         while svok scan/a; do sleep 0.01; done; ls -A /dev",
        words(w)
    );
    let Some(ran) = apart(w, &script) else { return };
    assert_eq!((ran.code, &*ran.out), (0, "true\n"), "{ran:?} {}", read("said"));
    assert!(a.read("told") == "up\n");
}

/// `supervise` of a service and of its logger on two file systems, neither the service's.
pub fn a035_states_on_two_file_systems(w: &World) {
    w.service("a", "echo here; exec sleep 1000");
    w.service("a/log", "exec cat >all");
    for (name, path) in [("one", "scan/a"), ("two", "scan/a/log")] {
        fs::create_dir(name).unwrap();
        for what in ["supervise", "event"] {
            symlink(w.base.join(name).join(what), format!("{path}/{what}")).unwrap();
        }
    }
    let script = format!(
        "{}; mount -t tmpfs tmpfs one; mount -t tmpfs tmpfs two; svscan scan >said 2>&1 & s=$!
         until_ grep -q here scan/a/log/all; until_ test -e one/supervise/status -a -e two/supervise/status; svc -wr -T 30000 -r scan/a; svc -wr -T 30000 -r scan/a/log
         svc -wr -T 30000 -k scan/a; svstat -o up scan/a; svstat -o up scan/a/log; svdt scan/a | wc -l; ls one/supervise two/supervise | grep -cx status
         svscanctl -t scan; wait $s",
        words(w)
    );
    let Some(ran) = apart(w, &script) else { return };
    assert_eq!((ran.code, &*ran.out), (0, "true\ntrue\n2\n2\n"), "{ran:?} {}", read("said"));
}

/// Directories that are there already, empty, or as links to a place that can be written.
pub fn a087_directories_that_are_there(w: &World) {
    let a = w.service("a", SLEEP);
    let b = w.service("b", SLEEP);
    fs::create_dir_all("elsewhere/scanner").unwrap();
    for name in ["supervise", "event"] {
        fs::create_dir(format!("scan/a/{name}")).unwrap();
        chmod(&format!("scan/a/{name}"), 0o700);
        fs::create_dir(format!("elsewhere/{name}")).unwrap();
        symlink(w.base.join("elsewhere").join(name), format!("scan/b/{name}")).unwrap();
    }
    symlink(w.base.join("elsewhere/scanner"), "scan/.s6-svscan").unwrap();
    for _ in 0..2 {
        let svscan = w.svscan(&[]);
        answers(w, &a);
        answers(w, &b);
        w.ok("svscanctl", &["-t", "scan"]);
        assert_eq!(svscan.end().code, 0);
    }
    assert_eq!(mode("scan/a/event"), 0o700, "what is there is left as it is");
}

/// No inodes: those that fit run, and the others when there is room.
pub fn a092_no_inodes(w: &World) {
    fs::create_dir("services").unwrap();
    for n in 0..5 {
        w.service_at(&format!("services/s{n}"), SLEEP);
    }
    let script = format!(
        "{}; mount -t tmpfs -o nr_inodes=32 tmpfs scan; mkdir scan/.s6-svscan; cp -r services/* scan/
         svscan scan >said 2>&1 & s=$!
         until_ grep -q 'No space left' said
         up() {{ n=0; for i in 0 1 2 3 4; do [ \"$(svstat -u scan/s$i)\" != true ] || n=$((n+1)); done; [ $n = 5 ]; }}
         ! up; kill -0 $s; mount -o remount,nr_inodes=1000 scan; until_ up; svscanctl -t scan; wait $s",
        words(w)
    );
    let Some(ran) = apart(w, &script) else { return };
    assert_eq!(ran.code, 0, "{ran:?} {}", read("said"));
}

/// Links that somebody else put where a supervisor writes: what they lead to is not changed.
pub fn a095_links_to_a_victim(w: &World) {
    fs::write("victim", "mine\n").unwrap();
    chmod("victim", 0o640);
    let victim = w.base.join("victim");
    let a = w.service("a", "exit 1");
    fs::create_dir_all("scan/a/event").unwrap();
    for name in
        ["ftrig1:@400000006553f1000000000a:AbCdEf", "ftrig1:@400000006553f1000000000b:AbCdEf", "other"]
    {
        symlink(&victim, format!("scan/a/event/{name}")).unwrap();
    }
    fs::create_dir("scan/a/supervise").unwrap();
    chmod("scan/a/supervise", 0o700);
    for name in ["status.new", "death_tally.new", "state.new"] {
        symlink(&victim, format!("scan/a/supervise/{name}")).unwrap();
    }
    let before = fs::metadata("victim").unwrap();
    let svscan = w.svscan(&[]);
    until("it died", || !a.deaths().is_empty());
    w.ok("svc", &["-D", &a.path]);
    w.ok("svwait", &["-D", "-t", "30000", &a.path]);
    w.ok("svperms", &["-e", &a.path]);
    w.ok("cleanfifodir", &["scan/a/event"]);
    w.ok("ftrig-notify", &["scan/a/event", "x"]);
    w.ok("svscanctl", &["-t", "scan"]);
    assert_eq!(svscan.end().code, 0);
    let after = fs::metadata("victim").unwrap();
    assert_eq!(read("victim"), "mine\n");
    assert_eq!((before.mode(), before.uid(), before.ino()), (after.mode(), after.uid(), after.ino()));
}

/// Whatever lies in `event` by the thousand: no change is held up.
pub fn a096_a_crowded_event_directory(w: &World) {
    let a = w.service("a", SLEEP);
    let _svscan = w.svscan(&[]);
    a.pid();
    for n in 0..2000 {
        let name = match n % 4 {
            0 => format!("{n:0200}"),
            1 => format!("ftrig1:{n}"),
            2 => format!(".ftrig1:@400000006553f1000000{n:04x}:AbCdEf"),
            _ => format!("ftrig1:@400000006553f1000000{n:04x}:AbCdEf"),
        };
        let path = format!("scan/a/event/{name}");
        match n % 3 {
            0 => fs::create_dir(&path).unwrap(),
            1 => mkfifo(&path),
            _ => fs::write(&path, "x").unwrap(),
        }
    }
    let began = std::time::Instant::now();
    (0..5).for_each(|_| answers(w, &a));
    assert!(began.elapsed() < std::time::Duration::from_secs(60), "{:?}", began.elapsed());
}

/// A name in a scan directory leads nowhere else.
pub fn a101_names_are_no_paths(w: &World) {
    let a = w.service("a", SLEEP);
    w.service_at("outside", SLEEP);
    let _svscan = w.svscan(&[]);
    let pid = a.pid();
    let long = "x".repeat(255);
    for name in ["../outside", "..", ".", ".a", "a/../../outside", "", &long, "a b"] {
        assert_ne!(w.code("svunlink", &["-t", "500", "scan", name]), 111 + 1);
        assert_ne!(w.code("svlink", &["-t", "500", "scan", "outside/../outside/nowhere", name]), 0);
        assert_ne!(w.code("instance-create", &["-t", "500", "scan/a", name]), 0);
        assert_ne!(w.code("instance-delete", &["-t", "500", "scan/a", name]), 0);
        assert_ne!(w.code("instance-control", &["-k", "scan/a", name]), 0);
    }
    assert!(fs::exists("outside/run").unwrap() && fs::exists("scan/a/run").unwrap());
    assert_eq!((a.status().pid, is_alive(pid)), (pid, true));
}

/// The only place that can be written has no programs, and all else is read-only.
pub fn a103_noexec_and_read_only(w: &World) {
    fs::create_dir_all("image/a").unwrap();
    w.at("image/a").script("run", "exec sleep 1000").script("finish", ":");
    fs::create_dir("run").unwrap();
    for what in ["supervise", "event"] {
        symlink(w.base.join("run/a").join(what), format!("image/a/{what}")).unwrap();
    }
    let script = format!(
        "{}; mount -t tmpfs -o noexec tmpfs run; mkdir run/scan run/a; ln -s $PWD/image/a run/scan/a
         mount --bind image image; mount -o remount,ro,bind image
         svscan run/scan >run/said 2>&1 & s=$!
         until_ svok run/scan/a; svwait -u -t 30000 run/scan/a; svc -wr -T 30000 -k run/scan/a; svstat -u image/a
         svscanctl -t run/scan; wait $s; cat run/said",
        words(w)
    );
    let Some(ran) = apart(w, &script) else { return };
    assert_eq!((ran.code, &*ran.out), (0, "true\n"), "{ran:?}");
}

/// A service directory however it is written.
pub fn a117_forms_of_a_path(w: &World) {
    let a = w.service("a", SLEEP);
    symlink("scan/a", "link").unwrap();
    let _svscan = w.svscan(&[]);
    a.pid();
    let absolute = w.base.join("scan/a").display().to_string();
    for path in ["scan/a", "scan/a/", "scan//a", "./scan/./a/.", "scan/../scan/a", "link", "link/", &absolute]
    {
        answers(w, &w.at(path));
        assert_eq!(w.ok("svstat", &["-u", path]), "true\n");
        w.ok("svok", &[path]);
    }
    for path in ["b", "b/", "./b", "b//"] {
        let b = w.service_at("b", SLEEP);
        let supervisor = w.start_daemon("supervise", &[path]);
        b.wait_supervised();
        b.pid();
        w.ok("svc", &["-wD", "-T", "30000", "-dx", path]);
        assert_eq!(supervisor.end().code, 0);
    }
}
