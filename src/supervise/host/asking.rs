//! Asking a program about a service: `condition`, `validate`. See [`crate::supervise::extra`] for what is asked
//! when, and what is remembered of it.
//!
//! Who is asked runs as `run` would: in its directory, as its user, in its environment. What it writes, on either
//! output, is kept in its last lines: they are the reason when it says no.

use super::forking::Seek;
use super::launch::{self, Failure};
use super::notified::Hearing;
use super::outfit::Outfit;
use super::service::{Body, Service};
use super::{Host, Id, Token};
use crate::diag::reason;
use crate::process::{End, Pid, Signal, WaitStatus};
use crate::servicedir;
use crate::servicedir::control::Command;
use crate::servicedir::feature::Features;
use crate::supervise::extra::{Ask, Asking, Extra, Guard};
use crate::supervise::journal::{Journal, SlotId};
use crate::supervise::machine::{Event, Job, State};
use crate::sys::signal::Target;
use crate::sys::spawn::{CArray, Spawn};
use crate::sys::{Errno, clock, process, signal};
use crate::time::{Mono, Now};
use rustix::fs::AtFlags;
use rustix::pipe::{PipeFlags, pipe_with};
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};

/// The memory of a service with features, and who is asked just now.
pub(super) struct Aux {
    pub(super) slot: SlotId,
    pub(super) mind: Extra,
    /// What comes from who is asked.
    output: Option<OwnedFd>,
    /// The last of it.
    tail: Vec<u8>,
    /// Why `validate` refused.
    pub(super) reason: Option<String>,
    /// Why `health` said no the last time.
    pub(super) unwell: Option<String>,
    /// Run has put itself in the background, and who remains is looked for.
    pub(super) seek: Option<Seek>,
    /// What it says of itself, with `notify-socket`.
    pub(super) hearing: Option<Box<Hearing>>,
    /// Whoever descends from run cannot be told by a brand.
    pub(super) unbranded: bool,
}

/// So much of what who is asked writes is kept, in bytes.
const TAIL: usize = 2048;

/// The longest reason that is shown, in bytes.
const LONGEST_REASON: usize = 240;

/// Where the reason survives us: text does not fit the journal.
const REASON: &str = "supervise/refused";

impl Aux {
    fn new(slot: SlotId, mind: Extra) -> Aux {
        Aux {
            slot,
            mind,
            output: None,
            tail: Vec::new(),
            reason: None,
            unwell: None,
            seek: None,
            hearing: None,
            unbranded: false,
        }
    }

    /// When something must be done.
    pub(super) fn deadline(&self) -> Option<Mono> {
        let sign = self.hearing.as_ref().and_then(|hearing| hearing.notes.watchdog_at);
        [self.mind.deadline(), self.seek.as_ref().map(|seek| seek.at), sign].into_iter().flatten().min()
    }

    pub(super) fn remember(&self, journal: &Journal) {
        journal.remember_extra(self.slot, &self.mind.save());
    }

    /// What it is that its machine does not know, for `supervise/state`.
    pub(super) fn mode(&self) -> Option<String> {
        let mode = match () {
            () if self.mind.asking.is_some_and(|asking| asking.is_for_start()) => "asking",
            () if self.mind.skipped => "skipped",
            () if self.mind.gave_up => "gave-up",
            () if self.mind.fallback => "fallback",
            () if self.hearing.as_ref().is_some_and(|h| h.notes.stopping) => "stopping",
            () if self.hearing.as_ref().is_some_and(|h| h.notes.reloading) => "reloading",
            () => return None,
        };
        Some(mode.to_owned())
    }

    /// Takes in what has come.
    fn read(&mut self) {
        let Some(output) = &self.output else { return };
        let mut buf = [0u8; 1024];
        // One that writes for ever is not read for ever.
        for _ in 0..256 {
            match rustix::io::read(output, &mut buf) {
                Ok(0) | Err(_) => return,
                Ok(n) => {
                    self.tail.extend_from_slice(&buf[..n]);
                    let more = self.tail.len().saturating_sub(TAIL);
                    self.tail.drain(..more);
                }
            }
        }
    }

