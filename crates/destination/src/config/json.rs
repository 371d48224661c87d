//! Kinds that take JSON of their own: span rows and product events.
use secrecy::SecretString;

use crate::address::{host, join, segment};
use crate::headers::HeaderRules;
use crate::schema::{Shape, base_url, text, token};

config! {
    /// Braintrust.
    pub struct BraintrustConfig {
        /// API key.
        pub api_key: SecretString = token("apiKey"),
        /// Project id (a uuid, not the name).
        pub project_id: String = text("projectId"),
        /// Base URL of the API; self-hosted stacks have their own data plane URL.
        pub base_url: String = base_url("baseUrl").default("https://api.braintrust.dev"),
    }
}

impl BraintrustConfig {
    /// The URL to POST rows to.
    pub fn insert_url(&self) -> String {
        let insert = format!("/project_logs/{}/insert", segment(&self.project_id));
        join(&self.base_url, &["/v1", &insert])
    }

    /// The URL whose GET proves key, region and project together.
    pub fn project_url(&self) -> String {
        let project = format!("/project/{}", segment(&self.project_id));
        join(&self.base_url, &["/v1", &project])
    }
}

impl Shape for BraintrustConfig {
    const HEADERS: HeaderRules = HeaderRules::own(&["authorization"]);

    fn target_url(&self) -> Option<String> {
        Some(self.insert_url())
    }
}

config! {
    /// Datadog LLM Observability.
    pub struct DatadogConfig {
        /// API key (not an application key).
        pub api_key: SecretString = token("apiKey"),
        /// Name of the ML app in Datadog.
        pub ml_app: String = text("mlApp"),
        /// Base URL of the API of the account's site, or of an agent's proxy, e.g. `http://agent:8126/evp_proxy/v4`
        /// (ours, additive).
        pub url: String = base_url("url").default("https://api.datadoghq.com"),
    }
}

const DATADOG_API: &str = "/api/intake/llm-obs/v1/trace/spans";
const DATADOG_AGENT: &str = "/api/v2/llmobs";

impl DatadogConfig {
    /// The base URL of the agent that `url` leads to; `None` if it is a site's.
    pub fn agent(&self) -> Option<&str> {
        ["/evp_proxy/v2", "/evp_proxy/v4"].iter().find_map(|proxy| {
            let (agent, rest) = self.url.trim_end_matches('/').split_once(proxy)?;
            (rest.is_empty() || rest == DATADOG_AGENT).then_some(agent)
        })
    }

    /// The URL to POST spans to.
    pub fn spans_url(&self) -> String {
        join(&self.url, &[if self.agent().is_some() { DATADOG_AGENT } else { DATADOG_API }])
    }

    /// The URL whose GET checks the key of a site, or tells what an agent can do.
    pub fn validate_url(&self) -> String {
        let spans = self.spans_url();
        match self.agent() {
            Some(agent) => join(agent, &["/info"]),
            None => join(spans.strip_suffix(DATADOG_API).unwrap_or(&self.url), &["/api/v1/validate"]),
        }
    }
}

impl Shape for DatadogConfig {
    const HEADERS: HeaderRules = HeaderRules::own(&["dd-api-key", "x-datadog-evp-subdomain"]);

    fn target_url(&self) -> Option<String> {
        Some(self.spans_url())
    }
}

config! {
    /// Opik by Comet.
    pub struct OpikConfig {
        /// API key (`opik_...`).
        pub api_key: SecretString = token("apiKey"),
        /// Comet workspace.
        pub workspace: String = text("workspace"),
        /// Project name.
        pub project_name: String = text("projectName"),
        /// API base URL of a self-hosted Opik, e.g. `http://host:5173/api` (ours, additive).
        pub base_url: Option<String> = base_url("baseUrl").optional(),
    }
}

impl OpikConfig {
    /// `path` (with a leading slash) below the API base URL.
    pub fn api_url(&self, path: &str) -> String {
        join(self.base_url.as_deref().unwrap_or("https://www.comet.com/opik/api"), &[path])
    }

    /// The URL to POST traces to.
    pub fn traces_url(&self) -> String {
        self.api_url("/v1/private/traces/batch")
    }

    /// The URL to POST spans to.
    pub fn spans_url(&self) -> String {
        self.api_url("/v1/private/spans/batch")
    }
}

impl Shape for OpikConfig {
    const HEADERS: HeaderRules = HeaderRules::own(&["authorization", "comet-workspace"]);

    fn target_url(&self) -> Option<String> {
        Some(self.traces_url())
    }
}

config! {
    /// W&B Weave.
    pub struct WeaveConfig {
        /// W&B API key.
        pub api_key: SecretString = token("apiKey"),
        /// User or team.
        pub entity: String = text("entity"),
        /// Project.
        pub project: String = text("project"),
        /// Base URL of the trace server.
        pub base_url: String = base_url("baseUrl").default("https://trace.wandb.ai"),
    }
}

impl WeaveConfig {
    /// `path` (with a leading slash) below the base URL.
    pub fn api_url(&self, path: &str) -> String {
        join(&self.base_url, &[path])
    }

    /// The URL to POST completed calls to.
    pub fn complete_url(&self) -> String {
        self.api_url(&format!("/v2/{}/{}/calls/complete", segment(&self.entity), segment(&self.project)))
    }

    /// The URL of older servers, which do not know completed calls.
    pub fn upsert_url(&self) -> String {
        self.api_url("/call/upsert_batch")
    }
}

impl Shape for WeaveConfig {
    const HEADERS: HeaderRules = HeaderRules::own(&["authorization"]);

    fn target_url(&self) -> Option<String> {
        Some(self.complete_url())
    }
}

config! {
    /// PostHog.
    pub struct PosthogConfig {
        /// Project token (`phc_...`).
        pub api_key: SecretString = token("apiKey"),
        /// Base URL of the ingestion host.
        pub endpoint: String = base_url("endpoint").default("https://us.i.posthog.com"),
    }
}

impl PosthogConfig {
    /// The URL to POST batches of AI events to.
    pub fn ai_batch_url(&self) -> String {
        join(self.ingestion_host(), &["/i/v0/ai/batch/"])
    }

    /// The URL of older servers, which have no lane for AI events.
    pub fn batch_url(&self) -> String {
        join(self.ingestion_host(), &["/batch/"])
    }

    /// The URL that knows project tokens.
    pub fn flags_url(&self) -> String {
        format!("{}?v=2", join(self.ingestion_host(), &["/flags/"]))
    }

    /// The addresses of the web application stand for the ingestion hosts of their region.
    fn ingestion_host(&self) -> &str {
        match host(&self.endpoint).as_str() {
            "app.posthog.com" | "us.posthog.com" => "https://us.i.posthog.com",
            "eu.posthog.com" => "https://eu.i.posthog.com",
            _ => &self.endpoint,
        }
    }
}

impl Shape for PosthogConfig {
    const HEADERS: HeaderRules = HeaderRules::own(&[]);

    fn target_url(&self) -> Option<String> {
        Some(self.ai_batch_url())
    }
}
