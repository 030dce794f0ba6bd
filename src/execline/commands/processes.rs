//! wait and trap.

use super::numbered;
use crate::chain::*;
use crate::process::{Pid, Signal};
use crate::sys::signal::{self, Target};
use crate::sys::{clock, wait};
use rustix::event::{PollFd, PollFlags, poll};
use std::os::fd::AsFd;
use std::time::Duration;

/// What `wait` waits for.
struct Waiting {
    /// Nobody: all children.
    pids: Vec<Pid>,
    /// `-o`: one is enough.
    one: bool,
    /// `-t`, `-r`: not longer than this many milliseconds.
    limit: Option<u32>,
}

/// What came of it.
enum Outcome {
    /// They have all ended. The code of the last one in the list, if it was there to be waited for.
    All(Option<u8>),
    /// This one has ended first.
    One(Pid, u8),
    /// There was none.
    Nobody,
    /// The time was up.
    TimedOut,
}

impl Waiting {
    fn run(mut self) -> Result<Outcome> {
        let special = self.pids.last().copied();
        let any = self.pids.is_empty();
        let mut last = if any { Some(0) } else { None };
        let (mask, deaths) = signal::take_over(&[Signal::CHLD])
            .map_err(|errno| unable("watch for the ends of processes", errno))?;
        let deadline = self.limit.map(|ms| clock::mono().after(Duration::from_millis(ms.into())));
        let outcome = loop {
            while let Some((pid, status)) = wait::reap() {
                let Some(at) = self.pids.iter().position(|known| *known == pid).or(any.then_some(0)) else {
                    continue;
                };
                let ended = Ended(status).code();
                if self.one {
                    mask.restore();
                    return Ok(Outcome::One(pid, ended));
                }
                if !any {
                    self.pids.swap_remove(at);
                    if Some(pid) == special {
                        last = Some(ended);
                    }
                }
            }
            if !wait::have_children() || !any && self.pids.is_empty() {
                break if self.one { Outcome::Nobody } else { Outcome::All(last) };
            }
            let left = deadline.map(|deadline| deadline.since(clock::mono()));
            if left == Some(Duration::ZERO) {
                break Outcome::TimedOut;
            }
            let left = left.map(|d| rustix::time::Timespec {
                tv_sec: d.as_secs() as i64,
                tv_nsec: d.subsec_nanos().into(),
            });
            if poll(&mut [PollFd::from_borrowed_fd(deaths.as_fd(), PollFlags::IN)], left.as_ref()) == Ok(1) {
                deaths.next();
            }
        };
        mask.restore();
        Ok(outcome)
    }
}

/// `wait`
pub fn wait(args: &mut Args) -> Result<Step> {
    let mut waiting = Waiting { pids: Vec::new(), one: false, limit: None };
    let mut insist = false;
    loop {
        match args.option("iIaort:")? {
            0 => break,
            letter @ (b'i' | b'I') => insist = letter == b'i',
            letter @ (b'a' | b'o') => waiting.one = letter == b'o',
            b'r' => waiting.limit = Some(0),
            _ => waiting.limit = Some(args.value_number()?),
        }
    }
    let mut words = args.rest();
    let end = words.iter().position(|word| word.is_empty());
    let rest = end.map(|end| words.split_off(end + 1));
    words.truncate(end.unwrap_or(words.len()));
    for word in &words {
        let pid = number(word.strip_prefix(b" ").unwrap_or(word)).and_then(|n| Pid::from_raw(n as i32));
        waiting.pids.push(pid.ok_or_else(|| args.misused())?);
    }
    let one = waiting.one;
    let outcome = waiting.run()?;
    if insist && matches!(outcome, Outcome::TimedOut) {
        return Err(failed(99, &["unable to wait: Operation timed out"]));
    }
    let found = match outcome {
        Outcome::All(last) => last.map(|code| (None, code)),
        Outcome::One(pid, code) => Some((Some(pid), code)),
        Outcome::Nobody | Outcome::TimedOut => None,
    };
    let Some(rest) = rest else { return Ok(Step::Exit(found.map_or(127, |(_, code)| code))) };
    match found {
        _ if !one => next(rest),
        Some((Some(pid), code)) => next_with(rest, vec![numbered(b"?", code), numbered(b"!", pid.raw())]),
        _ => next_with(rest, vec![&b"?"[..], b"!"]),
    }
}

