//! A counting receiver: OTLP (protobuf and JSON) and any JSON that names span ids; with faults on demand.
//!
//! `GET /stats` answers the counts as JSON, `GET /ids` every distinct span id as one hex line each.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io::Read as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use rand::RngExt as _;
use serde::Serialize;
use tokio::net::TcpListener;
use tracecast_genai::Generation;
use tracecast_otlp::{Limits, SpanId, SpanSet, Traces};

use crate::standin::Role;
use crate::tally::{self, Tally};

/// How the sink behaves.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Whom it imitates.
    pub role: Role,
    /// Time to every answer.
    pub latency: Duration,
    /// Share of requests answered with `fail_status`, percent.
    pub fail_percent: f64,
    /// The status of those (503 if 0).
    pub fail_status: u16,
    /// `Retry-After` sent with them, seconds.
    pub retry_after: Option<u32>,
    /// Requests are read and never answered.
    pub stall: bool,
    /// Connections are cut instead of answered.
    pub reset: bool,
    /// Print every generation that arrives.
    pub print: bool,
    /// Keep a [`Tally`] instead of looking into the spans of OTLP protobuf: what costs least, for measured runs.
    pub tally: bool,
}

/// What arrived.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Stats {
    /// Requests, failed ones included; `/stats` and `/ids` are not counted.
    pub requests: u64,
    /// Requests that were answered with the fault status, stalled or cut.
    pub failed_requests: u64,
    /// Requests whose body could not be read as what it said it was.
    pub unreadable_requests: u64,
    /// Spans in requests that were taken.
    pub spans: u64,
    /// Distinct span ids among them.
    pub distinct_ids: u64,
    /// Spans that had come before.
    pub duplicates: u64,
    /// Spans that carried prompt or completion text.
    pub spans_with_content: u64,
    /// Request body bytes as sent.
    pub bytes: u64,
}

/// A running sink. It stops when dropped.
#[derive(Debug)]
pub struct Sink {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: tokio::task::JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    options: Mutex<Options>,
    /// One reference for each open connection, beside this one.
    open: Arc<()>,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    stats: Stats,
    ids: HashMap<SpanId, u32>,
    tally: Tally,
}

/// One span found in a request.
#[derive(Clone, Debug, PartialEq)]
pub struct SeenSpan {
    /// Its id.
    pub id: SpanId,
    /// Whether it carried prompt or completion text.
    pub content: bool,
}

impl Sink {
    /// Listens on `address` (port 0 takes a free one).
    pub async fn start(address: SocketAddr, options: Options) -> std::io::Result<Sink> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let shared =
            Arc::new(Shared { options: Mutex::new(options), open: Arc::default(), seen: Mutex::default() });
        let task = tokio::spawn(serve(listener, shared.clone()));
        Ok(Sink { address, shared, task })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Counts so far.
    pub fn stats(&self) -> Stats {
        self.shared.seen().stats.clone()
    }

    /// Every distinct span id that was taken.
    pub fn ids(&self) -> Vec<SpanId> {
        self.shared.seen().ids.keys().copied().collect()
    }

    /// What was taken under [`Options::tally`] since the last call.
    pub fn take_tally(&self) -> Tally {
        std::mem::take(&mut self.shared.seen().tally)
    }

    /// Connections open at this moment. Of those that were closed, all that came has been dealt with.
    pub fn connections(&self) -> usize {
        Arc::strong_count(&self.shared.open) - 1
    }

    /// Changes how it behaves from the next request on.
    pub fn behave(&self, options: Options) {
        *self.shared.options.lock().unwrap_or_else(PoisonError::into_inner) = options;
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        let shared = shared.clone();
        connections.spawn(async move {
            let _open = shared.open.clone();
            let service = service_fn(move |request| {
                let shared = shared.clone();
                async move { handle(request, &shared).await }
            });
            let _ = Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
        });
        while connections.try_join_next().is_some() {}
    }
}

/// The error cuts the connection.
#[derive(Debug, thiserror::Error)]
#[error("connection cut on purpose")]
struct Cut;

async fn handle(
    request: Request<hyper::body::Incoming>,
    shared: &Shared,
) -> Result<Response<Full<Bytes>>, Cut> {
    let (parts, body) = request.into_parts();
    if parts.method == Method::GET && parts.uri.path() == "/stats" {
        let stats = shared.seen().stats.clone();
        return Ok(reply(StatusCode::OK, serde_json::to_vec(&stats).unwrap_or_default()));
    }
    if parts.method == Method::GET && parts.uri.path() == "/ids" {
        let mut text = String::new();
        for id in shared.seen().ids.keys() {
            text.push_str(&tracecast_otlp::hex(id));
            text.push('\n');
        }
        return Ok(reply(StatusCode::OK, text.into_bytes()));
    }
    let body = match body.collect().await {
        Ok(body) => body.to_bytes(),
        Err(_) => return Err(Cut),
    };
    let options = shared.options.lock().unwrap_or_else(PoisonError::into_inner).clone();
    {
        let mut seen = shared.seen();
        seen.stats.requests += 1;
        seen.stats.bytes += body.len() as u64;
    }
    if !options.latency.is_zero() {
        tokio::time::sleep(options.latency).await;
    }
    let fails =
        options.fail_percent > 0.0 && rand::rng().random_bool((options.fail_percent / 100.0).clamp(0.0, 1.0));
    if options.stall || options.reset || fails {
        shared.seen().stats.failed_requests += 1;
    }
    if options.stall {
        std::future::pending::<Infallible>().await;
    }
    if options.reset {
        return Err(Cut);
    }
    if fails {
        let status = StatusCode::from_u16(options.fail_status).ok().filter(|s| s.as_u16() >= 400);
        let mut response = reply(status.unwrap_or(StatusCode::SERVICE_UNAVAILABLE), b"{}".to_vec());
        if let Some(seconds) = options.retry_after {
            response.headers_mut().insert("retry-after", seconds.into());
        }
        return Ok(response);
    }
    let body = match decode(&parts.headers, body) {
        Some(body) => body,
        None => {
            shared.seen().stats.unreadable_requests += 1;
            return Ok(reply(StatusCode::BAD_REQUEST, b"{\"error\":\"unreadable body\"}".to_vec()));
        }
    };
    if options.tally {
        return Ok(tally(&body, shared));
    }
    let answer = options.role.answer(&parts, &body);
    {
        let mut seen = shared.seen();
        let seen = &mut *seen;
        match &answer.spans {
            Some(spans) => {
                for span in spans {
                    seen.stats.spans += 1;
                    seen.stats.spans_with_content += u64::from(span.content);
                    let times = seen.ids.entry(span.id).or_insert(0);
                    *times += 1;
                    if *times > 1 {
                        seen.stats.duplicates += 1;
                    }
                }
                seen.stats.distinct_ids = seen.ids.len() as u64;
            }
            None => seen.stats.unreadable_requests += 1,
        }
    }
    if options.print {
        print(&parts.headers, &body);
    }
    Ok(answer.response)
}

