//! The names, options and exit codes of s6-rc's programs over the same engine: `s6-rc`, `s6-rc-compile`,
//! `s6-rc-init`, `s6-rc-db`, `s6-rc-update`.
//!
//! What scripts see is s6-rc's; what lies behind it is not. A compiled database is what `rc compile` makes, and
//! nothing of s6-rc's. There are no services `s6rc-oneshot-runner` and `s6rc-fdholder`, so none is ever listed,
//! and what is built in and does nothing (see `rc`) is not either. `-X`, `-h USER`, `-E` and `-d` of s6-rc-init
//! are taken and change nothing.

use super::apply::{self, Applied, Restart};
use super::args::{Args, select};
use super::change::{self, Wish, explain};
use super::compile;
use super::engine::{End, Engine, Options, Progress};
use super::graph::{Graph, Index};
use super::live::{Busy, Live, read_graph};
use super::stage;
use crate::cli;
use crate::diag::{self, Error, Level, Result, Unable, code};
use crate::execline;
use crate::ordered::Set;
use crate::ordered::set;
use crate::scan::client::ScanDir;
use crate::servicedir;
use crate::servicedir::status::Status;
use lexopt::prelude::*;
use rustix::fs::CWD;
use std::fs;
use std::time::Duration;

/// The exit code for a name of the wrong kind.
const WRONG_KIND: u8 = 5;

/// A number that is a verbosity, or milliseconds.
fn number(option: &str, parser: &mut lexopt::Parser) -> Result<u32> {
    cli::number(option, parser, 0, u32::MAX.into())
}

fn absolute(what: &str, path: &str) -> Result<()> {
    match path.starts_with('/') {
        true => Ok(()),
        false => Err(Error::usage(format!("{what} must be an absolute path"))),
    }
}

// ------------------------------------------------------------------------------------------------ s6-rc

const RC_USAGE: &str = "s6-rc [ -v verbosity ] [ -n dryrunthrottle ] [ -t timeout ] [ -l live ] [ -u | -d | -D ] \
    [ -p ] [ -a ] [ -b ] [ -E | -e ] command [ service... ]\n\
    \x20      commands: help, list, listall, diff, change, start, stop, reload";

/// `s6-rc`.
pub fn rc(mut parser: lexopt::Parser) -> Result<u8> {
    let mut args = Args::default();
    let (mut verbosity, mut prune, mut essentials, mut command) = (1, false, true, None);
    while let Some(arg) = cli::next(&mut parser)? {
        match arg {
            Short('v') | Long("verbosity") => verbosity = number("-v", &mut parser)?,
            Short('n') | Long("dry-run") => args.dry_run = number("-n", &mut parser).map(|_| true)?,
            Short('t') | Long("timeout") => args.timeout = milliseconds(&mut parser)?,
            Short('l') | Long("livedir") => args.live = cli::value(&mut parser)?,
            Short('u') | Long("up") => (args.up, args.even_essential) = (true, false),
            Short('d') | Long("down") => (args.up, args.even_essential) = (false, false),
            Short('D') | Long("all-down") => (args.up, args.even_essential) = (false, true),
            Short('p') | Long("prune") => prune = true,
            Short('a') | Long("add") => args.all = true,
            Short('b') | Long("block") => args.wait = true,
            Short('E') | Long("with-essentials") => essentials = true,
            Short('e') | Long("without-essentials") => essentials = false,
            Short('X') | Long("no-lock") => {}
            Short('h') | Long("help") => return cli::help(RC_USAGE),
            Value(word) if command.is_none() => command = Some(cli::text(word)?),
            Value(word) => args.names.push(cli::text(word)?),
            _ => return Err(cli::usage(RC_USAGE)),
        }
    }
    absolute("livedir", &args.live)?;
    match command.as_deref() {
        Some("help") => cli::help(RC_USAGE),
        Some(which @ ("list" | "listall")) => list(&args, which == "listall", essentials),
        Some("diff") => diff(&args),
        Some("start") => change(&Args { up: true, ..args }, false, verbosity),
        Some("stop") => change(&Args { up: false, ..args }, false, verbosity),
        Some("change") => change(&args, prune, verbosity),
        Some("reload") => change::change(&args, Wish::Reload, busy(&args), &mut Told(verbosity)),
        _ => Err(cli::usage(RC_USAGE)),
    }
}

