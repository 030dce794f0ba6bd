//! `services.d`: service directories that are copied below `/run`, where they may be written to, and put
//! into the scan directory.

use super::{is_chatty, names};
use crate::diag::{self, Error, Result, Unable, code};
use crate::files;
use crate::init::{place, settings};
use crate::process::Signal;
use crate::rc::engine;
use crate::scan::client::ScanDir;
use crate::servicedir::client::Client;
use crate::servicedir::watch::{Goal, Verdict, Watch};
use crate::sys::{Errno, clock, signal};
use crate::time::Mono;
use rustix::fs::{CWD, symlinkat};
use std::fs;
use std::path::Path;
use std::time::Duration;

/// Where the copies are: their services run there, and scripts look for them by this name.
fn copies() -> String {
    place::below("/s6/legacy-services")
}

/// A supervisor that has been told of a service makes it within microseconds.
const PATIENCE: Duration = Duration::from_secs(5);

/// Copies them and has them supervised; whether anything failed.
pub fn up(dir: &str) -> bool {
    let mut failed = false;
    let mut added = Vec::new();
    for name in names(dir) {
        let from = format!("{dir}/{name}");
        if !Path::new(&from).is_dir() {
            continue;
        }
        match add(&from, &name) {
            Ok(()) => added.push(name),
            Err(e) => {
                diag::warn(e);
                failed = true;
            }
        }
    }
    if let Err(e) = tell(&added) {
        diag::warn(e);
        return true;
    }
    // From here on we only wait: we end when we are told to.
    signal::allow(Signal::TERM);
    if settings::flag("S6_CMD_WAIT_FOR_SERVICES") {
        failed |= wait_for(&added).inspect_err(|e| diag::warn(e)).is_err();
    }
    failed
}

fn add(from: &str, name: &str) -> Result<()> {
    let (copy, link) = (format!("{}/{name}", copies()), format!("{}/{name}", place::scandir()));
    let there = fs::read_link(&link);
    if there.is_ok_and(|target| target == Path::new(&copy)) {
        return Ok(());
    }
    if fs::symlink_metadata(&link).is_ok() {
        let text = format!("unable to add service {name}: another service has this name");
        return Err(Error::new(code::NO, text));
    }
    files::remove_tree(Path::new(&copy))?;
    fs::create_dir_all(copies()).unable(format_args!("make {}", copies()))?;
    files::copy_tree(Path::new(from), Path::new(&copy))?;
    symlinkat(&*copy, CWD, &*link).unable(format_args!("link {link}"))?;
    if is_chatty() {
        diag::info(format_args!("service {name} added"));
    }
    Ok(())
}

/// Has what was added supervised, now and not when somebody looks.
fn tell(added: &[String]) -> Result<()> {
    let logger = |name: &String| {
        let log = format!("{name}/log");
        Path::new(&format!("{}/{log}", copies())).is_dir().then_some(log)
    };
    // Loggers first: who writes to one finds it there.
    let names = added.iter().filter_map(logger).chain(added.iter().cloned()).collect();
    engine::add(&place::scandir(), names, None)?;
    ScanDir::open(&place::scandir())?.send(b"a")
}

/// Waits until they are up, or ready if they can tell. One that is to be down at first is not waited for.
fn wait_for(added: &[String]) -> Result<()> {
    // Nothing is lost by looking at once; who asks for the pause gets it.
    std::thread::sleep(settings::millis("S6_SERVICES_READYTIME").unwrap_or_default());
    let limit = settings::millis("S6_CMD_WAIT_FOR_SERVICES_MAXTIME").filter(|limit| !limit.is_zero());
    let deadline = limit.map(|limit| clock::mono().after(limit));
    let mut clients = Vec::new();
    for name in added {
        let path = format!("{}/{name}", copies());
        let has = |file: &str| Path::new(&format!("{path}/{file}")).exists();
        if !has("down") {
            let goal = Goal { up: true, ready: has("notification-fd"), restart: false };
            clients.push((supervised(&path)?, goal));
        }
    }
    let clients = clients.iter().map(|(client, goal)| (client, *goal));
    match Watch::new(clients, false, false)?.wait(deadline)? {
        Verdict::Reached { failures: 0 } => Ok(()),
        Verdict::Reached { failures } => {
            Err(Error::new(code::NO, format!("{failures} services failed for good")))
        }
        Verdict::TimedOut { waiting } => Err(late(waiting)),
    }
}

fn late(waiting: Vec<String>) -> Error {
    let shown = waiting.join(", ").replace(&format!("{}/", copies()), "");
    Error::new(code::TIMED_OUT, format!("the time is up: {shown}"))
}

/// The service, as soon as it has a supervisor.
fn supervised(path: &str) -> Result<Client> {
    let give_up = clock::mono().after(PATIENCE);
    loop {
        match Client::open_supervised(path)? {
            Some(client) if client.status().is_ok() => return Ok(client),
            _ if clock::mono() > give_up => {
                return Client::open(path).and_then(|c| Err(c.not_supervised()));
            }
            _ => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

/// Takes them out of the scan directory, and waits until they are down.
pub fn down() {
    let done = take_out();
    if let Err(e) = done {
        diag::warn(e);
    }
}

fn take_out() -> Result<()> {
    let mut clients = Vec::new();
    let goal = Goal { up: false, ready: true, restart: false };
    for name in names(&copies()) {
        let (copy, link) = (format!("{}/{name}", copies()), format!("{}/{name}", place::scandir()));
        if !fs::read_link(&link).is_ok_and(|target| target == Path::new(&copy)) {
            continue;
        }
        for dir in [format!("{copy}/log"), copy] {
            if let Ok(Some(client)) = Client::open_supervised(&dir) {
                clients.push((client, goal));
            }
        }
        match rustix::fs::unlink(&*link) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(e) => diag::warn(Error::unable(format_args!("remove {link}"), e)),
        }
    }
    let mut watch = Watch::new(clients.iter().map(|(client, goal)| (client, *goal)), false, false)?;
    ScanDir::open(&place::scandir())?.send(b"an")?;
    signal::allow(Signal::TERM);
    match watch.wait(deadline())? {
        Verdict::Reached { .. } => Ok(()),
        Verdict::TimedOut { waiting } => Err(late(waiting)),
    }
}

/// `S6_SERVICES_GRACETIME`; 0 is no limit.
fn deadline() -> Option<Mono> {
    let grace = settings::millis("S6_SERVICES_GRACETIME").unwrap_or(Duration::from_secs(3));
    (!grace.is_zero()).then(|| clock::mono().after(grace))
}
