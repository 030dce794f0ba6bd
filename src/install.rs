//! Laying out an installation: one file, many names.

use crate::diag::{Result, Unable};
use crate::sys::{Errno, process};
use rustix::fs::{CWD, Mode, symlinkat};
use std::fs;
use std::path::Path;

/// What to lay out, and where.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// The root directory of the system it is for.
    pub root: String,
    /// Names of programs in `/command`.
    pub names: Vec<String>,
    /// Names that are linked in `/usr/bin` too.
    pub in_usr_bin: Vec<String>,
}

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Files and links that were made.
    pub made: Vec<String>,
    /// Files and links that were there and were left as they are.
    pub kept: Vec<String>,
}

/// What scripts have as their interpreter, also as in `/bin`.
const INTERPRETERS: [&str; 2] = ["execlineb", "with-contenv"];

/// The one file, relative to the root.
const FILE: &str = "command/perennial";

/// Lays out `/command/perennial`, which is a copy of this executable, `/init`, and a link for every name.
/// Never replaces what is there.
pub fn install(plan: &Plan) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let root = plan.root.trim_end_matches('/');
    make_dirs(root, "command")?;
    copy_self(root, &mut outcome)?;
    link(root, "init", FILE, &mut outcome)?;
    for name in &plan.names {
        link(root, &format!("command/{name}"), "perennial", &mut outcome)?;
    }
    if !plan.in_usr_bin.is_empty() {
        make_dirs(root, "usr/bin")?;
    }
    for name in &plan.in_usr_bin {
        link(root, &format!("usr/bin/{name}"), &format!("../../command/{name}"), &mut outcome)?;
    }
    // Scripts say `#!/bin/execlineb` as well. Mostly /bin is a link to /usr/bin.
    let has_own_bin = fs::symlink_metadata(format!("{root}/bin")).is_ok_and(|meta| meta.is_dir());
    for name in plan.in_usr_bin.iter().filter(|name| has_own_bin && INTERPRETERS.contains(&&***name)) {
        link(root, &format!("bin/{name}"), &format!("../command/{name}"), &mut outcome)?;
    }
    Ok(outcome)
}

fn make_dirs(root: &str, dir: &str) -> Result<()> {
    let path = format!("{root}/{dir}");
    fs::create_dir_all(&path).unable(format_args!("make {path}"))
}

/// Copies beside and renames, so that nobody ever executes half of it.
fn copy_self(root: &str, outcome: &mut Outcome) -> Result<()> {
    let (to, beside) = (format!("{root}/{FILE}"), format!("{root}/{FILE}.new"));
    if fs::symlink_metadata(&to).is_ok() {
        outcome.kept.push(to);
        return Ok(());
    }
    let from = process::executable().ok_or(Errno::NOENT).unable("find this executable (is /proc there?)")?;
    let from = from.to_string_lossy().into_owned();
    fs::copy(&from, &beside).unable(format_args!("copy {from} to {beside}"))?;
    rustix::fs::chmodat(CWD, &*beside, Mode::from_raw_mode(0o755), rustix::fs::AtFlags::empty())
        .unable(format_args!("chmod {beside}"))?;
    fs::rename(&beside, &to).unable(format_args!("rename {beside}"))?;
    outcome.made.push(to);
    Ok(())
}

fn link(root: &str, path: &str, target: &str, outcome: &mut Outcome) -> Result<()> {
    let path = format!("{root}/{path}");
    match symlinkat(target, CWD, &*path) {
        Ok(()) => outcome.made.push(path),
        Err(Errno::EXIST) if fs::read_link(&path).is_ok_and(|t| t == Path::new(target)) => {}
        Err(Errno::EXIST) => outcome.kept.push(path),
        Err(e) => return Err(e).unable(format_args!("link {path}")),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_is_there_is_replaced() {
        let root = std::env::temp_dir().join(format!("perennial-install-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        fs::create_dir_all(root.join("usr/bin")).unwrap();
        fs::write(root.join("usr/bin/s6-svc"), "theirs").unwrap();
        let plan = Plan {
            root: root.to_string_lossy().into_owned(),
            names: vec!["svc".into(), "s6-svc".into()],
            in_usr_bin: vec!["s6-svc".into()],
        };
        let outcome = install(&plan).unwrap();
        assert_eq!(outcome.kept, [format!("{}/usr/bin/s6-svc", root.display())]);
        assert_eq!(fs::read_to_string(root.join("usr/bin/s6-svc")).unwrap(), "theirs");
        assert_eq!(fs::read_link(root.join("command/s6-svc")).unwrap(), Path::new("perennial"));
        assert!(fs::metadata(root.join("init")).unwrap().is_file());
        // A second time there is nothing to do.
        let again = install(&plan).unwrap();
        assert!(again.made.is_empty());
        // Where /bin is no link it gets the interpreters, and nothing else.
        fs::create_dir(root.join("bin")).unwrap();
        fs::write(root.join("bin/with-contenv"), "theirs").unwrap();
        let in_usr_bin = ["s6-svc", "execlineb", "with-contenv"].map(String::from).to_vec();
        let outcome = install(&Plan { in_usr_bin, ..plan }).unwrap();
        assert!(outcome.kept.contains(&format!("{}/bin/with-contenv", root.display())), "{outcome:?}");
        assert_eq!(fs::read_link(root.join("bin/execlineb")).unwrap(), Path::new("../command/execlineb"));
        assert_eq!(fs::read_dir(root.join("bin")).unwrap().count(), 2);
        fs::remove_dir_all(&root).unwrap();
    }
}
