//! The machine where an end was judged, or a start takes its time: in virtual time.

use super::*;
use crate::time::Tai64n;
use proptest::prelude::*;

fn at(ms: u64) -> Now {
    Now { mono: Mono(ms * 1_000_000), wall: Tai64n { secs: (ms / 1000) as i64, nanos: 0 } }
}

fn rules() -> Definition {
    Definition { run: true, ..Definition::default() }
}

fn with_finish() -> Definition {
    Definition { finish: true, ..rules() }
}

fn feed(m: &mut Machine, ms: u64, event: Event, rules: &Definition) -> Todo {
    let mut todo = Todo::default();
    m.on(at(ms), event, rules, &mut todo);
    assert_eq!(Machine::load(&m.save()), Some(*m), "saved and loaded after {event:?}");
    todo
}

fn command(letter: u8) -> Event {
    Event::Command(Command::try_from(letter).unwrap())
}

fn started(n: i32) -> Event {
    Event::Started { pid: Pid::from_raw(n).unwrap(), boot: 1 }
}

/// Up and wanted up since 0, pid 100.
fn up() -> Machine {
    let mut m = Machine::new();
    feed(&mut m, 0, Event::Begin, &rules());
    feed(&mut m, 0, started(100), &rules());
    m
}

/// A start was asked for at 0, and nobody has answered.
fn asked() -> Machine {
    let mut m = Machine::new();
    assert_eq!(feed(&mut m, 0, Event::Begin, &rules()).start, Some(Job::Run));
    m
}

fn events(todo: &Todo) -> &str {
    std::str::from_utf8(todo.events.as_bytes()).unwrap()
}

#[test]
fn judged_again_starts_when_it_says() {
    let mut m = up();
    m.judge(Verdict::Again(Some(at(7000).mono)));
    let todo = feed(&mut m, 5000, Event::Died(WaitStatus(11)), &rules());
    assert_eq!((events(&todo), todo.start, m.deadline()), ("dD", None, Some(at(7000).mono)));
    assert_eq!(feed(&mut m, 7000, Event::Timeout, &rules()).start, Some(Job::Run));
    feed(&mut m, 7000, started(101), &rules());
    // The next end is not judged, and as ever.
    let todo = feed(&mut m, 9000, Event::Died(WaitStatus(11)), &rules());
    assert_eq!(todo.start, Some(Job::Run));
}

#[test]
fn judged_not_again_is_no_failure_and_given_up_is_one() {
    for (verdict, plain, finishing) in [(Verdict::NotAgain, "dD", "D"), (Verdict::GiveUp, "dOD", "OD")] {
        let mut m = up();
        m.judge(verdict);
        let todo = feed(&mut m, 5000, Event::Died(WaitStatus(11)), &rules());
        assert_eq!((events(&todo), todo.start, m.status().want_up), (plain, None, false));
        assert_eq!(m.deadline(), None);
        let mut m = up();
        m.judge(verdict);
        feed(&mut m, 5000, Event::Died(WaitStatus(11)), &with_finish());
        feed(&mut m, 5000, started(200), &with_finish());
        let todo = feed(&mut m, 5100, Event::Died(WaitStatus(0)), &with_finish());
        assert_eq!((events(&todo), todo.start, m.status().want_up), (finishing, None, false));
    }
}

#[test]
fn a_person_overrules_a_judgement() {
    let mut m = up();
    m.judge(Verdict::GiveUp);
    feed(&mut m, 5000, Event::Died(WaitStatus(11)), &with_finish());
    feed(&mut m, 5000, started(200), &with_finish());
    feed(&mut m, 5050, command(b'u'), &with_finish());
    let todo = feed(&mut m, 5100, Event::Died(WaitStatus(0)), &with_finish());
    assert_eq!((events(&todo), todo.start), ("D", Some(Job::Run)));
}

#[test]
fn who_is_stopped_meanwhile_has_not_failed() {
    let mut m = up();
    m.judge(Verdict::GiveUp);
    feed(&mut m, 5000, Event::Died(WaitStatus(11)), &with_finish());
    feed(&mut m, 5000, started(200), &with_finish());
    feed(&mut m, 5050, command(b'd'), &with_finish());
    assert_eq!(events(&feed(&mut m, 5100, Event::Died(WaitStatus(0)), &with_finish())), "D");
}

