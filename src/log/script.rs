//! The script of a logger: s6-log's language, one directive an argument, and the directives that we add.
//!
//! Directives are executed for each line from left to right. `+RE`, `-RE` and `f` select and deselect it, an
//! action (`1`, `2`, `=FILE`, a directory) gets it if it is selected then. Control directives say how the
//! actions after them work. Ours have the form `name=value`, which no directive of s6's has:
//!
//! | directive | for the actions after it |
//! | --- | --- |
//! | `label=NAME` | lines are labelled; nothing takes it back |
//! | `stream=NAME`, `instance=NAME` | shown beside the label, where the format has a place for it |
//! | `format=text`, `json`, `logfmt` | how a labelled line looks |
//! | `rate=N/TIME` | at most so many lines in that time; what is more is counted and said. `0` takes it back |
//! | `full=block`, `drop` | a directory that cannot be written to stops the reading, or loses lines, counted |

use super::select::Matcher;
use crate::diag::{Error, Result};
use crate::time::parse_duration;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

/// What is done with each line.
#[derive(Debug, Default)]
pub struct Script {
    /// In order.
    pub steps: Vec<Step>,
    /// The directories that steps name by number.
    pub dirs: Vec<DirSpec>,
    /// Directives after the last action, which do nothing.
    pub trailing: bool,
}

/// One thing done with a line.
#[derive(Debug)]
pub enum Step {
    /// `+RE`, `-RE`: a line that matches is selected from here on, or is not.
    Select(bool, Matcher),
    /// `f`: exactly those lines are selected that no action has had.
    Rest,
    /// A selected line goes there.
    Act(Act),
}

/// An action.
#[derive(Debug)]
pub struct Act {
    /// Where the line goes.
    pub to: To,
    /// What is put before it.
    pub dress: Dress,
    /// How many lines may.
    pub rate: Option<Rate>,
}

/// Where a line goes.
#[derive(Debug, PartialEq, Eq)]
pub enum To {
    /// A directory of [`Script::dirs`].
    Dir(usize),
    /// Standard output.
    Out,
    /// Standard error, as an alert. Longer lines are cut to this; 0 for never.
    Alert(usize),
    /// A file that holds this line alone, padded or cut to this size; 0 for its own.
    Status(OsString, usize),
}

/// What is put before a line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dress {
    /// `t`: a TAI64N stamp.
    pub tai: bool,
    /// `T`: the local time.
    pub iso: bool,
    /// `p`: this and a blank.
    pub prefix: Vec<u8>,
    /// `label=`
    pub label: Option<Label>,
}

/// Whose line it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Label {
    /// The service.
    pub service: String,
    /// Which of its streams, if it matters.
    pub stream: Option<String>,
    /// Which instance of it.
    pub instance: Option<String>,
    /// How the line looks.
    pub format: Format,
}

/// How a labelled line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// `NAME | line`
    #[default]
    Text,
    /// An object a line.
    Json,
    /// `time=… service=… line="…"`
    Logfmt,
}

impl Format {
    /// By its name.
    pub fn by_name(name: &[u8]) -> Option<Format> {
        Some(match name {
            b"text" => Format::Text,
            b"json" => Format::Json,
            b"logfmt" => Format::Logfmt,
            _ => return None,
        })
    }
}

/// At most so many lines within a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Lines.
    pub lines: u64,
    /// The time.
    pub window: Duration,
}

/// A directory of logs, and the rules for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirSpec {
    /// Where it is.
    pub path: OsString,
    /// Its rules.
    pub rules: Rules,
}

/// The rules for a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// `n`: so many archives are kept.
    pub archives: u64,
    /// `s`: bytes of an archive.
    pub size: u64,
    /// `l`: it may be so much smaller, to end with a whole line.
    pub tolerance: u64,
    /// `S`: bytes of all archives; 0 for any number.
    pub total: u64,
    /// `r`: after a failure, how long until the next attempt.
    pub retry: Duration,
    /// `R`: an archive is made at least so often; zero for never.
    pub every: Duration,
    /// `!`, `?`: what makes an archive of a finished file.
    pub processor: Option<Processor>,
    /// `full=drop`
    pub drop: bool,
}

/// A command through which files go on their way to be an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Processor {
    /// For the shell, or else for execlineb.
    pub shell: bool,
    /// The command.
    pub command: Vec<u8>,
}

impl Default for Rules {
    fn default() -> Rules {
        Rules {
            archives: 10,
            size: 99_999,
            tolerance: 2000,
            total: 0,
            retry: Duration::from_secs(2),
            every: Duration::ZERO,
            processor: None,
            drop: false,
        }
    }
}

/// The bounds that `s` is brought within.
const SIZES: std::ops::RangeInclusive<u64> = 4096..=268_435_455;

