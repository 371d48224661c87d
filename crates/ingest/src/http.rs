//! OTLP/HTTP, `/v1/events` and the two calls of the Langfuse SDK.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use serde_json::json;
use tracecast_genai::events;

use crate::Ingest;
use crate::accept::now_unix_nano;
use crate::answer::{Encoding, Refusal, respond};
use crate::auth::{Sender, authorize};
use crate::body::{Bounds, Coding, RequestBody, inflate, read, refuse};
use crate::budget::Reservation;
use crate::connections::Place;
use crate::counters::Reason;

/// Most records of one `/v1/events` request.
pub(crate) const EVENTS_MAX: usize = 100_000;
/// The gateways an event has passed.
const VIA: &str = "x-tracecast-via";
/// Most gateways an event passes.
const HOPS_MAX: usize = 8;

impl Ingest {
    /// What the HTTP listener serves: OTLP/HTTP and `/v1/events`.
    pub fn http_service(
        &self,
    ) -> impl Service<
        Request<Incoming>,
        Response = Response<Full<Bytes>>,
        Error = Infallible,
        Future: Send + 'static,
    > + Clone
    + Send
    + Sync
    + use<> {
        self.serving(|ingest, request| async move { ingest.handle_http(request).await })
    }

    /// A service of `answer` that counts how long each answer took.
    pub(crate) fn serving<A, F, B>(
        &self,
        answer: A,
    ) -> impl Service<Request<Incoming>, Response = Response<B>, Error = Infallible, Future: Send + 'static>
    + Clone
    + Send
    + Sync
    + use<A, F, B>
    where
        A: Fn(Ingest, Request<Incoming>) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Response<B>> + Send + 'static,
        B: http_body::Body + 'static,
    {
        let ingest = self.clone();
        service_fn(move |request| {
            let (ingest, answer) = (ingest.clone(), answer.clone());
            async move {
                let started = Instant::now();
                let response = answer(ingest.clone(), request).await;
                ingest.shared.answered.count(started.elapsed());
                Ok(response)
            }
        })
    }

    /// Answers one HTTP request of the ingest listener. Never panics, whatever the request.
    pub async fn handle_http(
        &self,
        request: Request<impl RequestBody + Send + 'static>,
    ) -> Response<Full<Bytes>> {
        self.shared.counters.request();
        let (parts, mut body) = request.into_parts();
        let encoding = answer_encoding(&parts.headers, parts.uri.path());
        // Lives until the answer: what a request holds is reserved as long as it holds it.
        let mut reservation = self.shared.budget.reservation();
        match self.route(&parts, &mut body, &mut reservation).await {
            Ok(response) => response,
            Err(refusal) => {
                refuse(&parts, body);
                if let Some(reason) = refusal.reason {
                    self.shared.counters.reject(reason, 1);
                }
                refusal.into_http(encoding)
            }
        }
    }

