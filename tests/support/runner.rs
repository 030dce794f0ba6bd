//! Runs scenarios, each in a process and a directory of its own, several at a time.
//!
//! The test program executes itself once for each scenario. That process is a subreaper: whatever the
//! scenario starts stays below it, and is ended with it by pid.

use super::{Programs, World, descendants, kill, read, show};
use perennial::sys::wait;
use rustix::process::Signal;
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

/// A whole scenario may take this long, as a rule.
const SCENARIO_PATIENCE: Duration = Duration::from_secs(180);

/// Most of a scenario is waiting: so many run at once.
const AT_ONCE: usize = 6;

/// Something to be run, in an empty current directory. It fails by panicking.
pub struct Scenario<'a> {
    /// What it is called. Words after `--` choose those that contain one of them.
    pub id: String,
    /// It.
    pub run: Box<dyn Fn() + 'a>,
}

impl<'a> Scenario<'a> {
    /// A scenario.
    pub fn new(id: impl Into<String>, run: impl Fn() + 'a) -> Scenario<'a> {
        Scenario { id: id.into(), run: Box::new(run) }
    }
}

/// Says to a copy of the test program which scenario to run.
const ONE: &str = "PERENNIAL_TEST_ONE";

/// Says which process is the runner.
const PARENT: &str = "PERENNIAL_TEST_PARENT";

/// A directory that all scenarios of a run share, below it one for each. It ends with the run.
pub fn shared_dir() -> PathBuf {
    let own = || std::process::id().to_string();
    let parent = std::env::var(PARENT).unwrap_or_else(|_| own());
    std::env::temp_dir().join(format!("perennial-test-{parent}"))
}

/// Runs all scenarios, after `prepare`. A line that a scenario prints to standard output is shown.
pub fn run(program: &str, scenarios: &[Scenario<'_>], prepare: impl FnOnce()) -> ExitCode {
    run_patiently(program, scenarios, SCENARIO_PATIENCE, prepare)
}

/// A scenario that gets a world, by its name.
pub type InWorld = (&'static str, fn(&World));

/// Runs scenarios that each get a world, made of this build's programs or of the file that PERENNIAL names.
pub fn run_in_worlds(program: &str, scenarios: &[InWorld]) -> ExitCode {
    let programs = || Programs { dir: shared_dir().join("programs"), prefix: "" };
    let scenarios: Vec<Scenario<'_>> = scenarios
        .iter()
        .map(|(name, scenario)| Scenario::new(*name, move || scenario(&World::new(programs(), programs()))))
        .collect();
    run(program, &scenarios, link_programs)
}

/// Runs scenarios that make their worlds themselves, of the same programs.
pub fn run_apart(program: &str, scenarios: &[(&str, fn())]) -> ExitCode {
    let scenarios: Vec<Scenario<'_>> = scenarios.iter().map(|(name, f)| Scenario::new(*name, *f)).collect();
    run(program, &scenarios, link_programs)
}

fn link_programs() {
    let other = std::env::var("PERENNIAL").ok();
    let executable = other.as_deref().unwrap_or(env!("CARGO_BIN_EXE_perennial"));
    Programs::link(executable, shared_dir().join("programs"), "");
}

/// The same as [`run`] for scenarios that may take this long.
pub fn run_patiently(
    program: &str,
    scenarios: &[Scenario<'_>],
    patience: Duration,
    prepare: impl FnOnce(),
) -> ExitCode {
    if let Ok(one) = std::env::var(ONE) {
        return run_one(scenarios, &one);
    }
    let filters: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    wait::become_subreaper().unwrap();
    let dir = shared_dir();
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).unwrap();
    prepare();
    let chosen = |id: &str| filters.is_empty() || filters.iter().any(|f| id.contains(f));
    let mut queue: Vec<&str> = scenarios.iter().map(|s| &*s.id).filter(|id| chosen(id)).collect();
    queue.reverse();
    let all = queue.len();
    let mut passed = 0;
    let mut running: Vec<(&str, Child, Instant)> = Vec::new();
    while !queue.is_empty() || !running.is_empty() {
        while running.len() < AT_ONCE
            && let Some(id) = queue.pop()
        {
            running.push((id, start(id), Instant::now()));
        }
        std::thread::sleep(Duration::from_millis(10));
        running.retain_mut(|(id, child, since)| {
            let late = since.elapsed() > patience;
            if late {
                let _ = child.kill();
            }
            let Some(status) = child.try_wait().unwrap() else { return true };
            let fine = status.success();
            passed += fine as usize;
            let verdict = if fine { "ok" } else { "FAILED" };
            println!("{id}: {verdict} ({:?})", since.elapsed());
            print!("{}", read(&log(id, "out")));
            if !fine {
                println!("{}{}", read(&log(id, "err")), if late { "it took too long\n" } else { "" });
            }
            false
        });
    }
    sweep();
    let _ = fs::remove_dir_all(&dir);
    println!("{program}: {passed} passed of {all}");
    if passed == all { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn log(id: &str, which: &str) -> String {
    shared_dir().join(format!("{which} of {id}")).to_str().unwrap().to_owned()
}

fn start(id: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .env(ONE, id)
        .env(PARENT, std::process::id().to_string())
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null())
        .stdout(fs::File::create(log(id, "out")).unwrap())
        .stderr(fs::File::create(log(id, "err")).unwrap())
        .spawn()
        .unwrap()
}

/// A copy of the test program: one scenario in one world.
fn run_one(scenarios: &[Scenario<'_>], id: &str) -> ExitCode {
    let scenario = scenarios.iter().find(|s| s.id == id).unwrap();
    super::refuse::refuse_as_told();
    wait::become_subreaper().unwrap();
    let dir = shared_dir().join(format!("world-{}", std::process::id()));
    fs::create_dir_all(&dir).unwrap();
    std::env::set_current_dir(&dir).unwrap();
    let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| (scenario.run)()));
    if done.is_err() {
        show();
    }
    sweep();
    std::env::set_current_dir("/").unwrap();
    let _ = fs::remove_dir_all(&dir);
    if done.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Ends all that descends from us: by pid, and only that. Those whose parents die become our children.
fn sweep() {
    loop {
        let all = descendants();
        if all.is_empty() {
            return;
        }
        all.iter().for_each(|pid| kill(*pid, Signal::KILL));
        while wait::reap().is_some() {}
        std::thread::sleep(Duration::from_millis(5));
    }
}
