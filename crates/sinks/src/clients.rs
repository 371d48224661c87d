//! The connection pools all adapters share: one per client library and TLS profile.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::config::SharedHttpClient;
use aws_smithy_http_client::tls;
use http::{HeaderValue, Method};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use jiff::Timestamp;
use url::Url;

use crate::BuildError;
use crate::family::address::{AddressPolicy, Blocked, OutboundPolicy};
use crate::family::fragments::Fragments;
use crate::family::outbound::{Guarded, Names, Resolver, system_names};
use crate::family::pace::Paced;

/// Connecting, including the TLS handshake.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A whole attempt, from the first byte out to the last byte in.
pub(crate) const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(30);
/// Idle connections kept per host.
const IDLE_PER_HOST_MAX: usize = 32;
/// Below the keep-alive of the servers met in practice.
const IDLE_TIMEOUT: Duration = Duration::from_secs(20);
/// ClickHouse closes idle connections after 3 s by default.
const CLICKHOUSE_IDLE_TIMEOUT: Duration = Duration::from_secs(2);

pub(crate) const USER_AGENT: &str = concat!("tracecast/", env!("CARGO_PKG_VERSION"));

/// What the pools are made with.
#[derive(Clone, Debug, Default)]
pub struct ClientOptions {
    /// Sent as `x-tracecast-via` on OTLP and webhook requests, so that a loop is noticed.
    pub instance_id: Option<String>,
    /// Which addresses may be called.
    pub outbound: OutboundPolicy,
    /// Memory for compressed records that several destinations send; 0 keeps none.
    pub fragment_bytes: u64,
}

/// Shared by all adapters: the connection pools. Cloning is cheap.
#[derive(Clone)]
pub struct Clients {
    inner: Arc<Inner>,
    clock: fn() -> Timestamp,
}

struct Inner {
    http: reqwest::Client,
    s3: SharedHttpClient,
    clickhouse: ::clickhouse::Client,
    policy: Arc<AddressPolicy>,
    via: Option<HeaderValue>,
    fragments: Fragments,
}

impl fmt::Debug for Clients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clients").field("policy", &self.inner.policy).finish_non_exhaustive()
    }
}

impl Clients {
    /// Pools without instance id and with the default address policy.
    pub fn new() -> Result<Clients, BuildError> {
        Self::with_options(ClientOptions::default())
    }

    /// Pools; opens no connection.
    pub fn with_options(options: ClientOptions) -> Result<Clients, BuildError> {
        Self::with_names(options, system_names())
    }

    /// As `with_options`, with names found by `names`.
    pub(crate) fn with_names(options: ClientOptions, names: Names) -> Result<Clients, BuildError> {
        let policy = Arc::new(AddressPolicy::new(&options.outbound).map_err(BuildError::Invalid)?);
        let via =
            match options.instance_id {
                None => None,
                Some(id) => Some(HeaderValue::from_str(&id).map_err(|_| {
                    BuildError::Invalid("instance id cannot be sent as a header value".into())
                })?),
            };
        let resolver = Resolver::new(policy.clone(), names);
        let (clickhouse, roots) = clickhouse_client(resolver.clone(), policy.clone());
        let s3 = s3_client(resolver.clone(), roots);
        Ok(Clients {
            inner: Arc::new(Inner {
                http: http_client(resolver)?,
                s3: SharedHttpClient::new(Paced(SharedHttpClient::new(Guarded::new(policy.clone(), s3)))),
                clickhouse,
                policy,
                via,
                fragments: Fragments::new(usize::try_from(options.fragment_bytes).unwrap_or(usize::MAX)),
            }),
            clock: Timestamp::now,
        })
    }

    /// What it is for adapters whose vendors judge spans by their age.
    pub(crate) fn now(&self) -> Timestamp {
        (self.clock)()
    }

    /// The same in a time of its own.
    #[cfg(test)]
    pub(crate) fn at(self, clock: fn() -> Timestamp) -> Clients {
        Clients { clock, ..self }
    }

