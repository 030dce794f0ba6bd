//! A refused restart never loses a running service: the machine and what it has in mind, in virtual time, with
//! commands of all kinds, a `validate` that says yes, no, nothing, or dies, and a supervisor that is killed.

use super::*;
use crate::process::Signal;
use crate::servicedir::definition::Definition;
use crate::supervise::machine::{Event, Job, Machine, State, Todo};
use crate::time::Tai64n;
use proptest::prelude::*;

/// Of which a machine that obeys one may send it to run, and run is lost.
const ENDS: [Signal; 6] = [Signal::TERM, Signal::KILL, Signal::INT, Signal::QUIT, Signal::ABRT, Signal::HUP];

/// What happens.
#[derive(Clone, Copy, Debug)]
enum Step {
    Command(Command),
    /// Who is asked ends like this, of its own doing or killed.
    Answer(WaitStatus),
    /// So much time passes.
    Wait(u64),
    /// Run ends without being asked.
    Dies,
    /// The supervisor is killed, and its successor takes over.
    Killed,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let all: Vec<Command> = Command::all().collect();
    let restarts = [b't', b'r', b'!', b'?', b'u'].map(|letter| Command::try_from(letter).unwrap());
    let step = prop_oneof![
        6 => prop::sample::select(restarts.to_vec()).prop_map(Step::Command),
        2 => prop::sample::select(all).prop_map(Step::Command),
        4 => prop::sample::select(vec![0, 0x100, 9, 11]).prop_map(|raw| Step::Answer(WaitStatus(raw))),
        3 => prop::sample::select(vec![1, 999, 12_000]).prop_map(Step::Wait),
        1 => Just(Step::Dies),
        2 => Just(Step::Killed),
    ];
    prop::collection::vec(step, 1..60)
}

struct World {
    machine: Machine,
    mind: Extra,
    rules: Definition,
    features: Features,
    now: u64,
    pids: i32,
    /// Signals that were sent in this step.
    sent: Vec<Signal>,
    refusals: u32,
}

impl World {
    fn new() -> World {
        let mut features = Features::default();
        features.take("validate", b"").unwrap();
        features.take("timeout-validate", b"10s").unwrap();
        let rules = Definition { run: true, ..Definition::default() };
        let (machine, mind) = (Machine::new(), Extra::default());
        let mut world =
            World { machine, mind, rules, features, now: 0, pids: 100, sent: Vec::new(), refusals: 0 };
        world.feed(Event::Begin);
        world
    }

    fn at(&self) -> Now {
        let secs = (self.now / 1000) as i64;
        Now { mono: Mono(self.now * 1_000_000), wall: Tai64n { secs, nanos: 0 } }
    }

    /// Tells the machine. What it starts runs at once; what it sends ends run if it is of that kind.
    fn feed(&mut self, event: Event) {
        let mut next = Some(event);
        while let Some(event) = next.take() {
            let mut todo = Todo::default();
            self.machine.on(self.at(), event, &self.rules, &mut todo);
            let ends = todo.signals.iter().map(|(_, signal)| *signal).find(|signal| ENDS.contains(signal));
            self.sent.extend(todo.signals.into_iter().map(|(_, signal)| signal));
            next = match (todo.start, ends) {
                (Some(Job::Run), _) => {
                    self.pids += 1;
                    Some(Event::Started { pid: Pid::from_raw(self.pids).unwrap(), boot: self.now })
                }
                (Some(Job::Finish(..)), _) => unreachable!("there is none"),
                (None, Some(signal)) => Some(Event::Died(WaitStatus::killed(signal))),
                (None, None) => None,
            };
        }
        self.cancel_if_vain();
    }

    fn cancel_if_vain(&mut self) {
        let process = self.machine.process();
        if self.mind.asking.is_some_and(|asking| asking.is_vain(self.machine.starting().is_some(), process)) {
            self.mind.asking = None;
        }
    }

    fn ask(&mut self, mut asking: Asking) {
        self.pids += 1;
        asking.process = Some((Pid::from_raw(self.pids).unwrap(), self.now));
        asking.until = Some(self.at().mono.after(asking.limit(&self.features)));
        self.mind.asking = Some(asking);
    }

    fn is_guarded(&self) -> bool {
        matches!(self.machine.state(), State::Up { .. }) && self.machine.status().want_up
    }

    fn command(&mut self, command: Command) {
        let restarts = self.machine.process().filter(|_| self.is_guarded());
        match self.mind.guard(command, true, restarts) {
            Guard::Ask(asking) => self.ask(asking),
            Guard::Force => {
                self.mind.asking = None;
                self.feed(Event::Command(command));
            }
            Guard::Obey => self.feed(Event::Command(command)),
            Guard::Yes => unreachable!("there is a validate"),
            Guard::Noted => {}
        }
    }

    fn answer(&mut self, status: WaitStatus) {
        let Some(asking) = self.mind.asking.take() else { return };
        let good = status.end() == End::Exit(0) && !asking.overdue;
        self.refusals += u32::from(!good);
        if let Some(command) = asking.permits(good, self.machine.process()) {
            self.feed(Event::Command(command));
        }
    }

    fn wait(&mut self, ms: u64) {
        self.now += ms;
        let now = self.at().mono;
        if self.mind.answer_until().is_some_and(|at| at <= now) {
            // It is killed, and that is its end.
            self.mind.asking.as_mut().unwrap().overdue = true;
            self.answer(WaitStatus::killed(Signal::KILL));
        }
        self.feed(Event::Timeout);
    }

    /// Who is asked is ended and asked again.
    fn killed(&mut self) {
        self.machine = Machine::load(&self.machine.save()).unwrap();
        self.mind = Extra::load(&self.mind.save());
        self.cancel_if_vain();
        if let Some(asking) = self.mind.asking {
            self.ask(Asking::new(asking.ask, asking.target));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_refused_restart_never_loses_a_running_service(steps in steps()) {
        let mut world = World::new();
        for step in steps {
            world.sent.clear();
            let (before, forced, guarded) = (world.machine, world.mind.force, world.is_guarded());
            let (asking, refusals) = (world.mind.asking, world.refusals);
            match step {
                Step::Command(command) => {
                    world.command(command);
                    let restart = matches!(command, Command::Restart | Command::Signal(Signal::TERM));
                    if restart && guarded && !forced {
                        prop_assert_eq!(&world.sent, &[], "nothing is done before there is an answer");
                        prop_assert_eq!(world.machine, before);
                        prop_assert!(world.mind.asking.is_some(), "and it is being asked");
                    }
                }
                Step::Answer(status) => world.answer(status),
                Step::Wait(ms) => world.wait(ms),
                Step::Dies => world.feed(Event::Died(WaitStatus(11))),
                Step::Killed => world.killed(),
            }
            // Whatever is refused, and whoever is killed: nobody is told to end, and who is up stays up.
            if before.process().is_some() && (world.refusals > refusals || matches!(step, Step::Killed)) {
                let same = (world.machine.process(), world.machine.status().want_up);
                prop_assert!(world.sent.is_empty() || before.deadline().is_some());
                prop_assert_eq!(same, (before.process(), before.status().want_up));
            }
            // A yes is for the process that it was asked for, and for no other.
            if let (Step::Answer(WaitStatus(0)), Some(asking)) = (step, asking)
                && matches!(asking.ask, Ask::Restart(_))
            {
                prop_assert_eq!(asking.target, before.process());
            }
            // Who is asked has a time to answer in.
            prop_assert!(world.mind.asking.is_none_or(|asking| asking.until.is_some()));
            if world.machine.is_gone() {
                break;
            }
        }
    }
}
