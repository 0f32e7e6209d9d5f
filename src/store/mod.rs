//! What survives a crash: positions, the outbox and the detectors' state, in one SQLite file.

use serde::Deserialize;

/// `[store]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct StoreConfig {
    /// The folder that holds `lanner.db` and its snapshots; made where it is missing.
    pub path: std::path::PathBuf,
    /// Bytes of undelivered notifications kept for one receiver.
    pub receiver_quota: u64,
    /// Bytes of damaged records kept.
    pub quarantine_quota: u64,
}
