//! `rc apply`: makes what runs match the definitions as they are now.
//!
//! 1. The definitions are read and checked, and written out beside the live ones (`next`). With an error among
//!    them nothing has happened.
//! 2. [`Difference`] says what went, what changed (and which file, or dependency), and what came.
//! 3. What is to be up in the end is written down (`resume`): whoever comes after one that was killed brings that up.
//!    What went or changed is taken down, with what needs it. Where that fails it is brought up again.
//! 4. `next` becomes `commit`: from here on there is no way back but another change. Each definition takes its
//!    place by renames, so that whoever is killed in the middle leaves something that can be gone on with, and
//!    the next one to lock the live directory does that ([`mend`]). What was there goes to `previous`.
//! 5. What changed and what came is brought up. Where that must be done within a time and is not, `previous`
//!    becomes `commit`.
//!
//! A service that stays keeps its directory and its process. A file that counts without a restart
//! ([`AT_ONCE`]) is replaced and that is all.

use super::args::Args;
use super::change::{explain, listen_for_signals};
use super::check::{read, refuse};
use super::engine::{Engine, Options, Report};
use super::graph::{Graph, Index};
use super::live::{Busy, Live, Origin};
use super::progress::Shown;
use super::scripts::Root;
use super::source::is_copied;
use super::stage::{self, Digests};
use super::timing;
use crate::cli;
use crate::diag::{self, Error, Result, Unable, code};
use crate::init::overlay;
use crate::ordered::{Map, Set};
use crate::ordered::{map, set};
use crate::servicedir::{self, client};
use crate::supervise::wire::{Request, Standing};
use crate::sys::signal::SignalFd;
use rustix::fs::CWD;
use std::fs;

/// Files that count from the moment they change on.
const AT_ONCE: [&str; 12] = [
    "finish",
    "timeout-kill",
    "timeout-finish",
    "max-death-tally",
    "down-signal",
    "reload-signal",
    "flag-timeout-killpg",
    "down",
    "reload",
    "condition",
    "validate",
    "timeout-validate",
];

/// What is restarted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Restart {
    /// What has changed.
    Changed,
    /// These, and what cannot stay as it is.
    Named(Set<String>),
}

/// In what two sets of definitions differ, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Not defined any more.
    pub gone: Set<String>,
    /// Not defined before.
    pub came: Set<String>,
    /// To be restarted, and why.
    pub changed: Map<String, Vec<String>>,
    /// Changed in what counts without a restart.
    pub adjusted: Map<String, Vec<String>>,
}

impl Difference {
    /// Compares. Pure.
    pub fn new(old: (&Graph, &Digests), new: (&Graph, &Digests), restart: &Restart) -> Difference {
        let mut difference = Difference::default();
        for index in new.0.shown().filter(|i| find(old.0, new.0.name(*i)).is_none()) {
            difference.came.insert(new.0.name(index).to_owned());
        }
        for index in old.0.shown() {
            let name = old.0.name(index);
            let Some(now) = find(new.0, name) else {
                difference.gone.insert(name.to_owned());
                continue;
            };
            let (mut hard, mut soft) =
                compare((old.0, index, old.1.get(name)), (new.0, now, new.1.get(name)));
            if let Restart::Named(names) = restart {
                let must = |reason: &String| matches!(&**reason, "type" | "dependencies" | "consumer-for");
                let (keep, rest) = hard.into_iter().partition(must);
                (hard, soft) = (keep, [soft, rest].concat());
                hard.extend(names.contains(name).then(|| "asked for".to_owned()));
            }
            match (hard.is_empty(), soft.is_empty()) {
                (false, _) => drop(difference.changed.insert(name.to_owned(), hard)),
                (true, false) => drop(difference.adjusted.insert(name.to_owned(), soft)),
                (true, true) => {}
            }
        }
        difference
    }

    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        *self == Difference::default()
    }
}

/// A service that people are shown.
fn find(graph: &Graph, name: &str) -> Option<Index> {
    graph.index(name).filter(|index| !graph.services[*index].hidden)
}

