//! A directory of logs, as s6-log has it: `current`, archives, and what lies there while one becomes the other.
//!
//! | file | |
//! | --- | --- |
//! | `lock` | locked by the logger |
//! | `current` | appended to. With the owner's x bit: closed, and complete |
//! | `@….s`, `@….u` | archives; `.u`: whoever wrote it was interrupted |
//! | `previous`, `processed`, `newstate` | while a processor is at work |
//! | `state` | what the processor wants to know the next time |
//! | `spool` | ours: what is on its way from the pipe ([`super::spool`]) |
//!
//! Without a processor a rotation is two steps: `current` becomes an archive, a new `current` is made. With one it is
//! (each step such that whoever finds the result knows how to go on, see [`LogDir::recover`]):
//!
//! 1. `current` becomes `previous`; a new `current` is made, and is written to from here on.
//! 2. The processor runs: `previous` in, `processed` out, `state` in (descriptor 4), `newstate` out (5). If it
//!    fails or whoever watches it is killed, it runs again, from the same `previous` and `state`.
//! 3. It succeeded: `processed` gets the x bit. Only from here on its output counts.
//! 4. `previous` is removed, `newstate` becomes `state`, `processed` becomes an archive.

use super::archive;
use super::script::DirSpec;
use super::spool::{Found, Place};
use crate::chainload::Next;
use crate::diag::{Error, Result, Trouble, Unable, code, warn};
use crate::process::{Pid, WaitStatus};
use crate::sys::signal::Blocked;
use crate::sys::spawn::Spawn;
use crate::sys::{Errno, lock};
use crate::time::{Mono, Tai64n};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, fchmod, fstat, fsync, ftruncate, mkdirat, openat, renameat};
use rustix::fs::{statat, unlinkat};
use std::os::fd::{AsFd, OwnedFd};

/// So much is collected before it is written.
pub const BATCH: usize = 64 * 1024;

/// A directory that is written to.
pub struct LogDir {
    spec: DirSpec,
    dir: OwnedFd,
    lock: OwnedFd,
    current: Option<OwnedFd>,
    /// `current` as far as a head of the spool names it.
    pub place: Place,
    /// No head of the spool names `current` yet.
    pub unnamed: bool,
    /// Bytes of `current`.
    size: u64,
    /// What is to be appended, whole lines; up to `sent` it is.
    pub out: Vec<u8>,
    sent: usize,
    /// Lines that were dropped and not yet spoken of.
    pub dropped: u64,
    newest: Tai64n,
    rotate_at: Option<Mono>,
    processing: Processing,
    retry_at: Option<Mono>,
    trouble: Trouble,
}

/// What becomes of `previous`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Processing {
    None,
    At(Mono),
    By(Pid),
}

const TEMPORARY: [&str; 3] = ["previous", "processed", "newstate"];

impl LogDir {
    /// Opens and locks it; makes it if need be.
    pub fn open(spec: &DirSpec) -> Result<LogDir> {
        let (dir, lock) = open_and_lock(spec)?;
        Ok(LogDir {
            spec: spec.clone(),
            dir,
            lock,
            current: None,
            place: Place::default(),
            unnamed: true,
            size: 0,
            out: Vec::new(),
            sent: 0,
            dropped: 0,
            newest: Tai64n::default(),
            rotate_at: None,
            processing: Processing::None,
            retry_at: None,
            trouble: Trouble::default(),
        })
    }

    /// The directory itself.
    pub fn fd(&self) -> &OwnedFd {
        &self.dir
    }

    /// How it was named.
    pub fn path(&self) -> String {
        self.spec.path.to_string_lossy().into_owned()
    }

    // ---------------------------------------------------------------------------------------- beginning

    /// Makes sense of what a predecessor left, and opens `current`. After a kill, `found` says up to where files
    /// count, and everything goes on where it was; without it, or after another kind of logger, this does what
    /// s6-log does: what was being written becomes a `.u` archive.
    pub fn recover(&mut self, found: &Found, now: Mono) -> Result<()> {
        self.recover_files(found).unable(format_args!("recover {}", self.path()))?;
        self.open_current().unable(format_args!("open {}/current", self.path()))?;
        self.set_rotation_time(now);
        Ok(())
    }

