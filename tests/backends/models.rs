//! What is sent to vendors whose servers cannot be had: bodies of the real process, and the golden bodies of the sinks
//! (which a test of theirs holds to be what is sent), against the models of the vendors'
//! own SDKs (opik, langsmith, braintrust, weave, posthog), the names of theirs (langfuse, OpenInference for arize) and
//! Sentry Relay's normalizer.

use std::path::Path;

use serde_json::{Map, Value as Json, json};
use tracecast_tests::fakes::{Fake, Got};
use tracecast_tests::process::Home;

use crate::python::{run_json, venv};
use crate::sdks::{BINARY, send};

#[test]
fn golden_bodies_fit_the_vendors_own_models() {
    let sinks = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/sinks/src");
    let sinks = sinks.to_str().expect("a path in letters");
    let found = run_json(&venv("models"), "vendor_models.py", &[sinks]);
    // Six spans; Opik has a trace for each of the five scenes beside them, LangSmith the usage of two calls, PostHog its
    // messages and usage. Of the dialects the names that are added, in all scenes.
    let checked = json!({
        "arize": 75, "braintrust": 6, "langfuse": 29, "langsmith": 8, "opik": 11, "posthog": 15, "sentry": 6, "weave": 6,
    });
    assert_eq!(found, json!({ "checked": checked, "wrong": [], "blind": [] }), "{found:#}");
}

/// Kind, config but for the address, and how the paths of its requests end, in the order of one batch.
fn kinds() -> [(&'static str, Json, &'static [&'static str]); 5] {
    [
        ("braintrust", json!({ "apiKey": "key-of-tests", "projectId": "p" }), &["/v1/project_logs/p/insert"]),
        (
            "langsmith",
            json!({ "apiKey": "key-of-tests", "headers": { "x-tracecast-encoding": "multipart" } }),
            &["/runs/multipart"],
        ),
        (
            "opik",
            json!({ "apiKey": "key-of-tests", "workspace": "w", "projectName": "p" }),
            &["/v1/private/traces/batch", "/v1/private/spans/batch"],
        ),
        ("posthog", json!({ "apiKey": "key-of-tests" }), &["/i/v0/ai/batch/"]),
        (
            "weave",
            json!({ "apiKey": "key-of-tests", "entity": "e", "project": "p" }),
            &["/v2/e/p/calls/complete"],
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_of_the_product_fit_the_vendors_own_models() {
    let home = Home::new(BINARY);
    home.config("");
    let gateway = home.start();
    let mut vendors = Vec::new();
    for (kind, mut config, paths) in kinds() {
        let vendor = Fake::start(Box::new(move |_, got| {
            let known = paths.iter().any(|path| got.path == *path);
            (if known { 200 } else { 404 }, "application/json", b"{}".to_vec())
        }))
        .await;
        let address = if kind == "posthog" || kind == "langsmith" { "endpoint" } else { "baseUrl" };
        config[address] = vendor.url().into();
        vendors.push((kind, paths, gateway.simple(kind, kind, config).await, vendor));
    }
    // 3 requests, each a generation below a parent.
    send(&gateway, "http", "app", "hello", 3);
    let bodies = home.path().join("bodies");
    for (kind, paths, id, vendor) in &vendors {
        gateway.settled(id, 6).await;
        let got = vendor.requests();
        assert!(got.iter().all(|got| got.status == 200), "{kind}: {:?}", got[0].path);
        let mut scenes = Map::new();
        for (i, batch) in got.chunks(paths.len()).enumerate() {
            let sent: Vec<&str> = batch.iter().map(|got| got.path.as_str()).collect();
            assert_eq!(sent, *paths);
            let parts = match *kind {
                "langsmith" => multipart(&batch[0]).into(),
                _ => {
                    batch.iter().map(|got| serde_json::from_slice::<Json>(&got.body).expect("JSON")).collect()
                }
            };
            scenes.insert(format!("batch {i}"), parts);
        }
        std::fs::create_dir_all(bodies.join(kind)).expect("the directory can be made");
        let file = bodies.join(kind).join("golden.json");
        std::fs::write(file, Json::from(scenes).to_string()).expect("the bodies can be written");
    }
    let found = run_json(&venv("models"), "vendor_models.py", &[bodies.to_str().expect("a path in letters")]);
    // Beside the six spans: three traces of Opik, the usage of three calls at LangSmith and PostHog, and PostHog's six
    // messages.
    let checked = json!({ "braintrust": 6, "langsmith": 9, "opik": 9, "posthog": 15, "weave": 6 });
    assert_eq!(found, json!({ "checked": checked, "wrong": [], "blind": [] }), "{found:#}");
}

/// The parts of a multipart body by their names.
fn multipart(got: &Got) -> Map<String, Json> {
    let kind = got.headers["content-type"].to_str().expect("text");
    let (_, boundary) = kind.split_once("boundary=").expect("a boundary");
    let body = std::str::from_utf8(&got.body).expect("text");
    let (parts, end) = body.rsplit_once(&format!("--{boundary}--")).expect("the end");
    assert_eq!(end.trim(), "");
    let part = |part: &str| {
        let (head, body) = part.split_once("\r\n\r\n").expect("a head");
        let name = head.split('"').nth(1).expect("a name").to_owned();
        (name, serde_json::from_str(body).unwrap_or_else(|e| panic!("{e}: {body}")))
    };
    parts.split(&format!("--{boundary}\r\n")).filter(|text| !text.is_empty()).map(part).collect()
}
