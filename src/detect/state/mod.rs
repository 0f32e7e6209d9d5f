//! What detectors remember, on the event clock and within bounds.
//!
//! Each operator is told of matches by [`crate::detect::order`] and says what they mean. Their
//! answers converge: events that change places within `lateness` lead to the same findings. Keys are
//! digests, so that a hostile name costs no more memory than any other; where a bound is reached,
//! the identity with the most entries loses its oldest, and that is counted.

pub mod absence;
pub mod fair;
pub mod first_seen;
pub mod habit;
pub mod held;
pub mod pack;
pub mod recall;
pub mod requests;
pub mod reused;
pub mod sequence;
pub mod spike;
pub mod streams;
pub mod threshold;
pub mod unsure;
pub mod window;
