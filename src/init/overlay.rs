//! What s6-overlay has built in, and where images put their definitions.

use super::{legacy, place, settings};
use crate::diag;
use crate::rc::source::{Definition, Definitions, Words};
use std::path::Path;

/// The bundle that a boot brings up.
pub const TOP: &str = "top";

/// The source directories of an image: definitions, and the `user` bundles, which moved to a place of their
/// own in s6-overlay 3.2.3.1. Both are read, and one that is absent is no error; but it is said if a variable
/// names it. They are those of the image whose tree lies at `root`; `""` is our own.
pub fn sources(root: &str) -> Vec<String> {
    let etc = settings::etc();
    let definitions = (format!("{etc}/s6-overlay/s6-rc.d"), etc != "/etc");
    let bundles = match settings::text("S6_RUNTIME_BUNDLEDIR") {
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

/// The services and bundles that images refer to without defining them. The oneshots do something as far as
/// there is something to do in the image whose tree lies at `root`.
///
/// ```text
/// top = base, user, legacy-services, user2      base = fix-attrs, legacy-cont-init
/// fix-attrs < legacy-cont-init < (base, user) < legacy-services
/// ```
pub fn built_in(root: &str) -> Definitions {
    let oneshot = |name: &str, needs: &[&str]| match legacy::has_work(root, name) {
        true => legacy_oneshot(name, needs),
        false => Definition::oneshot(name, needs, vec![], vec![]),
    };
    [
        Definition::bundle(TOP, &["base", "user", LAST, "user2"]),
        Definition::bundle("base", &["fix-attrs", "legacy-cont-init"]),
        Definition::bundle("user", &[]),
        Definition::bundle("user2", &[]),
        oneshot("fix-attrs", &[]),
        oneshot("legacy-cont-init", &["fix-attrs"]),
        oneshot(LAST, &["base", "user"]),
    ]
    .into_iter()
    .map(|d| (d.name.clone(), d))
    .collect()
}

/// The service that comes after all that is in `user`. What it is about may be written by any of them.
pub const LAST: &str = "legacy-services";

/// A oneshot that works off a directory of older images.
pub fn legacy_oneshot(name: &str, needs: &[&str]) -> Definition {
    let step = |direction: &[u8]| -> Words {
        [place::own().as_bytes(), b"--step", name.as_bytes(), direction].map(<[u8]>::to_vec).into()
    };
    let down = if name == "fix-attrs" { vec![] } else { step(b"down") };
    Definition::oneshot(name, needs, step(b"up"), down)
}
