//! Spoofed identities by every way in: they reach nobody, and nobody is charged for them.

use serde_json::{Value as Json, json};
use tracecast_otlp::write::resource_spans;

use super::*;

/// How a request comes in.
#[derive(Clone, Copy, Debug)]
enum Way {
    Protobuf,
    Json,
    Grpc,
    Events,
}

/// Where it states the identity. Records of `/v1/events` have one place only.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    Span,
    Resource,
}

const WAYS: [(Way, Place); 7] = [
    (Way::Protobuf, Place::Span),
    (Way::Protobuf, Place::Resource),
    (Way::Json, Place::Span),
    (Way::Json, Place::Resource),
    (Way::Grpc, Place::Span),
    (Way::Grpc, Place::Resource),
    (Way::Events, Place::Span),
];

fn body(way: Way, place: Place, stated: &[(&str, &str)]) -> Vec<u8> {
    let model = ("gen_ai.request.model", "m");
    let on_span: Vec<_> = if place == Place::Span { stated.to_vec() } else { Vec::new() };
    let on_resource: Vec<_> = if place == Place::Resource { stated.to_vec() } else { Vec::new() };
    match way {
        Way::Protobuf | Way::Grpc => {
            let resource: Vec<_> =
                on_resource.iter().map(|(k, v)| ((*k).to_owned(), OwnedValue::from(*v))).collect();
            let mut out = Vec::new();
            resource_spans(&resource, "scope", "1", &[span(1, &on_span)], &mut out);
            out
        }
        Way::Json => {
            let attributes = |pairs: &[(&str, &str)]| -> Json {
                let pairs = pairs.iter().map(|(k, v)| json!({ "key": k, "value": { "stringValue": v } }));
                pairs.collect()
            };
            let all: Vec<_> = on_span.iter().chain([&model]).copied().collect();
            json!({ "resourceSpans": [{
                "resource": { "attributes": attributes(&on_resource) },
                "scopeSpans": [{ "spans": [{
                    "traceId": "5b8efff798038103d269b633813fc60c", "spanId": "eee19b7ec3c1b174", "name": "a",
                    "attributes": attributes(&all),
                }]}],
            }]})
            .to_string()
            .into()
        }
        Way::Events => {
            let mut record = json!({ "model": "m", "input": "hello" });
            for (key, value) in stated {
                record[key.trim_start_matches("tracecast.").trim_start_matches("openrouter.")] =
                    (*value).into();
            }
            record.to_string().into()
        }
    }
}

/// Sends it with a key; whether it was taken.
async fn send(bench: &Bench, way: Way, secret: &str, body: Vec<u8>) -> bool {
    let authorization = format!("Bearer {secret}");
    let key = ("authorization", authorization.as_str());
    match way {
        Way::Grpc => grpc(bench, &[key], grpc_frame(&body, false)).await.0 == 0,
        Way::Protobuf => bench.otlp(&[key], body).await.status == StatusCode::OK,
        Way::Json | Way::Events => {
            let path = if matches!(way, Way::Json) { "/v1/traces" } else { "/v1/events" };
            bench.send(path, &[("content-type", "application/json"), key], body).await.status
                == StatusCode::OK
        }
    }
}

#[tokio::test]
async fn a_spoofed_hash_reaches_no_destination_of_that_key() {
    let hash = tracecast_otlp::hex(&Sha256::digest(KEY.as_bytes()));
    for (way, place) in WAYS {
        for name in ["tracecast.api_key_hash", "openrouter.api_key_hash"] {
            let bench = bench(Options::default());
            bench.change_key(GATEWAY_KEY, |key| key.can_assert = CanAssert::None);
            if matches!(way, Way::Events) && name.starts_with("openrouter") {
                continue;
            }
            let spoof = body(way, place, &[(name, &hash)]);
            assert!(send(&bench, way, GATEWAY_KEY, spoof).await, "{way:?} {place:?}: never an error");
            assert_eq!(bench.selected(), [1, 0, 0], "{way:?} {place:?} {name}");
            assert_eq!(bench.ingest.counters().identity_ignored(), 1, "{way:?} {place:?}");
            let charged: Vec<_> = bench.ingest.take_usage().into_iter().map(|usage| usage.hash).collect();
            assert_eq!(charged, [<[u8; 32]>::from(Sha256::digest(GATEWAY_KEY.as_bytes()))]);
        }
    }
}

#[tokio::test]
async fn a_spoofed_workspace_reaches_no_destination_of_that_workspace() {
    let other = OTHER_WORKSPACE.to_string();
    for (way, place) in WAYS {
        let spoof = || body(way, place, &[("tracecast.workspace_id", &other)]);
        let bench = bench(Options::default());
        assert!(send(&bench, way, KEY, spoof()).await, "{way:?} {place:?}");
        assert_eq!(bench.selected(), [1, 1, 0], "without the right: its own workspace, {way:?} {place:?}");
        assert_eq!(bench.ingest.counters().identity_ignored(), 1, "{way:?} {place:?}");

        bench.change_key(KEY, |key| key.can_assert = CanAssert::OwnWorkspace);
        assert!(!send(&bench, way, KEY, spoof()).await, "refused, no fall back: {way:?} {place:?}");
        assert_eq!(bench.selected(), [1, 1, 0], "{way:?} {place:?}");
        assert_eq!(bench.ingest.counters().rejected(Reason::UnknownWorkspace), 1, "{way:?} {place:?}");

        assert!(send(&bench, way, GATEWAY_KEY, spoof()).await, "{way:?} {place:?}");
        assert_eq!(bench.selected(), [1, 1, 1], "with the right it goes there alone, {way:?} {place:?}");
    }
}

#[tokio::test]
async fn the_span_wins_over_its_resource() {
    let bench = bench(Options::default());
    let other = OTHER_WORKSPACE.to_string();
    let mut out = Vec::new();
    let resource = [("tracecast.workspace_id".to_owned(), OwnedValue::from(other.as_str()))];
    let own = DEFAULT_WORKSPACE_ID.to_string();
    let spans = [span(1, &[("tracecast.workspace_id", &own)]), span(2, &[])];
    resource_spans(&resource, "scope", "1", &spans, &mut out);
    assert!(send(&bench, Way::Protobuf, GATEWAY_KEY, out).await);
    assert_eq!(bench.selected(), [1, 0, 1]);
}

#[tokio::test]
async fn a_key_of_another_workspace_is_not_charged() {
    let bench = bench(Options::default());
    bench.change_key(KEY, |key| key.workspace_id = OTHER_WORKSPACE);
    let (hash, gateway) = (Sha256::digest(KEY.as_bytes()), Sha256::digest(GATEWAY_KEY.as_bytes()));
    let stated = tracecast_otlp::hex(&hash);
    // Stated for an event of the default workspace: it says whose event it is and spends nothing.
    let foreign = body(Way::Protobuf, Place::Span, &[("tracecast.api_key_hash", &stated)]);
    assert!(send(&bench, Way::Protobuf, GATEWAY_KEY, foreign).await);
    assert_eq!(bench.ingest.take_usage(), []);
    let other = OTHER_WORKSPACE.to_string();
    let there = [("tracecast.api_key_hash", stated.as_str()), ("tracecast.workspace_id", &other)];
    assert!(send(&bench, Way::Protobuf, GATEWAY_KEY, body(Way::Protobuf, Place::Span, &there)).await);
    let charged: Vec<_> = bench.ingest.take_usage().into_iter().map(|usage| usage.hash).collect();
    assert_eq!(charged, [<[u8; 32]>::from(hash)]);
    assert_ne!(hash, gateway);
}