    fn recover_files(&mut self, found: &Found) -> std::result::Result<(), Errno> {
        let archives = archive::list(&self.dir)?;
        self.newest = archives.last().map(|archive| archive.stamp).unwrap_or_default();
        let mut known = false;
        if !found.places.is_empty() {
            let names = archives.iter().rev().map(|archive| &*archive.name);
            for name in ["current", "previous"].into_iter().chain(names) {
                if self.cut(name, found)? {
                    known = true;
                    break;
                }
            }
        }
        let current = statat(&self.dir, "current", AtFlags::SYMLINK_NOFOLLOW).ok();
        let closed = current.as_ref().is_some_and(|s| s.st_mode & 0o100 != 0);
        let is_ours = match self.look("current") {
            Some(place) => found.place(&place).is_some() || (known && place.size == 0),
            None => known,
        };
        let processed = statat(&self.dir, "processed", AtFlags::SYMLINK_NOFOLLOW);
        let processed = processed.is_ok_and(|s| s.st_mode & 0o100 != 0);
        if closed || (is_ours && found.this_boot) {
            return self.resume_processing(processed);
        }
        // s6-log's way.
        self.remove("state")?;
        self.remove("newstate")?;
        if processed {
            self.keep("processed", ".s")?;
            self.remove("previous")?;
        } else {
            self.remove("processed")?;
            self.keep("previous", ".u")?;
        }
        self.keep("current", ".u")
    }

    /// The last rotation, if it was not complete, goes on where it was.
    fn resume_processing(&mut self, processed: bool) -> std::result::Result<(), Errno> {
        if processed {
            return self.finish_processed();
        }
        self.remove("processed")?;
        self.remove("newstate")?;
        if self.look("previous").is_none() {
            return Ok(());
        }
        match self.spec.rules.processor {
            Some(_) => self.processing = Processing::At(Mono(0)),
            None => self.keep("previous", ".s")?,
        }
        Ok(())
    }

    /// Cuts a file to where it counts. Whether it is one of those that were found.
    fn cut(&self, name: &str, found: &Found) -> std::result::Result<bool, Errno> {
        let Some(here) = self.look(name) else { return Ok(false) };
        let Some(place) = found.place(&here) else { return Ok(false) };
        // Without a time of birth, an inode may be another file's by now, of which nothing was ever ours.
        if here.size > place.size && (place.born != 0 || place.size > 0) {
            let flags = OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            ftruncate(openat(&self.dir, name, flags, Mode::empty())?, place.size)?;
        }
        Ok(true)
    }

    fn look(&self, name: &str) -> Option<Place> {
        let flags = OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        Place::of(openat(&self.dir, name, flags, Mode::empty()).ok()?).ok()
    }

    /// Opens `current` for appending, or makes it.
    fn open_current(&mut self) -> std::result::Result<(), Errno> {
        let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::CLOEXEC;
        let current = openat(&self.dir, "current", flags, Mode::from_raw_mode(0o666))?;
        let stat = fstat(&current)?;
        if stat.st_mode & 0o100 != 0 {
            fchmod(&current, Mode::from_raw_mode(stat.st_mode & 0o7677))?;
        }
        if self.look("state").is_none() {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
            openat(&self.dir, "state", flags, Mode::from_raw_mode(0o666))?;
        }
        self.place = Place::of(&current)?;
        (self.size, self.unnamed, self.current) = (self.place.size, true, Some(current));
        Ok(())
    }

    // ------------------------------------------------------------------------------------------ writing

    /// So many more bytes until a rotation is due; no end while a processor is at work on the last one.
    pub fn room(&self) -> u64 {
        if self.processing != Processing::None {
            return u64::MAX;
        }
        let end = self.spec.rules.size - self.spec.rules.tolerance;
        end.saturating_sub(self.size + (self.out.len() - self.sent) as u64)
    }

