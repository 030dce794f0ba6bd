//! The files of a log directory besides `current`: archives, their names, and how many are kept.

use crate::ordered::sorted;
use crate::sys::{Errno, clock};
use crate::time::Tai64n;
use rustix::fs::{
    AtFlags, Mode, OFlags, RawDir, RenameFlags, openat, renameat, renameat_with, statat, unlinkat,
};
use std::mem::MaybeUninit;
use std::os::fd::AsFd;

/// An archive.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Archive {
    /// When it was made.
    pub stamp: Tai64n,
    /// Its name: `@`, 24 digits, and `.s` or, if its end is not known to be one, `.u`.
    pub name: String,
}

impl Archive {
    /// By its name, if it is that of an archive.
    pub fn by_name(name: &[u8]) -> Option<Archive> {
        let digits = name.strip_suffix(b".s").or(name.strip_suffix(b".u"))?;
        let stamp = Tai64n::parse(digits)?;
        Some(Archive { stamp, name: String::from_utf8_lossy(name).into_owned() })
    }
}

/// The archives of a directory, oldest first.
pub fn list(dir: impl AsFd) -> Result<Vec<Archive>, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let open = openat(dir, ".", flags, Mode::empty())?;
    let mut space = [MaybeUninit::uninit(); 4096];
    let mut entries = RawDir::new(&open, &mut space);
    let mut found = Vec::new();
    while let Some(entry) = entries.next() {
        found.extend(Archive::by_name(entry?.file_name().to_bytes()));
    }
    Ok(sorted(found))
}

/// Makes an archive of a finished file: `.s`, or `.u` if it is not known where it ends. No archive is ever
/// replaced, and each is newer than `newest`, whatever the clock says. An empty file becomes none.
pub fn keep(dir: impl AsFd, name: &str, suffix: &str, newest: &mut Tai64n) -> Result<(), Errno> {
    let file = match statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => return Ok(()),
        file => file?,
    };
    // s6-log links and then unlinks: a file that has two names is an archive already.
    if file.st_size == 0 || file.st_nlink > 1 {
        return unlinkat(dir, name, AtFlags::empty());
    }
    *newest = clock::wall().max(newest.offset(1));
    loop {
        let to = format!("{newest}{suffix}");
        let moved = match renameat_with(&dir, name, &dir, &*to, RenameFlags::NOREPLACE) {
            // The file system or the kernel does not know that.
            Err(Errno::INVAL | Errno::NOSYS) => match statat(&dir, &*to, AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => renameat(&dir, name, &dir, &*to),
                there => there.and(Err(Errno::EXIST)),
            },
            moved => moved,
        };
        match moved {
            Err(Errno::EXIST) => *newest = newest.offset(1),
            moved => return moved,
        }
    }
}

/// Removes the oldest archives until there are at most `most`, and they have at most `total` bytes together (0
/// for any number).
pub fn trim(dir: impl AsFd, most: u64, total: u64) -> Result<(), Errno> {
    let archives = list(&dir)?;
    let (mut count, mut bytes) = (0, 0);
    for archive in archives.iter().rev() {
        count += 1;
        if total > 0 {
            bytes += statat(&dir, &*archive.name, AtFlags::SYMLINK_NOFOLLOW).map_or(0, |s| s.st_size as u64);
        }
        if count > most || (total > 0 && bytes > total) {
            match unlinkat(&dir, &*archive.name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(e) => return Err(e),
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let name = b"@400000006b01e3fa30a62463.s";
        let archive = Archive::by_name(name).unwrap();
        assert_eq!(archive.stamp.to_string().as_bytes(), &name[..25]);
        for bad in
            [&b"current"[..], b"@400000006b01e3fa30a62463", b"@400000006b01e3fa30a62463.t", b"@.s", b".s"]
        {
            assert_eq!(Archive::by_name(bad), None);
        }
    }
}
