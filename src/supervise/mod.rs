//! The state machines of services, and the process that runs them.
//!
//! - [`machine`]: one service, pure; [`oneshot`]: one oneshot, pure.
//! - [`extra`]: what a service with features has in mind, pure.
//! - [`notify`]: what a service says of itself, pure.
//! - [`descent`]: who descends from a service, pure.
//! - [`journal`]: the memory that survives the process.
//! - [`place`]: what it has beside the services.
//! - [`wire`]: what svscan and rc say to it.
//! - [`host`]: the process around them.

pub mod descent;
pub mod extra;
pub mod host;
pub mod journal;
pub mod machine;
pub mod notify;
pub mod oneshot;
pub mod place;
pub mod wire;

pub use host::{Mode, run};

/// The number under which an executed supervisor of many finds its listening socket.
pub const LISTEN_FD: i32 = 3;

/// The number under which one that was executed by its predecessor finds the lock of the scan directory.
pub const LOCK_FD: i32 = 4;
