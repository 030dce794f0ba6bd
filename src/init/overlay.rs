//! What s6-overlay has built in, and where images put their definitions.

use crate::rc::source::{Definition, Definitions};

/// Where an image's definitions are, below `/etc`; with S6_RUNTIME_PROFILE=NAME below
/// `/etc/cont-profile.d/NAME` instead.
const ETC: &str = "/etc";

/// The bundle that a boot brings up.
pub const TOP: &str = "top";

/// The source directories of an image: definitions, and the `user` bundles, which moved to a place of their
/// own in s6-overlay 3.2.3.1. Both are read, and one that is absent is no error.
pub fn sources(profile: Option<&str>) -> Vec<String> {
    let etc = match profile.filter(|p| !p.is_empty()) {
        Some(profile) => format!("{ETC}/cont-profile.d/{profile}"),
        None => ETC.to_owned(),
    };
    let bundles = match crate::sys::env::get("S6_RUNTIME_BUNDLEDIR").and_then(|v| v.to_str()) {
        Some(dir) if !dir.is_empty() => dir.to_owned(),
        _ => format!("{etc}/s6-overlay/user-bundles.d"),
    };
    [format!("{etc}/s6-overlay/s6-rc.d"), bundles]
        .into_iter()
        .filter(|dir| std::path::Path::new(dir).is_dir())
        .collect()
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
