//! The machine in virtual time: each cell of s6-supervise's table, then properties over random histories.

use super::*;
use crate::time::Tai64n;
use proptest::prelude::*;

const SEC: u64 = 1_000_000_000;

fn at(ms: u64) -> Now {
    Now { mono: Mono(ms * 1_000_000), wall: Tai64n { secs: (ms / 1000) as i64, nanos: (ms % 1000) as u32 } }
}

fn pid(n: i32) -> Pid {
    Pid::from_raw(n).unwrap()
}

/// Feeds an event and checks what must hold after every one.
fn feed(m: &mut Machine, ms: u64, event: Event, rules: &Definition) -> Todo {
    let mut todo = Todo::default();
    m.on(at(ms), event, rules, &mut todo);
    assert_eq!(Machine::load(&m.save()), Some(*m), "saved and loaded after {event:?}");
    todo
}

fn plain() -> Definition {
    Definition { run: true, ..Definition::default() }
}

fn with_finish() -> Definition {
    Definition { finish: true, ..plain() }
}

fn down() -> Machine {
    let mut m = Machine::new();
    feed(&mut m, 0, Event::Begin, &Definition { down: true, ..plain() });
    m
}

/// Up since 1000 ms, pid 100.
fn up() -> Machine {
    let mut m = down();
    assert_eq!(feed(&mut m, 1000, Event::Command(Command::Up), &plain()).start, Some(Job::Run));
    feed(&mut m, 1000, Event::Started { pid: pid(100), boot: 5 * SEC }, &plain());
    m
}

/// Finishing since 3000 ms, pid 200.
fn finish() -> Machine {
    let mut m = up();
    let todo = feed(&mut m, 3000, Event::Died(WaitStatus::exited(1)), &with_finish());
    assert_eq!(todo.start, Some(Job::Finish(WaitStatus::exited(1), pid(100))));
    feed(&mut m, 3000, Event::Started { pid: pid(200), boot: 6 * SEC }, &with_finish());
    m
}

fn last_up() -> Machine {
    let mut m = up();
    feed(&mut m, 2000, Event::Command(Command::Exit), &plain());
    m
}

fn last_finish() -> Machine {
    let mut m = finish();
    feed(&mut m, 3001, Event::Command(Command::Exit), &with_finish());
    m
}

fn events(todo: &Todo) -> &str {
    std::str::from_utf8(todo.events.as_bytes()).unwrap()
}

fn command(letter: u8) -> Event {
    Event::Command(Command::try_from(letter).unwrap())
}

#[test]
fn begin_starts_and_says_s_first() {
    let mut m = Machine::new();
    let todo = feed(&mut m, 10, Event::Begin, &plain());
    assert_eq!((todo.start, todo.status, events(&todo)), (Some(Job::Run), true, "s"));
    assert!(m.status().is_fresh() && m.status().ready && m.status().want_up);
    let todo = feed(&mut m, 10, Event::Started { pid: pid(7), boot: 1 }, &plain());
    assert_eq!(events(&todo), "u");
    assert!(m.status().is_up() && !m.status().is_fresh() && !m.status().ready);
}

#[test]
fn begin_with_down_file_waits() {
    let mut m = down();
    assert_eq!((m.deadline(), m.status().want_up), (None, false));
    assert_eq!(feed(&mut m, 9_999_999, Event::Timeout, &plain()), Todo::default());
}

#[test]
fn up_died_after_a_second_restarts_at_once_and_reports_after() {
    let mut m = up();
    feed(&mut m, 1500, command(b'u'), &plain());
    let todo = feed(&mut m, 2000, Event::Died(WaitStatus::exited(3)), &plain());
    assert_eq!((todo.start, events(&todo), todo.close_notify), (Some(Job::Run), "dD", true));
    assert_eq!(todo.death.unwrap().end, End::Exit(3));
    let todo = feed(&mut m, 2000, Event::Started { pid: pid(101), boot: 9 }, &plain());
    assert_eq!((events(&todo), m.starts(), m.deaths()), ("u", 2, 1));
    assert_eq!(m.status().wait, WaitStatus::exited(3), "kept while the next one is up");
}

#[test]
fn up_died_early_waits_until_a_second_after_its_start() {
    let mut m = up();
    feed(&mut m, 1000, command(b'u'), &plain());
    let todo = feed(&mut m, 1400, Event::Died(WaitStatus::exited(0)), &plain());
    assert_eq!((todo.start, m.deadline()), (None, Some(at(2000).mono)));
    assert_eq!(feed(&mut m, 1999, Event::Timeout, &plain()), Todo::default());
    assert_eq!(feed(&mut m, 2000, Event::Timeout, &plain()).start, Some(Job::Run));
}

