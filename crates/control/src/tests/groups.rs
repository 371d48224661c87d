//! Writes that come together are made together, and each is answered for itself.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::body::Body;
use http::Request;
use http_body_util::BodyExt as _;
use serde_json::Value as Json;
use tokio::task::JoinHandle;

use super::{DESTINATIONS, Gateway, MANAGEMENT_KEY, message, path_of, text, webhook};

type Answered = JoinHandle<(u16, Json)>;

/// Sends a request whose write goes to the end of the line, as its `number`th.
async fn line_up(
    gateway: &Arc<Gateway>,
    number: u64,
    method: &'static str,
    path: &str,
    name: Option<&'static str>,
    body: Json,
) -> Answered {
    let (own, path) = (Arc::clone(gateway), path.to_owned());
    let answered = tokio::spawn(async move {
        let mut request = Request::builder().method(method).uri(path);
        request = request.header("authorization", format!("Bearer {MANAGEMENT_KEY}"));
        if let Some(name) = name {
            request = request.header("idempotency-key", name);
        }
        let response = own.raw(request.body(Body::from(body.to_string())).unwrap()).await;
        let status = response.status().as_u16();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&bytes).unwrap())
    });
    while !gateway.control.writes.holds(number) {
        assert!(!answered.is_finished(), "answered out of turn");
        tokio::task::yield_now().await;
    }
    answered
}

#[tokio::test]
async fn what_waits_for_one_turn_is_one_transaction_and_one_snapshot() {
    let gateway = Arc::new(Gateway::with(|options| options.destinations_per_kind = 3).await);
    let kept = gateway.created(DESTINATIONS, &webhook("kept")).await;
    let (generation, applies) =
        (gateway.snapshot().generation, gateway.runtime.applies.load(Ordering::SeqCst));
    let turn = gateway.control.writer.lock().await;
    let first = gateway.control.writes.next();
    let post = async |n, name, body| line_up(&gateway, first + n, "POST", DESTINATIONS, name, body).await;
    let one = post(0, Some("one"), webhook("one")).await;
    let two = post(1, None, webhook("two")).await;
    // The limit is three, and there are three by now.
    let fourth = post(2, None, webhook("four")).await;
    // The same as the first, called by the same name.
    let again = post(3, Some("one"), webhook("one")).await;
    let gone = line_up(&gateway, first + 4, "DELETE", &path_of(&kept), None, Json::Null).await;
    // There is room again for one more.
    let last = line_up(&gateway, first + 5, "POST", DESTINATIONS, None, webhook("last")).await;
    drop(turn);

    let (one, again) = (one.await.unwrap(), again.await.unwrap());
    assert_eq!(one.0, 201, "{}", one.1);
    assert_eq!(again, one, "made once");
    for (answered, status) in [(two, 201), (fourth, 409), (gone, 200), (last, 201)] {
        let (found, answer) = answered.await.unwrap();
        assert_eq!(found, status, "{answer}");
    }
    assert_eq!(gateway.snapshot().generation, generation + 4, "one for each that was made");
    assert_eq!(gateway.runtime.applies.load(Ordering::SeqCst), applies + 1, "taken over together");
    let names = |list: &Json| -> Vec<String> {
        list["data"].as_array().unwrap().iter().map(|d| text(&d["name"]).to_owned()).collect()
    };
    let listed = gateway.ok(DESTINATIONS).await;
    assert_eq!(names(&listed), ["one", "two", "last"]);
    let gateway = Arc::into_inner(gateway).unwrap().restart().await;
    assert_eq!(gateway.ok(DESTINATIONS).await, listed);
}

#[tokio::test]
async fn one_that_panics_fails_alone() {
    let gateway = Arc::new(Gateway::new().await);
    let turn = gateway.control.writer.lock().await;
    let first = gateway.control.writes.next();
    // A destination shows its state, which the runtime is asked for while the write is decided.
    gateway.runtime.stats_panic.store(true, Ordering::SeqCst);
    let bad = line_up(&gateway, first, "POST", DESTINATIONS, None, webhook("bad")).await;
    let key = serde_json::json!({ "name": "good" });
    let good = line_up(&gateway, first + 1, "POST", "/api/v1/keys", None, key).await;
    drop(turn);
    assert_eq!(bad.await.unwrap().0, 500);
    assert_eq!(good.await.unwrap().0, 201);
    gateway.runtime.stats_panic.store(false, Ordering::SeqCst);
    assert_eq!(gateway.ok(DESTINATIONS).await["total_count"], 0);
}

#[tokio::test]
async fn a_store_that_fails_fails_all_of_a_group_and_none_is_made() {
    let gateway = Arc::new(Gateway::new().await);
    let turn = gateway.control.writer.lock().await;
    let first = gateway.control.writes.next();
    sqlx::query("PRAGMA query_only = ON").execute(gateway.control.store.pool()).await.unwrap();
    let mut waiting = Vec::new();
    for n in 0..3 {
        let body = webhook(&format!("d{n}"));
        waiting.push(line_up(&gateway, first + n, "POST", DESTINATIONS, None, body).await);
    }
    drop(turn);
    for answered in waiting {
        let (status, answer) = answered.await.unwrap();
        assert_eq!(status, 503, "{answer}");
        assert!(message(&answer).contains("nothing was changed"), "{answer}");
    }
    sqlx::query("PRAGMA query_only = OFF").execute(gateway.control.store.pool()).await.unwrap();
    assert_eq!(gateway.ok(DESTINATIONS).await["total_count"], 0);
    gateway.created(DESTINATIONS, &webhook("now")).await;
}

#[tokio::test]
async fn who_waits_too_long_is_told_so_and_nothing_is_made() {
    let gateway = Arc::new(Gateway::new().await);
    let turn = gateway.control.writer.lock().await;
    let first = gateway.control.writes.next();
    let waiting = line_up(&gateway, first, "POST", DESTINATIONS, None, webhook("late")).await;
    tokio::time::pause();
    let (status, answer) = waiting.await.unwrap();
    assert_eq!(status, 503, "{answer}");
    assert!(message(&answer).contains("take too long"), "{answer}");
    assert!(!gateway.control.writes.holds(first));
    tokio::time::resume();
    drop(turn);
    assert_eq!(gateway.ok(DESTINATIONS).await["total_count"], 0);
}
