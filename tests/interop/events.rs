//! Fifodirs, and who may look at a service.

use crate::support::interop::{Kit, World};
use crate::support::{SLEEP, chmod, listeners, mkfifo, mode, until_eq};
use std::fs;

/// s6 up to 2.14 exits 1 when the time is up and prints the last event that matched, and ^ and $ match
/// nowhere; since 2.15, and so in ours, it is 99, all events that were heard, and the ends of these.
pub fn fifodir(w: &World) {
    let [gid, _] = groups();
    let group = gid.to_string();
    w.ok("mkfifodir", &["public"]);
    assert_eq!(mode("public"), 0o1733);
    w.ok("mkfifodir", &["-g", &group, "private"]);
    assert_eq!(mode("private"), 0o3730);
    assert_eq!(std::os::unix::fs::MetadataExt::gid(&fs::metadata("private").unwrap()), gid);
    w.ok("mkfifodir", &["-g", &group, "public"]);
    assert_eq!(mode("public"), 0o1733, "what is there stays as it is");
    w.ok("mkfifodir", &["-f", "-g", &group, "public"]);
    assert_eq!(mode("public"), 0o3730);
    w.ok("mkfifodir", &["-f", "public"]);
    assert_eq!(mode("public"), 0o1733);
    fs::write("file", "").unwrap();
    assert_eq!(w.code("mkfifodir", &["file"]), 111);
    assert_eq!(w.code("mkfifodir", &["-g", "users", "x"]), 100);
    for notifier in [w.clients, w.daemons] {
        let waiting = w.start("ftrig-wait", &["-t", "10000", "public", "[sS]"]);
        until_eq(1, || listeners("public"));
        assert_eq!(w.run_of(notifier, "ftrig-notify", &["public", "s"]).code, 0);
        let ran = waiting.end();
        assert_eq!((ran.code, &*ran.out), (0, "s\n"));
        until_eq(0, || listeners("public"));
    }
    let waiting = w.start("ftrig-wait", &["-t", "10000", "public", "(u|U)d+D"]);
    until_eq(1, || listeners("public"));
    for events in ["suU", "d", "dDx"] {
        w.ok("ftrig-notify", &["public", events]);
    }
    let ran = waiting.end();
    assert_eq!((ran.code, &*ran.out), (0, if w.clients == Kit::S6 { "D\n" } else { "suUddD\n" }));
    if w.clients == Kit::Ours {
        let waiting = w.start("ftrig-wait", &["-t", "10000", "public", "^s.*U$"]);
        until_eq(1, || listeners("public"));
        w.ok("ftrig-notify", &["public", "suUd"]);
        assert_eq!(waiting.end().out, "suU\n");
    }
    let timed_out = if w.clients == Kit::S6 { 1 } else { 99 };
    assert_eq!(w.code("ftrig-wait", &["-t", "200", "public", "x"]), timed_out);
    assert_eq!(w.code("ftrig-wait", &["nowhere", "x"]), 111);
    assert_eq!(w.code("ftrig-wait", &["public", "x("]), 111);
    assert_eq!(w.code("ftrig-wait", &["public"]), 100);
    assert_eq!(w.code("ftrig-notify", &["nowhere", "x"]), 111);
    assert_eq!(w.code("ftrig-notify", &["public"]), 100);
}

/// In s6 up to 2.12 cleaning does nothing; notifying removes the dead in all.
pub fn fifodir_cleaning(w: &World) {
    const DEAD: &str = "public/ftrig1:@400000006553f1000000000a:AbCdEf";
    w.ok("mkfifodir", &["public"]);
    mkfifo(DEAD);
    mkfifo("public/ftrig1:other");
    w.ok("cleanfifodir", &["public"]);
    assert_eq!(fs::exists(DEAD).unwrap(), w.clients == Kit::S6);
    if w.clients == Kit::Ours {
        mkfifo(DEAD);
    }
    w.ok("ftrig-notify", &["public", "x"]);
    assert!(!fs::exists(DEAD).unwrap());
    assert!(fs::exists("public/ftrig1:other").unwrap(), "what has not the name of a listener is none");
    assert_eq!(w.code("cleanfifodir", &["nowhere"]), 111);
    assert_eq!(w.code("cleanfifodir", &[]), 100);
}

/// Two groups that are not our own, which only root can give files to; for others it is their own twice.
fn groups() -> [u32; 2] {
    match rustix::process::geteuid().is_root() {
        true => [12, 4711],
        false => [rustix::process::getegid().as_raw(); 2],
    }
}

pub fn svperms(w: &World) {
    let a = w.service("a", SLEEP);
    let _svscan = w.svscan(&[]);
    a.pid();
    let modes = || {
        use std::os::unix::fs::MetadataExt;
        let one = |name: &str| {
            let meta = fs::metadata(format!("scan/a/{name}")).unwrap();
            (meta.mode() & 0o7777, meta.gid())
        };
        (one("supervise"), one("supervise/control"), one("event"))
    };
    let own = rustix::process::getegid().as_raw();
    let (supervise, control, event) = ((0o700, own), (0o600, own), (0o3730, own));
    assert_eq!(modes(), (supervise, control, event));
    let said = w.ok("svperms", &[&a.path]);
    let lines: Vec<&str> = said.lines().map(|l| l.strip_prefix("scan/a ").unwrap()).collect();
    assert_eq!(lines[..2], ["status: owner", "control: owner"]);
    let own_name = lines[2].strip_prefix("events: group ").unwrap();
    let [one, two] = groups();
    let (group_one, group_two) = (format!(":{one}"), format!(":{two}"));
    // Nobody has given 4711 a name.
    let name_two = if two == own { own_name } else { "4711" };
    w.ok("svperms", &["-g", &group_one, &a.path]);
    assert_eq!(modes(), ((0o710, one), control, event));
    w.ok("svperms", &["-G", &group_two, &a.path]);
    assert_eq!(modes(), ((0o710, two), (0o620, two), event));
    w.ok("svperms", &["-o", &a.path]);
    assert_eq!(modes(), ((0o711, own), control, event));
    w.ok("svperms", &["-O", &group_two, "-E", &group_one, &a.path]);
    assert_eq!(modes(), ((0o711, own), (0o620, two), (0o3730, one)));
    assert_eq!(
        w.ok("svperms", &["-v", "-e", "-O", &group_two, &a.path]),
        format!("scan/a status: public\nscan/a control: group {name_two}\nscan/a events: public\n")
    );
    w.ok("svperms", &["-E", own_name, &a.path]);
    assert_eq!(modes().2, event, "a group by its name");
    w.ok("svperms", &["-u", &a.path]);
    assert_eq!(modes(), (supervise, control, event));
    assert!(a.is_supervised());
    w.ok("svc", &["-wD", "-T", "10000", "-d", &a.path]);
    chmod("scan/a/supervise", 0o777);
    assert_eq!(w.code("svperms", &[&a.path]), 1);
    assert_eq!(w.code("svperms", &["-u", "nowhere"]), 111);
    assert_eq!(w.code("svperms", &["-g", "nobody has such a group", &a.path]), 100);
    assert_eq!(w.code("svperms", &[]), 100);
}