    async fn route(
        &self,
        head: &Parts,
        body: impl RequestBody,
        reservation: &mut Reservation,
    ) -> Result<Response<Full<Bytes>>, Refusal> {
        let Parts { method, uri, .. } = head;
        let addresses = &self.shared.options.addresses;
        match (method, uri.path()) {
            (&Method::POST, "/v1/traces" | "/api/public/otel/v1/traces") => {
                self.traces(head, body, reservation).await
            }
            (&Method::POST, "/v1/events") => self.events(head, body, reservation).await,
            (&Method::GET, "/api/public/health") => Ok(json_response(
                StatusCode::OK,
                &json!({ "status": "OK", "version": env!("CARGO_PKG_VERSION") }),
            )),
            (&Method::GET, "/api/public/projects") => {
                let sender = self.sender(head)?;
                Ok(json_response(
                    StatusCode::OK,
                    &json!({ "data": [{
                        "id": sender.workspace,
                        "name": "tracecast",
                        "organization": { "id": sender.workspace, "name": "tracecast" },
                        "metadata": {},
                    }] }),
                ))
            }
            (_, "/v1/traces" | "/api/public/otel/v1/traces" | "/v1/events") => {
                Err(Refusal::method_not_allowed(format!("{method} is not for {}: use POST", uri.path())))
            }
            (_, "/v1/metrics") => Err(Refusal::not_found(
                "metrics are not taken here: set OTEL_METRICS_EXPORTER=none to silence that exporter",
            )),
            (_, "/v1/logs") => Err(Refusal::not_found(
                "logs are not taken here: set OTEL_LOGS_EXPORTER=none to silence that exporter",
            )),
            (_, path) if path.starts_with("/opentelemetry.proto.collector.") => Err(Refusal::not_found(
                format!("this is the HTTP listener: OTLP/gRPC is served at {}", addresses.grpc),
            )),
            (_, path) => match admin_path(path) {
                Some(path) => Ok(wrong_listener(&path, &addresses.admin)),
                None => Err(Refusal::not_found(format!(
                    "nothing is served at {}: send OTLP to POST /v1/traces or JSON events to POST /v1/events",
                    shown(path)
                ))),
            },
        }
    }

    async fn traces(
        &self,
        head: &Parts,
        body: impl RequestBody,
        reservation: &mut Reservation,
    ) -> Result<Response<Full<Bytes>>, Refusal> {
        let sender = self.sender(head)?;
        let headers = &head.headers;
        let encoding = otlp_encoding(headers)?;
        let body = self.body(headers, body, &sender, reservation).await?;
        let mut accepted = match encoding {
            Encoding::Protobuf => self.accept(body, &sender, reservation).await?,
            Encoding::Json => {
                let json_bytes = body.len();
                if !reservation.grow(json_bytes) {
                    return Err(Refusal::out_of_memory());
                }
                let (protobuf, rejected) = tracecast_otlp::json::decode(&body, &self.shared.otlp_limits)
                    .map_err(|e| Refusal::malformed(format!("not a valid OTLP/JSON request: {e}")))?;
                drop(body);
                reservation.shrink(json_bytes);
                self.shared.counters.reject(Reason::InvalidSpan, rejected.len() as u64);
                let first = rejected.first().map(|r| format!("{}: {}", r.path, r.reason));
                let mut accepted = match self.accept(protobuf, &sender, reservation).await {
                    Ok(accepted) => accepted,
                    Err(refusal) => return Err(refusal),
                };
                if let Some(first) = first {
                    if accepted.spans == 0 {
                        return Err(Refusal::nothing_usable(first));
                    }
                    accepted.partial.rejected += rejected.len() as u64;
                    accepted.partial.message = match accepted.partial.message.as_str() {
                        "" => first,
                        more => format!("{first}; {more}"),
                    };
                }
                accepted
            }
        };
        let body = match encoding {
            Encoding::Protobuf => accepted.partial.to_protobuf(),
            Encoding::Json => std::mem::take(&mut accepted.partial).to_json(),
        };
        Ok(respond(StatusCode::OK, encoding, body))
    }

