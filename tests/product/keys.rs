//! Keys over the ports: what they spend, their limits, and the borders between workspaces.

use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};
use tracecast_otlp::write::OwnedValue;
use tracecast_tests::fakes::{Fake, attribute};
use tracecast_tests::process::{Gateway, Home, INGEST_KEY, PATIENCE};
use tracecast_tests::spans::{generation, request};

use crate::BINARY;

const COST: f64 = 0.001_25;

/// A key made by the API: the secret and its path.
async fn create_key(gateway: &Gateway, body: Json) -> (String, String) {
    let (status, answer) = gateway.api("POST", "/keys", Some(&body)).await;
    assert_eq!(status, 201, "{answer}");
    let text = |value: &Json| value.as_str().expect("a string").to_owned();
    (text(&answer["key"]), format!("/keys/{}", text(&answer["data"]["hash"])))
}

/// Sends a body with this key; the status.
async fn send(gateway: &Gateway, secret: &str, path: &str, body: Vec<u8>) -> u16 {
    let content_type = if path == "/v1/events" { "application/json" } else { "application/x-protobuf" };
    let response = reqwest::Client::new()
        .post(format!("{}{path}", gateway.http))
        .header("content-type", content_type)
        .bearer_auth(secret)
        .body(body)
        .send()
        .await
        .expect("the ingest listener answers");
    response.status().as_u16()
}

