//! Processes as data: wait statuses and signals, without a system call.
#![forbid(unsafe_code)]

use std::fmt;
use std::str::FromStr;

/// A process id: positive.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pid(std::num::NonZeroI32);

impl Pid {
    /// `None` if it is not positive.
    pub fn from_raw(raw: i32) -> Option<Pid> {
        std::num::NonZeroI32::new(raw).filter(|n| n.get() > 0).map(Pid)
    }

    /// The number.
    pub fn raw(self) -> i32 {
        self.0.get()
    }

    /// Ours.
    pub fn own() -> Pid {
        rustix::process::getpid().into()
    }
}

impl From<rustix::process::Pid> for Pid {
    fn from(pid: rustix::process::Pid) -> Pid {
        Pid(pid.as_raw_nonzero())
    }
}

impl fmt::Display for Pid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Pid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A raw wait status: `exit code << 8`, or a signal number, plus 128 if core was dumped.
///
/// Only the low 16 bits ever carry anything; they are what `supervise/status` stores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WaitStatus(pub u16);

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It exited with this code.
    Exit(u8),
    /// This signal killed it.
    Signal(Signal),
}

impl WaitStatus {
    /// The status of a process that exited with `code`.
    pub fn exited(code: u8) -> WaitStatus {
        WaitStatus((code as u16) << 8)
    }

    /// The status of a process that `signal` killed.
    pub fn killed(signal: Signal) -> WaitStatus {
        WaitStatus(signal.0 as u16)
    }

    /// What the status says.
    pub fn end(self) -> End {
        match self.0 & 0x7f {
            0 => End::Exit((self.0 >> 8) as u8),
            n => End::Signal(Signal(n as u8)),
        }
    }

    /// Whether a process that shall not end did so of its own doing: nobody killed it with SIGKILL.
    pub fn is_crash(self) -> bool {
        self.end() != End::Signal(Signal::KILL)
    }

    /// Whether the kernel wrote a core file.
    pub fn dumped_core(self) -> bool {
        self.0 & 0x7f != 0 && self.0 & 0x80 != 0
    }

    /// The code a shell would give: the exit code, or 128 + signal.
    pub fn shell_code(self) -> u8 {
        match self.end() {
            End::Exit(code) => code,
            End::Signal(s) => 128 + s.0,
        }
    }
}

/// "exit 3", "signal SIGKILL", "signal SIGSEGV (core dumped)".
impl fmt::Display for WaitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.end() {
            End::Exit(code) => write!(f, "exit {code}"),
            End::Signal(s) if self.dumped_core() => write!(f, "signal {s} (core dumped)"),
            End::Signal(s) => write!(f, "signal {s}"),
        }
    }
}

/// A signal number, 1 to 64.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signal(pub u8);

use nix::sys::signal::Signal as S;

impl Signal {
    #![allow(missing_docs)]
    pub const HUP: Signal = Signal(S::SIGHUP as u8);
    pub const INT: Signal = Signal(S::SIGINT as u8);
    pub const QUIT: Signal = Signal(S::SIGQUIT as u8);
    pub const ABRT: Signal = Signal(S::SIGABRT as u8);
    pub const KILL: Signal = Signal(S::SIGKILL as u8);
    pub const USR1: Signal = Signal(S::SIGUSR1 as u8);
    pub const USR2: Signal = Signal(S::SIGUSR2 as u8);
    pub const ALRM: Signal = Signal(S::SIGALRM as u8);
    pub const TERM: Signal = Signal(S::SIGTERM as u8);
    pub const CHLD: Signal = Signal(S::SIGCHLD as u8);
    pub const CONT: Signal = Signal(S::SIGCONT as u8);
    pub const STOP: Signal = Signal(S::SIGSTOP as u8);
    pub const TTOU: Signal = Signal(S::SIGTTOU as u8);
    pub const PIPE: Signal = Signal(S::SIGPIPE as u8);
    pub const WINCH: Signal = Signal(S::SIGWINCH as u8);
    pub const PWR: Signal = Signal(S::SIGPWR as u8);
}

/// `SIGTERM`; a real-time signal is its number.
impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match S::try_from(self.0 as i32) {
            Ok(s) => f.write_str(s.as_str()),
            Err(_) => write!(f, "{}", self.0),
        }
    }
}

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A name with or without `SIG`, in any case, or a number: what `down-signal` may hold.
impl FromStr for Signal {
    type Err = ();
    fn from_str(text: &str) -> Result<Signal, ()> {
        if let Ok(n) = text.parse::<u8>() {
            return if (1..=64).contains(&n) && !text.starts_with('+') { Ok(Signal(n)) } else { Err(()) };
        }
        let upper = text.to_ascii_uppercase();
        let name = if upper.starts_with("SIG") { upper } else { format!("SIG{upper}") };
        S::from_str(&name).map(|s| Signal(s as u8)).map_err(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_say_how_it_ended() {
        assert_eq!(WaitStatus::exited(3).to_string(), "exit 3");
        assert_eq!(WaitStatus::killed(Signal::KILL).to_string(), "signal SIGKILL");
        assert_eq!(WaitStatus(11 | 0x80).to_string(), "signal SIGSEGV (core dumped)");
        assert_eq!(WaitStatus(15).shell_code(), 143);
        assert_eq!(WaitStatus(0x700).shell_code(), 7);
    }

    #[test]
    fn signals_by_name_and_number() {
        for text in ["TERM", "SIGTERM", "sigterm", "term", "15"] {
            assert_eq!(text.parse(), Ok(Signal::TERM), "{text}");
        }
        for text in ["", "0", "65", "SIGTERM ", "SIGFOO", "-1", "+1"] {
            assert!(text.parse::<Signal>().is_err(), "{text}");
        }
    }
}
