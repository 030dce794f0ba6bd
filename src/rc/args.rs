//! What stands on the command line of `rc`, whatever the command.

use super::engine::unknown_service;
use super::graph::{Graph, Index, nearest};
use crate::diag::{Error, Result};
use crate::ordered::Set;
use crate::sys::clock;
use crate::time::Mono;
use std::time::Duration;

/// Options and words.
#[derive(Clone, Debug)]
pub struct Args {
    /// `-l`
    pub live: String,
    /// `-c`
    pub compiled: Option<String>,
    /// `--root`
    pub root: Option<String>,
    /// `--layer`
    pub layer: bool,
    /// `-p`
    pub prefix: String,
    /// `-t`
    pub timeout: Option<Duration>,
    /// `--ready-within`
    pub ready_within: Option<Duration>,
    /// `-j`
    pub jobs: Option<usize>,
    /// `-u`; `-d` and `-D` are not that.
    pub up: bool,
    /// `-D`
    pub even_essential: bool,
    /// `-a`
    pub all: bool,
    /// `-b`
    pub wait: bool,
    /// `--no-wait`
    pub no_wait: bool,
    /// `--dry-run`, `-n`
    pub dry_run: bool,
    /// `--json`
    pub json: bool,
    /// `--up`
    pub only_up: bool,
    /// `-r`: the other way round.
    pub reverse: bool,
    /// `--dot`, `--svg`
    pub form: Form,
    /// What stands after the command.
    pub names: Vec<String>,
}

/// What a graph is drawn as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// An indented tree.
    #[default]
    Tree,
    /// For graphviz.
    Dot,
    /// A picture.
    Svg,
}

impl Default for Args {
    fn default() -> Args {
        Args {
            live: crate::init::place::live(),
            compiled: None,
            root: None,
            layer: false,
            prefix: String::new(),
            timeout: None,
            ready_within: None,
            jobs: None,
            up: true,
            even_essential: false,
            all: false,
            wait: false,
            no_wait: false,
            dry_run: false,
            json: false,
            only_up: false,
            reverse: false,
            form: Form::Tree,
            names: Vec::new(),
        }
    }
}

impl Args {
    /// When `-t` is up, counted from now.
    pub fn deadline(&self) -> Option<Mono> {
        self.timeout.map(|limit| clock::mono().after(limit))
    }
}

/// Milliseconds as in s6-rc, or a duration with its unit; 0 is no limit.
pub fn timeout(text: &str) -> Result<Option<Duration>> {
    let limit = crate::time::parse_duration(text)
        .ok_or_else(|| Error::usage(format!("invalid timeout {text:?}: write 500ms, 30s, 2m")))?;
    Ok(Some(limit).filter(|d| !d.is_zero()))
}

/// The services behind names.
pub fn select(graph: &Graph, names: &[String]) -> Result<Set<Index>> {
    let mut selection = Set::new();
    for name in names {
        let found = graph.atomics(name).ok_or_else(|| {
            let known = graph.services.iter().map(|s| &s.name).chain(graph.bundles.keys());
            unknown_service(name, nearest(name, 2, known.map(String::as_str)))
        })?;
        selection.extend(found);
    }
    Ok(selection)
}
