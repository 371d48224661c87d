//! What each vendor wants and says, written from its documentation as the reference tells it
//! (sinks-llm-platforms.md, sinks-infrastructure.md), not from what the adapters do.

use tracecast_destination::Kind;

use crate::testing::{Answered, Received, TRACE_HEX, clickhouse_columns};

/// A request as the vendor documents it.
pub(super) struct Wanted {
    pub(super) method: &'static str,
    /// The path (`*`: its beginning), and what of the query must be there, each value by its beginning.
    pub(super) target: &'static str,
    pub(super) headers: &'static [(&'static str, &'static str)],
}

const PROTOBUF: (&str, &str) = ("content-type", "application/x-protobuf");
const JSON: (&str, &str) = ("content-type", "application/json");
const GZIP: (&str, &str) = ("content-encoding", "gzip");
const PLAIN: (&str, &str) = ("content-encoding", "");

/// The requests of one batch, in order.
pub(super) fn wanted(kind: Kind) -> Vec<Wanted> {
    let post = |target, headers| Wanted { method: "POST", target, headers };
    match kind {
        Kind::OtelCollector => {
            vec![post("/v1/traces", &[PROTOBUF, PLAIN, ("authorization", "Bearer oc-secret")])]
        }
        Kind::Webhook => vec![post(
            "/hook",
            &[
                JSON,
                PLAIN,
                ("x-token", "wh-secret"),
                ("webhook-id", "dest-1-7"),
                ("idempotency-key", "dest-1-7"),
            ],
        )],
        Kind::Langfuse => vec![post(
            "/api/public/otel/v1/traces",
            &[
                PROTOBUF,
                GZIP,
                ("authorization", "Basic cGstbGYtc2VjcmV0OnNrLWxmLXNlY3JldA=="),
                ("x-langfuse-ingestion-version", "4"),
                ("x-langfuse-public-key", "pk-lf-secret"),
            ],
        )],
        Kind::S3 => vec![Wanted {
            method: "PUT",
            target: "/b/openrouter-traces/2026-01-15/*",
            headers: &[JSON, PLAIN, ("x-amz-checksum-crc32", "")],
        }],
        Kind::Clickhouse => {
            let auth = &[("x-clickhouse-user", "u"), ("x-clickhouse-key", "ch-secret"), PLAIN];
            vec![
                post("/?database=d&default_format=JSONEachRow", auth),
                post(
                    "/?database=d&query=INSERT INTO&insert_deduplication_token=dest.1-7&async_insert=0",
                    auth,
                ),
            ]
        }
        Kind::Arize => vec![post(
            "/v1/traces",
            &[PROTOBUF, GZIP, ("authorization", "ak-secret"), ("arize-space-id", "sk-secret")],
        )],
        Kind::Grafana => {
            vec![post("/otlp/v1/traces", &[PROTOBUF, GZIP, ("authorization", "Basic MTpnbGNfc2VjcmV0")])]
        }
        Kind::Newrelic => vec![post("/v1/traces", &[PROTOBUF, GZIP, ("api-key", "secretNRAL")])],
        Kind::Ramp => vec![post("/v1/traces", &[JSON, PLAIN, ("authorization", "Bearer ramp-secret")])],
        Kind::Sentry => vec![post(
            "/api/4/integration/otlp/v1/traces",
            &[PROTOBUF, GZIP, ("x-sentry-auth", "sentry sentry_key=dsnsecret")],
        )],
        Kind::Braintrust => {
            vec![post("/v1/project_logs/p/insert", &[JSON, PLAIN, ("authorization", "Bearer bt-secret")])]
        }
        Kind::Datadog => {
            vec![post("/api/intake/llm-obs/v1/trace/spans", &[JSON, PLAIN, ("dd-api-key", "dd-secret")])]
        }
        Kind::Langsmith => vec![post(
            "/runs/multipart",
            &[
                ("content-type", "multipart/form-data; boundary=tracecast-7f3a9c"),
                PLAIN,
                ("x-api-key", "lsv2_secret"),
            ],
        )],
        Kind::Opik => {
            let headers = &[JSON, GZIP, ("authorization", "opik-secret"), ("comet-workspace", "w")];
            vec![post("/api/v1/private/traces/batch", headers), post("/api/v1/private/spans/batch", headers)]
        }
        Kind::Posthog => vec![post("/i/v0/ai/batch/", &[JSON, GZIP])],
        Kind::Snowflake => vec![post(
            "/api/v2/statements?requestId=",
            &[
                JSON,
                PLAIN,
                ("authorization", "Bearer pat-secret"),
                ("x-snowflake-authorization-token-type", "PROGRAMMATIC_ACCESS_TOKEN"),
                ("accept", "application/json"),
            ],
        )],
        Kind::Weave => vec![post(
            "/v2/e/p/calls/complete",
            &[JSON, PLAIN, ("authorization", "Basic YXBpOndiLXNlY3JldA==")],
        )],
    }
}

