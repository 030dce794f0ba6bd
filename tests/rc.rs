//! `rc` with real services: order, failures, limits, changes that cross each other, definitions that change, and
//! an `rc` that is killed at every place where it can be.
//!
//! Each scenario has a scan directory `scan` with a scanner, definitions in `src` and a live directory `live`.
//! PERENNIAL names another executable to try than the one just built; with RC_ALL set `rc` is killed at all
//! places, else at as many as there is time for.

mod support;

use perennial::rc::timing::{self, Outcome};
use rustix::process::Signal;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};
use support::killer::{self, Killer};
use support::runner::{self, Scenario};
use support::{Programs, Ran, Running, SLEEP, Service, World, kill, mkfifo, read, until, until_eq};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().map(String::as_str) == Some(killer::WORD) {
        return killer::main(&args[1..]);
    }
    let scenarios: Vec<Scenario<'_>> = SCENARIOS.iter().map(|(name, f)| Scenario::new(*name, *f)).collect();
    let executable =
        std::env::var("PERENNIAL").unwrap_or_else(|_| env!("CARGO_BIN_EXE_perennial").to_owned());
    runner::run_patiently("rc", &scenarios, Duration::from_secs(600), || {
        let programs = Programs::link(&executable, programs().dir, "");
        for name in ["s6-rc", "s6-rc-compile", "s6-rc-init", "s6-rc-db", "s6-rc-update"] {
            symlink(&executable, programs.dir.join(name)).unwrap();
        }
    })
}

const SCENARIOS: &[(&str, fn())] = &[
    ("order", order),
    ("failure", failure),
    ("jobs", jobs),
    ("a_step_that_takes_too_long", a_step_that_takes_too_long),
    ("all_of_it_takes_too_long", all_of_it_takes_too_long),
    ("control_c", control_c),
    ("the_opposite_interrupts", the_opposite_interrupts),
    ("the_same_waits", the_same_waits),
    ("a_oneshot_that_asks_for_a_change", a_oneshot_that_asks_for_a_change),
    ("what_a_oneshot_sees", what_a_oneshot_sees),
    ("a_oneshot_with_run", a_oneshot_with_run),
    ("what_a_oneshot_is_given", what_a_oneshot_is_given),
    ("condition", condition),
    ("soft_dependencies", soft_dependencies),
    ("restart", restart),
    ("reload", reload),
    ("dry_run_and_no_wait", dry_run_and_no_wait),
    ("apply", apply),
    ("apply_refuses", apply_refuses),
    ("apply_goes_back", apply_goes_back),
    ("the_names_of_s6_rc", the_names_of_s6_rc),
    ("update", update),
    ("supervisor_killed", supervisor_killed),
    ("killed_while_it_brings_up", killed_while_it_brings_up),
    ("killed_while_it_takes_down", killed_while_it_takes_down),
    ("killed_while_it_applies", killed_while_it_applies),
    ("killed_while_it_restarts", killed_while_it_restarts),
];

fn programs() -> Programs {
    Programs { dir: runner::shared_dir().join("programs"), prefix: "" }
}

/// A world with definitions.
struct Lab {
    w: World,
    svscan: Option<Running>,
}

impl Lab {
    fn new() -> Lab {
        fs::create_dir_all("src").unwrap();
        Lab { w: World::new(programs(), programs()), svscan: None }
    }

    fn define(&self, name: &str, kind: &str, needs: &[&str]) -> Service {
        let service = self.w.at(&format!("src/{name}"));
        service.file("type", &format!("{kind}\n"));
        for need in needs {
            service.file(&format!("dependencies.d/{need}"), "");
        }
        service
    }

    /// A longrun with this shell script as run.
    fn longrun(&self, name: &str, run: &str, needs: &[&str]) -> Service {
        let service = self.define(name, "longrun", needs);
        service.script("run", run);
        service
    }

    /// A oneshot that runs this shell script, in the lab's directory.
    fn oneshot(&self, name: &str, up: &str, needs: &[&str]) -> Service {
        let service = self.define(name, "oneshot", needs);
        service.file("up", &self.command(up));
        service
    }

    /// A command line of execline that runs a shell script in the lab's directory.
    fn command(&self, script: &str) -> String {
        let script = format!("cd {}; {script}", self.w.base.display());
        format!("/bin/sh -c \"{}\"\n", script.replace('\\', "\\\\").replace('"', "\\\""))
    }

    /// Has all of it supervised, down.
    fn begin(&mut self) {
        self.svscan = Some(self.w.svscan(&[]));
        self.w.ok("rc", &["compile", "db", "src"]);
        self.w.ok("rc", &["init", "-c", "db", "-l", "live", "scan"]);
    }

    fn rc(&self, args: &[&str]) -> Ran {
        let ran = self.start(args).end();
        eprintln!("rc {args:?}: {ran:?}");
        ran
    }

    /// `rc`, which must succeed; what it printed.
    fn ok(&self, args: &[&str]) -> String {
        let ran = self.rc(args);
        assert_eq!(ran.code, 0, "{args:?}: {ran:?}");
        ran.out
    }

    fn start(&self, args: &[&str]) -> Running {
        self.w.start("rc", &[&["-l", "live"], args].concat())
    }

    fn up(&self) -> String {
        self.ok(&["list", "--up"]).lines().collect::<Vec<_>>().join(" ")
    }

