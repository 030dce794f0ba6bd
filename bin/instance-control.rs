//! Sends commands to an instance of a service: svc on its service directory.

use crate::svc::svc;
use perennial::cli;
use perennial::diag::Result;
use std::process::ExitCode;

const USAGE: &str = "instance-control [ -wu | -wU | -wd | -wD | -wr | -wR ] [ -T timeout ] [ -s signal ] \
                     [ -abqhkti12pcyrlPCKoduDUxOQ ] service instancename";

/// The program.
pub fn main() -> ExitCode {
    cli::main("instance-control", instance_control)
}

/// Its options are those of svc.
pub fn instance_control(parser: lexopt::Parser) -> Result<u8> {
    cli::on_instance(parser, USAGE, svc)
}
