//! What the tests of all kinds share: spans, batches, and a scripted HTTP server on loopback.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::HeaderMap;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tracecast_destination::{
    CreateDefaults, DEFAULT_WORKSPACE_ID, Destination, Headers, Kind, ManagedBy, SecretString,
};
use tracecast_otlp::write::{OwnedValue, SpanBuilder, resource_spans};
use tracecast_otlp::{Payload, SpanSet};

use uuid::Uuid;

use crate::clickhouse::CREATE_TABLE;
use crate::family::http::Reply;
use crate::{Batch, Clients, Item};

/// 2026-01-15 10:41:00.5 UTC.
pub(crate) const START: u64 = 1_768_473_660_500_000_000;
/// 2026-01-15 23:59:59.9 UTC: a retry would be the next day.
pub(crate) const RECEIVED: u64 = 1_768_521_599_900_000_000;

pub(crate) const TRACE_ID: [u8; 16] = [0xab; 16];
pub(crate) const TRACE_HEX: &str = "abababababababababababababababab";

pub(crate) fn secret(text: &str) -> SecretString {
    SecretString::from(text.to_owned())
}

pub(crate) fn headers(pairs: &[(&str, &str)]) -> Headers {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), secret(value))).collect()
}

pub(crate) fn clients() -> Clients {
    at_receipt(Clients::new().unwrap())
}

/// In the time of the spans of the tests.
pub(crate) fn at_receipt(clients: Clients) -> Clients {
    clients.at(|| jiff::Timestamp::from_nanosecond(i128::from(RECEIVED)).unwrap())
}

/// A destination of the kind whose vendor is at `base`.
pub(crate) fn destination_at(kind: Kind, base: &str) -> Destination {
    let config = match kind {
        Kind::OtelCollector => json!({"endpoint": base, "headers": {"authorization": "Bearer oc-secret"}}),
        Kind::Webhook => json!({"url": format!("{base}/hook"), "headers": {"x-token": "wh-secret"}}),
        Kind::Langfuse => json!({"publicKey": "pk-lf-secret", "secretKey": "sk-lf-secret", "baseUrl": base}),
        Kind::S3 => {
            json!({"bucketName": "b", "accessKeyId": "AKIASECRET", "secretAccessKey": "s3-secret", "endpoint": base})
        }
        Kind::Clickhouse => {
            json!({"host": base, "database": "d", "username": "u", "password": "ch-secret"})
        }
        Kind::Arize => {
            json!({"apiKey": "ak-secret", "spaceKey": "sk-secret", "modelId": "m", "baseUrl": base})
        }
        Kind::Grafana => json!({"apiKey": "glc_secret", "instanceId": "1", "baseUrl": base}),
        Kind::Newrelic => json!({"licenseKey": "secretNRAL", "baseUrl": base}),
        Kind::Ramp => json!({"apiKey": "ramp-secret", "baseUrl": base}),
        Kind::Sentry => {
            json!({"otlpEndpoint": format!("{base}/api/4/integration/otlp/v1/traces"), "dsn": "https://dsnsecret@h/4"})
        }
        Kind::Braintrust => json!({"apiKey": "bt-secret", "projectId": "p", "baseUrl": base}),
        Kind::Datadog => json!({"apiKey": "dd-secret", "mlApp": "app", "url": base}),
        Kind::Langsmith => {
            let headers = json!({"x-tracecast-encoding": "multipart"});
            json!({"apiKey": "lsv2_secret", "endpoint": base, "headers": headers})
        }
        Kind::Opik => {
            json!({"apiKey": "opik-secret", "workspace": "w", "projectName": "p", "baseUrl": format!("{base}/api")})
        }
        Kind::Posthog => json!({"apiKey": "phc_secret", "endpoint": base}),
        Kind::Snowflake => json!({"account": "abc.us", "token": "pat-secret", "baseUrl": base}),
        Kind::Weave => json!({"apiKey": "wb-secret", "entity": "e", "project": "p", "baseUrl": base}),
    };
    let body = json!({"type": kind.as_str(), "name": "n", "config": config});
    let defaults = CreateDefaults {
        id: Uuid::from_u128(1),
        workspace_id: DEFAULT_WORKSPACE_ID,
        managed_by: ManagedBy::Api,
        now: jiff::Timestamp::UNIX_EPOCH,
    };
    Destination::create(&body, defaults).unwrap()
}

