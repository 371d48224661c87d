//! What becomes of destinations, told by another destination.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use tracecast_tests::fakes::{Fake, Got, attribute};
use tracecast_tests::process::{Home, PATIENCE, assert_balanced};
use tracecast_tests::spans::{generation, request};

use crate::BINARY;

/// A collector that answers with `status` while `open` is not set.
async fn closed(status: u16) -> (Fake, Arc<AtomicBool>) {
    let open = Arc::new(AtomicBool::new(false));
    let is_open = open.clone();
    let fake = Fake::start(Box::new(move |_, _| match is_open.load(Ordering::SeqCst) {
        true => (200, "application/json", b"{}".to_vec()),
        false => (status, "text/plain", b"the prompt of somebody".to_vec()),
    }))
    .await;
    (fake, open)
}

/// State before and after of every change told of `id`, in order.
fn told(watcher: &Fake, id: &str) -> Vec<(String, String)> {
    let spans = watcher.spans();
    let text = |span, name: &str| attribute(span, name).unwrap_or_default();
    let about = spans.iter().filter(|span| text(span, "tracecast.destination.id") == id);
    about
        .map(|span| {
            (text(span, "tracecast.destination.previous_state"), text(span, "tracecast.destination.state"))
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_state_are_told_by_another_destination() {
    let ((failing, mended), (watching, reachable)) = (closed(401).await, closed(503).await);
    let home = Home::new(BINARY);
    home.config("operations: { destination: On call }\n");
    let gateway = home.start();
    let started = Instant::now();
    while !home.stderr().contains("operations.destination `On call`: there is no such") {
        assert!(started.elapsed() < PATIENCE, "nobody says that there is none: {}", home.stderr());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let watcher = gateway.simple("otel-collector", "On call", json!({ "endpoint": watching.url() })).await;
    let failed = gateway.simple("otel-collector", "Failing", json!({ "endpoint": failing.url() })).await;

    assert_eq!(gateway.send(request(&[generation(1, "x")])).await.0, 200);
    gateway.failed(&failed).await;
    // The destination that is to tell it is away as well: what it is to be told waits, and it does not report itself.
    watching.wait_for(3).await;
    mended.store(true, Ordering::SeqCst);
    gateway.api("POST", &format!("/observability/destinations/{failed}/resume"), None).await;
    gateway.settled(&failed, 1).await;
    reachable.store(true, Ordering::SeqCst);
    gateway.api("POST", &format!("/observability/destinations/{watcher}/resume"), None).await;
    let expected = [("healthy", "held_auth"), ("held_auth", "healthy")];
    let expected = expected.map(|(from, to)| (from.to_owned(), to.to_owned()));
    let started = Instant::now();
    while told(&watching, &failed) != expected {
        assert!(started.elapsed() < PATIENCE, "{:?}", told(&watching, &failed));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(told(&watching, &watcher).is_empty(), "about itself");
    let spans = watching.spans();
    let change = spans.iter().find(|s| attribute(s, "tracecast.destination.id").is_some()).expect("a change");
    assert_eq!(change.name, "destination state changed");
    assert_eq!(attribute(change, "tracecast.destination.name").as_deref(), Some("Failing"));
    assert_eq!(attribute(change, "http.response.status_code").as_deref(), Some("IntValue(401)"));
    // The vendor's words stay where they are.
    assert!(watching.requests().iter().all(|got| !String::from_utf8_lossy(&got.body).contains("somebody")));
    let carriers = watching.requests();
    let replayed = |got: &&Got| got.headers.contains_key("x-tracecast-replayed");
    assert_eq!(carriers.iter().filter(replayed).count(), 0, "it was never sent before");

    // In the books of the one it was sent to, and in nobody else's.
    let stats = gateway.settled(&watcher, 1).await;
    assert_eq!((&stats["accepted"], &stats["requeued"]), (&json!(1), &json!(2)), "{stats:#}");
    let other = gateway.stats(&failed).await;
    assert_balanced(&other);
    assert_eq!((&other["accepted"], &other["requeued"]), (&json!(1), &json!(0)), "{other:#}");
    let (_, all) = gateway.api("GET", "/observability/stats", None).await;
    assert_eq!(all["data"]["gateway"]["accepted"], 1);
    assert_eq!(all["data"]["gateway"]["operational_events_lost"], 0);
}
