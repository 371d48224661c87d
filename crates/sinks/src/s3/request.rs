//! The request: objects out of a batch, and the client that puts them.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{
    BehaviorVersion, Credentials, Region, RequestChecksumCalculation, ResponseChecksumValidation,
    StalledStreamProtectionConfig, retry::RetryConfig, timeout::TimeoutConfig,
};
use aws_sdk_s3::primitives::ByteStream;
use bytes::Bytes;
use http::{HeaderMap, HeaderName};
use secrecy::ExposeSecret;
use tracecast_destination::{S3AuthMode, S3Config, S3ObjectLayout, S3Provider};
use url::Url;

use super::identity::Source;
use super::response::{self, Put};
use super::role::{Refusal, Role};
use crate::clients::{ATTEMPT_TIMEOUT, CONNECT_TIMEOUT};
use crate::family::objects::{self, KEY_BYTES_MAX, PathTemplate, join_key};
use crate::family::projection::projected;
use crate::family::redact::Redactor;
use crate::family::{gzip, headers, http as family_http, json, urls};
use crate::{Batch, BuildError, Clients, Preview};

/// Written by the SDK; a user header of these names is left out.
const OWN_HEADERS: [&str; 4] = ["authorization", "content-md5", "content-type", "user-agent"];

/// Credentials that were good once.
const ENDED: [&str; 4] = ["ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "InvalidToken"];

/// One object to write.
#[derive(Clone, Debug)]
pub(super) struct Object {
    pub(super) key: String,
    pub(super) body: Bytes,
    pub(super) content_type: &'static str,
    pub(super) gzip: bool,
    /// Positions of the items whose spans are in it.
    pub(super) items: Vec<usize>,
}

/// The objects of a batch, and items that cannot become one.
#[derive(Debug, Default)]
pub(super) struct Built {
    pub(super) objects: Vec<Object>,
    pub(super) refused: Vec<(usize, String)>,
}

/// An NDJSON file while it is filled.
struct File {
    first_span_id: String,
    lines: Vec<u8>,
    items: Vec<usize>,
}

/// How a batch is cut into objects.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) kind: S3ObjectLayout,
    template: PathTemplate,
}

impl Layout {
    pub(super) fn new(config: &S3Config) -> Result<Layout, BuildError> {
        let template =
            PathTemplate::read(&config.path_template, &config.prefix).map_err(BuildError::Invalid)?;
        Ok(Layout { kind: config.object_layout, template })
    }

    /// The objects as they are sent.
    pub(super) fn objects(&self, batch: &Batch) -> Built {
        let mut built = self.lines(batch);
        for object in built.objects.iter_mut().filter(|object| object.gzip) {
            object.body = gzip::compress([&object.body[..]]);
        }
        built
    }

    /// The objects before compression. A pure function of the items: the same on every retry.
    pub(super) fn lines(&self, batch: &Batch) -> Built {
        let mut built = Built::default();
        let mut files: BTreeMap<String, File> = BTreeMap::new();
        for (i, item) in batch.items.iter().enumerate() {
            let item = &projected(item);
            let Ok(traces) = item.payload.traces() else {
                let reason = "the stored record cannot be read".to_owned();
                built.refused.push((i, reason));
                continue;
            };
            for group in objects::traces(traces, &item.spans) {
                let path = self.template.expand(item.received_unix_nano, group.api_key_name());
                match self.kind {
                    S3ObjectLayout::PerTrace => {
                        let seconds = item.received_unix_nano / 1_000_000_000;
                        let name = format!(
                            "{}-{seconds}-{}-{}.json",
                            group.id(),
                            item.sequence,
                            group.first_span_id()
                        );
                        let mut body = Vec::new();
                        group.write(&mut body);
                        built.objects.push(Object {
                            key: join_key(&path, &name),
                            body: body.into(),
                            content_type: "application/json",
                            gzip: false,
                            items: vec![i],
                        });
                    }
                    S3ObjectLayout::Jsonl => {
                        let time = json::timestamp(item.received_unix_nano);
                        let hour = time.strftime("%H").to_string();
                        let file = files.entry(join_key(&path, &hour)).or_insert_with(|| File {
                            first_span_id: group.first_span_id(),
                            lines: Vec::new(),
                            items: Vec::new(),
                        });
                        group.write(&mut file.lines);
                        file.lines.push(b'\n');
                        if file.items.last() != Some(&i) {
                            file.items.push(i);
                        }
                    }
                }
            }
        }
        for (path, file) in files {
            let sequences = file.items.iter().filter_map(|i| batch.items.get(*i));
            let sequences = sequences.map(|item| item.sequence);
            let first = sequences.clone().min().unwrap_or(0);
            let last = sequences.max().unwrap_or(0);
            let name = format!("{first}-{last}-{}.jsonl.gz", file.first_span_id);
            built.objects.push(Object {
                key: join_key(&path, &name),
                body: file.lines.into(),
                content_type: "application/x-ndjson",
                gzip: true,
                items: file.items,
            });
        }
        let (good, long): (Vec<Object>, Vec<Object>) =
            built.objects.into_iter().partition(|object| object.key.len() <= KEY_BYTES_MAX);
        built.objects = good;
        for i in long.into_iter().flat_map(|object| object.items) {
            let reason = format!("the object key would be longer than {KEY_BYTES_MAX} bytes");
            built.refused.push((i, reason));
        }
        built
    }
}

