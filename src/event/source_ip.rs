//! Facts of source_ip.
