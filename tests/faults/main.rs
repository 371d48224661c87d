//! Delivery under faults, proved on the real process: each scenario breaks something, and ends in the same three
//! claims. C1: the books balance and agree with the oracle, so that every acknowledged span was delivered or is in
//! a counted final state. C2: no destination got a span nobody sent, or one that says something else. C3: once the
//! fault is over, a fresh event arrives within five seconds (with `TRACECAST_TIMED=1`, as all times: on a machine that
//! does something else as well they are shown, and only a wait that is much too long fails).
//!
//! The scenarios load the machine, so one runs at a time. Each puts its line into the fault table
//! (`target/fault-table.md`): fault, load, expected, measured, command.

mod answers;
mod canaries;
mod churn;
mod crashes;
mod disk;
#[cfg(feature = "failing-disk")]
mod errors;
#[cfg(feature = "failing-disk")]
mod failing_disk;
mod neighbours;
mod scene;
mod table;
mod tenants;
mod tls;

/// The gateway as built with these tests.
const BINARY: &str = env!("CARGO_BIN_EXE_tracecast-under-test");
