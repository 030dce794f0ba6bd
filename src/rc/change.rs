//! `rc up`, `down`, `restart`, `reload`: changes that somebody asks for by name.

use super::apply;
use super::args::{Args, select};
use super::engine::{End, Engine, Options, Progress, Report};
use super::graph::{Graph, Index};
use super::live::{Busy, Live};
use super::progress::Shown;
use crate::diag::{self, Error, Result, Unable, code};
use crate::ordered::{Set, set};
use crate::report::took;
use crate::servicedir;
use crate::supervise::wire::Standing;
use crate::sys::signal::{self, SignalFd};
use crate::sys::spawn::{CArray, Spawn};
use crate::sys::{Errno, process};
use rustix::fs::CWD;
use std::ffi::CString;
use std::time::Duration;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Up, with what it needs.
    Up,
    /// Down, with what needs it.
    Down,
    /// Down with what needs it, and all of that up again.
    Restart,
    /// Reloaded.
    Reload,
}

impl Wish {
    /// What the lock says of it.
    fn word(self) -> &'static str {
        match self {
            Wish::Up | Wish::Reload => "up",
            Wish::Down => "down",
            Wish::Restart => "restart",
        }
    }
}

/// The native commands: another change of the same kind is waited for, any other is interrupted.
pub fn command(args: &Args, wish: Wish) -> Result<u8> {
    let live = Live::open(&args.live)?;
    select(&live.graph, &args.names)?;
    if args.no_wait && !args.dry_run {
        return go_on_without_us();
    }
    change(args, wish, if args.wait { Busy::Wait } else { Busy::Overtake }, &mut Shown::new())
}

/// Makes a change and says how it went.
pub fn change(args: &Args, wish: Wish, busy: Busy, progress: &mut dyn Progress) -> Result<u8> {
    let before = graph_file(&args.live);
    let live = Live::open(&args.live)?;
    let mut selection = select(&live.graph, &args.names)?;
    let deadline = args.deadline();
    let lock = if args.dry_run { None } else { Some(live.lock_for(busy, wish.word(), deadline)?) };
    // Somebody may have applied other definitions while we waited.
    let live =
        if lock.is_some() && graph_file(&args.live) != before { Live::open(&args.live)? } else { live };
    let mut engine = Engine::new(&live)?;
    if args.all {
        let is_up = |i: &Index| engine.states()[*i] != Standing::Down;
        selection.extend((0..live.graph.services.len()).filter(is_up));
    }
    // What a change that was killed had taken down.
    let known = apply::to_resume(&live.path);
    let mut resumed = known.clone();
    let indices = |names: &Set<String>| set(names.iter().filter_map(|name| live.graph.index(name)));
    let missing: Set<Index> = indices(&resumed);
    let missing = set(missing.into_iter().filter(|index| engine.states()[*index] != Standing::Up));
    match wish {
        Wish::Up | Wish::Restart => {
            let names: Vec<&str> = missing.iter().map(|index| live.graph.name(*index)).collect();
            if !names.is_empty() {
                let names = names.join(" ");
                diag::warn(format_args!("another rc was killed before it had brought up again: {names}"));
            }
            selection.extend(missing);
        }
        Wish::Down => {
            let down = live.graph.closure(selection.iter().copied(), true);
            resumed.retain(|name| live.graph.index(name).is_none_or(|index| !down.contains(&index)));
        }
        Wish::Reload => {}
    }
    if args.dry_run {
        rehearse(&live.graph, &engine, &selection, wish, args.even_essential);
        return Ok(code::OK);
    }
    let signals = listen_for_signals()?;
    if wish == Wish::Restart {
        let again = to_restart(&engine, &live.graph, &selection);
        resumed.extend(again.iter().map(|index| live.graph.name(*index).to_owned()));
    }
    if resumed != known {
        apply::resume_later(&live.path, &resumed)?;
    }
    let even_essential = args.even_essential;
    let options = Options { deadline, jobs: args.jobs, even_essential, ..Options::default() };
    let report = match wish {
        Wish::Up | Wish::Down => {
            engine.change(&selection, wish == Wish::Up, options, Some(&signals), progress)?
        }
        Wish::Reload => engine.reload(&selection, options, Some(&signals), &mut Reloads)?,
        Wish::Restart => restart(&mut engine, &live.graph, &selection, options, &signals, progress)?,
    };
    if !resumed.is_empty() && matches!(wish, Wish::Up | Wish::Restart) {
        apply::resume_later(&live.path, &Set::new())?;
    }
    explain(&live.graph, &report, wish != Wish::Down);
    Ok(report.code())
}

/// What tells the graph of a live directory from every other that was there.
fn graph_file(live: &str) -> Option<(u64, u64, i64, u64)> {
    let st = rustix::fs::stat(format!("{live}/graph")).ok()?;
    Some((st.st_dev, st.st_ino, st.st_mtime, st.st_mtime_nsec))
}

