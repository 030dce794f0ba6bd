//! Services, bundles and the edges between them; pure.
//!
//! Definitions name each other; here the names become numbers, bundles become the services in them, and
//! what does not fit is reported where it was written. Longruns and oneshots are *atomic* services; a bundle
//! is only a name for several.
#![forbid(unsafe_code)]

use super::source::{Definition, Definitions, Findings, Reference};
use crate::ordered;
use crate::ordered::{Map, Set};
use std::fmt;

/// What a definition is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Brought up by one script, taken down by another.
    Oneshot,
    /// Kept up.
    Longrun,
    /// A name for several.
    Bundle,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Oneshot => "oneshot",
            Kind::Longrun => "longrun",
            Kind::Bundle => "bundle",
        })
    }
}

/// The service of s6-overlay that needs everything in `user`.
const LAST: &str = "legacy-services";

/// Which atomic service.
pub type Index = usize;

/// An atomic service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// Kept up; otherwise a oneshot.
    pub longrun: bool,
    /// What must be up before it.
    pub needs: Vec<Index>,
    /// What is brought up before it if it can be; it goes on without.
    pub wants: Vec<Index>,
    /// What, if it is being brought up too, comes before it.
    pub after: Vec<Index>,
    /// What needs it.
    pub needed_by: Vec<Index>,
    /// What wants it, or comes after it.
    pub preferred_by: Vec<Index>,
    /// Milliseconds; 0 is no limit.
    pub timeout_up: u32,
    /// Milliseconds; 0 is no limit.
    pub timeout_down: u32,
    /// It is not taken down unless everything is.
    pub essential: bool,
    /// It can say that it is ready.
    pub notifies: bool,
    /// It has a condition: where that is not so, the service is skipped, and others go on.
    pub condition: bool,
    /// A oneshot that has a script to reload with.
    pub reload: bool,
    /// `flag-recommended`; nothing here asks for it.
    pub recommended: bool,
    /// Built in, and there is nothing for it to do here: it only orders others, and nobody is told of it.
    pub hidden: bool,
}

/// The whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Graph {
    /// Atomic services, sorted by name.
    pub services: Vec<Service>,
    /// Bundles: the atomic services in them, sorted.
    pub bundles: Map<String, Vec<Index>>,
}

impl Graph {
    /// Puts definitions together. What is wrong goes to `findings`; with errors among them the graph is
    /// incomplete and must not be used.
    pub fn build(definitions: &Definitions, findings: &mut Findings) -> Graph {
        let mut builder = Builder::new(definitions);
        let flat = builder.flatten_bundles(findings);
        let graph = builder.link(&flat, findings);
        for cycle in graph.cycles() {
            let names: Vec<&str> = cycle.iter().chain(cycle.first()).map(|i| graph.name(*i)).collect();
            let (path, line) = builder.edge(names[0], names[1], &flat);
            let remedy = match names.iter().position(|name| *name == LAST) {
                Some(at) if definitions[LAST].is_built_in() => format!(
                    "{LAST} is built in and comes after all that is in user: put {} into user2 instead",
                    names[at.checked_sub(1).unwrap_or(names.len() - 2)]
                ),
                _ => "remove one of these dependencies".to_owned(),
            };
            let cycle = names.join(" needs ");
            findings.error(&path, line, format!("dependency cycle: {cycle}: {remedy}"));
        }
        findings.sort();
        graph
    }

    /// The name of a service.
    pub fn name(&self, index: Index) -> &str {
        &self.services[index].name
    }

    /// An atomic service by name.
    pub fn index(&self, name: &str) -> Option<Index> {
        self.services.binary_search_by(|s| s.name.as_str().cmp(name)).ok()
    }

    /// The atomic services behind a name.
    pub fn atomics(&self, name: &str) -> Option<Vec<Index>> {
        match self.index(name) {
            Some(index) => Some(vec![index]),
            None => self.bundles.get(name).cloned(),
        }
    }

