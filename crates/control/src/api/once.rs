//! `Idempotency-Key`: a create that is repeated under the same key within 24 hours is made once.
//!
//! Keys are the caller's own: two management keys may use the same one. The header counts on the POSTs that create
//! something; everything else can be repeated without it.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value as Json, json};

use super::auth::Caller;
use super::envelope::{ApiError, json_response};
use crate::Control;
use crate::publish::Created;
use crate::store::{Answer, RequestId};

pub(crate) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const TOKEN_CHARS_MAX: usize = 255;

/// The header of a request, if it has one, and the request's path and query.
#[derive(Debug)]
pub(crate) struct Once {
    token: Option<String>,
    target: String,
}

impl<S: Send + Sync> FromRequestParts<S> for Once {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Once, ApiError> {
        let token = match parts.headers.get(IDEMPOTENCY_KEY) {
            None => None,
            Some(value) => Some(
                value
                    .to_str()
                    .ok()
                    .filter(|text| !text.is_empty() && text.len() <= TOKEN_CHARS_MAX)
                    .ok_or_else(|| {
                        ApiError::invalid_field(
                            IDEMPOTENCY_KEY.as_str(),
                            format!("must be 1 to {TOKEN_CHARS_MAX} printable ASCII characters"),
                        )
                    })?
                    .to_owned(),
            ),
        };
        Ok(Once { token, target: format!("{} {}", parts.method, parts.uri) })
    }
}

impl Once {
    /// What tells this request from others; `None` without the header.
    pub(crate) fn request_id(
        self,
        control: &Control,
        caller: &Caller,
        body: &Map<String, Json>,
    ) -> Option<RequestId> {
        let text = zeroize::Zeroizing::new(format!("{}\n{}", self.target, json!(body)));
        Some(RequestId {
            caller: caller.key.hash,
            token: self.token?,
            fingerprint: control.store.fingerprint(text.as_bytes()),
        })
    }
}

impl Created {
    /// A repeat is answered the same.
    pub(crate) fn repeatable(data: Json) -> Created {
        let answer = Answer { status: StatusCode::CREATED.as_u16(), body: json!({ "data": data }) };
        Created { repeat: answer.clone(), answer }
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        json_response(status, &self.body)
    }
}
