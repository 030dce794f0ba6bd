//! Why a service is up, or is not, in one answer.

use super::graph::{Graph, Index};
use super::live::Live;
use super::logs;
use super::show::{Look, Row};
use super::times::before;
use super::timing::{Outcome, Timing};
use crate::init::overlay;
use crate::log::place::log_dirs;
use crate::ordered::Set;
use crate::ordered::unique;
use crate::process::WaitStatus;
use crate::report::{age, cause, took};
use crate::sys::clock;
use crate::time::Tai64n;
use std::fmt::Write as _;
use std::time::Duration;

/// So many names of a list are shown.
const NAMES: usize = 8;
/// So many links of a way are shown; of a longer one its ends.
const LINKS: usize = 6;
/// So many lines of a log are shown.
const LINES: usize = 6;

/// The answer for one service.
pub fn explain(live: &Live, look: &Look<'_>, index: Index) -> String {
    let answer = Answer { live, look, graph: &live.graph, row: look.row(index), now: clock::wall() };
    answer.text()
}

struct Answer<'a> {
    live: &'a Live,
    look: &'a Look<'a>,
    graph: &'a Graph,
    row: Row,
    now: Tai64n,
}

impl Answer<'_> {
    fn text(&self) -> String {
        let service = &self.graph.services[self.row.index];
        let kind = if service.longrun { "longrun" } else { "oneshot" };
        let mut text = format!("{} ({kind}) {}\n", service.name, self.verdict());
        let mut fact = |what: &str, lines: Vec<String>| {
            for (n, line) in lines.iter().enumerate() {
                let what = if n == 0 { what } else { "" };
                let _ = writeln!(text, "  {what:<10} {line}");
            }
        };
        fact("wanted", self.wanted());
        fact("blocked", self.blocked());
        fact("last exit", self.last_exit().into_iter().collect());
        let refused = self.row.state.refused.as_ref();
        fact(
            "validate",
            refused
                .map(|(at, why)| format!("failed {} ago: {why}", age(at.age(self.now))))
                .into_iter()
                .collect(),
        );
        fact("next try", self.next_try().into_iter().collect());
        fact("log", self.log());
        text
    }

    fn for_(&self) -> String {
        self.row.age(self.now).map_or(String::new(), |d| format!(" for {}", age(d)))
    }

    /// What it is, behind its name.
    fn verdict(&self) -> String {
        let service = &self.graph.services[self.row.index];
        let since = self.for_();
        match self.row.word.0.as_str() {
            "up" if service.longrun => {
                let pid = self.row.status.pid.map_or(String::new(), |pid| format!(", pid {pid}"));
                let ready = self.row.took().map_or(String::new(), |d| format!(", ready after {}", took(d)));
                format!("is up{since}{pid}{ready}")
            }
            "up" => {
                let ran =
                    self.row.took().map_or(String::new(), |d| format!("; its command took {}", took(d)));
                format!("is up{since}{ran}")
            }
            "starting" if service.longrun => {
                let says = self.row.state.status.as_ref();
                let says = says.map_or(String::new(), |text| format!("; it says: {text}"));
                format!(
                    "has been starting{since}: it has not said yet that it is ready{}{says}",
                    self.limit()
                )
            }
            "starting" => format!("has been starting{since}: its command is running{}", self.limit()),
            "stopping" => format!("has been stopping{since}"),
            "finishing" => format!("is down, and its finish script is running{since}"),
            "paused" => "is paused: svc -c lets it go on".to_owned(),
            "waiting" if !self.row.waits_for.is_empty() => "waits for others to be up".to_owned(),
            "waiting" if self.is_in_change() => "is next to be started".to_owned(),
            "waiting" => "died, and is started again".to_owned(),
            "failing" => {
                format!(
                    "cannot be started: {}",
                    self.row.state.failure.as_deref().unwrap_or("it is not said why")
                )
            }
            "blocked" => "was not started, because others are not up".to_owned(),
            "failed" if self.row.state.mode.as_deref() == Some("gave-up") => {
                "was given up: it died too often in a short time".to_owned()
            }
            "skipped" => "is down: its condition was not met".to_owned(),
            "failed" => match self.row.not_in_time() {
                Some(text) => format!("was given up: it was {text}"),
                None => "failed to come up".to_owned(),
            },
            "unsupervised" => format!("has no supervisor: is svscan running on {}?", self.live.scandir),
            "down" => self.why_down(),
            other => format!("is {other}{since}"),
        }
    }

    fn is_in_change(&self) -> bool {
        self.look.underway.as_ref().is_some_and(|change| change.has(self.row.name()))
    }

    fn limit(&self) -> String {
        let millis = self.graph.services[self.row.index].timeout_up;
        match millis {
            0 => String::new(),
            _ => format!(", and has {} for it", took(Duration::from_millis(millis.into()))),
        }
    }

    fn why_down(&self) -> String {
        let name = self.row.name().to_owned();
        let [up, down] = [true, false].map(|up| self.look.timings.get(&(up, name.clone())));
        let ago = |timing: &Timing| {
            let at = timing.ended.unwrap_or(timing.asked);
            format!("{} ago", age(clock::mono().since(at)))
        };
        match (up, down) {
            (up, Some(down)) if up.is_none_or(|up| up.asked < down.asked) => {
                format!("is down: it was taken down {}", ago(down))
            }
            (Some(up), _) if up.outcome == Outcome::Interrupted => {
                format!("is down: the change that was to bring it up was interrupted {}", ago(up))
            }
            (Some(up), _) if self.graph.services[self.row.index].longrun => format!(
                "is down: it was brought up {}, and since then told to stay down by svc, or by its finish \
                 script (exit 125)",
                ago(up)
            ),
            _ => "is down: nobody has asked for it".to_owned(),
        }
    }

    /// Who wants it.
    fn wanted(&self) -> Vec<String> {
        let index = self.row.index;
        let mut lines = Vec::new();
        let service = &self.graph.services[index];
        let names = |list: &[Index]| {
            let shown = unique(list.to_vec()).into_iter().filter(|i| !self.graph.services[*i].hidden);
            let names: Vec<&str> = shown.map(|i| self.graph.name(i)).collect();
            some(&names)
        };
        let needing = self.needing();
        if !needing.is_empty() {
            lines.push(format!("needed by {}", names(&needing)));
        }
        let wanting: Vec<Index> = service
            .preferred_by
            .iter()
            .copied()
            .filter(|i| self.graph.services[*i].wants.contains(&index))
            .collect();
        if !wanting.is_empty() {
            lines.push(format!("wanted by {}", names(&wanting)));
        }
        let holds = |(name, members): &(&String, &Vec<Index>)| {
            name.as_str() != overlay::TOP && members.contains(&index)
        };
        let bundles = self.graph.bundles.iter().filter(holds);
        let bundles: Vec<&str> = bundles.map(|(name, _)| name.as_str()).collect();
        if !bundles.is_empty() {
            lines.push(format!(
                "in {} {}",
                if bundles.len() == 1 { "bundle" } else { "bundles" },
                some(&bundles)
            ));
        }
        if lines.is_empty() {
            lines.push("by no other service, and it is in no bundle".to_owned());
        }
        lines
    }

    /// What needs it; in the place of a hidden service what needs that.
    fn needing(&self) -> Vec<Index> {
        let (mut shown, mut passed) = (Vec::new(), Set::new());
        let mut queue = self.graph.services[self.row.index].needed_by.clone();
        while let Some(index) = queue.pop() {
            match self.graph.services[index].hidden {
                false => shown.push(index),
                true if passed.insert(index) => queue.extend(&self.graph.services[index].needed_by),
                true => {}
            }
        }
        shown
    }

    /// Each way to something that is not up though it should be: the edges that block.
    fn blocked(&self) -> Vec<String> {
        if self.row.waits_for.is_empty() {
            return Vec::new();
        }
        let count = self.graph.services.len();
        let (mut is_up, mut seen) = (vec![None; count], vec![false; count]);
        let mut queue = vec![vec![self.row.index]];
        let mut lines = Vec::new();
        while let Some(way) = queue.pop() {
            let Some(index) = way.last().copied() else { continue };
            let mut onward = Vec::new();
            for next in unique(before(self.graph, index)) {
                if !*is_up[next].get_or_insert_with(|| self.look.row(next).is_up()) {
                    onward.push(next);
                }
            }
            if onward.is_empty() && way.len() > 1 {
                lines.push(self.way(&way, &self.look.row(index)));
            }
            for next in onward.into_iter().rev() {
                if !std::mem::replace(&mut seen[next], true) {
                    queue.push([&way[..], &[next]].concat());
                }
            }
        }
        let more = lines.len().saturating_sub(NAMES);
        lines.truncate(NAMES);
        if more > 0 {
            lines.push(format!("and {more} more"));
        }
        lines
    }

    /// `it needs db, which needs mount: failed, exit 32`
    fn way(&self, way: &[Index], end: &Row) -> String {
        let mut text = String::from("it ");
        let links = way.len() - 1;
        for (n, pair) in way.windows(2).enumerate() {
            if links > LINKS && n > 1 && n + 1 < links {
                if n == 2 {
                    let _ = write!(text, ", and so on through {} more", links - 3);
                }
                continue;
            }
            let service = &self.graph.services[pair[0]];
            let edge = match () {
                () if service.wants.contains(&pair[1]) => "wants",
                () if service.after.contains(&pair[1]) => "comes after",
                () => "needs",
            };
            let which = match n {
                0 => "",
                _ if links > LINKS && n > 1 => ", which at last ",
                _ => ", which ",
            };
            let _ = write!(text, "{which}{edge} {}", self.graph.name(pair[1]));
        }
        let _ = write!(text, ": {}", end.word.0);
        let exit = end.last_exit().filter(|_| end.word.0 != "down").map(|wait| with_cause(wait, end));
        if let Some(why) = end.not_in_time().or(exit) {
            let _ = write!(text, ", {why}");
        }
        text
    }

    fn last_exit(&self) -> Option<String> {
        let wait = self.row.last_exit()?;
        let is_longrun = self.graph.services[self.row.index].longrun;
        if self.row.late.is_some() || !is_longrun && self.row.is_up() {
            return None;
        }
        let times = match self.row.state.deaths {
            0 | 1 => String::new(),
            n => format!("; it has died {n} times"),
        };
        Some(format!("{}{times}", with_cause(wait, &self.row)))
    }

    fn next_try(&self) -> Option<String> {
        let wait = self.row.retry(self.now)?;
        Some(format!("in {}", took(wait)))
    }

    fn log(&self) -> Vec<String> {
        let service = &self.graph.services[self.row.index];
        if !service.longrun {
            return Vec::new();
        }
        let logger = logs::logger(self.live, self.row.index);
        let by = logger.map_or(String::new(), |logger| format!(", by {}", self.graph.name(logger)));
        let dirs = log_dirs(&self.look.directory(logger.unwrap_or(self.row.index)));
        let Some(dir) = dirs.first() else {
            let text = match logger {
                Some(_) => format!("its directory is not known{by}"),
                None => "none of its own: its output goes where the supervisor's goes".to_owned(),
            };
            return vec![text];
        };
        let lines = logs::last_lines(dir, LINES, self.now);
        let mut all = vec![format!("{dir}{by}{}", if lines.is_empty() { ", empty" } else { "" })];
        all.extend(lines.into_iter().map(|line| format!("| {line}")));
        all
    }
}

/// How a process of a service ended, and why.
fn with_cause(wait: WaitStatus, row: &Row) -> String {
    cause::whole(wait, &row.state)
}

/// The first names of a list, and how many more there are.
fn some(names: &[&str]) -> String {
    let (first, rest) = names.split_at(names.len().min(NAMES));
    match rest.len() {
        0 => first.join(" "),
        n => format!("{} and {n} more", first.join(" ")),
    }
}
