//! The process that asks: a copy of ours, made before we become the service, that starts checks, tells the
//! supervisor when one has said yes, and ends no later than the service.
//!
//! It is in a session of its own and has of our descriptors only 0, 1, 2 and where to say "ready", so that
//! neither a signal to the service's group nor a pipe of the service's depends on it. Each check is in a
//! session of its own too: one that hangs is killed with all that it started.

use super::{Check, Event, Limits, Outcome, Step};
use crate::chainload::Next;
use crate::diag::{self, Error, Result, Unable, code};
use crate::process::{End, Pid, Signal, WaitStatus};
use crate::servicedir::event::Listener;
use crate::sys::signal::{self, Blocked, SignalFd, Target};
use crate::sys::spawn::{self, Spawn};
use crate::sys::{Errno, clock, process, wait};
use crate::time::Mono;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::CWD;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Starts asking beside us. `check` is the question, in our working directory; without one the answer is
/// yes. `notification` gets the newline. With `twice` the asking process is an orphan, not our child: what
/// we become need not reap it.
pub fn beside(limits: Limits, check: Option<Next>, notification: OwnedFd, twice: bool) -> Result<()> {
    let began = clock::mono();
    let life = Life::of_service()?;
    let mut keep = vec![notification.as_fd()];
    keep.extend(life.descriptors());
    let mask = signal::mask();
    let blocked = signal::block_all();
    let ask = |kept| ask(kept, &life, began, limits, check.as_ref(), blocked);
    let forked = match twice {
        false => spawn::fork(blocked, &keep, ask).map(drop),
        true => fork_orphan(blocked, &keep, ask),
    };
    signal::ignore(Signal::PIPE);
    mask.restore();
    life.leave();
    forked.unable("fork")
}

fn fork_orphan(
    blocked: Blocked,
    keep: &[BorrowedFd<'_>],
    life: impl FnOnce(Vec<OwnedFd>) -> u8,
) -> std::result::Result<(), Errno> {
    let between = spawn::fork(blocked, keep, |kept| {
        let keep: Vec<BorrowedFd<'_>> = kept.iter().map(|fd| fd.as_fd()).collect();
        match spawn::fork(blocked, &keep, life) {
            Ok(_) => code::OK,
            Err(_) => code::SYSTEM,
        }
    })?;
    match wait::reap_pid(between) {
        Some((_, status)) if status == WaitStatus::exited(code::OK) => Ok(()),
        _ => Err(Errno::AGAIN),
    }
}

/// How to learn that the service has died.
enum Life {
    /// By its process: the leader of our session, which a supervisor makes of every `run`. Needs no
    /// permission and no file.
    Process(OwnedFd),
    /// By its events, before Linux 5.3.
    Events(Listener),
}

impl Life {
    fn of_service() -> Result<Life> {
        let leader = process::session_leader().unwrap_or(Pid::own());
        match wait::pidfd_open(leader) {
            Ok(pidfd) => Ok(Life::Process(pidfd)),
            // Its leader is gone, and we are not: it is not the service that we are to watch.
            Err(Errno::SRCH) => wait::pidfd_open(Pid::own()).map(Life::Process).unable("open a pidfd"),
            Err(_) => Listener::new(CWD).map(Life::Events).unable("listen to ./event"),
        }
    }

    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        match self {
            Life::Process(pidfd) => vec![pidfd.as_fd()],
            Life::Events(listener) => listener.descriptors().to_vec(),
        }
    }

    /// The same for the asking process, which has copies of the descriptors.
    fn moved(&self, copies: Vec<OwnedFd>) -> Option<Life> {
        match self {
            Life::Process(_) => copies.into_iter().next().map(Life::Process),
            Life::Events(listener) => Some(Life::Events(listener.moved(copies.try_into().ok()?))),
        }
    }

    /// Leaves it to the asking process.
    fn leave(self) {
        if let Life::Events(listener) = self {
            listener.leave();
        }
    }

    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Life::Process(pidfd) => pidfd.as_fd(),
            Life::Events(listener) => listener.as_fd(),
        }
    }

    /// Whether it is over, when its descriptor says that there is something to look at.
    fn is_over(&self) -> bool {
        match self {
            Life::Process(_) => true,
            Life::Events(listener) => {
                let mut bytes = Vec::new();
                listener.read(&mut bytes);
                // "Down" of the life before may still arrive, with the "up" of this one behind it.
                let last = bytes.iter().rfind(|b| matches!(b, b'd' | b'u'));
                last == Some(&b'd')
            }
        }
    }
}

