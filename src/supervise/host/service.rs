//! One service in a supervisor: its machine, and the descriptors it is supervised with.

use super::Goal;
use super::asking::Aux;
use super::cause::Asked;
use super::fifo::Fifo;
use super::thrift::{Attic, Ticket};
use crate::diag::{self, Error, Level, Result, Unable, code};
use crate::process::{Pid, WaitStatus};
use crate::scan::{CATCH_ALL, Identity};
use crate::servicedir::definition::Reader;
use crate::servicedir::state::State;
use crate::servicedir::status::Status;
use crate::servicedir::{self, tally};
use crate::supervise::journal::{Journal, Kind, Memory, SlotId};
use crate::supervise::machine::{Events, Machine};
use crate::supervise::oneshot::{self, Oneshot};
use crate::supervise::wire::Standing;
use crate::sys::{Errno, clock, lock, process, wait};
use crate::time::{Mono, Now, Stamp};
use rustix::fs::{AtFlags, Mode, OFlags, openat, unlinkat};
use std::os::fd::OwnedFd;
use std::time::Duration;

/// A service that keeps up, or a oneshot.
pub(super) enum Body {
    Longrun(Longrun),
    Oneshot(Oneshot),
}

/// What a longrun has beside its machine.
pub(super) struct Longrun {
    pub(super) machine: Machine,
    pub(super) reader: Reader,
    /// `supervise/control`. None: its directory is gone.
    pub(super) control: Option<Fifo>,
    /// Held until we have left it: clients test it.
    pub(super) lock: Option<Lock>,
    /// The readiness FIFO, while run is up and not ready.
    pub(super) notify: Option<Fifo>,
    /// A logger's input, which is its service's output. Open for reading only once the service is gone: so the
    /// logger can see the end of it, and what it has not read yet is kept.
    pub(super) pipe: Option<Fifo>,
    /// It is open for reading only.
    pub(super) pipe_ends: bool,
    /// The logger's input is to end as soon as its service has.
    pub(super) closing: bool,
}

/// `supervise/lock`, taken.
pub(super) enum Lock {
    Held(#[allow(dead_code)] OwnedFd),
    /// Without a descriptor.
    Away(Ticket),
}

/// A service.
pub(super) struct Service {
    pub(super) name: Box<str>,
    pub(super) identity: Identity,
    pub(super) slot: SlotId,
    /// None: it was deleted under us, or is away.
    pub(super) dir: Option<OwnedFd>,
    /// The directory is closed until something is to be done: see [`Host::wake`](super::Host::wake).
    pub(super) dir_away: bool,
    pub(super) body: Body,
    /// It is in the scan directory.
    pub(super) listed: bool,
    /// The process is not our child but was taken over; this is it, if the kernel has such descriptors.
    pub(super) adopted: Option<Adopted>,
    pub(super) adoptions: u32,
    /// Its process is dead and reaped, and ended like this. Its machine is told when its descent is dead too.
    pub(super) dead: Option<WaitStatus>,
    /// Its process is reaped, and that is being dealt with.
    pub(super) reaped: bool,
    /// When supervision of it began.
    pub(super) began: Mono,
    /// What is decided and not yet done, beside the machine.
    pub(super) events: Events,
    pub(super) death: Option<[u8; tally::RECORD]>,
    pub(super) status_due: bool,
    /// It is on the list of services with something to be done.
    pub(super) due: bool,
    /// The disk would not take what is true; the next attempt.
    pub(super) rewrite_at: Option<Mono>,
    /// Why.
    pub(super) refused: Option<Errno>,
    /// Something that it is supervised with could not be opened; the next attempt.
    pub(super) missing_at: Option<Mono>,
    /// What the timer queue has for it.
    pub(super) timer: Option<Mono>,
    /// Why it could not be started.
    pub(super) failure: Option<String>,
    /// There is a `supervise/state` of ours.
    pub(super) has_state: bool,
    pub(super) goals: Vec<Goal>,
    /// Who told it to end, if somebody did.
    pub(super) asked: Option<Box<Asked>>,
    /// Of a service with files that need a memory.
    pub(super) extra: Option<Box<Aux>>,
}

/// A process that is ours without being our child.
pub(super) struct Adopted {
    pub(super) pidfd: Option<OwnedFd>,
    /// It is dead; how is waited for until then.
    pub(super) dead_since: Option<Mono>,
    /// Nothing tells of its end for sure: when it is looked whether it lives.
    pub(super) look_at: Option<Mono>,
}

impl Adopted {
    /// One that lives. Without a descriptor nobody tells of its end but its reaper, if that is `told` to us.
    pub(super) fn watched_by(pidfd: Option<OwnedFd>, told: bool) -> Adopted {
        let look_at = (pidfd.is_none() && !told).then(clock::mono);
        Adopted { pidfd, dead_since: None, look_at }
    }

