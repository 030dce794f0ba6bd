//! The graph as a picture: SVG, and DOT for graphviz.
//!
//! What is needed stands above what needs it, so things start from top to bottom and arrows lead to what
//! comes after. A dependency that follows from others is left out, and the picture says how many those are.

use super::graph::{Graph, Index};
use super::layout::{self, BOX, Edge};
use crate::ordered::Set;
use crate::report::count;
use crate::report::svg::{Anchor, Svg, WIDTH, text_width};
use crate::report::table::Tone;
use std::fmt::Write as _;

/// What an edge is: its kind, the class that it is drawn in, what it is called, and DOT's word for its look.
const KINDS: [(&str, &str, &str); 3] = [
    ("needs", "needs it", "solid"),
    ("wants", "wants it", "dashed"),
    ("after", "only comes after it", "dotted"),
];

const LIGHT: &str = ".box{fill:#f6f8fa;stroke:#818b98;stroke-width:1.2}.good{fill:#dafbe1;stroke:#1a7f37}\
    .fair{fill:#fff8c5;stroke:#9a6700}.bad{fill:#ffebe9;stroke:#cf222e}.off{fill:#ffffff;stroke:#afb8c1}\
    .needs,.wants,.after{fill:none;stroke:#59636e;stroke-width:1.4}.wants{stroke:#0969da;stroke-dasharray:6 4}\
    .after{stroke:#8250df;stroke-dasharray:1.5 4;stroke-linecap:round;stroke-width:1.8}\
    .tip{fill:#59636e}.tip1{fill:#0969da}.tip2{fill:#8250df}";
const DARK: &str = ".box{fill:#161b22;stroke:#7d8590}.good{fill:#12261e;stroke:#3fb950}\
    .fair{fill:#272115;stroke:#d29922}.bad{fill:#25171c;stroke:#f85149}.off{fill:#0d1117;stroke:#484f58}\
    .needs{stroke:#9198a1}.wants{stroke:#4493f8}.after{stroke:#ab7df8}\
    .tip{fill:#9198a1}.tip1{fill:#4493f8}.tip2{fill:#ab7df8}";

/// Pixels around the picture.
const MARGIN: i32 = 24;

/// The part of a graph that is to be drawn, its services numbered anew.
struct Part<'a> {
    graph: &'a Graph,
    services: Vec<Index>,
    edges: Vec<Edge>,
    /// Edges that follow from others, left out.
    implied: usize,
}

impl<'a> Part<'a> {
    fn new(graph: &'a Graph, chosen: &Set<Index>) -> Part<'a> {
        let services: Vec<Index> = graph.shown().filter(|i| chosen.contains(i)).collect();
        let number = |index: &Index| services.binary_search(index).ok();
        let mut edges = Vec::new();
        for (to, index) in services.iter().enumerate() {
            let service = &graph.services[*index];
            let first = edges.len();
            for (kind, list) in
                [&graph.shown_needs(*index), &service.wants, &service.after].iter().enumerate()
            {
                for from in list.iter().filter_map(number) {
                    if !edges[first..].iter().any(|edge: &Edge| edge.from == from) {
                        edges.push(Edge { from, to, kind: kind as u8 });
                    }
                }
            }
        }
        let kept = without_implied(services.len(), &edges);
        Part { graph, services, implied: edges.len() - kept.len(), edges: kept }
    }

    fn name(&self, number: usize) -> &'a str {
        self.graph.name(self.services[number])
    }
}

/// Leaves out each edge whose ends are joined by a longer way of needs.
fn without_implied(count: usize, edges: &[Edge]) -> Vec<Edge> {
    let mut needs = vec![Vec::new(); count];
    let hard = |e: &&Edge| e.kind == 0;
    edges.iter().filter(hard).for_each(|e| needs[e.to].push(e.from));
    let mut kept = Vec::new();
    for to in 0..count {
        let into = || edges.iter().filter(|e| e.to == to);
        let mut seen = vec![false; count];
        let mut queue: Vec<usize> = into().filter(hard).flat_map(|e| needs[e.from].iter().copied()).collect();
        while let Some(index) = queue.pop() {
            if !std::mem::replace(&mut seen[index], true) {
                queue.extend(&needs[index]);
            }
        }
        kept.extend(into().filter(|e| !seen[e.from]));
    }
    kept
}

