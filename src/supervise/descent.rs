//! Who descends from a service's run, pure: what `/proc` says goes in, who belongs to it comes out.
//!
//! While run lives everybody who descends from it is below it: it is a subreaper (`kill-mode` says so when it
//! is started), so that those whose parents die become its children and not somebody else's. When run is
//! dead its descent is who was known of it before, whoever is below those, and whoever is in a session or a
//! process group that one of them, or run, leads or led. A number that a session or a group still has is not
//! given to a new process; so where a process has the number of a dead one, nobody of that one is left.
//!
//! That leaves one gap: who is made after run was told to end, by somebody who is dead when run is, and has a
//! session of its own. Where the supervisor has one service only it is closed ([`Reaper`]).
#![forbid(unsafe_code)]

use crate::ordered::Set;
use crate::process::Pid;
use crate::sys::process::Stat;

/// A process and when it was started: who it is.
pub type Member = (Pid, u64);

/// Run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Main {
    /// It lives.
    Alive(Pid),
    /// It is dead and reaped.
    Dead(Pid),
}

/// The supervisor, where it has this service alone and is a subreaper: whoever is its child and none of these
/// is an orphan of the service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reaper {
    /// It.
    pub pid: i32,
    /// Its own children.
    pub own: Set<Pid>,
    /// Children that it had before it was what it is: `sh -c 'helper & exec supervise .'`.
    pub inherited: Vec<Member>,
}

