//! `tracecast load`: sends load, and says which acknowledged ids did not arrive.

use std::collections::HashSet;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tracecast_destination::otlp_traces_url;
use tracecast_loadkit::load::{Options, Pace, Report, run as run_load};

use super::block_on;
use crate::Exit;

/// A verified sink may stay without news for this long before its missing ids count as lost.
const QUIET: Duration = Duration::from_secs(30);

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// OTLP/HTTP endpoint; an empty path gets `/v1/traces`.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:4318")]
    target: String,
    /// Ordinary key, sent as Bearer.
    #[arg(long, value_name = "KEY", env = "TRACECAST_KEY", hide_env_values = true)]
    key: Option<String>,
    /// Open loop: spans per second, whatever the answers.
    #[arg(long, value_name = "R", conflicts_with = "closed")]
    rate: Option<f64>,
    /// Closed loop: requests in flight (the default, with 8). A client that is told to wait does, and sends the same again.
    #[arg(long, value_name = "N")]
    closed: Option<usize>,
    /// Spans per request.
    #[arg(long, value_name = "N", default_value_t = 10)]
    spans_per_request: usize,
    /// Prompt and completion bytes per span.
    #[arg(long, value_name = "N", default_value_t = 4096)]
    body_bytes: usize,
    /// Stop after so many seconds.
    #[arg(long, value_name = "S", default_value_t = 10.0)]
    duration: f64,
    /// Stop after so many spans, if earlier.
    #[arg(long, value_name = "N")]
    spans: Option<u64>,
    /// Compress requests with gzip.
    #[arg(long)]
    gzip: bool,
    /// The same seed sends the same bodies.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Write every acknowledged span id to this file, one hex line each.
    #[arg(long, value_name = "FILE")]
    acked: Option<PathBuf>,
    /// Wait until every acknowledged id is at this sink (its base URL); repeatable. Exit 1 if one is missing.
    #[arg(long, value_name = "URL")]
    verify: Vec<String>,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: Args) -> Exit {
    block_on(load(args))
}

async fn load(args: Args) -> Exit {
    if args.spans_per_request == 0 || !(args.duration.is_finite() && args.duration > 0.0) {
        eprintln!("tracecast: --spans-per-request and --duration must be more than 0");
        return Exit::Usage;
    }
    let options = Options {
        url: otlp_traces_url(&args.target),
        key: args.key.clone(),
        pace: match (args.rate, args.closed) {
            (Some(rate), _) => Pace::Rate(rate),
            (None, closed) => Pace::Closed(closed.unwrap_or(8)),
        },
        spans_per_request: args.spans_per_request,
        body_bytes: args.body_bytes,
        duration: Duration::from_secs_f64(args.duration),
        spans_max: args.spans,
        until_refused: false,
        gzip: args.gzip,
        seed: args.seed,
    };
    let report = match run_load(options, None).await {
        Ok(report) => report,
        Err(error) => {
            eprintln!("tracecast: no HTTP client: {error}");
            return Exit::Internal;
        }
    };
    if let Some(path) = &args.acked
        && let Err(error) = write_ids(path, &report)
    {
        eprintln!("tracecast: cannot write {}: {error}", path.display());
        return Exit::Io;
    }
    let mut verified = Vec::new();
    for sink in &args.verify {
        verified.push((sink.clone(), verify(sink, &report).await));
    }
    print_report(&report, &verified, args.json);
    if report.requests > 0 && report.refused.get(&0) == Some(&report.requests) {
        eprintln!("tracecast: {} does not answer", args.target);
        return Exit::Unreachable;
    }
    let complete = verified.iter().all(|(_, v)| v.as_ref().is_ok_and(|v| v.missing == 0));
    if complete && report.acknowledged_spans > 0 { Exit::Fine } else { Exit::No }
}

fn write_ids(path: &std::path::Path, report: &Report) -> std::io::Result<()> {
    let mut file = std::io::BufWriter::new(std::fs::File::create(path)?);
    for id in report.acked_ids() {
        writeln!(file, "{}", tracecast_otlp::hex(&id))?;
    }
    file.flush()
}

struct Verified {
    missing: usize,
    duplicates: u64,
    seconds: f64,
}

/// Polls the sink until it has every acknowledged id, or nothing new has come for a while.
async fn verify(sink: &str, report: &Report) -> Result<Verified, String> {
    let base = sink.trim_end_matches('/');
    let get = |path: &str| {
        let url = format!("{base}{path}");
        async move {
            let response = reqwest::get(&url).await.map_err(|e| e.to_string())?;
            response.text().await.map_err(|e| e.to_string())
        }
    };
    let started = Instant::now();
    let wanted: u64 = report.acknowledged_spans;
    let (mut last, mut changed) = (0, Instant::now());
    loop {
        let stats: serde_json::Value =
            serde_json::from_str(&get("/stats").await?).map_err(|e| format!("{base}/stats: {e}"))?;
        let distinct = stats["distinct_ids"].as_u64().unwrap_or(0);
        if distinct != last {
            (last, changed) = (distinct, Instant::now());
        }
        if distinct >= wanted || changed.elapsed() > QUIET {
            let there: HashSet<String> = get("/ids").await?.lines().map(str::to_owned).collect();
            let missing = report.acked_ids().filter(|id| !there.contains(&tracecast_otlp::hex(id))).count();
            if missing == 0 || changed.elapsed() > QUIET {
                return Ok(Verified {
                    missing,
                    duplicates: stats["duplicates"].as_u64().unwrap_or(0),
                    seconds: started.elapsed().as_secs_f64(),
                });
            }
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn print_report(report: &Report, verified: &[(String, Result<Verified, String>)], json: bool) {
    if json {
        let mut value = serde_json::to_value(report).unwrap_or_default();
        value["verified"] = verified
            .iter()
            .map(|(sink, v)| match v {
                Ok(v) => serde_json::json!({
                    "sink": sink, "missing": v.missing, "duplicates": v.duplicates, "seconds": v.seconds,
                }),
                Err(e) => serde_json::json!({ "sink": sink, "error": e }),
            })
            .collect();
        println!("{value}");
        return;
    }
    println!(
        "{} spans acknowledged in {:.1} s: {:.0} spans/s, {} requests, {:.1} MB",
        report.acknowledged_spans,
        report.seconds,
        report.spans_per_second,
        report.acknowledged_requests,
        report.bytes as f64 / 1e6
    );
    println!(
        "ack p50 {:.2} ms, p99 {:.2} ms, max {:.2} ms",
        report.ack_p50_ms, report.ack_p99_ms, report.ack_max_ms
    );
    for (status, n) in &report.refused {
        match status {
            0 => println!("{n} requests without an answer"),
            status => println!("{n} requests refused with {status}"),
        }
    }
    if report.backoff_seconds > 0.0 {
        println!("clients waited {:.1} s in all because they were told to", report.backoff_seconds);
    }
    for (sink, v) in verified {
        match v {
            Ok(v) => println!(
                "{sink}: {} missing, {} duplicates, complete {:.1} s after the load",
                v.missing, v.duplicates, v.seconds
            ),
            Err(e) => println!("{sink}: cannot be verified: {e}"),
        }
    }
}