    /// The last line that is not empty.
    fn last_line(&self) -> Option<String> {
        let text = String::from_utf8_lossy(&self.tail);
        let line = text.lines().rev().map(str::trim).find(|line| !line.is_empty())?;
        let shown: String = line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let end = (0..=LONGEST_REASON.min(shown.len())).rev().find(|at| shown.is_char_boundary(*at));
        Some(shown[..end.unwrap_or(0)].to_owned())
    }
}

impl Service {
    /// What files of ours say.
    pub(super) fn features(&self) -> Option<&Features> {
        let Body::Longrun(longrun) = &self.body else { return None };
        longrun.reader.last().features.as_deref()
    }

    fn name_of_ask(ask: Ask) -> &'static CStr {
        match ask {
            Ask::Check => c"./check",
            Ask::Health => c"./health",
            Ask::Condition => c"./condition",
            Ask::Start | Ask::Restart(_) | Ask::Only => c"./validate",
        }
    }
}

impl Host {
    /// The memory of a service, made now if its files need one.
    pub(super) fn aux(&mut self, id: Id) -> Option<&mut Aux> {
        let service = self.services.get_mut(id as usize)?.as_deref_mut()?;
        if service.extra.is_none() && service.features().is_some_and(Features::need_memory) {
            let mind = Extra::default();
            match self.journal.take_extra(service.slot, &mind.save()) {
                Ok(slot) => service.extra = Some(Box::new(Aux::new(slot, mind))),
                Err(e) => service.warn(format_args!("unable to extend the journal: {}", reason(e))),
            }
        }
        service.extra.as_deref_mut()
    }

    pub(super) fn remember_aux(&self, id: Id) {
        if let Some(aux) = self.service(id).and_then(|s| s.extra.as_ref()) {
            aux.remember(&self.journal);
        }
    }

    // ------------------------------------------------------------------------------------ before a start

    /// What has to be asked before run is started. None: nothing. Else the answer to the question for a start, or
    /// no answer yet.
    pub(super) fn gate(&mut self, id: Id) -> Option<Option<Event>> {
        let service = self.service(id)?;
        let Body::Longrun(longrun) = &service.body else { return None };
        let features = service.features()?;
        if !(features.condition || features.validate) || longrun.reader.last().faulty.is_some() {
            self.forget_mode(id);
            return None;
        }
        let conditional = features.condition;
        if self.service(id)?.missing_at.is_some() {
            return None;
        }
        let aux = self.aux(id)?;
        if aux.mind.asking.is_some_and(|asking| asking.is_for_start() && asking.process.is_some()) {
            return Some(None);
        }
        (aux.mind.skipped, aux.mind.fallback) = (false, false);
        let forced = aux.mind.force_start;
        self.cancel(id);
        match (conditional, forced) {
            (true, _) => Some(self.ask_before_start(id, Ask::Condition)),
            (false, false) => Some(self.ask_before_start(id, Ask::Start)),
            (false, true) => None,
        }
    }

    /// It is about to be started like any other.
    fn forget_mode(&mut self, id: Id) {
        if let Some(aux) = self.service_mut(id).and_then(|s| s.extra.as_mut()) {
            (aux.mind.skipped, aux.mind.fallback) = (false, false);
            self.remember_aux(id);
        }
    }

    /// Run has been started: nobody has given up on it.
    pub(super) fn note_start(&mut self, id: Id) {
        if let Some(aux) = self.service_mut(id).and_then(|s| s.extra.as_mut())
            && (aux.mind.gave_up || aux.mind.force_start)
        {
            (aux.mind.gave_up, aux.mind.force_start) = (false, false);
            self.remember_aux(id);
        }
    }