    /// Whether lines that cannot be written are dropped.
    pub fn drops(&self) -> bool {
        self.spec.rules.drop
    }

    /// Whether there is anything to write.
    pub fn is_pending(&self) -> bool {
        self.sent < self.out.len()
    }

    /// Sees to it that `current` is there, and is in the directory: somebody may have removed it, or all of it.
    /// False: it cannot be made now.
    pub fn check(&mut self, now: Mono) -> bool {
        let gone = match &self.current {
            Some(current) => fstat(current).map(|s| {
                self.size = s.st_size as u64;
                s.st_nlink == 0
            }),
            None => Ok(true),
        };
        if gone == Ok(false) {
            return true;
        }
        if self.current.take().is_some() {
            warn(format_args!("{}/current was removed: a new one is made", self.path()));
        }
        let done = match self.open_current() {
            Err(Errno::NOENT) => self.make_again(),
            done => done.unable("make it"),
        };
        self.note("open current", done, now)
    }

    /// The directory itself was removed.
    fn make_again(&mut self) -> Result<()> {
        let (dir, lock) = open_and_lock(&self.spec)?;
        (self.dir, self.lock) = (dir, lock);
        self.open_current().unable("make it")
    }

    /// Appends what is to be appended. False: not all of it, for now.
    pub fn flush(&mut self, now: Mono) -> bool {
        let Some(current) = &self.current else { return false };
        while self.sent < self.out.len() {
            match rustix::io::write(current, &self.out[self.sent..]) {
                Ok(n) => {
                    self.sent += n;
                    self.size += n as u64;
                }
                Err(Errno::INTR) => {}
                Err(e) if self.spec.rules.drop => return self.drop_pending(e),
                Err(e) => return self.note("write", Err(e).unable("write"), now),
            }
        }
        self.out.clear();
        self.sent = 0;
        self.trouble.over("write");
        self.retry_at = None;
        true
    }

    /// `full=drop`: what cannot be written is counted, and the beginning of a line is taken back.
    fn drop_pending(&mut self, errno: Errno) -> bool {
        let written = &self.out[..self.sent];
        let line = written.iter().rev().take_while(|&&b| b != b'\n').count();
        if let Some(current) = &self.current
            && line > 0
            && ftruncate(current, self.size - line as u64).is_ok()
        {
            self.size -= line as u64;
        }
        self.dropped += self.out[self.sent..].iter().filter(|&&b| b == b'\n').count() as u64;
        self.out.clear();
        self.sent = 0;
        let error = Err::<(), _>(errno).unable(format_args!("write {}/current", self.path()));
        if let Err(error) = error {
            self.trouble.note("write", error, "lines are dropped");
        }
        true
    }

    /// Everything that was written counts, as the head of the spool is about to say.
    pub fn here(&self) -> Place {
        Place { size: self.size, ..self.place }
    }

    /// A head of the spool says so.
    pub fn named(&mut self) {
        self.place = self.here();
        self.unnamed = false;
    }

    /// Forgets a trouble that is over, or says it once. Whether there is none.
    fn note(&mut self, what: &'static str, done: Result<()>, now: Mono) -> bool {
        match done {
            Ok(()) => {
                self.trouble.over(what);
                true
            }
            Err(e) => {
                let retry = self.spec.rules.retry;
                let error = Error::new(code::SYSTEM, format!("{}/current: {e}", self.path()));
                self.trouble.note(what, error, "what is to be logged waits");
                self.retry_at = Some(now.after(retry));
                false
            }
        }
    }

    // ----------------------------------------------------------------------------------------- rotation

    /// Whether `current` is to become an archive, and can.
    pub fn is_full(&self) -> bool {
        self.room() == 0 && self.size > 0 && self.processing == Processing::None
    }

    /// Makes an archive of `current`, to which everything has been written. The next one is there after it, or
    /// else when it is needed ([`check`](Self::check)).
    pub fn rotate(&mut self, now: Mono, blocked: Blocked) {
        self.set_rotation_time(now);
        if self.size == 0 || self.processing != Processing::None {
            return;
        }
        let done = self.begin_rotation();
        if !self.note("rotate", done, now) {
            return;
        }
        self.check(now);
        if self.processing != Processing::None {
            self.start_processor(now, blocked);
        }
    }

