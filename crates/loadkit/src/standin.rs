//! Local stand-ins for the vendors the demo delivers to: they take what the vendor takes and answer as it does,
//! as far as the demo needs. (The tests have stricter fakes and the real software.)

use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, request::Parts};
use http_body_util::Full;
use serde_json::Value as Json;

use crate::sink::{SeenSpan, otlp_spans};

/// Whom a sink imitates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// An OTLP/HTTP collector, or any receiver of OTLP JSON.
    #[default]
    Collector,
    /// Langfuse's OTLP endpoint: Basic auth, answers a JSON object.
    Langfuse,
    /// An S3 bucket (path style): every PUT is an object of JSON.
    S3,
    /// ClickHouse's HTTP interface with one trace table.
    Clickhouse,
}

/// What the stand-in says, and the spans it found (`None`: unreadable).
pub struct Answer {
    /// The vendor's answer.
    pub response: Response<Full<Bytes>>,
    /// Spans of the request.
    pub spans: Option<Vec<SeenSpan>>,
}

impl Role {
    /// Takes a request as this vendor would.
    pub fn answer(self, parts: &Parts, body: &Bytes) -> Answer {
        match self {
            Role::Collector => match otlp_spans(&parts.headers, body) {
                Some(spans) => {
                    let content_type = parts.headers.get("content-type").cloned();
                    let mut response = respond(StatusCode::OK, Vec::new());
                    if let Some(value) = content_type {
                        if value.as_bytes().starts_with(b"application/json") {
                            *response.body_mut() = Full::new(Bytes::from_static(b"{}"));
                        }
                        response.headers_mut().insert("content-type", value);
                    }
                    Answer { response, spans: Some(spans) }
                }
                None => unreadable("not an OTLP trace request"),
            },
            Role::Langfuse => {
                let basic =
                    parts.headers.get("authorization").is_some_and(|v| v.as_bytes().starts_with(b"Basic "));
                if !basic {
                    let body = br#"{"message":"No authorization header","error":"UnauthorizedError"}"#;
                    return Answer {
                        response: respond(StatusCode::UNAUTHORIZED, body.to_vec()),
                        spans: Some(Vec::new()),
                    };
                }
                if parts.uri.path() != "/api/public/otel/v1/traces" {
                    return Answer {
                        response: respond(StatusCode::NOT_FOUND, b"{}".to_vec()),
                        spans: Some(Vec::new()),
                    };
                }
                match otlp_spans(&parts.headers, body) {
                    Some(spans) => {
                        Answer { response: respond(StatusCode::OK, b"{}".to_vec()), spans: Some(spans) }
                    }
                    None => unreadable("not an OTLP trace request"),
                }
            }
            Role::S3 => match parts.method {
                Method::PUT => match s3_object(body) {
                    Some(spans) => {
                        let mut response = respond(StatusCode::OK, Vec::new());
                        response.headers_mut().insert("etag", HeaderValue::from_static("\"0\""));
                        Answer { response, spans: Some(spans) }
                    }
                    None => unreadable("not a JSON object"),
                },
                _ => Answer {
                    response: respond(StatusCode::METHOD_NOT_ALLOWED, Vec::new()),
                    spans: Some(Vec::new()),
                },
            },
            Role::Clickhouse => clickhouse(parts, body),
        }
    }
}

fn respond(status: StatusCode, body: Vec<u8>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/json"));
    response
}

fn unreadable(why: &str) -> Answer {
    Answer { response: respond(StatusCode::BAD_REQUEST, why.as_bytes().to_vec()), spans: None }
}

/// The observations of a trace object. The connection test's marker is not JSON and holds none.
fn s3_object(body: &Bytes) -> Option<Vec<SeenSpan>> {
    if body.len() < 64 {
        return Some(Vec::new());
    }
    let trace: Json = serde_json::from_slice(body).ok()?;
    let observations = trace.get("observations")?.as_array()?;
    observations
        .iter()
        .map(|o| {
            let content = ["input", "output"].iter().any(|k| o.get(k).is_some_and(|v| !v.is_null()));
            Some(SeenSpan { id: span_id(o.get("id")?.as_str()?)?, content })
        })
        .collect()
}

fn span_id(hex: &str) -> Option<[u8; 8]> {
    u64::from_str_radix(hex, 16).ok().filter(|_| hex.len() == 16).map(u64::to_be_bytes)
}

/// The columns of the stand-in's table, with their types.
const COLUMNS: [(&str, &str); 33] = [
    ("TRACE_ID", "String"),
    ("SPAN_ID", "String"),
    ("PARENT_SPAN_ID", "Nullable(String)"),
    ("USER_ID", "Nullable(String)"),
    ("SESSION_ID", "Nullable(String)"),
    ("ORGANIZATION_ID", "Nullable(String)"),
    ("ENTITY_ID", "String"),
    ("API_KEY_NAME", "Nullable(String)"),
    ("TIMESTAMP", "DateTime64(3)"),
    ("START_TIME", "DateTime64(3)"),
    ("END_TIME", "Nullable(DateTime64(3))"),
    ("DURATION_MS", "Nullable(Float64)"),
    ("MODEL", "Nullable(String)"),
    ("PROVIDER_NAME", "Nullable(String)"),
    ("PROVIDER_SLUG", "Nullable(String)"),
    ("STATUS", "String"),
    ("LEVEL", "String"),
    ("FINISH_REASON", "Nullable(String)"),
    ("PROMPT_TOKENS", "UInt64"),
    ("COMPLETION_TOKENS", "UInt64"),
    ("TOTAL_TOKENS", "UInt64"),
    ("CACHED_TOKENS", "UInt64"),
    ("REASONING_TOKENS", "UInt64"),
    ("INPUT_COST", "Float64"),
    ("OUTPUT_COST", "Float64"),
    ("TOTAL_COST", "Float64"),
    ("SPAN_TYPE", "String"),
    ("ATTRIBUTES", "String"),
    ("INPUT", "String"),
    ("OUTPUT", "String"),
    ("METADATA", "String"),
    ("TAGS", "Array(String)"),
    ("MODEL_PARAMETERS", "String"),
];

/// Inserts are counted row by row; every question about the table gets its columns.
fn clickhouse(parts: &Parts, body: &Bytes) -> Answer {
    let query = parts.uri.query().unwrap_or("").to_ascii_uppercase();
    let insert = query.contains("INSERT") && query.contains("JSONEACHROW");
    if !insert {
        let mut rows = Vec::new();
        for (name, kind) in COLUMNS {
            let row = serde_json::json!({ "name": name, "type": kind, "default_kind": "" });
            rows.extend_from_slice(row.to_string().as_bytes());
            rows.push(b'\n');
        }
        return Answer { response: respond(StatusCode::OK, rows), spans: Some(Vec::new()) };
    }
    let spans = body
        .split(|b| *b == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| {
            let row: Json = serde_json::from_slice(line).ok()?;
            let content = ["INPUT", "OUTPUT"]
                .iter()
                .any(|c| row.get(c).and_then(Json::as_str).is_some_and(|t| !t.is_empty()));
            Some(SeenSpan { id: span_id(row.get("SPAN_ID")?.as_str()?)?, content })
        })
        .collect::<Option<Vec<_>>>();
    match spans {
        Some(spans) => Answer { response: respond(StatusCode::OK, Vec::new()), spans: Some(spans) },
        None => unreadable("Code: 117. DB::Exception: rows are not JSONEachRow"),
    }
}
