//! The change that is being made, for whoever looks meanwhile: `/run/s6-rc/change`.
//!
//! Its first line is `up` or `down`; each other line is the name of a service that the change had a step for
//! when it began. The engine removes it at the end. It counts only while somebody holds the lock, so one that
//! was left by an `rc` that was killed says nothing.

use crate::servicedir;
use crate::sys::lock;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, openat, unlinkat};

/// The file's name in the live directory.
pub const FILE: &str = "change";

/// What the file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Underway {
    /// Up, or down.
    pub up: bool,
    /// The services of the change, done already or not.
    pub names: Vec<String>,
}

impl Underway {
    /// Whether a service has a step in it.
    pub fn has(&self, name: &str) -> bool {
        self.names.iter().any(|known| known == name)
    }
}

/// A change has the file for as long as this lives.
pub struct Note {
    path: String,
}

impl Drop for Note {
    fn drop(&mut self) {
        let _ = unlinkat(CWD, &self.path, AtFlags::empty());
    }
}

/// Says that a change of the live directory `live` has begun. A change is as good without.
pub fn begin<'a>(live: &str, up: bool, names: impl Iterator<Item = &'a str>) -> Note {
    let mut text = String::from(if up { "up\n" } else { "down\n" });
    names.for_each(|name| text.extend([name, "\n"]));
    if let Ok(dir) = servicedir::open(CWD, live) {
        let _ = servicedir::replace(&dir, FILE, "change.new", text.as_bytes());
    }
    Note { path: format!("{live}/{FILE}") }
}

/// The change that is being made of the live directory `live`. None: none is.
pub fn read(live: &str) -> Option<Underway> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let held = openat(CWD, format!("{live}/lock"), flags, Mode::empty()).and_then(lock::is_locked);
    if held != Ok(true) {
        return None;
    }
    let bytes = servicedir::read_file(CWD, format!("{live}/{FILE}")).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let (first, names) = text.split_once('\n')?;
    Some(Underway { up: first == "up", names: names.lines().map(str::to_owned).collect() })
}
