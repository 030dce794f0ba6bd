//! s6-echo, s6-cat, s6-true, s6-false, s6-ls, s6-sort, s6-basename, s6-dirname, s6-linkname, s6-printenv,
//! s6-format-filter, s6-hostname.

use crate::chain::{Args, Step, Word, c_string, cat, print, print_and_exit, unable};
use crate::diag::{Error, Result, code};
use crate::ordered::sorted;
use crate::sys::{Errno, env, fd};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

/// `s6-true`
pub fn true_(_: &mut Args) -> Result<Step> {
    Ok(Step::Exit(0))
}

/// `s6-false`
pub fn false_(_: &mut Args) -> Result<Step> {
    Ok(Step::Exit(1))
}

/// `s6-echo`
pub fn echo(args: &mut Args) -> Result<Step> {
    let (mut newline, mut separator) = (true, vec![b' ']);
    loop {
        match args.option("ns:")? {
            b'n' => newline = false,
            b's' => separator = vec![args.value().first().copied().unwrap_or(0)],
            _ => break,
        }
    }
    let mut line = args.rest().join(&separator[..]);
    line.extend(newline.then_some(b'\n'));
    print_and_exit(&line)
}

/// Reads standard input piece by piece.
fn each_piece(mut act: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let mut buffer = [0; 8192];
    loop {
        match fd::read(0, &mut buffer).map_err(|errno| Error::unable("read standard input", errno))? {
            0 => return Ok(()),
            n => act(&buffer[..n])?,
        }
    }
}

/// Reads standard input line by line, as it comes. What is written by `act` goes out whenever there is
/// nothing more to read at once; it gets each line without its newline, and whether it had one.
pub(super) fn each_line(mut act: impl FnMut(&[u8], bool, &mut Word)) -> Result<()> {
    let (mut line, mut out) = (Word::new(), Word::new());
    each_piece(|piece| {
        for part in piece.split_inclusive(|b| *b == b'\n') {
            match part.strip_suffix(b"\n") {
                Some(end) => {
                    line.extend_from_slice(end);
                    act(&line, true, &mut out);
                    line.clear();
                }
                None => line.extend_from_slice(part),
            }
        }
        print(&std::mem::take(&mut out))
    })?;
    if !line.is_empty() {
        act(&line, false, &mut out);
    }
    print(&out)
}

/// `s6-cat`
pub fn cat_(_: &mut Args) -> Result<Step> {
    each_piece(print)?;
    Ok(Step::Exit(0))
}

/// `s6-ls`
pub fn ls(args: &mut Args) -> Result<Step> {
    let (mut end, mut all, mut dots, mut exclude) = (b'\n', false, false, None);
    loop {
        match args.option("0aAx:")? {
            b'0' => end = 0,
            b'a' => (all, dots) = (true, false),
            b'A' => (all, dots) = (true, true),
            b'x' => exclude = Some(args.value()),
            _ => break,
        }
    }
    let dir = args.word()?;
    let failed =
        |e: std::io::Error| unable("read directory", &dir, Errno::from_io_error(&e).unwrap_or(Errno::IO));
    let mut names: Vec<Word> = Vec::new();
    if dots {
        names.extend([b".".to_vec(), b"..".to_vec()]);
    }
    for entry in std::fs::read_dir(OsStr::from_bytes(&dir)).map_err(failed)? {
        names.push(entry.map_err(failed)?.file_name().as_bytes().to_vec());
    }
    let mut out = Word::new();
    for name in
        names.iter().filter(|name| all || name[0] != b'.').filter(|name| Some(*name) != exclude.as_ref())
    {
        out.extend_from_slice(name);
        out.push(end);
    }
    print_and_exit(&out)
}

/// A line as `s6-sort` compares it: what counts, and all of it.
type Line = (Word, Word);

/// `s6-sort`
pub fn sort(args: &mut Args) -> Result<Step> {
    let (mut no_blanks, mut check, mut fold, mut reverse, mut unique, mut end) =
        (false, false, false, false, false, b'\n');
    loop {
        match args.option("bcfru0")? {
            b'b' => no_blanks = true,
            b'c' => check = true,
            b'f' => fold = true,
            b'r' => reverse = true,
            b'u' => unique = true,
            b'0' => end = 0,
            _ => break,
        }
    }
    let mut text = fd::read_all(0).map_err(|errno| Error::unable("read standard input", errno))?;
    if text.last().is_some_and(|last| *last != end) {
        text.push(end);
    }
    let key = |line: &[u8]| {
        let from =
            if no_blanks { line.iter().position(|b| !b" \t".contains(b)).unwrap_or(line.len()) } else { 0 };
        let key = &line[from..];
        if fold { key.to_ascii_lowercase() } else { key.to_vec() }
    };
    let mut lines: Vec<Line> = text.split(|b| *b == end).map(|line| (key(line), line.to_vec())).collect();
    lines.pop();
    if check {
        let mut pairs = lines.windows(2);
        let bad = |a: &Line, b: &Line| if reverse { a.0 < b.0 } else { a.0 > b.0 } || unique && a.0 == b.0;
        return Ok(Step::Exit(u8::from(pairs.any(|pair| bad(&pair[0], &pair[1])))));
    }
    let mut lines = sorted(lines);
    if unique {
        lines.dedup_by(|b, a| a.0 == b.0);
    }
    if reverse {
        lines.reverse();
    }
    let mut out = Word::new();
    for (_, line) in lines {
        out.extend(line);
        out.push(end);
    }
    print_and_exit(&out)
}

