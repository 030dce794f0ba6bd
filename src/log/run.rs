//! A logger at work: lines in, directories and streams out.
//!
//! Each turn takes what the pipe has into the spool, makes of it what the script says, appends that with one
//! write to each directory, and writes a new head of the spool ([`super::spool`] says why that is exact). What
//! cannot be written now is waited for: then nothing more is read, and the service blocks when the pipe is full.
//!
//! One clock reading stamps all that was read at once. A line is on disk when its turn ends: five system calls
//! after it was written.

use super::dir::{BATCH, LogDir};
use super::dress::Moment;
use super::script::{Act, Rate, Script, Step, To};
use super::spool::{Found, Place, Spool, Taken};
use crate::diag::{self, Error, Result, Trouble, Unable, code};
use crate::process::Signal;
use crate::sys::lines::{self, SLACK, STAMP_MAX};
use crate::sys::signal::{self, Blocked, SignalFd};
use crate::sys::{Errno, clock, spawn, wait};
use crate::time::{Mono, Now};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, open};
use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

/// How a logger is to work, beside its script.
#[derive(Clone, Debug)]
pub struct Options {
    /// `-d`: a newline goes there when lines are being read.
    pub notify: Option<i32>,
    /// `-p`: SIGTERM is ignored.
    pub protected: bool,
    /// `-l`: longer lines are cut; 0 for never.
    pub limit: usize,
    /// `-t`: when told to leave in the middle of a line, so long is waited for its end; zero for ever.
    pub grace: Duration,
    /// `-q`, `-v`: 0 says less, 2 more.
    pub verbosity: u8,
    /// `--spool`: where the spool is, if the script has no directory.
    pub spool: Option<String>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            notify: None,
            protected: false,
            limit: 8192,
            grace: Duration::from_secs(2),
            verbosity: 1,
            spool: None,
        }
    }
}

/// The most that is taken from the pipe at once.
const CHUNK: usize = 64 * 1024;

/// After a failure of what has no rule for that (the head of the spool), how long until the next attempt.
const RETRY: Duration = Duration::from_secs(2);

/// Runs a logger on descriptor 0 until its input ends or it is told to leave.
pub fn run(script: Script, options: Options) -> Result<u8> {
    let blocked = signal::block_all();
    signal::unblock_all();
    // SIGPIPE, blocked, is an error of the write that it is about.
    let heard = [Signal::TERM, Signal::HUP, Signal::ALRM, Signal::CHLD, Signal::PIPE];
    heard.into_iter().for_each(signal::forbid);
    let notify = options.notify.map(|n| {
        spawn::above_window(n).ok_or_else(|| Error::usage(format!("descriptor {n} (-d) is not open")))
    });
    let notify = notify.transpose()?;
    if script.dirs.iter().any(|dir| dir.rules.processor.is_some()) {
        spawn::reserve_window().unable("reserve descriptors")?;
    }
    let signals = SignalFd::open(blocked).unable("watch signals")?;
    if script.trailing && options.verbosity > 0 {
        diag::warn("directives after the last action do nothing");
    }
    let mut logger = Logger::begin(script, options, signals, blocked)?;
    if let Some(fd) = notify {
        let _ = rustix::io::write(&fd, b"\n");
    }
    logger.work()
}

struct Logger {
    script: Script,
    options: Options,
    signals: SignalFd,
    blocked: Blocked,
    dirs: Vec<LogDir>,
    spool: Option<Spool>,
    /// Where it is, if not in the first directory.
    spool_dir: Option<OwnedFd>,
    /// No head of the spool is ours yet.
    headless: bool,
    /// What was taken and does not count as dealt with.
    raw: Vec<u8>,
    /// Up to here a head of the spool says that it is.
    done: usize,
    /// Up to here it has become something to be written.
    at: usize,
    /// What is to be written to standard output.
    out: Vec<u8>,
    out_sent: usize,
    out_works: bool,
    statuses: Vec<Option<Vec<u8>>>,
    rates: Vec<RateState>,
    moment: Moment,
    scratch: Vec<u8>,
    line: Vec<u8>,
    trouble: Trouble,
    retry_at: Option<Mono>,
    /// When to try again to have a spool, if there is none for now.
    spool_at: Option<Mono>,
}

