//! The whole table: every event in every state, in virtual time. A cell names all that happens; what it does
//! not name must not happen, so that a cell is compared with the complete machine and everything it asks for.

use super::*;
use crate::time::Tai64n;

/// When events come, in milliseconds.
const NOW: u64 = 4000;

type Make = fn() -> Machine;

/// The states. Beside those that clients can tell apart there are the two questions that are not answered yet.
const STATES: [(&str, Make); 10] = [
    // Nothing runs, nothing is wanted.
    ("idle", idle),
    // Wanted up, and it died less than a second after its start.
    ("brake", brake),
    // Somebody was asked to start run,
    ("asked", asked),
    ("up", up),
    // Told to end, and not dead yet.
    ("stopping", stopping),
    // and somebody was asked to start finish.
    ("dead", dead),
    ("finish", finish),
    ("last up", last_up),
    ("last finish", last_finish),
    ("gone", gone),
];

/// A row: an event, and a cell for each state. The words of a cell:
///
/// - `want+`, `want-`: wanted up, or not, and the status is written.
/// - `file+`, `file-`: `down` is made or removed.
/// - `start`: run is asked for. `retry`: it is tried again later. `up`: it runs.
/// - `send`: the signal of the row. `pause`, `continue`: that, and it shows.
/// - `stop`: down-signal and SIGCONT, and SIGKILL when `timeout-kill` is over. `kill`: it is over.
/// - `ready`: the newline. `shut`: nothing but that nobody listens for one any more.
/// - `death`: it is recorded, and finish is asked for. `finishing`: that runs.
/// - `D`, `OD`, `dD`: a life is over, and what is told of it.
/// - `follow`: another process is the main one. `follow ready`: and it is ready.
/// - `expire`: down-signal and SIGCONT, and SIGKILL later, if that is not on its way already.
///   Of one that gave no sign of life: SIGABRT in place of down-signal. `extend`: SIGKILL comes later.
/// - `unask`: run is not asked for any more. `skip`: it shall not run. `reset`: nothing has been counted.
/// - `last`: this life is the last. `null`: input and output are no more. `end`: supervision ends.
type Row = (&'static str, [&'static str; 10]);

