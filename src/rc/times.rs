//! What the times of a change say: what took how long, and which chain of services decided when all were up;
//! pure.
#![forbid(unsafe_code)]

use super::graph::{Graph, Index};
use super::timing::{Outcome, Timing, Timings};
use crate::ordered::Set;
use crate::ordered::places_by_key;
use crate::report::table::{Table, Tone};
use crate::report::{count, took};
use crate::time::Mono;
use std::time::Duration;

/// The way up of one service in a change. Times count from the change's beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bar {
    /// When it was started; None: it never was.
    pub started: Option<Duration>,
    /// When it was up and ready, or had failed.
    pub ended: Option<Duration>,
    /// Which.
    pub index: Index,
    /// It came up.
    pub is_up: bool,
    /// Its condition was asked, and not met.
    pub is_skipped: bool,
}

impl Bar {
    /// It was started and did not come up.
    pub fn is_failed(&self) -> bool {
        !self.is_up && !self.is_skipped && self.started.is_some()
    }
}

/// One change that brought services up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Its services, in the order in which they were started; what never was comes last.
    pub bars: Vec<Bar>,
    /// From its beginning until the last one was settled.
    pub total: Duration,
    /// The critical chain, first to last: each was started when the one before was up, and the last one was
    /// the last of all.
    pub chain: Vec<Index>,
    /// How many services were started again by a later change, and are not in this one any more.
    pub later: usize,
}

impl Change {
    /// The first change that is known, or the last one that one of `chosen` was part of. None: there is none.
    pub fn find(graph: &Graph, timings: &Timings, chosen: &Set<Index>) -> Option<Change> {
        let all: Vec<(Index, Timing)> = ways_up(graph, timings).collect();
        let asked = match chosen.is_empty() {
            true => all.iter().map(|(_, timing)| timing.asked).min(),
            false => {
                let chosen = all.iter().filter(|(index, _)| chosen.contains(index));
                chosen.map(|(_, timing)| timing.asked).max()
            }
        };
        let asked = asked?;
        let bars = all.iter().filter(|(_, timing)| timing.asked == asked).map(|(index, timing)| {
            let since = |at: Option<Mono>| at.map(|at| at.since(asked));
            let is_up = timing.outcome == Outcome::Done;
            let (started, ended) = (since(timing.started), since(timing.ended));
            let is_skipped = timing.outcome == Outcome::Skipped && started.is_some();
            Bar { started, ended, index: *index, is_up, is_skipped }
        });
        let bars: Vec<Bar> = bars.collect();
        // What never was comes last.
        let key = |bar: &Bar| bar.started.map_or(u64::MAX, |at| at.as_micros() as u64);
        let bars: Vec<Bar> = places_by_key(bars.iter().map(key)).into_iter().map(|n| bars[n]).collect();
        let total = bars.iter().filter_map(|b| b.ended).max().unwrap_or_default();
        let chain = chain(graph, &bars);
        // Of the first change some may have gone to later ones.
        let later = if chosen.is_empty() { all.len() - bars.len() } else { 0 };
        Some(Change { bars, total, chain, later })
    }

    /// How many services came up.
    pub fn up(&self) -> usize {
        self.bars.iter().filter(|bar| bar.is_up).count()
    }

    /// In one line: how many services were up when, and how many were not.
    pub fn summary(&self) -> String {
        let mut text = format!("{} up in {}", count(self.up(), "service"), took(self.total));
        let count = |is_so: fn(&Bar) -> bool| self.bars.iter().filter(|bar| is_so(bar)).count();
        for (what, n) in [
            ("failed", count(Bar::is_failed)),
            ("skipped", count(|bar| bar.is_skipped)),
            ("not started", count(|bar| bar.started.is_none())),
        ] {
            if n > 0 {
                text.push_str(&format!(", {n} {what}"));
            }
        }
        text
    }
}

/// The last way up of each service that is shown and has one.
fn ways_up<'a>(graph: &'a Graph, timings: &'a Timings) -> impl Iterator<Item = (Index, Timing)> + 'a {
    let up = timings.iter().filter(|((up, _), _)| *up);
    let known = up.filter_map(|((_, name), timing)| Some((graph.index(name)?, *timing)));
    known.filter(|(index, _)| !graph.services[*index].hidden)
}

/// What `index` waits for before it is started.
pub fn before(graph: &Graph, index: Index) -> Vec<Index> {
    let service = &graph.services[index];
    [&graph.shown_needs(index)[..], &service.wants, &service.after].concat()
}

fn chain(graph: &Graph, bars: &[Bar]) -> Vec<Index> {
    let mut ended = vec![None; graph.services.len()];
    bars.iter().for_each(|bar| ended[bar.index] = bar.ended);
    // Of several the first.
    let last = |among: &[Index]| {
        let mut last: Option<Index> = None;
        for index in among.iter().copied().filter(|i| ended[*i].is_some()) {
            if last.is_none_or(|last| ended[index] > ended[last]) {
                last = Some(index);
            }
        }
        last
    };
    let all: Vec<Index> = bars.iter().map(|bar| bar.index).collect();
    let mut chain: Vec<Index> = Vec::new();
    let mut next = last(&all);
    while let Some(index) = next {
        chain.push(index);
        next = last(&before(graph, index));
    }
    chain.reverse();
    chain
}