/// What has become of a rate limit.
#[derive(Clone, Copy, Debug, Default)]
struct RateState {
    window: Option<Mono>,
    lines: u64,
    dropped: u64,
}

/// Why the loop ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Input,
    Told,
}

impl Logger {
    fn begin(script: Script, options: Options, signals: SignalFd, blocked: Blocked) -> Result<Logger> {
        let mut dirs = script.dirs.iter().map(LogDir::open).collect::<Result<Vec<_>>>()?;
        let mut raw = Vec::new();
        let (mut spool, mut found) = (None, Found::default());
        let spool_dir = match &options.spool {
            Some(path) if dirs.is_empty() => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
                Some(open(&**path, flags, Mode::empty()).unable(format_args!("open {path}"))?)
            }
            _ => None,
        };
        if let Some(dir) = spool_dir.as_ref().or(dirs.first().map(LogDir::fd)) {
            let (opened, left) = Spool::open(dir, &mut raw).unable("open the spool")?;
            (spool, found) = (Some(opened), left);
        }
        let now = clock::mono();
        for dir in &mut dirs {
            dir.recover(&found, now)?;
        }
        let steps = script.steps.len();
        Ok(Logger {
            script,
            options,
            signals,
            blocked,
            dirs,
            spool,
            spool_dir,
            headless: true,
            raw,
            done: 0,
            at: 0,
            out: Vec::new(),
            out_sent: 0,
            out_works: true,
            statuses: vec![None; steps],
            rates: vec![RateState::default(); steps],
            moment: Moment::default(),
            scratch: Vec::new(),
            line: Vec::new(),
            trouble: Trouble::default(),
            retry_at: None,
            spool_at: None,
        })
    }

    // --------------------------------------------------------------------------------------------- loop

    fn work(&mut self) -> Result<u8> {
        let is_pipe =
            fstat(rustix::stdio::stdin()).is_ok_and(|s| FileType::from_raw_mode(s.st_mode) == FileType::Fifo);
        if !is_pipe {
            self.drop_spool();
        }
        let mut now = clock::now();
        self.moment.set(now.wall);
        let mut free = self.feed(now);
        let end = loop {
            let (input, told) = self.wait(free && self.retry_at.is_none(), None);
            now = clock::now();
            self.obey(now);
            if told {
                break End::Told;
            }
            if free && input {
                match self.take(CHUNK)? {
                    Taken::End => break End::Input,
                    Taken::Nothing => continue,
                    Taken::Bytes(_) => {}
                }
                self.moment.set(now.wall);
            }
            free = self.feed(now);
        };
        if end == End::Told && free {
            self.finish_line()?;
        }
        self.leave(end)
    }

    /// Waits until there is something to do. Returns whether there is input, and whether to leave.
    fn wait(&mut self, reading: bool, until: Option<Mono>) -> (bool, bool) {
        let deadline = self.deadline(reading).into_iter().chain(until).min();
        let timeout = deadline.map(|at| {
            let left = at.since(clock::mono());
            Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() }
        });
        // What is waited for: input, or else that standard output takes more.
        let (fd, flags) = match reading {
            true => (rustix::stdio::stdin(), PollFlags::IN),
            false => (rustix::stdio::stdout(), PollFlags::OUT),
        };
        let mut fds = [
            PollFd::from_borrowed_fd(self.signals.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(fd, flags),
        ];
        let count = if reading || !self.out.is_empty() { 2 } else { 1 };
        if poll(&mut fds[..count], timeout.as_ref()).is_err() {
            return (false, false);
        }
        let input = reading && !fds[1].revents().is_empty();
        let signalled = !fds[0].revents().is_empty();
        (input, signalled && self.hear())
    }

    /// Takes signals. Whether one says to leave.
    fn hear(&mut self) -> bool {
        let mut told = false;
        while let Some(signal) = self.signals.next() {
            match signal {
                Signal::TERM if self.options.protected => {}
                Signal::TERM | Signal::HUP => told = true,
                Signal::ALRM => self.rotate_all(|dir, _| !dir.is_processing()),
                _ => {}
            }
        }
        told
    }

    /// What time and children ask for.
    fn obey(&mut self, now: Now) {
        while let Some((pid, status)) = wait::reap() {
            let _ = self.dirs.iter_mut().any(|dir| dir.reaped(pid, status, now.mono));
        }
        if self.retry_at.is_some_and(|at| at <= now.mono) {
            self.retry_at = None;
        }
        for dir in &mut self.dirs {
            dir.on_time(now.mono, self.blocked);
        }
        self.rotate_all(|dir, now| dir.is_time_to_rotate(now));
        self.speak_of_dropped(now);
    }

    fn deadline(&self, free: bool) -> Option<Mono> {
        let rates = self.rates.iter().zip(&self.script.steps).filter(|(state, _)| state.dropped > 0);
        let rates = rates.filter_map(|(state, step)| Some(state.window?.after(rate_of(step)?.window)));
        let dirs = self.dirs.iter().filter_map(|dir| dir.deadline(free));
        dirs.chain(self.retry_at.filter(|_| !free)).chain(rates).min()
    }

    /// Takes from the input; appended to `raw`.
    fn take(&mut self, most: usize) -> Result<Taken> {
        self.forget_done();
        self.raw.reserve_exact(most + SLACK);
        let Some(spool) = &mut self.spool else { return self.read(most) };
        if spool.is_unfinished() {
            let places: Vec<Place> = self.dirs.iter().map(LogDir::here).collect();
            let done = spool.commit(&self.raw, &places);
            if !self.note_head(done, clock::mono()) {
                return Ok(Taken::Nothing);
            }
        }
        let Some(spool) = &mut self.spool else { return self.read(most) };
        match spool.take(rustix::stdio::stdin(), most, &mut self.raw) {
            Ok(taken) => Ok(taken),
            Err(Errno::INVAL | Errno::NOSYS) => {
                diag::warn(
                    "this file system cannot take from a pipe (splice): kill -9 may lose what was just read",
                );
                self.drop_spool();
                self.read(most)
            }
            Err(_) if self.dirs.iter().all(LogDir::drops) => {
                // It is full as well, and lines are to be dropped, not waited for.
                self.drop_spool();
                self.spool_at = Some(clock::mono().after(RETRY));
                self.read(most)
            }
            Err(e) => {
                let places: Vec<Place> = self.dirs.iter().map(LogDir::here).collect();
                let _ = spool.empty(&self.raw, &places);
                let error = Error::unable("take from the pipe into the spool", e);
                self.trouble.note("take", error, "what is to be logged waits");
                self.retry_at = Some(clock::mono().after(RETRY));
                Ok(Taken::Nothing)
            }
        }
    }

    /// Reads what is no pipe.
    fn read(&mut self, most: usize) -> Result<Taken> {
        let at = self.raw.len();
        self.raw.resize(at + most, 0);
        let n = rustix::io::read(rustix::stdio::stdin(), &mut self.raw[at..]);
        self.raw.truncate(at + n.unwrap_or(0));
        match n {
            Ok(0) => Ok(Taken::End),
            Ok(n) => Ok(Taken::Bytes(n)),
            Err(Errno::AGAIN | Errno::INTR) => Ok(Taken::Nothing),
            Err(e) => Err(e).unable("read standard input"),
        }
    }

    fn drop_spool(&mut self) {
        let spool = self.spool.take();
        if let (Some(spool), Some(dir)) = (spool, self.spool_dir()) {
            spool.remove(dir);
        }
    }

    fn spool_dir(&self) -> Option<&OwnedFd> {
        self.spool_dir.as_ref().or(self.dirs.first().map(LogDir::fd))
    }

    /// Removes from `raw` what has been dealt with.
    fn forget_done(&mut self) {
        self.raw.drain(..self.done);
        self.at -= self.done;
        self.done = 0;
    }

    // -------------------------------------------------------------------------------------------- lines

    /// Deals with all whole lines. False: something must be waited for first.
    fn feed(&mut self, now: Now) -> bool {
        loop {
            let shown = !self.out.is_empty();
            // What went to standard output cannot be taken back: it counts at once.
            if !self.settle(now.mono) || (shown && !self.commit(now.mono)) {
                return false;
            }
            let before = self.at;
            self.consume(now);
            if self.at == before && !self.is_pending() {
                return self.commit(now.mono);
            }
        }
    }

    fn is_pending(&self) -> bool {
        !self.out.is_empty() || self.dirs.iter().any(LogDir::is_pending)
    }

    /// Makes something to be written of as many lines as a batch has.
    fn consume(&mut self, now: Now) {
        if let Some((dir, dress)) = self.script.single_dir() {
            let before = dress.before(&mut self.moment);
            if before.len() <= STAMP_MAX && !self.dirs[dir].is_full() && self.dirs[dir].dropped == 0 {
                self.stamp_lines(dir, &before);
                if self.dirs[dir].is_pending() {
                    return;
                }
            }
        }
        while !self.dirs.iter().any(|dir| dir.out.len() >= BATCH || dir.is_full())
            && self.out.len() < rustix::pipe::PIPE_BUF / 2
        {
            let Some((length, whole)) = self.next_line() else { return };
            let mut line = std::mem::take(&mut self.line);
            line.clear();
            line.extend_from_slice(&self.raw[self.at..self.at + length]);
            self.put(&line, now);
            self.line = line;
            self.at += length + whole as usize;
        }
    }

    /// The short way: every line goes to one directory, and has the same before it.
    fn stamp_lines(&mut self, dir: usize, before: &[u8]) {
        let dir = &mut self.dirs[dir];
        let length = self.raw.len();
        self.raw.resize(length + SLACK, 0);
        // Room for the batch, and for the line that makes it one.
        dir.out.reserve(BATCH + 2 * STAMP_MAX + self.options.limit.min(BATCH));
        let enough = (dir.out.len() as u64).saturating_add(dir.room()).min(BATCH as u64) as usize;
        let limit = if self.options.limit == 0 { usize::MAX } else { self.options.limit };
        let text = &self.raw[self.at..];
        let stamped = lines::stamp(text, length - self.at, before, &mut dir.out, enough, limit);
        self.at += stamped.taken;
        self.raw.truncate(length);
    }

    /// How long the next line is, and whether its newline follows: not if it is cut.
    fn next_line(&self) -> Option<(usize, bool)> {
        let text = &self.raw[self.at..];
        let limit = if self.options.limit == 0 { usize::MAX } else { self.options.limit };
        match lines::newline(&text[..text.len().min(limit.saturating_add(1))]) {
            Some(n) => Some((n, true)),
            None if text.len() > limit => Some((limit, false)),
            None => None,
        }
    }

    /// Gives a line to every action that is to have it.
    fn put(&mut self, line: &[u8], now: Now) {
        let (mut selected, mut acted) = (true, false);
        for (i, step) in self.script.steps.iter().enumerate() {
            match step {
                Step::Select(on, matcher) => {
                    if selected != *on && matcher.matches(line, &mut self.scratch) {
                        selected = *on;
                    }
                }
                Step::Rest => selected = !acted,
                Step::Act(act) if selected => {
                    acted = true;
                    if act.rate.is_none_or(|rate| self.rates[i].allows(rate, now.mono)) {
                        let target = Target {
                            dirs: &mut self.dirs,
                            out: self.out_works.then_some(&mut self.out),
                            status: &mut self.statuses[i],
                        };
                        target.put(act, line, &mut self.moment);
                    }
                }
                Step::Act(_) => {}
            }
        }
    }

    /// Says how many lines a rate limit has dropped, when its time is over.
    fn speak_of_dropped(&mut self, now: Now) {
        for i in 0..self.rates.len() {
            let Step::Act(act) = &self.script.steps[i] else { continue };
            let (Some(rate), Some(since)) = (act.rate, self.rates[i].window) else { continue };
            if self.rates[i].dropped == 0 || since.after(rate.window) > now.mono {
                continue;
            }
            let dropped = std::mem::take(&mut self.rates[i]).dropped;
            let note =
                format!("svlog: {dropped} lines dropped (more than {} in {:?})", rate.lines, rate.window);
            self.moment.set(now.wall);
            let out = self.out_works.then_some(&mut self.out);
            let target = Target { dirs: &mut self.dirs, out, status: &mut self.statuses[i] };
            target.put(act, note.as_bytes(), &mut self.moment);
        }
    }

    // ------------------------------------------------------------------------------------------ writing

    /// Writes what is to be written, and rotates what is full. False: something must be waited for first.
    fn settle(&mut self, now: Mono) -> bool {
        if self.retry_at.is_some() || self.dirs.iter().any(|dir| dir.is_waiting(now)) {
            return false;
        }
        loop {
            let mut all = true;
            for dir in &mut self.dirs {
                all &= dir.check(now);
            }
            if (self.headless || self.dirs.iter().any(|dir| dir.unnamed)) && !self.name_files(now) {
                return false;
            }
            for dir in &mut self.dirs {
                all &= dir.flush(now);
            }
            all &= self.flush_out();
            if !all {
                return false;
            }
            self.write_statuses();
            if !self.dirs.iter().any(LogDir::is_full) {
                return true;
            }
            if !self.commit(now) {
                return false;
            }
            for dir in self.dirs.iter_mut().filter(|dir| dir.is_full()) {
                dir.rotate(now, self.blocked);
            }
        }
    }

    /// Rotates those directories that `which` chooses, if nothing is waited for.
    fn rotate_all(&mut self, which: impl Fn(&LogDir, Mono) -> bool) {
        let now = clock::mono();
        if !self.dirs.iter().any(|dir| which(dir, now)) || !self.settle(now) || !self.commit(now) {
            return;
        }
        for dir in self.dirs.iter_mut().filter(|dir| which(dir, now)) {
            dir.rotate(now, self.blocked);
        }
        self.settle(now);
    }

    /// A head of the spool that names every `current`, before anything is written to one.
    fn name_files(&mut self, now: Mono) -> bool {
        let places: Vec<Place> = self.dirs.iter().map(|dir| dir.place).collect();
        self.recreate_spool(now);
        let done = match &mut self.spool {
            Some(spool) => spool.commit(&self.raw[self.done..], &places),
            None => Ok(()),
        };
        if !self.note_head(done, now) {
            return false;
        }
        self.dirs.iter_mut().for_each(|dir| dir.unnamed = false);
        self.headless = false;
        true
    }

    /// Everything up to `at` has been written, and counts.
    fn commit(&mut self, now: Mono) -> bool {
        if self.at == self.done && !self.spool.as_ref().is_some_and(Spool::is_unfinished) {
            return true;
        }
        if self.spool.is_none() {
            self.recreate_spool(now);
        }
        let places: Vec<Place> = self.dirs.iter().map(LogDir::here).collect();
        let done = match &mut self.spool {
            Some(spool) => spool.commit(&self.raw[self.at..], &places),
            None => Ok(()),
        };
        if !self.note_head(done, now) {
            return false;
        }
        self.dirs.iter_mut().for_each(LogDir::named);
        self.done = self.at;
        true
    }

    fn note_head(&mut self, done: std::result::Result<(), Errno>, now: Mono) -> bool {
        match done.unable("write the head of the spool") {
            Ok(()) => {
                self.trouble.over("head");
                self.trouble.over("take");
                true
            }
            Err(e) => {
                self.trouble.note("head", e, "what is to be logged waits");
                self.retry_at = Some(now.after(RETRY));
                false
            }
        }
    }

    /// The spool was removed together with everything else, or there was no room for it: makes a new one, which
    /// has what is left.
    fn recreate_spool(&mut self, now: Mono) {
        let gone = self.spool.as_ref().is_some_and(Spool::is_gone);
        if !gone && self.spool_at.is_none_or(|at| at > now) {
            return;
        }
        let left = &self.raw[self.done..];
        match self.spool_dir().map(|dir| Spool::open_with(dir, left)) {
            Some(Ok(spool)) => (self.spool, self.spool_at) = (Some(spool), None),
            _ if gone => {}
            _ => self.spool_at = Some(now.after(RETRY)),
        }
    }

    /// Writes to standard output as far as that does not block. Whole lines at once, if they are not longer than
    /// what a pipe keeps together. False: not all of it.
    fn flush_out(&mut self) -> bool {
        while self.out_sent < self.out.len() {
            let mut fds = [PollFd::from_borrowed_fd(rustix::stdio::stdout(), PollFlags::OUT)];
            let now = Timespec { tv_sec: 0, tv_nsec: 0 };
            if poll(&mut fds, Some(&now)) == Ok(0) {
                return false;
            }
            let left = &self.out[self.out_sent..];
            let atomic = &left[..left.len().min(rustix::pipe::PIPE_BUF)];
            let chunk = match atomic.iter().rposition(|&b| b == b'\n') {
                Some(n) => &atomic[..=n],
                None => atomic,
            };
            match rustix::io::write(rustix::stdio::stdout(), chunk) {
                Ok(n) => self.out_sent += n,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return false,
                Err(e) => {
                    diag::warn(Error::unable("write to standard output: nothing more goes there", e));
                    self.out_works = false;
                    break;
                }
            }
        }
        self.out.clear();
        self.out_sent = 0;
        true
    }

    /// Status files: of several lines the last one counts.
    fn write_statuses(&mut self) {
        for (step, status) in self.script.steps.iter().zip(&mut self.statuses) {
            if let (Step::Act(Act { to: To::Status(path, _), .. }), Some(text)) = (step, status.take()) {
                let beside = format!("{}.new", path.to_string_lossy());
                if let Err(e) = crate::servicedir::replace_with_mode(CWD, &**path, &beside, &text, None) {
                    let doing = format_args!("write {}", path.to_string_lossy()).to_string();
                    self.trouble.note("status", Error::unable(doing, e), "tried again with the next line");
                }
            }
        }
    }

    // ---------------------------------------------------------------------------------------------- end

    /// We are told to leave, perhaps in the middle of a line: waits for its end, and takes no more than that.
    fn finish_line(&mut self) -> Result<()> {
        let grace = self.options.grace;
        let until = (!grace.is_zero()).then(|| clock::mono().after(grace));
        while self.at < self.raw.len() && until.is_none_or(|at| at > clock::mono()) {
            let (input, _) = self.wait(true, until);
            if !input {
                continue;
            }
            match self.take(1)? {
                Taken::Bytes(_) => {}
                Taken::End => break,
                Taken::Nothing => continue,
            }
            if self.raw.last() == Some(&b'\n') {
                self.feed(clock::now());
            }
        }
        Ok(())
    }

    /// Writes what is left, a line without its end included, and closes everything. Told to leave while
    /// something must be waited for, we leave that to our successor.
    fn leave(&mut self, end: End) -> Result<u8> {
        let mut free = self.feed(clock::now());
        loop {
            let now = clock::now();
            if free && self.at < self.raw.len() {
                self.put_last(now);
                free = self.settle(now.mono) && self.commit(now.mono);
                continue;
            }
            if !free && end == End::Told {
                return Err(Error::new(
                    code::SYSTEM,
                    "told to leave while lines wait: they are kept for later",
                ));
            }
            if free && !self.dirs.iter().any(LogDir::is_processing) {
                break;
            }
            let (_, told) = self.wait(false, None);
            self.obey(clock::now());
            free = self.feed(clock::now());
            if told && !free {
                return Err(Error::new(
                    code::SYSTEM,
                    "told to leave while lines wait: they are kept for later",
                ));
            }
        }
        self.rates.iter_mut().for_each(RateState::end);
        self.speak_of_dropped(clock::now());
        self.settle(clock::mono());
        for dir in &self.dirs {
            dir.close()?;
        }
        self.drop_spool();
        Ok(code::OK)
    }

    fn put_last(&mut self, now: Now) {
        let line = self.raw[self.at..].to_vec();
        self.put(&line, now);
        self.at = self.raw.len();
    }
}

