//! The role of a bucket: temporary credentials from STS (`AssumeRole`), kept until shortly before they end.
//!
//! The external id is assigned by the gateway, one for each destination, and never chosen by a caller: the role's trust
//! policy must demand it, so that no tenant can make the gateway assume the role of another.

use std::fmt;
use std::time::{Duration, SystemTime};

use aws_sdk_s3::config::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use tokio::sync::Mutex;
use url::Url;

use super::identity::Source;
use super::response::{Class, Put, class};
use crate::Clients;
use crate::Failure;
use crate::family::answer::status_line;
use crate::family::http::{BODY_BYTES_MAX, Outgoing, Reply, exchange};
use crate::family::redact::Redactor;
use crate::family::transport::TransportError;

/// How long the credentials hold; more is not given to a role assumed with a role's credentials.
const DURATION_SECONDS: u64 = 3600;
/// New ones are taken so long before the old ones end.
const MARGIN: Duration = Duration::from_secs(300);
/// Credentials refused at this age were good for nothing from the start.
const AGE_MIN: Duration = Duration::from_secs(60);
const FORM: HeaderValue = HeaderValue::from_static("application/x-www-form-urlencoded");

/// Why there are no credentials.
#[derive(Clone, Debug)]
pub(super) enum Refusal {
    Transport(TransportError),
    Answered { class: Class, code: String, failure: Failure },
}

impl Refusal {
    pub(super) fn no_identity(why: &str) -> Refusal {
        let message = format!("this gateway has no identity at aws to assume the role with: {why}");
        let failure = Failure { status: None, message, retry_after: None };
        Refusal::Answered { class: Class::Auth, code: "sts:NoIdentity".into(), failure }
    }

    /// The same for the object that could not be written.
    pub(super) fn into_put(self) -> Put {
        match self {
            Refusal::Transport(error) => Put::Transport(error),
            Refusal::Answered { class, code, failure } => Put::Refused { class, code, failure },
        }
    }
}

/// How STS is called.
#[derive(Debug)]
pub(super) struct StsCall {
    clients: Clients,
    url: Url,
    region: String,
}

/// A role, and the credentials of it.
pub(super) struct Role {
    sts: StsCall,
    source: Source,
    arn: String,
    external_id: String,
    held: Mutex<Option<Held>>,
}

struct Held {
    /// The first ones have 1.
    number: u64,
    credentials: Credentials,
    /// Nobody takes them any more.
    refused: bool,
    since: SystemTime,
}

impl fmt::Debug for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Role").field("arn", &self.arn).finish_non_exhaustive()
    }
}

impl Role {
    pub(super) fn new(
        clients: &Clients,
        sts_url: Url,
        region: &str,
        source: Source,
        arn: &str,
        external_id: &str,
    ) -> Role {
        Role {
            sts: StsCall { clients: clients.clone(), url: sts_url, region: region.to_owned() },
            source,
            arn: arn.to_owned(),
            external_id: external_id.to_owned(),
            held: Mutex::new(None),
        }
    }

    /// Credentials that still hold for a while, and which ones they are.
    pub(super) async fn credentials(&self) -> Result<(u64, Credentials), Refusal> {
        // Locked over the call: who comes meanwhile waits for the same answer.
        let mut held = self.held.lock().await;
        let soon = SystemTime::now() + MARGIN;
        if let Some(held) = &*held
            && !held.refused
            && held.credentials.expiry().is_none_or(|end| end > soon)
        {
            return Ok((held.number, held.credentials.clone()));
        }
        let number = held.as_ref().map_or(0, |held| held.number) + 1;
        let own = self.source.credentials(&self.sts).await?;
        let credentials = self.sts.assume(&own, &self.arn, &self.external_id).await?;
        let since = SystemTime::now();
        *held = Some(Held { number, credentials: credentials.clone(), refused: false, since });
        Ok((number, credentials))
    }

    /// The credentials were refused. True if it helps to take new ones: those refused soon after they were given are
    /// not better the next time.
    pub(super) async fn forget(&self) -> bool {
        let mut held = self.held.lock().await;
        let Some(held) = &mut *held else { return true };
        held.refused = true;
        held.since.elapsed().is_ok_and(|age| age > AGE_MIN)
    }
}