    /// It is dead, and there is nothing left of it that could be signalled.
    pub(super) fn is_gone(&self) -> bool {
        self.pidfd.is_none() && self.dead_since.is_some()
    }
}

impl Service {
    pub(super) fn new(
        name: &str,
        dir: Option<OwnedFd>,
        identity: Identity,
        slot: SlotId,
        body: Body,
        began: Mono,
    ) -> Service {
        Service {
            name: name.into(),
            identity,
            slot,
            dir,
            dir_away: false,
            body,
            listed: true,
            adopted: None,
            adoptions: 0,
            dead: None,
            reaped: false,
            began,
            events: Events::default(),
            death: None,
            status_due: false,
            due: false,
            rewrite_at: None,
            refused: None,
            missing_at: None,
            timer: None,
            failure: None,
            has_state: false,
            goals: Vec::new(),
            asked: None,
            extra: None,
        }
    }

    /// Says something in the service's name.
    pub(super) fn warn(&self, text: impl std::fmt::Display) {
        diag::say_as(&format!("supervise {}", self.label()), Level::Warning, text);
    }

    /// Reads what its author changed.
    pub(super) fn read_definition(&mut self) {
        let (Body::Longrun(longrun), Some(dir)) = (&mut self.body, &self.dir) else { return };
        let mut complaints = Vec::new();
        longrun.reader.read(dir, |invalid| complaints.push(invalid));
        complaints.into_iter().for_each(|invalid| self.warn(invalid));
    }

    /// What people call it. A oneshot's name in here is the path of its directory.
    pub(super) fn label(&self) -> &str {
        match self.body {
            Body::Longrun(_) => &self.name,
            Body::Oneshot(_) => self.name.rsplit('/').next().unwrap_or(&self.name),
        }
    }

    pub(super) fn longrun(&mut self) -> Option<&mut Longrun> {
        match &mut self.body {
            Body::Longrun(longrun) => Some(longrun),
            Body::Oneshot(_) => None,
        }
    }

    pub(super) fn is_logger(&self) -> bool {
        self.name.ends_with("/log")
    }

    /// What others say goes into its input.
    pub(super) fn reads_others(&self) -> bool {
        self.is_gentle() || matches!(&self.body, Body::Longrun(l) if l.reader.last().consumer)
    }

    /// Bytes that wait in its input.
    pub(super) fn unread(&self) -> u64 {
        let Body::Longrun(longrun) = &self.body else { return 0 };
        longrun.pipe.as_ref().map_or(0, |pipe| rustix::io::ioctl_fionread(pipe).unwrap_or(0))
    }

    /// It ends by itself when its input does.
    pub(super) fn is_gentle(&self) -> bool {
        self.is_logger() || *self.name == *CATCH_ALL
    }

    /// The process, and when it was made.
    pub(super) fn process(&self) -> Option<(Pid, u64)> {
        match &self.body {
            Body::Longrun(l) => l.machine.process(),
            Body::Oneshot(o) => o.process(),
        }
    }

