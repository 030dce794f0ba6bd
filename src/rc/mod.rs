//! Dependencies: definitions are read and checked, made a graph, brought up and down.
//!
//! - [`source`]: what s6-rc source directories say, and everything that is wrong with it, at once.
//! - [`scripts`]: what services execute, looked for before anything is started.
//! - [`ours`]: what files say that s6 does not have.
//! - [`graph`]: services, bundles, edges; pure.
//! - [`plan`]: which step is next; pure.
//! - [`stage`]: definitions written out, for supervision to find.
//! - [`live`]: the live directory, where supervision finds what was defined.
//! - [`engine`]: carries a plan out, talking to the supervisor over a [`line`].
//! - [`progress`]: what people see of a change while it is made.
//! - [`timing`]: when each service was asked for, started and ready.
//! - [`args`], [`check`], [`compile`], [`change`], [`apply`]: commands.
//! - [`draw`], [`show`]: the graph, and what is up, for people. [`views`]: the commands that show these.
//! - [`layout`], [`picture`]: the graph as a picture. [`times`], [`chart`]: what took how long. [`why`]: why a
//!   service is up, or is not, with the end of its log ([`logs`]) and the change under way ([`underway`]).
//! - [`s6`]: s6-rc's programs over all this.
//! - [`draw`], [`show`]: the graph, and what is up, for people.

pub mod apply;
pub mod args;
pub mod change;
pub mod chart;
pub mod check;
pub mod compile;
pub mod draw;
pub mod engine;
pub mod graph;
pub mod layout;
pub mod line;
pub mod live;
pub mod logs;
pub mod ours;
pub mod picture;
pub mod plan;
pub mod progress;
pub mod s6;
pub mod scripts;
pub mod show;
pub mod source;
pub mod stage;
pub mod times;
pub mod timing;
pub mod underway;
pub mod views;
pub mod why;
