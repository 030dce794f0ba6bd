//! Sends commands to the supervisors of services, and waits for the effect if asked.

use lexopt::prelude::*;
use perennial::cli;
use perennial::diag::{self, Error, Result, Unable, code};
use perennial::process::{Pid, Signal};
use perennial::servicedir::client::Client;
use perennial::servicedir::control::{CLAIM_BYTES, Command, signed};
use perennial::servicedir::feature::Features;
use perennial::servicedir::state::State;
use perennial::servicedir::watch::{self, Goal, Verdict, Watch};
use perennial::servicedir::{definition, event, read_file};
use perennial::sys::{clock, process};
use perennial::time::Mono;
use std::process::ExitCode;
use std::time::Duration;

const USAGE: &str = "svc [ -wu | -wU | -wd | -wD | -wr | -wR ] [ -T timeout ] [ -s signal ] \
                     [ -abqhkti12pcyrlPCKoduDUxOQ ] [ --force ] [ --reset ] servicedir... | \
                     svc --validate [ -T timeout ] servicedir...";

/// Commands are sent in one write; more than a pipe takes at once would not arrive as one.
const MOST_LETTERS: usize = 62;

/// What a supervisor reads at once.
const MOST_BYTES: usize = 64;

/// The program.
pub fn main() -> ExitCode {
    cli::main("svc", svc)
}

/// Its options.
pub fn svc(mut parser: lexopt::Parser) -> Result<u8> {
    let (mut letters, mut goal, mut timeout, mut dirs) = (Vec::new(), None, 0, Vec::new());
    let (mut force, mut validate) = (false, false);
    while let Some(arg) = cli::next(&mut parser)? {
        match arg {
            Short('w') => goal = Some(parse_goal(&cli::value(&mut parser)?)?),
            Short('T') => timeout = cli::number("-T", &mut parser, 0, u32::MAX.into())?,
            Short('s') => letters.push(parse_signal(&cli::value(&mut parser)?)?.letter()),
            Short(letter) if watch::is_command_letter(letter) => letters.push(letter as u8),
            Long("force") => force = true,
            Long("reset") => letters.push(Command::Reset.letter()),
            Long("validate") => validate = true,
            Long("help") => return cli::help(USAGE),
            Value(dir) => dirs.push(cli::text(dir)?),
            _ => return Err(cli::usage(USAGE)),
        }
    }
    if force {
        // What each is for comes right behind it.
        let guarded = [Command::Restart.letter(), Command::Signal(Signal::TERM).letter()];
        let forced = |letter: u8| guarded.contains(&letter).then_some(Command::Force.letter());
        letters = letters.into_iter().flat_map(|letter| forced(letter).into_iter().chain([letter])).collect();
    }
    let mixed = validate && (force || goal.is_some() || !letters.is_empty());
    if dirs.is_empty() || letters.len() > MOST_LETTERS || mixed {
        return Err(cli::usage(USAGE));
    }
    if dirs.iter().any(String::is_empty) {
        return Err(Error::usage("invalid service path"));
    }
    cli::survive_broken_pipes();
    let deadline = watch::deadline(timeout);
    let clients = dirs.iter().map(|dir| Client::open(dir)).collect::<Result<Vec<_>>>()?;
    if validate {
        return ask(&clients, deadline);
    }
    let mut watch = match goal {
        None => None,
        Some(goal) => {
            for client in &clients {
                client.send(b"")?;
            }
            // Alone, -w is svwait; with commands it listens to what they do.
            let goals = clients.iter().map(|client| (client, possible(goal, client)));
            let mut watch = Watch::new(goals, false, !letters.is_empty())?;
            if goal.up {
                watch.show();
            }
            Some(watch)
        }
    };
    let parent = process::parent();
    let bytes = match letters.len() + CLAIM_BYTES > MOST_BYTES {
        true => letters.clone(),
        false => signed(&letters, Pid::own(), parent),
    };
    let mut verdict = code::OK;
    for client in &clients {
        if let Err(e) = client.send(&bytes) {
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
                watch.settle(deadline)?;
            }
            let verdict = watch.wait(deadline)?;
            let refused = clients.iter().filter(|client| watch.refused().any(|path| path == client.path));
            let refused: Vec<&Client> = refused.collect();
            match (&refused[..], &verdict) {
                ([], _) | (_, Verdict::TimedOut { .. }) => watch::conclude(verdict),
                (_, Verdict::Reached { failures }) => {
                    let why: Vec<String> = refused.into_iter().map(refusal).collect();
                    let text =
                        format!("{} (not restarted; --force restarts it nevertheless)", why.join("; "));
                    Err(Error::new((*failures).min(code::TIMED_OUT as usize - 1) as u8, text))
                }
            }
        }
        _ => Ok(verdict),
    }
}

/// Whether a service is not wanted up any more after these commands, and stopped.
fn asks_for_a_stop(letters: &[u8]) -> bool {
    letters.iter().rfind(|letter| b"uUdDoOQ".contains(letter)).is_some_and(|last| b"dD".contains(last))
}

/// What `validate` said, for somebody who was told no.
fn refusal(client: &Client) -> String {
    let state = read_file(client.dir(), "supervise/state").unwrap_or_default();
    let why = State::parse(&state).refused.map(|(_, why)| why).unwrap_or_default();
    format!("{}: validate failed: {why}", client.path)
}

/// Has each service's `validate` run, and says what it said.
fn ask(clients: &[Client], deadline: Option<Mono>) -> Result<u8> {
    let mut longest = Duration::ZERO;
    let mut listeners = Vec::new();
    for client in clients {
        if definition::read_head(client.dir(), "validate").is_none() {
            return Err(Error::usage(format!("{} has no validate", client.path)));
        }
        let mut features = Features::default();
        if let Some(text) = definition::read_head(client.dir(), "timeout-validate") {
            features
                .take("timeout-validate", &text)
                .map_err(|faulty| Error::new(code::NO, format!("{}/{faulty}", client.path)))?;
        }
        longest = longest.max(features.validate_limit());
        listeners.push(client.listen()?);
    }
    for client in clients {
        client.send(&[Command::Validate.letter()])?;
    }
    let mut answers = vec![None; clients.len()];
    // A supervisor of another kind does not answer.
    let deadline = deadline.or(Some(clock::mono().after(longest + Duration::from_secs(30))));
    event::listen(&listeners, deadline, |n, byte| {
        if let b'v' | b'V' | b'x' = byte {
            answers[n] = answers[n].or(Some(byte == b'v'));
        }
        answers.iter().all(Option::is_some)
    })
    .unable("wait for events")?;
    let mut verdict = code::OK;
    for (client, answer) in clients.iter().zip(answers) {
        match answer {
            Some(true) => {}
            Some(false) => {
                diag::warn(refusal(client));
                verdict = verdict.max(code::NO);
            }
            None => {
                diag::warn(format_args!("{}: no answer in time", client.path));
                verdict = code::TIMED_OUT;
            }
        }
    }
    Ok(verdict)
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
    if goal.up && goal.ready && !definition::tells_ready(client.dir()) {
        diag::warn(format_args!(
            "{} has no notification-fd, notify-socket or check: waiting for up instead of ready",
            client.path
        ));
        goal.ready = false;
    }
    goal
}
