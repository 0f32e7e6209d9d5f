//! Lanner reads the control-plane logs of AKS clusters and turns them into a small number of alerts.
//!
//! ```text
//! source  →  decode  →  event  →  detect            →  alert  →  deliver
//! bytes      records    facts     matches → findings    groups    webhook, e-mail
//!   ↑                                        ↑             │
//!   └────── store: positions · detector state · outbox (one transaction)
//! ```
//!
//! The modules stand in the order of the flow. One engine serves the daemon (`run`) and forensics
//! (`replay`): only the source and the clock differ. Decoding and detecting are synchronous
//! functions over borrowed bytes; `async` is for I/O alone.

pub mod source;

pub mod decode;

pub mod event;

pub mod detect;

pub mod alert;

pub mod deliver;

pub mod store;

pub mod config;
pub mod failpoint;
pub mod pipeline;
pub mod telemetry;
pub mod wall;

#[cfg(feature = "emulator")]
pub mod emulator;

#[cfg(feature = "emulator")]
pub mod simulator;

pub mod cli;