/// What the vendor answers to a good request.
pub(super) fn accepted(kind: Kind, position: usize) -> Answered {
    let json = "content-type: application/json\r\n";
    let (status, lines, body) = match kind {
        Kind::OtelCollector | Kind::Arize | Kind::Grafana | Kind::Newrelic => {
            (200, "content-type: application/x-protobuf\r\n", String::new())
        }
        // JSON to a protobuf request.
        Kind::Langfuse => (200, json, "{}".to_owned()),
        Kind::Langsmith => (202, json, "{}".to_owned()),
        Kind::Ramp => (200, json, "{}".to_owned()),
        Kind::Webhook => (204, "", String::new()),
        Kind::S3 => (200, "etag: \"0\"\r\n", String::new()),
        Kind::Clickhouse if position == 0 => (200, "", clickhouse_columns()),
        Kind::Clickhouse => (200, "x-clickhouse-query-id: 1\r\n", String::new()),
        Kind::Sentry => (202, "", String::new()),
        Kind::Braintrust => (200, json, r#"{"row_ids":["1"]}"#.to_owned()),
        Kind::Datadog => (202, "", String::new()),
        Kind::Opik => (204, "", String::new()),
        Kind::Posthog => (200, json, r#"{"status":1}"#.to_owned()),
        Kind::Snowflake => (
            200,
            json,
            r#"{"code":"090001","statementHandle":"h","stats":{"numRowsInserted":1},"data":[["1"]]}"#
                .to_owned(),
        ),
        Kind::Weave => (200, json, "{}".to_owned()),
    };
    Some((status, lines.to_owned(), body.into_bytes()))
}

/// What the vendor answers to the requests of a connection test that finds nothing wrong.
pub(super) fn tested(kind: Kind, position: usize) -> Answered {
    match kind {
        // DESCRIBE TABLE: a row per column, its name first.
        Kind::Snowflake => {
            let rows: Vec<String> = clickhouse_columns()
                .lines()
                .map(|line| {
                    let column: serde_json::Value = serde_json::from_str(line).unwrap();
                    format!("[{}]", column["name"])
                })
                .collect();
            let body = format!(r#"{{"code":"090001","data":[{}]}}"#, rows.join(","));
            Some((200, "content-type: application/json\r\n".into(), body.into_bytes()))
        }
        _ => accepted(kind, position),
    }
}

/// How the vendor words a refusal with this status. `said` is what it repeats of the request.
pub(super) fn refusal(kind: Kind, status: u16, said: &str) -> Answered {
    let (lines, body) = match kind {
        Kind::S3 => {
            let code = match status {
                401 | 403 => "AccessDenied",
                404 => "NoSuchBucket",
                413 => "EntityTooLarge",
                429 => "SlowDown",
                500 => "InternalError",
                _ => "InvalidArgument",
            };
            let body = format!("<Error><Code>{code}</Code><Message>{said}</Message></Error>");
            ("content-type: application/xml\r\n", body)
        }
        Kind::Clickhouse => {
            let code = match status {
                401 => Some("194"),
                403 => Some("497"),
                404 => Some("60"),
                400 => Some("117"),
                // A proxy in front of the server.
                413 | 429 => None,
                // TOO_MANY_PARTS
                _ => Some("252"),
            };
            match code {
                Some(code) => {
                    let body = format!("Code: {code}. DB::Exception: {said} (version 26.9)");
                    let lines = format!("x-clickhouse-exception-code: {code}\r\n");
                    return Some((status, lines, body.into_bytes()));
                }
                None => (
                    "content-type: text/html\r\n",
                    format!("<html>\r\n<head><title>{status} nginx's words</title></head></html>"),
                ),
            }
        }
        Kind::Snowflake => {
            ("content-type: application/json\r\n", format!(r#"{{"code":"390303","message":"{said}"}}"#))
        }
        Kind::Braintrust | Kind::Datadog | Kind::Webhook => ("content-type: text/plain\r\n", said.to_owned()),
        _ => ("content-type: application/json\r\n", format!(r#"{{"error":"{said}"}}"#)),
    };
    Some((status, lines.to_owned(), body.into_bytes()))
}

/// How the vendor says that one of two spans is refused; what all OTLP receivers say where a vendor has no way.
pub(super) fn partial(kind: Kind, position: usize, _: &Received) -> Answered {
    const REFUSED: &str = r#"{"partialSuccess":{"rejectedSpans":"1","errorMessage":"one bad span"}}"#;
    match kind {
        Kind::S3 if position == 1 => {
            let body = "<Error><Code>KeyTooLongError</Code><Message>one bad span</Message></Error>";
            Some((400, String::new(), body.into()))
        }
        Kind::S3 => accepted(kind, position),
        // The first answer is the table's.
        Kind::Clickhouse if position == 0 => accepted(kind, position),
        _ => Some((200, "content-type: application/json\r\n".into(), REFUSED.into())),
    }
}

/// What is secret, in every form that travels.
pub(super) fn secrets(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::OtelCollector => &["oc-secret"],
        Kind::Webhook => &["wh-secret"],
        Kind::Langfuse => &["pk-lf-secret", "sk-lf-secret", "cGstbGYtc2VjcmV0OnNrLWxmLXNlY3JldA"],
        Kind::S3 => &["AKIASECRET", "s3-secret"],
        Kind::Clickhouse => &["ch-secret"],
        Kind::Arize => &["ak-secret", "sk-secret"],
        Kind::Grafana => &["glc_secret", "MTpnbGNfc2VjcmV0"],
        Kind::Newrelic => &["secretNRAL"],
        Kind::Ramp => &["ramp-secret"],
        Kind::Sentry => &["dsnsecret"],
        Kind::Braintrust => &["bt-secret"],
        Kind::Datadog => &["dd-secret"],
        Kind::Langsmith => &["lsv2_secret"],
        Kind::Opik => &["opik-secret"],
        Kind::Posthog => &["phc_secret"],
        Kind::Snowflake => &["pat-secret"],
        Kind::Weave => &["wb-secret", "YXBpOndiLXNlY3JldA"],
    }
}

/// By what a vendor knows again what it has already.
pub(super) enum Identity {
    /// Of each span, whatever batch it comes in.
    Span(String),
    /// Of a batch and its retries.
    Batch(&'static str),
}

/// The identity of span `[1; 8]` of [`crate::testing::TRACE_ID`], or of batch `dest.1-7`, calculated outside of this
/// program (delivery-guarantees.md 12).
pub(super) fn identity(kind: Kind) -> Identity {
    let span = |text: &str| Identity::Span(text.to_owned());
    match kind {
        Kind::OtelCollector
        | Kind::Langfuse
        | Kind::Arize
        | Kind::Grafana
        | Kind::Newrelic
        | Kind::Ramp
        | Kind::Sentry
        | Kind::Datadog
        | Kind::Weave => span("0101010101010101"),
        Kind::Braintrust => Identity::Span(format!("{TRACE_HEX}-0101010101010101")),
        // UUIDv5 of both ids.
        Kind::Langsmith => span("cb010b24-7170-5659-9630-1102aa7500d8"),
        // UUIDv7 of the trace's last mark before the start.
        Kind::Opik => span("019bbed0-6c55-7bab-8101-010101010101"),
        // UUIDv5 of both ids.
        Kind::Posthog => span("58cae16e-cea8-5870-9c74-8ba0b457f4e4"),
        // Trace, second of acceptance, sequence, first span.
        Kind::S3 => Identity::Span(format!("{TRACE_HEX}-1768521599-1-0101010101010101.json")),
        Kind::Webhook => Identity::Batch("webhook-id: dest-1-7"),
        Kind::Clickhouse => Identity::Batch("insert_deduplication_token=dest.1-7"),
        // UUIDv5 of the token.
        Kind::Snowflake => Identity::Batch("requestId=8b3cd4b2-3edd-52fb-a4ba-01ae4a7805b9"),
    }
}