    fn ask_before_start(&mut self, id: Id, ask: Ask) -> Option<Event> {
        match self.ask(id, Asking::new(ask, None)) {
            Ok(()) => None,
            Err(failure) if ask == Ask::Start && !failure.temporary => Some(self.invalid(id, failure.text)),
            Err(failure) => {
                let temporary = failure.temporary;
                self.note_failure(id, Job::Run, failure);
                Some(Event::NotStarted { temporary })
            }
        }
    }

    /// `validate` said no before a start: `fallback` is started, if there is one.
    fn invalid(&mut self, id: Id, why: String) -> Event {
        self.refuse(id, &why);
        let has_fallback = self.service(id).and_then(Service::features).is_some_and(|f| f.fallback);
        if let (true, Some(aux)) = (has_fallback, self.aux(id)) {
            aux.mind.fallback = true;
            self.remember_aux(id);
            if let Some(service) = self.service(id) {
                service.warn(format_args!("validate failed: {why}: starting fallback"));
            }
            return self.start_now(id, Job::Run);
        }
        let text = format!("validate failed: {why}");
        self.note_failure(id, Job::Run, Failure { temporary: false, text, errno: None });
        Event::NotStarted { temporary: false }
    }

    // ------------------------------------------------------------------------------------ before a command

    /// Looks at a command before the machine does. True: it need not, or not yet.
    pub(super) fn guard(&mut self, id: Id, command: Command) -> bool {
        self.wake(id);
        if let Some(service) = self.service_mut(id) {
            service.read_definition();
        }
        let Some(service) = self.service(id) else { return false };
        let Body::Longrun(longrun) = &service.body else { return false };
        let machine = &longrun.machine;
        let is_up = matches!(machine.state(), State::Up { .. });
        let (process, wanted) = (machine.process(), machine.status().want_up);
        let validates = service.features().is_some_and(|f| f.validate);
        let restarts = process.filter(|_| is_up && wanted);
        let guard = match self.aux(id) {
            Some(aux) => aux.mind.guard(command, validates, restarts),
            None => Extra::default().guard(command, validates, restarts),
        };
        match guard {
            Guard::Obey => self.remember_aux(id),
            Guard::Force => {
                self.cancel(id);
                self.remember_aux(id);
            }
            Guard::Ask(asking) => self.ask_again_or_refuse(id, asking),
            Guard::Yes => self.tell_verdict(id, true),
            Guard::Noted => self.remember_aux(id),
        }
        !matches!(guard, Guard::Obey | Guard::Force)
    }

    /// Asks, in place of whatever was being asked.
    fn ask_again_or_refuse(&mut self, id: Id, asking: Asking) {
        if self
            .aux(id)
            .is_some_and(|aux| aux.mind.asking.is_some_and(|a| a.is_for_start() && a.process.is_some()))
        {
            // It is being asked already, and the answer counts for this too.
            return;
        }
        self.cancel(id);
        if let Err(failure) = self.ask(id, asking) {
            self.refused(id, asking, failure.text);
        }
    }

    /// A running service is not restarted, or a mere question has its answer.
    fn refused(&mut self, id: Id, asking: Asking, why: String) {
        if let (Some(service), Ask::Restart(_)) = (self.service(id), asking.ask) {
            service.warn(format_args!("validate failed: {why}: not restarted"));
        }
        self.refuse(id, &why);
        self.tell_verdict(id, false);
    }

    /// Takes note of why `validate` said no.
    fn refuse(&mut self, id: Id, why: &str) {
        self.wake(id);
        let now = clock::now();
        let Some(service) = self.service_mut(id) else { return };
        if let Some(dir) = &service.dir {
            let _ = servicedir::replace(dir, REASON, "supervise/refused.new", why.as_bytes());
        }
        service.status_due = true;
        if let Some(aux) = self.aux(id) {
            aux.reason = Some(why.to_owned());
            aux.mind.refused = Some(now.into());
        }
        self.remember_aux(id);
        self.mark_due(id);
    }

