//! Writes to the control API while events flow: what an answer promised, and what becomes of the books.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};
use tokio::task::JoinSet;
use tracecast_loadkit::sink::{Options, Sink};
use tracecast_log::{Durability, Log};
use tracecast_tests::process::{Gateway, Home};
use tracecast_tests::spans::{generation, request, span_id};

use crate::BINARY;

const DESTINATIONS: &str = "/observability/destinations";

/// An event sent right after the answer to a write is judged by what was written: 1,000 times out of 1,000.
#[tokio::test(flavor = "multi_thread")]
async fn the_next_event_obeys_the_write_a_thousand_times() {
    const WRITES: u64 = 1_000;
    let home = Home::new(BINARY);
    home.config("log: { durability: buffered }\n");
    let gateway = home.start();
    let sink = Sink::start(([127, 0, 0, 1], 0).into(), Options::default()).await.expect("a sink");
    let url = format!("http://{}", sink.address());
    let id = gateway.simple("otel-collector", "one", json!({ "endpoint": url })).await;
    let path = format!("{DESTINATIONS}/{id}");
    let model = |name: &str| json!({ "groups": [{ "rules": [{ "field": "model", "operator": "equals", "value": name }] }] });
    // Each changes what the one before it decided, or why.
    let rules = [
        json!({ "enabled": true, "filter_rules": null }),
        json!({ "enabled": false }),
        json!({ "enabled": true, "filter_rules": model("another-model") }),
        json!({ "filter_rules": model("gpt-4o") }),
    ];
    let mut expected = BTreeSet::new();
    for (n, rule) in (0..WRITES).zip(rules.iter().cycle()) {
        let (status, answer) = gateway.api("PATCH", &path, Some(rule)).await;
        assert_eq!(status, 200, "{answer}");
        assert_eq!(gateway.send(request(&[generation(n, "x")])).await.0, 200);
        if n % 4 == 0 || n % 4 == 3 {
            expected.insert(span_id(n));
        }
    }
    let stats = gateway.settled(&id, WRITES / 2).await;
    assert_eq!(stats["skipped"]["disabled"], WRITES / 4, "{stats:#}");
    assert_eq!(stats["skipped"]["filter"], WRITES / 4, "{stats:#}");
    let arrived: BTreeSet<String> = sink.ids().iter().map(|id| tracecast_otlp::hex(id)).collect();
    let obeyed =
        (0..WRITES).filter(|n| arrived.contains(&span_id(*n)) == expected.contains(&span_id(*n))).count();
    println!("read-your-writes: {obeyed} of {WRITES}");
    assert_eq!(arrived, expected);
}

/// What 50 clients measured and left behind.
#[derive(Default)]
struct Outcome {
    latencies: Vec<Duration>,
    /// Destinations that were created and not deleted.
    left: Vec<String>,
    deleted: u64,
}