fn milliseconds(parser: &mut lexopt::Parser) -> Result<Option<Duration>> {
    let millis = number("-t", parser)?;
    Ok((millis > 0).then(|| Duration::from_millis(millis.into())))
}

fn busy(args: &Args) -> Busy {
    if args.wait { Busy::Wait } else { Busy::Refuse }
}

/// Services as s6-rc numbers them: longruns first.
fn in_order(graph: &Graph) -> Vec<Index> {
    let (longruns, oneshots): (Vec<Index>, Vec<Index>) =
        graph.shown().partition(|index| graph.services[*index].longrun);
    [longruns, oneshots].concat()
}

fn print<'a>(lines: impl Iterator<Item = &'a str>) -> u8 {
    let text: String = lines.flat_map(|line| [line, "\n"]).collect();
    diag::put(1, text.as_bytes());
    code::OK
}

fn list(args: &Args, all: bool, essentials: bool) -> Result<u8> {
    let live = Live::open(&args.live)?;
    let graph = &live.graph;
    let mut selection = select(graph, &args.names)?;
    if args.all {
        selection.extend(Engine::new(&live)?.up());
    }
    if all {
        selection = graph.closure(selection, !args.up);
    }
    let is_meant = |index: &Index| selection.contains(index) == (all || args.up);
    let is_shown = |index: &Index| essentials || !graph.services[*index].essential;
    let chosen = in_order(graph).into_iter().filter(|index| is_meant(index) && is_shown(index));
    Ok(print(chosen.map(|index| graph.name(index))))
}

/// Longruns that s6's own clients have been told something else of than we were.
fn diff(args: &Args) -> Result<u8> {
    let live = Live::open(&args.live)?;
    let mut lines = Vec::new();
    for index in in_order(&live.graph).into_iter().filter(|index| live.graph.services[*index].longrun) {
        let dir = format!("{}/servicedirs/{}", live.path, live.graph.name(index));
        let status = servicedir::read_file(CWD, format!("{dir}/supervise/status"));
        let Some(status) = status.ok().and_then(|bytes| Status::unpack(&bytes)) else { continue };
        let up = fs::symlink_metadata(format!("{dir}/down")).is_err();
        if up != status.want_up {
            lines.push(format!("{}{}", if up { '-' } else { '+' }, live.graph.name(index)));
        }
    }
    print(lines.iter().map(String::as_str));
    Ok(if lines.is_empty() { code::OK } else { code::NO })
}

fn change(args: &Args, prune: bool, verbosity: u32) -> Result<u8> {
    let wish = if args.up { Wish::Up } else { Wish::Down };
    if !prune {
        return change::change(args, wish, busy(args), &mut Told(verbosity));
    }
    let live = Live::open(&args.live)?;
    select(&live.graph, &args.names)?;
    let deadline = args.deadline();
    let _lock = live.lock_for(busy(args), "change", deadline)?;
    let live = Live::open(&args.live)?;
    let mut engine = Engine::new(&live)?;
    let mut selection = select(&live.graph, &args.names)?;
    if args.all {
        selection.extend(engine.up());
    }
    let closed = live.graph.closure(selection.iter().copied(), !args.up);
    let others: Set<Index> = set((0..live.graph.services.len()).filter(|index| !closed.contains(index)));
    let (down, up) = if args.up { (others, selection) } else { (closed, others) };
    let options = Options { deadline, jobs: args.jobs, even_essential: args.even_essential, by_force: false };
    let signals = change::listen_for_signals()?;
    for (set, wish) in [(down, false), (up, true)] {
        let report = engine.change(&set, wish, options, Some(&signals), &mut Told(verbosity))?;
        explain(&live.graph, &report, wish);
        if report.code() != 0 {
            return Ok(report.code());
        }
    }
    Ok(code::OK)
}

/// Tells of steps in s6-rc's words.
struct Told(u32);

impl Progress for Told {
    fn begins(&mut self, name: &str, up: bool) {
        if self.0 >= 2 {
            let what = if up { "starting" } else { "stopping" };
            diag::info(format_args!("service {name}: {what}"));
        }
    }

