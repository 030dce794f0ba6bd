//! The first promise: nothing but pid 1 matters. Supervise, svscan, and both at once are killed with kill -9
//! at every place where they can be (see [`support::killer`]) while something is going on, and after each
//! kill everything must be as if nobody had been killed.
//!
//! Each case is something that goes on and somebody who is killed. It runs in a container of ours, as its
//! command. A service's own record says how often it was started; a lock that it holds for its life says
//! whether it was ever there twice.
//!
//! `cargo test --test survive`, with words after `--` to run only cases that contain one of them. There are
//! thousands of places; unless SURVIVE_ALL is set, each case tries as many as its time allows, spread over
//! all of them; SURVIVE_PLACES=N,N,... says which. PERENNIAL names another executable to try than the one just built.

mod support;

use perennial::process::{End, Signal as OurSignal, WaitStatus};
use rustix::process::Signal as UnixSignal;
use std::cell::RefCell;
use std::fs;
use std::io::Write;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};
use support::killer::{self, Killer, Report};
use support::refuse::{BEFORE_6_15, refuse};
use support::runner::{self, Scenario};
use support::{Programs, Service, World, chmod, is_alive, is_locked, mkfifo, read, stat, until, until_eq};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        Some(killer::WORD) => return killer::main(&args[1..]),
        Some(INSIDE) => return inside(&args[1..]),
        _ => {}
    }
    if !may_contain() {
        println!("survive: not tried: this needs root, or user namespaces");
        return ExitCode::SUCCESS;
    }
    let shipped = std::env::var("PERENNIAL").ok();
    let executable = shipped.as_deref().unwrap_or(env!("CARGO_BIN_EXE_perennial"));
    let mut cases = Vec::new();
    for (name, _) in EVENTS {
        for (who, _) in VICTIMS {
            cases.push(Scenario::new(format!("{name}, {who} killed"), move || sweep(name, who)));
        }
    }
    let patience = if tries_all() { Duration::from_secs(7200) } else { TIME * 60 };
    runner::run_patiently("survive", &cases, patience, || {
        Programs::link(executable, programs().dir, "");
    })
}

/// Who is killed, and at whose stops.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Victim {
    Supervise,
    Svscan,
    BothAtSupervise,
    BothAtSvscan,
    /// Supervise at once, and then the one that takes over from it.
    Successor,
}

const VICTIMS: &[(&str, Victim)] = &[
    ("supervise", Victim::Supervise),
    ("svscan", Victim::Svscan),
    ("both (at supervise's stops)", Victim::BothAtSupervise),
    ("both (at svscan's stops)", Victim::BothAtSvscan),
    ("supervise, and then its successor,", Victim::Successor),
];