    /// Its process is not reaped yet, so its number is nobody else's. (A child of ours stays until we reap it;
    /// one that was taken over has another parent.)
    pub(super) fn is_there(&self) -> bool {
        if self.dead.is_some() {
            return false;
        }
        let is_same = |(pid, boot)| process::stat(pid).is_some_and(|s| process::same_birth(boot, s.start));
        self.adopted.is_none() || self.process().is_none_or(is_same)
    }

    /// A descriptor of its process. `Ok(None)`: that is not there any more. An error: it may be there, and no
    /// descriptor is to be had.
    pub(super) fn find_process(&self) -> std::result::Result<Option<OwnedFd>, Errno> {
        let Some((pid, boot)) = self.process() else { return Ok(None) };
        let pidfd = wait::pidfd_open(pid);
        if pidfd.as_ref().is_err_and(|e| *e == Errno::SRCH) {
            return Ok(None);
        }
        let same = process::try_stat(pid)?.is_some_and(|stat| process::same_birth(boot, stat.start));
        // No /proc: the number must do.
        if same || process::stat(Pid::own()).is_none() { pidfd.map(Some) } else { Ok(None) }
    }

    pub(super) fn is_gone(&self) -> bool {
        matches!(&self.body, Body::Longrun(l) if l.machine.is_gone())
    }

    /// Its process was told to end, and supervision ends with it.
    pub(super) fn is_told_to_leave(&self) -> bool {
        let Body::Longrun(Longrun { machine, .. }) = &self.body else { return false };
        machine.is_last_life() && !machine.status().want_up && machine.status().is_up()
    }

    /// When it next has something to do.
    pub(super) fn deadline(&self) -> Option<Mono> {
        let machine = match &self.body {
            Body::Longrun(l) => l.machine.deadline(),
            Body::Oneshot(o) => o.deadline(),
        };
        let adopted = self.adopted.as_ref().and_then(|a| a.dead_since.or(a.look_at));
        let asked = self.extra.as_ref().and_then(|aux| aux.deadline());
        [machine, adopted, asked, self.rewrite_at, self.missing_at].into_iter().flatten().min()
    }

    /// Takes back what [`remember`](Self::remember) keeps beside the machine.
    pub(super) fn recall(&mut self, memory: Memory) {
        let Memory { machine: _, flags, events, death } = memory;
        (self.events, self.death) = (events, death);
        self.has_state = flags & 1 != 0;
        self.adoptions = flags >> 1 & MOST_ADOPTIONS;
        self.dead = (flags >> 15 & 1 != 0).then_some(WaitStatus((flags >> 16) as u16));
    }

    /// Stores all of it where a successor finds it.
    pub(super) fn remember(&self, journal: &Journal) {
        let (kind, machine) = match &self.body {
            Body::Longrun(l) => (Kind::Longrun, l.machine.save()),
            Body::Oneshot(o) => (Kind::Oneshot, o.save()),
        };
        let dead = self.dead.map_or(0, |status| 1 << 15 | u32::from(status.0) << 16);
        let flags = dead | self.adoptions.min(MOST_ADOPTIONS) << 1 | self.has_state as u32;
        journal.remember(self.slot, kind, &Memory { machine, flags, events: self.events, death: self.death });
    }

    pub(super) fn status(&self) -> Status {
        match &self.body {
            Body::Longrun(l) => l.machine.status(),
            Body::Oneshot(o) => o.status(),
        }
    }

    /// What it is for somebody who brings things up and down.
    pub(super) fn standing(&self) -> Standing {
        match &self.body {
            Body::Longrun(l) => {
                let status = l.machine.status();
                let notifies = l.reader.last().tells_ready();
                match () {
                    () if status.want_up && status.is_up() && (status.ready || !notifies) => Standing::Up,
                    () if self.extra.as_ref().is_some_and(|aux| aux.mind.skipped) => Standing::Up,
                    () if !status.want_up && status.pid.is_none() => Standing::Down,
                    () => Standing::Between,
                }
            }
            Body::Oneshot(o) => match (o.state(), o.outcome().is_up()) {
                (oneshot::State::Running { .. }, _) => Standing::Between,
                (oneshot::State::Idle, true) => Standing::Up,
                (oneshot::State::Idle, false) => Standing::Down,
            },
        }
    }

