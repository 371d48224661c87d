//! Secrets are where they are needed and nowhere else: every secret field of every kind, told by the
//! gateway's own schema, against receivers that repeat what they got.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value as Json, json};
use tracecast_tests::fakes::{Fake, Got};
use tracecast_tests::process::{Gateway, Home, INGEST_KEY, MANAGEMENT_KEY};
use tracecast_tests::spans::{generation, request};

use crate::BINARY;

/// In every secret planted; no letter of it is changed by any coding used.
const CANARY: &str = "CANARYvalueNeverSeen0001";

/// Says back all it was told, under this status.
async fn echo(status: u16) -> Fake {
    Fake::start(Box::new(move |_, got: &Got| {
        let text = format!("{} {:?} {}", got.path, got.headers, String::from_utf8_lossy(&got.body));
        (status, "text/plain", text.into_bytes())
    }))
    .await
}

/// Type and config schema of every kind.
async fn kinds(gateway: &Gateway) -> Vec<(String, Json)> {
    let openapi: Json = reqwest::get(format!("{}/openapi.json", gateway.admin))
        .await
        .expect("the description")
        .json()
        .await
        .expect("JSON");
    let schemas = &openapi["components"]["schemas"];
    let kinds = schemas["DestinationCreate"]["oneOf"].as_array().expect("the kinds");
    let kind = |entry: &Json| {
        let name = entry["properties"]["type"]["const"].as_str().expect("a type").to_owned();
        let reference = entry["properties"]["config"]["$ref"].as_str().expect("a reference");
        let schema = reference.rsplit('/').next().expect("a name");
        (name, schemas[schema].clone())
    };
    kinds.iter().map(kind).collect()
}

/// A config whose every secret is the canary, and whose vendor is at `url`; and how many secrets it has.
fn canary_config(kind: &str, schema: &Json, url: &str) -> (Json, usize) {
    let mut config = json!({ "headers": { "X-Canary": format!("Bearer {CANARY}-header") } });
    let mut secrets = 1;
    let authority = url.trim_start_matches("http://");
    for (name, property) in schema["properties"].as_object().expect("properties") {
        let required = schema["required"].as_array().is_some_and(|all| all.contains(&json!(name)));
        config[name] = match (name.as_str(), property["format"].as_str()) {
            ("dsn", _) => json!(format!("http://{CANARY}@{authority}/7")),
            ("signingSecret", _) => json!(format!("whsec_{CANARY}{}", &CANARY[..8])),
            (_, Some("password")) => json!(format!("{CANARY}-{name}")),
            ("otlpEndpoint", _) => json!(format!("{url}/api/7/integration/otlp/v1/traces")),
            ("url", _) if kind == "webhook" => {
                json!(format!("http://{CANARY}-user:{CANARY}-pw@{authority}/hook?key={CANARY}-query"))
            }
            ("endpoint", _) if kind == "otel-collector" => {
                json!(format!("http://{CANARY}-user:{CANARY}-pw@{authority}/v1/traces"))
            }
            ("host", _) | (_, Some("uri")) => json!(url),
            _ if required => json!("plain"),
            _ => continue,
        };
        let is_planted = config[name].as_str().is_some_and(|text| text.contains("CANARY"));
        secrets += usize::from(is_planted);
    }
    (config, secrets)
}

/// The canary in clear or inside Basic credentials: base64 begins at one of three offsets.
fn needles() -> Vec<String> {
    let encoded = |offset: usize| {
        let text = format!("{}{CANARY}", "x".repeat(offset));
        // Whole groups of the canary alone.
        STANDARD.encode(text).trim_end_matches('=').get(4..28).expect("long enough").to_owned()
    };
    [CANARY.to_owned()].into_iter().chain((0..3).map(encoded)).collect()
}

