//! MLflow, a second reader of OTLP behind `otel-collector`: the totals it derives from what it stored.

use std::path::Path;
use std::process::Command;

use serde_json::{Value as Json, json};
use tracecast_tests::process::Home;

use crate::python::{Server, client, free_port, venv};
use crate::sdks::{BINARY, INPUT_TOKENS, MODEL, OUTPUT_TOKENS, Sent, send};

const CANARY: &str = "canary-prompt-e20b";

/// The application `mlflow server` runs, without the job processes it starts besides.
async fn mlflow(data: &Path) -> Server {
    std::fs::create_dir_all(data).expect("the directory can be made");
    let python = venv("mlflow");
    let port = free_port();
    let store = format!("sqlite:///{}", data.join("mlflow.db").display());
    Server::start(
        "mlflow",
        port,
        "/health",
        Command::new(python.join("bin/python"))
            .args(["-m", "uvicorn", "--host", "127.0.0.1", "--port", &port.to_string()])
            .arg("mlflow.server.fastapi_app:app")
            .current_dir(data)
            .env("_MLFLOW_SERVER_FILE_STORE", &store)
            .env("_MLFLOW_SERVER_REGISTRY_STORE", &store)
            .env("_MLFLOW_SERVER_ARTIFACT_ROOT", data.join("artifacts"))
            .env("TMPDIR", data)
            .env("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")
            .env("MLFLOW_DISABLE_TELEMETRY", "true")
            .env("DO_NOT_TRACK", "true"),
    )
    .await
}

async fn experiment(mlflow: &Server, name: &str) -> String {
    let url = format!("{}/api/2.0/mlflow/experiments/create", mlflow.url);
    let response = client().post(url).json(&json!({ "name": name })).send().await.expect("mlflow answers");
    let answer: Json = response.json().await.expect("JSON");
    answer["experiment_id"].as_str().unwrap_or_else(|| panic!("no experiment: {answer}")).to_owned()
}

/// The stored trace of a request.
async fn trace(mlflow: &Server, sent: &Sent) -> Json {
    let url = format!("{}/api/3.0/mlflow/traces/get?trace_id=tr-{}", mlflow.url, sent.trace);
    let response = client().get(url).send().await.expect("mlflow answers");
    let status = response.status();
    let answer: Json = response.json().await.expect("JSON");
    assert!(status.is_success(), "{answer}");
    answer["trace"].clone()
}

/// Checks what MLflow made of the `n`-th request.
fn check(trace: &Json, sent: &Sent, experiment: &str, n: u64) {
    let info = &trace["trace_info"];
    assert_eq!(info["trace_location"]["mlflow_experiment"]["experiment_id"], experiment, "{info:#}");
    let metadata = |key: &str| info["trace_metadata"][key].as_str().unwrap_or_default();
    let usage: Json = serde_json::from_str(metadata("mlflow.trace.tokenUsage")).unwrap_or_default();
    let (input, output) = (INPUT_TOKENS + n, OUTPUT_TOKENS);
    let expected = json!({ "input_tokens": input, "output_tokens": output, "total_tokens": input + output });
    assert_eq!(usage, expected, "{info:#}");
    // MLflow computes the cost itself, from the model and the tokens: it must have recognised both.
    let cost: Json = serde_json::from_str(metadata("mlflow.trace.cost")).unwrap_or_default();
    assert!(cost["total_cost"].as_f64().is_some_and(|c| c > 0.0), "{info:#}");
    assert_eq!(metadata("mlflow.trace.session"), format!("session-{n}"), "{info:#}");
    assert_eq!(metadata("mlflow.trace.user"), "ada", "{info:#}");

    let spans = trace["spans"].as_array().expect("spans");
    assert_eq!(spans.len(), 2, "{trace:#}");
    let generation = spans.iter().find(|s| s["name"] == "chat gpt-4o").expect("the generation is stored");
    assert_eq!(generation["span_id"], base64(&sent.generation), "{generation:#}");
    assert_eq!(generation["parent_span_id"], base64(&sent.parent), "{generation:#}");
    let attributes = generation["attributes"].as_array().expect("attributes");
    let model = attributes.iter().find(|a| a["key"] == "mlflow.llm.model").expect("a model");
    assert_eq!(model["value"]["string_value"], MODEL);
}

/// A hex id as MLflow writes it.
fn base64(hex: &str) -> String {
    use base64::Engine as _;
    let byte = |i: usize| u8::from_str_radix(&hex[i..i + 2], 16).expect("hex");
    let bytes: Vec<u8> = (0..hex.len()).step_by(2).map(byte).collect();
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

#[tokio::test(flavor = "multi_thread")]
async fn mlflow_derives_tokens_and_cost_with_and_without_content() {
    let home = Home::new(BINARY);
    let mlflow = mlflow(&home.path().join("mlflow")).await;
    let open = experiment(&mlflow, "open").await;
    let private = experiment(&mlflow, "private").await;
    home.config("");
    let gateway = home.start();
    let destination = |name: &str, experiment: &str| {
        let headers = json!({ "x-mlflow-experiment-id": experiment });
        json!({ "type": "otel-collector", "name": name, "config": { "endpoint": mlflow.url, "headers": headers } })
    };
    let (_, test) =
        gateway.api("POST", "/observability/destinations/test", Some(&destination("open", &open))).await;
    assert_eq!(test["data"]["ok"], true, "{test}");

    let id = gateway.destination(destination("open", &open)).await;
    let sent = send(&gateway, "grpc", "app", CANARY, 3);
    gateway.settled(&id, 6).await;
    for (n, request) in sent.iter().enumerate() {
        let trace = trace(&mlflow, request).await;
        check(&trace, request, &open, n as u64);
        assert!(trace.to_string().contains(CANARY), "without privacy the prompt is stored");
    }
    let (status, answer) = gateway.api("DELETE", &format!("/observability/destinations/{id}"), None).await;
    assert!(status < 300, "{answer}");

    let mut body = destination("private", &private);
    body["privacy_mode"] = json!(true);
    let id = gateway.destination(body).await;
    let sent = send(&gateway, "http", "app", CANARY, 3);
    gateway.settled(&id, 6).await;
    for (n, request) in sent.iter().enumerate() {
        let trace = trace(&mlflow, request).await;
        check(&trace, request, &private, n as u64);
        assert!(!trace.to_string().contains(CANARY), "the canary was stored: {trace:#}");
    }
}