#[rustfmt::skip]
const TABLE: &[Row] = &[
    // event           idle           brake          asked          up              stopping        dead     finish   last up         last finish  gone
    ("u",             ["want+ start", "want+ start", "want+",       "want+",        "want+",        "want+", "want+", "want+",        "want+",     "want+"]),
    ("U",             ["file- want+ start", "file- want+ start", "file- want+", "file- want+", "file- want+", "file- want+", "file- want+", "file- want+", "file- want+", "file- want+"]),
    ("d",             ["want-",       "want-",       "want- unask",       "want- stop",   "want- stop",   "want-", "want-", "want- stop",   "want-",     ""]),
    ("D",             ["file+ want-", "file+ want-", "file+ want- unask", "file+ want- stop", "file+ want- stop", "file+ want-", "file+ want-", "file+ want- stop", "file+ want-", "file+"]),
    ("o",             ["want- start", "want- start", "want-",       "want-",        "want-",        "want-", "want-", "want-",        "want-",     "want-"]),
    ("O",             ["want-",       "want-",       "want- unask",       "want-",        "want-",        "want-", "want-", "want-",        "want-",     "want-"]),
    ("Q",             ["file+ want-", "file+ want-", "file+ want- unask", "file+ want-",  "file+ want-",  "file+ want-", "file+ want-", "file+ want-", "file+ want-", "file+ want-"]),
    ("x",             ["end",         "end",         "end",         "last null",    "last null",    "end",   "last null", "last null", "last null", ""]),
    ("a",             ["",            "",            "",            "send",         "send",         "",      "",      "send",         "",          ""]),
    ("b",             ["",            "",            "",            "send",         "send",         "",      "",      "send",         "",          ""]),
    ("q",             ["",            "",            "",            "send",         "send",         "",      "",      "send",         "",          ""]),
    ("h",             ["",            "",            "",            "send",         "send",         "",      "",      "send",         "",          ""]),
    ("k",             ["",            "",            "",            "send",         "send",         "",      "",      "send",         "",          ""]),
    ("t",             ["",            "",            "",            "send",         "send",         "",      "",      "send",         "",          ""]),
    ("i",             ["",            "",            "",            "send",         "send",         "",      "",      "send",         "",          ""]),
    ("1",             ["",            "",            "",            "send",         "send",         "",      "",      "send",         "",          ""]),
    ("2",             ["",            "",            "",            "send",         "send",         "",      "",      "send",         "",          ""]),
    ("y",             ["",            "",            "",            "send",         "send",         "",      "",      "send",         "",          ""]),
    ("r",             ["",            "",            "",            "send",         "send",         "",      "",      "send",         "",          ""]),
    ("l",             ["",            "",            "",            "send",         "send",         "",      "",      "send",         "",          ""]),
    ("K",             ["",            "",            "",            "send",         "send",         "",      "",      "send",         "",          ""]),
    ("p",             ["",            "",            "",            "send pause",   "send pause",   "",      "",      "send pause",   "",          ""]),
    ("P",             ["",            "",            "",            "send pause",   "send pause",   "",      "",      "send pause",   "",          ""]),
    ("c",             ["",            "",            "",            "send continue", "send continue", "",    "",      "send continue", "",         ""]),
    ("C",             ["",            "",            "",            "send continue", "send continue", "",    "",      "send continue", "",         ""]),
    // Ours, and about what is beside the machine.
    ("!",             ["",            "",            "",            "",             "",             "",      "",      "",             "",          ""]),
    ("?",             ["",            "",            "",            "",             "",             "",      "",      "",             "",          ""]),
    ("=",             ["reset",       "reset",       "reset",       "reset",        "reset",        "reset", "reset", "reset",        "reset",     "reset"]),
    ("TERM",          ["end",         "end",         "end",         "last want- stop", "last want- stop", "end", "last null", "last want- stop", "", ""]),
    // A logger between two lives has a last one: lines may wait in its pipe. s6 ends.
    ("HUP",           ["end",         "last null start", "last null", "last null",  "last null",    "last null", "last null", "last null", "last null", ""]),
    ("QUIT",          ["end",         "end",         "end",         "end",          "end",          "end",   "end",   "end",          "end",       ""]),
    ("INT",           ["end",         "end",         "end",         "send end",     "send end",     "end",   "send end", "send end",  "send end",  ""]),
    ("too early",     ["",            "",            "",            "",             "",             "",      "",      "",             "",          ""]),
    ("deadline",      ["",            "start",       "",            "",             "kill",         "",      "kill",  "",             "kill",      ""]),
    ("newline",       ["shut",        "shut",        "shut",        "ready",        "ready",        "shut",  "shut",  "ready",        "shut",      "shut"]),
    ("died",          ["",            "",            "",            "death",        "death",        "",      "D start", "death",      "D end",     ""]),
    ("died, 125",     ["",            "",            "",            "death",        "death",        "",      "OD",    "death",        "OD end",    ""]),
    ("died, no finish", ["",          "",            "",            "death dD start", "death dD",   "",      "D start", "death dD end", "D end",   ""]),
    ("started",       ["",            "",            "up",          "",             "",             "finishing", "",  "",             "",          ""]),
    ("not started",   ["",            "",            "retry",       "",             "",             "dD start", "",   "",             "",          ""]),
    ("skipped",       ["",            "",            "skip",        "",             "",             "",      "",      "",             "",          ""]),
    ("not well",      ["",            "",            "",            "expire",       "expire", "",      "",      "expire",       "",          ""]),
    ("no sign of life", ["",          "",            "",            "expire",       "expire", "",      "",      "expire",       "",          ""]),
    ("asks for time", ["",            "",            "",            "",             "extend",       "",      "",      "",             "",          ""]),
    ("nothing left",  ["",            "",            "retry",       "",             "",             "dD start", "",   "",             "",          ""]),
    ("main pid",      ["",            "",            "",            "follow",       "follow", "",      "",      "follow",       "",          ""]),
    ("main pid, ready", ["",          "",            "",            "follow ready", "follow ready", "", "",     "follow ready", "",          ""]),
    ("clock set",     ["clock",       "clock",       "clock",       "clock",        "clock",        "clock", "clock", "clock",        "clock",     "clock"]),
];

