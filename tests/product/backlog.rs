//! A large backlog: memory stays where it is, a restart does not wait for it, and everything is delivered once.

use std::time::{Duration, Instant};

use serde_json::json;
use tracecast_loadkit::load::{Options as LoadOptions, Pace, run};
use tracecast_loadkit::sink::{Options, Sink};
use tracecast_tests::process::{Gateway, Home, INGEST_KEY, PATIENCE, assert_balanced};

use crate::BINARY;

/// Payload bytes of one part of the backlog: the first fills the caches, the others must not show.
const PART_BYTES: u64 = 40 << 20;
const SPAN_BYTES: usize = 10_000;
/// What memory may grow by while the backlog grows by three parts.
const GROWTH_MAX: u64 = PART_BYTES;

/// Resident bytes of the process.
fn resident(gateway: &Gateway) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.pid())).expect("a status");
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).expect("VmRSS");
    let kib: u64 = line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a number");
    kib << 10
}

async fn add_part(gateway: &Gateway, seed: u64) -> u64 {
    let options = LoadOptions {
        url: format!("{}/v1/traces", gateway.http),
        key: Some(INGEST_KEY.into()),
        pace: Pace::Closed(8),
        spans_per_request: 20,
        body_bytes: SPAN_BYTES,
        // The spans say when it ends; this is for a load that is stuck.
        duration: Duration::from_secs(600),
        spans_max: Some(PART_BYTES / SPAN_BYTES as u64),
        gzip: false,
        seed,
        until_refused: false,
    };
    let report = run(options, None).await.expect("a client");
    assert_eq!(report.acknowledged_spans, report.acked_ids().count() as u64);
    report.acknowledged_spans
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_backlog_costs_no_memory_and_no_start() {
    let hanging = Sink::start(([127, 0, 0, 1], 0).into(), Options { stall: true, ..Options::default() })
        .await
        .expect("a sink");
    let home = Home::new(BINARY);
    home.config("log: { durability: buffered }\nlimits: { memory_bytes: 128MiB }\n");
    let gateway = home.start();
    let endpoint = json!({ "endpoint": format!("http://{}", hanging.address()) });
    let id = gateway.simple("otel-collector", "hanging", endpoint).await;
    let mut sent = add_part(&gateway, 1).await;
    let before = resident(&gateway);
    for seed in 2..5 {
        sent += add_part(&gateway, seed).await;
    }
    let stats = gateway.stats(&id).await;
    // Where the disk stood still for a minute, a client may have gone before its answer came.
    let accepted = stats["accepted"].as_u64().expect("a number");
    assert!(accepted >= sent && stats["pending"] == accepted, "{sent} acknowledged: {stats:#}");
    let after = resident(&gateway);
    let mib = |bytes: u64| bytes >> 20;
    println!(
        "resident: {} MiB with {} MiB pending, {} MiB with four times as much",
        mib(before),
        mib(PART_BYTES),
        mib(after)
    );
    assert!(
        after < before + GROWTH_MAX,
        "memory grew with the backlog: {} then {} MiB",
        mib(before),
        mib(after)
    );
    gateway.kill();

    // What it had sent is read while the sink still hangs: taken, it would come twice.
    let started = Instant::now();
    while hanging.connections() > 0 {
        assert!(started.elapsed() < PATIENCE, "{} connections of a dead process", hanging.connections());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    hanging.behave(Options::default());
    let started = Instant::now();
    let gateway = home.start();
    let ready = started.elapsed();
    println!("ready {} ms after the kill, {} MiB pending", ready.as_millis(), mib(4 * PART_BYTES));
    let started = Instant::now();
    loop {
        let stats = gateway.stats(&id).await;
        if stats["pending"] == 0 {
            assert_balanced(&stats);
            assert_eq!(stats["delivered"].as_u64(), Some(accepted), "{stats:#}");
            break;
        }
        assert!(started.elapsed() < 4 * PATIENCE, "still pending: {stats:#}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    println!("delivered in {} ms, {} MiB resident", started.elapsed().as_millis(), mib(resident(&gateway)));
    let arrived = hanging.stats();
    assert_eq!((arrived.distinct_ids, arrived.spans), (accepted, accepted), "each span once");
}
