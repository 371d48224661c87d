//! What privacy mode removes exists nowhere: not at the destination, not on disk, not in logs or answers.

use std::path::Path;

use serde_json::json;
use tracecast_otlp::write::OwnedValue;
use tracecast_tests::fakes::Fake;
use tracecast_tests::process::{Home, INGEST_KEY, MANAGEMENT_KEY};
use tracecast_tests::spans::{generation, request};

use crate::BINARY;

const CANARY: &str = "canary-9d2f-content";

/// Files below `directory` whose bytes contain `needle`.
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
async fn content_reaches_no_private_destination_and_no_disk() {
    // Refuses everything, so that dead letters and errors are covered too; it quotes what it got.
    let refusing = Fake::start(Box::new(|_, got| {
        let text = String::from_utf8_lossy(&got.body).into_owned();
        (400, "text/plain", format!("refused: {text}").into_bytes())
    }))
    .await;
    let taking = Fake::start(Box::new(|_, _| (200, "application/json", b"{}".to_vec()))).await;
    let home = Home::new(BINARY);
    home.config("");
    let gateway = home.start();
    let mut ids = Vec::new();
    for (name, fake) in [("refusing", &refusing), ("taking", &taking)] {
        let body =
            json!({ "type": "webhook", "name": name, "privacy_mode": true, "config": { "url": fake.url() } });
        ids.push(gateway.destination(body).await);
    }
    let mut span = generation(1, CANARY);
    span.status_code = 2;
    span.status_message = format!("provider said {CANARY}");
    span.events.push((
        1,
        "exception".into(),
        vec![
            ("exception.type".into(), OwnedValue::from("RateLimit")),
            ("exception.message".into(), OwnedValue::from(CANARY)),
        ],
    ));
    for key in [
        "input.value",
        "llm.input_messages.0.message.content",
        "ai.prompt",
        "traceloop.entity.input",
        "langfuse.observation.input",
    ] {
        span.attributes.push((key.into(), OwnedValue::from(CANARY)));
    }
    span.attributes
        .push(("some.unknown.blob".into(), OwnedValue::Str(format!("{CANARY} {}", "x".repeat(2000)))));
    span.attributes.push(("some.unknown.list".into(), OwnedValue::Array(vec![OwnedValue::from(CANARY)])));
    assert_eq!(gateway.send(request(&[span, generation(2, CANARY)])).await.0, 200);
    let stats = gateway.settled(&ids[0], 2).await;
    assert_eq!(stats["dead_lettered"], 2, "{stats:#}");
    gateway.settled(&ids[1], 2).await;

    for fake in [&refusing, &taking] {
        assert!(!fake.requests().is_empty());
        for got in fake.requests() {
            let text = String::from_utf8_lossy(&got.body).into_owned();
            assert!(!text.contains(CANARY), "{text}");
            if got.status < 300 {
                assert!(
                    text.contains("gpt-4o") && text.contains("RateLimit") || !text.contains("exception"),
                    "{text}"
                );
                assert!(text.contains("trace.metadata.feature"), "metadata stays: {text}");
            }
        }
    }
    assert!(!gateway.stats(&ids[0]).await.to_string().contains(CANARY));
    assert_eq!(gateway.stop(), 0);
    assert_eq!(files_with(home.path(), CANARY), Vec::<String>::new());
    assert!(
        files_with(home.path(), "gpt-4o").iter().any(|f| f.contains("log")),
        "the search finds what is there"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_nowhere_in_clear() {
    let home = Home::new(BINARY);
    home.config("");
    let fake = Fake::start(Box::new(|_, _| (401, "text/plain", b"no".to_vec()))).await;
    let gateway = home.start();
    let secret = "very-secret-canary-0001";
    let ids = [
        gateway
            .simple(
                "langfuse",
                "lf",
                json!({ "publicKey": "pk-lf-tests-0001", "secretKey": secret, "baseUrl": fake.url() }),
            )
            .await,
        gateway
            .simple(
                "webhook",
                "wh",
                json!({ "url": fake.url(), "headers": { "authorization": format!("Bearer {secret}") } }),
            )
            .await,
    ];
    assert_eq!(gateway.send(request(&[generation(1, "x")])).await.0, 200);
    fake.wait_for(2).await;
    for id in &ids {
        for path in
            [format!("/observability/destinations/{id}"), format!("/observability/destinations/{id}/stats")]
        {
            let (_, answer) = gateway.api("GET", &path, None).await;
            assert!(!answer.to_string().contains(secret), "{answer}");
        }
    }
    let metrics = reqwest::get(format!("{}/metrics", gateway.admin))
        .await
        .expect("metrics")
        .text()
        .await
        .expect("text");
    for needle in [secret, INGEST_KEY, MANAGEMENT_KEY] {
        assert!(!metrics.contains(needle));
    }
    assert_eq!(gateway.stop(), 0);
    for needle in [secret, INGEST_KEY, MANAGEMENT_KEY] {
        let found: Vec<String> =
            files_with(home.path(), needle).into_iter().filter(|f| !f.ends_with("config.yaml")).collect();
        assert_eq!(found, Vec::<String>::new(), "{needle} is on disk");
    }
}
