//! OTLP/gRPC: `TraceService/Export`, with a codec that hands the message over as bytes.

use std::future::Future;
use std::pin::Pin;

use bytes::{Buf as _, BufMut as _, Bytes};
use http::{Request, Response, header};
use http_body_util::Full;
use tonic::Status;
use tonic::codec::{Codec, CompressionEncoding, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::server::{Grpc, UnaryService};

use crate::Ingest;
use crate::answer::{Encoding, Refusal};

const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

impl Ingest {
    /// Answers one request of the gRPC listener.
    pub async fn handle_grpc<B>(&self, request: Request<B>) -> Response<tonic::body::Body>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        self.shared.counters.request();
        let is_grpc = request
            .headers()
            .get(header::CONTENT_TYPE)
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
        let sender = match self.sender(request.headers()) {
            Ok(sender) => sender,
            Err(refusal) => return self.refuse(refusal).into_http(),
        };
        // The message is inflated and held whole: its largest size is reserved by what arrived, in `export`.
        let mut grpc = Grpc::new(RawCodec)
            .accept_compressed(CompressionEncoding::Gzip)
            .accept_compressed(CompressionEncoding::Zstd)
            .apply_max_message_size_config(Some(self.shared.options.inflated_body_bytes), None);
        let limit = self.shared.options.body_bytes;
        let request = request.map(|body| http_body_util::Limited::new(body, limit + 5));
        grpc.unary(Export { ingest: self.clone(), sender }, request).await
    }

    fn refuse(&self, refusal: Refusal) -> Status {
        if let Some(reason) = refusal.reason {
            self.shared.counters.reject(reason, 1);
        }
        refusal.into_grpc()
    }
}

struct Export {
    ingest: Ingest,
    sender: crate::auth::Sender,
}

impl UnaryService<Bytes> for Export {
    type Response = Bytes;
    type Future = Pin<Box<dyn Future<Output = Result<tonic::Response<Bytes>, Status>> + Send>>;

    fn call(&mut self, request: tonic::Request<Bytes>) -> Self::Future {
        let ingest = self.ingest.clone();
        let sender = self.sender.clone();
        Box::pin(async move {
            let body = request.into_inner();
            let mut reservation = ingest.shared.budget.reservation();
            if !reservation.grow(body.len()) {
                return Err(ingest.refuse(Refusal::out_of_memory()));
            }
            match ingest.accept(body, &sender).await {
                Ok(accepted) => Ok(tonic::Response::new(Bytes::from(accepted.partial.to_protobuf()))),
                Err(refusal) => Err(ingest.refuse(refusal)),
            }
        })
    }
}

/// Messages as the bytes they are on the wire.
#[derive(Clone, Copy, Debug, Default)]
struct RawCodec;

impl Codec for RawCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = RawCodec;
    type Decoder = RawCodec;

    fn encoder(&mut self) -> RawCodec {
        RawCodec
    }

    fn decoder(&mut self) -> RawCodec {
        RawCodec
    }
}

impl Encoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put(item);
        Ok(())
    }
}

impl Decoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        let n = from.remaining();
        Ok(Some(from.copy_to_bytes(n)))
    }
}
