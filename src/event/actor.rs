//! Facts of actor.