/// The picture of the services in `chosen`. `tone`: what each is now; None: nothing runs.
pub fn svg(graph: &Graph, chosen: &Set<Index>, tone: Option<&dyn Fn(Index) -> Tone>) -> String {
    let part = Part::new(graph, chosen);
    let widths: Vec<i32> =
        (0..part.services.len()).map(|n| (text_width(part.name(n)) + 18).max(56)).collect();
    let drawn = layout::layered(&widths, &part.edges, WIDTH - 2 * MARGIN);
    let (left, top) = (MARGIN.max((WIDTH - drawn.width) / 2), 84);
    let mut svg = Svg::new();
    let title = format!("{} and what must be up before", count(part.services.len(), "service"));
    svg.text("title", MARGIN, 34, Anchor::Start, &title);
    legend(&mut svg, &part, tone.is_some());
    for (edge, route) in part.edges.iter().zip(&drawn.routes) {
        draw_edge(&mut svg, edge.kind, route, [left, top]);
    }
    for (number, [x, y]) in drawn.boxes.iter().copied().enumerate() {
        let index = part.services[number];
        let service = &graph.services[index];
        let state = match tone.map(|tone| tone(index)) {
            None => "box",
            Some(Tone::Good) => "box good",
            Some(Tone::Bad) => "box bad",
            Some(Tone::Fair) => "box fair",
            Some(_) => "box off",
        };
        let (x, y) = (x + left, y + top);
        let round = if service.longrun { BOX / 2 } else { 3 };
        svg.rect(state, [x - widths[number] / 2, y, widths[number], BOX], round, &about(graph, index));
        svg.text("", x, y + 20, Anchor::Middle, &service.name);
    }
    let mut bottom = top + drawn.height + 34;
    if part.implied > 0 {
        let text = match part.implied {
            1 => "1 dependency that follows from others is not drawn.".to_owned(),
            n => format!("{n} dependencies that follow from others are not drawn."),
        };
        svg.text("small faint", MARGIN, bottom, Anchor::Start, &text);
        bottom += 20;
    }
    svg.finish("Services and their dependencies", LIGHT, DARK, WIDTH.max(drawn.width + 2 * MARGIN), bottom)
}

/// What rests behind a box.
fn about(graph: &Graph, index: Index) -> String {
    let service = &graph.services[index];
    let mut text = format!("{} ({})", service.name, if service.longrun { "longrun" } else { "oneshot" });
    for (what, list) in
        [("needs", &graph.shown_needs(index)), ("wants", &service.wants), ("after", &service.after)]
    {
        if !list.is_empty() {
            let names: Vec<&str> = list.iter().map(|i| graph.name(*i)).collect();
            text.extend(["; ", what, ": ", &names.join(" ")]);
        }
    }
    text
}

fn legend(svg: &mut Svg, part: &Part<'_>, states: bool) {
    let mut x = MARGIN;
    let y = 60;
    for (word, round) in [("longrun", 9), ("oneshot", 3)] {
        svg.rect("box", [x, y - 14, 30, 18], round, "");
        svg.text("small faint", x + 38, y, Anchor::Start, word);
        x += 108;
    }
    for (kind, (class, word, _)) in KINDS.iter().enumerate() {
        if part.edges.iter().any(|e| usize::from(e.kind) == kind) {
            svg.line(class, [x, y - 5, x + 32, y - 5]);
            tip(svg, kind, &format!("M{} {}l-8 -4v8z", x + 40, y - 5));
            svg.text("small faint", x + 48, y, Anchor::Start, word);
            x += 72 + text_width(word);
        }
    }
    if states {
        for (class, word) in [("good", "up"), ("fair", "on its way"), ("bad", "failed"), ("off", "down")] {
            svg.rect(&format!("box {class}"), [x, y - 14, 18, 18], 3, "");
            svg.text("small faint", x + 25, y, Anchor::Start, word);
            x += 50 + text_width(word);
        }
    }
}

