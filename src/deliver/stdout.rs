//! Alerts on standard output.
