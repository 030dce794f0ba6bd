//! Kills a process at its Nth stop: at each system call before it is made and after it was, and while a child
//! of its is on the way from fork to exec. Between two stops a process only computes, and what it stores
//! meanwhile it stores in order; so the stops are all the places that there are.
//!
//! The killer is a process of its own ([`main`], for the test program to call), which traces with ptrace: so
//! it can simply wait for its victim, and be ended at any time, and the victim goes on.

use super::{is_locked, kill, read, until};
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use perennial::servicedir::status::Status;
use rustix::fs::{Mode, OFlags};
use std::fs;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

/// The word by which the test program knows that it is the killer.
pub const WORD: &str = "--killer";

/// The killer is to kill a child that is not there yet.
const SUCCESSOR: &str = "its-next-child";

/// A child that is on its way to exec while its parent dies is held there this long, so that whoever comes
/// after the parent meets it.
const HOLD: Duration = Duration::from_millis(5);

/// A killer at work.
pub struct Killer {
    process: Child,
    log: String,
}

/// What a killer has done.
#[derive(Debug)]
pub struct Report {
    /// How many stops it saw.
    pub stops: u32,
    /// Where it killed, if it came to that.
    pub killed: Option<String>,
    /// Where a service of the container could be seen to be supervised, and no status of it be read.
    pub untold: Vec<String>,
}

impl Killer {
    /// Begins to trace `victim`, to kill it and `others` with it at stop `at`, or never for 0. It writes to
    /// the file `log`.
    pub fn start(victim: i32, others: &[i32], at: u32, log: &str) -> Killer {
        Killer::start_for("itself", victim, others, at, log)
    }

    /// Kills `child` of `parent` at once, and the next child that `parent` makes at its stop `at`.
    pub fn start_for_successor(parent: i32, child: i32, at: u32, log: &str) -> Killer {
        Killer::start_for(SUCCESSOR, parent, &[child], at, log)
    }

    fn start_for(whom: &str, traced: i32, others: &[i32], at: u32, log: &str) -> Killer {
        let process = Command::new(std::env::current_exe().unwrap())
            .args([WORD, whom, &traced.to_string(), &at.to_string()])
            .args(others.iter().map(i32::to_string))
            .stdin(Stdio::null())
            .stdout(fs::File::create(log).unwrap())
            .spawn()
            .unwrap();
        let killer = Killer { process, log: log.to_owned() };
        until("the killer is ready", || !read(&killer.log).is_empty());
        killer
    }

    /// Ends it, without harm to a victim that it has not killed.
    pub fn end(mut self) -> Report {
        kill(self.process.id() as i32, rustix::process::Signal::KILL);
        self.process.wait().unwrap();
        Report::read(&self.log)
    }
}

impl Report {
    /// Reads the log of a killer.
    pub fn read(log: &str) -> Report {
        let text = read(log);
        let stops = text.lines().filter_map(|line| line.parse().ok()).max().unwrap_or(0);
        let killed = text.lines().find_map(|line| line.strip_prefix("killed ")).map(str::to_owned);
        let untold =
            text.lines().filter_map(|line| line.strip_prefix("untold ")).map(str::to_owned).collect();
        Report { stops, killed, untold }
    }
}

/// The killer: arguments are whom to kill, the process to trace, the stop, and who else is to die.
pub fn main(args: &[String]) -> ExitCode {
    let pid = |text: &String| Pid::from_raw(text.parse().unwrap());
    let (traced, at) = (pid(&args[1]), args[2].parse().unwrap());
    let others: Vec<Pid> = args[3..].iter().map(pid).collect();
    let done = match args[0] == SUCCESSOR {
        true => wait_for_successor(traced, others[0]).and_then(|victim| trace(victim, &[], at)),
        false => seize(traced).and_then(|()| trace(traced, &others, at)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            println!("lost sight: {e}");
            ExitCode::FAILURE
        }
    }
}

