//! What images made for older versions of s6-overlay have in place of services: `fix-attrs.d`,
//! `cont-init.d`, `cont-finish.d`, `services.d`.
//!
//! Three built-in oneshots work them off ([`super::overlay`]), so that they are started, limited, cancelled and
//! taken down as any oneshot is. What such a oneshot runs is `init --step NAME up|down`, which is this.
//!
//! | service | up | down |
//! |---|---|---|
//! | `fix-attrs` | [`attrs`]: owners and modes of what `fix-attrs.d` names | |
//! | `legacy-cont-init` | [`scripts`]: `cont-init.d`, one after the other | `cont-finish.d`, each for a limited time |
//! | `legacy-services` | [`services`]: `services.d` into the scan directory | and out of it |

mod attrs;
mod scripts;
mod services;

use super::phase::IfBootFails;
use super::{place, settings};
use crate::diag::{self, code};
use crate::ordered::sorted;
use crate::sys::process;
use crate::sys::signal::Blocked;
use std::fs;

/// The steps, and for each the directories that it is about. Where they are empty there is nothing to do.
const STEPS: [(&str, &[&str]); 3] = [
    ("fix-attrs", &["fix-attrs.d"]),
    ("legacy-cont-init", &["cont-init.d", "cont-finish.d"]),
    ("legacy-services", &["services.d"]),
];

/// Whether there is anything to do for the step `name`, in the image whose tree lies at `root`.
pub fn has_work(root: &str, name: &str) -> bool {
    let Some((_, dirs)) = STEPS.iter().find(|(step, _)| *step == name) else { return false };
    let etc = settings::etc();
    dirs.iter().any(|dir| !names(&format!("{root}{etc}/{dir}")).is_empty())
}

/// Runs one step. The exit code is not 0 if it failed and that shall count.
pub fn run(name: &str, up: bool, blocked: Blocked) -> u8 {
    let etc = settings::etc();
    let (speaker, dir) = match (name, up) {
        ("fix-attrs", true) => ("fix-attrs", "fix-attrs.d"),
        ("legacy-cont-init", true) => ("cont-init", "cont-init.d"),
        ("legacy-cont-init", false) => ("cont-finish", "cont-finish.d"),
        ("legacy-services", true) => ("services-up", "services.d"),
        ("legacy-services", false) => ("services-down", "services.d"),
        _ => return code::OK,
    };
    diag::set_program(speaker);
    process::set_title(speaker, &[speaker]);
    let dir = format!("{etc}/{dir}");
    let failed = match speaker {
        "fix-attrs" => attrs::fix(&dir),
        "cont-init" => {
            let failed = scripts::run(&dir, None, blocked);
            let _ = fs::write(ended(), "");
            failed
        }
        // What was interrupted has never been up.
        "cont-finish" if fs::remove_file(ended()).is_err() => false,
        "cont-finish" => {
            // 0 is no limit.
            let limit = settings::millis("S6_KILL_FINISH_MAXTIME").unwrap_or(FINISH_MAXTIME);
            scripts::run(&dir, Some(limit).filter(|limit| !limit.is_zero()), blocked);
            false
        }
        "services-up" => services::up(&dir),
        _ => {
            services::down();
            false
        }
    };
    if failed { verdict(&dir) } else { code::OK }
}

/// That all of `cont-init.d` has been run.
fn ended() -> String {
    place::below("/s6/basedir/cont-init-ended")
}

/// `S6_KILL_FINISH_MAXTIME` as documented; s6-overlay itself never had that default.
const FINISH_MAXTIME: std::time::Duration = std::time::Duration::from_secs(5);

/// What it means that something in `dir` failed.
fn verdict(dir: &str) -> u8 {
    match settings::if_boot_fails() {
        IfBootFails::GoOn => code::OK,
        IfBootFails::Warn => {
            diag::warn(format_args!("something in {dir} failed; the container goes on"));
            code::OK
        }
        IfBootFails::Stop => code::NO,
    }
}

/// Whether each file and service is told of.
fn is_chatty() -> bool {
    settings::verbosity() >= 2
}

/// The names in a directory in byte order, without those that begin with a dot.
fn names(dir: &str) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    sorted(names.filter(|name| !name.starts_with('.')).collect())
}
