//! The official OpenRouter SDK drives the control API unchanged: only its base URL is ours.

use serde_json::{Value as Json, json};
use tracecast_tests::process::{Gateway, Home, INGEST_KEY, MANAGEMENT_KEY};

use crate::python::{run_json, venv};
use crate::s3;
use crate::sdks::BINARY;

/// Runs one of the scripts that use the SDK.
async fn openrouter(script: &'static str, arguments: &[&str]) -> Json {
    let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
    let run = move || {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        run_json(&venv("openrouter"), script, &arguments)
    };
    tokio::task::spawn_blocking(run).await.expect("the script ends well")
}

fn gateway(more: &str) -> (Home, Gateway) {
    let home = Home::new(BINARY);
    home.config(more);
    let gateway = home.start();
    (home, gateway)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_openrouter_sdk_manages_destinations_of_every_kind() {
    let (home, gateway) = gateway("");
    let url = s3::serve(&home.path().join("s3")).await;
    let config = s3::config(&url, s3::SECRET, "per_trace").to_string();
    let script = "openrouter_conformance.py";
    let report = openrouter(script, &["destinations", &gateway.admin, MANAGEMENT_KEY, &config]).await;
    let kinds = report["kinds"].as_array().expect("a list");
    assert_eq!(kinds.len(), 17, "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_openrouter_sdk_manages_keys() {
    let (_home, gateway) = gateway("");
    openrouter("openrouter_conformance.py", &["keys", &gateway.admin, MANAGEMENT_KEY]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_openrouter_sdk_manages_workspaces() {
    let (_home, gateway) = gateway("");
    openrouter("openrouter_conformance.py", &["workspaces", &gateway.admin, MANAGEMENT_KEY]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_refusal_is_of_the_class_the_sdk_declares() {
    let declared =
        "destinations: [{ name: from the file, type: webhook, config: { url: \"http://127.0.0.1:9/x\" } }]\n";
    let (_home, gateway) = gateway(declared);
    let report = openrouter("openrouter_refusals.py", &[&gateway.admin, MANAGEMENT_KEY, INGEST_KEY]).await;
    assert!(report["refusals"].as_u64() > Some(90), "{report}");
}

/// With its own retries: 3 s of 503, a store that is held by another process, an answer lost after the write.
#[tokio::test(flavor = "multi_thread")]
async fn the_sdk_retries_and_makes_one_destination() {
    let (home, gateway) = gateway("");
    let store = home.path().join("data/control.sqlite").display().to_string();
    let report =
        openrouter("openrouter_traps.py", &["retries", &gateway.admin, MANAGEMENT_KEY, &store]).await;
    let (_, list) = gateway.api("GET", "/observability/destinations", None).await;
    assert_eq!(list["total_count"], 4, "{report} {list:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_base_url_is_told_the_right_one() {
    let (_home, gateway) = gateway("");
    let arguments = ["addresses", &gateway.admin, &gateway.http, MANAGEMENT_KEY];
    openrouter("openrouter_traps.py", &arguments).await;
    // The reverse: an exporter pointed at the admin listener.
    let response = reqwest::Client::builder().no_proxy().build().expect("a client");
    let response = response.post(format!("{}/v1/traces", gateway.admin)).body("{}").send().await;
    let response = response.expect("the admin listener answers");
    assert_eq!(response.status(), 404);
    let answer: Json = response.json().await.expect("JSON");
    assert_eq!(answer["error"]["code"], json!(404));
    let message = answer["error"]["message"].as_str().expect("a message");
    let ingest = gateway.http.trim_start_matches("http://");
    assert!(message.contains(ingest), "{message}");
}
