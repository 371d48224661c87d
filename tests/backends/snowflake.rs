//! fakesnow (DuckDB) behind Snowflake's SQL API behind `snowflake`: the rows it holds after lost answers, a
//! crash, statements that take their time, and privacy.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};
use tracecast_tests::process::{Home, PATIENCE};

use crate::python::{Server, client, free_port, script, venv};
use crate::sdks::{ANSWERING_MODEL, BINARY, COST, INPUT_TOKENS, OUTPUT_TOKENS, Sent, send};

const CANARY: &str = "canary-prompt-91dd";
/// Requests of two spans that fill a batch: a smaller one waits half a minute for company.
const FULL: u64 = 250;
const TOKEN: &str = "token-of-tests-0001";

async fn snowflake() -> Server {
    let port = free_port();
    Server::start(
        "snowflake",
        port,
        "/health",
        Command::new(venv("snowflake").join("bin/python")).arg(script("snowflake_http.py")).args([
            &port.to_string(),
            "LLM",
            "PUBLIC",
            TOKEN,
        ]),
    )
    .await
}

/// Database and table as most people write them: in lower case.
fn destination(server: &Server, token: &str, table: &str) -> Json {
    let config = json!({
        "account": "abc12345.us-east-1", "token": token, "database": "llm", "schema": "public", "table": table,
        "warehouse": "wh", "baseUrl": server.url,
    });
    json!({ "type": "snowflake", "name": "rows", "config": config })
}

/// The rows of a statement: texts and nulls, as the SQL API has them.
async fn query(server: &Server, sql: &str) -> Vec<Vec<Option<String>>> {
    let id = uuid::Uuid::new_v4();
    let body = json!({ "statement": sql, "database": "LLM", "schema": "PUBLIC", "warehouse": "WH" });
    let request = client()
        .post(format!("{}/api/v2/statements?requestId={id}", server.url))
        .bearer_auth(TOKEN)
        .header("x-snowflake-authorization-token-type", "PROGRAMMATIC_ACCESS_TOKEN")
        .header("user-agent", "tests")
        .header("accept", "application/json");
    let response = request.json(&body).send().await.expect("snowflake answers");
    let status = response.status();
    let answer: Json = response.json().await.expect("JSON");
    assert!(status.is_success(), "{sql}: {answer:#}");
    serde_json::from_value(answer["data"].clone()).expect("rows of texts")
}

/// Loses the answers to the next `lose` inserts, lets the next `hold` take their time; the inserts so far.
async fn trouble(server: &Server, lose: u64, hold: u64) -> Vec<Json> {
    let url = format!("{}/trouble?lose={lose}&hold={hold}", server.url);
    client().post(url).send().await.expect("the script answers").json().await.expect("inserts")
}

