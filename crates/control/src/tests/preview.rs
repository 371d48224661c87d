//! What a preview is asked of the runtime.

use serde_json::{Value as Json, json};
use tracecast_destination::Issue;

use super::{DESTINATIONS, Gateway, langfuse, message, text, webhook};

const PREVIEW: &str = "/api/v1/observability/destinations/preview";

#[tokio::test]
async fn a_body_or_an_id_with_an_event_or_without() {
    let gateway = Gateway::new().await;
    let stored = gateway.created(DESTINATIONS, &langfuse("stored")).await;
    let event = json!({ "model": "m" });
    let mut described = webhook("described");
    described["event"] = event.clone();
    let (status, body) = gateway.post(PREVIEW, &described).await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(body, json!({ "data": { "name": "described", "event": event, "broadcast": true } }));

    for event in [Json::Null, json!([{ "model": "m" }])] {
        let (status, body) = gateway.post(PREVIEW, &json!({ "id": stored["id"], "event": event })).await;
        assert_eq!((status.as_u16(), &body["data"]["name"]), (200, &json!("stored")), "{body}");
        assert_eq!(body["data"]["event"], event);
    }
    let list = gateway.ok(DESTINATIONS).await;
    assert_eq!(list["total_count"], 1, "nothing is stored");

    let off = json!({ "is_observability_broadcast_enabled": false });
    assert_eq!(gateway.patch("/api/v1/workspaces/default", &off).await.0, 200);
    let (_, body) = gateway.post(PREVIEW, &json!({ "id": stored["id"] })).await;
    assert_eq!(body["data"]["broadcast"], false);
}

#[tokio::test]
async fn what_is_wrong_is_told() {
    let gateway = Gateway::new().await;
    let stored = gateway.created(DESTINATIONS, &langfuse("stored")).await;
    let mut bad_event = webhook("w");
    bad_event["event"] = "text".into();
    for (body, status, why) in [
        (bad_event, 400, "event: must be an OTLP JSON request"),
        (json!({}), 400, "type"),
        (json!({ "id": stored["id"], "name": "x" }), 400, "either `id`"),
        (json!({ "id": 7 }), 400, "id: must be"),
        (json!({ "id": "019a0000-0000-7000-8000-000000000000" }), 404, "not found"),
        (json!({ "type": "webhook", "name": "w", "config": { "url": "nonsense" } }), 400, "config.url"),
    ] {
        let (got, answer) = gateway.post(PREVIEW, &body).await;
        assert_eq!(got.as_u16(), status, "{body}: {answer}");
        assert!(message(&answer).contains(why), "{body}: {answer}");
    }
    let issue = Issue { path: "event.model".into(), message: "is missing".into(), hint: None };
    *gateway.runtime.refused_events.lock().unwrap() = vec![issue];
    let (status, answer) = gateway.post(PREVIEW, &json!({ "id": stored["id"] })).await;
    assert_eq!(status, 400);
    assert_eq!(text(&answer["error"]["metadata"]["issues"][0]["path"]), "event.model");

    // It shows the configuration, so it is for management keys.
    let ordinary = gateway.ordinary_key().await;
    let body = json!({ "id": stored["id"] }).to_string();
    assert_eq!(gateway.call_as(Some(&ordinary), "POST", PREVIEW, Some(&body)).await.0, 403);
}
