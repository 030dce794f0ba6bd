//! The graph for people: an indented tree of who needs whom.

use super::graph::{Graph, Index};
use crate::ordered::Set;
use crate::ordered::set;

/// The names that the tree begins with, each with what it needs below it. What was shown already is marked
/// instead of being shown again.
pub fn tree(graph: &Graph, roots: &[String]) -> String {
    let mut drawing = Drawing { graph, shown: Set::new(), out: String::new() };
    for root in roots {
        drawing.root(root);
    }
    drawing.out
}

/// What a boot that brings `top` up begins with: the bundles `user` and `user2` as far as something is in
/// them, and what else nothing needs. The rest, which a boot leaves down, is the second list.
pub fn boot_roots(graph: &Graph, top: &[Index]) -> (Vec<String>, Vec<String>) {
    let filled = |name: &str| name == "user" || graph.bundles.get(name).is_some_and(|m| !m.is_empty());
    let mut roots: Vec<String> =
        ["user", "user2"].map(str::to_owned).into_iter().filter(|n| filled(n)).collect();
    let bundled = |name: &String| graph.bundles.get(name).into_iter().flatten().copied().collect::<Vec<_>>();
    let below = graph.closure(roots.iter().flat_map(bundled), false);
    let booted = graph.closure(top.iter().copied(), false);
    let (others, left): (Vec<Index>, Vec<Index>) =
        graph.shown().filter(|i| !below.contains(i)).partition(|i| booted.contains(i));
    roots.extend(others.iter().map(|i| graph.name(*i).to_owned()));
    (roots, left.iter().map(|i| graph.name(*i).to_owned()).collect())
}

/// Bundles that are in no other, and services that nothing needs and no bundle holds.
pub fn roots(graph: &Graph) -> Vec<String> {
    let inside = |name: &str, members: &[Index]| {
        graph.bundles.iter().any(|(other, theirs)| {
            other != name && theirs.len() > members.len() && members.iter().all(|m| theirs.contains(m))
        })
    };
    let mut roots: Vec<String> = graph
        .bundles
        .iter()
        .filter(|(name, members)| !members.is_empty() && !inside(name, members))
        .map(|(name, _)| name.clone())
        .collect();
    let bundled: Set<Index> = set(graph.bundles.values().flatten().copied());
    let alone = |i: &Index| !bundled.contains(i) && graph.services[*i].needed_by.is_empty();
    roots.extend(graph.shown().filter(alone).map(|i| graph.name(i).to_owned()));
    roots
}

struct Drawing<'a> {
    graph: &'a Graph,
    shown: Set<Index>,
    out: String,
}

impl Drawing<'_> {
    fn root(&mut self, name: &str) {
        if let Some(index) = self.graph.index(name) {
            self.out.push_str(&self.label(index));
            self.out.push('\n');
            self.shown.insert(index);
            self.below(self.graph.shown_needs(index));
        } else if let Some(members) = self.graph.bundles.get(name) {
            self.out.push_str(&format!("{name} (bundle)\n"));
            // What another member needs is shown there.
            let members: Vec<Index> = self.graph.shown().filter(|i| members.contains(i)).collect();
            let needed: Set<Index> = set(members.iter().flat_map(|m| self.graph.shown_needs(*m)));
            self.below(members.into_iter().filter(|m| !needed.contains(m)).collect());
        }
    }

    fn label(&self, index: Index) -> String {
        let service = &self.graph.services[index];
        let kind = if service.longrun { "longrun" } else { "oneshot" };
        format!("{} ({kind})", service.name)
    }

    /// Draws what stands below a line, however deep, with a stack of its own.
    fn below(&mut self, children: Vec<Index>) {
        struct Level {
            children: Vec<Index>,
            next: usize,
        }
        let mut levels = vec![Level { children, next: 0 }];
        while let Some(level) = levels.last_mut() {
            let Some(index) = level.children.get(level.next).copied() else {
                levels.pop();
                continue;
            };
            level.next += 1;
            for (depth, level) in levels.iter().enumerate() {
                let more = level.next < level.children.len();
                let last = depth + 1 == levels.len();
                self.out.push_str(match (last, more) {
                    (true, true) => "├─ ",
                    (true, false) => "└─ ",
                    (false, true) => "│  ",
                    (false, false) => "   ",
                });
            }
            self.out.push_str(&self.label(index));
            let needs = self.graph.shown_needs(index);
            if self.shown.insert(index) {
                self.out.push('\n');
                levels.push(Level { children: needs, next: 0 });
            } else {
                self.out.push_str(if needs.is_empty() { "\n" } else { " …\n" });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::graph::tests::graph;
    use super::*;

    #[test]
    fn hidden_services_are_passed_over() {
        let mut g = graph(&[
            "attrs oneshot",
            "init oneshot attrs",
            "web longrun init db",
            "db longrun init",
            "late oneshot legacy",
            "legacy oneshot web",
            "user bundle web",
            "user2 bundle late",
        ]);
        for name in ["attrs", "init", "legacy"] {
            let index = g.index(name).unwrap();
            g.services[index].hidden = true;
        }
        let all: Vec<Index> = (0..g.services.len()).collect();
        let (roots, left) = boot_roots(&g, &all);
        assert_eq!((roots.len(), left.len()), (2, 0));
        assert_eq!(
            tree(&g, &roots),
            "user (bundle)\n\
             └─ web (longrun)\n\
             \x20  └─ db (longrun)\n\
             user2 (bundle)\n\
             └─ late (oneshot)\n\
             \x20  └─ web (longrun) …\n"
        );
    }

    #[test]
    fn a_tree_shows_each_service_once_in_full() {
        let g = graph(&[
            "init oneshot",
            "db longrun init",
            "web longrun db cache",
            "cache longrun init",
            "user bundle web",
            "alone longrun",
        ]);
        assert_eq!(roots(&g), ["user", "alone"]);
        assert_eq!(
            tree(&g, &roots(&g)),
            "user (bundle)\n\
             └─ web (longrun)\n\
             \x20  ├─ cache (longrun)\n\
             \x20  │  └─ init (oneshot)\n\
             \x20  └─ db (longrun)\n\
             \x20     └─ init (oneshot)\n\
             alone (longrun)\n"
        );
        let top = [g.index("web").unwrap()];
        assert_eq!(boot_roots(&g, &top), (vec!["user".to_owned()], vec!["alone".to_owned()]));
        assert!(tree(&g, &["web".into(), "db".into()]).ends_with("db (longrun)\n└─ init (oneshot)\n"));
    }
}
