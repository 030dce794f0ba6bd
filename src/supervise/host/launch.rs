//! Starting what a service consists of: `run`, `finish`, a oneshot's script.

use super::fifo::Fifo;
use super::outfit::Outfit;
use super::service::{Longrun, Service};
use crate::diag::{self, reason};
use crate::process::{End, Pid, WaitStatus};
use crate::scan::{CATCH_ALL, Identity, reaper};
use crate::servicedir::definition::Reader;
use crate::servicedir::{self, diagnose};
use crate::supervise::journal::Journal;
use crate::supervise::machine::Job;
use crate::supervise::oneshot::Script;
use crate::sys::signal::Blocked;
use crate::sys::spawn::{CArray, Spawn, SpawnError, Step, candidates};
use crate::sys::{Errno, clock, env, process};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, mknodat, openat, unlinkat};
use std::cell::Cell;
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// What every child needs to know.
pub(super) struct Surroundings<'a> {
    pub(super) blocked: Blocked,
    pub(super) journal: &'a Journal,
    pub(super) keeper: Option<&'a OwnedFd>,
    pub(super) console: Option<&'a OwnedFd>,
    /// For whom it keeps: us.
    pub(super) holder: Identity,
    /// Set when the keeper could not take what it was sent.
    pub(super) unkept: Cell<bool>,
}

/// A start that failed.
pub(super) struct Failure {
    /// Something was exhausted: nothing is wrong with the service.
    pub(super) temporary: bool,
    /// The reason as a sentence: "unable to …".
    pub(super) text: String,
    /// Why the system refused.
    pub(super) errno: Option<Errno>,
}

/// What came of asking for a process.
pub(super) enum Launched {
    /// It runs.
    Running { pid: Pid, boot: u64 },
    /// There is nothing to run, which is success.
    Nothing,
}

const RUN: &std::ffi::CStr = c"./run";
const FINISH: &std::ffi::CStr = c"./finish";
const FALLBACK: &std::ffi::CStr = c"./fallback";