fn at(ms: u64) -> Now {
    Now { mono: Mono(ms * 1_000_000), wall: Tai64n { secs: (ms / 1000) as i64, nanos: (ms % 1000) as u32 } }
}

fn pid(n: i32) -> Pid {
    Pid::from_raw(n).unwrap()
}

fn rules(finish: bool) -> Definition {
    Definition {
        run: true,
        finish,
        down_signal: Signal::USR1,
        reload_signal: Signal::USR2,
        timeout_kill: Some(Duration::from_millis(500)),
        ..Definition::default()
    }
}

fn fed(mut m: Machine, ms: u64, event: Event) -> Machine {
    m.on(at(ms), event, &rules(true), &mut Todo::default());
    m
}

fn told(m: Machine, ms: u64, letter: u8) -> Machine {
    fed(m, ms, Event::Command(Command::try_from(letter).unwrap()))
}

fn idle() -> Machine {
    let mut m = Machine::new();
    m.on(at(0), Event::Begin, &Definition { down: true, ..rules(true) }, &mut Todo::default());
    m
}

fn asked() -> Machine {
    told(idle(), 1000, b'u')
}

fn up() -> Machine {
    fed(asked(), 1000, Event::Started { pid: pid(100), boot: 1 })
}

fn brake() -> Machine {
    let m = fed(asked(), 3900, Event::Started { pid: pid(100), boot: 1 });
    let mut m = fed(m, 3950, Event::Died(WaitStatus::exited(1)));
    m.on(at(3950), Event::NotStarted { temporary: false }, &rules(true), &mut Todo::default());
    assert_eq!(m.deadline(), Some(at(4900).mono));
    m
}

fn stopping() -> Machine {
    told(up(), 3900, b'd')
}

fn dead() -> Machine {
    fed(up(), 3000, Event::Died(WaitStatus::exited(1)))
}

fn finish() -> Machine {
    fed(dead(), 3000, Event::Started { pid: pid(200), boot: 2 })
}

fn last_up() -> Machine {
    told(up(), 2000, b'x')
}

fn last_finish() -> Machine {
    told(finish(), 3500, b'x')
}

fn gone() -> Machine {
    told(idle(), 2000, b'x')
}

/// The event of a row, the rules that hold then, and when it comes.
fn event_of(row: &str, m: &Machine) -> (Event, Definition, Now) {
    let now = at(NOW);
    let event = match row {
        "TERM" => Event::Leave(Leave::Stop),
        "HUP" => Event::Leave(Leave::CloseInput),
        "QUIT" => Event::Leave(Leave::Abandon),
        "INT" => Event::Leave(Leave::Interrupt),
        "too early" => Event::Timeout,
        // Where there is no deadline, none ever comes.
        "deadline" => {
            let due = Now { mono: m.deadline().unwrap_or(at(1 << 40).mono), ..now };
            return (Event::Timeout, rules(true), due);
        }
        "newline" => Event::Ready,
        "died" => Event::Died(WaitStatus::exited(9)),
        "died, 125" => Event::Died(WaitStatus::exited(125)),
        "died, no finish" => return (Event::Died(WaitStatus::exited(9)), rules(false), now),
        "started" => Event::Started { pid: pid(300), boot: 3 },
        "not started" => Event::NotStarted { temporary: false },
        "nothing left" => Event::NotStarted { temporary: true },
        "skipped" => Event::Skipped,
        "main pid" => Event::MainPid { pid: pid(400), boot: 7, ready: false },
        "main pid, ready" => Event::MainPid { pid: pid(400), boot: 7, ready: true },
        "not well" => Event::Expire(Told::Health),
        "no sign of life" => Event::Expire(Told::Watchdog),
        "asks for time" => Event::Extend(now.mono.after(Duration::from_secs(9))),
        "clock set" => Event::ClockSet,
        letter => Event::Command(Command::try_from(letter.as_bytes()[0]).unwrap()),
    };
    (event, rules(true), now)
}

