//! The request: OTLP JSON with a stable id.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, header};
use jiff::Timestamp;
use tracecast_destination::{WebhookConfig, WebhookMethod};

use super::signature::{self, Signer};
use crate::family::endpoint::{ATTEMPT, Endpoint};
use crate::family::http::Outgoing;
use crate::family::otlp_http::{self, Body};
use crate::family::projection::edit;
use crate::family::urls;
use crate::{Batch, BuildError, Clients};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const TEST_CONNECTION: HeaderName = HeaderName::from_static("x-test-connection");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

pub(super) fn endpoint(config: &WebhookConfig, clients: &Clients) -> Result<Endpoint, BuildError> {
    let url = urls::parse("config.url", &config.url)?;
    let method = match config.method {
        WebhookMethod::Post => Method::POST,
        WebhookMethod::Put => Method::PUT,
    };
    let mut user = config.headers.clone();
    user.retain(|(name, _)| {
        ![&signature::ID, &signature::TIMESTAMP, &signature::SIGNATURE, &IDEMPOTENCY_KEY]
            .iter()
            .any(|own| name.eq_ignore_ascii_case(own.as_str()))
    });
    let mut endpoint = Endpoint::new(clients, url, [], &user, &[])?;
    endpoint.method = method;
    endpoint.headers.entry(header::CONTENT_TYPE).or_insert(JSON);
    Ok(endpoint)
}

pub(super) fn body(batch: &Batch) -> Body {
    otlp_http::json(&batch.items, edit)
}

pub(super) fn outgoing(endpoint: &Endpoint, signer: &Signer, batch: &Batch, body: Bytes) -> Outgoing {
    let mut outgoing = identified(endpoint, signer, &webhook_id(&batch.token), body);
    let attempt = u64::from(batch.attempt) + 1;
    outgoing.headers.insert(ATTEMPT, HeaderValue::from(attempt));
    outgoing
}

pub(super) fn test(endpoint: &Endpoint, signer: &Signer) -> Outgoing {
    // Each test is an event of its own.
    let id = format!("test-{}", Timestamp::now().as_nanosecond());
    let mut outgoing = identified(endpoint, signer, &id, Bytes::from_static(b"{\"resourceSpans\":[]}"));
    outgoing.headers.insert(TEST_CONNECTION, HeaderValue::from_static("true"));
    outgoing
}

/// The request with its id, signed over the bytes as they are sent.
fn identified(endpoint: &Endpoint, signer: &Signer, id: &str, body: Bytes) -> Outgoing {
    let mut outgoing = endpoint.request(body.clone());
    // Only letters a header can carry are in an id.
    let value = HeaderValue::from_str(id).unwrap_or(HeaderValue::from_static("-"));
    outgoing.headers.insert(signature::ID, value.clone());
    outgoing.headers.insert(IDEMPOTENCY_KEY, value);
    signer.sign(id, Timestamp::now(), &body, &mut outgoing.headers);
    outgoing
}

/// The token in the letters an id may have; a dot would end it where signatures are joined.
fn webhook_id(token: &str) -> String {
    token
        .chars()
        .map(|c| match c {
            c if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | ':') => c,
            _ => '-',
        })
        .collect()
}
