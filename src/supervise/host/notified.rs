//! `notify-socket`: hearing what a service says of itself. What it means is in [`crate::supervise::notify`].
//!
//! # Who holds the socket
//!
//! A datagram that was sent must be heard, whoever is killed meanwhile. A FIFO is opened again by its name; a socket
//! cannot be: binding the name again makes another one, and what waits in the first is gone. So its descriptor is
//! held by the keeper, as FIFOs are, which is pid 1, or svscan where there is no init of ours, and a supervisor that
//! takes a service over asks the keeper for it ([`reaper::fetch`]). What the service stores (FDSTORE) goes the same
//! way. A supervisor of one service has no keeper, nor has one whose svscan was killed together with it, without an
//! init: it binds the name again, and loses what nobody had read, and what was stored.
//!
//! Nor must a datagram be lost that was taken and not dealt with. So it is looked at, all that follows from it is
//! done and remembered, and only then is it taken off the queue. Whoever is killed in between deals with it twice,
//! which changes nothing: each word says how something is, not how it changes.
//!
//! Every life of run has a socket of its own, made before it starts: nobody of an earlier one speaks for this one.
//! What still waits in a socket when run has died is heard before anything is made of the death.
//!
//! # Where it is
//!
//! `notify.sock` in the service directory, open for everybody: run may become another user, for whom `supervise` is
//! closed. Where it cannot be (a read-only directory, a path of more than 107 bytes), it has an abstract name, and
//! that is said.
//!
//! # Who is heard
//!
//! Run, whoever is in its session or process group, and whoever descends from it. The kernel says who sent, and
//! `/proc` who that is. A sender that is dead by the time it is looked at (`systemd-notify --no-block` has ended long
//! before) can be no more than its user: it is heard if that is the user of run, or ours. A stranger of another user
//! is never heard, dead or alive; one of the same user could do worse than this.

use super::launch::{Failure, failed};
use super::service::{Body, Service};
use super::{Host, Id, Token};
use crate::diag::reason;
use crate::ordered::Map;
use crate::process::Pid;
use crate::scan::{Identity, reaper};
use crate::servicedir::feature::Features;
use crate::supervise::machine::{Event, State, Told};
use crate::supervise::notify::{MOST_STORED, Notes};
use crate::sys::datagram::{self, Datagram};
use crate::sys::{Errno, clock, process};
use crate::time::Mono;
use rustix::event::epoll;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, chmodat, statat, unlinkat};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

/// The socket in a service directory.
const NAME: &str = "notify.sock";

/// So many datagrams are dealt with before others have their turn.
const AT_ONCE: usize = 32;

/// So many at the end of a life, or before a deadline is believed: more than a queue takes.
const ALL: usize = 1024;

/// What is shown is written down this often, at most.
const SHOW_AGAIN: Duration = Duration::from_millis(100);

/// The ears of a service.
#[derive(Default)]
pub(super) struct Hearing {
    pub(super) notes: Notes,
    socket: Option<OwnedFd>,
    /// What NOTIFY_SOCKET says.
    name: String,
    /// What it has stored, in the order of `notes.stored`.
    store: Vec<OwnedFd>,
    /// When it was written down last what it says.
    written: Mono,
    /// What nobody heard was told of.
    complained: bool,
}

