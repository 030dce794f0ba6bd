//! The engine's line to the supervisor of a scan directory.
//!
//! What is to be sent is gathered and goes out when the engine is about to wait, many requests in a message;
//! what has come is taken in one go. So a step costs no wakeup of its own where several happen together.

use crate::diag::{Result, Unable};
use crate::process::Signal;
use crate::supervise::wire::{BATCH_BYTES, Reply, Request, SOCKET};
use crate::sys::signal::SignalFd;
use crate::sys::{Errno, clock, socket};
use crate::time::Mono;
use rustix::event::{PollFd, PollFlags, poll};
use std::collections::VecDeque;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

/// A connection.
pub struct Line {
    socket: OwnedFd,
    unsent: Vec<u8>,
    heard: VecDeque<Reply>,
}

/// What waiting brought.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard {
    /// An answer.
    Reply(Reply),
    /// It is as late as that.
    Deadline,
    /// A signal that ends a change.
    Signal,
}

impl Line {
    /// Connects to the supervisor of `scandir`.
    pub fn open(scandir: &str) -> Result<Line> {
        let path = format!("{scandir}/{SOCKET}");
        let socket = socket::connect(&path).or_else(|e| match e {
            Errno::NAMETOOLONG | Errno::INVAL => {
                let dir = crate::servicedir::open(rustix::fs::CWD, scandir)?;
                socket::connect(&format!("/proc/self/fd/{}/{SOCKET}", dir.as_raw_fd()))
            }
            e => Err(e),
        });
        let socket = socket.unable(format_args!("connect to {path} (is svscan running there?)"))?;
        Ok(Line { socket, unsent: Vec::new(), heard: VecDeque::new() })
    }

    /// Has a request sent before the next wait.
    pub fn put(&mut self, request: &Request) -> std::result::Result<(), Errno> {
        let message = request.encode();
        if self.unsent.len() + message.len() > BATCH_BYTES {
            self.flush()?;
        }
        Request::gather(&mut self.unsent, &message);
        Ok(())
    }

    /// Sends what is there to be sent; while the supervisor is slow to read, waits.
    pub fn flush(&mut self) -> std::result::Result<(), Errno> {
        if self.unsent.is_empty() {
            return Ok(());
        }
        let message = std::mem::take(&mut self.unsent);
        loop {
            match socket::send(&self.socket, &message, &[]) {
                Err(Errno::AGAIN | Errno::NOBUFS) => {
                    // It may be slow because we are: what it has said is taken meanwhile.
                    let mut fds = [PollFd::new(&self.socket, PollFlags::OUT | PollFlags::IN)];
                    poll(&mut fds, None)?;
                    if fds[0].revents().contains(PollFlags::IN) {
                        self.take()?;
                    }
                }
                other => return other,
            }
        }
    }

    /// Takes a message that has come. False: there is none.
    fn take(&mut self) -> std::result::Result<bool, Errno> {
        let mut buf = [0u8; socket::MAX_MESSAGE];
        match socket::receive(&self.socket, &mut buf) {
            Ok(message) if message.len == 0 => Err(Errno::PIPE),
            Ok(message) => {
                Reply::decode_all(&buf[..message.len], |reply| self.heard.push_back(reply));
                Ok(true)
            }
            Err(Errno::AGAIN) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// The next answer that has come already.
    pub fn heard(&mut self) -> Option<Reply> {
        self.heard.pop_front()
    }

    /// Sends what is there to be sent and waits for an answer, until `limit`. `Err(PIPE)`: the other end is
    /// gone.
    pub fn wait(
        &mut self,
        limit: Option<Mono>,
        signals: Option<&SignalFd>,
    ) -> std::result::Result<Heard, Errno> {
        self.flush()?;
        loop {
            if let Some(reply) = self.heard() {
                return Ok(Heard::Reply(reply));
            }
            let left = limit.map(|at| at.since(clock::mono()));
            if left == Some(Duration::ZERO) {
                // What has come by now has come in time.
                match self.take()? {
                    true => continue,
                    false => return Ok(Heard::Deadline),
                }
            }
            let timeout = left.map(|d| rustix::time::Timespec {
                tv_sec: d.as_secs() as i64,
                tv_nsec: d.subsec_nanos() as _,
            });
            let mut fds = [
                PollFd::new(&self.socket, PollFlags::IN),
                PollFd::from_borrowed_fd(signals.map_or(self.socket.as_fd(), AsFd::as_fd), PollFlags::IN),
            ];
            match poll(&mut fds, timeout.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(e) => return Err(e),
            }
            let [answered, signalled] = [0, 1].map(|n| !fds[n].revents().is_empty());
            if let (true, Some(signals)) = (signalled, signals)
                && is_told_to_end(signals)
            {
                return Ok(Heard::Signal);
            }
            if answered {
                self.take()?;
            }
        }
    }
}

fn is_told_to_end(signals: &SignalFd) -> bool {
    let mut told = false;
    while let Some(signal) = signals.next() {
        told |= matches!(signal, Signal::TERM | Signal::INT | Signal::HUP | Signal::QUIT);
    }
    told
}
