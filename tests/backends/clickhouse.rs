//! chDB (the ClickHouse engine) behind `clickhouse`: the rows it holds after delivery, retry and privacy.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};
use tracecast_tests::process::{Home, PATIENCE};

use crate::python::{Server, client, free_port, script, venv};
use crate::sdks::{ANSWERING_MODEL, BINARY, COST, INPUT_TOKENS, OUTPUT_TOKENS, Sent, send};

const CANARY: &str = "canary-prompt-77aa";
const PASSWORD: &str = "tests-password";

async fn clickhouse(name: &str, data: &Path) -> Server {
    let port = free_port();
    Server::start(
        name,
        port,
        "/ping",
        Command::new(venv("clickhouse").join("bin/python"))
            .arg(script("chdb_http.py"))
            .arg(port.to_string())
            .arg(data)
            .env("CH_USER", "default")
            .env("CH_PASSWORD", PASSWORD),
    )
    .await
}

/// Rows of a query as JSON objects.
async fn query(server: &Server, sql: &str) -> Vec<Json> {
    let request = client()
        .post(format!("{}/", server.url))
        .header("x-clickhouse-user", "default")
        .header("x-clickhouse-key", PASSWORD);
    let response = request.body(sql.to_owned()).send().await.expect("clickhouse answers");
    let status = response.status();
    let text = response.text().await.expect("a body");
    assert!(status.is_success(), "{sql}: {text}");
    text.lines().map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("{e}: {l}"))).collect()
}

/// Sets how many inserts shall be done and not answered; gives the tokens of the inserts done so far.
async fn lose_answers(server: &Server, count: u64) -> Vec<String> {
    let answer = client().post(format!("{}/lose-answers?count={count}", server.url)).send().await;
    answer.expect("the script answers").json().await.expect("tokens")
}

fn destination(server: &Server, password: &str, table: &str) -> Json {
    let config = json!({
        "host": server.url, "database": "default", "username": "default", "password": password, "table": table,
    });
    json!({ "type": "clickhouse", "name": "rows", "config": config })
}

