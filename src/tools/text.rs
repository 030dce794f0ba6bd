//! s6-echo, s6-cat, s6-true, s6-false, s6-ls, s6-sort, s6-basename, s6-dirname,
//! s6-format-filter.

use crate::chain::*;
use crate::ordered::sorted;
use crate::sys::fd;
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
    let (mut newline, mut separator) = (true, &b" "[..]);
    loop {
        match args.option("ns:")? {
            b'n' => newline = false,
            b's' => separator = args.value().get(..1).unwrap_or(b"\0"),
            _ => break,
        }
    }
    let mut line = args.rest().join(separator);
    line.extend(newline.then_some(b'\n'));
    print_and_exit(&line)
}

/// Reads standard input piece by piece.
fn each_piece(mut act: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let mut buffer = [0; 8192];
    loop {
        match fd::read(0, &mut buffer).map_err(|errno| unable("read standard input", errno))? {
            0 => return Ok(()),
            n => act(&buffer[..n])?,
        }
    }
}

/// Reads standard input line by line, as it comes. What is written by `act` goes out whenever there is
/// nothing more to read at once; it gets each line without its newline, and whether it had one.
pub(super) fn each_line(mut act: impl FnMut(&[u8], bool, &mut Vec<u8>)) -> Result<()> {
    let (mut line, mut out) = (Vec::new(), Vec::new());
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
    let broken = |e: std::io::Error| unable_to("read directory", dir, reason_of(&e));
    let mut names: Vec<Word> = Vec::new();
    if dots {
        names.extend([&b"."[..], b".."]);
    }
    for entry in std::fs::read_dir(OsStr::from_bytes(dir)).map_err(broken)? {
        names.push(cat(&[entry.map_err(broken)?.file_name().as_bytes()]));
    }
    let mut out = Vec::new();
    for name in names.iter().filter(|name| all || name[0] != b'.').filter(|name| Some(**name) != exclude) {
        out.extend_from_slice(name);
        out.push(end);
    }
    print_and_exit(&out)
}

/// A line as `s6-sort` compares it: what counts, and all of it.
type Line = (Vec<u8>, Vec<u8>);

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
    let mut text = fd::read_all(0).map_err(|errno| unable("read standard input", errno))?;
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
    let mut out = Vec::new();
    for (_, line) in lines {
        out.extend(line);
        out.push(end);
    }
    print_and_exit(&out)
}

/// A word, and a newline unless `-n` says no.
fn print_one(word: &[u8], newline: bool) -> Result<Step> {
    print_and_exit(cat(&[word, if newline { b"\n" } else { b"" }]))
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
    let mut name = super::files::last_part(path);
    if args.left() > 0 {
        let suffix = args.word()?;
        name = name.strip_suffix(suffix).filter(|name| !name.is_empty()).unwrap_or(name);
    }
    print_one(name, newline)
}

/// `s6-dirname`
pub fn dirname(args: &mut Args) -> Result<Step> {
    let newline = newline(args)?;
    let path = args.word()?;
    let trimmed = |path: &[u8]| path[..path.iter().rposition(|b| *b != b'/').map_or(0, |at| at + 1)].to_vec();
    let whole = trimmed(path);
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

/// `s6-format-filter`: `%s` is the line, `%0` the format, `%1` to `%9` the arguments.
pub fn format_filter(args: &mut Args) -> Result<Step> {
    let format = args.word()?;
    let arguments = args.rest();
    let piece = |letter: u8, line: &[u8]| -> Option<Vec<u8>> {
        Some(match letter {
            b'%' => vec![b'%'],
            b's' => line.to_vec(),
            b'0' => b"s6-format-filter".to_vec(),
            b'1'..=b'9' => arguments.get((letter - b'1') as usize)?.to_vec(),
            _ => return None,
        })
    };
    let expand = |line: &[u8], out: &mut Vec<u8>| {
        let mut bytes = format.iter();
        while let Some(byte) = bytes.next() {
            match byte {
                b'%' => out.extend(piece(*bytes.next()?, line)?),
                byte => out.push(*byte),
            }
        }
        Some(())
    };
    expand(b"", &mut Vec::new())
        .ok_or_else(|| failed(111, &["unable to compile format: Invalid argument"]))?;
    each_line(|line, ended, out| {
        let _ = expand(line, out);
        out.extend(ended.then_some(b'\n'));
    })?;
    Ok(Step::Exit(0))
}
