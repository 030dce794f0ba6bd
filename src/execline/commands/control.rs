//! foreground, background, pipeline, exec, exit.

use super::numbered;
use crate::chain::*;
use crate::sys::fd;
use std::os::fd::AsRawFd;

/// `foreground`
pub fn foreground(args: &mut Args) -> Result<Step> {
    let first = args.block("")?;
    super::conditions::sequence(first, args.rest())
}

/// `background`
pub fn background(args: &mut Args) -> Result<Step> {
    let mut detached = false;
    while args.option("d")? != 0 {
        detached = true;
    }
    let block = args.full_block()?;
    let rest = args.rest();
    if rest.is_empty() {
        return spawn(&block, &[]).map(|_| Step::Exit(0));
    }
    let pid = if detached { spawn_detached(&block)? } else { spawn(&block, &[])? };
    next_with(rest, vec![numbered(b"!", pid.raw())])
}

/// `pipeline`
pub fn pipeline(args: &mut Args) -> Result<Step> {
    let (mut detached, mut writes) = (false, false);
    loop {
        match args.option("drw")? {
            b'd' => detached = true,
            0 => break,
            letter => writes = letter == b'w',
        }
    }
    let block = args.full_block()?;
    let rest = args.rest();
    if rest.is_empty() {
        return Err(usage(&["empty remainder"]));
    }
    let unable = |errno| unable("create pipe", errno);
    let [read, write] = fd::pipe().map_err(unable)?;
    let ((theirs, their_number), (ours, our_number)) =
        if writes { ((read, 0), (write, 1)) } else { ((write, 1), (read, 0)) };
    let start = || if detached { spawn_detached(&block) } else { spawn(&block, &[]) };
    let pid = with_descriptor(theirs, their_number, start)?;
    fd::hand_over(ours, our_number).map_err(unable)?;
    next_with(rest, vec![numbered(b"!", pid.raw())])
}

/// Does something while `to` is a copy of `fd`.
pub(super) fn with_descriptor<T>(
    fd: std::os::fd::OwnedFd,
    to: i32,
    something: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let before = fd::aside(to);
    fd::copy(fd.as_raw_fd(), to).map_err(|errno| unable("move descriptor", errno))?;
    let result = something();
    match before {
        Ok(before) => fd::copy(before.as_raw_fd(), to).map_err(|errno| unable("move descriptor", errno))?,
        Err(_) => fd::close(to),
    }
    result
}

/// What `exec` says of a program.
#[derive(Default)]
struct Manner {
    no_environment: bool,
    login: bool,
    name: Option<Word>,
}

impl Manner {
    fn take(&mut self, letter: u8, args: &mut Args) {
        match letter {
            b'c' => self.no_environment = true,
            b'l' => self.login = true,
            _ => self.name = Some(args.value()),
        }
    }

    fn of(self, mut argv: Vec<Word>) -> Next {
        let changes = if self.no_environment { vec![EVERYTHING] } else { Vec::new() };
        let mut file = None;
        if self.login || self.name.is_some() {
            file = Some(argv[0]);
            argv[0] = self.name.unwrap_or(argv[0]);
            if self.login {
                argv[0] = cat(&[b"-", argv[0]]);
            }
        }
        Next { argv, file, changes }
    }
}

/// `exec`
pub fn exec(args: &mut Args) -> Result<Step> {
    let mut manner = Manner::default();
    loop {
        match args.option("cla:")? {
            0 => break,
            letter => manner.take(letter, args),
        }
    }
    args.at_least(1)?;
    Ok(Step::Next(manner.of(args.rest())))
}

/// `exit`
pub fn exit(args: &mut Args) -> Result<Step> {
    match args.rest().first() {
        None => Ok(Step::Exit(0)),
        Some(word) => number(word).map(|n| Step::Exit(n as u8)).ok_or_else(|| args.misused()),
    }
}
