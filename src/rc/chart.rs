//! The boot chart: a row for each service with when it waited, started and was up, as SVG.

use super::graph::{Graph, Index};
use super::times::{Bar, Change};
use crate::report::svg::{Anchor, Svg, WIDTH, text_width};
use crate::report::took;
use std::time::Duration;

const LIGHT: &str = ".wait{fill:#d0d7de}.start{fill:#218bff}.crit{fill:#e16f24}.fail{fill:#cf222e}\
    .ready{fill:#c9ecd2}.link{fill:none;stroke:#bc4c00;stroke-width:1.5}.key{fill:#953800}.wrong{fill:#a40e26}\
    .row{stroke:#eff2f5}.time{paint-order:stroke;stroke:#c9ecd2;stroke-width:4px}";
const DARK: &str = ".wait{fill:#3d444d}.start{fill:#388bfd}.crit{fill:#e0823d}.fail{fill:#f85149}\
    .ready{fill:#1b4428}.link{stroke:#f0883e}.key{fill:#f0a05c}.wrong{fill:#ff8f88}.row{stroke:#1c2128}.time{stroke:#1b4428}";

/// Pixels around the chart.
const MARGIN: i32 = 24;
/// Pixels from row to row.
const ROW: i32 = 22;
/// Pixels: height of a bar.
const BAR: i32 = 12;
/// Pixels: where the rows begin.
const TOP: i32 = 128;
/// Pixels that the names may take.
const NAMES: i32 = 320;
/// Pixels behind the end of the time axis, for a text that begins there.
const BEHIND: i32 = 84;

struct Chart<'a> {
    graph: &'a Graph,
    change: &'a Change,
    svg: Svg,
    /// Where the time axis begins and ends.
    left: i32,
    right: i32,
    /// Where the rows end.
    bottom: i32,
}

/// The chart of a change.
pub fn svg(graph: &Graph, change: &Change) -> String {
    // Some are bold.
    let names = change.bars.iter().map(|bar| text_width(&short(graph.name(bar.index))) * 11 / 10);
    let names = names.max().unwrap_or(0);
    let mut chart = Chart {
        graph,
        change,
        svg: Svg::new(),
        left: MARGIN + names.min(NAMES * 11 / 10) + 14,
        right: WIDTH - MARGIN - BEHIND,
        bottom: TOP + change.bars.len() as i32 * ROW,
    };
    chart.head();
    chart.axis();
    let rows = || change.bars.iter().enumerate();
    rows().for_each(|(row, bar)| chart.name(row, bar));
    chart.links();
    rows().for_each(|(row, bar)| chart.bar(row, bar));
    let mut height = chart.bottom + 36;
    if change.later > 0 {
        let text = match change.later {
            1 => "1 service was started again later and is not shown.".to_owned(),
            n => format!("{n} services were started again later and are not shown."),
        };
        chart.svg.text("small faint", MARGIN, height, Anchor::Start, &text);
        height += 20;
    }
    chart.svg.finish("Start times of services", LIGHT, DARK, WIDTH, height)
}

/// A name that is very long, cut.
fn short(name: &str) -> String {
    let mut end = name.len();
    let mut cut = name.to_owned();
    while text_width(&cut) > NAMES && end > 0 {
        end = name[..end].char_indices().last().map_or(0, |(at, _)| at);
        cut = format!("{}…", &name[..end]);
    }
    cut
}

