//! The execline language: the text of a script or an `up` file → the argument vector that it stands for, and
//! the [`commands`] that such vectors are made of.
//!
//! When a script is read nothing runs, and nothing is substituted: `$HOME` stays `$HOME`. A script becomes one command line,
//! as `execlineb -P` makes it; blocks in braces become arguments whose quoting [`block`] undoes.
//! execline-syntax(7) says it for those who write such files.
//! The commands do the rest, one after another: see [`crate::chain`].
#![forbid(unsafe_code)]

pub mod block;
pub mod commands;
mod envfile;
mod lexer;
mod shell;
pub mod substitute;

pub use lexer::{Fault, Position, SyntaxError, parse, quote};
pub use shell::{Hint, Sign, looks_like_shell};
