//! One refusal, spelled as each protocol wants it: OTLP protobuf, OTLP JSON, plain JSON, gRPC.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use prost::Message as _;

use crate::counters::Reason;

/// Why a request gets no success, and what its sender should do.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) message: String,
    pub(crate) retry_after_seconds: Option<u32>,
    pub(crate) reason: Option<Reason>,
}

impl Refusal {
    fn new(status: StatusCode, reason: Option<Reason>, message: impl Into<String>) -> Refusal {
        Refusal { status, message: message.into(), retry_after_seconds: None, reason }
    }

    pub(crate) fn malformed(message: impl Into<String>) -> Refusal {
        Refusal::new(StatusCode::BAD_REQUEST, Some(Reason::Malformed), message)
    }

    /// Like malformed, for a request whose bad spans have been counted one by one already.
    pub(crate) fn nothing_usable(message: impl Into<String>) -> Refusal {
        Refusal::new(StatusCode::BAD_REQUEST, None, message)
    }

    pub(crate) fn unauthorized(message: impl Into<String>) -> Refusal {
        Refusal::new(StatusCode::UNAUTHORIZED, Some(Reason::Unauthorized), message)
    }

    pub(crate) fn forbidden(message: impl Into<String>) -> Refusal {
        Refusal::new(StatusCode::FORBIDDEN, Some(Reason::Unauthorized), message)
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Refusal {
        Refusal::new(StatusCode::NOT_FOUND, None, message)
    }

    pub(crate) fn method_not_allowed(message: impl Into<String>) -> Refusal {
        Refusal::new(StatusCode::METHOD_NOT_ALLOWED, None, message)
    }

    pub(crate) fn too_large(message: impl Into<String>) -> Refusal {
        Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, Some(Reason::TooLarge), message)
    }

