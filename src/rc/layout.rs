//! Where the boxes of a layered drawing stand, and which way the edges take; pure.
//!
//! Rows from top to bottom, what comes first above what comes after it. A row holds no more than fits the
//! width that is wanted, so a wide graph grows downwards. An edge that spans rows has a place of its own in
//! each row between, so that it crosses no box; edges of one kind that leave the same box share it, like the
//! branches of a tree. The order in a row is the one with the fewest crossings that some sweeps of the
//! barycentre method find; then each box stands as near to the middle of its neighbours as there is room.
#![forbid(unsafe_code)]

use crate::ordered::places_by_key;

/// Pixels: height of a box.
pub const BOX: i32 = 30;
/// Pixels: from row to row.
const ROW: i32 = 66;
/// Pixels: between boxes of a row.
const GAP: i32 = 20;
/// Pixels: room that a passing edge takes, and room on both sides of it.
const LANE: i32 = 2;
const LANE_GAP: i32 = 9;
/// How often the rows are put in order.
const SWEEPS: usize = 16;
/// How often the boxes are moved below what is above them, or above what is below; the last time below.
const MOVES: usize = 17;
/// How often a narrower layout is tried.
const TRIES: usize = 4;

/// An edge: `from` comes before `to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Edge {
    /// What comes first.
    pub from: usize,
    /// What comes after.
    pub to: usize,
    /// Edges of different kinds keep apart.
    pub kind: u8,
}

/// The drawing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// Of each box: the middle, and the top.
    pub boxes: Vec<[i32; 2]>,
    /// Of each edge: the points that it passes, from the bottom of one box to the top of the other. Between
    /// the rows, from each second point to the next, it is to be bent.
    pub routes: Vec<Vec<[i32; 2]>>,
    /// Of all of it.
    pub width: i32,
    /// Of all of it.
    pub height: i32,
}

/// A place in a row: of a box, or of an edge that passes.
struct Place {
    width: i32,
    x: i32,
    above: Vec<usize>,
    below: Vec<usize>,
}

/// Lays out boxes of these widths in about `wanted` pixels. Edges must not form a cycle.
pub fn layered(widths: &[i32], edges: &[Edge], wanted: i32) -> Layout {
    let mut best: Option<Layout> = None;
    let mut limit = wanted;
    // Edges that pass take room as well: fewer boxes in a row may leave it to them.
    for _ in 0..TRIES {
        let rows = rows(widths, edges, limit);
        let mut net = Net::new(widths, edges, &rows);
        net.order();
        net.spread(wanted);
        net.move_left();
        let drawn = net.layout(widths, edges, &rows);
        let excess = drawn.width - wanted;
        if best.as_ref().is_none_or(|best| drawn.width < best.width) {
            best = Some(drawn);
        }
        limit -= excess;
        if excess <= 0 || limit < wanted / 2 {
            break;
        }
    }
    best.unwrap_or_default()
}

/// The row of each box.
fn rows(widths: &[i32], edges: &[Edge], wanted: i32) -> Vec<usize> {
    let count = widths.len();
    let (mut before, mut after) = (vec![Vec::new(); count], vec![Vec::new(); count]);
    for edge in edges {
        before[edge.to].push(edge.from);
        after[edge.from].push(edge.to);
    }
    let mut order = Vec::with_capacity(count);
    let mut pending: Vec<usize> = before.iter().map(Vec::len).collect();
    order.extend((0..count).filter(|i| pending[*i] == 0));
    let mut next = 0;
    while let Some(index) = order.get(next).copied() {
        next += 1;
        for to in &after[index] {
            pending[*to] -= 1;
            if pending[*to] == 0 {
                order.push(*to);
            }
        }
    }
    let (mut row, mut used): (Vec<usize>, Vec<i32>) = (vec![0; count], Vec::new());
    let mut put = |index: usize, mut at: usize, down: bool, least: usize| {
        let room = widths[index] + GAP;
        loop {
            if at >= used.len() {
                used.resize(at + 1, 0);
            }
            if used[at] == 0 || used[at] + room <= wanted + GAP {
                break;
            }
            match down {
                true => at += 1,
                false if at <= least => return None,
                false => at -= 1,
            }
        }
        used[at] += room;
        Some(at)
    };
    // What has no edge comes last, below the rest.
    let alone = |i: usize| before[i].is_empty() && after[i].is_empty();
    for index in order.iter().copied().filter(|i| !alone(*i)) {
        let first = before[index].iter().map(|b| row[*b] + 1).max().unwrap_or(0);
        row[index] = put(index, first, true, 0).unwrap_or(first);
    }
    // What many come after, and which comes after few, stands near them.
    for index in order.iter().rev().copied().filter(|i| !after[*i].is_empty()) {
        let last = after[index].iter().map(|a| row[*a]).min().unwrap_or(1) - 1;
        if after[index].len() > before[index].len() && last > row[index] {
            row[index] = put(index, last, false, row[index] + 1).unwrap_or(row[index]);
        }
    }
    let below = order.iter().filter(|i| !alone(**i)).map(|i| row[*i] + 1).max().unwrap_or(0);
    for index in order.iter().copied().filter(|i| alone(*i)) {
        row[index] = put(index, below, true, 0).unwrap_or(below);
    }
    row
}

