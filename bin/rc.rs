//! Dependencies: checks definitions, brings services up and down in order, says what is.

use lexopt::prelude::*;
use perennial::cli;
use perennial::diag::{self, Error, Result, Unable, code};
use perennial::init::overlay;
use perennial::rc::engine::{End, Engine, Options, Progress, Report, unknown_service};
use perennial::rc::graph::{Graph, Index, nearest};
use perennial::rc::live::{self, Busy, Live};
use perennial::rc::scripts::Root;
use perennial::rc::source::{self, Findings};
use perennial::rc::{draw, show};
use perennial::report::{count, table, took};
use perennial::sys::clock;
use perennial::sys::signal::{self, SignalFd};
use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::Duration;

const USAGE: &str = "rc check [ --root image ] [ source... ]\n\
    \x20      rc [ -l live ] [ -t timeout ] [ -j jobs ] [ -b ] up | down name...\n\
    \x20      rc [ -l live ] [ -u | -d | -D ] [ -a ] [ -t timeout ] [ -j jobs ] [ -b ] change [ name... ]\n\
    \x20      rc [ -l live ] list [ --up ] [ name... ]\n\
    \x20      rc [ -l live ] status [ --json ] [ name... ]\n\
    \x20      rc [ -l live ] graph [ name... ]\n\
    \x20      rc compile database source...\n\
    \x20      rc init -c database [ -l live ] [ -p prefix ] scandir";

/// The program.
pub fn main() -> ExitCode {
    cli::main("rc", rc)
}

/// Everything that may stand before or after the command.
struct Args {
    live: String,
    compiled: Option<String>,
    root: Option<String>,
    prefix: String,
    timeout: Option<Duration>,
    jobs: Option<usize>,
    up: bool,
    even_essential: bool,
    all: bool,
    wait: bool,
    json: bool,
    only_up: bool,
    command: Option<String>,
    names: Vec<String>,
}

/// Its options.
pub fn rc(mut parser: lexopt::Parser) -> Result<u8> {
    let mut args = Args {
        live: "/run/s6-rc".to_owned(),
        compiled: None,
        root: None,
        prefix: String::new(),
        timeout: None,
        jobs: None,
        up: true,
        even_essential: false,
        all: false,
        wait: false,
        json: false,
        only_up: false,
        command: None,
        names: Vec::new(),
    };
    while let Some(arg) = parser.next()? {
        match arg {
            Short('l') | Long("live") => args.live = cli::absolute(&parser.value()?.string()?)?,
            Short('c') => args.compiled = Some(parser.value()?.string()?),
            Short('p') => args.prefix = parser.value()?.string()?,
            Short('t') | Long("timeout") => args.timeout = timeout(&parser.value()?.string()?)?,
            Short('j') | Long("jobs") => args.jobs = Some(cli::number("-j", &parser.value()?, 1, 1 << 20)?),
            Short('u') => args.up = true,
            Short('d') => args.up = false,
            Short('D') => (args.up, args.even_essential) = (false, true),
            Short('a') => args.all = true,
            Short('b') => args.wait = true,
            Long("root") => args.root = Some(parser.value()?.string()?),
            Long("json") => args.json = true,
            Long("up") => args.only_up = true,
            Short('h') | Long("help") => return cli::help(USAGE),
            Value(word) if args.command.is_none() => args.command = Some(word.string()?),
            Value(word) => args.names.push(word.string()?),
            _ => return Err(cli::usage(USAGE)),
        }
    }
    match args.command.as_deref() {
        Some("check") => check(&args),
        Some("compile") => compile(&args),
        Some("init") => init(&args),
        Some("up" | "down") if args.names.is_empty() => Err(cli::usage(USAGE)),
        Some("up") => change(&args, true),
        Some("down") => change(&args, false),
        Some("change") => change(&args, args.up),
        Some("list") => list(&args),
        Some("status") => status(&args),
        Some("graph") => graph(&args),
        _ => Err(cli::usage(USAGE)),
    }
}

