//! softlimit, setsid: what a process may, and where it belongs.

use crate::chain::*;
use crate::process::Signal;
use crate::sys::{Errno, fd, signal};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::os::fd::BorrowedFd;

/// `softlimit`
pub fn softlimit(args: &mut Args) -> Result<Step> {
    // -h: the hard limits; -H: both.
    let (mut soft, mut hard) = (true, false);
    loop {
        use Resource as R;
        let resources: &[Resource] = match args.option("hHa:c:d:f:l:m:o:P:p:r:s:t:")? {
            0 => break,
            letter @ (b'h' | b'H') => {
                (soft, hard) = (letter == b'H', true);
                continue;
            }
            b'a' => &[R::As],
            b'c' => &[R::Core],
            b'd' => &[R::Data],
            b'f' => &[R::Fsize],
            b'l' => &[R::Memlock],
            b'm' => &[R::Data, R::Stack, R::Memlock, R::As],
            b'o' => &[R::Nofile],
            b'P' => &[R::Rtprio],
            b'p' => &[R::Nproc],
            b'r' => &[R::Rss],
            b's' => &[R::Stack],
            _ => &[R::Cpu],
        };
        let value = args.value();
        for resource in resources {
            limit(*resource, value, soft, hard, args)?;
        }
    }
    args.at_least(1)?;
    next(args.rest())
}

fn limit(resource: Resource, value: Word, soft: bool, hard: bool, args: &Args) -> Result<()> {
    let Rlimit { mut current, mut maximum } = getrlimit(resource);
    if value == b"=" {
        if hard {
            maximum = None;
        }
        if soft {
            current = maximum;
        }
    } else {
        let text = std::str::from_utf8(value).unwrap_or_default();
        let number: u64 =
            text.parse().ok().filter(|_| !text.starts_with('+')).ok_or_else(|| args.misused())?;
        let number = Some(number).filter(|n| *n < u64::MAX);
        if hard {
            maximum = number;
        }
        if soft {
            // No limit is above every limit.
            current = [number, maximum].into_iter().flatten().min();
        }
    }
    setrlimit(resource, Rlimit { current, maximum }).map_err(|errno| unable("set limit", errno))
}

/// `setsid`
pub fn setsid(args: &mut Args) -> Result<Step> {
    let (mut what, mut strict, mut quiet, mut terminal) = (b's', false, false, None);
    loop {
        match args.option("sbfgiIqd:")? {
            b'i' => strict = true,
            b'I' => strict = false,
            b'q' => quiet = true,
            b'd' => terminal = Some(args.value_number()? as i32),
            0 => break,
            letter => what = letter,
        }
    }
    args.at_least(1)?;
    let tried = |doing: &str, done: std::result::Result<(), Errno>| match done {
        Err(errno) if strict => Err(unable(doing, errno)),
        Err(errno) if !quiet => {
            warn(&[unable(doing, errno).message()]);
            Ok(())
        }
        _ => Ok(()),
    };
    if what == b's' {
        tried("begin a session", rustix::process::setsid().map(drop))?;
        return next(args.rest());
    }
    let own = match (what, terminal) {
        (b'b', _) | (_, Some(_)) => None,
        // Close-on-exec.
        _ => Some(fd::open(c"/dev/tty", 0o2000000).map_err(|errno| unable("open /dev/tty", errno))?),
    };
    tried("begin a process group", rustix::process::setpgid(None, None))?;
    if what != b'b' {
        if what == b'g' {
            signal::ignore(Signal::TTOU);
        }
        tried("become the terminal's foreground", to_foreground(terminal.or(own).unwrap_or(0)))?;
    }
    own.into_iter().for_each(fd::close);
    next(args.rest())
}

fn to_foreground(terminal: i32) -> std::result::Result<(), Errno> {
    let terminal = fd::aside(terminal)?;
    let terminal: BorrowedFd<'_> = std::os::fd::AsFd::as_fd(&terminal);
    rustix::termios::tcsetpgrp(terminal, rustix::process::getpid())
}
