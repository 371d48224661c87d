//! Realistic LLM traffic, counting and faulty sinks, and the oracle that checks what arrived.
//!
//! Used by `tracecast load`, `tracecast sink`, `tracecast demo`, the tests and the benches:
//!
//! - [`traffic`] makes spans: a story of users, sessions and models, or ready-made templates for load;
//! - [`load`] sends them, and remembers every id whose request was acknowledged;
//! - [`sink`] receives OTLP and JSON, counts, and fails in the ways it is told to;
//! - [`faultsink`] receives OTLP and fails on purpose, down to single bytes, by script;
//! - [`oracle`] holds what was acknowledged against what arrived;
//! - [`tally`] reads what a receiver must know to be held to account, cheaply enough for a measured run;
//! - [`standin`] imitates the vendors the demo delivers to, as far as the demo needs.

pub mod faultsink;
pub mod load;
pub mod oracle;
pub mod sink;
pub mod standin;
pub mod tally;
pub mod traffic;
