//! The request: address and headers.

use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use tracecast_destination::{ExposeSecret, LangfuseConfig};

use crate::family::endpoint::Endpoint;
use crate::family::{headers, urls};
use crate::{BuildError, Clients};

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
    secrets.extend(headers::credential_of(&credential));
    own.insert(header::AUTHORIZATION, credential);
    own.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
    own.insert(INGESTION_VERSION, HeaderValue::from_static("4"));
    own.insert(PUBLIC_KEY, headers::secret("config.publicKey", public)?);
    own.insert(SDK_NAME, HeaderValue::from_static("tracecast"));
    own.insert(SDK_VERSION, HeaderValue::from_static(env!("CARGO_PKG_VERSION")));
    Endpoint::new(clients, Method::POST, url, own, &config.headers, secrets)
}