impl Hearing {
    /// What is in run's environment, and the variables there that say its own pid.
    pub(super) fn variables(
        &self,
        rules: &Features,
    ) -> (Vec<(&'static str, Option<String>)>, Vec<&'static str>) {
        let mut own = Vec::new();
        let watchdog = rules.watchdog.map(|limit| limit.as_micros().to_string());
        own.extend(watchdog.as_ref().map(|_| "WATCHDOG_PID="));
        let names: Vec<&str> = self.notes.stored.iter().map(|(_, name)| &**name).collect();
        let stored = (!names.is_empty()).then_some(names.len());
        own.extend(stored.map(|_| "LISTEN_PID="));
        let variables = vec![
            ("NOTIFY_SOCKET", Some(self.name.clone())),
            ("WATCHDOG_USEC", watchdog),
            ("WATCHDOG_PID", None),
            ("LISTEN_FDS", stored.map(|n| n.to_string())),
            ("LISTEN_FDNAMES", stored.map(|_| names.join(":"))),
            ("LISTEN_PID", None),
        ];
        (variables, own)
    }

    /// What run finds open from 3 on.
    pub(super) fn stored(&self) -> &[OwnedFd] {
        &self.store
    }

    /// What is to be kept, and under which numbers.
    pub(super) fn kept(&self) -> impl Iterator<Item = (u16, &OwnedFd)> {
        let stored = self.notes.stored.iter().map(|(number, _)| u16::from(*number));
        self.socket.iter().map(|socket| (0, socket)).chain(stored.zip(&self.store))
    }

    /// Stores descriptors; those that are stored already are not.
    fn put(&mut self, name: &str, fds: Vec<OwnedFd>) {
        for fd in fds {
            let known = || self.store.iter().any(|other| is_same(other, &fd));
            let free = (1..=u8::MAX).find(|n| self.notes.stored.iter().all(|(other, _)| other != n));
            if let (Some(number), true) = (free, self.store.len() < MOST_STORED && !known()) {
                self.notes.stored.push((number, name.to_owned()));
                self.store.push(fd);
            }
        }
    }

    /// Forgets those of this name; their numbers.
    fn remove(&mut self, name: &str) -> Vec<u8> {
        let mut gone = Vec::new();
        while let Some(at) = self.notes.stored.iter().position(|(_, other)| other == name) {
            gone.push(self.notes.stored.remove(at).0);
            self.store.remove(at);
        }
        gone
    }
}

/// The same file, open for the same. Of what has no file (an eventfd, say) nobody knows.
fn is_same(one: &OwnedFd, other: &OwnedFd) -> bool {
    let typed =
        rustix::fs::fstat(one).is_ok_and(|st| FileType::from_raw_mode(st.st_mode) != FileType::Unknown);
    let mode = |fd: &OwnedFd| rustix::fs::fcntl_getfl(fd).map(|flags| flags & OFlags::RWMODE);
    typed && Identity::of(one) == Identity::of(other) && mode(one) == mode(other)
}

impl Service {
    pub(super) fn hearing(&self) -> Option<&Hearing> {
        self.extra.as_ref()?.hearing.as_deref()
    }

    /// Nobody will come to it. To be done before anybody else may supervise it: the next socket is not ours.
    pub(super) fn remove_socket(&self) {
        if let (Some(_), Some(dir)) = (self.hearing(), &self.dir)
            && is_socket(dir)
        {
            let _ = unlinkat(dir, NAME, AtFlags::empty());
        }
    }

    fn hearing_mut(&mut self) -> Option<&mut Hearing> {
        self.extra.as_mut()?.hearing.as_deref_mut()
    }
}

impl Host {
    // ------------------------------------------------------------------------------------ the socket

    /// Before run is started: a new socket, if it is to have one.
    pub(super) fn open_ears(&mut self, id: Id) -> Result<(), Failure> {
        let wanted = self.service(id).and_then(Service::features).is_some_and(|f| f.notify_socket);
        if !wanted {
            if let Some(mut service) = self.services.get_mut(id as usize).and_then(Option::take) {
                service.remove_socket();
                self.close_ears(&mut service);
                self.services[id as usize] = Some(service);
            }
            return Ok(());
        }
        let exhausted = || failed("extend the journal", Errno::NOMEM);
        let aux = self.aux(id).ok_or_else(exhausted)?;
        let old = aux.hearing.get_or_insert_default().socket.take();
        // The keeper's copy would keep it in the epoll set.
        if let Some(socket) = &old {
            let _ = epoll::delete(&self.epoll, socket);
        }
        let service = self.services[id as usize].as_deref_mut().ok_or_else(super::launch::directory_gone)?;
        let dir = service.dir.as_ref().ok_or_else(super::launch::directory_gone)?;
        let (socket, name, why) = bind(dir, service.identity).map_err(|e| failed("make notify.sock", e))?;
        if let Some(why) = why {
            service.warn(format_args!("notify-socket: {why}: NOTIFY_SOCKET is {name}"));
        }
        if let Some(hearing) = service.hearing_mut() {
            (hearing.socket, hearing.name, hearing.complained) = (Some(socket), name, false);
        }
        self.remember_notes(id);
        self.keep(id);
        self.watch_ears(id);
        Ok(())
    }

    fn watch_ears(&self, id: Id) {
        let token = Token::Notified(id, self.lives[id as usize]);
        if let Some(socket) = self.service(id).and_then(|s| s.hearing()?.socket.as_ref()) {
            let _ = self.watch(socket, token);
        }
    }

