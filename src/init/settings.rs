//! The variables that images steer us with.
//!
//! Some are read once, when the container starts. Most are read when they are needed, from the environment
//! store: a hook, a script in `cont-init.d` or any service may have changed them by writing a file there.
#![forbid(unsafe_code)]

use super::envstore::{self, Store};
use super::phase::IfBootFails;
use crate::sys::env;
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// There is no environment store yet, unless an earlier run left one.
static NO_STORE: AtomicBool = AtomicBool::new(false);

/// Whether the environment store is ours already; it is unless somebody says that it is not.
pub fn store_is_ours(ours: bool) {
    NO_STORE.store(!ours, Ordering::Relaxed);
}

/// A variable of the container: of our environment, or, where that is only `PATH`, of the environment store.
/// One that is empty counts as not set.
pub fn bytes(name: &str) -> Option<Vec<u8>> {
    let own = env::get(name).map(|value| value.as_bytes().to_vec());
    if NO_STORE.load(Ordering::Relaxed) {
        return own.filter(|value| !value.is_empty());
    }
    let value = own.or_else(|| Store::open(&*envstore::dir()).ok()?.get(name.as_bytes()).ok()?)?;
    Some(value).filter(|value| !value.is_empty())
}

/// The same as text.
pub fn text(name: &str) -> Option<String> {
    bytes(name).map(|value| String::from_utf8_lossy(&value).into_owned())
}

/// A variable that is a number; anything else counts as not set, as in s6-overlay.
pub fn number(name: &str) -> Option<u64> {
    text(name).filter(|text| text.bytes().all(|b| b.is_ascii_digit()))?.parse().ok()
}

/// A variable that is a number of milliseconds.
pub fn millis(name: &str) -> Option<Duration> {
    number(name).map(Duration::from_millis)
}

/// Whether a variable that is 0 by default is anything else.
pub fn flag(name: &str) -> bool {
    number(name).is_some_and(|n| n > 0)
}

/// `S6_VERBOSITY`
pub fn verbosity() -> u8 {
    number("S6_VERBOSITY").unwrap_or(2).min(255) as u8
}

/// `S6_BEHAVIOUR_IF_STAGE2_FAILS`
pub fn if_boot_fails() -> IfBootFails {
    match number("S6_BEHAVIOUR_IF_STAGE2_FAILS").unwrap_or(0) {
        0 => IfBootFails::GoOn,
        1 => IfBootFails::Warn,
        _ => IfBootFails::Stop,
    }
}

/// The directory that an image's `cont-init.d`, `services.d`, `s6-overlay` and so on are in: `/etc`, or with
/// `S6_RUNTIME_PROFILE=NAME` `/etc/cont-profile.d/NAME`.
pub fn etc() -> String {
    match text("S6_RUNTIME_PROFILE") {
        Some(profile) => format!("/etc/cont-profile.d/{profile}"),
        None => "/etc".to_owned(),
    }
}
