//! The configuration: one TOML file over `config/default.toml`, checked before anything starts.
//!
//! Each component owns the struct of its section; this module composes them, reads files and
//! environment, and reports errors with file, line, column, key and nearest valid name.

pub mod diagnose;
pub mod duration;
pub mod secret;
