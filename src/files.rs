//! Whole directory trees: copying and removing them.

use crate::diag::{Result, Unable};
use crate::sys::Errno;
use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, Uid, chmodat, chownat, mknodat};
use std::fs::{self, Metadata};
use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::path::Path;

/// Copies `from` to `to`, which must not be there: directories, files, links as links, FIFOs and device
/// nodes, with mode and (as far as we may) owner. Times are not kept.
pub fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    let doing = format_args!("copy {} to {}", from.display(), to.display()).to_string();
    let meta = fs::symlink_metadata(from).unable(&doing)?;
    let kind = meta.file_type();
    if kind.is_symlink() {
        let target = fs::read_link(from).unable(&doing)?;
        symlink(target, to).unable(&doing)?;
        return keep_owner(to, &meta).unable(&doing);
    }
    if kind.is_dir() {
        fs::create_dir(to).unable(&doing)?;
        for entry in fs::read_dir(from).unable(&doing)? {
            let name = entry.unable(&doing)?.file_name();
            copy_tree(&from.join(&name), &to.join(&name))?;
        }
    } else if kind.is_file() {
        fs::copy(from, to).unable(&doing)?;
    } else if kind.is_socket() {
        // Nobody would listen at the copy.
        return Err(Errno::OPNOTSUPP).unable(&doing);
    } else {
        let kind = FileType::from_raw_mode(meta.mode());
        mknodat(CWD, to, kind, Mode::from_raw_mode(0o600), meta.rdev()).unable(&doing)?;
    }
    // In this order: changing the owner takes setuid and setgid bits away.
    keep_owner(to, &meta).unable(&doing)?;
    chmodat(CWD, to, Mode::from_raw_mode(meta.mode() & 0o7777), AtFlags::empty()).unable(&doing)
}

/// Gives a copy the owner of its original, if we are somebody who can.
fn keep_owner(to: &Path, meta: &Metadata) -> std::result::Result<(), Errno> {
    let (uid, gid) = (Uid::from_raw(meta.uid()), Gid::from_raw(meta.gid()));
    match chownat(CWD, to, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::PERM | Errno::INVAL) => Ok(()),
        done => done,
    }
}

/// Removes a tree. One that is not there is removed already. Somebody may still be writing to it, who is
/// about to end: then what has appeared is removed too.
pub fn remove_tree(path: &Path) -> Result<()> {
    let mut done = fs::remove_dir_all(path);
    for _ in 0..20 {
        match &done {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
            Err(e) if e.kind() == ErrorKind::DirectoryNotEmpty => done = fs::remove_dir_all(path),
            _ => break,
        }
    }
    done.unable(format_args!("remove {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_copy_has_everything_and_its_modes() {
        let base = std::env::temp_dir().join(format!("perennial-files-{}", std::process::id()));
        let (from, to) = (base.join("from"), base.join("to"));
        fs::create_dir_all(from.join("data/empty")).unwrap();
        fs::write(from.join("run"), "#!/bin/sh\n").unwrap();
        symlink("nowhere", from.join("data/link")).unwrap();
        mknodat(CWD, from.join("data/fifo"), FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        for (name, mode) in [("run", 0o750), ("data", 0o3730), ("data/fifo", 0o602)] {
            fs::set_permissions(from.join(name), fs::Permissions::from_mode(mode)).unwrap();
        }
        copy_tree(&from, &to).unwrap();
        let mode = |name: &str| fs::symlink_metadata(to.join(name)).unwrap().mode() & 0o7777;
        assert_eq!((mode("run"), mode("data"), mode("data/fifo")), (0o750, 0o3730, 0o602));
        assert_eq!(fs::read(to.join("run")).unwrap(), b"#!/bin/sh\n");
        assert_eq!(fs::read_link(to.join("data/link")).unwrap(), Path::new("nowhere"));
        assert!(to.join("data/empty").is_dir());
        assert!(copy_tree(&from, &to).is_err(), "there is one already");
        remove_tree(&base).unwrap();
        remove_tree(&base).unwrap();
    }
}