/// What `send` sends in a row.
fn signal_of(row: &str) -> (To, Signal) {
    let to = if matches!(row, "P" | "C" | "K" | "INT") { To::Group } else { To::Process };
    let signal = match row {
        "a" => Signal::ALRM,
        "b" => Signal::ABRT,
        "q" => Signal::QUIT,
        "h" => Signal::HUP,
        "k" | "K" => Signal::KILL,
        "t" => Signal::TERM,
        "i" | "INT" => Signal::INT,
        "1" => Signal::USR1,
        "2" => Signal::USR2,
        "y" => Signal::WINCH,
        "r" => Signal::USR1,
        "l" => Signal::USR2,
        "p" | "P" => Signal::STOP,
        "c" | "C" => Signal::CONT,
        other => panic!("{other} sends nothing"),
    };
    (to, signal)
}

/// Does what a word says, to the machine and to what is asked for.
fn apply(word: &str, row: &str, event: Event, now: Now, m: &mut Machine, todo: &mut Todo) {
    let kill_at = |ms| Some(now.mono.after(Duration::from_millis(ms)));
    match word {
        "want+" | "want-" => (m.want_up, todo.status) = (word == "want+", true),
        "file+" | "file-" => todo.down_file = Some(word == "file+"),
        "start" => {
            (m.state, m.starting) = (State::Down { start_at: None }, Some(Job::Run));
            todo.start = m.starting;
        }
        "retry" => {
            (m.state, m.starting, m.failures) = (State::Down { start_at: kill_at(1000) }, None, 1);
        }
        "up" => {
            (m.state, m.starting) = (State::Up { pid: pid(300), kill_at: None }, None);
            (m.fresh, m.ready, m.stamp, m.started) = (false, false, now.into(), Some(now.mono));
            (m.boot, m.starts, todo.status) = (3, 1, true);
            m.told = Told::Nobody;
            todo.events.push(b"u");
        }
        "send" => {
            todo.signals.push(signal_of(row));
            if "bqktirK".contains(row) && m.told == Told::Nobody {
                m.told = Told::Restart;
            }
        }
        "expire" => {
            let State::Up { pid, kill_at: until } = m.state else { panic!("nobody to end in {:?}", m.state) };
            let Event::Expire(why) = event else { panic!("{event:?} ends nothing") };
            let signal = if why == Told::Watchdog { Signal::ABRT } else { Signal::USR1 };
            todo.signals.extend([(To::Process, signal), (To::Process, Signal::CONT)]);
            (m.paused, todo.status) = (false, true);
            m.told = if m.told == Told::Nobody { why } else { m.told };
            m.state = State::Up { pid, kill_at: until.or(kill_at(500)) };
        }
        "follow" => {
            let State::Up { kill_at, .. } = m.state else { panic!("nobody to follow in {:?}", m.state) };
            m.state = State::Up { pid: pid(400), kill_at };
            (m.boot, m.followed, todo.status) = (7, true, true);
        }
        "extend" => {
            let State::Up { kill_at, .. } = &mut m.state else {
                panic!("nobody to wait for in {:?}", m.state)
            };
            *kill_at = Some(now.mono.after(Duration::from_secs(9)));
        }
        "unask" => m.starting = None,
        "skip" => {
            (m.starting, m.state) = (None, State::Down { start_at: None });
            (m.want_up, todo.status) = (false, true);
            todo.events.push(b"O");
        }
        "reset" => {
            m.starts = u32::from(matches!(m.state, State::Up { .. }));
            (m.deaths, m.failures, todo.status) = (0, 0, true);
        }
        "pause" | "continue" => (m.paused, todo.status) = (word == "pause", true),
        "stop" => {
            todo.signals.extend([(To::Process, Signal::USR1), (To::Process, Signal::CONT)]);
            m.state = State::Up { pid: pid(100), kill_at: kill_at(500) };
            m.told = if m.told == Told::Nobody { Told::Stop } else { m.told };
            m.paused = false;
        }
        "kill" => match m.state {
            State::Up { pid, .. } => {
                todo.signals.extend([(To::Process, Signal::KILL), (To::Process, Signal::CONT)]);
                m.state = State::Up { pid, kill_at: kill_at(5000) };
                m.told = Told::Timeout;
            }
            State::Finish { pid, .. } => {
                todo.signals.extend([(To::Process, Signal::CONT), (To::Process, Signal::KILL)]);
                m.state = State::Finish { pid, kill_at: kill_at(5000) };
            }
            other => panic!("nobody to kill in {other:?}"),
        },
        "shut" => todo.close_notify = true,
        "ready" => {
            (m.ready, m.ready_stamp) = (true, now.into());
            (todo.close_notify, todo.status) = (true, true);
            todo.events.push(b"U");
        }
        "death" => {
            let Event::Died(status) = event else { panic!("{event:?} is no death") };
            (m.wait, m.paused, m.ready, m.stamp) = (status, false, false, now.into());
            (m.deaths, m.state) = (1, State::Down { start_at: None });
            m.last_told = m.told;
            (todo.close_notify, todo.status) = (true, true);
            todo.death = Some(Death::new(now.wall, status));
            if row != "died, no finish" {
                m.starting = Some(Job::Finish(status, pid(100)));
                todo.start = m.starting;
            }
        }
        "finishing" => {
            (m.state, m.starting) = (State::Finish { pid: pid(300), kill_at: kill_at(5000) }, None);
            (m.boot, todo.status) = (3, true);
            todo.events.push(b"d");
        }
        "D" | "OD" | "dD" => {
            (m.ready, m.ready_stamp, m.starting, todo.status) = (true, now.into(), None, true);
            m.want_up &= word != "OD";
            m.state = State::Down { start_at: m.started.map(|started| started.after(MIN_LIFE)) };
            todo.events.push(word.as_bytes());
        }
        "last" => m.last_life = true,
        "null" => todo.null_io = true,
        "end" => {
            (m.state, m.starting) = (State::Gone, None);
            todo.events.push(b"x");
        }
        "clock" => {
            (m.stamp, m.ready_stamp) = (m.stamp.reanchored(now), m.ready_stamp.reanchored(now));
            todo.status = true;
        }
        other => panic!("{other} is no word"),
    }
}