    /// What `supervise/state` shall say.
    fn state(&self, now: Now) -> State {
        let later = |at: &Mono| *at > now.mono;
        let wall = |at: Mono| Stamp { mono: at, ..now.into() }.reanchored(now).wall;
        match &self.body {
            Body::Longrun(l) => State {
                starts: l.machine.starts(),
                deaths: l.machine.deaths(),
                adopted: self.adoptions,
                retry: l.machine.retry_at().filter(later).map(wall),
                failure: self.failure.clone(),
                oneshot: None,
                cause: l.machine.last_told().word().map(str::to_owned),
                by: self.who_asked(),
                refused: self
                    .extra
                    .as_ref()
                    .and_then(|aux| Some((aux.mind.refused?.wall, aux.reason.clone().unwrap_or_default()))),
                mode: self.extra.as_ref().and_then(|aux| aux.mode()),
                status: self.hearing().map(|h| h.notes.status.clone()).filter(|text| !text.is_empty()),
                why: self.hearing().map(|h| h.notes.why.clone()).filter(|text| !text.is_empty()),
                unwell: self
                    .extra
                    .as_ref()
                    .filter(|aux| aux.mind.failures > 0)
                    .map(|aux| (aux.mind.failures.into(), aux.unwell.clone().unwrap_or_default())),
            },
            Body::Oneshot(o) => State {
                adopted: self.adoptions,
                failure: self.failure.clone(),
                oneshot: Some(o.word().to_owned()),
                ..State::default()
            },
        }
    }

    /// What is due says that it is not tried any more.
    pub(super) fn failed_for_good(&self) -> bool {
        self.events.as_bytes().contains(&b'O')
    }

    /// Writes down what is due, at its turn.
    pub(super) fn write_down_all(&mut self, journal: &Journal, attic: &mut Attic) -> Written {
        self.due = false;
        let failed_for_good = self.failed_for_good();
        Written { failed_for_good, refused: self.write_down(clock::now(), journal, attic) }
    }

    /// Writes down what is due, in the order clients rely on: tally, status, state, and events after them.
    /// What the disk does not take is kept and tried again: what that is, and why.
    fn write_down(
        &mut self,
        now: Now,
        journal: &Journal,
        attic: &mut Attic,
    ) -> Option<(&'static str, Errno)> {
        let Some(dir) = &self.dir else { return self.write_nowhere(journal) };
        let mut refused = None;
        if let (Some(death), Body::Longrun(l)) = (self.death, &self.body) {
            match append_death(dir, death, l.reader.last().max_death_tally) {
                Ok(()) => self.death = None,
                Err(e) => refused = Some(("write supervise/death_tally", e)),
            }
        }
        if self.status_due {
            let first =
                matches!(&self.body, Body::Longrun(l) if l.machine.starts() <= 1 && l.machine.deaths() == 0);
            match write_status(dir, &self.status(), first) {
                Ok(()) => self.status_due = false,
                Err(e) => refused = Some(("write supervise/status", e)),
            }
            let state = self.state(now);
            match write_state(dir, state, self.has_state, self.is_gone()) {
                Ok(written) => self.has_state = written,
                Err(e) => refused = Some(("write supervise/state", e)),
            }
        }
        if refused.is_some_and(|(_, e)| e == Errno::NOENT) && is_deleted(dir) {
            return self.write_nowhere(journal);
        }
        if self.is_gone() {
            self.remove_socket();
        }
        if let Body::Longrun(l) = &mut self.body
            && l.machine.is_gone()
        {
            // Before the event: who hears that we leave may come in our place at once.
            attic.unlock(l);
        }
        if !self.events.is_empty() {
            match servicedir::event::notify(dir, self.events.as_bytes()) {
                Ok(()) => self.events = Events::default(),
                Err(e) => refused = Some(("tell those who listen at event", e)),
            }
        }
        self.remember(journal);
        self.status_due |= refused.is_some();
        self.rewrite_at = refused.map(|_| now.mono.after(REWRITE_PAUSE));
        refused
    }