    /// A service as it is supervised.
    fn live(&self, name: &str) -> Service {
        self.w.at(&format!("live/servicedirs/{name}"))
    }

    fn timing(&self, up: bool, name: &str) -> timing::Timing {
        timing::read("live")[&(up, name.to_owned())]
    }
}

/// Lines that scripts have written.
fn log() -> Vec<String> {
    read("log").lines().map(str::to_owned).collect()
}

/// Those among them, in their order.
fn order_of(names: &[&str]) -> Vec<String> {
    log().into_iter().filter(|line| names.contains(&&**line)).collect()
}

// ---------------------------------------------------------------------------------------- changes

fn order() {
    let mut l = Lab::new();
    for (name, needs) in [("a", &[][..]), ("b", &["a"]), ("c", &["a"]), ("d", &["b", "c"]), ("e", &["d"])] {
        let service = l.oneshot(name, &format!("echo {name} >>log"), needs);
        service.file("down", &l.command(&format!("echo -{name} >>log")));
    }
    l.longrun("lr", "printf '\\n' >&3; exec sleep 1000", &["d"]).file("notification-fd", "3\n");
    l.oneshot("z", "echo z >>log", &["lr"]);
    l.begin();
    l.ok(&["up", "z", "e"]);
    assert_eq!(l.up(), "a b c d e lr z");
    assert_eq!(order_of(&["a", "b", "d", "e"]), ["a", "b", "d", "e"]);
    assert_eq!(order_of(&["a", "c", "d", "z"]), ["a", "c", "d", "z"]);
    assert!(l.live("lr").status().flags & 8 != 0, "ready");
    let (d, z) = (l.timing(true, "d"), l.timing(true, "z"));
    assert_eq!((d.outcome, d.asked), (Outcome::Done, z.asked));
    assert!(d.free <= d.started && d.started <= d.ended && d.ended <= z.free, "{d:?} {z:?}");
    l.ok(&["down", "a"]);
    assert_eq!(l.up(), "");
    assert_eq!(order_of(&["-a", "-b", "-d", "-e"]), ["-e", "-d", "-b", "-a"]);
    // A second time there is nothing to do.
    assert_eq!(l.ok(&["down", "a"]), "");
}

fn failure() {
    let mut l = Lab::new();
    l.oneshot("bad", "exit 3", &[]);
    l.oneshot("behind", "echo behind >>log", &["bad"]);
    l.oneshot("far-behind", "echo far >>log", &["behind"]);
    l.oneshot("beside", "echo beside >>log", &[]);
    l.oneshot("missing", "true", &[]).file("up", "/does/not/exist\n");
    l.begin();
    let ran = l.rc(&["up", "far-behind", "beside"]);
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("unable to start bad: exit 3 ("), "{}", ran.err);
    assert!(ran.err.contains("not started because of bad: behind far-behind\n"), "{}", ran.err);
    assert_eq!((l.up(), log()), ("beside".into(), vec!["beside".to_owned()]));
    assert_eq!(l.timing(true, "far-behind").outcome, Outcome::Skipped);
    assert_eq!(l.timing(true, "bad").outcome, Outcome::Failed);
    let ran = l.rc(&["up", "missing"]);
    assert!(ran.code == 1 && ran.err.contains("unable to start missing: exit 127"), "{ran:?}");
    let ran = l.rc(&["up", "besides"]);
    assert_eq!((ran.code, ran.err.contains("did you mean beside?")), (3, true));
}

fn jobs() {
    let mut l = Lab::new();
    let names: Vec<String> = (0..6).map(|n| format!("s{n}")).collect();
    for name in &names {
        l.oneshot(name, "mkdir alone && sleep 0.02; rmdir alone || echo not alone >>log", &[]);
    }
    l.begin();
    let all: Vec<&str> = ["-j", "1", "up"].into_iter().chain(names.iter().map(String::as_str)).collect();
    l.ok(&all);
    assert_eq!((l.up(), log()), (names.join(" "), vec![]));
}

fn a_step_that_takes_too_long() {
    let mut l = Lab::new();
    let slow =
        l.oneshot("slow", "trap 'echo told >>log; exit 1' TERM; echo here >>log; sleep 1000 & wait", &[]);
    slow.file("timeout-up", "300");
    l.longrun("never", SLEEP, &[]).file("notification-fd", "3").file("timeout-up", "300");
    l.oneshot("behind", "echo behind >>log", &["never"]);
    l.oneshot("beside", "true", &[]);
    l.begin();
    let ran = l.rc(&["up", "slow", "behind", "beside"]);
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("unable to start slow: timed out ("), "{}", ran.err);
    assert!(ran.err.contains("unable to start never: timed out ("), "{}", ran.err);
    until("never is down again", || l.live("never").status().is_down());
    assert_eq!((l.up(), log()), ("beside".into(), vec!["here".to_owned(), "told".to_owned()]));
}

fn all_of_it_takes_too_long() {
    let mut l = Lab::new();
    l.oneshot("slow", "echo here >>log; exec sleep 1000", &["first"]);
    l.oneshot("first", "true", &[]);
    l.oneshot("behind", "echo behind >>log", &["slow"]);
    l.begin();
    let ran = l.rc(&["-t", "1s", "up", "behind"]);
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("the time is up; under way: slow; not begun: behind\n"), "{}", ran.err);
    until_eq("first".to_owned(), || l.up());
    assert_eq!(log(), ["here"]);
}