    fn ends(&mut self, name: &str, up: bool, end: End, _: Duration) {
        let (was, is) = if up { ("start", "started") } else { ("stop", "stopped") };
        match end {
            End::Done if self.0 >= 2 => diag::info(format_args!("service {name} successfully {is}")),
            End::Done => {}
            End::Unmet if self.0 >= 2 => diag::info(format_args!("service {name} skipped: {}", end.reason())),
            End::Unmet => {}
            _ if self.0 >= 1 => {
                let why = end.reason();
                diag::say(Level::Warning, format_args!("unable to {was} service {name}: {why}"));
            }
            _ => {}
        }
    }
}

// --------------------------------------------------------------------------------------- s6-rc-compile, -init

const COMPILE_USAGE: &str = "s6-rc-compile [ -v verbosity ] [ -h fdholder-user ] [ -b ] destdir sources...";

/// `s6-rc-compile`.
pub fn compile(mut parser: lexopt::Parser) -> Result<u8> {
    let mut words = Vec::new();
    while let Some(arg) = cli::next(&mut parser)? {
        match arg {
            Short('v') | Long("verbosity") => drop(number("-v", &mut parser)?),
            Short('h') | Long("fdholder-user") => drop(parser.value()?),
            Short('b') | Long("block") => {}
            Long("help") => return cli::help(COMPILE_USAGE),
            Value(word) => words.push(cli::text(word)?),
            _ => return Err(cli::usage(COMPILE_USAGE)),
        }
    }
    match words.as_slice() {
        [database, sources @ ..] if !sources.is_empty() => compile::compile(database, sources),
        _ => Err(cli::usage(COMPILE_USAGE)),
    }
}

const INIT_USAGE: &str =
    "s6-rc-init [ -c compiled ] [ -l live ] [ -p prefix ] [ -t timeout ] [ -d ] [ -b ] scandir";

/// Where the database is that a system boots with, if none is named.
const COMPILED: &str = "/etc/s6-rc/compiled";

/// `s6-rc-init`. Begun again, it sees to it that everything is supervised.
pub fn init(mut parser: lexopt::Parser) -> Result<u8> {
    let mut args = Args::default();
    let (mut compiled, mut dereference) = (COMPILED.to_owned(), false);
    while let Some(arg) = cli::next(&mut parser)? {
        match arg {
            Short('c') | Long("bootdb") => compiled = cli::value(&mut parser)?,
            Short('l') | Long("livedir") => args.live = cli::value(&mut parser)?,
            Short('p') | Long("prefix") => args.prefix = cli::value(&mut parser)?,
            Short('t') | Long("timeout") => args.timeout = milliseconds(&mut parser)?,
            Short('v') | Long("verbosity") => drop(number("-v", &mut parser)?),
            Short('d') => dereference = true,
            Short('b') | Long("block") => {}
            Short('h') | Long("help") => return cli::help(INIT_USAGE),
            Value(word) => args.names.push(cli::text(word)?),
            _ => return Err(cli::usage(INIT_USAGE)),
        }
    }
    let [scandir] = args.names.as_slice() else { return Err(cli::usage(INIT_USAGE)) };
    for (what, path) in [("compiled", &compiled), ("livedir", &args.live), ("scandir", scandir)] {
        absolute(what, path)?;
    }
    if args.prefix.contains(['/', '\n']) {
        return Err(Error::usage("the prefix cannot contain a slash or a newline"));
    }
    if !ScanDir::open(scandir)?.is_scanned()? {
        return Err(Error::usage(format!("svscan is not running on {scandir}")));
    }
    if dereference {
        let real = fs::canonicalize(&compiled).unable(format_args!("resolve {compiled}"))?;
        compiled = real.to_string_lossy().into_owned();
    }
    let Ok(live) = Live::open(&args.live) else { return compile::init(&args, &compiled, scandir) };
    let same = live.scandir == *scandir
        && live.prefix == args.prefix
        && live.origin().compiled.as_ref() == Some(&compiled);
    match same {
        true => compile::supervise(&live, args.deadline()),
        false => Err(Error::new(102, format!("{} is there already, for something else", args.live))),
    }
}

// ------------------------------------------------------------------------------------------------ s6-rc-db

