//! From events to findings: detectors as data, run by one engine.
//!
//! Records come from [`crate::decode`]. The parallel half, [`Engine::detect`], is a pure function
//! of one record and gives [`matches::Match`]es; the ordered half, [`order::Judge`], knows what came
//! before and decides what each match is. Findings go to [`crate::alert`].

pub mod absent;
pub mod condition;
pub mod detector;
pub mod docs;
pub mod engine;
pub mod explain;
pub mod gate;
pub mod index;
pub mod inventory;
pub mod load;
pub mod matches;
pub mod mutate;
pub mod occurrence;
pub mod order;
pub mod scratch;
pub mod selftest;
pub mod sequence;
pub mod snapshot;
pub mod spec;
pub mod state;
pub mod summary;
pub mod techniques;

pub use detector::Detector;
pub use engine::Engine;
pub use matches::Match;
pub use order::{Judge, Outcome};
pub use scratch::Scratch;
