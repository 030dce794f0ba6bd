//! Time as data: monotonic instants for deciding, TAI64N stamps for showing.
//!
//! Nothing here reads a clock; [`crate::sys::clock`] does. The wall clock is only ever shown: what waits,
//! waits on [`Mono`], so a clock set to 1970 or 2100 moves no deadline.
#![forbid(unsafe_code)]

use std::fmt;
use std::time::Duration;

/// An instant on `CLOCK_MONOTONIC`, in nanoseconds. Comparable over processes of one boot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mono(pub u64);

impl Mono {
    /// This instant and `d` more; saturates.
    pub fn after(self, d: Duration) -> Mono {
        Mono(self.0.saturating_add(u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// How long ago `earlier` was; zero if it is not earlier.
    pub fn since(self, earlier: Mono) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// TAI seconds minus Unix seconds, as skalibs has it without a leap second table update: 10 s in 1970 and
/// 27 leap seconds since. Forgetting the 27 makes s6-svstat show ages that are 27 s too long.
const TAI_OFFSET: i64 = 37;

/// An external TAI64N stamp: 8 bytes of seconds (2^62 + TAI seconds), 4 of nanoseconds, big endian.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tai64n {
    /// Unix seconds; negative before 1970.
    pub secs: i64,
    /// 0 to 999 999 999.
    pub nanos: u32,
}

impl Tai64n {
    /// Bytes of the binary form.
    pub const LEN: usize = 12;

    /// The binary form, as in `supervise/status`.
    pub fn pack(self) -> [u8; 12] {
        let mut out = [0; 12];
        let label = (1u64 << 62).wrapping_add_signed(self.secs + TAI_OFFSET);
        out[..8].copy_from_slice(&label.to_be_bytes());
        out[8..].copy_from_slice(&self.nanos.to_be_bytes());
        out
    }

    /// Reads the binary form. A label outside of what TAI64 allows is clamped, never refused: a damaged
    /// stamp must not hide the rest of a status.
    pub fn unpack(bytes: &[u8; 12]) -> Tai64n {
        let label = u64::from_be_bytes(bytes[..8].try_into().expect("8 of 12 bytes"));
        let nanos = u32::from_be_bytes(bytes[8..].try_into().expect("4 of 12 bytes"));
        let secs = (label.wrapping_sub(1 << 62)) as i64;
        Tai64n { secs: secs.saturating_sub(TAI_OFFSET), nanos: nanos.min(999_999_999) }
    }

    /// This stamp moved by `ns` nanoseconds, which may be negative.
    pub fn offset(self, ns: i128) -> Tai64n {
        let total = self.secs as i128 * 1_000_000_000 + self.nanos as i128 + ns;
        Tai64n { secs: total.div_euclid(1_000_000_000) as i64, nanos: total.rem_euclid(1_000_000_000) as u32 }
    }

    /// How long before `now` this stamp is; zero if it lies in the future, as s6 clamps it.
    pub fn age(self, now: Tai64n) -> Duration {
        let ns =
            (now.secs as i128 - self.secs as i128) * 1_000_000_000 + now.nanos as i128 - self.nanos as i128;
        Duration::from_nanos(u64::try_from(ns.max(0)).unwrap_or(u64::MAX))
    }

    /// Reads `@` and 24 hexadecimal digits.
    pub fn parse(text: &[u8]) -> Option<Tai64n> {
        let hex = text.strip_prefix(b"@").filter(|h| h.len() == 24)?;
        let mut bytes = [0u8; 12];
        for (byte, pair) in bytes.iter_mut().zip(hex.chunks(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(Tai64n::unpack(&bytes))
    }
}

/// `@` and 24 lowercase hexadecimal digits.
impl fmt::Display for Tai64n {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("@")?;
        self.pack().iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

/// One reading of the clocks: everything that happens in one turn of a loop happens at one `Now`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// For deadlines.
    pub mono: Mono,
    /// For stamps.
    pub wall: Tai64n,
}

/// A moment as it is remembered: shown as `wall`, measured by `mono`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    /// The instant.
    pub mono: Mono,
    /// What the wall clock said, or would have said had it been right then.
    pub wall: Tai64n,
}

impl From<Now> for Stamp {
    fn from(now: Now) -> Stamp {
        Stamp { mono: now.mono, wall: now.wall }
    }
}

impl Stamp {
    /// After the wall clock was set: the stamp that makes readers compute the true age.
    pub fn reanchored(self, now: Now) -> Stamp {
        let age = now.mono.0 as i128 - self.mono.0 as i128;
        Stamp { mono: self.mono, wall: now.wall.offset(-age) }
    }
}

/// Reads a duration of one of our own files and options: `500ms`, `30s`, `2m`, `1h`; a bare number is
/// milliseconds, as in s6's files.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let number: u64 = text[..digits].parse().ok()?;
    let unit = match &text[digits..] {
        "" | "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    Some(Duration::from_millis(number.checked_mul(unit)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tai_label_counts_the_leap_seconds() {
        let t = Tai64n { secs: 0, nanos: 5 };
        assert_eq!(t.to_string(), "@400000000000002500000005");
        assert_eq!(Tai64n::parse(b"@400000000000002500000005"), Some(t));
        assert_eq!(Tai64n::parse(b"@40000000000000250000000"), None);
        assert_eq!(Tai64n::parse(b"@4000000000000025000000zz"), None);
    }

    #[test]
    fn stamps_past_2038_and_2106_round_trip() {
        for secs in [-5, 0, 0x7fff_ffff, 0x8000_0001, 0xffff_ffff + 7, 1 << 40] {
            let t = Tai64n { secs, nanos: 999_999_999 };
            assert_eq!(Tai64n::unpack(&t.pack()), t);
        }
    }

    #[test]
    fn reanchor_keeps_the_age() {
        let born = Stamp { mono: Mono(5_000_000_000), wall: Tai64n { secs: 1000, nanos: 0 } };
        let now = Now { mono: Mono(7_500_000_000), wall: Tai64n { secs: 9_999_999, nanos: 0 } };
        assert_eq!(born.reanchored(now).wall.age(now.wall), Duration::from_millis(2500));
    }

    #[test]
    fn durations() {
        assert_eq!(parse_duration("250"), Some(Duration::from_millis(250)));
        assert_eq!(parse_duration("30s"), Some(Duration::from_secs(30)));
        assert_eq!(parse_duration("2m"), Some(Duration::from_secs(120)));
        for bad in ["", "s", "-1", "1 s", "1.5s", "99999999999999999999", "1d"] {
            assert_eq!(parse_duration(bad), None, "{bad}");
        }
    }
}
