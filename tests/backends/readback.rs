//! Arize Phoenix behind `otel-collector`: what it stored is what was sent, less what privacy mode removes.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};
use tracecast_tests::process::{Home, PATIENCE};

use crate::python::{Server, free_port, venv};
use crate::sdks::{BINARY, send};

const CANARY: &str = "canary-prompt-5f1c";

async fn phoenix() -> Server {
    let python = venv("phoenix", &["arize-phoenix==20.26.1"]);
    // Its gRPC server binds all interfaces, whatever PHOENIX_HOST says; ours must stay on loopback.
    let grpc = python.join("lib/python3.11/site-packages/phoenix/server/grpc_server.py");
    let source = std::fs::read_to_string(&grpc).expect("phoenix's gRPC server");
    std::fs::write(&grpc, source.replace("[::]:", "127.0.0.1:")).expect("it can be patched");
    let (port, grpc_port) = (free_port(), free_port());
    let data = python.join(format!("data-{port}"));
    Server::start(
        "phoenix",
        port,
        "/healthz",
        Command::new(python.join("bin/phoenix"))
            .arg("serve")
            .env("PHOENIX_WORKING_DIR", &data)
            .env("PHOENIX_HOST", "127.0.0.1")
            .env("PHOENIX_PORT", port.to_string())
            .env("PHOENIX_GRPC_PORT", grpc_port.to_string())
            .env("PHOENIX_TELEMETRY_ENABLED", "false")
            .env("PHOENIX_ALLOW_EXTERNAL_RESOURCES", "false")
            .env("PHOENIX_DISABLE_AGENT_ASSISTANT", "true")
            .env("PHOENIX_AGENTS_DISABLE_BASH", "true"),
    )
    .await
}

/// The stored spans of a project, once there are `count`.
async fn stored(phoenix: &Server, project: &str, count: usize) -> Vec<Json> {
    let url = format!("{}/v1/projects/{project}/spans?limit=100", phoenix.url);
    let started = Instant::now();
    loop {
        let response = reqwest::get(&url).await.expect("phoenix answers");
        let body: Json = response.json().await.unwrap_or_default();
        let spans = body["data"].as_array().cloned().unwrap_or_default();
        if spans.len() >= count {
            return spans;
        }
        assert!(started.elapsed() < PATIENCE, "phoenix stored {} of {count} spans: {body}", spans.len());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn phoenix_stores_ids_model_tokens_and_no_content_under_privacy() {
    let phoenix = phoenix().await;
    let home = Home::new(BINARY);
    home.config("");
    let gateway = home.start();
    let open = gateway.simple("otel-collector", "open", json!({ "endpoint": phoenix.url })).await;
    let sent = send(&gateway, "http", "open-project", CANARY, 3);
    gateway.settled(&open, 6).await;

    let spans = stored(&phoenix, "open-project", 6).await;
    for (trace, span) in &sent {
        let found = spans.iter().find(|s| s["context"]["span_id"] == **span);
        let found = found.unwrap_or_else(|| panic!("{span} is not stored"));
        assert_eq!(found["context"]["trace_id"], **trace);
    }
    let generations: Vec<&Json> = spans.iter().filter(|s| s["span_kind"] == "LLM").collect();
    assert_eq!(generations.len(), 3);
    for generation in &generations {
        let attributes = &generation["attributes"];
        assert_eq!(attributes["gen_ai.request.model"], "gpt-4o", "{attributes:#}");
        assert_eq!(attributes["gen_ai.usage.output_tokens"], 12);
        assert_eq!(attributes["gen_ai.usage.cost"], 0.00125);
    }
    assert!(spans.iter().any(|s| s.to_string().contains(CANARY)), "without privacy the prompt is stored");

    // The same application again, with the destination now in privacy mode.
    let path = format!("/observability/destinations/{open}");
    let (status, body) = gateway.api("PATCH", &path, Some(&json!({ "privacy_mode": true }))).await;
    assert_eq!(status, 200, "{body}");
    send(&gateway, "grpc", "private-project", CANARY, 3);
    gateway.settled(&open, 12).await;
    let spans = stored(&phoenix, "private-project", 6).await;
    assert!(!spans.iter().any(|s| s.to_string().contains(CANARY)), "the canary was stored: {spans:#?}");
    let generation = spans.iter().find(|s| s["span_kind"] == "LLM").expect("a generation");
    assert_eq!(generation["attributes"]["gen_ai.request.model"], "gpt-4o");
    assert_eq!(generation["attributes"]["gen_ai.usage.output_tokens"], 12);
}
