//! svpool with real programs. Workers do nothing: what they say of themselves the tests write for them, so that
//! nothing here depends on time.

mod support;

use rustix::process::Signal;
use std::fs;
use std::process::ExitCode;
use support::runner;
use support::{Programs, SLEEP, Service, World, chmod, is_alive, kill, parent, read, until, until_eq};

fn main() -> ExitCode {
    runner::run_apart("pool", SCENARIOS)
}

const SCENARIOS: &[(&str, fn())] = &[
    ("follows_a_metric", follows_a_metric),
    ("down_to_none", down_to_none),
    ("the_busy_one_stays", the_busy_one_stays),
    ("a_busy_one_has_its_time", a_busy_one_has_its_time),
    ("says_it_by_its_supervisor", says_it_by_its_supervisor),
    ("is_stopped", is_stopped),
    ("killed", killed),
    ("killed_while_it_drains", killed_while_it_drains),
    ("killed_while_it_makes", killed_while_it_makes),
    ("its_supervisors_are_killed", its_supervisors_are_killed),
    ("leaves_its_workers", leaves_its_workers),
    ("restarts_one_after_another", restarts_one_after_another),
    ("a_restart_outlives_it", a_restart_outlives_it),
    ("no_restart_with_a_bad_template", no_restart_with_a_bad_template),
    ("stopped_by_somebody_else", stopped_by_somebody_else),
    ("removed_by_somebody_else", removed_by_somebody_else),
    ("workers_with_loggers", workers_with_loggers),
    ("a_template_by_a_link", a_template_by_a_link),
    ("a_metric_fails", a_metric_fails),
    ("a_metric_hangs", a_metric_hangs),
    ("nothing_wakes_it", nothing_wakes_it),
    ("shown", shown),
    ("refusals", refusals),
];

fn programs() -> Programs {
    Programs { dir: runner::shared_dir().join("programs"), prefix: "" }
}

/// A pool `scan/p` with its template, which runs as soon as there is a svscan.
struct Pool {
    w: World,
    service: Service,
    template: Service,
}

/// Changes come as soon as they are asked for.
const EAGER: &str = "--interval 20ms --cooldown 0 --idle 0";

impl Pool {
    /// With these options; its metric is the file `scan/p/wanted`.
    fn new(options: &str) -> Pool {
        let w = World::new(programs(), programs());
        let run = format!("exec 2>>\"$BASE/said\"; exec svpool template -S \"$BASE/scan\" {EAGER} {options}");
        let service = w.service("p", &run);
        service.file("wanted", "0\n");
        let template = w.service_at("scan/p/template", SLEEP);
        Pool { w, service, template }
    }

    /// Between these bounds, one worker for each that is wanted.
    fn metric(min: u32, max: u32, options: &str) -> Pool {
        Pool::new(&format!("--min {min} --max {max} --metric 'cat wanted' {options}"))
    }

    fn worker(&self, number: u32) -> Service {
        self.w.at(&format!("scan/p@{number}"))
    }

    /// So much is wanted from now on.
    fn want(&self, metric: &str) {
        fs::write("scan/p/wanted.new", metric).unwrap();
        fs::rename("scan/p/wanted.new", "scan/p/wanted").unwrap();
    }

    /// What a worker says.
    fn say(&self, number: u32, text: &str) {
        let path = self.worker(number).path;
        fs::write(format!("{path}/status.new"), text).unwrap();
        fs::rename(format!("{path}/status.new"), format!("{path}/status")).unwrap();
    }

    /// The workers that are linked.
    fn there(&self) -> Vec<String> {
        let names = fs::read_dir("scan").unwrap().flatten();
        let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
        let mut names: Vec<String> = names.filter(|name| name.starts_with("p@")).collect();
        names.sort();
        names
    }

    /// Waits until these and no others are there and up, and until of the others nothing is left; their pids.
    fn wait_up(&self, numbers: &[u32]) -> Vec<i32> {
        let expected: Vec<String> = numbers.iter().map(|n| format!("p@{n}")).collect();
        until_eq(expected.clone(), || self.there());
        until_eq(expected.len(), || {
            let names = fs::read_dir("scan/p/instances").into_iter().flatten().flatten();
            names.filter(|entry| entry.file_name().to_string_lossy().contains('@')).count()
        });
        numbers.iter().map(|n| self.worker(*n).pid()).collect()
    }

