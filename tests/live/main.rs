//! The daemon's pipeline with its store and its outbox, on a clock of the test's own: what a jump of
//! the clock, misdated records, and floods do to it.

mod clock;
mod load;
mod pipeline;