    async fn events(
        &self,
        head: &Parts,
        body: impl RequestBody,
        reservation: &mut Reservation,
    ) -> Result<Response<Full<Bytes>>, Refusal> {
        let sender = self.sender(head)?;
        let Parts { uri, headers, .. } = head;
        // The last is what `curl -d` says unless told otherwise: the body tells what it is.
        const KINDS: [&str; 5] = [
            "application/json",
            "application/x-ndjson",
            "application/ndjson",
            "application/jsonl",
            "application/x-www-form-urlencoded",
        ];
        if let Some(other) = media_type(headers)
            && !is_one_of(other, &KINDS)
        {
            return Err(Refusal::unsupported(format!(
                "content-type `{}` is not supported: use application/json or application/x-ndjson",
                shown(other)
            )));
        }
        let body = self.body(headers, body, &sender, reservation).await?;
        // The parsed records and the spans made of them, while both are there.
        let json_bytes = body.len();
        if !reservation.grow(2 * json_bytes) {
            return Err(Refusal::out_of_memory());
        }
        let strict = uri.query().is_some_and(|q| q.split('&').any(|p| p == "strict=1" || p == "strict=true"));
        let mut outcome = events::transcode(
            &body,
            &events::Options {
                strict,
                receive_unix_nano: now_unix_nano(),
                service_name: &self.shared.options.service_name,
                max_records: EVENTS_MAX,
            },
        );
        drop(body);
        reservation.shrink(2 * json_bytes);
        self.shared.counters.remove_credentials(u64::from(outcome.credentials_removed));
        self.shared.counters.reject(Reason::InvalidSpan, u64::from(outcome.rejected));
        if outcome.accepted > 0 {
            match self.accept(std::mem::take(&mut outcome.protobuf), &sender, reservation).await {
                Ok(accepted) if accepted.partial.rejected > 0 => {
                    // The identity a record states was refused: its spans are not kept.
                    outcome.errors.push(events::RecordError {
                        index: 0,
                        line: 0,
                        path: String::new(),
                        message: accepted.partial.message,
                    });
                    outcome.spans = accepted.spans as u32;
                }
                Ok(_) => {}
                Err(refusal) if refusal.status == StatusCode::BAD_REQUEST => {
                    outcome.rejected += outcome.accepted;
                    outcome.accepted = 0;
                    outcome.spans = 0;
                    outcome.trace_ids.clear();
                    outcome.errors.push(events::RecordError {
                        index: 0,
                        line: 0,
                        path: String::new(),
                        message: refusal.message,
                    });
                }
                Err(refusal) => return Err(refusal),
            }
        }
        let status = if outcome.accepted > 0 { StatusCode::OK } else { StatusCode::BAD_REQUEST };
        Ok(json_response(
            status,
            &json!({
                "accepted": outcome.accepted,
                "rejected": outcome.rejected,
                "spans": outcome.spans,
                "trace_ids": outcome.trace_ids,
                "errors": outcome.errors,
            }),
        ))
    }

    /// Who sends; refused before the body is read when nothing can be taken anyway.
    pub(crate) fn sender(&self, head: &Parts) -> Result<Sender, Refusal> {
        let (shared, headers) = (&self.shared, &head.headers);
        if shared.draining.load(std::sync::atomic::Ordering::Relaxed) {
            return Err(Refusal::overloaded("the gateway is stopping", 5));
        }
        let via = passed(headers, shared.options.instance_id.as_bytes())?;
        let now = (now_unix_nano() / 1_000_000_000) as i64;
        let sender = authorize(headers, shared.options.auth, &shared.snapshot.load(), now)?;
        if let Some(place) = head.extensions.get::<Arc<Place>>()
            && !place.belong_to(sender.workspace)
        {
            return Err(Refusal::too_many_connections());
        }
        if !shared.log.is_writable() {
            return Err(Refusal::overloaded("the log cannot be written", 5));
        }
        Ok(Sender { via, ..sender })
    }

    async fn body(
        &self,
        headers: &HeaderMap,
        body: impl RequestBody,
        sender: &Sender,
        reservation: &mut Reservation,
    ) -> Result<Bytes, Refusal> {
        self.charge_body(sender, 0)?;
        let options = &self.shared.options;
        let coding = Coding::of(headers)?;
        let bounds = Bounds { sent: options.body_bytes, inflated: options.inflated_body_bytes };
        let sent = read(headers, body, bounds, reservation).await?;
        let body = inflate(coding, sent, bounds, &self.shared.inflating, reservation).await?;
        self.charge_body(sender, body.len())?;
        Ok(body)
    }
}

