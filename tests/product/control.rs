//! The control API over its port: what a write does to the very next event.

use serde_json::{Value as Json, json};
use tracecast_destination::Kind;
use tracecast_loadkit::sink::{Options, Sink};
use tracecast_tests::process::{Home, INGEST_KEY};
use tracecast_tests::spans::{generation, request};

use crate::BINARY;

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_can_be_configured_and_names_what_it_lacks() {
    let home = Home::new(BINARY);
    home.config("");
    let gateway = home.start();
    for kind in Kind::ALL {
        let body = json!({ "type": kind.as_str(), "name": "x", "config": {} });
        let (status, answer) = gateway.api("POST", "/observability/destinations", Some(&body)).await;
        assert_eq!(status, 400, "{kind}: {answer}");
        let issues = answer["error"]["metadata"]["issues"].as_array().expect("issues").clone();
        let of_config = |issue: &Json| issue["path"].as_str().is_some_and(|path| path.starts_with("config."));
        assert!(!issues.is_empty() && issues.iter().all(of_config), "{kind}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_holds_for_the_next_event_and_survives_a_restart() {
    let home = Home::new(BINARY);
    home.config("");
    let gateway = home.start();
    let sink = Sink::start(([127, 0, 0, 1], 0).into(), Options::default()).await.expect("a sink");
    let url = format!("http://{}", sink.address());
    let body = json!({ "type": "otel-collector", "name": "one", "config": {
        "endpoint": url, "headers": { "authorization": "Bearer very-secret-token" } } });
    let id = gateway.destination(body).await;
    let path = format!("/observability/destinations/{id}");
    assert_eq!(gateway.send(request(&[generation(1, "x")])).await.0, 200);
    assert_eq!(gateway.api("PATCH", &path, Some(&json!({ "enabled": false }))).await.0, 200);
    assert_eq!(gateway.send(request(&[generation(2, "x")])).await.0, 200);
    let (_, shown) = gateway.api("GET", &path, None).await;
    assert!(!shown.to_string().contains("very-secret-token"), "{shown}");
    let mut back = shown["data"].clone();
    back["enabled"] = json!(true);
    assert_eq!(gateway.api("PATCH", &path, Some(&back)).await.0, 200, "a whole GET body is a PATCH");
    assert_eq!(gateway.send(request(&[generation(3, "x")])).await.0, 200);
    let stats = gateway.settled(&id, 2).await;
    assert_eq!(stats["skipped"]["disabled"], 1, "{stats:#}");

    // A key made by the API sends; deleted, it does not.
    let (status, key) = gateway.api("POST", "/keys", Some(&json!({ "name": "app" }))).await;
    assert_eq!(status, 201, "{key}");
    let secret = key["key"].as_str().expect("the plaintext").to_owned();
    let hash = key["data"]["hash"].as_str().expect("a hash").to_owned();
    let client = reqwest::Client::new();
    let post = |secret: String, n: u64| {
        client
            .post(format!("{}/v1/traces", gateway.http))
            .header("content-type", "application/x-protobuf")
            .bearer_auth(secret)
            .body(request(&[generation(n, "x")]))
            .send()
    };
    assert_eq!(post(secret.clone(), 4).await.expect("an answer").status(), 200);
    assert_eq!(gateway.api("DELETE", &format!("/keys/{hash}"), None).await.0, 200);
    assert_eq!(post(secret, 5).await.expect("an answer").status(), 401);
    assert_eq!(gateway.stop(), 0);

    let gateway = home.start();
    let (_, again) = gateway.api("GET", &path, None).await;
    assert_eq!(again["data"]["name"], "one", "{again}");
    assert_eq!(gateway.send(request(&[generation(6, "x")])).await.0, 200);
    let stats = gateway.settled(&id, 4).await;
    assert_eq!(stats["delivered"], 4, "the books go on where they stood: {stats:#}");
    assert_eq!(sink.stats().distinct_ids, 4);
    let (status, deleted) = gateway.api("DELETE", &path, None).await;
    assert_eq!((status, &deleted), (200, &json!({ "deleted": true })));
    assert_eq!(gateway.api("GET", &path, None).await.0, 404);
    let (_, all) = gateway.api("GET", "/observability/stats", None).await;
    let gone = &all["data"]["gateway"]["deleted_destinations"];
    assert_eq!((gone["selected"].as_u64(), gone["delivered"].as_u64()), (Some(4), Some(4)), "{all:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limit_the_loop_and_the_wrong_key_are_refused() {
    let home = Home::new(BINARY);
    home.config("");
    let gateway = home.start();
    let create =
        |name: String, url: String| json!({ "type": "webhook", "name": name, "config": { "url": url } });
    for n in 0..5 {
        gateway.destination(create(format!("w{n}"), format!("http://127.0.0.1:9/{n}"))).await;
    }
    let path = "/observability/destinations";
    let sixth = create("w5".into(), "http://127.0.0.1:9/5".into());
    let (status, answer) = gateway.api("POST", path, Some(&sixth)).await;
    assert_eq!(status, 409, "{answer}");
    let own = json!({ "type": "otel-collector", "name": "self", "config": { "endpoint": gateway.http } });
    let (status, answer) = gateway.api("POST", path, Some(&own)).await;
    assert_eq!(status, 400, "{answer}");
    assert!(answer["error"]["message"].as_str().expect("a message").contains("own listeners"), "{answer}");
    let response = reqwest::Client::new()
        .get(format!("{}/api/v1{path}", gateway.admin))
        .bearer_auth(INGEST_KEY)
        .send()
        .await
        .expect("an answer");
    assert_eq!(response.status(), 403, "an ordinary key never manages");
    let response = reqwest::get(format!("{}/api/v1{path}", gateway.admin)).await.expect("an answer");
    assert_eq!(response.status(), 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_show_the_books() {
    let home = Home::new(BINARY);
    home.config("");
    let gateway = home.start();
    let sink = Sink::start(([127, 0, 0, 1], 0).into(), Options::default()).await.expect("a sink");
    let url = format!("http://{}", sink.address());
    let id = gateway.simple("otel-collector", "one", json!({ "endpoint": url })).await;
    let spans: Vec<_> = (0..7).map(|n| generation(n, "x")).collect();
    assert_eq!(gateway.send(request(&spans)).await.0, 200);
    gateway.settled(&id, 7).await;
    let text = reqwest::get(format!("{}/metrics", gateway.admin))
        .await
        .expect("metrics")
        .text()
        .await
        .expect("text");
    let value = |name: &str| -> f64 {
        let line =
            text.lines().find(|l| l.starts_with(name) && (l.contains(&id) || !l.contains("destination=")));
        let line = line.unwrap_or_else(|| panic!("{name} is missing in:\n{text}"));
        line.rsplit(' ').next().and_then(|v| v.parse().ok()).expect("a number")
    };
    assert_eq!(value("tracecast_events_accepted_total"), 7.0);
    assert_eq!(value("tracecast_destination_selected_total"), 7.0);
    assert_eq!(value("tracecast_destination_delivered_total"), 7.0);
    assert_eq!(value("tracecast_destination_pending_events"), 0.0);
    assert!(text.contains("tracecast_destination_attempts_total{class=\"ok\""), "{text}");
    assert!(text.contains("tracecast_destination_state{"), "{text}");
    assert_eq!(value("tracecast_destination_delivery_latency_seconds_count"), 7.0);
    assert_eq!(value("tracecast_destination_bisect_requests_total"), 0.0);
    assert_eq!(value("tracecast_destination_retry_wait_seconds"), 0.0);
    assert!(text.contains("tracecast_destination_transitions_total{"), "{text}");
}
