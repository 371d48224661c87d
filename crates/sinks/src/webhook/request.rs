//! The request: OTLP JSON with a stable id.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use tracecast_destination::{WebhookConfig, WebhookMethod};

use crate::family::endpoint::Endpoint;
use crate::family::http::Outgoing;
use crate::family::otlp_http::{self, Body};
use crate::family::projection::edit;
use crate::family::urls;
use crate::{Batch, BuildError, Clients};

const WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
const WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const ATTEMPT: HeaderName = HeaderName::from_static("x-tracecast-attempt");
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
        ![&WEBHOOK_ID, &WEBHOOK_TIMESTAMP, &WEBHOOK_SIGNATURE, &ATTEMPT]
            .iter()
            .any(|own| name.eq_ignore_ascii_case(own.as_str()))
    });
    // User info in the URL is a credential; the HTTP client turns it into a header.
    let secrets = url
        .password()
        .map(|password| password.to_owned().into())
        .into_iter()
        .chain(url.query_pairs().map(|(_, value)| value.into_owned().into()))
        .collect();
    let mut endpoint = Endpoint::new(clients, method, url, HeaderMap::new(), &user, secrets)?;
    endpoint.headers.entry(header::CONTENT_TYPE).or_insert(JSON);
    Ok(endpoint)
}

pub(super) fn body(batch: &Batch) -> Body {
    otlp_http::json(&batch.items, edit)
}

pub(super) fn outgoing(endpoint: &Endpoint, batch: &Batch, body: Bytes) -> Outgoing {
    let mut outgoing = endpoint.request(body);
    let id = webhook_id(&batch.token);
    outgoing.headers.entry(IDEMPOTENCY_KEY).or_insert_with(|| id.clone());
    outgoing.headers.insert(WEBHOOK_ID, id);
    let attempt = u64::from(batch.attempt) + 1;
    outgoing.headers.insert(ATTEMPT, HeaderValue::from(attempt));
    outgoing
}

pub(super) fn test(endpoint: &Endpoint) -> Outgoing {
    let mut outgoing = endpoint.request(Bytes::from_static(b"{\"resourceSpans\":[]}"));
    outgoing.headers.insert(TEST_CONNECTION, HeaderValue::from_static("true"));
    outgoing
}

/// The token in the letters an id may have; a dot would end it where signatures are joined.
fn webhook_id(token: &str) -> HeaderValue {
    let id: String = token
        .chars()
        .map(|c| match c {
            c if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | ':') => c,
            _ => '-',
        })
        .collect();
    // Only letters a header can carry are left.
    HeaderValue::from_str(&id).unwrap_or(HeaderValue::from_static("-"))
}