    /// Nobody listens to it any more.
    pub(super) fn close_ears(&mut self, service: &mut Service) {
        let identity = service.identity;
        let Some(aux) = &mut service.extra else { return };
        let Some(hearing) = aux.hearing.take() else { return };
        for (number, _) in hearing.kept() {
            self.untold.released.push(identity.keyed(number));
        }
        if let Some(socket) = &hearing.socket {
            let _ = epoll::delete(&self.epoll, socket);
        }
        self.journal.remember_notes(aux.slot, &[]);
    }

    /// What a predecessor had, as far as the keeper has it.
    pub(super) fn take_ears_over(&mut self, id: Id) {
        let Some(service) = self.service(id) else { return };
        let (identity, Some(aux)) = (service.identity, &service.extra) else { return };
        let bytes = self.journal.notes(aux.slot);
        if bytes.is_empty() {
            return;
        }
        let mut hearing = Hearing { notes: Notes::load(&bytes), ..Hearing::default() };
        let (keeper, holder) = (self.keeper.as_ref(), self.identity);
        let kept = self
            .kept_sockets
            .get_or_insert_with(|| keeper.map_or_else(Map::new, |keeper| reaper::fetch(keeper, holder)));
        hearing.socket = kept.remove(&identity.keyed(0));
        let known = std::mem::take(&mut hearing.notes.stored);
        for (number, name) in known {
            if let Some(fd) = kept.remove(&identity.keyed(number.into())) {
                hearing.notes.stored.push((number, name));
                hearing.store.push(fd);
            }
        }
        let service = self.services[id as usize].as_deref_mut().expect("looked at just now");
        if let (None, Some(dir), Some(_)) = (&hearing.socket, &service.dir, service.process()) {
            hearing.socket = bind(dir, identity).ok().map(|(socket, ..)| socket);
        }
        if let Some(aux) = &mut service.extra {
            aux.hearing = Some(Box::new(hearing));
        }
        self.remember_notes(id);
        self.watch_ears(id);
    }

    pub(super) fn remember_notes(&mut self, id: Id) {
        let aux = self.services.get(id as usize).and_then(|s| s.as_ref()?.extra.as_ref());
        if let Some(aux) = aux
            && let Some(hearing) = &aux.hearing
        {
            self.journal.remember_notes(aux.slot, &hearing.notes.save());
        }
    }

    // ------------------------------------------------------------------------------------ what comes

    /// Something waits in the socket.
    pub(super) fn on_notified(&mut self, id: Id) {
        self.hear(id, AT_ONCE);
    }

    /// Hears what was said until now: it may be why something is, or why it is not.
    pub(super) fn hear_all(&mut self, id: Id) {
        self.hear(id, ALL);
    }

    fn hear(&mut self, id: Id, most: usize) {
        for _ in 0..most {
            let socket = self.service(id).and_then(|s| s.hearing()?.socket.as_ref());
            let Some(datagram) = socket.and_then(datagram::peek) else { break };
            self.take_datagram(id, datagram);
            if let Some(socket) = self.service(id).and_then(|s| s.hearing()?.socket.as_ref()) {
                datagram::consume(socket);
            }
        }
    }

