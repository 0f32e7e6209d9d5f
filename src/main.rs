//! The `lanner` program: hands the command line to [`lanner::cli`] and exits with its code.

use std::process::ExitCode;

fn main() -> ExitCode {
    lanner::cli::main()
}
