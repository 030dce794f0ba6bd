//! Positional parameters in the environment, `#`, `0`, `1` …: runblock, shift, elgetopt, dollarat; and setting
//! them aside while a script inside of another has its own.

use crate::chain::*;
use crate::sys::env;

/// Whether a variable is one of those that are set aside; the length of the prefix that says so.
fn is_kept(string: &[u8], arguments: bool, options: bool) -> Option<usize> {
    match string {
        [b'0'..=b'9' | b'#', ..] if arguments => Some(1),
        _ if options && string.starts_with(b"ELGETOPT_") => Some(9),
        _ => None,
    }
}

/// A variable in parts: its name, how deep it was set aside, its value with the `=`. `None`: a number that is
/// none stands after the colon.
type Parts<'s> = Option<(&'s [u8], u32, &'s [u8])>;

fn parts(string: &[u8], prefix: usize) -> Result<Parts<'_>> {
    let after = |byte: u8| string[prefix..].iter().position(|b| *b == byte).map(|at| at + prefix);
    let equal =
        after(b'=').ok_or_else(|| failed(111, &["unable to update environment: Invalid argument"]))?;
    let value = &string[equal..];
    Ok(match after(b':').filter(|colon| *colon < equal) {
        None => Some((&string[..equal], 0, value)),
        Some(colon) => number(&string[colon + 1..equal]).map(|depth| (&string[..colon], depth, value)),
    })
}

fn at_depth(name: &[u8], depth: u32, value: &[u8]) -> Word {
    if depth == 0 { cat(&[name, value]) } else { cat(&[name, b":", decimal(depth), value]) }
}

/// The environment with the parameters set aside: `1` is `1:1`, which was `1:2` …
pub(super) fn pushed(arguments: bool, options: bool) -> Result<Vec<Word>> {
    moved(arguments, options, |depth| Some(depth + 1))
}

/// The environment with those that were set aside back in place, and the present ones gone.
pub(super) fn popped(arguments: bool, options: bool) -> Result<Vec<Word>> {
    moved(arguments, options, |depth| depth.checked_sub(1))
}

fn moved(arguments: bool, options: bool, depth: impl Fn(u32) -> Option<u32>) -> Result<Vec<Word>> {
    let mut all = Vec::new();
    for string in env::strings().map(|string| string.to_bytes()) {
        let Some(prefix) = is_kept(string, arguments, options) else {
            all.push(string);
            continue;
        };
        match parts(string, prefix)? {
            None => all.push(string),
            Some((name, old, value)) => all.extend(depth(old).map(|new| at_depth(name, new, value))),
        }
    }
    Ok(all)
}

/// Reads blocks among the positional parameters.
struct Blocks {
    /// The number of the parameter read last.
    at: u32,
    count: u32,
    strict: bool,
}

impl Blocks {
    /// The next parameter, `None` at the end of a block. `words`: how many of it were read.
    fn word(&mut self, block: u32, words: usize) -> Result<Option<Word>> {
        self.at += 1;
        if self.at > self.count {
            return Err(usage(&["too few arguments"]));
        }
        let word = variable(decimal(self.at))?;
        if word.is_empty() {
            return Ok(None);
        }
        if self.strict && word[0] != b' ' {
            complain_of_unquoted(word, block, words)?;
        }
        Ok(Some(word))
    }

    fn block(&mut self, block: u32) -> Result<Vec<Word>> {
        let mut words = Vec::new();
        while let Some(word) = self.word(block, words.len())? {
            words.push(word.strip_prefix(b" ").unwrap_or(word));
        }
        Ok(words)
    }
}

