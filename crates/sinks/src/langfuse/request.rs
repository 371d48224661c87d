//! The request: address and headers.

use http::{HeaderName, HeaderValue, header};
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
    let own = [
        (header::AUTHORIZATION, credential),
        (header::CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf")),
        (INGESTION_VERSION, HeaderValue::from_static("4")),
        (PUBLIC_KEY, headers::secret("config.publicKey", public)?),
        (SDK_NAME, HeaderValue::from_static("tracecast")),
        (SDK_VERSION, HeaderValue::from_static(env!("CARGO_PKG_VERSION"))),
    ];
    Endpoint::new(clients, url, own, &config.headers, &[&config.secret_key])
}
