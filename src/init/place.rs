//! The places below `/run` that images know by name.

use crate::diag::{Error, Result, Unable};
use crate::scan;
use crate::sys::{Errno, lock, process};
use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat, openat, symlinkat};
use std::fs;
use std::os::fd::OwnedFd;

/// The scan directory.
pub const SCANDIR: &str = "/run/service";

/// The scan directory under the name that it had in s6-overlay 2.
const V2_SCANDIR: &str = "/run/s6/services";

/// The live directory.
pub const LIVE: &str = "/run/s6-rc";

/// The exit code that the container shall have, as text: anybody may write it.
pub const EXIT_CODE: &str = "/run/s6-linux-init-container-results/exitcode";

/// Where `halt` and its kin write what they want.
pub const CONTROL: &str = "/run/s6/basedir/control";

/// The directory that the container was started in.
const WORKDIR: &str = "/run/s6/workdir";

/// This executable, as `init`.
pub const OWN: &str = "/run/s6/basedir/bin/init";

/// The commands below `/run/s6/basedir/bin`.
const COMMANDS: [&str; 4] = ["halt", "poweroff", "reboot", "shutdown"];

/// Removes what an earlier run left and makes everything anew. The FIFO for `halt`, open.
pub fn prepare(workdir: &str) -> Result<OwnedFd> {
    refuse_if_in_use()?;
    make_anew(workdir).map_err(|e| match unusable_run() {
        Some(advice) => Error::new(e.code(), format!("{e}: {advice}")),
        None => e,
    })
}

/// What to do about a `/run` that cannot be written to; `None` if it can.
fn unusable_run() -> Option<String> {
    use rustix::fs::{Access, AtFlags, accessat};
    let remedy = "mount a tmpfs there";
    match accessat(CWD, "/run", Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS) {
        Ok(()) => None,
        Err(Errno::ACCESS) => {
            let uid = rustix::process::geteuid().as_raw();
            Some(format!(
                "/run must be writable for uid {uid}: {remedy} (--tmpfs /run:exec,uid={uid}), or chown it in the image"
            ))
        }
        Err(_) => Some(format!("/run must be there and writable: {remedy} (--tmpfs /run:exec)")),
    }
}

fn make_anew(workdir: &str) -> Result<OwnedFd> {
    for old in ["/run/s6", SCANDIR, "/run/uncaught-logs"] {
        remove(old)?;
    }
    remove_live()?;
    for dir in [
        "/run",
        "/run/s6",
        "/run/s6/basedir",
        "/run/s6/basedir/bin",
        "/run/s6-linux-init-container-results",
        SCANDIR,
    ] {
        make_dir(dir, 0o755)?;
    }
    make_dir(&format!("{SCANDIR}/{}", scan::run::DIR), 0o700)?;
    write(EXIT_CODE, "0\n")?;
    write(WORKDIR, &format!("{workdir}\n"))?;
    link_commands()?;
    symlinkat(SCANDIR, CWD, V2_SCANDIR).unable(format_args!("make {V2_SCANDIR}"))?;
    open_control()
}

/// Two trees in one place would destroy each other.
fn refuse_if_in_use() -> Result<()> {
    let path = format!("{SCANDIR}/{}/lock", scan::run::DIR);
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    match openat(CWD, &*path, flags, Mode::empty()) {
        Ok(file) if lock::is_locked(&file) == Ok(true) => {
            Err(Error::usage(format!("unable to use {SCANDIR}: another svscan is at work there")))
        }
        _ => Ok(()),
    }
}

fn remove(path: &str) -> Result<()> {
    let done = match fs::symlink_metadata(path) {
        Err(_) => return Ok(()),
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
    };
    done.unable(format_args!("remove {path}"))
}

/// `/run/s6-rc` and the directories it has been a link to.
fn remove_live() -> Result<()> {
    remove(LIVE)?;
    let Ok(entries) = fs::read_dir("/run") else { return Ok(()) };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if name.to_string_lossy().starts_with("s6-rc:") {
            remove(&format!("/run/{}", name.to_string_lossy()))?;
        }
    }
    Ok(())
}

fn make_dir(path: &str, mode: u32) -> Result<()> {
    match rustix::fs::mkdir(path, Mode::from_raw_mode(mode)) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(e) => Err(Error::unable(format_args!("make {path}"), e)),
    }
}

fn write(path: &str, text: &str) -> Result<()> {
    fs::write(path, text).unable(format_args!("write {path}"))
}

/// `halt` and the others are this executable under their names.
fn link_commands() -> Result<()> {
    // An executable that is only init has one beside it that is all programs.
    let all = process::sibling("halt").or_else(|| process::sibling("perennial"));
    let Some((target, _)) = all else { return Ok(()) };
    for command in COMMANDS {
        let path = format!("/run/s6/basedir/bin/{command}");
        symlinkat(&*target, CWD, &*path).unable(format_args!("make {path}"))?;
    }
    let Some((own, _)) = process::sibling("init") else { return Ok(()) };
    symlinkat(&*own, CWD, OWN).unable(format_args!("make {OWN}"))
}

fn open_control() -> Result<OwnedFd> {
    let fail = |e| Error::unable(format_args!("make {CONTROL}"), e);
    mknodat(CWD, CONTROL, FileType::Fifo, Mode::from_raw_mode(0o600), 0).map_err(fail)?;
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
    openat(CWD, CONTROL, flags, Mode::empty()).map_err(fail)
}

/// Asks init to stop the container; `who` does so. Whether there is an init that hears it.
pub fn ask_to_stop(who: &str) -> bool {
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let control = openat(CWD, CONTROL, flags, Mode::empty());
    control.is_ok_and(|control| rustix::io::write(&control, format!("h{who}\n").as_bytes()).is_ok())
}

/// The code in the exit code file, by the rules of s6-overlay: the first line; absent or empty is 0; a
/// number counts modulo 256; anything else is 100.
pub fn exit_code() -> u8 {
    parse_exit_code(&fs::read(EXIT_CODE).unwrap_or_default())
}

fn parse_exit_code(bytes: &[u8]) -> u8 {
    if bytes.is_empty() {
        return 0;
    }
    let line = bytes.split(|&b| b == b'\n').next().unwrap_or_default();
    let text = String::from_utf8_lossy(line);
    let digits = text.trim_end();
    match digits.parse::<u64>() {
        Ok(n) if digits.bytes().all(|b| b.is_ascii_digit()) => n as u8,
        _ => 100,
    }
}

/// Which writing of the exit code file is the last one: file and time, to the nanosecond as far as the kernel
/// counts them.
pub type Stamp = Option<(u64, i64, u64)>;

/// The stamp of the exit code file as it is now.
pub fn exit_code_stamp() -> Stamp {
    let st = rustix::fs::stat(EXIT_CODE).ok()?;
    Some((st.st_ino as u64, st.st_mtime as i64, st.st_mtime_nsec as u64))
}

/// Writes the exit code file.
pub fn set_exit_code(code: u8) -> Result<()> {
    write(EXIT_CODE, &format!("{code}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_as_s6_overlay_reads_them() {
        for (text, code) in [
            ("", 0),
            ("0\n", 0),
            ("7", 7),
            ("255\n", 255),
            ("300\n", 44),
            ("256", 0),
            ("3 \n", 3),
            ("3\nrest", 3),
            ("\n", 100),
            (" 3", 100),
            ("-1", 100),
            ("x", 100),
        ] {
            assert_eq!(parse_exit_code(text.as_bytes()), code, "{text:?}");
        }
    }
}
