//! redirfd, fdmove, fdclose, fdswap, fdblock, fdreserve, piperw, heredoc; and what else a process passes on:
//! cd, umask.

use super::give;
use crate::chain::*;
use crate::sys::{Errno, fd};
use rustix::fs::{Mode, OFlags};
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
    let target = number(to).and_then(|n| i32::try_from(n).ok());
    if target.is_none() && !open_only {
        return Err(args.misused());
    }
    let path = args.word()?;
    let flags = (flags | access | create).bits() as i32;
    let opened = open(&c_string(path), flags, access != OFlags::RDONLY)
        .map_err(|errno| unable_to("open", path, errno))?;
    if switch {
        fd::set_nonblocking(opened, flags & OFlags::NONBLOCK.bits() as i32 == 0)
            .map_err(|errno| unable("change blocking mode", errno))?;
    }
    if open_only {
        let given = give(args.rest(), vec![(to, Some(decimal(opened)))], import);
        return next_with(given.argv, given.changes);
    }
    move_to(opened, target.unwrap_or(0), to)?;
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
    fd::rename(from, to).map_err(|errno| unable_to("make descriptor", shown, errno))
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
    done.map_err(|errno| unable_to("make descriptor", cat(&[decimal(to), b" of ", decimal(from)]), errno))?;
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
    swap().map_err(|errno| unable("swap descriptors", errno))?;
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
    fd::set_nonblocking(number, !block).map_err(|errno| unable("change blocking mode", errno))?;
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
        return Err(unable("reserve descriptors", errno));
    }
    let name = |i: usize| cat(&[b"FD", decimal(i as i64)]);
    let changes = opened.iter().enumerate().map(|(i, number)| setting(name(i), decimal(*number))).collect();
    next_with(args.rest(), changes)
}

/// `piperw`
pub fn piperw(args: &mut Args) -> Result<Step> {
    args.at_least(3)?;
    let (reader, writer) = (args.descriptor()?, args.descriptor()?);
    if reader == writer {
        return Err(args.misused());
    }
    let broken = |errno| unable("make a pipe", errno);
    let [read, mut write] = fd::pipe().map_err(broken)?;
    if write.as_raw_fd() == reader {
        // It must not be overwritten before it has its place.
        write = fd::aside(reader).map_err(broken)?;
    }
    fd::hand_over(read, reader).and_then(|()| fd::hand_over(write, writer)).map_err(broken)?;
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
    let broken = |errno| unable("make a pipe", errno);
    let [read, write] = fd::pipe().map_err(broken)?;
    // What the pipe takes at once needs nobody who writes it.
    fd::set_nonblocking(write.as_raw_fd(), true).map_err(broken)?;
    if let Err((written, _)) = fd::write(write.as_raw_fd(), text) {
        fd::set_nonblocking(write.as_raw_fd(), false).map_err(broken)?;
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
    fd::hand_over(read, to).map_err(broken)?;
    next(args.rest())
}

/// `cd`, `execline-cd`
pub fn cd(args: &mut Args) -> Result<Step> {
    args.at_least(2)?;
    let path = args.word()?;
    rustix::process::chdir(&*c_string(path)).map_err(|errno| unable_to("chdir to", path, errno))?;
    next(args.rest())
}

/// `umask`, `execline-umask`
pub fn umask(args: &mut Args) -> Result<Step> {
    args.at_least(2)?;
    let text = args.word()?;
    let digits = text.iter().take_while(|b| (b'0'..=b'7').contains(b)).count();
    let mask = parse(&text[..digits], 8).ok_or_else(|| args.misused())?;
    rustix::process::umask(Mode::from_raw_mode(mask & 0o777));
    next(args.rest())
}
