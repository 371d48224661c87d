//! Every error, whoever finds it, is JSON in the envelope. `Gateway::call_as` asserts content type, integer code
//! and message on each.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use axum::body::Body;
use futures_util::stream;
use http::Request;
use serde_json::json;

use super::{DESTINATIONS, Gateway, MANAGEMENT_KEY, message, path_of, webhook};

#[tokio::test]
async fn who_may_not_is_told_so() {
    let gateway = Gateway::new().await;
    let ordinary = gateway.ordinary_key().await;
    for (method, path) in [
        ("GET", DESTINATIONS),
        ("POST", DESTINATIONS),
        ("GET", "/api/v1/keys"),
        ("GET", "/api/v1/workspaces"),
        ("GET", "/api/v1/audit-log"),
        ("GET", "/api/v1/observability/stats"),
        ("GET", "/api/v1/no/such/path"),
        ("PUT", "/api/v1/keys"),
    ] {
        let (status, body) = gateway.call_as(None, method, path, None).await;
        assert_eq!(status, 401, "{method} {path}");
        assert_eq!(message(&body), "Missing Authentication header");
        let (status, _) = gateway.call_as(Some("sk-tc-mgmt-unknown"), method, path, None).await;
        assert_eq!(status, 401, "{method} {path}");
        let (status, body) = gateway.call_as(Some(&ordinary), method, path, None).await;
        assert_eq!(status, 403, "{method} {path}");
        assert_eq!(message(&body), "Only management keys can perform this operation");
    }
    assert_eq!(gateway.call_as(None, "GET", "/api/v1/key", None).await.0, 401);
    assert_eq!(gateway.call_as(Some(&ordinary), "GET", "/api/v1/key", None).await.0, 200);
}

/// Otherwise the connection is closed behind the answer, and who uses it for the next request finds it dead.
#[tokio::test]
async fn the_body_of_a_refused_request_is_read_to_its_end() {
    let gateway = Gateway::new().await;
    let ordinary = gateway.ordinary_key().await;
    for (key, status) in [(ordinary.as_str(), 403), ("sk-tc-mgmt-unknown", 401)] {
        let is_read = Arc::new(AtomicBool::new(false));
        let (end, mut pieces) = (is_read.clone(), 3);
        let body = Body::from_stream(stream::poll_fn(move |_| {
            pieces -= 1;
            end.fetch_or(pieces == 0, Ordering::SeqCst);
            Poll::Ready((pieces > 0).then_some(Ok::<_, Infallible>("{}")))
        }));
        let request =
            Request::patch(format!("{DESTINATIONS}/x")).header("authorization", format!("Bearer {key}"));
        let answer = gateway.raw(request.body(body).unwrap()).await;
        assert_eq!(answer.status(), status);
        assert!(is_read.load(Ordering::SeqCst));
    }
}

#[tokio::test]
async fn only_bearer_credentials_count() {
    let gateway = Gateway::new().await;
    for (value, status) in [
        (format!("bearer {MANAGEMENT_KEY}"), 200),
        (format!("Bearer  {MANAGEMENT_KEY} "), 200),
        (format!("Basic {MANAGEMENT_KEY}"), 401),
        (MANAGEMENT_KEY.to_owned(), 401),
        ("Bearer".to_owned(), 401),
        ("Bearer ".to_owned(), 401),
    ] {
        let request = Request::get(DESTINATIONS).header("authorization", &value).body(Body::empty()).unwrap();
        assert_eq!(gateway.raw(request).await.status(), status, "{value}");
    }
}