/// Creates, changes, reads, deletes; every third round leaves its destination behind.
async fn client(number: usize, gateway: Arc<Gateway>, url: String, rounds: usize) -> Outcome {
    let mut outcome = Outcome::default();
    let mut call = async |method: &str, path: &str, body: Option<Json>, expected: u16| -> Json {
        let started = Instant::now();
        let (status, answer) = gateway.api(method, path, body.as_ref()).await;
        outcome.latencies.push(started.elapsed());
        assert_eq!(status, expected, "{method} {path}: {answer}");
        answer
    };
    let mut left = Vec::new();
    let mut deleted = 0;
    for round in 0..rounds {
        let kind = if round % 2 == 0 { "webhook" } else { "otel-collector" };
        let field = if round % 2 == 0 { "url" } else { "endpoint" };
        let body = json!({ "type": kind, "name": format!("{number}-{round}"), "config": { field: url } });
        let made = call("POST", DESTINATIONS, Some(body), 201).await;
        let id = made["data"]["id"].as_str().expect("an id").to_owned();
        let path = format!("{DESTINATIONS}/{id}");
        call("PATCH", &path, Some(json!({ "sampling_rate": 0.5, "privacy_mode": true })), 200).await;
        call("PATCH", &path, Some(json!({ "sampling_rate": 1, "enabled": round % 5 != 0 })), 200).await;
        let shown = call("GET", &path, None, 200).await;
        assert_eq!(shown["data"]["sampling_rate"], json!(1), "{shown}");
        if round % 3 == 2 {
            left.push(id);
        } else {
            assert_eq!(call("DELETE", &path, None, 200).await, json!({ "deleted": true }));
            call("GET", &path, None, 404).await;
            deleted += 1;
        }
    }
    outcome.left = left;
    outcome.deleted = deleted;
    outcome
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_clients_write_while_events_flow() {
    const CLIENTS: usize = 50;
    const ROUNDS: usize = 3;
    let home = Home::new(BINARY);
    home.config("limits: { destinations_per_kind: 1000 }\n");
    let gateway = Arc::new(home.start());
    let sink = Sink::start(([127, 0, 0, 1], 0).into(), Options::default()).await.expect("a sink");
    let url = format!("http://{}/v1/traces", sink.address());
    let always = gateway.simple("otel-collector", "always", json!({ "endpoint": url })).await;

    let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut senders = JoinSet::new();
    for _ in 0..2 {
        let (gateway, stop, sent) = (gateway.clone(), stop.clone(), sent.clone());
        senders.spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                let n = sent.fetch_add(2, Ordering::Relaxed);
                let body = request(&[generation(n, "x"), generation(n + 1, "x")]);
                assert_eq!(gateway.send(body).await.0, 200);
            }
        });
    }
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        clients.spawn(client(number, gateway.clone(), url.clone(), ROUNDS));
    }
    let outcomes = clients.join_all().await;
    stop.store(true, Ordering::Relaxed);
    senders.join_all().await;
    let sent = sent.load(Ordering::Relaxed);

    let mut latencies: Vec<Duration> = outcomes.iter().flat_map(|o| o.latencies.clone()).collect();
    latencies.sort();
    let at = |percent: usize| latencies[(latencies.len() - 1) * percent / 100];
    println!(
        "control API, {CLIENTS} clients, {} calls, {sent} events beside: p50 {:?}, p99 {:?}, worst {:?}",
        latencies.len(),
        at(50),
        at(99),
        at(100)
    );

    // Whoever was there all the time got everything once; whoever is left has balanced books.
    let stats = gateway.settled(&always, sent).await;
    assert_eq!(stats["delivered"], sent, "{stats:#}");
    assert_eq!(stats["accepted"], sent, "{stats:#}");
    let left: Vec<&String> = outcomes.iter().flat_map(|o| &o.left).collect();
    for id in &left {
        let selected = gateway.stats(id).await["selected"].as_u64().expect("selected");
        gateway.settled(id, selected).await;
    }
    let (_, list) = gateway.api("GET", &format!("{DESTINATIONS}?limit=1"), None).await;
    assert_eq!(list["total_count"], left.len() + 1, "{list}");
    let deleted: u64 = outcomes.iter().map(|o| o.deleted).sum();
    assert_eq!(deleted as usize + left.len(), CLIENTS * ROUNDS);

    // The API does not show the books of a deleted destination any more; the log keeps them.
    let gateway = Arc::into_inner(gateway).expect("nobody else holds the gateway");
    assert_eq!(gateway.stop(), 0);
    let options = tracecast_log::Options {
        dir: home.path().join("data/log"),
        durability: Durability::Durable,
        max_bytes: 10 << 30,
        max_age: Duration::from_secs(24 * 3600),
        retain: Duration::ZERO,
        segment_bytes: 64 << 20,
        cache_bytes: 1 << 20,
        without_content: None,
    };
    let (log, recovered) = Log::open(options).expect("the log can be opened");
    assert!(recovered.backlog.is_empty(), "{:?}", recovered.backlog);
    let slots = log.slots();
    assert!(slots.len() > left.len(), "{} destinations are in the log", slots.len());
    for (slot, key) in slots {
        let books = log.books(slot);
        assert!(books.balanced() && books.pending == 0, "{key:?}: {books:?}");
        assert!(books.accepted <= sent, "{key:?}: {books:?}");
    }
}
