//! `forking`: run puts itself in the background, and the process that remains is followed ([`super::follow`]).
//!
//! When run has exited 0 it is looked who remains of it. With `pid-file` that is the process that the file names,
//! once it names one of the service; without, it is the one that nobody who remains has started, of those who have
//! left run's session if there are any. It is the service's process from then on, and the service is ready, unless
//! it says that itself or is asked.
//!
//! Who remains of run: whoever is in its session or group, whoever has its brand ([`brand_of`]), and whoever is
//! below one of these. A `pid-file` may also name an orphan that came to us, for where there are no brands.
//!
//! - Any other end of run is a start that failed; so is one after which nobody remains. Before anything else is
//!   started the rest is killed, as with `kill-mode` `tree`, which is the default here.
//! - While nobody can be told to be the one, it is looked again, ever less often, until [`SETTLING`] is over, or
//!   [`WRITING`] with a `pid-file`, or `timeout-up`. Meanwhile run is known to be dead ([`Service::dead`]), its
//!   machine does not know it, and a successor begins to look anew. A command that is for the process is for the
//!   oldest of them, then.
//! - When the process that is followed exits 0, and nobody has told it to end, another one may have taken its
//!   place once more; it is looked for in the same way, once.
//! - One that is dead already when it is found is followed nevertheless: so its end is told as it was.
//!
//! Nothing of an earlier life is followed, and no number alone: see [`super::follow`].

use super::launch::Failure;
use super::service::{Body, Longrun, Service};
use super::{Host, Id};
use crate::diag::reason;
use crate::ordered::Set;
use crate::process::{End, Pid, WaitStatus};
use crate::servicedir::control::Command;
use crate::servicedir::feature::Faulty;
use crate::supervise::descent::Member;
use crate::supervise::machine::{Event, Leave, State, To, Told};
use crate::sys::attributes::brand_of;
use crate::sys::process::{self, Stat};
use crate::sys::{Errno, clock};
use crate::time::Mono;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, fstat, openat, unlinkat};
use std::os::fd::OwnedFd;
use std::time::Duration;

/// Who remains is looked for.
pub(super) struct Seek {
    /// The next look.
    pub(super) at: Mono,
    pause: Duration,
    /// The last one. None: `timeout-up` says when.
    until: Option<Mono>,
}

/// So long may several remain before one is left. Whoever forks twice is through in a moment.
const SETTLING: Duration = Duration::from_secs(1);

/// So long may it take to write the `pid-file`, where there is no `timeout-up`.
const WRITING: Duration = Duration::from_secs(10);

/// Between two looks, at first and at most.
const PAUSES: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(100)];

/// Why a start has failed after which there is nobody to follow.
const NOBODY: &str = "it ended and left nobody in the background";

/// What a look came to.
enum Look {
    /// This one remains.
    Found((Pid, Stat)),
    /// It cannot be told yet, because of this. The oldest of those who remain.
    NotYet(String, Option<(Pid, Stat)>),
    /// Nobody remains.
    Nobody,
}

impl Service {
    /// Whether run, which is dead, has left somebody in the background, as far as it says.
    fn is_in_background(&self) -> bool {
        let Body::Longrun(Longrun { machine, reader, .. }) = &self.body else { return false };
        reader.last().is_forking()
            && !machine.is_followed()
            && self.dead == Some(WaitStatus::exited(0))
            && matches!(machine.state(), State::Up { .. })
    }
}

impl Host {
    /// Run is dead and reaped, and who remains of it is not known.
    pub(super) fn awaits_background(&self, id: Id) -> bool {
        self.service(id).is_some_and(Service::is_in_background)
    }

