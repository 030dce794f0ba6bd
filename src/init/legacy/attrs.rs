//! `fix-attrs.d`: owners and modes, before anything else.
//!
//! A line is `path recurse account file-mode directory-mode`, separated by blanks: `/data true www,33:33 0640
//! 0750`. The path may have `*`, `?` and `[...]`; recurse is `true` or `false`; the account is a user, or
//! `user:group`, names or numbers, and after a comma what counts if there is no such name; modes are octal.
//! A line whose first word is `#` is a comment.

use super::{is_chatty, names, settings};
use crate::accounts::Database;
use crate::diag::{self, reason};
use crate::glob;
use crate::sys::Errno;
use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, Uid, chmodat, chownat, lstat};
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// One line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rule<'a> {
    path: &'a str,
    recurse: bool,
    account: &'a str,
    file_mode: u32,
    dir_mode: u32,
}

/// Applies all files of `dir`; whether anything failed.
pub fn fix(dir: &str) -> bool {
    let hidden = settings::flag("S6_FIX_ATTRS_HIDDEN");
    let mut failed = false;
    for name in names(dir) {
        let path = format!("{dir}/{name}");
        if is_chatty() {
            diag::info(format_args!("applying {path}"));
        }
        let text = match fs::read(&path) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(e) => {
                failed |= complain(&path, 0, reason(Errno::from_io_error(&e).unwrap_or(Errno::IO)));
                continue;
            }
        };
        for (n, line) in text.lines().enumerate() {
            match parse(line) {
                Ok(None) => {}
                Ok(Some(rule)) => match apply(rule, hidden) {
                    Ok(()) => {}
                    Err(text) => failed |= complain(&path, n + 1, &text),
                },
                Err(text) => failed |= complain(&path, n + 1, text),
            }
        }
    }
    failed
}

fn complain(path: &str, line: usize, text: &str) -> bool {
    diag::warn(format_args!("{path}:{line}: {text}"));
    true
}

fn parse(line: &str) -> Result<Option<Rule<'_>>, &'static str> {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    if matches!(words.first(), None | Some(&"#")) {
        return Ok(None);
    }
    let [path, recurse, account, file_mode, dir_mode] = words[..] else {
        return Err("five words are needed: path, true or false, account, file mode, directory mode");
    };
    let recurse = match recurse {
        "true" => true,
        "false" => false,
        _ => return Err("the second word must be true or false"),
    };
    let octal = |word: &str| u32::from_str_radix(word, 8).ok().filter(|mode| *mode <= 0o7777);
    match (octal(file_mode), octal(dir_mode)) {
        (Some(file_mode), Some(dir_mode)) => Ok(Some(Rule { path, recurse, account, file_mode, dir_mode })),
        _ => Err("the last two words must be modes, in octal"),
    }
}

fn apply(rule: Rule<'_>, hidden: bool) -> Result<(), String> {
    let owner = account(rule.account).ok_or_else(|| format!("there is no account {}", rule.account))?;
    let found = glob::expand(rule.path.as_bytes());
    if found.is_empty() {
        return Err(format!("nothing matches {}", rule.path));
    }
    found.into_iter().try_for_each(|path| set(path, rule, owner, hidden))
}

/// Sets one file, and with it what is below, as far as it is not a link.
fn set(path: Vec<u8>, rule: Rule<'_>, (uid, gid): (u32, u32), hidden: bool) -> Result<(), String> {
    let fail = |e| format!("{}: {}", String::from_utf8_lossy(&path), reason(e));
    let kind = FileType::from_raw_mode(lstat(&path[..]).map_err(fail)?.st_mode);
    let ids = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
    chownat(CWD, &path[..], ids.0, ids.1, AtFlags::SYMLINK_NOFOLLOW).map_err(fail)?;
    if kind == FileType::Symlink {
        return Ok(());
    }
    let mode = if kind == FileType::Directory { rule.dir_mode } else { rule.file_mode };
    chmodat(CWD, &path[..], Mode::from_raw_mode(mode), AtFlags::empty()).map_err(fail)?;
    if kind != FileType::Directory || !rule.recurse {
        return Ok(());
    }
    let entries = fs::read_dir(std::ffi::OsStr::from_bytes(&path));
    for entry in entries.map_err(|e| fail(Errno::from_io_error(&e).unwrap_or(Errno::IO)))?.flatten() {
        let name = entry.file_name().into_vec();
        if hidden || !name.starts_with(b".") {
            set([&path[..], b"/", &name].concat(), rule, (uid, gid), hidden)?;
        }
    }
    Ok(())
}

/// `user`, `user:group`, in names or numbers, and after a comma what counts if there is no such name.
fn account(text: &str) -> Option<(u32, u32)> {
    let (wanted, otherwise) = match text.split_once(',') {
        Some((wanted, otherwise)) => (wanted, Some(otherwise)),
        None => (text, None),
    };
    one_account(wanted).or_else(|| one_account(otherwise?))
}

fn one_account(text: &str) -> Option<(u32, u32)> {
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (text, None),
    };
    let users = Database::users().ok()?;
    let uid = user.parse().ok().or_else(|| users.id(user))?;
    let gid = match group {
        Some(group) => group.parse().ok().or_else(|| Database::groups().ok()?.id(group))?,
        None => users.primary_group(uid).unwrap_or(uid),
    };
    Some((uid, gid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let rule =
            Rule { path: "/data/*", recurse: true, account: "www,33:33", file_mode: 0o640, dir_mode: 0o750 };
        assert_eq!(parse("/data/*  true\twww,33:33 0640 0750"), Ok(Some(rule)));
        for nothing in ["", "  ", "# comment", "\t# a b c d e"] {
            assert_eq!(parse(nothing), Ok(None));
        }
        for bad in ["/data true www 0640", "/data yes www 0640 0750", "/data true www 0648 0750", "#x"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn accounts() {
        assert_eq!(account("12:34"), Some((12, 34)));
        assert_eq!(account("no-such-user"), None);
        assert_eq!(account("no-such-user,5:6"), Some((5, 6)));
        assert_eq!(account("root:7"), Some((0, 7)));
    }
}
