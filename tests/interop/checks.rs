//! notifyoncheck: asking until the answer is yes.

use crate::support::interop::{Kit, World};
use crate::support::{is_alive, kill, parent, until, until_eq};
use rustix::process::Signal;

/// Starts a service whose run is notifyoncheck with these arguments, and waits until it is up.
fn checked(w: &World, arguments: &str) -> crate::support::Service {
    let run = format!("exec 8<run\nexec {} {arguments}", w.client("notifyoncheck"));
    let a = w.service("a", &run);
    a.file("notification-fd", "867\n");
    let _svscan = w.svscan(&[]);
    a.pid();
    a
}

pub fn notifyoncheck_command(w: &World) {
    let a = checked(
        w,
        r#"-d -n 300 -w 100 -c "test -e 'good' -a \"-e\" good" sh -c 'ls /proc/$$/fd >fds; echo $$ $BASE >told; cd /; exec sleep 1000'"#,
    );
    let pid = a.pid();
    until_eq(format!("{pid} {}\n", w.base.display()), || a.read("told"));
    let fds = a.read("fds");
    let fds: Vec<&str> = fds.lines().collect();
    assert!(["0", "1", "2", "8"].iter().all(|fd| fds.contains(fd)), "{fds:?}");
    assert!(!fds.contains(&"867"), "{fds:?}");
    assert_eq!(w.code("svwait", &["-U", "-t", "300", &a.path]), 99);
    let events = a.listen();
    a.file("'good'", "").file("good", "");
    w.ok("svwait", &["-U", "-t", "10000", &a.path]);
    assert_eq!(a.pid(), pid);
    events.expect("U");
    // Once for each life.
    w.ok("svc", &["-wR", "-T", "10000", "-r", &a.path]);
    events.expect("UdDuU");
}

pub fn notifyoncheck_file(w: &World) {
    let a = w.at("scan/a");
    a.script("data/check", "echo \"$# $(pwd -P)\" >>asked; [ $(wc -l <asked) -ge 3 ]");
    let a = checked(w, "-s 50 -w 50 -n 0 sleep 1000");
    w.ok("svwait", &["-U", "-t", "10000", &a.path]);
    let here = w.base.join("scan/a");
    assert_eq!(a.read("asked"), format!("0 {}\n", here.display()).repeat(3));
}

/// s6 2.11 goes on to the next attempt and leaves the one that hangs alone; ours kills it, as s6's page
/// says, and all that it started.
pub fn notifyoncheck_hanging(w: &World) {
    let a = w.at("scan/a");
    a.script("data/check", "[ -e asked ] && exit; sleep 1000 & echo $$ $! >asked; wait");
    let a = checked(w, "-d -t 500 -w 100 -n 3 sleep 2000");
    w.ok("svwait", &["-U", "-t", "10000", &a.path]);
    let asked = a.read("asked");
    let mut pids = asked.split_whitespace().map(|pid| pid.parse::<i32>().unwrap());
    if w.clients == Kit::Ours {
        until("the first attempt is gone", || pids.all(|pid| !is_alive(pid)));
    }
}

pub fn notifyoncheck_gives_up(w: &World) {
    let a = w.at("scan/a");
    a.script("data/check", "echo >>asked; exit 1");
    let a = checked(w, "-w 50 -n 4 sleep 1000");
    until("it was asked four times", || a.read("asked").len() == 4);
    let pid = a.pid();
    assert_eq!(w.code("svwait", &["-U", "-t", "500", &a.path]), 99);
    assert_eq!(a.read("asked").len(), 4);
    assert_eq!(a.pid(), pid, "the service is up all the same");
    let ran = w.run("notifyoncheck", &["true"]);
    assert_eq!(ran.code, 100, "not in a service directory: {ran:?}");
    assert_eq!(w.code("notifyoncheck", &["-n", "x", "true"]), 100);
    assert_eq!(w.code("notifyoncheck", &["-d"]), 100);
}

/// The asking ends with the service.
pub fn notifyoncheck_ends(w: &World) {
    let a = w.at("scan/a");
    a.script("data/check", "echo $$ >asking; exec sleep 1000");
    let a = checked(w, "-d -n 0 sleep 2000");
    until("it is asked", || a.read("asking").ends_with('\n'));
    let asking: i32 = a.read("asking").trim().parse().unwrap();
    let asker = parent(asking);
    assert!(is_alive(asking) && is_alive(asker));
    w.ok("svc", &["-wD", "-T", "10000", "-d", &a.path]);
    until("nobody asks", || !is_alive(asking) && !is_alive(asker));
    if w.clients == Kit::S6 {
        return;
    }
    // Asked to end it ends too, and takes the check with it; the service goes on.
    w.ok("svc", &["-wu", "-T", "10000", "-u", &a.path]);
    until("it is asked again", || a.read("asking").trim().parse().is_ok_and(|pid: i32| is_alive(pid)));
    let asking: i32 = a.read("asking").trim().parse().unwrap();
    kill(parent(asking), Signal::TERM);
    until("nobody asks", || !is_alive(asking));
    assert!(a.status().is_up());
}