#[test]
fn every_event_in_every_state() {
    for (row, cells) in TABLE {
        for ((state, make), cell) in STATES.iter().zip(cells) {
            let (mut real, mut expected) = (make(), make());
            let (mut asked, mut asked_for) = (Todo::default(), Todo::default());
            let (event, rules, now) = event_of(row, &real);
            real.on(now, event, &rules, &mut asked);
            if let Event::Leave(how) = event {
                expected.drains = how == Leave::CloseInput;
            }
            for word in cell.split(' ').filter(|word| !word.is_empty()) {
                apply(word, row, event, now, &mut expected, &mut asked_for);
            }
            assert_eq!(asked, asked_for, "what {row} in {state} asks for");
            assert_eq!(real, expected, "the machine after {row} in {state}");
            assert_eq!(Machine::load(&real.save()), Some(real), "saved and loaded after {row} in {state}");
        }
    }
}

/// A row for each event that there is: a new one without a row is noticed here.
#[test]
fn no_event_is_missing() {
    for command in Command::all() {
        let letter = (command.letter() as char).to_string();
        assert_eq!(TABLE.iter().filter(|(row, _)| *row == letter).count(), 1, "{letter}");
    }
    let others = TABLE.iter().map(|(row, _)| event_of(row, &idle()).0);
    let kinds = others.filter(|event| !matches!(event, Event::Command(_))).map(|event| match event {
        Event::Begin | Event::Command(_) => unreachable!("Begin comes once, before everything"),
        Event::Started { .. } => 1,
        Event::NotStarted { .. } => 2,
        Event::Died(_) => 4,
        Event::Ready => 8,
        Event::Timeout => 16,
        Event::ClockSet => 32,
        Event::Leave(Leave::Stop) => 64,
        Event::Leave(Leave::CloseInput) => 128,
        Event::Leave(Leave::Abandon) => 256,
        Event::Leave(Leave::Interrupt) => 512,
        Event::Skipped => 1024,
        Event::Expire(_) => 2048,
        Event::MainPid { .. } => 4096,
        Event::Extend(_) => 8192,
    });
    assert_eq!(kinds.fold(0, |all, kind| all | kind), 16383);
}
