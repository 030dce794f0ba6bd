//! Which step is next; pure.
//!
//! A change brings a set of services up, or takes it down, each as soon as nothing stands in its way: not
//! stage by stage, and as many at once as the graph allows. What fails stops what depends on it and nothing
//! else.
#![forbid(unsafe_code)]

use super::graph::{Graph, Index};
use crate::ordered::Set;
use crate::supervise::wire::Standing;

/// What became of a service in a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is not part of the change.
    Outside,
    /// It waits for others.
    Waiting,
    /// Its step is being made.
    Running,
    /// It is as it shall be.
    Done,
    /// Its step failed.
    Failed,
    /// Something that it needs failed: its step was never made.
    Skipped,
    /// It is essential and stays up; and so does what it needs.
    Kept,
}

/// A change that is being made.
#[derive(Clone, Debug)]
pub struct Plan {
    up: bool,
    fates: Vec<Fate>,
    /// For each service: how many it still waits for.
    pending: Vec<u32>,
    /// For each service: what keeps it from its step; itself if it has none.
    causes: Vec<Index>,
    /// What is as it shall be from the beginning.
    is_so: Vec<bool>,
    /// What is not to be taken down.
    kept: Vec<bool>,
    ready: Vec<Index>,
    running: usize,
}

impl Plan {
    /// Brings `selection` up with all that it needs, or takes it down with all that needs it. Services for
    /// which `keep` says so are not taken down.
    pub fn new(
        graph: &Graph,
        selection: &Set<Index>,
        up: bool,
        now: &[Standing],
        keep: impl Fn(Index) -> bool,
    ) -> Plan {
        let closed = graph.closure(selection.iter().copied(), !up);
        let count = graph.services.len();
        let target = if up { Standing::Up } else { Standing::Down };
        let mut plan = Plan {
            up,
            fates: vec![Fate::Outside; count],
            pending: vec![0; count],
            causes: (0..count).collect(),
            is_so: now.iter().map(|standing| *standing == target).collect(),
            kept: (0..count).map(|index| !up && keep(index)).collect(),
            ready: Vec::new(),
            running: 0,
        };
        for index in &closed {
            plan.fates[*index] = Fate::Waiting;
        }
        for index in &closed {
            plan.pending[*index] = plan.before(graph, *index).count() as u32;
        }
        for index in &closed {
            if plan.pending[*index] == 0 && plan.fates[*index] == Fate::Waiting {
                plan.arrive(graph, *index);
            }
        }
        plan
    }

    /// What must be dealt with before `index`, of what is part of the change: when going up what it needs,
    /// wants and comes after; when going down the reverse. `true`: it must have come out as wanted.
    pub fn before<'a>(&'a self, graph: &'a Graph, index: Index) -> impl Iterator<Item = (Index, bool)> + 'a {
        let service = &graph.services[index];
        let lists: [(&[Index], bool); 3] = match self.up {
            true => [(&service.needs, true), (&service.wants, false), (&service.after, false)],
            false => [(&service.needed_by, true), (&service.preferred_by, false), (&[], false)],
        };
        let all = lists.into_iter().flat_map(|(list, hard)| list.iter().map(move |other| (*other, hard)));
        all.filter(|(other, _)| self.fates[*other] != Fate::Outside)
    }

    /// Who waits for `index`: who needs it to have come out as wanted, and who does not.
    fn behind(&self, graph: &Graph, index: Index) -> (Vec<Index>, Vec<Index>) {
        let service = &graph.services[index];
        match self.up {
            true => (service.needed_by.clone(), service.preferred_by.clone()),
            false => (service.needs.clone(), [&service.wants[..], &service.after].concat()),
        }
    }

    /// All that `index` waited for is done: it is as it shall be already, or its step is next. Walks on with
    /// a queue.
    fn arrive(&mut self, graph: &Graph, index: Index) {
        let mut queue = vec![index];
        while let Some(index) = queue.pop() {
            if self.fates[index] != Fate::Waiting {
                continue;
            }
            let (hard, soft) = self.behind(graph, index);
            if self.is_so[index] {
                self.fates[index] = Fate::Done;
                self.release(hard, &mut queue);
                self.release(soft, &mut queue);
            } else if self.kept[index] {
                self.fates[index] = Fate::Kept;
                self.release(soft, &mut queue);
            } else {
                self.fates[index] = Fate::Running;
                self.running += 1;
                self.ready.push(index);
            }
        }
    }

