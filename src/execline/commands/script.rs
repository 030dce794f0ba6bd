//! execlineb: reads a script and becomes what it says.

use super::positional::pushed;
use crate::chain::*;
use crate::execline;
use crate::execline::substitute::{Key, substitute};
use crate::sys::{env, fd};

/// What becomes of the arguments of a script.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Arguments {
    /// `-p`: variables.
    Variables,
    /// The same; those of the script around are set aside.
    Pushed,
    /// `-P`: nothing.
    Ignored,
    /// `-S`: they are substituted, `$1` to this number always.
    Substituted(u32),
    /// `-s`: and these are left out of `$@`.
    Shifted(u32),
}

/// `execlineb`
pub fn execlineb(args: &mut Args) -> Result<Step> {
    let (mut manner, mut strict, mut text) = (Arguments::Pushed, None, None);
    loop {
        match args.option("pPqwWec:S:s:")? {
            b'p' => manner = Arguments::Variables,
            b'P' => manner = Arguments::Ignored,
            b'q' => strict = Some(0),
            b'w' => strict = Some(1),
            b'W' => strict = Some(2),
            b'c' => text = Some(args.value()),
            b'S' => manner = Arguments::Substituted(args.value_number()?),
            b's' => manner = Arguments::Shifted(args.value_number()?),
            0 => break,
            // -e: once asked for what is always so.
            _ => {}
        }
    }
    let (script, name, place) = match text {
        Some(text) => (text, args.name(), String::new()),
        None => {
            let file = args.word()?;
            (read(file)?, file, ["in file ", shown(file), ", "].concat())
        }
    };
    let argv = execline::parse(script).map_err(|error| usage(&[&place, &error.to_string()]))?;
    let argv: Vec<Word> = argv.into_iter().map(word).collect();
    if argv.is_empty() {
        return Ok(Step::Exit(0));
    }
    let mut changes = Vec::new();
    let strict = strict_from_now_on(strict, &mut changes);
    with_arguments(argv, manner, strict, name, args.rest(), changes)
}

fn read(file: Word) -> Result<Word> {
    let broken = |errno| unable_to("read", file, errno);
    let number = fd::open(&c_string(file), CLOSE_ON_EXEC).map_err(broken)?;
    let script = fd::read_all(number).map(word).map_err(broken);
    fd::close(number);
    script
}

/// `open(2)`'s flags: for reading, not inherited.
const CLOSE_ON_EXEC: i32 = 0o2000000;

/// What EXECLINE_STRICT is for us and, by these changes, for all that follow. `None`: nothing says so.
fn strict_from_now_on(option: Option<u32>, changes: &mut Vec<Word>) -> Option<u32> {
    const NAME: Word = b"EXECLINE_STRICT";
    match (option, env::value(NAME)) {
        (Some(0), _) => changes.push(NAME),
        (Some(strict), _) => changes.push(setting(NAME, decimal(strict))),
        (None, Some(value)) => {
            let strict = number(value);
            if strict.is_none() {
                warn(&["invalid EXECLINE_STRICT value, unsetting it"]);
                changes.push(NAME);
            }
            return strict;
        }
        (None, None) => {}
    }
    option
}

/// Fewer arguments than a script expects: an error if it is strict, worth a warning if it is half so.
pub(super) fn enough_arguments(count: u32, least: u32, strict: u32) -> Result<()> {
    if count >= least || strict == 0 {
        return Ok(());
    }
    let (least, count) = (decimal(least), decimal(count));
    let text = ["too few arguments: expecting at least ", shown(least), " but got ", shown(count)];
    if strict > 1 {
        return Err(usage(&text));
    }
    warn(&text);
    Ok(())
}

fn with_arguments(
    argv: Vec<Word>,
    manner: Arguments,
    strict: Option<u32>,
    name: Word,
    arguments: Vec<Word>,
    mut changes: Vec<Word>,
) -> Result<Step> {
    let count = arguments.len() as u32;
    match manner {
        Arguments::Ignored => next_with(argv, changes),
        Arguments::Substituted(least) | Arguments::Shifted(least) => {
            // Nobody having said anything counts as having asked for warnings.
            enough_arguments(count, least, strict.unwrap_or(1))?;
            let shifted = if manner == Arguments::Shifted(least) { least as usize } else { 0 };
            let keys = keys(arguments, least, shifted, name);
            next_with(substitute(&argv, &keys), changes)
        }
        Arguments::Variables | Arguments::Pushed => {
            let mut all = Vec::new();
            if manner == Arguments::Pushed {
                all.push(EVERYTHING);
                all.extend(pushed(true, false)?);
            }
            all.append(&mut changes);
            all.push(setting(b"#", decimal(count)));
            all.push(setting(b"0", name));
            for (i, word) in arguments.iter().enumerate() {
                all.push(setting(decimal(i as i64 + 1), word));
            }
            next_with(argv, all)
        }
    }
}

/// `#`, `0`, `@` and the numbers up to the last argument, and to `least`.
fn keys(arguments: Vec<Word>, least: u32, shifted: usize, name: Word) -> Vec<Key<'static>> {
    let one = |name: Word, value: Word| Key { name, values: vec![value] };
    let all = arguments.get(shifted..).unwrap_or_default().to_vec();
    let mut keys =
        vec![one(b"#", decimal(arguments.len() as i64)), one(b"0", name), Key { name: b"@", values: all }];
    for i in 0..arguments.len().max(least as usize) {
        keys.push(one(decimal(i as i64 + 1), arguments.get(i).copied().unwrap_or_default()));
    }
    keys
}