    /// Its directory is deleted: there is nobody to tell.
    fn write_nowhere(&mut self, journal: &Journal) -> Option<(&'static str, Errno)> {
        // What could not be opened yet may be there.
        if self.missing_at.is_none() {
            (self.dir, self.death, self.status_due, self.rewrite_at) = (None, None, false, None);
            self.events = Events::default();
            self.longrun().into_iter().for_each(|longrun| longrun.reader.lose());
        }
        self.remember(journal);
        None
    }

    /// Writes down a death before everything else that is due. What the disk does not take is kept.
    pub(super) fn write_death(&mut self, journal: &Journal) {
        let (Some(dir), Some(death), Body::Longrun(l)) = (&self.dir, self.death, &self.body) else { return };
        if append_death(dir, death, l.reader.last().max_death_tally).is_ok() {
            self.death = None;
            self.remember(journal);
        }
    }

    /// After a takeover: a death that is in the tally already is not written again. (Our predecessor was killed
    /// before it could note that it had written it. Two deaths never have the same time.)
    pub(super) fn forget_recorded_death(&mut self) {
        let (Some(dir), Some(death)) = (&self.dir, self.death) else { return };
        if servicedir::read_file(dir, tally::FILE).is_ok_and(|tally| tally.ends_with(&death)) {
            self.death = None;
        }
    }

