//! Facts of rbac.
