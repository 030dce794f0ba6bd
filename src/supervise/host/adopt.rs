//! Taking over what a supervisor left behind.
//!
//! The journal says what was; the kernel says what is. Between the two lies the time in which nobody
//! supervised: a process may have died, been reaped by somebody else (who tells, see
//! [`crate::scan::reaper`]), said that it is ready (the FIFO kept it), or its pid may be another process by
//! now. Who a process is is its pid *and* when it was made.
//!
//! The order matters, because we may be killed in here too.
//!
//! 1. Every service is loaded and its process looked at. A pidfd is opened before that: what is found alive
//!    then is what the pidfd holds.
//! 2. The command that our predecessor was at is done again, while nothing has changed yet: it is for the
//!    process that was there then, dead or alive, and not for one that takes its place.
//! 3. What is known of the dead is taken one by one, each noted before the next is read. What is told of a
//!    process that is alive speaks of an earlier one with that pid.
//! 4. Who is gone and not told of ended in a way that nobody can tell.

use super::fifo::Fifo;
use super::service::{self, Adopted, Body, Lock, Longrun, Service, Supervise};
use super::{Host, Id, STATUS_WAIT, UNKNOWN_END, launch};
use crate::diag::{self, Error, Result, Unable, code};
use crate::ordered::Map;
use crate::ordered::map;
use crate::process::{Pid, WaitStatus};
use crate::scan::{Identity, reaper};
use crate::servicedir;
use crate::servicedir::definition::Reader;
use crate::servicedir::status::Status;
use crate::supervise::journal::{Birth, INPUT_BYTES, Kind, SlotId};
use crate::supervise::machine::{Event, Job, Machine};
use crate::supervise::oneshot::{self, Oneshot};
use crate::supervise::place::{ISOLATED, Place};
use crate::sys::attributes::brand_of;
use crate::sys::{Errno, clock, process, wait};
use crate::time::{Mono, Now};
use rustix::fs::{Mode, OFlags};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

/// What became of a process.
enum Fate {
    /// It is there (or dead and not yet reaped); this is it.
    There(Option<OwnedFd>),
    /// It is gone.
    Gone,
}

/// A wall clock stamp and the kernel's idea of when a process began may differ by this much, for a process
/// of which nothing but `supervise/status` is left.
const STAMP_TOLERANCE: Duration = Duration::from_secs(2);

/// How soon it is looked again at a process that no descriptor stands for.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// So long may a lock outlive who held it.
const LOCK_LINGERS: Duration = Duration::from_millis(50);

/// So long after our beginning may all of them do so.
const LOCKS_LINGER: Duration = Duration::from_secs(3);

/// So long may a child be on its way to exec, with nobody above it who waits: the file system may be slow.
const EXECUTION: Duration = Duration::from_millis(200);

/// So many descriptors are left free for what is supervised already: it is to be started, controlled and told
/// of, however many more there should be.
const RESERVE: i32 = 16;

impl Host {
    /// Takes over everything that the journal knows of.
    pub(super) fn adopt_all(&mut self) {
        // What everybody needs is opened before what is only better to have.
        let slots: Map<SlotId, Id> =
            map(self.journal.used().into_iter().filter_map(|slot| Some((slot, self.adopt(slot)?))));
        slots.iter().for_each(|(slot, id)| self.adopt_life(*slot, *id));
        if let Some((slot, source)) = self.journal.unfinished_input()
            && let Some(id) = slots.get(&slot)
        {
            self.take_input(*id, source, INPUT_BYTES);
        }
        self.journal.input_done();
        if let Some((pid, status)) = self.journal.unfinished_reap() {
            self.hear_of_death(pid, status);
        }
        self.journal.reaped_done();
        if let Some((pid, status)) = self.journal.unfinished_record() {
            self.hear_record(pid, status);
        }
        self.journal.record_done();
        while let Some((pid, status)) = self.records.as_ref().and_then(|r| self.journal.read_record(r)) {
            self.hear_record(pid, status);
            self.journal.record_done();
        }
        for id in slots.into_values() {
            self.give_up_on_gone(id);
            // A logger that was to end with its service: is that over?
            self.close_pipe_if_over(id);
        }
        self.say_what_is_missing();
        // Children that died while we were becoming what we are.
        self.reap();
    }

