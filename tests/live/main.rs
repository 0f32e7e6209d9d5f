//! The daemon's pipeline with its store and its outbox, on a clock of the test's own: for whom the
//! platform works, and what a jump of the clock, misdated records, and floods do.

mod behalf;
mod clock;
mod load;
mod pipeline;
