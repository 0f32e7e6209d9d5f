//! Facts of pod.
