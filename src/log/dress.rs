//! What is put before a line: stamps, a prefix, a label; or what is made of it whole, as JSON or logfmt.

use super::script::{Dress, Format, Label};
use crate::report::json::Json;
use crate::sys::clock;
use crate::time::Tai64n;

/// The longest stamp: `T`'s, and `t`'s before it.
const STAMPS: usize = 64;

/// The stamps of lines that were read at one moment: made once, when first wanted.
#[derive(Debug, Default)]
pub struct Moment {
    now: Tai64n,
    tai: Vec<u8>,
    iso: Vec<u8>,
}

impl Moment {
    /// Lines that are dealt with from now on were read at `now`.
    pub fn set(&mut self, now: Tai64n) {
        self.now = now;
        self.tai.clear();
        self.iso.clear();
    }

    /// When that is.
    pub fn now(&self) -> Tai64n {
        self.now
    }

    /// `@` and 24 digits.
    fn tai(&mut self) -> &[u8] {
        if self.tai.is_empty() {
            self.tai.extend_from_slice(&tai(self.now));
        }
        &self.tai
    }

    /// `2026-11-21 18:23:16.123456789`
    fn iso(&mut self) -> &[u8] {
        if self.iso.is_empty() {
            iso(self.now, 9, &mut self.iso);
        }
        &self.iso
    }
}

fn tai(stamp: Tai64n) -> [u8; 25] {
    let mut text = [b'@'; 25];
    for (pair, byte) in text[1..].chunks_exact_mut(2).zip(stamp.pack()) {
        pair[0] = b"0123456789abcdef"[usize::from(byte >> 4)];
        pair[1] = b"0123456789abcdef"[usize::from(byte & 15)];
    }
    text
}

/// Appends `2026-11-21 18:23:16.123` in local time, with so many digits of the fraction, 1 to 9.
pub fn iso(stamp: Tai64n, digits: usize, to: &mut Vec<u8>) {
    let local = clock::local(stamp.secs);
    number(to, local.year.clamp(0, 9_999_999) as u32, 4);
    for (before, n) in [
        (b'-', local.month),
        (b'-', local.day),
        (b' ', local.hour),
        (b':', local.minute),
        (b':', local.second),
        (b'.', stamp.nanos),
    ] {
        to.push(before);
        number(to, n, if before == b'.' { 9 } else { 2 });
    }
    to.truncate(to.len() - (9 - digits));
}

/// Appends a number of at least so many digits.
fn number(to: &mut Vec<u8>, mut n: u32, digits: usize) {
    let at = to.len();
    while n > 0 || to.len() < at + digits {
        to.insert(at, b'0' + (n % 10) as u8);
        n /= 10;
    }
}

impl Dress {
    /// What is before every line that was read at that moment; only for lines without a label.
    pub fn before(&self, moment: &mut Moment) -> Vec<u8> {
        let mut before = Vec::with_capacity(STAMPS);
        self.stamps(moment, &mut before);
        before.extend_from_slice(&self.prefix);
        before
    }

    /// Appends the line as it is to be written, with its newline.
    pub fn put(&self, line: &[u8], moment: &mut Moment, to: &mut Vec<u8>) {
        match &self.label {
            Some(label) if label.format != Format::Text => label.put_fields(line, moment, to),
            label => {
                self.stamps(moment, to);
                if let Some(label) = label {
                    label.put_text(to);
                }
                to.extend_from_slice(&self.prefix);
                to.extend_from_slice(line);
                to.push(b'\n');
            }
        }
    }

    fn stamps(&self, moment: &mut Moment, to: &mut Vec<u8>) {
        if self.tai {
            to.extend_from_slice(moment.tai());
            to.push(b' ');
        }
        if self.iso {
            to.extend_from_slice(moment.iso());
            to.extend_from_slice(b"  ");
        }
    }
}

impl Label {
    /// `web | `, `web/2 | `, `web stderr | `
    fn put_text(&self, to: &mut Vec<u8>) {
        to.extend_from_slice(self.service.as_bytes());
        if let Some(instance) = &self.instance {
            to.push(b'/');
            to.extend_from_slice(instance.as_bytes());
        }
        if let Some(stream) = &self.stream {
            to.push(b' ');
            to.extend_from_slice(stream.as_bytes());
        }
        to.extend_from_slice(b" | ");
    }

