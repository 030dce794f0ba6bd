//! Instances on disk. What is there after any `kill -9` is either an instance or the remains of one, and the
//! remains are removed: a copy comes to be by rename, an instance by its link in the scan directory, and it is
//! gone when its directory is.

use super::policy::{Condition, Fact, Load};
use super::worker::{self, Counts, Said};
use crate::cli;
use crate::diag::{Error, Result, Unable, code};
use crate::files::{copy_tree, remove_tree};
use crate::instance;
use crate::ordered;
use crate::scan::Identity;
use crate::scan::client::ScanDir;
use crate::servicedir::client::{Client, is_supervised};
use crate::servicedir::event::{self, Audience, Listener};
use crate::servicedir::{self, definition};
use crate::sys::{Errno, lock};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, mkdirat, openat, statat, symlinkat, unlinkat};
use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;

/// To a worker: take no more work.
pub const DRAIN: &str = "drain";

/// It is to be made anew.
pub const RENEW: &str = "renew";

/// What a worker that is stopped had told its supervisor it did.
const COUNTS: &str = "counts";

/// What the pool is and wants.
pub const POOL: &str = ".pool";

/// What workers did that are gone: `done=N failed=N last=INODE`, with the directory that is being removed.
const RETIRED: &str = ".retired";

/// Held by svpool.
pub const LOCK: &str = ".lock";

/// Where the instances of a pool are.
pub struct Place {
    /// The name before the `@`.
    pub name: String,
    template: String,
    /// The directory of the copies, absolute.
    pub copies: String,
    dir: OwnedFd,
    /// Where they are linked.
    pub scandir: ScanDir,
    _lock: OwnedFd,
}

/// Whether instances can be made from the directory `template`.
pub fn check_template(template: &str) -> Result<()> {
    let bad = |why: &str| Err(Error::usage(format!("{template} is no template of a service: {why}")));
    let dir = servicedir::open(CWD, template).unable(format_args!("open the template {template}"))?;
    let there = |name: &str| statat(&dir, name, AtFlags::empty());
    match there("run") {
        Ok(run) if run.st_mode & 0o111 == 0 => bad("its run is not executable"),
        Err(_) => bad("there is no run in it"),
        Ok(_) if there("down").is_ok() => bad("it has a file down, so no instance would ever run"),
        Ok(_) if there("supervise").is_ok() => bad(
            "it has a directory supervise, so it is a service itself (a template is copied and never run)",
        ),
        Ok(_) => Ok(()),
    }
}

/// Whether a directory, given by its absolute path, is `other` or lies in it.
fn is_within(path: &str, other: &str) -> Result<bool> {
    let other = Identity::at(other).unable(format_args!("open {other}"))?;
    Ok(Path::new(path).ancestors().any(|dir| Identity::at(&dir.to_string_lossy()) == Ok(other)))
}

/// The number of the instance `name` of the pool `pool`: `mail@3`.
pub fn number(pool: &str, name: &str) -> Option<u32> {
    let digits = name.strip_prefix(pool)?.strip_prefix('@')?;
    let plain = !digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit());
    digits.parse().ok().filter(|_| plain)
}

impl Place {
    /// Of the pool `name`, with its copies in the directory `copies`, which is made if it is not there.
    pub fn open(name: String, template: &str, copies: &str, scandir: &str) -> Result<Place> {
        check_template(template)?;
        instance::path(".", &name)?;
        let copies = cli::absolute(copies)?;
        match mkdirat(CWD, &*copies, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(e) => return Err(Error::unable(format_args!("make {copies}"), e)),
        }
        if is_within(&copies, template)? {
            return Err(Error::usage(format!(
                "the instances in {copies} are part of the template {template}"
            )));
        }
        let scandir = ScanDir::open(scandir)?;
        scandir.must_be_scanned()?;
        let dir = servicedir::open(CWD, &*copies).unable(format_args!("open {copies}"))?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
        let lock = openat(&dir, LOCK, flags, Mode::from_raw_mode(0o644));
        let lock = lock.unable(format_args!("open {copies}/{LOCK}"))?;
        if !lock::take_over(&lock).unable(format_args!("lock {copies}/{LOCK}"))? {
            return Err(Error::new(code::SYSTEM, format!("another svpool has the instances in {copies}")));
        }
        Ok(Place { name, template: cli::absolute(template)?, copies, dir, scandir, _lock: lock })
    }

