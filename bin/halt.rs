//! Ends the container: `halt`, `poweroff`, `reboot` and `shutdown`, which mean the same in one.

use lexopt::prelude::*;
use perennial::cli;
use perennial::diag::{Error, Result, Unable, code};
use perennial::init::place;
use perennial::process::Pid;
use perennial::rc::engine::restart_nothing;
use rustix::fs::{Mode, OFlags, open};
use std::process::ExitCode;
use std::time::Duration;

const USAGE: &str = "halt | poweroff | reboot | shutdown [ -hpr ] [ now ]";

/// A supervisor answers in microseconds.
const PATIENCE: Duration = Duration::from_secs(1);

/// The program.
pub fn main() -> ExitCode {
    cli::main("halt", halt)
}

/// Its options. Those of other systems' programs of these names are taken and mean nothing here.
pub fn halt(mut parser: lexopt::Parser) -> Result<u8> {
    let mut letter = 'h';
    while let Some(arg) = cli::next(&mut parser)? {
        match arg {
            Short('h' | 'f' | 'd' | 'w' | 'n') => {}
            Short('p') => letter = 'p',
            Short('r') => letter = 'r',
            Long("help") => return cli::help(USAGE),
            Value(_) => {}
            _ => return Err(cli::usage(USAGE)),
        }
    }
    let control_path = place::control();
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let control = open(&*control_path, flags, Mode::empty()).map_err(|e| {
        Error::unable(format_args!("talk to init ({control_path})"), e).with_code(code::USAGE)
    })?;
    let request = format!("{letter}{}\n", caller());
    rustix::io::write(&control, request.as_bytes()).unable(format_args!("write to {control_path}"))?;
    // A finish script that calls us ends with us, and its service would be started again before init gets to
    // it. Where there is no supervisor, or none that answers, that cannot happen or must be.
    let _ = restart_nothing(&place::scandir(), PATIENCE);
    Ok(code::OK)
}

/// Who called us, for the container's log: we shall be gone when init reads it. A finish script is called
/// in the directory of its service.
fn caller() -> String {
    let parent = rustix::process::getppid().map(Pid::from);
    // An orphan's parent is pid 1, which says nothing; that of a process from outside is not to be seen.
    let Some(parent) = parent.filter(|pid| pid.raw() != 1) else { return String::new() };
    let shown = perennial::sys::process::shown(parent);
    let dir = std::env::current_dir().unwrap_or_default();
    let service = match (dir.parent().and_then(|d| d.file_name()), dir.file_name()) {
        (Some(above), Some(name)) if above == "servicedirs" || above == "legacy-services" => Some(name),
        _ => None,
    };
    match service {
        Some(name) => format!("{shown}, service {}", name.to_string_lossy()),
        None => shown,
    }
}