    /// `set` and everything that the services in it need (or, reversed, that needs them).
    pub fn closure(&self, set: impl IntoIterator<Item = Index>, reverse: bool) -> Set<Index> {
        let mut closed = Set::new();
        let mut queue: Vec<Index> = set.into_iter().collect();
        while let Some(index) = queue.pop() {
            if closed.insert(index) {
                let service = &self.services[index];
                queue.extend(if reverse { &service.needed_by } else { &service.needs });
                // What is wanted comes along, but does not go along.
                queue.extend(service.wants.iter().filter(|_| !reverse));
            }
        }
        closed
    }

    /// The services of `set` in an order in which they can be started (or, reversed, stopped).
    pub fn in_order(&self, set: Set<Index>, reverse: bool) -> Vec<Index> {
        let (mut order, mut placed) = (Vec::new(), Set::new());
        let mut stack: Vec<(Index, bool)> = set.iter().rev().map(|index| (*index, false)).collect();
        while let Some((index, is_over)) = stack.pop() {
            if is_over {
                order.push(index);
            } else if set.contains(&index) && placed.insert(index) {
                stack.push((index, true));
                let service = &self.services[index];
                let edges = match reverse {
                    true => [&service.needed_by, &service.preferred_by],
                    false => [&service.needs, &service.wants],
                };
                stack.extend(edges.into_iter().flatten().rev().map(|other| (*other, false)));
            }
        }
        order
    }

    /// What a service needs, as people are shown it: in the place of a hidden service stands what that needs.
    pub fn shown_needs(&self, index: Index) -> Vec<Index> {
        let mut shown = Set::new();
        let mut passed = Set::new();
        let mut queue = self.services[index].needs.clone();
        while let Some(need) = queue.pop() {
            if !self.services[need].hidden {
                shown.insert(need);
            } else if passed.insert(need) {
                queue.extend(&self.services[need].needs);
            }
        }
        shown.into_iter().collect()
    }

    /// The services that people are shown.
    pub fn shown(&self) -> impl Iterator<Item = Index> + '_ {
        (0..self.services.len()).filter(|i| !self.services[*i].hidden)
    }

    /// Fills in who needs and who prefers whom.
    pub fn link_back(&mut self) {
        for index in 0..self.services.len() {
            let service = &self.services[index];
            let (needs, soft) = (service.needs.clone(), [&service.wants[..], &service.after].concat());
            needs.into_iter().for_each(|need| self.services[need].needed_by.push(index));
            soft.into_iter().for_each(|other| self.services[other].preferred_by.push(index));
        }
    }

    /// Cycles, each as its services in order. Of cycles that share a service only one need be among them.
    /// Walked with a stack of its own: chains may be long.
    fn cycles(&self) -> Vec<Vec<Index>> {
        #[derive(Clone, Copy, PartialEq)]
        enum Colour {
            New,
            Open,
            Done,
        }
        let mut colour = vec![Colour::New; self.services.len()];
        let mut cycles: Vec<Vec<Index>> = Vec::new();
        for start in 0..self.services.len() {
            let mut path: Vec<(Index, usize)> = vec![(start, 0)];
            while let Some((index, next)) = path.last_mut() {
                let index = *index;
                if *next == 0 && colour[index] != Colour::New {
                    path.pop();
                    continue;
                }
                colour[index] = Colour::Open;
                let service = &self.services[index];
                let mut at = *next;
                let edge = [&service.needs, &service.wants, &service.after].into_iter().find_map(|list| {
                    let found = list.get(at).copied();
                    at = at.wrapping_sub(list.len());
                    found
                });
                *next += 1;
                match edge {
                    None => {
                        colour[index] = Colour::Done;
                        path.pop();
                    }
                    Some(to) if colour[to] == Colour::Open => {
                        let from = path.iter().position(|(i, _)| *i == to).unwrap_or(0);
                        let cycle: Vec<Index> = path[from..].iter().map(|(i, _)| *i).collect();
                        if !cycles.iter().flatten().any(|known| cycle.contains(known)) {
                            cycles.push(cycle);
                        }
                    }
                    Some(to) if colour[to] == Colour::New => path.push((to, 0)),
                    Some(_) => {}
                }
            }
        }
        cycles
    }
}