type One<'a> = (&'a Graph, Index, Option<&'a Map<String, u64>>);

/// In what one service differs: what calls for a restart, and what does not.
fn compare(old: One<'_>, new: One<'_>) -> (Vec<String>, Vec<String>) {
    let (a, b) = (&old.0.services[old.1], &new.0.services[new.1]);
    let (mut hard, mut soft) = (Vec::new(), Vec::new());
    if a.longrun != b.longrun {
        hard.push("type".to_owned());
        return (hard, soft);
    }
    let none = Map::new();
    let (before, after) = (old.2.unwrap_or(&none), new.2.unwrap_or(&none));
    for file in set(before.keys().chain(after.keys())) {
        if before.get(file) != after.get(file) {
            let list = if AT_ONCE.contains(&&**file) { &mut soft } else { &mut hard };
            list.push(file.clone());
        }
    }
    let names = |graph: &Graph, list: &[Index]| -> Set<String> {
        set(list.iter().map(|index| graph.name(*index).to_owned()))
    };
    let needs = |one: One<'_>| names(one.0, &one.0.shown_needs(one.1));
    if needs(old) != needs(new) {
        hard.push("dependencies".to_owned());
    }
    for (what, differs) in [
        ("wants", names(old.0, &a.wants) != names(new.0, &b.wants)),
        ("after", names(old.0, &a.after) != names(new.0, &b.after)),
        ("timeout-up", a.timeout_up != b.timeout_up),
        ("timeout-down", a.timeout_down != b.timeout_down),
        ("flag-essential", a.essential != b.essential),
        ("flag-recommended", a.recommended != b.recommended),
    ] {
        soft.extend(differs.then(|| what.to_owned()));
    }
    (hard, soft)
}

/// The command.
pub fn command(args: &Args) -> Result<u8> {
    let live = Live::open(&args.live)?;
    let _lock =
        live.lock_for(if args.wait { Busy::Wait } else { Busy::Overtake }, "apply", args.deadline())?;
    let live = Live::open(&args.live)?;
    let mut origin = live.origin();
    if !args.names.is_empty() {
        let sources = args.names.iter().map(|path| cli::absolute(path)).collect::<Result<Vec<_>>>()?;
        origin = Origin { sources, top: None, compiled: None };
    }
    if origin.compiled.is_some() {
        let text = "this live directory was made of a database: name sources, or use s6-rc-update";
        return Err(Error::usage(text));
    }
    let (definitions, graph, findings) = read(&Root::here(), &origin.sources);
    refuse(&findings)?;
    if origin.sources.is_empty() && origin.top.is_none() {
        origin.top = Some(overlay::TOP.to_owned());
    }
    let next = make_next(&args.live)?;
    stage::fill(&next, &definitions, &graph)?;
    stage::write(&format!("{next}/origin"), origin.to_text())?;
    let wish = Wish {
        restart: Restart::Changed,
        also: Set::new(),
        dry_run: args.dry_run,
        options: Options {
            deadline: args.deadline(),
            jobs: args.jobs,
            even_essential: true,
            ..Options::default()
        },
        ready_within: args.ready_within,
    };
    apply(&live, &wish).map(Applied::code)
}

/// An empty directory `next`.
pub fn make_next(live: &str) -> Result<String> {
    let next = format!("{live}/next");
    remove(&next)?;
    stage::make_dir(&next)?;
    Ok(next)
}

/// How definitions are applied.
pub struct Wish {
    /// What is restarted.
    pub restart: Restart,
    /// What is to be up beside what was.
    pub also: Set<String>,
    /// Only say what would be done.
    pub dry_run: bool,
    /// How changes are made.
    pub options: Options,
    /// Go back if it is not done by then.
    pub ready_within: Option<std::time::Duration>,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// It is as defined.
    Done,
    /// What had to go did not; everything is as it was. The exit code of the change.
    NotStopped(u8),
    /// Not everything is up; the new definitions count. The exit code of the change.
    NotUp(u8),
    /// It was not ready in time; everything is as it was.
    WentBack,
}