    /// Somebody tells of a process that may be one that we take over.
    pub(super) fn hear_of_death(&mut self, pid: Pid, status: WaitStatus) {
        let Some(id) = self.by_pid.get(&pid).copied() else { return };
        let Some(service) = self.service(id) else { return };
        if let (Some((_, boot)), true) = (service.process(), service.adopted.is_some())
            && !is_alive(pid, boot)
        {
            self.died(id, pid, status);
        }
    }

    /// A reaper tells. Init knows no supervisor but the common one: what is none of its processes may be an isolated
    /// service's. It is passed on before it is crossed out in the journal.
    pub(super) fn hear_record(&mut self, pid: Pid, status: WaitStatus) {
        if self.by_pid.contains_key(&pid) {
            return self.hear_of_death(pid, status);
        }
        if self.single || self.place.is_isolated() {
            return;
        }
        for entry in std::fs::read_dir(ISOLATED).into_iter().flatten().flatten() {
            let path = Place::at(&entry.path().to_string_lossy()).records();
            let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            if let Ok(fifo) = rustix::fs::open(path, flags, Mode::empty()) {
                // One that does not read must not keep us waiting.
                reaper::tell(fifo, (pid, status));
            }
        }
    }

    /// A process that is gone, and nobody told how.
    fn give_up_on_gone(&mut self, id: Id) {
        let waits = self.place.is_isolated() && self.in_container;
        let Some(service) = self.service_mut(id) else { return };
        let gone = service.adopted.as_ref().is_some_and(Adopted::is_gone);
        if let (true, Some(adopted)) = (gone && waits, &mut service.adopted) {
            // Whoever passes it on may be a moment later than we are.
            adopted.dead_since = Some(clock::mono().after(STATUS_WAIT));
            return self.set_timer(id);
        }
        if let (true, Some((pid, _))) = (gone, service.process()) {
            service.warn(format_args!(
                "process {pid} ended while nobody supervised it, and nobody can tell how: \
                 recording {UNKNOWN_END}"
            ));
            self.died(id, pid, UNKNOWN_END);
        }
    }

    /// Takes over one service, but not yet its process.
    fn adopt(&mut self, slot: SlotId) -> Option<Id> {
        let name = self.journal.name(slot);
        let identity = self.journal.identity(slot);
        let memory = self.journal.recall(slot);
        let body = match self.journal.kind(slot)? {
            Kind::Oneshot => Oneshot::load(&memory.machine).map(Body::Oneshot),
            Kind::Longrun => Machine::load(&memory.machine).filter(|m| !m.is_gone()).map(|machine| {
                let mut longrun = Longrun::new(machine, None, None);
                longrun.closing = machine.is_last_life() && name.ends_with("/log");
                Body::Longrun(longrun)
            }),
        };
        let Some(body) = body else {
            self.journal.release(slot);
            return None;
        };
        let mut service = Service::new(&name, None, identity, slot, body, clock::mono());
        service.recall(memory);
        service.status_due = true;
        let id = self.insert(service);
        self.mark_due(id);
        let ours = self.equip(id);
        if ours {
            self.adopt_aux(id);
            self.recall_who_asked(id);
        }
        self.put_away(id);
        ours.then_some(id)
    }

    /// Goes on where the life of a service was left: with a start that was under way, with its process.
    fn adopt_life(&mut self, slot: SlotId, id: Id) {
        if self.service(id).is_some_and(|service| service.dead.is_some()) {
            return if self.awaits_background(id) { self.seek_main(id) } else { self.hunt_again(id) };
        }
        self.wake(id);
        self.wait_for_execution(slot);
        let birth = self.journal.unfinished_birth(slot);
        if birth.is_some_and(|b| b.pid.is_some()) {
            self.open_newborn_notification(id);
        }
        match birth.and_then(|b| Some((b.pid?, b.boot))) {
            Some((pid, boot)) => self.hear_of_birth(id, pid, launch::time_of_birth(pid, boot)),
            None => self.ask_again(id),
        }
        self.adopt_process(id);
        self.ask_once_more(id);
        self.settle_clocks(id);
        self.set_timer(id);
    }

