//! From the outbox to people: one queue a receiver, retries with backoff, dead letters.
//!
//! Notifications come from [`crate::store`]'s outbox; a receiver's trouble delays no other receiver
//! and never the source.

pub mod email;
pub mod webhook;
