//! Who this gateway is to AWS: the identity with which roles are assumed.
//!
//! As the AWS SDKs look for it, without their files: environment variables; the web identity of a Kubernetes service
//! account; the credential endpoint of a container (ECS, EKS Pod Identity); the instance metadata service (IMDSv2).
//! The last two are local addresses that destinations may not call, so they have a client of their own.

use std::time::Duration;

use aws_sdk_s3::config::Credentials;
use http::{HeaderName, HeaderValue, Method, header};
use serde_json::Value as Json;

use super::role::{Refusal, StsCall};

/// Where AWS puts the credentials of a container, for relative addresses.
const CONTAINER: &str = "http://169.254.170.2";
const INSTANCE: &str = "http://169.254.169.254";
/// These answer at once or not at all.
const LOCAL_TIMEOUT: Duration = Duration::from_secs(2);
const TOKEN: HeaderName = HeaderName::from_static("x-aws-ec2-metadata-token");
const TOKEN_TTL: HeaderName = HeaderName::from_static("x-aws-ec2-metadata-token-ttl-seconds");

/// Where to look.
#[derive(Debug)]
pub(super) enum Source {
    Keys(Credentials),
    /// A token file that is exchanged for the credentials of a role.
    WebIdentity {
        token_file: String,
        role_arn: String,
    },
    /// An address that gives credentials, and what it wants to see.
    Container {
        url: String,
        token: Option<String>,
        token_file: Option<String>,
    },
    Instance {
        base: String,
    },
}

impl Source {
    /// The first that the environment names, else the instance.
    pub(super) fn find(variable: impl Fn(&str) -> Option<String>) -> Source {
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        if let (Some(id), Some(secret)) = (variable("AWS_ACCESS_KEY_ID"), variable("AWS_SECRET_ACCESS_KEY")) {
            let token = variable("AWS_SESSION_TOKEN");
            return Source::Keys(Credentials::new(id, secret, token, None, "environment"));
        }
        if let (Some(token_file), Some(role_arn)) =
            (variable("AWS_WEB_IDENTITY_TOKEN_FILE"), variable("AWS_ROLE_ARN"))
        {
            return Source::WebIdentity { token_file, role_arn };
        }
        let relative = variable("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
        let url = relative.map(|path| format!("{CONTAINER}{path}"));
        if let Some(url) = url.or_else(|| variable("AWS_CONTAINER_CREDENTIALS_FULL_URI")) {
            return Source::Container {
                url,
                token: variable("AWS_CONTAINER_AUTHORIZATION_TOKEN"),
                token_file: variable("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"),
            };
        }
        let base = variable("AWS_EC2_METADATA_SERVICE_ENDPOINT").unwrap_or_else(|| INSTANCE.to_owned());
        Source::Instance { base: base.trim_end_matches('/').to_owned() }
    }

    /// The credentials as they are now; nothing is kept, because they change.
    pub(super) async fn credentials(&self, sts: &StsCall) -> Result<Credentials, Refusal> {
        match self {
            Source::Keys(credentials) => Ok(credentials.clone()),
            Source::WebIdentity { token_file, role_arn } => {
                sts.with_web_identity(role_arn, &read(token_file).await?).await
            }
            Source::Container { url, token, token_file } => {
                let token = match token_file {
                    Some(file) => Some(read(file).await?),
                    None => token.clone(),
                };
                let headers = token.map(|token| (header::AUTHORIZATION, token));
                given(&local(Method::GET, url, headers).await?)
            }
            Source::Instance { base } => {
                let ttl = Some((TOKEN_TTL, "60".to_owned()));
                let token = local(Method::PUT, &format!("{base}/latest/api/token"), ttl).await?;
                let asked = |path: String| {
                    let token = token.clone();
                    async move { local(Method::GET, &path, Some((TOKEN, token))).await }
                };
                let roles = format!("{base}/latest/meta-data/iam/security-credentials/");
                let role = asked(roles.clone()).await?;
                let role = role.lines().next().unwrap_or_default().trim();
                given(&asked(format!("{roles}{role}")).await?)
            }
        }
    }
}

async fn read(file: &str) -> Result<String, Refusal> {
    let text = tokio::fs::read_to_string(file).await;
    text.map(|text| text.trim().to_owned()).map_err(|error| Refusal::no_identity(&format!("{file}: {error}")))
}

/// One call to an address of this machine.
async fn local(method: Method, url: &str, header: Option<(HeaderName, String)>) -> Result<String, Refusal> {
    // The address is not said: a path may be a credential.
    let failed = |_| Refusal::no_identity("the credential service of this machine does not answer");
    let client = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(LOCAL_TIMEOUT)
        .build()
        .map_err(failed)?;
    let mut request = client.request(method, url);
    if let Some((name, value)) = header {
        let mut value = HeaderValue::from_str(&value)
            .map_err(|_| Refusal::no_identity("a token has letters that no header can carry"))?;
        value.set_sensitive(true);
        request = request.header(name, value);
    }
    let response = request.send().await.map_err(failed)?;
    if !response.status().is_success() {
        let status = response.status().as_u16();
        return Err(Refusal::no_identity(&format!(
            "the credential service of this machine answered {status}"
        )));
    }
    response.text().await.map_err(failed)
}

/// `{"AccessKeyId", "SecretAccessKey", "Token"}`.
fn given(body: &str) -> Result<Credentials, Refusal> {
    let body: Json = serde_json::from_str(body).unwrap_or(Json::Null);
    let text = |key: &str| body.get(key).and_then(Json::as_str).map(str::to_owned);
    match (text("AccessKeyId"), text("SecretAccessKey")) {
        (Some(id), Some(secret)) => Ok(Credentials::new(id, secret, text("Token"), None, "machine")),
        _ => Err(Refusal::no_identity("the credential service of this machine gave no credentials")),
    }
}