impl StsCall {
    async fn assume(&self, own: &Credentials, arn: &str, external_id: &str) -> Result<Credentials, Refusal> {
        let body = form(&[
            ("Action", "AssumeRole"),
            ("RoleArn", arn),
            ("ExternalId", external_id),
            ("DurationSeconds", &DURATION_SECONDS.to_string()),
        ]);
        let mut headers = HeaderMap::from_iter([(header::CONTENT_TYPE, FORM)]);
        headers.extend(self.signature(own, &body)?);
        self.call(headers, body).await
    }

    /// The token is the proof: this call is not signed.
    pub(super) async fn with_web_identity(&self, arn: &str, token: &str) -> Result<Credentials, Refusal> {
        let body = form(&[
            ("Action", "AssumeRoleWithWebIdentity"),
            ("RoleArn", arn),
            ("WebIdentityToken", token),
            ("DurationSeconds", &DURATION_SECONDS.to_string()),
        ]);
        self.call(HeaderMap::from_iter([(header::CONTENT_TYPE, FORM)]), body).await
    }

    /// The headers of a SigV4 signature over the body and its type.
    fn signature(&self, own: &Credentials, body: &str) -> Result<HeaderMap, Refusal> {
        let unsigned = |_| Refusal::no_identity("the request to sts cannot be signed with its keys");
        let identity = own.clone().into();
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name("sts")
            .time(SystemTime::now())
            .settings(SigningSettings::default())
            .build()
            .map_err(|_| Refusal::no_identity("the request to sts cannot be signed"))?
            .into();
        let form = [("content-type", "application/x-www-form-urlencoded")];
        let body = SignableBody::Bytes(body.as_bytes());
        let request =
            SignableRequest::new("POST", self.url.as_str(), form.into_iter(), body).map_err(unsigned)?;
        let (added, _) = sign(request, &params).map_err(unsigned)?.into_parts().0.into_parts();
        added
            .into_iter()
            .map(|header| {
                let mut value = HeaderValue::from_str(header.value()).ok()?;
                value.set_sensitive(header.sensitive());
                Some((HeaderName::from_static(header.name()), value))
            })
            .collect::<Option<HeaderMap>>()
            .ok_or_else(|| Refusal::no_identity("its keys have letters that no header can carry"))
    }

    async fn call(&self, headers: HeaderMap, body: String) -> Result<Credentials, Refusal> {
        let outgoing = Outgoing { method: Method::POST, url: self.url.clone(), headers, body: body.into() };
        let reply = exchange(&self.clients, outgoing, BODY_BYTES_MAX).await.map_err(Refusal::Transport)?;
        let text = String::from_utf8_lossy(&reply.body).into_owned();
        if !reply.is_success() {
            return Err(refused(&reply, &text));
        }
        let found = (element(&text, "AccessKeyId"), element(&text, "SecretAccessKey"));
        let (Some(id), Some(secret)) = found else {
            return Err(refused(&reply, &text));
        };
        let token = element(&text, "SessionToken").map(str::to_owned);
        let end = element(&text, "Expiration").and_then(|end| end.parse::<jiff::Timestamp>().ok());
        Ok(Credentials::new(id, secret, token, end.map(SystemTime::from), "sts"))
    }
}

fn form(fields: &[(&str, &str)]) -> String {
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    form.append_pair("Version", "2011-06-15").append_pair("RoleSessionName", "tracecast");
    form.extend_pairs(fields);
    form.finish()
}

fn refused(reply: &Reply, text: &str) -> Refusal {
    let code = element(text, "Code").unwrap_or_default();
    // A role's credentials would be in a 2xx only, and there in full; nothing here is secret.
    let said = Redactor::default().text(element(text, "Message").unwrap_or_default());
    let class = match class(code, reply.status) {
        // What is wrong with the call, not with an object.
        Class::Stored | Class::Object | Class::TooLarge => Class::Config,
        class => class,
    };
    let failure = Failure {
        status: Some(reply.status),
        message: format!("sts, asked to assume the role, {}", status_line(reply.status, &join(code, &said))),
        retry_after: None,
    };
    Refusal::Answered { class, code: format!("sts:{code}"), failure }
}

fn join(code: &str, said: &str) -> String {
    if said.is_empty() { code.to_owned() } else { format!("{code}: {said}") }
}

/// The text of the first element of this name.
fn element<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    let (value, _) = rest.split_once(&format!("</{name}>"))?;
    Some(value.trim())
}
