//! Strict fakes: HTTP servers that record what they get, check what the vendor checks, refuse what it refuses.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;

use crate::process::PATIENCE;

/// One request a fake got, and what it answered.
#[derive(Clone, Debug)]
pub struct Got {
    /// Method.
    pub method: Method,
    /// Path and query.
    pub path: String,
    /// Headers.
    pub headers: HeaderMap,
    /// Body without its content coding.
    pub body: Bytes,
    /// The status answered.
    pub status: u16,
}

/// What a fake says to a request: status, content type, body.
pub type Reply = (u16, &'static str, Vec<u8>);

/// Decides the reply; the number is that of the request, from 0.
pub type Judge = Box<dyn Fn(usize, &Got) -> Reply + Send + Sync>;

/// A running fake.
pub struct Fake {
    address: SocketAddr,
    got: Arc<Mutex<Vec<Got>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Fake {
    /// Starts on a free port.
    pub async fn start(judge: Judge) -> Fake {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("its address");
        let got: Arc<Mutex<Vec<Got>>> = Arc::default();
        let judge = Arc::new(judge);
        let shared = got.clone();
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (got, judge) = (shared.clone(), judge.clone());
                connections.spawn(async move {
                    let service = service_fn(move |request| {
                        let (got, judge) = (got.clone(), judge.clone());
                        async move { Ok::<_, Infallible>(handle(request, &got, &judge).await) }
                    });
                    let _ = Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Fake { address, got, task }
    }

    /// Its base URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The requests so far.
    pub fn requests(&self) -> Vec<Got> {
        self.got.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until it has got so many requests.
    pub async fn wait_for(&self, count: usize) -> Vec<Got> {
        let started = Instant::now();
        loop {
            let requests = self.requests();
            if requests.len() >= count {
                return requests;
            }
            assert!(started.elapsed() < PATIENCE, "{} of {count} requests came", requests.len());
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }

    /// All spans of requests that were answered with success.
    pub fn spans(&self) -> Vec<Span> {
        self.requests()
            .iter()
            .filter(|g| g.status < 300)
            .flat_map(|g| decode(g).unwrap_or_default())
            .collect()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn handle(
    request: Request<hyper::body::Incoming>,
    got: &Mutex<Vec<Got>>,
    judge: &Judge,
) -> Response<Full<Bytes>> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map(|b| b.to_bytes()).unwrap_or_default();
    let body = match parts.headers.get("content-encoding").map(|v| v.as_bytes()) {
        Some(b"gzip") => {
            let mut out = Vec::new();
            let read = std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&body[..]), &mut out);
            read.map(|_| Bytes::from(out)).unwrap_or_default()
        }
        _ => body,
    };
    let path = parts.uri.path_and_query().map_or(String::new(), ToString::to_string);
    let mut one = Got { method: parts.method, path, headers: parts.headers, body, status: 0 };
    let mut list = got.lock().unwrap_or_else(PoisonError::into_inner);
    let (status, content_type, body) = judge(list.len(), &one);
    one.status = status;
    list.push(one);
    let response = Response::builder().status(status).header("content-type", content_type);
    response.body(Full::new(Bytes::from(body))).unwrap_or_default()
}

/// The spans of an OTLP body, read by the reference decoder; `None` if it refuses the body.
pub fn decode(got: &Got) -> Option<Vec<Span>> {
    let json = got.headers.get("content-type").is_some_and(|t| t.as_bytes().starts_with(b"application/json"));
    let request: ExportTraceServiceRequest = match json {
        true => serde_json::from_slice(&got.body).ok()?,
        false => ExportTraceServiceRequest::decode(got.body.clone()).ok()?,
    };
    let scopes = request.resource_spans.into_iter().flat_map(|r| r.scope_spans);
    Some(scopes.flat_map(|s| s.spans).collect())
}

/// The string value of an attribute.
pub fn attribute(span: &Span, key: &str) -> Option<String> {
    use opentelemetry_proto::tonic::common::v1::any_value::Value;
    let value = span.attributes.iter().find(|a| a.key == key)?.value.as_ref()?.value.as_ref()?;
    Some(match value {
        Value::StringValue(s) => s.clone(),
        other => format!("{other:?}"),
    })
}

fn header<'a>(got: &'a Got, name: &str) -> &'a str {
    got.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or("")
}

/// A webhook receiver after OpenRouter's contract: OTLP JSON, by POST or PUT, with a stable id.
pub fn webhook() -> Judge {
    Box::new(|_, got| {
        let method = got.method == Method::POST || got.method == Method::PUT;
        if header(got, "x-test-connection") == "true" {
            return (200, "text/plain", Vec::new());
        }
        let id = header(got, "webhook-id");
        match decode(got) {
            Some(spans) if method && !spans.is_empty() && !id.is_empty() && !id.contains('.') => {
                (200, "text/plain", b"thanks".to_vec())
            }
            _ => (400, "text/plain", b"not the contract".to_vec()),
        }
    })
}

/// Langfuse's OTLP endpoint: path, Basic auth, media type, version header; one bad span refuses the body; a
/// cost under a usage key would be counted as tokens, so it is refused here.
pub fn langfuse(public_key: &'static str, secret_key: &'static str) -> Judge {
    use base64::Engine as _;
    let pair = format!("{public_key}:{secret_key}");
    let expected = format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair));
    Box::new(move |_, got| {
        let say = |status: u16, text: &str| {
            (status, "application/json", format!("{{\"message\":\"{text}\"}}").into_bytes())
        };
        if got.path != "/api/public/otel/v1/traces" || got.method != Method::POST {
            return say(404, "not found");
        }
        if header(got, "authorization") != expected {
            return say(401, "Invalid credentials. Confirm that you've configured the correct host.");
        }
        let version = header(got, "x-langfuse-ingestion-version");
        if !version.is_empty() && version.parse::<u32>().map_or(true, |v| v > 4) {
            return say(400, "unsupported ingestion version");
        }
        let Some(spans) = decode(got) else { return say(400, "the entire export was rejected") };
        for span in &spans {
            if span.trace_id.len() != 16 || span.span_id.len() != 8 {
                return say(400, "the entire export was rejected: malformed id");
            }
            let token_like = |key: &str| key.starts_with("gen_ai.usage.") && key.ends_with("_cost");
            if span.attributes.iter().any(|a| token_like(&a.key)) {
                return say(400, "a cost would be counted as tokens");
            }
        }
        (200, "application/json", b"{}".to_vec())
    })
}
