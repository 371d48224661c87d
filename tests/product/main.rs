//! The product as its users meet it: the real process, spoken to over its ports.

mod architecture;
mod backlog;
mod books;
mod clients;
mod command_line;
mod concurrency;
mod config_schema;
mod connections;
mod control;
mod delivery;
mod deploy;
mod durability;
mod events;
mod identity;
mod keys;
mod letters;
mod loops;
mod operations;
mod outbound;
mod pace;
mod pressure;
mod privacy;
mod reload;
mod restarts;
mod rust_client;
mod secrets;
mod signing;
mod stop;

/// The program under test.
const BINARY: &str = env!("CARGO_BIN_EXE_tracecast-under-test");
