//! Secrets and private content while everything goes wrong: in no log, reply, metric, dead letter or file.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;
use tracecast_loadkit::faultsink::Fault;
use tracecast_tests::fakes::{Fake, Got};
use tracecast_tests::process::{INGEST_KEY, MANAGEMENT_KEY, PATIENCE};
use tracecast_tests::spans::{generation, request};

use crate::scene::Scene;
use crate::table::Row;

const SECRET: &str = "s3cr3t-canary-5d41";
const PRIVATE: &str = "private-canary-7f02";

/// A receiver that quotes everything it got in its answer.
async fn gossip(status: u16) -> Fake {
    Fake::start(Box::new(move |_, got: &Got| {
        let text = format!("{} {:?} {}", got.path, got.headers, String::from_utf8_lossy(&got.body));
        (status, "text/plain", text.into_bytes())
    }))
    .await
}

/// Files below `directory` that contain `needle`.
fn files_with(directory: &Path, needle: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files_with(&path, needle));
        } else if std::fs::read(&path).is_ok_and(|b| b.windows(needle.len()).any(|w| w == needle.as_bytes()))
        {
            found.push(path.display().to_string());
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn canaries_in_the_storm() {
    let mut scene = Scene::open_with("limits: { destinations_per_kind: 100 }\n", |_| {
        vec![("TRACECAST_LOG", "trace".to_owned()), ("RUST_BACKTRACE", "1".to_owned())]
    })
    .await;
    let statuses = [400, 401, 404, 413, 429, 500, 302, 200];
    let (mut fakes, mut ids) = (Vec::new(), Vec::new());
    for status in statuses {
        let fake = gossip(status).await;
        let body = json!({ "type": "otel-collector", "name": format!("gossip {status}"), "privacy_mode": true,
            "config": { "endpoint": fake.url(),
                        "headers": { "authorization": format!("Bearer {SECRET}"), "x-api-key": SECRET } } });
        ids.push(scene.gateway().destination(body).await);
        fakes.push(fake);
    }
    for n in 0..5 {
        let spans = [generation(2 * n, PRIVATE), generation(2 * n + 1, PRIVATE)];
        let (status, _) = scene.gateway().send(request(&spans)).await;
        assert_eq!(status, 200);
    }
    // What cannot be read must not be quoted either.
    let (status, answer) = scene.gateway().send(format!("\x0a\x7f{PRIVATE}").into_bytes()).await;
    assert_eq!(status, 400);
    assert!(!String::from_utf8_lossy(&answer).contains(PRIVATE));
    for (fake, id) in fakes.iter().zip(&ids) {
        fake.wait_for(1).await;
        // The answer has been dealt with: it is an error, or all is delivered.
        let started = Instant::now();
        loop {
            let stats = scene.gateway().stats(id).await;
            if stats["last_error"] != json!(null) || stats["delivered"] == 10 {
                break;
            }
            assert!(started.elapsed() < PATIENCE, "{stats:#}");
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    }
    let mut replies = Vec::new();
    for round in 0..2 {
        for id in &ids {
            let path = format!("/observability/destinations/{id}");
            for call in ["", "/stats", "/dead-letters"] {
                replies.push(scene.gateway().api("GET", &format!("{path}{call}"), None).await.1.to_string());
            }
            replies.push(scene.gateway().api("POST", &format!("{path}/test"), None).await.1.to_string());
        }
        for call in ["/observability/stats", "/observability/destinations", "/keys"] {
            replies.push(scene.gateway().api("GET", call, None).await.1.to_string());
        }
        let metrics = reqwest::get(format!("{}/metrics", scene.gateway().admin)).await.expect("metrics");
        replies.push(metrics.text().await.expect("text"));
        if round == 0 {
            scene.kill();
            scene.start();
        }
    }
    for reply in &replies {
        for needle in [SECRET, PRIVATE, INGEST_KEY, MANAGEMENT_KEY] {
            assert!(!reply.contains(needle), "{needle}: {reply}");
        }
    }
    // A place without privacy shows that the scene still lives.
    scene.place("healthy", Fault::None).await;
    let fresh = scene.fresh().await;
    scene.stop().await;
    for needle in [SECRET, PRIVATE, INGEST_KEY, MANAGEMENT_KEY] {
        let found: Vec<_> = files_with(scene.home.path(), needle);
        let found: Vec<_> = found.into_iter().filter(|path| !path.ends_with("config.yaml")).collect();
        assert_eq!(found, Vec::<String>::new(), "{needle}");
    }
    let stderr = scene.home.stderr();
    assert!(!stderr.contains("panicked"), "{stderr}");
    assert!(stderr.contains("gossip 401"), "the log is the one that was searched");
    Row {
        test: "canaries_in_the_storm",
        fault: "receivers that quote whole requests in every kind of refusal; log level trace; kill -9",
        load: format!("10 spans with private content to {} private destinations with secrets", ids.len()),
        expected: "no secret and no private content in logs, replies, metrics, dead letters, files",
        measured: format!(
            "0 of 4 canaries in {} replies, {} KB of log and the data directory; fresh event after {} ms",
            replies.len(),
            stderr.len() / 1000,
            fresh.as_millis()
        ),
    }
    .record();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_tells_no_secret() {
    let mut scene = Scene::open_with("", |home| {
        let file = home.path().join("panic.txt").display().to_string();
        vec![("UNDER_TEST_PANIC", file), ("RUST_BACKTRACE", "1".to_owned())]
    })
    .await;
    scene.place("healthy", Fault::None).await;
    // Put there in one step, so that it is never read half.
    let (part, whole) = (scene.home.path().join("panic.part"), scene.home.path().join("panic.txt"));
    std::fs::write(&part, format!("byte index 3 is out of bounds of `{SECRET} {PRIVATE}`"))
        .expect("the text");
    std::fs::rename(&part, &whole).expect("the text in its place");
    let started = Instant::now();
    while !scene.home.stderr().contains("panicked") {
        assert!(started.elapsed() < PATIENCE, "no word of the panic: {}", scene.home.stderr());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let fresh = scene.fresh().await;
    scene.stop().await;
    let stderr = scene.home.stderr();
    assert!(stderr.contains("tracecast-under-test.rs"), "the place is told: {stderr}");
    for needle in [SECRET, PRIVATE] {
        assert!(!stderr.contains(needle), "{needle}: {stderr}");
    }
    Row {
        test: "a_panic_tells_no_secret",
        fault: "a thread of the process panics with a message that quotes a secret and private content",
        load: "1 span afterwards".to_owned(),
        expected: "the log tells the place and not the message; the process goes on and stops with 0",
        measured: format!("0 of 2 canaries in the log, fresh event after {} ms", fresh.as_millis()),
    }
    .record();
}
