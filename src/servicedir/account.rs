//! The account that a service's `user` names: numbers, groups, and what its environment says of it.

use super::feature::Faulty;
use crate::accounts::Database;
use crate::diag::Result as Tried;

/// Somebody to become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// User.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// Its name; none for a number that has no line in `/etc/passwd`.
    pub name: Option<String>,
    /// Its home directory.
    pub home: Option<String>,
    /// Its shell.
    pub shell: Option<String>,
}

impl Account {
    /// Looks up what `user` says, in `/etc/passwd` and `/etc/group` of the tree at `root` (empty for here).
    pub fn find(text: &str, root: &str) -> Result<Account, Faulty> {
        let users = read(Database::of(&format!("{root}/etc/passwd")))?;
        let groups = read(Database::of(&format!("{root}/etc/group")))?;
        Account::find_in(text, &users, &groups)
    }

    fn find_in(text: &str, users: &Database, groups: &Database) -> Result<Account, Faulty> {
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (text, None),
        };
        // A name of digits is a name if it is one, as for chown.
        let line = users.user(user).or_else(|| users.user_by_number(number(user)?));
        let gid = match group {
            Some(group) => match groups.id(group).or_else(|| number(group)) {
                Some(gid) => Some(gid),
                None => {
                    return Err(faulty(format!(
                        "there is no group {group} in /etc/group: add it, or write its number"
                    )));
                }
            },
            None => None,
        };
        if let Some(line) = line {
            let text = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
            return Ok(Account {
                uid: line.uid,
                gid: gid.unwrap_or(line.gid),
                groups: groups.memberships(line.name),
                name: text(line.name),
                home: text(line.home),
                shell: text(line.shell),
            });
        }
        match (number(user), gid) {
            (Some(uid), Some(gid)) => {
                Ok(Account { uid, gid, groups: Vec::new(), name: None, home: None, shell: None })
            }
            (Some(uid), None) => Err(faulty(format!(
                "uid {uid} has no line in /etc/passwd that tells its group: write UID:GID"
            ))),
            (None, _) => {
                Err(faulty(format!("there is no account {user} in /etc/passwd: add it, or write UID:GID")))
            }
        }
    }

    /// What its environment says of it. Who has no home is at home in `/`.
    pub fn variables(&self) -> [(&'static str, Option<&str>); 4] {
        let name = self.name.as_deref();
        [
            ("HOME", Some(self.home.as_deref().unwrap_or("/"))),
            ("USER", name),
            ("LOGNAME", name),
            ("SHELL", self.shell.as_deref()),
        ]
    }
}

fn read(database: Tried<Database>) -> Result<Database, Faulty> {
    database.map_err(|e| faulty(e.to_string()))
}

fn faulty(why: String) -> Faulty {
    Faulty { file: "user", why }
}

fn number(text: &str) -> Option<u32> {
    // The last number means "nobody in particular" to the kernel.
    let number = if text.bytes().all(|b| b.is_ascii_digit()) { text.parse().ok() } else { None };
    number.filter(|n| *n != u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(text: &str) -> Result<Account, String> {
        let users =
            Database::from_text("root:x:0:0::/root:/bin/sh\nwww:x:33:12:www:/srv:\nodd:x\n".to_owned());
        let groups = Database::from_text("mail:x:8:www,root\nweb:x:12:\nlog:x:9:a,www\n".to_owned());
        Account::find_in(text, &users, &groups).map_err(|faulty| faulty.to_string())
    }

    #[test]
    fn accounts_by_name_and_number() {
        let www = find("www").unwrap();
        assert_eq!((www.uid, www.gid, &www.groups[..]), (33, 12, &[8, 9][..]));
        let variables =
            [("HOME", Some("/srv")), ("USER", Some("www")), ("LOGNAME", Some("www")), ("SHELL", None)];
        assert_eq!(www.variables(), variables);
        assert_eq!(find("33"), Ok(www.clone()));
        assert_eq!(find("www:mail"), Ok(Account { gid: 8, ..www.clone() }));
        assert_eq!(find("33:99"), Ok(Account { gid: 99, ..www }));
        let bare = find("1000:1001").unwrap();
        assert_eq!((bare.uid, bare.gid, bare.name.is_none()), (1000, 1001, true));
    }

    #[test]
    fn accounts_that_are_none() {
        for (text, message) in [
            ("nobody", "user: there is no account nobody in /etc/passwd: add it, or write UID:GID"),
            ("odd", "user: there is no account odd in /etc/passwd: add it, or write UID:GID"),
            ("www:nogroup", "user: there is no group nogroup in /etc/group: add it, or write its number"),
            ("1000", "user: uid 1000 has no line in /etc/passwd that tells its group: write UID:GID"),
            ("4294967295:0", "user: there is no account 4294967295 in /etc/passwd: add it, or write UID:GID"),
        ] {
            assert_eq!(find(text).unwrap_err(), message);
        }
    }
}
