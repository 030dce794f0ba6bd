//! The commands that define keys and substitute them in what follows: define, importas, elglob,
//! elgetpositionals, multidefine; and multisubstitute, which does several at once.

use crate::chain::*;
use crate::execline::substitute::{Key, Transform, substitute};
use crate::glob;
use crate::sys::env;

/// What has been defined until now.
#[derive(Default)]
struct Defined {
    keys: Vec<Key<'static>>,
    /// Variables to remove.
    changes: Vec<Word>,
}

impl Defined {
    fn add(&mut self, name: Word, values: Vec<Word>) -> Result<()> {
        if name.is_empty() || self.keys.iter().any(|key| key.name == name) {
            return Err(failed(111, &["bad substitution key"]));
        }
        self.keys.push(Key { name, values });
        Ok(())
    }

    fn add_text(&mut self, name: Word, text: Word, transform: &Transform) -> Result<()> {
        let values = transform.values(text).ok_or_else(no_netstrings)?;
        self.add(name, values)
    }

    fn apply(self, argv: Vec<Word>) -> Result<Step> {
        next_with(substitute(&argv, &self.keys), self.changes)
    }
}

fn no_netstrings() -> crate::diag::Error {
    failed(111, &["unable to split the value: it does not consist of netstrings"])
}

/// A command that defines keys.
type Define = fn(&mut Args, &mut Defined) -> Result<()>;

/// All of them, as multisubstitute knows them.
const ALL: [(&[u8], Define); 5] = [
    (b"define", define_key),
    (b"importas", import_key),
    (b"elglob", glob_key),
    (b"elgetpositionals", positional_keys),
    (b"multidefine", define_keys),
];

fn alone(args: &mut Args, define: Define) -> Result<Step> {
    let mut defined = Defined::default();
    define(args, &mut defined)?;
    defined.apply(args.rest())
}

/// `define`
pub fn define(args: &mut Args) -> Result<Step> {
    alone(args, define_key)
}

fn define_key(args: &mut Args, defined: &mut Defined) -> Result<()> {
    let mut transform = Transform::default();
    loop {
        match args.option("NnsCcd:")? {
            0 => break,
            letter => drop(transform.take(letter, args)),
        }
    }
    let (name, value) = (args.word()?, args.word()?);
    defined.add_text(name, value, &transform)
}

/// `importas`
pub fn importas(args: &mut Args) -> Result<Step> {
    alone(args, import_key)
}

fn import_key(args: &mut Args, defined: &mut Defined) -> Result<()> {
    let mut transform = Transform::default();
    let (mut same, mut insist, mut unexport, mut default) = (false, false, false, None);
    loop {
        match args.option("SiuD:NnsCcd:")? {
            b'S' => same = true,
            b'i' => insist = true,
            b'u' => unexport = true,
            b'D' => default = Some(args.value()),
            0 => break,
            letter => drop(transform.take(letter, args)),
        }
    }
    let key = args.word()?;
    let variable = if same { key } else { args.word()? };
    let value = env::value(variable);
    match value {
        None if insist => return Err(usage(&[shown(variable), " is not set"])),
        Some(_) if unexport => defined.changes.push(variable),
        _ => {}
    }
    match value.or(default) {
        Some(text) => defined.add_text(key, text, &transform),
        None => defined.add(key, Vec::new()),
    }
}

/// `elglob`
pub fn elglob(args: &mut Args) -> Result<Step> {
    alone(args, glob_key)
}

fn glob_key(args: &mut Args, defined: &mut Defined) -> Result<()> {
    let mut options = glob::Options::default();
    let (mut chomp, mut delimiter) = (false, None);
    loop {
        match args.option("vwsme0nd:")? {
            b'v' => options.verbose = true,
            b'w' => options.strict = true,
            b's' => options.sorted = true,
            b'm' => options.mark = true,
            b'e' => options.no_escape = true,
            b'0' => options.nothing = true,
            b'n' => chomp = true,
            b'd' => delimiter = Some(args.value()),
            _ => break,
        }
    }
    let (name, pattern) = (args.word()?, args.word()?);
    let paths =
        glob::paths(pattern, options).ok_or_else(|| failed(111, &["unable to expand ", shown(pattern)]))?;
    let values = match delimiter {
        None => paths.into_iter().map(word).collect(),
        Some(delimiter) => vec![joined(paths, delimiter.first().copied(), chomp)],
    };
    defined.add(name, values)
}

