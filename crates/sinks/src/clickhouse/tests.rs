//! Columns, rows, statements and answers of the ClickHouse adapter.

use std::time::Duration;

use serde_json::{Value as Json, json};
use tracecast_destination::ClickhouseConfig;

use super::response::{Trouble, answer};
use super::schema::{Shape, Table};
use super::{Clickhouse, request};
use crate::family::redact::Redactor;
use crate::family::rows::Column;
use crate::testing::*;
use crate::{Adapter, Answer, Diagnosis, ItemAnswer};

fn adapter(host: &str, table: &str, cache_write: bool) -> Clickhouse {
    let config = ClickhouseConfig {
        host: host.into(),
        database: "default".into(),
        username: "writer".into(),
        password: secret("pass-word"),
        table: table.into(),
        should_include_cache_write_tokens: cache_write,
        headers: headers(&[("x-proxy", "p"), ("X-ClickHouse-Key", "forged")]),
    };
    Clickhouse::new(&config, &clients()).unwrap()
}

fn rows(table: &Table, items: Vec<crate::Item>) -> Vec<Json> {
    let body = request::body(&batch(items), table);
    body.bytes
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect()
}

#[test]
fn the_documented_table_takes_every_column() {
    let table = Table::read(clickhouse_columns().as_bytes(), false).unwrap();
    assert_eq!(table, Table::default_columns(false));
    // Seven name it; nothing but these three of ours is missing in version 1.
    let missing: Vec<Column> = Column::ALL
        .iter()
        .copied()
        .filter(|column| !table.columns.iter().any(|known| known.column == *column))
        .collect();
    assert_eq!(missing, [Column::EventId, Column::Name, Column::CacheWriteTokens]);
}