/// Starts `run` or `finish` of a longrun. `logger` is the input of its logger; `meanwhile` is done, at most once,
/// while the child is on its way.
pub(super) fn longrun(
    service: &mut Service,
    job: Job,
    logger: Option<BorrowedFd<'_>>,
    around: &Surroundings<'_>,
    meanwhile: Option<&mut dyn FnMut()>,
) -> Result<Launched, Failure> {
    let (name, slot) = (service.name.clone(), service.slot);
    let fallback = service.extra.as_ref().is_some_and(|aux| aux.mind.fallback);
    if service.missing_at.is_some() {
        let text = "what it is supervised with could not be opened yet".to_owned();
        return Err(Failure { temporary: true, text, errno: None });
    }
    let super::service::Body::Longrun(longrun) = &mut service.body else { return Err(directory_gone()) };
    let rules = longrun.reader.last().clone();
    let name = CString::new(&*name).expect("names come from the file system");
    if let Some(faulty) = rules.faulty.as_ref().filter(|_| job == Job::Run) {
        return Err(faulty.clone().into());
    }
    if job == Job::Run {
        service.admit()?;
    }
    let dir = service.dir.as_ref().ok_or_else(directory_gone)?;
    let super::service::Body::Longrun(longrun) = &mut service.body else { return Err(directory_gone()) };
    let hearing = service.extra.as_ref().and_then(|aux| aux.hearing.as_deref()).filter(|_| job == Job::Run);
    let outfit = match (&rules.features, job) {
        (Some(features), Job::Run) => {
            let mut outfit = Outfit::of(features, dir, None, hearing)?;
            outfit.brand(features, service.identity);
            outfit
        }
        _ => Outfit::default(),
    };

    // Descriptors: the pipe between a service and its logger, and the readiness FIFO.
    let input = match &longrun.pipe {
        Some(pipe) => Some(logger_input(dir, pipe)?),
        None => None,
    };
    let notification = match rules.notification_fd.filter(|_| job == Job::Run) {
        Some(number) => Some((new_notification(dir, longrun, around)?, number)),
        None => None,
    };
    let mut fds: Vec<(BorrowedFd<'_>, i32)> = Vec::new();
    fds.extend(logger.map(|pipe| (pipe, 1)));
    fds.extend(logger.filter(|_| has_stderr_logged(dir)).map(|pipe| (pipe, 2)));
    let console = around.console.filter(|_| service.name.as_ref() == CATCH_ALL);
    fds.extend(console.map(|fd| (fd.as_fd(), 2)));
    fds.extend(input.as_ref().map(|fd| (fd.as_fd(), 0)));
    fds.extend(notification.as_ref().map(|(fd, number)| (fd.as_fd(), *number)));
    fds.extend(hearing.into_iter().flat_map(|hearing| hearing.stored()).map(AsFd::as_fd).zip(3..));
    let (program, arguments, step) = match job {
        Job::Run if fallback => (FALLBACK, vec![FALLBACK.to_owned(), name], "fallback"),
        Job::Run => (RUN, vec![RUN.to_owned(), name], "run"),
        Job::Finish(status, pid) => (FINISH, finish_arguments(status, pid, name), "finish"),
    };
    let (argv, programs) = (CArray::new(arguments), [program.to_owned()]);
    let (cell, boot) = around.journal.birth(slot);
    let spawn = Spawn {
        dir: Some(dir.as_fd()),
        fds: &fds,
        new_session: true,
        subreaper: rules.kill_tree && job == Job::Run,
        record: Some(cell),
        lock: rules.lock_fd.filter(|_| job == Job::Run).map(|n| (c"supervise/service-lock", n)),
        new_pid_namespace: rules.new_pid_namespace && job == Job::Run,
        env: outfit.environment.as_ref(),
        attributes: outfit.attributes.as_ref(),
        ..Spawn::new(&programs, &argv)
    };
    let started = spawn.start_while(around.blocked, meanwhile);
    match or_by_interpreter(started, dir, step, &spawn, around.blocked) {
        Ok(pid) => Ok(Launched::Running { pid, boot: time_of_birth(pid, boot) }),
        Err(e) => {
            let failure = explain(dir, step, e);
            if let (Some(fifo), Some(keeper)) = (longrun.notify.take(), around.keeper) {
                let _ = reaper::release(keeper, &[fifo.identity]);
            }
            Err(failure)
        }
    }
}

/// Whether the logger of a service is to have its standard error too.
fn has_stderr_logged(dir: &OwnedFd) -> bool {
    rustix::fs::statat(dir, "log/with-stderr", AtFlags::empty()).is_ok()
}

/// What came of starting a program of a service, or of a second attempt if its file system refused the first.
pub(super) fn or_by_interpreter(
    started: Result<Pid, SpawnError>,
    dir: &OwnedFd,
    file: &str,
    spawn: &Spawn<'_>,
    blocked: Blocked,
) -> Result<Pid, SpawnError> {
    match started {
        Err(SpawnError { step: Step::Exec, errno: Errno::ACCESS }) => {
            by_interpreter(dir, file, spawn, blocked)
        }
        started => started,
    }
}

/// Where the file system is mounted `noexec`, as /run is in many containers, the kernel executes no script, but
/// it executes the interpreter: with the words that it would have put before the script itself.
fn by_interpreter(dir: &OwnedFd, file: &str, spawn: &Spawn<'_>, blocked: Blocked) -> Result<Pid, SpawnError> {
    let refused = SpawnError { step: Step::Exec, errno: Errno::ACCESS };
    let words = diagnose::interpreter_on_noexec(dir, file).ok_or(refused)?;
    let words = words.into_iter().filter_map(|word| CString::new(word).ok());
    let argv = CArray::new(words.chain(spawn.argv.strings().iter().cloned()).collect());
    let programs = [argv.strings()[0].clone()];
    Spawn { programs: &programs, argv: &argv, ..*spawn }.start(blocked)
}

/// When the kernel says that `pid` was made, which was not before `boot`. Between our reading of the clock and
/// the making we may have been stopped, or had to wait for a processor; who we take over later, we know by
/// this time, to the tick.
pub(super) fn time_of_birth(pid: Pid, boot: u64) -> u64 {
    let late = clock::boot().saturating_sub(boot) > process::TICK_NS;
    let made = late.then(|| process::stat(pid)).flatten().map(|stat| stat.start);
    made.filter(|made| *made + process::TICK_NS > boot).unwrap_or(boot)
}

/// `finish CODE SIGNAL NAME PGID`: 256 for a code if a signal killed it, 0 for a signal if it exited.
fn finish_arguments(status: WaitStatus, pid: Pid, name: CString) -> Vec<CString> {
    let (code, signal) = match status.end() {
        End::Exit(code) => (code as u32, 0),
        End::Signal(signal) => (256, signal.0 as u32),
    };
    let number = |n: i64| CString::new(n.to_string()).expect("digits");
    let group = number(pid.raw().into());
    vec![FINISH.to_owned(), number(code.into()), number(signal.into()), name, group]
}

/// The reading end of its pipe for a logger. Ours is open for writing too; with that a logger would never
/// see the end.
fn logger_input(dir: &OwnedFd, pipe: &Fifo) -> Result<OwnedFd, Failure> {
    use std::os::fd::AsRawFd;
    // Nobody may be left who writes: opening must not wait for one.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let by_name = openat(dir, PIPE, flags | OFlags::NOFOLLOW, Mode::empty());
    let opened = match by_name {
        Ok(fd) if Identity::of(&fd) == Ok(pipe.identity) => Ok(fd),
        // Somebody removed or replaced it; we still have the one that the service writes to.
        _ => rustix::fs::open(format!("/proc/self/fd/{}", pipe.as_fd().as_raw_fd()), flags, Mode::empty()),
    };
    let blocking = |fd: OwnedFd| rustix::fs::fcntl_setfl(&fd, OFlags::empty()).map(|()| fd);
    opened.and_then(blocking).map_err(|e| failed("open supervise/stdin", e))
}

/// Makes a new readiness FIFO, so that nobody of an earlier life can speak for this one, has it kept, and
/// returns the service's end: open for reading too, so that writing to it never raises SIGPIPE.
fn new_notification(
    dir: &OwnedFd,
    longrun: &mut Longrun,
    around: &Surroundings<'_>,
) -> Result<OwnedFd, Failure> {
    let fail = |e| failed("make supervise/notify", e);
    let make = || mknodat(dir, NOTIFY, FileType::Fifo, Mode::from_raw_mode(0o600), 0);
    match make() {
        Err(Errno::EXIST) => {
            unlinkat(dir, NOTIFY, AtFlags::empty()).map_err(fail)?;
            make().map_err(fail)?;
        }
        other => other.map_err(fail)?,
    }
    let ours = open_notification(dir).map_err(fail)?;
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let theirs = openat(dir, NOTIFY, flags, Mode::empty()).map_err(fail)?;
    if let Some(keeper) = around.keeper
        && reaper::hold(keeper, &ours, ours.identity, around.holder).is_err()
    {
        around.unkept.set(true);
    }
    longrun.notify = Some(ours);
    Ok(theirs)
}

/// The readiness FIFO.
const NOTIFY: &str = "supervise/notify";

/// The input of a logger.
const PIPE: &str = "supervise/stdin";

/// Opens the readiness FIFO of the present life.
pub(super) fn open_notification(dir: &OwnedFd) -> Result<Fifo, Errno> {
    Fifo::open(dir, NOTIFY, false)
}

/// Opens, or makes, the FIFO that is the input of a logger. Blocking: services write to this very
/// descriptor, and we never use it.
pub(super) fn open_pipe(dir: &OwnedFd) -> Result<Fifo, Errno> {
    match mknodat(dir, PIPE, FileType::Fifo, Mode::from_raw_mode(0o600), 0) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(e) => return Err(e),
    }
    Fifo::open(dir, PIPE, true)
}