/// The names that are being put together.
struct Builder<'a> {
    definitions: &'a Definitions,
    /// Names of atomic services, sorted.
    atomics: Vec<&'a str>,
    /// Bundles that come from `pipeline-name`.
    pipelines: Map<String, Vec<Index>>,
}

impl<'a> Builder<'a> {
    fn new(definitions: &'a Definitions) -> Builder<'a> {
        let atomic = |d: &&Definition| matches!(d.kind, Some(Kind::Longrun | Kind::Oneshot));
        let atomics = definitions.values().filter(atomic).map(|d| d.name.as_str()).collect();
        Builder { definitions, atomics, pipelines: Map::new() }
    }

    fn index(&self, name: &str) -> Option<Index> {
        self.atomics.binary_search(&name).ok()
    }

    /// Every bundle as the atomic services in it, however deep.
    fn flatten_bundles(&mut self, findings: &mut Findings) -> Map<String, Vec<Index>> {
        self.name_pipelines(findings);
        let mut flat = self.pipelines.clone();
        for bundle in self.definitions.values().filter(|d| d.kind == Some(Kind::Bundle)) {
            let (mut members, mut seen) = (Set::new(), ordered::set([bundle.name.as_str()]));
            let mut queue: Vec<&Reference> = bundle.contents.iter().collect();
            while let Some(reference) = queue.pop() {
                let name = reference.name.as_str();
                if let Some(index) = self.index(name) {
                    members.insert(index);
                } else if let Some(pipeline) = self.pipelines.get(name) {
                    members.extend(pipeline);
                } else if name == bundle.name {
                    findings.error(
                        &reference.path(),
                        reference.line,
                        format!("bundle {name} contains itself: remove this entry"),
                    );
                } else if let Some(inner) = self.definitions.get(name).filter(|d| d.kind.is_some()) {
                    if seen.insert(name) {
                        queue.extend(&inner.contents);
                    }
                } else if bundle.contents.contains(reference) {
                    // Of an inner bundle it is reported there.
                    self.unknown(reference, findings);
                }
            }
            flat.insert(bundle.name.clone(), members.into_iter().collect());
        }
        flat
    }

    /// `pipeline-name` of a last consumer: a bundle of all that leads to it.
    fn name_pipelines(&mut self, findings: &mut Findings) {
        for definition in self.definitions.values() {
            let Some(reference) = &definition.pipeline_name else { continue };
            if definition.consumer_for.is_empty() || definition.producer_for.is_some() {
                findings.warn(
                    &reference.path(),
                    reference.line,
                    "only the last consumer of a pipeline can name it: ignored",
                );
                continue;
            }
            if self.definitions.contains_key(&reference.name) || self.pipelines.contains_key(&reference.name)
            {
                let text = format!("{} is a name already: choose another", reference.name);
                findings.error(&reference.path(), reference.line, text);
                continue;
            }
            let mut members = Set::new();
            let mut queue = vec![definition];
            while let Some(member) = queue.pop() {
                if let Some(index) = self.index(&member.name)
                    && members.insert(index)
                {
                    queue.extend(member.consumer_for.iter().filter_map(|r| self.definitions.get(&r.name)));
                }
            }
            self.pipelines.insert(reference.name.clone(), members.into_iter().collect());
        }
    }

    fn unknown(&self, reference: &Reference, findings: &mut Findings) {
        if self.definitions.contains_key(&reference.name) {
            // What it is could not be read; that has been said.
            return;
        }
        let known = self.definitions.keys().chain(self.pipelines.keys());
        let known = known.map(String::as_str).chain(["base", LAST]);
        let name = &reference.name;
        let hint = match nearest(name, 2, known) {
            Some(near) => format!("did you mean {near}?"),
            None => "define it, or remove this entry".to_owned(),
        };
        match findings.layer {
            true => findings.warn(
                &reference.path(),
                reference.line,
                format!("{name} is not defined here: another layer must do it"),
            ),
            false => findings.error(
                &reference.path(),
                reference.line,
                format!("there is no service named {name}: {hint}"),
            ),
        }
    }

    fn link(&mut self, flat: &Map<String, Vec<Index>>, findings: &mut Findings) -> Graph {
        let mut services: Vec<Service> = Vec::with_capacity(self.atomics.len());
        for name in &self.atomics {
            let definition = &self.definitions[*name];
            let mut service = Service {
                name: (*name).to_owned(),
                longrun: definition.kind == Some(Kind::Longrun),
                needs: self.resolve(&definition.dependencies, flat, findings),
                wants: self.resolve(&definition.wants, flat, findings),
                after: self.resolve(&definition.after, flat, findings),
                needed_by: Vec::new(),
                preferred_by: Vec::new(),
                timeout_up: definition.timeout_up,
                timeout_down: definition.timeout_down,
                essential: definition.essential,
                notifies: definition.notifies(),
                condition: definition.has_file("condition"),
                reload: definition.reload.as_ref().is_some_and(|words| !words.is_empty()),
                recommended: definition.recommended,
                hidden: definition.is_built_in() && definition.does_nothing(),
            };
            self.link_pipeline(definition, &mut service, findings);
            sort_unique(&mut service.needs);
            services.push(service);
        }
        for (name, members) in flat {
            let Some(bundle) = self.definitions.get(name) else { continue };
            for member in members {
                services[*member].essential |= bundle.essential;
                services[*member].recommended |= bundle.recommended;
            }
        }
        let mut graph = Graph { services, bundles: flat.clone() };
        graph.link_back();
        graph
    }

    /// Where a service says that it needs another, itself or through a bundle.
    fn edge(&self, from: &str, to: &str, flat: &Map<String, Vec<Index>>) -> (String, Option<usize>) {
        let definition = &self.definitions[from];
        let to_index = self.index(to);
        let leads = |r: &&Reference| {
            r.name == to || flat.get(&r.name).is_some_and(|m| to_index.is_some_and(|i| m.contains(&i)))
        };
        let all = definition.dependencies.iter().chain(&definition.wants).chain(&definition.after);
        match all.chain(&definition.producer_for).find(leads) {
            Some(reference) => (reference.path(), reference.line),
            None => (definition.path().to_owned(), None),
        }
    }

    fn resolve(
        &self,
        references: &[Reference],
        flat: &Map<String, Vec<Index>>,
        findings: &mut Findings,
    ) -> Vec<Index> {
        let mut out = Vec::new();
        for reference in references {
            match (self.index(&reference.name), flat.get(&reference.name)) {
                (Some(index), _) => out.push(index),
                (None, Some(members)) => out.extend(members),
                (None, None) => self.unknown(reference, findings),
            }
        }
        sort_unique(&mut out);
        out
    }

    /// A producer depends on its consumer: consumers start first and stop last. Both sides must say so.
    fn link_pipeline(&self, definition: &Definition, service: &mut Service, findings: &mut Findings) {
        if let Some(consumer) = &definition.producer_for {
            match self.definitions.get(&consumer.name) {
                None => self.unknown(consumer, findings),
                Some(other) if other.kind != Some(Kind::Longrun) || !service.longrun => findings.error(
                    &consumer.path(),
                    consumer.line,
                    "producers and consumers must be longruns",
                ),
                Some(other) if !other.consumer_for.iter().any(|r| r.name == definition.name) => {
                    findings.error(
                        &consumer.path(),
                        consumer.line,
                        format!(
                            "{} does not say so: add {} to its consumer-for",
                            consumer.name, definition.name
                        ),
                    );
                }
                Some(_) => service.needs.extend(self.index(&consumer.name)),
            }
        }
        if let (Some(producer), false) = (definition.consumer_for.first(), service.longrun) {
            findings.error(&producer.path(), producer.line, "producers and consumers must be longruns");
            return;
        }
        for producer in &definition.consumer_for {
            let says_so = |d: &Definition| d.producer_for.as_ref().is_some_and(|r| r.name == definition.name);
            match self.definitions.get(&producer.name) {
                None => self.unknown(producer, findings),
                Some(other) if !says_so(other) => findings.error(
                    &producer.path(),
                    producer.line,
                    format!(
                        "{} does not say so: write {} into its producer-for",
                        producer.name, definition.name
                    ),
                ),
                Some(_) => {}
            }
        }
    }
}

fn sort_unique(list: &mut Vec<Index>) {
    *list = ordered::unique(std::mem::take(list));
}

/// The known name that is nearest to a mistaken one, if it is near: at most `most` edits, or one in a short
/// name.
pub fn nearest<'a>(name: &str, most: usize, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let most = if name.chars().count() <= 4 { 1 } else { most };
    known
        .map(|other| (distance(name, other), other))
        .filter(|(d, _)| *d <= most)
        .min_by_key(|(d, _)| *d)
        .map(|(_, other)| other)
}

