//! What is fuzzed, one module a target: bytes in, a panic where something does not hold.
//!
//! `targets/` hands these functions to libFuzzer; `tests/fuzz.rs` of the main package includes this
//! file and calls them with what is committed in `seeds/`, so that each test run repeats what was
//! ever found.

pub mod alert;
pub mod apiserver;
pub mod condition;
pub mod config;
pub mod detector;
pub mod envelope;
pub mod event;
pub mod inflate;
pub mod state;
pub mod template;
pub mod walker;

mod shared;

/// A target's body.
pub type Target = fn(&[u8]);

/// Every target by its name, which is also that of its folder of seeds.
pub const TARGETS: &[(&str, Target)] = &[
    ("alert", alert::run),
    ("apiserver", apiserver::run),
    ("condition", condition::run),
    ("config", config::run),
    ("detector", detector::run),
    ("envelope", envelope::run),
    ("event", event::run),
    ("inflate", inflate::run),
    ("state", state::run),
    ("template", template::run),
    ("walker", walker::run),
];
