//! Chaos: services of every kind, supervised, while everything around them is killed, stopped, starved and
//! told all sorts of things; and nothing is lost, runs twice, or is told wrongly.
//!
//! ```text
//! tests/chaos [ --seed N ] [ --seconds S ] [ --services N ] [ --mode init|svscan ]
//! ```
//!
//! Without `--mode`, both in turn. What happens is chosen by the seed; when it hits is up to the machine, so
//! the same seed need not find the same thing again, and what it did find is kept: steps, messages, and what
//! each service wrote down. Exit status: 0 nothing found, 1 something found, 2 it could not be tried.
//!
//! Everything happens in a PID and mount namespace of its own and ends with it. As root, a pids cgroup is used
//! if there is one.
//!
//! # What is not expected, because nobody can promise it
//!
//! - With svscan alone and no init of ours, what only svscan and supervise held dies if both die at once. That
//!   fault is for the other mode. Nor can anybody tell how a service ended that dies while both are dead, one
//!   after the other.
//! - A command whose client was killed may or may not have arrived.
//! - A run that is killed (SIGKILL) after it wrote down how it is going to end, and before it does, ended by
//!   SIGKILL.
//! - A line that its writer was killed in the middle of writing: a pipe takes such a line whole or not at all.
//! - A logger that is told to be down, or to end at once (`svscanctl -N`), does not read what is in its pipe.
//!   That it was lost must be said.
//! - `finish` may be missing for a death at which no process could be made, or nothing opened: as in s6, a
//!   finish script that cannot be started is skipped.

#[path = "support/chaos/checks.rs"]
mod checks;
#[path = "support/chaos/faults.rs"]
mod faults;
#[path = "support/chaos/payload.rs"]
mod payload;
#[path = "support/chaos/world.rs"]
mod world;

use payload::Kind;
use rustix::process::Signal;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};
use world::{Svc, Tree, World};

/// How long there are faults if nobody says, in seconds; both modes together. Beginning and end take as long.
const SECONDS: u64 = 12;

/// How many services there are from the beginning, if nobody says.
const SERVICES: u64 = 12;

struct Args {
    seed: u64,
    seconds: u64,
    services: u64,
    mode: Option<Tree>,
    inside: Option<PathBuf>,
}

fn main() -> ExitCode {
    if let Some(code) = payload::role() {
        return code;
    }
    let args = match parse() {
        Ok(args) => args,
        Err(why) => {
            eprintln!("chaos: {why}");
            return ExitCode::from(2);
        }
    };
    if let Some(base) = &args.inside {
        return ExitCode::from(inside(&args, base));
    }
    let modes = match args.mode {
        Some(mode) => vec![mode],
        None => vec![Tree::Init, Tree::Svscan],
    };
    let each = args.seconds / modes.len() as u64;
    let mut worst = 0;
    for mode in modes {
        worst = outside(&args, mode, each).max(worst);
    }
    ExitCode::from(worst)
}

fn parse() -> Result<Args, String> {
    use lexopt::prelude::*;
    let mut args = Args { seed: 1, seconds: SECONDS, services: SERVICES, mode: None, inside: None };
    let mut parser = lexopt::Parser::from_env();
    let fail = |e: lexopt::Error| e.to_string();
    while let Some(arg) = parser.next().map_err(fail)? {
        match arg {
            Long("seed") => args.seed = parser.value().and_then(|v| v.parse()).map_err(fail)?,
            Long("seconds") => args.seconds = parser.value().and_then(|v| v.parse()).map_err(fail)?,
            Long("services") => args.services = parser.value().and_then(|v| v.parse()).map_err(fail)?,
            Long("mode") => {
                args.mode = Some(match parser.value().and_then(|v| v.string()).map_err(fail)?.as_str() {
                    "init" => Tree::Init,
                    "svscan" => Tree::Svscan,
                    other => return Err(format!("--mode {other}: init or svscan")),
                });
            }
            Long("inside") => args.inside = Some(parser.value().map_err(fail)?.into()),
            // What `cargo test` passes to test programs.
            Long("quiet" | "nocapture" | "show-output") | Short('q') => {}
            Long("test-threads") => drop(parser.value()),
            Value(_) => {}
            other => return Err(other.unexpected().to_string()),
        }
    }
    Ok(args)
}

// ------------------------------------------------------------------------------------------------ outside

