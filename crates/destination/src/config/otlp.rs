//! Kinds that take OTLP over HTTP.
use std::sync::LazyLock;

use regex::Regex;
use secrecy::{ExposeSecret, SecretString};

use crate::address::{Address, host, join, otlp_traces_url};
use crate::headers::HeaderRules;
use crate::issue::Fault;
use crate::schema::{Draft, Shape, base_url, choice, text, token, url};

config! {
    /// Any OTLP/HTTP receiver.
    pub struct OtelCollectorConfig {
        /// Traces URL; an empty path gets `/v1/traces`, a path ending in `/v1` gets `/traces`.
        pub endpoint: String = url("endpoint", Address::Endpoint),
    }
}

impl OtelCollectorConfig {
    /// The URL to POST to.
    pub fn traces_url(&self) -> String {
        otlp_traces_url(&self.endpoint)
    }
}

impl Shape for OtelCollectorConfig {
    const HEADERS: HeaderRules = HeaderRules::own(&[]);

    fn target_url(&self) -> Option<String> {
        Some(self.traces_url())
    }
}

config! {
    /// Langfuse, cloud or self-hosted.
    pub struct LangfuseConfig {
        /// Public key (`pk-lf-...`); masked like a secret.
        pub public_key: SecretString = token("publicKey"),
        /// Secret key (`sk-lf-...`).
        pub secret_key: SecretString = token("secretKey"),
        /// Base URL of the Langfuse server.
        pub base_url: String = base_url("baseUrl").default("https://us.cloud.langfuse.com"),
    }
}

impl LangfuseConfig {
    /// The URL to POST to.
    pub fn traces_url(&self) -> String {
        join(&self.base_url, &["/api/public", "/otel", "/v1/traces"])
    }
}

impl Shape for LangfuseConfig {
    const HEADERS: HeaderRules = HeaderRules::own(&["authorization", "x-langfuse-ingestion-version"]);

    fn target_url(&self) -> Option<String> {
        Some(self.traces_url())
    }
}

config! {
    /// LangSmith.
    pub struct LangsmithConfig {
        /// API key (`lsv2_...`).
        pub api_key: SecretString = token("apiKey"),
        /// Base URL of the LangSmith API; self-hosted ones end in `/api/v1`.
        pub endpoint: String = base_url("endpoint").default("https://api.smith.langchain.com"),
        /// Tracing project.
        pub project: String = text("project").default("main"),
        /// Workspace id, needed with organization-scoped keys.
        pub workspace_id: Option<String> = text("workspaceId").optional(),
    }
}

impl LangsmithConfig {
    /// The URL to POST to.
    pub fn traces_url(&self) -> String {
        join(&self.endpoint, &["/otel", "/v1/traces"])
    }

    /// A URL of the API beside the OTLP receiver, whichever of the two was entered.
    pub fn runs_url(&self, path: &str) -> String {
        let traces = self.traces_url();
        let base = traces.strip_suffix("/otel/v1/traces").unwrap_or(&self.endpoint);
        format!("{base}{path}")
    }
}

impl Shape for LangsmithConfig {
    const HEADERS: HeaderRules = HeaderRules::own(&["langsmith-project", "x-api-key", "x-tenant-id"]);

    fn target_url(&self) -> Option<String> {
        Some(self.traces_url())
    }
}

config! {
    /// Arize AX.
    pub struct ArizeConfig {
        /// API key.
        pub api_key: SecretString = token("apiKey"),
        /// Space key (or id).
        pub space_key: SecretString = token("spaceKey"),
        /// Tracing project ("Project Name" in Arize).
        pub model_id: String = text("modelId"),
        /// Base URL of the OTLP receiver.
        pub base_url: String = base_url("baseUrl").default("https://otlp.arize.com"),
    }
}

impl ArizeConfig {
    /// The URL to POST to.
    pub fn traces_url(&self) -> String {
        join(&self.base_url, &["/v1", "/traces"])
    }
}

impl Shape for ArizeConfig {
    const HEADERS: HeaderRules =
        HeaderRules::own(&["api_key", "arize-space-id", "authorization", "space_id", "space_key"]);

    fn target_url(&self) -> Option<String> {
        Some(self.traces_url())
    }
}

config! {
    /// Grafana Cloud, OTLP gateway.
    pub struct GrafanaConfig {
        /// Access policy token (`glc_...`) with the scope `traces:write`.
        pub api_key: SecretString = token("apiKey"),
        /// Instance id of the stack, numeric text.
        pub instance_id: String = text("instanceId"),
        /// Base URL of the OTLP gateway (not of the Grafana UI).
        pub base_url: String = base_url("baseUrl")
            .default("https://otlp-gateway-prod-us-west-0.grafana.net")
            .check(is_otlp_gateway),
    }
}

/// Tempo and stack addresses are what people paste by mistake; other hosts may be proxies.
fn is_otlp_gateway(url: &str) -> Result<(), Fault> {
    let host = host(url);
    if host.ends_with(".grafana.net") && !host.contains("otlp") {
        return Err(Fault::new("is not the address of an otlp gateway").hint(
            "take the OTLP endpoint of the stack from the Grafana Cloud portal, \
             e.g. https://otlp-gateway-prod-eu-west-0.grafana.net",
        ));
    }
    Ok(())
}

