//! What a vendor knows a delivery by is the same on every attempt: retried, and after a crash.

use serde_json::{Value as Json, json};
use tracecast_otlp::hex;
use tracecast_tests::fakes::{Fake, Got, decode};
use tracecast_tests::process::Home;
use tracecast_tests::spans::{generation, request};

use crate::BINARY;

/// Kind, config for a vendor at a URL, and what the vendor tells deliveries apart by.
type Case = (&'static str, fn(&str) -> Json, fn(&Got) -> String);

const CASES: [Case; 5] = [
    ("otel-collector", |url| json!({ "endpoint": url }), span_ids),
    ("langfuse", |url| json!({ "publicKey": "pk-lf-1", "secretKey": "sk-lf-1", "baseUrl": url }), span_ids),
    (
        "webhook",
        |url| json!({ "url": url }),
        |got| format!("{:?} {:?}", got.headers.get("webhook-id"), got.headers.get("idempotency-key")),
    ),
    (
        "s3",
        |url| {
            json!({ "bucketName": "b", "endpoint": url, "provider": "other", "accessKeyId": "AKIA",
                    "secretAccessKey": "secret" })
        },
        |got| got.path.split('?').next().unwrap_or_default().to_owned(),
    ),
    (
        "clickhouse",
        |url| json!({ "host": url, "database": "d", "username": "u", "password": "p" }),
        |got| {
            let pairs = got.path.split(['?', '&']);
            pairs.filter(|pair| pair.starts_with("insert_deduplication_token=")).collect()
        },
    ),
];

fn span_ids(got: &Got) -> String {
    let mut ids: Vec<String> = decode(got)
        .expect("OTLP")
        .iter()
        .map(|span| format!("{}/{}", hex(&span.trace_id), hex(&span.span_id)))
        .collect();
    ids.sort();
    ids.join(" ")
}

/// ClickHouse is asked for its columns first; that is no delivery.
fn is_question(got: &Got) -> bool {
    got.path.contains("DESCRIBE") || String::from_utf8_lossy(&got.body).contains("DESCRIBE")
}

fn columns() -> Vec<u8> {
    let row = |name: &str, kind: &str| json!({ "name": name, "type": kind, "default_type": "" }).to_string();
    [row("TRACE_ID", "String"), row("SPAN_ID", "String"), row("TIMESTAMP", "DateTime64(3)")]
        .join("\n")
        .into_bytes()
}

#[tokio::test(flavor = "multi_thread")]
async fn retries_and_a_restart_repeat_the_identity() {
    let home = Home::new(BINARY);
    home.config("");
    let mut gateway = home.start();
    let mut destinations = Vec::new();
    for (kind, config, identity) in CASES {
        let open = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let is_open = open.clone();
        let fake = Fake::start(Box::new(move |_, got| {
            if is_question(got) {
                return (200, "application/json", columns());
            }
            match is_open.load(std::sync::atomic::Ordering::SeqCst) {
                true => (200, "application/json", b"{}".to_vec()),
                false => (503, "text/plain", Vec::new()),
            }
        }))
        .await;
        let id = gateway.simple(kind, kind, config(&fake.url())).await;
        destinations.push((kind, id, identity, fake, open));
    }
    let spans = [generation(1, "a"), generation(2, "b"), generation(3, "c")];
    assert_eq!(gateway.send(request(&spans)).await.0, 200);
    // Retried within one process, then killed in the middle of it, twice.
    for attempts in [2, 4] {
        for (_, _, _, fake, _) in &destinations {
            fake.wait_for(attempts).await;
        }
        gateway.kill();
        gateway = home.start();
    }
    for (_, _, _, _, open) in &destinations {
        open.store(true, std::sync::atomic::Ordering::SeqCst);
    }
    for (kind, id, identity, fake, _) in &destinations {
        // At once, whatever the state the failures have led to.
        gateway.api("POST", &format!("/observability/destinations/{id}/resume"), None).await;
        assert_eq!(gateway.settled(id, 3).await["delivered"], 3, "{kind}");
        let got: Vec<Got> = fake.requests().into_iter().filter(|got| !is_question(got)).collect();
        let delivered: Vec<String> = got.iter().filter(|got| got.status == 200).map(identity).collect();
        assert!(!delivered.is_empty() && delivered.iter().all(|id| !id.is_empty()), "{kind}: {delivered:?}");
        // An S3 destination writes an object for each trace, the others one batch.
        assert_eq!(delivered.len(), if *kind == "s3" { 3 } else { 1 }, "{kind}: {delivered:?}");
        for attempt in &got {
            let seen = identity(attempt);
            assert!(delivered.contains(&seen), "{kind}: attempt {seen}, delivered {delivered:?}");
        }
        assert!(got.len() > delivered.len(), "{kind} was retried");
    }
}
