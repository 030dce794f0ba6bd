//! What svscan and rc ask for over the socket.

use super::faults::Step;
use super::service::{Body, Service};
use super::{Goal, Host, Id, Link, Listed, Token, service};
use crate::diag::{self, Error};
use crate::ordered::Set;
use crate::process::WaitStatus;
use crate::scan::{CATCH_ALL, Identity};
use crate::servicedir;
use crate::servicedir::control::Command;
use crate::supervise::journal::{INPUT_BYTES, Source};
use crate::supervise::machine::{Event, Leave};
use crate::supervise::oneshot;
use crate::supervise::oneshot::{Oneshot, Script};
use crate::supervise::wire::{BATCH_BYTES, Finish, Outcome, Reply, Request, Standing, chunks};
use crate::sys::{Errno, clock, process, socket};
use crate::time::Mono;
use rustix::event::epoll;
use std::os::fd::OwnedFd;
use std::time::Duration;

impl Host {
    pub(super) fn on_connection(&mut self) {
        loop {
            match self.listener.as_ref().map(socket::accept) {
                Some(Ok(socket)) => self.link(socket),
                Some(Err(e)) if diag::is_exhausted(e) && e != Errno::AGAIN => return self.listen_later(e),
                _ => return self.trouble.over("accept"),
            }
        }
    }

    fn link(&mut self, socket: OwnedFd) {
        let index = match self.links.iter().position(Option::is_none) {
            Some(index) => index,
            None => {
                self.links.push(None);
                self.links.len() - 1
            }
        };
        if self.watch(&socket, Token::Link(index as u32)).is_ok() {
            self.links[index] = Some(Link::new(socket));
        }
    }

    /// Who wants to talk to us has to wait: the socket would wake us again and again.
    fn listen_later(&mut self, errno: Errno) {
        let error = Error::unable("take a connection", errno);
        self.trouble.note("accept", error, "retrying every second");
        if let Some(listener) = &self.listener {
            let _ = epoll::delete(&self.epoll, listener);
        }
        self.listen_at = Some(clock::mono().after(Duration::from_secs(1)));
    }

    /// Has svscan hand over once more what we could not take.
    pub(super) fn ask_for_hello(&mut self) {
        self.hello_at = None;
        let scanners = |(at, link): (usize, &Option<Link>)| {
            Some(at as u32).filter(|_| link.as_ref().is_some_and(|l| l.scanner))
        };
        for link in self.links.iter().enumerate().filter_map(scanners).collect::<Vec<_>>() {
            self.reply(link, &Reply::HelloAgain);
        }
    }

    /// Listens again.
    pub(super) fn listen_again(&mut self) {
        self.listen_at = None;
        if let Some(listener) = &self.listener {
            let _ = self.watch(listener, Token::Listener);
        }
    }

    pub(super) fn on_link(&mut self, n: u32, writable: bool) {
        if writable {
            self.send_unsent(n);
        }
        let mut buf = [0u8; socket::MAX_MESSAGE];
        for _ in 0..16 {
            let Some(Some(link)) = self.links.get(n as usize) else { return };
            match socket::receive(&link.socket, &mut buf) {
                Ok(message) if message.len == 0 => return self.unlink(n),
                Ok(message) => {
                    let mut fds = message.fds;
                    for request in Request::decode_all(&buf[..message.len]) {
                        match request {
                            Some(request) => self.on_request(n, request, std::mem::take(&mut fds)),
                            None => return self.unlink(n),
                        }
                    }
                }
                Err(Errno::AGAIN) => return,
                Err(_) => return self.unlink(n),
            }
        }
    }

    /// The other end is gone, or speaks another language.
    pub(super) fn unlink(&mut self, n: u32) {
        self.links[n as usize] = None;
        self.followers.retain(|(link, _)| *link != n);
        for service in self.services.iter_mut().flatten() {
            service.goals.retain(|goal| goal.link != n);
        }
    }

    /// Requests wait until we have taken over what there is: they may be about it.
    pub(super) fn on_request(&mut self, link: u32, request: Request, fds: Vec<OwnedFd>) {
        match request {
            Request::Hello => {
                if let Some(Some(link)) = self.links.get_mut(link as usize) {
                    link.scanner = true;
                }
                self.on_hello(fds);
            }
            request if self.adopted => self.obey_request(link, request),
            request => self.early.push((link, request)),
        }
    }

