//! The rounds: every subject, one after the other, on the same load; several times over, so that drift of the machine
//! hits all of them.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;

use crate::report::{self, Measured};
use crate::scenario::{self, Course};
use crate::subject::{Gateway, Subject};
use crate::{backlog, machine, peer, run};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Scenarios, comma separated, or all: A B C F G BG H (the table), L (low load), Q (2,000 requests/s), I (idle),
    /// K (backlog), R100 (rules that do not match), M10000 (tenants).
    #[arg(long, default_value = "A")]
    scenario: String,
    /// Modes of the gateway, comma separated: memory, buffered, durable.
    #[arg(long, default_value = "memory,durable")]
    durability: String,
    /// Rounds.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Spans of a measured run, instead of the scenario's number.
    #[arg(long, value_name = "N")]
    spans: Option<u64>,
    /// Another build of `tracecast` to measure instead of the one built with this.
    #[arg(long, value_name = "FILE")]
    gateway: Option<PathBuf>,
    /// File that describes other software to measure; repeatable.
    #[arg(long, value_name = "FILE")]
    peer: Vec<PathBuf>,
    /// Where data directories are made: choose the disk that durable runs should sync to.
    #[arg(long, value_name = "DIR", default_value = "target")]
    dir: PathBuf,
    /// The measured process gets so many cores (by taskset), generator and receivers all of them.
    #[arg(long, value_name = "N")]
    cores: Option<usize>,
    /// Connections of the load where it goes as fast as it can, with a request on each.
    #[arg(long, value_name = "N", default_value_t = 8)]
    connections: usize,
    /// The bodies are made from it.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Write every run as JSON to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let scenarios = scenario::of(&args.scenario)?;
    let mut subjects = vec![Subject::Zlib, Subject::Floor];
    subjects.extend(args.durability.split(',').map(|mode| {
        Subject::Gateway(Gateway { durability: mode.trim().to_owned(), program: args.gateway.clone() })
    }));
    subjects.extend(peer::read_all(&args.peer)?.into_iter().map(Subject::Peer));
    std::fs::create_dir_all(&args.dir).with_context(|| args.dir.display().to_string())?;
    let mut machine = machine::describe(&args.dir);
    if let Some(cores) = args.cores {
        machine.push_str(&format!("; the measured process on {cores} of the cores"));
    }
    let place = run::Place {
        dir: args.dir.clone(),
        seed: args.seed,
        connections: args.connections,
        cores: args.cores,
    };

    let mut all: Vec<Measured> = Vec::new();
    for round in 1..=args.rounds {
        for scenario in &scenarios {
            let mut scenario = *scenario;
            scenario.spans = args.spans.unwrap_or(scenario.spans);
            for subject in subjects.iter().filter(|subject| subject.can(&scenario)) {
                eprint!("round {round}, {}, {}: ", scenario.name, subject.name());
                let measured = match (scenario.course, subject) {
                    (_, Subject::Zlib) => run::zlib(&place, &scenario),
                    (Course::Load, _) => run::load(&place, &scenario, subject).await,
                    (Course::Idle, _) => run::idle(&place, &scenario, subject).await,
                    (Course::Backlog, _) => backlog::run(&place, &scenario, subject).await,
                };
                let measured = measured.with_context(|| format!("{}, {}", scenario.name, subject.name()))?;
                eprintln!("{}", report::brief(&measured));
                all.push(Measured { round, ..measured });
            }
        }
    }
    if let Some(path) = &args.json {
        let json = serde_json::json!({ "machine": machine, "runs": all });
        std::fs::write(path, serde_json::to_vec_pretty(&json)?)
            .with_context(|| path.display().to_string())?;
    }
    println!("{machine}\n");
    report::print(&scenarios, &all);
    let complete = all.iter().all(|measured| measured.missing == 0 && measured.altered == 0);
    Ok(if complete { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