/// Boxes and passing edges, each in its row. The boxes come first, by their numbers.
struct Net {
    places: Vec<Place>,
    rows: Vec<Vec<usize>>,
    lanes: Vec<Lane>,
}

/// A place for the edges of a kind that leave a box.
struct Lane {
    from: usize,
    kind: u8,
    row: usize,
    place: usize,
}

impl Net {
    fn new(widths: &[i32], edges: &[Edge], row: &[usize]) -> Net {
        let place = |width| Place { width, x: 0, above: Vec::new(), below: Vec::new() };
        let count = row.iter().max().map_or(0, |last| last + 1);
        let mut net = Net {
            places: widths.iter().map(|w| place(*w)).collect(),
            rows: vec![Vec::new(); count],
            lanes: Vec::new(),
        };
        for (index, row) in row.iter().enumerate() {
            net.rows[*row].push(index);
        }
        for edge in edges {
            let mut from = edge.from;
            for at in row[edge.from] + 1..row[edge.to] {
                let lane = net.lane(edge, at).unwrap_or_else(|| net.add_lane(edge, at));
                net.join(from, lane);
                from = lane;
            }
            net.join(from, edge.to);
        }
        net
    }

    /// The place that an edge passes in a row.
    fn lane(&self, edge: &Edge, row: usize) -> Option<usize> {
        let is_its = |lane: &&Lane| lane.from == edge.from && lane.kind == edge.kind && lane.row == row;
        self.lanes.iter().find(is_its).map(|lane| lane.place)
    }

    fn add_lane(&mut self, edge: &Edge, row: usize) -> usize {
        let place = self.places.len();
        self.places.push(Place { width: LANE, x: 0, above: Vec::new(), below: Vec::new() });
        self.rows[row].push(place);
        self.lanes.push(Lane { from: edge.from, kind: edge.kind, row, place });
        place
    }

    fn join(&mut self, from: usize, to: usize) {
        if !self.places[from].below.contains(&to) {
            self.places[from].below.push(to);
            self.places[to].above.push(from);
        }
    }

    /// Puts each row in order.
    fn order(&mut self) {
        let mut best = (self.crossings(), self.rows.clone());
        for sweep in 0..SWEEPS {
            let down = sweep % 2 == 0;
            let count = self.rows.len();
            for step in 1..count {
                self.order_row(if down { step } else { count - 1 - step }, down);
            }
            let crossings = self.crossings();
            if crossings < best.0 {
                best = (crossings, self.rows.clone());
            }
        }
        self.rows = best.1;
    }

    /// Each by the mean position of its neighbours above (or below); those without keep their place.
    fn order_row(&mut self, row: usize, down: bool) {
        let other = if down { row - 1 } else { row + 1 };
        let (position, others, count) = (self.positions(other), self.rows[other].len(), self.rows[row].len());
        let means = self.rows[row].iter().enumerate().map(|(at, index)| {
            let place = &self.places[*index];
            let near = if down { &place.above } else { &place.below };
            let sum: usize = near.iter().map(|n| position[*n] * 1000).sum();
            match near.len() {
                0 => (at * 1000 * others / count) as u64,
                n => (sum / n) as u64,
            }
        });
        let order = places_by_key(means);
        self.rows[row] = order.into_iter().map(|at| self.rows[row][at]).collect();
    }

    /// Where in its row each place of a row stands.
    fn positions(&self, row: usize) -> Vec<usize> {
        let mut positions = vec![0; self.places.len()];
        self.rows[row].iter().enumerate().for_each(|(at, index)| positions[*index] = at);
        positions
    }