/// Something that goes on: run once for each kill.
type Event = (&'static str, fn(&Lab));

const EVENTS: &[Event] = &[
    ("a service is started", start),
    ("a service cannot be executed", cannot_execute),
    ("a service is stopped", stop),
    ("a descent is ended", end_descent),
    ("a service dies", die),
    ("a service is told to restart", restart),
    ("a restart is refused, and then not", validated_restart),
    ("a service is given up", given_up),
    ("a finish script ends", finish),
    ("a service goes into the background, and ends there", background),
    ("a service becomes ready", become_ready),
    ("a service starts and is ready at once", ready_at_once),
    ("signals are sent", send_signals),
    ("lines are logged", log),
    ("a service appears", appear),
    ("a oneshot is run", run_oneshot),
    (ISOLATED_DIES, isolated_dies),
    (CONTAINER_STOPS, container_stops),
];

const ISOLATED_DIES: &str = "an isolated service dies";

const CONTAINER_STOPS: &str = "the container stops";

/// Killed more often than this in a row, a supervisor is started again with a pause.
const KILLS_PER_CONTAINER: usize = 5;

/// How long a case goes on with new places.
const TIME: Duration = Duration::from_secs(3);

// ------------------------------------------------------------------------------------------------ outside

/// Says to a copy of the test program that it is a container's command.
const INSIDE: &str = "--inside";

fn programs() -> Programs {
    Programs { dir: runner::shared_dir().join("programs"), prefix: "" }
}

fn unshare() -> Command {
    let mut command = Command::new("unshare");
    command.args(["-fpm", "--kill-child", "--propagation", "private"]);
    if !rustix::process::geteuid().is_root() {
        command.arg("-Ur");
    }
    command
}

fn may_contain() -> bool {
    let mut command = unshare();
    command.args(["mount", "-t", "proc", "proc", "/proc"]).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn tries_all() -> bool {
    std::env::var_os("SURVIVE_ALL").is_some()
}

/// One case: as many places as there is time for.
fn sweep(event: &str, who: &str) {
    if event == ISOLATED_DIES {
        // Where the kernel does not tell of strangers.
        refuse(BEFORE_6_15);
    }
    let all = tries_all();
    let began = Instant::now();
    let total = contain(event, who, &[0]).iter().map(|report| report.stops).max().unwrap_or(0);
    let mut places = spread(total);
    if all {
        places.sort_unstable();
    }
    if let Ok(only) = std::env::var("SURVIVE_PLACES") {
        places = only.split(',').map(|place| place.parse().unwrap()).collect();
    }
    let (mut tried, mut killed) = (0, 0);
    let at_once = if event == CONTAINER_STOPS { 1 } else { KILLS_PER_CONTAINER };
    for batch in places.chunks(at_once) {
        if !all && began.elapsed() > TIME {
            break;
        }
        tried += batch.len();
        killed += contain(event, who, batch).iter().filter(|report| report.killed.is_some()).count();
    }
    println!("  {killed} kills at {tried} of {total} places");
}

/// The numbers from 1 to `most`, each far from those before it.
fn spread(most: u32) -> Vec<u32> {
    let mut places: Vec<u32> = (1..=most).collect();
    places.sort_by_key(|n| n.wrapping_mul(0x9e37_79b1));
    places
}

/// Runs the event in a container, once for each place.
fn contain(event: &str, who: &str, places: &[u32]) -> Vec<Report> {
    static NUMBER: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let dir = std::env::current_dir().unwrap().join(format!("container-{number}"));
    fs::create_dir_all(dir.join("records")).unwrap();
    fs::create_dir_all(dir.join("source/once")).unwrap();
    fs::write(dir.join("source/once/type"), "oneshot\n").unwrap();
    let script = dir.join("once.sh");
    fs::write(&script, format!("#!/bin/sh\necho up >>{}/records/once\n", dir.display())).unwrap();
    chmod(script.to_str().unwrap(), 0o755);
    fs::write(dir.join("source/once/up"), format!("{}\n", script.display())).unwrap();
    let init = programs().path("init");
    let words = format!(
        r#"mount -t proc proc /proc; mount -t tmpfs tmpfs /run; exec {} -d {}/source "$@""#,
        init.display(),
        dir.display()
    );
    let mut command = unshare();
    command.args(["sh", "-c", &words, "sh"]).arg(std::env::current_exe().unwrap());
    command.args([INSIDE, event, who]).args(places.iter().map(u32::to_string));
    let output = |name: &str| fs::File::create(dir.join(name)).unwrap();
    command.current_dir(&dir).stdin(Stdio::null()).stdout(output("out")).stderr(output("err"));
    command.env("S6_KEEP_ENV", "1").env("S6_VERBOSITY", "1");
    let began = Instant::now();
    let mut child = command.spawn().unwrap();
    let mut code = None;
    while code.is_none() && began.elapsed() < support::PATIENCE * 2 {
        std::thread::sleep(Duration::from_millis(2));
        code = child.try_wait().unwrap().map(|status| status.code());
    }
    let _ = child.kill();
    let _ = child.wait();
    let path = |name: &str| dir.join(name).to_str().unwrap().to_owned();
    let logs = (0..places.len()).map(|n| path(&format!("killer-{n}")));
    let reports: Vec<Report> =
        logs.filter(|log| fs::exists(log).unwrap()).map(|log| Report::read(&log)).collect();
    let expected = if event == CONTAINER_STOPS { COMMAND_CODE } else { 0 };
    let mut wrong = String::new();
    if code != Some(Some(expected)) {
        wrong = format!("the container's exit code is {code:?}");
    } else if event == CONTAINER_STOPS {
        wrong = after_the_end(&dir.join("records"));
    }
    if !wrong.is_empty() {
        for name in ["out", "err"] {
            eprintln!("--- {name}\n{}", read(&path(name)));
        }
        let _ = Command::new("sh").args(["-c", "tail -v -n 20 records/* >&2"]).current_dir(&dir).status();
        panic!("{event}, {who} killed at {places:?}: {wrong}\n{reports:#?}");
    }
    fs::remove_dir_all(&dir).unwrap();
    reports
}

// ------------------------------------------------------------------------------------------------ inside

/// The container's command.
fn inside(args: &[String]) -> ExitCode {
    let (name, event) = EVENTS.iter().find(|(name, _)| *name == args[0]).unwrap();
    let (_, victim) = VICTIMS.iter().find(|(name, _)| *name == args[1]).unwrap();
    let base = std::env::current_dir().unwrap();
    let lab = Lab {
        world: World::new(programs(), programs()),
        records: base.join("records").to_str().unwrap().to_owned(),
        victim: *victim,
        round: RefCell::default(),
    };
    let bystander = lab.service("bystander", "exec sleep 1000", &[]);
    let pid = lab.up("bystander", &bystander);
    for (number, place) in args[2..].iter().enumerate() {
        *lab.round.borrow_mut() = Round { number, place: place.parse().unwrap(), killer: None };
        event(&lab);
        if *name == CONTAINER_STOPS {
            return ExitCode::from(COMMAND_CODE as u8);
        }
        let killer = lab.round.borrow_mut().killer.take().expect("the event was armed");
        let report = killer.end();
        eprintln!("{report:?}");
        assert!(report.untold.is_empty(), "a service is supervised and nothing is told of it: {report:#?}");
        assert_eq!(bystander.pid(), pid, "a service that had nothing to do with it was restarted");
        assert_eq!(lab.starts("bystander"), [pid]);
    }
    ExitCode::SUCCESS
}

/// What the command exits with when the container is to stop.
const COMMAND_CODE: i32 = 7;

/// A container, seen from the inside.
struct Lab {
    world: World,
    records: String,
    victim: Victim,
    round: RefCell<Round>,
}

#[derive(Default)]
struct Round {
    number: usize,
    place: u32,
    killer: Option<Killer>,
}

impl Lab {
    /// Makes a service and waits until it is supervised. Its run writes its pid into a record and holds a
    /// lock for as long as it lives; then comes `body`. `$record` is a path that begins the names of its
    /// files.
    fn service(&self, name: &str, body: &str, files: &[(&str, &str)]) -> Service {
        let service = self.new_service(name, body, files);
        self.world.ok("svscanctl", &["-a", "/run/service"]);
        service.wait_supervised();
        service
    }

    /// The same without telling anybody and without waiting.
    fn new_service(&self, name: &str, body: &str, files: &[(&str, &str)]) -> Service {
        let record = self.record(name);
        let run = format!(
            "record={record}\nexec 9>>$record.lock\nflock -n 9 || echo two >>$record\n\
             echo $$ >>$record\n{body}"
        );
        let service = Service { path: format!("/run/new/{name}") };
        service.script("run", &run);
        for (file, text) in files {
            match *file {
                "finish" | "validate" => service.script(file, &format!("record={record}\n{text}")),
                _ => service.file(file, text),
            };
        }
        fs::rename(&service.path, format!("/run/service/{name}")).unwrap();
        Service { path: format!("/run/service/{name}") }
    }

    fn record(&self, name: &str) -> String {
        format!("{}/{name}", self.records)
    }

    /// The lines of a file of a service's record.
    fn lines(&self, name: &str) -> Vec<String> {
        read(&self.record(name)).lines().map(str::to_owned).collect()
    }

    /// The pids of all starts of a service.
    fn starts(&self, name: &str) -> Vec<i32> {
        let lines = self.lines(name);
        assert!(!lines.iter().any(|line| line == "two"), "{name} was there twice: {lines:?}");
        lines.iter().map(|line| line.parse().unwrap()).collect()
    }

    fn number(&self) -> usize {
        self.round.borrow().number
    }

    /// Waits until both are there, and the supervisor has taken over whatever there was.
    fn settle(&self) {
        until("a supervisor is at work", || {
            is_locked("/run/service/.s6-svscan/supervise-lock") && is_locked("/run/service/.s6-svscan/lock")
        });
        self.world.ok("rc", &["list", "--up"]);
    }

    /// From here on the victim is killed at its place.
    fn arm(&self) {
        let mut round = self.round.borrow_mut();
        let log = format!("killer-{}", round.number);
        self.settle();
        let (supervise, svscan) = (process("supervise"), process("svscan"));
        let (traced, others) = match self.victim {
            Victim::Supervise => (supervise, vec![]),
            Victim::Svscan => (svscan, vec![]),
            Victim::BothAtSupervise => (supervise, vec![svscan]),
            Victim::BothAtSvscan | Victim::Successor => (svscan, vec![supervise]),
        };
        round.killer = Some(match self.victim {
            Victim::Successor => Killer::start_for_successor(svscan, supervise, round.place, &log),
            _ => Killer::start(traced, &others, round.place, &log),
        });
    }

    fn svc(&self, options: &[&str], service: &Service) {
        let mut args = vec!["-T", "30000"];
        args.extend(options);
        args.push(&service.path);
        self.world.ok("svc", &args);
    }

    /// Waits until the service is up and has said so in its record; its pid.
    fn up(&self, name: &str, service: &Service) -> i32 {
        let pid = service.pid();
        until("it has said that it was started", || self.starts(name).contains(&pid));
        assert!(is_alive(pid));
        pid
    }
}

/// The living process of this name in the container; of the supervisors, the common one.
fn process(name: &str) -> i32 {
    process_with(name, |line| !line.contains("--place"))
}

/// The living process of this name whose command line is as wanted.
fn process_with(name: &str, is_wanted: fn(&str) -> bool) -> i32 {
    let wanted = format!("{name}\0");
    let find = || {
        let entries = fs::read_dir("/proc").unwrap().flatten();
        let mut pids = entries.filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok());
        pids.find(|pid| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line);
            line.starts_with(&wanted) && is_wanted(&line) && stat(*pid, 3).is_some_and(|state| state != "Z")
        })
    };
    until(&format!("there is a {name}"), || find().is_some());
    find().unwrap()
}

