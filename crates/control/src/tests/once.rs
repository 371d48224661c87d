//! `Idempotency-Key`: what is repeated under the same name is created once.

use axum::body::Body;
use http::Request;
use http_body_util::BodyExt as _;
use serde_json::{Value as Json, json};

use super::{DESTINATIONS, Gateway, MANAGEMENT_KEY, langfuse, message, path_of, text, webhook};
use crate::hex;

const KEYS: &str = "/api/v1/keys";
const WORKSPACES: &str = "/api/v1/workspaces";

async fn post_once(gateway: &Gateway, path: &str, token: &str, body: &Json) -> (u16, Json) {
    let request = Request::post(path)
        .header("authorization", format!("Bearer {MANAGEMENT_KEY}"))
        .header("idempotency-key", token)
        .body(Body::from(body.to_string()))
        .unwrap();
    let response = gateway.raw(request).await;
    let status = response.status().as_u16();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    let answer: Json = serde_json::from_slice(&bytes).unwrap();
    super::openapi::check_answer("POST", path, status, &answer);
    (status, answer)
}

#[tokio::test]
async fn a_repeated_create_answers_the_same_and_creates_nothing() {
    let mut gateway = Gateway::new().await;
    let body = langfuse("once");
    let first = post_once(&gateway, DESTINATIONS, "a", &body).await;
    assert_eq!(first.0, 201, "{}", first.1);
    assert_eq!(post_once(&gateway, DESTINATIONS, "a", &body).await, first);
    let workspace = json!({ "name": "W", "slug": "w" });
    let made = post_once(&gateway, WORKSPACES, "b", &workspace).await;
    assert_eq!(made.0, 201, "{}", made.1);
    // Without the name it would be refused: the slug is taken.
    assert_eq!(post_once(&gateway, WORKSPACES, "b", &workspace).await, made);
    assert_eq!(gateway.post(WORKSPACES, &workspace).await.0, 400);

    gateway = gateway.restart().await;
    assert_eq!(post_once(&gateway, DESTINATIONS, "a", &body).await, first, "kept over a restart");
    assert_eq!(gateway.ok(DESTINATIONS).await["total_count"], 1);
    let audit = gateway.ok("/api/v1/audit-log").await.to_string();
    assert_eq!(audit.matches("destination.create").count(), 1);
    // Also when what was created is gone.
    assert_eq!(gateway.delete(&path_of(&first.1["data"])).await.0, 200);
    assert_eq!(post_once(&gateway, DESTINATIONS, "a", &body).await, first);
    assert_eq!(gateway.ok(DESTINATIONS).await["total_count"], 0);
}

#[tokio::test]
async fn the_repeat_of_the_last_one_that_fits_is_no_conflict() {
    let gateway = Gateway::with(|options| options.destinations_per_kind = 1).await;
    let first = post_once(&gateway, DESTINATIONS, "a", &webhook("one")).await;
    assert_eq!(first.0, 201);
    assert_eq!(post_once(&gateway, DESTINATIONS, "a", &webhook("one")).await, first);
    let tested = format!("{DESTINATIONS}?test=true");
    assert_eq!(post_once(&gateway, &tested, "b", &webhook("one")).await.0, 409);
}

#[tokio::test]
async fn a_name_stands_for_one_request() {
    let gateway = Gateway::new().await;
    assert_eq!(post_once(&gateway, DESTINATIONS, "a", &webhook("one")).await.0, 201);
    let (status, answer) = post_once(&gateway, DESTINATIONS, "a", &webhook("two")).await;
    assert_eq!(status, 400);
    assert!(message(&answer).contains("another request"), "{answer}");
    assert_eq!(post_once(&gateway, KEYS, "a", &json!({ "name": "k" })).await.0, 400);
    for wrong in ["", &"x".repeat(256)] {
        assert_eq!(post_once(&gateway, DESTINATIONS, wrong, &webhook("three")).await.0, 400, "{wrong}");
    }
    assert_eq!(gateway.ok(DESTINATIONS).await["total_count"], 1);
    // What was refused was not made: the name is free for the corrected body.
    assert_eq!(post_once(&gateway, DESTINATIONS, "b", &json!({ "type": "webhook" })).await.0, 400);
    assert_eq!(post_once(&gateway, DESTINATIONS, "b", &webhook("b")).await.0, 201);
}

#[tokio::test]
async fn a_key_is_shown_once_whatever_is_repeated() {
    let gateway = Gateway::new().await;
    let body = json!({ "name": "app" });
    let (status, created) = post_once(&gateway, KEYS, "k", &body).await;
    assert_eq!(status, 201, "{created}");
    let (status, repeat) = post_once(&gateway, KEYS, "k", &body).await;
    assert_eq!(status, 409, "{repeat}");
    assert_eq!(repeat["error"]["code"], 409);
    assert_eq!(repeat["error"]["metadata"]["hash"], created["data"]["hash"]);
    assert!(!repeat.to_string().contains(&text(&created["key"])));
    assert_eq!(text(&created["data"]["hash"]), hex::encode(&hex::sha256(&text(&created["key"]))));
    assert_eq!(gateway.ok(KEYS).await["data"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn what_is_kept_is_forgotten_after_a_day() {
    let gateway = Gateway::new().await;
    let first = post_once(&gateway, DESTINATIONS, "a", &webhook("one")).await;
    let age = |hours: i64| format!("{:.3}", jiff::Timestamp::now() - jiff::SignedDuration::from_hours(hours));
    let set_age = async |hours| {
        sqlx::query("UPDATE answers SET at = ?")
            .bind(age(hours))
            .execute(gateway.control.store.pool())
            .await
            .unwrap();
    };
    set_age(23).await;
    assert_eq!(post_once(&gateway, DESTINATIONS, "a", &webhook("one")).await, first);
    set_age(25).await;
    let second = post_once(&gateway, DESTINATIONS, "a", &webhook("one")).await;
    assert_eq!(second.0, 201);
    assert_ne!(second.1["data"]["id"], first.1["data"]["id"]);
    set_age(25).await;
    assert_eq!(post_once(&gateway, DESTINATIONS, "b", &webhook("two")).await.0, 201);
    let kept: i64 = sqlx::query_scalar("SELECT count(*) FROM answers")
        .fetch_one(gateway.control.store.pool())
        .await
        .unwrap();
    assert_eq!(kept, 1, "old ones are pruned");
}

#[tokio::test]
async fn parallel_repeats_create_one() {
    let gateway = Gateway::new().await;
    let body = webhook("one");
    let answers =
        futures_util::future::join_all((0..8).map(|_| post_once(&gateway, DESTINATIONS, "same", &body)))
            .await;
    assert!(answers.iter().all(|answer| answer == &answers[0]), "{answers:?}");
    assert_eq!(answers[0].0, 201);
    assert_eq!(gateway.ok(DESTINATIONS).await["total_count"], 1);
}

#[tokio::test]
async fn nothing_secret_is_kept() {
    let gateway = Gateway::new().await;
    assert_eq!(post_once(&gateway, DESTINATIONS, "a", &langfuse("one")).await.0, 201);
    let (_, created) = post_once(&gateway, KEYS, "b", &json!({ "name": "app" })).await;
    let kept: Vec<String> = sqlx::query_scalar("SELECT caller || token || request || body FROM answers")
        .fetch_all(gateway.control.store.pool())
        .await
        .unwrap();
    let kept = kept.join("\n");
    assert!(kept.contains("pk-l...EfGh"), "{kept}");
    assert!(!kept.contains("canary"), "{kept}");
    assert!(!kept.contains(&text(&created["key"])), "{kept}");
}