impl Chart<'_> {
    fn x(&self, at: Duration) -> i32 {
        let total = self.change.total.as_micros().max(1);
        let width = (self.right - self.left) as u128;
        self.left + ((at.as_micros() * width + total / 2) / total) as i32
    }

    fn is_critical(&self, index: Index) -> bool {
        self.change.chain.contains(&index)
    }

    fn head(&mut self) {
        self.svg.text("title", MARGIN, 36, Anchor::Start, &self.change.summary());
        let chain: Vec<&str> = self.change.chain.iter().map(|i| self.graph.name(*i)).collect();
        let mut text = format!("Critical chain: {}", chain.join(" → "));
        if text_width(&text) > WIDTH - 2 * MARGIN
            && let ([first, ..], [.., last]) = (&chain[..], &chain[..])
        {
            text = format!("Critical chain: {first} → … → {last}, {} services", chain.len());
        }
        self.svg.text("", MARGIN, 60, Anchor::Start, &text);
        let mut x = MARGIN;
        for (class, height, word) in [
            ("wait", 4, "waits for others"),
            ("start", BAR, "starts"),
            ("crit", BAR, "starts, on the critical chain"),
            ("ready", BAR, "up (ready, if it can tell)"),
            ("fail", BAR, "failed"),
        ] {
            if class == "fail" && !self.change.bars.iter().any(Bar::is_failed) {
                continue;
            }
            self.svg.rect(class, [x, 80 - height / 2, 26, height], 2, "");
            self.svg.text("small faint", x + 34, 84, Anchor::Start, word);
            x += 60 + text_width(word) * 9 / 10;
        }
    }

    /// Ticks at 1, 2 or 5 times a power of ten, so far apart that their labels have room.
    fn axis(&mut self) {
        let total = self.change.total.as_micros() as u64;
        let most = u64::try_from((self.right - self.left) / 90).unwrap_or(1).max(1);
        let mut step = 1;
        while total / step > most {
            // 1, 2, 5, 10 …: the first digit says which is next.
            let first = step / 10u64.pow(step.ilog10());
            step = if first == 2 { step / 2 * 5 } else { step * 2 };
        }
        let mut at = 0;
        while at <= total {
            let x = self.x(Duration::from_micros(at));
            self.svg.line("rule", [x, TOP - 8, x, self.bottom]);
            self.svg.text("small faint", x, TOP - 14, Anchor::Middle, &tick(at, step));
            at += step;
        }
    }

    /// The name, how long it waited, and from when on it was up.
    fn name(&mut self, row: usize, bar: &Bar) {
        let (top, name) = (TOP + row as i32 * ROW, self.graph.name(bar.index));
        let middle = top + ROW / 2;
        self.svg.line("row", [MARGIN, top + ROW, self.right, top + ROW]);
        let class = match (self.is_critical(bar.index), bar.started) {
            (true, _) => "bold key",
            (false, None) => "faint",
            (false, Some(_)) => "",
        };
        self.svg.text(class, self.left - 14, middle + 4, Anchor::End, &short(name));
        let to = bar.started.map_or(self.right, |at| self.x(at));
        if to > self.left + 1 {
            self.svg.rect("wait", [self.left, middle - 2, to - self.left, 4], 0, "");
        }
        if let Some(from) = bar.ended.filter(|_| bar.is_up).map(|at| self.x(at)) {
            self.svg.rect("ready", [from, middle - BAR / 2, self.right - from, BAR], 2, "");
        }
    }

    /// How long it was being started.
    fn bar(&mut self, row: usize, bar: &Bar) {
        let (name, middle) = (self.graph.name(bar.index), TOP + row as i32 * ROW + ROW / 2);
        let (Some(started), Some(ended)) = (bar.started, bar.ended) else {
            self.svg.text("small faint", self.right + 6, middle + 4, Anchor::Start, "not started");
            return;
        };
        let (from, to) = (self.x(started), self.x(ended));
        let time = took(ended.saturating_sub(started));
        let about = format!("{name}: waited {}, took {time}", took(started));
        let class = match () {
            () if bar.is_failed() => "fail",
            () if self.is_critical(bar.index) => "crit",
            () => "start",
        };
        self.svg.rect(class, [from, middle - BAR / 2, (to - from).max(2), BAR], 2, &about);
        let at = to.max(from + 2) + 6;
        let (class, text) = match bar.is_up {
            // On the bar of what is up, over any line that passes.
            true if at + text_width(&time) < self.right => ("small time", time),
            true => ("small", time),
            false if bar.is_skipped => ("small faint", format!("skipped, {time}")),
            false => ("small wrong", format!("failed, {time}")),
        };
        self.svg.text(class, at, middle + 4, Anchor::Start, &text);
    }

    /// From each service of the critical chain to the next.
    fn links(&mut self) {
        let place = |index: &Index| {
            let row = self.change.bars.iter().position(|bar| bar.index == *index)?;
            Some((row as i32, self.change.bars[row]))
        };
        let mut lines = Vec::new();
        for pair in self.change.chain.windows(2) {
            let (Some((above, first)), Some((below, next))) = (place(&pair[0]), place(&pair[1])) else {
                continue;
            };
            let (Some(ended), Some(started)) = (first.ended, next.started) else { continue };
            let (x, to) = (self.x(ended), self.x(started));
            let y = TOP + above * ROW + ROW / 2 + BAR / 2;
            let end = TOP + below * ROW + ROW / 2 - BAR / 2;
            lines.push(format!("M{x} {y}V{}H{to}V{end}", end - 4));
        }
        lines.iter().for_each(|line| self.svg.path("link", line));
    }
}

/// A label of the axis: `0`, `50 ms`, `2 s`.
fn tick(us: u64, step: u64) -> String {
    match step {
        _ if us == 0 => "0".to_owned(),
        1_000_000.. => format!("{} s", us / 1_000_000),
        100_000.. => format!("{}.{} s", us / 1_000_000, us / 100_000 % 10),
        1000.. => format!("{} ms", us / 1000),
        _ => format!("{us} µs"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::graph::tests::graph;
    use super::super::times::tests::timings;
    use super::*;
    use crate::ordered::Set;

    #[test]
    fn each_service_has_its_bars() {
        let g = graph(&["db longrun", "web longrun db", "bad oneshot", "shop longrun bad"]);
        let known =
            timings(&["db 0 0 800 done", "web 0 800 1000 done", "bad 0 0 100 failed", "shop 0 - - skipped"]);
        let change = Change::find(&g, &known, &Set::new()).unwrap();
        let text = svg(&g, &change);
        for part in [
            "2 services up in 1.00 s, 1 failed, 1 not started",
            "Critical chain: db → web",
            "<title>db: waited 0.0 ms, took 800 ms</title>",
            ">failed, 100 ms</text>",
            ">not started</text>",
            ">0.5 s</text>",
            "prefers-color-scheme:dark",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        assert_eq!(text.matches("class=\"crit\"").count(), 3, "two bars and the legend");
        assert_eq!(text.matches("class=\"link\"").count(), 1);
    }

    #[test]
    fn long_names_are_cut() {
        let cut = short(&"service-".repeat(20));
        assert!(cut.ends_with('…') && text_width(&cut) <= NAMES);
        assert_eq!(short("web"), "web");
    }

    #[test]
    fn labels_of_the_axis() {
        assert_eq!([tick(0, 5), tick(20, 10), tick(5000, 1000)], ["0", "20 µs", "5 ms"]);
        assert_eq!([tick(1_200_000, 200_000), tick(4_000_000, 2_000_000)], ["1.2 s", "4 s"]);
    }
}
