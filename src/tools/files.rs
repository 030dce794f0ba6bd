//! s6-mkdir, s6-chmod, s6-chown, s6-ln, s6-touch, s6-rmrf, s6-mkfifo, s6-hiercopy.

use crate::chain::*;
use crate::files::copy_tree;
use crate::sys::Errno;
use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, Uid, chmodat, chownat, linkat, mkdirat, mknodat, renameat,
};
use rustix::fs::{stat, symlinkat, unlinkat};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

fn mode(word: &[u8], args: &Args) -> Result<Mode> {
    parse(word, 8).map(|bits| Mode::from_raw_mode(bits & 0o7777)).ok_or_else(|| args.misused())
}

fn set_umask(mask: u32) {
    rustix::process::umask(Mode::from_raw_mode(mask));
}

/// `s6-mkdir`
pub fn mkdir(args: &mut Args) -> Result<Step> {
    let (mut parents, mut verbose, mut bits) = (false, false, None);
    loop {
        match args.option("pvm:")? {
            b'p' => parents = true,
            b'v' => verbose = true,
            b'm' => bits = Some(mode(args.value(), args)?),
            _ => break,
        }
    }
    if bits.is_some() {
        set_umask(0);
    }
    let bits = bits.unwrap_or(Mode::from_raw_mode(0o777));
    let mut outcome = 0;
    let mut make = |path: &[u8], may_be_there: bool| match mkdirat(CWD, &*c_string(path), bits) {
        Err(Errno::EXIST) if may_be_there => true,
        Err(errno) => {
            warn(&[unable_to("mkdir", path, errno).message()]);
            outcome = 111;
            false
        }
        Ok(()) => {
            if verbose {
                crate::diag::info(["created directory ", shown(path)].concat());
            }
            true
        }
    };
    for path in args.rest() {
        let slashes = (1..path.len()).filter(|i| parents && path[*i] == b'/');
        if slashes.into_iter().all(|end| make(&path[..end], true)) {
            make(path, parents);
        }
    }
    Ok(Step::Exit(outcome))
}

/// `s6-chmod`
pub fn chmod(args: &mut Args) -> Result<Step> {
    args.at_least(2)?;
    let bits = mode(args.word()?, args)?;
    let path = args.word()?;
    chmodat(CWD, &*c_string(path), bits, AtFlags::empty())
        .map_err(|errno| unable_to("change mode of", path, errno))?;
    Ok(Step::Exit(0))
}

/// `s6-chown`
pub fn chown(args: &mut Args) -> Result<Step> {
    let (mut uid, mut gid) = (None, None);
    loop {
        match args.option("Uu:g:")? {
            b'u' => uid = Some(args.value_number()?),
            b'g' => gid = Some(args.value_number()?),
            b'U' => (uid, gid) = (Some(variable_number(b"UID")?), Some(variable_number(b"GID")?)),
            _ => break,
        }
    }
    let path = args.word()?;
    let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
    chownat(CWD, &*c_string(path), uid, gid, AtFlags::empty())
        .map_err(|errno| unable_to("chown", path, errno))?;
    Ok(Step::Exit(0))
}

/// The last part of a path.
pub(super) fn last_part(path: &[u8]) -> &[u8] {
    let end = path.iter().rposition(|b| *b != b'/').map_or(path.len().min(1), |at| at + 1);
    let path = &path[..end];
    if path == b"/" { path } else { path.rsplit(|b| *b == b'/').next().unwrap_or(path) }
}

/// What `s6-ln` makes.
#[derive(Clone, Copy)]
enum Link {
    Symbolic,
    Hard(AtFlags),
}

impl Link {
    fn make(self, old: &[u8], new: &[u8]) -> std::result::Result<(), Errno> {
        let (old, new) = (c_string(old), c_string(new));
        match self {
            Link::Symbolic => symlinkat(&*old, CWD, &*new),
            Link::Hard(flags) => linkat(CWD, &*old, CWD, &*new, flags),
        }
    }

    /// The same; `force` replaces what is there at once.
    fn place(self, old: &[u8], new: &[u8], force: bool) -> bool {
        let done = match self.make(old, new) {
            Err(Errno::EXIST) if force => {
                let beside = cat(&[new, b":", decimal(rustix::process::getpid().as_raw_nonzero().get())]);
                let beside_c = c_string(beside);
                let _ = unlinkat(CWD, &*beside_c, AtFlags::empty());
                let done =
                    self.make(old, beside).and_then(|()| renameat(CWD, &*beside_c, CWD, &*c_string(new)));
                // If both were links to the same file, it is still there.
                let _ = unlinkat(CWD, &*beside_c, AtFlags::empty());
                done
            }
            done => done,
        };
        done.map_err(|errno| {
            let what = cat(&[b"from ", new, b" to ", old]);
            warn(&[unable_to("make a link", what, errno).message()]);
        })
        .is_ok()
    }
}

