//! Who calls: the bearer's hash is looked up; management keys manage, ordinary keys may ask about themselves.

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::envelope::ApiError;
use super::request::read_away;
use crate::model::{Key, KeyKind, now};
use crate::store::Audit;
use crate::{Control, hex};

/// Longest attribution header kept in the audit log, in characters.
const ATTRIBUTION_CHARS_MAX: usize = 200;

const AUDIT_FIELDS_MAX: usize = 64;
const AUDIT_FIELD_CHARS_MAX: usize = 64;

/// The authenticated caller.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) key: Arc<Key>,
    client: Option<String>,
}

impl Caller {
    /// An audit entry of this caller. Field names are the caller's words, so they are bounded.
    pub(crate) fn audit(&self, action: &'static str, target: String, fields: Vec<String>) -> Audit {
        let fields = fields
            .into_iter()
            .take(AUDIT_FIELDS_MAX)
            .map(|name| name.chars().take(AUDIT_FIELD_CHARS_MAX).collect())
            .collect();
        Audit {
            at: now(),
            actor: self.key.label.clone(),
            action: action.into(),
            target,
            fields,
            client: self.client.clone(),
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Caller, ApiError> {
        // Put there by the layers below; a route outside them must not run.
        parts.extensions.get::<Caller>().cloned().ok_or_else(ApiError::internal)
    }
}

/// Lets management keys through.
pub(crate) async fn management_only(
    State(control): State<Arc<Control>>,
    mut request: Request,
    next: Next,
) -> Result<Response, Infallible> {
    let caller = authenticate(&control, request.headers()).and_then(|caller| match caller.key.kind {
        KeyKind::Management => Ok(caller),
        KeyKind::Ordinary => {
            Err(ApiError::new(StatusCode::FORBIDDEN, "Only management keys can perform this operation"))
        }
    });
    Ok(match caller {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(error) => refused(&control, request, error).await,
    })
}

/// Lets every valid key through.
pub(crate) async fn any_key(
    State(control): State<Arc<Control>>,
    mut request: Request,
    next: Next,
) -> Result<Response, Infallible> {
    Ok(match authenticate(&control, request.headers()) {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(error) => refused(&control, request, error).await,
    })
}

/// The answer, once the body has been read: a connection with something left on it is closed, and a client that has
/// put it back for its next request finds it dead.
async fn refused(control: &Control, request: Request, error: ApiError) -> Response {
    read_away(request, control.limits.max_body_bytes).await;
    error.into_response()
}

fn authenticate(control: &Control, headers: &HeaderMap) -> Result<Caller, ApiError> {
    let refuse = |message: &str| ApiError::new(StatusCode::UNAUTHORIZED, message);
    let Some(value) = headers.get(header::AUTHORIZATION) else {
        return Err(refuse("Missing Authentication header"));
    };
    let secret = value
        .to_str()
        .ok()
        .and_then(|text| text.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, secret)| secret.trim())
        .filter(|secret| !secret.is_empty())
        .ok_or_else(|| refuse("the Authorization header must read `Bearer <key>`"))?;

    let hash = hex::sha256(secret);
    let model = control.model();
    let key = model
        .management
        .get(&hash)
        .or_else(|| model.keys.get(&hash))
        .ok_or_else(|| refuse("the key is not known here"))?;
    if key.disabled {
        return Err(refuse("the key is disabled"));
    }
    if key.is_expired(now()) {
        return Err(refuse("the key has expired"));
    }
    Ok(Caller { key: Arc::clone(key), client: attribution(headers) })
}

/// What the caller says about itself; believed by nobody, kept for the audit log.
fn attribution(headers: &HeaderMap) -> Option<String> {
    let said: Vec<String> = ["http-referer", "x-openrouter-title", "x-openrouter-categories"]
        .iter()
        .filter_map(|name| {
            let value = headers.get(*name)?.to_str().ok()?;
            let cut: String = value.chars().take(ATTRIBUTION_CHARS_MAX).collect();
            Some(format!("{name}: {cut}"))
        })
        .collect();
    (!said.is_empty()).then(|| said.join("; "))
}
