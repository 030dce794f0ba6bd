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
use crate::ordered::{places_by_key, unique};
use crate::report::{age, took};
use crate::sys::{clock, env};
use crate::time::Mono;
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
            screen.set(name, State::Running(clock::mono()));
        }
    }

    fn ends(&mut self, name: &str, up: bool, end: End, duration: Duration) {
        self.clear();
        say(name, up, end, duration);
        if let Some(screen) = &mut self.screen {
            screen.set(name, State::Over);
        }
    }

    fn is_cut_short(&mut self, _: &str, _: bool, _: End, _: Duration) {
        self.clear();
    }

    fn look(&mut self, says: &dyn Fn(&str) -> Option<String>) -> Option<Mono> {
        let screen = self.screen.as_mut()?;
        screen.hear(says);
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
    steps: Vec<Step>,
    /// Lines on the screen that are ours.
    lines: usize,
    changed: bool,
    drawn: Mono,
}

/// A step of a change.
struct Step {
    name: String,
    /// The steps that come before it.
    before: Vec<usize>,
    state: State,
    /// What it says that it is doing.
    says: Option<String>,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Waiting,
    Running(Mono),
    Over,
}

impl Screen {
    fn new(graph: &Graph, steps: &[Index], up: bool, now: Mono) -> Screen {
        let shown: Vec<Index> =
            unique(steps.iter().copied().filter(|index| !graph.services[*index].hidden).collect());
        let step = |index: &Index| {
            let others = match up {
                true => before(graph, *index),
                false => graph.services[*index].needed_by.clone(),
            };
            let before = others.iter().filter_map(|other| shown.binary_search(other).ok()).collect();
            Step { name: graph.name(*index).to_owned(), before, state: State::Waiting, says: None }
        };
        let steps = shown.iter().map(step).collect();
        Screen { began: now, up, steps, changed: true, ..Screen::default() }
    }

    fn set(&mut self, name: &str, state: State) {
        if let Some(step) = self.steps.iter_mut().find(|step| step.name == name) {
            (step.state, self.changed) = (state, true);
        }
    }

    /// Asks what those say that are being started.
    fn hear(&mut self, says: &dyn Fn(&str) -> Option<String>) {
        for step in self.steps.iter_mut().filter(|step| matches!(step.state, State::Running(_))) {
            let said = says(&step.name);
            self.changed |= said != step.says;
            step.says = said;
        }
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
        if !self.steps.iter().any(|step| matches!(step.state, State::Running(_))) {
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
        let age_of = |step: &Step| match step.state {
            State::Running(since) => since.0,
            State::Waiting | State::Over => u64::MAX,
        };
        let count = |is: fn(State) -> bool| self.steps.iter().filter(|step| is(step.state)).count();
        let running = count(|state| matches!(state, State::Running(_)));
        let order = places_by_key(self.steps.iter().map(age_of));
        let shown = &order[..running.min(SHOWN)];
        let width = shown.iter().map(|place| self.steps[*place].name.chars().count()).max().unwrap_or(0);
        let verb = if self.up { "starts" } else { "stops" };
        let mut lines = Vec::new();
        for place in shown {
            let step = &self.steps[*place];
            let behind = self.steps.iter().filter(|s| s.state == State::Waiting && s.before.contains(place));
            let behind: Vec<&str> = behind.map(|step| step.name.as_str()).collect();
            let pad = " ".repeat(width - step.name.chars().count());
            let time = age(now.since(Mono(age_of(step))));
            let mut line = format!("  {}{pad}  {verb}, {time}", step.name);
            line.extend(step.says.iter().flat_map(|text| [": ", text]));
            match behind.len() {
                0 => {}
                1..=3 => line.extend(["; for it waits ", &behind.join(", ")]),
                n => line.push_str(&format!("; for it wait {}, {} and {} more", behind[0], behind[1], n - 2)),
            }
            lines.push(line);
        }
        if running > SHOWN {
            lines.push(format!("  and {} more", running - SHOWN));
        }
        let (over, waiting) = (count(|s| s == State::Over), count(|s| s == State::Waiting));
        let time = age(now.since(self.began));
        lines.push(format!("  {over} of {} done, {waiting} waiting; {time}", self.steps.len()));
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
        screen.set("mount", State::Running(at(0)));
        assert_eq!(screen.draw(at(10), 80), (String::new(), Some(at(300))), "not at once");
        let (text, next) = screen.draw(at(4300), 80);
        assert_eq!(
            text,
            "  mount  starts, 4 s; for it waits cron, db\n\
             \x20 0 of 4 done, 3 waiting; 4 s\n"
        );
        assert_eq!(next, Some(at(4800)));
        assert_eq!(screen.draw(at(4400), 80), (String::new(), Some(at(4800))), "nothing has changed");
        screen.hear(&|name| Some(format!("{name} 3/5")));
        let (text, _) = screen.draw(at(4400), 80);
        assert!(text.contains("  mount  starts, 4 s: mount 3/5; for it waits cron, db\n"), "{text}");
        screen.hear(&|name| Some(format!("{name} 3/5")));
        assert_eq!(screen.draw(at(4400), 80), (String::new(), Some(at(4900))), "nothing has changed");
        assert_eq!(screen.clear(), "\r\x1b[2A\x1b[J");
        screen.set("mount", State::Over);
        screen.set("db", State::Running(at(4500)));
        screen.set("cron", State::Running(at(4500)));
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
        (10..30).for_each(|n| screen.set(&format!("s{n}"), State::Running(at(100 - n))));
        let (text, _) = screen.draw(at(2000), 80);
        assert!(text.starts_with("  s29  stops, 1 s\n  s28  stops"), "{text}");
        assert!(text.ends_with("  and 12 more\n  0 of 20 done, 0 waiting; 2 s\n"), "{text}");
    }
}