/// The paths as one word: a delimiter after each (after the last only without `chomp`), or netstrings.
fn joined(paths: Vec<Vec<u8>>, delimiter: Option<u8>, chomp: bool) -> Word {
    let mut joined = Vec::new();
    for path in paths {
        match delimiter {
            None => joined.extend_from_slice(netstring(&path)),
            Some(delimiter) => {
                joined.extend(path);
                joined.push(delimiter);
            }
        }
    }
    if chomp && delimiter.is_some() {
        joined.pop();
    }
    word(joined)
}

/// `elgetpositionals`
pub fn elgetpositionals(args: &mut Args) -> Result<Step> {
    alone(args, positional_keys)
}

fn positional_keys(args: &mut Args, defined: &mut Defined) -> Result<()> {
    let mut least = 0;
    while args.option("P:")? != 0 {
        least = args.value_number()?;
    }
    let bad = || failed(111, &["bad substitution key"]);
    let text = env::value(b"#").ok_or_else(bad)?;
    let count = number(text).ok_or_else(bad)?;
    super::script::enough_arguments(count, least, crate::chain::strictness())?;
    defined.add(b"#", vec![text])?;
    let mut all = Vec::new();
    for i in 0..=count.max(least) {
        let name = decimal(i);
        let value = if i <= count { env::value(name).ok_or_else(bad)? } else { b"" };
        if (1..=count).contains(&i) {
            all.push(value);
        }
        defined.add(name, vec![value])?;
    }
    defined.add(b"@", all)
}

/// `multidefine`
pub fn multidefine(args: &mut Args) -> Result<Step> {
    alone(args, define_keys)
}

fn define_keys(args: &mut Args, defined: &mut Defined) -> Result<()> {
    let mut transform = Transform { split: true, ..Transform::default() };
    let (mut none, mut all_in_last) = (false, false);
    loop {
        match args.option("0rNnCcd:")? {
            b'0' => none = true,
            b'r' => all_in_last = true,
            0 => break,
            letter => drop(transform.take(letter, args)),
        }
    }
    args.at_least(2)?;
    let text = args.word()?;
    let names = args.full_block()?;
    let values = transform.values(text).ok_or_else(no_netstrings)?;
    // With -r the last key has what is left over. (If places without a name follow it, these do not count.)
    let last = names.iter().rposition(|name| !name.is_empty());
    let surplus = if all_in_last { values.len().saturating_sub(names.len()) } else { 0 };
    for (i, name) in names.into_iter().enumerate() {
        let end = if Some(i) == last { i + 1 + surplus } else { i + 1 };
        let own = match values.get(i..end) {
            Some(own) => own.to_vec(),
            None if none => Vec::new(),
            None => vec![&b""[..]],
        };
        // A place without a name is passed over.
        if !name.is_empty() {
            defined.add(name, own)?;
        }
    }
    Ok(())
}

/// `multisubstitute`
pub fn multisubstitute(args: &mut Args) -> Result<Step> {
    let mut directives = Args::new(args.block("")?, "multisubstitute: wrong directive");
    let argv = args.rest();
    if argv.is_empty() {
        return Err(args.misused());
    }
    let mut defined = Defined::default();
    while directives.left() > 0 {
        let name = directives.word()?;
        let Some((_, define)) = ALL.iter().find(|(known, _)| *known == name) else {
            return Err(usage(&["syntax error: unrecognized directive ", shown(name)]));
        };
        define(&mut directives, &mut defined)
            .map_err(|error| usage(&["directive ", shown(name), ": ", error.message()]))?;
    }
    defined.apply(argv)
}
