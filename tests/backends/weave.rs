//! W&B's own trace server behind `weave`: the calls it holds after delivery, retry and privacy.

use std::path::Path;
use std::process::Command;

use serde_json::{Value as Json, json};
use tracecast_tests::process::Home;

use crate::python::{Server, client, free_port, script, venv};
use crate::sdks::{ANSWERING_MODEL, BINARY, COST, INPUT_TOKENS, OUTPUT_TOKENS, Sent, send};

const CANARY: &str = "canary-prompt-0b4e";
const KEY: &str = "wandb-key-of-tests";
const PROJECT: &str = "team/shop";

async fn weave(data: &Path) -> Server {
    let port = free_port();
    Server::start(
        "weave",
        port,
        "/health",
        Command::new(venv("weave").join("bin/python"))
            .arg(script("weave_http.py"))
            .arg(port.to_string())
            .arg(data.join("weave.db"))
            .arg(KEY),
    )
    .await
}

fn destination(server: &Server, key: &str) -> Json {
    let config = json!({ "apiKey": key, "entity": "team", "project": "shop", "baseUrl": server.url });
    json!({ "type": "weave", "name": "weave", "config": config })
}

async fn calls(server: &Server) -> Vec<Json> {
    let url = format!("{}/calls/stream_query", server.url);
    let request = client().post(url).basic_auth("api", Some(KEY)).json(&json!({ "project_id": PROJECT }));
    request.send().await.expect("weave answers").json().await.expect("calls")
}

/// The next so many batches are stored and not answered; how many calls have come again so far.
async fn lose_answers(server: &Server, count: u64) -> u64 {
    let answer = client().post(format!("{}/lose-answers?count={count}", server.url)).send().await;
    answer.expect("the script answers").json().await.expect("a number")
}

/// Each span of these requests is one call that says what was sent.
fn check(calls: &[Json], sent: &[Sent]) {
    let call = |span: &str| {
        let mut found = calls.iter().filter(|call| call["id"] == *span);
        let call = found.next().unwrap_or_else(|| panic!("{span} is not stored: {calls:#?}"));
        assert!(found.next().is_none(), "{span} is stored twice");
        call
    };
    for (n, request) in sent.iter().enumerate() {
        let parent = call(&request.parent);
        assert_eq!(parent["trace_id"], *request.trace);
        assert_eq!(parent["parent_id"], Json::Null);
        assert_eq!(parent["op_name"], "handle request");
        let call = call(&request.generation);
        assert_eq!(call["project_id"], PROJECT);
        assert_eq!(call["trace_id"], *request.trace);
        assert_eq!(call["parent_id"], *request.parent);
        assert_eq!(call["op_name"], "chat gpt-4o");
        assert_eq!(call["thread_id"], format!("session-{n}"));
        assert_eq!(call["attributes"]["user_id"], "ada", "{call:#}");
        assert_eq!(call["attributes"]["provider"], "openai", "{call:#}");
        assert_eq!(call["attributes"]["cost"], COST, "{call:#}");
        assert_eq!(call["exception"], Json::Null);
        let input = INPUT_TOKENS + n as u64;
        let usage = &call["summary"]["usage"][ANSWERING_MODEL];
        assert_eq!(usage["prompt_tokens"], input, "{call:#}");
        assert_eq!(usage["completion_tokens"], OUTPUT_TOKENS, "{call:#}");
        assert_eq!(usage["requests"], 1, "{call:#}");
        // What the server derives from what it stored.
        assert_eq!(call["summary"]["weave"]["status"], "success", "{call:#}");
        assert!(call["summary"]["weave"]["latency_ms"].is_number(), "{call:#}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn weave_holds_a_call_a_span() {
    let home = Home::new(BINARY);
    let server = weave(home.path()).await;
    home.config("");
    let gateway = home.start();
    let diagnosis = async |body: &Json| {
        let (_, test) = gateway.api("POST", "/observability/destinations/test", Some(body)).await;
        test["data"]["diagnosis"].clone()
    };
    assert_eq!(diagnosis(&destination(&server, "another-key")).await, "auth");
    assert_eq!(diagnosis(&destination(&server, KEY)).await, "ok");

    // The first answer is a 404 to completed calls; the one after the first batch is lost.
    let id = gateway.destination(destination(&server, KEY)).await;
    assert_eq!(lose_answers(&server, 1).await, 0);
    let sent = send(&gateway, "http", "calls", CANARY, 3);
    gateway.settled(&id, 6).await;
    assert!(lose_answers(&server, 0).await > 0, "nothing was tried again");
    let found = calls(&server).await;
    assert_eq!(found.len(), 6, "{found:#?}");
    check(&found, &sent);
    for request in &sent {
        let call = found.iter().find(|call| call["id"] == *request.generation).expect("stored");
        assert_eq!(call["inputs"]["messages"][0]["content"], CANARY, "{call:#}");
        let answer = &call["output"]["choices"][0]["message"]["content"];
        assert_eq!(*answer, format!("answer to {CANARY}"), "{call:#}");
    }

    let path = format!("/observability/destinations/{id}");
    let (status, answer) = gateway.api("PATCH", &path, Some(&json!({ "privacy_mode": true }))).await;
    assert_eq!(status, 200, "{answer}");
    let private = send(&gateway, "grpc", "calls", CANARY, 2);
    gateway.settled(&id, 10).await;
    let mut found = calls(&server).await;
    found.retain(|call| private.iter().any(|request| call["trace_id"] == *request.trace));
    assert_eq!(found.len(), 4, "{found:#?}");
    check(&found, &private);
    assert!(!found.iter().any(|call| call.to_string().contains(CANARY)), "the canary was stored: {found:#?}");
}