pub(crate) fn attributes(pairs: &[(&str, OwnedValue)]) -> Vec<(String, OwnedValue)> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect()
}

/// A span of [`TRACE_ID`] with span id `[n; 8]`, 1.5 s long.
pub(crate) fn span(n: u8, pairs: &[(&str, OwnedValue)]) -> SpanBuilder {
    SpanBuilder {
        trace_id: TRACE_ID,
        span_id: [n; 8],
        name: format!("span {n}"),
        kind: 3,
        start_unix_nano: START,
        end_unix_nano: START + 1_500_000_000,
        attributes: attributes(pairs),
        status_code: 1,
        ..SpanBuilder::default()
    }
}

/// A generation in OpenRouter's own words (broadcast-contract.md 5.4).
pub(crate) fn generation(n: u8) -> SpanBuilder {
    span(
        n,
        &[
            ("trace.name", "Checkout".into()),
            ("user.id", "user-1".into()),
            ("session.id", "session-9".into()),
            ("trace.metadata.team", "search".into()),
            ("trace.metadata.environment", "Production EU".into()),
            ("span.type", "generation".into()),
            ("gen_ai.operation.name", "chat".into()),
            ("gen_ai.provider.name", "anthropic".into()),
            ("gen_ai.request.model", "anthropic/claude-sonnet-4".into()),
            ("gen_ai.response.model", "claude-sonnet-4-20250514".into()),
            ("gen_ai.response.id", "gen-1".into()),
            ("gen_ai.usage.input_tokens", 100.into()),
            ("gen_ai.usage.output_tokens", 40.into()),
            ("gen_ai.usage.total_tokens", 140.into()),
            ("gen_ai.usage.input_tokens.cached", 30.into()),
            ("gen_ai.usage.input_tokens.cache_write", 20.into()),
            ("gen_ai.usage.output_tokens.reasoning", 15.into()),
            ("gen_ai.usage.input_cost", 0.001.into()),
            ("gen_ai.usage.output_cost", 0.0025.into()),
            ("gen_ai.usage.total_cost", 0.0035.into()),
            ("gen_ai.request.temperature", 0.5.into()),
            ("gen_ai.prompt", r#"{"messages":[{"role":"user","content":"Hi"}]}"#.into()),
            ("gen_ai.completion", r#"{"completion":"Hello","reasoning":null,"toolCalls":[]}"#.into()),
            ("gen_ai.response.finish_reason", "stop".into()),
            ("trace.metadata.openrouter.api_key_name", "team/../key one".into()),
            ("trace.metadata.openrouter.provider_name", "Amazon Bedrock".into()),
            ("trace.metadata.openrouter.entity_id", "org_1".into()),
        ],
    )
}

pub(crate) fn payload(spans: &[SpanBuilder]) -> Payload {
    let resource = attributes(&[("service.name", "shop".into())]);
    let mut bytes = Vec::new();
    resource_spans(&resource, "test", "1", spans, &mut bytes);
    Payload::new(bytes.into(), spans.len() as u32)
}

pub(crate) fn item(sequence: u64, spans: &[SpanBuilder]) -> Item {
    Item {
        sequence,
        received_unix_nano: RECEIVED,
        payload: Arc::new(payload(spans)),
        spans: SpanSet::all(spans.len() as u32),
        private: false,
        shared: false,
    }
}

/// Bytes that are no OTLP.
pub(crate) fn damaged_item(sequence: u64) -> Item {
    Item {
        sequence,
        received_unix_nano: RECEIVED,
        payload: Arc::new(Payload::new(Bytes::from_static(b"\xff\xff\xff"), 2)),
        spans: SpanSet::from_positions(2, [1]),
        private: true,
        shared: false,
    }
}

pub(crate) fn batch(items: Vec<Item>) -> Batch {
    Batch { token: "dest.1-7".into(), items, ..Batch::default() }
}

pub(crate) fn decode(body: &[u8]) -> ExportTraceServiceRequest {
    ExportTraceServiceRequest::decode(body).unwrap()
}

pub(crate) fn all_spans(request: &ExportTraceServiceRequest) -> Vec<&Span> {
    request
        .resource_spans
        .iter()
        .flat_map(|resource| &resource.scope_spans)
        .flat_map(|scope| &scope.spans)
        .collect()
}

/// An attribute as text; `None` if it is not there.
pub(crate) fn attribute(span: &Span, key: &str) -> Option<String> {
    let found: Vec<_> = span.attributes.iter().filter(|attribute| attribute.key == key).collect();
    assert!(found.len() <= 1, "{key} is there twice");
    let value = found.first()?.value.clone()?.value?;
    Some(match value {
        any_value::Value::StringValue(text) => text,
        any_value::Value::IntValue(n) => n.to_string(),
        any_value::Value::DoubleValue(n) => n.to_string(),
        any_value::Value::BoolValue(b) => b.to_string(),
        other => format!("{other:?}"),
    })
}

/// The spans of one item as the adapter would send them.
pub(crate) fn spans_sent(adapter: &dyn crate::Adapter, item: Item) -> Vec<Span> {
    let preview = adapter.preview(&batch(vec![item])).remove(0);
    all_spans(&decode(&preview.body)).into_iter().cloned().collect()
}

/// The parts of a multipart body by name, each one JSON of the length it says.
pub(crate) fn multipart(content_type: &str, body: &[u8]) -> serde_json::Map<String, serde_json::Value> {
    let boundary = content_type.strip_prefix("multipart/form-data; boundary=").unwrap();
    let body = std::str::from_utf8(body).unwrap();
    let body = body.strip_suffix(&format!("--{boundary}--\r\n")).unwrap();
    let mut out = serde_json::Map::new();
    for part in body.split(&format!("--{boundary}\r\n")).skip(1) {
        let (head, value) = part.split_once("\r\n\r\n").unwrap();
        let value = value.strip_suffix("\r\n").unwrap();
        let lines: Vec<&str> = head.split("\r\n").collect();
        let name = lines[0].strip_prefix("Content-Disposition: form-data; name=\"").unwrap();
        assert_eq!(
            lines[1..],
            ["Content-Type: application/json".to_owned(), format!("Content-Length: {}", value.len())]
        );
        out.insert(name.trim_end_matches('"').to_owned(), serde_json::from_str(value).unwrap());
    }
    out
}

pub(crate) fn gunzip(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(body), &mut out).unwrap();
    out
}

pub(crate) fn reply(status: u16, content_type: &str, body: &[u8]) -> Reply {
    let mut headers = HeaderMap::new();
    if !content_type.is_empty() {
        headers.insert("content-type", content_type.parse().unwrap());
    }
    Reply { status, headers, body: Bytes::copy_from_slice(body) }
}

/// An address nobody listens on.
pub(crate) fn closed_port() -> std::net::SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

/// Sends these bytes to whoever connects, and hangs up. The address of it.
pub(crate) async fn blurting(bytes: &'static [u8]) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(bytes).await;
            // Read what was sent, so that hanging up does not take the answer back.
            let mut asked = Vec::new();
            let _ = stream.read_buf(&mut asked).await;
        }
    });
    address
}

