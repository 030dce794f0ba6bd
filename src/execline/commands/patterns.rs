//! eltest (and `s6-test`), and case.

use crate::chain::*;
use crate::glob;
use crate::sys::{env, fd, regex};
use rustix::fs::{Access, FileType, Stat, access, lstat, stat};

/// `eltest`: is the condition true?
pub fn eltest(args: &mut Args) -> Result<Step> {
    let words = args.rest();
    if words.is_empty() {
        return Ok(Step::Exit(1));
    }
    let mut test = Test { words: &words, at: 0 };
    let truth = test.either(true)?;
    match test.peek() {
        None => Ok(Step::Exit(u8::from(!truth))),
        Some(_) => Err(test.error()),
    }
}

const BINARY: &[&[u8]] = &[
    b"=", b"!=", b"<", b"<=", b">", b">=", b"-eq", b"-ne", b"-gt", b"-ge", b"-lt", b"-le", b"-nt", b"-ot",
    b"-ef", b"=~",
];

/// Letters of the operators that have one operand.
const UNARY: &[u8] = b"nzfhLekbcdgprstuwxOUGSNv";

fn is_unary(word: &[u8]) -> bool {
    word.len() == 2 && word[0] == b'-' && UNARY.contains(&word[1])
}

fn is_operator(word: &[u8]) -> bool {
    is_unary(word) || BINARY.contains(&word) || matches!(word, b"-a" | b"-o" | b"!" | b"(" | b")")
}

/// A condition, read from left to right. What a word means does not depend on where it stands: an operand
/// that looks like an operator needs a backslash in front.
///
/// The functions take whether anybody wants to know: the right side of `-a` and `-o` may not matter, and is
/// read but not looked into then.
struct Test<'w> {
    words: &'w [Word],
    at: usize,
}

impl<'w> Test<'w> {
    fn error(&self) -> crate::diag::Error {
        usage(&["parse error at argument ", shown(decimal(self.at as i64 + 1))])
    }

    fn peek(&self) -> Option<&'w [u8]> {
        self.words.get(self.at).copied()
    }

    fn take(&mut self, word: &[u8]) -> bool {
        let is_it = self.peek() == Some(word);
        self.at += usize::from(is_it);
        is_it
    }

    fn either(&mut self, wanted: bool) -> Result<bool> {
        let mut truth = self.both(wanted)?;
        while self.take(b"-o") {
            truth |= self.both(wanted && !truth)?;
        }
        Ok(truth)
    }

    fn both(&mut self, wanted: bool) -> Result<bool> {
        let mut truth = self.one(wanted)?;
        while self.take(b"-a") {
            truth &= self.one(wanted && truth)?;
        }
        Ok(truth)
    }

    fn one(&mut self, wanted: bool) -> Result<bool> {
        if self.take(b"!") {
            return Ok(!self.one(wanted)?);
        }
        if self.take(b"(") {
            let truth = self.either(wanted)?;
            return if self.take(b")") { Ok(truth) } else { Err(self.error()) };
        }
        if let Some(operator) = self.peek().filter(|word| is_unary(word)) {
            self.at += 1;
            let operand = self.operand()?;
            return if wanted { unary(operator[1], operand) } else { Ok(false) };
        }
        let left = self.operand()?;
        let Some(operator) = self.peek().filter(|word| BINARY.contains(word)) else {
            return Ok(!left.is_empty());
        };
        self.at += 1;
        let right = self.operand()?;
        if wanted { binary(operator, left, right) } else { Ok(false) }
    }

    fn operand(&mut self) -> Result<&'w [u8]> {
        match self.peek().filter(|word| !is_operator(word)) {
            Some(word) => {
                self.at += 1;
                Ok(word.strip_prefix(b"\\").unwrap_or(word))
            }
            None => Err(self.error()),
        }
    }
}

fn unary(operator: u8, operand: &[u8]) -> Result<bool> {
    let path = c_string(operand);
    let can = |way| access(&*path, way).is_ok();
    let is = |kind: FileType| move |found: &Stat| FileType::from_raw_mode(found.st_mode) == kind;
    let has = |bit: u32| move |found: &Stat| found.st_mode & bit != 0;
    let about = |question: &dyn Fn(&Stat) -> bool| stat(&*path).is_ok_and(|found| question(&found));
    Ok(match operator {
        b'n' => !operand.is_empty(),
        b'z' => operand.is_empty(),
        b'v' => env::value(operand).is_some(),
        b't' => fd::is_terminal(number(operand).ok_or_else(|| not_a_number("-t"))? as i32),
        b'e' => can(Access::EXISTS),
        b'r' => can(Access::READ_OK),
        b'w' => can(Access::WRITE_OK),
        b'x' => can(Access::EXEC_OK),
        b'h' | b'L' => lstat(&*path).is_ok_and(|found| is(FileType::Symlink)(&found)),
        b'f' => about(&is(FileType::RegularFile)),
        b'b' => about(&is(FileType::BlockDevice)),
        b'c' => about(&is(FileType::CharacterDevice)),
        b'd' => about(&is(FileType::Directory)),
        b'p' => about(&is(FileType::Fifo)),
        b'S' => about(&is(FileType::Socket)),
        b'g' => about(&has(0o2000)),
        b'u' => about(&has(0o4000)),
        b'k' => about(&has(0o1000)),
        b's' => about(&|found| found.st_size > 0),
        b'N' => about(&|found| modified(found) > (found.st_atime, found.st_atime_nsec)),
        b'G' => about(&|found| found.st_gid == rustix::process::getegid().as_raw()),
        _ => about(&|found| found.st_uid == rustix::process::geteuid().as_raw()),
    })
}

