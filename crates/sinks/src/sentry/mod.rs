//! `sentry`: traces to Sentry's OTLP endpoint.
//!
//! Contract: docs.sentry.io "OpenTelemetry Protocol (OTLP)", "Agent Tracing: manual instrumentation" and
//! "Conversations"; getsentry/sentry-conventions `model/attributes/gen_ai`; Relay `endpoints/integrations/otlp` and
//! `eap/ai.rs` (what it makes of tokens and costs); develop.sentry.dev "rate limiting"; sinks-infrastructure.md 5.
//!
//! | | |
//! | --- | --- |
//! | what to enter | the project's OTLP traces endpoint and its DSN (Settings, Client Keys) |
//! | URL | `otlpEndpoint`, ending in `/v1/traces` |
//! | auth | `x-sentry-auth: sentry sentry_key={public key of the DSN}` |
//! | body | protobuf, gzip |
//! | what arrives | a span per span, root spans as transactions; `sentry.op` is `gen_ai.{operation}`, so LLM calls show under AI agents with model, tokens and cost; the session as `gen_ai.conversation.id`, by which Sentry groups conversations |
//! | cost | ours is sent as `gen_ai.cost.*`; where Sentry has prices for the model, Relay puts its own in their place |
//! | messages | as attributes: Relay drops span events, so what stands in events is repeated in `gen_ai.input.messages` and `gen_ai.output.messages`; what is embedded in `gen_ai.embeddings.input` |
//! | limits | 100 spans, 2 MiB, 1 s |
//! | 2xx | 202 with an empty body; quotas and filters act later, unseen |
//! | `X-Sentry-Rate-Limits` | on any answer: nothing is sent until the longest limit on spans is over; the data is kept |
//! | privacy | prompts, answers and the messages of errors are not sent |
//! | test | an empty request: proves the key |

mod dialect;
mod response;
#[cfg(test)]
mod tests;

use std::time::Duration;

use http::HeaderName;
use tracecast_destination::SentryConfig;
use tracecast_otlp::write::Edit;

use self::dialect::DIALECT;
use self::response::Limit;
use crate::family::endpoint::Endpoint;
use crate::family::http::Reply;
use crate::family::otlp_vendor::{Form, OtlpVendor, Vendor};
use crate::family::probe::{Verdict, verdict};
use crate::family::redact::Redactor;
use crate::family::{headers, urls};
use crate::{Answer, Batch, BatchLimits, BuildError, Clients};

const SENTRY_AUTH: HeaderName = HeaderName::from_static("x-sentry-auth");

/// The adapter.
pub(crate) type Sentry = OtlpVendor<Relay>;

/// A relay, Sentry's or one's own.
#[derive(Debug, Default)]
pub(crate) struct Relay {
    limit: Limit,
}

impl Vendor for Relay {
    const LIMITS: BatchLimits = BatchLimits {
        spans_max: 100,
        bytes_max: 2 << 20,
        age_max: Duration::from_secs(1),
        concurrency_max: 4,
    };

    fn edit(&self) -> Option<&dyn Edit> {
        Some(&DIALECT)
    }

    fn hold(&self) -> Option<Answer> {
        self.limit.hold()
    }

    fn answer(&self, _: &Batch, reply: &Reply, redactor: &Redactor) -> Answer {
        self.limit.answer(reply, redactor)
    }

    fn verdict(&self, reply: &Reply, redactor: &Redactor) -> Verdict {
        let wrong_key = "the key of the dsn is not of this project, or it is disabled";
        let advice = [
            (401, wrong_key),
            (403, wrong_key),
            (404, "copy the OTLP traces endpoint from the project's client keys page"),
        ];
        let ok_hint = "the key was accepted; quotas and filters of the project act after the answer";
        verdict(reply, redactor, ok_hint, &advice)
    }
}

impl Sentry {
    /// Checks the URL and the headers; opens no connection.
    pub(crate) fn new(config: &SentryConfig, clients: &Clients) -> Result<Self, BuildError> {
        let url = urls::parse("config.otlpEndpoint", &config.traces_url())?;
        let key = config.public_key();
        let own = [(SENTRY_AUTH, headers::secret("config.dsn", &format!("sentry sentry_key={key}"))?)];
        let secrets = [&config.dsn, &key.to_owned().into()];
        let endpoint = Endpoint::new(clients, url, own, &config.headers, &secrets)?;
        Ok(OtlpVendor::assemble(endpoint, Relay::default(), vec![Form::PACKED]))
    }
}
