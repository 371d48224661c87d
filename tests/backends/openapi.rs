//! schemathesis reads the gateway's own `/openapi.json` and calls every operation with what it may and may not be
//! given: no 5xx, and every answer is of a status, a type and a shape the document names.

use std::process::Command;

use serde_json::Value as Json;
use tracecast_tests::process::{Home, MANAGEMENT_KEY};

use crate::python::{client, venv};
use crate::sdks::BINARY;

/// Seconds; what is not done by then is a failure.
const BOUND: &str = "90";
/// Cases per operation and phase.
const EXAMPLES: &str = "10";
/// What an answer is held against. Two of schemathesis' checks are left out: which valid bodies are refused is a
/// matter of rules no schema can tell (a free slug, a kind of this build), and `null` in a query means "not given".
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
                      response_headers_conformance,response_schema_conformance,ignored_auth,unsupported_method,\
                      allow_header_conformance,use_after_free,ensure_resource_availability";

#[tokio::test(flavor = "multi_thread")]
async fn schemathesis_finds_nothing() {
    let home = Home::new(BINARY);
    // A connection test of a made-up address ends at once.
    home.config("outbound: { deny_private_addresses: true }\n");
    let gateway = home.start();
    let url = format!("{}/openapi.json", gateway.admin);
    let document = client().get(&url).send().await.expect("the admin listener answers");
    assert_eq!(document.status(), 200);
    let document: Json = document.json().await.expect("JSON");
    let paths = document["paths"].as_object().expect("paths");
    let operations: usize = paths.values().filter_map(Json::as_object).map(|path| path.len()).sum();
    assert!(operations > 20, "{operations} operations are documented");

    let mut command = Command::new("timeout");
    command
        .arg(BOUND)
        .arg(venv("schemathesis").join("bin/schemathesis"))
        .args(["run", &url, "--header", &format!("Authorization: Bearer {MANAGEMENT_KEY}")])
        .args(["--checks", CHECKS, "--max-examples", EXAMPLES])
        .args(["--phases", "examples,coverage,fuzzing,stateful"])
        // A stream without an end is no answer to a tool that waits for one.
        .args(["--exclude-path", "/api/v1/observability/tail"])
        .args(["--seed", "1", "--continue-on-failure", "--request-timeout", "20", "--warnings", "off"])
        .env("NO_PROXY", "*")
        .current_dir(home.path());
    let run = tokio::task::spawn_blocking(move || command.output()).await.expect("it ends");
    let output = run.expect("schemathesis can be run");
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{text}\n{errors}", output.status);
    let summary: Vec<&str> = text.lines().rev().take(8).collect();
    println!("{operations} operations:\n{}", summary.into_iter().rev().collect::<Vec<_>>().join("\n"));
}