// ------------------------------------------------------------------------------------------------ events

fn once(lab: &Lab, name: &str, make: impl FnOnce()) -> Service {
    if lab.number() == 0 {
        make();
        lab.world.ok("svscanctl", &["-a", "/run/service"]);
    }
    let service = Service { path: format!("/run/service/{name}") };
    service.wait_supervised();
    service
}

fn start(lab: &Lab) {
    let a = once(lab, "a", || {
        lab.new_service("a", "exec sleep 1000", &[("down", "")]);
    });
    let before = lab.starts("a").len();
    lab.arm();
    lab.svc(&["-wu", "-u"], &a);
    let pid = lab.up("a", &a);
    assert_eq!(lab.starts("a").len(), before + 1);
    assert!(a.status().wanted());
    until_eq(before as u32 + 1, || a.state().starts.max(1));
    lab.svc(&["-wD", "-d"], &a);
    assert!(!is_alive(pid));
    assert_eq!(lab.starts("a").len(), before + 1);
}

/// What could not be executed has neither been started nor died.
fn cannot_execute(lab: &Lab) {
    let a = once(lab, "a", || {
        lab.new_service("a", "exec sleep 1000", &[("down", "")]);
        Service { path: "/run/service/a".to_owned() }.file("run", "#!/no/such/interpreter\n");
    });
    lab.arm();
    lab.svc(&["-u"], &a);
    until("why it was not started is told", || a.state().failure.is_some());
    lab.svc(&["-d"], &a);
    until("it is wanted down", || !a.status().wanted());
    assert_eq!((a.state().starts, a.state().deaths, a.deaths().len()), (0, 0, 0));
    assert_eq!((a.status().pid, a.status().wait), (0, 0));
}

