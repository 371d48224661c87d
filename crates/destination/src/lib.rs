//! The 17 destination kinds: typed config, validation, masking, PATCH semantics, secrets.
#![allow(unused, missing_docs, clippy::unimplemented)]
use serde_json::Value as Json;
use uuid::Uuid;
pub use secrecy::{ExposeSecret, SecretString};

/// The one fixed default workspace of every installation.
pub const DEFAULT_WORKSPACE_ID: Uuid = Uuid::from_u128(0x7472_6163_6563_4173_8000_0000_0000_0001);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind { Arize, Braintrust, Clickhouse, Datadog, Grafana, Langfuse, Langsmith, Newrelic, Opik, OtelCollector, Posthog, Ramp, S3, Sentry, Snowflake, Weave, Webhook }
impl Kind {
    pub const ALL: [Kind; 17] = [Kind::Arize, Kind::Braintrust, Kind::Clickhouse, Kind::Datadog, Kind::Grafana, Kind::Langfuse, Kind::Langsmith, Kind::Newrelic, Kind::Opik, Kind::OtelCollector, Kind::Posthog, Kind::Ramp, Kind::S3, Kind::Sentry, Kind::Snowflake, Kind::Weave, Kind::Webhook];
    /// The wire name: `otel-collector`, `clickhouse`, ...
    pub fn as_str(self) -> &'static str { unimplemented!() }
    pub fn parse(s: &str) -> Option<Kind> { Self::ALL.into_iter().find(|k| k.as_str() == s) }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Region { Global, Europe, Us }
impl Region {
    pub fn as_str(self) -> &'static str { match self { Region::Global => "global", Region::Europe => "europe", Region::Us => "us" } }
    /// `eu` is an alias of `europe`.
    pub fn parse(s: &str) -> Option<Region> { match s { "global" => Some(Region::Global), "europe" | "eu" => Some(Region::Europe), "us" => Some(Region::Us), _ => None } }
}

/// One thing wrong with an input. `path` like `config.secretKey` or `filter_rules.groups[0].rules[1].value`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Issue { pub path: String, pub message: String, #[serde(skip_serializing_if = "Option::is_none")] pub hint: Option<String> }

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ManagedBy { Api, File }

#[derive(Clone, Debug)]
pub struct Destination {
    pub id: Uuid, pub workspace_id: Uuid, pub name: String, pub enabled: bool, pub privacy_mode: bool,
    pub sampling_rate: f64,
    /// Lower-case hex SHA-256; `None` = all keys.
    pub api_key_hashes: Option<Vec<String>>,
    pub filter_rules: Option<FilterRules>,
    pub regions: Vec<Region>,
    pub broadcast_generation_cost: bool, pub broadcast_generation_identity: bool,
    pub broadcast_generation_request_context: bool, pub broadcast_generation_cost_allocation: bool,
    pub config: Config,
    pub managed_by: ManagedBy,
    pub created_at: jiff::Timestamp, pub updated_at: jiff::Timestamp,
}

// === filter rules (grammar of broadcast-contract.md section 3, validated) ===
#[derive(Clone, Debug, PartialEq)]
pub struct FilterRules { pub enabled: bool, pub groups: Vec<FilterGroup> }
#[derive(Clone, Debug, PartialEq)]
pub struct FilterGroup { pub logic: Logic, pub rules: Vec<FilterRule> }
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Logic { And, Or }
#[derive(Clone, Debug, PartialEq)]
pub struct FilterRule { pub field: Field, pub operator: Operator, pub value: Option<FilterValue> }
#[derive(Clone, Debug, PartialEq)]
pub enum FilterValue { Text(String), Number(f64) }
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Field { Model, Provider, SessionId, UserId, ApiKeyName, FinishReason, Input, Output, TotalCost, TotalTokens, PromptTokens, CompletionTokens }
impl Field { pub fn is_numeric(self) -> bool { matches!(self, Field::TotalCost | Field::TotalTokens | Field::PromptTokens | Field::CompletionTokens) } }
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operator { Equals, NotEquals, Contains, NotContains, Regex, StartsWith, EndsWith, Gt, Lt, Gte, Lte, Exists, NotExists }
/// Size bound of a compiled filter regex, bytes (used by validation and by the rules crate).
pub const REGEX_SIZE_LIMIT_BYTES: usize = 1 << 20;

// === typed configs of the 17 kinds (extra headers: validated names, secret values) ===
#[derive(Clone, Debug)]
pub enum Config { OtelCollector(OtelCollectorConfig), Webhook(WebhookConfig), Langfuse(LangfuseConfig), S3(S3Config), Clickhouse(ClickhouseConfig) /* + the other 12 */ }
impl Config { pub fn kind(&self) -> Kind { unimplemented!() } }
pub type Headers = Vec<(String, SecretString)>;
#[derive(Clone, Debug)]
pub struct OtelCollectorConfig { pub endpoint: String, pub headers: Headers }
#[derive(Clone, Debug)]
pub struct WebhookConfig { pub url: String, pub method: WebhookMethod, pub headers: Headers }
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WebhookMethod { Post, Put }
#[derive(Clone, Debug)]
pub struct LangfuseConfig { pub public_key: SecretString, pub secret_key: SecretString, pub base_url: String, pub headers: Headers }
#[derive(Clone, Debug)]
pub struct S3Config { pub bucket_name: String, pub auth_mode: S3AuthMode, pub access_key_id: Option<SecretString>, pub secret_access_key: Option<SecretString>, pub session_token: Option<SecretString>,
    pub role_arn: Option<String>, pub external_id: Option<String>, pub provider: Option<S3Provider>, pub region: Option<String>, pub endpoint: Option<String>,
    pub prefix: String, pub path_template: String,
    /// Ours, additive config key `objectLayout`: `per_trace` (default, as upstream) or `jsonl` (batched NDJSON, gzip).
    pub object_layout: S3ObjectLayout, pub headers: Headers }
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum S3AuthMode { AccessKeys, IamRole }
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum S3Provider { Aws, CloudflareR2, Gcs, Other }
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum S3ObjectLayout { PerTrace, Jsonl }
#[derive(Clone, Debug)]
pub struct ClickhouseConfig { pub host: String, pub database: String, pub username: String, pub password: SecretString, pub table: String, pub should_include_cache_write_tokens: bool, pub headers: Headers }

impl Destination {
    /// A create body (API or config file) validated as a whole: every problem at once.
    /// The caller supplies what the body cannot decide.
    pub fn create(body: &Json, defaults: CreateDefaults) -> Result<Destination, Vec<Issue>> { unimplemented!() }
    /// PATCH: absent keeps, null clears where allowed, config merges per key, masked secrets are ignored.
    pub fn patch(&self, body: &Json, now: jiff::Timestamp) -> Result<Destination, Vec<Issue>> { unimplemented!() }
    /// The API object, secrets masked.
    pub fn to_json(&self) -> Json { unimplemented!() }
    /// For the store: everything but secrets (config included), and the secret config values apart.
    pub fn to_stored(&self) -> (Json, Json) { unimplemented!() }
    pub fn from_stored(plain: &Json, secrets: &Json) -> Result<Destination, Vec<Issue>> { unimplemented!() }
}
#[derive(Clone, Debug)]
pub struct CreateDefaults { pub id: Uuid, pub workspace_id: Uuid, pub managed_by: ManagedBy, pub now: jiff::Timestamp }
/// `first 4...last 4`, or `***` under 12 characters.
pub fn mask(secret: &str) -> String { unimplemented!() }
/// UUIDv5 of workspace, type and name: the id of a file destination that names none.
pub fn file_destination_id(workspace: Uuid, kind: Kind, name: &str) -> Uuid { unimplemented!() }