    /// One that others waited for is settled: those that now wait for nobody.
    fn release(&mut self, waiting: Vec<Index>, free: &mut Vec<Index>) {
        for next in waiting {
            if self.fates[next] == Fate::Outside {
                continue;
            }
            self.pending[next] = self.pending[next].saturating_sub(1);
            if self.pending[next] == 0 && self.fates[next] == Fate::Waiting {
                free.push(next);
            }
        }
    }

    /// Whether services are brought up.
    pub fn is_up(&self) -> bool {
        self.up
    }

    /// The steps that can be made now. Each is returned once; say [`done`](Self::done) or
    /// [`failed`](Self::failed) of each.
    pub fn take_ready(&mut self) -> Vec<Index> {
        std::mem::take(&mut self.ready)
    }

    /// A step has succeeded.
    pub fn done(&mut self, graph: &Graph, index: Index) {
        self.running -= 1;
        self.fates[index] = Fate::Done;
        let (hard, soft) = self.behind(graph, index);
        let mut free = Vec::new();
        self.release(hard, &mut free);
        self.release(soft, &mut free);
        free.into_iter().for_each(|next| self.arrive(graph, next));
    }

    /// A step has failed: what needs it is skipped; what only wants it, or comes after it, goes on.
    pub fn failed(&mut self, graph: &Graph, index: Index) {
        self.running -= 1;
        self.fates[index] = Fate::Failed;
        let (mut queue, mut free) = (vec![index], Vec::new());
        while let Some(spoilt) = queue.pop() {
            let (hard, soft) = self.behind(graph, spoilt);
            for next in hard {
                if self.fates[next] == Fate::Waiting {
                    self.fates[next] = Fate::Skipped;
                    self.causes[next] = index;
                    queue.push(next);
                }
            }
            self.release(soft, &mut free);
        }
        free.into_iter().for_each(|next| self.arrive(graph, next));
    }

    /// Nothing more is to be begun: what waits is skipped.
    pub fn abandon(&mut self) {
        self.ready.clear();
        self.fates.iter_mut().filter(|f| **f == Fate::Waiting).for_each(|f| *f = Fate::Skipped);
    }

    /// Whether all steps that were returned are settled and no other can be made.
    pub fn is_over(&self) -> bool {
        self.ready.is_empty() && self.running == 0
    }

    /// Whether a service will not be taken down when its turn comes.
    pub fn is_kept(&self, index: Index) -> bool {
        self.kept[index] && !self.is_so[index]
    }

    /// What became of a service.
    pub fn fate(&self, index: Index) -> Fate {
        self.fates[index]
    }

    /// Whose failure kept a service from its step; itself where nobody's did.
    pub fn cause(&self, index: Index) -> Index {
        self.causes[index]
    }

