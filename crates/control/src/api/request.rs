//! Reading requests: body, query, path, all with errors in the envelope.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use http_body_util::{BodyExt as _, LengthLimitError};
use serde_json::{Map, Value as Json};
use uuid::Uuid;

use super::envelope::ApiError;
use crate::Control;

/// How long a client may take to send a body.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// How long the body of a refused request is read.
const REFUSED_BODY_TIMEOUT: Duration = Duration::from_secs(2);

/// Reads a body that nobody wants and keeps nothing of it; more than so many bytes are not read.
pub(crate) async fn read_away(request: Request, bytes_max: usize) {
    let mut body = request.into_body();
    let to_its_end = async {
        let mut left = bytes_max;
        while let Some(Ok(frame)) = body.frame().await {
            let bytes = frame.data_ref().map_or(0, |data| data.len());
            let Some(rest) = left.checked_sub(bytes) else { return };
            left = rest;
        }
    };
    let _ = tokio::time::timeout(REFUSED_BODY_TIMEOUT, to_its_end).await;
}

pub(crate) const LIMIT_DEFAULT: usize = 50;
pub(crate) const LIMIT_MAX: usize = 100;

/// A body that is a JSON object.
#[derive(Debug)]
pub(crate) struct Body(pub(crate) Map<String, Json>);

impl FromRequest<Arc<Control>> for Body {
    type Rejection = ApiError;

    async fn from_request(request: Request, control: &Arc<Control>) -> Result<Body, ApiError> {
        let bytes_max = control.limits.max_body_bytes;
        let too_large = || {
            ApiError::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("the request body is larger than {bytes_max} bytes"),
            )
        };
        let announced = request
            .headers()
            .get(header::CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok())
            .and_then(|text| text.parse::<usize>().ok());
        if announced.is_some_and(|bytes| bytes > bytes_max) {
            return Err(too_large());
        }
        let read = axum::body::to_bytes(request.into_body(), bytes_max);
        let bytes = tokio::time::timeout(BODY_TIMEOUT, read)
            .await
            .map_err(|_| {
                ApiError::new(
                    StatusCode::REQUEST_TIMEOUT,
                    format!("the request body did not arrive within {} s", BODY_TIMEOUT.as_secs()),
                )
            })?
            .map_err(|error| match error.source() {
                Some(source) if source.is::<LengthLimitError>() => too_large(),
                _ => ApiError::bad_request("the request body could not be read to its end"),
            })?;
        match serde_json::from_slice(&bytes) {
            Ok(Json::Object(fields)) => Ok(Body(fields)),
            Ok(_) => Err(ApiError::bad_request("the request body must be a JSON object")),
            Err(_) if bytes.is_empty() => {
                Err(ApiError::bad_request("the request body is empty: send a JSON object"))
            }
            // A syntax error quotes nothing of the body, which may hold secrets.
            Err(error) => Err(ApiError::bad_request(format!("the request body is not valid JSON: {error}"))
                .with_metadata(serde_json::json!({ "line": error.line(), "column": error.column() }))),
        }
    }
}

/// The one path parameter of a route. What cannot be an id is no error of its own: nothing has that id.
#[derive(Debug)]
pub(crate) struct PathText(pub(crate) String);

impl<S: Send + Sync> FromRequestParts<S> for PathText {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<PathText, ApiError> {
        Path::<String>::from_request_parts(parts, state)
            .await
            .map(|Path(text)| PathText(text))
            .map_err(|_| ApiError::not_found())
    }
}

/// A path parameter that is a uuid.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PathId(pub(crate) Uuid);

impl<S: Send + Sync> FromRequestParts<S> for PathId {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<PathId, ApiError> {
        let PathText(text) = PathText::from_request_parts(parts, state).await?;
        Uuid::try_parse(&text).map(PathId).map_err(|_| ApiError::not_found())
    }
}

/// The path of a dead letter: whose it is, and its number there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PathLetter {
    pub(crate) destination: Uuid,
    pub(crate) letter: u64,
}

impl<S: Send + Sync> FromRequestParts<S> for PathLetter {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<PathLetter, ApiError> {
        let path = Path::<(String, String)>::from_request_parts(parts, state).await;
        let Path((destination, letter)) = path.map_err(|_| ApiError::not_found())?;
        let destination = Uuid::try_parse(&destination).map_err(|_| ApiError::not_found())?;
        let letter = letter.parse().map_err(|_| ApiError::not_found())?;
        Ok(PathLetter { destination, letter })
    }
}

/// Query parameters. Absent, empty and `null` are the same, which is how some clients send "not given".
#[derive(Debug)]
pub(crate) struct Params(Vec<(String, String)>);

impl<S: Send + Sync> FromRequestParts<S> for Params {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Params, ApiError> {
        Query::try_from_uri(&parts.uri)
            .map(|Query(pairs)| Params(pairs))
            .map_err(|_| ApiError::bad_request("the query string cannot be read"))
    }
}

impl Params {
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(candidate, _)| candidate == name)
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty() && *value != "null")
    }

    pub(crate) fn offset(&self) -> Result<usize, ApiError> {
        let Some(text) = self.text("offset") else {
            return Ok(0);
        };
        text.parse().map_err(|_| ApiError::invalid_field("offset", "must be an integer of 0 or more"))
    }

    pub(crate) fn limit(&self, default: usize, max: usize) -> Result<usize, ApiError> {
        let Some(text) = self.text("limit") else {
            return Ok(default);
        };
        text.parse()
            .ok()
            .filter(|limit| (1..=max).contains(limit))
            .ok_or_else(|| ApiError::invalid_field("limit", format!("must be an integer from 1 to {max}")))
    }

    pub(crate) fn flag(&self, name: &str) -> Result<bool, ApiError> {
        match self.text(name) {
            None | Some("false" | "False" | "0") => Ok(false),
            Some("true" | "True" | "1") => Ok(true),
            Some(_) => Err(ApiError::invalid_field(name, "must be true or false")),
        }
    }
}

/// `offset` and `limit` applied to a list; the total is what there was before.
pub(crate) fn paginate<T>(items: Vec<T>, offset: usize, limit: usize) -> (Vec<T>, usize) {
    let total = items.len();
    (items.into_iter().skip(offset).take(limit).collect(), total)
}