#[test]
fn down_u_and_o_bypass_the_brake() {
    for letter in *b"uUo" {
        let mut m = up();
        feed(&mut m, 1100, Event::Died(WaitStatus::exited(0)), &plain());
        let todo = feed(&mut m, 1101, command(letter), &plain());
        assert_eq!(todo.start, Some(Job::Run), "{}", letter as char);
        assert_eq!(m.want_up, letter != b'o');
    }
}

#[test]
fn finish_gets_code_and_signal_and_ends_the_life() {
    let mut m = finish();
    assert_eq!(m.status().pid, Some(pid(200)));
    assert!(m.status().finishing && !m.status().is_up());
    assert_eq!(m.deadline(), Some(at(8000).mono), "5 s by default");
    let todo = feed(&mut m, 3500, Event::Died(WaitStatus::exited(0)), &with_finish());
    assert_eq!((events(&todo), todo.start, todo.death), ("D", Some(Job::Run), None));
    assert_eq!(m.status().wait, WaitStatus::exited(1), "of run, not of finish");
}

#[test]
fn finish_125_is_permanent_failure() {
    let mut m = finish();
    let todo = feed(&mut m, 3500, Event::Died(WaitStatus::exited(125)), &with_finish());
    assert_eq!((events(&todo), todo.start, m.status().want_up), ("OD", None, false));
}

#[test]
fn finish_that_takes_too_long_is_killed_again_and_again() {
    let mut m = finish();
    let kill = [(To::Process, Signal::CONT), (To::Process, Signal::KILL)];
    assert_eq!(feed(&mut m, 8000, Event::Timeout, &with_finish()).signals, kill);
    assert_eq!(m.deadline(), Some(at(13000).mono));
    assert_eq!(feed(&mut m, 13000, Event::Timeout, &with_finish()).signals, kill);
}

#[test]
fn finish_that_cannot_be_started_is_as_none() {
    let mut m = up();
    feed(&mut m, 3000, Event::Died(WaitStatus::exited(1)), &with_finish());
    let todo = feed(&mut m, 3000, Event::NotStarted { temporary: false }, &with_finish());
    assert_eq!((events(&todo), todo.start), ("dD", Some(Job::Run)));
}

#[test]
fn up_d_terminates_with_deadline_only_if_there_is_one() {
    let mut m = up();
    let todo = feed(&mut m, 2000, command(b'd'), &plain());
    assert_eq!(todo.signals, [(To::Process, Signal::TERM), (To::Process, Signal::CONT)]);
    assert_eq!((m.deadline(), todo.status), (None, true));
    let rules = Definition {
        timeout_kill: Some(Duration::from_millis(500)),
        down_signal: Signal::INT,
        kill_group: true,
        ..plain()
    };
    let todo = feed(&mut m, 2100, command(b'd'), &rules);
    assert_eq!(todo.signals[0], (To::Process, Signal::INT));
    assert_eq!(m.deadline(), Some(at(2600).mono));
    feed(&mut m, 2200, command(b'u'), &rules);
    assert_eq!(m.deadline(), Some(at(2600).mono), "u does not take it back");
    let todo = feed(&mut m, 2600, Event::Timeout, &rules);
    assert_eq!(todo.signals, [(To::Group, Signal::KILL), (To::Group, Signal::CONT)]);
    assert_eq!(m.deadline(), Some(at(7600).mono));
}

#[test]
fn up_d_with_kill_mode_tree_reaches_everybody() {
    let mut m = up();
    let rules = Definition {
        timeout_kill: Some(Duration::from_millis(500)),
        kill_tree: true,
        kill_group: true,
        ..plain()
    };
    let todo = feed(&mut m, 2000, command(b'd'), &rules);
    assert_eq!(todo.signals, [(To::Tree, Signal::TERM), (To::Tree, Signal::CONT)]);
    let todo = feed(&mut m, 2500, Event::Timeout, &rules);
    assert_eq!(todo.signals, [(To::Tree, Signal::KILL), (To::Tree, Signal::CONT)]);
    // Other signals are for the process, as ever.
    assert_eq!(feed(&mut m, 2600, command(b'h'), &rules).signals, [(To::Process, Signal::HUP)]);
}

#[test]
fn up_r_sends_the_down_signal_and_nothing_else() {
    let mut m = up();
    let rules = Definition { timeout_kill: Some(Duration::from_millis(500)), ..plain() };
    let before = m;
    let todo = feed(&mut m, 2000, command(b'r'), &rules);
    assert_eq!(todo, Todo { signals: vec![(To::Process, Signal::TERM)], ..Todo::default() });
    assert_eq!(m, before);
}

#[test]
fn up_ready_once() {
    let mut m = up();
    let todo = feed(&mut m, 1200, Event::Ready, &plain());
    assert_eq!((events(&todo), todo.close_notify), ("U", true));
    assert!(m.status().is_ready());
    assert_eq!(events(&feed(&mut m, 1201, Event::Ready, &plain())), "");
}

