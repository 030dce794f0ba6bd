//! What it means that a process ended as it did.
#![forbid(unsafe_code)]

use crate::process::{End, Signal, WaitStatus};
use crate::servicedir::state::State;

/// How the last run of a service ended, and why: as its supervisor knows, or as its status tells.
pub fn whole(wait: WaitStatus, state: &State) -> String {
    let text = match state.cause.as_deref() {
        Some("stopped") => "it was told to stop",
        Some("restarted") => "it was told to, to be started again",
        Some("timeout") => "it was told to stop, did not in time, and was killed",
        Some("not-ready") => "it was not ready in time",
        Some("health") => "its health check said no too often",
        Some("watchdog") => "it gave no sign of life",
        Some("oom") => "the kernel killed it: memory ran out",
        _ => &of(wait),
    };
    let by = state.by.as_ref().map_or(String::new(), |by| format!(", by {by}"));
    let why = state.why.as_ref().map_or(String::new(), |why| format!("; {why}"));
    match text.is_empty() {
        true => format!("{wait}{why}"),
        false => format!("{wait} ({text}{by}){why}"),
    }
}

/// In words, behind `exit 127` or `signal SIGKILL`; empty where there is nothing to add.
pub fn of(wait: WaitStatus) -> String {
    match wait.end() {
        End::Exit(code) => exit(code),
        End::Signal(signal) => of_signal(signal).to_owned(),
    }
}

fn exit(code: u8) -> String {
    let text = match code {
        0 => "it ended by itself, without an error",
        100 => "by convention: it was called wrongly",
        111 => "by convention: the system refused it something",
        126 => "a program is there but cannot be executed",
        127 => "a program was not found",
        129..=192 => {
            let signal = Signal(code - 128);
            return format!("its shell saw {signal}: {}", of_signal(signal))
                .trim_end_matches([':', ' '])
                .to_owned();
        }
        _ => "",
    };
    text.to_owned()
}

fn of_signal(signal: Signal) -> &'static str {
    const ILL: Signal = Signal(4);
    const TRAP: Signal = Signal(5);
    const BUS: Signal = Signal(7);
    const FPE: Signal = Signal(8);
    const SEGV: Signal = Signal(11);
    const XCPU: Signal = Signal(24);
    const SYS: Signal = Signal(31);
    match signal {
        Signal::KILL => "killed outright: memory ran out, its time to end was up, or somebody did it",
        Signal::TERM | Signal::INT | Signal::HUP | Signal::QUIT => {
            "somebody told it to end, past its supervisor; the kernel does not tell who"
        }
        Signal::ABRT => "it gave up: a failed assertion, a panic, or memory ran out",
        Signal::PIPE => "nobody read what it wrote",
        SEGV | BUS => "it crashed: it used memory that is not there",
        ILL | TRAP => "it crashed: its code cannot go on, or is for another processor",
        FPE => "it crashed: it divided by zero",
        XCPU => "it used up the processor time that its limits allow",
        SYS => "it made a system call that is forbidden here",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_spelled_out() {
        assert_eq!(of(WaitStatus::exited(127)), "a program was not found");
        assert_eq!(of(WaitStatus::exited(1)), "");
        assert_eq!(of(WaitStatus::exited(141)), "its shell saw SIGPIPE: nobody read what it wrote");
        assert_eq!(of(WaitStatus::exited(138)), "its shell saw SIGUSR1");
        assert!(of(WaitStatus(11 | 0x80)).contains("memory"));
    }
}