#[track_caller]
fn assert_clean(where_from: &str, text: &str) {
    for needle in needles() {
        assert!(!text.contains(&needle), "{where_from} shows a secret: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_of_all_kinds_are_nowhere_in_clear() {
    let home = Home::new(BINARY);
    home.config("");
    let gateway = home.start_with(&[("TRACECAST_LOG", "trace")]);
    let kinds = kinds(&gateway).await;
    assert_eq!(kinds.len(), 17);
    let fakes = [echo(400).await, echo(401).await, echo(500).await, echo(200).await];
    let mut ids = Vec::new();
    for (kind, schema) in &kinds {
        for (n, fake) in fakes.iter().enumerate() {
            let (config, secrets) = canary_config(kind, schema, &fake.url());
            assert!(secrets >= 2, "{kind} has a secret of its own");
            let body = json!({ "type": kind, "name": format!("{kind}-{n}"), "config": config });
            let (_, tested) = gateway.api("POST", "/observability/destinations/test", Some(&body)).await;
            assert_clean(kind, &tested.to_string());
            let (status, answer) = gateway.api("POST", "/observability/destinations", Some(&body)).await;
            assert_clean(kind, &answer.to_string());
            // A kind without an adapter is refused, and the refusal repeats nothing.
            assert!(status == 201 || status == 400, "{kind}: {answer}");
            ids.extend(answer["data"]["id"].as_str().map(str::to_owned));
            // What cannot be accepted is not repeated either.
            let mut broken = body.clone();
            broken["config"]["headers"]["bad name"] = json!(format!("{CANARY}\n"));
            broken["config"]["unknownField"] = json!(CANARY);
            let (status, answer) = gateway.api("POST", "/observability/destinations", Some(&broken)).await;
            assert_eq!(status, 400);
            assert_clean(kind, &answer.to_string());
        }
    }
    assert!(ids.len() >= 20, "the kinds of this build are there: {}", ids.len());
    assert_eq!(gateway.send(request(&[generation(1, "x")])).await.0, 200);
    for fake in &fakes {
        fake.wait_for(3).await;
    }
    for id in &ids {
        let path = format!("/observability/destinations/{id}");
        let change = json!({ "config": { "headers": { "X-Other": format!("{CANARY}-changed") } } });
        assert_clean(id, &gateway.api("PATCH", &path, Some(&change)).await.1.to_string());
        for more in ["", "/stats", "/dead-letters"] {
            assert_clean(id, &gateway.api("GET", &format!("{path}{more}"), None).await.1.to_string());
        }
        assert_clean(id, &gateway.api("POST", &format!("{path}/test"), None).await.1.to_string());
    }
    for path in ["/observability/destinations?limit=100", "/observability/stats", "/audit-log", "/keys"] {
        assert_clean(path, &gateway.api("GET", path, None).await.1.to_string());
    }
    let metrics = reqwest::get(format!("{}/metrics", gateway.admin)).await.expect("metrics");
    let metrics = metrics.text().await.expect("text");
    assert_clean("/metrics", &metrics);
    for needle in [INGEST_KEY, MANAGEMENT_KEY] {
        assert!(!metrics.contains(needle));
    }
    assert_eq!(gateway.stop(), 0);
    // Sealed in the store, absent in the log, in dead letters, and in what was written to stderr.
    assert!(home.stderr().contains("DEBUG"), "more than usual was written");
    for needle in needles() {
        assert_eq!(home.files_with(&needle), Vec::<String>::new(), "{needle}");
    }
    for needle in [INGEST_KEY, MANAGEMENT_KEY] {
        let mut found = home.files_with(needle);
        found.retain(|file| !file.ends_with("config.yaml"));
        assert_eq!(found, Vec::<String>::new(), "{needle}");
    }
    let gateway = home.start();
    for id in &ids {
        let (status, answer) = gateway.api("GET", &format!("/observability/destinations/{id}"), None).await;
        assert_eq!(status, 200);
        assert_clean(id, &answer.to_string());
    }
}

#[test]
fn the_needles_find_what_they_are_for() {
    for text in [
        format!("u:{CANARY}"),
        STANDARD.encode(format!("pk:{CANARY}-secretKey")),
        STANDARD.encode(format!("user:{CANARY}")),
        STANDARD.encode(format!("{CANARY}:x")),
        STANDARD.encode(format!("user-2:{CANARY}")),
    ] {
        assert!(needles().iter().any(|needle| text.contains(needle)), "{text}");
    }
}