/// `s6-ln`
pub fn ln(args: &mut Args) -> Result<Step> {
    let (mut link, mut force, mut no_directory) = (Link::Hard(AtFlags::empty()), false, false);
    loop {
        match (args.option("nsfLP")?, link) {
            (0, _) => break,
            (b'n', _) => no_directory = true,
            (b'f', _) => force = true,
            (b's', _) => link = Link::Symbolic,
            (_, Link::Symbolic) => {}
            (letter, _) => {
                link = Link::Hard(if letter == b'L' { AtFlags::SYMLINK_FOLLOW } else { AtFlags::empty() });
            }
        }
    }
    args.at_least(2)?;
    let mut sources = args.rest();
    let target = sources.pop().unwrap_or_default();
    let found = if no_directory { rustix::fs::lstat(&*c_string(target)) } else { stat(&*c_string(target)) };
    let is_directory = match found {
        _ if sources.len() > 1 => true,
        Ok(found) => FileType::from_raw_mode(found.st_mode) == FileType::Directory,
        Err(Errno::NOENT) => false,
        Err(errno) => return Err(unable_to("stat", target, errno)),
    };
    let mut failed = 0;
    for source in &sources {
        let inside = cat(&[target, b"/", last_part(source)]);
        failed += u8::from(!link.place(source, if is_directory { inside } else { target }, force));
    }
    Ok(Step::Exit(failed))
}

/// `s6-touch`
pub fn touch(args: &mut Args) -> Result<Step> {
    use rustix::fs::{Timespec, Timestamps, UTIME_NOW};
    args.at_least(1)?;
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    let now = Timestamps { last_access: now, last_modification: now };
    for path in args.rest() {
        let name = c_string(path);
        let touched = match rustix::fs::utimensat(CWD, &*name, &now, AtFlags::empty()) {
            // For writing, created.
            Err(Errno::NOENT) => crate::sys::fd::open(&name, 0o101).map(crate::sys::fd::close),
            done => done,
        };
        touched.map_err(|errno| unable_to("touch", path, errno))?;
    }
    Ok(Step::Exit(0))
}

/// `s6-rmrf`
pub fn rmrf(args: &mut Args) -> Result<Step> {
    args.at_least(1)?;
    for path in args.rest() {
        let path = Path::new(OsStr::from_bytes(path));
        match std::fs::remove_file(path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Ok(()) => {}
            Err(_) => crate::files::remove_tree(path)?,
        }
    }
    Ok(Step::Exit(0))
}

/// `s6-mkfifo`
pub fn mkfifo(args: &mut Args) -> Result<Step> {
    let mut bits = Mode::from_raw_mode(0o666);
    while args.option("m:")? != 0 {
        bits = mode(args.value(), args)?;
    }
    args.at_least(1)?;
    set_umask(0o111);
    for path in args.rest() {
        mknodat(CWD, &*c_string(path), FileType::Fifo, bits, 0)
            .map_err(|errno| unable_to("make fifo", path, errno))?;
    }
    Ok(Step::Exit(0))
}

/// `s6-hiercopy`: a directory that is there already keeps what it has.
pub fn hiercopy(args: &mut Args) -> Result<Step> {
    args.at_least(2)?;
    let path = |word: Word| PathBuf::from(OsStr::from_bytes(word));
    let (from, to) = (path(args.word()?), path(args.word()?));
    set_umask(0);
    merge(&from, &to)?;
    Ok(Step::Exit(0))
}

fn merge(from: &Path, to: &Path) -> Result<()> {
    let is_directory = |path: &Path| path.symlink_metadata().is_ok_and(|meta| meta.is_dir());
    if !is_directory(from) || !is_directory(to) {
        if to.symlink_metadata().is_ok_and(|meta| meta.is_file()) {
            let _ = std::fs::remove_file(to);
        }
        return copy_tree(from, to);
    }
    let broken = |e: std::io::Error| {
        unable(&["copy ", &from.to_string_lossy(), " to ", &to.to_string_lossy()].concat(), reason_of(&e))
    };
    for entry in std::fs::read_dir(from).map_err(broken)? {
        let name = entry.map_err(broken)?.file_name();
        merge(&from.join(&name), &to.join(&name))?;
    }
    let permissions = from.symlink_metadata().map_err(broken)?.permissions();
    std::fs::set_permissions(to, permissions).map_err(broken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_parts() {
        for (path, last) in [("a", "a"), ("/a/b", "b"), ("a/b//", "b"), ("/", "/"), ("//", "/"), ("", "")] {
            assert_eq!(last_part(path.as_bytes()), last.as_bytes(), "{path}");
        }
    }
}
