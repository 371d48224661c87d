//! Dead letters, replay, backfill, the look-up of a trace and the tail, as the API shows them.

use std::sync::Arc;

use http::Request;
use http_body_util::BodyExt as _;
use serde_json::{Value as Json, json};
use tokio::sync::broadcast;
use tower::ServiceExt as _;

use super::{DESTINATIONS, Gateway, MANAGEMENT_KEY, message, webhook};
use crate::LetterFilter;

async fn gateway() -> (Gateway, String) {
    let gateway = Gateway::new().await;
    let stored = gateway.created(DESTINATIONS, &webhook("hook")).await;
    let path = format!("{DESTINATIONS}/{}", stored["id"].as_str().unwrap());
    (gateway, path)
}

#[tokio::test]
async fn letters_are_listed_in_pages_and_shown_alone() {
    let (gateway, path) = gateway().await;
    let list = gateway.ok(&format!("{path}/dead-letters?offset=1&limit=2")).await;
    assert_eq!(list["data"].as_array().unwrap().iter().map(|l| &l["id"]).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(
        (&list["total_count"], &list["by_reason"], &list["replaying"]),
        (&json!(5), &json!({"rejected": 5}), &json!(0))
    );
    assert_eq!(gateway.ok(&format!("{path}/dead-letters/4")).await["data"]["id"], 4);
    assert_eq!(gateway.ok(&format!("{path}/dead-letters?id=3")).await["total_count"], 1);
    for (query, field) in [
        ("id=x", "id"),
        ("from=yesterday", "from"),
        ("to=5", "to"),
        ("reason=bad", "reason"),
        ("limit=0", "limit"),
    ] {
        let (status, body) = gateway.get(&format!("{path}/dead-letters?{query}")).await;
        assert_eq!(status, 400, "{query}: {body}");
        assert!(message(&body).contains(field), "{body}");
    }
    for missing in ["dead-letters/99", "dead-letters/x"] {
        assert_eq!(gateway.get(&format!("{path}/{missing}")).await.0, 404);
    }
    let nobody = format!("{DESTINATIONS}/00000000-0000-4000-8000-000000000000/dead-letters");
    assert_eq!(gateway.get(&nobody).await.0, 404);
}

#[tokio::test]
async fn a_filter_reaches_the_runtime_and_a_misspelt_one_does_not_mean_all() {
    let (gateway, path) = gateway().await;
    let asked = || gateway.runtime.asked.lock().unwrap().take();
    let (status, body) =
        gateway.delete(&format!("{path}/dead-letters?reason=rejected&from=1970-01-01T00:00:01Z")).await;
    assert_eq!((status.as_u16(), body), (200, json!({ "data": { "deleted": 3 } })));
    let expected = LetterFilter {
        reason: Some("rejected".into()),
        from_unix_nano: Some(1_000_000_000),
        ..LetterFilter::default()
    };
    assert_eq!(asked(), Some(expected));

    let replay = format!("{path}/dead-letters/replay");
    let (status, body) = gateway.post(&replay, &json!({})).await;
    assert_eq!((status.as_u16(), &body["data"]["matched"]), (200, &json!(2)), "{body}");
    assert_eq!(asked(), Some(LetterFilter::default()));
    for id in [json!(7), json!("7")] {
        gateway.post(&replay, &json!({ "id": id, "to": "1970-01-01T00:00:02+00:00" })).await;
        let expected =
            LetterFilter { id: Some(7), to_unix_nano: Some(2_000_000_000), ..LetterFilter::default() };
        assert_eq!(asked(), Some(expected));
    }
    for wrong in [json!({ "reasons": "rejected" }), json!({ "id": "x" }), json!({ "from": 5 })] {
        let (status, body) = gateway.post(&replay, &wrong).await;
        assert_eq!(status, 400, "{body}");
    }
    assert_eq!(asked(), None, "nothing was replayed by mistake");
}

#[tokio::test]
async fn backfill_needs_a_time_and_may_have_to_wait() {
    let (gateway, path) = gateway().await;
    let path = format!("{path}/backfill");
    let (status, body) = gateway.post(&path, &json!({ "from": "2026-01-01T00:00:00Z" })).await;
    assert_eq!((status.as_u16(), &body["data"]["complete"]), (200, &json!(true)), "{body}");
    for wrong in [json!({}), json!({ "from": "now" }), json!({ "from": null })] {
        assert_eq!(gateway.post(&path, &wrong).await.0, 400, "{wrong}");
    }
    assert_eq!(gateway.post(&path, &json!({ "from": "1970-01-01T00:00:00Z" })).await.0, 503);
}

#[tokio::test]
async fn a_trace_is_asked_for_by_its_id() {
    let (gateway, _) = gateway().await;
    let trace = "0123456789abcdef0123456789ABCDEF";
    let found = gateway.ok(&format!("/api/v1/observability/events/{trace}")).await;
    assert_eq!(found["data"]["trace_id"], trace.to_lowercase());
    for wrong in ["0123", &"g".repeat(32)] {
        assert_eq!(gateway.get(&format!("/api/v1/observability/events/{wrong}")).await.0, 400);
    }
}

/// The lines of a tail with this query after these were shown and the gateway stopped.
async fn tail(gateway: &Gateway, query: &str, lines: &[Json]) -> String {
    let (sender, _) = broadcast::channel(4);
    *gateway.runtime.lines.lock().unwrap() = Some(sender.clone());
    let request = Request::get(format!("/api/v1/observability/tail{query}"))
        .header("authorization", format!("Bearer {MANAGEMENT_KEY}"))
        .body(axum::body::Body::empty())
        .unwrap();
    let response = gateway.router.clone().oneshot(request).await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    for line in lines {
        sender.send(Arc::new(line.clone())).unwrap();
    }
    *gateway.runtime.lines.lock().unwrap() = None;
    drop(sender);
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

#[tokio::test]
async fn a_tail_shows_what_it_is_asked_for_and_says_what_it_lost() {
    let (gateway, path) = gateway().await;
    let id = path.rsplit('/').next().unwrap();
    let line = |name: &str, selected: bool| json!({ "name": name, "destinations": [{ "destination_id": id, "selected": selected }] });
    let lines = [line("taken", true), line("left", false)];
    let names = |text: &str| ["taken", "left"].map(|name| text.contains(name));
    assert_eq!(names(&tail(&gateway, "", &lines).await), [true, true]);
    assert_eq!(names(&tail(&gateway, &format!("?destination_id={id}"), &lines).await), [true, false]);
    assert_eq!(names(&tail(&gateway, "?skipped=true", &lines).await), [false, true]);
    let many: Vec<Json> = (0..10).map(|i| line(&format!("line {i}"), true)).collect();
    let shown = tail(&gateway, "", &many).await;
    assert!(shown.contains("event: lost") && shown.contains("\"lost\":6"), "{shown}");
    assert!(!shown.contains("line 5") && shown.contains("line 6") && shown.contains("line 9"), "{shown}");
    // The gateway stops: no new tail.
    assert_eq!(gateway.get("/api/v1/observability/tail").await.0, 503);
    assert_eq!(gateway.get("/api/v1/observability/tail?destination_id=x").await.0, 400);
}