    pub(crate) fn unsupported(message: impl Into<String>) -> Refusal {
        Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, Some(Reason::Unsupported), message)
    }

    pub(crate) fn out_of_memory() -> Refusal {
        Refusal::overloaded("requests in progress hold all the memory there is for them", 1)
    }

    pub(crate) fn loop_detected() -> Refusal {
        Refusal::new(
            StatusCode::LOOP_DETECTED,
            Some(Reason::Loop),
            "loop: this gateway has passed these events on before, or too many gateways have; a destination leads back",
        )
    }

    pub(crate) fn timeout(message: impl Into<String>) -> Refusal {
        Refusal::new(StatusCode::REQUEST_TIMEOUT, Some(Reason::Incomplete), message)
    }

    pub(crate) fn incomplete(message: impl Into<String>) -> Refusal {
        Refusal::new(StatusCode::BAD_REQUEST, Some(Reason::Incomplete), message)
    }

    pub(crate) fn overloaded(message: impl Into<String>, retry_after_seconds: u32) -> Refusal {
        let mut refusal = Refusal::new(StatusCode::SERVICE_UNAVAILABLE, Some(Reason::Overloaded), message);
        refusal.retry_after_seconds = Some(retry_after_seconds);
        refusal
    }

    /// For a workspace that has sent more than its rate and is to come back after `wait`.
    pub(crate) fn rate_limited(wait: Duration) -> Refusal {
        let message = "the workspace sends more than limits.workspace_bytes_per_second allows";
        let mut refusal = Refusal::new(StatusCode::TOO_MANY_REQUESTS, Some(Reason::RateLimited), message);
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        refusal.retry_after_seconds = Some(seconds.try_into().unwrap_or(u32::MAX));
        refusal
    }

    /// For a connection its workspace has no place for.
    pub(crate) fn too_many_connections() -> Refusal {
        let message = "the workspace has more connections than limits.workspace_connections allows";
        let mut refusal =
            Refusal::new(StatusCode::TOO_MANY_REQUESTS, Some(Reason::TooManyConnections), message);
        refusal.retry_after_seconds = Some(5);
        refusal
    }

    /// The code of `google.rpc.Status` and of gRPC.
    fn rpc_code(&self) -> tonic::Code {
        use tonic::Code;
        match self.status {
            StatusCode::BAD_REQUEST => Code::InvalidArgument,
            StatusCode::UNAUTHORIZED => Code::Unauthenticated,
            StatusCode::FORBIDDEN => Code::PermissionDenied,
            StatusCode::NOT_FOUND => Code::NotFound,
            StatusCode::PAYLOAD_TOO_LARGE | StatusCode::TOO_MANY_REQUESTS => Code::ResourceExhausted,
            StatusCode::METHOD_NOT_ALLOWED | StatusCode::UNSUPPORTED_MEDIA_TYPE => Code::Unimplemented,
            StatusCode::REQUEST_TIMEOUT => Code::DeadlineExceeded,
            StatusCode::SERVICE_UNAVAILABLE => Code::Unavailable,
            _ => Code::Internal,
        }
    }

    /// The gRPC spelling. A refusal that may be retried carries `RetryInfo`.
    pub(crate) fn into_grpc(self) -> tonic::Status {
        let code = self.rpc_code();
        let Some(seconds) = self.retry_after_seconds else {
            return tonic::Status::new(code, self.message);
        };
        let retry = RetryInfo { retry_delay: Some(ProtoDuration { seconds: seconds.into(), nanos: 0 }) };
        let details = RpcStatus {
            code: code as i32,
            message: self.message.clone(),
            details: vec![Any {
                type_url: "type.googleapis.com/google.rpc.RetryInfo".into(),
                value: retry.encode_to_vec(),
            }],
        };
        tonic::Status::with_details(code, self.message, details.encode_to_vec().into())
    }

    /// The HTTP spelling: `google.rpc.Status` in the encoding the client used.
    pub(crate) fn into_http(self, encoding: Encoding) -> Response<Full<Bytes>> {
        let code = self.rpc_code() as i32;
        let body = match encoding {
            Encoding::Protobuf => {
                RpcStatus { code, message: self.message, details: Vec::new() }.encode_to_vec()
            }
            Encoding::Json => {
                serde_json::json!({ "code": code, "message": self.message }).to_string().into_bytes()
            }
        };
        let mut response = respond(self.status, encoding, body);
        if let Some(seconds) = self.retry_after_seconds {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// The two encodings of OTLP/HTTP. An answer uses the one of its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    Protobuf,
    Json,
}

impl Encoding {
    fn content_type(self) -> HeaderValue {
        match self {
            Encoding::Protobuf => HeaderValue::from_static("application/x-protobuf"),
            Encoding::Json => HeaderValue::from_static("application/json"),
        }
    }
}

/// A response with that body.
pub(crate) fn respond(status: StatusCode, encoding: Encoding, body: Vec<u8>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, encoding.content_type());
    response
}

/// Spans of a good request that were refused: OTLP's partial success.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Partial {
    pub(crate) rejected: u64,
    pub(crate) message: String,
}

impl Partial {
    /// `ExportTraceServiceResponse` as protobuf: empty when nothing was rejected.
    pub(crate) fn to_protobuf(&self) -> Vec<u8> {
        let partial = (self.rejected > 0).then(|| PartialSuccess {
            rejected_spans: self.rejected.try_into().unwrap_or(i64::MAX),
            error_message: self.message.clone(),
        });
        ExportResponse { partial_success: partial }.encode_to_vec()
    }

    /// `ExportTraceServiceResponse` as JSON.
    pub(crate) fn to_json(&self) -> Vec<u8> {
        if self.rejected == 0 {
            return b"{}".to_vec();
        }
        serde_json::json!({ "partialSuccess": {
            "rejectedSpans": self.rejected.to_string(),
            "errorMessage": self.message,
        }})
        .to_string()
        .into_bytes()
    }
}

#[derive(Clone, PartialEq, prost::Message)]
struct ExportResponse {
    #[prost(message, optional, tag = "1")]
    partial_success: Option<PartialSuccess>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PartialSuccess {
    #[prost(int64, tag = "1")]
    rejected_spans: i64,
    #[prost(string, tag = "2")]
    error_message: String,
}

/// `google.rpc.Status`.
#[derive(Clone, PartialEq, prost::Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<ProtoDuration>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ProtoDuration {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}
