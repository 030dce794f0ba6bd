//! Lists the instances of a service.

use lexopt::prelude::*;
use perennial::diag::{self, Result};
use perennial::{cli, instance::Instances};
use std::process::ExitCode;

const USAGE: &str = "instance-list service";

/// The program.
pub fn main() -> ExitCode {
    cli::main("instance-list", instance_list)
}

/// Its options.
pub fn instance_list(mut parser: lexopt::Parser) -> Result<u8> {
    let mut service = None;
    while let Some(arg) = cli::next(&mut parser)? {
        match arg {
            Short('h') | Long("help") => return cli::help(USAGE),
            Value(value) if service.is_none() => service = Some(cli::text(value)?),
            _ => return Err(cli::usage(USAGE)),
        }
    }
    let names = Instances::open(&service.ok_or_else(|| cli::usage(USAGE))?)?.names()?;
    diag::print(names.iter().map(|name| format!("{name}\n")).collect::<String>())
}