    /// The process of a service has died. Whether the service goes on all the same, or may do so.
    pub(super) fn goes_on_without(&mut self, id: Id, status: WaitStatus) -> bool {
        let Some(service) = self.service_mut(id) else { return false };
        let Body::Longrun(Longrun { machine, reader, .. }) = &service.body else { return false };
        if !reader.last().is_forking() || !matches!(machine.state(), State::Up { .. }) {
            return false;
        }
        match (status.end(), machine.is_followed(), machine.told()) {
            (End::Exit(0), false, _) => {
                service.dead = Some(status);
                if let Some(service) = self.service(id) {
                    service.remember(&self.journal);
                }
                self.seek_main(id);
                true
            }
            (_, false, Told::Nobody) => {
                self.not_in_background(
                    id,
                    format!("it ended before it was in the background: {status}"),
                    status,
                );
                false
            }
            (End::Exit(0), true, Told::Nobody) => {
                let found = self.look_for_main(id);
                // One that is dead too has not taken its place.
                if let Look::Found(main) = found
                    && main.1.state != b'Z'
                {
                    self.hand_over(id, main, false);
                    return true;
                }
                false
            }
            _ => false,
        }
    }

    /// Begins to look for who remains.
    pub(super) fn seek_main(&mut self, id: Id) {
        let Some(features) = self.service(id).and_then(Service::features) else { return };
        let limit = if features.pid_file.is_some() { WRITING } else { SETTLING };
        let now = clock::mono();
        let until =
            Some(now.after(limit)).filter(|_| features.pid_file.is_none() || features.timeout_up.is_none());
        let seek = Seek { at: now, pause: PAUSES[0], until };
        match self.aux(id) {
            Some(aux) => aux.seek = Some(seek),
            // There is no room to look more than once.
            None => return self.look_once(id),
        }
        self.seek_on(id, now);
    }

    /// Somebody is followed now, or nobody.
    fn look_once(&mut self, id: Id) {
        match self.look_for_main(id) {
            Look::Found(main) => self.settle_on(id, main),
            Look::NotYet(why, _) => self.end_seek(id, why),
            Look::Nobody => self.end_seek(id, NOBODY.to_owned()),
        }
    }

    /// Looks, if it is time.
    pub(super) fn seek_on(&mut self, id: Id, now: Mono) {
        let Some(service) = self.service(id) else { return };
        let Some(seek) = service.extra.as_ref().and_then(|aux| aux.seek.as_ref()) else { return };
        if seek.at > now {
            return;
        }
        let last = seek.until.is_some_and(|until| until <= now);
        match self.look_for_main(id) {
            Look::Found(main) => self.settle_on(id, main),
            Look::NotYet(why, _) if last => self.end_seek(id, why),
            Look::NotYet(..) => {
                if let Some(seek) = self.aux(id).and_then(|aux| aux.seek.as_mut()) {
                    seek.at = now.after(seek.pause);
                    seek.pause = (seek.pause * 2).min(PAUSES[1]);
                }
                self.set_timer(id);
            }
            Look::Nobody => self.end_seek(id, NOBODY.to_owned()),
        }
    }

    /// Before an event that is for the process of a service: somebody is that, if anybody remains.
    pub(super) fn settle_main(&mut self, id: Id, event: Event) {
        let is_for_it = match event {
            Event::Leave(Leave::Stop | Leave::Interrupt) | Event::Expire(_) => true,
            Event::Command(command) => matches!(
                command,
                Command::Down
                    | Command::DownPersistent
                    | Command::Restart
                    | Command::Reload
                    | Command::Signal(_)
                    | Command::KillGroup
                    | Command::Pause(_)
                    | Command::Continue(_)
            ),
            _ => false,
        };
        let seeks = || self.service(id).and_then(|s| s.extra.as_ref()).is_some_and(|aux| aux.seek.is_some());
        if !is_for_it || !seeks() {
            return;
        }
        let look = self.look_for_main(id);
        if let (Look::NotYet(why, _), Event::Expire(_), Some(service)) = (&look, event, self.service(id)) {
            service.warn(format_args!("forking: {why}"));
        }
        match look {
            Look::Found(main) | Look::NotYet(_, Some(main)) => self.end_seek_with(id, main, false),
            Look::NotYet(why, None) => self.end_seek(id, why),
            Look::Nobody => self.end_seek(id, NOBODY.to_owned()),
        }
    }

