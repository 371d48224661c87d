//! Dead letters: looked at, sent again once their destination is right, and the past sent to a new destination.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};
use tracecast_tests::fakes::{Fake, Got, decode};
use tracecast_tests::process::{Gateway, Home, PATIENCE, assert_balanced};
use tracecast_tests::spans::{generation, request, span_id};

use crate::BINARY;
use crate::clients::Person;

/// A collector that refuses every batch with one of these spans for good, until it is mended.
async fn picky(poison: &'static [u64]) -> (Fake, Arc<AtomicBool>) {
    let mended = Arc::new(AtomicBool::new(false));
    let well = mended.clone();
    let fake = Fake::start(Box::new(move |_, got| {
        let ids: Vec<String> =
            decode(got).unwrap_or_default().iter().map(|s| tracecast_otlp::hex(&s.span_id)).collect();
        let is_bad = !well.load(Ordering::SeqCst) && poison.iter().any(|n| ids.contains(&span_id(*n)));
        match is_bad {
            true => (400, "application/json", b"{\"message\":\"attribute filler is not allowed\"}".to_vec()),
            false => (200, "application/json", b"{}".to_vec()),
        }
    }))
    .await;
    (fake, mended)
}

/// Waits for the books to say that nothing is pending and so many spans were delivered.
async fn delivered(gateway: &Gateway, id: &str, spans: u64) -> Json {
    let started = Instant::now();
    loop {
        let stats = gateway.stats(id).await;
        if stats["delivered"] == spans && stats["pending"] == 0 {
            assert_balanced(&stats);
            return stats;
        }
        assert!(started.elapsed() < PATIENCE, "{stats:#}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn letters(gateway: &Gateway, id: &str, query: &str) -> Json {
    let path = format!("/observability/destinations/{id}/dead-letters{query}");
    let (status, body) = gateway.api("GET", &path, None).await;
    assert_eq!(status, 200, "{body}");
    body
}

#[tokio::test(flavor = "multi_thread")]
async fn poison_is_looked_at_and_replayed_once_when_the_destination_takes_it() {
    let (fake, mended) = picky(&[3, 7]).await;
    let home = Home::new(BINARY);
    home.config("");
    let gateway = home.start();
    let id = gateway.simple("otel-collector", "picky", json!({ "endpoint": fake.url() })).await;
    let spans: Vec<_> = (0..10).map(|n| generation(n, "the prompt of it")).collect();
    assert_eq!(gateway.send(request(&spans)).await.0, 200);
    let stats = gateway.settled(&id, 10).await;
    assert_eq!((&stats["delivered"], &stats["dead_lettered"]), (&json!(8), &json!(2)), "{stats:#}");

    let list = letters(&gateway, &id, "").await;
    assert_eq!((&list["total_count"], &list["by_reason"]["rejected"]), (&json!(2), &json!(2)), "{list}");
    let letter = &list["data"][0];
    assert_eq!(
        (&letter["status"], &letter["spans"], &letter["reason"]),
        (&json!(400), &json!(1), &json!("rejected"))
    );
    assert!(letter["excerpt"].as_str().expect("text").contains("filler"), "{letter}");
    assert_eq!(letters(&gateway, &id, "?reason=too_large").await["total_count"], 0);
    assert_eq!(
        letters(&gateway, &id, "?limit=1&offset=1").await["data"].as_array().expect("a page").len(),
        1
    );
    let one = letters(&gateway, &id, &format!("/{}", letter["id"])).await;
    assert!(one["data"]["content"].to_string().contains("the prompt of it"), "{one}");

    // The same by the command line.
    let me = Person::new(&home, &gateway);
    let table = me.told(&["destination", "dead-letters", "picky"]).await;
    assert!(
        table.trim_start().starts_with("ID ") && table.lines().count() == 3 && table.contains("rejected"),
        "{table}"
    );
    let shown = me.told(&["destination", "dead-letters", "picky", "--id", &letter["id"].to_string()]).await;
    assert!(shown.contains("resourceSpans") && shown.contains("filler"), "{shown}");

    // Still refused: it comes back as a dead letter, and nothing is counted twice.
    let (status, body) = gateway
        .api(
            "POST",
            &format!("/observability/destinations/{id}/dead-letters/replay"),
            Some(&json!({ "id": letter["id"] })),
        )
        .await;
    assert_eq!(
        (status, &body["data"]),
        (200, &json!({ "matched": 1, "requeued": 1, "waiting": 0 })),
        "{body}"
    );
    let started = Instant::now();
    loop {
        let stats = gateway.stats(&id).await;
        if stats["dead_lettered"] == 3 {
            assert_balanced(&stats);
            assert_eq!(
                (&stats["requeued"], &stats["accepted"], &stats["dead_letters"]),
                (&json!(1), &json!(10), &json!(2))
            );
            break;
        }
        assert!(started.elapsed() < PATIENCE, "{stats:#}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    // Across a restart, mended, both arrive: once each, marked, with the ids they had.
    gateway.kill();
    mended.store(true, Ordering::SeqCst);
    let gateway = home.start();
    let before = fake.requests().len();
    let told = Person::new(&home, &gateway).told(&["destination", "replay", "picky"]).await;
    assert_eq!(told, "2 spans sent again\n");
    let stats = delivered(&gateway, &id, 10).await;
    assert_eq!(
        (&stats["requeued"], &stats["dead_lettered"], &stats["dead_letters"]),
        (&json!(3), &json!(3), &json!(0))
    );
    let again = &fake.requests()[before..];
    assert!(again.iter().all(|got| got.headers["x-tracecast-replayed"] == "true"), "{again:?}");
    // One request brought them all: whatever carries them says when that was, also a replay of a replay.
    let first_seen = |got: &Got| got.headers["x-tracecast-first-seen"].clone();
    let all = fake.requests();
    assert!(all.iter().all(|got| first_seen(got) == first_seen(&all[0])), "{all:?}");
    let mut ids: Vec<String> = fake.spans().iter().map(|s| tracecast_otlp::hex(&s.span_id)).collect();
    ids.sort();
    let mut expected: Vec<String> = (0..10).map(span_id).collect();
    expected.sort();
    assert_eq!(ids, expected, "every span arrived once");
    assert_eq!(letters(&gateway, &id, "").await["total_count"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_a_burst_follows_in_time_and_what_is_deleted_does_not() {
    let mended = Arc::new(AtomicBool::new(false));
    let well = mended.clone();
    let fake = Fake::start(Box::new(move |_, _| match well.load(Ordering::SeqCst) {
        true => (200, "application/json", b"{}".to_vec()),
        false => (400, "text/plain", b"no".to_vec()),
    }))
    .await;
    let home = Home::new(BINARY);
    home.config("");
    let gateway = home.start();
    let id = gateway.simple("otel-collector", "refusing", json!({ "endpoint": fake.url() })).await;
    for part in 0..12u64 {
        let spans: Vec<_> = (part * 100..part * 100 + 100).map(|n| generation(n, "x")).collect();
        assert_eq!(gateway.send(request(&spans)).await.0, 200);
    }
    let started = Instant::now();
    while gateway.stats(&id).await["dead_lettered"] != 1200 {
        assert!(started.elapsed() < 4 * PATIENCE, "{:#}", gateway.stats(&id).await);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let list = letters(&gateway, &id, "?limit=1").await;
    let first = &list["data"][0]["id"];
    let path = format!("/observability/destinations/{id}/dead-letters");
    let (status, body) = gateway.api("DELETE", &format!("{path}?id={first}"), None).await;
    assert_eq!((status, &body["data"]["deleted"]), (200, &json!(1)), "{body}");

    mended.store(true, Ordering::SeqCst);
    let (_, body) = gateway.api("POST", &format!("{path}/replay"), Some(&json!({}))).await;
    assert_eq!(body["data"], json!({ "matched": 1199, "requeued": 1000, "waiting": 199 }), "{body}");
    // Asked for again, those that wait are not put in line twice.
    let (_, body) = gateway.api("POST", &format!("{path}/replay"), Some(&json!({}))).await;
    assert_eq!(body["data"]["matched"], 0, "{body}");
    let stats = delivered(&gateway, &id, 1199).await;
    assert_eq!((&stats["requeued"], &stats["dead_letters"]), (&json!(1199), &json!(0)), "{stats:#}");
    let mut ids: Vec<Vec<u8>> = fake.spans().into_iter().map(|s| s.span_id).collect();
    ids.sort();
    ids.dedup();
    assert_eq!((ids.len(), fake.spans().len()), (1199, 1199), "once each");
}

#[tokio::test(flavor = "multi_thread")]
async fn privacy_switched_on_later_holds_for_letters_too() {
    let (fake, mended) = picky(&[1]).await;
    let home = Home::new(BINARY);
    home.config("");
    let gateway = home.start();
    let id = gateway.simple("otel-collector", "private", json!({ "endpoint": fake.url() })).await;
    assert_eq!(gateway.send(request(&[generation(1, "a secret prompt")])).await.0, 200);
    gateway.settled(&id, 1).await;
    let path = format!("/observability/destinations/{id}");
    assert_eq!(gateway.api("PATCH", &path, Some(&json!({ "privacy_mode": true }))).await.0, 200);
    let letter = letters(&gateway, &id, "").await["data"][0]["id"].to_string();
    let one = letters(&gateway, &id, &format!("/{letter}")).await;
    assert!(
        !one.to_string().contains("a secret prompt") && one["data"]["content"].to_string().contains("gpt-4o"),
        "{one}"
    );
    mended.store(true, Ordering::SeqCst);
    let before = fake.requests().len();
    gateway.api("POST", &format!("{path}/dead-letters/replay"), Some(&json!({}))).await;
    delivered(&gateway, &id, 1).await;
    let sent = &fake.requests()[before..];
    assert!(!sent.is_empty());
    for got in sent {
        assert!(!String::from_utf8_lossy(&got.body).contains("a secret prompt"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_destination_gets_the_past_by_its_own_rules() {
    let everything = Fake::start(Box::new(|_, _| (200, "application/json", b"{}".to_vec()))).await;
    let late = Fake::start(Box::new(|_, _| (200, "application/json", b"{}".to_vec()))).await;
    let home = Home::new(BINARY);
    home.config("log: { retain: 1h }\n");
    let gateway = home.start();
    let all = gateway.simple("otel-collector", "all", json!({ "endpoint": everything.url() })).await;
    let mut spans: Vec<_> = (0..20).map(|n| generation(n, "x")).collect();
    for span in spans.iter_mut().skip(10) {
        span.attributes.retain(|(key, _)| key != "gen_ai.request.model");
        span.attributes.push(("gen_ai.request.model".into(), "another-model".into()));
    }
    assert_eq!(gateway.send(request(&spans)).await.0, 200);
    gateway.settled(&all, 20).await;

    // It takes one model only, and all of that though it was not there.
    let rules =
        json!({ "groups": [{ "rules": [{ "field": "model", "operator": "equals", "value": "gpt-4o" }] }] });
    let body = json!({ "type": "otel-collector", "name": "late", "config": { "endpoint": late.url() }, "filter_rules": rules });
    let id = gateway.destination(body).await;
    // The log is what it was: also after a restart.
    assert_eq!(gateway.stop(), 0);
    let gateway = home.start();
    let path = format!("/observability/destinations/{id}/backfill");
    let (status, body) = gateway.api("POST", &path, Some(&json!({ "from": "2026-01-01T00:00:00Z" }))).await;
    assert_eq!(
        (status, &body["data"]["requeued"], &body["data"]["records"]),
        (200, &json!(10), &json!(1)),
        "{body}"
    );
    // It says how far back it could go: not to the time that was asked for.
    assert_eq!(body["data"]["complete"], false, "{body}");
    assert!(body["data"]["oldest_at"].is_string(), "{body}");
    let stats = delivered(&gateway, &id, 10).await;
    assert_eq!(
        (&stats["selected"], &stats["requeued"], &stats["accepted"]),
        (&json!(0), &json!(10), &json!(0))
    );
    let mut ids: Vec<String> = late.spans().iter().map(|s| tracecast_otlp::hex(&s.span_id)).collect();
    ids.sort();
    let mut expected: Vec<String> = (0..10).map(span_id).collect();
    expected.sort();
    assert_eq!(ids, expected);
    // The copies are not taken for the past: asked for again, it is the same record. And of the future there is none.
    let me = Person::new(&home, &gateway);
    let told = me.told(&["destination", "backfill", "late", "--from", "2026-01-01T00:00:00Z"]).await;
    assert_eq!(told, "10 spans sent again, of 1 records\n");
    delivered(&gateway, &id, 20).await;
    let told = me.told(&["destination", "backfill", "late", "--from", "2100-01-01T00:00:00Z"]).await;
    assert_eq!(told, "0 spans sent again, of 0 records\n");
    assert_eq!(everything.spans().len(), 20, "nobody else noticed");
}
