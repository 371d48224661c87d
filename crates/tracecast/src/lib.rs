//! `tracecast`: the command line, and the composition of the gateway from its crates.
//!
//! A library with one function, so that the binary the tests run is this very `main`.
//!
//! ```text
//! commands/serve ─► gateway (opens, binds, wires, stops in order) ─► ingest ─► log ─► delivery
//!                      └─ handover (sockets from the predecessor, to the successor)
//!          demo  ─┘                │                                        control ─► runtime
//!          check, config-schema    └─ config (file, environment) ◄─ reload (SIGHUP, changed file)
//!          destination, key, stats, send, tail ─► admin (client of the control API)
//!          load, sink ─► loadkit
//!          log ─► the files of a data directory
//! ```

mod admin;
mod commands;
mod config;
mod descriptors;
mod events;
mod free_space;
mod gateway;
mod handover;
mod hints;
mod known;
mod letters;
mod listeners;
mod memory;
mod memos;
mod operations;
mod otlp_text;
mod output;
mod preview;
mod reload;
mod runtime;
mod usage;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Self-hosted observability event gateway for LLM traffic.
#[derive(Debug, Parser)]
#[command(version, about, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway.
    Serve(commands::serve::Args),
    /// Show the product in one command: a gateway, stand-in destinations, LLM traffic, and the books.
    Demo(commands::demo::Args),
    /// Validate a config file without opening a port: every mistake at once.
    Check(commands::check::Args),
    /// Print the JSON Schema of the config file, for editors.
    ConfigSchema,
    /// Manage destinations through the admin API.
    Destination(commands::destination::Args),
    /// Manage keys through the admin API.
    Key(commands::key::Args),
    /// Show the books: what was accepted, delivered, and what became of the rest.
    Stats(commands::stats::Args),
    /// Send one recognisable test generation.
    Send(commands::send::Args),
    /// Show a line per event as it comes: what it is, where it goes, why not elsewhere.
    Tail(commands::tail::Args),
    /// Look at the log of a data directory, whether a gateway runs on it or not.
    Log(commands::log::Args),
    /// Send load to an OTLP/HTTP endpoint and remember every acknowledged id.
    Load(commands::load::Args),
    /// Receive OTLP and JSON, count it, print it, or fail on demand.
    Sink(commands::sink::Args),
}

/// How a command ends. The codes are part of the public interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exit {
    /// Fine.
    Fine = 0,
    /// The command worked and the answer is no.
    No = 1,
    /// Usage or configuration.
    Usage = 64,
    /// Gateway not reachable.
    Unreachable = 69,
    /// Internal.
    Internal = 70,
    /// Data directory unusable or locked, port taken.
    Io = 74,
    /// The gateway refuses the key.
    KeyRefused = 77,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

/// The program.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage.into() } else { Exit::Fine.into() };
        }
    };
    // One TLS provider for the process, chosen before anything opens a connection.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let exit = match cli.command {
        Command::Serve(args) => commands::serve::run(args),
        Command::Demo(args) => commands::demo::run(args),
        Command::Check(args) => commands::check::run(&args),
        Command::ConfigSchema => commands::config_schema::run(),
        Command::Destination(args) => commands::destination::run(args),
        Command::Key(args) => commands::key::run(args),
        Command::Stats(args) => commands::stats::run(args),
        Command::Send(args) => commands::send::run(args),
        Command::Tail(args) => commands::tail::run(args),
        Command::Log(args) => commands::log::run(args),
        Command::Load(args) => commands::load::run(args),
        Command::Sink(args) => commands::sink::run(args),
    };
    exit.into()
}