    /// All services with this fate.
    pub fn with(&self, fate: Fate) -> impl Iterator<Item = Index> + '_ {
        self.fates.iter().enumerate().filter(move |(_, f)| **f == fate).map(|(i, _)| i)
    }

    /// The steps that would be made, in an order in which they could be, if each succeeded.
    pub fn rehearse(mut self, graph: &Graph) -> Vec<Index> {
        let mut order = Vec::new();
        loop {
            let ready = self.take_ready();
            if ready.is_empty() {
                return order;
            }
            ready.iter().for_each(|index| self.done(graph, *index));
            order.extend(ready);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::graph::tests::graph;
    use super::*;
    use proptest::prelude::*;

    fn all(graph: &Graph) -> Set<Index> {
        (0..graph.services.len()).collect()
    }

    fn names<'a>(graph: &'a Graph, list: &[Index]) -> Vec<&'a str> {
        list.iter().map(|i| graph.name(*i)).collect()
    }

    fn never(_: Index) -> bool {
        false
    }

    #[test]
    fn each_starts_when_nothing_stands_in_its_way() {
        let g = graph(&["a oneshot", "b longrun a", "c longrun a", "d longrun b c", "e longrun"]);
        let now = vec![Standing::Down; 5];
        let mut p = Plan::new(&g, &all(&g), true, &now, never);
        assert_eq!(names(&g, &p.take_ready()), ["a", "e"]);
        p.done(&g, 0);
        assert_eq!(names(&g, &p.take_ready()), ["b", "c"]);
        p.done(&g, 1);
        assert_eq!(p.take_ready(), []);
        p.done(&g, 2);
        assert_eq!(names(&g, &p.take_ready()), ["d"]);
        p.done(&g, 3);
        assert!(!p.is_over(), "e");
        p.done(&g, 4);
        assert!(p.is_over());
    }

    #[test]
    fn a_failure_stops_what_depends_on_it_and_nothing_else() {
        let g = graph(&["a oneshot", "b longrun a", "c longrun b", "d longrun"]);
        let now = vec![Standing::Down; 4];
        let mut p = Plan::new(&g, &all(&g), true, &now, never);
        assert_eq!(names(&g, &p.take_ready()), ["a", "d"]);
        p.failed(&g, 0);
        p.done(&g, 3);
        assert!(p.is_over());
        assert_eq!([p.fate(1), p.fate(2), p.fate(3)], [Fate::Skipped, Fate::Skipped, Fate::Done]);
    }

    #[test]
    fn going_down_is_the_reverse_and_essentials_keep_what_they_need() {
        let g = graph(&["a oneshot", "b longrun a", "c longrun b", "d longrun a"]);
        let now = vec![Standing::Up; 4];
        let keep = |i: Index| i == 1;
        let mut p = Plan::new(&g, &Set::from([0]), false, &now, keep);
        assert_eq!(names(&g, &p.take_ready()), ["c", "d"]);
        p.done(&g, 2);
        p.done(&g, 3);
        assert!(p.is_over());
        assert_eq!([p.fate(0), p.fate(1)], [Fate::Waiting, Fate::Kept]);
    }

    #[test]
    fn what_is_so_already_is_passed_over() {
        let g = graph(&["a oneshot", "b longrun a", "c longrun b"]);
        let now = vec![Standing::Up, Standing::Up, Standing::Down];
        let mut p = Plan::new(&g, &Set::from([2]), true, &now, never);
        assert_eq!(names(&g, &p.take_ready()), ["c"]);
        let now = vec![Standing::Up; 3];
        assert!(Plan::new(&g, &Set::from([2]), true, &now, never).is_over());
    }

    proptest! {
        /// Whatever fails in whatever order: nothing starts before what it needs is done, and in the end each
        /// service is done, failed, or skipped because of a failure.
        #[test]
        fn any_change(edges in proptest::collection::vec((1usize..20, 0usize..20), 0..40), fails in proptest::collection::vec(any::<bool>(), 20), up: bool, order: u64) {
            let mut deps = vec![Set::new(); 20];
            for (from, to) in edges { deps[from].insert(to % from); }
            let lines: Vec<String> = deps.iter().enumerate().map(|(i, d)| {
                let names: Vec<String> = d.iter().map(|n| format!("s{n:02}")).collect();
                format!("s{i:02} longrun {}", names.join(" "))
            }).collect();
            let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
            let g = graph(&lines);
            let now = vec![if up { Standing::Down } else { Standing::Up }; 20];
            let mut p = Plan::new(&g, &all(&g), up, &now, never);
            let (mut running, mut seed) = (Vec::new(), order);
            loop {
                for index in p.take_ready() {
                    let before = if up { &g.services[index].needs } else { &g.services[index].needed_by };
                    for b in before { prop_assert_eq!(p.fate(*b), Fate::Done); }
                    running.push(index);
                }
                if running.is_empty() { break; }
                seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1);
                let index = running.swap_remove((seed >> 33) as usize % running.len());
                if fails[index] { p.failed(&g, index) } else { p.done(&g, index) }
            }
            prop_assert!(p.is_over());
            for (index, fails) in fails.iter().enumerate() {
                let before = if up { &g.services[index].needs } else { &g.services[index].needed_by };
                let spoilt = before.iter().any(|b| matches!(p.fate(*b), Fate::Failed | Fate::Skipped));
                match p.fate(index) {
                    Fate::Done => prop_assert!(!fails && !spoilt),
                    Fate::Failed => prop_assert!(*fails && !spoilt),
                    Fate::Skipped => prop_assert!(spoilt),
                    other => prop_assert!(false, "{:?}", other),
                }
            }
        }
    }
}