fn stop(lab: &Lab) {
    let a = once(lab, "a", || {
        let finish = ("finish", "echo \"$@\" >>$record.finish");
        lab.new_service("a", "exec sleep 1000", &[("down", ""), finish]);
    });
    lab.svc(&["-wu", "-u"], &a);
    let pid = lab.up("a", &a);
    let lives = lab.starts("a").len();
    lab.arm();
    lab.svc(&["-wD", "-d"], &a);
    assert!(!is_alive(pid));
    died(lab, "a", &a, lives, WaitStatus::killed(OurSignal::TERM), &format!("256 15 a {pid}"));
    assert_eq!(lab.starts("a").len(), lives);
    assert!(!a.status().wanted());
}

/// With `kill-mode` `tree`: those who have sessions of their own and do not listen are killed when run has ended,
/// and until then run has not died.
fn end_descent(lab: &Lab) {
    let a = once(lab, "a", || {
        let deaf = "setsid sh -c 'trap \"\" TERM; setsid sh -c \"echo \\$\\$ >>$record.deaf; exec sleep 1000\" & \
                    echo $$ >>$record.deaf; exec sleep 1000'";
        let body = format!("export record; {deaf} &\nexec sleep 1000");
        // The dead may not be reaped yet.
        let finish = "for p in $(cat $record.deaf); do s=$(cut -d' ' -f3 /proc/$p/stat 2>>no) || s=Z; \
                      [ $s = Z ] || echo $p >>$record.left; done; echo \"$@\" >>$record.finish";
        lab.new_service("a", &body, &[("down", ""), ("kill-mode", "tree"), ("finish", finish)]);
    });
    let before = lab.lines("a.deaf").len();
    lab.svc(&["-wu", "-u"], &a);
    let pid = lab.up("a", &a);
    until("its descendants are there", || lab.lines("a.deaf").len() == before + 2);
    let lives = lab.starts("a").len();
    lab.arm();
    lab.svc(&["-wD", "-d"], &a);
    let members = lab.lines("a.deaf").split_off(before);
    assert!(!is_alive(pid) && members.iter().all(|pid| !is_alive(pid.parse().unwrap())));
    assert_eq!(lab.lines("a.left"), [""; 0]);
    died(lab, "a", &a, lives, WaitStatus::killed(OurSignal::TERM), &format!("256 15 a {pid}"));
}

