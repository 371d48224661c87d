//! chDB (the ClickHouse engine) behind `clickhouse`: the rows it holds after delivery, retry and privacy.

use std::process::Command;

use serde_json::{Value as Json, json};
use tracecast_tests::process::Home;

use crate::python::{Server, free_port, script, venv};
use crate::sdks::{BINARY, send};

const CANARY: &str = "canary-prompt-77aa";
const PASSWORD: &str = "tests-password";

async fn clickhouse(data: &std::path::Path) -> Server {
    let python = venv("clickhouse", &["chdb-core==26.9.0"]);
    let port = free_port();
    Server::start(
        "clickhouse",
        port,
        "/ping",
        Command::new(python.join("bin/python"))
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
    let response = reqwest::Client::new()
        .post(format!("{}/", server.url))
        .header("x-clickhouse-user", "default")
        .header("x-clickhouse-key", PASSWORD)
        .body(sql.to_owned())
        .send()
        .await
        .expect("clickhouse answers");
    let status = response.status();
    let text = response.text().await.expect("a body");
    assert!(status.is_success(), "{sql}: {text}");
    text.lines().map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("{e}: {l}"))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn clickhouse_holds_one_row_a_span() {
    let home = Home::new(BINARY);
    let server = clickhouse(&home.path().join("chdata")).await;
    query(&server, tracecast_sinks::clickhouse::CREATE_TABLE).await;
    home.config("");
    let gateway = home.start();
    let config = json!({ "host": server.url, "database": "default", "username": "default", "password": PASSWORD });
    let body = json!({ "type": "clickhouse", "name": "rows", "config": config });
    let (status, test) = gateway.api("POST", "/observability/destinations/test", Some(&body)).await;
    assert_eq!((status, test["data"]["ok"].as_bool()), (200, Some(true)), "{test}");
    let mut wrong = body.clone();
    wrong["config"]["password"] = json!("not-the-password");
    let (_, test) = gateway.api("POST", "/observability/destinations/test", Some(&wrong)).await;
    assert_eq!(test["data"]["diagnosis"], "auth", "{test}");

    let id = gateway.destination(body).await;
    let sent = send(&gateway, "http", "rows", CANARY, 4);
    gateway.settled(&id, 8).await;
    let rows = query(
        &server,
        "SELECT TRACE_ID, SPAN_ID, SPAN_TYPE, MODEL, USER_ID, SESSION_ID, STATUS, toInt64(PROMPT_TOKENS) AS IN_TOKENS, \
         toInt64(COMPLETION_TOKENS) AS OUT_TOKENS, TOTAL_COST, INPUT, OUTPUT FROM OPENROUTER_TRACES FORMAT JSONEachRow",
    )
    .await;
    assert_eq!(rows.len(), 8, "{rows:#?}");
    for (trace, span) in &sent {
        assert!(rows.iter().any(|r| r["TRACE_ID"] == **trace && r["SPAN_ID"] == **span), "{span} has no row");
    }
    let generations: Vec<&Json> = rows.iter().filter(|r| r["SPAN_TYPE"] == "GENERATION").collect();
    assert_eq!(generations.len(), 4);
    for row in &generations {
        assert_eq!(row["MODEL"], "gpt-4o", "{row:#}");
        assert_eq!(row["USER_ID"], "ada");
        assert_eq!(row["STATUS"], "ok");
        let tokens = row["OUT_TOKENS"].as_i64().or_else(|| row["OUT_TOKENS"].as_str()?.parse().ok());
        assert_eq!(tokens, Some(12), "{row:#}");
        let cost = row["TOTAL_COST"].as_f64().or_else(|| row["TOTAL_COST"].as_str()?.parse().ok());
        assert!((cost.expect("a cost") - 0.00125).abs() < 1e-9, "{row:#}");
        assert!(row["INPUT"].to_string().contains(CANARY), "{row:#}");
    }

    let path = format!("/observability/destinations/{id}");
    let (status, answer) = gateway.api("PATCH", &path, Some(&json!({ "privacy_mode": true }))).await;
    assert_eq!(status, 200, "{answer}");
    query(&server, "TRUNCATE TABLE OPENROUTER_TRACES").await;
    send(&gateway, "grpc", "rows", CANARY, 2);
    gateway.settled(&id, 12).await;
    let rows = query(&server, "SELECT * FROM OPENROUTER_TRACES FORMAT JSONEachRow").await;
    assert_eq!(rows.len(), 4);
    assert!(!rows.iter().any(|r| r.to_string().contains(CANARY)), "the canary was stored");
}
