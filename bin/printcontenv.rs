//! Prints a variable of the environment that the container was started with.

use lexopt::prelude::*;
use perennial::cli;
use perennial::diag::{self, Error, Result, code};
use perennial::init::envstore::{self, Skipped, Store};
use perennial::sys::{Errno, env};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;

const USAGE: &str = "printcontenv variable";

/// The program.
pub fn main() -> ExitCode {
    cli::main("printcontenv", printcontenv)
}

/// Its options: none but `--help`.
pub fn printcontenv(mut parser: lexopt::Parser) -> Result<u8> {
    let mut name = None;
    while let Some(arg) = cli::next(&mut parser)? {
        match arg {
            Short('h') | Long("help") => return cli::help(USAGE),
            Value(value) if name.is_none() => name = Some(value),
            _ => return Err(cli::usage(USAGE)),
        }
    }
    let name = name.ok_or_else(|| cli::usage(USAGE))?;
    let value = if envstore::is_kept() { kept(&name) } else { stored(name.as_bytes())? };
    let Some(mut value) = value else { return Ok(code::NO) };
    value.push(b'\n');
    if diag::put(1, &value) {
        Ok(code::OK)
    } else {
        Err(Error::new(code::SYSTEM, "unable to write to stdout"))
    }
}

/// Where there is no store, everything has the container's environment, and so do we. An empty variable
/// counts as none there.
fn kept(name: &OsStr) -> Option<Vec<u8>> {
    env::get(name.to_str()?).filter(|value| !value.is_empty()).map(|value| value.as_bytes().to_vec())
}

fn stored(name: &[u8]) -> Result<Option<Vec<u8>>> {
    let store = match Store::open(&*envstore::dir()) {
        Ok(store) => store,
        Err(Errno::NOENT) => return Ok(None),
        Err(e) => return Err(Error::unable(format_args!("open {}", envstore::dir()), e)),
    };
    store.get(name).map_err(|why| Error::new(code::SYSTEM, Skipped { name, why }.to_string()))
}