    /// Takes over what a predecessor left, and does what was asked for meanwhile.
    pub(super) fn adopt_once(&mut self) {
        if std::mem::replace(&mut self.adopted, true) {
            return;
        }
        self.adopt_all();
        (self.kept_directories, self.kept_sockets) = (None, None);
        for (link, request) in std::mem::take(&mut self.early) {
            if self.links.get(link as usize).is_some_and(Option::is_some) {
                self.obey_request(link, request);
            }
        }
    }

    pub(super) fn obey_request(&mut self, link: u32, request: Request) {
        match request {
            Request::Hello => {}
            Request::Begin => {
                self.links[link as usize].as_mut().expect("it spoke").listing = Some(Listed::default())
            }
            Request::End => self.end_of_list(link),
            Request::Add(names) => self.add_all(link, names),
            Request::Gone(names) => {
                for name in names {
                    self.forget_deferred(&name);
                    if let Some(id) = self.names.get(&*name).copied()
                        && let Some(service) = self.service_mut(id)
                    {
                        service.listed = false;
                    }
                }
            }
            Request::Check => self.check_everything(),
            Request::Prune(all) => {
                self.leave_unlisted(all);
                self.reply(link, &Reply::Pruned);
            }
            Request::NoRestarts => self.restart_nothing(),
            Request::Finish(how) => self.finish(how),
            Request::Upgrade => self.upgrading = true,
            Request::Ask { tag, script, limit, path } => {
                let goal = Goal { link, tag, up: script == Script::Up };
                match self.find_oneshot(&path) {
                    Some(id) => {
                        self.service_mut(id).expect("just found").goals.push(goal);
                        self.feed_oneshot(id, oneshot::Event::Ask(script, limit));
                    }
                    None => self.answer(vec![goal], Outcome::Unknown, WaitStatus::default()),
                }
            }
            Request::Cancel(path) => {
                if let Some(id) = self.names.get(&*path).copied() {
                    self.feed_oneshot(id, oneshot::Event::Cancel);
                }
            }
            Request::Forget(path) => {
                if let Some(id) = self.names.get(&*path).copied()
                    && matches!(self.service(id), Some(Service { body: Body::Oneshot(o), .. }) if o.process().is_none())
                {
                    self.let_go(id);
                }
            }
            Request::Bring { tag, up, name } => self.bring(Goal { link, tag, up }, &name),
            Request::Sync => self.reply(link, &Reply::StatesEnd),
            Request::BeginChange => self.begin_ahead(link),
            Request::After(tags, request) => self.put_ahead(link, &tags, *request),
            Request::States => self.tell_states(link),
        }
    }

    /// svscan is here, for the first time or reborn.
    pub(super) fn on_hello(&mut self, fds: Vec<OwnedFd>) {
        let mut fds = fds.into_iter();
        let (Some(keeper), Some(records)) = (fds.next(), fds.next()) else {
            // The kernel drops what it cannot give us a number for.
            let error = Error::unable("take what svscan hands over", Errno::MFILE);
            self.trouble.note("hello", error, "retrying every second");
            self.hello_at = Some(clock::mono().after(Duration::from_secs(1)));
            return;
        };
        self.trouble.over("hello");
        self.hello_at = None;
        // svscan has a copy of the one that we had: it is taken out by hand.
        if let Some(old) = self.records.take() {
            let _ = epoll::delete(&self.epoll, &old);
        }
        if self.watch(&records, Token::Records).is_ok() {
            self.records = Some(records);
        }
        self.keeper = Some(keeper);
        self.console = fds.next();
        self.adopt_once();
        self.keep_all();
    }

    pub(super) fn add_listed(&mut self, link: u32, name: String) {
        if self.finishing.is_some() {
            return;
        }
        if self.is_for_another(link, &name) {
            return;
        }
        let known = match self.deferred.contains_key(&name) {
            true => None,
            false => self.try_add(name.clone(), Duration::from_millis(250), String::new()),
        };
        if let Some(Some(Link { listing: Some(listing), .. })) = self.links.get_mut(link as usize) {
            match known {
                Some(identity) => drop(listing.supervised.insert(identity)),
                None => drop(listing.deferred.insert(name)),
            }
        }
    }

    fn forget_deferred(&mut self, name: &str) {
        if self.deferred.remove(name).is_some() {
            self.fault_over(name, Step::Open);
        }
    }

