//! OTLP/gRPC: `TraceService/Export`, read like any other body: bounded, paced, inflated by our own rules.

use std::convert::Infallible;

use bytes::{BufMut as _, Bytes, BytesMut};
use http::header::{CONTENT_TYPE, HeaderName};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::Service;
use tonic::Status;

use crate::Ingest;
use crate::answer::{Encoding, Refusal};
use crate::body::{Bounds, Coding, RequestBody, inflate, read, refuse};
use crate::budget::Reservation;

const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
/// Flag and length in front of a message.
const PREFIX: usize = 5;
const GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
const GRPC_ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const CODINGS: HeaderValue = HeaderValue::from_static("identity,gzip,zstd,deflate");
const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");

impl Ingest {
    /// What the gRPC listener serves: OTLP/gRPC.
    pub fn grpc_service(
        &self,
    ) -> impl Service<
        Request<Incoming>,
        Response = Response<tonic::body::Body>,
        Error = Infallible,
        Future: Send + 'static,
    > + Clone
    + Send
    + Sync
    + use<> {
        self.serving(|ingest, request| async move { ingest.handle_grpc(request).await })
    }

    /// Answers one request of the gRPC listener.
    pub async fn handle_grpc(
        &self,
        request: Request<impl RequestBody + Send + 'static>,
    ) -> Response<tonic::body::Body> {
        self.shared.counters.request();
        let is_grpc = request
            .headers()
            .get(CONTENT_TYPE)
            .is_some_and(|v| v.as_bytes().starts_with(b"application/grpc"));
        if !is_grpc {
            let refusal = Refusal::unsupported(format!(
                "this is the gRPC listener: OTLP/HTTP is served at http://{}/v1/traces",
                self.shared.options.addresses.http
            ));
            return refusal.into_http(Encoding::Json).map(|b: Full<Bytes>| tonic::body::Body::new(b));
        }
        if request.uri().path() != EXPORT {
            let message = match request.uri().path() {
                p if p.contains("MetricsService") => {
                    "metrics are not taken here: set OTEL_METRICS_EXPORTER=none to silence that exporter"
                }
                p if p.contains("LogsService") => {
                    "logs are not taken here: set OTEL_LOGS_EXPORTER=none to silence that exporter"
                }
                _ => "only opentelemetry.proto.collector.trace.v1.TraceService/Export is served here",
            };
            return Status::unimplemented(message).into_http();
        }
        let (parts, mut body) = request.into_parts();
        let mut reservation = self.shared.budget.reservation();
        let mut response = match self.export(&parts, &mut body, &mut reservation).await {
            Ok(message) => answered(&message),
            Err(refusal) => {
                refuse(&parts, body);
                if let Some(reason) = refusal.reason {
                    self.shared.counters.reject(reason, 1);
                }
                refusal.into_grpc().into_http()
            }
        };
        response.headers_mut().insert(GRPC_ACCEPT_ENCODING, CODINGS);
        response
    }

    async fn export(
        &self,
        head: &Parts,
        body: impl RequestBody,
        reservation: &mut Reservation,
    ) -> Result<Vec<u8>, Refusal> {
        let sender = self.sender(head)?;
        let headers = &head.headers;
        self.charge_body(&sender, 0)?;
        let coding = Coding::named(headers, GRPC_ENCODING)?;
        let options = &self.shared.options;
        let bounds = Bounds { sent: options.body_bytes + PREFIX, inflated: options.inflated_body_bytes };
        let framed = read(headers, body, bounds, reservation).await?;
        let (flag, length) = match framed.first_chunk() {
            Some([flag, a, b, c, d]) => (*flag, u32::from_be_bytes([*a, *b, *c, *d])),
            None => return Err(Refusal::malformed("the request holds no message")),
        };
        let message = framed.slice(PREFIX..);
        if message.len() != length as usize {
            return Err(Refusal::malformed("the request does not hold exactly one message"));
        }
        let message = match flag {
            0 => message,
            1 if coding != Coding::Identity => {
                drop(framed);
                inflate(coding, message, bounds, &self.shared.inflating, reservation).await?
            }
            _ => return Err(Refusal::malformed("the message is compressed, but grpc-encoding says not how")),
        };
        self.charge_body(&sender, message.len())?;
        let accepted = self.accept(message, &sender, reservation).await?;
        Ok(accepted.partial.to_protobuf())
    }
}

/// Success: one message, and the status behind it.
fn answered(message: &[u8]) -> Response<tonic::body::Body> {
    let mut framed = BytesMut::with_capacity(PREFIX + message.len());
    framed.put_u8(0);
    // A partial success is a few hundred bytes.
    framed.put_u32(message.len() as u32);
    framed.put_slice(message);
    let trailers = HeaderMap::from_iter([(GRPC_STATUS, HeaderValue::from_static("0"))]);
    let body = Full::new(framed.freeze()).with_trailers(std::future::ready(Some(Ok(trailers))));
    let mut response = Response::new(tonic::body::Body::new(body));
    response.headers_mut().insert(CONTENT_TYPE, GRPC);
    response
}
