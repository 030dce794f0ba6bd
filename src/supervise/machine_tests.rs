//! The machine in virtual time: what people know it by, then properties over random histories. Every event in
//! every state is in the table beside this (`machine_table.rs`).

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
    assert_eq!(m, Machine { told: Told::Restart, ..before });
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

/// A world around the machine that answers its questions: processes that may die at any time. Beside it stands
/// what a person expects who has seen the same: the simplest account that there is of what was asked for.
struct World {
    machine: Machine,
    rules: Definition,
    now: u64,
    /// The process that exists, if any, and whether it is `finish`.
    alive: Option<(Pid, bool)>,
    next_pid: i32,
    /// The next thing that is started cannot be.
    fail: bool,
    heard: Vec<u8>,
    told: Expected,
}

/// What must be so, whatever the machine says.
#[derive(Default)]
struct Expected {
    want_up: bool,
    last_life: bool,
    paused: bool,
    ready: bool,
    down_file: Option<bool>,
    starts: u32,
    deaths: Vec<Death>,
    /// When run was last started.
    started: Option<u64>,
    /// SIGKILL is due to come then, to run that was told to end or to a finish script that takes long.
    kill_at: Option<u64>,
    /// The present event is one that may start it before a second is over.
    at_once: bool,
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

const LEAVE: [Leave; 4] = [Leave::Stop, Leave::CloseInput, Leave::Abandon, Leave::Interrupt];

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (0u16..3000).prop_map(Step::Wait),
        any::<u8>().prop_map(Step::Die),
        Just(Step::Die(125)),
        Just(Step::Killed),
        Just(Step::Ready),
        (0usize..25).prop_map(Step::Letter),
        (0usize..25).prop_map(Step::Letter),
        (0u8..4).prop_map(Step::Leave),
        Just(Step::Crash),
        Just(Step::FailNext),
    ];
    // Most histories shall not end early.
    let rarely = |step| if let Step::Leave(n) = step { Step::Wait(n.into()) } else { step };
    prop_oneof![
        proptest::collection::vec(step.clone(), 0..80),
        proptest::collection::vec(step.prop_map(rarely), 0..200),
    ]
}

const TIMEOUT_KILL: u64 = 2000;

impl World {
    fn begin(finish: bool, down: bool) -> World {
        let timeout_kill = Some(Duration::from_millis(TIMEOUT_KILL));
        let mut w = World {
            machine: Machine::new(),
            rules: Definition { finish, down, timeout_kill, ..plain() },
            now: 0,
            alive: None,
            next_pid: 10,
            fail: false,
            heard: Vec::new(),
            told: Expected { want_up: !down, at_once: true, ..Expected::default() },
        };
        w.feed(Event::Begin);
        w
    }

    fn feed(&mut self, event: Event) {
        let mut event = Some(event);
        while let Some(e) = event.take() {
            let mut todo = Todo::default();
            self.machine.on(at(self.now), e, &self.rules, &mut todo);
            self.heard.extend(todo.events.as_bytes());
            self.obey(e, &todo);
            event = todo.start.map(|job| self.start(job));
        }
        self.told.at_once = false;
    }

    fn obey(&mut self, event: Event, todo: &Todo) {
        self.told.down_file = todo.down_file.or(self.told.down_file);
        if let Some(death) = todo.death {
            assert_eq!(Some(&death), self.told.deaths.last(), "each death is told once, when it happens");
        }
        if event == Event::Timeout && todo.signals.contains(&(To::Process, Signal::KILL)) {
            let due = self.told.kill_at.expect("killed without reason");
            assert!(self.now >= due, "killed {} ms early", due - self.now);
            self.told.kill_at = Some(self.now + 5000);
        }
        for (to, _) in &todo.signals {
            assert!(*to == To::Group || self.alive.is_some(), "a signal to nobody");
        }
    }

    /// Answers a question.
    fn start(&mut self, job: Job) -> Event {
        assert_eq!(self.alive, None, "a second copy");
        if std::mem::take(&mut self.fail) {
            return Event::NotStarted { temporary: true };
        }
        let new = pid(self.next_pid);
        self.next_pid += 1;
        let finish = job != Job::Run;
        self.alive = Some((new, finish));
        if finish {
            self.told.kill_at = Some(self.now + 5000);
        } else {
            let soonest = self.told.started.map_or(0, |at| at + 1000);
            assert!(self.now >= soonest || self.told.at_once, "{} ms too early", soonest - self.now);
            (self.told.started, self.told.ready, self.told.kill_at) = (Some(self.now), false, None);
            self.told.starts += 1;
        }
        Event::Started { pid: new, boot: self.now }
    }

    fn die(&mut self, status: WaitStatus) {
        let Some((_, finish)) = self.alive.take() else { return };
        self.told.kill_at = None;
        if finish {
            self.told.want_up &= status != WaitStatus::exited(125);
        } else {
            self.told.deaths.push(Death::new(at(self.now).wall, status));
            self.told.paused = false;
        }
        self.feed(Event::Died(status));
    }

    fn command(&mut self, command: Command) {
        let is_up = matches!(self.alive, Some((_, false)));
        match command.letter() {
            b'u' | b'U' => self.told.want_up = true,
            b'd' | b'D' | b'o' | b'O' | b'Q' => self.told.want_up = false,
            b'x' => self.told.last_life = true,
            b'p' | b'P' if is_up => self.told.paused = true,
            b'c' | b'C' if is_up => self.told.paused = false,
            _ => {}
        }
        if is_up && b"dD".contains(&command.letter()) {
            (self.told.paused, self.told.kill_at) = (false, Some(self.now + TIMEOUT_KILL));
        }
        self.told.at_once = b"uUo".contains(&command.letter());
        self.feed(Event::Command(command));
    }