    /// Whether instances can still be made.
    pub fn check_template(&self) -> Result<()> {
        check_template(&self.template)
    }

    /// `mail@3`
    pub fn instance(&self, number: u32) -> String {
        format!("{}@{number}", self.name)
    }

    /// The directory of an instance.
    pub fn path(&self, number: u32) -> String {
        format!("{}/{}", self.copies, self.instance(number))
    }

    /// The numbers of all instances and of what is left of some. Fails if the scan directory has something else
    /// of such a name.
    pub fn numbers(&self) -> Result<Vec<u32>> {
        let mut numbers = Vec::new();
        for (dir, links) in [(&self.copies, false), (&self.scandir.path, true)] {
            let doing = || format!("list {dir}");
            for entry in fs::read_dir(dir).unable(doing())? {
                let name = entry.unable(doing())?.file_name().to_string_lossy().into_owned();
                let half = name.strip_prefix('.').and_then(|name| name.strip_suffix(".new"));
                if half.is_some_and(|half| number(&self.name, half).is_some()) && !links {
                    remove_tree(Path::new(&format!("{dir}/{name}")))?;
                }
                let Some(number) = number(&self.name, &name) else { continue };
                if links && !self.is_ours(number) {
                    return Err(Error::new(
                        code::SYSTEM,
                        format!("{dir}/{name} is there already, and is no instance of this pool"),
                    ));
                }
                numbers.push(number);
            }
        }
        Ok(ordered::unique(numbers))
    }

    /// Whether what has the name of an instance in the scan directory is one, or leads nowhere.
    fn is_ours(&self, number: u32) -> bool {
        let linked = Identity::at(&format!("{}/{}", self.scandir.path, self.instance(number)));
        linked.is_err() || linked == Identity::at(&self.path(number))
    }

