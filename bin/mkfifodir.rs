//! Makes a fifodir.

use lexopt::prelude::*;
use perennial::cli;
use perennial::diag::{Result, Unable, code};
use perennial::servicedir::event::{self, Audience};
use rustix::fs::CWD;
use std::process::ExitCode;

const USAGE: &str = "mkfifodir [ -f ] [ -g gid ] fifodir";

/// The program.
pub fn main() -> ExitCode {
    cli::main("mkfifodir", mkfifodir)
}

/// Its options.
pub fn mkfifodir(mut parser: lexopt::Parser) -> Result<u8> {
    let (mut force, mut audience, mut dir) = (false, Audience::Public, None);
    while let Some(arg) = cli::next(&mut parser)? {
        match arg {
            Short('f') => force = true,
            // The last number of 32 bits is "leave it as it is" to the kernel.
            Short('g') => {
                let gid = cli::number("-g", &mut parser, 0, u64::from(u32::MAX) - 1)?;
                audience = Audience::Group(gid);
            }
            Short('h') | Long("help") => return cli::help(USAGE),
            Value(value) if dir.is_none() => dir = Some(cli::text(value)?),
            _ => return Err(cli::usage(USAGE)),
        }
    }
    let dir = dir.ok_or_else(|| cli::usage(USAGE))?;
    event::make(CWD, &*dir, audience, force).unable(format_args!("make fifodir {dir}"))?;
    Ok(code::OK)
}
