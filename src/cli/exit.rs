//! Exit codes: stable, and the same for every subcommand.

use std::process::ExitCode;

/// Shown at the end of `lanner --help`.
pub const HELP: &str = "\
Exit codes: 0 fine; 1 unexpected; 2 usage; 3 an alert reached --fail-on; 4 detector tests failed;
69 source unavailable; 78 configuration.";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    Fine = 0,
    Unexpected = 1,
    Usage = 2,
    /// `replay --fail-on` met an alert of that severity.
    FailOn = 3,
    /// `detectors test`, or the demo's own check, failed.
    TestsFailed = 4,
    /// Nothing could be read (`EX_UNAVAILABLE` of sysexits.h).
    SourceUnavailable = 69,
    /// Wrong configuration or detector file (`EX_CONFIG`).
    Configuration = 78,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}
