//! The `tracecast` program as the tests start it: the same `main`, built in the tests' own graph.

use std::process::ExitCode;

fn main() -> ExitCode {
    tracecast::main()
}