/// A client, and which credentials of the role it has.
struct Connected {
    client: Client,
    credentials: u64,
}

/// The bucket and the client for it.
pub(super) struct Bucket {
    name: String,
    /// Where it is reached, for messages and tests.
    url: Url,
    /// Made anew when another region is learned, or the role has other credentials.
    client: Mutex<Connected>,
    /// Whose credentials are used, if they are not the destination's own keys.
    role: Option<Role>,
    /// AWS names the bucket's region when asked in another one; look-alikes have none.
    learns_region: bool,
    headers: HeaderMap,
    redactor: Redactor,
}

impl std::fmt::Debug for Bucket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bucket")
            .field("name", &self.name)
            .field("url", &self.shown_url())
            .finish_non_exhaustive()
    }
}

/// The destination's own keys.
fn keys(config: &S3Config) -> Result<Credentials, BuildError> {
    let (Some(id), Some(secret)) = (&config.access_key_id, &config.secret_access_key) else {
        return Err(BuildError::Invalid(
            "config.accessKeyId and config.secretAccessKey are required with access_keys".into(),
        ));
    };
    let token = config.session_token.as_ref().map(|token| token.expose_secret().to_owned());
    Ok(Credentials::new(id.expose_secret(), secret.expose_secret(), token, None, "tracecast"))
}