#[test]
fn up_pause_shows_and_continue_clears() {
    let mut m = up();
    assert_eq!(feed(&mut m, 2000, command(b'P'), &plain()).signals, [(To::Group, Signal::STOP)]);
    assert!(m.status().paused);
    assert_eq!(feed(&mut m, 2001, command(b'c'), &plain()).signals, [(To::Process, Signal::CONT)]);
    assert!(!m.status().paused);
}

#[test]
fn last_up_ends_with_this_life() {
    let mut m = last_up();
    assert!(matches!(m.state(), State::Up { .. }), "x kills nothing");
    let todo = feed(&mut m, 5000, Event::Died(WaitStatus::exited(0)), &plain());
    assert_eq!((events(&todo), todo.start, m.is_gone()), ("dDx", None, true));
}

#[test]
fn last_finish_ends_after_finish() {
    let mut m = last_finish();
    let todo = feed(&mut m, 5000, Event::Died(WaitStatus::exited(0)), &with_finish());
    assert_eq!((events(&todo), m.is_gone()), ("Dx", true));
}

#[test]
fn leaving_in_every_state() {
    let gone = |mut m: Machine, how| {
        let todo = feed(&mut m, 4000, Event::Leave(how), &plain());
        (m.is_gone(), todo.signals.len(), todo.null_io)
    };
    for how in [Leave::Stop, Leave::CloseInput, Leave::Abandon, Leave::Interrupt] {
        assert_eq!(gone(down(), how), (true, 0, false), "{how:?}");
    }
    for state in [up, last_up] {
        assert_eq!(gone(state(), Leave::Stop), (false, 2, false));
        assert_eq!(gone(state(), Leave::CloseInput), (false, 0, true));
        assert_eq!(gone(state(), Leave::Abandon), (true, 0, false));
        assert_eq!(gone(state(), Leave::Interrupt), (true, 1, false));
    }
    for (state, last) in [(finish as fn() -> Machine, false), (last_finish, true)] {
        assert_eq!(gone(state(), Leave::Stop), (false, 0, !last));
        assert_eq!(gone(state(), Leave::CloseInput), (false, 0, true));
        assert_eq!(gone(state(), Leave::Abandon), (true, 0, false));
        assert_eq!(gone(state(), Leave::Interrupt), (true, 1, false));
    }
}

/// The rows of s6's table that the tests above do not spell out: for each byte and state, whether a process
/// is signalled, a start is asked for, `down` is touched, and what is wanted afterwards.
#[test]
fn every_letter_in_every_state() {
    type Make = fn() -> Machine;
    let states: [(&str, Make); 5] =
        [("down", down), ("up", up), ("finish", finish), ("last up", last_up), ("last finish", last_finish)];
    for (name, make) in states {
        for c in Command::all() {
            let letter = c.letter();
            let (before, mut m) = (make(), make());
            let todo = feed(&mut m, 4000, Event::Command(c), &with_finish());
            let is_up = name.ends_with("up");
            let signalled = !todo.signals.is_empty();
            let what = format!("{} in {name}", letter as char);
            assert_eq!(signalled, is_up && b"abqhktipcyr12lPCKdD".contains(&letter), "signal: {what}");
            assert_eq!(todo.start.is_some(), name == "down" && b"uUo".contains(&letter), "start: {what}");
            let file = match letter {
                b'U' => Some(false),
                b'D' | b'Q' => Some(true),
                _ => None,
            };
            assert_eq!(todo.down_file, file, "down file: {what}");
            let want = match letter {
                b'u' | b'U' => true,
                b'd' | b'D' | b'o' | b'O' | b'Q' => false,
                _ => before.want_up,
            };
            assert_eq!(m.want_up, want, "want: {what}");
            assert_eq!(m.is_gone(), name == "down" && letter == b'x', "gone: {what}");
            assert_eq!(todo.null_io, name != "down" && letter == b'x', "null io: {what}");
        }
    }
}

#[test]
fn what_cannot_be_started_is_tried_again_ever_more_slowly() {
    let mut m = Machine::new();
    feed(&mut m, 0, Event::Begin, &plain());
    let mut now = 0;
    for pause in [1000, 2000, 4000, 8000, 10_000, 10_000] {
        let todo = feed(&mut m, now, Event::NotStarted { temporary: false }, &plain());
        assert_eq!(events(&todo), "", "nobody is told");
        now += pause;
        assert_eq!(m.deadline(), Some(at(now).mono));
        assert_eq!(feed(&mut m, now, Event::Timeout, &plain()).start, Some(Job::Run));
    }
    feed(&mut m, now, Event::NotStarted { temporary: true }, &plain());
    assert_eq!(m.deadline(), Some(at(now + 1000).mono));
    assert!(m.status().is_fresh() && m.retry_at().is_some());
}