/// Edits (insert, delete, replace, swap neighbours) from one name to the other.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    if a.len().abs_diff(b.len()) > 2 {
        return usize::MAX;
    }
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replace = rows[i - 1][j - 1] + (a[i - 1] != b[j - 1]) as usize;
            let mut best = replace.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Definitions from lines such as `web longrun db cache` and `all bundle = web db`.
    pub fn definitions(lines: &[&str]) -> Definitions {
        let mut all = Definitions::new();
        for line in lines {
            let mut words = line.split_whitespace();
            let name = words.next().unwrap();
            let mut d = Definition::new(name);
            d.dirs = vec![format!("src/{name}")];
            d.kind = Some(match words.next().unwrap() {
                "longrun" => Kind::Longrun,
                "oneshot" => Kind::Oneshot,
                _ => Kind::Bundle,
            });
            let reference =
                |n: &str| Reference { name: n.into(), place: format!("src/{name}").into(), line: None };
            let names: Vec<Reference> = words.map(reference).collect();
            match d.kind {
                Some(Kind::Bundle) => {
                    d.has_contents = true;
                    d.contents = names;
                }
                _ => d.dependencies = names,
            }
            all.insert(name.to_owned(), d);
        }
        all
    }

    pub fn graph(lines: &[&str]) -> Graph {
        let mut findings = Findings::default();
        let graph = Graph::build(&definitions(lines), &mut findings);
        assert_eq!(findings, Findings::default());
        graph
    }

    fn errors(lines: &[&str]) -> Vec<String> {
        let mut findings = Findings::default();
        Graph::build(&definitions(lines), &mut findings);
        findings.errors.iter().map(|e| e.to_string()).collect()
    }

    fn names(graph: &Graph, set: impl IntoIterator<Item = Index>) -> Vec<&str> {
        set.into_iter().map(|i| graph.name(i)).collect()
    }

    #[test]
    fn bundles_stand_for_what_is_in_them() {
        let g = graph(&[
            "a oneshot",
            "b longrun inner",
            "c longrun",
            "inner bundle a c",
            "all bundle inner b",
            "none bundle",
        ]);
        assert_eq!(names(&g, g.services[g.index("b").unwrap()].needs.clone()), ["a", "c"]);
        assert_eq!(names(&g, g.bundles["all"].clone()), ["a", "b", "c"]);
        assert_eq!(g.atomics("none"), Some(vec![]));
        assert_eq!(g.atomics("nothing"), None);
    }

    #[test]
    fn closures_go_both_ways() {
        let g = graph(&["a oneshot", "b longrun a", "c longrun b", "d longrun a", "e longrun"]);
        let i = |n: &str| g.index(n).unwrap();
        assert_eq!(names(&g, g.closure([i("c")], false)), ["a", "b", "c"]);
        assert_eq!(names(&g, g.closure([i("b")], true)), ["b", "c"]);
    }

    #[test]
    fn every_unknown_name_is_reported_with_a_hint() {
        assert_eq!(
            errors(&["database longrun", "web longrun databaes cahce", "all bundle web nobody"]),
            [
                "src/all/nobody: there is no service named nobody: define it, or remove this entry",
                "src/web/cahce: there is no service named cahce: define it, or remove this entry",
                "src/web/databaes: there is no service named databaes: did you mean database?",
            ]
        );
    }

    #[test]
    fn a_name_whose_type_could_not_be_read_is_not_unknown() {
        let mut all = definitions(&["web longrun db", "db longrun", "user bundle db"]);
        all.get_mut("db").unwrap().kind = None;
        let mut findings = Findings::default();
        Graph::build(&all, &mut findings);
        assert_eq!(findings, Findings::default());
    }

    #[test]
    fn cycles_are_printed_as_a_path() {
        assert_eq!(
            errors(&["a longrun b", "b longrun c", "c oneshot a", "d longrun a"]),
            ["src/a/b: dependency cycle: a needs b needs c needs a: remove one of these dependencies"]
        );
        assert_eq!(
            errors(&["a longrun a"])[0],
            "src/a/a: dependency cycle: a needs a: remove one of these dependencies"
        );
        assert_eq!(errors(&["a longrun b", "b longrun a", "c longrun d b", "d longrun c"]).len(), 2);
        assert!(errors(&["a longrun all", "all bundle a"])[0].contains("cycle"));
        assert!(errors(&["x bundle y", "y bundle x"]).iter().all(|e| e.contains("contains itself")));
    }

    #[test]
    fn a_cycle_through_what_is_built_in_says_where_to_put_it() {
        let mut all = definitions(&["late longrun legacy-services", "legacy-services oneshot late"]);
        all.get_mut(LAST).unwrap().dirs.clear();
        let mut findings = Findings::default();
        Graph::build(&all, &mut findings);
        assert_eq!(
            findings.errors[0].to_string(),
            "src/late/legacy-services: dependency cycle: late needs legacy-services needs late: \
             legacy-services is built in and comes after all that is in user: put late into user2 instead"
        );
    }

    #[test]
    fn a_chain_of_ten_thousand_is_no_problem() {
        let lines: Vec<String> = (0..10_000)
            .map(|i| if i == 0 { "s0 longrun".into() } else { format!("s{i} longrun s{}", i - 1) })
            .collect();
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let g = graph(&lines);
        assert_eq!(g.closure([g.index("s9999").unwrap()], false).len(), 10_000);
    }

    #[test]
    fn distances() {
        assert_eq!([distance("web", "web"), distance("web", "wbe"), distance("abc", "abcd")], [0, 1, 1]);
        assert_eq!(nearest("postgers", 2, ["postgres", "redis"].into_iter()), Some("postgres"));
        assert_eq!(nearest("db", 2, ["web", "dc"].into_iter()), Some("dc"));
        assert_eq!(nearest("db", 2, ["redis"].into_iter()), None);
    }

    proptest! {
        /// Edges only from later to earlier services: never a cycle; one edge back along a path: always one.
        #[test]
        fn cycles_are_found_exactly_when_there_are_some(edges in proptest::collection::vec((1usize..30, 0usize..30), 0..60)) {
            let mut deps = vec![Set::new(); 30];
            for (from, to) in edges {
                deps[from].insert(to % from);
            }
            let make = |deps: &[Set<usize>]| -> Vec<String> {
                deps.iter().enumerate().map(|(i, d)| {
                    let names: Vec<String> = d.iter().map(|n| format!("s{n:02}")).collect();
                    format!("s{i:02} longrun {}", names.join(" "))
                }).collect()
            };
            let check = |lines: Vec<String>| {
                let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
                errors(&lines).iter().any(|e| e.contains("cycle"))
            };
            prop_assert!(!check(make(&deps)));
            if let Some((from, to)) = deps.iter().enumerate().find_map(|(f, d)| d.iter().next().map(|t| (f, *t))) {
                deps[to].insert(from);
                prop_assert!(check(make(&deps)));
            }
        }
    }
}
