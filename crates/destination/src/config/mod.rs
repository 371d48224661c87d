//! The typed configs, grouped by the way events are sent.
mod json;
mod otlp;
mod rows;
mod s3;
mod webhook;

use jiff::Timestamp;
use serde_json::Value as Json;
use uuid::Uuid;

use crate::headers::Headers;
use crate::issue::Issue;
use crate::kind::Kind;
use crate::schema::{Audience, Fields, Schema, Shape, Values};

pub use json::{BraintrustConfig, DatadogConfig, OpikConfig, PosthogConfig, WeaveConfig};
pub use otlp::{
    ArizeConfig, GrafanaConfig, LangfuseConfig, LangsmithConfig, NewrelicConfig, NewrelicRegion,
    OtelCollectorConfig, RampConfig, SentryConfig,
};
pub use rows::{ClickhouseConfig, SnowflakeConfig};
pub use s3::{S3AuthMode, S3Config, S3ObjectLayout, S3Provider};
pub use webhook::{WebhookConfig, WebhookMethod};

/// Registers a kind: the variant of [`Config`] and everything that dispatches on it.
macro_rules! kinds {
    ($($kind:ident($config:ident),)+) => {
        /// The typed config of a destination. `Debug` shows no secret.
        #[derive(Clone, Debug)]
        pub enum Config {
            $(#[doc = concat!("See [`", stringify!($config), "`].")] $kind($config),)+
        }

        impl Config {
            /// The kind this config belongs to.
            pub fn kind(&self) -> Kind {
                match self { $(Config::$kind(_) => Kind::$kind,)+ }
            }

            /// Extra request headers.
            pub fn headers(&self) -> &Headers {
                match self { $(Config::$kind(config) => &config.headers,)+ }
            }

            /// The URL events go to, as far as the config decides it: `None` only for S3 on AWS.
            /// It may hold secrets: show it through [`crate::mask_url`].
            pub fn target_url(&self) -> Option<String> {
                match self { $(Config::$kind(config) => config.target_url(),)+ }
            }

            fn read(kind: Kind, values: &Values) -> Option<Config> {
                match kind { $(Kind::$kind => $config::read(values).map(Config::$kind),)+ }
            }

            fn write(&self) -> Values {
                match self { $(Config::$kind(config) => config.write(),)+ }
            }
        }

        /// The table of a kind.
        pub(crate) fn schema(kind: Kind) -> Schema {
            match kind { $(Kind::$kind => Schema::of::<$config>(),)+ }
        }
    };
}

kinds! {
    Arize(ArizeConfig),
    Braintrust(BraintrustConfig),
    Clickhouse(ClickhouseConfig),
    Datadog(DatadogConfig),
    Grafana(GrafanaConfig),
    Langfuse(LangfuseConfig),
    Langsmith(LangsmithConfig),
    Newrelic(NewrelicConfig),
    Opik(OpikConfig),
    OtelCollector(OtelCollectorConfig),
    Posthog(PosthogConfig),
    Ramp(RampConfig),
    S3(S3Config),
    Sentry(SentryConfig),
    Snowflake(SnowflakeConfig),
    Weave(WeaveConfig),
    Webhook(WebhookConfig),
}

impl Config {
    /// The `config` of a create body.
    pub(crate) fn create(kind: Kind, given: &Json, id: Uuid, issues: &mut Vec<Issue>) -> Option<Config> {
        let values = schema(kind).resolve(given, None, id, issues)?;
        Config::typed(kind, &values, issues)
    }

    /// The `config` of a PATCH body, merged per key.
    pub(crate) fn patch(&self, given: &Json, id: Uuid, issues: &mut Vec<Issue>) -> Option<Config> {
        let kind = self.kind();
        let values = schema(kind).resolve(given, Some(&self.write()), id, issues)?;
        Config::typed(kind, &values, issues)
    }

    /// Takes over from the config `before` what the gateway keeps over a change.
    pub(crate) fn succeed(&mut self, before: &Config, now: Timestamp) {
        if let (Config::Webhook(config), Config::Webhook(before)) = (self, before) {
            config.succeed(before, now);
        }
    }

    /// For the API: effective values, secrets masked.
    pub(crate) fn to_masked(&self) -> Values {
        schema(self.kind()).shown(&self.write(), Audience::Api)
    }

    /// For the store: what may lie in clear, and what must be sealed.
    pub(crate) fn to_stored(&self) -> (Values, Values) {
        schema(self.kind()).split(self.write())
    }

    /// Reverses `to_stored` on the merged halves. Checks types only, so that a rule that got
    /// stricter since never locks out what is stored.
    pub(crate) fn from_stored(kind: Kind, mut values: Values, issues: &mut Vec<Issue>) -> Option<Config> {
        let before = issues.len();
        schema(kind).complete(&mut values, issues);
        if issues.len() > before { None } else { Config::typed(kind, &values, issues) }
    }

    fn typed(kind: Kind, values: &Values, issues: &mut Vec<Issue>) -> Option<Config> {
        let config = Config::read(kind, values);
        if config.is_none() {
            issues.push(Issue {
                path: "config".to_owned(),
                message: format!("holds a value of the wrong type for {kind}"),
                hint: None,
            });
        }
        config
    }
}
