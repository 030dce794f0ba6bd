//! setuidgid, envuidgid, applyuidgid: becoming somebody else.
//!
//! Accounts are looked up in `/etc/passwd` and `/etc/group` and nowhere else. Whoever is that user already
//! goes on: in a container that was not started as root nothing else could be meant.

use crate::accounts::Database;
use crate::chain::*;
use crate::diag::{Error, reason};
use crate::sys::{Errno, process};
use rustix::process::{getegid, geteuid};

/// Variables that tell of an account.
const UID: Word = b"UID";
const GID: Word = b"GID";
const GIDLIST: Word = b"GIDLIST";

/// Whom to become.
#[derive(Clone, Debug, Default)]
struct Identity {
    /// 0 stays what it is, for user and group.
    uid: u32,
    gid: u32,
    /// Supplementary groups. `None`: they stay.
    groups: Option<Vec<u32>>,
}

impl Identity {
    fn apply(&self) -> Result<()> {
        let refused = |what: &str, errno| {
            let hint = if errno == Errno::PERM { " (only root can become somebody else)" } else { "" };
            crate::chain::failed(111, &["unable to set ", what, ": ", reason(errno), hint])
        };
        let is_us = (self.uid, self.gid) == (geteuid().as_raw(), getegid().as_raw());
        if let Some(groups) = &self.groups {
            match process::set_groups(groups) {
                Err(Errno::PERM) if is_us => {}
                done => done.map_err(|errno| refused("supplementary groups", errno))?,
            }
        }
        if self.gid > 0 {
            process::set_gid(self.gid).map_err(|errno| refused("group", errno))?;
        }
        if self.uid > 0 {
            process::set_uid(self.uid).map_err(|errno| refused("user", errno))?;
        }
        Ok(())
    }
}

/// Numbers with commas or blanks between.
fn list(text: &[u8]) -> Option<Vec<u32>> {
    text.split(|b| b",:; \t\r\n".contains(b)).filter(|word| !word.is_empty()).map(number).collect()
}

/// The account of a name, with all its groups.
fn account(name: &[u8]) -> Result<Identity> {
    let user = shown(name);
    let users = Database::users()?;
    let found = users.user(user).ok_or_else(|| unknown("user", name))?;
    Ok(Identity { uid: found.uid, gid: found.gid, groups: Some(Database::groups()?.memberships(user)) })
}

fn unknown(what: &str, name: &[u8]) -> Error {
    let file = if what == "user" { " (not in /etc/passwd)" } else { " (not in /etc/group)" };
    failed(1, &["unknown ", what, ": ", shown(name), file])
}

/// A user or group by number, or else by name.
fn either(word: &[u8], what: &str, database: fn() -> crate::diag::Result<Database>) -> Result<u32> {
    match number(word) {
        Some(id) => Ok(id),
        None => database()?.id(shown(word)).ok_or_else(|| unknown(what, word)),
    }
}

/// `setuidgid`
pub fn setuidgid(args: &mut Args) -> Result<Step> {
    args.at_least(2)?;
    let who = args.word()?;
    let argv = args.rest();
    if who.is_empty() {
        return next_with(argv, Vec::new());
    }
    let Some(colon) = who.iter().position(|b| *b == b':') else {
        account(who)?.apply()?;
        return next_with(argv, vec![UID, GID, GIDLIST]);
    };
    let uid = either(&who[..colon], "user", Database::users)?;
    let gid = either(&who[colon + 1..], "group", Database::groups)?;
    Identity { uid, gid, groups: Some(Vec::new()) }.apply()?;
    next_with(argv, Vec::new())
}

/// `applyuidgid`
pub fn applyuidgid(args: &mut Args) -> Result<Step> {
    let (mut who, mut unexport) = (Identity::default(), false);
    loop {
        match args.option("zUu:g:G:")? {
            b'z' => unexport = true,
            b'u' => who.uid = args.value_number()?,
            b'g' => who.gid = args.value_number()?,
            b'G' => who.groups = Some(list(args.value()).ok_or_else(|| args.misused())?),
            b'U' => {
                let groups = list(variable(GIDLIST)?).ok_or_else(|| usage(&["invalid GIDLIST"]))?;
                who =
                    Identity { uid: variable_number(UID)?, gid: variable_number(GID)?, groups: Some(groups) };
            }
            _ => break,
        }
    }
    args.at_least(1)?;
    let argv = args.rest();
    who.apply()?;
    next_with(argv, if unexport { vec![UID, GID, GIDLIST] } else { Vec::new() })
}

/// `uid:gid:list` of `envuidgid -D`; what is missing is 0, or nobody.
fn defaults(text: &[u8]) -> Option<Identity> {
    let mut parts = text.splitn(3, |b| *b == b':');
    let mut id = || match parts.next() {
        None | Some(b"") => Some(0),
        Some(word) => number(word),
    };
    let (uid, gid) = (id()?, id()?);
    Some(Identity { uid, gid, groups: Some(list(parts.next().unwrap_or_default())?) })
}

/// `envuidgid`
pub fn envuidgid(args: &mut Args) -> Result<Step> {
    let (mut want_user, mut want_group, mut want_list, mut numeric, mut default) =
        (true, true, true, false, None);
    loop {
        match args.option("ugBniD:")? {
            b'n' => (numeric, want_list) = (true, false),
            b'i' => default = None,
            b'D' => default = Some(defaults(args.value()).ok_or_else(|| args.misused())?),
            0 => break,
            letter => (want_user, want_group, want_list) = (letter != b'g', letter != b'u', false),
        }
    }
    args.at_least(2)?;
    let name = args.word()?;
    let mut found = default.clone().unwrap_or_default();
    let known = |outcome: Result<Identity>| match (outcome, &default) {
        (Err(error), Some(_)) if error.code() == 1 => Ok(None),
        (outcome, _) => outcome.map(Some),
    };
    if want_list {
        if let Some(account) = known(account(name))? {
            found = account;
        }
    } else {
        let mut parts = name.splitn(2, |b| *b == b':');
        let both = want_user && want_group;
        let (user, group) = match (both, want_user) {
            (true, _) => (parts.next(), parts.next()),
            (_, true) => (Some(name), None),
            _ => (None, Some(name)),
        };
        let id = |word: &[u8], what, database: fn() -> crate::diag::Result<Database>| {
            let found = database()?.id(shown(word));
            let id = found.or_else(|| number(word).filter(|_| numeric)).ok_or_else(|| unknown(what, word))?;
            Ok(Identity { uid: id, gid: id, groups: None })
        };
        if let Some(group) = group.filter(|group| !group.is_empty()) {
            found.gid = known(id(group, "group", Database::groups))?.map_or(found.gid, |g| g.gid);
        }
        if let Some(user) = user.filter(|user| !user.is_empty()) {
            found.uid = known(id(user, "user", Database::users))?.map_or(found.uid, |u| u.uid);
        }
    }
    let mut changes = Vec::new();
    if want_user {
        changes.push(setting(UID, decimal(found.uid)));
    }
    if want_group {
        changes.push(setting(GID, decimal(found.gid)));
    }
    if want_list {
        let groups: Vec<Word> = found.groups.unwrap_or_default().into_iter().map(decimal).collect();
        changes.push(setting(GIDLIST, &groups.join(&b',')));
    }
    next_with(args.rest(), changes)
}