impl Applied {
    fn code(self) -> u8 {
        match self {
            Applied::Done => code::OK,
            Applied::NotStopped(code) | Applied::NotUp(code) => code,
            Applied::WentBack => code::NO,
        }
    }
}

/// Applies what is in `next`. The live directory is locked.
pub fn apply(live: &Live, wish: &Wish) -> Result<Applied> {
    let next = Part::read(&format!("{}/next", live.path), &live.origin())?;
    let now = Part::read(&live.path, &live.origin())?;
    let difference = Difference::new((&now.graph, &now.digests), (&next.graph, &next.digests), &wish.restart);
    let mut engine = Engine::new(live)?;
    let mut also = wish.also.clone();
    also.extend(to_resume(&live.path));
    let steps = Steps::new(&now, &next, &difference, engine.states(), &wish.restart, &also);
    diag::put(1, steps.text(&difference, &now.graph).as_bytes());
    if wish.dry_run {
        remove(&format!("{}/next", live.path))?;
        return Ok(Applied::Done);
    }
    let signals = listen_for_signals()?;
    resume_later(&live.path, &steps.start)?;
    let stopped = engine.change(&steps.stop, false, wish.options, Some(&signals), &mut Shown::new())?;
    if stopped.code() != 0 {
        explain(&live.graph, &stopped, false);
        diag::warn("not everything could be stopped: going back");
        let again = Options { even_essential: true, ..Options::default() };
        engine.refresh()?;
        engine.change(&steps.stop, true, again, Some(&signals), &mut Shown::new())?;
        remove(&format!("{}/next", live.path))?;
        resume_later(&live.path, &Set::new())?;
        return Ok(Applied::NotStopped(stopped.code()));
    }
    drop(engine);
    commit(live, "next")?;
    let changed = Live::open(&live.path)?;
    let limit = wish.ready_within.map(|time| crate::sys::clock::mono().after(time));
    let deadline = limit.into_iter().chain(wish.options.deadline).min();
    let start = steps.names_in(&changed.graph);
    let started = bring_up(&changed, &start, Options { deadline, ..wish.options }, &signals)?;
    let result = match (started.code(), wish.ready_within) {
        (0, _) => Applied::Done,
        (code, None) => Applied::NotUp(code),
        (_, Some(_)) => {
            diag::warn("not everything is ready: going back to the definitions before");
            resume_later(&live.path, &steps.stopped)?;
            go_back(&changed, &start, &steps, &signals)?;
            Applied::WentBack
        }
    };
    remove(&format!("{}/previous", live.path))?;
    resume_later(&live.path, &Set::new())?;
    let kept = Live::open(&live.path)?;
    let _ = timing::forget(&live.path, |name| kept.graph.index(name).is_some());
    Ok(result)
}

/// What a change that was killed had taken down, or was about to, and meant to be up in the end.
pub fn to_resume(live: &str) -> Set<String> {
    let text = fs::read_to_string(format!("{live}/{RESUME}")).unwrap_or_default();
    set(text.lines().map(str::to_owned))
}

/// Writes down what is to be up in the end, in case that we are killed. Nothing: it is, or nobody wants it any more.
pub fn resume_later(live: &str, names: &Set<String>) -> Result<()> {
    let path = format!("{live}/{RESUME}");
    if names.is_empty() {
        return remove(&path);
    }
    let text: String = names.iter().flat_map(|name| [name, "\n"]).collect();
    let dir = servicedir::open(CWD, live).unable(format_args!("open {live}"))?;
    servicedir::replace(dir, RESUME, "resume.new", text.as_bytes()).unable(format_args!("write {path}"))
}

/// In the live directory: see [`to_resume`].
const RESUME: &str = "resume";

