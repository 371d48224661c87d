//! Rules and faults in the books: every accepted span ends in exactly one counted state per destination.

use std::time::Duration;

use serde_json::json;
use tracecast_loadkit::sink::{Options, Sink};
use tracecast_tests::fakes::{Fake, decode};
use tracecast_tests::process::{Home, INGEST_KEY};
use tracecast_tests::spans::{generation, request, span_id};

use crate::BINARY;

async fn sink(options: Options) -> Sink {
    Sink::start(([127, 0, 0, 1], 0).into(), options).await.expect("a sink")
}

fn url(sink: &Sink) -> String {
    format!("http://{}", sink.address())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_skip_has_its_reason() {
    let home = Home::new(BINARY);
    home.config("");
    let gateway = home.start();
    let receiver = sink(Options::default()).await;
    let (_, keys) = gateway.api("GET", "/keys", None).await;
    let hash = keys["data"]
        .as_array()
        .expect("keys")
        .iter()
        .find(|k| k["name"] == "tests")
        .and_then(|k| k["hash"].as_str())
        .expect("the file's key is listed")
        .to_owned();
    assert!(!keys.to_string().contains(INGEST_KEY), "a key's secret is never shown");
    let create = async |name: &str, rules: serde_json::Value| {
        let mut body =
            json!({ "type": "otel-collector", "name": name, "config": { "endpoint": url(&receiver) } });
        for (key, value) in rules.as_object().expect("rules") {
            body[key] = value.clone();
        }
        gateway.destination(body).await
    };
    let rule = |field: &str, operator: &str, value: serde_json::Value| json!({ "filter_rules": { "groups": [{ "rules": [{ "field": field, "operator": operator, "value": value }] }] } });
    let disabled = create("disabled", json!({ "enabled": false })).await;
    let region = create("region", json!({ "regions": ["eu"] })).await;
    let key = create("key", json!({ "api_key_hashes": ["0".repeat(64)] })).await;
    let filter = create("filter", rule("model", "equals", json!("another-model"))).await;
    let passes = create("passes", json!({ "api_key_hashes": [hash] })).await;
    let spans: Vec<_> = (0..100).map(|n| generation(n, "x")).collect();
    for chunk in spans.chunks(10) {
        assert_eq!(gateway.send(request(chunk)).await.0, 200);
    }
    for (id, reason) in [(disabled, "disabled"), (region, "region"), (key, "key"), (filter, "filter")] {
        let stats = gateway.settled(&id, 0).await;
        assert_eq!(stats["skipped"][reason], 100, "{reason}: {stats:#}");
    }
    let stats = gateway.settled(&passes, 100).await;
    assert_eq!(stats["delivered"], 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn sampling_keeps_whole_sessions() {
    let home = Home::new(BINARY);
    home.config("");
    let gateway = home.start();
    let fake = Fake::start(Box::new(|_, _| (200, "application/json", b"{}".to_vec()))).await;
    let id = gateway
        .destination(json!({ "type": "webhook", "name": "half", "sampling_rate": 0.5, "config": { "url": fake.url() } }))
        .await;
    // 40 sessions of 10 spans, spread over requests so that no request holds a whole session.
    for start in 0..10 {
        let spans: Vec<_> = (0..40).map(|session| generation(session * 10 + start, "x")).collect();
        assert_eq!(gateway.send(request(&spans)).await.0, 200);
    }
    let mut stats = gateway.stats(&id).await;
    let started = std::time::Instant::now();
    while stats["accepted"] != 400 || stats["pending"] != 0 {
        assert!(started.elapsed() < tracecast_tests::process::PATIENCE, "{stats:#}");
        tokio::time::sleep(Duration::from_millis(50)).await;
        stats = gateway.stats(&id).await;
    }
    tracecast_tests::process::assert_balanced(&stats);
    let ids: Vec<String> = fake.spans().iter().map(|s| tracecast_otlp::hex(&s.span_id)).collect();
    let mut kept = 0;
    for session in 0..40 {
        let there = (0..10).filter(|i| ids.contains(&span_id(session * 10 + i))).count();
        assert!(there == 0 || there == 10, "session {session} was torn: {there} of 10");
        kept += usize::from(there == 10);
    }
    // The chance of fewer than 5 or more than 35 of 40 at one half is below one in a million.
    assert!((5..=35).contains(&kept), "{kept} of 40 sessions kept");
    assert_eq!(stats["skipped"]["sampled"].as_u64(), Some(400 - kept as u64 * 10));
}

#[tokio::test(flavor = "multi_thread")]
async fn retries_refusals_and_a_dead_neighbour() {
    let home = Home::new(BINARY);
    home.config("");
    let gateway = home.start();
    // Answers 503 twice, then takes everything but span 13, which it refuses like a strict schema would.
    let picky = Fake::start(Box::new(|n, got| match n {
        0 | 1 => (503, "text/plain", b"busy".to_vec()),
        _ => {
            let spans = decode(got).unwrap_or_default();
            match spans.iter().any(|s| tracecast_otlp::hex(&s.span_id) == span_id(13)) {
                true => (400, "text/plain", b"span 13 is not welcome".to_vec()),
                false => (200, "text/plain", Vec::new()),
            }
        }
    }))
    .await;
    let hanging = sink(Options { stall: true, ..Options::default() }).await;
    let healthy = sink(Options::default()).await;
    let picky_id = gateway.simple("webhook", "picky", json!({ "url": picky.url() })).await;
    let hanging_id = gateway.simple("otel-collector", "hanging", json!({ "endpoint": url(&hanging) })).await;
    let healthy_id = gateway.simple("otel-collector", "healthy", json!({ "endpoint": url(&healthy) })).await;
    let spans: Vec<_> = (0..40).map(|n| generation(n, "x")).collect();
    assert_eq!(gateway.send(request(&spans)).await.0, 200);

    let stats = gateway.settled(&picky_id, 40).await;
    assert_eq!(
        (stats["delivered"].as_u64(), stats["dead_lettered"].as_u64()),
        (Some(39), Some(1)),
        "{stats:#}"
    );
    assert_eq!(stats["dead_letters"], 1);
    let ids: Vec<String> = picky.spans().iter().map(|s| tracecast_otlp::hex(&s.span_id)).collect();
    assert_eq!(ids.len(), 39, "each of the good ones once");
    assert!(!ids.contains(&span_id(13)));

    let stats = gateway.settled(&healthy_id, 40).await;
    assert_eq!(stats["delivered"], 40);
    let stats = gateway.stats(&hanging_id).await;
    assert_eq!(stats["pending"], 40, "{stats:#}");
    tracecast_tests::process::assert_balanced(&stats);
    assert_eq!(gateway.stop(), 0, "a hanging destination does not hold the stop up");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_key_holds_the_data_until_it_is_corrected() {
    let home = Home::new(BINARY);
    home.config("");
    let gateway = home.start();
    let fake = Fake::start(tracecast_tests::fakes::langfuse("pk-lf-tests-0001", "the-right-secret")).await;
    let config =
        json!({ "publicKey": "pk-lf-tests-0001", "secretKey": "the-wrong-secret", "baseUrl": fake.url() });
    let id = gateway.simple("langfuse", "lf", config).await;
    assert_eq!(gateway.send(request(&[generation(1, "x"), generation(2, "x")])).await.0, 200);
    fake.wait_for(1).await;
    let started = std::time::Instant::now();
    while gateway.stats(&id).await["state"] != "held_auth" {
        assert!(started.elapsed() < tracecast_tests::process::PATIENCE);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let stats = gateway.stats(&id).await;
    assert_eq!(stats["pending"], 2, "{stats:#}");
    assert!(!stats.to_string().contains("the-wrong-secret"), "{stats:#}");
    let path = format!("/observability/destinations/{id}");
    let patch = json!({ "config": { "secretKey": "the-right-secret" } });
    assert_eq!(gateway.api("PATCH", &path, Some(&patch)).await.0, 200);
    let stats = gateway.settled(&id, 2).await;
    assert_eq!(stats["delivered"], 2);
    let history = gateway.stats(&id).await["history"].clone();
    let entry = |i: usize| (&history[i]["from"], &history[i]["to"], &history[i]["error"]["status"]);
    assert_eq!(entry(1), (&json!("healthy"), &json!("held_auth"), &json!(401)), "{history:#}");
    assert_eq!(entry(0), (&json!("held_auth"), &json!("healthy"), &json!(null)), "{history:#}");
}
