//! What the children of pid 1 do: bring services up, take them down.

use super::phase::{IfBootFails, boot_code};
use super::{legacy, overlay, place, settings};
use crate::diag::{self, Error, Level, Result, Unable, code};
use crate::glob;
use crate::ordered::Set;
use crate::ordered::{set, sorted};
use crate::process::{End as How, Signal};
use crate::rc::engine::{End, Engine, Options, Progress, Report};
use crate::rc::graph::{Graph, Index};
use crate::rc::live::{self, Busy, Live, Origin};
use crate::rc::source::{self, Definitions, Findings};
use crate::report::{count, took};
use crate::servicedir::definition::parse_uint;
use crate::servicedir::{self, status::Status};
use crate::supervise::wire::Standing;
use crate::sys::signal::{self, Blocked, SignalFd};
use crate::sys::spawn::{CArray, Spawn, candidates};
use crate::sys::{clock, env, process, wait};
use crate::time::Mono;
use std::ffi::CString;
use std::time::Duration;

/// The name in which services are told of, in the words that people look for in logs.
const SPEAKER: &str = "s6-rc";

/// What a boot is made of.
#[derive(Clone, Debug)]
pub struct Boot {
    /// Source directories; none: those of the image.
    pub sources: Vec<String>,
    /// How much is said, as S6_VERBOSITY.
    pub verbosity: u8,
    /// `S6_STAGE2_HOOK`, run first.
    pub hook: Option<Vec<u8>>,
    /// `S6_CMD_WAIT_FOR_SERVICES_MAXTIME`: the time for all of it.
    pub limit: Option<Duration>,
    /// What it means if it fails.
    pub if_it_fails: IfBootFails,
}

impl Boot {
    /// As the variables say that are set now.
    pub fn now(sources: Vec<String>) -> Boot {
        Boot {
            sources,
            verbosity: settings::verbosity(),
            hook: settings::bytes("S6_STAGE2_HOOK"),
            limit: settings::millis("S6_CMD_WAIT_FOR_SERVICES_MAXTIME").filter(|limit| !limit.is_zero()),
            if_it_fails: settings::if_boot_fails(),
        }
    }

    /// Brings up what is defined. The exit code is one of [`boot_code`], or the hook's.
    pub fn up(self, blocked: Blocked) -> u8 {
        match self.try_up(blocked) {
            Ok(code) => code,
            Err(e) => {
                diag::say(Level::Fatal, &e);
                boot_code::REFUSED
            }
        }
    }

    fn try_up(mut self, blocked: Blocked) -> Result<u8> {
        let began = clock::mono();
        if self.hook.is_some() {
            if let Some(code) = self.run_hook(blocked)? {
                return Ok(code);
            }
            // It may have written to the environment store.
            self = Boot::now(self.sources);
        }
        let Some((live, is_new)) = self.define()? else { return Ok(boot_code::REFUSED) };
        let names = live.link()?;
        let _lock = live.lock(Busy::Wait)?;
        let mut engine = if is_new { Engine::of_new(&live)? } else { Engine::new(&live)? };
        engine.add(names)?;
        let selection = match live.graph.bundles.get(overlay::TOP) {
            Some(top) if self.sources.is_empty() => top.iter().copied().collect(),
            _ => (0..live.graph.services.len()).collect(),
        };
        let options = Options { deadline: self.limit.map(|limit| began.after(limit)), ..Options::default() };
        let signals = SignalFd::open(blocked).unable("create a signal descriptor")?;
        signal::forbid(END_BOOT);
        let report = self.change(&mut engine, &live, &selection, true, options, &signals)?;
        let shown = live.graph.shown().filter(|i| selection.contains(i)).count();
        if self.verbosity >= 2 && report.code() == 0 && shown > 0 {
            let time = took(clock::mono().since(began));
            diag::info(format_args!("{} up in {time}", count(shown, "service")));
        }
        self.say_failed(&report, &live.graph);
        Ok(report.code())
    }

    /// What a boot that failed means for the container, where that is not to stop: pid 1 says that.
    fn say_failed(&self, report: &Report, graph: &Graph) {
        let quiet = self.verbosity == 0 && self.if_it_fails == IfBootFails::GoOn;
        if report.code() == 0 || report.interrupted || quiet || self.if_it_fails == IfBootFails::Stop {
            return;
        }
        let down: Vec<&str> = report
            .failed
            .iter()
            .map(|(i, _)| *i)
            .chain(report.under_way.iter().chain(&report.skipped).copied())
            .filter(|i| !graph.services[*i].hidden)
            .map(|i| graph.name(i))
            .collect();
        diag::warn(format_args!(
            "the boot failed, and the container goes on without: {} (S6_BEHAVIOUR_IF_STAGE2_FAILS=2 would stop it)",
            down.join(" ")
        ));
    }

