//! redirfd, fdmove, fdclose, fdswap, fdblock, fdreserve, piperw, heredoc; and what else a process passes on:
//! cd, umask, posix-cd, posix-umask.

use super::environment::working_directory;
use super::give;
use crate::chain::{
    Args, Step, Word, c_string, cat, decimal, fork, next, next_with, parse, print, print_and_exit, setting,
    unable,
};
use crate::diag::{Error, Result, code};
use crate::sys::{Errno, env, fd};
use rustix::fs::{FileType, Mode, OFlags, stat};
use std::os::fd::AsRawFd;

/// `redirfd`
pub fn redirfd(args: &mut Args) -> Result<Step> {
    let (mut flags, mut switch, mut open_only, mut import) = (OFlags::empty(), false, false, false);
    let mut mode = None;
    loop {
        match args.option("rwuaxNnbfeE")? {
            0 => break,
            b'N' => flags.remove(OFlags::NONBLOCK),
            b'n' => flags.insert(OFlags::NONBLOCK),
            b'b' => switch = true,
            b'f' => open_only = true,
            letter @ (b'e' | b'E') => import = letter == b'E',
            letter => mode = Some(letter),
        }
    }
    let (access, create) = match mode {
        Some(b'r') => (OFlags::RDONLY, OFlags::empty()),
        Some(b'w') => (OFlags::WRONLY, OFlags::CREATE | OFlags::TRUNC),
        Some(b'u') => (OFlags::RDWR, OFlags::empty()),
        Some(b'a') => (OFlags::WRONLY, OFlags::CREATE | OFlags::APPEND),
        Some(_) => (OFlags::WRONLY, OFlags::CREATE | OFlags::EXCL),
        None => return Err(args.misused()),
    };
    args.at_least(3)?;
    let to = args.word()?;
    let number = crate::chain::number(&to).and_then(|n| i32::try_from(n).ok());
    if number.is_none() && !open_only {
        return Err(args.misused());
    }
    let path = args.word()?;
    let flags = (flags | access | create).bits() as i32;
    let opened = open(&c_string(&path), flags, access != OFlags::RDONLY)
        .map_err(|errno| unable("open", &path, errno))?;
    if switch {
        fd::set_nonblocking(opened, flags & OFlags::NONBLOCK.bits() as i32 == 0)
            .map_err(|errno| Error::unable("change blocking mode", errno))?;
    }
    if open_only {
        let given = give(args.rest(), vec![(to, Some(decimal(opened)))], import);
        return next_with(given.argv, given.changes);
    }
    move_to(opened, number.unwrap_or(0), &to)?;
    next(args.rest())
}

/// Opens a file. A FIFO that nobody reads is opened for writing all the same.
fn open(path: &std::ffi::CStr, flags: i32, writes: bool) -> std::result::Result<i32, Errno> {
    match fd::open(path, flags) {
        Err(Errno::NXIO) if writes => {
            let reader = fd::open(path, OFlags::NONBLOCK.bits() as i32)?;
            let opened = fd::open(path, flags);
            fd::close(reader);
            opened
        }
        opened => opened,
    }
}

fn move_to(from: i32, to: i32, shown: &[u8]) -> Result<()> {
    fd::rename(from, to).map_err(|errno| unable("make descriptor", shown, errno))
}

/// `fdmove`
pub fn fdmove(args: &mut Args) -> Result<Step> {
    let mut copy = false;
    while args.option("c")? != 0 {
        copy = true;
    }
    args.at_least(3)?;
    let (to, from) = (args.descriptor()?, args.descriptor()?);
    let done = match copy {
        true if to == from => Err(Errno::INVAL),
        true => fd::copy(from, to),
        false => fd::rename(from, to),
    };
    done.map_err(|errno| unable("make descriptor", &cat(&[&decimal(to), b" of ", &decimal(from)]), errno))?;
    next(args.rest())
}

/// `fdclose`
pub fn fdclose(args: &mut Args) -> Result<Step> {
    args.at_least(2)?;
    fd::close(args.descriptor()?);
    next(args.rest())
}

/// `fdswap`
pub fn fdswap(args: &mut Args) -> Result<Step> {
    args.at_least(3)?;
    let (one, other) = (args.descriptor()?, args.descriptor()?);
    let swap = || {
        if one == other {
            return fd::rename(one, other);
        }
        let kept = fd::aside(other)?;
        fd::copy(one, other)?;
        fd::copy(kept.as_raw_fd(), one)
    };
    swap().map_err(|errno| Error::unable("swap descriptors", errno))?;
    next(args.rest())
}

