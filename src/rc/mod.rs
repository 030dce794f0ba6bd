//! Dependencies: definitions are read and checked, made a graph, brought up and down.
//!
//! - [`source`]: what s6-rc source directories say, and everything that is wrong with it, at once.
//! - [`scripts`]: what services execute, looked for before anything is started.
//! - [`graph`]: services, bundles, edges; pure.
//! - [`plan`]: which step is next; pure.
//! - [`live`]: the live directory, where supervision finds what was defined.
//! - [`engine`]: carries a plan out, talking to the supervisor.
//! - [`timing`]: when each service was asked for, started and ready.
//! - [`draw`], [`show`]: the graph, and what is up, for people.

pub mod draw;
pub mod engine;
pub mod graph;
pub mod live;
pub mod plan;
pub mod scripts;
pub mod show;
pub mod source;
pub mod timing;
