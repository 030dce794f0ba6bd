//! What it means that a process ended as it did, as far as its status tells.
#![forbid(unsafe_code)]

use crate::process::{End, Signal, WaitStatus};

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
        Signal::TERM | Signal::INT | Signal::HUP | Signal::QUIT => "somebody told it to end",
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