    /// A request over the pool of the HTTP kinds, unless the address policy refuses its host. That
    /// client lets no one look at its connections, so hosts given as addresses are checked here.
    pub(crate) fn request(&self, method: Method, url: Url) -> Result<reqwest::RequestBuilder, Blocked> {
        self.inner.policy.check_host(url.host_str().unwrap_or_default())?;
        Ok(self.inner.http.request(method, url))
    }

    pub(crate) fn s3(&self) -> SharedHttpClient {
        self.inner.s3.clone()
    }

    pub(crate) fn clickhouse(&self) -> ::clickhouse::Client {
        self.inner.clickhouse.clone()
    }

    pub(crate) fn fragments(&self) -> &Fragments {
        &self.inner.fragments
    }

    pub(crate) fn via(&self) -> Option<&HeaderValue> {
        self.inner.via.as_ref()
    }
}

/// HTTP/1.1 with a bounded pool: it hands batches over 1.5 to 3 times faster than HTTP/2, from 5 KiB to 1 MiB and
/// alone or many at once (`cargo bench -p tracecast-benches --bench http`).
/// Redirects are off (they turn POST into GET and lead past the address policy), so are ambient
/// proxies and the client's own retries: attempts are counted once, by the delivery runtime.
fn http_client(resolver: Resolver) -> Result<reqwest::Client, BuildError> {
    let builder = || {
        reqwest::Client::builder()
            .user_agent(USER_AGENT)
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy()
            .http1_only()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(ATTEMPT_TIMEOUT)
            .pool_max_idle_per_host(IDLE_PER_HOST_MAX)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .tcp_nodelay(true)
            .dns_resolver(resolver.clone())
    };
    // A container without CA files must still reach plain receivers; TLS ones then fail the
    // handshake and say so.
    builder()
        .build()
        .or_else(|_| builder().tls_certs_only(std::iter::empty()).build())
        .map_err(|error| BuildError::Invalid(format!("http client: {error}")))
}

/// The ClickHouse client over our own connector (timeouts, address policy), and whether the system
/// has trust roots.
fn clickhouse_client(resolver: Resolver, policy: Arc<AddressPolicy>) -> (::clickhouse::Client, bool) {
    let mut connector = HttpConnector::new_with_resolver(resolver);
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
    connector.set_keepalive(Some(Duration::from_secs(60)));

    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let native = hyper_rustls::HttpsConnectorBuilder::new().with_provider_and_native_roots(provider.clone());
    let roots = native.is_ok();
    let tls = native.unwrap_or_else(|_| {
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider supports TLS 1.2 and 1.3: both are compiled in")
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        hyper_rustls::HttpsConnectorBuilder::new().with_tls_config(config)
    });
    let connector = tls.https_or_http().enable_http1().wrap_connector(Guarded::new(policy, connector));
    let connector = Paced(connector);
    let client = hyper_util::client::legacy::Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(CLICKHOUSE_IDLE_TIMEOUT)
        .pool_max_idle_per_host(IDLE_PER_HOST_MAX)
        .build(connector);
    let client = ::clickhouse::Client::with_http_client(client)
        .with_product_info("tracecast", env!("CARGO_PKG_VERSION"));
    (client, roots)
}

/// One pool for all S3 destinations, without a proxy.
fn s3_client(resolver: Resolver, roots: bool) -> SharedHttpClient {
    // The TLS context must not be asked for native roots where there are none.
    let trust = tls::TrustStore::empty().with_native_roots(roots);
    let builder = aws_smithy_http_client::Builder::new()
        .pool_max_idle_per_host(IDLE_PER_HOST_MAX)
        .pool_idle_timeout(IDLE_TIMEOUT)
        .tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::AwsLc));
    let context = tls::TlsContext::builder().with_trust_store(trust).build();
    match context {
        Ok(context) => builder.tls_context(context).build_with_resolver(resolver),
        Err(_) => builder.build_with_resolver(resolver),
    }
}
