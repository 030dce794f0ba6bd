//! `S6_LOGGING`: what nobody else logs goes into `/run/uncaught-logs`.
//!
//! Our standard output and error, and so those of all that we start, become a FIFO; a logger that is a service
//! like any other, `s6-svscan-log`, reads it. Because somebody always has the FIFO open for reading and
//! writing, nothing that is written is lost, and nobody is killed for writing, while the logger is restarted.

use super::{place, settings};
use crate::accounts::Database;
use crate::diag::{Error, Result, Unable, code};
use crate::scan::CATCH_ALL;
use crate::sys::spawn::{self, CArray, candidates};
use crate::sys::{Errno, env, process};
use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, Uid, chmodat, chownat, mknodat, open};
use std::ffi::CString;
use std::fs;
use std::os::fd::OwnedFd;

/// Where the lines go.
fn logs() -> String {
    place::below("/uncaught-logs")
}

/// The logger's input, in its service directory.
const FIFO: &str = "fifo";

/// Makes the logger's service and turns our output to it. What was our standard error, for the logger; none
/// if there is to be none.
pub fn begin() -> Result<Option<OwnedFd>> {
    if settings::number("S6_LOGGING").unwrap_or(0) == 0 {
        return Ok(None);
    }
    let owner = account()?;
    let logs = logs();
    make_dir(&logs, 0o2750)?;
    if let Some((uid, gid)) = owner {
        let ids = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        chownat(CWD, &*logs, ids.0, ids.1, AtFlags::empty()).unable(format_args!("chown {logs}"))?;
    }
    // Whatever the umask, and after chown, which takes bits away.
    chmodat(CWD, &*logs, Mode::from_raw_mode(0o2750), AtFlags::empty())
        .unable(format_args!("chmod {logs}"))?;
    let dir = format!("{}/{CATCH_ALL}", place::scandir());
    make_dir(&dir, 0o755)?;
    let run = format!("{dir}/run");
    fs::write(&run, format!("#!{} --step\n", place::own())).unable(format_args!("write {run}"))?;
    chmodat(CWD, &*run, Mode::from_raw_mode(0o755), AtFlags::empty()).unable(format_args!("chmod {run}"))?;
    let path = format!("{dir}/{FIFO}");
    mknodat(CWD, &*path, FileType::Fifo, Mode::from_raw_mode(0o600), 0)
        .unable(format_args!("make {path}"))?;
    let fifo =
        open(&*path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).unable(format_args!("open {path}"))?;
    let console =
        rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stderr(), 16).unable("keep standard error")?;
    process::speak_to(Some(&fifo));
    Ok(Some(console))
}

fn make_dir(path: &str, mode: u32) -> Result<()> {
    rustix::fs::mkdir(path, Mode::from_raw_mode(mode)).unable(format_args!("make {path}"))
}

/// `S6_CATCHALL_USER`: who the logger is; `None`: who we are.
fn account() -> Result<Option<(u32, u32)>> {
    let Some(name) = settings::text("S6_CATCHALL_USER").filter(|name| name != "root") else {
        return Ok(None);
    };
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let users = Database::users()?;
    let uid =
        users.id(&name).ok_or_else(|| Error::usage(format!("S6_CATCHALL_USER={name}: no such user")))?;
    Ok(Some((uid, users.primary_group(uid).unwrap_or(uid))))
}

/// Becomes the logger, in its service directory: this is its `run`.
pub fn become_logger() -> Result<u8> {
    let input = open(FIFO, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).unable("open fifo")?;
    rustix::stdio::dup2_stdin(&input).unable("read fifo")?;
    rustix::stdio::dup2_stdout(rustix::stdio::stderr()).unable("write to the console")?;
    if let Some((uid, gid)) = account()? {
        use rustix::thread::{set_thread_gid, set_thread_groups, set_thread_uid};
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        set_thread_groups(&[gid]).unable("set groups")?;
        set_thread_gid(gid).unable("set the group")?;
        set_thread_uid(uid).unable("set the user")?;
    }
    let script = settings::text("S6_LOGGING_SCRIPT").unwrap_or_else(|| "T".to_owned());
    let stamp = script.split_ascii_whitespace().filter(|word| matches!(*word, "t" | "T"));
    let to_console = (settings::number("S6_LOGGING") == Some(1)).then_some("1");
    let (programs, name) = match process::sibling("svlog") {
        Some((program, name)) => (vec![program], name),
        None => {
            let path = env::get("PATH").map_or(&b"/usr/bin:/bin"[..], |path| path.as_encoded_bytes());
            (candidates(c"s6-log", path), c"s6-log".to_owned())
        }
    };
    let logs = logs();
    let words = ["-bp", "--"].into_iter().chain(stamp).chain(to_console).chain([&*logs]);
    let words = words.map(|word| CString::new(word).expect("split at blanks, without NUL"));
    let argv = CArray::new(std::iter::once(name).chain(words).collect());
    crate::sys::signal::unblock_all();
    let error = spawn::exec(&programs, &argv, None);
    let code = if error == Errno::NOENT { code::NOT_FOUND } else { code::NOT_EXECUTABLE };
    Err(Error::unable("execute the logger (svlog, or s6-log)", error).with_code(code))
}
