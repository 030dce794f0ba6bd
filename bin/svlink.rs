//! Adds a service directory to a running scan directory and waits until it is supervised.

use lexopt::prelude::*;
use perennial::cli::{self, LinkOptions};
use perennial::diag::{self, Error, Result, Unable, code};
use perennial::scan::client::ScanDir;
use perennial::scan::link::Link;
use perennial::servicedir::client::Client;
use perennial::sys::Errno;
use rustix::fs::{AtFlags, statat};
use std::process::ExitCode;

const USAGE: &str = "svlink [ -d | -D ] [ -f ] [ -P ] [ -t timeout ] scandir servicedir [ name ]";

/// The program.
pub fn main() -> ExitCode {
    cli::main("svlink", svlink)
}

/// Its options.
pub fn svlink(mut parser: lexopt::Parser) -> Result<u8> {
    let (mut options, mut words) = (LinkOptions::default(), Vec::new());
    while let Some(arg) = cli::next(&mut parser)? {
        match arg {
            Short('h') | Long("help") => return cli::help(USAGE),
            Short(letter) if LinkOptions::has(letter) => options.take(letter, &mut parser)?,
            Value(word) => words.push(cli::text(word)?),
            _ => return Err(cli::usage(USAGE)),
        }
    }
    let (scandir, servicedir, name) = match &words[..] {
        [scandir, servicedir] => (scandir, servicedir, base_name(servicedir)),
        [scandir, servicedir, name] => (scandir, servicedir, &**name),
        _ => return Err(cli::usage(USAGE)),
    };
    if name.is_empty() || name.starts_with('.') || name.contains('/') {
        return Err(Error::usage(format!("invalid name {name:?} for a link")));
    }
    if scandir.is_empty() {
        return Err(Error::usage("invalid scan directory"));
    }
    cli::survive_broken_pipes();
    let deadline = options.deadline();
    let scandir = ScanDir::open(scandir)?;
    scandir.must_be_scanned()?;
    let service = Client::open(servicedir)?;
    check(&service)?;
    Link {
        scandir: &scandir,
        name,
        service: &service,
        target: &absolute(servicedir)?,
        begin: options.begin,
        audience: options.audience(),
        force: options.force,
    }
    .make(deadline)?;
    Ok(code::OK)
}

/// The last component of a path.
fn base_name(path: &str) -> &str {
    let path = path.trim_end_matches('/');
    path.rsplit('/').next().unwrap_or(path)
}

/// What a link in another directory must say.
fn absolute(path: &str) -> Result<String> {
    if path.starts_with('/') {
        return Ok(path.to_owned());
    }
    let doing = format!("find the real path of {path}");
    let real = std::fs::canonicalize(path).unable(&doing)?;
    real.into_os_string().into_string().map_err(|_| Error::unable(doing, Errno::ILSEQ))
}

/// What would never run is not added. One that is supervised already is worth a word.
fn check(service: &Client) -> Result<()> {
    let is_there = |name: &str| match statat(service.dir(), name, AtFlags::empty()) {
        Ok(st) => Ok(Some(st)),
        Err(Errno::NOENT) => Ok(None),
        Err(e) => Err(Error::unable(format_args!("look at {}/{name}", service.path), e)),
    };
    let logs = is_there("log")?.is_some();
    for run in ["run", "log/run"].iter().take(1 + logs as usize) {
        let path = format!("{}/{run}", service.path);
        let st = is_there(run)?.ok_or_else(|| Error::unable(format_args!("look at {path}"), Errno::NOENT))?;
        if st.st_mode & 0o100 == 0 {
            return Err(Error::usage(format!("{path} is not executable")));
        }
    }
    if service.is_supervised()? {
        diag::warn(format_args!("{} is supervised already", service.path));
    }
    Ok(())
}