    fn said(&self) -> String {
        read("said")
    }

    fn wait_said(&self, text: &str) {
        until(&format!("it says {text:?}"), || self.said().contains(text));
    }

    fn wait_shown(&self, text: &str) {
        until(&format!("{text:?} is shown"), || {
            self.w.ok("svpool", &["status", "-S", "scan", "p"]).contains(text)
        });
    }

    /// Kills svpool and waits until its successor is at work.
    fn kill(&self) {
        let old = self.service.pid();
        kill(old, Signal::KILL);
        until("there is a successor", || {
            let status = self.service.status();
            status.is_up() && status.pid != old
        });
    }
}

fn follows_a_metric() {
    let p = Pool::metric(1, 5, "--per-worker 10");
    let _svscan = p.w.svscan(&[]);
    let first = p.wait_up(&[1]);
    p.want("41\n");
    let five = p.wait_up(&[1, 2, 3, 4, 5]);
    assert_eq!(five[0], first[0]);
    p.wait_said("svpool p: info: scaling up from 1 to 5 workers (metric 41)");
    p.want("1000000");
    p.want("11.5");
    assert_eq!(p.wait_up(&[1, 2]), five[..2]);
    p.wait_said("scaling down from 5 to 2 workers (metric 12)");
    p.want("0");
    assert_eq!(p.wait_up(&[1]), first);
    assert!(!five[1..].iter().any(|pid| is_alive(*pid)));
    assert_eq!(p.said().lines().filter(|line| !line.contains("scaling")).count(), 0, "{}", p.said());
}

fn down_to_none() {
    let p = Pool::metric(0, 2, "--step 1");
    let _svscan = p.w.svscan(&[]);
    p.wait_up(&[]);
    p.want("2");
    p.wait_up(&[1, 2]);
    p.want("0");
    p.wait_up(&[]);
    let said = p.said();
    let steps: Vec<&str> = said.lines().map(|line| line.split(" (").next().unwrap()).collect();
    let step = |from, to| format!("svpool p: info: scaling {from} to {to}");
    assert_eq!(
        steps,
        [
            step("up from 0", "1 worker"),
            step("up from 1", "2 workers"),
            step("down from 2", "1 worker"),
            step("down from 1", "0 workers")
        ]
    );
}

fn the_busy_one_stays() {
    let p = Pool::metric(0, 3, "--drain 1h");
    p.want("3");
    let _svscan = p.w.svscan(&[]);
    p.wait_up(&[1, 2, 3]);
    p.say(2, "busy done=1");
    p.say(3, "busy");
    p.say(1, "idle done=7 failed=1");
    p.want("2");
    let pids = p.wait_up(&[2, 3]);
    p.want("0");
    for n in [2, 3] {
        until("it is told to drain", || p.worker(n).has("drain"));
    }
    // One comes to its end; the other is wanted again.
    p.say(3, "idle done=2");
    p.wait_up(&[2]);
    p.want("1");
    until("it may work on", || !p.worker(2).has("drain"));
    assert_eq!(p.wait_up(&[2]), pids[..1]);
    // What those did that are gone is not forgotten.
    let shown = p.w.run("svpool", &["status", "-S", "scan", "p"]);
    let total = shown.out.lines().last().unwrap();
    let words: Vec<&str> = total.split_whitespace().collect();
    assert_eq!(words[..5], ["total", "10", "1", "90.9", "%"], "{}", shown.out);
}

fn a_busy_one_has_its_time() {
    let p = Pool::metric(0, 1, "--drain 300ms --drain-signal USR1");
    p.template.script("run", "trap 'echo told >told' USR1; while :; do sleep 1000 & wait; done");
    p.want("1");
    let _svscan = p.w.svscan(&[]);
    p.wait_up(&[1]);
    p.say(1, "busy");
    fs::remove_dir_all("kept").unwrap_or(());
    p.want("0");
    until("it is told", || p.worker(1).read("told") == "told\n" || p.there().is_empty());
    p.wait_up(&[]);
    p.wait_said("svpool p: warning: p@1 is still busy after 300 ms: stopping it");
}