    /// Runs the hook. `Some`: its failure ends the container with this code.
    fn run_hook(&self, blocked: Blocked) -> Result<Option<u8>> {
        let Some(hook) = &self.hook else { return Ok(None) };
        let words = glob::words(hook).into_iter().filter_map(|word| CString::new(word).ok());
        let words: Vec<CString> = words.collect();
        let hook = String::from_utf8_lossy(hook);
        let Some(program) = words.first().cloned() else { return Ok(None) };
        let path = env::get("PATH").map_or(&b"/bin"[..], |p| p.as_encoded_bytes());
        let (programs, argv) = (candidates(&program, path), CArray::new(words));
        let ended = match Spawn::new(&programs, &argv).start(blocked) {
            Ok(pid) => wait::reap_pid(pid).map_or(code::SYSTEM, |(_, status)| match status.end() {
                How::Exit(code) => code,
                How::Signal(signal) => 128 + signal.0,
            }),
            Err(e) => {
                diag::warn(Error::unable(format_args!("execute hook {hook}"), e.errno));
                code::NOT_FOUND
            }
        };
        if ended != 0 && self.verbosity >= 1 {
            diag::warn(format_args!("hook {hook} exited {ended}"));
        }
        Ok(Some(ended).filter(|code| *code != 0 && self.if_it_fails == IfBootFails::Stop))
    }

    /// Reads the definitions and makes the live directory (`true`); or, after a boot that was killed, finds it made.
    fn define(&self) -> Result<Option<(Live, bool)>> {
        if let Ok(live) = Live::open(&place::live()) {
            return Ok(Some((live, false)));
        }
        let mut findings = Findings::default();
        let (sources, roots) = match self.sources.is_empty() {
            true => (overlay::sources(""), &[overlay::TOP][..]),
            false => (self.sources.clone(), &[][..]),
        };
        let definitions = source::read(&sources, overlay::built_in(""), roots, &mut findings);
        let graph = Graph::build(&definitions, &mut findings);
        if self.verbosity >= 2 {
            findings.warnings.iter().for_each(diag::warn);
        }
        findings.errors.iter().for_each(|e| diag::say(Level::Fatal, e));
        if !findings.errors.is_empty() {
            let errors = count(findings.errors.len(), "error");
            diag::say(Level::Fatal, format_args!("{errors} in the service definitions: nothing is started"));
            return Ok(None);
        }
        let live = live::create(&place::live(), &place::scandir(), "", &definitions, graph)?;
        let top = self.sources.is_empty().then(|| overlay::TOP.to_owned());
        live.note_origin(&Origin { top, sources: self.sources.clone(), compiled: None })?;
        note_stop_time(&definitions);
        Ok(Some((live, true)))
    }

    /// Takes everything down, essential or not.
    pub fn down(&self, deadline: Mono, blocked: Blocked) -> u8 {
        match self.try_down(deadline, blocked) {
            Ok(code) => code,
            Err(e) => {
                diag::warn(&e);
                boot_code::FAILED
            }
        }
    }

    fn try_down(&self, deadline: Mono, blocked: Blocked) -> Result<u8> {
        // Nothing was defined, so nothing is up.
        let Ok(live) = Live::open(&place::live()) else { return Ok(code::OK) };
        let _lock = live.lock(Busy::Interrupt)?;
        let mut engine = Engine::new(&live)?;
        engine.restart_nothing()?;
        let up = |i: &Index| engine.states()[*i] != Standing::Down;
        let selection: Set<Index> = set((0..live.graph.services.len()).filter(up));
        let options =
            Options { deadline: Some(deadline), even_essential: true, by_force: true, ..Options::default() };
        let signals = SignalFd::open(blocked).unable("create a signal descriptor")?;
        let report = self.change(&mut engine, &live, &selection, false, options, &signals)?;
        Ok(report.code())
    }

    fn change(
        &self,
        engine: &mut Engine<'_>,
        live: &Live,
        selection: &Set<Index>,
        up: bool,
        options: Options,
        signals: &SignalFd,
    ) -> Result<Report> {
        let mut told = Told { verbosity: self.verbosity, live, slow: Vec::new() };
        let began = clock::mono();
        let report = engine.change(selection, up, options, Some(signals), &mut told)?;
        let slow = told.slowest();
        if self.verbosity >= 2 && !up && report.code() == 0 && !slow.is_empty() {
            let time = took(clock::mono().since(began));
            let text = format!("services stopped in {time}; what took longest: {slow}");
            diag::say_as(SPEAKER, Level::Info, text);
        }
        let what = if up { "started" } else { "stopped" };
        // What was under way has been named already.
        if !report.skipped.is_empty() && !report.interrupted && self.verbosity >= 1 {
            let why = if report.timed_out { "the time is up" } else { "because of that" };
            let skipped: Vec<&str> = report.skipped.iter().map(|i| live.graph.name(*i)).collect();
            let skipped = skipped.join(" ");
            diag::say_as(SPEAKER, Level::Warning, format_args!("{why}: not {what}: {skipped}"));
        }
        Ok(report)
    }
}