impl GrafanaConfig {
    /// The URL to POST to.
    pub fn traces_url(&self) -> String {
        join(&self.base_url, &["/otlp", "/v1/traces"])
    }
}

impl Shape for GrafanaConfig {
    const HEADERS: HeaderRules = HeaderRules::own(&["authorization"]);

    fn target_url(&self) -> Option<String> {
        Some(self.traces_url())
    }
}

wire_enum! {
    /// Data centre of a New Relic account.
    pub enum NewrelicRegion {
        /// United States.
        Us = "us",
        /// Europe.
        Eu = "eu",
    }
}

config! {
    /// New Relic, OTLP.
    pub struct NewrelicConfig {
        /// Ingest license key.
        pub license_key: SecretString = token("licenseKey").check(is_ingest_key),
        /// Data centre of the account.
        pub region: NewrelicRegion = choice::<NewrelicRegion>("region").default("us"),
        /// Base URL, if it is not the one of the region (ours, additive).
        pub base_url: Option<String> = base_url("baseUrl").optional(),
    }
}

fn is_ingest_key(key: &str) -> Result<(), Fault> {
    if key.starts_with("NRAK-") {
        return Err(Fault::new("is a user key, which cannot send data")
            .hint("create an ingest license key (API keys, type Ingest - License)"));
    }
    Ok(())
}

impl NewrelicConfig {
    /// The URL to POST to.
    pub fn traces_url(&self) -> String {
        let base = self.base_url.as_deref().unwrap_or(match self.region {
            NewrelicRegion::Us => "https://otlp.nr-data.net",
            NewrelicRegion::Eu => "https://otlp.eu01.nr-data.net",
        });
        join(base, &["/v1", "/traces"])
    }
}

impl Shape for NewrelicConfig {
    const HEADERS: HeaderRules = HeaderRules::own(&["api-key"]);

    fn target_url(&self) -> Option<String> {
        Some(self.traces_url())
    }
}

config! {
    /// Ramp AI usage.
    pub struct RampConfig {
        /// API key of Ramp's integration page.
        pub api_key: SecretString = token("apiKey"),
        /// Base URL of the receiver.
        pub base_url: String = base_url("baseUrl")
            .default("https://api.ramp.com/developer/v1/ai-usage/openrouter"),
    }
}

impl RampConfig {
    /// The URL to POST to.
    pub fn traces_url(&self) -> String {
        join(&self.base_url, &["/v1/traces"])
    }
}

impl Shape for RampConfig {
    const HEADERS: HeaderRules = HeaderRules::own(&["authorization"]);

    fn target_url(&self) -> Option<String> {
        Some(self.traces_url())
    }
}

config! {
    /// Sentry, OTLP.
    pub struct SentryConfig {
        /// OTLP traces URL of the project; ends in `/v1/traces`.
        pub otlp_endpoint: String = base_url("otlpEndpoint"),
        /// DSN of the same project: `https://{key}@{host}/{project}`.
        pub dsn: SecretString = text("dsn").secret().check(is_dsn),
    }
}

/// Key, host and project of a DSN: the pattern of the API.
static DSN: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"^https://([^:@]+)(?::[^@]*)?@([^/]+)(?:/[^/]+)*/([0-9]+)/?$")
        .expect("a constant pattern that a test compiles")
});

fn is_dsn(dsn: &str) -> Result<(), Fault> {
    if DSN.is_match(dsn) {
        return Ok(());
    }
    Err(Fault::new("is not a sentry dsn")
        .hint("copy it from the project's client keys: https://{key}@{host}/{project number}"))
}

fn dsn_part(dsn: &str, group: usize) -> Option<&str> {
    DSN.captures(dsn)?.get(group).map(|part| part.as_str())
}

impl SentryConfig {
    /// The URL to POST to.
    pub fn traces_url(&self) -> String {
        join(&self.otlp_endpoint, &["/v1/traces"])
    }

    /// The public key of the DSN: all that authorisation needs.
    pub fn public_key(&self) -> &str {
        dsn_part(self.dsn.expose_secret(), 1).unwrap_or_default()
    }
}

impl Shape for SentryConfig {
    const HEADERS: HeaderRules = HeaderRules::own(&["x-sentry-auth"]);

    /// A key of another project than the endpoint's would authorise nothing. Hosts may differ: a
    /// relay can stand between.
    fn check(draft: &mut Draft<'_>) {
        let of_dsn = draft.text("dsn").and_then(|dsn| dsn_part(dsn, 3));
        let of_endpoint = draft
            .text("otlpEndpoint")
            .and_then(|url| url.rsplit_once("/api/"))
            .and_then(|(_, rest)| rest.split('/').next())
            .filter(|project| project.bytes().all(|byte| byte.is_ascii_digit()));
        if let (Some(of_dsn), Some(of_endpoint)) = (of_dsn, of_endpoint)
            && of_dsn != of_endpoint
        {
            let fault =
                Fault::new(format!("names project {of_endpoint}, but the dsn belongs to project {of_dsn}"))
                    .hint("copy both from the same project");
            draft.refuse("otlpEndpoint", fault);
        }
    }

    fn target_url(&self) -> Option<String> {
        Some(self.traces_url())
    }
}
