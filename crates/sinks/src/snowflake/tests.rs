//! Statements, identity and answers of the Snowflake adapter.

use serde_json::{Value as Json, json};
use tracecast_destination::SnowflakeConfig;

use super::Snowflake;
use crate::testing::*;
use crate::{Adapter, Answer, Diagnosis};

fn adapter(url: &str, cache_write: bool) -> Snowflake {
    let config = SnowflakeConfig {
        account: "abc12345.us-east-1".into(),
        token: secret("pat-12345678"),
        database: "llm".into(),
        schema: "\"Mixed\"".into(),
        table: "OPENROUTER_TRACES".into(),
        warehouse: "wh".into(),
        should_include_cache_write_tokens: cache_write,
        base_url: Some(url.into()),
        headers: headers(&[]),
    };
    Snowflake::new(&config, &clients()).unwrap()
}

#[test]
fn one_binding_holds_all_rows() {
    let two = batch(vec![item(1, &[generation(1)]), item(2, &[generation(2)])]);
    let preview = adapter("http://h", false).preview(&two).remove(0);
    let body: Json = serde_json::from_slice(&preview.body).unwrap();
    assert_eq!(
        (&body["database"], &body["schema"], &body["warehouse"]),
        (&json!("LLM"), &json!("Mixed"), &json!("WH"))
    );
    let statement = body["statement"].as_str().unwrap();
    assert!(
        statement.starts_with(r#"INSERT INTO "LLM"."Mixed"."OPENROUTER_TRACES" ("TRACE_ID", "SPAN_ID", "#)
    );
    assert!(statement.ends_with("FROM TABLE(FLATTEN(INPUT => PARSE_JSON(?))) r"));
    assert!(!statement.contains("CACHE_WRITE_TOKENS") && !statement.contains("EVENT_ID"));
    let names = statement.split_once('(').unwrap().1.split_once(") SELECT").unwrap().0;
    let position = |name: &str| names.split(", ").position(|found| found == format!("\"{name}\"")).unwrap();

    assert_eq!(body["bindings"]["1"]["type"], "TEXT");
    let rows: Json = serde_json::from_str(body["bindings"]["1"]["value"].as_str().unwrap()).unwrap();
    assert_eq!(rows.as_array().unwrap().len(), 2);
    let cell = |name: &str| &rows[0][format!("c{}", position(name))];
    assert_eq!(*cell("TRACE_ID"), json!(TRACE_HEX));
    assert_eq!(*cell("START_TIME"), json!(START));
    assert_eq!(*cell("TOTAL_COST"), json!(0.0035));
    assert_eq!(*cell("PROMPT_TOKENS"), json!(100));
    assert_eq!(*cell("INPUT"), json!({"messages": [{"role": "user", "content": "Hi"}]}));
    let expression = |name: &str| {
        let select = statement.split_once("SELECT ").unwrap().1;
        select.split(", r.").nth(position(name)).unwrap_or_default().to_owned()
    };
    assert!(statement.contains(&format!("TO_TIMESTAMP_NTZ(r.value:c{}::NUMBER, 9)", position("START_TIME"))));
    assert!(!expression("TRACE_ID").is_empty());

    let with = adapter("http://h", true).preview(&two).remove(0);
    assert!(String::from_utf8_lossy(&with.body).contains("CACHE_WRITE_TOKENS"));
}

#[tokio::test]
async fn a_retry_has_the_same_request_id_and_says_so() {
    let server = Server::start(vec![(503, "", b""), (200, "", b"{\"code\":\"090001\"}")]).await;
    let adapter = adapter(&server.url, false);
    let mut batch = batch(vec![item(1, &[generation(1)])]);
    assert!(matches!(adapter.send(&batch).await.answer, Answer::Retry(_)));
    batch.attempt = 1;
    assert_eq!(adapter.send(&batch).await.answer, Answer::Delivered);
    let received = server.received();
    assert_eq!(received[0].query("requestId"), received[1].query("requestId"));
    assert_eq!((received[0].query("retry"), received[1].query("retry").as_deref()), (None, Some("true")));
    assert_eq!(received[0].header("authorization"), "Bearer pat-12345678");
    assert_eq!(received[0].header("x-snowflake-authorization-token-type"), "PROGRAMMATIC_ACCESS_TOKEN");
    assert!(!format!("{adapter:?}").contains("pat-1234"));
}

#[tokio::test]
async fn a_running_statement_is_asked_for_and_not_sent_again() {
    let server = Server::start(vec![
        (202, "", br#"{"code":"333334","statementHandle":"01b-2"}"#),
        (202, "", br#"{"code":"333334","statementHandle":"01b-2"}"#),
        (200, "", b"{}"),
        (200, "", b"{}"),
    ])
    .await;
    let adapter = adapter(&server.url, false);
    let batch = batch(vec![item(1, &[generation(1)])]);
    for _ in 0..2 {
        let Answer::Retry(failure) = adapter.send(&batch).await.answer else { panic!() };
        assert!(failure.retry_after.is_some());
    }
    assert_eq!(adapter.send(&batch).await.answer, Answer::Delivered);
    assert_eq!(adapter.send(&batch).await.answer, Answer::Delivered);
    let received = server.received();
    let asked: Vec<(&str, &str)> = received
        .iter()
        .map(|received| (received.method.as_str(), received.target.split('?').next().unwrap()))
        .collect();
    let (statements, handle) = ("/api/v2/statements", "/api/v2/statements/01b-2");
    assert_eq!(asked, [("POST", statements), ("GET", handle), ("GET", handle), ("POST", statements)]);
}

#[tokio::test]
async fn sql_errors_are_told_apart() {
    let server = Server::start(vec![
        (422, "", br#"{"code":"002003","sqlState":"42S02","message":"Object does not exist"}"#),
        (422, "", br#"{"code":"100038","sqlState":"22018","message":"Numeric value 'x' is not recognized"}"#),
        (422, "", br#"{"code":"000604","sqlState":"57014","message":"SQL execution canceled"}"#),
        (401, "", b"{}"),
    ])
    .await;
    let adapter = adapter(&server.url, false);
    let batch = batch(vec![item(1, &[generation(1)])]);
    assert!(matches!(adapter.send(&batch).await.answer, Answer::Config(_)));
    assert!(matches!(adapter.send(&batch).await.answer, Answer::Isolate { by_size: false, .. }));
    assert!(matches!(adapter.send(&batch).await.answer, Answer::Retry(_)));
    assert!(matches!(adapter.send(&batch).await.answer, Answer::Auth(_)));
}

#[test]
fn texts_fit_their_columns_and_stand_whole_among_the_attributes() {
    let long = "ü".repeat(300);
    let mut wide = generation(1);
    wide.attributes.retain(|(key, _)| key != "user.id");
    wide.attributes.push(("user.id".into(), long.as_str().into()));
    let preview = adapter("http://h", false).preview(&batch(vec![item(1, &[wide])])).remove(0);
    let body: Json = serde_json::from_slice(&preview.body).unwrap();
    let statement = body["statement"].as_str().unwrap();
    let names: Vec<&str> =
        statement.split_once(" (").unwrap().1.split_once(')').unwrap().0.split(", ").collect();
    let rows: Json = serde_json::from_str(body["bindings"]["1"]["value"].as_str().unwrap()).unwrap();
    let cell = |name: &str| {
        let position = names.iter().position(|found| found.trim_matches('"') == name).unwrap();
        &rows[0][format!("c{position}")]
    };
    let user = cell("USER_ID").as_str().unwrap();
    assert_eq!(user.chars().count(), 256);
    assert!(user.starts_with("üü") && user.ends_with("[truncated]"), "{user}");
    assert_eq!(cell("ATTRIBUTES")["user.id"], long);
    // Every name that is written is one of the table's, wide enough for what is never cut.
    for name in names {
        assert!(super::CREATE_TABLE.contains(&format!("  {} ", name.trim_matches('"'))), "{name}");
    }
}

#[tokio::test]
async fn the_test_describes_the_table_and_inserts_nothing() {
    let columns: Vec<String> = super::CREATE_TABLE
        .lines()
        .filter_map(|line| Some(format!("[\"{}\"]", line.strip_prefix("  ")?.split(' ').next()?)))
        .collect();
    let whole: &'static [u8] = format!("{{\"data\":[{}]}}", columns.join(",")).into_bytes().leak();
    let server = Server::start(vec![
        (200, "", br#"{"data":[["TRACE_ID","VARCHAR(128)"],["SPAN_ID","VARCHAR(128)"]]}"#),
        (401, "", b"{}"),
        (422, "", br#"{"code":"002003","sqlState":"02000","message":"Table does not exist"}"#),
        (200, "", whole),
        (422, "", br#"{"code":"003001","sqlState":"42501","message":"Insufficient privileges"}"#),
        (200, "", whole),
        (422, "", br#"{"code":"000606","sqlState":"57P03","message":"No active warehouse"}"#),
        (200, "", whole),
        (200, "", br#"{"data":[["0"]]}"#),
        (200, "", b"{}"),
        (200, "", whole),
    ])
    .await;
    let adapter = adapter(&server.url, false);
    let report = adapter.test().await;
    assert_eq!(report.diagnosis, Diagnosis::Schema);
    assert!(report.hint.contains("PROMPT_TOKENS") && !report.hint.contains(" SPAN_ID"), "{}", report.hint);
    for (diagnosis, words) in [
        (Diagnosis::Auth, "network policy"),
        (
            Diagnosis::NotFound,
            r#"CREATE TABLE IF NOT EXISTS "LLM"."Mixed"."OPENROUTER_TRACES" ( TRACE_ID VARCHAR"#,
        ),
        (Diagnosis::Auth, "INSERT on the table"),
        (Diagnosis::NotFound, "config.warehouse"),
        (Diagnosis::Ok, "may be written to"),
        (Diagnosis::NotFound, "not the SQL API"),
    ] {
        let report = adapter.test().await;
        assert_eq!(report.diagnosis, diagnosis, "{}", report.hint);
        assert!(report.hint.contains(words), "{}", report.hint);
    }
    let received = server.received();
    let body = |n: usize| -> Json { serde_json::from_slice(&received[n].body).unwrap() };
    assert_eq!(body(0)["statement"], r#"DESCRIBE TABLE "LLM"."Mixed"."OPENROUTER_TRACES""#);
    let insert = body(8);
    assert!(insert["statement"].as_str().unwrap().starts_with("INSERT INTO"), "{insert}");
    assert_eq!(insert["bindings"]["1"]["value"], "[]");

    let report = super::tests::adapter(&server.url, true).test().await;
    assert_eq!(report.diagnosis, Diagnosis::Schema);
    assert!(report.hint.contains("ADD COLUMN IF NOT EXISTS CACHE_WRITE_TOKENS"), "{}", report.hint);
}