    fn begin_rotation(&mut self) -> Result<()> {
        let Some(current) = &self.current else { return Ok(()) };
        fsync(current).unable("sync it")?;
        let mode = fstat(current).map_or(0o644, |s| s.st_mode);
        if self.spec.rules.processor.is_some() {
            renameat(&self.dir, "current", &self.dir, "previous").unable("rename it")?;
            let _ = fchmod(current, Mode::from_raw_mode(mode & 0o7777 | 0o100));
            self.processing = Processing::At(Mono(0));
        } else {
            let _ = fchmod(current, Mode::from_raw_mode(mode & 0o7777 | 0o100));
            self.keep("current", ".s").unable("make an archive of it")?;
        }
        (self.current, self.size) = (None, 0);
        self.unnamed = true;
        Ok(())
    }

    fn set_rotation_time(&mut self, now: Mono) {
        let every = self.spec.rules.every;
        self.rotate_at = (!every.is_zero()).then(|| now.after(every));
    }

    fn keep(&mut self, name: &str, suffix: &str) -> std::result::Result<(), Errno> {
        archive::keep(&self.dir, name, suffix, &mut self.newest)?;
        let rules = &self.spec.rules;
        let trimmed = archive::trim(&self.dir, rules.archives, rules.total);
        match trimmed.unable(format_args!("remove old archives of {}", self.path())) {
            Ok(()) => self.trouble.over("trim"),
            Err(e) => self.trouble.note("trim", e, "tried again at the next rotation"),
        }
        Ok(())
    }

    fn remove(&self, name: &str) -> std::result::Result<(), Errno> {
        match unlinkat(&self.dir, name, AtFlags::empty()) {
            Err(Errno::NOENT) => Ok(()),
            done => done,
        }
    }

    // ---------------------------------------------------------------------------------------- processor

    fn start_processor(&mut self, now: Mono, blocked: Blocked) {
        if self.look("previous").is_none() {
            // It was finished but for the last step.
            self.processing = Processing::None;
            if let Err(e) = self.finish_processed().unable("finish") {
                self.processor_failed(e, now);
            }
            return;
        }
        match self.spawn_processor(blocked) {
            Ok(pid) => self.processing = Processing::By(pid),
            Err(e) => self.processor_failed(e, now),
        }
    }

    fn spawn_processor(&self, blocked: Blocked) -> Result<Pid> {
        let Some(processor) = &self.spec.rules.processor else { return Err(Error::usage("no processor")) };
        let words: [&[u8]; 2] = if processor.shell { [b"/bin/sh", b"-c"] } else { [b"execlineb", b"-Pc"] };
        let words = words.iter().map(|word| word.to_vec()).chain([processor.command.clone()]).collect();
        let program = Next::new(words)?;
        let open = |name: &str, flags| {
            let mode = Mode::from_raw_mode(0o666);
            openat(&self.dir, name, flags | OFlags::CLOEXEC, mode).unable(format_args!("open {name}"))
        };
        // Not those that a predecessor's processor may still write to.
        for name in &TEMPORARY[1..] {
            self.remove(name).unable(format_args!("remove {name}"))?;
        }
        let new = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        let (previous, processed) = (open("previous", OFlags::RDONLY)?, open("processed", new)?);
        let (state, newstate) = (open("state", OFlags::RDONLY | OFlags::CREATE)?, open("newstate", new)?);
        let fds = [(previous.as_fd(), 0), (processed.as_fd(), 1), (state.as_fd(), 4), (newstate.as_fd(), 5)];
        let spawn = Spawn {
            dir: Some(self.dir.as_fd()),
            fds: &fds,
            ..Spawn::new(program.programs(), program.argv())
        };
        spawn.start(blocked).map_err(|e| program.explain(e.errno, None))
    }

