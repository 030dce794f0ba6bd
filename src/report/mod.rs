//! Showing what is: tables for people, JSON for programs.

pub mod cause;
pub mod json;
pub mod metrics;
pub mod probe;
pub mod service;
pub mod svg;
pub mod table;

use std::time::Duration;

/// An age in the largest two units that matter: `4 s`, `12 min`, `3 h 5 min`, `2 d 4 h`.
pub fn age(d: Duration) -> String {
    let secs = d.as_secs();
    let (min, hour, day) = (60, 3600, 86_400);
    let two = |big: u64, unit: &str, small: u64, small_unit: &str| match small {
        0 => format!("{big} {unit}"),
        _ => format!("{big} {unit} {small} {small_unit}"),
    };
    match secs {
        0..60 => format!("{secs} s"),
        60..3600 => two(secs / min, "min", secs % min, "s"),
        3600..86_400 => two(secs / hour, "h", secs % hour / min, "min"),
        _ => two(secs / day, "d", secs % day / hour, "h"),
    }
}

/// A duration that was measured: `0.8 ms`, `12 ms`, `1.25 s`, `2 min 3 s`.
pub fn took(d: Duration) -> String {
    let us = (d + Duration::from_nanos(500)).as_micros();
    let rounded = |unit: u128| (us + unit / 2) / unit;
    match us {
        0..9_950 => format!("{}.{} ms", rounded(100) / 10, rounded(100) % 10),
        9_950..999_500 => format!("{} ms", rounded(1000)),
        999_500..59_995_000 => format!("{}.{:02} s", rounded(10_000) / 100, rounded(10_000) % 100),
        _ => age(d),
    }
}

/// `1 error`, `2 errors`.
pub fn count(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_read_well() {
        let s = |n| age(Duration::from_secs(n));
        assert_eq!([s(0), s(59), s(60), s(185)], ["0 s", "59 s", "1 min", "3 min 5 s"]);
        assert_eq!([s(3600), s(86_399), s(90_000)], ["1 h", "23 h 59 min", "1 d 1 h"]);
    }

    #[test]
    fn measured_times_read_well() {
        let us = |n| took(Duration::from_micros(n));
        assert_eq!([us(830), us(12_400), us(1_250_000)], ["0.8 ms", "12 ms", "1.25 s"]);
        assert_eq!([us(0), us(9_949), us(9_950), us(999_499)], ["0.0 ms", "9.9 ms", "10 ms", "999 ms"]);
        assert_eq!([us(999_500), us(59_994_999), us(60_000_000)], ["1.00 s", "59.99 s", "1 min"]);
    }
}
