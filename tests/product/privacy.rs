//! What privacy mode removes exists nowhere: not at the destination, not on disk, not in logs or answers.

use serde_json::json;
use tracecast_otlp::write::OwnedValue;
use tracecast_tests::fakes::Fake;
use tracecast_tests::process::Home;
use tracecast_tests::spans::{generation, request};

use crate::BINARY;

const CANARY: &str = "canary-9d2f-content";

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
    assert_eq!(home.files_with(CANARY), Vec::<String>::new());
    assert!(home.files_with("gpt-4o").iter().any(|f| f.contains("log")), "the search finds what is there");
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_hold_no_private_content_even_where_the_log_does() {
    let refusing = Fake::start(Box::new(|_, got| {
        (400, "text/plain", format!("refused: {}", String::from_utf8_lossy(&got.body)).into_bytes())
    }))
    .await;
    // Keeps the content wanted, and so in the log.
    let busy = Fake::start(Box::new(|_, _| (503, "text/plain", Vec::new()))).await;
    let home = Home::new(BINARY);
    home.config("");
    let gateway = home.start_with(&[("TRACECAST_LOG", "trace")]);
    let webhook = |name: &str, private: bool, fake: &Fake| json!({ "type": "webhook", "name": name, "privacy_mode": private, "config": { "url": fake.url() } });
    let private = gateway.destination(webhook("private", true, &refusing)).await;
    let open = gateway.destination(webhook("open", false, &busy)).await;
    let event = json!({
        "model": "gpt-4o", "input": CANARY, "response": { "choices": [{ "message": { "content": CANARY } }] },
        "error": { "message": CANARY, "type": "RateLimit" }, "request": { "messages": [{ "content": CANARY }] },
    });
    assert_eq!(gateway.send(request(&[generation(1, CANARY)])).await.0, 200);
    let json_type = [("content-type", "application/json")];
    let (status, answer) = gateway.post("/v1/events", &json_type, event.to_string().into_bytes()).await;
    assert_eq!(status, 200);
    let answer: serde_json::Value = serde_json::from_slice(&answer).expect("JSON");
    let spans = 1 + answer["spans"].as_u64().expect("spans");
    assert_eq!(gateway.settled(&private, spans).await["dead_lettered"], spans);
    busy.wait_for(1).await;
    assert!(busy.requests().iter().any(|got| String::from_utf8_lossy(&got.body).contains(CANARY)));
    for got in refusing.requests() {
        assert!(!String::from_utf8_lossy(&got.body).contains(CANARY));
    }
    gateway.kill();

    let gateway = home.start_with(&[("TRACECAST_LOG", "trace")]);
    for path in [
        format!("/observability/destinations/{private}/stats"),
        format!("/observability/destinations/{private}/dead-letters"),
        format!("/observability/destinations/{open}/stats"),
        "/observability/stats".to_owned(),
        "/audit-log".to_owned(),
    ] {
        let (_, answer) = gateway.api("GET", &path, None).await;
        assert!(!answer.to_string().contains(CANARY), "{path}: {answer}");
    }
    let metrics = reqwest::get(format!("{}/metrics", gateway.admin)).await.expect("metrics");
    assert!(!metrics.text().await.expect("text").contains(CANARY));
    assert_eq!(gateway.stop(), 0);
    let found = home.files_with(CANARY);
    assert!(!found.is_empty(), "the log holds what the other destination still wants");
    for file in found {
        assert!(file.contains("/segments/"), "{file}");
    }
    assert!(home.files_with("RateLimit").iter().any(|file| file.contains("dead-letters")));
}

#[tokio::test(flavor = "multi_thread")]
async fn embedded_media_is_on_no_disk_and_reaches_no_one() {
    use base64::Engine as _;
    let image = base64::engine::general_purpose::STANDARD.encode("media canary 7f3a ".repeat(40));
    // Whole groups from the middle: found wherever the text is cut.
    let needle = &image[120..220];
    let refusing = Fake::start(Box::new(|_, _| (400, "text/plain", b"no".to_vec()))).await;
    let taking = Fake::start(Box::new(|_, _| (200, "application/json", b"{}".to_vec()))).await;
    let home = Home::new(BINARY);
    home.config("");
    let gateway = home.start_with(&[("TRACECAST_LOG", "trace")]);
    let ids = [
        gateway.simple("webhook", "refusing", json!({ "url": refusing.url() })).await,
        gateway.simple("otel-collector", "taking", json!({ "endpoint": taking.url() })).await,
    ];
    let part =
        json!({ "type": "image_url", "image_url": { "url": format!("data:image/png;base64,{image}") } });
    let audio = json!({ "type": "input_audio", "input_audio": { "data": image, "format": "wav" } });
    let messages = json!([{ "role": "user", "content": [part, audio] }]);
    let mut span = generation(1, "x");
    span.attributes.push(("gen_ai.input.messages".into(), OwnedValue::Str(messages.to_string())));
    span.events.push((
        1,
        "gen_ai.user.message".into(),
        vec![("content".into(), OwnedValue::Str(format!("data:image/png;base64,{image}")))],
    ));
    let event = json!({ "model": "gpt-4o", "messages": messages, "output": "a picture" });
    assert_eq!(gateway.send(request(&[span])).await.0, 200);
    let json_type = [("content-type", "application/json")];
    let (status, answer) = gateway.post("/v1/events", &json_type, event.to_string().into_bytes()).await;
    assert_eq!(status, 200);
    let answer: serde_json::Value = serde_json::from_slice(&answer).expect("JSON");
    let spans = 1 + answer["spans"].as_u64().expect("spans");
    assert_eq!(gateway.settled(&ids[0], spans).await["dead_lettered"], spans);
    gateway.settled(&ids[1], spans).await;
    for fake in [&refusing, &taking] {
        let bodies: Vec<String> =
            fake.requests().iter().map(|got| String::from_utf8_lossy(&got.body).into_owned()).collect();
        assert!(bodies.iter().all(|body| !body.contains(needle)));
        assert!(bodies.iter().any(|body| body.contains("[media removed: image/png, 720 bytes]")));
    }
    assert_eq!(gateway.stop(), 0);
    assert_eq!(home.files_with(needle), Vec::<String>::new());
    assert!(home.files_with("[media removed").iter().any(|file| file.contains("dead-letters")));
}
