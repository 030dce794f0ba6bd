//! The places below `/run` that images know by name.

use super::rubbish::Rubbish;
use crate::diag::{self, Error, Result, Unable};
use crate::scan;
use crate::sys::{Errno, env, lock, process};
use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat, openat, symlinkat};
use std::ffi::CString;
use std::fs;
use std::os::fd::OwnedFd;
use std::sync::OnceLock;
use std::time::Duration;

/// The directory that all of this is in: `/run`, or what was found in its place.
static RUN: OnceLock<String> = OnceLock::new();

/// The variable that tells everybody which directory was found in place of `/run`.
const VARIABLE: &str = "PERENNIAL_RUN";

/// `/run`, or what is used in its place: `PERENNIAL_RUN`.
pub fn run() -> &'static str {
    RUN.get_or_init(|| match env::get(VARIABLE).map(|dir| dir.to_string_lossy()) {
        Some(dir) if !dir.is_empty() => dir.trim_end_matches('/').to_owned(),
        _ => "/run".to_owned(),
    })
}

/// A path below [`run`], which begins with a slash.
pub fn below(path: &str) -> String {
    [run(), path].concat()
}

/// The scan directory.
pub fn scandir() -> String {
    below("/service")
}

/// The live directory.
pub fn live() -> String {
    below("/s6-rc")
}

/// The exit code that the container shall have, as text: anybody may write it.
pub fn exit_code_file() -> String {
    below("/s6-linux-init-container-results/exitcode")
}

/// Where `halt` and its kin write what they want.
pub fn control() -> String {
    below("/s6/basedir/control")
}

/// This executable, as `init`.
pub fn own() -> String {
    below("/s6/basedir/bin/init")
}

/// Finds a place for all of it. Where `/run` is not for us, some other directory must do: what scripts look
/// for below `/run` is not there then, but everything that asks our programs works.
pub fn choose() -> Result<()> {
    if env::get(VARIABLE).is_some_and(|dir| !dir.is_empty()) {
        return fs::create_dir_all(run()).unable(format_args!("make {}", run()));
    }
    let Err(e) = usable("/run") else { return Ok(()) };
    let runtime_dir = env::get("XDG_RUNTIME_DIR").map(|dir| dir.to_string_lossy().into_owned());
    let uid = rustix::process::geteuid().as_raw();
    for dir in runtime_dir.iter().map(String::as_str).chain(["/dev/shm", "/tmp", "/var/tmp"]) {
        let own = format!("{dir}/perennial-{uid}");
        if usable(dir).is_ok() && is_private(&own) {
            let reason = diag::reason(e);
            diag::warn(format_args!(
                "unable to use /run: {reason}: using {own} in its place ({})",
                remedy(e)
            ));
            let _ = RUN.set(own);
            return Ok(());
        }
    }
    Ok(())
}

/// Whether we may make files there.
fn usable(dir: &str) -> std::result::Result<(), Errno> {
    use rustix::fs::{Access, AtFlags, accessat};
    accessat(CWD, dir, Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS)
}

/// Makes a directory that is ours alone, if it is not there.
fn is_private(dir: &str) -> bool {
    let _ = rustix::fs::mkdir(dir, Mode::from_raw_mode(0o755));
    let own = rustix::process::geteuid().as_raw();
    rustix::fs::lstat(dir).is_ok_and(|st| {
        FileType::from_raw_mode(st.st_mode).is_dir() && st.st_uid == own && st.st_mode & 0o022 == 0
    })
}

/// The variable for all that we start, if it is needed.
pub fn variable() -> Option<CString> {
    (run() != "/run").then(|| CString::new(format!("{VARIABLE}={}", run())).expect("a path has no NUL"))
}

/// Where what an earlier run left is until it is removed.
const ASIDE: &str = "/s6-rc:old";

/// The commands below `/run/s6/basedir/bin`.
const COMMANDS: [&str; 4] = ["halt", "poweroff", "reboot", "shutdown"];

/// Sets aside what an earlier run left and makes everything anew. The FIFO for `halt`, open, and what is to be removed.
pub fn prepare(workdir: &str) -> Result<(OwnedFd, Rubbish)> {
    refuse_if_in_use()?;
    make_anew(workdir).map_err(|e| match unusable_run() {
        Some(advice) => Error::new(e.code(), format!("{e}: {advice}")),
        None => e,
    })
}

/// What to do about a `/run` that cannot be written to; `None` if it can.
fn unusable_run() -> Option<String> {
    usable(run()).err().map(|e| format!("{} must be there and writable: {}", run(), remedy(e)))
}

/// What helps if `/run` is refused like this.
fn remedy(errno: Errno) -> String {
    let uid = rustix::process::geteuid().as_raw();
    match errno {
        Errno::ACCESS => {
            format!("mount a tmpfs there, --tmpfs /run:exec,uid={uid}, or chown it in the image")
        }
        _ => "mount a tmpfs there, --tmpfs /run:exec".to_owned(),
    }
}

