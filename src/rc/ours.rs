//! Files of a definition that are ours and not s6's, looked at before anything is started: see
//! [`crate::servicedir::feature`].
//!
//! What a file says is an error. An account that is not there is a warning: something may make it before it is
//! needed.

use super::graph::Kind;
use super::scripts::Root;
use super::source::{Definition, Findings};
use super::stage::ONESHOT_OUTFIT;
use crate::accounts::Database;
use crate::servicedir::account::Account;
use crate::servicedir::environment::Environment;
use crate::servicedir::feature::{self, Faulty, Features};
use crate::servicedir::{open, read_file};
use rustix::fs::CWD;

/// Looks at all files of ours of a longrun.
pub fn check(definition: &Definition, root: &Root, findings: &mut Findings) {
    let counts = |name: &str| match definition.kind {
        Some(Kind::Longrun) => true,
        Some(Kind::Oneshot) => ONESHOT_OUTFIT.contains(&name),
        _ => false,
    };
    let mut features = Features::default();
    for name in feature::names().filter(|name| counts(name)) {
        let Some((_, path)) = definition.files.iter().find(|(file, _)| file == name) else { continue };
        if let Err(Faulty { why, .. }) = check_file(name, path, &mut features) {
            findings.error(path, None, why);
        }
    }
    let path_of = |name: &str| definition.files.iter().find(|(file, _)| file == name);
    features.forking = counts("forking") && definition.has_file("forking");
    if let Some(Faulty { file, why }) = features.contradiction(definition.has_file("flag-newpidns"))
        && let Some((_, path)) = path_of(file)
    {
        findings.error(path, None, why);
    }
    let group = features.control_group.as_deref().filter(|_| !root.is_layer());
    if let (Some((_, path)), Some(group)) = (path_of("control-group"), group)
        && Database::of(&format!("{}/etc/group", root.prefix()))
            .is_ok_and(|groups| groups.id(group).is_none())
        && group.parse::<u32>().is_err()
    {
        findings.warn(
            path,
            None,
            format!("there is no group {group} in /etc/group: add it, or write its number: the service does not start"),
        );
    }
    let user = path_of("user");
    if let (Some((_, path)), Some(user), false) = (user, &features.user, root.is_layer())
        && let Err(Faulty { why, .. }) = Account::find(user, root.prefix())
    {
        findings.warn(path, None, format!("{why}: without it the service does not start"));
    }
}

fn check_file(name: &'static str, path: &str, features: &mut Features) -> Result<(), Faulty> {
    let unable = |e| Faulty { file: name, why: format!("unable to read: {}", crate::diag::reason(e)) };
    let bytes = || read_file(CWD, path).map_err(unable);
    match name {
        "env-file" => Environment::default().add_file(&bytes()?),
        "env" => {
            let parent = path.strip_suffix("/env").unwrap_or(path);
            Environment::default().add_dir(open(CWD, parent).map_err(unable)?)
        }
        _ if feature::VALUES.contains(&name) => features.take(name, &bytes()?),
        _ => features.take(name, &[]),
    }
}