fn says_it_by_its_supervisor() {
    let p = Pool::metric(0, 1, "--drain 1h");
    p.want("1");
    let _svscan = p.w.svscan(&[]);
    p.wait_up(&[1]);
    // As a supervisor writes it.
    let state = |text: &str| {
        let dir = format!("{}/supervise", p.worker(1).path);
        fs::write(format!("{dir}/state.try"), format!("starts=1\nstatus={text}\n")).unwrap();
        fs::rename(format!("{dir}/state.try"), format!("{dir}/state")).unwrap();
    };
    state("busy done=3");
    p.want("0");
    until("it drains", || p.worker(1).has("drain"));
    assert!(p.w.ok("svpool", &["status", "-S", "scan"]).contains("draining  busy"));
    state("idle done=4");
    p.wait_up(&[]);
    assert!(p.w.ok("svpool", &["status", "--json", "-S", "scan", "p"]).contains("\"done\":4,"));
}

fn is_stopped() {
    let p = Pool::new("--min 3 --drain 1h");
    let _svscan = p.w.svscan(&[]);
    p.wait_up(&[1, 2, 3]);
    p.say(2, "busy");
    p.w.ok("svc", &["-d", "scan/p"]);
    p.wait_up(&[2]);
    assert!(p.service.status().is_up());
    p.say(2, "idle");
    p.w.ok("svwait", &["-D", "-t", "30000", "scan/p"]);
    assert_eq!(p.service.status().wait, 0);
    p.wait_up(&[]);
    p.wait_said("svpool p: info: stopping 3 workers, each when it is idle");
    p.w.ok("svc", &["-u", "scan/p"]);
    p.wait_up(&[1, 2, 3]);
}

fn killed() {
    let p = Pool::metric(1, 4, "");
    p.want("4");
    let _svscan = p.w.svscan(&[]);
    let pids = p.wait_up(&[1, 2, 3, 4]);
    for _ in 0..3 {
        p.kill();
    }
    // The successor is at work: it does what is wanted now, and only that.
    p.say(1, "busy");
    p.want("3");
    assert_eq!(p.wait_up(&[1, 2, 3]), pids[..3]);
    p.want("4");
    assert_eq!(p.wait_up(&[1, 2, 3, 4])[..3], pids[..3]);
}

fn killed_while_it_drains() {
    let p = Pool::metric(0, 2, "--drain 1h");
    p.want("2");
    let _svscan = p.w.svscan(&[]);
    let pids = p.wait_up(&[1, 2]);
    p.say(1, "busy");
    p.say(2, "busy");
    p.want("0");
    for n in [1, 2] {
        until("it drains", || p.worker(n).has("drain"));
    }
    p.kill();
    p.say(1, "idle");
    assert_eq!(p.wait_up(&[2]), pids[1..]);
    // The other is wanted again, of which only the next hears.
    p.service.file("down", "");
    kill(p.service.pid(), Signal::KILL);
    p.want("1");
    until("it may work on", || !p.worker(2).has("drain"));
    assert_eq!(p.wait_up(&[2]), pids[1..]);
}

fn killed_while_it_makes() {
    let p = Pool::metric(2, 2, "");
    // What svpool leaves that is killed: half a copy, a whole one without its link, a link without its copy.
    for dir in [".p@1.new", "p@1", "p@2"] {
        p.w.service_at(&format!("scan/p/instances/{dir}"), "echo never >>../../never");
    }
    p.service.file("instances/.pool.new", "half of");
    std::os::unix::fs::symlink("../scan/p/instances/p@7", "scan/p@7").unwrap();
    p.w.service_at("scan/p/instances/p@8", SLEEP);
    let _svscan = p.w.svscan(&[]);
    p.wait_up(&[1, 2]);
    assert!(!p.service.has("never"));
}

fn its_supervisors_are_killed() {
    let p = Pool::metric(1, 4, "--drain 1h");
    p.want("3");
    let svscan = p.w.svscan(&[]);
    let pids = p.wait_up(&[1, 2, 3]);
    let supervise = parent(p.service.pid());
    kill(supervise, Signal::KILL);
    // It need not be back yet.
    p.want("4");
    assert_eq!(p.wait_up(&[1, 2, 3, 4])[..3], pids);
    p.want("2");
    let held = pids[0];
    p.say(1, "busy");
    let supervise = parent(p.worker(4).pid());
    kill(supervise, Signal::KILL);
    let left = p.there();
    assert!(left.contains(&"p@1".to_owned()));
    assert_eq!(p.wait_up(&[1, 2])[0], held);
    // And svscan with its supervisor.
    kill(svscan.pid(), Signal::KILL);
    drop(svscan);
    p.w.forget_services();
    let _svscan = p.w.svscan(&[]);
    p.want("3");
    assert_eq!(p.wait_up(&[1, 2, 3])[..2], pids[..2]);
}