fn modified(found: &Stat) -> (i64, u64) {
    (found.st_mtime, found.st_mtime_nsec)
}

fn binary(operator: &[u8], left: &[u8], right: &[u8]) -> Result<bool> {
    let both = || [left, right].map(|path| stat(&*c_string(path)).ok());
    let integers = || match (integer(left), integer(right)) {
        (Some(left), Some(right)) => Ok(left.cmp(&right)),
        _ => Err(not_a_number(shown(operator))),
    };
    Ok(match operator {
        b"=" => left == right,
        b"!=" => left != right,
        b"<" => left < right,
        b"<=" => left <= right,
        b">" => left > right,
        b">=" => left >= right,
        b"-eq" => integers()?.is_eq(),
        b"-ne" => integers()?.is_ne(),
        b"-gt" => integers()?.is_gt(),
        b"-ge" => integers()?.is_ge(),
        b"-lt" => integers()?.is_lt(),
        b"-le" => integers()?.is_le(),
        b"-nt" => match both() {
            [Some(left), Some(right)] => modified(&left) > modified(&right),
            [left, _] => left.is_some(),
        },
        b"-ot" => match both() {
            [Some(left), Some(right)] => modified(&left) < modified(&right),
            [left, _] => left.is_none(),
        },
        b"-ef" => match both() {
            [Some(left), Some(right)] => (left.st_dev, left.st_ino) == (right.st_dev, right.st_ino),
            [left, _] => left.is_some(),
        },
        _ => {
            let regex = regex::Regex::extended(&c_string(right)).map_err(|why| no_regex(right, why))?;
            regex.matches(&c_string(left))
        }
    })
}

fn not_a_number(operator: &str) -> crate::diag::Error {
    usage(&[operator, " requires integer arguments"])
}

fn no_regex(text: &[u8], why: &str) -> crate::diag::Error {
    usage(&["unable to compile ", shown(text), " into a regular expression: ", why])
}

/// The number that a text begins with.
fn integer(text: &[u8]) -> Option<i64> {
    let (sign, digits) = match text {
        [b'-', rest @ ..] => (-1, rest),
        [b'+', rest @ ..] => (1, rest),
        rest => (1, rest),
    };
    let digits: &[u8] = &digits[..digits.iter().take_while(|b| b.is_ascii_digit()).count()];
    let number = digits.iter().fold(0i64, |n, b| n.saturating_mul(10).saturating_add((b - b'0').into()));
    (!digits.is_empty()).then_some(sign * number)
}

/// `case`
pub fn case(args: &mut Args) -> Result<Step> {
    let (mut shell, mut extended, mut groups, mut ignore_case) = (false, true, false, false);
    loop {
        match args.option("sSeEnNi")? {
            0 => break,
            letter @ (b's' | b'S') => shell = letter == b's',
            letter @ (b'e' | b'E') => extended = letter == b'E',
            letter @ (b'n' | b'N') => groups = letter == b'N',
            _ => ignore_case = true,
        }
    }
    let value = args.word()?;
    let mut cases = Args::new(args.block("case ")?, "case: malformed case block");
    while cases.left() > 0 {
        let pattern = cases.word()?;
        cases.at_least(1)?;
        let block = cases.block("regex ")?;
        let c_value = c_string(value);
        if shell {
            let how = glob::Matching { no_escape: !extended, paths: groups, dots: ignore_case };
            if glob::matches(pattern, value, how) {
                return next(block);
            }
            continue;
        }
        let kind = regex::Kind { basic: !extended, ignore_case, groups };
        let whole = c_string(cat(&[b"^", pattern, b"$"]));
        let regex = regex::Regex::new(&whole, kind).map_err(|why| no_regex(pattern, why))?;
        if !groups {
            if regex.matches(&c_value) {
                return next(block);
            }
        } else if let Some(found) = regex.groups(&c_value) {
            let mut changes = vec![setting(b"#", decimal(found.len() as i64 - 1)), setting(b"0", pattern)];
            let parts = found.iter().enumerate().skip(1);
            changes.extend(parts.map(|(i, part)| setting(decimal(i as i64), part)));
            return next_with(block, changes);
        }
    }
    next(args.rest())
}
