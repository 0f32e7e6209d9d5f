//! The walker's look at 64 bytes, as Lanner has it.

#[path = "../../../src/decode/walker/block.rs"]
pub mod block;
