//! The regression guard for machines with valgrind: instructions of one step of the data path, counted by callgrind,
//! are the same whatever else the machine does. `cargo bench -p tracecast-benches --bench instructions` prints them
//! and ends with 1 if a step takes more than it may; words behind `--` choose steps by parts of their names.
//!
//! Each step is run by this program again, below callgrind, once and then more often: the difference is what the
//! further runs took, without what came before them.

mod works;

use std::process::{Command, ExitCode};

/// Runs of the step that are counted.
const RUNS: u64 = 10;
/// The variable that makes this program run a step: its name, and how often.
const STEP: &str = "TRACECAST_BENCHES_STEP";

/// Instructions a step may take per span: a sixth more than it took when this was written.
fn bound(name: &str) -> u64 {
    match name {
        "walk" => 8_000,
        "decide" => 2_900,
        "splice half as it is" => 550,
        "splice without content" => 12_700,
        "json out" => 63_000,
        "otlp body" => 80,
        "langfuse body" => 186_000,
        "webhook body" => 63_000,
        "events to spans" => 197_000,
        other => panic!("{other} has no bound"),
    }
}

fn main() -> ExitCode {
    if let Ok(step) = std::env::var(STEP) {
        run(&step);
        return ExitCode::SUCCESS;
    }
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    let chosen = |name: &&str| words.is_empty() || words.iter().any(|word| name.contains(word));
    let mut is_over = false;
    for name in works::NAMES.into_iter().filter(|name| chosen(name)) {
        let counted = instructions(name, 1 + RUNS).and_then(|many| Ok(many - instructions(name, 1)?));
        let per_span = match counted {
            Ok(counted) => counted / RUNS / u64::from(works::SPANS),
            Err(reason) => {
                eprintln!("{name}: not counted: {reason}");
                return ExitCode::FAILURE;
            }
        };
        let bound = bound(name);
        let verdict = if per_span > bound { "too many" } else { "ok" };
        println!("{name:24} {per_span:8} instructions per span, at most {bound:8}: {verdict}");
        is_over |= per_span > bound;
    }
    if is_over { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn run(step: &str) {
    let (name, times) = step.split_once('=').expect("name=times");
    let mut work = works::named(name);
    for _ in 0..times.parse::<u64>().expect("a number") {
        work();
    }
}

/// What running the step so often takes, from the start of the process to its end.
fn instructions(name: &str, times: u64) -> Result<u64, String> {
    let program = std::env::current_exe().map_err(|e| e.to_string())?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .env(STEP, format!("{name}={times}"))
        .output()
        .map_err(|e| format!("valgrind cannot be started ({e}): install it"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let collected = said.lines().find_map(|line| line.split_once("Collected :")?.1.trim().parse().ok());
    collected.ok_or_else(|| format!("valgrind said: {}", said.trim()))
}