    /// This is the one.
    fn settle_on(&mut self, id: Id, main: (Pid, Stat)) {
        let Some(Body::Longrun(Longrun { machine, reader, .. })) = self.service(id).map(|s| &s.body) else {
            return;
        };
        let (told, rules) = (machine.told(), reader.last());
        let (ready, signal, tree) = (!rules.says_ready(), rules.down_signal, rules.kill_tree);
        self.end_seek_with(id, main, ready && told == Told::Nobody);
        if told != Told::Nobody {
            // What was said to run is for who remains of it.
            self.note_descent(id);
            match tree {
                true => self.signal_tree(id, main.0, signal),
                false => self.signal(id, main.0, To::Process, signal),
            }
        }
    }

    fn end_seek_with(&mut self, id: Id, main: (Pid, Stat), ready: bool) {
        if let Some(aux) = self.aux(id) {
            aux.seek = None;
        }
        self.hand_over(id, main, ready);
        self.set_timer(id);
    }

    /// There is nobody to be followed: that was the end of run.
    fn end_seek(&mut self, id: Id, why: String) {
        if let Some(aux) = self.aux(id) {
            aux.seek = None;
        }
        let Some(service) = self.service_mut(id) else { return };
        let (Some((pid, _)), Some(status)) = (service.process(), service.dead.take()) else { return };
        let Body::Longrun(Longrun { machine, .. }) = &service.body else { return };
        if machine.told() == Told::Nobody {
            self.not_in_background(id, why, status);
        }
        if !self.hunt_what_is_left(id, pid, status) {
            self.bury(id, status);
        }
    }

    /// Says why a start has failed.
    fn not_in_background(&mut self, id: Id, why: String, status: WaitStatus) {
        let Some(service) = self.service_mut(id) else { return };
        let Failure { text, .. } = Faulty { file: "forking", why }.into();
        service.warn(&text);
        service.failure = Some(text);
        self.disappoint(id, status);
    }

    // ------------------------------------------------------------------------------------ looking

    fn look_for_main(&self, id: Id) -> Look {
        let Some(service) = self.service(id) else { return Look::Nobody };
        let Some((run, _)) = service.process() else { return Look::Nobody };
        let all = process::snapshot();
        let members = self.members_of_life(id, &all);
        let alive: Vec<(Pid, Stat)> =
            all.iter().filter(|(pid, stat)| members.contains(&(*pid, stat.start))).copied().collect();
        let oldest = alive.iter().min_by_key(|(_, stat)| stat.start).copied();
        let pid_file = service.features().and_then(|features| features.pid_file.as_deref());
        if let (Some(file), Some(dir)) = (pid_file, &service.dir) {
            let named = read_text(dir, file).map_err(|e| reason(e).to_owned());
            let named = named.and_then(|text| pid_in(&text).ok_or_else(|| format!("{text:?} is no pid")));
            let of_service = |pid: &Pid| {
                let mut candidates = alive.iter().chain(all.iter().filter(|p| self.may_be_left_by(id, p)));
                candidates.find(|(other, _)| other == pid).copied()
            };
            return match (named.as_ref().ok().and_then(of_service), named, oldest) {
                (Some(found), ..) => Look::Found(found),
                (None, _, None) if !self.is_anybody_left(id, &all) => self.dead_main(id, &all),
                (None, Ok(pid), _) => {
                    let text = format!("pid-file: {file} names {pid}, which is no process of the service");
                    Look::NotYet(text, oldest)
                }
                (None, Err(why), _) => Look::NotYet(format!("pid-file: {file}: {why}"), oldest),
            };
        }
        let is_root = |(_, stat): &&(Pid, Stat)| !alive.iter().any(|(pid, _)| pid.raw() == stat.ppid);
        let roots: Vec<(Pid, Stat)> = alive.iter().filter(is_root).copied().collect();
        let only = |some: Vec<(Pid, Stat)>| if some.len() == 1 { some.first().copied() } else { None };
        let filtered =
            |keep: &dyn Fn(Pid, &Stat) -> bool| roots.iter().filter(|(p, s)| keep(*p, s)).copied().collect();
        let outside: Vec<(Pid, Stat)> = filtered(&|_, stat| stat.session != run.raw());
        let found = match outside.is_empty() {
            true => only(roots.clone()),
            false => only(outside).or_else(|| only(filtered(&|pid, stat| stat.session == pid.raw()))),
        };
        match (found, oldest) {
            (Some(found), _) => Look::Found(found),
            (None, None) => self.dead_main(id, &all),
            (None, Some(_)) => {
                let names: Vec<String> = roots.iter().map(|(pid, _)| process::shown(*pid)).collect();
                let text =
                    format!("several processes remain: {}: name the one in a pid-file", names.join(", "));
                Look::NotYet(text, oldest)
            }
        }
    }