/// A word, and a newline unless `-n` says no.
fn print_one(word: &[u8], newline: bool) -> Result<Step> {
    print_and_exit(&cat(&[word, if newline { b"\n" } else { b"" }]))
}

/// `-n`, the only option of several of these.
fn newline(args: &mut Args) -> Result<bool> {
    let mut newline = true;
    while args.option("n")? != 0 {
        newline = false;
    }
    args.at_least(1)?;
    Ok(newline)
}

/// `s6-basename`
pub fn basename(args: &mut Args) -> Result<Step> {
    let newline = newline(args)?;
    let path = args.word()?;
    let mut name = super::files::last_part(&path);
    if args.left() > 0 {
        let suffix = args.word()?;
        name = name.strip_suffix(&suffix[..]).filter(|name| !name.is_empty()).unwrap_or(name);
    }
    print_one(name, newline)
}

/// `s6-dirname`
pub fn dirname(args: &mut Args) -> Result<Step> {
    let newline = newline(args)?;
    let path = args.word()?;
    let trimmed = |path: &[u8]| path[..path.iter().rposition(|b| *b != b'/').map_or(0, |at| at + 1)].to_vec();
    let whole = trimmed(&path);
    let dir = match whole.iter().rposition(|b| *b == b'/') {
        None if path.starts_with(b"/") => b"/".to_vec(),
        None => b".".to_vec(),
        Some(slash) => match trimmed(&whole[..slash]) {
            dir if dir.is_empty() => b"/".to_vec(),
            dir => dir,
        },
    };
    print_one(&dir, newline)
}

/// `s6-linkname`
pub fn linkname(args: &mut Args) -> Result<Step> {
    let (mut newline, mut whole) = (true, false);
    loop {
        match args.option("nf")? {
            b'n' => newline = false,
            b'f' => whole = true,
            _ => break,
        }
    }
    let path = args.word()?;
    let name = OsStr::from_bytes(&path);
    let target = if whole { std::fs::canonicalize(name) } else { std::fs::read_link(name) };
    let target =
        target.map_err(|e| unable("resolve", &path, Errno::from_io_error(&e).unwrap_or(Errno::IO)))?;
    print_one(target.as_os_str().as_bytes(), newline)
}

/// `s6-printenv`
pub fn printenv(args: &mut Args) -> Result<Step> {
    let (mut last, mut end) = (true, b'\n');
    loop {
        match args.option("nd:0")? {
            b'n' => last = false,
            b'd' => end = args.value().first().copied().unwrap_or(0),
            b'0' => end = 0,
            _ => break,
        }
    }
    let all: Vec<&[u8]> = env::strings().map(|string| string.to_bytes()).collect();
    let mut out = all.join(&end);
    out.extend((last && !all.is_empty()).then_some(end));
    print_and_exit(&out)
}

/// `s6-format-filter`: `%s` is the line, `%0` the format, `%1` to `%9` the arguments.
pub fn format_filter(args: &mut Args) -> Result<Step> {
    let format = args.word()?;
    let arguments = args.rest();
    let piece = |letter: u8, line: &[u8]| -> Option<Word> {
        Some(match letter {
            b'%' => vec![b'%'],
            b's' => line.to_vec(),
            b'0' => b"s6-format-filter".to_vec(),
            b'1'..=b'9' => arguments.get((letter - b'1') as usize)?.clone(),
            _ => return None,
        })
    };
    let expand = |line: &[u8], out: &mut Word| {
        let mut bytes = format.iter();
        while let Some(byte) = bytes.next() {
            match byte {
                b'%' => out.extend(piece(*bytes.next()?, line)?),
                byte => out.push(*byte),
            }
        }
        Some(())
    };
    expand(b"", &mut Word::new())
        .ok_or_else(|| Error::new(code::SYSTEM, "unable to compile format: Invalid argument"))?;
    each_line(|line, ended, out| {
        let _ = expand(line, out);
        out.extend(ended.then_some(b'\n'));
    })?;
    Ok(Step::Exit(0))
}

/// `s6-hostname`
pub fn hostname(args: &mut Args) -> Result<Step> {
    if args.left() == 0 {
        return print_one(rustix::system::uname().nodename().to_bytes(), true);
    }
    let name = args.word()?;
    let text = c_string(&name);
    rustix::system::sethostname(text.to_bytes()).map_err(|errno| unable("set host name to", &name, errno))?;
    Ok(Step::Exit(0))
}