fn bring_up(live: &Live, start: &Set<Index>, options: Options, signals: &SignalFd) -> Result<Report> {
    let names = live.link()?;
    let mut engine = Engine::new(live)?;
    engine.add(names)?;
    engine.refresh()?;
    let report = engine.change(start, true, options, Some(signals), &mut Shown::new())?;
    explain(&live.graph, &report, true);
    Ok(report)
}

/// Takes down what was brought up, puts the definitions back, and brings up what was up.
fn go_back(live: &Live, started: &Set<Index>, steps: &Steps, signals: &SignalFd) -> Result<()> {
    let options = Options { even_essential: true, ..Options::default() };
    let mut engine = Engine::new(live)?;
    engine.change(started, false, options, Some(signals), &mut Shown::new())?;
    drop(engine);
    commit(live, "previous")?;
    let old = Live::open(&live.path)?;
    let again = set(steps.stopped.iter().filter_map(|name| old.graph.index(name)));
    bring_up(&old, &again, options, signals).map(drop)
}

/// Definitions that were written out.
struct Part {
    graph: Graph,
    digests: Digests,
    /// What a boot brings up, by name.
    wanted: Set<String>,
}

impl Part {
    fn read(dir: &str, otherwise: &Origin) -> Result<Part> {
        let graph = super::live::read_graph(dir)?;
        let origin = fs::read_to_string(format!("{dir}/origin"));
        let origin = origin.map_or_else(|_| otherwise.clone(), |text| Origin::from_text(&text));
        let wanted = origin.wanted(&graph).into_iter().map(|index| graph.name(index).to_owned());
        Ok(Part { wanted: set(wanted), digests: stage::digests(dir), graph })
    }
}

/// What is to be done.
struct Steps {
    /// Taken down, of what is defined now.
    stop: Set<Index>,
    /// The same by name: what is up and will not stay so.
    stopped: Set<String>,
    /// Brought up, of what will be defined.
    start: Set<String>,
    /// Why it is restarted that has not changed: what it needs.
    because: Map<String, String>,
}

impl Steps {
    fn new(
        now: &Part,
        next: &Part,
        difference: &Difference,
        states: &[Standing],
        restart: &Restart,
        also: &Set<String>,
    ) -> Steps {
        let graph = &now.graph;
        let is_up = |index: &Index| states[*index] != Standing::Down && !graph.services[*index].hidden;
        let names = difference.gone.iter().chain(difference.changed.keys());
        let first: Set<Index> = set(names.filter_map(|name| graph.index(name)).filter(is_up));
        let mut because = Map::new();
        let mut stop = first.clone();
        let mut queue: Vec<Index> = first.into_iter().collect();
        while let Some(index) = queue.pop() {
            for dependent in &graph.services[index].needed_by {
                if stop.insert(*dependent) {
                    because.insert(graph.name(*dependent).to_owned(), graph.name(index).to_owned());
                    queue.push(*dependent);
                }
            }
        }
        stop.retain(is_up);
        let stopped: Set<String> = set(stop.iter().map(|index| graph.name(*index).to_owned()));
        // Who names what is restarted does not mean what is new.
        let all = *restart == Restart::Changed;
        let wanted = next.wanted.iter().filter(|name| all && !now.wanted.contains(*name));
        // What is on its way down is to come back as well.
        let is_down = |name: &&String| graph.index(name).is_none_or(|i| states[i] != Standing::Up);
        let start = stopped.iter().chain(wanted).chain(also.iter().filter(is_down));
        let start = set(start.filter(|name| find(&next.graph, name).is_some()).cloned());
        Steps { stop, stopped, start, because }
    }

    fn names_in(&self, graph: &Graph) -> Set<Index> {
        set(self.start.iter().filter_map(|name| graph.index(name)))
    }

