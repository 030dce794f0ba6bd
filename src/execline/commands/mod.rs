//! The commands of the execline language, one function each, as execline 2.9 has them.
#![forbid(unsafe_code)]

pub mod conditions;
pub mod control;
pub mod descriptors;
pub mod environment;
pub mod keys;
pub mod loops;
pub mod patterns;
pub mod positional;
pub mod processes;
pub mod script;

use super::substitute::{Key, substitute};
use crate::chain::*;

/// What `-E` does to a command line: the variable is substituted in it and not left in the environment.
/// Without `-E` it is only set. `None` removes it.
struct Given {
    argv: Vec<Word>,
    changes: Vec<Word>,
}

/// Gives the command line `argv` these variables.
fn give(argv: Vec<Word>, variables: Vec<(Word, Option<Word>)>, import: bool) -> Given {
    if !import {
        let change = |(name, value): (Word, Option<Word>)| match value {
            Some(value) => setting(name, value),
            None => name,
        };
        return Given { argv, changes: variables.into_iter().map(change).collect() };
    }
    let (mut keys, mut changes) = (Vec::new(), Vec::new());
    for (name, value) in variables {
        changes.push(name);
        keys.extend(value.map(|value| Key { name, values: vec![value] }));
    }
    Given { argv: substitute(&argv, &keys), changes }
}

/// `NAME=number`.
#[inline(never)]
fn numbered(name: &[u8], number: impl Into<i64>) -> Word {
    setting(name, decimal(number))
}
