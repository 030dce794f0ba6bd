//! `rc check`: what is wrong with definitions, all of it, before anything is started.

use super::args::Args;
use super::graph::Graph;
use super::scripts::Root;
use super::show;
use super::source::{self, Definitions, Findings};
use crate::diag::{self, Error, Result, code};
use crate::init::overlay;
use crate::report::count;

/// The command.
pub fn check(args: &Args) -> Result<u8> {
    let root = args.root.as_deref().map_or(Ok(Root::here()), Root::at)?;
    let root = if args.layer { root.as_layer() } else { root };
    let (definitions, _, findings) = read(&root, &args.names);
    diag::put(1, show::findings(&findings, &definitions).as_bytes());
    Ok(if findings.errors.is_empty() { code::OK } else { code::NO })
}

/// Reads sources; without any, those of the image.
pub fn read(root: &Root, sources: &[String]) -> (Definitions, Graph, Findings) {
    let mut findings = Findings::default();
    let plain = |source: &String| match source.trim_end_matches('/') {
        "" => "/".to_owned(),
        path if root.prefix().is_empty() => path.to_owned(),
        path => format!("{}/{}", root.prefix(), path.trim_start_matches('/')),
    };
    let (sources, roots) = match sources.is_empty() {
        true => (overlay::sources(root.prefix()), &[overlay::TOP][..]),
        false => (sources.iter().map(plain).collect(), &[][..]),
    };
    if sources.is_empty() {
        let path = format!("{}/etc/s6-overlay/s6-rc.d", root.prefix());
        findings.warn(&path, None, "there is no such directory: nothing is defined");
    }
    let definitions =
        source::read_below(root, &sources, overlay::built_in(root.prefix()), roots, &mut findings);
    let graph = Graph::build(&definitions, &mut findings);
    (definitions, graph, findings)
}

/// Says all that is wrong; an error if anything is.
pub fn refuse(findings: &Findings) -> Result<()> {
    findings.warnings.iter().for_each(diag::warn);
    findings.errors.iter().for_each(|e| diag::say(diag::Level::Fatal, e));
    match findings.errors.len() {
        0 => Ok(()),
        n => {
            let errors = count(n, "error");
            Err(Error::new(code::NO, format!("{errors} in the definitions: nothing was done")))
        }
    }
}