    /// What people are told: a line for each service that is concerned.
    fn text(&self, difference: &Difference, now: &Graph) -> String {
        let mut text = String::new();
        let mut line = |words: &[&str]| {
            text.extend(words.iter().copied());
            text.push('\n');
        };
        for name in &difference.gone {
            let what = if self.stopped.contains(name) { "stop and remove " } else { "remove " };
            line(&[what, name]);
        }
        for (name, reasons) in &difference.changed {
            let what = if self.stopped.contains(name) { "restart " } else { "change " };
            line(&[what, name, ": ", &reasons.join(", ")]);
        }
        for (name, reasons) in &difference.adjusted {
            line(&["adjust ", name, ": ", &reasons.join(", ")]);
        }
        let by_name: Map<&String, &String> =
            map(self.because.iter().filter(|(name, _)| self.stopped.contains(*name)));
        for (name, need) in by_name {
            if !difference.changed.contains_key(name) && !difference.gone.contains(name) {
                line(&["restart ", name, ": needs ", need]);
            }
        }
        for name in &difference.came {
            line(&[if self.start.contains(name) { "start " } else { "add " }, name]);
        }
        for name in self.start.iter().filter(|name| now.index(name).is_some()) {
            if !self.stopped.contains(name) {
                line(&["start ", name]);
            }
        }
        if text.is_empty() { "nothing has changed\n".to_owned() } else { text }
    }
}

// --------------------------------------------------------------------------------- definitions change places

/// Finishes what somebody began who was killed, and forgets what nobody decided. The live directory `path` is
/// locked.
pub fn mend(path: &str) -> Result<()> {
    let there = |name: &str| fs::symlink_metadata(format!("{path}/{name}")).is_ok();
    // The graph goes last: where it is not there any more, all is in its place.
    if there("commit") && !there("commit/graph") {
        remove(&format!("{path}/commit"))?;
        remove(&format!("{path}/previous"))?;
    } else if there("commit") {
        diag::warn("another rc was killed while it applied new definitions: finishing that");
        let live = Live::open(path)?;
        install(&live)?;
        super::compile::supervise(&Live::open(path)?, None)?;
        remove(&format!("{path}/previous"))?;
    }
    if there("next") { remove(&format!("{path}/next")) } else { Ok(()) }
}

/// What is in `from` is decided: it takes its place.
fn commit(live: &Live, from: &str) -> Result<()> {
    let (from, to) = (format!("{}/{from}", live.path), format!("{}/commit", live.path));
    fs::rename(&from, &to).unable(format_args!("rename {from}"))?;
    install(live)
}

/// Puts what is in `commit` in its place, and what was there into `previous`. Begun again, it goes on.
fn install(live: &Live) -> Result<()> {
    let [commit, previous] = ["commit", "previous"].map(|name| format!("{}/{name}", live.path));
    let (new, digests) = (super::live::read_graph(&commit)?, stage::digests(&commit));
    for dir in [String::new()].into_iter().chain(stage::DIRS.map(|kind| format!("/{kind}"))) {
        for parent in [&previous, &live.path] {
            stage::make_if_missing(&format!("{parent}{dir}"))?;
        }
    }
    let old = stage::digests(&live.path);
    let differs = |graph: &Graph, name: &str| {
        let kind = |graph: &Graph| find(graph, name).map(|index| graph.services[index].longrun);
        kind(graph) != kind(&live.graph) || old.get(name) != digests.get(name)
    };
    let mut engine = Engine::new(live)?;
    let names = live.graph.shown().map(|i| live.graph.name(i)).chain(new.shown().map(|i| new.name(i)));
    // The digests go first of what says what is there: where they are gone, all else is in its place.
    let placed = fs::symlink_metadata(format!("{commit}/digests")).is_err();
    for name in set(names).into_iter().filter(|name| !placed && differs(&new, name)) {
        let files = digests.get(name).cloned().unwrap_or_default();
        let is_other = |file| files.contains_key(file) != old.get(name).is_some_and(|o| o.contains_key(file));
        for kind in stage::DIRS {
            let swap = Swap { live, kind, name, files: &files, commit: &commit, previous: &previous };
            // Whether there is a pipe before it is decided when its supervision begins.
            let anew = kind == "servicedirs" && is_other("consumer-for");
            if anew || !swap.is_in(&commit) && !swap.is_kept(&new) {
                swap.take_away(&mut engine)?;
            }
            swap.put()?;
        }
    }
    // What is defined now is what is there now.
    for file in ["digests", "origin", "graph"] {
        let [from, to, kept] = [&commit, &live.path, &previous].map(|dir| format!("{dir}/{file}"));
        if fs::symlink_metadata(&from).is_ok() {
            let _ = fs::copy(&to, &kept);
            fs::rename(&from, &to).unable(format_args!("rename {from}"))?;
        }
    }
    remove(&commit)
}