/// Starts a oneshot's script: `up` or `down` in its directory holds the words, each ended by NUL. `meanwhile` is
/// done, at most once, while the child is on its way.
pub(super) fn oneshot(
    service: &Service,
    script: Script,
    around: &Surroundings<'_>,
    meanwhile: Option<&mut dyn FnMut()>,
) -> Result<Launched, Failure> {
    let dir = service.dir.as_ref().ok_or_else(directory_gone)?;
    let file = if script == Script::Up { "up" } else { "down" };
    let words = match servicedir::read_on_disk(dir, file) {
        Ok(bytes) => words(&bytes),
        Err(Errno::NOENT) => Vec::new(),
        Err(e) => return Err(failed(&format!("read {file}"), e)),
    };
    let Some(name) = words.first().cloned() else { return Ok(Launched::Nothing) };
    let path = env::get("PATH").map_or(&b"/usr/bin:/bin"[..], |p| p.as_encoded_bytes());
    let programs = candidates(&name, path);
    let argv = CArray::new(words);
    let outfit = oneshot_outfit(dir, service.label())
        .map_err(|failure| Failure { text: failure.text.replacen("run", file, 1), ..failure })?;
    let environment = match outfit.environment {
        Some(environment) => environment,
        None => {
            let named = CString::new(format!("RC_NAME={}", service.label())).expect("names have no NUL");
            CArray::environment_with(c"RC_NAME", named)
        }
    };
    let place = servicedir::open(dir, "cwd").ok();
    let (cell, boot) = around.journal.birth(service.slot);
    let spawn = Spawn {
        dir: Some(place.as_ref().unwrap_or(dir).as_fd()),
        env: Some(&environment),
        new_session: true,
        record: Some(cell),
        attributes: outfit.attributes.as_ref(),
        ..Spawn::new(&programs, &argv)
    };
    match spawn.start_while(around.blocked, meanwhile) {
        Ok(pid) => Ok(Launched::Running { pid, boot: time_of_birth(pid, boot) }),
        Err(SpawnError { step: Step::Exec, errno }) => {
            let shown = String::from_utf8_lossy(name.to_bytes()).into_owned();
            let text = match name.to_bytes().contains(&b'/') {
                true => diagnose::exec_failure(rustix::fs::CWD, &shown, errno).to_string(),
                false => reason(errno).to_owned(),
            };
            Err(Failure {
                temporary: diag::is_temporary(errno),
                text: format!("unable to execute {shown}: {text}"),
                errno: Some(errno),
            })
        }
        Err(e) => Err(explain(dir, file, e)),
    }
}