/// A server that answers any request with success, and a body that comes byte by byte. Its URL.
pub(crate) async fn trickling() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut buffer = Vec::new();
                while read_request(&mut stream, &mut buffer).await.is_some() {
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n").await;
                    while stream.write_all(b" ").await.is_ok() {
                        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                    }
                }
            });
        }
    });
    url
}

/// What the server got.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) method: String,
    /// Path and query.
    pub(crate) target: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Received {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn query(&self, name: &str) -> Option<String> {
        let url = url::Url::parse(&format!("http://h{}", self.target)).unwrap();
        url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    }
}

/// A scripted answer: status, header lines, body.
pub(crate) type Scripted = (u16, &'static str, &'static [u8]);

/// An answer made for a request. `None` keeps the client waiting for ever.
pub(crate) type Answered = Option<(u16, String, Vec<u8>)>;

type Respond = Arc<dyn Fn(usize, &Received) -> Answered + Send + Sync>;

/// An HTTP server on loopback.
pub(crate) struct Server {
    pub(crate) url: String,
    received: Arc<Mutex<Vec<Received>>>,
    arrived: Arc<Notify>,
}

impl Server {
    /// Answers in the given order, the last answer from then on.
    pub(crate) async fn start(script: Vec<Scripted>) -> Server {
        Server::answering(move |position, _| {
            let (status, lines, body) = script[position.min(script.len() - 1)];
            Some((status, lines.to_owned(), body.to_vec()))
        })
        .await
    }

