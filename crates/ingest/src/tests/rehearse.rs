//! A rehearsal says what the real way would do, and leaves no trace.

use serde_json::json;

use super::*;
use crate::Mistake;

fn plan(more: Json) -> Plan {
    Plan::compile(true, &[(0, destination(DEFAULT_WORKSPACE_ID, "d", more))]).unwrap()
}

#[tokio::test]
async fn nothing_is_kept_counted_or_remembered() {
    let bench = bench(Options::default());
    let record = json!({ "model": "m", "input": "hello", "cost": 1.0, "api_key_hash": "ab".repeat(32) });
    let rehearsal = bench.ingest.rehearse(&record, DEFAULT_WORKSPACE_ID, &plan(json!({}))).unwrap();
    assert_eq!((rehearsal.spans, rehearsal.explanations.len()), (1, 1));
    let payload = rehearsal.payload.unwrap();
    assert_eq!(payload.spans(), 1);
    assert!(String::from_utf8_lossy(payload.bytes()).contains("hello"));
    assert_eq!((bench.log.accepted(), bench.ingest.counters().requests()), (0, 0));
    assert_eq!(bench.ingest.take_usage(), []);
}

#[tokio::test]
async fn it_takes_the_way_of_a_real_request() {
    let bench = bench(Options::default());
    let private = plan(json!({ "privacy_mode": true, "api_key_hashes": ["ab".repeat(32)] }));
    let otlp = |attributes: Json| {
        json!({ "resourceSpans": [{ "scopeSpans": [{ "spans": [{
            "traceId": "5b8efff798038103d269b633813fc60c", "spanId": "eee19b7ec3c1b174", "name": "a",
            "attributes": attributes,
        }]}]}]})
    };
    let text = |key: &str, value: &str| json!({ "key": key, "value": { "stringValue": value } });
    let hash = "ab".repeat(32);
    let image = format!("data:image/png;base64,{}", "iVBORw0KGgo".repeat(40));
    let event = otlp(json!([
        text("gen_ai.prompt", "a secret question"),
        text("gen_ai.request.model", "m"),
        text("tracecast.api_key_hash", &hash),
    ]));
    let rehearsal = bench.ingest.rehearse(&event, DEFAULT_WORKSPACE_ID, &private).unwrap();
    let payload = rehearsal.payload.unwrap();
    let kept = String::from_utf8_lossy(payload.bytes()).into_owned();
    assert!(kept.contains("gen_ai.request.model") && !kept.contains("a secret question"), "{kept}");

    // Without the key the allowlist stops it.
    let keyless = otlp(json!([text("gen_ai.request.model", "m")]));
    let rehearsal = bench.ingest.rehearse(&keyless, DEFAULT_WORKSPACE_ID, &private).unwrap();
    assert!(rehearsal.payload.is_none());
    assert_eq!(rehearsal.explanations[0].selected, 0);
    assert!(rehearsal.explanations[0].first_failure().unwrap().starts_with("api_key_hashes"));

    let media = otlp(json!([text("gen_ai.prompt", &image), text("gen_ai.request.model", "m")]));
    let rehearsal = bench.ingest.rehearse(&media, DEFAULT_WORKSPACE_ID, &plan(json!({}))).unwrap();
    assert!(!String::from_utf8_lossy(rehearsal.payload.unwrap().bytes()).contains("iVBORw0KGgoiVBOR"));

    let elsewhere = json!({ "model": "m", "workspace_id": OTHER_WORKSPACE });
    let rehearsal = bench.ingest.rehearse(&elsewhere, DEFAULT_WORKSPACE_ID, &plan(json!({}))).unwrap();
    assert_eq!(rehearsal.workspace, OTHER_WORKSPACE);
}

#[tokio::test]
async fn what_would_be_refused_is_an_error() {
    let bench = bench(Options::default());
    let refused = |event: Json| -> Vec<Mistake> {
        bench.ingest.rehearse(&event, DEFAULT_WORKSPACE_ID, &plan(json!({}))).unwrap_err()
    };
    let bad_span =
        json!({ "resourceSpans": [{ "scopeSpans": [{ "spans": [{ "traceId": "zz", "name": "a" }]}]}]});
    for (event, path, why) in [
        (json!({}), "", "model"),
        (json!([]), "", "empty"),
        (json!({ "resourceSpans": [] }), "", "no span"),
        (bad_span, "resourceSpans[0].scopeSpans[0].spans[0].traceId", ""),
        (json!({ "model": "m", "cost": "much" }), "cost", "USD"),
        (json!({ "model": "m", "region": "mars" }), "", "tracecast.region"),
        (json!({ "model": "m", "workspace_id": "nobody" }), "", "unknown workspace"),
        (json!({ "model": "m", "api_key_hash": "xy" }), "", "64"),
    ] {
        let mistakes = refused(event.clone());
        let told = mistakes.iter().any(|m| m.path == path && m.message.contains(why));
        assert!(told, "{event}: {mistakes:?}");
    }
}