fn leaves_its_workers() {
    let p = Pool::new("--min 2");
    let _svscan = p.w.svscan(&[]);
    let pids = p.wait_up(&[1, 2]);
    let old = p.service.pid();
    p.w.ok("svc", &["-q", "scan/p"]);
    until("there is a successor", || p.service.pid() != old);
    p.wait_up(&[1, 2]);
    assert_eq!(p.wait_up(&[1, 2]), pids);
    assert!(!p.said().contains("stopping"));
}

/// A template whose instances are ready when they are let.
fn gated(p: &Pool, run: &str) {
    p.template.script("run", run).file("notification-fd", "3");
}

fn restarts_one_after_another() {
    let p = Pool::new("--min 3 --drain 1h");
    gated(&p, "until [ -e ../gate ]; do sleep 0.02; done; echo >&3; exec sleep 1000");
    p.service.file("instances/gate", "");
    let _svscan = p.w.svscan(&[]);
    p.wait_up(&[1, 2, 3]);
    let ready = |n: u32| p.worker(n).status().flags & 8 != 0;
    until("all are ready", || (1..=3).all(ready));
    let old = p.wait_up(&[1, 2, 3]);
    p.say(1, "busy");
    fs::remove_file("scan/p/instances/gate").unwrap();
    gated(&p, "echo new >new; until [ -e ../gate ]; do sleep 0.02; done; echo >&3; exec sleep 1000");
    p.w.ok("svpool", &["restart", "-S", "scan", "p"]);
    // The first is made anew and waits; the others are as they were.
    until("the second is new", || p.worker(2).read("new") == "new\n");
    assert_eq!((p.worker(1).pid(), p.worker(3).pid()), (old[0], old[2]));
    assert!(!ready(2));
    p.wait_shown("p: 3 workers (3 to 3), 1 busy, 2 to restart\n");
    p.service.file("instances/gate", "");
    until("the third is new", || p.worker(3).read("new") == "new\n");
    until("the busy one is waited for", || p.worker(1).has("drain"));
    assert_eq!(p.worker(1).pid(), old[0]);
    p.say(1, "idle");
    p.wait_said("svpool p: info: all workers were restarted");
    let new = p.wait_up(&[1, 2, 3]);
    assert!(new.iter().all(|pid| !old.contains(pid)));
    assert!((1..=3).all(|n| !p.worker(n).has("renew") && p.worker(n).read("new") == "new\n"));
}

fn a_restart_outlives_it() {
    let p = Pool::new("--min 3 --drain 1h");
    let _svscan = p.w.svscan(&[]);
    let old = p.wait_up(&[1, 2, 3]);
    (1..=3).for_each(|n| p.say(n, "busy"));
    p.w.ok("svpool", &["restart", "-S", "scan", "p"]);
    until("it has begun", || p.worker(1).has("drain"));
    p.kill();
    (1..=3).for_each(|n| p.say(n, "idle"));
    until("all are new", || {
        (1..=3).all(|n| {
            let status = p.worker(n).status();
            status.is_up() && !old.contains(&status.pid)
        })
    });
    p.wait_said("all workers were restarted");
}

fn no_restart_with_a_bad_template() {
    let p = Pool::new("--min 2");
    let _svscan = p.w.svscan(&[]);
    let old = p.wait_up(&[1, 2]);
    chmod("scan/p/template/run", 0o644);
    p.w.ok("svpool", &["restart", "-S", "scan", "p"]);
    p.wait_said("warning: not restarting: ");
    p.wait_said("/scan/p/template is no template of a service: its run is not executable");
    assert_eq!(p.wait_up(&[1, 2]), old);
    // A new one cannot be made either.
    fs::rename("scan/p/template", "scan/p/elsewhere").unwrap();
    p.w.ok("svunlink", &["scan", "p@2"]);
    p.wait_said("No such file or directory (retrying in 5 seconds)\n");
    assert_eq!(p.wait_up(&[1]), old[..1]);
    chmod("scan/p/elsewhere/run", 0o755);
    fs::rename("scan/p/elsewhere", "scan/p/template").unwrap();
    assert_eq!(p.wait_up(&[1, 2])[0], old[0]);
    p.wait_said("svpool p: info: over: ");
}

