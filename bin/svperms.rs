//! Shows or sets who may read the state of services, control them, and listen to their events.

use lexopt::prelude::*;
use perennial::accounts::{Database, parse_group};
use perennial::diag::{self, Result, code};
use perennial::servicedir::client::Client;
use perennial::servicedir::event::Audience;
use perennial::servicedir::perms::{self, Access, Who};
use perennial::{cli, diag::Error};
use std::fmt::Write as _;
use std::process::ExitCode;

const USAGE: &str =
    "svperms [ -v ] [ -u | -g group | -G group | -o | -O group ] [ -e | -E group ] servicedir...";

/// The program.
pub fn main() -> ExitCode {
    cli::main("svperms", svperms)
}

/// Its options.
pub fn svperms(mut parser: lexopt::Parser) -> Result<u8> {
    let (mut show, mut access, mut audience, mut dirs) = (false, None, None, Vec::new());
    while let Some(arg) = cli::next(&mut parser)? {
        match arg {
            Short('v') => show = true,
            Short('u') => access = Some(Access { status: Who::Owner, control: Who::Owner }),
            Short('g') => {
                access = Some(Access { status: group(&mut parser)?, control: Who::Owner });
            }
            Short('G') => {
                let group = group(&mut parser)?;
                access = Some(Access { status: group, control: group });
            }
            Short('o') => access = Some(Access { status: Who::Public, control: Who::Owner }),
            Short('O') => {
                access = Some(Access { status: Who::Public, control: group(&mut parser)? });
            }
            Short('e') => audience = Some(Audience::Public),
            Short('E') => audience = Some(Audience::Group(parse_group(&cli::value(&mut parser)?)?)),
            Short('h') | Long("help") => return cli::help(USAGE),
            Value(dir) => dirs.push(cli::text(dir)?),
            _ => return Err(cli::usage(USAGE)),
        }
    }
    if dirs.is_empty() {
        return Err(cli::usage(USAGE));
    }
    show |= access.is_none() && audience.is_none();
    let (mut text, mut verdict) = (String::new(), code::OK);
    for dir in &dirs {
        let client = match Client::open(dir) {
            // To be shown only: one of several things that may be wrong with it.
            Err(e) if access.is_none() && audience.is_none() => {
                diag::warn(e);
                verdict = code::NO;
                continue;
            }
            client => client?,
        };
        if let Some(access) = access {
            perms::set_access(&client, access)?;
        }
        if let Some(audience) = audience {
            perms::set_events(&client, audience)?;
        }
        if show && !describe(&client, &mut text)? {
            verdict = code::NO;
        }
    }
    diag::print(&text).map(|_| verdict)
}

fn group(parser: &mut lexopt::Parser) -> Result<Who> {
    parse_group(&cli::value(parser)?).map(Who::Group)
}

/// Appends a line for each kind of permission. False: something was wrong, which has been said.
fn describe(client: &Client, text: &mut String) -> Result<bool> {
    let groups = Database::groups()?;
    let kinds: [(&str, std::result::Result<Who, Error>); 3] = [
        ("status", perms::status(client)),
        ("control", perms::control(client)),
        ("events", perms::events(client)),
    ];
    let mut fine = true;
    for (kind, who) in kinds {
        let who = match who {
            Ok(Who::Owner) => "owner".to_owned(),
            Ok(Who::Group(gid)) => format!("group {}", groups.name(gid).unwrap_or_else(|| gid.to_string())),
            Ok(Who::Public) => "public".to_owned(),
            Err(e) => {
                diag::warn(e);
                fine = false;
                continue;
            }
        };
        let _ = writeln!(text, "{} {kind}: {who}", client.path);
    }
    Ok(fine)
}