    fn put_fields(&self, line: &[u8], moment: &mut Moment, to: &mut Vec<u8>) {
        let time = utc(moment.now());
        let mut fields = vec![("time", time), ("service", self.service.clone())];
        fields.extend(self.stream.clone().map(|stream| ("stream", stream)));
        fields.extend(self.instance.clone().map(|instance| ("instance", instance)));
        fields.push(("line", String::from_utf8_lossy(line).into_owned()));
        let text = match self.format {
            Format::Logfmt => {
                let pairs = fields.iter().map(|(name, value)| format!("{name}={}", logfmt(value)));
                pairs.collect::<Vec<_>>().join(" ")
            }
            _ => Json::Object(fields.into_iter().map(|(n, v)| (n, Json::Text(v))).collect()).to_text(),
        };
        to.extend_from_slice(text.as_bytes());
        to.push(b'\n');
    }
}

/// A value of logfmt: quoted if it must be.
fn logfmt(value: &str) -> String {
    let plain = |c: char| !c.is_whitespace() && !c.is_control() && c != '"' && c != '=';
    if !value.is_empty() && value.chars().all(plain) {
        return value.to_owned();
    }
    Json::Text(value.to_owned()).to_text()
}

/// `2026-11-21T18:23:16.123456Z`
fn utc(stamp: Tai64n) -> String {
    let (days, secs) = (stamp.secs.div_euclid(86_400), stamp.secs.rem_euclid(86_400));
    // Days since 1 March of year 0, in eras of 400 years; the year begins in March here.
    let days = days + 719_468;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + i64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:06}Z",
        secs / 3600,
        secs / 60 % 60,
        secs % 60,
        stamp.nanos / 1000
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(dress: &Dress, line: &[u8]) -> String {
        let mut moment = Moment::default();
        moment.set(Tai64n { secs: 1_795_285_396, nanos: 7_000_001 });
        let mut to = Vec::new();
        dress.put(line, &mut moment, &mut to);
        String::from_utf8(to).unwrap()
    }

    #[test]
    fn stamps_prefix_and_label() {
        let label = Label { service: "web".into(), instance: Some("2".into()), ..Label::default() };
        let dress =
            Dress { tai: true, prefix: b"x ".to_vec(), label: Some(label.clone()), ..Dress::default() };
        assert_eq!(put(&dress, b"hello"), "@400000006b01e1b9006acfc1 web/2 | x hello\n");
        let dress =
            Dress { label: Some(Label { format: Format::Json, ..label.clone() }), ..Dress::default() };
        let time = "2026-11-21T18:23:16.007000Z";
        assert_eq!(
            put(&dress, b"a \"b\"\x01\xff"),
            format!(
                "{{\"time\":\"{time}\",\"service\":\"web\",\"instance\":\"2\",\"line\":\"a \\\"b\\\"\\u0001\u{fffd}\"}}\n"
            )
        );
        let stream = Some("stderr".to_owned());
        let dress =
            Dress { label: Some(Label { format: Format::Logfmt, stream, ..label }), ..Dress::default() };
        let expected = format!("time={time} service=web stream=stderr instance=2 line=\"a b\"\n");
        assert_eq!(put(&dress, b"a b"), expected);
    }

    #[test]
    fn calendar() {
        for (secs, text) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (951_782_400, "2000-02-29T00:00:00.000000Z"),
            (4_294_967_296, "2106-02-07T06:28:16.000000Z"),
            (-1, "1969-12-31T23:59:59.000000Z"),
        ] {
            assert_eq!(utc(Tai64n { secs, nanos: 0 }), text);
        }
        let mut text = Vec::new();
        iso(Tai64n { secs: 1_795_285_396, nanos: 7_000_001 }, 3, &mut text);
        assert_eq!(text.len(), 23);
        assert!(text.ends_with(b":16.007"), "{}", String::from_utf8_lossy(&text));
        let now = 1_795_285_396;
        assert_eq!(clock::from_local(&clock::local(now)), now);
    }
}