/// What is known of a service after so many deaths, of which this was the last.
fn died(lab: &Lab, name: &str, service: &Service, deaths: usize, how: WaitStatus, finish: &str) {
    until(&format!("{name} is seen to have died {deaths} times"), || {
        service.state().deaths as usize >= deaths
    });
    assert_eq!(service.state().deaths as usize, deaths, "deaths are counted once");
    assert_eq!(WaitStatus(service.status().wait), how);
    let tally: Vec<End> = service.deaths().iter().map(|death| death.end).collect();
    assert_eq!((tally.len(), tally.last()), (deaths, Some(&how.end())), "{tally:?}");
    let finished = lab.lines(&format!("{name}.finish"));
    assert_eq!((finished.len(), &**finished.last().unwrap()), (deaths, finish), "{finished:?}");
}

/// Services die in turn: each has been up for a second by then, or is held back as it should be.
fn die(lab: &Lab) {
    let name = format!("a{}", lab.number());
    let service = once(lab, &name, || {
        for n in 0..KILLS_PER_CONTAINER {
            let name = format!("a{n}");
            mkfifo(&lab.record(&format!("{name}.gate")));
            let finish = ("finish", "echo \"$@\" >>$record.finish");
            lab.new_service(&name, "read x <$record.gate; exit $x", &[finish]);
        }
    });
    let pid = lab.up(&name, &service);
    lab.arm();
    open_gate(lab, &name, "33");
    until("it was started again", || service.status().is_up() && service.status().pid != pid);
    let second = lab.up(&name, &service);
    assert_eq!(lab.starts(&name), [pid, second]);
    until_eq(2, || service.state().starts);
    died(lab, &name, &service, 1, WaitStatus::exited(33), &format!("33 0 {name} {pid}"));
    assert_eq!(lab.starts(&name), [pid, second]);
}

