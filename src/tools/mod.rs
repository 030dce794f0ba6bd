//! Small programs that run scripts and images call beside the commands of execline: those of s6 that change
//! something of a process before it becomes a service, and those of s6-portable-utils that images use.
#![forbid(unsafe_code)]

pub mod dns;
pub mod files;
pub mod limits;
pub mod text;
pub mod time;
pub mod users;
pub mod variables;
pub mod waiting;
