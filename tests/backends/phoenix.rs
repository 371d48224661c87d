//! Arize Phoenix behind `otel-collector`: what it stored is what it stores when the application sends to it
//! directly, less what privacy mode removes.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};
use tracecast_tests::process::{Home, PATIENCE};

use crate::arize;
use crate::python::{Server, client, free_port, packages, venv};
use crate::sdks::{self, ANSWERING_MODEL, BINARY, COST, INPUT_TOKENS, MODEL, OUTPUT_TOKENS};

const CANARY: &str = "canary-prompt-5f1c";
pub(crate) const ADMIN: &str = "admin-secret-of-the-phoenix-tests-0123456789";

async fn phoenix(data: &Path) -> Server {
    let python = venv("phoenix");
    // Its gRPC server binds all interfaces, whatever PHOENIX_HOST says; ours must stay on loopback.
    let grpc = packages(&python).join("phoenix/server/grpc_server.py");
    let source = std::fs::read_to_string(&grpc).expect("phoenix's gRPC server");
    if source.contains("[::]:") {
        // The file may be a link into uv's cache, so it is replaced and not written to.
        std::fs::remove_file(&grpc).expect("it can be replaced");
        std::fs::write(&grpc, source.replace("[::]:", "127.0.0.1:")).expect("it can be replaced");
    } else {
        assert!(source.contains("127.0.0.1:"), "phoenix binds its gRPC server elsewhere now");
    }
    let (port, grpc_port) = (free_port(), free_port());
    Server::start(
        "phoenix",
        port,
        "/healthz",
        Command::new(python.join("bin/phoenix"))
            .arg("serve")
            .env("PHOENIX_WORKING_DIR", data)
            .env("PHOENIX_HOST", "127.0.0.1")
            .env("PHOENIX_PORT", port.to_string())
            .env("PHOENIX_GRPC_PORT", grpc_port.to_string())
            .env("PHOENIX_ENABLE_AUTH", "true")
            .env("PHOENIX_SECRET", "signing-secret-of-the-phoenix-tests-0123456789")
            .env("PHOENIX_ADMIN_SECRET", ADMIN)
            .env("PHOENIX_TELEMETRY_ENABLED", "false")
            .env("PHOENIX_ALLOW_EXTERNAL_RESOURCES", "false")
            .env("PHOENIX_DISABLE_AGENT_ASSISTANT", "true")
            .env("PHOENIX_AGENTS_DISABLE_BASH", "true"),
    )
    .await
}

/// The stored spans of a project, once there are `count`; never more.
pub(crate) async fn stored(phoenix: &Server, project: &str, count: usize) -> Vec<Json> {
    let url = format!("{}/v1/projects/{project}/spans?limit=100", phoenix.url);
    let started = Instant::now();
    loop {
        let response = client().get(&url).bearer_auth(ADMIN).send().await.expect("phoenix answers");
        let body: Json = response.json().await.unwrap_or_default();
        let spans = body["data"].as_array().cloned().unwrap_or_default();
        if spans.len() >= count {
            assert_eq!(spans.len(), count, "{body:#}");
            return spans;
        }
        assert!(started.elapsed() < PATIENCE, "phoenix stored {} of {count} spans: {body}", spans.len());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// The sum of tokens Phoenix shows for a project.
async fn token_total(phoenix: &Server, project: &str) -> f64 {
    let query = json!({ "query": "{projects{edges{node{name tokenCountTotal}}}}" });
    let request = client().post(format!("{}/graphql", phoenix.url)).bearer_auth(ADMIN).json(&query);
    let answer: Json = request.send().await.expect("phoenix answers").json().await.expect("JSON");
    let edges = answer["data"]["projects"]["edges"].as_array().cloned().unwrap_or_default();
    let found = edges.iter().map(|e| &e["node"]).find(|n| n["name"] == project);
    found
        .and_then(|n| n["tokenCountTotal"].as_f64())
        .unwrap_or_else(|| panic!("no total of {project}: {answer}"))
}

/// What does not differ between two runs of the application, in a fixed order.
fn comparable(spans: &[Json]) -> Vec<Json> {
    let mut out: Vec<Json> = spans
        .iter()
        .map(|s| {
            json!({
                "session": s["attributes"]["session.id"], "name": s["name"], "span_kind": s["span_kind"],
                "root": s["parent_id"].is_null(), "status_code": s["status_code"],
                "status_message": s["status_message"], "attributes": s["attributes"], "events": s["events"],
            })
        })
        .collect();
    out.sort_by_key(|s| format!("{} {}", s["session"], s["name"]));
    out
}

fn find<'a>(spans: &'a [Json], span: &str) -> &'a Json {
    spans.iter().find(|s| s["context"]["span_id"] == *span).unwrap_or_else(|| panic!("{span} is not stored"))
}

