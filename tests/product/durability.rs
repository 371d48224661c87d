//! What an acknowledgement is worth: SIGKILL and SIGTERM in the middle of the load, and nothing is missing.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::json;
use tracecast_loadkit::load::{Options as LoadOptions, Pace, run};
use tracecast_loadkit::sink::{Options, Sink};
use tracecast_tests::fakes::{Fake, decode};
use tracecast_tests::process::{Gateway, Home, INGEST_KEY, PATIENCE, assert_balanced};

use crate::BINARY;

fn load(gateway: &Gateway, spans: u64, seed: u64) -> LoadOptions {
    LoadOptions {
        url: format!("{}/v1/traces", gateway.http),
        key: Some(INGEST_KEY.into()),
        pace: Pace::Closed(4),
        spans_per_request: 5,
        body_bytes: 1000,
        // The spans say when it ends, or a refusal; this is for a load that is stuck.
        duration: Duration::from_secs(600),
        spans_max: Some(spans),
        until_refused: false,
        gzip: false,
        seed,
    }
}

/// Waits until nothing is pending at the destination; its stats.
async fn drained(gateway: &Gateway, id: &str) -> serde_json::Value {
    let started = Instant::now();
    loop {
        let stats = gateway.stats(id).await;
        if stats["pending"] == 0 {
            return stats;
        }
        assert!(started.elapsed() < PATIENCE, "still pending: {stats:#}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sigkill_under_load_loses_no_acknowledged_span() {
    let sink = Sink::start(([127, 0, 0, 1], 0).into(), Options::default()).await.expect("a sink");
    let slow = Sink::start(
        ([127, 0, 0, 1], 0).into(),
        Options { latency: Duration::from_millis(300), ..Options::default() },
    )
    .await
    .expect("a sink");
    let home = Home::new(BINARY);
    home.config("");
    let mut gateway = home.start();
    let quick = gateway
        .simple("otel-collector", "quick", json!({ "endpoint": format!("http://{}", sink.address()) }))
        .await;
    let lagging = gateway
        .simple("otel-collector", "slow", json!({ "endpoint": format!("http://{}", slow.address()) }))
        .await;
    let mut acked: HashSet<[u8; 8]> = HashSet::new();
    let mut shown = 0;
    // Killed at another moment of the load each time: the moment is a number of acknowledged spans.
    for (round, kill_at) in [40u64, 333, 1205].into_iter().enumerate() {
        let (reached, mut at) = tokio::sync::watch::channel(0u64);
        let progress: tracecast_loadkit::load::Progress = std::sync::Arc::new(move |n| {
            reached.send_replace(n);
        });
        let options = load(&gateway, 1_000_000, 10 + round as u64);
        let running = tokio::spawn(run(LoadOptions { until_refused: true, ..options }, Some(progress)));
        at.wait_for(|n| *n >= kill_at).await.expect("the load gets that far");
        shown = gateway.stats(&quick).await["delivered"].as_u64().expect("delivered").max(shown);
        gateway.kill();
        let report = running.await.expect("the load ends").expect("a client");
        acked.extend(report.acked_ids());
        gateway = home.start();
        let delivered = gateway.stats(&quick).await["delivered"].as_u64().expect("delivered");
        assert!(delivered >= shown, "a figure fell over the kill: {shown} then {delivered}");
    }
    for (id, sink) in [(&quick, &sink), (&lagging, &slow)] {
        let stats = drained(&gateway, id).await;
        assert_balanced(&stats);
        let arrived: HashSet<[u8; 8]> = sink.ids().into_iter().collect();
        let missing = acked.iter().filter(|i| !arrived.contains(*i)).count();
        assert_eq!(missing, 0, "{missing} of {} acknowledged spans are missing: {stats:#}", acked.len());
        assert!(stats["accepted"].as_u64() >= Some(acked.len() as u64));
    }
    assert!(acked.len() > 1500, "{} spans were acknowledged", acked.len());
}

/// What a receiver that de-duplicates by `webhook-id` stores.
#[derive(Default)]
struct Ledger {
    /// Spans by id.
    stored: HashMap<String, BTreeSet<Vec<u8>>>,
    /// Requests with an id it knew.
    repeated: u64,
    /// Ids that came back with other spans.
    mistaken: Vec<String>,
}

#[tokio::test(flavor = "multi_thread")]
async fn sigkill_makes_no_duplicates_where_the_receiver_knows_the_batch() {
    let ledger: Arc<Mutex<Ledger>> = Arc::default();
    let shared = ledger.clone();
    // Every third batch is stored and the answer lost on the way back.
    let fake = Fake::start(Box::new(move |number, got| {
        let id = got.headers.get("webhook-id").and_then(|id| id.to_str().ok()).unwrap_or_default().to_owned();
        let Some(spans) = decode(got).filter(|spans| !spans.is_empty() && !id.is_empty()) else {
            return (400, "text/plain", b"not the contract".to_vec());
        };
        let ids: BTreeSet<Vec<u8>> = spans.into_iter().map(|span| span.span_id).collect();
        let mut ledger = shared.lock().expect("no panic");
        match ledger.stored.get(&id) {
            Some(known) if *known == ids => ledger.repeated += 1,
            Some(_) => ledger.mistaken.push(id),
            None => drop(ledger.stored.insert(id, ids)),
        }
        if number % 3 == 0 { (504, "text/plain", Vec::new()) } else { (200, "text/plain", Vec::new()) }
    }))
    .await;
    let home = Home::new(BINARY);
    home.config("");
    let mut gateway = home.start();
    let id = gateway.simple("webhook", "tokens", json!({ "url": format!("{}/hook", fake.url()) })).await;
    let mut acked: HashSet<[u8; 8]> = HashSet::new();
    for round in 0..8u64 {
        let (reached, mut at) = tokio::sync::watch::channel(0u64);
        let progress: tracecast_loadkit::load::Progress = Arc::new(move |n| {
            reached.send_replace(n);
        });
        let options = load(&gateway, 1_000_000, 300 + round);
        let options = LoadOptions { until_refused: true, ..options };
        let running = tokio::spawn(run(options, Some(progress)));
        at.wait_for(|n| *n >= 60 + 97 * round).await.expect("the load gets that far");
        gateway.kill();
        acked.extend(running.await.expect("the load ends").expect("a client").acked_ids());
        gateway = home.start();
    }
    assert_balanced(&drained(&gateway, &id).await);
    let ledger = ledger.lock().expect("no panic");
    assert_eq!(ledger.mistaken, Vec::<String>::new(), "an id stands for one batch");
    assert!(ledger.repeated > 0, "batches were repeated");
    let mut times: HashMap<&[u8], u32> = HashMap::new();
    ledger.stored.values().flatten().for_each(|span| *times.entry(span).or_default() += 1);
    let missing = acked.iter().filter(|id| !times.contains_key(&id[..])).count();
    let twice = times.values().filter(|times| **times > 1).count();
    assert_eq!((missing, twice), (0, 0), "of {} spans in {} batches", times.len(), ledger.stored.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_under_load_exits_0_and_loses_nothing() {
    let sink = Sink::start(([127, 0, 0, 1], 0).into(), Options::default()).await.expect("a sink");
    for durability in ["durable", "buffered"] {
        let home = Home::new(BINARY);
        home.config(&format!("log: {{ durability: {durability} }}\n"));
        let gateway = home.start();
        let id = gateway
            .simple("otel-collector", "one", json!({ "endpoint": format!("http://{}", sink.address()) }))
            .await;
        let (reached, mut at) = tokio::sync::watch::channel(0u64);
        let progress: tracecast_loadkit::load::Progress = std::sync::Arc::new(move |n| {
            reached.send_replace(n);
        });
        let options = LoadOptions { until_refused: true, ..load(&gateway, 1_000_000, 3) };
        let running = tokio::spawn(run(options, Some(progress)));
        at.wait_for(|n| *n >= 500).await.expect("the load gets that far");
        assert_eq!(tokio::task::spawn_blocking(move || gateway.stop()).await.expect("it stops"), 0);
        let report = running.await.expect("the load ends").expect("a client");
        let gateway = home.start();
        let stats = drained(&gateway, &id).await;
        assert_balanced(&stats);
        let arrived: HashSet<[u8; 8]> = sink.ids().into_iter().collect();
        let missing = report.acked_ids().filter(|i| !arrived.contains(i)).count();
        assert_eq!(missing, 0, "{durability}: {missing} of {} missing", report.acknowledged_spans);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_waits_on_disk_for_a_destination_that_comes_back() {
    let sink = Sink::start(([127, 0, 0, 1], 0).into(), Options { fail_percent: 100.0, ..Options::default() })
        .await
        .expect("a sink");
    let home = Home::new(BINARY);
    home.config("");
    let gateway = home.start();
    let id = gateway
        .simple("otel-collector", "one", json!({ "endpoint": format!("http://{}", sink.address()) }))
        .await;
    let report = run(load(&gateway, 3000, 4), None).await.expect("a client");
    assert_eq!(report.acknowledged_spans, 3000);
    let stats = gateway.stats(&id).await;
    assert_balanced(&stats);
    assert_eq!(stats["pending"], 3000, "{stats:#}");
    assert_eq!(gateway.stop(), 0);
    sink.behave(Options::default());
    let gateway = home.start();
    let stats = drained(&gateway, &id).await;
    assert_balanced(&stats);
    assert_eq!(stats["delivered"], 3000);
    assert_eq!(sink.stats().distinct_ids, 3000);
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_mode_delivers_and_balances() {
    let sink = Sink::start(([127, 0, 0, 1], 0).into(), Options::default()).await.expect("a sink");
    let home = Home::new(BINARY);
    home.config("log: { durability: memory }\n");
    let gateway = home.start();
    let id = gateway
        .simple("otel-collector", "one", json!({ "endpoint": format!("http://{}", sink.address()) }))
        .await;
    let report = run(load(&gateway, 2000, 5), None).await.expect("a client");
    assert_eq!(report.acknowledged_spans, 2000);
    gateway.settled(&id, 2000).await;
    assert_eq!(sink.stats().distinct_ids, 2000);
    assert!(!home.path().join("data/log").exists(), "memory mode writes no log");
}
