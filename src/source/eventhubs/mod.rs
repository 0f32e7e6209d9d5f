//! Event hubs, by Microsoft's client: one task and one client a partition, resumed from our own
//! position.
//!
//! The configuration and the stored positions come in; batches go to the bounded channel of
//! [`read_hub`], and what happens on the way shows in a [`HubStatus`]. The client's own retries are
//! off, because a receiver that recovers by itself begins again where it was first told to: after
//! any error a partition's client is thrown away and a new one opened after the last sequence
//! number.

mod client;
mod config;
mod confine;
mod error;
mod partition;
mod producer;
mod reader;
mod status;

pub use config::{Auth, CALL_TIMEOUT, EventHubConfig, Pace, Start, Transport};
pub use error::{Fault, HubError};
pub use producer::HubProducer;
pub use reader::read_hub;
pub use status::{HubSnapshot, HubStatus, PartitionSnapshot, State};
