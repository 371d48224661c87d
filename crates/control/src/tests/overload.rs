//! A store that cannot store, and many writers at once.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Body;
use http::Request;
use http_body_util::BodyExt as _;
use serde_json::{Value as Json, json};
use sqlx::ConnectOptions as _;
use sqlx::sqlite::SqliteConnectOptions;

use super::{DESTINATIONS, Gateway, MANAGEMENT_KEY, message, path_of, text, webhook};

/// A create, with the `retry-after` of its answer.
async fn create(gateway: &Gateway, body: &Json) -> (u16, Option<String>, Json) {
    let request = Request::post(DESTINATIONS)
        .header("authorization", format!("Bearer {MANAGEMENT_KEY}"))
        .header("idempotency-key", "the same")
        .body(Body::from(body.to_string()))
        .unwrap();
    let response = gateway.raw(request).await;
    let retry_after = response.headers().get("retry-after").map(|value| value.to_str().unwrap().to_owned());
    let status = response.status().as_u16();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    let answer = serde_json::from_slice(&bytes).unwrap();
    super::openapi::check_answer("POST", DESTINATIONS, status, &answer);
    (status, retry_after, answer)
}

async fn pragma(gateway: &Gateway, pragma: &'static str) {
    sqlx::query(pragma).execute(gateway.control.store.pool()).await.unwrap();
}

/// The create is 503 and nothing happened; with the fault gone the same request creates one.
async fn fails_without_a_trace(gateway: &Gateway, reason: &str) {
    let generation = gateway.snapshot().generation;
    let body = webhook("hook");
    let (status, retry_after, answer) = create(gateway, &body).await;
    assert_eq!(status, 503, "{answer}");
    assert!(retry_after.unwrap().parse::<u32>().unwrap() > 0);
    assert_eq!(answer["error"]["code"], 503);
    assert!(
        message(&answer).contains("nothing was changed") && message(&answer).contains(reason),
        "{answer}"
    );
    assert_eq!(gateway.snapshot().generation, generation);
    assert_eq!(gateway.ok(DESTINATIONS).await["total_count"], 0);
    assert!(gateway.runtime.applied.lock().unwrap().0.is_empty());
}

async fn works_again(gateway: Gateway) {
    let (status, _, answer) = create(&gateway, &webhook("hook")).await;
    assert_eq!(status, 201, "{answer}");
    assert_eq!(create(&gateway, &webhook("hook")).await.0, 201);
    let gateway = gateway.restart().await;
    assert_eq!(gateway.ok(DESTINATIONS).await["total_count"], 1);
}