/// One command, one restart.
fn restart(lab: &Lab) {
    let name = format!("a{}", lab.number());
    let service = once(lab, &name, || {
        for n in 0..KILLS_PER_CONTAINER {
            lab.new_service(&format!("a{n}"), "exec sleep 1000", &[]);
        }
    });
    let pid = lab.up(&name, &service);
    lab.arm();
    lab.svc(&["-wr", "-r"], &service);
    until("it was restarted", || service.pid() != pid);
    let second = lab.up(&name, &service);
    // Whoever obeys this command has obeyed all that were sent before it. (Waiting for the event will not do:
    // killed just after events were sent and before that was noted, the supervisor's successor sends them
    // again.)
    lab.svc(&["-d"], &service);
    until("it is down", || service.status().is_down() && !service.status().wanted());
    assert_eq!(lab.starts(&name), [pid, second]);
    assert_eq!(service.deaths().len(), 2);
}

/// While `validate` says no nothing happens to the service, and whoever waits hears it; then it is restarted once.
fn validated_restart(lab: &Lab) {
    let name = format!("a{}", lab.number());
    let service = once(lab, &name, || {
        for n in 0..KILLS_PER_CONTAINER {
            let files = [("validate", "[ ! -e $record.bad ] || { echo no good; exit 1; }")];
            lab.new_service(&format!("a{n}"), "exec sleep 1000", &files);
        }
    });
    let pid = lab.up(&name, &service);
    let bad = lab.record(&format!("{name}.bad"));
    fs::write(&bad, "").unwrap();
    lab.arm();
    let ran = lab.world.run("svc", &["-T", "30000", "-wr", "-t", &service.path]);
    assert!(ran.code == 1 && ran.err.contains("validate failed: no good"), "{ran:?}");
    until("the state says it", || service.state().refused.is_some_and(|(_, why)| why == "no good"));
    assert_eq!((service.pid(), lab.starts(&name)), (pid, vec![pid]));
    fs::remove_file(bad).unwrap();
    lab.svc(&["-t"], &service);
    until("it was restarted", || service.pid() != pid);
    let second = lab.up(&name, &service);
    lab.svc(&["-d"], &service);
    until("it is down", || service.status().is_down() && !service.status().wanted());
    assert_eq!(lab.starts(&name), [pid, second]);
    assert_eq!(service.deaths().len(), 2);
}

/// Three ends are three, whoever counts them.
fn given_up(lab: &Lab) {
    let name = format!("a{}", lab.number());
    let service = once(lab, &name, || {
        for n in 0..KILLS_PER_CONTAINER {
            let files = [("down", ""), ("restart-delay", "10ms"), ("give-up", "3 1h")];
            lab.new_service(&format!("a{n}"), "exit 3", &files);
        }
    });
    lab.arm();
    lab.svc(&["-u"], &service);
    until("it is given up", || service.state().mode.as_deref() == Some("gave-up"));
    until("it is down", || service.status().is_down() && !service.status().wanted());
    assert_eq!(lab.starts(&name).len(), 3);
    assert_eq!(service.deaths().len(), 3);
}

/// Its scanner and its supervisor are killed, so that it is init's child: how it ends is known all the same, and also
/// if it ends while both are dead.
fn isolated_dies(lab: &Lab) {
    let a = once(lab, "a", || {
        lab.new_service("a", "exec sleep 1000", &[("isolate", ""), ("restart-delay", "10ms")]);
    });
    let kill_above = || {
        let own = process_with("supervise", |line| line.contains("--place"));
        [process("svscan"), own].into_iter().for_each(|pid| support::kill(pid, UnixSignal::KILL));
    };
    let (pid, adopted) = (lab.up("a", &a), a.state().adopted);
    let lives = lab.starts("a").len();
    kill_above();
    until("it is taken over", || a.state().adopted > adopted);
    lab.arm();
    support::kill(pid, UnixSignal::USR1);
    until("its end is counted", || a.deaths().len() == lives);
    assert_eq!(a.deaths().last().unwrap().end, End::Signal(OurSignal::USR1));
    let again = |old: i32| until("it is started again", || a.status().is_up() && a.status().pid != old);
    again(pid);
    let second = lab.up("a", &a);
    kill_above();
    support::kill(second, UnixSignal::USR2);
    until("its end is counted", || a.deaths().len() == lives + 1);
    assert_eq!(a.deaths().last().unwrap().end, End::Signal(OurSignal::USR2));
    again(second);
}

fn open_gate(lab: &Lab, name: &str, text: &str) {
    let gate = lab.record(&format!("{name}.gate"));
    writeln!(fs::OpenOptions::new().write(true).open(gate).unwrap(), "{text}").unwrap();
}

