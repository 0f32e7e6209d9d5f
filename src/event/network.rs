//! Facts of network.
