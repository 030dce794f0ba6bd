//! Perennial: small programs that keep services running.
//!
//! The library is everything that can be tried without a process, and the loops around it:
//!
//! - [`time`], [`process`]: instants, stamps, wait statuses, signals as data.
//! - [`files`]: copying and removing directory trees.
//! - [`diag`], [`cli`]: messages, exit codes, the way in and out of a program.
//! - [`sys`]: the only unsafe code and the only raw system calls.

pub mod diag;
pub mod files;
pub mod process;
pub mod sys;
pub mod time;
