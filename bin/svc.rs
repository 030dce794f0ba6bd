//! Sends commands to the supervisors of services, and waits for the effect if asked.

use lexopt::prelude::*;
use perennial::cli;
use perennial::diag::{self, Error, Result, code};
use perennial::servicedir::client::Client;
use perennial::servicedir::control::Command;
use perennial::servicedir::definition;
use perennial::servicedir::watch::{self, Goal, Watch};
use std::process::ExitCode;

const USAGE: &str = "svc [ -wu | -wU | -wd | -wD | -wr | -wR ] [ -T timeout ] [ -s signal ] \
                     [ -abqhkti12pcyrlPCKoduDUxOQ ] servicedir...";

/// Commands are sent in one write; more than a pipe takes at once would not arrive as one.
const MOST_LETTERS: usize = 62;

/// The program.
pub fn main() -> ExitCode {
    cli::main("svc", svc)
}

/// Its options.
pub fn svc(mut parser: lexopt::Parser) -> Result<u8> {
    let (mut letters, mut goal, mut timeout, mut dirs) = (Vec::new(), None, 0, Vec::new());
    while let Some(arg) = parser.next()? {
        match arg {
            Short('w') => goal = Some(parse_goal(&parser.value()?.string()?)?),
            Short('T') => timeout = cli::number("-T", &parser.value()?, 0, u32::MAX.into())?,
            Short('s') => letters.push(parse_signal(&parser.value()?.string()?)?.letter()),
            Short(letter) if watch::is_command_letter(letter) => letters.push(letter as u8),
            Long("help") => return cli::help(USAGE),
            Value(dir) => dirs.push(dir.string()?),
            _ => return Err(cli::usage(USAGE)),
        }
    }
    if dirs.is_empty() || letters.len() > MOST_LETTERS {
        return Err(cli::usage(USAGE));
    }
    if dirs.iter().any(String::is_empty) {
        return Err(Error::usage("invalid service path"));
    }
    cli::survive_broken_pipes();
    let deadline = watch::deadline(timeout);
    let clients = dirs.iter().map(|dir| Client::open(dir)).collect::<Result<Vec<_>>>()?;
    let mut watch = match goal {
        None => None,
        Some(goal) => {
            for client in &clients {
                client.send(b"")?;
            }
            // Alone, -w is svwait; with commands it listens to what they do.
            let goals = clients.iter().map(|client| (client, possible(goal, client)));
            Some(Watch::new(goals, false, !letters.is_empty())?)
        }
    };
    let mut verdict = code::OK;
    for client in &clients {
        if let Err(e) = client.send(&letters) {
            if clients.len() == 1 {
                return Err(e);
            }
            diag::warn(&e);
            verdict = e.code();
        }
    }
    match &mut watch {
        Some(watch) if verdict == code::OK => {
            if asks_for_a_stop(&letters) && goal.is_some_and(|goal| !goal.up) {
                watch.settle(&clients, deadline)?;
            }
            watch::conclude(watch.wait(deadline)?)
        }
        _ => Ok(verdict),
    }
}

/// Whether a service is not wanted up any more after these commands, and stopped.
fn asks_for_a_stop(letters: &[u8]) -> bool {
    letters.iter().rfind(|letter| b"uUdDoOQ".contains(letter)).is_some_and(|last| b"dD".contains(last))
}

fn parse_goal(text: &str) -> Result<Goal> {
    let mut letters = text.chars();
    match (letters.next().and_then(Goal::from_letter), letters.next()) {
        (Some(goal), None) => Ok(goal),
        _ => Err(cli::usage(USAGE)),
    }
}

fn parse_signal(text: &str) -> Result<Command> {
    let signal = text.parse().ok();
    signal
        .and_then(Command::for_signal)
        .ok_or_else(|| Error::usage(format!("invalid value for -s: there is no command that sends {text:?}")))
}

/// A service that cannot say that it is ready is not waited for to say so.
fn possible(mut goal: Goal, client: &Client) -> Goal {
    if goal.up && goal.ready && definition::read_head(client.dir(), "notification-fd").is_none() {
        diag::warn(format_args!("{} has no notification-fd: waiting for up instead of ready", client.path));
        goal.ready = false;
    }
    goal
}
