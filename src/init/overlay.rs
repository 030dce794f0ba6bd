//! What s6-overlay has built in, and where images put their definitions.

use super::envstore::{self, Store};
use crate::diag;
use crate::rc::source::{Definition, Definitions};
use crate::sys::env;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Where an image's definitions are, below `/etc`; with S6_RUNTIME_PROFILE=NAME below
/// `/etc/cont-profile.d/NAME` instead.
const ETC: &str = "/etc";

/// The bundle that a boot brings up.
pub const TOP: &str = "top";

/// The source directories of an image: definitions, and the `user` bundles, which moved to a place of their
/// own in s6-overlay 3.2.3.1. Both are read, and one that is absent is no error; but it is said if a variable
/// names it. They are those of the image whose tree lies at `root`; `""` is our own.
pub fn sources(root: &str) -> Vec<String> {
    let etc = match setting("S6_RUNTIME_PROFILE") {
        Some(profile) => format!("{ETC}/cont-profile.d/{profile}"),
        None => ETC.to_owned(),
    };
    let definitions = (format!("{etc}/s6-overlay/s6-rc.d"), etc != ETC);
    let bundles = match setting("S6_RUNTIME_BUNDLEDIR") {
        Some(dir) => (dir, true),
        None => (format!("{etc}/s6-overlay/user-bundles.d"), false),
    };
    let mut found = Vec::new();
    for (dir, named) in [definitions, bundles] {
        let dir = format!("{root}{dir}");
        if Path::new(&dir).is_dir() {
            found.push(dir);
        } else if named {
            diag::warn(format_args!("there is no directory {dir}: nothing is read from it"));
        }
    }
    found
}

/// A variable of the container: of our environment, or, where that is only `PATH`, of the environment store,
/// into which the hook may have written.
fn setting(name: &str) -> Option<String> {
    let own = env::get(name).map(|value| value.as_bytes().to_vec());
    let value = own.or_else(|| Store::open(envstore::DIR).ok()?.get(name.as_bytes()).ok()?)?;
    Some(String::from_utf8_lossy(&value).into_owned()).filter(|value| !value.is_empty())
}

/// The services and bundles that images refer to without defining them.
///
/// ```text
/// top = base, user, legacy-services, user2      base = fix-attrs, legacy-cont-init
/// fix-attrs < legacy-cont-init < (base, user) < legacy-services
/// ```
pub fn built_in() -> Definitions {
    [
        Definition::bundle(TOP, &["base", "user", "legacy-services", "user2"]),
        Definition::bundle("base", &["fix-attrs", "legacy-cont-init"]),
        Definition::bundle("user", &[]),
        Definition::bundle("user2", &[]),
        Definition::oneshot("fix-attrs", &[], vec![], vec![]),
        Definition::oneshot("legacy-cont-init", &["fix-attrs"], vec![], vec![]),
        Definition::oneshot("legacy-services", &["base", "user"], vec![], vec![]),
    ]
    .into_iter()
    .map(|d| (d.name.clone(), d))
    .collect()
}
