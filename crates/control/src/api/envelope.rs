//! The bodies of answers: `{"data": ...}`, and for every error, whoever finds it, the one envelope
//! `{"error": {"code": <integer>, "message": ..., "metadata": ...}}` as JSON.
//!
//! The official SDKs cannot read anything else: a text body, an empty body or a string code is an exception of
//! the wrong type there.

use std::any::Any;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value as Json, json};
use tracecast_destination::Issue;

use crate::publish::WriteFailed;

/// An answer that is not a success.
#[derive(Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    message: String,
    metadata: Option<Json>,
}

impl ApiError {
    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> ApiError {
        ApiError { status, message: message.into(), metadata: None }
    }

    pub(crate) fn with_metadata(mut self, metadata: Json) -> ApiError {
        self.metadata = Some(metadata);
        self
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::BAD_REQUEST, message)
    }

    pub(crate) fn not_found() -> ApiError {
        ApiError::new(StatusCode::NOT_FOUND, "Resource not found")
    }

    pub(crate) fn conflict(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::CONFLICT, message)
    }

    pub(crate) fn internal() -> ApiError {
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error")
    }

    /// Everything wrong with a body or query at once: readable in the message, itemised in the metadata.
    pub(crate) fn invalid(issues: &[Issue]) -> ApiError {
        let list: Vec<String> = issues
            .iter()
            .map(|issue| match issue.path.as_str() {
                "" => issue.message.clone(),
                path => format!("{path}: {}", issue.message),
            })
            .collect();
        ApiError::bad_request(format!("Invalid request parameters: {}", list.join("; ")))
            .with_metadata(json!({ "issues": issues }))
    }

    /// One thing wrong.
    pub(crate) fn invalid_field(path: &str, message: impl Into<String>) -> ApiError {
        ApiError::invalid(&[issue(path, message)])
    }
}

pub(crate) fn issue(path: impl Into<String>, message: impl Into<String>) -> Issue {
    Issue { path: path.into(), message: message.into(), hint: None }
}

impl From<sqlx::Error> for ApiError {
    fn from(error: sqlx::Error) -> ApiError {
        tracing::error!(%error, "the control store failed");
        ApiError::internal()
    }
}

impl From<WriteFailed> for ApiError {
    fn from(failed: WriteFailed) -> ApiError {
        match failed {
            WriteFailed::Store(error) => error.into(),
            WriteFailed::Panicked => ApiError::internal(),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = json!({
            "error": {
                "code": self.status.as_u16(),
                "message": self.message,
                "metadata": self.metadata,
            },
        });
        let mut response = json_response(self.status, &body);
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// A JSON answer.
pub(crate) fn json_response(status: StatusCode, body: &Json) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}

/// `{"data": ...}`.
pub(crate) fn data(status: StatusCode, data: Json) -> Response {
    json_response(status, &json!({ "data": data }))
}

/// `{"data": [...], "total_count": n}`.
pub(crate) fn page(data: Vec<Json>, total: usize) -> Response {
    json_response(StatusCode::OK, &json!({ "data": data, "total_count": total }))
}

/// `{"deleted": true}`.
pub(crate) fn deleted() -> Response {
    json_response(StatusCode::OK, &json!({ "deleted": true }))
}

/// The answer to a request whose handler panicked. What it panicked with stays in the log: it may quote anything.
pub(crate) fn panicked(_: Box<dyn Any + Send>) -> Response {
    ApiError::internal().into_response()
}
