//! Adding a service directory to a running scan directory, and taking it out again, with the caller knowing
//! when it is done.
//!
//! Whoever adds listens to the service's events *before* it appears in the scan directory, so that the `s`
//! of its supervisor cannot be missed; whoever removes listens before the link goes, and looks at the lock
//! after that, so that neither can the `x`.

use super::client::ScanDir;
use crate::diag::{Error, Result, Unable, code};
use crate::servicedir::client::{self, Client, is_supervised};
use crate::servicedir::event::{self, Audience, Listener};
use crate::sys::Errno;
use crate::time::Mono;
use rustix::fs::{AtFlags, Mode, OFlags, openat, symlinkat, unlinkat};
use std::os::fd::{AsFd, OwnedFd};

/// How a service that is added begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// As its files say.
    AsItIs,
    /// Down for now: there is a `down` file while its supervisor starts, and none after that.
    Down,
    /// Down for good: there is a `down` file from now on.
    DownForGood,
}

/// What is to be added.
pub struct Link<'a> {
    /// To where.
    pub scandir: &'a ScanDir,
    /// Under which name.
    pub name: &'a str,
    /// The service directory.
    pub service: &'a Client,
    /// What the link says: a path to the service directory.
    pub target: &'a str,
    /// How it begins.
    pub begin: Begin,
    /// Who may listen to its events, if there is no `event` yet.
    pub audience: Audience,
    /// The same if there is.
    pub force: bool,
}

/// What has a supervisor of its own: a service, or its logger.
struct Part {
    dir: OwnedFd,
    /// For messages.
    path: String,
    /// What its supervisor is told to make it leave, whatever the service is doing.
    farewell: &'static [u8],
    /// We made its `down` file.
    made_down: bool,
}

impl Link<'_> {
    /// Adds it and waits until it and its logger are supervised. If that cannot be had, everything is as
    /// before. One that is supervised already gets its link, and that is all.
    pub fn make(&self, deadline: Option<Mono>) -> Result<()> {
        let mut parts = open_parts(self.service.dir(), &self.service.path)?;
        if are_supervised(&parts)? {
            self.appear(true)?;
            return self.scandir.send(b"a");
        }
        let listeners: Result<Vec<Listener>> = parts.iter_mut().map(|part| self.prepare(part)).collect();
        let listeners = listeners
            .and_then(|listeners| self.appear(false).map(|()| listeners))
            .inspect_err(|_| remove_down(&parts))?;
        let supervised = self.wait(&listeners, deadline);
        if supervised.is_err() {
            let _ = unlinkat(self.scandir.dir(), self.name, AtFlags::empty());
            for part in &parts {
                let _ = client::control(&part.dir, client::DIR, part.farewell);
            }
        }
        if supervised.is_err() || self.begin == Begin::Down {
            remove_down(&parts);
        }
        supervised
    }

    /// Before anybody supervises a part: how it begins, and our ears.
    fn prepare(&self, part: &mut Part) -> Result<Listener> {
        if self.begin != Begin::AsItIs {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            part.made_down = match openat(&part.dir, "down", flags, Mode::from_raw_mode(0o666)) {
                Ok(_) => true,
                Err(Errno::EXIST) => self.begin == Begin::Down,
                Err(e) => return Err(Error::unable(format_args!("make {}/down", part.path), e)),
            };
        }
        event::make(&part.dir, event::DIR, self.audience, self.force)
            .unable(format_args!("make {}/event", part.path))?;
        Listener::new(&part.dir).unable(format_args!("listen to {}/event", part.path))
    }

    /// Makes the link. With `again` it may be there.
    fn appear(&self, again: bool) -> Result<()> {
        match symlinkat(self.target, self.scandir.dir(), self.name) {
            Err(Errno::EXIST) if again => Ok(()),
            made => made.unable(format_args!("make the link {}/{}", self.scandir.path, self.name)),
        }
    }

    /// Has the scan directory scanned and waits for all supervisors.
    fn wait(&self, listeners: &[Listener], deadline: Option<Mono>) -> Result<()> {
        self.scandir.send(b"a")?;
        let mut there = vec![false; listeners.len()];
        let all = event::listen(listeners, deadline, |n, byte| {
            there[n] |= byte == b's';
            there.iter().all(|t| *t)
        });
        if all.unable("wait for events")? {
            return Ok(());
        }
        Err(Error::new(
            code::TIMED_OUT,
            format!("timed out waiting for a supervisor of {}", self.service.path),
        ))
    }
}

/// Takes the link `name` out of a scan directory. With `wait`, returns when its supervisors have left, or at
/// `deadline`, which is no error.
pub fn remove(scandir: &ScanDir, name: &str, wait: bool, deadline: Option<Mono>) -> Result<()> {
    let path = format!("{}/{name}", scandir.path);
    let parts = match crate::servicedir::open(scandir.dir(), name) {
        Ok(dir) if wait => open_parts(&dir, &path)?,
        Ok(_) | Err(Errno::NOENT) => Vec::new(),
        Err(e) => return Err(Error::unable(format_args!("open {path}"), e)),
    };
    let mut listeners = Vec::new();
    let mut left = Vec::new();
    for part in &parts {
        // Who cannot be heard cannot be waited for.
        if supervised(part)?
            && let Ok(listener) = Listener::new(&part.dir)
        {
            listeners.push(listener);
            left.push(!supervised(part)?);
        }
    }
    match unlinkat(scandir.dir(), name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(Errno::ISDIR | Errno::PERM) => {
            return Err(Error::usage(format!("unable to unlink {path}: it is not a symbolic link")));
        }
        Err(e) => return Err(Error::unable(format_args!("unlink {path}"), e)),
    }
    let told = scandir.send(b"an");
    if left.iter().all(|l| *l) {
        return Ok(());
    }
    told?;
    event::listen(&listeners, deadline, |n, byte| {
        left[n] |= byte == b'x';
        left.iter().all(|l| *l)
    })
    .unable("wait for events")
    .map(drop)
}

/// The service `dir` and its logger, if it has one.
fn open_parts(dir: impl AsFd, path: &str) -> Result<Vec<Part>> {
    let part = |name: &str, path: String, farewell| {
        let opened = crate::servicedir::open(&dir, name);
        opened.map(|dir| Part { dir, path, farewell, made_down: false })
    };
    let logger = format!("{path}/log");
    let mut parts = vec![part(".", path.to_owned(), b"xd").unable(format_args!("open {path}"))?];
    match part("log", logger.clone(), b"xo") {
        Err(Errno::NOENT) => {}
        other => parts.push(other.unable(format_args!("open {logger}"))?),
    }
    Ok(parts)
}

fn supervised(part: &Part) -> Result<bool> {
    is_supervised(&part.dir).unable(format_args!("check {}/supervise/lock", part.path))
}

/// Whether all are supervised, or none: anything between is not a state to add to.
fn are_supervised(parts: &[Part]) -> Result<bool> {
    let states = parts.iter().map(supervised).collect::<Result<Vec<bool>>>()?;
    match states.iter().filter(|s| **s).count() {
        0 => Ok(false),
        n if n == states.len() => Ok(true),
        _ => Err(Error::new(
            code::SYSTEM,
            format!("of {} and its logger only one is supervised", parts[0].path),
        )),
    }
}

fn remove_down(parts: &[Part]) {
    for part in parts.iter().filter(|part| part.made_down) {
        let _ = unlinkat(&part.dir, "down", AtFlags::empty());
    }
}
