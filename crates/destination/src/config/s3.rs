//! S3 and compatible object stores.
use secrecy::SecretString;

use crate::address::host;
use crate::destination::s3_external_id;
use crate::headers::HeaderRules;
use crate::issue::Fault;
use crate::schema::{Draft, Shape, base_url, choice, text, text_or_empty, token};

wire_enum! {
    /// How requests are authorised.
    pub enum S3AuthMode {
        /// With the configured keys.
        AccessKeys = "access_keys",
        /// The gateway assumes the configured role.
        IamRole = "iam_role",
    }
}

wire_enum! {
    /// Whose object store it is.
    pub enum S3Provider {
        /// Amazon S3.
        Aws = "aws",
        /// Cloudflare R2.
        CloudflareR2 = "cloudflare_r2",
        /// Google Cloud Storage, XML interoperability.
        Gcs = "gcs",
        /// Anything else that speaks S3.
        Other = "other",
    }
}

wire_enum! {
    /// What one object holds.
    pub enum S3ObjectLayout {
        /// One JSON object per trace.
        PerTrace = "per_trace",
        /// Batched NDJSON, gzip.
        Jsonl = "jsonl",
    }
}

config! {
    /// S3 and compatible object stores.
    pub struct S3Config {
        /// Bucket.
        pub bucket_name: String = text("bucketName").check(is_bucket),
        /// How requests are authorised.
        pub auth_mode: S3AuthMode = choice::<S3AuthMode>("authMode").default("access_keys"),
        /// Access key id; needed with `access_keys`.
        pub access_key_id: Option<SecretString> = token("accessKeyId").optional(),
        /// Secret access key; needed with `access_keys`.
        pub secret_access_key: Option<SecretString> = token("secretAccessKey").optional(),
        /// Session token of temporary credentials.
        pub session_token: Option<SecretString> = token("sessionToken").optional(),
        /// Role to assume; needed with `iam_role`.
        pub role_arn: Option<String> = text("roleArn").optional().check(is_role_arn),
        /// External id for the role's trust policy; assigned by the gateway.
        pub external_id: Option<String> = text("externalId").assigned(s3_external_id),
        /// Whose object store it is; derived from the endpoint if absent.
        pub provider: Option<S3Provider> = choice::<S3Provider>("provider").optional(),
        /// Region; needed with `iam_role`, otherwise detected on AWS.
        pub region: Option<String> = text("region").optional(),
        /// Endpoint of an S3-compatible service.
        pub endpoint: Option<String> = base_url("endpoint").optional(),
        /// First part of the object keys.
        pub prefix: String = text_or_empty("prefix").default("openrouter-traces"),
        /// Path of the object keys: text and `{prefix} {date} {year} {month} {day} {apiKeyName}`.
        pub path_template: String =
            text("pathTemplate").default("{prefix}/{date}").check(is_path_template),
        /// What one object holds (ours, additive).
        pub object_layout: S3ObjectLayout =
            choice::<S3ObjectLayout>("objectLayout").default("per_trace"),
    }
}

/// The variables of a path template.
const VARIABLES: [&str; 6] = ["prefix", "date", "year", "month", "day", "apiKeyName"];

fn is_bucket(name: &str) -> Result<(), Fault> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    if name.len() <= 255 && name.bytes().all(legal) {
        return Ok(());
    }
    Err(Fault::new("is not a bucket name: letters, digits, dots, hyphens and underscores")
        .hint("write the bare name: a path goes into prefix, an address into endpoint"))
}

fn is_role_arn(arn: &str) -> Result<(), Fault> {
    if arn.starts_with("arn:") && arn.contains(":role/") {
        return Ok(());
    }
    Err(Fault::new("is not the arn of a role").hint("e.g. arn:aws:iam::123456789012:role/tracecast"))
}

