//! Instances of a service: copies of one template, supervised below it.
//!
//! | in the service directory | |
//! |---|---|
//! | `template/` | the service directory that instances are copies of |
//! | `instances/NAME/` | the copies |
//! | `instance/` | a scan directory of links `NAME` to `../instances/NAME`; the service's `run` scans it |

use crate::diag::{Error, Result, Unable};
use crate::files::{copy_tree, remove_tree};
use crate::ordered;
use crate::scan::client::ScanDir;
use crate::scan::link::{self, Begin, Link};
use crate::servicedir::client::Client;
use crate::servicedir::event::Audience;
use crate::sys::Errno;
use crate::time::Mono;
use rustix::fs::{CWD, Dir, Mode, OFlags, mkdirat, openat};
use std::path::PathBuf;

/// A service with instances, running.
pub struct Instances {
    path: String,
    scandir: ScanDir,
}

const NO_PATH: &str = "invalid service path";

/// The path of an instance's service directory.
pub fn path(service: &str, name: &str) -> Result<String> {
    let blank = |c: char| matches!(c, ' ' | '\t' | '\x0c' | '\r' | '\n' | '/');
    if service.is_empty() {
        return Err(Error::usage(NO_PATH));
    }
    if name.is_empty() || name.starts_with('.') || name.contains(blank) {
        return Err(Error::usage(format!("invalid instance name {name:?}")));
    }
    Ok(format!("{service}/instance/{name}"))
}

/// Makes the directories that the first instance of `service` needs.
pub fn prepare(service: &str) -> Result<()> {
    for name in ["instance", "instances"] {
        let dir = format!("{service}/{name}");
        match mkdirat(CWD, &*dir, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(e) => return Err(Error::unable(format_args!("make {dir}"), e)),
        }
    }
    Ok(())
}

impl Instances {
    /// Of the service directory `service`. Fails if the service does not run: then nothing scans its
    /// instances.
    pub fn open(service: &str) -> Result<Instances> {
        if service.is_empty() {
            return Err(Error::usage(NO_PATH));
        }
        let scandir = ScanDir::open(&format!("{service}/instance"))?;
        scandir.must_be_scanned()?;
        Ok(Instances { path: service.to_owned(), scandir })
    }

    /// Where the copy for an instance is.
    fn copy(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("{}/instances/{name}", self.path))
    }

    /// Copies the template for an instance and waits until it is supervised.
    pub fn create(
        &self,
        name: &str,
        begin: Begin,
        audience: Audience,
        force: bool,
        deadline: Option<Mono>,
    ) -> Result<()> {
        path(&self.path, name)?;
        let copy = self.copy(name);
        if copy.symlink_metadata().is_ok() {
            return Err(Error::usage(format!(
                "unable to create instance {name}: {} is there already",
                copy.display()
            )));
        }
        let template = PathBuf::from(format!("{}/template", self.path));
        let made = copy_tree(&template, &copy).and_then(|()| {
            let service = Client::open(&copy.to_string_lossy())?;
            Link {
                scandir: &self.scandir,
                name,
                service: &service,
                target: &format!("../instances/{name}"),
                begin,
                audience,
                force,
            }
            .make(deadline)
        });
        made.inspect_err(|_| drop(remove_tree(&copy)))
    }

    /// Stops an instance, waits with `wait` until its supervisor has left, and removes its copy.
    pub fn delete(&self, name: &str, wait: bool, deadline: Option<Mono>) -> Result<()> {
        path(&self.path, name)?;
        link::remove(&self.scandir, name, wait, deadline)?;
        remove_tree(&self.copy(name))
    }

    /// The names of all instances, in order.
    pub fn names(&self) -> Result<Vec<String>> {
        let doing = format!("list {}", self.scandir.path);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = openat(self.scandir.dir(), c".", flags, Mode::empty()).unable(&doing)?;
        let mut names = Vec::new();
        for entry in Dir::new(dir).unable(&doing)? {
            let name = entry.unable(&doing)?.file_name().to_string_lossy().into_owned();
            names.extend((!name.starts_with('.')).then_some(name));
        }
        Ok(ordered::sorted(names))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_cannot_be() {
        assert_eq!(path("sv", "a.b@c").unwrap(), "sv/instance/a.b@c");
        for bad in ["", ".a", "a b", "a\n", "../x", "a/b"] {
            assert!(path("sv", bad).is_err(), "{bad:?}");
        }
        assert!(path("", "a").is_err());
    }
}
