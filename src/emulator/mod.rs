//! An Event Hubs namespace on loopback, for the demo and the tests.
//!
//! Microsoft's clients (Rust and Python) connect in AMQP 1.0, plain, in TLS or in a WebSocket, and cannot tell it from the
//! service for what they are used for here: claims-based security, management, producers and
//! consumers of partitions with offsets, sequence numbers, consumer groups and epochs. Events come
//! in from producers' links or by [`Emulator::publish`] and lie in bounded logs in memory.
//!
//! ```text
//! socket → transport → frames (pads performatives) → connection (sessions, links)
//!            ├─ node      $cbs and $management: request and answer
//!            ├─ producer  messages and batches → hub
//!            └─ consumer  hub → deliveries, from a selector on
//! ```
//!
//! Faults are part of it: connections can be dropped or refused, broken at any [`Step`] of the
//! protocol or made to swallow everything; connections, sessions and links ended with any condition;
//! answers and deliveries stalled, tokens and receivers refused, requests throttled.

mod address;
mod connection;
mod consumer;
mod faults;
mod frames;
mod hub;
mod node;
mod producer;
mod readers;
mod selector;
mod server;
mod steps;
mod transport;

pub use faults::Faults;
pub use hub::{HubConfig, PartitionInfo, Retention};
pub use server::{Emulator, EmulatorConfig, EmulatorError, run_cli};
pub use steps::{Break, Step};
pub use transport::Certificate;
