//! Proofs that run longer than a test command should: `simulate`, `ready`.
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracecast_tests::{ready, sim};

#[derive(Parser)]
#[command(about = "Long proofs of tracecast")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the log and delivery in a simulated world, one world per seed.
    Simulate {
        /// How many seeds to run.
        #[arg(long, default_value_t = 2_000)]
        seeds: u64,
        /// The first of them.
        #[arg(long, default_value_t = 0)]
        first: u64,
        /// Runs this one alone.
        #[arg(long)]
        seed: Option<u64>,
        /// With --seed: tells what happens, line by line.
        #[arg(long, requires = "seed")]
        trace: bool,
        /// Seeds at a time.
        #[arg(long, default_value_t = 2)]
        jobs: usize,
        /// Stops after so many seeds that failed.
        #[arg(long, default_value_t = 10)]
        findings: usize,
    },
    /// Measures how long a gateway with a backlog takes from its start until it is ready.
    Ready {
        /// Size of the backlog.
        #[arg(long, default_value_t = 1_000)]
        megabytes: u64,
        /// The program to start.
        #[arg(long)]
        binary: String,
    },
}

fn main() -> ExitCode {
    let (seeds, first, seed, trace, jobs, findings) = match Arguments::parse().command {
        Command::Simulate { seeds, first, seed, trace, jobs, findings } => {
            (seeds, first, seed, trace, jobs, findings)
        }
        Command::Ready { megabytes, binary } => return ready::run(megabytes, &binary),
    };
    if let Some(seed) = seed {
        if trace {
            let level = tracing_subscriber::EnvFilter::new("debug");
            tracing_subscriber::fmt().with_env_filter(level).without_time().with_ansi(false).init();
        }
        return match sim::run(seed, trace) {
            Ok(summary) => {
                println!("seed {seed}: {summary:?}");
                ExitCode::SUCCESS
            }
            Err(finding) => {
                println!("seed {seed} failed: {}", finding.what);
                ExitCode::FAILURE
            }
        };
    }
    let total = sim::run_many(first, seeds, jobs, findings);
    for finding in &total.findings {
        println!(
            "seed {} failed: {}\n  again: simulate --seed {} --trace",
            finding.seed, finding.what, finding.seed
        );
    }
    let per_seed = total.took.as_secs_f64() * 1e3 * jobs as f64 / total.seeds.max(1) as f64;
    let sum = total.sum;
    println!(
        "{} seeds, {} failed, in {:.1} s ({per_seed:.1} ms a seed): {} starts, {} kills, {} power cuts, {} faults of the \
         disk, {} bits flipped, {} jumps of the clock; {} spans, {} taken twice, {} segments carried over, {} virtual hours",
        total.seeds,
        total.findings.len(),
        total.took.as_secs_f64(),
        sum.lives,
        sum.kills,
        sum.power_cuts,
        sum.disk_faults,
        sum.flips,
        sum.clock_jumps,
        sum.spans,
        sum.duplicates,
        sum.carried,
        sum.virtual_seconds / 3600,
    );
    if total.findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
