//! What the daemon says about itself: logs, metrics and health.
//!
//! Every stage holds an [`Arc<Metrics>`](metrics::Metrics) and, where it can fail for long, a
//! [`Health`](health::Health); [`server`] shows both over HTTP. Nothing here carries the content of
//! a record: labels are names of the configuration and values of closed enumerations.

pub mod health;
pub mod latency;
pub mod logs;
pub mod metrics;
pub mod observer;
mod process;
pub mod server;

pub use health::{Health, State};
pub use latency::{Latency, Span};
pub use metrics::Metrics;
pub use observer::Observer;