fn stopped_by_somebody_else() {
    let p = Pool::metric(1, 2, "");
    p.want("1");
    let _svscan = p.w.svscan(&[]);
    let first = p.wait_up(&[1]);
    p.w.ok("svc", &["-wD", "-T", "30000", "-d", "scan/p@1"]);
    // Another one works for it; it is left as it is, and comes back when that is wanted.
    p.worker(2).pid();
    assert!(p.worker(1).status().is_down() && !p.worker(1).has("drain"));
    p.want("2");
    p.w.ok("svc", &["-wu", "-T", "30000", "-u", "scan/p@1"]);
    assert_ne!(p.wait_up(&[1, 2])[0], first[0]);
}

fn removed_by_somebody_else() {
    let p = Pool::new("--min 2");
    let _svscan = p.w.svscan(&[]);
    let old = p.wait_up(&[1, 2]);
    p.w.ok("svunlink", &["scan", "p@1"]);
    until("it is back", || p.there() == ["p@1", "p@2"] && p.worker(1).status().is_up());
    let new = p.wait_up(&[1, 2]);
    assert!(new[0] != old[0] && new[1] == old[1]);
}

fn workers_with_loggers() {
    let p = Pool::metric(0, 2, "");
    p.template.script("run", "echo hello; exec sleep 1000");
    p.w.service_at("scan/p/template/log", "exec cat >>../../../heard");
    p.want("2");
    let _svscan = p.w.svscan(&[]);
    p.wait_up(&[1, 2]);
    until_eq("hello\nhello\n".to_owned(), || p.service.read("heard"));
    p.want("0");
    p.wait_up(&[]);
}

fn a_template_by_a_link() {
    let p = Pool::new("--min 2");
    fs::rename("scan/p/template", "one").unwrap();
    let two = p.w.service_at("two", SLEEP);
    two.file("version", "2");
    let link = |to: &str| {
        std::os::unix::fs::symlink(format!("../../{to}"), "scan/p/new").unwrap();
        fs::rename("scan/p/new", "scan/p/template").unwrap();
    };
    link("one");
    let _svscan = p.w.svscan(&[]);
    p.wait_up(&[1, 2]);
    let is_copy = |n: u32| !fs::symlink_metadata(format!("scan/p/instances/p@{n}")).unwrap().is_symlink();
    assert!(is_copy(1) && is_copy(2));
    link("two");
    p.w.ok("svpool", &["restart", "-S", "scan", "p"]);
    until("both are of the second", || (1..=2).all(|n| p.worker(n).read("version") == "2"));
    p.wait_said("all workers were restarted");
    assert!(!fs::exists("one/supervise").unwrap());
}

fn a_metric_fails() {
    let p = Pool::metric(1, 4, "");
    p.want("3");
    let _svscan = p.w.svscan(&[]);
    let pids = p.wait_up(&[1, 2, 3]);
    p.want("lots");
    p.wait_said(
        "warning: unable to get the metric from cat wanted: \"lots\" is no number \
         (the number of workers stays as it is)",
    );
    let shown = p.w.ok("svpool", &["status", "-S", "scan", "p"]);
    assert!(
        shown.contains("3 workers (1 to 4), 0 busy, unable to get the metric from cat wanted"),
        "{shown}"
    );
    fs::remove_file("scan/p/wanted").unwrap();
    p.wait_said("unable to get the metric from cat wanted: exit 1");
    assert_eq!(p.wait_up(&[1, 2, 3]), pids);
    p.want("2");
    assert_eq!(p.wait_up(&[1, 2]), pids[..2]);
    let over = "info: over: unable to get the metric from cat wanted: exit 1";
    p.wait_said(over);
    assert_eq!(p.said().matches("is no number").count(), 1, "said once: {}", p.said());
}

