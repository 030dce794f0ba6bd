//! A scan directory: who comes and who goes, and keeping the one supervisor alive that runs them all.
//!
//! This file is the pure part: two listings → what to tell the supervisor. [`run`] is the loop.

pub mod client;
pub mod control;
pub mod link;
pub mod reaper;
pub mod run;

use crate::ordered::Map;
use crate::sys::Errno;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, openat, statat};
use std::mem::MaybeUninit;
use std::os::fd::AsFd;

/// The service that reads what everybody in the scan directory says. It ends last.
pub const CATCH_ALL: &str = "s6-svscan-log";

/// Which file something is: its device and inode. A name may come to mean another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Identity {
    /// `st_dev`
    pub device: u64,
    /// `st_ino`
    pub inode: u64,
}

impl Identity {
    /// Of an open file.
    pub fn of(fd: impl AsFd) -> Result<Identity, Errno> {
        let st = rustix::fs::fstat(fd)?;
        Ok(Identity { device: st.st_dev, inode: st.st_ino })
    }

    /// Of the file that has this name now.
    pub fn at(path: &str) -> Result<Identity, Errno> {
        let st = rustix::fs::stat(path)?;
        Ok(Identity { device: st.st_dev, inode: st.st_ino })
    }

    /// A name for something of what this is that has none of its own. (The kernel's device numbers have 32 bits.)
    pub fn keyed(self, number: u16) -> Identity {
        Identity { device: self.device | (u64::from(number) + 1) << 48, ..self }
    }

    /// Whether it is such a name.
    pub fn is_keyed(self) -> bool {
        self.device >> 48 != 0
    }

    /// As bytes, for messages on this machine.
    pub fn to_bytes(self) -> [u8; 16] {
        let mut out = [0; 16];
        out[..8].copy_from_slice(&self.device.to_ne_bytes());
        out[8..].copy_from_slice(&self.inode.to_ne_bytes());
        out
    }

    /// From such bytes.
    pub fn from_bytes(bytes: [u8; 16]) -> Identity {
        let half = |at: usize| u64::from_ne_bytes(bytes[at..at + 8].try_into().expect("8 of 16 bytes"));
        Identity { device: half(0), inode: half(8) }
    }
}

/// The service directories of a scan directory by name, loggers as `NAME/log`.
pub type Listing = Map<String, Identity>;

/// How much there may be in a scan directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// `-C`: services and loggers together.
    pub services: usize,
    /// `-L`: bytes of a name.
    pub name: usize,
}

/// What was left out of a listing, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Skipped {
    /// Its name is longer than allowed.
    LongName(String),
    /// There are more than allowed.
    TooMany(usize),
    /// It cannot be looked at.
    Unreadable(String, Errno),
    /// Its name is not UTF-8.
    OddName(String),
}

/// Lists `dir`. An entry that is bad is skipped and reported, and keeps no other from being listed. With
/// `complete_only`, directories that have no `run` yet are left out: somebody is still writing them.
pub fn list(
    dir: impl AsFd,
    limits: Limits,
    complete_only: bool,
    mut skipped: impl FnMut(Skipped),
) -> Result<Listing, Errno> {
    let mut listing = Listing::new();
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let open = openat(dir, ".", flags, Mode::empty())?;
    let mut space = vec![MaybeUninit::uninit(); 8192];
    let mut entries = RawDir::new(&open, &mut space);
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let bytes = entry.file_name().to_bytes();
        if bytes.starts_with(b".") || !may_be_directory(entry.file_type()) {
            continue;
        }
        let Ok(name) = std::str::from_utf8(bytes) else {
            skipped(Skipped::OddName(String::from_utf8_lossy(bytes).into_owned()));
            continue;
        };
        let service = match directory(&open, name) {
            Ok(Some(service)) => service,
            Ok(None) => continue,
            Err(e) => {
                skipped(Skipped::Unreadable(name.to_owned(), e));
                continue;
            }
        };
        if name.len() > limits.name {
            skipped(Skipped::LongName(name.to_owned()));
            continue;
        }
        if complete_only && statat(&open, format!("{name}/run"), AtFlags::empty()).is_err() {
            continue;
        }
        let logger = directory(&open, &format!("{name}/log")).ok().flatten();
        if listing.len() + 1 + logger.is_some() as usize > limits.services {
            skipped(Skipped::TooMany(limits.services));
            break;
        }
        listing.extend(logger.map(|logger| (format!("{name}/log"), logger)));
        listing.insert(name.to_owned(), service);
    }
    Ok(listing)
}

