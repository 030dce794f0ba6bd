//! Runs a program in the environment that the container was started with.

use lexopt::prelude::*;
use perennial::diag::{self, Error, Result, code};
use perennial::init::envstore::{self, Store};
use perennial::sys::{Errno, env};
use perennial::{chainload, cli};
use std::ffi::CString;
use std::os::unix::ffi::OsStringExt;
use std::process::ExitCode;

const USAGE: &str = "with-contenv prog [ argument... ]";

/// The program.
pub fn main() -> ExitCode {
    cli::main("with-contenv", with_contenv)
}

/// Its options: none but `--help`.
pub fn with_contenv(mut parser: lexopt::Parser) -> Result<u8> {
    let program = match cli::next(&mut parser)? {
        Some(Value(program)) => program,
        Some(Short('h') | Long("help")) => return cli::help(USAGE),
        _ => return Err(cli::usage(USAGE)),
    };
    let words = std::iter::once(program).chain(parser.raw_args()?);
    let argv = words.map(|word| CString::new(word.into_vec()).expect("arguments have no NUL")).collect();
    let environment = if envstore::is_kept() { None } else { Some(stored()?) };
    Err(chainload::exec(argv, environment))
}

/// What a supervisor tells run of itself: that is of this process, not of the container.
const SUPERVISORS: [&[u8]; 6] =
    [b"NOTIFY_SOCKET", b"WATCHDOG_USEC", b"WATCHDOG_PID", b"LISTEN_FDS", b"LISTEN_PID", b"LISTEN_FDNAMES"];

/// Our PATH, what is in the store, and what our supervisor has told us.
fn stored() -> Result<Vec<CString>> {
    let store = Store::open(&*envstore::dir()).map_err(missing)?;
    let path = env::strings().find(|string| string.to_bytes().starts_with(b"PATH="));
    let mut all = store.environment(path, |skipped| diag::warn(skipped)).map_err(missing)?;
    for name in SUPERVISORS {
        let is_it = |string: &[u8]| string.strip_prefix(name).is_some_and(|rest| rest.starts_with(b"="));
        if let Some(own) = env::strings().find(|string| is_it(string.to_bytes())) {
            all.retain(|string| !is_it(string.to_bytes()));
            all.push(own.to_owned());
        }
    }
    Ok(all)
}

fn missing(errno: Errno) -> Error {
    let (dir, reason) = (envstore::dir(), diag::reason(errno));
    Error::new(code::SYSTEM, format!("unable to read {dir}: {reason} (/init makes it when it boots)"))
}
