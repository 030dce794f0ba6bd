//! Dependencies: checks definitions, brings services up and down in order, says what is.

use lexopt::prelude::*;
use perennial::cli;
use perennial::diag::{self, Result, code};
use perennial::init::overlay;
use perennial::rc::args::{Args, select, timeout};
use perennial::rc::change::{self, Lines, Wish};
use perennial::rc::check::{check, read, refuse};
use perennial::rc::live::{Busy, Live};
use perennial::rc::scripts::Root;
use perennial::rc::{apply, compile, draw, show};
use perennial::report::table;
use perennial::sys::clock;
use std::process::ExitCode;

const USAGE: &str = "rc check [ --root image ] [ --layer ] [ source... ]\n\
    \x20      rc [ -l live ] [ -t timeout ] [ -j jobs ] [ -b ] [ --dry-run ] [ --no-wait ] up | down | restart | reload name...\n\
    \x20      rc [ -l live ] [ -t timeout ] [ -j jobs ] [ -b ] [ --dry-run ] [ --ready-within time ] apply [ source... ]\n\
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

/// Its options.
pub fn rc(mut parser: lexopt::Parser) -> Result<u8> {
    let mut args = Args::default();
    let mut command = None;
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
            Short('n') | Long("dry-run") => args.dry_run = true,
            Long("ready-within") => args.ready_within = timeout(&parser.value()?.string()?)?,
            Long("no-wait") => args.no_wait = true,
            Long("root") => args.root = Some(parser.value()?.string()?),
            Long("layer") => args.layer = true,
            Long("json") => args.json = true,
            Long("up") => args.only_up = true,
            Short('h') | Long("help") => return cli::help(USAGE),
            Value(word) if command.is_none() => command = Some(word.string()?),
            Value(word) => args.names.push(word.string()?),
            _ => return Err(cli::usage(USAGE)),
        }
    }
    let named = |wish: Wish| match args.names.is_empty() {
        true => Err(cli::usage(USAGE)),
        false => change::command(&args, wish),
    };
    match command.as_deref() {
        Some("check") => check(&args),
        Some("compile") => match args.names.as_slice() {
            [database, sources @ ..] if !sources.is_empty() => compile::compile(database, sources),
            _ => Err(cli::usage(USAGE)),
        },
        Some("init") => match (args.names.as_slice(), &args.compiled) {
            ([scandir], Some(compiled)) => compile::init(&args, compiled, scandir),
            _ => Err(cli::usage(USAGE)),
        },
        Some("up") => named(Wish::Up),
        Some("down") => named(Wish::Down),
        Some("restart") => named(Wish::Restart),
        Some("reload") => named(Wish::Reload),
        Some("apply") => apply::command(&args),
        Some("change") => {
            let wish = if args.up { Wish::Up } else { Wish::Down };
            change::change(&args, wish, if args.wait { Busy::Wait } else { Busy::Refuse }, &mut Lines)
        }
        Some("list") => list(&args),
        Some("status") => status(&args),
        Some("graph") => graph(&args),
        _ => Err(cli::usage(USAGE)),
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
