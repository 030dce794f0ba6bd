//! Names of users and groups: `/etc/passwd` and `/etc/group`, read as musl reads them, without NSS.

use crate::diag::{Error, Result, Unable, code};
use crate::servicedir::read_file;
use crate::sys::Errno;
use rustix::fs::CWD;

/// One of the two files: lines of fields with colons between. An unreadable file is an error, one that is
/// not there has no lines.
pub struct Database {
    text: String,
}

/// The fields of a line that both files have in the same place.
const NAME: usize = 0;
const ID: usize = 2;
/// Of users.
const PRIMARY_GROUP: usize = 3;
const HOME: usize = 5;
const SHELL: usize = 6;
/// Of groups.
const MEMBERS: usize = 3;

/// A line of `/etc/passwd`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its number.
    pub uid: u32,
    /// Its primary group.
    pub gid: u32,
    /// Its home directory.
    pub home: &'a str,
    /// Its shell.
    pub shell: &'a str,
}

impl Database {
    /// Reads `/etc/group`.
    pub fn groups() -> Result<Database> {
        Database::of("/etc/group")
    }

    /// Reads `/etc/passwd`.
    pub fn users() -> Result<Database> {
        Database::of("/etc/passwd")
    }

    /// Reads the file `path`, which has the form of either.
    pub fn of(path: &str) -> Result<Database> {
        let bytes = match read_file(CWD, path) {
            Err(Errno::NOENT) => Vec::new(),
            bytes => bytes.unable(format_args!("read {path}"))?,
        };
        Ok(Database::from_text(String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// Of this text.
    pub fn from_text(text: String) -> Database {
        Database { text }
    }

    /// The fields of the first line that satisfies `wanted`.
    fn find(&self, wanted: impl Fn(&[&str]) -> bool) -> Option<Vec<&str>> {
        self.text.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|fields| wanted(fields))
    }

    /// The number that belongs to a name.
    pub fn id(&self, name: &str) -> Option<u32> {
        self.find(|fields| fields[NAME] == name && id(fields, ID).is_some()).and_then(|f| id(&f, ID))
    }

    /// The name that belongs to a number.
    pub fn name(&self, number: u32) -> Option<String> {
        self.find(|fields| id(fields, ID) == Some(number)).map(|fields| fields[NAME].to_owned())
    }

    /// Of users: the primary group of the user with this number.
    pub fn primary_group(&self, uid: u32) -> Option<u32> {
        self.find(|fields| id(fields, ID) == Some(uid)).and_then(|fields| id(&fields, PRIMARY_GROUP))
    }

    /// Of users: the one with this name.
    pub fn user(&self, name: &str) -> Option<User<'_>> {
        self.find(|fields| fields[NAME] == name && user(fields).is_some()).and_then(|fields| user(&fields))
    }

    /// Of users: the first with this number.
    pub fn user_by_number(&self, uid: u32) -> Option<User<'_>> {
        self.find(|fields| user(fields).is_some_and(|user| user.uid == uid)).and_then(|fields| user(&fields))
    }

    /// Of groups: those that name a user as their member.
    pub fn memberships(&self, name: &str) -> Vec<u32> {
        let lines = self.text.lines().map(|line| line.split(':').collect::<Vec<_>>());
        let names_it =
            |fields: &Vec<&str>| fields.get(MEMBERS).is_some_and(|all| all.split(',').any(|n| n == name));
        lines.filter(names_it).filter_map(|fields| id(&fields, ID)).collect()
    }
}

fn id(fields: &[&str], place: usize) -> Option<u32> {
    let text = fields.get(place)?;
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}

fn user<'a>(fields: &[&'a str]) -> Option<User<'a>> {
    let text = |place: usize| fields.get(place).copied().unwrap_or_default();
    Some(User {
        name: fields[NAME],
        uid: id(fields, ID)?,
        gid: id(fields, PRIMARY_GROUP)?,
        home: text(HOME),
        shell: text(SHELL),
    })
}

/// A group as svperms takes it: a name, or a number after a colon.
pub fn parse_group(text: &str) -> Result<u32> {
    if let Some(number) = text.strip_prefix(':') {
        return id(&[number], 0)
            .ok_or_else(|| Error::usage(format!("invalid group {text:?}: no number after the colon")));
    }
    Database::groups()?
        .id(text)
        .ok_or_else(|| Error::new(code::USAGE, format!("unable to find group {text} in the group database")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_are_none_are_passed_over() {
        let text = "# comment\nroot:x:0:\n\nbroken:x:\nmail:x:8:a,b\nmail:x:9:\nneg:x:-1:\n";
        let groups = Database::from_text(text.to_owned());
        assert_eq!(groups.id("mail"), Some(8));
        assert_eq!(groups.id("broken"), None);
        assert_eq!(groups.id("neg"), None);
        assert_eq!(groups.name(0).as_deref(), Some("root"));
        assert_eq!(groups.name(7), None);
        let users = Database::from_text("www:x:33:12:www:/var/www:/bin/false\n".to_owned());
        assert_eq!(users.primary_group(33), Some(12));
        assert_eq!(users.primary_group(12), None);
    }

    #[test]
    fn groups_by_number() {
        assert_eq!(parse_group(":4711").unwrap(), 4711);
        for bad in [":", ":x", ":-1", ":4294967296", "no such group"] {
            assert_eq!(parse_group(bad).unwrap_err().code(), code::USAGE, "{bad}");
        }
    }
}