fn finish(lab: &Lab) {
    let a = once(lab, "a", || {
        mkfifo(&lab.record("a.gate"));
        let finish = "echo \"$@\" >>$record.finish; read x <$record.gate; exit $x";
        let files = [("down", ""), ("finish", finish), ("timeout-finish", "0\n")];
        lab.new_service("a", "exec sleep 1000", &files);
    });
    // That it failed for good the last time may be told again after a kill, to whoever waits for it to be up now.
    lab.settle();
    lab.svc(&["-u"], &a);
    lab.world.ok("svwait", &["-u", "-t", "30000", &a.path]);
    let pid = lab.up("a", &a);
    let lives = lab.starts("a").len();
    lab.svc(&["-wd", "-d"], &a);
    lab.arm();
    open_gate(lab, "a", if lives.is_multiple_of(2) { "0" } else { "125" });
    lab.world.ok("svwait", &["-D", "-t", "30000", &a.path]);
    died(lab, "a", &a, lives, WaitStatus::killed(OurSignal::TERM), &format!("256 15 a {pid}"));
    assert!(a.status().is_down());
}

fn become_ready(lab: &Lab) {
    let a = once(lab, "a", || {
        mkfifo(&lab.record("a.gate"));
        let files = [("down", ""), ("notification-fd", "4\n")];
        lab.new_service("a", "read x <$record.gate; echo >&4; exec sleep 1000", &files);
    });
    lab.svc(&["-wu", "-u"], &a);
    let pid = lab.up("a", &a);
    lab.arm();
    open_gate(lab, "a", "");
    lab.world.ok("svwait", &["-U", "-t", "30000", &a.path]);
    assert_eq!(a.pid(), pid);
    lab.svc(&["-wD", "-d"], &a);
}

/// Whoever remains is found once, is ready, and ends with its own status.
fn background(lab: &Lab) {
    let name = format!("a{}", lab.number());
    let service = once(lab, &name, || {
        for n in 0..KILLS_PER_CONTAINER {
            let name = format!("a{n}");
            mkfifo(&lab.record(&format!("{name}.gate")));
            let main = "echo $$ >>$record.main; read x <$record.gate; exit $x";
            let body = format!("export record; setsid -f sh -c '{main}'; exit 0");
            let finish = ("finish", "echo \"$@\" >>$record.finish");
            lab.new_service(&name, &body, &[("down", ""), ("forking", ""), finish]);
        }
    });
    let mains = || -> Vec<i32> {
        lab.lines(&format!("{name}.main")).iter().map(|pid| pid.parse().unwrap()).collect()
    };
    lab.arm();
    lab.svc(&["-wU", "-u"], &service);
    until("it is followed", || mains().last() == Some(&service.pid()));
    let main = service.pid();
    assert_eq!((lab.starts(&name).len(), mains().len()), (1, 1));
    open_gate(lab, &name, "33");
    until("it was started again", || mains().len() == 2 && service.status().pid == mains()[1]);
    died(lab, &name, &service, 1, WaitStatus::exited(33), &format!("33 0 {name} {main}"));
    until("it is ready", || service.status().flags & 8 != 0);
    lab.svc(&["-wD", "-d"], &service);
    assert!(!is_alive(mains()[1]));
    assert_eq!((lab.starts(&name).len(), mains().len()), (2, 2));
}

fn ready_at_once(lab: &Lab) {
    let a = once(lab, "a", || {
        let files = [("down", ""), ("notification-fd", "4\n")];
        lab.new_service("a", "echo >&4; exec sleep 1000", &files);
    });
    let before = lab.starts("a").len();
    lab.arm();
    lab.svc(&["-wU", "-u"], &a);
    assert_eq!(lab.starts("a").len(), before + 1);
    assert!(is_alive(a.pid()));
    lab.svc(&["-wD", "-d"], &a);
    assert_eq!(lab.starts("a").len(), before + 1);
}