/// `fdblock`
pub fn fdblock(args: &mut Args) -> Result<Step> {
    let mut block = true;
    while args.option("n")? != 0 {
        block = false;
    }
    args.at_least(2)?;
    let number = args.descriptor()?;
    fd::set_nonblocking(number, !block).map_err(|errno| Error::unable("change blocking mode", errno))?;
    next(args.rest())
}

/// `fdreserve`
pub fn fdreserve(args: &mut Args) -> Result<Step> {
    args.at_least(2)?;
    let count = args.number()?;
    let mut opened = Vec::new();
    let mut failure = None;
    for _ in 0..count {
        match fd::open(c"/", OFlags::PATH.bits() as i32) {
            Ok(number) => opened.push(number),
            Err(errno) => {
                failure = Some(errno);
                break;
            }
        }
    }
    opened.iter().for_each(|number| fd::close(*number));
    if let Some(errno) = failure {
        return Err(Error::unable("reserve descriptors", errno));
    }
    let name = |i: usize| cat(&[b"FD", &decimal(i as i64)]);
    let changes = opened.iter().enumerate().map(|(i, number)| setting(&name(i), &decimal(*number))).collect();
    next_with(args.rest(), changes)
}

/// `piperw`
pub fn piperw(args: &mut Args) -> Result<Step> {
    args.at_least(3)?;
    let (reader, writer) = (args.descriptor()?, args.descriptor()?);
    if reader == writer {
        return Err(args.misused());
    }
    let failed = |errno| Error::unable("make a pipe", errno);
    let [read, mut write] = fd::pipe().map_err(failed)?;
    if write.as_raw_fd() == reader {
        // It must not be overwritten before it has its place.
        write = fd::aside(reader).map_err(failed)?;
    }
    fd::hand_over(read, reader).and_then(|()| fd::hand_over(write, writer)).map_err(failed)?;
    next(args.rest())
}

/// `heredoc`
pub fn heredoc(args: &mut Args) -> Result<Step> {
    let mut detached = false;
    while args.option("d")? != 0 {
        detached = true;
    }
    args.at_least(3)?;
    let to = args.descriptor()?;
    let text = args.word()?;
    let failed = |errno| Error::unable("make a pipe", errno);
    let [read, write] = fd::pipe().map_err(failed)?;
    // What the pipe takes at once needs nobody who writes it.
    fd::set_nonblocking(write.as_raw_fd(), true).map_err(failed)?;
    if let Err((written, _)) = fd::write(write.as_raw_fd(), &text) {
        fd::set_nonblocking(write.as_raw_fd(), false).map_err(failed)?;
        let own = read.as_raw_fd();
        let writer = || {
            fd::close(own);
            u8::from(fd::write(write.as_raw_fd(), &text[written..]).is_err())
        };
        if detached {
            let between = fork(|| u8::from(fork(writer).is_err()))?;
            crate::chain::reap(between);
        } else {
            fork(writer)?;
        }
    }
    drop(write);
    fd::hand_over(read, to).map_err(failed)?;
    next(args.rest())
}

/// `cd`, `execline-cd`
pub fn cd(args: &mut Args) -> Result<Step> {
    args.at_least(2)?;
    let path = args.word()?;
    go_to(&path)?;
    next(args.rest())
}

fn go_to(path: &[u8]) -> Result<()> {
    rustix::process::chdir(&*c_string(path)).map_err(|errno| unable("chdir to", path, errno))
}

/// `umask`, `execline-umask`
pub fn umask(args: &mut Args) -> Result<Step> {
    args.at_least(2)?;
    let text = args.word()?;
    let digits = text.iter().take_while(|b| (b'0'..=b'7').contains(b)).count();
    set_umask(parse(&text[..digits], 8).ok_or_else(|| args.misused())?);
    next(args.rest())
}

fn set_umask(mask: u32) -> u32 {
    rustix::process::umask(Mode::from_raw_mode(mask & 0o777)).as_raw_mode()
}

/// `posix-umask`
pub fn posix_umask(args: &mut Args) -> Result<Step> {
    let mut symbolic = false;
    while args.option("S")? != 0 {
        symbolic = true;
    }
    let old = set_umask(0);
    if args.left() == 0 {
        return print_and_exit(&shown_mask(old, symbolic));
    }
    let text = args.word()?;
    let new = parse(&text, 8).or_else(|| symbolic_mask(&text, old));
    set_umask(new.ok_or_else(|| Error::new(code::NO, "invalid mode string"))?);
    next(args.rest())
}