/// Milliseconds as in s6-rc, or a duration with its unit.
fn timeout(text: &str) -> Result<Option<Duration>> {
    let limit = perennial::time::parse_duration(text)
        .ok_or_else(|| Error::usage(format!("invalid timeout {text:?}: write 500ms, 30s, 2m")))?;
    Ok(Some(limit).filter(|d| !d.is_zero()))
}

/// Reads sources; without any, those of the image.
fn read(root: &Root, sources: &[String]) -> (source::Definitions, Graph, Findings) {
    let mut findings = Findings::default();
    let plain = |source: &String| match source.trim_end_matches('/') {
        "" => "/".to_owned(),
        path if root.prefix().is_empty() => path.to_owned(),
        path => format!("{}/{}", root.prefix(), path.trim_start_matches('/')),
    };
    let (sources, roots) = match sources.is_empty() {
        true => (overlay::sources(root.prefix()), &[overlay::TOP][..]),
        false => (sources.iter().map(plain).collect(), &[][..]),
    };
    if sources.is_empty() {
        findings.warn(
            &format!("{}/etc/s6-overlay/s6-rc.d", root.prefix()),
            None,
            "there is no such directory: nothing is defined",
        );
    }
    let definitions = source::read_below(root, &sources, overlay::built_in(), roots, &mut findings);
    let graph = Graph::build(&definitions, &mut findings);
    (definitions, graph, findings)
}

fn check(args: &Args) -> Result<u8> {
    let root = args.root.as_deref().map_or(Ok(Root::here()), Root::at)?;
    let (definitions, _, findings) = read(&root, &args.names);
    diag::put(1, show::findings(&findings, &definitions).as_bytes());
    Ok(if findings.errors.is_empty() { code::OK } else { code::NO })
}

/// Says all that is wrong; an error if anything is.
fn refuse(findings: &Findings) -> Result<()> {
    findings.warnings.iter().for_each(diag::warn);
    findings.errors.iter().for_each(|e| diag::say(diag::Level::Fatal, e));
    match findings.errors.len() {
        0 => Ok(()),
        n => {
            let errors = count(n, "error");
            Err(Error::new(code::NO, format!("{errors} in the definitions: nothing was done")))
        }
    }
}

fn compile(args: &Args) -> Result<u8> {
    let [database, sources @ ..] = args.names.as_slice() else { return Err(cli::usage(USAGE)) };
    if sources.is_empty() {
        return Err(cli::usage(USAGE));
    }
    let (definitions, graph, findings) = read(&Root::here(), sources);
    refuse(&findings)?;
    std::fs::create_dir(database).unable(format_args!("make {database}"))?;
    live::fill(database, &definitions, &graph)?;
    Ok(code::OK)
}

fn init(args: &Args) -> Result<u8> {
    let ([scandir], Some(compiled)) = (args.names.as_slice(), &args.compiled) else {
        return Err(cli::usage(USAGE));
    };
    let live = live::create_from(&args.live, &cli::absolute(scandir)?, &args.prefix, compiled)?;
    let names = live.link()?;
    let mut engine = Engine::new(&live)?;
    engine.add(names)?;
    engine.refresh()?;
    Ok(code::OK)
}

fn select(graph: &Graph, names: &[String]) -> Result<BTreeSet<Index>> {
    let mut selection = BTreeSet::new();
    for name in names {
        let found = graph.atomics(name).ok_or_else(|| {
            let known = graph.services.iter().map(|s| &s.name).chain(graph.bundles.keys());
            unknown_service(name, nearest(name, 2, known.map(String::as_str)))
        })?;
        selection.extend(found);
    }
    Ok(selection)
}