#[tokio::test]
async fn bad_requests() {
    let gateway = Gateway::new().await;
    let created = gateway.created(DESTINATIONS, &webhook("hook")).await;
    let one = path_of(&created);
    let unknown = format!("{DESTINATIONS}/{}", uuid::Uuid::now_v7());
    let cases: Vec<(&str, String, Option<&str>, u16)> = vec![
        ("POST", DESTINATIONS.into(), None, 400),
        ("POST", DESTINATIONS.into(), Some("[]"), 400),
        ("POST", DESTINATIONS.into(), Some("{"), 400),
        ("POST", DESTINATIONS.into(), Some("{}"), 400),
        ("POST", format!("{DESTINATIONS}?test=perhaps"), Some("{}"), 400),
        ("PATCH", one.clone(), Some("nonsense"), 400),
        ("PATCH", one.clone(), Some(r#"{"enabled": null}"#), 400),
        ("PUT", one.clone(), Some("{}"), 405),
        ("POST", one.clone(), Some("{}"), 405),
        ("DELETE", DESTINATIONS.into(), None, 405),
        ("POST", "/api/v1/key".into(), None, 405),
        ("POST", "/healthz".into(), None, 405),
        ("GET", unknown.clone(), None, 404),
        ("PATCH", unknown.clone(), Some("{}"), 404),
        ("DELETE", unknown.clone(), None, 404),
        ("GET", format!("{unknown}/stats"), None, 404),
        ("POST", format!("{unknown}/test"), None, 404),
        ("POST", format!("{unknown}/pause"), None, 404),
        ("GET", format!("{DESTINATIONS}/not-a-uuid"), None, 404),
        ("GET", format!("{DESTINATIONS}/%FF"), None, 404),
        ("GET", format!("/api/v1/keys/{}", "ab".repeat(32)), None, 404),
        ("PATCH", "/api/v1/keys/short".into(), Some("{}"), 404),
        ("GET", "/api/v1/workspaces/no-such".into(), None, 404),
        ("GET", "/api/v1".into(), None, 404),
        ("GET", "/api/v1/guardrails".into(), None, 404),
        ("GET", format!("{DESTINATIONS}?limit=0"), None, 400),
        ("GET", format!("{DESTINATIONS}?limit=101"), None, 400),
        ("GET", format!("{DESTINATIONS}?limit=ten"), None, 400),
        ("GET", format!("{DESTINATIONS}?offset=-1"), None, 400),
        ("GET", format!("{DESTINATIONS}?workspace_id=nobody"), None, 400),
        ("GET", "/api/v1/keys?include_disabled=maybe".into(), None, 400),
        ("POST", "/api/v1/keys".into(), Some("{}"), 400),
        ("POST", "/api/v1/workspaces".into(), Some("{}"), 400),
    ];
    for (method, path, body, expected) in cases {
        let (status, answer) = gateway.call_as(Some(MANAGEMENT_KEY), method, &path, body).await;
        assert_eq!(status, expected, "{method} {path}: {answer}");
    }
}

#[tokio::test]
async fn malformed_json_is_placed_and_not_quoted() {
    let gateway = Gateway::new().await;
    let body = "{\n  \"config\": {\"secretKey\": \"s3cret\" \"x\": 1}\n}";
    let (status, answer) = gateway.call_as(Some(MANAGEMENT_KEY), "POST", DESTINATIONS, Some(body)).await;
    assert_eq!(status, 400);
    assert!(message(&answer).contains("line 2 column"), "{answer}");
    assert_eq!(answer["error"]["metadata"]["line"], 2);
    assert!(!answer.to_string().contains("s3cret"), "{answer}");
}

#[tokio::test]
async fn a_body_over_the_limit_is_413_announced_or_not() {
    let gateway = Gateway::with(|options| options.max_body_bytes = 1000).await;
    let mut body = webhook("hook");
    let length = body.to_string().len();
    body["name"] = "n".repeat(1000 - length + "hook".len()).into();
    assert_eq!(body.to_string().len(), 1000);
    gateway.created(DESTINATIONS, &body).await;
    let over = body.to_string() + " ";
    let (status, _) = gateway.call_as(Some(MANAGEMENT_KEY), "POST", DESTINATIONS, Some(&over)).await;
    assert_eq!(status, 413);
    let chunks = [Ok::<_, std::io::Error>(over)];
    let unannounced = Body::from_stream(futures_util::stream::iter(chunks));
    let request = Request::post(DESTINATIONS)
        .header("authorization", format!("Bearer {MANAGEMENT_KEY}"))
        .body(unannounced)
        .unwrap();
    let response = gateway.raw(request).await;
    assert_eq!(response.status(), 413);
    assert_eq!(response.headers()["content-type"], "application/json");
}

#[tokio::test]
async fn the_wrong_address_names_the_right_one() {
    let gateway = Gateway::new().await;
    for path in ["/", "/v1/traces", "/v1/events", "/api/v2/keys"] {
        let (status, body) = gateway.call_as(None, "POST", path, Some("x")).await;
        assert_eq!(status, 404, "{path}");
        let message = message(&body);
        assert!(message.contains("/api/v1") && message.contains("ingest listener"), "{message}");
    }
    let (_, body) = gateway.call_as(None, "GET", "/observability/destinations", None).await;
    assert!(message(&body).contains("did you mean /api/v1/observability/destinations?"), "{body}");
}

#[tokio::test]
async fn a_panic_is_a_500_that_says_nothing() {
    let gateway = Gateway::new().await;
    let created = gateway.created(DESTINATIONS, &webhook("hook")).await;
    gateway.runtime.stats_panic.store(true, Ordering::SeqCst);
    let (status, body) = gateway.get(&path_of(&created)).await;
    assert_eq!(status, 500);
    assert_eq!(message(&body), "Internal Server Error");
}

#[tokio::test]
async fn health_needs_no_key() {
    let gateway = Gateway::new().await;
    let (status, body) = gateway.call_as(None, "GET", "/healthz", None).await;
    assert_eq!((status.as_u16(), body), (200, json!({ "status": "ok" })));
    let (status, body) = gateway.call_as(None, "GET", "/readyz", None).await;
    assert_eq!((status.as_u16(), body), (200, json!({ "status": "ready" })));
    gateway.runtime.not_ready.lock().unwrap().push("log full".to_owned());
    let (status, body) = gateway.call_as(None, "GET", "/readyz", None).await;
    assert_eq!(status, 503);
    assert_eq!(body["error"]["metadata"]["reasons"], json!(["log full"]));

    let response = gateway.raw(Request::get("/metrics").body(Body::empty()).unwrap()).await;
    assert_eq!(response.status(), 200);
    assert!(response.headers()["content-type"].to_str().unwrap().starts_with("text/plain"));
}

#[tokio::test]
async fn a_405_names_the_methods_and_answers_are_not_cached() {
    let gateway = Gateway::new().await;
    let request = |method: &str| {
        Request::builder()
            .method(method)
            .uri(DESTINATIONS)
            .header("authorization", format!("Bearer {MANAGEMENT_KEY}"))
            .body(Body::empty())
            .unwrap()
    };
    let response = gateway.raw(request("DELETE")).await;
    assert_eq!(response.status(), 405);
    let allowed = response.headers()["allow"].to_str().unwrap();
    assert!(allowed.contains("GET") && allowed.contains("POST"), "{allowed}");
    assert_eq!(gateway.raw(request("GET")).await.headers()["cache-control"], "no-store");
}

/// The forms the SDKs send: `null` and nothing are "not given", a segment may be percent-encoded, fields of newer
/// clients are ignored.
#[tokio::test]
async fn requests_as_sdks_write_them() {
    let gateway = Gateway::new().await;
    gateway.ordinary_key().await;
    for query in
        ["offset=null", "offset=", "offset=0&include_disabled=0", "include_disabled=false&include_expired=1"]
    {
        let keys = gateway.ok(&format!("/api/v1/keys?{query}")).await;
        assert_eq!(keys["data"].as_array().unwrap().len(), 1, "{query}");
        assert!(keys.get("total_count").is_none());
    }
    for query in
        ["limit=null&offset=null", "limit=1&offset=0", "workspace_id=default", "workspace_id=null", "new=1"]
    {
        assert_eq!(gateway.ok(&format!("{DESTINATIONS}?{query}")).await["total_count"], 0, "{query}");
    }
    let workspace = gateway.ok("/api/v1/workspaces/%64efault").await;
    assert_eq!(workspace["data"]["slug"], "default");
    for (path, mut body) in [
        (DESTINATIONS, webhook("hook")),
        ("/api/v1/keys", json!({ "name": "k", "limit": null, "external": null, "workspace_id": null })),
        ("/api/v1/workspaces", json!({ "name": "W", "slug": "w", "description": null })),
    ] {
        body["from_the_future"] = json!({ "a": 1 });
        gateway.created(path, &body).await;
    }
}
