//! `rc compile` and `rc init`: definitions put aside, and supervised.

use super::args::Args;
use super::check::{read, refuse};
use super::engine::{self, Engine};
use super::live::{self, Live};
use super::scripts::Root;
use super::stage;
use crate::cli;
use crate::diag::{Result, Unable, code};
use crate::time::Mono;

/// Makes the directory `database` of the definitions in `sources`. Where it cannot be made whole there is none.
pub fn compile(database: &str, sources: &[String]) -> Result<u8> {
    let (definitions, graph, findings) = read(&Root::here(), sources);
    refuse(&findings)?;
    std::fs::create_dir(database).unable(format_args!("make {database}"))?;
    stage::fill(database, &definitions, &graph).inspect_err(|_| {
        let _ = std::fs::remove_dir_all(database);
    })?;
    Ok(code::OK)
}

/// Makes a live directory of the database `compiled` for the supervisor of `scandir`, and adds the longruns to
/// that, down.
pub fn init(args: &Args, compiled: &str, scandir: &str) -> Result<u8> {
    let live = live::create_from(&args.live, &cli::absolute(scandir)?, &args.prefix, compiled)?;
    supervise(&live, args.deadline())
}

/// Has the longruns of a live directory supervised, as they are, until `deadline` at most.
pub fn supervise(live: &Live, deadline: Option<Mono>) -> Result<u8> {
    let names = live.link()?;
    if deadline.is_some() {
        return engine::add(&live.scandir, names, deadline).map(|()| code::OK);
    }
    let mut engine = Engine::new(live)?;
    engine.add(names)?;
    engine.refresh()?;
    Ok(code::OK)
}