/// Makes the namespaces and runs the driver in them.
fn outside(args: &Args, mode: Tree, seconds: u64) -> u8 {
    let word = if mode == Tree::Init { "init" } else { "svscan" };
    let base = std::env::temp_dir().join(format!("perennial-chaos-{word}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&base);
    prepare(&base, args);
    let cgroup = make_cgroup(&base);
    let exe = std::env::current_exe().expect("own path").display().to_string();
    let (seed, services) = (args.seed.to_string(), args.services.to_string());
    let seconds_text = seconds.to_string();
    let base_text = base.display().to_string();
    let driver = [
        &exe,
        "--inside",
        &base_text,
        "--mode",
        word,
        "--seed",
        &seed,
        "--seconds",
        &seconds_text,
        "--services",
        &services,
    ];
    // $1 is where everything is.
    let script = match mode {
        Tree::Init => {
            "mount -t proc proc /proc && mount -t tmpfs -o size=24m tmpfs /run && b=$1 && shift && \
             exec \"$b/bin/init\" -d \"$b/source\" \"$@\""
        }
        Tree::Svscan => {
            "mount -t proc proc /proc && mkdir \"$1/tmpfs\" && \
             mount -t tmpfs -o size=24m tmpfs \"$1/tmpfs\" && shift && exec \"$@\""
        }
    };
    let messages = fs::File::create(base.join("messages")).expect("messages");
    let mut command = Command::new("sh");
    let enter = match &cgroup {
        Some(cgroup) => format!("echo $$ >{}/cgroup.procs; exec \"$@\"", cgroup.display()),
        None => "exec \"$@\"".to_owned(),
    };
    command.args(["-c", &enter, "enter", "unshare"]);
    if !rustix::process::getuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command.args(["--pid", "--fork", "--kill-child", "--mount", "--propagation", "private"]);
    command.args(["sh", "-c", script, "sh", &base_text]).args(driver);
    command.stdin(Stdio::null()).stderr(messages.try_clone().expect("messages")).stdout(messages);
    command.env("S6_VERBOSITY", "1");
    println!("chaos: {word}, seed {seed}, {seconds} s, {services} services");
    let began = Instant::now();
    let status = match command.spawn().map(|mut child| child.wait()) {
        Ok(Ok(status)) => status,
        Ok(Err(e)) | Err(e) => {
            eprintln!("chaos: unable to run unshare: {e}");
            return 2;
        }
    };
    if let Some(cgroup) = cgroup {
        let _ = fs::remove_dir(cgroup);
    }
    let report = fs::read_to_string(base.join("report")).unwrap_or_default();
    print!("{report}");
    if status.success() && report.contains("nothing found") {
        let _ = fs::remove_dir_all(&base);
        return 0;
    }
    if report.is_empty() && !base.join("history").exists() {
        let messages = fs::read_to_string(base.join("messages")).unwrap_or_default();
        println!("chaos: no namespaces to be had here, nothing was tried: {}", messages.trim());
        return if rustix::process::getuid().is_root() { 2 } else { 0 };
    }
    println!("chaos: FAILED ({status}, {:?}): seed {seed}, mode {word}; the last steps:", began.elapsed());
    let history = fs::read_to_string(base.join("history")).unwrap_or_default();
    let lines: Vec<&str> = history.lines().collect();
    lines.iter().skip(lines.len().saturating_sub(40)).for_each(|line| println!("  {line}"));
    println!("chaos: everything else is in {}", base.display());
    1
}

/// The programs under their names, and the definitions that init boots.
fn prepare(base: &Path, args: &Args) {
    for dir in ["bin", "data", "source"] {
        fs::create_dir_all(base.join(dir)).expect("make the directory");
    }
    let program = std::env::var("PERENNIAL").unwrap_or(env!("CARGO_BIN_EXE_perennial").into());
    for name in ["init", "svscan", "svc", "svscanctl", "rc", "svstat"] {
        symlink(&program, base.join("bin").join(name)).expect("link");
    }
    let quiet = base.join("bin/rc-quiet");
    fs::write(&quiet, format!("#!/bin/sh\nexec {}/rc \"$@\" >/dev/null\n", base.join("bin").display()))
        .expect("rc");
    fs::set_permissions(&quiet, fs::Permissions::from_mode(0o755)).expect("rc");
    let exe = std::env::current_exe().expect("own path").display().to_string();
    let source = |name: &str| base.join("source").join(name);
    for (name, needs) in [("o1", None), ("o2", Some("o1")), ("o3", Some("o2")), ("r1", Some("o2"))] {
        let data = base.join("data").join(name);
        fs::create_dir_all(&data).expect("records");
        fs::create_dir_all(source(name).join("dependencies.d")).expect("source");
        if let Some(needs) = needs {
            fs::write(source(name).join("dependencies.d").join(needs), "").expect("source");
        }
        if name.starts_with('o') {
            fs::write(source(name).join("type"), "oneshot\n").expect("source");
            for step in ["up", "down"] {
                let line = format!("{exe} oneshot {} {step}\n", data.display());
                fs::write(source(name).join(step), line).expect("source");
            }
        } else {
            fs::write(source(name).join("type"), "longrun\n").expect("source");
            fs::create_dir_all(source(name).join("data")).expect("source");
            world::fill(&source(name), &data, Kind::SlowFinish, args.seed, false).expect("source");
            world::make_scripts(&source(name)).expect("source");
        }
    }
}

/// A pids cgroup of our own, in the first hierarchy that has one.
fn make_cgroup(base: &Path) -> Option<PathBuf> {
    let name = base.file_name()?;
    ["/sys/fs/cgroup/pids", "/sys/fs/cgroup"].into_iter().find_map(|top| {
        let cgroup = Path::new(top).join(name);
        fs::create_dir(&cgroup).ok()?;
        if !cgroup.join("pids.max").exists() {
            let _ = fs::remove_dir(&cgroup);
            return None;
        }
        fs::write(base.join("cgroup"), cgroup.display().to_string()).ok()?;
        Some(cgroup)
    })
}

// ------------------------------------------------------------------------------------------------ inside

/// The driver.
fn inside(args: &Args, base: &Path) -> u8 {
    let mode = args.mode.expect("a mode");
    let mut world = World::new(mode, base.to_owned(), args.seed);
    let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drive(&mut world, args)));
    if let Err(panic) = done {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
        world.violation(format!("the driver failed: {}", text.unwrap_or_default()));
    }
    let mut report = String::new();
    let counts: Vec<String> = world.counts.iter().map(|(what, n)| format!("{what} {n}")).collect();
    report += &format!("chaos: {}\n", counts.join(", "));
    match world.violations.len() {
        0 => report += "chaos: nothing found\n",
        n => {
            report += &format!("chaos: {n} violations\n");
            world.violations.iter().take(30).for_each(|v| report += &format!("chaos: violation: {v}\n"));
        }
    }
    fs::write(base.join("report"), report).expect("report");
    (!world.violations.is_empty()).into()
}

