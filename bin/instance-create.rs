//! Makes an instance of a service from its template and waits until it is supervised.

use lexopt::prelude::*;
use perennial::cli::{self, LinkOptions};
use perennial::diag::{Result, code};
use perennial::instance::{self, Instances};
use std::process::ExitCode;

const USAGE: &str = "instance-create [ -d | -D ] [ -f ] [ -P ] [ -t timeout ] service instancename";

/// The program.
pub fn main() -> ExitCode {
    cli::main("instance-create", instance_create)
}

/// Its options.
pub fn instance_create(mut parser: lexopt::Parser) -> Result<u8> {
    let (mut options, mut words) = (LinkOptions::default(), Vec::new());
    while let Some(arg) = cli::next(&mut parser)? {
        match arg {
            Short('h') | Long("help") => return cli::help(USAGE),
            Short(letter) if LinkOptions::has(letter) => options.take(letter, &mut parser)?,
            Value(word) => words.push(cli::text(word)?),
            _ => return Err(cli::usage(USAGE)),
        }
    }
    let [service, name] = &words[..] else { return Err(cli::usage(USAGE)) };
    cli::survive_broken_pipes();
    let deadline = options.deadline();
    instance::path(service, name)?;
    instance::prepare(service)?;
    Instances::open(service)?.create(name, options.begin, options.audience(), options.force, deadline)?;
    Ok(code::OK)
}