/// The members of a descent, without run. `known` are those of before. Zombies are no members: they are
/// dead, and their children are somebody else's.
pub fn members(all: &[(Pid, Stat)], main: Main, known: &[Member], reaper: Option<&Reaper>) -> Vec<Member> {
    let there = |pid: Pid| all.iter().any(|(p, _)| *p == pid);
    let same = |(pid, start): Member| all.iter().any(|(p, stat)| *p == pid && stat.start == start);
    // The numbers of parents, and of sessions and groups, that make somebody a member.
    let mut parents: Set<i32> = Set::new();
    let mut leaders: Set<i32> = Set::new();
    match main {
        Main::Alive(pid) => {
            parents.insert(pid.raw());
            leaders.insert(pid.raw());
        }
        Main::Dead(pid) if !there(pid) => {
            leaders.insert(pid.raw());
        }
        Main::Dead(_) => {}
    }
    for member in known {
        if same(*member) {
            parents.insert(member.0.raw());
        }
        if same(*member) || !there(member.0) {
            leaders.insert(member.0.raw());
        }
    }
    let is_orphan = |pid: &Pid, stat: &Stat| {
        let strange = |r: &Reaper| r.own.contains(pid) || r.inherited.contains(&(*pid, stat.start));
        matches!(main, Main::Dead(_)) && reaper.is_some_and(|r| r.pid == stat.ppid && !strange(r))
    };
    let is_main = |pid: Pid| main == Main::Alive(pid);
    let mut found: Set<Member> = Set::new();
    loop {
        let before = found.len();
        for (pid, stat) in all.iter().filter(|(pid, stat)| !is_main(*pid) && stat.state != b'Z') {
            let belongs = known.contains(&(*pid, stat.start))
                || is_orphan(pid, stat)
                || parents.contains(&stat.ppid)
                || leaders.contains(&stat.session)
                || leaders.contains(&stat.pgrp);
            if belongs && found.insert((*pid, stat.start)) {
                parents.insert(pid.raw());
                leaders.insert(pid.raw());
            }
        }
        if found.len() == before {
            return found.into_iter().collect();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ordered::Map;
    use proptest::prelude::*;

    fn pid(n: i32) -> Pid {
        Pid::from_raw(n).unwrap()
    }

    fn process(n: i32, ppid: i32, pgrp: i32, session: i32) -> (Pid, Stat) {
        (
            pid(n),
            Stat { state: b'S', ppid, pgrp, session, start: n as u64, exiting: false, unexecuted: false },
        )
    }

    fn numbers(members: &[Member]) -> Vec<i32> {
        members.iter().map(|(pid, _)| pid.raw()).collect()
    }

    #[test]
    fn whoever_changed_session_and_group_is_found() {
        let all = [
            process(10, 1, 10, 10),
            process(11, 10, 11, 11),
            process(12, 11, 12, 12),
            process(20, 1, 20, 20),
            process(21, 20, 20, 20),
        ];
        let found = members(&all, Main::Alive(pid(10)), &[], None);
        assert_eq!(numbers(&found), [11, 12]);
        // Run is dead, they are orphans, and one of them has left another behind.
        let all = [
            process(11, 1, 11, 11),
            process(12, 1, 12, 12),
            process(13, 12, 13, 13),
            process(14, 1, 10, 10),
            process(20, 1, 20, 20),
        ];
        assert_eq!(numbers(&members(&all, Main::Dead(pid(10)), &found, None)), [11, 12, 13, 14]);
        assert_eq!(
            numbers(&members(&all, Main::Dead(pid(10)), &[], None)),
            [14],
            "nobody knew of the others"
        );
    }

    #[test]
    fn a_number_that_came_round_is_somebody_else() {
        let again = |n| (pid(n), Stat { start: 99, ..process(n, 1, n, n).1 });
        let child = |n, of| process(n, of, of, of);
        let all = [again(10), child(30, 10), again(11), child(31, 11)];
        assert_eq!(members(&all, Main::Dead(pid(10)), &[(pid(11), 11)], None), []);
    }

    #[test]
    fn orphans_of_a_supervisor_of_one_are_the_services() {
        let all =
            [process(5, 1, 5, 5), process(11, 5, 11, 11), process(12, 11, 12, 12), process(13, 5, 13, 13)];
        let reaper = Reaper { pid: 5, own: Set::from([pid(13)]), inherited: Vec::new() };
        let helper = Reaper { inherited: vec![(pid(11), 11)], ..reaper.clone() };
        assert_eq!(members(&all, Main::Dead(pid(10)), &[], Some(&helper)), [], "it was there before");
        assert_eq!(numbers(&members(&all, Main::Dead(pid(10)), &[], Some(&reaper))), [11, 12]);
    }

    #[test]
    fn the_dead_do_not_count() {
        let mut zombie = process(11, 10, 10, 10);
        zombie.1.state = b'Z';
        assert_eq!(members(&[process(10, 1, 10, 10), zombie], Main::Alive(pid(10)), &[], None), []);
    }

    /// A machine with a service (run is 10) and a stranger (20), whose descendants fork, change session and
    /// group, and die. Orphans of the service are run's children while it lives.
    struct World {
        all: Map<i32, (Stat, bool)>,
        next: i32,
    }

    impl World {
        fn pick(&self, n: usize) -> Option<i32> {
            let pids: Vec<i32> = self.all.keys().copied().collect();
            pids.get(n % pids.len().max(1)).copied()
        }

        fn die(&mut self, who: i32) {
            let Some((_, ours)) = self.all.remove(&who) else { return };
            let reaper = if ours && who != 10 && self.all.contains_key(&10) { 10 } else { 1 };
            self.all.values_mut().filter(|(s, _)| s.ppid == who).for_each(|(s, _)| s.ppid = reaper);
        }

        fn list(&self) -> Vec<(Pid, Stat)> {
            self.all.iter().map(|(n, (stat, _))| (pid(*n), *stat)).collect()
        }

        fn ours(&self) -> Vec<i32> {
            self.all.iter().filter(|(n, (_, ours))| *ours && **n != 10).map(|(n, _)| *n).collect()
        }
    }

    proptest! {
        /// While run lives all of its descent is found; after its death all that were known, and who comes
        /// from them while they are there; and nobody else, ever.
        #[test]
        fn any_history(steps in proptest::collection::vec((0u8..5, any::<usize>()), 0..120), late in 0usize..40) {
            let mut w = World { all: Map::new(), next: 30 };
            w.all.insert(10, (process(10, 1, 10, 10).1, true));
            w.all.insert(20, (process(20, 1, 20, 20).1, false));
            let at = steps.len().saturating_sub(late);
            let mut known = Vec::new();
            for (n, (kind, who)) in steps.into_iter().enumerate() {
                if n == at {
                    known = members(&w.list(), Main::Alive(pid(10)), &[], None);
                    prop_assert_eq!(numbers(&known), w.ours());
                    w.die(10);
                }
                let Some(who) = w.pick(who) else { continue };
                let (stat, ours) = w.all[&who];
                match kind {
                    0..=2 => {
                        let child = Stat { ppid: who, start: w.next as u64, ..stat };
                        w.all.insert(w.next, (child, ours));
                        w.next += 1;
                    }
                    3 if stat.pgrp != who => {
                        let session = if who % 2 == 0 { who } else { stat.session };
                        w.all.insert(who, (Stat { pgrp: who, session, ..stat }, ours));
                    }
                    _ if ![10, 20].contains(&who) => w.die(who),
                    _ => {}
                }
                if n >= at {
                    let found = members(&w.list(), Main::Dead(pid(10)), &known, None);
                    let ours = w.ours();
                    prop_assert!(numbers(&found).iter().all(|n| ours.contains(n)));
                    let lost = |n: &i32| !numbers(&found).contains(n);
                    let of_before: Vec<i32> = numbers(&known).into_iter().filter(|n| ours.contains(n)).collect();
                    prop_assert!(!of_before.iter().any(lost));
                    known = found;
                    prop_assert_eq!(numbers(&known), ours, "looked at after every step nobody gets away");
                }
            }
        }
    }
}