fn tip(svg: &mut Svg, kind: usize, d: &str) {
    svg.path(["tip", "tip1", "tip2"][kind], d);
}

fn draw_edge(svg: &mut Svg, kind: u8, route: &[[i32; 2]], [left, top]: [i32; 2]) {
    let mut d = String::new();
    for (n, [x, y]) in route.iter().map(|[x, y]| [x + left, y + top]).enumerate() {
        // The line ends in the middle of the arrow's tip.
        let end = if n + 1 == route.len() { y - 6 } else { y };
        let _ = match n {
            0 => write!(d, "M{x} {y}"),
            _ if n % 2 == 0 => write!(d, "L{x} {end}"),
            _ => {
                let [from, above] = [route[n - 1][0] + left, route[n - 1][1] + top];
                let middle = (above + y) / 2;
                write!(d, "C{from} {middle} {x} {middle} {x} {end}")
            }
        };
    }
    let kind = usize::from(kind);
    svg.path(KINDS[kind].0, &d);
    if let Some([x, y]) = route.last() {
        tip(svg, kind, &format!("M{} {}l-4 -8h8z", x + left, y + top));
    }
}

/// The graph in the language of graphviz: an arrow from each service to what must be up before.
pub fn dot(graph: &Graph, chosen: &Set<Index>) -> String {
    let quote = |name: &str| format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\""));
    let mut out = String::from("digraph services {\n\trankdir=LR\n");
    let shown = || graph.shown().filter(|i| chosen.contains(i));
    for index in shown() {
        let service = &graph.services[index];
        let shape = if service.longrun { "ellipse" } else { "box" };
        let _ = writeln!(out, "\t{} [shape={shape}]", quote(&service.name));
    }
    for index in shown() {
        let service = &graph.services[index];
        let lists = [&graph.shown_needs(index), &service.wants, &service.after];
        for ((_, _, style), list) in KINDS.iter().zip(lists) {
            for other in list.iter().filter(|i| chosen.contains(i) && !graph.services[**i].hidden) {
                let (from, to) = (quote(&service.name), quote(graph.name(*other)));
                let _ = writeln!(out, "\t{from} -> {to} [style={style}]");
            }
        }
    }
    for (name, members) in
        graph.bundles.iter().filter(|(_, members)| members.iter().any(|m| chosen.contains(m)))
    {
        let _ = writeln!(out, "\t{} [shape=folder]", quote(name));
        for member in members.iter().filter(|i| chosen.contains(i) && !graph.services[**i].hidden) {
            let _ = writeln!(out, "\t{} -> {} [color=gray]", quote(name), quote(graph.name(*member)));
        }
    }
    out + "}\n"
}

#[cfg(test)]
mod tests {
    use super::super::graph::tests::graph;
    use super::*;

    #[test]
    fn what_follows_from_others_is_left_out() {
        let g = graph(&["a oneshot", "b longrun a", "c longrun a b", "d longrun c a"]);
        let part = Part::new(&g, &(0..4).collect());
        let edges: Vec<_> = part.edges.iter().map(|e| (e.from, e.to)).collect();
        assert_eq!((edges, part.implied), (vec![(0, 1), (1, 2), (2, 3)], 2));
        let text = svg(&g, &(0..4).collect(), None);
        assert!(text.contains("2 dependencies that follow from others are not drawn."));
        assert!(text.contains("<title>d (longrun); needs: a c</title>"), "{text}");
    }

    #[test]
    fn graphviz_reads_any_name() {
        let mut g = graph(&["a oneshot", "b longrun a", "user bundle b"]);
        g.services[0].name = "a \"quoted\\ name".into();
        g.services[1].after = vec![0];
        assert_eq!(
            dot(&g, &(0..2).collect()),
            "digraph services {\n\trankdir=LR\n\t\"a \\\"quoted\\\\ name\" [shape=box]\n\t\"b\" [shape=ellipse]\n\
             \t\"b\" -> \"a \\\"quoted\\\\ name\" [style=solid]\n\t\"b\" -> \"a \\\"quoted\\\\ name\" [style=dotted]\n\
             \t\"user\" [shape=folder]\n\t\"user\" -> \"b\" [color=gray]\n}\n"
        );
    }
}
