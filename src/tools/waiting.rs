//! setlock, pause, sleep: waiting for something, or for nothing.

use crate::chain::*;
use crate::process::Signal;
use crate::sys::{Errno, fd, lock, signal};
use rustix::fs::OFlags;
use std::time::Duration;

/// `setlock`
pub fn setlock(args: &mut Args) -> Result<Step> {
    let (mut wait, mut exclusive, mut limit, mut number) = (true, true, 0, None);
    loop {
        match args.option("nNrwt:d:")? {
            b't' => limit = args.value_number()?,
            b'd' => number = Some(args.value_number()? as i32),
            0 => break,
            letter @ (b'n' | b'N') => wait = letter == b'N',
            letter => exclusive = letter == b'w',
        }
    }
    args.at_least(2)?;
    let path = args.word()?;
    let file = c_string(path);
    let create = (OFlags::WRONLY | OFlags::CREATE | OFlags::NONBLOCK).bits() as i32;
    let open = || match exclusive {
        true => fd::open(&file, create),
        false => match fd::open(&file, OFlags::NONBLOCK.bits() as i32) {
            Err(Errno::NOENT) => {
                fd::close(fd::open(&file, create)?);
                fd::open(&file, OFlags::NONBLOCK.bits() as i32)
            }
            opened => opened,
        },
    };
    let opened = open().map_err(|errno| unable_to("open", path, errno))?;
    let take = || lock::lock_as_process(opened, exclusive, wait);
    let taken = if limit > 0 && wait {
        signal::interrupted_after(Duration::from_millis(limit.into()), take)
    } else {
        take()
    };
    let reason = match taken {
        Ok(true) => None,
        Ok(false) => Some(Errno::BUSY),
        Err(Errno::INTR) => Some(Errno::TIMEDOUT),
        Err(errno) => Some(errno),
    };
    if let Some(errno) = reason {
        return Err(failed(1, &["unable to lock ", shown(path), ": ", crate::diag::reason(errno)]));
    }
    if let Some(number) = number {
        fd::rename(opened, number).map_err(|errno| unable("move lock descriptor", errno))?;
    }
    next(args.rest())
}

/// `pause`
pub fn pause(args: &mut Args) -> Result<Step> {
    loop {
        let signal = match args.option("thaqbip:")? {
            b't' => Signal::TERM,
            b'h' => Signal::HUP,
            b'a' => Signal::ALRM,
            b'q' => Signal::QUIT,
            b'b' => Signal::ABRT,
            b'i' => Signal::INT,
            0 => break,
            _ => {
                let list = args.value();
                for word in list.split(|b| b",:; \t\r\n".contains(b)).filter(|word| !word.is_empty()) {
                    let number = number(word).ok_or_else(|| args.misused())?;
                    signal::ignore(Signal(number as u8));
                }
                continue;
            }
        };
        signal::ignore(signal);
    }
    loop {
        let _ = rustix::event::poll(&mut [], None);
    }
}

/// `s6-sleep`
pub fn sleep(args: &mut Args) -> Result<Step> {
    let mut unit = 1000;
    while args.option("m")? != 0 {
        unit = 1;
    }
    let count = args.number()?;
    std::thread::sleep(Duration::from_millis(u64::from(count) * unit));
    next(args.rest())
}