/// The gateways a request has passed, comma-separated. Refused if this one is among them, or if they are so many
/// that there must be a loop.
fn passed(headers: &HeaderMap, own: &[u8]) -> Result<Bytes, Refusal> {
    if !headers.contains_key(VIA) {
        return Ok(Bytes::new());
    }
    let all = headers.get_all(VIA).iter().flat_map(|v| v.as_bytes().split(|b| *b == b','));
    let hops: Vec<&[u8]> = all.map(<[u8]>::trim_ascii).filter(|hop| !hop.is_empty()).collect();
    // With this gateway's own name the list would be longer than it may be.
    if hops.contains(&own) || hops.len() >= HOPS_MAX {
        return Err(Refusal::loop_detected());
    }
    Ok(hops.join(&b", "[..]).into())
}

/// The request's content type, without parameters.
fn media_type(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(CONTENT_TYPE)?.to_str().unwrap_or("");
    Some(value.split(';').next().unwrap_or("").trim())
}

fn is_one_of(media_type: &str, names: &[&str]) -> bool {
    names.iter().any(|name| name.eq_ignore_ascii_case(media_type))
}

const PROTOBUF: [&str; 2] = ["application/x-protobuf", "application/protobuf"];

fn otlp_encoding(headers: &HeaderMap) -> Result<Encoding, Refusal> {
    match media_type(headers) {
        Some(kind) if is_one_of(kind, &PROTOBUF) => Ok(Encoding::Protobuf),
        Some(kind) if is_one_of(kind, &["application/json"]) => Ok(Encoding::Json),
        Some(kind) if is_one_of(kind, &["application/grpc", "application/grpc+proto"]) => {
            Err(Refusal::unsupported("this is the HTTP listener: OTLP/gRPC has a listener of its own"))
        }
        Some(other) => Err(Refusal::unsupported(format!(
            "content-type `{}` is not supported: use application/x-protobuf or application/json",
            shown(other)
        ))),
        None => Err(Refusal::unsupported(
            "content-type is missing: use application/x-protobuf or application/json",
        )),
    }
}

/// What a message quotes of a request.
fn shown(text: &str) -> String {
    text.chars().take(100).collect()
}

/// An error is spelled in protobuf only to a client that speaks it.
fn answer_encoding(headers: &HeaderMap, path: &str) -> Encoding {
    let is_protobuf = || media_type(headers).is_some_and(|kind| is_one_of(kind, &PROTOBUF));
    if path.ends_with("/v1/traces") && is_protobuf() { Encoding::Protobuf } else { Encoding::Json }
}

/// A path of the admin listener.
enum AdminPath {
    AsGiven,
    /// One of the control API, without its base path.
    WithoutBase,
}

fn admin_path(path: &str) -> Option<AdminPath> {
    const CONTROL: [&str; 5] = ["observability", "keys", "key", "workspaces", "audit-log"];
    if CONTROL.contains(&path.split('/').nth(1).unwrap_or_default()) {
        return Some(AdminPath::WithoutBase);
    }
    let as_given =
        path.starts_with("/api/v1") || ["/healthz", "/readyz", "/metrics", "/openapi.json"].contains(&path);
    as_given.then_some(AdminPath::AsGiven)
}

/// The answer to a client of the admin listener that came to this one, in the envelope such clients read.
fn wrong_listener(path: &AdminPath, admin: &str) -> Response<Full<Bytes>> {
    let below = match path {
        AdminPath::AsGiven => "",
        AdminPath::WithoutBase => ", below /api/v1",
    };
    let message =
        format!("this is the ingest listener: that path is served by the admin listener at {admin}{below}");
    let error = json!({ "code": StatusCode::NOT_FOUND.as_u16(), "message": message, "metadata": null });
    json_response(StatusCode::NOT_FOUND, &json!({ "error": error }))
}

fn json_response(status: StatusCode, body: &serde_json::Value) -> Response<Full<Bytes>> {
    respond(status, Encoding::Json, body.to_string().into_bytes())
}