fn a_metric_hangs() {
    let p = Pool::new("--min 1 --max 3 --metric ./metric --metric-timeout 200ms");
    p.service.script("metric", "[ -e hang ] && { echo 1 >hung; sleep 1000 & wait; }; echo 3");
    let _svscan = p.w.svscan(&[]);
    let pids = p.wait_up(&[1, 2, 3]);
    p.service.file("hang", "");
    p.wait_said("unable to get the metric from ./metric: no answer within 200 ms");
    assert_eq!(p.wait_up(&[1, 2, 3]), pids);
    fs::remove_file("scan/p/hang").unwrap();
    p.wait_said("over: unable to get the metric");
    let p_pid = p.service.pid();
    p.w.ok("svc", &["-wD", "-T", "30000", "-d", "scan/p"]);
    until("nobody is left that was asked", || {
        !support::descendants().iter().any(|pid| {
            let line = read(&format!("/proc/{pid}/cmdline"));
            *pid == p_pid || line.contains("./metric")
        })
    });
}

fn nothing_wakes_it() {
    let p = Pool::new("--min 2 --max 2 --metric 'echo 2' --interval 1h");
    let _svscan = p.w.svscan(&[]);
    p.wait_up(&[1, 2]);
    let pid = p.service.pid();
    let switches = || {
        let status = read(&format!("/proc/{pid}/status"));
        status.lines().find(|line| line.starts_with("voluntary")).unwrap().to_owned()
    };
    until("the metric was asked", || p.service.read("instances/.pool").contains("metric=2"));
    // It waits: what it had to do is done.
    let mut before = switches();
    until("it is still", || {
        std::thread::sleep(std::time::Duration::from_millis(200));
        let now = switches();
        std::mem::replace(&mut before, now.clone()) == now
    });
    for n in 0..200 {
        p.say(1, &format!("busy done={n}"));
        p.say(2, &format!("idle done={n}"));
    }
    p.w.ok("svpool", &["status", "-S", "scan"]);
    assert_eq!(switches(), before);
}

fn shown() {
    let p = Pool::new("--min 2 --report 1s");
    let _svscan = p.w.svscan(&[]);
    let pids = p.wait_up(&[1, 2]);
    p.say(1, "busy done=997 failed=2 resizing");
    p.say(2, "idle done=1");
    let shown = p.w.ok("svpool", &["status", "-S", "scan", "p"]);
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(lines[0], "p: 2 workers (2 to 2), 1 busy");
    assert_eq!(
        lines[1].split_whitespace().collect::<Vec<_>>(),
        ["worker", "state", "load", "pid", "age", "done", "failed", "success", "memory", "cpu"]
    );
    let words: Vec<&str> = lines[2].split_whitespace().collect();
    assert_eq!(words[..4], ["p@1", "up", "busy", &pids[0].to_string()]);
    assert_eq!(words[6..10], ["997", "2", "99.7", "%"]);
    assert!(lines[4].starts_with("total"));
    assert_eq!(p.w.ok("svpool", &["status", "-S", "scan"]).lines().next(), Some(lines[0]));
    let json = p.w.ok("svpool", &["status", "--json", "-S", "scan", "scan/p"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["name"], &json["running"], &json["wanted"]), (&"p".into(), &true.into(), &2.into()));
    assert_eq!((&json["done"], &json["failed"], &json["busy"]), (&998.into(), &2.into(), &1.into()));
    assert_eq!(json["success_rate"], 0.998);
    assert_eq!(json["workers"][0]["load"], "busy");
    assert_eq!(json["workers"][1]["pid"], pids[1]);
    assert!(json["workers"][1]["memory_bytes"].as_u64().unwrap() > 0);
    p.wait_said("svpool p: info: 2 workers (2 to 2), 1 busy; done 998, failed 2 (99.8 %); ");
    // What there is is shown when svpool is not there too.
    p.w.ok("svc", &["-wD", "-T", "30000", "-O", "-q", "scan/p"]);
    let ran = p.w.run("svpool", &["status", "-S", "scan", "p"]);
    assert!(ran.out.starts_with("p: 2 workers (2 to 2), 1 busy, svpool is not running\n"), "{ran:?}");
    assert_eq!(ran.code, 1);
}