/// The life of the asking process; returns its exit code.
fn ask(
    mut kept: Vec<OwnedFd>,
    life: &Life,
    began: Mono,
    limits: Limits,
    check: Option<&Next>,
    blocked: Blocked,
) -> u8 {
    if kept.is_empty() {
        return code::SYSTEM;
    }
    let notification = kept.remove(0);
    let Some(life) = life.moved(kept) else { return code::SYSTEM };
    let asker = spawn::clear_window().and_then(|()| SignalFd::open(blocked)).unable("set up descriptors");
    let _ = rustix::process::setsid();
    diag::exit_code(asker.and_then(|signals| {
        let machine = Check::new(began, limits);
        Asker { machine, life, signals, blocked, check, running: None, complained: false }.serve(notification)
    }))
}

struct Asker<'a> {
    machine: Check,
    life: Life,
    signals: SignalFd,
    blocked: Blocked,
    check: Option<&'a Next>,
    /// The check that is under way.
    running: Option<Pid>,
    /// It was said that the check cannot be started.
    complained: bool,
}

impl Asker<'_> {
    fn serve(mut self, notification: OwnedFd) -> Result<u8> {
        let mut event = Event::Timeout;
        loop {
            match self.machine.on(clock::mono(), event) {
                Step::Start => {
                    event = self.start();
                    continue;
                }
                Step::Kill => self.kill(),
                Step::Wait => {}
                Step::End(outcome) => {
                    self.kill();
                    return Ok(conclude(outcome, notification));
                }
            }
            event = match self.wait()? {
                Some(event) => event,
                None => {
                    self.kill();
                    return Ok(code::SYSTEM);
                }
            };
        }
    }

    /// Waits for the next event. None: we are asked to end.
    fn wait(&mut self) -> Result<Option<Event>> {
        loop {
            let timeout = self.machine.deadline().map(|at| {
                let left = at.since(clock::mono());
                rustix::time::Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos() as _ }
            });
            let mut fds = [
                PollFd::from_borrowed_fd(self.signals.as_fd(), PollFlags::IN),
                PollFd::from_borrowed_fd(self.life.as_fd(), PollFlags::IN),
            ];
            match poll(&mut fds, timeout.as_ref()) {
                Ok(0) => return Ok(Some(Event::Timeout)),
                Ok(_) | Err(Errno::INTR) => {}
                Err(e) => return Err(Error::unable("wait for events", e)),
            }
            let [signals, life] = fds.map(|fd| !fd.revents().is_empty());
            if life && self.life.is_over() {
                return Ok(Some(Event::ServiceDied));
            }
            let mut ended = None;
            while let Some(signal) = signals.then(|| self.signals.next()).flatten() {
                match signal {
                    Signal::CHLD => ended = self.reap().or(ended),
                    Signal::TERM | Signal::INT | Signal::HUP | Signal::QUIT => return Ok(None),
                    _ => {}
                }
            }
            if ended.is_some() {
                return Ok(ended);
            }
        }
    }

    fn start(&mut self) -> Event {
        let Some(check) = self.check else { return Event::Ended(true) };
        let spawn = Spawn { new_session: true, ..Spawn::new(check.programs(), check.argv()) };
        match spawn.start(self.blocked) {
            Ok(pid) => {
                self.running = Some(pid);
                // Nothing has happened yet; the machine has a deadline now.
                Event::Timeout
            }
            Err(e) => {
                if !self.complained {
                    self.complained = true;
                    diag::warn(check.explain(e.errno, None));
                }
                Event::NotStarted
            }
        }
    }

    /// Kills the check that is under way and all that it started. Its end will be reaped and forgotten.
    fn kill(&mut self) {
        if let Some(pid) = self.running.take() {
            let _ = signal::send(Target::Group(pid), Signal::KILL);
        }
    }

    fn reap(&mut self) -> Option<Event> {
        let mut ended = None;
        while let Some((pid, status)) = wait::reap() {
            if Some(pid) == self.running {
                self.running = None;
                ended = Some(Event::Ended(status.end() == End::Exit(0)));
            }
        }
        ended
    }
}

/// Says "ready" to the supervisor, or why not to whoever reads the log.
fn conclude(outcome: Outcome, notification: OwnedFd) -> u8 {
    match outcome {
        // SIGPIPE is blocked: if nobody wants to know, nobody is told.
        Outcome::Ready => while rustix::io::write(&notification, b"\n") == Err(Errno::INTR) {},
        Outcome::NeverReady => diag::warn("the service is not ready and no attempt is left: giving up"),
        Outcome::TimedOut => diag::warn("the service is not ready in time: giving up"),
        Outcome::ServiceDied => {}
    }
    outcome as u8
}