/// Takes note of the spans by their framing alone.
fn tally(body: &[u8], shared: &Shared) -> Response<Full<Bytes>> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as u64);
    let spans = tally::read(body);
    let mut seen = shared.seen();
    let seen = &mut *seen;
    let Some(spans) = spans else {
        seen.stats.unreadable_requests += 1;
        return reply(StatusCode::BAD_REQUEST, b"{\"error\":\"not an OTLP trace request\"}".to_vec());
    };
    for span in spans {
        seen.stats.spans += 1;
        match seen.tally.take(span, now) {
            true => seen.stats.distinct_ids += 1,
            false => seen.stats.duplicates += 1,
        }
    }
    let mut response = reply(StatusCode::OK, Vec::new());
    response.headers_mut().insert("content-type", http::HeaderValue::from_static("application/x-protobuf"));
    response
}

fn reply(status: StatusCode, body: Vec<u8>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert("content-type", http::HeaderValue::from_static("application/json"));
    response
}

/// The body without its content coding.
pub(crate) fn decode(headers: &HeaderMap, body: Bytes) -> Option<Bytes> {
    match headers.get("content-encoding").and_then(|v| v.to_str().ok()) {
        None | Some("" | "identity") => Some(body),
        Some("gzip") => {
            let mut out = Vec::new();
            flate2::read::MultiGzDecoder::new(&body[..]).read_to_end(&mut out).ok()?;
            Some(out.into())
        }
        Some(_) => None,
    }
}

/// The spans of an OTLP body, whichever of the two encodings it is in.
pub fn otlp_spans(headers: &HeaderMap, body: &Bytes) -> Option<Vec<SeenSpan>> {
    let traces = index(headers, body)?;
    Some(
        traces
            .spans()
            .map(|span| {
                let view = Generation::new(span);
                SeenSpan {
                    id: span.span_id(),
                    content: view.input_json().is_some() || view.output_json().is_some(),
                }
            })
            .collect(),
    )
}

pub(crate) fn index(headers: &HeaderMap, body: &Bytes) -> Option<Traces> {
    let json = headers
        .get("content-type")
        .and_then(|v| v.to_str().ok())
        .is_some_and(|t| t.starts_with("application/json"));
    let limits = Limits::default();
    let protobuf = match json {
        true => tracecast_otlp::json::decode(body, &limits).ok()?.0,
        false => body.clone(),
    };
    let traces = Traces::index(protobuf, &limits).ok()?;
    traces.rejected().is_empty().then_some(traces)
}

/// One readable block per generation.
fn print(headers: &HeaderMap, body: &Bytes) {
    let Some(traces) = index(headers, body) else {
        println!("{}", String::from_utf8_lossy(&body[..body.len().min(2000)]));
        return;
    };
    let all = SpanSet::all(traces.len() as u32);
    for i in all.iter() {
        let span = traces.span(i as usize);
        let view = Generation::new(span);
        if !view.is_generation() {
            println!("  span  {}  {}", tracecast_otlp::hex(&span.span_id()), span.name());
            continue;
        }
        let usage = view.usage();
        let tokens = |n: Option<u64>| n.map_or("?".to_owned(), |n| n.to_string());
        println!(
            "{}  {}  {} in, {} out{}  trace {}{}{}",
            view.model().or(view.response_model()).unwrap_or("?"),
            view.provider_name().unwrap_or(""),
            tokens(usage.input),
            tokens(usage.output),
            view.cost().total.map_or(String::new(), |c| format!(", ${c:.6}")),
            tracecast_otlp::hex(&span.trace_id()),
            view.user_id().map_or(String::new(), |u| format!("  user {u}")),
            view.session_id().map_or(String::new(), |s| format!("  session {s}")),
        );
        for (mark, text) in [('>', view.input_text()), ('<', view.output_text())] {
            if let Some(text) = text {
                let line: String =
                    text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(160).collect();
                println!("  {mark} {line}");
            }
        }
        if span.status_code() == 2 {
            println!("  ! {}", view.error_message().unwrap_or("error"));
        }
    }
}
