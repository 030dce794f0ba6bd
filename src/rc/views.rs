//! The commands of rc that show something. Each gives the text to be printed.

use super::args::{Args, Form, select};
use super::check::{read, refuse};
use super::graph::{Graph, Index};
use super::live::Live;
use super::scripts::Root;
use super::show::{self, Look, Row};
use super::times::{self, Change};
use super::{chart, draw, picture, timing, why};
use crate::diag::{Error, Result, code};
use crate::init::overlay;
use crate::ordered::Set;
use crate::ordered::set;
use crate::report::json::Json;
use crate::report::table::{self, Table, Tone};
use crate::sys::clock;

/// `rc list`
pub fn list(args: &Args) -> Result<String> {
    let rows = rows(args)?;
    let wanted = rows.iter().filter(|row| !(args.only_up || args.all) || row.is_up());
    Ok(wanted.map(|row| format!("{}\n", row.name())).collect())
}

/// `rc status`
pub fn status(args: &Args) -> Result<String> {
    let mut rows = rows(args)?;
    rows.retain(|row| !(args.only_up || args.all) || row.is_up());
    let now = clock::wall();
    Ok(match args.json {
        true => show::json(&rows, now),
        false => show::table(&rows, now, table::colour()),
    })
}

/// `rc deps`: what the services that were named need, directly or not, in the order in which it is
/// started; or what needs them, in the order in which it is stopped.
pub fn deps(args: &Args) -> Result<String> {
    let (live, chosen) = open(args)?;
    let graph = &live.graph;
    let look = Look::new(&live);
    let mut table = Table::new(&["service", "edge", "state"], &[]);
    let mut list = Vec::new();
    for index in graph.in_order(graph.closure(chosen.iter().copied(), args.reverse), args.reverse) {
        if chosen.contains(&index) || graph.services[index].hidden {
            continue;
        }
        let edge = edge(graph, &chosen, index, args.reverse);
        let row = look.row(index);
        list.push(Json::Object(vec![
            ("name", row.name().into()),
            ("edge", edge.into()),
            ("state", row.word.0.clone().into()),
        ]));
        let faint = if edge == "through others" { Tone::Faint } else { Tone::Plain };
        table.row(vec![(row.name().to_owned(), Tone::Plain), (edge.to_owned(), faint), row.word]);
    }
    Ok(match args.json {
        true => Json::List(list).to_text() + "\n",
        false => table.to_text(table::colour()),
    })
}

/// `rc graph`. `read`: gives the graph where there is no live directory.
pub fn graph(args: &Args) -> Result<String> {
    let live = Live::open(&args.live).ok();
    let graph = match &live {
        Some(live) => live.graph.clone(),
        // Nothing runs: what would be booted.
        None => {
            let (_, graph, findings) = read(&Root::here(), &[]);
            refuse(&findings)?;
            graph
        }
    };
    let chosen = select(&graph, &args.names)?;
    if args.form == Form::Tree {
        return Ok(tree(&graph, &args.names));
    }
    let top = graph.bundles.get(overlay::TOP).filter(|_| live.is_none());
    let all = match (args.names.is_empty(), top) {
        (true, None) => set(0..graph.services.len()),
        (true, Some(top)) => graph.closure(top.iter().copied(), false),
        _ => graph.closure(chosen, args.reverse),
    };
    if args.form == Form::Dot {
        return Ok(picture::dot(&graph, &all));
    }
    let look = live.as_ref().map(Look::new);
    let tone = |index: Index| match look.as_ref().map(|look| look.row(index).word.1) {
        Some(tone) => tone,
        None => Tone::Plain,
    };
    Ok(picture::svg(&graph, &all, if look.is_some() { Some(&tone) } else { None }))
}

/// `rc why`
pub fn why(args: &Args) -> Result<String> {
    let (live, chosen) = open(args)?;
    let look = Look::new(&live);
    let shown = chosen.into_iter().filter(|i| !live.graph.services[*i].hidden);
    let texts: Vec<String> = shown.map(|index| why::explain(&live, &look, index)).collect();
    Ok(texts.join("\n"))
}

/// `rc blame`
pub fn blame(args: &Args) -> Result<String> {
    let (live, chosen) = open(args)?;
    Ok(times::blame(&live.graph, &timing::read(&args.live), &chosen, table::colour()))
}

/// `rc critical`
pub fn critical(args: &Args) -> Result<String> {
    change(args, |graph, change| times::critical(graph, change, table::colour()))
}

/// `rc plot`
pub fn plot(args: &Args) -> Result<String> {
    change(args, chart::svg)
}

/// Shows a change.
fn change(args: &Args, show: impl FnOnce(&Graph, &Change) -> String) -> Result<String> {
    let (live, chosen) = open(args)?;
    match Change::find(&live.graph, &timing::read(&args.live), &chosen) {
        Some(change) => Ok(show(&live.graph, &change)),
        None => Err(Error::new(code::NO, "no change that brought services up is over yet")),
    }
}

fn open(args: &Args) -> Result<(Live, Set<Index>)> {
    let live = Live::open(&args.live)?;
    let chosen = select(&live.graph, &args.names)?;
    Ok((live, chosen))
}

/// What the services are that were named, or all of them.
fn rows(args: &Args) -> Result<Vec<Row>> {
    let (live, chosen) = open(args)?;
    let mut rows = Look::new(&live).rows();
    rows.retain(|row| args.names.is_empty() || chosen.contains(&row.index));
    Ok(rows)
}

/// How `chosen` and a service that goes with them are joined.
fn edge(graph: &Graph, chosen: &Set<Index>, index: Index, reverse: bool) -> &'static str {
    let joined = |list: fn(&Graph, Index) -> Vec<Index>| match reverse {
        true => list(graph, index).iter().any(|i| chosen.contains(i)),
        false => chosen.iter().any(|i| list(graph, *i).contains(&index)),
    };
    match () {
        () if joined(|graph, i| graph.shown_needs(i)) => "needs",
        () if joined(|graph, i| graph.services[i].wants.clone()) => "wants",
        () => "through others",
    }
}

fn tree(graph: &Graph, names: &[String]) -> String {
    let (roots, left) = match (names, graph.bundles.get(overlay::TOP)) {
        ([], Some(top)) => draw::boot_roots(graph, top),
        ([], None) => (draw::roots(graph), Vec::new()),
        _ => (names.to_vec(), Vec::new()),
    };
    let mut text = draw::tree(graph, &roots);
    if !left.is_empty() {
        text += &format!("not started at boot: {}\n", left.join(" "));
    }
    text
}