    /// How many pairs of lines cross.
    fn crossings(&self) -> usize {
        let mut sum = 0;
        for row in 1..self.rows.len() {
            let position = self.positions(row);
            let mut met: Vec<usize> = Vec::new();
            for index in &self.rows[row - 1] {
                let ends: Vec<usize> = self.places[*index].below.iter().map(|b| position[*b]).collect();
                sum += ends.iter().map(|end| met.iter().filter(|m| *m > end).count()).sum::<usize>();
                met.extend(ends);
            }
        }
        sum
    }

    /// The room between two neighbours.
    fn gap(&self, a: usize, b: usize) -> i32 {
        let is_lane = |i: usize| self.places[i].width == LANE;
        if is_lane(a) || is_lane(b) { LANE_GAP } else { GAP }
    }

    /// Gives each place its middle.
    fn spread(&mut self, wanted: i32) {
        let room = |net: &Net, row: &[usize]| -> i32 {
            let gaps: i32 = row.windows(2).map(|pair| net.gap(pair[0], pair[1])).sum();
            gaps + row.iter().map(|i| net.places[*i].width).sum::<i32>()
        };
        let width = self.rows.iter().map(|row| room(self, row)).max().unwrap_or(0).max(wanted);
        for row in self.rows.clone() {
            let mut x = (width - room(self, &row)) / 2;
            for (at, index) in row.iter().enumerate() {
                let gap = row.get(at + 1).map_or(0, |next| self.gap(*index, *next));
                let place = &mut self.places[*index];
                place.x = x + place.width / 2;
                x += place.width + gap;
            }
        }
        for sweep in 0..MOVES {
            let count = self.rows.len();
            for step in 0..count {
                self.settle(if sweep % 2 == 0 { step } else { count - 1 - step }, sweep, width);
            }
        }
    }

    /// Moves all of it to the left edge.
    fn move_left(&mut self) {
        let left = self.places.iter().map(|place| place.x - place.width / 2).min().unwrap_or(0);
        self.places.iter_mut().for_each(|place| place.x -= left);
    }

    /// Moves a row as near to where it wants to be as there is room: the least squares of all displacements.
    fn settle(&mut self, row: usize, sweep: usize, width: i32) {
        let row = &self.rows[row];
        // Blocks of places that touch: sum of what they want, how many, and the room before each.
        let mut blocks: Vec<(i64, i64)> = Vec::new();
        let (mut offsets, mut offset) = (Vec::new(), 0);
        let mut last: Option<usize> = None;
        for index in row {
            let place = &self.places[*index];
            if let Some(last) = last {
                offset += (self.places[last].width + place.width) / 2 + self.gap(last, *index);
            }
            last = Some(*index);
            offsets.push(offset);
            let near = match sweep % 2 {
                0 => &place.above,
                _ => &place.below,
            };
            let sum: i64 = near.iter().map(|n| i64::from(self.places[*n].x)).sum();
            let wish = if near.is_empty() { i64::from(place.x) } else { sum / near.len() as i64 };
            blocks.push((wish - i64::from(offset), 1));
            while let [.., (a, m), (b, n)] = blocks[..]
                && a * n > b * m
            {
                blocks.pop();
                blocks.pop();
                blocks.push((a + b, m + n));
            }
        }
        let first = row.first().map_or(0, |i| self.places[*i].width / 2);
        let most = width - offset - last.map_or(0, |last| self.places[last].width) / 2;
        let mut at = 0;
        for (sum, count) in blocks {
            let base = ((sum / count) as i32).max(first).min(most.max(first));
            for _ in 0..count {
                self.places[row[at]].x = base + offsets[at];
                at += 1;
            }
        }
    }

    fn layout(&self, widths: &[i32], edges: &[Edge], row: &[usize]) -> Layout {
        let top = |row: usize| row as i32 * ROW;
        let routes = edges.iter().map(|edge| {
            let mut points = vec![[self.port(edge, edges, widths, true), top(row[edge.from]) + BOX]];
            for at in row[edge.from] + 1..row[edge.to] {
                let x = self.lane(edge, at).map_or(0, |lane| self.places[lane].x);
                points.extend([[x, top(at)], [x, top(at) + BOX]]);
            }
            points.push([self.port(edge, edges, widths, false), top(row[edge.to])]);
            points
        });
        let routes: Vec<Vec<[i32; 2]>> = routes.collect();
        let boxes: Vec<[i32; 2]> = row.iter().enumerate().map(|(i, r)| [self.places[i].x, top(*r)]).collect();
        let right = self.places.iter().map(|place| place.x + place.width / 2).max().unwrap_or(0);
        Layout { boxes, routes, width: right, height: (self.rows.len() as i32 * ROW - ROW + BOX).max(0) }
    }