#[tokio::test(flavor = "multi_thread")]
async fn phoenix_stores_what_was_sent_and_no_content_under_privacy() {
    let home = Home::new(BINARY);
    let phoenix = phoenix(&home.path().join("phoenix")).await;
    home.config("");
    let gateway = home.start();
    let body = |token: &str| {
        let headers = json!({ "authorization": format!("Bearer {token}") });
        json!({ "type": "otel-collector", "name": "phoenix", "config": { "endpoint": phoenix.url, "headers": headers } })
    };
    let (_, test) =
        gateway.api("POST", "/observability/destinations/test", Some(&body("not-the-token"))).await;
    assert_eq!(test["data"]["diagnosis"], "auth", "{test}");
    let (_, test) = gateway.api("POST", "/observability/destinations/test", Some(&body(ADMIN))).await;
    assert_eq!(test["data"]["ok"], true, "{test}");

    let id = gateway.destination(body(ADMIN)).await;
    let sent = sdks::send(&gateway, "http", "through", CANARY, 3);
    gateway.settled(&id, 6).await;
    let spans = stored(&phoenix, "through", 6).await;
    for (n, request) in sent.iter().enumerate() {
        assert_eq!(find(&spans, &request.parent)["context"]["trace_id"], *request.trace);
        let generation = find(&spans, &request.generation);
        assert_eq!(generation["context"]["trace_id"], *request.trace);
        assert_eq!(generation["parent_id"], *request.parent);
        assert_eq!(generation["span_kind"], "LLM");
        let attributes = &generation["attributes"];
        assert_eq!(attributes["gen_ai.request.model"], MODEL, "{attributes:#}");
        assert_eq!(attributes["gen_ai.response.model"], ANSWERING_MODEL, "{attributes:#}");
        assert_eq!(attributes["llm.token_count.prompt"], INPUT_TOKENS + n as u64, "{attributes:#}");
        assert_eq!(attributes["llm.token_count.completion"], OUTPUT_TOKENS, "{attributes:#}");
        assert_eq!(attributes["gen_ai.usage.cost"], COST, "{attributes:#}");
        assert_eq!(attributes["input.value"], CANARY, "{attributes:#}");
    }
    let tokens = 3 * (INPUT_TOKENS + OUTPUT_TOKENS) + 1 + 2;
    assert_eq!(token_total(&phoenix, "through").await, tokens as f64);

    // The same application without us in between.
    sdks::export("http", &format!("{}/v1/traces", phoenix.url), ADMIN, "direct", CANARY, 3);
    let direct = stored(&phoenix, "direct", 6).await;
    assert_eq!(comparable(&spans), comparable(&direct));

    // The same application again, with the destination now in privacy mode.
    let path = format!("/observability/destinations/{id}");
    let (status, answer) = gateway.api("PATCH", &path, Some(&json!({ "privacy_mode": true }))).await;
    assert_eq!(status, 200, "{answer}");
    let sent = sdks::send(&gateway, "grpc", "private", CANARY, 3);
    gateway.settled(&id, 12).await;
    let spans = stored(&phoenix, "private", 6).await;
    assert!(!spans.iter().any(|s| s.to_string().contains(CANARY)), "the canary was stored: {spans:#?}");
    for (n, request) in sent.iter().enumerate() {
        let attributes = &find(&spans, &request.generation)["attributes"];
        assert_eq!(attributes["gen_ai.request.model"], MODEL, "{attributes:#}");
        assert_eq!(attributes["llm.token_count.prompt"], INPUT_TOKENS + n as u64, "{attributes:#}");
        assert_eq!(attributes["gen_ai.usage.cost"], COST, "{attributes:#}");
    }
    assert_eq!(token_total(&phoenix, "private").await, tokens as f64);
    let (status, _) = gateway.api("DELETE", &path, None).await;
    assert_eq!(status, 200);

    // Here because Phoenix takes its time to start.
    arize::check(&gateway, &phoenix).await;
}