/// Services that say themselves how long they may take to stop get that much, one after the other at worst:
/// pid 1 will ask.
fn note_stop_time(definitions: &Definitions) {
    let files = definitions.values().flat_map(|d| &d.files).filter(|(file, _)| file == "timeout-kill");
    let read = |(_, path): &(String, String)| servicedir::read_file(rustix::fs::CWD, path.as_str()).ok();
    let millis: u64 = files.filter_map(read).filter_map(|text| parse_uint(&text)).map(u64::from).sum();
    if millis > 0 {
        place::note_stop_time(Duration::from_millis(millis));
    }
}

/// Whether a signal means that a boot shall end.
pub const END_BOOT: Signal = Signal::TERM;

/// Says what happens to services.
struct Told<'a> {
    verbosity: u8,
    live: &'a Live,
    /// What took so long that somebody may ask why.
    slow: Vec<(Duration, String)>,
}

/// A stop that takes less is not worth a question.
const SLOW: Duration = Duration::from_millis(200);

impl Told<'_> {
    /// What took longest.
    fn slowest(&mut self) -> String {
        self.slow = sorted(std::mem::take(&mut self.slow));
        let shown = self.slow.iter().rev().take(3).map(|(time, name)| format!("{name} ({})", took(*time)));
        shown.collect::<Vec<_>>().join(", ")
    }

    /// Why a service that shall stop is still there, as far as can be seen, and what helps.
    fn culprit(&self, name: &str) -> String {
        let Some(index) = self.live.graph.index(name) else { return String::new() };
        let longrun = self.live.graph.services[index].longrun;
        let dir = match longrun {
            true => format!("{}/servicedirs/{name}", self.live.path),
            false => self.live.oneshot(index),
        };
        let status = servicedir::read_file(rustix::fs::CWD, format!("{dir}/supervise/status"));
        let Some(status) = status.ok().and_then(|s| Status::unpack(&s)) else { return String::new() };
        let Some(pid) = status.pid else { return String::new() };
        let limit = match (longrun, status.finishing) {
            (false, _) => "timeout-down",
            (true, true) => "timeout-finish",
            (true, false) => "timeout-kill",
        };
        format!(": {} does not end (a file {limit}, in milliseconds, limits that)", process::shown(pid))
    }
}

impl Progress for Told<'_> {
    fn begins(&mut self, name: &str, up: bool) {
        if self.verbosity >= 2 {
            let what = if up { "starting" } else { "stopping" };
            diag::say_as(SPEAKER, Level::Info, format_args!("service {name}: {what}"));
        }
    }

    fn is_forced(&mut self, name: &str, duration: Duration) {
        if self.verbosity >= 1 {
            let (who, time) = (self.culprit(name), took(duration));
            let text = format!("unable to stop service {name}: timed out ({time}){who}: killing it");
            diag::say_as(SPEAKER, Level::Warning, text);
        }
    }

    fn may_wake(&self, index: Index) -> bool {
        self.live.graph.name(index) == overlay::LAST
    }

    /// Services of older images may have been written since the definitions were read.
    fn wakes(&mut self, index: Index) -> bool {
        let name = self.live.graph.name(index);
        if name != overlay::LAST || !legacy::has_work("", name) {
            return false;
        }
        let definition = overlay::legacy_oneshot(name, &[]);
        self.live.reveal(index, &definition).inspect_err(|e| diag::warn(e)).is_ok()
    }

    fn is_cut_short(&mut self, name: &str, up: bool, end: End, took: Duration) {
        self.ends(name, up, end, took);
    }

    fn ends(&mut self, name: &str, up: bool, end: End, duration: Duration) {
        let (start, started) = if up { ("start", "started") } else { ("stop", "stopped") };
        let time = took(duration);
        if duration >= SLOW {
            self.slow.push((duration, name.to_owned()));
        }
        match end {
            End::Done if self.verbosity >= 2 => diag::say_as(
                SPEAKER,
                Level::Info,
                format_args!("service {name} successfully {started} ({time})"),
            ),
            End::Unmet if self.verbosity >= 2 => {
                let text = format!("service {name}: skipped: {}", end.reason());
                diag::say_as(SPEAKER, Level::Info, text);
            }
            End::Done | End::Unmet => {}
            end if self.verbosity >= 1 => {
                let who = if end == End::TimedOut && !up { self.culprit(name) } else { String::new() };
                diag::say_as(
                    SPEAKER,
                    Level::Warning,
                    format_args!("unable to {start} service {name}: {} ({time}){who}", end.reason()),
                );
            }
            _ => {}
        }
    }
}