/// One directory of one service that changes.
struct Swap<'a> {
    live: &'a Live,
    kind: &'static str,
    name: &'a str,
    /// What is to be there.
    files: &'a Map<String, u64>,
    commit: &'a str,
    previous: &'a str,
}

impl Swap<'_> {
    fn path(&self, below: &str) -> String {
        format!("{below}/{}/{}", self.kind, self.name)
    }

    fn is_in(&self, below: &str) -> bool {
        fs::symlink_metadata(self.path(below)).is_ok()
    }

    /// Whether such a directory is to be there (what was to be put there may be there already).
    fn is_kept(&self, new: &Graph) -> bool {
        find(new, self.name).map(|index| &new.services[index]).is_some_and(|service| match self.kind {
            "servicedirs" => service.longrun,
            "oneshots" => !service.longrun,
            "conditions" => service.condition,
            _ => self.files.contains_key("reload"),
        })
    }

    /// Ends its supervision and moves the directory away.
    fn take_away(&self, engine: &mut Engine<'_>) -> Result<()> {
        let path = self.path(&self.live.path);
        if !self.is_in(&self.live.path) {
            return Ok(());
        }
        if self.kind == "servicedirs" {
            let entry = format!("{}{}", self.live.prefix, self.name);
            match fs::remove_file(format!("{}/{entry}", self.live.scandir)) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                    return Err(e).unable(format_args!("remove {}/{entry}", self.live.scandir));
                }
                _ => {}
            }
            engine.send(&Request::Gone(vec![entry]))?;
            if let Ok(dir) = servicedir::open(CWD, &*path) {
                let _ = client::control(dir, client::DIR, b"xd");
            }
        } else {
            engine.send(&Request::Forget(path.clone()))?;
        }
        let to = self.path(self.previous);
        remove(&to)?;
        fs::rename(&path, &to).unable(format_args!("rename {path}"))
    }

    /// Puts what is new in its place, file by file where the directory is there.
    fn put(&self) -> Result<()> {
        let (from, to) = (self.path(self.commit), self.path(&self.live.path));
        if !self.is_in(&self.live.path) {
            return match self.is_in(self.commit) {
                true => fs::rename(&from, &to).unable(format_args!("rename {from}")),
                false => Ok(()),
            };
        }
        for file in list(&from)? {
            let there = fs::symlink_metadata(format!("{to}/{file}")).is_ok();
            if there && !self.is_defined(&file) {
                continue;
            }
            if there {
                self.put_away(&file)?;
            }
            let path = format!("{from}/{file}");
            fs::rename(&path, format!("{to}/{file}")).unable(format_args!("rename {path}"))?;
        }
        for file in list(&to)? {
            if self.is_defined(&file) && !self.is_wanted(&file) {
                self.put_away(&file)?;
            }
        }
        Ok(())
    }

    fn put_away(&self, file: &str) -> Result<()> {
        let path = format!("{}/{file}", self.path(&self.live.path));
        let dir = self.path(self.previous);
        stage::make_if_missing(&dir)?;
        let to = format!("{dir}/{file}");
        match fs::symlink_metadata(&to).is_ok() {
            // Begun again: what was there first is what counts.
            true => remove(&path),
            false => fs::rename(&path, &to).unable(format_args!("rename {path}")),
        }
    }

    /// Whether a file is the definition's: others are the supervisor's, or the service's own.
    fn is_defined(&self, file: &str) -> bool {
        match self.kind {
            "servicedirs" => {
                is_copied(file) || matches!(file, "producer-for" | "consumer-for" | "timeout-up")
            }
            _ => is_copied(file) || matches!(file, "up" | "down" | "cwd"),
        }
    }

    fn is_wanted(&self, file: &str) -> bool {
        match (self.kind, file) {
            ("conditions" | "reloads", _) => true,
            ("oneshots", "cwd") => !self.files.contains_key("run"),
            _ => self.files.contains_key(file),
        }
    }
}