fn control_c() {
    let mut l = Lab::new();
    l.oneshot("slow", "echo here >>log; exec sleep 1000", &[]);
    l.longrun("never", SLEEP, &[]).file("notification-fd", "3");
    l.oneshot("behind", "echo behind >>log", &["slow", "never"]);
    l.begin();
    let rc = l.start(&["up", "behind"]);
    until("both are under way", || log() == ["here"] && l.live("never").status().is_up());
    kill(rc.pid(), Signal::INT);
    let ran = rc.end();
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("interrupted; under way: never slow; not begun: behind\n"), "{}", ran.err);
    until_eq(String::new(), || l.up());
    until("never is down", || l.live("never").status().is_down());
    assert_eq!(log(), ["here"]);
}

fn the_opposite_interrupts() {
    let mut l = Lab::new();
    l.oneshot("base", "true", &[]);
    l.oneshot("slow", "echo here >>log; exec sleep 1000", &["base"]);
    l.begin();
    let up = l.start(&["up", "slow"]);
    until("slow is under way", || log() == ["here"]);
    l.ok(&["down", "base"]);
    let ran = up.end();
    assert!(ran.code == 1 && ran.err.contains("interrupted"), "{ran:?}");
    assert_eq!(l.up(), "");
    // s6-rc does not interrupt: it fails, or waits.
    let up = l.start(&["up", "slow"]);
    until("slow is under way again", || log().len() == 2);
    let live = l.w.base.join("live").display().to_string();
    assert_eq!(l.w.code("s6-rc", &["-l", &live, "-d", "change", "base"]), 111);
    kill(up.pid(), Signal::TERM);
    assert_eq!(up.end().code, 1);
}

fn the_same_waits() {
    let mut l = Lab::new();
    mkfifo("gate");
    l.oneshot("slow", "echo here >>log; read x <gate", &[]);
    l.oneshot("other", "echo other >>log", &[]);
    l.begin();
    let first = l.start(&["up", "slow"]);
    until("slow is under way", || log() == ["here"]);
    let second = l.start(&["up", "other"]);
    until("the second waits", || second.said().contains("waiting for another change"));
    fs::write("gate", "go\n").unwrap();
    assert_eq!((first.end().code, second.end().code), (0, 0));
    assert_eq!((l.up(), log()), ("other slow".into(), vec!["here".to_owned(), "other".to_owned()]));
}

fn a_oneshot_that_asks_for_a_change() {
    let mut l = Lab::new();
    l.oneshot("other", "true", &[]);
    let rc = l.w.client("rc");
    l.oneshot("nested", &format!("{rc} -l live up other 2>said; echo $? >>log"), &[]);
    l.begin();
    l.ok(&["up", "nested"]);
    assert_eq!((l.up(), log()), ("nested".into(), vec!["111".to_owned()]));
    assert!(read("said").contains("waits for it to end"), "{}", read("said"));
}

fn what_a_oneshot_sees() {
    let mut l = Lab::new();
    l.oneshot("look", "env >seen; pwd -P >where; ulimit -n >limit; readlink /proc/$$/fd/0 >stdin", &[]);
    let look = read("src/look/up").replace(&format!("cd {}; env", l.w.base.display()), "env");
    let base = l.w.base.display().to_string();
    let look = ["seen", "where", "limit", "stdin"]
        .iter()
        .fold(look, |text, file| text.replace(&format!(">{file}"), &format!(">{base}/{file}")));
    fs::write("src/look/up", look).unwrap();
    l.begin();
    let script = "cd /tmp && ulimit -n 77 && SECRET=1 RC_NAME=me exec \"$@\" </etc/passwd";
    let mut command = Command::new("/bin/sh");
    let rc = l.w.client("rc");
    command.args(["-c", script, "sh", &rc, "-l", &format!("{base}/live"), "up", "look"]);
    assert_eq!(Running::new(command, "rc".into()).end().code, 0);
    let seen = read("seen");
    assert!(seen.lines().any(|line| line == "RC_NAME=look"), "{seen}");
    assert!(!seen.contains("SECRET"), "{seen}");
    assert!(read("where").ends_with("/servicedirs/s6rc-oneshot-runner\n"), "{}", read("where"));
    assert_ne!(read("limit"), "77\n");
    assert_ne!(read("stdin"), "/etc/passwd\n");
}

fn a_oneshot_with_run() {
    let mut l = Lab::new();
    let service = l.define("prepare", "oneshot", &[]);
    let log = l.w.base.join("log");
    service
        .file("run", &format!("#!/bin/sh\ncat data/word >>{}\n", log.display()))
        .file("data/word", "hello\n");
    l.begin();
    l.ok(&["up", "prepare"]);
    assert_eq!(read("log"), "hello\n");
}