    /// A child that was being made may be on its way to be executed still. If that fails it says so in the
    /// journal, and has never been the service's process. (Where it waits for a lock nobody waits for it.)
    fn wait_for_execution(&self, slot: SlotId) {
        let give_up = clock::mono().after(EXECUTION);
        while let Some(Birth { pid: Some(pid), boot }) = self.journal.unfinished_birth(slot)
            && process::stat(pid).is_some_and(|s| s.unexecuted && s.start + process::TICK_NS > boot)
            && clock::mono() < give_up
        {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// The machine has not heard yet of a child that was being made.
    fn open_newborn_notification(&mut self, id: Id) {
        let Some(service) = self.service_mut(id) else { return };
        if let (Body::Longrun(longrun), Some(dir)) = (&mut service.body, &service.dir)
            && longrun.machine.starting() == Some(Job::Run)
        {
            longrun.notify = launch::open_notification(dir).ok();
            self.watch_notification(id);
        }
    }

    /// The child that was being made had been made.
    fn hear_of_birth(&mut self, id: Id, pid: Pid, boot: u64) {
        match self.service(id).map(|s| &s.body) {
            Some(Body::Longrun(_)) => self.feed(id, Event::Started { pid, boot }),
            Some(Body::Oneshot(_)) => self.feed_oneshot(id, oneshot::Event::Started { pid, boot }),
            None => {}
        }
    }

    /// A start was decided and not done: do it now.
    fn ask_again(&mut self, id: Id) {
        match self.service(id).map(|s| &s.body) {
            Some(Body::Longrun(l)) => {
                if let Some(job) = l.machine.starting()
                    && let Some(answer) = self.start(id, job)
                {
                    self.feed(id, answer);
                }
            }
            Some(Body::Oneshot(o)) => {
                if let Some(script) = o.starting() {
                    let answer = self.start_oneshot(id, script);
                    self.feed_oneshot(id, answer);
                }
            }
            None => {}
        }
    }

    /// Finds out what became of the process of a service that is not our child.
    fn adopt_process(&mut self, id: Id) {
        let Some((pid, boot)) = self.service(id).and_then(Service::process) else { return };
        if is_child(pid, boot) {
            self.by_pid.insert(pid, id);
            return;
        }
        match fate(pid, boot) {
            Fate::There(pidfd) => self.adopt_running(id, pidfd),
            Fate::Gone => {
                self.by_pid.insert(pid, id);
                if let Some(service) = self.service_mut(id) {
                    let dead_since = Some(clock::mono());
                    service.adopted = Some(Adopted { pidfd: None, dead_since, look_at: None });
                }
            }
        }
    }

    fn adopt_running(&mut self, id: Id, pidfd: Option<OwnedFd>) {
        let in_container = self.in_container;
        let Some(service) = self.service_mut(id) else { return };
        // Its reaper tells of its end as well: where descriptors are scarce, they are for services to come.
        let plenty = process::nofile() / 8 * 7;
        let pidfd = pidfd.filter(|fd| fd.as_raw_fd() < plenty);
        service.adopted = Some(Adopted::watched_by(pidfd, in_container));
        service.adoptions += 1;
        service.status_due = true;
        self.watch_adopted(id);
        // Our predecessor may have told it to end.
        self.note_descent(id);
    }

    /// Looks whether a process lives of whose end nothing tells for sure. False: that was not due.
    pub(super) fn look_after(&mut self, id: Id, now: Mono) -> bool {
        let Some(service) = self.service_mut(id) else { return false };
        let (Some((pid, boot)), Some(adopted)) = (service.process(), &mut service.adopted) else {
            return false;
        };
        if adopted.dead_since.is_some() || adopted.look_at.take_if(|at| *at <= now).is_none() {
            return false;
        }
        let found = process::try_stat(pid);
        let same = found.map(|stat| stat.filter(|stat| process::same_birth(boot, stat.start)));
        match same.map(|stat| stat.map(|stat| stat.state == b'Z')) {
            Ok(Some(true)) => self.on_adopted(id, false),
            Ok(None) => self.on_adopted(id, true),
            // It lives, or cannot be looked at just now.
            Ok(Some(false)) | Err(_) => adopted.look_at = Some(now.after(LOOK_AGAIN)),
        }
        self.set_timer(id);
        true
    }

    /// Before Linux 5.3 there is less that can be promised.
    fn say_what_is_missing(&self) {
        let adopted = self.services.iter().flatten().any(|service| service.adopted.is_some());
        if adopted && let Err(e @ (Errno::NOSYS | Errno::PERM)) = wait::pidfd_open(Pid::own()) {
            let error = Error::unable("open a pidfd", e);
            diag::warn(format_args!(
                "{error}: what was taken over is known by its number and its time of birth, and looked at every second"
            ));
        }
    }

    /// Lock and control FIFO of a service directory.
    fn open_supervise(&mut self, dir: &OwnedFd) -> Result<Supervise> {
        match self.only.take() {
            Some(open) => Ok(open),
            None => service::open_supervise(dir),
        }
    }

    /// The same where a predecessor was at work: a child that it was making when it was killed has its locks
    /// until it executes, and those that it had put away the kernel releases in its own time.
    pub(super) fn open_supervise_again(&mut self, dir: &OwnedFd) -> Result<Supervise> {
        let mut result = self.open_supervise(dir);
        let give_up = self.began.after(LOCKS_LINGER).max(clock::mono().after(LOCK_LINGERS));
        while result.as_ref().is_err_and(|e| e.code() == code::USAGE) && clock::mono() < give_up {
            std::thread::sleep(Duration::from_millis(1));
            result = self.open_supervise(dir);
        }
        result
    }

    /// Begins to supervise the service directory `dir`. Where a supervisor that left no journal left a
    /// process running (an s6-supervise that was killed, say), the process is taken over.
    pub(super) fn begin_service(
        &mut self,
        name: &str,
        dir: OwnedFd,
        identity: Identity,
        prepared: Option<Supervise>,
    ) -> Result<Id> {
        let Supervise { lock, control, new } = match prepared {
            Some(supervise) => supervise,
            None => self.open_supervise(&dir)?,
        };
        // Descriptors are given by the lowest free number: this one says how many there still are.
        if lock.as_raw_fd() + RESERVE >= process::nofile() {
            return Err(Error::unable("keep descriptors in reserve", Errno::MFILE));
        }
        let now = clock::now();
        let told = if new { Ok(Some(Status::default())) } else { read_status(&dir) };
        let told = told.unable("read supervise/status")?;
        let running = told.map_or(Ok(None), |status| running_by_status(&dir, &status, now));
        let running = running.unable("look at what runs")?;
        // A copy of the directory of a service that was adopted: the process is no supervisor's child.
        let is_free =
            |machine: &Machine| machine.process().is_none_or(|(p, _)| !self.by_pid.contains_key(&p));
        let running = running.filter(|(machine, _)| is_free(machine));
        if running.is_none() && told.is_none_or(|status| status.pid.is_some()) {
            service::correct_status(&dir);
        }
        let slot = self.journal.take(identity, name).unable("extend the journal")?;
        let machine = running.as_ref().map_or_else(Machine::new, |(machine, _)| *machine);
        let longrun = Longrun::new(machine, Some(Lock::Held(lock)), Some(control));
        let mut service = Service::new(name, Some(dir), identity, slot, Body::Longrun(longrun), now.mono);
        if let Err(e) = self.ready_to_begin(&mut service) {
            self.journal.release(slot);
            return Err(e);
        }
        let id = self.insert(service);
        match running {
            None => self.begin_life(id, new),
            Some((_, pidfd)) => {
                self.adopt_running(id, pidfd);
                self.mark_due(id);
            }
        }
        self.put_away(id);
        Ok(id)
    }

    /// Its rules are known, and a logger has its pipe: without them it would begin wrongly.
    fn ready_to_begin(&self, service: &mut Service) -> Result<()> {
        service.read_definition();
        let logs = service.is_logger();
        let Body::Longrun(longrun) = &service.body else { return Ok(()) };
        if let Some(errno) = longrun.reader.unread() {
            return Err(Error::unable("read the service directory", errno));
        }
        if longrun.reader.last().down {
            // Where it is started, that says what is wrong with it.
            service.admit_or_warn();
        }
        let (Body::Longrun(longrun), Some(dir)) = (&mut service.body, &service.dir) else { return Ok(()) };
        if (logs || longrun.reader.last().consumer) && !self.is_single() {
            longrun.pipe = Some(launch::open_pipe(dir).unable("open supervise/stdin")?);
        }
        Ok(())
    }
}

fn fate(pid: Pid, boot: u64) -> Fate {
    let pidfd = match wait::pidfd_open(pid) {
        Ok(pidfd) => Some(pidfd),
        Err(Errno::SRCH) => return Fate::Gone,
        Err(_) => None,
    };
    match process::stat(pid) {
        Some(stat) if process::same_birth(boot, stat.start) => Fate::There(pidfd),
        // No /proc: the pid must do.
        None if process::stat(Pid::own()).is_none() => Fate::There(pidfd),
        Some(_) | None => Fate::Gone,
    }
}

/// Whether it is our own child: we may have executed ourselves anew, or started it a moment ago.
fn is_child(pid: Pid, boot: u64) -> bool {
    process::stat(pid)
        .is_some_and(|stat| stat.ppid == Pid::own().raw() && process::same_birth(boot, stat.start))
}

/// Whether the process that was made then is neither dead nor gone.
fn is_alive(pid: Pid, boot: u64) -> bool {
    process::stat(pid).is_some_and(|stat| stat.state != b'Z' && process::same_birth(boot, stat.start))
}

/// What an earlier supervisor left in `supervise/status`, if that is one.
fn read_status(dir: &OwnedFd) -> std::result::Result<Option<Status>, Errno> {
    match servicedir::read_file(dir, servicedir::STATUS) {
        Err(e) if diag::is_exhausted(e) => Err(e),
        bytes => Ok(Status::unpack(&bytes.unwrap_or_default())),
    }
}

/// The process that `supervise/status` speaks of, if it is still there.
fn running_by_status(
    dir: &OwnedFd,
    status: &Status,
    now: Now,
) -> std::result::Result<Option<(Machine, Option<OwnedFd>)>, Errno> {
    let Some(pid) = status.pid else { return Ok(None) };
    let pidfd = match wait::pidfd_open(pid) {
        Ok(pidfd) => Some(pidfd),
        Err(Errno::SRCH) => return Ok(None),
        Err(_) => None,
    };
    let Some(stat) = process::try_stat(pid)? else { return Ok(None) };
    let age = Duration::from_nanos(clock::boot().saturating_sub(stat.start));
    let since = status.stamp.age(now.wall);
    let branded =
        || brand_of(pid).is_some() && brand_of(pid) == Identity::of(dir).ok().map(super::follow::brand);
    let leads = stat.session == pid.raw() || branded();
    Ok((leads && !has_supervisor(stat.ppid) && age.abs_diff(since) <= STAMP_TOLERANCE)
        .then(|| (Machine::from_status(status, stat.start, now), pidfd)))
}

/// Whether the parent of a process supervises: the process is another service's then, whatever a copy of that
/// service's directory says.
fn has_supervisor(parent: i32) -> bool {
    // Ours, if we have just become a version that does not read the journal of the one before.
    if parent == Pid::own().raw() {
        return false;
    }
    let name = servicedir::read_file(rustix::fs::CWD, format!("/proc/{parent}/comm")).unwrap_or_default();
    matches!(&name[..], b"supervise\n" | b"perennial\n" | b"s6-supervise\n")
}

impl Longrun {
    pub(super) fn new(machine: Machine, lock: Option<Lock>, control: Option<Fifo>) -> Longrun {
        Longrun {
            machine,
            reader: Reader::default(),
            control,
            lock,
            notify: None,
            pipe: None,
            pipe_ends: false,
            closing: false,
        }
    }
}
