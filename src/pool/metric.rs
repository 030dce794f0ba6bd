//! Asking how much there is to do: a program that prints a number, as often as it is asked.
//!
//! Only its end is waited for, and then what it printed is read; one that prints more than a pipe holds does not
//! end, and is killed like any that takes too long.

use crate::chainload::Next;
use crate::diag::{Error, code};
use crate::process::{End, Pid, Signal, WaitStatus};
use crate::sys::signal::{self, Blocked, Target};
use crate::sys::spawn::Spawn;
use crate::time::Mono;
use rustix::pipe::{PipeFlags, pipe_with};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

/// The program, and when it is asked.
pub struct Metric {
    /// It.
    pub command: Next,
    /// As the caller typed it, for messages.
    pub text: String,
    /// From one question to the next.
    pub interval: Duration,
    /// It may take so long.
    pub limit: Duration,
    /// The question that is under way.
    asked: Option<Asked>,
    /// When it is asked next.
    next: Mono,
}

struct Asked {
    pid: Pid,
    output: OwnedFd,
    until: Mono,
}

impl Metric {
    /// One that is asked at once.
    pub fn new(command: Next, text: String, interval: Duration, limit: Duration) -> Metric {
        Metric { command, text, interval, limit, asked: None, next: Mono(0) }
    }

    /// When [`Metric::tick`] is next due.
    pub fn deadline(&self) -> Mono {
        self.asked.as_ref().map_or(self.next, |asked| asked.until)
    }

    /// Asks if it is time to; an answer that takes too long is one.
    pub fn tick(&mut self, now: Mono, blocked: Blocked) -> Option<Result<u32, Error>> {
        if self.deadline() > now {
            return None;
        }
        if self.asked.is_some() {
            self.stop();
            let limit = self.limit.as_millis();
            return Some(Err(self.error(format_args!("no answer within {limit} ms"))));
        }
        self.next = now.after(self.interval);
        self.start(now, blocked).err().map(Err)
    }

    fn start(&mut self, now: Mono, blocked: Blocked) -> Result<(), Error> {
        let pipe = pipe_with(PipeFlags::CLOEXEC);
        let (output, writer) = pipe.map_err(|e| Error::unable("make a pipe", e))?;
        let fds = [(writer.as_fd(), 1)];
        let command = &self.command;
        let spawn = Spawn { new_session: true, fds: &fds, ..Spawn::new(command.programs(), command.argv()) };
        let pid = spawn.start(blocked).map_err(|e| command.explain(e.errno, None))?;
        self.asked = Some(Asked { pid, output, until: now.after(self.limit) });
        Ok(())
    }

    /// Somebody has ended: if it was who was asked, this is the answer.
    pub fn ended(&mut self, pid: Pid, status: WaitStatus) -> Option<Result<u32, Error>> {
        let asked = self.asked.take_if(|asked| asked.pid == pid)?;
        if status.end() != End::Exit(0) {
            return Some(Err(self.error(status)));
        }
        let mut text = [0; 128];
        // Others may hold the pipe open; what there is has been written.
        let _ = rustix::io::ioctl_fionbio(&asked.output, true);
        let got = rustix::io::read(&asked.output, &mut text).unwrap_or(0);
        let text = String::from_utf8_lossy(&text[..got]);
        Some(parse(&text).ok_or_else(|| {
            let line = text.lines().next().unwrap_or_default();
            self.error(format_args!("{line:?} is no number"))
        }))
    }

    /// Asks no more.
    pub fn stop(&mut self) {
        if let Some(asked) = self.asked.take() {
            let _ = signal::send(Target::Group(asked.pid), Signal::KILL);
        }
    }

    fn error(&self, why: impl std::fmt::Display) -> Error {
        Error::new(code::SYSTEM, format!("unable to get the metric from {}: {why}", self.text))
    }
}

/// Reads a number that is not negative, with blanks around it; of one with a fraction, the next larger.
pub fn parse(text: &str) -> Option<u32> {
    let text = text.trim_ascii();
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(fraction) {
        return None;
    }
    let more = fraction.bytes().any(|b| b != b'0');
    Some(whole.parse().unwrap_or(u32::MAX).saturating_add(more.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        for (text, number) in [("0\n", 0), (" 17 ", 17), ("3.0", 3), ("3.2", 4), ("99999999999", u32::MAX)] {
            assert_eq!(parse(text), Some(number), "{text:?}");
        }
        for text in ["", "-1", "x", "1 2", "1e3", "1.", ".5", "nan", "+3"] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }
}
