//! What people see of a change while it is made.
//!
//! A line for each step that ends, and for what went wrong: that is all where standard output is no terminal.
//! On a terminal there stands below these lines, once a change takes longer than a blink, what is being done,
//! for how long, and who waits for that. It is drawn anew where it stands, and is gone when the change is
//! over, so that what stays is the same as elsewhere.

use super::engine::{End, Progress};
use super::graph::{Graph, Index};
use super::times::before;
use crate::diag;
use crate::ordered::{set, sorted};
use crate::report::{age, took};
use crate::sys::{clock, env};
use crate::time::Mono;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A change that is over by then is not drawn.
const BLINK: Duration = Duration::from_millis(300);

/// How often it is drawn anew, at least: ages are in seconds.
const AGAIN: Duration = Duration::from_millis(500);

/// So many of the steps that are being made are shown.
const SHOWN: usize = 8;

/// Prints a line for each step that ends, and on a terminal what is being done.
#[derive(Default)]
pub struct Shown {
    screen: Option<Screen>,
}

impl Shown {
    /// For this process' standard output.
    pub fn new() -> Shown {
        let stdout = rustix::stdio::stdout();
        let is_dumb = env::get("TERM").is_none_or(|term| term == "dumb");
        let wanted = rustix::termios::isatty(stdout) && !is_dumb;
        Shown { screen: wanted.then(Screen::default) }
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        self.clear();
    }
}

impl Shown {
    fn clear(&mut self) {
        if let Some(screen) = &mut self.screen {
            diag::put(1, screen.clear().as_bytes());
        }
    }
}

impl Progress for Shown {
    fn plans(&mut self, graph: &Graph, steps: &[Index], up: bool) {
        self.clear();
        if self.screen.is_some() {
            self.screen = Some(Screen::new(graph, steps, up, clock::mono()));
        }
    }

    fn begins(&mut self, name: &str, _: bool) {
        if let Some(screen) = &mut self.screen {
            screen.begins(name, clock::mono());
        }
    }

    fn ends(&mut self, name: &str, up: bool, end: End, duration: Duration) {
        self.clear();
        say(name, up, end, duration);
        if let Some(screen) = &mut self.screen {
            screen.ends(name);
        }
    }

    fn is_cut_short(&mut self, _: &str, _: bool, _: End, _: Duration) {
        self.clear();
    }

    fn look(&mut self) -> Option<Mono> {
        let screen = self.screen.as_mut()?;
        let (text, next) = screen.draw(clock::mono(), width());
        diag::put(1, text.as_bytes());
        next
    }

    fn is_over(&mut self) {
        self.clear();
    }
}

fn say(name: &str, up: bool, end: End, duration: Duration) {
    let (is, was) = if up { ("up", "start") } else { ("down", "stop") };
    let line = match end {
        End::Done => format!("{name} is {is} ({})\n", took(duration)),
        End::Unmet => format!("{name} is skipped: {}\n", end.reason()),
        _ => {
            let why = end.reason();
            return diag::warn(format_args!("unable to {was} {name}: {why} ({})", took(duration)));
        }
    };
    diag::put(1, line.as_bytes());
}

/// How many columns the terminal has.
fn width() -> usize {
    let size = rustix::termios::tcgetwinsize(rustix::stdio::stdout());
    size.ok().map(|size| usize::from(size.ws_col)).filter(|columns| *columns > 0).unwrap_or(80)
}

/// What stands below the lines of a change; pure.
#[derive(Default)]
struct Screen {
    began: Mono,
    up: bool,
    /// How many steps there are.
    all: usize,
    over: usize,
    /// Since when what is being done.
    running: BTreeMap<String, Mono>,
    /// What is not begun, and for what it waits that has a step too.
    waiting: BTreeMap<String, BTreeSet<String>>,
    /// Lines on the screen that are ours.
    lines: usize,
    changed: bool,
    drawn: Mono,
}

impl Screen {
    fn new(graph: &Graph, steps: &[Index], up: bool, now: Mono) -> Screen {
        let steps = set(steps.iter().copied().filter(|index| !graph.services[*index].hidden));
        let mut waiting = BTreeMap::new();
        for index in &steps {
            let others = match up {
                true => before(graph, *index),
                false => graph.services[*index].needed_by.clone(),
            };
            let others = others.into_iter().filter(|i| steps.contains(i)).map(|i| graph.name(i).to_owned());
            waiting.insert(graph.name(*index).to_owned(), set(others));
        }
        Screen { began: now, up, all: steps.len(), waiting, changed: true, ..Screen::default() }
    }

    fn begins(&mut self, name: &str, now: Mono) {
        self.waiting.remove(name);
        self.running.insert(name.to_owned(), now);
        self.changed = true;
    }