fn is_path_template(template: &str) -> Result<(), Fault> {
    let braces = || Fault::new("has an unbalanced brace").hint("write variables as {date}");
    for (i, piece) in template.split('{').enumerate() {
        if i == 0 {
            if piece.contains('}') {
                return Err(braces());
            }
            continue;
        }
        let (variable, text) = piece.split_once('}').ok_or_else(braces)?;
        if text.contains('}') {
            return Err(braces());
        }
        if !VARIABLES.contains(&variable) {
            return Err(Fault::new(format!("has the unknown variable {{{variable}}}"))
                .hint(crate::suggest::advice(variable, &VARIABLES)));
        }
    }
    Ok(())
}

/// The provider: as named, else by the endpoint.
fn provider(named: Option<S3Provider>, endpoint: Option<&str>) -> S3Provider {
    let is = |host: &str, domain: &str| {
        host.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    match (named, endpoint.map(host)) {
        (Some(named), _) => named,
        (None, None) => S3Provider::Aws,
        (None, Some(host)) if is_aws(&host) => S3Provider::Aws,
        (None, Some(host)) if is(&host, "r2.cloudflarestorage.com") => S3Provider::CloudflareR2,
        (None, Some(host)) if is(&host, "storage.googleapis.com") => S3Provider::Gcs,
        (None, Some(_)) => S3Provider::Other,
    }
}

fn is_aws(host: &str) -> bool {
    host.ends_with(".amazonaws.com") || host.ends_with(".amazonaws.com.cn")
}

impl S3Config {
    /// The provider: as configured, else derived from the endpoint (none = AWS).
    pub fn effective_provider(&self) -> S3Provider {
        provider(self.provider, self.endpoint.as_deref())
    }

    /// The region to sign for; `None` = to be detected (AWS).
    pub fn effective_region(&self) -> Option<&str> {
        match (self.region.as_deref(), self.effective_provider()) {
            (Some(region), _) => Some(region),
            (None, S3Provider::Aws) => None,
            (None, S3Provider::CloudflareR2 | S3Provider::Gcs) => Some("auto"),
            (None, S3Provider::Other) => Some("us-east-1"),
        }
    }

    /// The endpoint without trailing slash; `None` = the one of AWS for the region.
    pub fn effective_endpoint(&self) -> Option<&str> {
        match (self.endpoint.as_deref(), self.effective_provider()) {
            (Some(endpoint), _) => Some(endpoint.trim_end_matches('/')),
            (None, S3Provider::Gcs) => Some("https://storage.googleapis.com"),
            (None, _) => None,
        }
    }
}

impl Shape for S3Config {
    const HEADERS: HeaderRules = HeaderRules::own(&["authorization", "x-amz-*"]);

    fn check(draft: &mut Draft<'_>) {
        let named = draft.text("provider").and_then(S3Provider::parse);
        let provider = provider(named, draft.text("endpoint"));
        let iam_role = draft.text("authMode") == Some(S3AuthMode::IamRole.as_str());
        if iam_role {
            let because = "with authMode iam_role";
            draft.require("roleArn", because);
            draft.require("region", because);
            if provider != S3Provider::Aws {
                let at = if named.is_some() { "provider" } else { "endpoint" };
                let fault = Fault::new("does not fit authMode iam_role, which exists on aws only")
                    .hint("use authMode access_keys");
                draft.refuse(at, fault);
            }
        } else {
            // Only a trust policy needs it.
            draft.values.remove("externalId");
            if !draft.was_refused("authMode") {
                let because = "with authMode access_keys";
                draft.require("accessKeyId", because);
                draft.require("secretAccessKey", because);
            }
        }
        match (named, draft.text("endpoint").map(host)) {
            (Some(S3Provider::Aws), Some(host)) if !is_aws(&host) => {
                let fault = Fault::new("is for S3-compatible services, not for provider aws")
                    .hint("use provider other (or cloudflare_r2, gcs), or leave endpoint out");
                draft.refuse("endpoint", fault);
            }
            (Some(named @ (S3Provider::CloudflareR2 | S3Provider::Other)), None) => {
                draft.require("endpoint", &format!("with provider {named}"));
            }
            _ => {}
        }
    }

    fn target_url(&self) -> Option<String> {
        self.effective_endpoint().map(str::to_owned)
    }
}