/// A command that was written arrives, at least once: it may have been obeyed just before the kill.
fn send_signals(lab: &Lab) {
    let body = "trap 'echo got >>$record.got' USR2; sleep 1000 & echo armed >>$record.got
                while :; do wait; done";
    let a = once(lab, "a", || {
        lab.new_service("a", body, &[]);
    });
    let pid = lab.up("a", &a);
    until("it listens", || !lab.lines("a.got").is_empty());
    lab.arm();
    for _ in 0..3 {
        let before = lab.lines("a.got").len();
        lab.svc(&["-2"], &a);
        until("it got the signal", || lab.lines("a.got").len() > before);
    }
    assert_eq!(lab.starts("a"), [pid]);
}

/// Every line arrives, once and in order; the supervisor only holds the pipe.
fn log(lab: &Lab) {
    let a = once(lab, "a", || {
        mkfifo(&lab.record("a.gate"));
        fs::create_dir_all("/run/new/a/log").unwrap();
        Service { path: "/run/new/a/log".to_owned() }
            .script("run", &format!("exec cat >>{}", lab.record("a.log")));
        let body = "n=0; while read x; do
             for i in 1 2 3 4 5; do n=$((n+1)); echo line $n; done
         done <>$record.gate";
        lab.new_service("a", body, &[]);
    });
    let logger = Service { path: format!("{}/log", a.path) };
    let pid = lab.up("a", &a);
    let before = lab.lines("a.log").len();
    let arrived = |lines: usize| until("lines arrive", || lab.lines("a.log").len() >= before + lines);
    lab.arm();
    open_gate(lab, "a", "go");
    // When it has nothing in its hands the logger goes, and the service writes on.
    arrived(5);
    lab.svc(&["-d"], &logger);
    until("the logger is gone", || logger.status().is_down());
    open_gate(lab, "a", "go");
    lab.svc(&["-wu", "-u"], &logger);
    arrived(10);
    let expected: Vec<String> = (1..=before + 10).map(|n| format!("line {n}")).collect();
    assert_eq!(lab.lines("a.log"), expected);
    assert_eq!(lab.starts("a"), [pid]);
}

fn appear(lab: &Lab) {
    let name = format!("new{}", lab.number());
    lab.arm();
    let service = lab.new_service(&name, "exec sleep 1000", &[("notification-fd", "4\n")]);
    lab.world.ok("svscanctl", &["-a", "/run/service"]);
    let pid = lab.up(&name, &service);
    assert_eq!(lab.starts(&name), [pid]);
    service.wait_supervised();
    lab.svc(&["-wr", "-k"], &service);
    let second = lab.up(&name, &service);
    assert_eq!(lab.starts(&name), [pid, second]);
}

fn run_oneshot(lab: &Lab) {
    lab.world.ok("rc", &["down", "once"]);
    let before = lab.lines("once").len();
    lab.arm();
    lab.world.ok("rc", &["up", "once"]);
    assert_eq!(lab.lines("once").len(), before + 1);
    lab.world.ok("rc", &["up", "once"]);
    assert_eq!(lab.lines("once").len(), before + 1);
}

/// The command's end is the container's: the rest is looked at from outside.
fn container_stops(lab: &Lab) {
    let body = "trap 'echo term >>$record.term; exit 3' TERM; sleep 1000 & echo armed >$record.armed; wait";
    for name in ["a", "b"] {
        let finish = ("finish", "echo \"$@\" >>$record.finish");
        lab.new_service(name, body, &[finish]);
    }
    lab.world.ok("svscanctl", &["-a", "/run/service"]);
    for name in ["a", "b"] {
        until("it listens", || !lab.lines(&format!("{name}.armed")).is_empty());
    }
    lab.arm();
}

/// What is wrong with what a stopped container left.
fn after_the_end(records: &std::path::Path) -> String {
    for name in ["a", "b"] {
        let lines = |suffix: &str| -> Vec<String> {
            let path = records.join(format!("{name}{suffix}"));
            read(path.to_str().unwrap()).lines().map(str::to_owned).collect()
        };
        let (starts, terms, finishes) = (lines(""), lines(".term"), lines(".finish"));
        // Killed just after a signal was sent and before that was noted, the supervisor's successor sends it
        // again.
        if starts.len() != 1
            || !(1..=2).contains(&terms.len())
            || finishes != [format!("3 0 {name} {}", starts[0])]
        {
            return format!("{name} was started {starts:?}, told to end {terms:?}, finished {finishes:?}");
        }
    }
    String::new()
}
