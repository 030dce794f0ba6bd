//! Logs: from a pipe into directories, out to the container, and read again.
//!
//! - [`script`]: what a logger is told to do, in s6-log's language (pure).
//! - [`select`]: which lines.
//! - [`dress`]: stamps, prefixes, labels.
//! - [`spool`]: what is on its way from the pipe; why nothing is lost or doubled by `kill -9` at any instant.
//! - [`dir`], [`archive`]: a directory of logs, as s6-log has it; rotation.
//! - [`run`]: the loop.
//! - [`read`], [`place`], [`tail`]: lines read again; where a service's are; of many services in order.

pub mod archive;
pub mod dir;
pub mod dress;
pub mod place;
pub mod read;
pub mod run;
pub mod script;
pub mod select;
pub mod spool;
pub mod tail;