/// One more than the number of the last signal.
const SIGNALS: u8 = 65;

/// What `trap` does on a signal.
struct Trap {
    signal: Signal,
    argv: Vec<Word>,
    /// The command of the last time, while it runs.
    running: Option<Pid>,
}

/// `trap`
pub fn trap(args: &mut Args) -> Result<Step> {
    let mut pass_on = false;
    while args.option("x")? != 0 {
        pass_on = true;
    }
    let mut traps = directives(args.full_block()?)?;
    args.at_least(1)?;
    let argv = args.rest();
    let mut signals: Vec<Signal> = traps.iter().map(|trap| trap.signal).collect();
    if pass_on {
        signals = trappable().collect();
    }
    signals.push(Signal::CHLD);
    let broken = |errno| unable("trap signals", errno);
    let (mask, arrivals) = signal::take_over(&signals).map_err(broken)?;
    let start = |argv: &[Word], changes: &[Word]| {
        start_with(argv, changes, Some(&mask)).map_err(|errno| unable_to("spawn", argv[0], errno))
    };
    let main = start(&argv, &[])?;
    loop {
        let Some(signal) = arrivals.next() else { continue };
        while let Some((pid, status)) = wait::reap().filter(|_| signal == Signal::CHLD) {
            if pid == main {
                return Ok(Step::Exit(Ended(status).code()));
            }
            traps.iter_mut().filter(|trap| trap.running == Some(pid)).for_each(|trap| trap.running = None);
        }
        match traps.iter_mut().find(|trap| trap.signal == signal) {
            Some(trap) if trap.running.is_none() && !trap.argv.is_empty() => {
                let changes = [numbered(b"!", main.raw()), numbered(b"SIGNAL", signal.0)];
                trap.running = Some(start(&trap.argv, &changes)?);
            }
            Some(_) => {}
            None if signal == Signal::CHLD => {}
            None => drop(signal::send(Target::Process(main), signal)),
        }
    }
}

/// Signals that a process can have something to say about.
fn trappable() -> impl Iterator<Item = Signal> {
    (1..SIGNALS).map(Signal).filter(|s| ![Signal::KILL, Signal::STOP, Signal::CHLD].contains(s))
}

/// Signals and blocks, in turn; `default` stands for all signals without a block of their own.
fn directives(words: Vec<Word>) -> Result<Vec<Trap>> {
    let mut args = Args::new(words, "trap: unterminated internal block");
    let (mut traps, mut default): (Vec<Trap>, Option<Vec<Word>>) = (Vec::new(), None);
    while args.left() > 0 {
        let word = args.word()?;
        let name = shown(word);
        let wrong = |what: &str| usage(&[what, " directive: ", name]);
        if name.eq_ignore_ascii_case("default") || name == "0" {
            if default.replace(args.block("internal ")?).is_some() {
                return Err(wrong("duplicate"));
            }
            continue;
        }
        let signal: Signal = name.parse().map_err(|()| wrong("unrecognized"))?;
        if !trappable().any(|s| s == signal) {
            return Err(usage(&[name, " cannot be trapped"]));
        }
        if traps.iter().any(|trap| trap.signal == signal) {
            return Err(wrong("duplicate"));
        }
        traps.push(Trap { signal, argv: args.block("internal ")?, running: None });
    }
    if let Some(argv) = default {
        for signal in trappable() {
            if !traps.iter().any(|trap| trap.signal == signal) {
                traps.push(Trap { signal, argv: argv.clone(), running: None });
            }
        }
    }
    Ok(traps)
}