    fn take_datagram(&mut self, id: Id, datagram: Datagram) {
        let Some(service) = self.service(id) else { return };
        let Body::Longrun(longrun) = &service.body else { return };
        let State::Up { pid: main, .. } = longrun.machine.state() else { return };
        let odd = match () {
            () if !is_heard(&datagram, main, service) && !self.is_of_life(id, datagram.pid) => {
                "it is none of the service's processes"
            }
            () if datagram.cut => "it is longer than 4096 bytes",
            () => "",
        };
        if !odd.is_empty() {
            return self.complain_of(id, datagram.pid, odd);
        }
        let stopping = longrun.machine.told() != Told::Nobody;
        let dead = service.reaped;
        let Some(rules) = service.features().cloned() else { return };
        let (identity, now) = (service.identity, clock::mono());
        let service = self.services[id as usize].as_deref_mut().expect("looked at just now");
        let Some(aux) = &mut service.extra else { return };
        let Some(hearing) = &mut aux.hearing else { return };
        let before = hearing.notes.clone();
        let said = hearing.notes.hear(now, &datagram.bytes, stopping, &rules);
        let mut gone = Vec::new();
        match &said.store {
            Some((true, name)) => hearing.put(name, datagram.fds),
            Some((false, name)) => gone = hearing.remove(name),
            // BARRIER=1 among them: whoever has the other end sees that all before was heard.
            None => drop(datagram.fds),
        }
        let stored = hearing.notes.stored.len() > before.stored.len();
        let changed = hearing.notes != before;
        if let Some(until) = aux.mind.up_until {
            let on = rules.timeout_up.filter(|_| said.progress);
            let later = [on, said.extend].into_iter().flatten().map(|time| now.after(time));
            aux.mind.up_until = later.chain([until]).max();
            aux.remember(&self.journal);
        }
        self.untold.released.extend(gone.into_iter().map(|number| identity.keyed(number.into())));
        if changed {
            self.remember_notes(id);
        }
        if stored {
            self.keep(id);
        }
        let followed = said.main.filter(|_| !dead).map(|pid| (pid, self.follow(id, pid, said.ready)));
        if let Some((pid, Err(why))) = followed {
            self.warn_once(id, format_args!("MAINPID={pid}: {why}"));
        }
        if said.ready {
            self.feed_as_read(id, Event::Ready);
        }
        if let (Some(time), true, false) = (said.extend, stopping, dead) {
            self.feed_as_read(id, Event::Extend(now.after(time)));
        }
        if said.trigger && !dead {
            self.give_up_on(id, "WATCHDOG=trigger");
        }
        if said.shown {
            self.show_notes(id, now);
        }
        self.set_timer(id);
    }

    /// Has it written down what the service says, but not more often than somebody can read it.
    fn show_notes(&mut self, id: Id, now: Mono) {
        let Some(service) = self.service_mut(id) else { return };
        service.status_due = true;
        if !service.events.as_bytes().contains(&b'p') {
            service.events.push(b"p");
        }
        let Some(hearing) = service.hearing_mut() else { return };
        let next = hearing.written.after(SHOW_AGAIN);
        let due = hearing.written == Mono::default() || next <= now;
        if due {
            hearing.written = now;
        } else {
            service.rewrite_at = Some(service.rewrite_at.map_or(next, |at| at.min(next)));
        }
        if let Some(service) = self.service(id) {
            service.remember(&self.journal);
        }
        if due {
            self.mark_due(id);
        }
    }

    /// Whether it is one of those whom a run that puts itself in the background has left.
    fn is_of_life(&self, id: Id, sender: i32) -> bool {
        let Some(Body::Longrun(longrun)) = self.service(id).map(|s| &s.body) else { return false };
        let leaves_others = longrun.reader.last().is_forking() || longrun.machine.is_followed();
        leaves_others
            && self.members_of_life(id, &process::snapshot()).iter().any(|(pid, _)| pid.raw() == sender)
    }

    fn complain_of(&mut self, id: Id, pid: i32, why: &str) {
        let who = Pid::from_raw(pid).map_or("somebody".to_owned(), process::shown);
        self.warn_once(id, format_args!("what {who} sent is not heard: {why}"));
    }

    /// Once in a life it is said that something was not heard.
    fn warn_once(&mut self, id: Id, text: std::fmt::Arguments<'_>) {
        let Some(service) = self.service_mut(id) else { return };
        let Some(hearing) = service.hearing_mut() else { return };
        if !std::mem::replace(&mut hearing.complained, true) {
            service.warn(format_args!("notify-socket: {text}"));
        }
    }

    // ------------------------------------------------------------------------------------ deadlines

    /// Whether a deadline of the start or of the watchdog has passed, after all that was said is heard.
    pub(super) fn is_overdue(&mut self, id: Id, now: Mono) -> bool {
        let due = |host: &Host| {
            let aux = host.service(id)?.extra.as_ref()?;
            let watchdog = aux.hearing.as_ref().and_then(|hearing| hearing.notes.watchdog_at);
            Some([aux.mind.up_until, watchdog].into_iter().flatten().any(|at| at <= now))
        };
        if due(self) != Some(true) {
            return false;
        }
        self.hear_all(id);
        due(self) == Some(true)
    }

    /// It has given no sign of life.
    pub(super) fn run_watchdog(&mut self, id: Id, now: Mono) {
        let Some(rules) = self.service(id).and_then(Service::features).cloned() else { return };
        let Some(hearing) = self.service_mut(id).and_then(Service::hearing_mut) else { return };
        if hearing.notes.watchdog_at.take_if(|at| *at <= now).is_some() {
            let limit = hearing.notes.limit(&rules).map_or(0, |limit| limit.as_millis());
            self.give_up_on(id, &format!("no WATCHDOG=1 within {limit} ms (watchdog)"));
        }
    }