fn make_anew(workdir: &str) -> Result<(OwnedFd, Rubbish)> {
    let mut rubbish = Rubbish::new(below(ASIDE))?;
    for old in ["/s6", "/service", "/uncaught-logs", "/s6-rc"] {
        rubbish.take(&below(old))?;
    }
    take_live(&mut rubbish)?;
    let directories =
        ["", "/s6", "/s6/basedir", "/s6/basedir/bin", "/s6-linux-init-container-results", "/service"];
    for dir in directories {
        make_dir(&below(dir), 0o755)?;
    }
    make_dir(&format!("{}/{}", scandir(), scan::run::DIR), 0o700)?;
    write(&exit_code_file(), "0\n")?;
    write(&below("/s6/workdir"), &format!("{workdir}\n"))?;
    link_commands()?;
    // The scan directory under the name that it had in s6-overlay 2.
    let v2 = below("/s6/services");
    symlinkat(scandir(), CWD, &*v2).unable(format_args!("make {v2}"))?;
    link_var_run();
    Ok((open_control()?, rubbish))
}

/// Scripts use `/var/run/s6/…` as well as `/run/s6/…`. Where `/var/run` is a directory of its own, as in an
/// image that was made from nothing, it gets links; nothing in it is removed.
fn link_var_run() {
    const VAR_RUN: &str = "/var/run";
    if run() != "/run" || rustix::fs::readlink(VAR_RUN, Vec::new()) != Err(Errno::INVAL) {
        return;
    }
    for name in ["s6", "service", "s6-linux-init-container-results"] {
        let _ = symlinkat(format!("/run/{name}"), CWD, format!("{VAR_RUN}/{name}"));
    }
}

/// Two trees in one place would destroy each other.
fn refuse_if_in_use() -> Result<()> {
    let path = format!("{}/{}/lock", scandir(), scan::run::DIR);
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    match openat(CWD, &*path, flags, Mode::empty()) {
        Ok(file) if lock::is_locked(&file) == Ok(true) => {
            Err(Error::usage(format!("unable to use {}: another svscan is at work there", scandir())))
        }
        _ => Ok(()),
    }
}

/// The directories that `/run/s6-rc` has been a link to.
fn take_live(rubbish: &mut Rubbish) -> Result<()> {
    let Ok(entries) = fs::read_dir(run()) else { return Ok(()) };
    for entry in entries.flatten() {
        let path = format!("/{}", entry.file_name().to_string_lossy());
        if path.starts_with("/s6-rc:") && path != ASIDE {
            rubbish.take(&below(&path))?;
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
        let path = below(&format!("/s6/basedir/bin/{command}"));
        symlinkat(&*target, CWD, &*path).unable(format_args!("make {path}"))?;
    }
    let Some((own, _)) = process::sibling("init") else { return Ok(()) };
    symlinkat(&*own, CWD, self::own()).unable(format_args!("make {}", self::own()))
}

fn open_control() -> Result<OwnedFd> {
    let path = control();
    let fail = |e| Error::unable(format_args!("make {path}"), e);
    mknodat(CWD, &*path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).map_err(fail)?;
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
    openat(CWD, &*path, flags, Mode::empty()).map_err(fail)
}

/// Where it is noted how long services may take to stop by their own rules, in milliseconds.
fn stop_time_file() -> String {
    below("/s6/basedir/stop-time")
}

/// Notes how long services may take to stop by their own rules.
pub fn note_stop_time(time: Duration) {
    let _ = fs::write(stop_time_file(), time.as_millis().to_string());
}

/// What was noted.
pub fn stop_time() -> Option<Duration> {
    fs::read_to_string(stop_time_file()).ok()?.parse().ok().map(Duration::from_millis)
}

/// Asks init to stop the container; `who` does so. Whether there is an init that hears it.
pub fn ask_to_stop(who: &str) -> bool {
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let control = openat(CWD, control(), flags, Mode::empty());
    control.is_ok_and(|control| rustix::io::write(&control, format!("h{who}\n").as_bytes()).is_ok())
}

/// The code in the exit code file, by the rules of s6-overlay: the first line; absent or empty is 0; a
/// number counts modulo 256; anything else is 100.
pub fn exit_code() -> u8 {
    parse_exit_code(&fs::read(exit_code_file()).unwrap_or_default())
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
    let st = rustix::fs::stat(exit_code_file()).ok()?;
    Some((st.st_ino as u64, st.st_mtime as i64, st.st_mtime_nsec as u64))
}

/// Writes the exit code file. One that is there is not emptied before: ext4 would write it to the disk at once, which
/// takes a hundred microseconds and more, and we wait for that.
pub fn set_exit_code(code: u8) -> Result<()> {
    let path = exit_code_file();
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
    let file = openat(CWD, &*path, flags, Mode::from_raw_mode(0o666));
    let text = format!("{code}\n");
    let written = file.and_then(|file| {
        rustix::io::pwrite(&file, text.as_bytes(), 0)?;
        rustix::fs::ftruncate(&file, text.len() as u64)
    });
    written.unable(format_args!("write {path}"))
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