fn what_a_oneshot_is_given() {
    let mut l = Lab::new();
    let script = "echo $RC_NAME $FROM_FILE $FROM_DIR $(umask) $(nice) $(ulimit -n) >>log";
    for name in ["words", "again"] {
        let service = l.oneshot(name, script, &[]);
        service.file("umask", "027\n").file("limits", "nofile 99\n").file("nice", "5\n");
        service.file("env-file", "FROM_FILE=file\n").file("env/FROM_DIR", "dir\n");
        service.file("down", &l.command(script)).file("reload", &l.command(script));
    }
    l.oneshot("plain", script, &[]);
    let log_path = l.w.base.join("log").display().to_string();
    let own = l.define("own", "oneshot", &["again"]);
    own.file("run", &format!("#!/bin/sh\n{}\n", script.replace("log", &log_path))).file("umask", "077\n");
    l.begin();
    for args in [["up", "words"], ["reload", "words"], ["down", "words"], ["up", "own"], ["down", "own"]] {
        l.ok(&args);
    }
    let given = "file dir 0027 5 99";
    let of = |name: &str| {
        let lines = log().into_iter();
        let its = lines.filter_map(|line| Some(line.strip_prefix(name)?.trim_start().to_owned()));
        its.collect::<Vec<_>>()
    };
    assert_eq!(of("words"), [given; 3]);
    assert_eq!(of("again"), [given]);
    assert!(of("own").len() == 1 && of("own")[0].starts_with("0077 0 "), "{:?}", log());
    // What a file says is checked before anything is done.
    l.w.at("src/words").file("limits", "nofiles 99\n");
    let ran = l.rc(&["check", "src"]);
    assert!(ran.code == 1 && ran.out.contains("src/words/limits: "), "{ran:?}");
    l.w.at("src/words").file("limits", "nofile 98\n");
    l.ok(&["up", "words"]);
    assert_eq!(l.ok(&["apply", "src"]).lines().next(), Some("restart words: limits"));
    assert_eq!(of("words").last().unwrap(), "file dir 0027 5 98");
    // An account that is not there is no reason to run as somebody else.
    l.w.at("src/words").file("user", "nobody-of-this-name\n");
    let ran = l.rc(&["apply", "src"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    let count = of("words").len();
    assert_ne!(l.rc(&["up", "words"]).code, 0);
    assert_eq!(of("words").len(), count, "{:?}", log());
    if rustix::process::geteuid().is_root() {
        let id = l.oneshot("id", &format!("id -u >{log_path}.id"), &[]);
        id.file("user", "77:88\n")
            .file("up", &format!("/bin/sh -c \"echo $(id -u):$(id -g) >{log_path}.id\"\n"));
        fs::write(format!("{log_path}.id"), "").unwrap();
        fs::set_permissions(format!("{log_path}.id"), fs::Permissions::from_mode(0o666)).unwrap();
        fs::remove_file("src/words/user").unwrap();
        l.ok(&["apply", "src"]);
        l.ok(&["up", "id"]);
        assert_eq!(read("log.id"), "77:88\n");
    }
}

fn condition() {
    let mut l = Lab::new();
    let script = format!("test -e {}/wanted", l.w.base.display());
    l.longrun("picky", SLEEP, &[]).script("condition", &script);
    l.oneshot("choosy", "echo choosy >>log", &[]).script("condition", &script);
    l.oneshot("behind", "echo behind >>log", &["picky", "choosy"]);
    l.begin();
    let said = l.ok(&["up", "behind"]);
    assert!(said.contains("picky is skipped: its condition is not met\n"), "{said}");
    assert!(said.contains("choosy is skipped: its condition is not met\n"), "{said}");
    assert_eq!((l.up(), log()), ("behind".into(), vec!["behind".to_owned()]));
    fs::write("wanted", "").unwrap();
    l.ok(&["up", "picky", "choosy"]);
    assert_eq!((l.up(), log()[1..].join(" ")), ("behind choosy picky".into(), "choosy".into()));
}

fn soft_dependencies() {
    let mut l = Lab::new();
    l.oneshot("bad", "echo bad >>log; exit 1", &[]);
    l.oneshot("late", "sleep 0.1; echo late >>log", &[]);
    l.oneshot("unasked", "echo unasked >>log", &[]);
    let web = l.oneshot("web", "echo web >>log", &[]);
    web.file("wants.d/bad", "").file("after.d/late", "").file("after.d/unasked", "");
    l.begin();
    let ran = l.rc(&["up", "web", "late"]);
    assert_eq!(ran.code, 1, "bad has failed");
    assert_eq!(l.up(), "late web");
    assert_eq!(order_of(&["bad", "web"]), ["bad", "web"]);
    assert_eq!(order_of(&["late", "web", "unasked"]), ["late", "web"]);
}

fn restart() {
    let mut l = Lab::new();
    l.longrun("db", SLEEP, &[]);
    l.longrun("web", SLEEP, &["db"]);
    l.longrun("cold", SLEEP, &["db"]);
    l.longrun("other", SLEEP, &[]);
    l.begin();
    l.ok(&["up", "web", "other"]);
    let pids = || ["db", "web", "other"].map(|name| l.live(name).pid());
    let before = pids();
    l.ok(&["restart", "db"]);
    assert_eq!(l.up(), "db other web", "cold stays down");
    let after = pids();
    assert!(before[0] != after[0] && before[1] != after[1] && before[2] == after[2], "{before:?} {after:?}");
}

fn reload() {
    let mut l = Lab::new();
    let log = l.w.base.join("log");
    l.longrun(
        "web",
        &format!("trap 'echo hup >>{}' HUP; touch up; while :; do sleep 0.01; done", log.display()),
        &[],
    );
    l.oneshot("rules", "true", &[]).file("reload", &l.command("echo again >>log"));
    l.oneshot("stubborn", "true", &[]).file("reload", &l.command("exit 4"));
    l.begin();
    l.ok(&["up", "web", "rules"]);
    until("web listens", || l.live("web").has("up"));
    l.ok(&["reload", "web", "rules"]);
    l.ok(&["reload", "rules"]);
    until("all were reloaded", || self::log().len() == 3);
    let ran = l.rc(&["reload", "stubborn"]);
    assert!(ran.code == 1 && ran.err.contains("unable to reload stubborn: exit 4"), "{ran:?}");
}

fn dry_run_and_no_wait() {
    let mut l = Lab::new();
    mkfifo("gate");
    l.oneshot("slow", "read x <gate", &[]);
    l.oneshot("behind", "echo behind >>log", &["slow"]);
    l.begin();
    assert_eq!(l.ok(&["--dry-run", "up", "behind"]), "start slow\nstart behind\n");
    assert_eq!(l.up(), "");
    l.ok(&["--no-wait", "up", "behind"]);
    assert_eq!(log(), Vec::<String>::new());
    fs::write("gate", "go\n").unwrap();
    until_eq("behind slow".to_owned(), || l.up());
    assert_eq!(l.ok(&["--dry-run", "restart", "slow"]), "stop behind\nstop slow\nstart slow\nstart behind\n");
}

// ---------------------------------------------------------------------------------------- definitions

fn apply() {
    let mut l = Lab::new();
    for (name, needs) in [("a", &[][..]), ("b", &["c"]), ("c", &["a"]), ("gone", &[]), ("same", &[])] {
        l.longrun(name, SLEEP, needs);
    }
    l.oneshot("once", "echo once >>log", &["same"]);
    l.begin();
    l.ok(&["up", "a", "b", "c", "gone", "same", "once"]);
    let pids = |names: &[&str]| -> Vec<i32> { names.iter().map(|name| l.live(name).pid()).collect() };
    let (before, same) = (pids(&["a", "b", "c"]), l.live("same").pid());
    assert_eq!(l.ok(&["apply", "src"]), "nothing has changed\n");
    l.longrun("a", "exec sleep 2000", &[]);
    fs::remove_dir_all("src/gone").unwrap();
    l.w.at("src/same").file("timeout-kill", "500\n");
    l.longrun("came", SLEEP, &["same"]);
    let plan = "stop and remove gone\nrestart a: run\nadjust same: timeout-kill\nrestart b: needs c\n\
                restart c: needs a\nstart came\n";
    assert_eq!(l.ok(&["--dry-run", "apply"]), plan);
    assert_eq!(pids(&["a", "b", "c"]), before);
    let said = l.ok(&["apply"]);
    assert!(said.starts_with(plan), "{said}");
    assert_eq!(l.up(), "a b c came once same");
    let after = pids(&["a", "b", "c"]);
    assert!(before.iter().zip(&after).all(|(old, new)| old != new), "{before:?} {after:?}");
    assert_eq!((l.live("same").pid(), &*l.live("same").read("timeout-kill")), (same, "500\n"));
    assert_eq!(log(), ["once"]);
    assert!(!l.w.at("scan/gone").has("run") && !l.live("gone").has("run"));
    // What was down stays down, and another type is another service.
    l.ok(&["down", "once"]);
    fs::remove_file("src/came/run").unwrap();
    l.oneshot("came", "echo came >>log", &["same"]);
    l.ok(&["apply"]);
    assert_eq!((l.up(), log()), ("a b c came same".into(), vec!["once".to_owned(), "came".to_owned()]));
}

fn apply_refuses() {
    let mut l = Lab::new();
    l.longrun("a", SLEEP, &[]);
    l.longrun("deaf", "trap '' TERM; touch up; while :; do sleep 0.01; done", &[]);
    l.begin();
    l.ok(&["up", "a", "deaf"]);
    until("it is deaf", || l.live("deaf").has("up"));
    let (pid, deaf) = (l.live("a").pid(), l.live("deaf").pid());
    l.longrun("a", "exec sleep 2000", &["nobody"]);
    let ran = l.rc(&["apply", "src"]);
    assert!(ran.code == 1 && ran.err.contains("there is no service named nobody"), "{ran:?}");
    fs::remove_dir_all("src/a/dependencies.d").unwrap();
    fs::remove_dir_all("src/deaf").unwrap();
    // deaf does not end: a is brought up again as it was, and deaf is wanted again.
    let ran = l.rc(&["-t", "1s", "apply", "src"]);
    assert_eq!(ran.code, 2, "{ran:?}");
    assert_eq!(l.live("deaf").pid(), deaf);
    until_eq("a deaf".to_owned(), || l.up());
    assert_ne!(l.live("a").pid(), pid);
    assert!(l.live("a").read("run").contains("sleep 1000"));
}

fn apply_goes_back() {
    let mut l = Lab::new();
    l.longrun("web", SLEEP, &["rules"]);
    l.oneshot("rules", "echo rules >>log", &[]);
    l.longrun("gone", SLEEP, &[]);
    l.begin();
    l.ok(&["up", "web", "gone"]);
    fs::remove_dir_all("src/gone").unwrap();
    l.oneshot("rules", "echo worse >>log; exit 1", &[]);
    l.longrun("came", SLEEP, &[]);
    let ran = l.rc(&["apply", "--ready-within", "20s", "src"]);
    assert!(ran.code == 1 && ran.err.contains("going back"), "{ran:?}");
    assert_eq!(
        (l.up(), log()),
        ("gone rules web".into(), ["rules", "worse", "rules"].map(str::to_owned).to_vec())
    );
    assert_eq!(l.ok(&["list"]), "gone\nrules\nweb\n");
    assert!(!l.w.at("live").has("previous") && !l.w.at("live").has("commit"));
    // Never ready is not ready in time.
    l.oneshot("rules", "true", &[]);
    l.w.at("src/web").file("notification-fd", "3\n");
    let ran = l.rc(&["apply", "--ready-within", "1s", "src"]);
    assert!(ran.code == 1 && ran.err.contains("going back"), "{ran:?}");
    until_eq("gone rules web".to_owned(), || l.up());
    assert!(!l.live("web").has("notification-fd"));
}

// ---------------------------------------------------------------------------------------- s6's names

fn the_names_of_s6_rc() {
    let mut l = Lab::new();
    l.svscan = Some(l.w.svscan(&[]));
    l.longrun("a", SLEEP, &[]).file("flag-essential", "");
    l.longrun("b", SLEEP, &["a"]);
    l.oneshot("o", "echo o >>log", &["b"]);
    l.define("all", "bundle", &[]).file("contents.d/o", "");
    l.longrun("p", "echo line; exec sleep 1000", &[]).file("producer-for", "q\n");
    let log = l.w.base.join("log");
    let consumer = format!("while read -r x; do echo \"q $x\" >>{}; done", log.display());
    l.longrun("q", &consumer, &[]).file("consumer-for", "p\n").file("pipeline-name", "pipe\n");
    let [db, live, scan, src] =
        ["db", "live", "scan", "src"].map(|name| l.w.base.join(name).display().to_string());
    let code = |program: &str, args: &[&str]| l.w.code(program, args);
    assert_eq!(code("s6-rc-compile", &[&db]), 100);
    assert_eq!(code("s6-rc-compile", &["-v", "1", &db, &src]), 0);
    assert_eq!(code("s6-rc-compile", &[&db, &src]), 111);
    assert_eq!(code("s6-rc-init", &["-c", &db, "-l", "live", &scan]), 100);
    assert_eq!(code("s6-rc-init", &["-c", &db, "-l", &live, &src]), 100);
    symlink(&db, "bootdb").unwrap();
    let boot = l.w.base.join("bootdb").display().to_string();
    assert_eq!(code("s6-rc-init", &["-d", "-c", &boot, "-t", "30000", "-l", &live, &scan]), 0);
    assert_eq!(code("s6-rc-init", &["-c", &db, "-l", &live, &scan]), 0);
    assert_eq!(code("s6-rc-init", &["-c", &boot, "-l", &live, &scan]), 102);
    assert_eq!(code("s6-rc-init", &["-c", &db, "-p", "x-", "-l", &live, &scan]), 102);
    let rc = |args: &[&str]| l.w.run("s6-rc", &[&["-l", &*live], args].concat());
    let said = rc(&["-v2", "-u", "change", "all"]);
    assert_eq!(said.code, 0);
    assert!(said.err.contains("s6-rc: info: service o successfully started\n"), "{}", said.err);
    assert_eq!(rc(&["-a", "list"]).out, "a\nb\no\n");
    assert_eq!(rc(&["list", "all"]).out, "o\n");
    assert_eq!(rc(&["listall", "all"]).out, "a\nb\no\n");
    assert_eq!(rc(&["-d", "list", "a"]).out, "b\np\nq\no\n");
    assert_eq!((rc(&["diff"]).code, rc(&["change"]).code), (0, 0));
    l.w.ok("svc", &["-wD", "-d", "scan/b"]);
    let diff = rc(&["diff"]);
    assert_eq!((diff.code, &*diff.out), (1, "-b\n"));
    l.w.ok("svc", &["-wu", "-u", "scan/b"]);
    assert_eq!((rc(&["change", "zz"]).code, rc(&["frob"]).code, rc(&["-x"]).code), (3, 100, 100));
    assert_eq!(rc(&["-u", "change", "pipe"]).code, 0);
    until("the pipeline carries a line", || self::log().contains(&"q line".to_owned()));
    for (args, expected) in [
        (&["list", "all"][..], "a\nb\np\nq\no\nall\npipe\n"),
        (&["list", "oneshots"], "o\n"),
        (&["type", "all"], "bundle\n"),
        (&["contents", "all"], "o\n"),
        (&["dependencies", "o"], "b\n"),
        (&["-d", "dependencies", "a"], "b\n"),
        (&["all-dependencies", "o"], "o\nb\na\n"),
        (&["pipeline", "p"], "p/q\n"),
        (&["flags", "a"], "00000001\n"),
        (&["timeout", "a"], "0\n"),
        (&["check"], ""),
    ] {
        let ran = l.w.run("s6-rc-db", &[&["-c", &*db], args].concat());
        assert_eq!((ran.code, &*ran.out), (0, expected), "{args:?}: {ran:?}");
    }
    for (args, expected) in [
        (&["contents", "a"][..], 5),
        (&["pipeline", "o"], 5),
        (&["script", "a"], 5),
        (&["type", "zz"], 3),
        (&[], 100),
    ] {
        assert_eq!(code("s6-rc-db", &[&["-l", &*live], args].concat()), expected, "{args:?}");
    }
    assert_eq!(code("s6-rc-db", &["-c", &src, "check"]), 111);
    assert_eq!(rc(&["-da", "change"]).code, 0);
    assert_eq!(rc(&["-a", "list"]).out, "a\n", "it is essential");
    assert_eq!((rc(&["-Da", "change"]).code, &*rc(&["-a", "list"]).out), (0, ""));
    assert_eq!((rc(&["-pu", "change", "b"]).code, &*rc(&["-a", "list"]).out), (0, "a\nb\n"));
    assert_eq!((rc(&["-pd", "change", "b"]).code, &*rc(&["-a", "list"]).out), (0, "a\np\nq\n"));
}

/// What is only changed is not restarted, as with s6-rc-update.
fn update() {
    let mut l = Lab::new();
    for name in ["changed", "named", "renamed", "gone", "same"] {
        l.longrun(name, SLEEP, &[]);
    }
    l.begin();
    l.ok(&["up", "changed", "named", "renamed", "gone", "same"]);
    let pids = |names: &[&str]| -> Vec<i32> { names.iter().map(|name| l.live(name).pid()).collect() };
    let before = pids(&["changed", "same", "named"]);
    l.longrun("changed", "exec sleep 2000", &[]);
    fs::rename("src/renamed", "src/another").unwrap();
    fs::remove_dir_all("src/gone").unwrap();
    l.longrun("came", SLEEP, &[]);
    l.w.ok("rc", &["compile", "db2", "src"]);
    fs::write("conversion", "# who becomes what\nrenamed -> another\n\"named\" restart\n").unwrap();
    let [db, live] = ["db2", "live"].map(|name| l.w.base.join(name).display().to_string());
    assert_eq!(l.w.code("s6-rc-update", &["-l", &live, "-f", "conversion", &db]), 0);
    assert_eq!(l.up(), "another changed named same");
    let after = pids(&["changed", "same", "named"]);
    assert_eq!(before[..2], after[..2]);
    assert_ne!(before[2], after[2]);
    assert!(l.live("changed").read("run").contains("2000"));
    assert_eq!(l.w.code("s6-rc-update", &["-l", &live, "-f", "conversion", &db]), 3, "renamed is no more");
}

// ---------------------------------------------------------------------------------------- kill -9

/// What was to follow ahead of time is not lost with the supervisor that knew of it.
fn supervisor_killed() {
    let mut l = Lab::new();
    mkfifo("gate");
    l.oneshot("s0", "read x <gate", &[]);
    for n in 1..20 {
        l.oneshot(&format!("s{n}"), &format!("echo {n} >>log"), &[&format!("s{}", n - 1)]);
    }
    l.begin();
    let rc = l.start(&["up", "s19"]);
    until("s0 is under way", || l.w.at("live/oneshots/s0").state().oneshot.as_deref() == Some("starting"));
    let scanner = l.svscan.as_ref().unwrap().pid();
    let children = support::descendants();
    let is_supervisor = |pid: &&i32| read(&format!("/proc/{pid}/comm")) == "supervise\n";
    let supervisor = *children.iter().find(is_supervisor).unwrap();
    assert_ne!(supervisor, scanner);
    kill(supervisor, Signal::KILL);
    fs::write("gate", "go\n").unwrap();
    let ran = rc.end();
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(log(), (1..20).map(|n| n.to_string()).collect::<Vec<_>>());
}

/// So long a case goes on with new places.
const TIME: Duration = Duration::from_secs(8);

/// Kills `rc ARGS` at as many places as there is time for; `between` is run after each.
fn sweep(l: &Lab, args: &[&str], mut before: impl FnMut(u32), mut after: impl FnMut(&str)) {
    let began = Instant::now();
    let total = killed_at(l, args, 0, &mut before).0;
    after("nowhere");
    let mut places: Vec<u32> = (1..=total).collect();
    places.sort_by_key(|n| n.wrapping_mul(0x9e37_79b1));
    let (mut tried, mut kills) = (0, 0);
    for place in places {
        if began.elapsed() > TIME && std::env::var_os("RC_ALL").is_none() {
            break;
        }
        let (_, killed) = killed_at(l, args, place, &mut before);
        tried += 1;
        kills += killed.is_some() as u32;
        after(killed.as_deref().unwrap_or("nowhere"));
    }
    println!("  {kills} kills at {tried} of {total} places");
    assert!(kills > 0);
}

/// Runs `rc ARGS`, killed at this stop: how many stops there were, and where it was killed.
fn killed_at(l: &Lab, args: &[&str], place: u32, before: &mut impl FnMut(u32)) -> (u32, Option<String>) {
    before(place);
    let _ = fs::remove_file("gate-of-rc");
    mkfifo("gate-of-rc");
    let mut command = Command::new("/bin/sh");
    let script = "read -r x <gate-of-rc; exec \"$@\"";
    command.args(["-c", script, "sh", &l.w.client("rc"), "-l", "live"]).args(args).stdin(Stdio::null());
    let rc = Running::new(command, format!("rc {args:?}"));
    let killer = Killer::start(rc.pid(), &[], place, "killer.log");
    // Who is killed before it opens it leaves nobody at the other end.
    let mut gate = fs::OpenOptions::new().read(true).write(true).open("gate-of-rc").unwrap();
    gate.write_all(b"go\n").unwrap();
    rc.end();
    let report = killer.end();
    (report.stops, report.killed)
}

/// A chain and something beside it, with a longrun in the middle, to be killed at.
fn victim() -> Lab {
    let mut l = Lab::new();
    for (name, needs) in [("a", &[][..]), ("b", &["a"]), ("d", &["web"]), ("beside", &[])] {
        let service = l.oneshot(name, &format!("echo {name} >>log"), needs);
        service.file("down", &l.command(&format!("echo -{name} >>log")));
    }
    l.longrun("web", "printf '\\n' >&3; exec sleep 1000", &["b"]).file("notification-fd", "3\n");
    l.begin();
    l
}

/// Once up and once down, each of them, in this order.
fn assert_once(place: &str, names: &[&str]) {
    for name in names {
        let count = log().iter().filter(|line| line == name).count();
        assert_eq!(count, 1, "{name}, killed {place}: {:?}", log());
    }
    let chain: Vec<&str> = names.iter().copied().filter(|name| !name.ends_with("beside")).collect();
    assert_eq!(order_of(&chain), chain, "killed {place}");
}

fn killed_while_it_brings_up() {
    let l = victim();
    let before = |_| {
        l.ok(&["down", "a", "b", "web", "d", "beside"]);
        fs::write("log", "").unwrap();
    };
    sweep(&l, &["up", "d", "beside"], before, |place| {
        let ran = l.rc(&["up", "d", "beside"]);
        assert_eq!(ran.code, 0, "killed {place}: {ran:?}");
        assert_eq!(l.up(), "a b beside d web", "killed {place}");
        assert_once(place, &["a", "b", "d", "beside"]);
    });
}

fn killed_while_it_takes_down() {
    let l = victim();
    let before = |_| {
        l.ok(&["up", "d", "beside"]);
        fs::write("log", "").unwrap();
    };
    sweep(&l, &["down", "a", "beside"], before, |place| {
        let ran = l.rc(&["down", "a", "beside"]);
        assert_eq!(ran.code, 0, "killed {place}: {ran:?}");
        assert_eq!(l.up(), "", "killed {place}");
        assert_once(place, &["-d", "-b", "-a", "-beside"]);
    });
}

fn killed_while_it_applies() {
    let mut l = Lab::new();
    l.longrun("same", SLEEP, &[]);
    l.longrun("changes", SLEEP, &["same"]);
    l.longrun("even", SLEEP, &["same"]);
    l.oneshot("rules", "true", &[]);
    l.begin();
    l.ok(&["up", "same", "changes", "even", "rules"]);
    l.ok(&["apply", "src"]);
    let same = l.live("same").pid();
    let define = |place: u32| {
        l.longrun("changes", &format!("exec sleep 1{place}"), &["same"]);
        l.oneshot("rules", &format!("echo {place} >applied"), &[]);
        let (there, gone) = if place.is_multiple_of(2) { ("even", "odd") } else { ("odd", "even") };
        l.longrun(there, SLEEP, &["same"]);
        let _ = fs::remove_dir_all(format!("src/{gone}"));
        // So that something is to be done at every place.
        fs::write("place", place.to_string()).unwrap();
    };
    let mut count = 0;
    let before = |_| {
        count += 1;
        define(count);
    };
    sweep(&l, &["apply"], before, |at| {
        let ran = l.rc(&["apply"]);
        assert_eq!(ran.code, 0, "killed {at}: {ran:?}");
        let place: u32 = read("place").parse().unwrap();
        let (there, gone) = if place.is_multiple_of(2) { ("even", "odd") } else { ("odd", "even") };
        let mut expected = ["changes", "rules", "same", there];
        expected.sort_unstable();
        assert_eq!(l.up(), expected.join(" "), "killed {at}");
        assert_eq!(l.ok(&["apply"]), "nothing has changed\n", "killed {at}");
        assert!(l.live("changes").read("run").contains(&format!("sleep 1{place}\n")), "killed {at}");
        assert!(!l.live(gone).has("run") && !l.w.at(&format!("scan/{gone}")).has("run"), "killed {at}");
        for file in ["next", "commit", "previous", "resume"] {
            assert!(!l.w.at("live").has(file), "killed {at}: {file} is left");
        }
        assert_eq!(l.live("same").pid(), same, "killed {at}");
    });
}

fn killed_while_it_restarts() {
    let mut l = Lab::new();
    l.longrun("base", SLEEP, &[]);
    l.oneshot("rules", "true", &["base"]);
    l.longrun("web", SLEEP, &["rules"]);
    l.oneshot("beside", "true", &[]);
    l.begin();
    l.ok(&["up", "web"]);
    sweep(&l, &["restart", "base"], drop, |at| {
        // Any change that brings something up brings up what was to come back.
        l.ok(&["up", "beside"]);
        assert_eq!(l.up(), "base beside rules web", "killed {at}");
        assert!(!l.w.at("live").has("resume"), "killed {at}");
        // Who takes it down means it.
        l.ok(&["down", "beside"]);
    });
    fs::write("live/resume", "web\nrules\nbeside\n").unwrap();
    l.ok(&["down", "web"]);
    assert_eq!(read("live/resume"), "beside\nrules\n");
    l.ok(&["down", "base"]);
    assert_eq!(read("live/resume"), "beside\n");
    l.ok(&["down", "beside"]);
    assert!(!l.w.at("live").has("resume"));
    fs::write("live/resume", "beside\n").unwrap();
    let ran = l.rc(&["up", "base"]);
    assert!(ran.err.contains("before it had brought up again: beside\n"), "{ran:?}");
    assert_eq!(l.up(), "base beside");
    l.ok(&["down", "base", "beside"]);
    fs::write("live/resume", "beside\n").unwrap();
    l.ok(&["apply", "src"]);
    assert_eq!(l.up(), "beside");
}
