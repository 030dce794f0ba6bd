//! The run script of a logger, as s6-overlay has it: logs as the user nobody, by the container's logging script.

use lexopt::prelude::*;
use perennial::accounts::Database;
use perennial::cli;
use perennial::diag::{Error, Result, Unable};
use perennial::init::settings;
use perennial::log::run::{self, Options};
use perennial::log::script::{Format, Script};
use perennial::sys::env;
use rustix::fs::{CWD, Gid, Mode, OFlags, Uid, chown, open};
use rustix::process::{geteuid, getgid, getuid};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::process::ExitCode;

const USAGE: &str = "logutil-service [ -f fifo ] logdir";

/// The program.
pub fn main() -> ExitCode {
    cli::main("logutil-service", logutil_service)
}

/// The script where nothing says another one.
const SCRIPT: &str = "n20 s1000000 T";

/// Who `nobody` is where no account says so.
const NOBODY: (u32, u32) = (65534, 65534);

/// Its options.
pub fn logutil_service(mut parser: lexopt::Parser) -> Result<u8> {
    let (mut fifo, mut dir) = (None, None);
    while let Some(arg) = cli::next(&mut parser)? {
        match arg {
            Short('f') => fifo = Some(parser.value()?),
            Short('h') | Long("help") => return cli::help(USAGE),
            Value(value) if dir.is_none() => dir = Some(cli::text(value)?),
            _ => return Err(cli::usage(USAGE)),
        }
    }
    let dir = cli::absolute(&dir.ok_or_else(|| cli::usage(USAGE))?)?;
    let mut words = run::words(&script());
    words.push(dir.clone().into());
    let script = Script::parse(&words, Format::Text)?;
    let (uid, gid) = nobody()?;
    make(&dir, uid, gid)?;
    if let Some(path) = fifo {
        let shown = path.to_string_lossy().into_owned();
        let input = open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .unable(format_args!("open {shown}"))?;
        rustix::stdio::dup2_stdin(input).unable(format_args!("read {shown}"))?;
    }
    become_user(uid, gid)?;
    env::replace(Vec::new());
    run::run(script, Options::default())
}

/// S6_LOGGING_SCRIPT, of our environment or of the container's.
fn script() -> OsString {
    settings::bytes("S6_LOGGING_SCRIPT").map_or_else(|| SCRIPT.into(), OsString::from_vec)
}

fn nobody() -> Result<(u32, u32)> {
    let users = Database::users()?;
    let Some(uid) = users.id("nobody") else { return Ok(NOBODY) };
    Ok((uid, users.primary_group(uid).unwrap_or(NOBODY.1)))
}

/// Makes the directory, and gives it to its user, if it is not there.
fn make(dir: &str, uid: u32, gid: u32) -> Result<()> {
    if std::fs::metadata(dir).is_ok() {
        return Ok(());
    }
    if let Some((parent, _)) = dir.rsplit_once('/') {
        std::fs::create_dir_all(format!("{parent}/")).unable(format_args!("make {parent}"))?;
    }
    rustix::fs::mkdirat(CWD, dir, Mode::from_raw_mode(0o2755)).unable(format_args!("make {dir}"))?;
    if geteuid().is_root() {
        chown(dir, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))).unable(format_args!("chown {dir}"))?;
    }
    Ok(())
}

/// Who is not root, and not that user already, cannot.
fn become_user(uid: u32, gid: u32) -> Result<()> {
    use rustix::thread::{set_thread_gid, set_thread_groups, set_thread_uid};
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    if (getuid(), getgid()) == (uid, gid) && !geteuid().is_root() {
        return Ok(());
    }
    set_thread_groups(&[])
        .and_then(|()| set_thread_gid(gid))
        .and_then(|()| set_thread_uid(uid))
        .map_err(|e| Error::unable("become the user nobody", e))
}