#[tokio::test]
async fn a_store_that_stays_busy_is_503_and_nothing_was_written() {
    let gateway = Gateway::new().await;
    pragma(&gateway, "PRAGMA busy_timeout = 20").await;
    let mut other = SqliteConnectOptions::new()
        .filename(gateway.dir.path().join("control.sqlite"))
        .connect()
        .await
        .unwrap();
    sqlx::query("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
    fails_without_a_trace(&gateway, "locked").await;
    for (method, path) in [("DELETE", "/api/v1/workspaces/default"), ("POST", "/api/v1/keys")] {
        let path = if method == "DELETE" {
            format!("{path}?confirm_default_workspace_deletion=true")
        } else {
            path.to_owned()
        };
        let body = (method == "POST").then_some(r#"{"name": "k"}"#);
        assert_eq!(
            gateway.call_as(Some(MANAGEMENT_KEY), method, &path, body).await.0,
            503,
            "{method} {path}"
        );
    }
    sqlx::query("ROLLBACK").execute(&mut other).await.unwrap();
    works_again(gateway).await;
}

#[tokio::test]
async fn the_store_is_waited_for_five_seconds() {
    let gateway = Gateway::new().await;
    let waits: i64 =
        sqlx::query_scalar("PRAGMA busy_timeout").fetch_one(gateway.control.store.pool()).await.unwrap();
    assert_eq!(waits, 5000);
}

#[tokio::test]
async fn a_full_disk_is_503_and_nothing_was_written() {
    let gateway = Gateway::new().await;
    pragma(&gateway, "PRAGMA max_page_count = 1").await; // Clamped to what the file has.
    // Fill what is free within the last pages.
    let filler = "x".repeat(2000);
    let mut full = false;
    for i in 0..200 {
        let body = json!({ "name": format!("{i}-{filler}") });
        let (status, answer) = gateway.post("/api/v1/keys", &body).await;
        if status == 503 {
            assert!(message(&answer).contains("full"), "{answer}");
            full = true;
            break;
        }
        assert_eq!(status, 201);
    }
    assert!(full);
    let mut body = webhook("hook");
    body["name"] = filler.as_str().into();
    let (status, retry_after, answer) = create(&gateway, &body).await;
    assert_eq!(status, 503, "{answer}");
    assert!(retry_after.is_some() && message(&answer).contains("full"), "{answer}");
    assert_eq!(gateway.ok(DESTINATIONS).await["total_count"], 0);
    pragma(&gateway, "PRAGMA max_page_count = 1000000").await;
    works_again(gateway).await;
}

#[tokio::test]
async fn a_read_only_store_is_503_and_nothing_was_written() {
    let gateway = Gateway::new().await;
    pragma(&gateway, "PRAGMA query_only = ON").await;
    fails_without_a_trace(&gateway, "readonly").await;
    // Reads go on.
    assert_eq!(gateway.get("/api/v1/audit-log").await.0, 200);
    pragma(&gateway, "PRAGMA query_only = OFF").await;
    works_again(gateway).await;
}

#[tokio::test]
async fn an_answer_that_cannot_be_made_is_not_stored() {
    let gateway = Gateway::new().await;
    gateway.runtime.stats_panic.store(true, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(create(&gateway, &webhook("hook")).await.0, 500);
    gateway.runtime.stats_panic.store(false, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(gateway.ok(DESTINATIONS).await["total_count"], 0);
}

/// What a writer left behind, by path.
type Left = BTreeMap<String, Json>;

/// Creates, changes and deletes; every answer must show the writer its own writes.
async fn write_a_while(gateway: Arc<Gateway>, writer: usize) -> Left {
    let mut left = Left::new();
    let workspace = json!({ "name": format!("W{writer}"), "slug": format!("w{writer}") });
    let workspace = gateway.created("/api/v1/workspaces", &workspace).await;
    for round in 0..2 {
        let mut body = webhook(&format!("d{writer}-{round}"));
        body["workspace_id"] = workspace["id"].clone();
        let created = gateway.created(DESTINATIONS, &body).await;
        let path = path_of(&created);
        let rate = json!({ "sampling_rate": 0.5, "privacy_mode": true });
        let (status, patched) = gateway.patch(&path, &rate).await;
        assert_eq!(status, 200, "{patched}");
        assert_eq!(patched["data"]["sampling_rate"], 0.5);
        assert_eq!(gateway.ok(&path).await, patched);
        if round == 0 {
            assert_eq!(gateway.delete(&path).await.0, 200);
            assert_eq!(gateway.get(&path).await.0, 404);
        } else {
            left.insert(path, patched["data"].clone());
        }
    }
    let key = json!({ "name": format!("k{writer}"), "workspace_id": workspace["id"] });
    let key = gateway.created("/api/v1/keys", &key).await;
    let path = format!("/api/v1/keys/{}", text(&key["hash"]));
    assert!(gateway.snapshot().keys.values().any(|key| key.name == format!("k{writer}")));
    if writer.is_multiple_of(2) {
        assert_eq!(gateway.delete(&path).await.0, 200);
    } else {
        let (status, patched) = gateway.patch(&path, &json!({ "limit": 5 })).await;
        assert_eq!(status, 200);
        left.insert(path, patched["data"].clone());
    }
    left.insert(format!("/api/v1/workspaces/w{writer}"), workspace);
    left
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn fifty_parallel_writers_leave_what_they_were_told() {
    const WRITERS: usize = 50;
    let gateway = Arc::new(Gateway::new().await);
    let start = gateway.snapshot().generation;
    let writers: Vec<_> =
        (0..WRITERS).map(|writer| tokio::spawn(write_a_while(Arc::clone(&gateway), writer))).collect();
    let mut left = Left::new();
    for writer in writers {
        left.extend(writer.await.unwrap());
    }
    // Per writer: a workspace, two destinations created and patched, one deleted, a key created and changed.
    assert_eq!(gateway.snapshot().generation - start, 8 * WRITERS as u64);
    let live: Vec<_> = gateway.control.model().destinations.keys().copied().collect();
    assert_eq!(live.len(), WRITERS);
    assert_eq!(gateway.runtime.applied.lock().unwrap().0.iter().copied().collect::<Vec<_>>(), live);
    let snapshot = gateway.snapshot();
    assert_eq!((snapshot.workspaces.len(), snapshot.keys.len()), (WRITERS + 1, WRITERS / 2));

    let gateway = Arc::into_inner(gateway).unwrap();
    for (path, object) in &left {
        assert_eq!(&gateway.ok(path).await["data"], object, "{path}");
    }
    // The store says the same as memory.
    let gateway = gateway.restart().await;
    assert_eq!(gateway.control.model().destinations.size(), WRITERS);
    for (path, object) in &left {
        assert_eq!(&gateway.ok(path).await["data"], object, "{path} after a restart");
    }
    let audit = gateway.ok("/api/v1/audit-log?limit=1").await;
    assert!(audit["total_count"].as_u64().unwrap() >= 8 * WRITERS as u64);
}
