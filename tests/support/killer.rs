//! Kills a process at its Nth stop: at each system call before it is made and after it was, and while a child
//! of its is on the way from fork to exec. Between two stops a process only computes, and what it stores
//! meanwhile it stores in order; so the stops are all the places that there are.
//!
//! The killer is a process of its own ([`main`], for the test program to call), which traces with ptrace: so
//! it can simply wait for its victim, and be ended at any time, and the victim goes on.

use super::{kill, read, until};
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::fs;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

/// The word by which the test program knows that it is the killer.
pub const WORD: &str = "--killer";

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
}

impl Killer {
    /// Begins to trace `victim`, to kill it and `others` with it at stop `at`, or never for 0. It writes to
    /// the file `log`.
    pub fn start(victim: i32, others: &[i32], at: u32, log: &str) -> Killer {
        let process = Command::new(std::env::current_exe().unwrap())
            .args([WORD, &victim.to_string(), &at.to_string()])
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
        Report { stops, killed }
    }
}

/// The killer: arguments are the victim, the stop, and who else is to die.
pub fn main(args: &[String]) -> ExitCode {
    let pid = |text: &String| Pid::from_raw(text.parse().unwrap());
    let (victim, at) = (pid(&args[0]), args[1].parse().unwrap());
    let others: Vec<Pid> = args[2..].iter().map(pid).collect();
    match trace(victim, &others, at) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            println!("lost sight: {e}");
            ExitCode::FAILURE
        }
    }
}

fn trace(victim: Pid, others: &[Pid], at: u32) -> nix::Result<()> {
    let options = Options::PTRACE_O_TRACESYSGOOD
        | Options::PTRACE_O_TRACEVFORK
        | Options::PTRACE_O_TRACEFORK
        | Options::PTRACE_O_TRACECLONE;
    ptrace::seize(victim, options)?;
    ptrace::interrupt(victim)?;
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