fn shown_mask(mask: u32, symbolic: bool) -> Word {
    if !symbolic {
        return (0..4).rev().map(|i| b'0' + (mask >> (3 * i) & 7) as u8).chain([b'\n']).collect();
    }
    let mut out = Word::new();
    for (class, shift, end) in [(b'u', 6, b','), (b'g', 3, b','), (b'o', 0, b'\n')] {
        out.extend([class, b'=']);
        let granted = !mask >> shift;
        out.extend(b"rwx".iter().enumerate().filter(|(i, _)| granted & (4 >> i) != 0).map(|(_, b)| *b));
        out.push(end);
    }
    out
}

/// `u=rwx,go-w` and the like; `None` if it is none.
fn symbolic_mask(text: &[u8], mask: u32) -> Option<u32> {
    let mut granted = !mask & 0o777;
    for clause in text.split(|b| *b == b',').filter(|clause| !clause.is_empty()) {
        let begin = clause.iter().position(|b| b"+-=".contains(b)).unwrap_or(clause.len());
        let mut who = 0;
        for class in &clause[..begin] {
            who |= match class {
                b'u' => 0o700,
                b'g' => 0o070,
                b'o' => 0o007,
                b'a' => 0o777,
                _ => return None,
            };
        }
        if begin == 0 {
            who = 0o777;
        }
        let mut at = begin;
        while at < clause.len() {
            let operator = clause[at];
            let end =
                clause[at + 1..].iter().position(|b| b"+-=".contains(b)).map_or(clause.len(), |n| at + 1 + n);
            let bits = who & (permissions(&clause[at + 1..end], granted)? * 0o111);
            granted = match operator {
                b'+' => granted | bits,
                b'-' => granted & !bits,
                _ => granted & !who | bits,
            };
            at = end;
        }
    }
    Some(!granted)
}

/// The bits of `rwxXst`, or those that a class has now.
fn permissions(text: &[u8], granted: u32) -> Option<u32> {
    if let [class @ (b'u' | b'g' | b'o')] = text {
        let shift = match class {
            b'u' => 6,
            b'g' => 3,
            _ => 0,
        };
        return Some(granted >> shift & 7);
    }
    text.iter().try_fold(0, |bits, letter| {
        Some(
            bits | match letter {
                b'r' => 4,
                b'w' => 2,
                b'x' | b'X' => 1,
                b's' | b't' => 0,
                _ => return None,
            },
        )
    })
}

/// `posix-cd`
pub fn posix_cd(args: &mut Args) -> Result<Step> {
    let mut physical = false;
    loop {
        match args.option("LP")? {
            0 => break,
            letter => physical = letter == b'P',
        }
    }
    let mut rest = args.rest().into_iter();
    let (mut path, mut told) = match rest.next() {
        None => (env::value(b"HOME").map(<[u8]>::to_vec), false),
        Some(word) if word == b"-" => (env::value(b"OLDPWD").map(<[u8]>::to_vec), true),
        word => (word, false),
    };
    let mut path = path.take().filter(|path| !path.is_empty()).ok_or_else(|| args.misused())?;
    let is_explicit = matches!(path.split(|b| *b == b'/').next(), Some(b"" | b"." | b".."));
    if let Some(found) = along_cdpath(&path).filter(|_| !is_explicit) {
        (path, told) = (found, true);
    }
    let before = working_directory()?;
    if !physical {
        path = logical(&path)?;
    }
    go_to(&path)?;
    if physical {
        path = working_directory()?;
    }
    if told {
        print(&cat(&[&path, b"\n"]))?;
    }
    next_with(rest.collect(), vec![setting(b"OLDPWD", &before), setting(b"PWD", &path)])
}

/// Where CDPATH finds a directory.
fn along_cdpath(path: &[u8]) -> Option<Word> {
    let is_directory = |path: &Word| {
        stat(&*c_string(path))
            .is_ok_and(|found| FileType::from_raw_mode(found.st_mode) == FileType::Directory)
    };
    let mut places = env::value(b"CDPATH")?.split(|b| *b == b':').map(|place| match place {
        b"" => cat(&[b"./", path]),
        [.., b'/'] => cat(&[place, path]),
        _ => cat(&[place, b"/", path]),
    });
    places.find(is_directory)
}

/// The path without `.` and `..`, seen from PWD; each part of it must be there.
fn logical(path: &[u8]) -> Result<Word> {
    let whole = match env::value(b"PWD") {
        Some(here) if path[0] != b'/' => cat(&[here, b"/", path]),
        _ => path.to_vec(),
    };
    let mut parts: Vec<&[u8]> = Vec::new();
    let absolute = whole[0] == b'/';
    let join = |parts: &[&[u8]]| cat(&[if absolute { b"/" } else { b"" }, &parts.join(&b'/')]);
    for part in whole.split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                let so_far = join(&parts);
                stat(&*c_string(&so_far)).map_err(|errno| unable("canonicalize", &so_far, errno))?;
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    Ok(join(&parts))
}