    /// Where an edge leaves its box, or arrives: side by side, in the order of where the edges come from or
    /// go, so that they do not cross at once.
    fn port(&self, edge: &Edge, edges: &[Edge], widths: &[i32], leaves: bool) -> i32 {
        let here = if leaves { edge.from } else { edge.to };
        let at_here = |e: &&Edge| if leaves { e.from == here } else { e.to == here };
        // Edges of one kind that leave together look like one.
        let far = |e: &Edge| {
            let place = self.next(e, leaves);
            (self.places[place].x, place)
        };
        let (mine, mut all) = (far(edge), Vec::new());
        for other in edges.iter().filter(at_here).map(far) {
            if !all.contains(&other) {
                all.push(other);
            }
        }
        let place = all.iter().filter(|other| **other < mine).count() as i32;
        let count = all.len() as i32;
        let step = 14.min((widths[here] - 16).max(0) / count.max(1));
        self.places[here].x + (2 * place - (count - 1)) * step / 2
    }

    /// The place that an edge passes next after its box, or last before it.
    fn next(&self, edge: &Edge, leaves: bool) -> usize {
        let its = |lane: &&Lane| lane.from == edge.from && lane.kind == edge.kind;
        let mut lanes = self.lanes.iter().filter(its).map(|lane| lane.place);
        let near = |place: &usize| match leaves {
            true => self.places[edge.from].below.contains(place),
            false => self.places[edge.to].above.contains(place),
        };
        let direct = match leaves {
            true => self.places[edge.from].below.contains(&edge.to),
            false => self.places[edge.to].above.contains(&edge.from),
        };
        match direct {
            true if leaves => edge.to,
            true => edge.from,
            false => lanes.find(near).unwrap_or(if leaves { edge.to } else { edge.from }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ordered::Set;
    use proptest::prelude::*;

    fn edge(from: usize, to: usize) -> Edge {
        Edge { from, to, kind: 0 }
    }

    #[test]
    fn a_diamond() {
        let drawn = layered(&[60; 4], &[edge(0, 1), edge(0, 2), edge(1, 3), edge(2, 3)], 400);
        let rows: Vec<i32> = drawn.boxes.iter().map(|b| b[1] / ROW).collect();
        assert_eq!(rows, [0, 1, 1, 2]);
        assert_eq!(drawn.boxes[0][0], drawn.boxes[3][0], "one above the other");
        assert_eq!(drawn.boxes[2][0] - drawn.boxes[1][0], 60 + GAP);
        assert_eq!(drawn.height, 2 * ROW + BOX);
    }

    #[test]
    fn a_long_edge_passes_beside_the_boxes_between() {
        let drawn = layered(&[60; 3], &[edge(0, 1), edge(1, 2), edge(0, 2)], 400);
        let route = &drawn.routes[2];
        assert_eq!(route.len(), 4);
        assert!((route[1][0] - drawn.boxes[1][0]).abs() > 30, "{drawn:?}");
    }

    proptest! {
        /// No two boxes touch, all is within the width, and every edge leads downwards.
        #[test]
        fn any_graph(
            edges in proptest::collection::vec((0usize..40, 0usize..40, 0u8..2), 0..80),
            widths in proptest::collection::vec(40i32..200, 40),
        ) {
            let mut all = Set::new();
            all.extend(edges.into_iter().filter(|(a, b, _)| a < b).map(|(from, to, kind)| Edge { from, to, kind }));
            let edges: Vec<Edge> = all.into_iter().collect();
            let drawn = layered(&widths, &edges, 900);
            for edge in &edges {
                prop_assert!(drawn.boxes[edge.from][1] < drawn.boxes[edge.to][1]);
            }
            for a in 0..40 {
                prop_assert!(drawn.boxes[a][0] >= widths[a] / 2);
                for b in 0..a {
                    let apart = (drawn.boxes[a][0] - drawn.boxes[b][0]).abs() > (widths[a] + widths[b]) / 2;
                    prop_assert!(apart || drawn.boxes[a][1] != drawn.boxes[b][1]);
                }
            }
            for (edge, route) in edges.iter().zip(&drawn.routes) {
                prop_assert_eq!(route[0][1], drawn.boxes[edge.from][1] + BOX);
                prop_assert_eq!(route.last().unwrap()[1], drawn.boxes[edge.to][1]);
            }
        }
    }
}