fn change(args: &Args, up: bool) -> Result<u8> {
    let live = Live::open(&args.live)?;
    let mut selection = select(&live.graph, &args.names)?;
    let _lock = live.lock(if args.wait { Busy::Wait } else { Busy::Refuse })?;
    let mut engine = Engine::new(&live)?;
    if args.all {
        let is_up = |i: &Index| engine.states()[*i] != perennial::supervise::wire::Standing::Down;
        selection.extend((0..live.graph.services.len()).filter(is_up));
    }
    let blocked = signal::block_all();
    let signals = SignalFd::open(blocked).unable("create a signal descriptor")?;
    let options = Options {
        deadline: args.timeout.map(|limit| clock::mono().after(limit)),
        jobs: args.jobs,
        even_essential: args.even_essential,
    };
    let report = engine.change(&selection, up, options, Some(&signals), &mut Lines)?;
    explain(&live.graph, &report, up);
    Ok(report.code())
}

/// A line for each step that ends, and for what went wrong.
struct Lines;

impl Progress for Lines {
    fn begins(&mut self, _: &str, _: bool) {}

    fn ends(&mut self, name: &str, up: bool, end: End, duration: Duration) {
        let (is, was) = if up { ("up", "start") } else { ("down", "stop") };
        match end {
            End::Done => diag::put(1, format!("{name} is {is} ({})\n", took(duration)).as_bytes()),
            _ => {
                let why = end.reason();
                diag::warn(format_args!("unable to {was} {name}: {why} ({})", took(duration)));
                true
            }
        };
    }
}

fn explain(graph: &Graph, report: &Report, up: bool) {
    let names = |list: &[Index]| list.iter().map(|i| graph.name(*i)).collect::<Vec<_>>().join(" ");
    let cut_short = report.cut_short(graph);
    if cut_short.is_none() && !report.skipped.is_empty() {
        let what = if up { "not started" } else { "not stopped" };
        diag::warn(format_args!("{what} because of that: {}", names(&report.skipped)));
    }
    if !report.kept.is_empty() {
        diag::warn(format_args!("essential, left up (-D takes them down too): {}", names(&report.kept)));
    }
    if let Some(text) = cut_short {
        diag::warn(text);
    }
}

fn list(args: &Args) -> Result<u8> {
    let rows = chosen_rows(args)?;
    let wanted = rows.iter().filter(|row| !(args.only_up || args.all) || row.is_up());
    let names: String = wanted.map(|row| format!("{}\n", row.name())).collect();
    diag::put(1, names.as_bytes());
    Ok(code::OK)
}

/// What the services are that were named, or all of them.
fn chosen_rows(args: &Args) -> Result<Vec<show::Row>> {
    let live = Live::open(&args.live)?;
    let selection = select(&live.graph, &args.names)?;
    let mut rows = show::rows(&live);
    if !args.names.is_empty() {
        rows.retain(|row| live.graph.index(row.name()).is_some_and(|i| selection.contains(&i)));
    }
    Ok(rows)
}

fn status(args: &Args) -> Result<u8> {
    let rows = chosen_rows(args)?;
    let now = clock::wall();
    let text = match args.json {
        true => show::json(&rows, now),
        false => show::table(&rows, now, table::colour()),
    };
    diag::put(1, text.as_bytes());
    Ok(code::OK)
}

fn graph(args: &Args) -> Result<u8> {
    let graph = match Live::open(&args.live) {
        Ok(live) => live.graph,
        // Nothing runs: draw what would be booted.
        Err(_) => {
            let (_, graph, findings) = read(&Root::here(), &[]);
            refuse(&findings)?;
            graph
        }
    };
    let (roots, left) = match (args.names.as_slice(), graph.bundles.get(overlay::TOP)) {
        ([], Some(top)) => draw::boot_roots(&graph, top),
        ([], None) => (draw::roots(&graph), Vec::new()),
        (names, _) => {
            select(&graph, names)?;
            (names.to_vec(), Vec::new())
        }
    };
    let mut text = draw::tree(&graph, &roots);
    if !left.is_empty() {
        text += &format!("not started at boot: {}\n", left.join(" "));
    }
    diag::put(1, text.as_bytes());
    Ok(code::OK)
}