#[test]
fn only_what_both_sides_know_is_named() {
    let lines = concat!(
        r#"{"name":"trace_id","type":"FixedString(32)","default_type":""}"#,
        "\n",
        r#"{"name":"SPAN_ID","type":"LowCardinality(String)","default_type":""}"#,
        "\n",
        r#"{"name":"TIMESTAMP","type":"DateTime('UTC')","default_type":""}"#,
        "\n",
        r#"{"name":"CACHE_WRITE_TOKENS","type":"UInt64","default_type":""}"#,
        "\n",
        r#"{"name":"MODEL","type":"String","default_type":"MATERIALIZED"}"#,
        "\n",
        r#"{"name":"TAGS","type":"Array(LowCardinality(String))","default_type":""}"#,
        "\n",
        r#"{"name":"ATTRIBUTES","type":"Map(String, String)","default_type":""}"#,
        "\n",
        r#"{"name":"METADATA","type":"JSON(max_dynamic_paths=8)","default_type":""}"#,
        "\n",
        r#"{"name":"LEVEL","type":"IPv4","default_type":""}"#,
        "\n",
        r#"{"name":"inserted_at","type":"DateTime","default_type":"DEFAULT"}"#,
        "\n",
    );
    let table = Table::read(lines.as_bytes(), false).unwrap();
    assert_eq!(
        request::statement("my`table", &table),
        "INSERT INTO `my\\`table` (`trace_id`, `SPAN_ID`, `TIMESTAMP`, `TAGS`, `ATTRIBUTES`, `METADATA`) FORMAT JSONEachRow"
    );
    let row = rows(&table, vec![item(1, &[generation(1)])]).remove(0);
    assert_eq!(row["trace_id"], TRACE_HEX);
    assert_eq!(row["TIMESTAMP"], "2026-01-15T10:41:00Z");
    assert_eq!(row["ATTRIBUTES"]["user.id"], "user-1");
    assert_eq!(row["ATTRIBUTES"]["gen_ai.usage.input_tokens"], "100");
    assert_eq!(row["METADATA"]["team"], "search");

    let error = Table::read(br#"{"name":"TRACE_ID","type":"UInt64"}"#, false).unwrap_err();
    assert!(error.contains("TRACE_ID, SPAN_ID, TIMESTAMP") && error.contains("TRACE_ID UInt64"), "{error}");
    let error = Table::read(clickhouse_columns().as_bytes(), true).unwrap_err();
    assert!(error.contains("CACHE_WRITE_TOKENS"), "{error}");
    assert!(Table::read(b"<html>", false).is_err());
}

#[test]
fn a_row_says_what_the_contract_says() {
    let mut root = generation(1);
    root.name = "LLM Generation".into();
    let mut child = span(2, &[("span.type", "span".into())]);
    child.parent_span_id = Some([1; 8]);
    child.start_unix_nano += 1_000_000;
    child.kind = 2;
    child.status_code = 2;
    let table = Table::default_columns(true);
    let rows = rows(&table, vec![item(1, &[child, root])]);
    let row = &rows[1];
    for (column, value) in [
        ("TRACE_ID", json!(TRACE_HEX)),
        ("SPAN_ID", json!("0101010101010101")),
        ("USER_ID", json!("user-1")),
        ("SESSION_ID", json!("session-9")),
        ("ENTITY_ID", json!("org_1")),
        ("API_KEY_NAME", json!("team/../key one")),
        ("TIMESTAMP", json!("2026-01-15T10:41:00.500Z")),
        ("START_TIME", json!("2026-01-15T10:41:00.500Z")),
        ("END_TIME", json!("2026-01-15T10:41:02.000Z")),
        ("DURATION_MS", json!(1500)),
        ("MODEL", json!("claude-sonnet-4-20250514")),
        ("PROVIDER_NAME", json!("Amazon Bedrock")),
        ("STATUS", json!("ok")),
        ("LEVEL", json!("DEFAULT")),
        ("FINISH_REASON", json!("stop")),
        ("PROMPT_TOKENS", json!(100)),
        ("COMPLETION_TOKENS", json!(40)),
        ("TOTAL_TOKENS", json!(140)),
        ("CACHED_TOKENS", json!(30)),
        ("REASONING_TOKENS", json!(15)),
        ("CACHE_WRITE_TOKENS", json!(20)),
        ("INPUT_COST", json!(0.001)),
        ("OUTPUT_COST", json!(0.0025)),
        ("TOTAL_COST", json!(0.0035)),
        ("SPAN_TYPE", json!("GENERATION")),
        ("SPAN_KIND", json!("CLIENT")),
        ("OPERATION_NAME", json!("chat")),
        ("INPUT", json!(r#"{"messages":[{"role":"user","content":"Hi"}]}"#)),
        ("TAGS", json!([])),
        ("RESOURCE_ATTRIBUTES", json!(r#"{"service.name":"shop"}"#)),
    ] {
        assert_eq!(row[column], value, "{column}");
    }
    // Unknown values are left to the column's default.
    assert_eq!(row.get("PARENT_SPAN_ID"), None);
    assert_eq!(row.get("ORGANIZATION_ID"), None);
    let inner = |column: &str| -> Json { serde_json::from_str(row[column].as_str().unwrap()).unwrap() };
    assert_eq!(inner("METADATA")["team"], "search");
    assert_eq!(inner("METADATA")["trace_name"], "Checkout");
    assert_eq!(inner("METADATA")["generation_name"], "LLM Generation");
    assert_eq!(inner("MODEL_PARAMETERS")["temperature"], 0.5);
    assert_eq!(inner("ATTRIBUTES")["gen_ai.usage.input_tokens"], 100);

    let child = &rows[0];
    assert_eq!(child["SPAN_TYPE"], "SPAN");
    assert_eq!(child["SPAN_KIND"], "SERVER");
    assert_eq!(child["STATUS"], "error");
    assert_eq!(child["LEVEL"], "ERROR");
    assert_eq!(child["PARENT_SPAN_ID"], "0101010101010101");
    // The trace's time, not the span's.
    assert_eq!(child["TIMESTAMP"], "2026-01-15T10:41:00.500Z");
    assert_eq!(child["START_TIME"], "2026-01-15T10:41:00.501Z");
    assert_eq!(child["INPUT"], "");
}

#[test]
fn cache_write_tokens_only_with_the_flag() {
    let row = rows(&Table::default_columns(false), vec![item(1, &[generation(1)])]).remove(0);
    assert_eq!(row.get("CACHE_WRITE_TOKENS"), None);
}

#[test]
fn private_rows_have_empty_input_and_output() {
    let mut item = item(1, &[generation(1)]);
    item.private = true;
    let row = rows(&Table::default_columns(false), vec![item]).remove(0);
    assert_eq!((&row["INPUT"], &row["OUTPUT"]), (&json!(""), &json!("")));
    assert_eq!(row["PROMPT_TOKENS"], 100);
    let attributes = row["ATTRIBUTES"].as_str().unwrap();
    assert!(attributes.contains("gen_ai.response.model") && !attributes.contains("gen_ai.prompt"));
}

#[test]
fn equal_keys_are_written_once_and_late_times_fit() {
    let mut twice = span(1, &[("k", "first".into()), ("k", "last".into())]);
    twice.end_unix_nano = u64::MAX;
    let row = rows(&Table::default_columns(false), vec![item(1, &[twice])]).remove(0);
    assert_eq!(row["ATTRIBUTES"], r#"{"k":"last"}"#);
    assert_eq!(row["END_TIME"], "2299-12-31T23:59:59.000Z");
}

#[tokio::test]
async fn reads_the_columns_once_and_inserts() {
    let described: &'static [u8] = Box::leak(clickhouse_columns().into_bytes().into_boxed_slice());
    let server = Server::start(vec![(200, "", described), (200, "", b"")]).await;
    let adapter = adapter(&server.url, "other.EVENTS", false);
    let batch = batch(vec![item(1, &[generation(1)]), item(2, &[generation(2)])]);
    let sent = adapter.send(&batch).await;
    assert_eq!(sent.answer, Answer::Delivered);
    assert_eq!(adapter.send(&batch).await.answer, Answer::Delivered);

    let received = server.received();
    assert_eq!(received.len(), 3, "one DESCRIBE, two inserts");
    let describe = &received[0];
    assert_eq!(describe.body, b"DESCRIBE TABLE `EVENTS`");
    assert_eq!(describe.query("default_format").as_deref(), Some("JSONEachRow"));
    for received in &received {
        assert_eq!(received.method, "POST");
        assert_eq!(received.query("database").as_deref(), Some("other"));
        assert_eq!(received.header("x-clickhouse-user"), "writer");
        assert_eq!(received.header("x-clickhouse-key"), "pass-word");
        assert_eq!(received.header("x-proxy"), "p");
        assert!(received.header("user-agent").contains("tracecast/"));
        // Credentials in URLs end up in logs.
        assert!(!received.target.contains("pass-word"));
    }
    let insert = &received[1];
    let query = insert.query("query").unwrap();
    assert!(query.starts_with("INSERT INTO `EVENTS` (`TRACE_ID`, `SPAN_ID`, "), "{query}");
    assert!(query.ends_with(") FORMAT JSONEachRow"), "{query}");
    assert_eq!(insert.query("insert_deduplication_token").as_deref(), Some("dest.1-7"));
    assert_eq!(insert.query("async_insert").as_deref(), Some("0"));
    assert_eq!(insert.query("wait_end_of_query").as_deref(), Some("1"));
    // Near hosts are sent plain rows.
    assert_eq!(insert.query("decompress"), None);
    assert_eq!(insert.body.iter().filter(|byte| **byte == b'\n').count(), 2);
    assert_eq!(sent.bytes, insert.body.len() as u64);
    assert_eq!(insert.body, received[2].body);
    assert!(!format!("{adapter:?}").contains("pass-word"));
    let preview = adapter.preview(&batch).remove(0);
    assert_eq!(preview.body, insert.body);
    assert!(!format!("{preview:?}").contains("pass-word"));
}

#[tokio::test]
async fn columns_are_read_again_when_the_server_complains() {
    let described: &'static [u8] = Box::leak(clickhouse_columns().into_bytes().into_boxed_slice());
    let server = Server::start(vec![
        (200, "", described),
        (
            404,
            "x-clickhouse-exception-code: 16\r\n",
            b"Code: 16. DB::Exception: No such column TAGS. (NO_SUCH_COLUMN_IN_TABLE)",
        ),
        (200, "", described),
        (200, "", b""),
    ])
    .await;
    let adapter = adapter(&server.url, "T", false);
    let batch = batch(vec![item(1, &[generation(1)])]);
    let Answer::Retry(failure) = adapter.send(&batch).await.answer else { panic!() };
    assert_eq!(failure.retry_after, Some(Duration::ZERO));
    assert_eq!(adapter.send(&batch).await.answer, Answer::Delivered);
    assert_eq!(server.received().len(), 4);
}

#[tokio::test]
async fn test_reads_the_table_and_tries_the_grant() {
    let described: &'static [u8] = Box::leak(clickhouse_columns().into_bytes().into_boxed_slice());
    let server = Server::start(vec![(200, "", described), (200, "", b"")]).await;
    let report = adapter(&server.url, "T", false).test().await;
    assert!(report.ok, "{report:?}");
    let received = server.received();
    assert_eq!(received[1].body, b"INSERT INTO `T` (TRACE_ID, SPAN_ID) SELECT '', '' WHERE 0");

    for (status, body, diagnosis) in [
        (
            404,
            &b"Code: 60. DB::Exception: Table default.T does not exist. (UNKNOWN_TABLE)"[..],
            Diagnosis::NotFound,
        ),
        (404, b"Code: 81. DB::Exception: Database default does not exist", Diagnosis::NotFound),
        (403, b"Code: 516. DB::Exception: writer: Authentication failed pass-word", Diagnosis::Auth),
        (500, b"Code: 202. DB::Exception: Too many simultaneous queries", Diagnosis::RateLimited),
        (500, b"Code: 241. DB::Exception: Memory limit exceeded", Diagnosis::Unavailable),
        (200, br#"{"name":"X","type":"String"}"#, Diagnosis::Schema),
        (200, b"<html>hello</html>", Diagnosis::Schema),
        (302, b"", Diagnosis::NotFound),
        (503, b"", Diagnosis::Unavailable),
    ] {
        let server = Server::start(vec![(status, "", body)]).await;
        let report = adapter(&server.url, "T", false).test().await;
        assert_eq!(report.diagnosis, diagnosis, "{report:?}");
        assert!(!report.hint.contains("pass-word"), "{report:?}");
    }
}

#[test]
fn codes_have_their_classes() {
    let of = |code: u32, attempt| {
        let trouble = Trouble::Server {
            code: Some(code),
            status: None,
            text: format!("Code: {code}. DB::Exception: x"),
        };
        match answer(&trouble, attempt, &Redactor::default()) {
            Answer::Delivered => "ok",
            Answer::Retry(failure) if failure.retry_after == Some(Duration::ZERO) => "again",
            Answer::Retry(failure) if failure.retry_after.is_some() => "later",
            Answer::Retry(_) => "retry",
            Answer::Auth(_) => "auth",
            Answer::Config(_) => "config",
            Answer::Isolate { by_size: true, .. } => "size",
            Answer::Isolate { .. } => "isolate",
            other => panic!("{other:?}"),
        }
    };
    for (codes, expected) in [
        (&[389][..], "ok"),
        (&[252, 242, 243, 201], "later"),
        (&[202, 203, 209, 210, 159, 160, 241, 225, 254, 285, 319, 236, 425, 439, 999], "retry"),
        (&[192, 193, 194, 195, 497, 516], "auth"),
        (&[60, 81, 164, 115, 62], "config"),
        (&[16, 47, 8, 44, 349], "again"),
        (&[117, 53, 27, 26, 25, 6, 38, 41, 72, 33, 69, 70, 321, 407, 376, 131], "isolate"),
        (&[7777], "retry"),
    ] {
        for code in codes {
            assert_eq!(of(*code, 0), expected, "{code}");
        }
    }
    assert_eq!(of(16, 1), "config");
    assert_eq!(of(241, 2), "size");
    assert_eq!(of(7777, 5), "isolate");
}

#[tokio::test]
async fn errors_are_found_in_texts() {
    let described: &'static [u8] = Box::leak(clickhouse_columns().into_bytes().into_boxed_slice());
    // A 200 can end in an exception.
    let late: &[u8] = b"Code: 252. DB::Exception: Too many parts (300). (TOO_MANY_PARTS) (version 25.1.1.1 (official build))\n";
    let server = Server::start(vec![
        (200, "", described),
        (200, "", late),
        (500, "x-clickhouse-exception-code: 117\r\n", b"Code: 117. DB::Exception: bad pass-word"),
        (401, "", b""),
        (413, "", b""),
    ])
    .await;
    let adapter = adapter(&server.url, "T", false);
    let batch = batch(vec![item(1, &[generation(1)])]);
    let Answer::Retry(failure) = adapter.send(&batch).await.answer else { panic!() };
    assert_eq!(failure.retry_after, Some(Duration::from_secs(5)));
    let Answer::Isolate { by_size: false, failure } = adapter.send(&batch).await.answer else { panic!() };
    assert!(failure.message.contains("bad ***"), "{}", failure.message);
    assert!(matches!(adapter.send(&batch).await.answer, Answer::Auth(_)));
    assert!(matches!(adapter.send(&batch).await.answer, Answer::Isolate { by_size: true, .. }));
}

#[tokio::test]
async fn damaged_items_are_refused_and_nothing_empty_is_sent() {
    let described: &'static [u8] = Box::leak(clickhouse_columns().into_bytes().into_boxed_slice());
    let server = Server::start(vec![(200, "", described), (200, "", b"")]).await;
    let adapter = adapter(&server.url, "T", false);
    let sent = adapter.send(&batch(vec![damaged_item(1)])).await;
    assert!(matches!(&sent.answer, Answer::PerItem(items) if matches!(items[0], ItemAnswer::Refused(_))));
    assert_eq!(sent.bytes, 0);
    assert_eq!(server.received().len(), 1);
}

#[test]
fn shapes_of_types() {
    let shape = |kind: &str| {
        let lines = format!(
            "{}\n{}\n{}\n{}\n",
            r#"{"name":"TRACE_ID","type":"String"}"#,
            r#"{"name":"SPAN_ID","type":"String"}"#,
            r#"{"name":"TIMESTAMP","type":"DateTime64(3)"}"#,
            json!({"name": "TOTAL_COST", "type": kind}),
        );
        let table = Table::read(lines.as_bytes(), false).unwrap();
        table.columns.get(3).map(|column| column.shape)
    };
    assert_eq!(shape("Decimal(18, 8)"), Some(Shape::Number));
    assert_eq!(shape("Nullable(Decimal64(9))"), Some(Shape::Number));
    assert_eq!(shape("LowCardinality(Nullable(String))"), Some(Shape::Text));
    assert_eq!(shape("Float32"), Some(Shape::Number));
    assert_eq!(shape("Int64"), Some(Shape::Integer));
    assert_eq!(shape("Tuple(a String)"), None);
    assert_eq!(shape("Array(String)"), None);
}

#[tokio::test]
async fn no_connection_is_a_retry_that_names_the_place() {
    let address = closed_port();
    let adapter = adapter(&format!("http://{address}"), "T", false);
    let sent = adapter.send(&batch(vec![item(1, &[generation(1)])])).await;
    assert_eq!(sent.bytes, 0);
    let Answer::Retry(failure) = sent.answer else { panic!("{:?}", sent.answer) };
    assert!(failure.message.starts_with(&format!("cannot connect to {address}")), "{}", failure.message);
    assert_eq!(adapter.test().await.diagnosis, Diagnosis::Connect);
}

#[tokio::test]
async fn plain_http_behind_https_is_a_tls_failure() {
    let address = blurting(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    let report = adapter(&format!("https://{address}"), "T", false).test().await;
    assert_eq!(report.diagnosis, Diagnosis::Tls, "{report:?}");
}

#[tokio::test]
async fn large_batches_are_encoded_and_sent_in_pieces() {
    let described: &'static [u8] = Box::leak(clickhouse_columns().into_bytes().into_boxed_slice());
    let server = Server::start(vec![(200, "", described), (200, "", b"")]).await;
    let adapter = adapter(&server.url, "T", false);
    let text = "x".repeat(100_000);
    let big = span(1, &[("note", text.as_str().into())]);
    let items = (0..20).map(|n| item(n, std::slice::from_ref(&big))).collect();
    let sent = adapter.send(&batch(items)).await;
    assert_eq!(sent.answer, Answer::Delivered);
    let insert = server.received().remove(1);
    assert_eq!(insert.body.iter().filter(|byte| **byte == b'\n').count(), 20);
    assert!(sent.bytes > 2_000_000 && sent.bytes == insert.body.len() as u64);
}

#[tokio::test]
async fn an_answer_that_trickles_is_cut_off() {
    let adapter = adapter(&trickling().await, "T", false);
    let Answer::Retry(failure) = adapter.send(&batch(vec![item(1, &[generation(1)])])).await.answer else {
        panic!("a retry");
    };
    assert!(failure.message.ends_with("answered too slowly"), "{}", failure.message);
}