const DB_USAGE: &str = "s6-rc-db [ -c compiled | -l live ] [ -u | -d ] [ -b ] [ -E | -e ] command [ name... ]\n\
    \x20      commands: help, check, list all|services|oneshots|longruns|bundles, type, timeout, contents, \
    dependencies, all-dependencies, atomics, pipeline, script, flags";

/// A database, or the part of a live directory that is one.
struct Database {
    dir: String,
    graph: Graph,
    /// What is asked concerns coming up, not going down.
    up: bool,
    essentials: bool,
}

/// `s6-rc-db`.
pub fn db(mut parser: lexopt::Parser) -> Result<u8> {
    let (mut dir, mut up, mut essentials, mut words) = (crate::init::place::live(), true, true, Vec::new());
    while let Some(arg) = cli::next(&mut parser)? {
        match arg {
            Short('c' | 'l') | Long("livedir" | "compiled") => dir = cli::value(&mut parser)?,
            Short('u') | Long("up") => up = true,
            Short('d') | Long("down") => up = false,
            Short('E') | Long("with-essentials") => essentials = true,
            Short('e') | Long("without-essentials") => essentials = false,
            Short('b') | Long("block") => {}
            Short('v') | Long("verbosity") => drop(number("-v", &mut parser)?),
            Short('h') | Long("help") => return cli::help(DB_USAGE),
            Value(word) => words.push(cli::text(word)?),
            _ => return Err(cli::usage(DB_USAGE)),
        }
    }
    let Some((command, names)) = words.split_first() else { return Err(cli::usage(DB_USAGE)) };
    if command == "help" {
        return cli::help(DB_USAGE);
    }
    let graph = read_graph(&dir)?;
    let database = Database { dir, graph, up, essentials };
    match (command.as_str(), names) {
        ("check", []) => Ok(code::OK),
        ("list", [what]) => database.list(what),
        ("type", [name]) => database.kind(name).map(|kind| print([kind].into_iter())),
        ("timeout", [name]) => {
            let service = &database.graph.services[database.atomic(name)?];
            let limit = if up { service.timeout_up } else { service.timeout_down };
            Ok(print([limit.to_string().as_str()].into_iter()))
        }
        ("contents", [name]) => match database.kind(name)? {
            "bundle" => database.print_set(database.behind(names)?),
            _ => Err(wrong_kind(name, "a bundle")),
        },
        ("atomics", [_, ..]) => database.print_set(database.behind(names)?),
        ("dependencies", [_, ..]) => {
            let graph = &database.graph;
            let all = database.behind(names)?.into_iter().flat_map(|index| match up {
                true => graph.shown_needs(index),
                false => graph.services[index].needed_by.clone(),
            });
            database.print_set(set(all))
        }
        ("all-dependencies", [_, ..]) => {
            database.print_set(database.graph.closure(database.behind(names)?, !up))
        }
        ("pipeline", [name]) => database.pipeline(name),
        ("script", [name]) => database.script(name),
        ("flags", [name]) => {
            let service = &database.graph.services[database.atomic(name)?];
            let bits = u32::from(service.essential) | u32::from(service.recommended) << 1;
            Ok(print([format!("{bits:08x}").as_str()].into_iter()))
        }
        _ => Err(cli::usage(DB_USAGE)),
    }
}

fn wrong_kind(name: &str, wanted: &str) -> Error {
    Error::new(WRONG_KIND, format!("{name} is not {wanted}"))
}

impl Database {
    fn behind(&self, names: &[String]) -> Result<Set<Index>> {
        select(&self.graph, names)
    }

    fn atomic(&self, name: &str) -> Result<Index> {
        self.behind(&[name.to_owned()])?;
        self.graph.index(name).ok_or_else(|| wrong_kind(name, "an atomic service"))
    }