    fn processor_failed(&mut self, error: Error, now: Mono) {
        let error = Error::new(code::SYSTEM, format!("processor of {}: {error}", self.path()));
        self.trouble.note("process", error, "it is tried again");
        self.processing = Processing::At(now.after(self.spec.rules.retry));
    }

    /// A child has died. Whether it was the processor of this directory.
    pub fn reaped(&mut self, pid: Pid, status: WaitStatus, now: Mono) -> bool {
        if self.processing != Processing::By(pid) {
            return false;
        }
        self.processing = Processing::None;
        let done = match status.0 {
            0 => self.sync_processed().and_then(|()| self.finish_processed()).unable("finish"),
            _ => Err(Error::new(code::SYSTEM, status.to_string())),
        };
        match done {
            Ok(()) => self.trouble.over("process"),
            Err(e) => self.processor_failed(e, now),
        }
        true
    }

    fn sync_processed(&self) -> std::result::Result<(), Errno> {
        for name in ["newstate", "processed"] {
            let file = openat(&self.dir, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
            fsync(&file)?;
            if name == "processed" {
                fchmod(&file, Mode::from_raw_mode(fstat(&file)?.st_mode & 0o7777 | 0o100))?;
            }
        }
        Ok(())
    }

    fn finish_processed(&mut self) -> std::result::Result<(), Errno> {
        self.remove("previous")?;
        match renameat(&self.dir, "newstate", &self.dir, "state") {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(e) => return Err(e),
        }
        self.keep("processed", ".s")
    }

    // ---------------------------------------------------------------------------------------------- end

    /// When something is to be done next; rotations only if nothing is waited for.
    pub fn deadline(&self, free: bool) -> Option<Mono> {
        let processing = if let Processing::At(at) = self.processing { Some(at) } else { None };
        [self.rotate_at.filter(|_| free && self.size > 0), processing, self.retry_at]
            .into_iter()
            .flatten()
            .min()
    }

    /// Whether the time to rotate has come.
    pub fn is_time_to_rotate(&self, now: Mono) -> bool {
        self.rotate_at.is_some_and(|at| at <= now) && self.size > 0
    }

    /// Whether it must not be written to before [`deadline`](Self::deadline).
    pub fn is_waiting(&self, now: Mono) -> bool {
        self.retry_at.is_some_and(|at| at > now)
    }

    /// Starts the processor if it is time.
    pub fn on_time(&mut self, now: Mono, blocked: Blocked) {
        if self.retry_at.is_some_and(|at| at <= now) {
            self.retry_at = None;
        }
        if matches!(self.processing, Processing::At(at) if at <= now) {
            self.start_processor(now, blocked);
        }
    }

    /// Whether a processor is at work.
    pub fn is_processing(&self) -> bool {
        matches!(self.processing, Processing::By(_))
    }

    /// Everything is written: marks `current` as complete.
    pub fn close(&self) -> Result<()> {
        let Some(current) = &self.current else { return Ok(()) };
        fsync(current).unable(format_args!("sync {}/current", self.path()))?;
        let mode = fstat(current).map_or(0o644, |s| s.st_mode);
        fchmod(current, Mode::from_raw_mode(mode & 0o7777 | 0o100))
            .unable(format_args!("chmod {}/current", self.path()))
    }
}

fn open_and_lock(spec: &DirSpec) -> Result<(OwnedFd, OwnedFd)> {
    let path = spec.path.to_string_lossy();
    match mkdirat(CWD, &*spec.path, Mode::from_raw_mode(0o2700)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(e) => return Err(e).unable(format_args!("make {path}")),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = openat(CWD, &*spec.path, flags, Mode::empty()).unable(format_args!("open {path}"))?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file =
        openat(&dir, "lock", flags, Mode::from_raw_mode(0o666)).unable(format_args!("open {path}/lock"))?;
    if !lock::take_over(&file).unable(format_args!("lock {path}/lock"))? {
        return Err(Error::new(code::SYSTEM, format!("{path} is in use: another logger has locked it")));
    }
    Ok((dir, file))
}