    /// Answers by the position of a request, from 0, and by what is in it.
    pub(crate) async fn answering(
        respond: impl Fn(usize, &Received) -> Answered + Send + Sync + 'static,
    ) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let received = Arc::new(Mutex::new(Vec::new()));
        let arrived = Arc::new(Notify::new());
        let respond: Respond = Arc::new(respond);
        let state = (respond, received.clone(), arrived.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (respond, received, arrived) = state.clone();
                tokio::spawn(serve(stream, respond, received, arrived));
            }
        });
        Server { url, received, arrived }
    }

    pub(crate) fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }

    /// Waits until so many requests have come.
    pub(crate) async fn has_received(&self, requests: usize) {
        loop {
            let arrived = self.arrived.notified();
            if self.received.lock().unwrap().len() >= requests {
                return;
            }
            arrived.await;
        }
    }
}

async fn serve(
    mut stream: TcpStream,
    respond: Respond,
    received: Arc<Mutex<Vec<Received>>>,
    arrived: Arc<Notify>,
) {
    let mut buffer = Vec::new();
    while let Some(request) = read_request(&mut stream, &mut buffer).await {
        let position = {
            let mut received = received.lock().unwrap();
            received.push(request.clone());
            received.len() - 1
        };
        arrived.notify_one();
        let Some((status, lines, body)) = respond(position, &request) else {
            return std::future::pending().await;
        };
        let head = format!("HTTP/1.1 {status} X\r\n{lines}content-length: {}\r\n\r\n", body.len());
        if stream.write_all(head.as_bytes()).await.is_err() || stream.write_all(&body).await.is_err() {
            return;
        }
    }
}

/// The columns of ClickHouse's `CREATE_TABLE` as the server would describe them.
pub(crate) fn clickhouse_columns() -> String {
    let start = CREATE_TABLE.find("(\n").unwrap() + 2;
    let end = CREATE_TABLE.find("\n)\n").unwrap();
    CREATE_TABLE[start..end]
        .lines()
        .map(|line| {
            let (name, rest) = line.trim().trim_end_matches(',').split_once(' ').unwrap();
            let kind = rest.split(" CODEC").next().unwrap();
            json!({"name": name, "type": kind, "default_type": ""}).to_string() + "\n"
        })
        .collect()
}

async fn more(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<()> {
    let n = stream.read_buf(buffer).await.ok()?;
    (n > 0).then_some(())
}

async fn read_request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Received> {
    let end = loop {
        if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        more(stream, buffer).await?;
    };
    let head = String::from_utf8(buffer[..end].to_vec()).unwrap();
    buffer.drain(..end + 4);
    let mut lines = head.split("\r\n");
    let mut first = lines.next().unwrap().split(' ');
    let method = first.next().unwrap().to_owned();
    let target = first.next().unwrap().to_owned();
    let mut headers = HeaderMap::new();
    for line in lines {
        let (name, value) = line.split_once(':').unwrap();
        let name: http::HeaderName = name.parse().unwrap();
        headers.append(name, value.trim().parse().unwrap());
    }
    let mut body = Vec::new();
    if let Some(length) = headers.get("content-length") {
        let length: usize = length.to_str().unwrap().parse().unwrap();
        if headers.get("expect").is_some() {
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.ok()?;
        }
        while buffer.len() < length {
            more(stream, buffer).await?;
        }
        body = buffer.drain(..length).collect();
    } else if headers.get("transfer-encoding").is_some() {
        loop {
            let end = loop {
                if let Some(end) = buffer.windows(2).position(|window| window == b"\r\n") {
                    break end;
                }
                more(stream, buffer).await?;
            };
            let size = std::str::from_utf8(&buffer[..end]).unwrap();
            let size = usize::from_str_radix(size, 16).unwrap();
            while buffer.len() < end + 2 + size + 2 {
                more(stream, buffer).await?;
            }
            body.extend_from_slice(&buffer[end + 2..end + 2 + size]);
            buffer.drain(..end + 2 + size + 2);
            if size == 0 {
                break;
            }
        }
    }
    Some(Received { method, target, headers, body })
}