    fn kind(&self, name: &str) -> Result<&'static str> {
        self.behind(&[name.to_owned()])?;
        Ok(match self.graph.index(name).map(|index| self.graph.services[index].longrun) {
            Some(true) => "longrun",
            Some(false) => "oneshot",
            None => "bundle",
        })
    }

    fn is_shown(&self, index: &Index) -> bool {
        self.essentials || !self.graph.services[*index].essential
    }

    /// As s6-rc-db prints sets: backwards.
    fn print_set(&self, set: Set<Index>) -> Result<u8> {
        let list = in_order(&self.graph).into_iter().rev();
        let chosen = list.filter(|index| set.contains(index) && self.is_shown(index));
        Ok(print(chosen.map(|index| self.graph.name(index))))
    }

    fn list(&self, what: &str) -> Result<u8> {
        let (longruns, oneshots, bundles) = match what {
            "all" => (true, true, true),
            "services" => (true, true, false),
            "longruns" => (true, false, false),
            "oneshots" => (false, true, false),
            "bundles" => (false, false, true),
            _ => return Err(cli::usage(DB_USAGE)),
        };
        let meant = |index: &Index| if self.graph.services[*index].longrun { longruns } else { oneshots };
        let atomics = in_order(&self.graph).into_iter().filter(|index| meant(index) && self.is_shown(index));
        let bundles = self.graph.bundles.keys().filter(|_| bundles).map(String::as_str);
        Ok(print(atomics.map(|index| self.graph.name(index)).chain(bundles)))
    }

    fn script(&self, name: &str) -> Result<u8> {
        if self.kind(name)? != "oneshot" {
            return Err(wrong_kind(name, "a oneshot"));
        }
        let file = if self.up { "up" } else { "down" };
        let words = fs::read(format!("{}/oneshots/{name}/{file}", self.dir)).unwrap_or_default();
        diag::put(1, &words);
        Ok(code::OK)
    }

    /// All pairs of producer and consumer of the pipeline that a longrun is in.
    fn pipeline(&self, name: &str) -> Result<u8> {
        if self.kind(name)? != "longrun" {
            return Err(wrong_kind(name, "a longrun"));
        }
        let names = |of: &str, file: &str| -> Vec<String> {
            let text = fs::read_to_string(format!("{}/servicedirs/{of}/{file}", self.dir));
            text.unwrap_or_default().lines().map(str::to_owned).collect()
        };
        let mut last = name.to_owned();
        while let Some(consumer) = names(&last, "producer-for").pop() {
            last = consumer;
        }
        let (mut lines, mut queue) = (Vec::new(), vec![last]);
        while let Some(consumer) = queue.pop() {
            for producer in names(&consumer, "consumer-for") {
                lines.push(format!("{producer}/{consumer}"));
                queue.push(producer);
            }
        }
        Ok(print(lines.iter().map(String::as_str)))
    }
}

// -------------------------------------------------------------------------------------------- s6-rc-update

const UPDATE_USAGE: &str = "s6-rc-update [ -n ] [ -v verbosity ] [ -t timeout ] [ -l live ] \
    [ -f conversion-file ] [ -b ] [ -E | -e ] newdb";

/// `s6-rc-update`: what is only changed is not restarted, as there. A service that gets another name is stopped,
/// and started as what it is then.
pub fn update(mut parser: lexopt::Parser) -> Result<u8> {
    let mut args = Args::default();
    let mut conversion = None;
    while let Some(arg) = cli::next(&mut parser)? {
        match arg {
            Short('n') | Long("dry-run") => args.dry_run = true,
            Short('v') | Long("verbosity") => drop(number("-v", &mut parser)?),
            Short('t') | Long("timeout") => args.timeout = milliseconds(&mut parser)?,
            Short('l') | Long("livedir") => args.live = cli::value(&mut parser)?,
            Short('f') | Long("conversion-file") => conversion = Some(cli::value(&mut parser)?),
            Short('b') | Long("block") => args.wait = true,
            Short('e') | Long("force-essentials") => args.even_essential = true,
            Short('E') | Long("keep-essentials") => args.even_essential = false,
            Short('h') | Long("help") => return cli::help(UPDATE_USAGE),
            Value(word) => args.names.push(cli::text(word)?),
            _ => return Err(cli::usage(UPDATE_USAGE)),
        }
    }
    let [database] = args.names.as_slice() else { return Err(cli::usage(UPDATE_USAGE)) };
    absolute("livedir", &args.live)?;
    absolute("newdb", database)?;
    let live = Live::open(&args.live)?;
    let _lock = live.lock_for(busy(&args), "apply", args.deadline())?;
    let live = Live::open(&args.live)?;
    let new = read_graph(database)?;
    let lines = match &conversion {
        Some(path) => fs::read(path).unable(format_args!("read {path}"))?,
        None => Vec::new(),
    };
    let (restart, replacements) = convert(&lines, &live.graph, &new)?;
    let wanted = wanted_after(&live, &new, &replacements)?;
    let next = apply::make_next(&args.live)?;
    stage::copy(database, &next)?;
    let mut origin = live.origin();
    (origin.compiled, origin.sources) = (Some(database.clone()), Vec::new());
    stage::write(&format!("{next}/origin"), origin.to_text())?;
    let wish = apply::Wish {
        restart: Restart::Named(restart),
        also: wanted,
        dry_run: args.dry_run,
        options: Options {
            deadline: args.deadline(),
            jobs: None,
            even_essential: args.even_essential,
            by_force: false,
        },
        ready_within: None,
    };
    Ok(match apply::apply(&live, &wish)? {
        Applied::Done => code::OK,
        Applied::NotStopped(2) => 10,
        Applied::NotStopped(_) | Applied::WentBack => 9,
        Applied::NotUp(code) => code,
    })
}