/// The key once `done` holds of it.
async fn key_when(gateway: &Gateway, path: &str, done: impl Fn(&Json) -> bool) -> Json {
    let started = Instant::now();
    loop {
        let (status, answer) = gateway.api("GET", path, None).await;
        assert_eq!(status, 200, "{answer}");
        if done(&answer["data"]) {
            return answer["data"].clone();
        }
        assert!(started.elapsed() < PATIENCE, "{answer:#}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A receiver that takes everything.
async fn taker() -> Fake {
    Fake::start(Box::new(|_, _| (200, "application/json", b"{}".to_vec()))).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_key_spends_is_counted_shown_and_kept() {
    let home = Home::new(BINARY);
    home.config("");
    let gateway = home.start();
    let (secret, path) = create_key(&gateway, json!({ "name": "app", "limit": 1 })).await;
    let spans: Vec<_> = (0..8).map(|n| generation(n, "x")).collect();
    assert_eq!(send(&gateway, &secret, "/v1/traces", request(&spans)).await, 200);
    let record = json!({ "model": "m", "input": "x", "cost": 0.5, "attempts": [
        { "provider": "P", "status_code": 200, "is_byok": true },
    ]});
    assert_eq!(send(&gateway, &secret, "/v1/events", record.to_string().into()).await, 200);
    let key = key_when(&gateway, &path, |key| key["byok_usage"] == 0.5).await;
    for window in ["usage", "usage_daily", "usage_weekly", "usage_monthly"] {
        assert_eq!(key[window], 8.0 * COST, "{key:#}");
        assert_eq!(key[format!("byok_{window}")], 0.5, "{key:#}");
    }
    assert_eq!(key["limit_remaining"], 0.99);
    assert!(key["last_used_at"].is_string(), "{key:#}");
    let (_, list) = gateway.api("GET", "/keys", None).await;
    let file_key = list["data"].as_array().expect("keys").iter().find(|k| k["name"] == "tests").expect("it");
    assert_eq!((&file_key["usage"], &file_key["last_used_at"]), (&json!(0.0), &Json::Null));
    let file_path = format!("/keys/{}", file_key["hash"].as_str().expect("a hash"));

    // What is acknowledged right before the stop is counted as well.
    assert_eq!(gateway.send(request(&[generation(9, "x")])).await.0, 200);
    assert_eq!(gateway.stop(), 0);
    let gateway = home.start();
    let (_, again) = gateway.api("GET", &path, None).await;
    assert_eq!(again["data"], key);
    let (_, file_key) = gateway.api("GET", &file_path, None).await;
    assert_eq!(file_key["data"]["usage"], COST, "{file_key:#}");

    // And goes on where it stood; what is refused costs nothing.
    let mut bad = generation(10, "x");
    bad.trace_id = [0; 16];
    assert_eq!(send(&gateway, &secret, "/v1/traces", request(&[generation(11, "x"), bad])).await, 200);
    let key = key_when(&gateway, &path, |key| key["usage"].as_f64() > Some(8.0 * COST)).await;
    assert_eq!(key["usage"], 9.0 * COST);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_over_the_limit_arrives_marked() {
    let home = Home::new(BINARY);
    home.config("");
    let gateway = home.start();
    let taker = taker().await;
    let url = taker.url();
    let plain = gateway.simple("otel-collector", "plain", json!({ "endpoint": url.clone() })).await;
    let private =
        json!({ "type": "webhook", "name": "private", "privacy_mode": true, "config": { "url": url } });
    let private = gateway.destination(private).await;
    let (secret, path) =
        create_key(&gateway, json!({ "name": "app", "limit": 0.002, "limit_reset": "daily" })).await;
    let mark = |n: u64| -> Option<Vec<Option<String>>> {
        let id = (n | 1 << 60).to_be_bytes();
        let found: Vec<_> = taker.spans().into_iter().filter(|span| span.span_id == id).collect();
        // By both destinations.
        (found.len() == 2)
            .then(|| found.iter().map(|span| attribute(span, "tracecast.budget.exceeded")).collect())
    };
    let arrived = async |n: u64| {
        let started = Instant::now();
        loop {
            if let Some(marks) = mark(n) {
                return marks;
            }
            assert!(started.elapsed() < PATIENCE, "{n} does not arrive");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert_eq!(send(&gateway, &secret, "/v1/traces", request(&[generation(0, "x")])).await, 200);
    assert_eq!(arrived(0).await, [None, None]);
    assert_eq!(send(&gateway, &secret, "/v1/traces", request(&[generation(1, "x")])).await, 200);
    let key = key_when(&gateway, &path, |key| key["limit_remaining"].as_f64() <= Some(0.0)).await;
    assert_eq!(key["limit_remaining"], -0.0005, "{key:#}");
    // The mark follows within moments.
    let started = Instant::now();
    let mut sent = 2;
    loop {
        assert_eq!(send(&gateway, &secret, "/v1/traces", request(&[generation(sent, "x")])).await, 200);
        let marks = arrived(sent).await;
        sent += 1;
        if marks == [Some("key_limit".to_owned()), Some("key_limit".to_owned())] {
            break;
        }
        assert!(started.elapsed() < PATIENCE, "no mark comes");
    }
    // Another key's events are not marked, and a raised limit ends it with the write.
    assert_eq!(send(&gateway, INGEST_KEY, "/v1/traces", request(&[generation(100, "x")])).await, 200);
    assert_eq!(arrived(100).await, [None, None]);
    assert_eq!(gateway.api("PATCH", &path, Some(&json!({ "limit": 1 }))).await.0, 200);
    assert_eq!(send(&gateway, &secret, "/v1/traces", request(&[generation(101, "x")])).await, 200);
    assert_eq!(arrived(101).await, [None, None]);
    for id in [&plain, &private] {
        gateway.settled(id, sent + 2).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_event_crosses_the_border_of_its_workspace() {
    let home = Home::new(BINARY);
    home.config("");
    let gateway = home.start();
    let mut workspaces = Vec::new();
    for slug in ["a", "b"] {
        let (status, made) =
            gateway.api("POST", "/workspaces", Some(&json!({ "name": slug, "slug": slug }))).await;
        assert_eq!(status, 201, "{made}");
        let workspace = made["data"]["id"].as_str().expect("an id").to_owned();
        let fake = taker().await;
        let id = gateway
            .destination(json!({ "type": "otel-collector", "name": slug, "workspace_id": workspace,
                                 "config": { "endpoint": fake.url() } }))
            .await;
        let key = async |can_assert: &str| {
            let body =
                json!({ "name": can_assert, "workspace_id": workspace, "can_assert_identity": can_assert });
            create_key(&gateway, body).await
        };
        let keys = [key("none").await, key("own_workspace").await, key("any_workspace").await];
        workspaces.push((workspace, fake, id, keys));
    }
    let [(a, fake_a, id_a, keys_a), (b, fake_b, id_b, keys_b)] = &workspaces[..] else { panic!("two") };
    let stating = |n: u64, workspace: &str| {
        let mut span = generation(n, "x");
        span.attributes.push(("tracecast.workspace_id".into(), OwnedValue::from(workspace)));
        request(&[span])
    };
    let event = |n: u64, workspace: &str| {
        json!({ "id": format!("event-{n}"), "model": "m", "input": "x", "workspace_id": workspace })
            .to_string()
            .into_bytes()
    };
    let [none, own, any] = keys_a;
    // By key.
    assert_eq!(send(&gateway, &none.0, "/v1/traces", request(&[generation(1, "x")])).await, 200);
    assert_eq!(send(&gateway, &keys_b[0].0, "/v1/traces", request(&[generation(2, "x")])).await, 200);
    // Stated without the right: the key's own. Not allowed: refused. Allowed: there and only there.
    assert_eq!(send(&gateway, &none.0, "/v1/traces", stating(3, b)).await, 200);
    assert_eq!(send(&gateway, &none.0, "/v1/events", event(4, b)).await, 200);
    assert_eq!(send(&gateway, &own.0, "/v1/traces", stating(5, b)).await, 400);
    assert_eq!(send(&gateway, &own.0, "/v1/events", event(6, b)).await, 400);
    assert_eq!(send(&gateway, &own.0, "/v1/traces", stating(7, a)).await, 200);
    assert_eq!(send(&gateway, &any.0, "/v1/traces", stating(8, b)).await, 200);
    assert_eq!(send(&gateway, &any.0, "/v1/events", event(9, b)).await, 200);
    // What does not exist never falls back to where the key is.
    let nowhere = "019a0000-0000-7000-8000-000000000000";
    assert_eq!(send(&gateway, &any.0, "/v1/traces", stating(10, nowhere)).await, 400);
    // A moved key: its next event.
    assert_eq!(gateway.api("PATCH", &none.1, Some(&json!({ "workspace_id": b }))).await.0, 200);
    assert_eq!(send(&gateway, &none.0, "/v1/traces", request(&[generation(11, "x")])).await, 200);
    // An own-workspace key may not follow it.
    assert_eq!(send(&gateway, &own.0, "/v1/traces", stating(12, b)).await, 400);

    gateway.settled(id_a, 4).await;
    gateway.settled(id_b, 4).await;
    let numbers = |fake: &Fake| {
        let mut found: Vec<u64> = fake
            .spans()
            .iter()
            .filter_map(|span| Some(u64::from_be_bytes(span.span_id.clone().try_into().ok()?) & !(1 << 60)))
            .filter(|n| *n < 100)
            .collect();
        found.sort_unstable();
        found
    };
    assert_eq!((numbers(fake_a), fake_a.spans().len()), (vec![1, 3, 7], 4));
    assert_eq!((numbers(fake_b), fake_b.spans().len()), (vec![2, 8, 11], 4));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preview_shows_decisions_and_requests_and_sends_nothing() {
    const SECRET: &str = "preview-secret-canary-0001";
    let home = Home::new(BINARY);
    home.config("");
    let gateway = home.start();
    let fake = taker().await;
    let url = fake.url();
    let headers = json!({ "x-custom-auth": SECRET, "authorization": format!("Bearer {SECRET}") });
    let kinds = [
        ("otel-collector", json!({ "endpoint": url, "headers": headers })),
        ("webhook", json!({ "url": url, "headers": headers })),
        ("langfuse", json!({ "publicKey": "pk-lf-preview-0001", "secretKey": SECRET, "baseUrl": url })),
        (
            "clickhouse",
            json!({ "host": url, "database": "default", "username": "default", "password": SECRET }),
        ),
        (
            "s3",
            json!({ "bucketName": "traces-bucket", "accessKeyId": "AKIDPREVIEW0001", "secretAccessKey": SECRET,
                    "region": "eu-central-1" }),
        ),
    ];
    let path = "/observability/destinations/preview";
    for (kind, config) in &kinds {
        // The sample is one that the sampling keeps, and of a key and a region the destination takes.
        let mut body = json!({ "type": kind, "name": "p", "config": config, "sampling_rate": 0.1,
            "regions": ["europe"], "api_key_hashes": ["ab".repeat(32)] });
        let (status, answer) = gateway.api("POST", path, Some(&body)).await;
        assert_eq!(status, 200, "{kind}: {answer}");
        let data = &answer["data"];
        assert!(data["selected"].as_u64() >= Some(1), "{kind}: {data:#}");
        let decisions = data["decisions"].as_array().expect("decisions");
        assert!(decisions.iter().all(|d| d["passed"] == true && d["text"].is_string()), "{kind}: {data:#}");
        assert!(decisions.iter().any(|d| d["rule"] == "enabled"), "{kind}: {data:#}");
        let requests = data["requests"].as_array().expect("requests");
        assert!(!requests.is_empty(), "{kind}: {data:#}");
        for request in requests {
            assert!(["POST", "PUT"].contains(&request["method"].as_str().unwrap_or_default()), "{request:#}");
            assert!(request["url"].as_str().is_some_and(|url| url.starts_with("http")), "{request:#}");
            assert!(request["headers"].is_object() && request["json"].is_object(), "{request:#}");
            let body = request["body"].as_str().expect("a body");
            match request["body_encoding"].as_str() {
                Some("text") => {
                    let read: Json = serde_json::from_str(body).expect("a JSON body");
                    assert_eq!(read, request["json"]);
                }
                Some("base64") => {
                    use base64::Engine as _;
                    let bytes = base64::engine::general_purpose::STANDARD.decode(body).expect("base64");
                    assert!(bytes.windows(6).any(|w| w == b"gpt-4o"), "{request:#}");
                }
                other => panic!("{other:?}"),
            }
        }
        let shown = data.to_string();
        assert!(shown.contains("gpt-4o") && shown.contains("Paris"), "{kind}: {data:#}");
        assert!(!shown.contains(SECRET), "{kind}: {data:#}");

        // The same of a stored one, with an event of one's own that a rule stops.
        for field in ["sampling_rate", "regions", "api_key_hashes"] {
            body.as_object_mut().expect("an object").remove(field);
        }
        body["filter_rules"] = json!({ "groups": [{ "rules": [{ "field": "model", "operator": "equals", "value": "other" }] }] });
        body["privacy_mode"] = json!(true);
        let id = gateway.destination(body).await;
        let event = |model: &str| json!({ "model": model, "input": "private question", "cost": 0.5 });
        let asked = json!({ "id": id, "event": event("mine") });
        let (status, answer) = gateway.api("POST", path, Some(&asked)).await;
        assert_eq!(status, 200, "{kind}: {answer}");
        let data = &answer["data"];
        assert_eq!((&data["selected"], &data["requests"]), (&json!(0), &json!([])), "{kind}: {data:#}");
        assert_eq!(data["skipped"], json!({ "filter": 1 }), "{kind}: {data:#}");
        let failed: Vec<_> = data["decisions"]
            .as_array()
            .expect("decisions")
            .iter()
            .filter(|decision| decision["passed"] == false)
            .map(|decision| (decision["rule"].clone(), decision["text"].clone()))
            .collect();
        assert_eq!(
            failed,
            [(json!("filter_rules.groups[0].rules[0]"), json!("model equals \"other\" is false"))]
        );
        let asked = json!({ "id": id, "event": event("other") });
        let (_, answer) = gateway.api("POST", path, Some(&asked)).await;
        assert_eq!(answer["data"]["selected"], 1, "{kind}: {answer:#}");
        let shown = answer.to_string();
        assert!(shown.contains("other") && !shown.contains("private question"), "{kind}: {answer:#}");
        assert!(!shown.contains(SECRET), "{kind}: {answer:#}");
        let stats = gateway.stats(&id).await;
        assert_eq!((&stats["accepted"], &stats["selected"]), (&json!(0), &json!(0)), "{kind}: {stats:#}");
    }
    let bad =
        json!({ "type": "webhook", "name": "p", "config": { "url": url }, "event": { "cost": "much" } });
    let (status, answer) = gateway.api("POST", path, Some(&bad)).await;
    assert_eq!(status, 400, "{answer}");
    assert!(
        answer["error"]["metadata"]["issues"][0]["path"].as_str().is_some_and(|p| p.starts_with("event"))
    );
    assert_eq!(fake.requests().len(), 0, "nothing was sent");
    assert_eq!(gateway.stop(), 0);
    assert!(!home.stderr().contains(SECRET));
}