fn seize(pid: Pid) -> nix::Result<()> {
    let options = Options::PTRACE_O_TRACESYSGOOD
        | Options::PTRACE_O_TRACEVFORK
        | Options::PTRACE_O_TRACEFORK
        | Options::PTRACE_O_TRACECLONE;
    ptrace::seize(pid, options)?;
    ptrace::interrupt(pid)
}

/// Kills `child` and waits for `parent` to make another one, which is left standing at its very beginning.
fn wait_for_successor(parent: Pid, child: Pid) -> nix::Result<Pid> {
    seize(parent)?;
    println!("0");
    nix::sys::signal::kill(child, Signal::SIGKILL)?;
    loop {
        match waitpid(parent, Some(WaitPidFlag::__WALL))? {
            WaitStatus::PtraceEvent(_, _, event) if (1..=3).contains(&event) => {
                let successor = Pid::from_raw(ptrace::getevent(parent)? as i32);
                waitpid(successor, Some(WaitPidFlag::__WALL))?;
                ptrace::detach(parent, None)?;
                ptrace::syscall(successor, None)?;
                return Ok(successor);
            }
            WaitStatus::Stopped(_, signal) => ptrace::cont(parent, signal)?,
            _ => ptrace::cont(parent, None)?,
        }
    }
}

/// The services of this container that a client takes to be supervised, and whose status it cannot read.
fn untold() -> Vec<String> {
    let names = fs::read_dir("/run/service").into_iter().flatten().flatten();
    let names = names.map(|entry| entry.path().to_str().unwrap().to_owned());
    let all = names.flat_map(|path| [format!("{path}/log"), path]);
    let supervised = |path: &String| {
        let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        is_locked(&format!("{path}/supervise/lock"))
            || rustix::fs::open(format!("{path}/supervise/control"), flags, Mode::empty()).is_ok()
    };
    let told = |path: &String| {
        let bytes = fs::read(format!("{path}/supervise/status"));
        Status::unpack(&bytes.unwrap_or_default()).is_some()
    };
    all.filter(|path| supervised(path) && !told(path)).collect()
}

fn trace(victim: Pid, others: &[Pid], at: u32) -> nix::Result<()> {
    let mut stops = 0;
    loop {
        let mut child = None;
        match waitpid(victim, Some(WaitPidFlag::__WALL))? {
            WaitStatus::Exited(..) | WaitStatus::Signaled(..) => return Ok(()),
            WaitStatus::PtraceSyscall(_) => stops += 1,
            WaitStatus::PtraceEvent(_, _, event) if (1..=3).contains(&event) => {
                stops += 1;
                let pid = Pid::from_raw(ptrace::getevent(victim)? as i32);
                waitpid(pid, Some(WaitPidFlag::__WALL))?;
                child = Some(pid);
            }
            WaitStatus::PtraceEvent(..) => println!("0"),
            WaitStatus::Stopped(_, signal) => {
                ptrace::syscall(victim, signal)?;
                continue;
            }
            _ => {}
        }
        if stops > 0 {
            println!("{stops}");
        }
        for service in untold() {
            let place = fs::read_to_string(format!("/proc/{victim}/syscall")).unwrap_or_default();
            println!("untold {service} at stop {stops}: system call {}", place.trim());
        }
        if stops == at && at > 0 {
            let place = fs::read_to_string(format!("/proc/{victim}/syscall")).unwrap_or_default();
            let forks = if child.is_some() { " between fork and exec" } else { "" };
            for pid in others.iter().chain([&victim]) {
                let _ = nix::sys::signal::kill(*pid, Signal::SIGKILL);
            }
            waitpid(victim, Some(WaitPidFlag::__WALL))?;
            if let Some(child) = child {
                std::thread::sleep(HOLD);
                ptrace::detach(child, None)?;
            }
            println!("killed at stop {stops}{forks}: system call {}", place.trim());
            return Ok(());
        }
        if let Some(child) = child {
            ptrace::detach(child, None)?;
        }
        ptrace::syscall(victim, None)?;
    }
}
