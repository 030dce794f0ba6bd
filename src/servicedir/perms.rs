//! Who may read a service's state, control it, and listen to its events: modes and groups of `supervise/`,
//! `supervise/control` and `event/`.
//!
//! | who | `supervise` | `supervise/control` | `event` |
//! |---|---|---|---|
//! | the owner | 0700 | 0600 | |
//! | a group | 0710 | 0620 | 03730 |
//! | everybody | 0711 | | 01733 |
//!
//! Where no group is named the group is the primary one of the owner.

use super::event::{self, Audience, MODE_GROUP, MODE_PUBLIC};
use crate::accounts::Database;
use crate::diag::{self, Error, Result, Unable, code};
use crate::servicedir::client::Client;
use crate::sys::Errno;
use rustix::fs::{AtFlags, FileType, Gid, Mode, Stat, chmodat, chownat, statat};
use std::os::fd::AsFd;

const SUPERVISE: &str = "supervise";
const CONTROL: &str = "supervise/control";

/// Whom something is open to, beside its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// Nobody.
    Owner,
    /// The members of a group.
    Group(u32),
    /// Everybody.
    Public,
}

/// Who may read the state and who may control: what one option of svperms sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// Reads `supervise/status` and the death tally, and sees whether there is a supervisor.
    pub status: Who,
    /// Sends commands. Cannot be everybody.
    pub control: Who,
}

/// Who may read the state of a service.
pub fn status(client: &Client) -> Result<Who> {
    let st = look(client, SUPERVISE, FileType::Directory)?;
    // Below a setgid directory it has that bit too.
    match mode(&st) & !0o2000 {
        0o700 => Ok(Who::Owner),
        0o710 => Ok(Who::Group(st.st_gid)),
        0o711 => Ok(Who::Public),
        _ => Err(odd_mode(client, SUPERVISE, &st)),
    }
}

/// Who may control a service.
pub fn control(client: &Client) -> Result<Who> {
    let st = look(client, CONTROL, FileType::Fifo)?;
    match mode(&st) {
        0o600 => Ok(Who::Owner),
        0o620 => Ok(Who::Group(st.st_gid)),
        _ => Err(odd_mode(client, CONTROL, &st)),
    }
}

/// Who may listen to the events of a service.
pub fn events(client: &Client) -> Result<Who> {
    let st = look(client, event::DIR, FileType::Directory)?;
    match mode(&st) {
        MODE_GROUP => Ok(Who::Group(st.st_gid)),
        MODE_PUBLIC => Ok(Who::Public),
        _ => Err(odd_mode(client, event::DIR, &st)),
    }
}

/// Sets who may read the state and control.
pub fn set_access(client: &Client, access: Access) -> Result<()> {
    let (own, group) = match access.status {
        Who::Owner => (0o700, None),
        Who::Group(gid) => (0o710, Some(gid)),
        Who::Public => (0o711, None),
    };
    set(client, SUPERVISE, own, group)?;
    let (own, group) = match access.control {
        Who::Owner => (0o600, None),
        Who::Group(gid) => (0o620, Some(gid)),
        Who::Public => return Err(Error::new(code::BUG, "control cannot be public")),
    };
    set(client, CONTROL, own, group)
}

/// Sets who may listen.
pub fn set_events(client: &Client, audience: Audience) -> Result<()> {
    if audience == Audience::Public {
        set_group(client, event::DIR, None)?;
    }
    event::set_audience(client.dir(), event::DIR, audience).unable(format_args!(
        "change permissions of {}/{}",
        client.path,
        event::DIR
    ))
}

/// Lets the members of a group control the service in `dir`, read its state and listen to its events.
pub fn let_in(dir: impl AsFd, gid: u32) -> std::result::Result<(), Errno> {
    let group = Some(Gid::from_raw(gid));
    for (name, mode) in [(SUPERVISE, 0o710), (CONTROL, 0o620)] {
        chownat(&dir, name, None, group, AtFlags::empty())?;
        chmodat(&dir, name, Mode::from_raw_mode(mode), AtFlags::empty())?;
    }
    event::set_audience(&dir, event::DIR, Audience::Group(gid))
}

fn set(client: &Client, name: &str, mode: u32, group: Option<u32>) -> Result<()> {
    set_group(client, name, group)?;
    chmodat(client.dir(), name, Mode::from_raw_mode(mode), AtFlags::empty())
        .unable(format_args!("change permissions of {}/{name}", client.path))
}

fn set_group(client: &Client, name: &str, group: Option<u32>) -> Result<()> {
    let gid = match group {
        Some(gid) => gid,
        None => primary_group(client, name)?,
    };
    chownat(client.dir(), name, None, Some(Gid::from_raw(gid)), AtFlags::empty())
        .unable(format_args!("change group of {}/{name}", client.path))
}

/// The primary group of the owner of a file; root's if the owner has no entry.
fn primary_group(client: &Client, name: &str) -> Result<u32> {
    let st = statat(client.dir(), name, AtFlags::empty())
        .unable(format_args!("look at {}/{name}", client.path))?;
    Ok(Database::users()?.primary_group(st.st_uid).unwrap_or_else(|| {
        let (path, uid) = (&client.path, st.st_uid);
        diag::warn(format_args!("uid {uid}, owner of {path}/{name}, has no primary group: using root's"));
        0
    }))
}

fn look(client: &Client, name: &str, kind: FileType) -> Result<Stat> {
    let st = statat(client.dir(), name, AtFlags::empty())
        .unable(format_args!("look at {}/{name}", client.path))?;
    if FileType::from_raw_mode(st.st_mode) == kind {
        return Ok(st);
    }
    let kind = if kind == FileType::Directory { "directory" } else { "named pipe" };
    Err(Error::new(code::NO, format!("{}/{name} is not a {kind}", client.path)))
}

fn mode(st: &Stat) -> u32 {
    st.st_mode & 0o7777
}

fn odd_mode(client: &Client, name: &str, st: &Stat) -> Error {
    Error::new(code::NO, format!("{}/{name} has incorrect permissions: {:04o}", client.path, mode(st)))
}