/// The role, assumed with the identity that the environment names. `AWS_ENDPOINT_URL_STS` is where private networks
/// have STS, as for the SDKs.
pub(super) fn role(
    config: &S3Config,
    clients: &Clients,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Role, BuildError> {
    let needed = |field: &str| BuildError::Invalid(format!("config.{field} is required with iam_role"));
    let arn = config.role_arn.as_deref().ok_or_else(|| needed("roleArn"))?;
    let region = config.effective_region().ok_or_else(|| needed("region"))?;
    let external_id = config.external_id.as_deref().ok_or_else(|| needed("externalId"))?;
    let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
    let url = match variable("AWS_ENDPOINT_URL_STS").filter(|url| !url.is_empty()) {
        Some(url) => urls::parse("AWS_ENDPOINT_URL_STS", &url)?,
        None => urls::parse("config.region", &format!("https://sts.{region}.{domain}/"))?,
    };
    Ok(Role::new(clients, url, region, Source::find(variable), arn, external_id))
}

impl Bucket {
    pub(super) fn new(config: &S3Config, clients: &Clients) -> Result<Bucket, BuildError> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        match config.auth_mode {
            S3AuthMode::IamRole => {
                let role = role(config, clients, &variable)?;
                Bucket::with_role(config, clients, Some(role), variable("AWS_ENDPOINT_URL_S3"))
            }
            S3AuthMode::AccessKeys => Bucket::with_role(config, clients, None, None),
        }
    }

    /// `elsewhere` is where the S3 of AWS is reached if not at its own address.
    pub(super) fn with_role(
        config: &S3Config,
        clients: &Clients,
        role: Option<Role>,
        elsewhere: Option<String>,
    ) -> Result<Bucket, BuildError> {
        let keys = match role {
            Some(_) => None,
            None => Some(keys(config)?),
        };
        let provider = config.effective_provider();
        // Without a region the first answer of AWS names the right one.
        let region = config.effective_region().unwrap_or("us-east-1").to_owned();
        let path_style = provider != S3Provider::Aws || config.bucket_name.contains('.');

        let mut builder = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .http_client(clients.s3())
            .region(Region::new(region.clone()))
            .force_path_style(path_style)
            // Attempts are counted once, by the delivery runtime.
            .retry_config(RetryConfig::disabled())
            .timeout_config(
                TimeoutConfig::builder()
                    .connect_timeout(CONNECT_TIMEOUT)
                    .operation_attempt_timeout(ATTEMPT_TIMEOUT)
                    .operation_timeout(ATTEMPT_TIMEOUT)
                    .build(),
            )
            .stalled_stream_protection(
                StalledStreamProtectionConfig::enabled().grace_period(Duration::from_secs(20)).build(),
            );
        if let Some(keys) = keys {
            builder = builder.credentials_provider(keys);
        }
        if provider != S3Provider::Aws {
            builder = builder
                .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
                .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
        }
        let url = match config.effective_endpoint().or(elsewhere.as_deref()) {
            Some(endpoint) => {
                let url = urls::parse("config.endpoint", endpoint)?;
                builder = builder.endpoint_url(url.as_str().trim_end_matches('/'));
                url
            }
            None if provider == S3Provider::Aws => {
                let host = format!("https://s3.{region}.amazonaws.com");
                urls::parse("config.region", &host)?
            }
            None => {
                return Err(BuildError::Invalid(
                    "config.endpoint is required for a provider other than aws".into(),
                ));
            }
        };
        // Signed with the rest; validation has refused what the signature itself needs.
        let is_own = |name: &HeaderName| OWN_HEADERS.contains(&name.as_str());
        let signed = headers::user(&config.headers, is_own)?;
        let keys = [&config.access_key_id, &config.secret_access_key, &config.session_token];
        let redactor = Redactor::new(headers::secrets_of(&signed).chain(keys.into_iter().flatten().cloned()));
        Ok(Bucket {
            name: config.bucket_name.clone(),
            url,
            client: Mutex::new(Connected { client: Client::from_conf(builder.build()), credentials: 0 }),
            role,
            learns_region: provider == S3Provider::Aws,
            headers: signed,
            redactor,
        })
    }

    pub(super) fn shown_url(&self) -> String {
        let base = crate::family::redact::shown_url(&self.url);
        format!("{}/{}", base.trim_end_matches('/'), self.name)
    }

    async fn client(&self) -> Result<Client, Refusal> {
        let latest = match &self.role {
            Some(role) => Some(role.credentials().await?),
            None => None,
        };
        let mut connected = self.connected();
        if let Some((number, credentials)) = latest
            && number != connected.credentials
        {
            let config = connected.client.config().to_builder().credentials_provider(credentials).build();
            *connected = Connected { client: Client::from_conf(config), credentials: number };
        }
        Ok(connected.client.clone())
    }

    fn connected(&self) -> MutexGuard<'_, Connected> {
        self.client.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the store says about credentials that have ended: with a role there are new ones.
    async fn renews(&self, put: &Put) -> bool {
        match (&self.role, put) {
            (Some(role), Put::Refused { code, .. }) if ENDED.contains(&code.as_str()) => role.forget().await,
            _ => false,
        }
    }

    /// Uses another region from now on; false if it is the present one.
    fn learn_region(&self, region: &str) -> bool {
        let mut connected = self.connected();
        let present = connected.client.config().region().map(|region| region.to_string());
        if !self.learns_region || present.as_deref() == Some(region) {
            return false;
        }
        let config = connected.client.config().to_builder().region(Region::new(region.to_owned())).build();
        connected.client = Client::from_conf(config);
        tracing::info!(bucket = self.name, region, "learned the region of the bucket");
        true
    }

    pub(super) async fn put(&self, object: &Object) -> Put {
        let headers = self.headers.clone();
        let client = match self.client().await {
            Ok(client) => client,
            Err(refusal) => return refusal.into_put(),
        };
        let request = client
            .put_object()
            .bucket(&self.name)
            .key(&object.key)
            .content_type(object.content_type)
            .set_content_encoding(object.gzip.then(|| "gzip".to_owned()))
            // In memory: a streamed body would need chunked signing, which look-alikes lack.
            .body(ByteStream::from(object.body.clone()))
            .customize()
            .mutate_request(move |request| {
                for (name, value) in &headers {
                    if let Ok(value) = value.to_str() {
                        request.headers_mut().insert(name.as_str().to_owned(), value.to_owned());
                    }
                }
            });
        match request.send().await {
            Ok(_) => Put::Stored,
            Err(error) => {
                let (put, region) = response::read(&error, &self.url, &self.redactor);
                match region {
                    Some(region) if self.learn_region(&region) => put.again(),
                    _ if self.renews(&put).await => put.again(),
                    _ => put,
                }
            }
        }
    }

    /// `object` before compression.
    pub(super) fn preview(&self, object: Object) -> Preview {
        let mut headers = vec![("content-type".to_owned(), object.content_type.to_owned())];
        if object.gzip {
            headers.push(("content-encoding".to_owned(), "gzip".to_owned()));
        }
        headers.extend(family_http::shown_headers(&self.headers));
        headers.push(("authorization".to_owned(), "***".to_owned()));
        Preview {
            method: "PUT".into(),
            url: format!("{}/{}", self.shown_url(), object.key),
            headers,
            body: object.body,
        }
    }
}
