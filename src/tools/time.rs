//! tai64n and tai64nlocal: stamping lines, and reading the stamps.

use super::text::each_line;
use crate::chain::*;
use crate::sys::clock;
use crate::time::Tai64n;

/// `@` and 24 hexadecimal digits.
const STAMP: usize = 25;

/// `tai64n`
pub fn tai64n(_: &mut Args) -> Result<Step> {
    each_line(|line, _, out| {
        out.push(b'@');
        for byte in clock::wall().pack() {
            out.extend([byte >> 4, byte & 15].map(|digit| b"0123456789abcdef"[digit as usize]));
        }
        out.push(b' ');
        out.extend_from_slice(line);
        out.push(b'\n');
    })?;
    Ok(Step::Exit(0))
}

/// `tai64nlocal`
pub fn tai64nlocal(args: &mut Args) -> Result<Step> {
    let mut utc = false;
    while args.option("g")? != 0 {
        utc = true;
    }
    each_line(|line, ended, out| {
        let rest = match line.split_at_checked(STAMP).and_then(|(stamp, rest)| Some((read(stamp)?, rest))) {
            Some((stamp, rest)) => {
                show(stamp, utc, out);
                rest
            }
            None => line,
        };
        out.extend_from_slice(rest);
        out.extend(ended.then_some(b'\n'));
    })?;
    Ok(Step::Exit(0))
}

/// Reads a stamp. `None`: it is none.
fn read(stamp: &[u8]) -> Option<Tai64n> {
    let digits = stamp.strip_prefix(b"@")?;
    let mut packed = [0; Tai64n::LEN];
    for (byte, pair) in packed.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |b: u8| char::from(b).to_digit(16);
        *byte = (digit(pair[0])? * 16 + digit(pair[1])?) as u8;
    }
    let raw = u32::from_be_bytes([packed[8], packed[9], packed[10], packed[11]]);
    let stamp = Tai64n::unpack(&packed);
    (raw == stamp.nanos && packed[0] >> 6 == 1).then(|| Tai64n { secs: utc_seconds(stamp.secs), ..stamp })
}

/// When leap seconds were inserted, 1972 to 2016, in Unix seconds: the instant right after.
const LEAPS: [i64; 27] = [
    78796800, 94694400, 126230400, 157766400, 189302400, 220924800, 252460800, 283996800, 315532800,
    362793600, 394329600, 425865600, 489024000, 567993600, 631152000, 662688000, 709948800, 741484800,
    773020800, 820454400, 867715200, 915148800, 1136073600, 1230768000, 1341100800, 1435708800, 1483228800,
];

/// A stamp from before the last leap second has fewer of them in it than [`Tai64n`] takes away.
fn utc_seconds(secs: i64) -> i64 {
    let mut missing = LEAPS.len() as i64;
    for leap in LEAPS {
        // Counted as if this one and all before it had not been yet.
        if secs + missing < leap {
            break;
        }
        missing -= 1;
    }
    secs + missing
}

/// `2024-02-29 12:34:56.123456789`
fn show(stamp: Tai64n, utc: bool, out: &mut Vec<u8>) {
    let at = if utc { clock::utc(stamp.secs) } else { clock::local(stamp.secs) };
    let mut number = |value: i64, width: usize, end: Option<u8>| {
        let digits = crate::chain::decimal(value);
        out.extend(std::iter::repeat_n(b'0', width.saturating_sub(digits.len())));
        out.extend(digits);
        out.extend(end);
    };
    number(at.year, 4, Some(b'-'));
    number(at.month.into(), 2, Some(b'-'));
    number(at.day.into(), 2, Some(b' '));
    number(at.hour.into(), 2, Some(b':'));
    number(at.minute.into(), 2, Some(b':'));
    number(at.second.into(), 2, Some(b'.'));
    number(stamp.nanos.into(), 9, None);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_before_leap_seconds() {
        assert_eq!(utc_seconds(1_700_000_000), 1_700_000_000);
        // 2000-01-01: 22 of the 27 had been.
        assert_eq!(utc_seconds(946_684_800 - 5), 946_684_800);
        assert_eq!(utc_seconds(-27), 0);
    }
}
