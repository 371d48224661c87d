//! The request: headers and the edited spans.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use tracecast_destination::{ExposeSecret, LangfuseConfig};
use tracecast_otlp::write::Edit;

use super::dialect::Dialect;
use crate::family::endpoint::Endpoint;
use crate::family::http::Outgoing;
use crate::family::otlp_http::{self, Body};
use crate::family::projection::projected;
use crate::family::{gzip, headers, urls};
use crate::{Batch, BuildError, Clients, Item};

const INGESTION_VERSION: HeaderName = HeaderName::from_static("x-langfuse-ingestion-version");
const PUBLIC_KEY: HeaderName = HeaderName::from_static("x-langfuse-public-key");
const SDK_NAME: HeaderName = HeaderName::from_static("x-langfuse-sdk-name");
const SDK_VERSION: HeaderName = HeaderName::from_static("x-langfuse-sdk-version");

pub(super) fn endpoint(config: &LangfuseConfig, clients: &Clients) -> Result<Endpoint, BuildError> {
    let url = urls::parse("config.baseUrl", &config.traces_url())?;
    let public = config.public_key.expose_secret();
    let credential = headers::basic("config.secretKey", public, config.secret_key.expose_secret())?;

    let mut own = HeaderMap::new();
    let mut secrets = vec![config.public_key.clone(), config.secret_key.clone()];
    if let Some(pair) = credential.to_str().ok().and_then(|text| text.split_once(' ')) {
        secrets.push(pair.1.to_owned().into());
    }
    own.insert(header::AUTHORIZATION, credential);
    own.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
    own.insert(INGESTION_VERSION, HeaderValue::from_static("4"));
    own.insert(PUBLIC_KEY, headers::secret("config.publicKey", public)?);
    own.insert(SDK_NAME, HeaderValue::from_static("tracecast"));
    own.insert(SDK_VERSION, HeaderValue::from_static(env!("CARGO_PKG_VERSION")));
    Endpoint::new(clients, Method::POST, url, own, &config.headers, secrets)
}

/// The body before compression.
pub(super) fn body(batch: &Batch) -> Body {
    let items: Vec<Item> = batch.items.iter().map(projected).collect();
    otlp_http::protobuf(&items, |_| Some(&Dialect as &dyn Edit))
}

/// The body as it is sent.
pub(super) fn packed(batch: &Batch) -> Body {
    let mut body = body(batch);
    body.bytes = gzip::compress(&body.bytes);
    body
}

pub(super) fn outgoing(endpoint: &Endpoint, packed: Bytes) -> Outgoing {
    let mut outgoing = endpoint.request(packed);
    outgoing.headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    outgoing
}

pub(super) fn test(endpoint: &Endpoint) -> Outgoing {
    let mut outgoing = endpoint.request(Bytes::from_static(b"{\"resourceSpans\":[]}"));
    outgoing.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    outgoing
}