/// The most directories a script may have: their positions are remembered in one page ([`super::spool`]).
pub const MOST_DIRS: usize = 64;

/// Everything that is carried from directive to directive.
struct Reader {
    script: Script,
    rules: Rules,
    dress: Dress,
    label: Label,
    rate: Option<Rate>,
    alert: usize,
    status: usize,
}

impl Script {
    /// Reads a script. `format` is how labelled lines look unless it says otherwise.
    pub fn parse(words: &[OsString], format: Format) -> Result<Script> {
        let mut reader = Reader {
            script: Script::default(),
            rules: Rules::default(),
            dress: Dress::default(),
            label: Label { format, ..Label::default() },
            rate: None,
            alert: 200,
            status: 1001,
        };
        for word in words {
            reader.directive(word)?;
        }
        if !reader.script.steps.iter().any(|step| matches!(step, Step::Act(_))) {
            return Err(Error::usage("the script has no action (1, 2, =FILE or a directory)"));
        }
        Ok(reader.script)
    }

    /// If all that it does is to give all lines to one directory, unlabelled: which, and what is put before.
    pub fn single_dir(&self) -> Option<(usize, &Dress)> {
        match &self.steps[..] {
            [Step::Act(Act { to: To::Dir(dir), dress, rate: None })] if dress.label.is_none() => {
                Some((*dir, dress))
            }
            _ => None,
        }
    }
}

impl Reader {
    fn directive(&mut self, word: &OsStr) -> Result<()> {
        let bytes = word.as_bytes();
        let (&letter, rest) = bytes.split_first().ok_or_else(|| bad(word))?;
        self.script.trailing = true;
        match letter {
            b'+' | b'-' => {
                let matcher = Matcher::new(rest)
                    .map_err(|why| Error::usage(format!("invalid regular expression {word:?}: {why}")))?;
                self.script.steps.push(Step::Select(letter == b'+', matcher));
            }
            b'f' if rest.is_empty() => self.script.steps.push(Step::Rest),
            b't' if rest.is_empty() => self.dress.tai = true,
            b'T' if rest.is_empty() => self.dress.iso = true,
            b'p' if rest.is_empty() => self.dress.prefix.clear(),
            b'!' | b'?' => {
                let processor = Processor { shell: letter == b'?', command: rest.to_vec() };
                self.rules.processor = (!rest.is_empty()).then_some(processor);
            }
            b'1' if rest.is_empty() => self.act(To::Out),
            b'2' if rest.is_empty() => self.act(To::Alert(self.alert)),
            b'=' if !rest.is_empty() => self.act(To::Status(OsStr::from_bytes(rest).to_owned(), self.status)),
            b'/' | b'.' => self.dir(word)?,
            _ => match bytes.iter().position(|&b| b == b'=') {
                Some(at) if self.named(&bytes[..at], &bytes[at + 1..]).is_some() => {}
                _ if letter == b'p' => self.dress.prefix = [rest, b" "].concat(),
                _ => self.number(letter, rest).ok_or_else(|| bad(word))?,
            },
        }
        Ok(())
    }

    /// A directive of ours.
    fn named(&mut self, name: &[u8], value: &[u8]) -> Option<()> {
        let text = String::from_utf8_lossy(value).into_owned();
        let some = Some(text.clone()).filter(|t| !t.is_empty());
        match name {
            b"label" if !text.is_empty() => self.label.service = text,
            b"stream" => self.label.stream = some,
            b"instance" => self.label.instance = some,
            b"format" => self.label.format = Format::by_name(value)?,
            b"rate" if value == b"0" => self.rate = None,
            b"rate" => {
                let (lines, window) = text.split_once('/')?;
                let (lines, window) = (number(lines.as_bytes())?, parse_duration(window)?);
                self.rate = Some(Rate { lines, window }).filter(|_| !window.is_zero() && lines > 0);
                self.rate?;
            }
            b"full" => self.rules.drop = [("block", false), ("drop", true)].iter().find(|c| c.0 == text)?.1,
            _ => return None,
        }
        Some(())
    }

    /// A letter and a number.
    fn number(&mut self, letter: u8, digits: &[u8]) -> Option<()> {
        let n = number(digits)?;
        match letter {
            b'n' => self.rules.archives = n,
            b's' => self.rules.size = n.clamp(*SIZES.start(), *SIZES.end()),
            b'S' => self.rules.total = n,
            b'l' => self.rules.tolerance = n,
            b'r' => self.rules.retry = Duration::from_millis(n),
            b'R' => self.rules.every = Duration::from_secs(n),
            b'E' => self.alert = n as usize,
            b'^' => self.status = n as usize,
            _ => return None,
        }
        Some(())
    }