fn drive(world: &mut World, args: &Args) {
    fs::create_dir_all(world.small().join("store")).expect("store");
    fs::create_dir_all(&world.scan).expect("scan directory");
    if world.mode == Tree::Svscan {
        world.start_svscan();
    } else {
        let (name, dir) = ("r1".to_owned(), PathBuf::from("/run/service/r1"));
        let (data, expect) = (world.base.join("data/r1"), world::Expect::Unknown);
        let kind = Kind::SlowFinish;
        let r1 = Svc {
            name,
            kind,
            dir,
            data,
            expect,
            permanent: true,
            listed: true,
            leaving: false,
            deleted: false,
        };
        world.services.push(r1);
    }
    let deadline = Instant::now() + world::PATIENCE;
    while world.supervise.is_none() || world.svscan.is_none() {
        assert!(Instant::now() < deadline, "no supervisors");
        world.find_supervisors();
        std::thread::sleep(Duration::from_millis(5));
    }
    for number in 0..args.services {
        world.add(Kind::ALL[number as usize % Kind::ALL.len()], true);
    }
    world.tell_scanner(b"a");
    world.converge();
    // The first supervisors are forks; what is counted are their successors.
    for pid in [world.supervise, world.svscan].into_iter().flatten() {
        world.kill(pid, Signal::KILL);
        world.checkpoint();
    }
    let before = world.inventory();
    world.list_descriptors("before");
    world.note(format!("before: {before:?}"));
    world.counts.clear();
    let end = Instant::now() + Duration::from_secs(args.seconds);
    let mut pause = Instant::now() + Duration::from_secs(4);
    while Instant::now() < end && world.violations.len() < 20 {
        world.step();
        if Instant::now() > pause {
            world.checkpoint();
            pause = Instant::now() + Duration::from_secs(2) + world.random.millis(4000);
        }
    }
    world.checkpoint();
    let after = world.inventory();
    world.list_descriptors("after");
    world.note(format!("after: {after:?}"));
    if before != after {
        world.violation(format!("leak: before {before:?}, after {after:?}"));
    }
    world.check_everything();
}