    fn leave(&mut self, how: Leave) {
        if matches!((how, self.alive), (Leave::Stop, Some((_, false)))) {
            (self.told.want_up, self.told.paused) = (false, false);
            self.told.kill_at = Some(self.now + TIMEOUT_KILL);
        }
        self.told.last_life = true;
        self.told.at_once = true;
        self.feed(Event::Leave(how));
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Wait(ms) => self.now += u64::from(ms),
            Step::Die(code) => self.die(WaitStatus::exited(code)),
            Step::Killed => self.die(WaitStatus::killed(Signal::KILL)),
            Step::Ready => {
                self.told.ready |= matches!(self.alive, Some((_, false)));
                self.feed(Event::Ready);
            }
            Step::Letter(n) => self.command(Command::all().nth(n).unwrap()),
            Step::Leave(n) => self.leave(LEAVE[n as usize]),
            // kill -9 of the supervisor: its successor goes on from what was saved.
            Step::Crash => self.machine = Machine::load(&self.machine.save()).unwrap(),
            Step::FailNext => self.fail = true,
        }
        self.run_due();
    }

    /// The loop calls as soon as a deadline has passed, and no call before it does anything.
    fn run_due(&mut self) {
        let now = at(self.now).mono;
        if self.machine.deadline().is_none_or(|due| due > now) {
            let before = self.machine;
            let mut todo = Todo::default();
            self.machine.on(at(self.now), Event::Timeout, &self.rules, &mut todo);
            assert_eq!((before, todo), (self.machine, Todo::default()), "woken for nothing");
            return;
        }
        self.feed(Event::Timeout);
        assert!(self.machine.deadline().is_none_or(|due| due > now), "it would be called again at once");
    }

    /// What must be so after every step.
    fn check(&self) {
        let (status, told) = (self.machine.status(), &self.told);
        assert_eq!(status.pid, self.alive.map(|(pid, _)| pid));
        assert_eq!(status.finishing, matches!(self.alive, Some((_, true))));
        assert_eq!(status.is_fresh(), told.starts == 0);
        assert_eq!(status.want_up, told.want_up, "a command was lost");
        assert!(self.machine.starting().is_none());
        assert_eq!(self.machine.starts(), told.starts);
        assert_eq!(self.machine.deaths() as usize, told.deaths.len());
        if let Some(last) = told.deaths.last() {
            assert_eq!(status.wait.end(), last.end);
        }
        if status.is_up() {
            assert_eq!((status.ready, status.paused), (told.ready, told.paused));
        }
        // Something is pending: a deadline, and the right one. Nothing is: nobody is ever woken.
        let expected = match self.alive {
            Some(_) => told.kill_at,
            None if told.want_up => {
                let due = self.machine.deadline().expect("wanted, and nothing would start it");
                assert!(due <= at(self.now + 10_000).mono);
                return;
            }
            None => None,
        };
        assert_eq!(self.machine.deadline(), expected.map(|ms| at(ms).mono));
    }

    /// Nothing more comes from outside, and whoever gets a SIGKILL or is a finish script ends: whatever was going
    /// on, it is over after a while, and as was wanted.
    fn settle(&mut self) {
        for _ in 0..10 {
            let told_to_end = self.told.kill_at.is_some();
            if told_to_end {
                self.die(WaitStatus::killed(Signal::KILL));
            }
            if self.machine.is_gone() {
                return;
            }
            let Some(due) = self.machine.deadline() else { break };
            self.now = self.now.max(due.0.div_ceil(1_000_000));
            self.run_due();
            self.check();
        }
        let is_up = self.machine.status().is_up();
        assert!(is_up || !self.told.want_up, "wanted up, and it does not come back");
        assert_eq!(self.machine.deadline(), None, "nothing is going on, and somebody is woken");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Whatever happens in whatever order: never two processes, never one without need, never one too early;
    /// status and tally say what is; no command is lost, none is obeyed twice; events alternate as clients
    /// expect; there is a deadline while something is pending and none when nothing is; and in the end all is
    /// as was wanted last.
    #[test]
    fn any_history(steps in steps(), finish: bool, starts_down: bool) {
        let mut w = World::begin(finish, starts_down);
        w.check();
        for step in steps {
            w.step(step);
            if w.machine.is_gone() {
                break;
            }
            w.check();
        }
        if !w.machine.is_gone() {
            w.fail = false;
            w.settle();
        }
        if w.machine.is_gone() {
            prop_assert!(w.told.last_life, "nobody wanted it to go");
            prop_assert_eq!(w.heard.last(), Some(&b'x'));
        }
        // `u`, perhaps `U`, `d`, and with it or later `D`, before which there may be an `O`.
        let mut last = b'D';
        prop_assert_eq!(w.heard.first(), Some(&b's'));
        for byte in w.heard[1..].iter().copied().filter(|byte| *byte != b'x') {
            let follows: &[u8] = match byte {
                b'u' => b"D",
                b'U' => b"u",
                b'd' => b"uU",
                b'O' => b"d",
                b'D' => b"dO",
                _ => b"",
            };
            prop_assert!(follows.contains(&last), "{} after {}", byte as char, last as char);
            last = byte;
        }
    }
}
