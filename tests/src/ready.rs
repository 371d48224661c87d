//! From start to ready with a backlog: `cargo run --release -p tracecast-tests -- ready --binary target/release/tracecast`.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde_json::json;
use tracecast_loadkit::faultsink::{Fault, FaultSink};
use tracecast_loadkit::load::{self, Options, Pace};

use crate::process::{Home, INGEST_KEY};

/// Bytes of a span's body.
const BODY_BYTES: usize = 50_000;

/// Fills the log with so many megabytes for a destination that never answers, kills the process, and starts it three
/// times again.
pub fn run(megabytes: u64, binary: &str) -> ExitCode {
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            println!("no runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    runtime.block_on(measure(megabytes, binary));
    ExitCode::SUCCESS
}

async fn measure(megabytes: u64, binary: &str) {
    let binary = std::path::absolute(binary).expect("a path");
    let home = Home::new(&binary.display().to_string());
    home.config("log: { max_bytes: 16GiB }\n");
    let mut gateway = home.start();
    let hung = FaultSink::start(Fault::Hang).await.expect("a sink");
    let id = gateway.simple("otel-collector", "hung", json!({ "endpoint": hung.url() })).await;
    let options = Options {
        url: format!("{}/v1/traces", gateway.http),
        key: Some(INGEST_KEY.into()),
        pace: Pace::Closed(2),
        spans_per_request: 20,
        body_bytes: BODY_BYTES,
        duration: Duration::from_secs(3600),
        spans_max: Some(megabytes * 1_000_000 / BODY_BYTES as u64),
        until_refused: false,
        gzip: false,
        seed: 1,
    };
    let report = load::run(options, None).await.expect("a client");
    assert!(report.refused.is_empty(), "{:?}", report.refused);
    let stats = gateway.stats(&id).await;
    println!("backlog: {} spans, {} bytes", stats["pending"], stats["pending_bytes"]);
    for _ in 0..3 {
        gateway.kill();
        let started = Instant::now();
        gateway = home.start();
        let ready = reqwest::get(format!("{}/readyz", gateway.admin)).await.expect("an answer");
        let took = started.elapsed();
        assert_eq!(ready.status(), 200);
        let pending = gateway.stats(&id).await["pending"].clone();
        println!("ready {} ms after the start, {pending} spans pending", took.as_millis());
        assert_eq!(pending, stats["pending"]);
    }
}
