//! `tracecast-benches compare`: what the gateway costs beside a proxy that only forwards bytes.
//!
//! ```text
//! compare ─► rounds ─► run, backlog ─► subject (floor | gateway | peer: a process of its own, whose CPU alone counts)
//!               │                        ▲                     │
//!               │                  loadkit::load          loadkit::sink × n ─► expected (every id, every checksum)
//!               └─► report: table with ratios to the floor of the same round, and JSON
//! ```
//!
//! Generator and sinks run in the comparing process. The floor and the gateway are this very binary, started again
//! as what they are; a peer is described by a file of its own, see [`peer::Peer`].

mod backlog;
mod codec;
mod compare;
mod expected;
mod floor;
mod machine;
mod peer;
mod process;
mod report;
mod run;
mod scenario;
mod subject;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(about, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measure the floor, the gateway and the peers in the same rounds, and print the table.
    Compare(compare::Args),
    /// Run the floor: take requests, answer them, forward the joined bytes.
    #[command(hide = true)]
    Floor(floor::Args),
}

fn main() -> ExitCode {
    // Started under this name the binary is the gateway, so that what is measured is built with what measures.
    if std::env::args().next().as_deref() == Some(subject::GATEWAY) {
        return tracecast::main();
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("tracecast-benches: no async runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let done = match Cli::parse().command {
        Command::Compare(args) => runtime.block_on(async {
            // Ended from outside, it still stops what it started: processes end when they are dropped.
            tokio::select! {
                done = compare::run(args) => done,
                signal = stopped() => Err(signal.map_or_else(Into::into, |()| anyhow::anyhow!("stopped"))),
            }
        }),
        Command::Floor(args) => runtime.block_on(floor::run(args)),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("tracecast-benches: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Returns on SIGINT or SIGTERM.
async fn stopped() -> std::io::Result<()> {
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted,
        _ = terminate.recv() => Ok(()),
    }
}