    /// Creates or removes `down`.
    pub(super) fn touch_down(&self, create: bool) {
        let Some(dir) = &self.dir else { return };
        let done = if create {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NONBLOCK;
            openat(dir, "down", flags, Mode::from_raw_mode(0o666)).map(drop)
        } else {
            match unlinkat(dir, "down", AtFlags::empty()) {
                Err(Errno::NOENT) => Ok(()),
                other => other,
            }
        };
        if let Err(e) = done {
            let doing = if create { "create ./down" } else { "remove ./down" };
            self.warn(format_args!("{}: the change is not permanent", Error::unable(doing, e)));
        }
    }
}

/// More are not counted.
const MOST_ADOPTIONS: u32 = (1 << 14) - 1;

/// What the disk did not take is offered to it again this soon.
const REWRITE_PAUSE: Duration = Duration::from_secs(1);

/// Whether nobody can come to this directory any more, because it was deleted.
pub(super) fn is_deleted(dir: &OwnedFd) -> bool {
    rustix::fs::fstat(dir).is_ok_and(|st| st.st_nlink == 0)
}

/// What came of writing down.
pub(super) struct Written {
    /// It was an end for good.
    pub(super) failed_for_good: bool,
    /// What the disk did not take, and why.
    pub(super) refused: Option<(&'static str, Errno)>,
}

/// What supervision is done with.
pub(super) struct Supervise {
    /// `supervise/lock`, taken.
    pub(super) lock: OwnedFd,
    /// `supervise/control`.
    pub(super) control: Fifo,
    /// Nobody has supervised here before: there is nothing of an earlier life in it.
    pub(super) new: bool,
}

/// Opens it in a service directory, and makes it where it is not there. The lock comes last: whoever sees that it is
/// held, or that somebody reads the FIFO, finds a status, and can send commands.
pub(super) fn open_supervise(dir: &OwnedFd) -> Result<Supervise> {
    if servicedir::begin_status(dir) == Err(Errno::NOENT) {
        servicedir::prepare(dir).unable("make event and supervise")?;
    }
    let control = open_control(dir)?;
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let open = |more| openat(dir, "supervise/lock", flags | more, Mode::from_raw_mode(0o644));
    let mut lock = open(OFlags::EXCL);
    let new = lock.is_ok();
    if lock.as_ref().err() == Some(&Errno::EXIST) {
        lock = open(OFlags::empty());
    }
    let lock = lock.unable("open supervise/lock")?;
    if !lock::try_lock(&lock).unable("lock supervise/lock")? {
        return Err(Error::new(code::USAGE, "unable to lock supervise/lock: another supervisor is at work"));
    }
    Ok(Supervise { lock, control, new })
}

/// Opens `supervise/control`. What is there and is no FIFO gives way to one.
pub(super) fn open_control(dir: &OwnedFd) -> Result<Fifo> {
    const PATH: &str = "supervise/control";
    let is_other =
        |e: &Errno| matches!(*e, Errno::NOENT | Errno::INVAL | Errno::LOOP | Errno::ISDIR | Errno::NXIO);
    Fifo::open(dir, PATH, false)
        .or_else(|e| {
            // One that cannot be opened now may be full of commands.
            if !is_other(&e) {
                return Err(e);
            }
            let _ = unlinkat(dir, PATH, AtFlags::empty());
            servicedir::prepare(dir)?;
            Fifo::open(dir, PATH, false)
        })
        .unable("open supervise/control")
}

/// What an earlier supervisor left speaks of a process that is not there, or is no status.
pub(super) fn correct_status(dir: &OwnedFd) {
    let _ = write_status(dir, &servicedir::first_status(dir), false);
    let _ = unlinkat(dir, STATUS_BESIDE, AtFlags::empty());
}

/// Writes `supervise/state` once there is something to say in it, and removes it at the end of supervision.
/// Returns whether it is there now.
fn write_state(dir: &OwnedFd, state: State, there: bool, over: bool) -> std::result::Result<bool, Errno> {
    let name = "supervise/state";
    if over || (!there && state.is_default()) {
        if there {
            let _ = unlinkat(dir, name, AtFlags::empty());
            let _ = unlinkat(dir, STATE_BESIDE, AtFlags::empty());
        }
        return Ok(false);
    }
    servicedir::exchange(dir, name, STATE_BESIDE, state.to_text().as_bytes()).map(|()| true)
}

/// Where the next `supervise/state` is written.
const STATE_BESIDE: &str = "supervise/state.new";

/// Replaces `supervise/status`. `first`: what is there says only that nothing has been started yet. Such a status, and
/// any on a full disk, is written over: 35 bytes that have their place, without a second file for each service.
fn write_status(dir: &OwnedFd, status: &Status, first: bool) -> std::result::Result<(), Errno> {
    let bytes = status.pack();
    let write_over = || {
        let file = servicedir::open_own(dir, servicedir::STATUS, OFlags::empty(), Mode::empty()).ok()?;
        // One that another version has left may be longer.
        let alike = rustix::fs::fstat(&file).is_ok_and(|st| st.st_size as usize == bytes.len());
        alike.then(|| rustix::io::pwrite(&file, &bytes, 0).ok())?.filter(|n| *n == bytes.len())
    };
    if first && write_over().is_some() {
        return Ok(());
    }
    servicedir::exchange(dir, servicedir::STATUS, STATUS_BESIDE, &bytes)
        .or_else(|refused| write_over().map(drop).ok_or(refused))
}

/// Where the next `supervise/status` is written.
const STATUS_BESIDE: &str = "supervise/status.new";

/// Appends to `supervise/death_tally`: one write while there is room, the whole file when the oldest record
/// must go.
fn append_death(dir: &OwnedFd, death: [u8; tally::RECORD], max: usize) -> std::result::Result<(), Errno> {
    if max == 0 {
        return Ok(());
    }
    let flags = OFlags::CREATE | OFlags::APPEND;
    let file = servicedir::open_own(dir, tally::FILE, flags, Mode::from_raw_mode(0o666))?;
    let size = rustix::fs::fstat(&file)?.st_size as usize;
    if size.is_multiple_of(tally::RECORD) && size / tally::RECORD < max.min(tally::MOST) {
        return match rustix::io::write(&file, &death)? {
            tally::RECORD => Ok(()),
            _ => Err(Errno::NOSPC),
        };
    }
    let old = servicedir::read_file(dir, tally::FILE)?;
    let new = tally::append(&old, death, max);
    servicedir::replace(dir, tally::FILE, "supervise/death_tally.new", &new)
}
