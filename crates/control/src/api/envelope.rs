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

/// When a request answered 503 is worth a repeat.
const RETRY_AFTER_SECONDS: &str = "2";

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

    pub(crate) fn body(&self) -> Json {
        json!({
            "error": {
                "code": self.status.as_u16(),
                "message": self.message,
                "metadata": self.metadata,
            },
        })
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

/// What the store cannot do now it may be able to do later, and nothing was changed: 503, so that the caller repeats
/// it. What it will never do (a value that does not read back) is 500.
impl From<sqlx::Error> for ApiError {
    fn from(error: sqlx::Error) -> ApiError {
        ApiError::from(&error)
    }
}

impl From<&sqlx::Error> for ApiError {
    fn from(error: &sqlx::Error) -> ApiError {
        let Some(reason) = passing_reason(error) else {
            tracing::error!(%error, "the control store failed");
            return ApiError::internal();
        };
        tracing::warn!(%error, "the control store cannot be used at the moment");
        ApiError::new(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("the control store cannot be used at the moment, nothing was changed: {reason}"),
        )
    }
}

/// Says what keeps the store from working, if that may pass.
fn passing_reason(error: &sqlx::Error) -> Option<String> {
    // Primary codes of SQLite: BUSY, LOCKED, NOMEM, READONLY, IOERR, FULL, CANTOPEN.
    const PASSING: [u32; 7] = [5, 6, 7, 8, 10, 13, 14];
    match error {
        sqlx::Error::Database(error) => {
            let code: u32 = error.code()?.parse().ok()?;
            PASSING.contains(&(code & 0xff)).then(|| error.message().to_owned())
        }
        sqlx::Error::PoolTimedOut => Some("the writes before this one take too long".to_owned()),
        sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => Some("the store is closed".to_owned()),
        sqlx::Error::Io(error) => Some(error.to_string()),
        _ => None,
    }
}

impl From<WriteFailed> for ApiError {
    fn from(failed: WriteFailed) -> ApiError {
        match failed {
            WriteFailed::Store(error) => error.as_ref().into(),
            WriteFailed::OtherRequest => ApiError::invalid_field(
                "idempotency-key",
                "was used for another request within the last 24 hours: give each new request a key of its own, and \
                 repeat a request with the same path, query and body",
            ),
            WriteFailed::Panicked => ApiError::internal(),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = json_response(self.status, &self.body());
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_SECONDS));
        }
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

/// A time of a key or workspace: whole seconds, as upstream's. Those of destinations have milliseconds.
pub(crate) fn seconds(at: jiff::Timestamp) -> String {
    format!("{at:.0}")
}

/// `{"deleted": true}`.
pub(crate) fn deleted() -> Response {
    json_response(StatusCode::OK, &json!({ "deleted": true }))
}

/// The answer to a request whose handler panicked. What it panicked with stays in the log: it may quote anything.
pub(crate) fn panicked(_: Box<dyn Any + Send>) -> Response {
    ApiError::internal().into_response()
}
