//! The product as its users meet it: the real process, spoken to over its ports.

mod architecture;
mod books;
mod clients;
mod command_line;
mod concurrency;
mod control;
mod delivery;
mod durability;
mod keys;
mod privacy;
mod rust_client;

/// The program under test.
const BINARY: &str = env!("CARGO_BIN_EXE_tracecast-under-test");
