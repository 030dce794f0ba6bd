//! A pool: so many instances of a template as a metric asks for.
//!
//! | | |
//! |---|---|
//! | [`policy`] | how many there are to be, and what each is told; pure |
//! | [`worker`] | what a worker says of itself |
//! | [`metric`] | asking how much there is to do |
//! | [`place`] | instances on disk: making, telling, removing |
//! | [`run`] | the loop |
//! | [`view`] | what is shown of a pool |
//!
//! A worker is an ordinary service: a copy of the template in `instances/NAME@1`, linked in the scan directory,
//! supervised as all are. So whoever is killed, of svpool, supervise and svscan, no worker notices. What svpool
//! knows it reads again from disk when it begins:
//!
//! | in an instance's directory | |
//! |---|---|
//! | `status` | from the worker: `busy` or `idle`, and `done=N failed=N` |
//! | `drain` | to the worker: take no more work |
//! | `counts` | what it did, of one that is being stopped, if it told only its supervisor |
//! | `renew` | it is to be made anew: a restart is under way |
//!
//! | in `instances` | |
//! |---|---|
//! | `.pool` | what the pool is and wants, for [`view`] |
//! | `.retired` | what workers did that are gone |
//! | `.lock` | held by svpool |
//! | `.NAME@1.new` | a copy that is being made |

pub mod policy;

pub mod metric;
pub mod place;
pub mod run;
pub mod view;
pub mod worker;
