//! Puts the parts together: batches in, judged matches and notifications out.
//!
//! [`work`] is what both clocks share: a batch is decoded and its events tried against the
//! detectors, in parallel and without memory. [`replay`] merges the results of archives by event
//! time; [`live`] takes those of hubs as they come and commits them with their positions.

pub mod daemon;
pub mod live;
pub mod memory;
mod notify;
pub mod replay;
mod snapshots;
pub mod tally;
pub mod work;
