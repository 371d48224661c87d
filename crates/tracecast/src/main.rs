//! The `tracecast` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    tracecast::main()
}