#[test]
fn a_clock_that_is_set_changes_no_age_and_no_deadline() {
    let mut m = up();
    let rules = Definition { timeout_kill: Some(Duration::from_secs(9)), ..plain() };
    feed(&mut m, 2000, command(b'd'), &rules);
    let deadline = m.deadline();
    let now = Now { mono: at(4000).mono, wall: Tai64n { secs: 4_000_000_000, nanos: 0 } };
    let mut todo = Todo::default();
    m.on(now, Event::ClockSet, &rules, &mut todo);
    assert!(todo.status);
    assert_eq!(m.status().stamp.age(now.wall), Duration::from_secs(3));
    assert_eq!(m.deadline(), deadline);
}

/// A world around the machine that answers its questions: processes that may die at any time.
struct World {
    machine: Machine,
    rules: Definition,
    now: u64,
    /// The process that exists, if any.
    alive: Option<Pid>,
    next_pid: i32,
    heard: Vec<u8>,
}

#[derive(Clone, Debug)]
enum Step {
    Wait(u16),
    Die(u8),
    Killed,
    Ready,
    Letter(usize),
    Leave(u8),
    Crash,
    FailNext,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (0u16..3000).prop_map(Step::Wait),
        any::<u8>().prop_map(Step::Die),
        Just(Step::Killed),
        Just(Step::Ready),
        (0usize..25).prop_map(Step::Letter),
        (0usize..25).prop_map(Step::Letter),
        (0u8..4).prop_map(Step::Leave),
        Just(Step::Crash),
        Just(Step::FailNext),
    ];
    proptest::collection::vec(step, 0..80)
}

impl World {
    fn feed(&mut self, event: Event, fail: &mut bool) {
        let mut event = Some(event);
        while let Some(e) = event.take() {
            let mut todo = Todo::default();
            self.machine.on(at(self.now), e, &self.rules, &mut todo);
            self.heard.extend(todo.events.as_bytes());
            if todo.start.is_some() {
                assert_eq!(self.alive, None, "a second copy");
                event = Some(if std::mem::take(fail) {
                    Event::NotStarted { temporary: true }
                } else {
                    let new = pid(self.next_pid);
                    self.next_pid += 1;
                    self.alive = Some(new);
                    Event::Started { pid: new, boot: self.now }
                });
            }
        }
    }
}

proptest! {
    /// Whatever happens in whatever order: never two processes, status says which there is, events alternate
    /// as clients expect, and a service that is wanted comes back.
    #[test]
    fn any_history(steps in steps(), finish: bool, starts_down: bool) {
        let rules = Definition { finish, down: starts_down, timeout_kill: Some(Duration::from_secs(2)), ..plain() };
        let mut w = World { machine: Machine::new(), rules, now: 0, alive: None, next_pid: 10, heard: Vec::new() };
        let mut fail = false;
        w.feed(Event::Begin, &mut fail);
        for step in steps {
            match step {
                Step::Wait(ms) => w.now += ms as u64,
                Step::Die(code) => if w.alive.take().is_some() {
                    w.feed(Event::Died(WaitStatus::exited(code)), &mut fail);
                },
                Step::Killed => if w.alive.take().is_some() {
                    w.feed(Event::Died(WaitStatus::killed(Signal::KILL)), &mut fail);
                },
                Step::Ready => w.feed(Event::Ready, &mut fail),
                Step::Letter(n) => w.feed(Event::Command(Command::all().nth(n).unwrap()), &mut fail),
                Step::Leave(n) => {
                    let how = [Leave::Stop, Leave::CloseInput, Leave::Abandon, Leave::Interrupt][n as usize];
                    w.feed(Event::Leave(how), &mut fail);
                }
                // kill -9 of the supervisor: its successor goes on from what was saved.
                Step::Crash => w.machine = Machine::load(&w.machine.save()).unwrap(),
                Step::FailNext => fail = true,
            }
            if w.machine.deadline().is_some_and(|d| d <= at(w.now).mono) {
                w.feed(Event::Timeout, &mut fail);
            }
            if w.machine.is_gone() {
                prop_assert_eq!(w.heard.last(), Some(&b'x'));
                return Ok(());
            }
            prop_assert_eq!(w.machine.status().pid, w.alive);
            prop_assert!(w.machine.starting().is_none());
            let wanted_idle = w.alive.is_none() && w.machine.status().want_up;
            prop_assert!(!wanted_idle || w.machine.deadline().is_some(), "wanted, and nothing would start it");
        }
        // Between two `u` there is a `D`, and `U` comes only after `u`.
        let mut up = false;
        for b in w.heard {
            match b {
                b'u' => { prop_assert!(!up); up = true; }
                b'U' => prop_assert!(up),
                b'D' => up = false,
                _ => {}
            }
        }
    }
}
