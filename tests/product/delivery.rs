//! One span through everything, to each kind of destination, by each way in.

use serde_json::json;
use tracecast_loadkit::sink::{Options, Sink};
use tracecast_loadkit::standin::Role;
use tracecast_tests::fakes::{Fake, attribute, langfuse, webhook};
use tracecast_tests::process::Home;
use tracecast_tests::spans::{generation, request, span_id};

use crate::BINARY;

#[tokio::test(flavor = "multi_thread")]
async fn one_otlp_span_reaches_a_webhook() {
    let fake = Fake::start(webhook()).await;
    let home = Home::new(BINARY);
    home.config("");
    let gateway = home.start();
    let id = gateway.simple("webhook", "hook", json!({ "url": format!("{}/hook", fake.url()) })).await;
    assert_eq!(gateway.send(request(&[generation(1, "hello")])).await.0, 200);
    gateway.settled(&id, 1).await;
    let got = fake.wait_for(1).await;
    assert_eq!(got[0].path, "/hook");
    assert_eq!(got[0].headers["content-type"], "application/json");
    let spans = fake.spans();
    assert_eq!(tracecast_otlp::hex(&spans[0].span_id), span_id(1));
    assert_eq!(attribute(&spans[0], "gen_ai.request.model").as_deref(), Some("gpt-4o"));
}

#[tokio::test(flavor = "multi_thread")]
async fn langfuse_accepts_every_span_with_its_names_usage_and_cost() {
    let fake = Fake::start(langfuse("pk-lf-tests-0001", "sk-lf-tests-0001")).await;
    let home = Home::new(BINARY);
    home.config("");
    let gateway = home.start();
    let config =
        |secret: &str| json!({ "publicKey": "pk-lf-tests-0001", "secretKey": secret, "baseUrl": fake.url() });
    let body = json!({ "type": "langfuse", "name": "lf", "config": config("wrong-secret-key") });
    let (_, test) = gateway.api("POST", "/observability/destinations/test", Some(&body)).await;
    assert_eq!(
        (test["data"]["diagnosis"].as_str(), test["data"]["status"].as_u64()),
        (Some("auth"), Some(401)),
        "{test}"
    );
    let id = gateway.simple("langfuse", "lf", config("sk-lf-tests-0001")).await;
    let (_, test) = gateway.api("POST", &format!("/observability/destinations/{id}/test"), None).await;
    assert_eq!(test["data"]["ok"], true, "{test}");

    // OpenRouter's own cost keys would be counted as tokens by Langfuse.
    let mut span = generation(1, "hello");
    span.attributes.push(("gen_ai.usage.total_cost".into(), 0.00125.into()));
    assert_eq!(gateway.send(request(&[span, generation(2, "hello")])).await.0, 200);
    gateway.settled(&id, 2).await;
    let spans = fake.spans();
    assert_eq!(spans.len(), 2);
    for span in &spans {
        assert_eq!(attribute(span, "langfuse.observation.type").as_deref(), Some("generation"));
        let usage = attribute(span, "langfuse.observation.usage_details").expect("usage");
        let usage: serde_json::Value = serde_json::from_str(&usage).expect("usage is JSON");
        assert_eq!((usage["input"].as_u64(), usage["output"].as_u64()), (Some(40), Some(12)), "{usage}");
        let cost = attribute(span, "langfuse.observation.cost_details").expect("cost");
        let cost: serde_json::Value = serde_json::from_str(&cost).expect("cost is JSON");
        assert_eq!(cost["total"], 0.00125);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_in_reaches_every_kind() {
    let roles = [
        ("otel-collector", Role::Collector),
        ("webhook", Role::Collector),
        ("langfuse", Role::Langfuse),
        ("s3", Role::S3),
        ("clickhouse", Role::Clickhouse),
    ];
    let home = Home::new(BINARY);
    home.config("");
    let gateway = home.start();
    let mut destinations = Vec::new();
    for (kind, role) in roles {
        let options = Options { role, ..Options::default() };
        let sink = Sink::start(([127, 0, 0, 1], 0).into(), options).await.expect("a sink");
        let url = format!("http://{}", sink.address());
        let config = match kind {
            "otel-collector" => json!({ "endpoint": url }),
            "webhook" => json!({ "url": format!("{url}/"), "method": "PUT" }),
            "langfuse" => json!({ "publicKey": "pk-lf-tests-0001", "secretKey": "sk", "baseUrl": url }),
            "s3" => json!({ "bucketName": "b", "endpoint": url, "provider": "other", "accessKeyId": "AKIA",
                            "secretAccessKey": "secret" }),
            _ => json!({ "host": url, "database": "d", "username": "u", "password": "p" }),
        };
        destinations.push((kind, gateway.simple(kind, kind, config).await, sink));
    }
    // OTLP protobuf, the Langfuse path, OTLP JSON, JSON events.
    assert_eq!(gateway.send(request(&[generation(1, "a"), generation(2, "b")])).await.0, 200);
    let protobuf = [("content-type", "application/x-protobuf")];
    let (status, _) =
        gateway.post("/api/public/otel/v1/traces", &protobuf, request(&[generation(3, "c")])).await;
    assert_eq!(status, 200);
    let otlp_json = json!({ "resourceSpans": [{ "scopeSpans": [{ "spans": [{
        "traceId": "5b8efff798038103d269b633813fc60c", "spanId": "eee19b7ec3c1b174", "name": "chat",
        "startTimeUnixNano": "1760000000000000000", "endTimeUnixNano": "1760000001000000000",
        "attributes": [{ "key": "gen_ai.request.model", "value": { "stringValue": "gpt-4o" } }] }]}]}]});
    let json_type = [("content-type", "application/json")];
    let (status, _) = gateway.post("/v1/traces", &json_type, otlp_json.to_string().into_bytes()).await;
    assert_eq!(status, 200);
    let event =
        json!({ "model": "gpt-4o", "input": "hello", "output": "hi", "usage": { "prompt_tokens": 3 } });
    let (status, answer) = gateway.post("/v1/events", &json_type, event.to_string().into_bytes()).await;
    let answer: serde_json::Value = serde_json::from_slice(&answer).expect("JSON");
    assert_eq!(status, 200, "{answer}");
    let total = 4 + answer["spans"].as_u64().expect("spans");
    for (kind, id, sink) in &destinations {
        let stats = gateway.settled(id, total).await;
        assert_eq!(stats["delivered"].as_u64(), Some(total), "{kind}: {stats:#}");
        assert_eq!(sink.stats().distinct_ids, total, "{kind}: {:?}", sink.stats());
        assert_eq!(sink.stats().duplicates, 0, "{kind}");
        assert_eq!(sink.stats().unreadable_requests, 0, "{kind}");
    }
}