/// Signals that end a change come here from now on.
pub fn listen_for_signals() -> Result<SignalFd> {
    SignalFd::open(signal::block_all()).unable("create a signal descriptor")
}

/// Takes down what is up of a selection, and what needs it, and brings all of that up again. What could not be
/// taken down stays as it is, and so does what it needs.
fn restart(
    engine: &mut Engine<'_>,
    graph: &Graph,
    selection: &Set<Index>,
    options: Options,
    signals: &SignalFd,
    progress: &mut dyn Progress,
) -> Result<Report> {
    let again = to_restart(engine, graph, selection);
    let named = Options { even_essential: true, ..options };
    let down = engine.change(&again, false, named, Some(signals), progress)?;
    if down.timed_out || down.interrupted {
        return Ok(down);
    }
    let mut up = engine.change(&(&again | selection), true, options, Some(signals), progress)?;
    up.failed.extend(down.failed);
    Ok(up)
}

/// What is up of a selection, and of what needs it.
fn to_restart(engine: &Engine<'_>, graph: &Graph, selection: &Set<Index>) -> Set<Index> {
    let mut again = graph.closure(selection.iter().copied(), true);
    again.retain(|index| engine.states()[*index] != Standing::Down && !graph.services[*index].hidden);
    again
}

/// Prints what would be done, a step a line, in an order in which it may be done.
fn rehearse(graph: &Graph, engine: &Engine<'_>, selection: &Set<Index>, wish: Wish, essential: bool) {
    let mut text = String::new();
    let mut print = |what: &str, list: &[Index]| {
        list.iter().for_each(|index| text.extend([what, " ", graph.name(*index), "\n"]));
    };
    match wish {
        Wish::Up => print("start", &engine.rehearse(selection, true, essential)),
        Wish::Down => print("stop", &engine.rehearse(selection, false, essential)),
        Wish::Reload => print("reload", &selection.iter().copied().collect::<Vec<_>>()),
        Wish::Restart => {
            let again = to_restart(engine, graph, selection);
            let stopped = engine.rehearse(&again, false, true);
            print("stop", &stopped);
            let others = engine.rehearse(selection, true, essential);
            print("start", &others.into_iter().filter(|i| !again.contains(i)).collect::<Vec<_>>());
            print("start", &stopped.into_iter().rev().collect::<Vec<_>>());
        }
    }
    diag::put(1, text.as_bytes());
}

/// Starts ourselves anew, without `--no-wait` and in a session of its own, and leaves the change to that.
fn go_on_without_us() -> Result<u8> {
    let path = process::executable().ok_or(Errno::NOENT).unable("find this executable (is /proc there?)")?;
    let line = servicedir::read_file(CWD, "/proc/self/cmdline").unable("read /proc/self/cmdline")?;
    let line = line.strip_suffix(b"\0").unwrap_or(&line);
    let words = line.split(|byte| *byte == 0).filter(|word| *word != b"--no-wait");
    let argv = CArray::new(words.filter_map(|word| CString::new(word).ok()).collect());
    let programs = [path];
    let spawn = Spawn { new_session: true, ..Spawn::new(&programs, &argv) };
    match spawn.start(signal::block_all()) {
        Ok(_) => Ok(code::OK),
        Err(e) => Err(Error::unable("start the change", e.errno)),
    }
}

/// A line for each service that is reloaded.
struct Reloads;

impl Progress for Reloads {
    fn begins(&mut self, _: &str, _: bool) {}

    fn ends(&mut self, name: &str, _: bool, end: End, duration: Duration) {
        match end {
            End::Done => {
                diag::put(1, format!("{name} is told to reload\n").as_bytes());
            }
            _ => {
                let why = end.reason();
                diag::warn(format_args!("unable to reload {name}: {why} ({})", took(duration)));
            }
        }
    }
}

/// Says what was not done, and because of what.
pub fn explain(graph: &Graph, report: &Report, up: bool) {
    let names = |list: &[Index]| list.iter().map(|i| graph.name(*i)).collect::<Vec<_>>().join(" ");
    let cut_short = report.cut_short(graph);
    if cut_short.is_none() {
        let what = if up { "not started" } else { "not stopped" };
        for (failed, _) in &report.failed {
            let because = report.skipped.iter().zip(&report.causes).filter(|(_, cause)| *cause == failed);
            let list: Vec<Index> = because.map(|(index, _)| *index).collect();
            if !list.is_empty() {
                diag::warn(format_args!("{what} because of {}: {}", graph.name(*failed), names(&list)));
            }
        }
    }
    if !report.kept.is_empty() {
        diag::warn(format_args!("essential, left up (-D takes them down too): {}", names(&report.kept)));
    }
    if let Some(text) = cut_short {
        diag::warn(text);
    }
}
