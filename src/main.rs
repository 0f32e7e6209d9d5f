//! The `lanner` program: hands the command line to [`lanner::cli`] and exits with its code.

use std::process::ExitCode;

/// Matches are made by one thread and dropped by another, which the system's allocator is slow at.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    lanner::cli::main()
}
