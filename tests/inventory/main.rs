//! The inventory, from what it is told to what it answers.

mod brute;
mod reasoning;
mod remembering;
mod world;