fn rate_of(step: &Step) -> Option<Rate> {
    if let Step::Act(act) = step { act.rate } else { None }
}

impl RateState {
    /// Counts a line. Whether it is one of those that may.
    fn allows(&mut self, rate: Rate, now: Mono) -> bool {
        let since = *self.window.get_or_insert(now);
        if self.dropped == 0 && since.after(rate.window) <= now {
            *self = RateState { window: Some(now), ..RateState::default() };
        }
        let allowed = self.lines < rate.lines;
        self.lines += allowed as u64;
        self.dropped += !allowed as u64;
        allowed
    }

    /// Its time is over now.
    fn end(&mut self) {
        self.window = self.window.map(|_| Mono(0));
    }
}

/// Where lines can go.
struct Target<'a> {
    dirs: &'a mut [LogDir],
    out: Option<&'a mut Vec<u8>>,
    status: &'a mut Option<Vec<u8>>,
}

impl Target<'_> {
    fn put(self, act: &Act, line: &[u8], moment: &mut Moment) {
        match &act.to {
            To::Dir(n) => {
                let dir = &mut self.dirs[*n];
                if dir.dropped > 0 {
                    let note = format!("svlog: {} lines dropped (they could not be written)", dir.dropped);
                    dir.dropped = 0;
                    act.dress.put(note.as_bytes(), moment, &mut dir.out);
                }
                act.dress.put(line, moment, &mut dir.out);
            }
            To::Out => {
                if let Some(out) = self.out {
                    act.dress.put(line, moment, out);
                }
            }
            To::Alert(most) => alert(line, *most, act, moment),
            To::Status(_, size) => {
                let mut text = Vec::new();
                act.dress.put(line, moment, &mut text);
                if *size > 0 {
                    text.resize(*size, b'\n');
                }
                *self.status = Some(text);
            }
        }
    }
}

/// `svlog: alert: line`, cut if it is much too long.
fn alert(line: &[u8], most: usize, act: &Act, moment: &mut Moment) {
    let mut text = format!("{}: alert: ", diag::program()).into_bytes();
    let cut = most > 0 && line.len() > most + 3;
    let mut shown = line[..if cut { most } else { line.len() }].to_vec();
    if cut {
        shown.extend_from_slice(b"...");
    }
    act.dress.put(&shown, moment, &mut text);
    diag::put(2, &text);
}

/// Words of a command line as a script, for who makes one: `t n20 /var/log/web`.
pub fn words(text: &OsStr) -> Vec<std::ffi::OsString> {
    let words = text.as_bytes().split(|b| b" \t\n".contains(b)).filter(|word| !word.is_empty());
    words.map(|word| OsStr::from_bytes(word).to_owned()).collect()
}
