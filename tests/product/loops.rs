//! Gateways that lead to one another: the loop is noticed, held and named, and there is no storm.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};
use tracecast_tests::fakes::{Fake, Got};
use tracecast_tests::process::{Gateway, Home, INGEST_KEY, PATIENCE};
use tracecast_tests::spans::{generation, request};

use crate::BINARY;

fn home() -> (Home, Gateway) {
    let home = Home::new(BINARY);
    home.config("");
    let gateway = home.start();
    (home, gateway)
}

async fn forward(from: &Gateway, to: &Gateway, name: &str) -> String {
    let headers = json!({ "authorization": format!("Bearer {INGEST_KEY}") });
    from.simple("otel-collector", name, json!({ "endpoint": to.http, "headers": headers })).await
}

async fn held(gateway: &Gateway, id: &str) -> Json {
    let started = Instant::now();
    loop {
        let stats = gateway.stats(id).await;
        if stats["state"] == "held_config" {
            return stats;
        }
        assert!(started.elapsed() < 3 * PATIENCE, "{stats:#}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_gateways_that_forward_to_each_other_end_in_a_hold_and_no_storm() {
    let (_a, a) = home();
    let (b_home, b) = home();
    let to_b = forward(&a, &b, "to b").await;
    let to_a = forward(&b, &a, "back to a").await;
    assert_eq!(a.send(request(&[generation(1, "x"), generation(2, "x")])).await.0, 200);
    a.settled(&to_b, 2).await;
    let stats = held(&b, &to_a).await;
    assert_eq!(stats["last_error"]["status"], 508, "{stats:#}");
    assert_eq!(
        (&stats["pending"], &stats["delivered"]),
        (&json!(2), &json!(0)),
        "the data is kept: {stats:#}"
    );
    // The state is shown a moment before it is logged.
    let started = Instant::now();
    while !b_home.stderr().contains("back to a") {
        assert!(started.elapsed() < PATIENCE, "the log names the destination:\n{}", b_home.stderr());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Each saw every span once.
    assert_eq!(a.stats(&to_b).await["accepted"], 2);
    assert_eq!(stats["accepted"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_way_is_remembered_across_three_gateways_and_a_restart() {
    let (_a, a) = home();
    let (b_home, b) = home();
    let (_c, c) = home();
    let to_b = forward(&a, &b, "to b").await;
    let to_c = forward(&b, &c, "to c").await;
    // What has come to b waits there while b is restarted.
    assert_eq!(b.api("POST", &format!("/observability/destinations/{to_c}/pause"), None).await.0, 200);
    assert_eq!(a.send(request(&[generation(1, "x")])).await.0, 200);
    a.settled(&to_b, 1).await;
    b.kill();
    let b = b_home.start();
    let to_a = forward(&c, &a, "back to a").await;
    assert_eq!(b.api("POST", &format!("/observability/destinations/{to_c}/resume"), None).await.0, 200);
    b.settled(&to_c, 1).await;
    let stats = held(&c, &to_a).await;
    assert_eq!(stats["last_error"]["status"], 508, "{stats:#}");
    assert_eq!(a.stats(&to_b).await["accepted"], 1, "it did not come in again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_says_which_gateways_it_has_passed() {
    let fake = Fake::start(Box::new(|_, _| (200, "application/json", b"{}".to_vec()))).await;
    let (_home, gateway) = home();
    gateway.simple("otel-collector", "end", json!({ "endpoint": fake.url() })).await;
    let headers = |via: &'static str| [("content-type", "application/x-protobuf"), ("x-tracecast-via", via)];
    let sent = |via: &'static str, n: u64| {
        let gateway = &gateway;
        async move { gateway.post("/v1/traces", &headers(via), request(&[generation(n, "x")])).await.0 }
    };
    assert_eq!(sent("one, two", 1).await, 200);
    assert_eq!(sent("one,two", 2).await, 200);
    assert_eq!(sent("three", 3).await, 200);
    assert_eq!(sent("", 4).await, 200);
    // More than eight is a loop, whoever they are; seven and this one are eight.
    assert_eq!(sent("1,2,3,4,5,6,7,8", 5).await, 508);
    assert_eq!(sent("1,2,3,4,5,6,7", 6).await, 200);
    let started = Instant::now();
    while fake.spans().len() < 5 {
        assert!(started.elapsed() < PATIENCE, "{} spans", fake.spans().len());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut ways: Vec<(String, usize)> = Vec::new();
    let mut own = String::new();
    for got in fake.requests() {
        let via = got.headers["x-tracecast-via"].to_str().expect("text").to_owned();
        let (first, rest) = via.split_once(", ").unwrap_or((&via, ""));
        assert!(own.is_empty() || own == first, "{own} {first}");
        own = first.to_owned();
        let spans = tracecast_tests::fakes::decode(&got).expect("OTLP").len();
        match ways.iter_mut().find(|(way, _)| way == rest) {
            Some((_, n)) => *n += spans,
            None => ways.push((rest.to_owned(), spans)),
        }
    }
    ways.sort();
    let expected = [("", 1), ("1, 2, 3, 4, 5, 6, 7", 1), ("one, two", 2), ("three", 1)];
    assert_eq!(ways, expected.map(|(way, n)| (way.to_owned(), n)));
    // Its own name comes back: refused.
    let body = request(&[generation(7, "x")]);
    let via = format!("x, {own}");
    let (status, _) = gateway
        .post("/v1/traces", &[("content-type", "application/x-protobuf"), ("x-tracecast-via", &via)], body)
        .await;
    assert_eq!(status, 508);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_again_says_so_too() {
    let mended = Arc::new(AtomicBool::new(false));
    let is_mended = mended.clone();
    let judge = move |_: usize, _: &Got| match is_mended.load(Ordering::SeqCst) {
        true => (200, "application/json", b"{}".to_vec()),
        false => (400, "text/plain", b"not now".to_vec()),
    };
    let fake = Fake::start(Box::new(judge)).await;
    let home = Home::new(BINARY);
    home.config("log: { retain: 1h }\n");
    let gateway = home.start();
    let id = gateway.simple("otel-collector", "end", json!({ "endpoint": fake.url() })).await;
    let headers = [("content-type", "application/x-protobuf"), ("x-tracecast-via", "one, two")];
    let (status, _) = gateway.post("/v1/traces", &headers, request(&[generation(1, "x")])).await;
    assert_eq!(status, 200);
    assert_eq!(gateway.settled(&id, 1).await["dead_lettered"], 1);
    mended.store(true, Ordering::SeqCst);
    // A letter is read after a restart as before it.
    assert_eq!(gateway.stop(), 0);
    let gateway = home.start();
    let path = format!("/observability/destinations/{id}");
    for (again, body) in
        [("dead-letters/replay", json!({})), ("backfill", json!({ "from": "2026-01-01T00:00:00Z" }))]
    {
        let before = fake.requests().len();
        let (status, answer) = gateway.api("POST", &format!("{path}/{again}"), Some(&body)).await;
        assert_eq!((status, &answer["data"]["requeued"]), (200, &json!(1)), "{again}: {answer}");
        let sent = fake.wait_for(before + 1).await.swap_remove(before);
        let via = sent.headers["x-tracecast-via"].to_str().expect("text");
        assert!(via.ends_with(", one, two"), "{again}: {via}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_own_listener_is_no_destination() {
    let (home, gateway) = home();
    for url in [&gateway.http, &gateway.admin, &gateway.http.replace("127.0.0.1", "localhost")] {
        let body =
            json!({ "type": "webhook", "name": "self", "config": { "url": format!("{url}/v1/traces") } });
        for path in ["/observability/destinations", "/observability/destinations/test"] {
            let (status, answer) = gateway.api("POST", path, Some(&body)).await;
            assert_eq!(status, 400, "{answer}");
            assert!(answer.to_string().contains("own listeners"), "{answer}");
        }
    }
    let text = "destinations:\n  - { name: self, type: webhook, config: { url: \"http://127.0.0.1:4318/v1/traces\" } }\n";
    std::fs::write(home.path().join("self.yaml"), text).expect("it can be written");
    let checked = home.command(&["check", "--config", "self.yaml"]).output().expect("it runs");
    assert_eq!(checked.status.code(), Some(64));
    assert!(String::from_utf8_lossy(&checked.stderr).contains("own listeners"));
}