    fn ends(&mut self, name: &str) {
        self.running.remove(name);
        for others in self.waiting.values_mut() {
            others.remove(name);
        }
        self.over += 1;
        self.changed = true;
    }

    /// What takes our lines off the screen.
    fn clear(&mut self) -> String {
        match std::mem::take(&mut self.lines) {
            0 => String::new(),
            n => {
                self.changed = true;
                format!("\r\x1b[{n}A\x1b[J")
            }
        }
    }

    /// What puts them there as they are now, and when that is to be done again.
    fn draw(&mut self, now: Mono, columns: usize) -> (String, Option<Mono>) {
        if self.all == 0 || self.running.is_empty() {
            return (String::new(), None);
        }
        let first = self.began.after(BLINK);
        if now < first {
            return (String::new(), Some(first));
        }
        let due = self.drawn.after(AGAIN);
        if !self.changed && now < due {
            return (String::new(), Some(due));
        }
        let mut text = self.clear();
        for line in self.text(now) {
            let line: String = line.chars().take(columns.saturating_sub(1)).collect();
            text.extend([&*line, "\n"]);
            self.lines += 1;
        }
        (self.changed, self.drawn) = (false, now);
        (text, Some(now.after(AGAIN)))
    }

    fn text(&self, now: Mono) -> Vec<String> {
        // What has taken longest comes first.
        let running = sorted(self.running.iter().map(|(name, since)| (*since, name)).collect());
        let width = running.iter().take(SHOWN).map(|(_, name)| name.chars().count()).max().unwrap_or(0);
        let verb = if self.up { "starts" } else { "stops" };
        let mut lines = Vec::new();
        for (since, name) in running.iter().take(SHOWN) {
            let behind = self.waiting.iter().filter(|(_, others)| others.contains(*name));
            let behind: Vec<&str> = behind.map(|(name, _)| name.as_str()).collect();
            let pad = " ".repeat(width - name.chars().count());
            let mut line = format!("  {name}{pad}  {verb}, {}", age(now.since(*since)));
            match behind.len() {
                0 => {}
                1..=3 => line.extend(["; for it waits ", &behind.join(", ")]),
                n => line.push_str(&format!("; for it wait {}, {} and {} more", behind[0], behind[1], n - 2)),
            }
            lines.push(line);
        }
        if running.len() > SHOWN {
            lines.push(format!("  and {} more", running.len() - SHOWN));
        }
        let time = age(now.since(self.began));
        lines.push(format!("  {} of {} done, {} waiting; {time}", self.over, self.all, self.waiting.len()));
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::super::graph::tests::graph;
    use super::*;

    fn at(ms: u64) -> Mono {
        Mono(5_000_000_000 + ms * 1_000_000)
    }

    #[test]
    fn what_is_done_and_who_waits_for_it_stands_below_and_is_gone_at_the_end() {
        let g = graph(&["mount oneshot", "db longrun mount", "web longrun db", "cron longrun mount"]);
        let mut screen = Screen::new(&g, &[0, 1, 2, 3], true, at(0));
        screen.begins("mount", at(0));
        assert_eq!(screen.draw(at(10), 80), (String::new(), Some(at(300))), "not at once");
        let (text, next) = screen.draw(at(4300), 80);
        assert_eq!(
            text,
            "  mount  starts, 4 s; for it waits cron, db\n\
             \x20 0 of 4 done, 3 waiting; 4 s\n"
        );
        assert_eq!(next, Some(at(4800)));
        assert_eq!(screen.draw(at(4400), 80), (String::new(), Some(at(4800))), "nothing has changed");
        assert_eq!(screen.clear(), "\r\x1b[2A\x1b[J");
        screen.ends("mount");
        screen.begins("db", at(4500));
        screen.begins("cron", at(4500));
        let (text, _) = screen.draw(at(5500), 31);
        assert_eq!(
            text,
            "  cron  starts, 1 s\n\
             \x20 db    starts, 1 s; for it wa\n\
             \x20 1 of 4 done, 1 waiting; 5 s\n"
        );
        assert_eq!(screen.clear(), "\r\x1b[3A\x1b[J");
        assert_eq!(screen.clear(), "");
    }

    #[test]
    fn of_many_the_slowest_are_shown() {
        let lines: Vec<String> = (10..30).map(|n| format!("s{n} longrun")).collect();
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let g = graph(&lines);
        let all: Vec<Index> = (0..20).collect();
        let mut screen = Screen::new(&g, &all, false, at(0));
        (10..30).for_each(|n| screen.begins(&format!("s{n}"), at(100 - n)));
        let (text, _) = screen.draw(at(2000), 80);
        assert!(text.starts_with("  s29  stops, 1 s\n  s28  stops"), "{text}");
        assert!(text.ends_with("  and 12 more\n  0 of 20 done, 0 waiting; 2 s\n"), "{text}");
    }
}