    /// rc tells the common supervisor of all services. One that is to be isolated is svscan's to give away.
    pub(super) fn is_for_another(&self, link: u32, name: &str) -> bool {
        use rustix::fs::{Access, AtFlags, accessat};
        let service = name.strip_suffix("/log").unwrap_or(name);
        !matches!(self.links.get(link as usize), Some(Some(Link { scanner: true, .. })))
            && !self.names.contains_key(name)
            && accessat(&self.base, format!("{service}/isolate"), Access::EXISTS, AtFlags::empty()).is_ok()
    }

    /// What was not on the complete list is gone from the directory.
    pub(super) fn end_of_list(&mut self, link: u32) {
        let Some(Some(Link { listing, .. })) = self.links.get_mut(link as usize) else { return };
        let Some(listing) = listing.take() else { return };
        // One that was put off may have been taken in since, or is still what had this name before: where its
        // directory cannot be opened just now, nobody knows that it is another one.
        let named: Set<Id> =
            listing.deferred.iter().filter_map(|name| self.names.get(&**name).copied()).collect();
        for id in self.ids() {
            let Some(service) = self.service_mut(id) else { continue };
            let there = listing.supervised.contains(&service.identity) || named.contains(&id);
            if matches!(service.body, Body::Longrun(_)) && !there {
                service.listed = false;
            }
        }
        let gone = self.deferred.keys().filter(|name| !listing.deferred.contains(*name));
        for name in gone.cloned().collect::<Vec<_>>() {
            self.forget_deferred(&name);
        }
        // That it has nothing to do is known from here on.
        self.busy = true;
    }

    /// Mends what somebody damaged: control FIFOs that were removed or replaced.
    pub(super) fn check_everything(&mut self) {
        for deferred in self.deferred.values_mut() {
            deferred.at = Mono::default();
        }
        for id in self.ids() {
            self.wake(id);
            let Some(service) = self.service(id) else { continue };
            let (Some(dir), Body::Longrun(longrun)) = (&service.dir, &service.body) else { continue };
            let Some(control) = &longrun.control else { continue };
            let there = rustix::fs::statat(dir, "supervise/control", rustix::fs::AtFlags::SYMLINK_NOFOLLOW)
                .map(|st| Identity { device: st.st_dev, inode: st.st_ino });
            if there == Identity::of(control) {
                continue;
            }
            match service::open_control(dir) {
                Ok(new) => {
                    service.warn("supervise/control was removed or replaced: made a new one");
                    service.admit_or_warn();
                    let _ = self.watch(&new, Token::Control(id, self.lives[id as usize]));
                    let longrun = self.service_mut(id).and_then(Service::longrun).expect("a longrun");
                    if let Some(old) = longrun.control.replace(new) {
                        self.unkeep(&old);
                    }
                    self.keep(id);
                }
                Err(e) => service.warn(e),
            }
        }
    }

    /// What it was told before counts: whether it is wanted up decides whether a logger still reads.
    fn hear_commands(&mut self, id: Id) {
        while self.on_input(id, Source::Control) == INPUT_BYTES {}
    }

    pub(super) fn leave_unlisted(&mut self, all: bool) {
        for id in self.ids() {
            let Some(service) = self.service(id).filter(|s| !s.listed) else { continue };
            let gentle = service.is_gentle() && !all;
            self.hear_commands(id);
            self.feed(id, Event::Leave(if gentle { Leave::CloseInput } else { Leave::Stop }));
        }
    }

    /// Ends all supervision. A scanner's successor asks again, and so is our successor asked; a service that
    /// was told to end is not told twice for that.
    pub(super) fn finish(&mut self, how: Finish) {
        if self.finishing.replace(how) == Some(how) {
            return;
        }
        self.deferred.clear();
        if how == Finish::Abandon {
            return;
        }
        for id in self.ids() {
            let Some(service) = self.service(id) else { continue };
            if service.adopted.is_some() && service.is_told_to_leave() {
                continue;
            }
            let gentle = service.is_gentle() && how == Finish::Stop;
            if gentle {
                self.hear_commands(id);
            }
            let Some(service) = self.service(id) else { continue };
            match service.body {
                Body::Longrun(_) if gentle => self.feed(id, Event::Leave(Leave::CloseInput)),
                Body::Longrun(_) => self.feed(id, Event::Leave(Leave::Stop)),
                Body::Oneshot(_) if service.process().is_some() => {
                    self.feed_oneshot(id, oneshot::Event::Cancel);
                }
                Body::Oneshot(_) => self.let_go(id),
            }
        }
        self.let_catch_all_end();
    }

