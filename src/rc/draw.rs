//! The graph for people: an indented tree of who needs whom.

use super::graph::{Graph, Index};
use std::collections::BTreeSet;

/// The names that the tree begins with, each with what it needs below it. What was shown already is marked
/// instead of being shown again.
pub fn tree(graph: &Graph, roots: &[String]) -> String {
    let mut drawing = Drawing { graph, shown: BTreeSet::new(), out: String::new() };
    for root in roots {
        drawing.root(root);
    }
    drawing.out
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
    let bundled: BTreeSet<Index> = graph.bundles.values().flatten().copied().collect();
    let alone = |i: &Index| !bundled.contains(i) && graph.services[*i].needed_by.is_empty();
    roots.extend((0..graph.services.len()).filter(alone).map(|i| graph.name(i).to_owned()));
    roots
}

struct Drawing<'a> {
    graph: &'a Graph,
    shown: BTreeSet<Index>,
    out: String,
}

impl Drawing<'_> {
    fn root(&mut self, name: &str) {
        if let Some(index) = self.graph.index(name) {
            self.out.push_str(&self.label(index));
            self.out.push('\n');
            self.shown.insert(index);
            self.below(self.graph.services[index].needs.clone());
        } else if let Some(members) = self.graph.bundles.get(name) {
            self.out.push_str(&format!("{name} (bundle)\n"));
            // What another member needs is shown there.
            let top: Vec<Index> = members
                .iter()
                .copied()
                .filter(|m| !self.graph.services[*m].needed_by.iter().any(|n| members.contains(n)))
                .collect();
            self.below(top);
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
            let needs = self.graph.services[index].needs.clone();
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
        assert!(tree(&g, &["web".into(), "db".into()]).ends_with("db (longrun)\n└─ init (oneshot)\n"));
    }
}