/// What is to be up afterwards, of what will be defined.
fn wanted_after(live: &Live, new: &Graph, replaced: &[(String, String)]) -> Result<Set<String>> {
    let mut wanted = Set::new();
    for index in Engine::new(live)?.up() {
        let name = live.graph.name(index);
        let becomes = replaced.iter().find(|(old, _)| old == name).map_or(name, |(_, new)| new);
        // A name that is gone is stopped, and that is all.
        let behind = new.atomics(becomes).unwrap_or_default();
        wanted.extend(behind.into_iter().map(|index| new.name(index).to_owned()));
    }
    Ok(wanted)
}

/// Which services are to be restarted, and which get another name: the old one, and the new.
type Conversion = (Set<String>, Vec<(String, String)>);

/// A conversion file: which services are to be restarted, and which get another name.
fn convert(text: &[u8], old: &Graph, new: &Graph) -> Result<Conversion> {
    let (mut restart, mut replaced) = (Set::new(), Vec::<(String, String)>::new());
    for (number, line) in text.split(|byte| *byte == b'\n').enumerate() {
        let bad = |what: &str| Error::usage(format!("conversion file, line {}: {what}", number + 1));
        let words = execline::parse(line).map_err(|e| bad(&e.to_string()))?;
        let words: Vec<String> = words.iter().map(|w| String::from_utf8_lossy(w).into_owned()).collect();
        let Some((name, rest)) = words.split_first() else { continue };
        if old.index(name).is_none() {
            let (code, what) = match old.bundles.contains_key(name) {
                true => (WRONG_KIND, "is not an atomic service"),
                false => (3, "is not defined"),
            };
            return Err(Error::new(code, format!("conversion file, line {}: {name} {what}", number + 1)));
        }
        let rest = match rest {
            [arrow, to, rest @ ..] if arrow == "->" => {
                if new.atomics(to).is_none() {
                    return Err(Error::new(3, format!("{to} is not defined in the new database")));
                }
                if replaced.iter().any(|(from, other)| from == name || other == to) {
                    return Err(Error::new(6, format!("conversion file: {name} or {to} is there twice")));
                }
                replaced.push((name.clone(), to.clone()));
                rest
            }
            rest => rest,
        };
        match rest {
            [] => {}
            [word] if word == "restart" => drop(restart.insert(name.clone())),
            _ => return Err(bad("write OLD [-> NEW] [restart]")),
        }
    }
    Ok((restart, replaced))
}

#[cfg(test)]
mod tests {
    use super::super::graph::tests::graph;
    use super::*;

    #[test]
    fn conversion_files() {
        let old = graph(&["a longrun", "b longrun", "all bundle a b"]);
        let new = graph(&["c longrun", "b longrun"]);
        let code = |text: &str| convert(text.as_bytes(), &old, &new).map_err(|e| e.code());
        let pair = vec![("a".to_owned(), "c".to_owned())];
        assert_eq!(code("# x\n\na -> c\n\"b\" restart"), Ok((set(["b".to_owned()]), pair)));
        assert_eq!(code("all restart"), Err(WRONG_KIND));
        assert_eq!(code("x"), Err(3));
        assert_eq!(code("a -> x"), Err(3));
        assert_eq!(code("a -> c\nb -> c"), Err(6));
        assert_eq!(code("a now"), Err(100));
        assert_eq!(code("\"a"), Err(100));
    }
}
