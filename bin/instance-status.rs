//! Says what an instance of a service is: svstat on its service directory.

use crate::svstat::svstat;
use perennial::cli;
use perennial::diag::Result;
use std::process::ExitCode;

const USAGE: &str = "instance-status [ -uwNrpgest | -o field,... ] [ -n ] [ --json ] service instancename";

/// The program.
pub fn main() -> ExitCode {
    cli::main("instance-status", instance_status)
}

/// Its options are those of svstat.
pub fn instance_status(parser: lexopt::Parser) -> Result<u8> {
    cli::on_instance(parser, USAGE, svstat)
}