/// The table of `rc blame`: what took longest first. `chosen`: only these; empty: all.
pub fn blame(graph: &Graph, timings: &Timings, chosen: &Set<Index>, colour: bool) -> String {
    let mut rows = Vec::new();
    for (index, timing) in ways_up(graph, timings) {
        if !chosen.is_empty() && !chosen.contains(&index) {
            continue;
        }
        let (Some(started), Some(ended)) = (timing.started, timing.ended) else { continue };
        rows.push((ended.since(started), index, started.since(timing.asked), timing.outcome));
    }
    let mut table = Table::new(&["took", "waited", "result", "service"], &[0, 1]);
    let slowest_first = |row: &(Duration, Index, Duration, Outcome)| u64::MAX - row.0.as_micros() as u64;
    for place in places_by_key(rows.iter().map(slowest_first)) {
        let (time, index, waited, outcome) = rows[place];
        let result = match outcome {
            Outcome::Done => ("up", Tone::Good),
            Outcome::Skipped => ("skipped", Tone::Faint),
            other => (other.word(), Tone::Bad),
        };
        table.row(vec![
            (took(time), Tone::Plain),
            (took(waited), Tone::Faint),
            (result.0.to_owned(), result.1),
            (graph.name(index).to_owned(), Tone::Plain),
        ]);
    }
    table.to_text(colour)
}

/// What `rc critical` prints: the chain, first to last, when each was up and what it took.
pub fn critical(graph: &Graph, change: &Change, colour: bool) -> String {
    let mut table = Table::new(&["up after", "took", "service"], &[0, 1]);
    for index in &change.chain {
        let Some(bar) = change.bars.iter().find(|bar| bar.index == *index) else { continue };
        let (Some(started), Some(ended)) = (bar.started, bar.ended) else { continue };
        let (tone, note) = match () {
            () if bar.is_failed() => (Tone::Bad, " (did not come up)"),
            () if bar.is_skipped => (Tone::Plain, " (skipped)"),
            () => (Tone::Plain, ""),
        };
        table.row(vec![
            (took(ended), Tone::Plain),
            (took(ended.saturating_sub(started)), Tone::Plain),
            (format!("{}{note}", graph.name(*index)), tone),
        ]);
    }
    format!(
        "{}; what decided that, each started when the one before was up:\n{}",
        change.summary(),
        table.to_text(colour)
    )
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::graph::tests::graph;
    use super::*;

    /// Timings from lines `NAME ASKED STARTED ENDED OUTCOME`, in milliseconds; `-` for what was not.
    pub fn timings(lines: &[&str]) -> Timings {
        let mut all = Timings::new();
        for line in lines {
            let words: Vec<&str> = line.split(' ').collect();
            let at = |n: usize| words[n].parse().ok().map(|ms: u64| Mono(ms * 1_000_000));
            let outcome = match words[4] {
                "done" => Outcome::Done,
                "failed" => Outcome::Failed,
                _ => Outcome::Skipped,
            };
            let timing = Timing { asked: at(1).unwrap(), free: at(2), started: at(2), ended: at(3), outcome };
            all.insert((true, words[0].to_owned()), timing);
        }
        all
    }

    const BOOT: [&str; 5] = [
        "mount 1000 1000 1050 done",
        "db 1000 1050 2050 done",
        "cache 1000 1050 1060 done",
        "web 1000 2050 2250 done",
        "shop 1000 - - skipped",
    ];

    fn services() -> Graph {
        graph(&[
            "mount oneshot",
            "db longrun mount",
            "cache longrun mount",
            "web longrun db cache",
            "shop longrun",
        ])
    }

    #[test]
    fn the_chain_that_decides_is_found() {
        let g = services();
        let change = Change::find(&g, &timings(&BOOT), &Set::new()).unwrap();
        assert_eq!(
            critical(&g, &change, false),
            "4 services up in 1.25 s, 1 not started; what decided that, each started when the one before was up:\n\
             up after    took  service\n\
             \x20  50 ms   50 ms  mount\n\
             \x20 1.05 s  1.00 s  db\n\
             \x20 1.25 s  200 ms  web\n"
        );
        assert_eq!(change.bars.last().map(|bar| g.name(bar.index)), Some("shop"));
    }

    #[test]
    fn what_took_longest_comes_first() {
        assert_eq!(
            blame(&services(), &timings(&BOOT), &Set::new(), false),
            "  took  waited  result  service\n\
             1.00 s   50 ms  up      db\n\
             200 ms  1.05 s  up      web\n\
             \x2050 ms  0.0 ms  up      mount\n\
             \x2010 ms   50 ms  up      cache\n"
        );
    }

    #[test]
    fn a_later_change_is_another_one() {
        let g = services();
        let mut lines = BOOT.to_vec();
        lines[3] = "web 9000 9000 9100 failed";
        let known = timings(&lines);
        let boot = Change::find(&g, &known, &Set::new()).unwrap();
        assert_eq!((boot.up(), boot.later, boot.total), (3, 1, Duration::from_millis(1050)));
        let web = Change::find(&g, &known, &Set::from([g.index("web").unwrap()])).unwrap();
        assert_eq!(web.summary(), "0 services up in 100 ms, 1 failed");
        assert_eq!((web.chain.len(), web.later), (1, 0));
        assert_eq!(Change::find(&g, &Timings::new(), &Set::new()), None);
    }
}