/// What the scripts of a oneshot are given: rc links to the directory with the files that say it, if there are any.
fn oneshot_outfit(dir: &OwnedFd, name: &str) -> Result<Outfit, Failure> {
    let Ok(outfit) = servicedir::open(dir, ONESHOT_OUTFIT) else { return Ok(Outfit::default()) };
    let mut reader = Reader::default();
    let rules = reader.read(&outfit, drop);
    match (&rules.faulty, &rules.features) {
        (Some(faulty), _) => Err(faulty.clone().into()),
        (None, Some(features)) => Outfit::of(features, &outfit, Some(("RC_NAME", name)), None),
        (None, None) => Ok(Outfit::default()),
    }
}

/// In the directory of a oneshot: where `user`, `limits` and the like of its scripts are.
pub const ONESHOT_OUTFIT: &str = "outfit";

fn words(bytes: &[u8]) -> Vec<CString> {
    let mut words: Vec<CString> =
        bytes.split(|&b| b == 0).map(|w| CString::new(w).expect("split at NUL")).collect();
    words.pop();
    words
}

pub(super) fn directory_gone() -> Failure {
    Failure { temporary: false, text: "its service directory is gone".to_owned(), errno: None }
}

pub(super) fn failed(doing: &str, errno: Errno) -> Failure {
    let text = format!("unable to {doing}: {}", reason(errno));
    Failure { temporary: diag::is_temporary(errno), text, errno: Some(errno) }
}

/// What a file of ours asks for is refused.
fn start_failed(text: std::fmt::Arguments<'_>, errno: Errno) -> Failure {
    let text = format!("unable to start run: {text}");
    Failure { temporary: diag::is_temporary(errno), text, errno: Some(errno) }
}

/// The sentence for a child that could not be started.
pub(super) fn explain(dir: &OwnedFd, file: &str, error: SpawnError) -> Failure {
    let SpawnError { step, errno } = error;
    let doing = match step {
        Step::Fork => "fork",
        Step::Directory => "enter the service directory",
        Step::Descriptors => "place its descriptors",
        Step::Lock => "lock supervise/service-lock",
        Step::Limit(resource) => {
            let name = crate::servicedir::feature::limit_name(resource);
            return start_failed(format_args!("limits: unable to set {name}: {}", reason(errno)), errno);
        }
        Step::Nice => {
            return start_failed(format_args!("nice: unable to set it: {}", reason(errno)), errno);
        }
        Step::OomScore => {
            return start_failed(format_args!("oom-score: unable to set it: {}", reason(errno)), errno);
        }
        Step::User => {
            return start_failed(format_args!("user: unable to become it: {}", reason(errno)), errno);
        }
        Step::Exec => {
            let fault = diagnose::exec_failure(dir, file, errno);
            let text = format!("unable to execute ./{file}: {fault}");
            return Failure { temporary: diag::is_temporary(errno), text, errno: Some(errno) };
        }
    };
    failed(doing, errno)
}
