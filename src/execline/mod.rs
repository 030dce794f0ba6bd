//! The text of an `up` or `down` file → the argument vector that it stands for.
//!
//! Nothing runs here, and nothing is substituted: `$HOME` stays `$HOME`. A script becomes one command line,
//! as `execlineb -P` makes it; blocks in braces become arguments whose quoting [`block`] undoes.
//! execline-syntax(7) says it for those who write such files.
#![forbid(unsafe_code)]

pub mod block;
mod lexer;
mod shell;

pub use lexer::{Fault, Position, SyntaxError, parse, quote};
pub use shell::{Hint, Sign, looks_like_shell};