/// Each span that was sent is one row that says what was sent.
async fn check(server: &Server, sent: &[Sent]) {
    let rows = query(
        server,
        "SELECT SPAN_ID, TRACE_ID, PARENT_SPAN_ID, SPAN_TYPE, MODEL, PROVIDER_NAME, USER_ID, SESSION_ID, STATUS, \
         PROMPT_TOKENS, COMPLETION_TOKENS, TOTAL_TOKENS, TOTAL_COST, DURATION_MS >= 0, \
         ABS(DATEDIFF('second', TIMESTAMP, START_TIME)) < 5, \
         ABS(DATEDIFF('second', START_TIME, SYSDATE())) < 600 FROM OPENROUTER_TRACES",
    )
    .await;
    assert_eq!(rows.len(), 2 * sent.len(), "{rows:#?}");
    let row = |span: &str| {
        let found = rows.iter().find(|row| row[0].as_deref() == Some(span));
        found.unwrap_or_else(|| panic!("{span} has no row: {rows:#?}"))
    };
    for (n, request) in sent.iter().enumerate() {
        let parent = row(&request.parent);
        assert_eq!((parent[1].as_deref(), &parent[2]), (Some(&*request.trace), &None));
        let row = row(&request.generation);
        let texts: Vec<&str> = row[1..9].iter().map(|cell| cell.as_deref().unwrap_or("null")).collect();
        let session = format!("session-{n}");
        let expected =
            [&request.trace, &request.parent, "GENERATION", ANSWERING_MODEL, "openai", "ada", &session, "ok"];
        assert_eq!(texts, expected);
        let number = |cell: usize| -> f64 {
            let text = row[cell].as_deref().unwrap_or_else(|| panic!("no number {cell}: {row:?}"));
            text.parse().unwrap_or_else(|e| panic!("{e}: {text}"))
        };
        let input = (INPUT_TOKENS + n as u64) as f64;
        let output = OUTPUT_TOKENS as f64;
        assert_eq!((number(9), number(10), number(11)), (input, output, input + output));
        assert_eq!(number(12), COST);
        // A time read in the wrong unit or zone is hours off.
        assert!(row[13..].iter().all(|cell| cell.as_deref() == Some("true")), "{row:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn snowflake_holds_one_row_a_span() {
    let home = Home::new(BINARY);
    let server = snowflake().await;
    home.config("");
    let gateway = home.start();
    let diagnosis = async |body: &Json| {
        let (_, test) = gateway.api("POST", "/observability/destinations/test", Some(body)).await;
        assert!(!test.to_string().contains(TOKEN), "{test}");
        test["data"]["diagnosis"].as_str().unwrap_or_else(|| panic!("no diagnosis: {test}")).to_owned()
    };
    let good = destination(&server, TOKEN, "openrouter_traces");
    assert_eq!(diagnosis(&good).await, "not_found");
    query(&server, tracecast_sinks::snowflake::CREATE_TABLE).await;
    assert_eq!(diagnosis(&good).await, "ok");
    assert_eq!(diagnosis(&destination(&server, "another-token", "openrouter_traces")).await, "auth");
    query(&server, "CREATE TABLE OTHER (A VARCHAR)").await;
    assert_eq!(diagnosis(&destination(&server, TOKEN, "other")).await, "schema");

    let id = gateway.destination(good).await;
    let sent = send(&gateway, "http", "rows", CANARY, FULL);
    gateway.settled(&id, 500).await;
    check(&server, &sent).await;
    let rows = query(
        &server,
        "SELECT INPUT:messages[0].content::VARCHAR, OUTPUT:completion::VARCHAR, ATTRIBUTES:\"user.id\"::VARCHAR \
         FROM OPENROUTER_TRACES WHERE SPAN_TYPE = 'GENERATION'",
    );
    for row in rows.await {
        let texts: Vec<&str> = row.iter().map(|cell| cell.as_deref().unwrap_or("null")).collect();
        assert_eq!(texts, [CANARY, &format!("answer to {CANARY}"), "ada"]);
    }

    // The answer is lost: the statement comes again under its id, and is not run again.
    query(&server, "DELETE FROM OPENROUTER_TRACES").await;
    let before = trouble(&server, 1, 0).await.len();
    let sent = send(&gateway, "http", "rows", CANARY, FULL);
    gateway.settled(&id, 1000).await;
    check(&server, &sent).await;
    let inserts = trouble(&server, 0, 0).await.split_off(before);
    assert_eq!(inserts.len(), 2, "{inserts:#?}");
    assert_eq!(inserts[0]["id"], inserts[1]["id"]);
    assert_eq!((&inserts[0]["retry"], &inserts[1]["retry"]), (&json!(false), &json!(true)));
    assert_eq!((&inserts[0]["ran"], &inserts[1]["ran"]), (&json!(true), &json!(false)));

    // Lost until the gateway is gone: the next one knows the statement by its id as well.
    query(&server, "DELETE FROM OPENROUTER_TRACES").await;
    trouble(&server, 1_000_000, 0).await;
    let before = before + 2;
    let sent = send(&gateway, "http", "rows", CANARY, FULL);
    let started = Instant::now();
    while trouble(&server, 1_000_000, 0).await.len() == before {
        assert!(started.elapsed() < PATIENCE, "no insert came");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    gateway.kill();
    trouble(&server, 0, 0).await;
    let gateway = home.start();
    gateway.settled(&id, 1500).await;
    check(&server, &sent).await;
    let inserts = trouble(&server, 0, 0).await.split_off(before);
    assert!(inserts.len() > 1, "{inserts:#?}");
    assert!(inserts.iter().all(|insert| insert["id"] == inserts[0]["id"]), "{inserts:#?}");
    assert!(
        inserts[1..].iter().all(|insert| insert["ran"] == false && insert["retry"] == true),
        "{inserts:#?}"
    );

    // It takes its time: it is asked for by its handle until it is done. Private from here on.
    let path = format!("/observability/destinations/{id}");
    let (status, answer) = gateway.api("PATCH", &path, Some(&json!({ "privacy_mode": true }))).await;
    assert_eq!(status, 200, "{answer}");
    query(&server, "DELETE FROM OPENROUTER_TRACES").await;
    let before = trouble(&server, 0, 1).await.len();
    let sent = send(&gateway, "grpc", "rows", CANARY, FULL);
    gateway.settled(&id, 2000).await;
    check(&server, &sent).await;
    assert_eq!(trouble(&server, 0, 0).await.len(), before + 1, "sent again instead of asked for");
    let rows = query(&server, "SELECT * FROM OPENROUTER_TRACES").await;
    assert!(!format!("{rows:?}").contains(CANARY), "the canary was stored: {rows:#?}");
}
