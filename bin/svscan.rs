//! Watches a scan directory and keeps the services in it supervised.

use lexopt::prelude::*;
use perennial::diag::{Result, Unable};
use perennial::process::Pid;
use perennial::scan::run::upgrade::{Again, PROBE_ANSWER};
use perennial::scan::run::{Above, Options, run};
use perennial::sys::{process, signal, spawn};
use perennial::{cli, diag};
use std::os::fd::OwnedFd;
use std::process::ExitCode;
use std::time::Duration;

const USAGE: &str = "svscan [ -C services ] [ -c services ] [ -L namelen ] [ -t rescan ] [ -d notif ] \
                     [ -X console ] [ -i ] [ scandir ]";

/// The program.
pub fn main() -> ExitCode {
    cli::main("svscan", svscan)
}

/// Its options. `--above` is init's: descriptors 3 to 6 are what must outlive a scanner. `--again` and
/// `--child` are its predecessor's, which became this one. `--probe`: is this a scanner?
pub fn svscan(mut parser: lexopt::Parser) -> Result<u8> {
    let mut options = Options::default();
    let (mut dir, mut notify, mut console, mut above) = (None, None, None, false);
    let (mut again, mut child) = (None, None);
    while let Some(arg) = cli::next(&mut parser)? {
        match arg {
            Short('C') | Long("services-max") => {
                options.limits.services = cli::number::<usize>("-C", &mut parser, 0, 1 << 32)?.max(4);
            }
            Short('c') => {
                let both: usize = cli::number("-c", &mut parser, 0, 1 << 32)?;
                options.limits.services = both.max(2) * 2;
            }
            Short('L') | Long("name-max") => {
                let most: usize = cli::number("-L", &mut parser, 0, u32::MAX.into())?;
                options.limits.name = most.clamp(11, 1019);
            }
            Short('t') | Long("timeout") => {
                let ms = cli::number("-t", &mut parser, 0, u32::MAX.into())?;
                options.rescan = Some(Duration::from_millis(ms)).filter(|d| !d.is_zero());
            }
            Short('d') | Long("notification-fd") => {
                notify = Some(cli::number::<i32>("-d", &mut parser, 3, 1 << 20)?);
            }
            Short('i') | Long("isolate") => options.isolate = true,
            Short('X') | Long("console-holder") => {
                console = Some(cli::number::<i32>("-X", &mut parser, 3, 1 << 20)?);
            }
            Long("above") => above = true,
            Long("again") => again = Some(cli::value(&mut parser)?),
            Long("child") => child = Pid::from_raw(cli::number("--child", &mut parser, 1, 1 << 30)?),
            Long("probe") => return Ok(PROBE_ANSWER),
            Short('h') | Long("help") => return cli::help(USAGE),
            Value(value) if dir.is_none() => dir = Some(cli::text(value)?),
            _ => return Err(cli::usage(USAGE)),
        }
    }
    let blocked = signal::block_all();
    options.notify = given("-d", notify)?;
    options.console = given("-X", console)?;
    if above {
        let fds = (Above::FIRST_FD..Above::FIRST_FD + 4).filter_map(spawn::above_window).collect();
        options.above = Above::from_fds(fds);
    }
    if let Some(letters) = again {
        let (above, mut again) = Again::take(&letters)
            .ok_or_else(|| diag::Error::usage("invalid value for --again: a descriptor is missing"))?;
        again.child = child;
        options.console = again.console.take();
        (options.above, options.again) = (Some(above), Some(again));
    }
    spawn::reserve_window().unable("set up descriptors")?;
    let dir = dir.unwrap_or_else(|| ".".to_owned());
    if above {
        // As the first one looks, which init forked.
        process::set_title("svscan", &["svscan", &dir]);
    }
    rustix::process::chdir(&*dir).unable(format_args!("chdir to {dir}"))?;
    run(options, blocked)
}

/// The descriptor that an option names, moved out of the way.
fn given(option: &str, number: Option<i32>) -> Result<Option<OwnedFd>> {
    let Some(number) = number else { return Ok(None) };
    let fd = spawn::above_window(number);
    let closed =
        || diag::Error::usage(format!("invalid value for {option}: descriptor {number} is not open"));
    fd.map(Some).ok_or_else(closed)
}