    /// When nobody is left but the catch-all logger, it shall see the end of its input: so we say no more.
    pub(super) fn let_catch_all_end(&self) {
        let mut left = self.services.iter().flatten();
        if self.finishing.is_some() && left.all(|service| *service.name == *CATCH_ALL) {
            process::speak_to(self.console.as_ref());
        }
    }

    /// A stop of everything has begun. It comes to each service in its turn; until then one that has died, or
    /// dies, must not be started once more only to be stopped: its end is the one that counts. Not so one that
    /// reads what others write: they go on writing.
    pub(super) fn restart_nothing(&mut self) {
        self.restarts = false;
        self.journal.set_stopping(true);
        let waits = |s: &Service| matches!(&s.body, Body::Longrun(l) if !l.machine.status().is_up() && l.machine.status().want_up && !s.reads_others());
        for id in self.ids() {
            if self.service(id).is_some_and(waits) {
                self.feed(id, Event::Command(Command::OnceAtMost));
            }
        }
    }

    pub(super) fn bring(&mut self, goal: Goal, name: &str) {
        let Some(id) = self.names.get(name).copied() else {
            return self.answer(vec![goal], Outcome::Unknown, WaitStatus::default());
        };
        let command = if goal.up { Command::UpPersistent } else { Command::DownPersistent };
        let Some(service) = self.service_mut(id) else { return };
        let already = service.process().is_some() && goal.up && service.status().want_up;
        service.goals.push(goal);
        if already {
            self.mark_due(id);
        } else {
            let before = self.told(id);
            self.feed(id, Event::Command(command));
            self.note_peer(id, before, goal.link);
        }
    }

    /// The oneshot whose directory is `path`, taken in if it is new.
    pub(super) fn find_oneshot(&mut self, path: &str) -> Option<Id> {
        if let Some(id) = self.names.get(path) {
            return Some(*id);
        }
        let dir = servicedir::open(&self.base, path).ok()?;
        let identity = Identity::of(&dir).ok()?;
        let _ = rustix::fs::mkdirat(&dir, "supervise", rustix::fs::Mode::from_raw_mode(0o700));
        let slot = self.journal.take(identity, path).ok()?;
        let now = clock::now();
        let body = Body::Oneshot(Oneshot::new(now));
        let service = Service::new(path, Some(dir), identity, slot, body, now.mono);
        service.remember(&self.journal);
        Some(self.insert(service))
    }

    fn tell_states(&mut self, link: u32) {
        let states: Vec<(String, Standing)> = self
            .ids()
            .into_iter()
            .filter_map(|id| self.service(id).map(|s| (s.name.to_string(), s.standing())))
            .collect();
        for part in chunks(states, |(name, _)| name.len()) {
            self.reply(link, &Reply::States(part));
        }
        self.reply(link, &Reply::StatesEnd);
    }

    /// Answers, before this turn is over. What the other end is too slow to read waits in line; it is not
    /// lost.
    pub(super) fn reply(&mut self, link: u32, reply: &Reply) {
        let Some(Some(l)) = self.links.get_mut(link as usize) else { return };
        let message = reply.encode();
        match l.unsent.back_mut().filter(|_| !l.awaits_room) {
            Some(last) if last.len() + message.len() < BATCH_BYTES => Reply::gather(last, &message),
            _ => l.unsent.push_back(message),
        }
        self.replied = true;
    }

    /// Sends what was answered in this turn.
    pub(super) fn send_replies(&mut self) {
        if std::mem::take(&mut self.replied) {
            (0..self.links.len() as u32).for_each(|link| self.send_unsent(link));
        }
    }

    fn send_unsent(&mut self, n: u32) {
        let Some(Some(link)) = self.links.get_mut(n as usize) else { return };
        if link.unsent.is_empty() && !link.awaits_room {
            return;
        }
        while let Some(message) = link.unsent.front() {
            match socket::send(&link.socket, message, &[]) {
                Ok(()) => link.unsent.pop_front(),
                Err(Errno::AGAIN | Errno::NOBUFS) => break,
                Err(_) => return self.unlink(n),
            };
        }
        let waiting = !link.unsent.is_empty();
        if waiting != link.awaits_room {
            link.awaits_room = waiting;
            let room = if waiting { epoll::EventFlags::OUT } else { epoll::EventFlags::empty() };
            let flags = epoll::EventFlags::IN | room;
            let _ = epoll::modify(&self.epoll, &link.socket, Token::Link(n).pack(), flags);
        }
    }
}