/// `runblock`
pub fn runblock(args: &mut Args) -> Result<Step> {
    let (mut keep, mut remainder, mut skipped) = (false, false, 0);
    loop {
        match args.option("Prn:")? {
            b'P' => keep = true,
            b'r' => remainder = true,
            b'n' => skipped = args.value_number()?,
            _ => break,
        }
    }
    let wanted = args.number()?;
    if wanted == 0 && !remainder {
        return Err(args.misused());
    }
    let mut blocks = Blocks { at: skipped, count: variable_number(b"#")?, strict: strictness() > 0 };
    for i in 1..wanted + u32::from(remainder) {
        blocks.block(i)?;
    }
    let mut argv = args.rest();
    if remainder {
        if blocks.at >= blocks.count {
            return Ok(Step::Exit(0));
        }
        for i in blocks.at + 1..=blocks.count {
            argv.push(variable(decimal(i))?);
        }
    } else {
        argv.extend(blocks.block(wanted)?);
    }
    if keep {
        return next(argv);
    }
    let mut changes = vec![EVERYTHING];
    changes.extend(popped(true, false)?);
    next_with(argv, changes)
}

/// `shift`
pub fn shift(args: &mut Args) -> Result<Step> {
    let (mut words, mut blocks) = (None, None);
    loop {
        match args.option("n:b:")? {
            b'n' => words = Some(args.value_number()?),
            b'b' => blocks = Some(args.value_number()?),
            _ => break,
        }
    }
    args.at_least(1)?;
    let words = words.unwrap_or(u32::from(blocks.is_none()));
    let count = variable_number(b"#")?;
    if words > count && strictness() > 0 {
        let text = "unable to shift that many arguments";
        if strictness() > 1 {
            return Err(usage(&[text]));
        }
        warn(&[text]);
    }
    let mut reader = Blocks { at: words.min(count), count, strict: strictness() > 0 };
    for i in 0..blocks.unwrap_or(0) {
        reader.block(i)?;
    }
    let gone = reader.at;
    let mut changes = vec![setting(b"#", decimal(count - gone))];
    for i in 1..=count {
        let name = decimal(i);
        changes.push(if i <= count - gone { setting(name, variable(decimal(i + gone))?) } else { name });
    }
    next_with(args.rest(), changes)
}

/// `elgetopt`
pub fn elgetopt(args: &mut Args) -> Result<Step> {
    let mut default: Word = b"1";
    while args.option("D:")? != 0 {
        default = args.value();
    }
    args.at_least(2)?;
    let letters = args.word()?;
    let count = variable_number(b"#")?;
    variable(b"0")?;
    let mut words = Vec::new();
    for i in 1..=count {
        words.push(variable(decimal(i))?);
    }
    let mut changes = vec![EVERYTHING];
    changes.extend(pushed(false, true)?);
    let letters = shown(letters);
    let mut options = Args::new(words, "");
    loop {
        match options.option(letters) {
            Ok(0) => break,
            Ok(letter) => {
                let takes_value =
                    letters.split_once(char::from(letter)).is_some_and(|(_, r)| r.starts_with(':'));
                let value = if takes_value { options.value() } else { default };
                changes.push(cat(&[b"ELGETOPT_", &[letter], b"=", value]));
            }
            Err(_) => return Err(failed(1, &["illegal option, or one that requires an argument"])),
        }
    }
    let rest = options.rest();
    for i in 1..=count {
        let name = decimal(i);
        changes.push(match rest.get(i as usize - 1) {
            Some(word) => setting(name, word),
            None => name,
        });
    }
    changes.push(setting(b"#", decimal(rest.len() as i64)));
    next_with(args.rest(), changes)
}

/// `dollarat`
pub fn dollarat(args: &mut Args) -> Result<Step> {
    let (mut delimiter, mut zero, mut last) = (Some(b'\n'), false, true);
    loop {
        match args.option("nd:0")? {
            b'n' => last = false,
            b'0' => zero = true,
            b'd' => (delimiter, zero) = (args.value().first().copied(), false),
            _ => break,
        }
    }
    let delimiter = if zero { Some(0) } else { delimiter };
    let count = variable_number(b"#")?;
    let mut out = Vec::new();
    for i in 1..=count {
        let word = variable(decimal(i))?;
        match delimiter {
            None => out.extend_from_slice(netstring(word)),
            Some(delimiter) => {
                out.extend_from_slice(word);
                out.extend((last || i < count).then_some(delimiter));
            }
        }
    }
    print_and_exit(&out)
}
