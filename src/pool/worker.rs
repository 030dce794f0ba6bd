//! What a worker says of itself: `busy done=12 failed=1`, in a file `status` in its directory or as STATUS= to its
//! supervisor.
#![forbid(unsafe_code)]

use std::ops::AddAssign;

/// The file, in an instance's directory.
pub const FILE: &str = "status";

/// How much was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// `done=`
    pub done: u64,
    /// `failed=`
    pub failed: u64,
}

/// What it says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// It begins with `busy`, or with `idle`. None: with neither.
    pub busy: Option<bool>,
    /// As far as it tells.
    pub counts: Counts,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Counts) {
        self.done = self.done.saturating_add(other.done);
        self.failed = self.failed.saturating_add(other.failed);
    }
}

impl Counts {
    /// How many of a thousand were done. None: there was nothing to do.
    pub fn success(self) -> Option<u64> {
        let all = u128::from(self.done) + u128::from(self.failed);
        (all > 0).then(|| (u128::from(self.done) * 1000 / all) as u64)
    }

    /// Finds `done=N` and `failed=N` among words.
    pub fn parse(text: &str) -> Counts {
        let mut counts = Counts::default();
        for word in text.split_ascii_whitespace() {
            match word.split_once('=') {
                Some(("done", number)) => counts.done = number.parse().unwrap_or(0),
                Some(("failed", number)) => counts.failed = number.parse().unwrap_or(0),
                _ => {}
            }
        }
        counts
    }
}

impl Said {
    /// Reads what it says. A text that is still being written is empty: its writer is at work.
    pub fn parse(text: &str) -> Said {
        let first = text.split(|c: char| !c.is_ascii_alphanumeric()).next();
        let busy = match first {
            _ if text.trim_ascii().is_empty() => Some(true),
            Some("busy") => Some(true),
            Some("idle") => Some(false),
            _ => None,
        };
        Said { busy, counts: Counts::parse(text) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_worker_says() {
        let said = Said::parse("busy done=12 failed=1 resizing cat.png");
        assert_eq!(said, Said { busy: Some(true), counts: Counts { done: 12, failed: 1 } });
        assert_eq!(Said::parse("idle\n").busy, Some(false));
        assert_eq!(Said::parse("idle: done=3").counts.done, 3);
        assert_eq!(Said::parse("").busy, Some(true), "being written");
        for other in ["idler", "loading", "done=5", "Busy"] {
            assert_eq!(Said::parse(other).busy, None, "{other}");
        }
        assert_eq!(Said::parse("idle done=-1 failed=x done").counts, Counts::default());
    }

    #[test]
    fn success() {
        assert_eq!(Counts { done: 999, failed: 1 }.success(), Some(999));
        assert_eq!(Counts { done: u64::MAX, failed: u64::MAX }.success(), Some(500));
        assert_eq!(Counts::default().success(), None);
    }
}