    /// `validate` said yes: an earlier no is history.
    fn accept(&mut self, id: Id) {
        self.wake(id);
        let Some(service) = self.service_mut(id) else { return };
        let Some(aux) = &mut service.extra else { return };
        if aux.mind.refused.take().is_some() {
            aux.reason = None;
            service.status_due = true;
            self.remember_aux(id);
            if let Some(dir) = self.service(id).and_then(|s| s.dir.as_ref()) {
                let _ = rustix::fs::unlinkat(dir, REASON, AtFlags::empty());
            }
            self.mark_due(id);
        }
    }

    /// Whoever waits for what `validate` says hears `v` or `V`.
    fn tell_verdict(&mut self, id: Id, good: bool) {
        let Some(service) = self.service_mut(id) else { return };
        service.events.push(if good { b"v" } else { b"V" });
        service.status_due = true;
        if let Some(service) = self.service(id) {
            service.remember(&self.journal);
        }
        self.mark_due(id);
    }

    // ------------------------------------------------------------------------------------ who is asked

    /// Starts who is to be asked.
    pub(super) fn ask(&mut self, id: Id, mut asking: Asking) -> Result<(), Failure> {
        self.wake(id);
        let token = Token::Output(id, self.lives[id as usize]);
        let (blocked, now) = (self.blocked, clock::mono());
        let service = self.services[id as usize].as_deref_mut().ok_or_else(launch::directory_gone)?;
        let features = service.features().cloned().unwrap_or_default();
        let Some(aux) = service.extra.as_deref_mut() else { return Err(launch::directory_gone()) };
        let dir = service.dir.as_ref().ok_or_else(launch::directory_gone)?;
        // A successor shall know what was to be asked, from before there is anybody.
        aux.mind.asking = Some(asking);
        aux.remember(&self.journal);
        aux.tail.clear();
        let program = Service::name_of_ask(asking.ask);
        let launched = Outfit::of(&features, dir, None, None).and_then(|outfit| {
            let (reader, writer) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)
                .map_err(|e| launch::failed("make a pipe", e))?;
            // Only we must not wait.
            let _ = rustix::io::ioctl_fionbio(&writer, false);
            let name = CString::new(&*service.name).expect("names come from the file system");
            let (argv, programs) = (CArray::new(vec![program.to_owned(), name]), [program.to_owned()]);
            let fds = [(writer.as_fd(), 1), (writer.as_fd(), 2)];
            let (cell, boot) = self.journal.birth(aux.slot);
            let spawn = Spawn {
                dir: Some(dir.as_fd()),
                fds: &fds,
                new_session: true,
                record: Some(cell),
                env: outfit.environment.as_ref(),
                attributes: outfit.attributes.as_ref(),
                ..Spawn::new(&programs, &argv)
            };
            let file = program.to_str().unwrap_or_default().trim_start_matches("./");
            let started = launch::or_by_interpreter(spawn.start(blocked), dir, file, &spawn, blocked);
            let pid = started.map_err(|e| launch::explain(dir, file, e))?;
            Ok((pid, launch::time_of_birth(pid, boot), reader))
        });
        match launched {
            Ok((pid, boot, reader)) => {
                asking.process = Some((pid, boot));
                asking.until = Some(now.after(asking.limit(&features)));
                aux.mind.asking = Some(asking);
                aux.remember(&self.journal);
                aux.output = Some(reader);
                self.by_pid.insert(pid, id);
                if let Some(output) = self.service(id).and_then(|s| s.extra.as_ref()?.output.as_ref()) {
                    let _ = self.watch(output, token);
                }
                self.set_timer(id);
                Ok(())
            }
            Err(failure) => {
                aux.mind.asking = None;
                aux.remember(&self.journal);
                Err(failure)
            }
        }
    }

    /// Something was written by who is asked.
    pub(super) fn on_output(&mut self, id: Id, over: bool) {
        let Some(aux) = self.service_mut(id).and_then(|s| s.extra.as_mut()) else { return };
        aux.read();
        if over {
            aux.output = None;
        }
    }

    /// Somebody died who was not run: if that was who is asked, the answer is there.
    pub(super) fn ask_ended(&mut self, id: Id, pid: Pid, status: WaitStatus) -> bool {
        let Some(aux) = self.service_mut(id).and_then(|s| s.extra.as_mut()) else { return false };
        let is_it = |asking: &Asking| asking.process.is_some_and(|(p, _)| p == pid);
        let Some(asking) = aux.mind.asking.filter(is_it) else { return false };
        aux.read();
        aux.output = None;
        let good = status.end() == End::Exit(0) && !asking.overdue;
        let limit = self.service(id).and_then(Service::features).map_or(0, |f| asking.limit(f).as_millis());
        let line = self.service(id).and_then(|s| s.extra.as_ref()?.last_line());
        let why = match line {
            _ if asking.overdue => format!("no answer within {limit} ms"),
            Some(line) => line,
            None => status.to_string(),
        };
        match asking.ask {
            Ask::Condition => self.condition_ended(id, asking, status, why),
            Ask::Start => {
                self.forget_asking(id);
                let answer = match good {
                    true => {
                        self.accept(id);
                        self.start_now(id, Job::Run)
                    }
                    false => self.invalid(id, why),
                };
                self.feed(id, answer);
            }
            Ask::Restart(_) => {
                if good {
                    self.accept(id);
                    let process = self.service(id).and_then(Service::process);
                    if let Some(command) = asking.permits(good, process) {
                        self.feed(id, Event::Command(command));
                    }
                } else {
                    self.refused(id, asking, why);
                }
                self.forget_asking(id);
            }
            Ask::Check | Ask::Health => {
                self.forget_asking(id);
                self.answered(id, asking.ask, good, why);
            }
            Ask::Only => {
                match good {
                    true => {
                        self.accept(id);
                        self.tell_verdict(id, true);
                    }
                    false => self.refused(id, asking, why),
                }
                self.forget_asking(id);
            }
        }
        self.set_timer(id);
        true
    }

    fn condition_ended(&mut self, id: Id, asking: Asking, status: WaitStatus, why: String) {
        self.forget_asking(id);
        let forced = self.aux(id).is_some_and(|aux| aux.mind.force_start);
        let validates = !forced && self.service(id).and_then(Service::features).is_some_and(|f| f.validate);
        let answer = match status.end() {
            _ if asking.overdue => Err(why),
            End::Exit(0) if validates => Ok(self.ask_before_start(id, Ask::Start)),
            End::Exit(0) => Ok(Some(self.start_now(id, Job::Run))),
            End::Exit(_) => {
                if let Some(aux) = self.aux(id) {
                    aux.mind.skipped = true;
                }
                self.remember_aux(id);
                Ok(Some(Event::Skipped))
            }
            End::Signal(_) => Err(status.to_string()),
        };
        let answer = answer.unwrap_or_else(|why| {
            let text = format!("unable to start run: condition: {why}");
            self.note_failure(id, Job::Run, Failure { temporary: false, text, errno: None });
            Some(Event::NotStarted { temporary: false })
        });
        if let Some(answer) = answer {
            self.feed(id, answer);
        }
    }

    fn forget_asking(&mut self, id: Id) {
        if let Some(aux) = self.service_mut(id).and_then(|s| s.extra.as_mut()) {
            aux.mind.asking = None;
        }
        self.remember_aux(id);
    }

    /// Nobody wants to know any more.
    pub(super) fn cancel(&mut self, id: Id) {
        let Some(aux) = self.service_mut(id).and_then(|s| s.extra.as_mut()) else { return };
        let Some(asking) = aux.mind.asking.take() else { return };
        aux.output = None;
        // What is asked again and again is asked as soon as there is nothing else to ask.
        match asking.ask {
            Ask::Check => aux.mind.check_at = Some(clock::mono()),
            Ask::Health => aux.mind.health_at = Some(clock::mono()),
            Ask::Condition | Ask::Start | Ask::Restart(_) | Ask::Only => {}
        }
        if let Some((pid, _)) = asking.process {
            kill(pid);
            self.forget_pid(id, pid);
        }
        self.remember_aux(id);
        self.set_timer(id);
    }

    /// A start that is not wanted any more needs no answer, nor does the restart of what has ended.
    pub(super) fn cancel_if_vain(&mut self, id: Id) {
        let Some(service) = self.service(id) else { return };
        let (Some(aux), Body::Longrun(longrun)) = (&service.extra, &service.body) else { return };
        let machine = &longrun.machine;
        let is_vain =
            |asking: Asking| asking.is_vain(machine.starting() == Some(Job::Run), machine.process());
        if aux.mind.asking.is_some_and(is_vain) {
            self.cancel(id);
        }
    }

    /// Who is asked takes too long: killed, with all that it started.
    pub(super) fn ask_overdue(&mut self, id: Id, now: Mono) {
        let Some(aux) = self.service_mut(id).and_then(|s| s.extra.as_mut()) else { return };
        if aux.mind.answer_until().is_some_and(|at| at <= now)
            && let Some(asking) = &mut aux.mind.asking
        {
            asking.overdue = true;
            if let Some((pid, _)) = asking.process {
                kill(pid);
            }
            self.remember_aux(id);
        }
    }

    // ------------------------------------------------------------------------------------ takeover

    /// What a predecessor remembered, and the end of whoever it asked.
    pub(super) fn adopt_aux(&mut self, id: Id) {
        let Some(service) = self.service_mut(id) else { return };
        let slot = service.slot;
        let Some(extra) = self.journal.extra(slot) else { return };
        let mut aux = Aux::new(extra, Extra::load(&self.journal.recall_extra(extra)));
        let born = self.journal.unfinished_birth(extra).and_then(|birth| {
            let pid = birth.pid?;
            Some((pid, launch::time_of_birth(pid, birth.boot)))
        });
        let known = aux.mind.asking.and_then(|asking| asking.process);
        for (pid, boot) in [born, known].into_iter().flatten() {
            if process::stat(pid).is_some_and(|stat| process::same_birth(boot, stat.start)) {
                kill(pid);
            }
        }
        if let Some(asking) = &mut aux.mind.asking {
            *asking = Asking::new(asking.ask, asking.target);
        }
        aux.remember(&self.journal);
        let Some(service) = self.service_mut(id) else { return };
        if let (Some(dir), true) = (&service.dir, aux.mind.refused.is_some()) {
            let text = servicedir::read_file(dir, REASON).unwrap_or_default();
            aux.reason = Some(String::from_utf8_lossy(&text).into_owned());
        }
        service.extra = Some(Box::new(aux));
        self.take_ears_over(id);
    }

    /// Asks again what a predecessor asked. What is asked before a start is asked with the start.
    pub(super) fn ask_once_more(&mut self, id: Id) {
        let Some(aux) = self.service_mut(id).and_then(|s| s.extra.as_mut()) else { return };
        let Some(asking) = aux.mind.asking.filter(|asking| asking.process.is_none()) else { return };
        self.cancel_if_vain(id);
        if matches!(asking.ask, Ask::Check | Ask::Health) {
            self.cancel(id);
            return self.settle_clocks(id);
        }
        if asking.is_for_start() || self.service(id).and_then(|s| s.extra.as_ref()?.mind.asking).is_none() {
            return;
        }
        self.ask_again_or_refuse(id, asking);
    }

    pub(super) fn clock_set_for_aux(&mut self, id: Id, now: Now) {
        if let Some(aux) = self.service_mut(id).and_then(|s| s.extra.as_mut()) {
            aux.mind.clock_set(now);
        }
        self.remember_aux(id);
    }
}

/// Kills somebody who is asked, and its session: it is a leader.
fn kill(pid: Pid) {
    if let Err(Errno::SRCH) = signal::send(Target::Group(pid), Signal::KILL) {
        let _ = signal::send(Target::Process(pid), Signal::KILL);
    }
}