fn refusals() {
    let w = World::new(programs(), programs());
    let svscan = w.svscan(&[]);
    let says = |args: &[&str], code: i32, text: &str| {
        let ran = w.run("svpool", args);
        assert_eq!(ran.code, code, "{args:?}: {ran:?}");
        assert!(ran.err.contains(text), "{args:?}: {ran:?}");
    };
    w.service_at("good", SLEEP);
    w.service_at("empty", SLEEP);
    fs::remove_file("empty/run").unwrap();
    w.service_at("plain", SLEEP);
    chmod("plain/run", 0o644);
    w.service_at("down", SLEEP).file("down", "");
    w.service_at("used", SLEEP);
    fs::create_dir("used/supervise").unwrap();
    let pool = |options: &[&'static str]| [&["-S", "scan", "--min", "1"], options].concat();
    says(&[], 100, "fatal: usage: svpool template --min n");
    says(&["a", "b"], 100, "usage");
    says(&["good", "--json"], 100, "usage");
    says(&["good", "--colour", "red"], 100, "usage");
    says(&["restart"], 100, "usage");
    for (options, text) in [
        (&["--min", "x"][..], "invalid value for --min: \"x\" is no number from 0 to 9999"),
        (&["--max", "0"], "invalid value for --max: \"0\" is no number from 1 to 9999"),
        (&["--min", "5", "--max", "3"], "--min 5 is more than --max 3"),
        (&["--step", "0"], "invalid value for --step: \"0\" is no number from 1 to 9999"),
        (&["--per-worker", "0"], "invalid value for --per-worker: \"0\" is no number from 1 to 4294967295"),
        (&["--idle", "soon"], "invalid value for --idle: \"soon\" is no time (500ms, 30s, 2m, 1h)"),
        (&["--cooldown", "1.5s"], "invalid value for --cooldown: \"1.5s\" is no time (500ms, 30s, 2m, 1h)"),
        (&["--drain", "-1"], "invalid value for --drain: \"-1\" is no time (500ms, 30s, 2m, 1h)"),
        (&["--interval", "0"], "invalid value for --interval: \"0\" is no time of at least 10 ms"),
        (&["--report", "10"], "invalid value for --report: \"10\" is no time of at least 1000 ms"),
        (&["--metric", "echo 1"], "with --metric there must be --max"),
        (&["--max", "2", "--metric", ""], "invalid value for --metric: there is no command in it"),
        (&["--max", "2", "--metric", "a { b"], "invalid value for --metric: a { b: "),
        (
            &["--drain-signal", "SEGV"],
            "invalid value for --drain-signal: \"SEGV\" is no signal that svc can send",
        ),
        (&["--name", "a/b"], "invalid instance name \"a/b\""),
    ] {
        says(&[&pool(&["good"])[..], options].concat(), 100, text);
    }
    let nothing = "unable to open the template nothing: No such file or directory";
    says(&pool(&["nothing"]), 111, nothing);
    says(&pool(&["empty"]), 100, "empty is no template of a service: there is no run in it");
    says(&pool(&["plain"]), 100, "plain is no template of a service: its run is not executable");
    says(&pool(&["down"]), 100, "down is no template of a service: it has a file down, so no instance would");
    says(&["-S", "scan", "--instances", "good/copies", "good"], 100, "are part of the template good");
    fs::remove_dir("good/copies").unwrap();
    says(&pool(&["used"]), 100, "used is no template of a service: it has a directory supervise");
    says(&["good", "--min", "1", "-S", "elsewhere"], 111, "unable to open elsewhere: No such file");
    fs::create_dir("elsewhere").unwrap();
    says(
        &["good", "--min", "1", "-S", "elsewhere"],
        111,
        "svscan is not running on elsewhere, and never was",
    );
    // Somebody else's service has the name of an instance.
    let other = w.service("good@3", SLEEP);
    until("it is supervised", || other.status().is_up());
    says(&pool(&["good"]), 111, "scan/good@3 is there already, and is no instance of this pool");
    says(&["status", "-S", "scan", "good@3"], 100, "scan/good@3 is no pool: no svpool has run in it");
    says(&["restart", "-S", "scan", "nobody"], 111, "unable to open scan/nobody");
    // Two at once.
    let mut first = w.start("svpool", &["--name", "x", "--instances", "copies", "-S", "scan", "good"]);
    until("it is there", || w.at("scan/x@1").status().is_up());
    says(
        &["--name", "x", "--instances", "copies", "-S", "scan", "good"],
        111,
        "another svpool has the instances in ",
    );
    assert!(w.ok("svpool", &["status", "copies/"]).starts_with("x: 1 worker (1 to 1), 0 busy\n"));
    assert!(first.is_running());
    kill(first.pid(), Signal::INT);
    assert_eq!(first.end().code, 0);
    assert!(!fs::exists("scan/x@1").unwrap());
    drop(svscan);
}
