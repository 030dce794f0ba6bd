//! Steps that were asked for ahead of time: each is made as soon as those it waits for are settled, without
//! a word to whoever asked and back.
//!
//! Only a line remembers them. Who asked plans the same and knows at each answer what follows; if we die, the
//! line ends, and what was not answered is asked of our successor.

use super::Host;
use crate::ordered::Map;
use crate::supervise::wire::{Request, SOFT};

/// What one line wants done later.
#[derive(Default)]
pub(super) struct Ahead {
    /// What was answered on this line: whether it was as asked.
    settled: Map<u32, bool>,
    steps: Vec<Option<Step>>,
    /// Which steps wait for an answer; `true`: any answer will do.
    waiting: Map<u32, Vec<(usize, bool)>>,
}

struct Step {
    /// So many answers it waits for.
    left: usize,
    request: Request,
}

impl Ahead {
    /// Takes a step in; returns it if it is free to be made.
    fn add(&mut self, tags: &[u32], request: Request) -> Option<Request> {
        let split = |tag: &u32| (tag & !SOFT, tag & SOFT != 0);
        let spoilt = |(tag, soft): (u32, bool)| !soft && self.settled.get(&tag) == Some(&false);
        if tags.iter().map(split).any(spoilt) {
            return None;
        }
        let (index, mut left) = (self.steps.len(), 0);
        for (tag, soft) in tags.iter().map(split).filter(|(tag, _)| !self.settled.contains_key(tag)) {
            left += 1;
            self.waiting.entry(tag).or_default().push((index, soft));
        }
        if left == 0 {
            return Some(request);
        }
        self.steps.push(Some(Step { left, request }));
        None
    }

    /// An answer was given; what is free to be made now.
    fn settle(&mut self, tag: u32, done: bool) -> Vec<Request> {
        self.settled.insert(tag, done);
        let mut free = Vec::new();
        for (index, soft) in self.waiting.remove(&tag).unwrap_or_default() {
            let place = &mut self.steps[index];
            if !done && !soft {
                *place = None;
            } else if let Some(step) = place {
                step.left -= 1;
                if step.left == 0 {
                    free.extend(place.take().map(|step| step.request));
                }
            }
        }
        free
    }
}

impl Host {
    /// A line begins a change: it forgets what it wanted before.
    pub(super) fn begin_ahead(&mut self, link: u32) {
        self.followers.retain(|(of, _)| *of != link);
        if let Some(Some(l)) = self.links.get_mut(link as usize) {
            l.ahead = Some(Ahead::default());
        }
    }

    /// Makes a step when what it waits for is settled.
    pub(super) fn put_ahead(&mut self, link: u32, tags: &[u32], request: Request) {
        if let Some(Some(l)) = self.links.get_mut(link as usize) {
            let free = l.ahead.get_or_insert_default().add(tags, request);
            self.followers.extend(free.map(|request| (link, request)));
        }
    }

    /// An answer was given: what waited for it is next.
    pub(super) fn let_follow(&mut self, link: u32, tag: u32, done: bool) {
        if let Some(Some(l)) = self.links.get_mut(link as usize)
            && let Some(ahead) = &mut l.ahead
        {
            let free = ahead.settle(tag, done);
            self.followers.extend(free.into_iter().map(|request| (link, request)));
        }
    }

    /// Makes the steps that are next.
    pub(super) fn start_followers(&mut self) {
        while let Some((link, request)) = self.followers.pop_front() {
            self.obey_request(link, request);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step() -> Request {
        Request::Check
    }

    #[test]
    fn a_step_is_made_when_the_last_answer_is_given() {
        let mut ahead = Ahead::default();
        assert_eq!(ahead.settle(1, true), []);
        assert_eq!(ahead.add(&[1], step()), Some(step()));
        assert_eq!(ahead.add(&[1, 2, 3], step()), None);
        assert_eq!(ahead.settle(3, true), []);
        assert_eq!(ahead.settle(2, true), [step()]);
        assert_eq!(ahead.settle(2, true), []);
    }

    #[test]
    fn a_failure_drops_what_needs_it_and_frees_what_only_comes_after_it() {
        let mut ahead = Ahead::default();
        assert_eq!(ahead.add(&[1], step()), None);
        assert_eq!(ahead.add(&[1 | SOFT], step()), None);
        assert_eq!(ahead.settle(1, false), [step()]);
        assert_eq!(ahead.settle(1, true), []);
        assert_eq!(ahead.add(&[3], step()), None);
        assert_eq!(ahead.settle(1, true), []);
        assert_eq!(ahead.settle(4, false), []);
        assert_eq!(ahead.add(&[2, 4], step()), None);
        assert_eq!(ahead.settle(2, true), [], "it was dropped");
        assert_eq!(ahead.settle(3, true), [step()]);
    }
}