#[test]
fn a_failed_start_that_is_judged() {
    let mut m = asked();
    m.judge(Verdict::Again(Some(at(300).mono)));
    feed(&mut m, 0, Event::NotStarted { temporary: false }, &rules());
    assert_eq!(m.deadline(), Some(at(300).mono));
    feed(&mut m, 300, Event::Timeout, &rules());
    m.judge(Verdict::GiveUp);
    let todo = feed(&mut m, 300, Event::NotStarted { temporary: false }, &rules());
    assert_eq!((events(&todo), m.deadline(), m.status().want_up), ("O", None, false));
}

#[test]
fn a_start_that_is_skipped() {
    let mut m = asked();
    let todo = feed(&mut m, 10, Event::Skipped, &rules());
    assert_eq!((events(&todo), m.deadline(), m.status().want_up), ("O", None, false));
    assert_eq!(feed(&mut m, 10, Event::Skipped, &rules()), Todo::default(), "nobody asked");
    assert_eq!(feed(&mut m, 20, command(b'u'), &rules()).start, Some(Job::Run));
}

#[test]
fn a_start_that_is_not_wanted_any_more() {
    for letter in *b"dOQDx" {
        let mut m = asked();
        feed(&mut m, 10, command(letter), &rules());
        assert_eq!(m.starting(), None, "{}", letter as char);
        assert_eq!(feed(&mut m, 20, started(100), &rules()), Todo::default());
    }
    let mut m = asked();
    assert_eq!(feed(&mut m, 10, command(b'u'), &rules()).start, None, "it is being asked for");
    feed(&mut m, 10, Event::Leave(Leave::Stop), &rules());
    assert!(m.is_gone() && m.starting().is_none());
}

#[test]
fn who_told_it_to_end() {
    for (letter, told) in [
        (b'd', Told::Stop),
        (b't', Told::Restart),
        (b'r', Told::Restart),
        (b'k', Told::Restart),
        (b'K', Told::Restart),
        (b'h', Told::Nobody),
        (b'1', Told::Nobody),
    ] {
        let mut m = up();
        feed(&mut m, 2000, command(letter), &rules());
        assert_eq!((m.told(), m.last_told()), (told, Told::Nobody), "{}", letter as char);
        feed(&mut m, 2001, Event::Died(WaitStatus(15)), &rules());
        assert_eq!(m.last_told(), told);
    }
    let rules = Definition { timeout_kill: Some(Duration::from_secs(1)), ..rules() };
    let mut m = up();
    feed(&mut m, 2000, command(b'd'), &rules);
    feed(&mut m, 3000, Event::Timeout, &rules);
    feed(&mut m, 3000, Event::Died(WaitStatus(9)), &rules);
    assert_eq!(m.last_told().word(), Some("timeout"));
}

#[test]
fn a_reset_counts_anew() {
    let mut m = up();
    feed(&mut m, 2000, Event::Died(WaitStatus(0)), &rules());
    feed(&mut m, 2000, started(101), &rules());
    assert_eq!((m.starts(), m.deaths()), (2, 1));
    assert!(feed(&mut m, 2100, command(b'='), &rules()).status);
    assert_eq!((m.starts(), m.deaths(), m.status().is_up()), (1, 0, true));
}

proptest! {
    /// However ends are judged and whatever is asked for: a service that is wanted up and down is being started,
    /// or will be; and one that is not wanted has no start before it.
    #[test]
    fn wanted_up_is_never_forgotten(steps in prop::collection::vec((0u8..9, 0u64..3000), 1..40)) {
        let mut m = up();
        let mut now = 0;
        for (kind, pause) in steps {
            now += pause;
            let event = match kind {
                0 => Event::Died(WaitStatus(11)),
                1 => { m.judge(Verdict::Again(Some(at(now + 500).mono))); Event::Died(WaitStatus(11)) }
                2 => { m.judge(Verdict::GiveUp); Event::Died(WaitStatus(11)) }
                3 => started(now as i32 + 2),
                4 => Event::NotStarted { temporary: false },
                5 => Event::Skipped,
                6 => command(b'u'),
                7 => command(b'd'),
                _ => Event::Timeout,
            };
            feed(&mut m, now, event, &rules());
            if let State::Down { start_at } = m.state() {
                prop_assert_eq!(m.status().want_up, m.starting().is_some() || (start_at.is_some() && m.status().want_up));
            }
        }
    }
}
