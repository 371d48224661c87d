//! The 17 destination kinds: typed config, validation, masking, PATCH semantics, secrets.
//!
//! A destination enters as JSON (an API body or an entry of the config file) and is checked as a
//! whole: every mistake is reported at once, each as an [`Issue`] with path, message and advice.
//! What comes out is a [`Destination`] with a typed [`Config`]; the rest of the gateway never
//! looks at config JSON again.
//!
//! Each kind is one declaration in `config/`: the struct, and beside each field its wire name,
//! rule, default and secrecy. Parsing, unknown-key detection, masking, the split into plain and
//! sealed values for the store, `Debug` and the JSON Schema all follow from that declaration. A
//! new kind is such a struct, a line in `config/mod.rs` and a name in [`Kind`].
//!
//! Deliberately absent: I/O, clocks and randomness. Ids and times come from the caller.
#[macro_use]
mod wire;
#[macro_use]
mod schema;
mod address;
mod config;
mod destination;
mod filter;
mod form;
mod headers;
mod issue;
mod json_schema;
mod kind;
mod mask;
mod rate_limit;
mod read;
mod retry;
mod signing;
mod suggest;

#[cfg(test)]
mod tests;

pub use address::{mask_url, otlp_traces_url};
pub use config::{
    ArizeConfig, BraintrustConfig, ClickhouseConfig, Config, DatadogConfig, GrafanaConfig, LangfuseConfig,
    LangsmithConfig, NewrelicConfig, NewrelicRegion, OpikConfig, OtelCollectorConfig, PosthogConfig,
    RampConfig, S3AuthMode, S3Config, S3ObjectLayout, S3Provider, SentryConfig, SnowflakeConfig, WeaveConfig,
    WebhookConfig, WebhookMethod,
};
pub use destination::{
    CreateDefaults, DEFAULT_WORKSPACE_ID, Destination, file_destination_id, s3_external_id,
};
pub use filter::{
    Field, FilterGroup, FilterRule, FilterRules, FilterValue, Logic, Operator, REGEX_SIZE_LIMIT_BYTES,
    filter_regex,
};
pub use headers::Headers;
pub use issue::Issue;
pub use json_schema::json_schema;
pub use kind::{Kind, ManagedBy, Region};
pub use mask::mask;
pub use rate_limit::RateLimit;
pub use retry::Retry;
pub use secrecy::{ExposeSecret, SecretString};
pub use signing::{FormerSecret, signing_key};
pub use suggest::did_you_mean;