    fn is_linked(&self, number: u32) -> bool {
        statat(self.scandir.dir(), self.instance(number), AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }

    /// Makes an instance and has it supervised, which is not waited for.
    pub fn make(&self, number: u32) -> Result<(Client, Listener)> {
        let (path, name) = (self.path(number), self.instance(number));
        let new = format!("{}/.{name}.new", self.copies);
        remove_tree(Path::new(&new))?;
        // Where a link leads just now.
        copy_tree(Path::new(&format!("{}/.", self.template)), Path::new(&new))?;
        for file in [worker::FILE, DRAIN, RENEW, COUNTS] {
            let _ = fs::remove_file(format!("{new}/{file}"));
        }
        fs::rename(&new, &path).unable(format_args!("make {path}"))?;
        let made = self.link(&path, &name);
        if made.is_err() {
            let _ = remove_tree(Path::new(&path));
        }
        made
    }

    fn link(&self, path: &str, name: &str) -> Result<(Client, Listener)> {
        let client = Client::open(path)?;
        event::make(client.dir(), event::DIR, Audience::own_group(), false)
            .unable(format_args!("make {path}/event"))?;
        let listener = client.listen()?;
        symlinkat(path, self.scandir.dir(), name)
            .unable(format_args!("make the link {}/{name}", self.scandir.path))?;
        // If nobody listens just now, who comes will look by itself.
        let _ = self.scandir.send(b"a");
        Ok((client, listener))
    }

    /// Puts an empty file into an instance's directory.
    pub fn mark(&self, number: u32, file: &str) -> Result<()> {
        let path = format!("{}/{file}", self.path(number));
        fs::write(&path, "").unable(format_args!("write {path}"))
    }

    /// Whether there is one.
    pub fn is_marked(&self, number: u32, file: &str) -> bool {
        statat(CWD, format!("{}/{file}", self.path(number)), AtFlags::empty()).is_ok()
    }

    /// Before a worker is stopped: keeps the counts that only its supervisor has.
    pub fn keep_counts(&self, number: u32, client: &Client) -> Result<()> {
        let Some((Said { counts, .. }, false)) = said(client) else { return Ok(()) };
        let path = format!("{}/{COUNTS}", self.path(number));
        let text = format!("done={} failed={}\n", counts.done, counts.failed);
        fs::write(&path, text).unable(format_args!("write {path}"))
    }

    /// Takes it out again.
    pub fn unmark(&self, number: u32, file: &str) -> Result<()> {
        let path = format!("{}/{file}", self.path(number));
        match fs::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                Err(e).unable(format_args!("remove {path}"))
            }
            _ => Ok(()),
        }
    }

    /// What an instance is. In this order: who says busy before it looks for `drain` is seen to be busy by
    /// whoever made `drain` before.
    pub fn look(&self, number: u32, client: &Client) -> Fact {
        let there = |file: &str| statat(client.dir(), file, AtFlags::empty()).is_ok();
        let (drain, renew) = (there(DRAIN), there(RENEW));
        let status = client.status().ok();
        let up = status.is_some_and(|s| s.is_up());
        let condition = match status {
            _ if !self.is_linked(number) => Condition::Unlinked,
            None => Condition::Starting,
            Some(s) if up && s.want_up && (s.ready || !definition::tells_ready(client.dir())) => {
                Condition::Ready
            }
            Some(s) if s.want_up => Condition::Starting,
            Some(s) if up || s.finishing => Condition::Stopping,
            Some(_) => Condition::Down,
        };
        let load = if up { load(client) } else { Load::Silent };
        Fact { condition, load, drain, renew }
    }

    /// Takes an instance out of the scan directory, and has its supervisors leave.
    pub fn unlink(&self, number: u32) -> Result<()> {
        let name = self.instance(number);
        match unlinkat(self.scandir.dir(), &*name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => self.scandir.send(b"an"),
            Err(e) => Err(Error::unable(format_args!("unlink {}/{name}", self.scandir.path), e)),
        }
    }

    /// Whether the supervisor of an instance, or of its logger, is still there.
    pub fn has_supervisor(&self, client: &Client) -> bool {
        let logger = servicedir::open(client.dir(), "log");
        is_supervised(client.dir()).unwrap_or(true)
            || logger.is_ok_and(|logger| is_supervised(logger).unwrap_or(true))
    }

    /// Removes what is left of an instance. What it did is remembered.
    pub fn remove(&self, number: u32, client: &Client) -> Result<()> {
        let (mut counts, last) = retired(&self.copies);
        let inode = Identity::of(client.dir()).map_or(0, |id| id.inode);
        let note = |counts: Counts, last: u64| {
            self.write(RETIRED, &format!("done={} failed={} last={last}\n", counts.done, counts.failed))
        };
        // Not twice, if we are killed before it is removed.
        if last != inode {
            counts += said(client).unwrap_or_default().0.counts;
            note(counts, inode)?;
        }
        remove_tree(Path::new(&self.path(number)))?;
        note(counts, 0)
    }

    /// Replaces a file beside the copies.
    pub fn write(&self, file: &str, text: &str) -> Result<()> {
        let path = || format!("write {}/{file}", self.copies);
        servicedir::replace(&self.dir, file, &format!("{file}.new"), text.as_bytes()).unable(path())
    }
}

/// What workers did that are gone, and whose directory, if it is still there, is one of theirs.
pub fn retired(copies: &str) -> (Counts, u64) {
    let text = fs::read_to_string(format!("{copies}/{RETIRED}")).unwrap_or_default();
    let last = text.trim_end().rsplit_once("last=").and_then(|(_, inode)| inode.parse().ok());
    (Counts::parse(&text), last.unwrap_or(0))
}

/// What a worker says, and whether we read it where it was written. None: nothing.
pub fn said(client: &Client) -> Option<(Said, bool)> {
    let text = |file: &str| {
        let bytes = servicedir::read_file(client.dir(), file).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    };
    if let Some(own) = text(worker::FILE) {
        return Some((Said::parse(&own), true));
    }
    let state = text("supervise/state").unwrap_or_default();
    if let Some(status) = state.lines().find_map(|line| line.strip_prefix("status=")) {
        return Some((Said::parse(status), false));
    }
    Some((Said { busy: None, counts: Counts::parse(&text(COUNTS)?) }, true))
}

fn load(client: &Client) -> Load {
    match said(client) {
        Some((Said { busy: Some(true), .. }, _)) => Load::Busy,
        Some((Said { busy: Some(false), .. }, true)) => Load::Idle,
        Some((Said { busy: Some(false), .. }, false)) => Load::IdleLately,
        _ => Load::Silent,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        assert_eq!((number("mail", "mail@3"), number("a@b", "a@b@12")), (Some(3), Some(12)));
        for other in
            ["mail", "mail@", "mail@0", "mail@03", "mail@x", "mail@+3", "mails@3", "mail@99999999999"]
        {
            assert_eq!(number("mail", other), None, "{other}");
        }
    }
}