fn list(dir: &str) -> Result<Vec<String>> {
    let mut names = Vec::new();
    match fs::read_dir(dir) {
        Ok(entries) => {
            for entry in entries {
                let entry = entry.unable(format_args!("list {dir}"))?;
                names.push(entry.file_name().to_string_lossy().into_owned());
            }
            Ok(names)
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(names),
        Err(e) => Err(e).unable(format_args!("list {dir}")),
    }
}

/// Removes whatever is at a path.
fn remove(path: &str) -> Result<()> {
    let done = match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(_) => Ok(()),
    };
    done.unable(format_args!("remove {path}"))
}

#[cfg(test)]
mod tests {
    use super::super::graph::tests::graph;
    use super::*;

    fn digests(list: &[(&str, &str, u64)]) -> Digests {
        let mut all = Digests::new();
        for (name, file, digest) in list {
            all.entry((*name).to_owned()).or_default().insert((*file).to_owned(), *digest);
        }
        all
    }

    fn text(difference: &Difference) -> String {
        let list = |list: &Map<String, Vec<String>>| -> String {
            list.iter().map(|(name, why)| format!("{name}({}) ", why.join(","))).collect()
        };
        format!(
            "-{:?} +{:?} !{} ~{}",
            difference.gone,
            difference.came,
            list(&difference.changed),
            list(&difference.adjusted)
        )
    }

    #[test]
    fn what_went_came_and_changed_is_told_apart() {
        let old = graph(&["a longrun", "b longrun a", "c oneshot", "d longrun c"]);
        let new = graph(&["a longrun", "b longrun a c", "c oneshot", "e longrun"]);
        let before = digests(&[("a", "run", 1), ("a", "timeout-kill", 1), ("b", "run", 1), ("c", "up", 1)]);
        let after = digests(&[("a", "run", 1), ("a", "timeout-kill", 2), ("b", "run", 1), ("c", "up", 2)]);
        let difference = Difference::new((&old, &before), (&new, &after), &Restart::Changed);
        assert_eq!(text(&difference), r#"-{"d"} +{"e"} !b(dependencies) c(up)  ~a(timeout-kill) "#);
        let named = Restart::Named(set(["a".to_owned()]));
        let difference = Difference::new((&old, &before), (&new, &after), &named);
        assert_eq!(text(&difference), r#"-{"d"} +{"e"} !a(asked for) b(dependencies)  ~c(up) "#);
        assert!(Difference::new((&old, &before), (&old, &before), &Restart::Changed).is_empty());
    }

    #[test]
    fn what_needs_something_that_is_restarted_is_restarted_too() {
        let old = graph(&["a longrun", "b longrun a", "c longrun b", "d longrun"]);
        let part = |digest: u64, wanted: &[&str]| Part {
            graph: old.clone(),
            digests: digests(&[("a", "run", digest)]),
            wanted: set(wanted.iter().map(|name| (*name).to_owned())),
        };
        let (now, next) = (part(1, &["a", "b"]), part(2, &["a", "b", "d"]));
        let all = Difference::new((&old, &now.digests), (&old, &next.digests), &Restart::Changed);
        let states = [Standing::Up, Standing::Up, Standing::Down, Standing::Down];
        let steps = Steps::new(&now, &next, &all, &states, &Restart::Changed, &Set::new());
        assert_eq!(steps.text(&all, &old), "restart a: run\nrestart b: needs a\nstart d\n");
        assert_eq!(steps.stop, set([0, 1]));
        assert_eq!(steps.names_in(&old), set([0, 1, 3]));
    }
}