    fn dir(&mut self, path: &OsStr) -> Result<()> {
        let Rules { size, tolerance, .. } = self.rules;
        if tolerance > size / 2 {
            return Err(Error::usage(format!("l{tolerance} is more than half of s{size}, for {path:?}")));
        }
        let number = self.script.dirs.len();
        if number == MOST_DIRS {
            return Err(Error::usage(format!("more than {MOST_DIRS} directories")));
        }
        self.script.dirs.push(DirSpec { path: path.to_owned(), rules: self.rules.clone() });
        self.act(To::Dir(number));
        Ok(())
    }

    fn act(&mut self, to: To) {
        let label = Some(self.label.clone()).filter(|label| !label.service.is_empty());
        let dress = Dress { label, ..self.dress.clone() };
        self.script.steps.push(Step::Act(Act { to, dress, rate: self.rate }));
        self.script.trailing = false;
        (self.dress.tai, self.dress.iso) = (false, false);
    }
}

fn bad(word: &OsStr) -> Error {
    Error::usage(format!("unrecognized directive {word:?}"))
}

/// Decimal digits and nothing else; at most what 32 bits hold, as s6 has it.
fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse::<u32>().ok().map(u64::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(script: &str) -> Result<Script> {
        Script::parse(&script.split(' ').map(OsString::from).collect::<Vec<_>>(), Format::Text)
    }

    fn acts(script: &Script) -> Vec<&Act> {
        script.steps.iter().filter_map(|s| if let Step::Act(act) = s { Some(act) } else { None }).collect()
    }

    #[test]
    fn control_directives_are_carried_on_and_stamps_are_not() {
        let script = parse("n5 s5000 l100 t pweb ./a T !gzip R60 full=drop /b p 1").unwrap();
        let [a, b] = &script.dirs[..] else { panic!() };
        assert_eq!((a.rules.archives, a.rules.size, a.rules.tolerance), (5, 5000, 100));
        assert_eq!((a.rules.processor.is_some(), a.rules.drop), (false, false));
        assert_eq!((b.rules.archives, b.rules.every, b.rules.drop), (5, Duration::from_secs(60), true));
        assert_eq!(b.rules.processor.as_ref().unwrap().command, b"gzip");
        let acts = acts(&script);
        assert_eq!((acts[0].dress.tai, acts[0].dress.iso), (true, false));
        assert_eq!((acts[1].dress.tai, acts[1].dress.iso), (false, true));
        assert_eq!(acts[1].dress.prefix, b"web ");
        assert_eq!(acts[2].dress, Dress::default());
        assert!(!script.trailing);
        assert!(parse("1 t").unwrap().trailing);
    }

    #[test]
    fn our_directives() {
        let script = parse("label=web stream=stderr rate=10/1s 1 rate=0 format=json 1").unwrap();
        let acts = acts(&script);
        let label = acts[0].dress.label.as_ref().unwrap();
        assert_eq!((&*label.service, label.stream.as_deref()), ("web", Some("stderr")));
        assert_eq!(acts[0].rate, Some(Rate { lines: 10, window: Duration::from_secs(1) }));
        assert_eq!(acts[1].rate, None);
        assert_eq!(acts[1].dress.label.as_ref().unwrap().format, Format::Json);
    }

    #[test]
    fn what_s6_refuses_is_refused() {
        // Each of these makes Debian's s6-log exit with 100.
        for bad in [
            "e",
            "d",
            "x",
            "**",
            "e5 1",
            "tfoo 1",
            "n 1",
            "n5x 1",
            "s 1",
            "= 1",
            "f1 1",
            "1x",
            "2x",
            "+[ 1",
            "E 1",
            "^ 1",
            "r 1",
            "l60000 /a",
            "",
            "t",
            "n10",
            "foo=bar 1",
            "rate=x 1",
            "format=x 1",
            "label= 1",
        ] {
            assert_eq!(parse(bad).err().map(|e| e.code()), Some(100), "{bad}");
        }
        for good in ["1", "p 1", "+ 1", "- 1", "l40000 1", "s1 .", "?x .", "! .", "px=y 1", "=f"] {
            assert!(parse(good).is_ok(), "{good}");
        }
        assert_eq!(parse("s1 .").unwrap().dirs[0].rules.size, 4096);
    }

    proptest! {
        /// Whatever the words: a script or an error, and what is one has an action.
        #[test]
        fn any_words(words in prop::collection::vec("[-+!?=./tTpfnsSlrRE^12a-z0-9\\[\\]()*{}|\\\\ ]{0,8}|.{0,4}", 0..8)) {
            let words: Vec<OsString> = words.into_iter().map(OsString::from).collect();
            match Script::parse(&words, Format::Json) {
                Ok(script) => prop_assert!(!acts(&script).is_empty()),
                Err(e) => prop_assert_eq!(e.code(), 100),
            }
        }
    }
}