/// Each span that was sent has one row that says what was sent.
async fn check(server: &Server, sent: &[Sent]) {
    let rows = query(
        server,
        "SELECT TRACE_ID, SPAN_ID, PARENT_SPAN_ID, SPAN_TYPE, MODEL, PROVIDER_NAME, USER_ID, SESSION_ID, STATUS, \
         toUInt32(PROMPT_TOKENS) AS IN_TOKENS, toUInt32(COMPLETION_TOKENS) AS OUT_TOKENS, \
         toUInt32(TOTAL_TOKENS) AS ALL_TOKENS, toFloat64(TOTAL_COST) AS COST, \
         abs(dateDiff('second', TIMESTAMP, now64())) AS AGE FROM OPENROUTER_TRACES FORMAT JSONEachRow",
    )
    .await;
    assert_eq!(rows.len(), 2 * sent.len(), "{rows:#?}");
    let row = |span: &str| {
        rows.iter().find(|r| r["SPAN_ID"] == *span).unwrap_or_else(|| panic!("{span} has no row: {rows:#?}"))
    };
    for (n, request) in sent.iter().enumerate() {
        let parent = row(&request.parent);
        assert_eq!(parent["TRACE_ID"], *request.trace);
        assert_eq!(parent["PARENT_SPAN_ID"], Json::Null);
        let row = row(&request.generation);
        assert_eq!(row["TRACE_ID"], *request.trace);
        assert_eq!(row["PARENT_SPAN_ID"], *request.parent);
        assert_eq!(row["SPAN_TYPE"], "GENERATION", "{row:#}");
        assert_eq!(row["MODEL"], ANSWERING_MODEL, "{row:#}");
        assert_eq!(row["PROVIDER_NAME"], "openai", "{row:#}");
        assert_eq!(row["USER_ID"], "ada", "{row:#}");
        assert_eq!(row["SESSION_ID"], format!("session-{n}"), "{row:#}");
        assert_eq!(row["STATUS"], "ok", "{row:#}");
        let input = INPUT_TOKENS + n as u64;
        assert_eq!(row["IN_TOKENS"], input, "{row:#}");
        assert_eq!(row["OUT_TOKENS"], OUTPUT_TOKENS, "{row:#}");
        assert_eq!(row["ALL_TOKENS"], input + OUTPUT_TOKENS, "{row:#}");
        assert_eq!(row["COST"], COST, "{row:#}");
        // A time read in the wrong zone is hours off.
        assert!(row["AGE"].as_i64().is_some_and(|age| age < 600), "{row:#}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clickhouse_holds_one_row_a_span() {
    let home = Home::new(BINARY);
    let server = clickhouse("clickhouse", &home.path().join("chdata")).await;
    home.config("");
    let gateway = home.start();
    let diagnosis = async |body: &Json| {
        let (_, test) = gateway.api("POST", "/observability/destinations/test", Some(body)).await;
        assert!(!test.to_string().contains(PASSWORD), "{test}");
        test["data"]["diagnosis"].as_str().unwrap_or_else(|| panic!("no diagnosis: {test}")).to_owned()
    };
    let good = destination(&server, PASSWORD, "OPENROUTER_TRACES");
    assert_eq!(diagnosis(&good).await, "not_found");
    query(&server, tracecast_sinks::clickhouse::CREATE_TABLE).await;
    assert_eq!(diagnosis(&good).await, "ok");
    assert_eq!(diagnosis(&destination(&server, "not-the-password", "OPENROUTER_TRACES")).await, "auth");
    query(&server, "CREATE TABLE OTHER (A String) ENGINE = Memory").await;
    assert_eq!(diagnosis(&destination(&server, PASSWORD, "OTHER")).await, "schema");

    let id = gateway.destination(good).await;
    let sent = send(&gateway, "http", "rows", CANARY, 4);
    gateway.settled(&id, 8).await;
    check(&server, &sent).await;
    let rows = query(
        &server,
        "SELECT INPUT, OUTPUT FROM OPENROUTER_TRACES WHERE SPAN_TYPE = 'GENERATION' FORMAT JSONEachRow",
    );
    for row in rows.await {
        // Both are JSON texts.
        let input: Json = serde_json::from_str(row["INPUT"].as_str().expect("text")).expect("JSON");
        assert_eq!(input["messages"][0]["content"], CANARY, "{row:#}");
        let output: Json = serde_json::from_str(row["OUTPUT"].as_str().expect("text")).expect("JSON");
        assert_eq!(output["completion"], format!("answer to {CANARY}"), "{row:#}");
    }

    let path = format!("/observability/destinations/{id}");
    let (status, answer) = gateway.api("PATCH", &path, Some(&json!({ "privacy_mode": true }))).await;
    assert_eq!(status, 200, "{answer}");
    query(&server, "TRUNCATE TABLE OPENROUTER_TRACES").await;
    let sent = send(&gateway, "grpc", "rows", CANARY, 2);
    gateway.settled(&id, 12).await;
    check(&server, &sent).await;
    let rows = query(&server, "SELECT * FROM OPENROUTER_TRACES FORMAT JSONEachRow").await;
    assert!(!rows.iter().any(|r| r.to_string().contains(CANARY)), "the canary was stored: {rows:#?}");
}

/// The answer to an insert is lost, then the gateway is killed before it could try again: the retry carries
/// the same rows and the same token, so the engine keeps them once.
#[tokio::test(flavor = "multi_thread")]
async fn a_retried_insert_leaves_no_doubles() {
    let home = Home::new(BINARY);
    let server = clickhouse("clickhouse-retry", &home.path().join("chdata")).await;
    query(&server, tracecast_sinks::clickhouse::CREATE_TABLE).await;
    home.config("");
    let gateway = home.start();
    let id = gateway.destination(destination(&server, PASSWORD, "OPENROUTER_TRACES")).await;

    // Lost once, retried by the same process.
    assert!(lose_answers(&server, 1).await.is_empty());
    let sent = send(&gateway, "http", "rows", CANARY, 3);
    gateway.settled(&id, 6).await;
    let tokens = lose_answers(&server, u64::MAX).await;
    assert!(!tokens[0].is_empty() && tokens[1..].contains(&tokens[0]), "not tried again: {tokens:?}");
    check(&server, &sent).await;

    // Lost until the gateway is gone, retried by the next one.
    query(&server, "TRUNCATE TABLE OPENROUTER_TRACES").await;
    let before = tokens.len();
    let sent = send(&gateway, "http", "rows", CANARY, 3);
    let started = Instant::now();
    while lose_answers(&server, u64::MAX).await.len() == before {
        assert!(started.elapsed() < PATIENCE, "no insert came");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    gateway.kill();
    let lost = lose_answers(&server, 0).await[before..].to_vec();
    let gateway = home.start();
    gateway.settled(&id, 12).await;
    let retried = lose_answers(&server, 0).await[before + lost.len()..].to_vec();
    assert!(lost.iter().all(|token| retried.contains(token)), "lost {lost:?}, tried again {retried:?}");
    check(&server, &sent).await;
}