    /// An orphan of this life that came to us, where run could not be branded. It may be another service's.
    fn may_be_left_by(&self, id: Id, (pid, stat): &(Pid, Stat)) -> bool {
        let Some(service) = self.service(id) else { return false };
        let unbranded = service.extra.as_ref().is_some_and(|aux| aux.unbranded);
        let Some((_, boot)) = service.process().filter(|_| unbranded) else { return false };
        let member: Member = (*pid, stat.start);
        stat.ppid == Pid::own().raw()
            && stat.start + process::TICK_NS >= boot
            && !self.by_pid.contains_key(pid)
            && !self.inherited.contains(&member)
    }

    /// Run was started: whether it could be branded.
    pub(super) fn note_brand(&mut self, id: Id, pid: Pid) {
        let Some(service) = self.service_mut(id).filter(|s| s.features().is_some_and(|f| f.forking)) else {
            return;
        };
        let brand = super::follow::brand(service.identity);
        if let Some(aux) = self.aux(id) {
            aux.unbranded = brand_of(pid) != Some(brand);
        }
    }

    fn is_anybody_left(&self, id: Id, all: &[(Pid, Stat)]) -> bool {
        all.iter().any(|process| process.1.state != b'Z' && self.may_be_left_by(id, process))
    }

    /// Nobody remains who lives: one that was to, and died, is not reaped yet if it died just now.
    fn dead_main(&self, id: Id, all: &[(Pid, Stat)]) -> Look {
        let run = self.service(id).and_then(Service::process).map_or(0, |(pid, _)| pid.raw());
        let branded: Set<Pid> = self.branded(id, all).into_iter().map(|(pid, _)| pid).collect();
        let is_one = |(pid, stat): &&(Pid, Stat)| {
            stat.state == b'Z' && pid.raw() != run && (branded.contains(pid) || stat.session == run)
        };
        let dead: Vec<(Pid, Stat)> = all.iter().filter(is_one).copied().collect();
        // The one that failed, rather than who left it behind.
        let failed = dead.iter().find(|(pid, _)| process::zombie_status(*pid).is_some_and(|s| s.0 != 0));
        failed.or(dead.last()).map_or(Look::Nobody, |main| Look::Found(*main))
    }

    /// Before a start: a `pid-file` of an earlier life names nobody any more. One that names a process that an
    /// earlier life left behind, and that lives, is left to whoever reads it.
    pub(super) fn remove_stale_pid_file(&self, id: Id) {
        let Some(service) = self.service(id) else { return };
        let (Some(features), Some(dir)) = (service.features(), &service.dir) else { return };
        let Some(file) = features.pid_file.as_deref().filter(|_| features.forking) else { return };
        let brand = super::follow::brand(service.identity);
        let is_left = |pid: &Pid| brand_of(*pid) == Some(brand);
        let Ok(text) = read_text(dir, file) else { return };
        match pid_in(&text).filter(is_left) {
            Some(pid) => {
                let name = process::shown(pid);
                service.warn(format_args!("{file} names {name}, which an earlier run has left behind"));
            }
            None => drop(unlinkat(dir, file, AtFlags::empty())),
        }
    }
}

/// What is in a file. Never waits; what is no file is not read.
fn read_text(dir: &OwnedFd, file: &str) -> Result<String, Errno> {
    let file = openat(dir, file, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())?;
    if !FileType::from_raw_mode(fstat(&file)?.st_mode).is_file() {
        return Err(Errno::INVAL);
    }
    let mut text = [0u8; 64];
    let n = rustix::io::read(&file, &mut text)?;
    Ok(String::from_utf8_lossy(&text[..n]).into_owned())
}

/// The pid in the first line.
fn pid_in(text: &str) -> Option<Pid> {
    text.lines().next()?.trim().parse().ok().and_then(Pid::from_raw)
}