fn may_be_directory(kind: FileType) -> bool {
    matches!(kind, FileType::Directory | FileType::Symlink | FileType::Unknown)
}

fn directory(at: impl AsFd, name: &str) -> Result<Option<Identity>, Errno> {
    let st = statat(at, name, AtFlags::empty())?;
    let is_dir = FileType::from_raw_mode(st.st_mode).is_dir();
    Ok(is_dir.then_some(Identity { device: st.st_dev, inode: st.st_ino }))
}

/// What changed between two listings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Services that are new, or a new directory under an old name; a logger before its service, so that
    /// the service finds its pipe.
    pub came: Vec<String>,
    /// Services that are not there any more.
    pub gone: Vec<String>,
}

/// Compares two listings.
pub fn changes(old: &Listing, new: &Listing) -> Changes {
    let mut came: Vec<String> =
        new.iter().filter(|(name, id)| old.get(*name) != Some(id)).map(|(name, _)| name.clone()).collect();
    loggers_first(&mut came);
    let gone = old.keys().filter(|name| !new.contains_key(*name)).cloned().collect();
    Changes { came, gone }
}

/// Puts each logger before its service.
pub fn loggers_first(names: &mut Vec<String>) {
    let (loggers, rest): (Vec<String>, Vec<String>) =
        std::mem::take(names).into_iter().partition(|name| name.ends_with("/log"));
    names.extend(loggers);
    names.extend(rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(entries: &[(&str, u64)]) -> Listing {
        entries.iter().map(|(n, i)| ((*n).to_owned(), Identity { device: 1, inode: *i })).collect()
    }

    #[test]
    fn who_comes_and_who_goes() {
        let old = listing(&[("a", 1), ("b", 2), ("b/log", 3)]);
        let new = listing(&[("b", 2), ("b/log", 4), ("c", 5), ("c/log", 6), ("d", 1)]);
        let Changes { came, gone } = changes(&old, &new);
        assert_eq!(came, ["b/log", "c/log", "c", "d"]);
        assert_eq!(gone, ["a"]);
        assert_eq!(changes(&new, &new), Changes::default());
    }

    #[test]
    fn a_bad_entry_hides_no_other() {
        let dir = std::env::temp_dir().join(format!("perennial-scan-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        for name in ["a/log", "b", ".hidden", "long-name-of-a-service"] {
            std::fs::create_dir_all(dir.join(name)).unwrap();
        }
        std::fs::write(dir.join("a/run"), "").unwrap();
        std::fs::write(dir.join("file"), "").unwrap();
        std::os::unix::fs::symlink("nowhere", dir.join("dangling")).unwrap();
        std::os::unix::fs::symlink("b", dir.join("link")).unwrap();
        let open = rustix::fs::open(&dir, OFlags::PATH, Mode::empty()).unwrap();
        let mut skipped = Vec::new();
        let limits = Limits { services: 10, name: 10 };
        let all = list(&open, limits, false, |s| skipped.push(s)).unwrap();
        assert_eq!(all.keys().collect::<Vec<_>>(), ["a", "a/log", "b", "link"]);
        assert_eq!(all["b"], all["link"]);
        skipped.sort_by_key(|s| format!("{s:?}"));
        assert_eq!(
            skipped,
            [
                Skipped::LongName("long-name-of-a-service".into()),
                Skipped::Unreadable("dangling".into(), Errno::NOENT),
            ]
        );
        let complete = list(&open, limits, true, |_| {}).unwrap();
        assert_eq!(complete.keys().collect::<Vec<_>>(), ["a", "a/log"]);
        let mut few = Vec::new();
        list(&open, Limits { services: 1, name: 10 }, false, |s| few.push(s)).unwrap();
        assert!(few.contains(&Skipped::TooMany(1)));
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