    fn give_up_on(&mut self, id: Id, why: &str) {
        if let Some(service) = self.service(id) {
            service.warn(format_args!("{why}: ended"));
        }
        self.feed(id, Event::Expire(Told::Watchdog));
    }

    /// Run is dead: what it said last, and what is to be said of it.
    pub(super) fn note_last_words(&mut self, id: Id) {
        if self.service(id).and_then(Service::hearing).is_none() {
            return;
        }
        // Nobody is to be signalled any more.
        self.service_mut(id).into_iter().for_each(|service| service.reaped = true);
        self.hear_all(id);
        let now = clock::mono();
        let Some(service) = self.service_mut(id) else { return };
        service.reaped = false;
        let Body::Longrun(longrun) = &service.body else { return };
        let machine = &longrun.machine;
        let lived = machine.started().map_or(Duration::ZERO, |started| now.since(started));
        let (told, State::Up { .. }) = (machine.told(), machine.state()) else { return };
        let ready = machine.status().ready;
        let Some(rules) = service.features().cloned() else { return };
        if let Some(hearing) = service.hearing_mut() {
            hearing.notes.end(told, ready, lived, &rules);
        }
        self.remember_notes(id);
    }
}

/// Whether the sender of a datagram speaks for the service whose run is `main`.
fn is_heard(datagram: &Datagram, main: Pid, service: &Service) -> bool {
    let Some(sender) = Pid::from_raw(datagram.pid) else { return false };
    if sender == main && (service.is_there() || process::stat(main).is_none()) {
        return true;
    }
    let mut next = Some(sender);
    // A child's child's child …
    for _ in 0..64 {
        let Some(pid) = next else { return false };
        match process::stat(pid) {
            Some(stat) if [stat.session, stat.pgrp, stat.ppid].contains(&main.raw()) => return true,
            Some(stat) => next = Pid::from_raw(stat.ppid).filter(|parent| parent.raw() > 1),
            None if pid == sender => return is_of_user(datagram.uid, main),
            None => return false,
        }
    }
    false
}

fn is_of_user(uid: u32, main: Pid) -> bool {
    let of_main = || rustix::fs::stat(format!("/proc/{main}")).is_ok_and(|st| st.st_uid == uid);
    uid == rustix::process::geteuid().as_raw() || of_main()
}

/// A socket for the service in `dir`, its name, and why that is not a path if it is not.
fn bind(dir: &OwnedFd, identity: Identity) -> Result<(OwnedFd, String, Option<String>), Errno> {
    let here = format!("/proc/self/fd/{}", dir.as_raw_fd());
    let home = rustix::fs::readlink(&here, Vec::new()).ok().and_then(|path| path.into_string().ok());
    let why = match home.map(|home| format!("{home}/{NAME}")) {
        Some(path) if path.len() > datagram::LONGEST_NAME => {
            format!("{path} is longer than {} bytes", datagram::LONGEST_NAME)
        }
        Some(path) => match bind_in(dir, &here) {
            Ok(socket) => return Ok((socket, path, None)),
            Err(e) if crate::diag::is_exhausted(e) => return Err(e),
            Err(e) => format!("unable to make {path}: {}", reason(e)),
        },
        None => "there is no /proc".to_owned(),
    };
    let world = process::pid_world()?[4];
    let name = format!("@perennial/{:x}-{:x}-{world:x}", identity.device, identity.inode);
    Ok((datagram::bind(&name)?, name, Some(why)))
}

fn is_socket(dir: &OwnedFd) -> bool {
    statat(dir, NAME, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|st| FileType::from_raw_mode(st.st_mode) == FileType::Socket)
}

fn bind_in(dir: &OwnedFd, here: &str) -> Result<OwnedFd, Errno> {
    // What is there and is no socket is somebody's.
    if is_socket(dir) {
        unlinkat(dir, NAME, AtFlags::empty())?;
    }
    let socket = datagram::bind(&format!("{here}/{NAME}"))?;
    chmodat(dir, NAME, Mode::from_raw_mode(0o666), AtFlags::empty())?;
    Ok(socket)
}
