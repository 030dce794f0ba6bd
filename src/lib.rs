//! Perennial: small programs that keep services running.
//!
//! The library is everything that can be tried without a process, and the loops around it:
//!
//! - [`time`], [`process`]: instants, stamps, wait statuses, signals as data.
//! - [`accounts`]: names of users and groups.
//! - [`check`]: finding out by asking whether a service is ready.
//! - [`ordered`]: sorting in little code.
//! - [`files`]: copying and removing directory trees.
//! - [`glob`]: names with `*` in them.
//! - [`diag`], [`cli`]: messages, exit codes, the way in and out of a program.
//! - [`chainload`]: becoming another program.
//! - [`sys`]: the only unsafe code and the only raw system calls.
//! - [`servicedir`]: what a service directory says, and the formats in it that clients read and write.
//! - [`supervise`]: the machine of one service, pure, and the process that runs many of them.
//! - [`instance`]: instances of a service, made from a template.
//! - [`pool`]: so many instances of a template as a metric asks for.
//! - [`scan`]: a scan directory's listing → who comes, who goes, pure; and its loop.
//! - [`execline`]: the lexer of oneshot scripts, and the commands of the execline language.
//! - [`chain`]: programs that do one thing and become the next, in one process.
//! - [`tools`]: `setuidgid`, `envdir`, `softlimit` and the other small programs of that kind.
//! - [`rc`]: service definitions → graph → plan, pure; and the engine that carries a plan out.
//! - [`init`]: boot, environment store, the container's command, shutdown.
//! - [`log`]: lines from a pipe into rotated files and labelled output, and read again.
//! - [`report`]: tables and JSON.
//! - [`install`]: one file, many names.

pub mod accounts;
pub mod chain;
pub mod chainload;
pub mod check;
pub mod cli;
pub mod diag;
pub mod execline;
pub mod files;
pub mod glob;
pub mod init;
pub mod install;
pub mod instance;
pub mod log;
pub mod ordered;
pub mod pool;
pub mod process;
pub mod rc;
pub mod report;
pub mod scan;
pub mod servicedir;
pub mod supervise;
pub mod sys;
pub mod time;
pub mod tools;
