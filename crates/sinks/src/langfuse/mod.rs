//! `langfuse`: OTLP with Langfuse's own attributes.
//!
//! Contract: Langfuse server `web/src/pages/api/public/otel/v1/traces` and
//! `packages/shared/src/server/otel` (`OtelIngestionProcessor`, `ObservationTypeMapper`);
//! sinks-llm-platforms.md 2, 3, 11.
//!
//! | | |
//! | --- | --- |
//! | what to enter | public and secret key of one project, and the base URL of its region (`https://us.cloud.langfuse.com`, `https://cloud.langfuse.com` for the EU) or of one's own installation, version 3 or later |
//! | URL | `{baseUrl}/api/public/otel/v1/traces` |
//! | auth | `Authorization: Basic base64(publicKey:secretKey)` |
//! | headers | `x-langfuse-ingestion-version: 4` (the direct write path), `x-langfuse-public-key`, `-sdk-name`, `-sdk-version` |
//! | body | protobuf, gzip (the only coding its server decodes) |
//! | what arrives | a trace per trace, with session, user, name, tags, environment, release and metadata; generations with model, parameters, prompts and answers, tokens by kind, the billed cost and the first token; tools, agents and retrievers as such; errors as level and status |
//! | dialect | see `dialect.rs`: usage and cost as Langfuse counts them, input and output, trace fields on every span |
//! | limits | 200 spans, 4.5 MB of the documented 5 MB, 200 ms. Names of traces and ids of users and sessions end at 200 characters, marked in the metadata: Langfuse drops longer ones |
//! | 400 | one bad span refuses the whole body: halve it |
//! | 207 | the legacy answer with per-event errors: retryable ones win, because a resent span overwrites itself |
//! | identity | (trace id, span id): resending overwrites |
//! | privacy | input, output and the messages of errors are not sent |
//! | test | an empty JSON export: passes auth, rate limit and suspension checks, stores nothing |

mod dialect;
mod request;
mod response;
#[cfg(test)]
mod tests;

use std::time::Duration;

use tracecast_destination::LangfuseConfig;
use tracecast_otlp::write::Edit;

use self::dialect::Dialect;
use crate::family::http::Reply;
use crate::family::otlp_vendor::{Form, OtlpVendor, Vendor};
use crate::family::probe::{Verdict, verdict};
use crate::family::redact::Redactor;
use crate::{Answer, Batch, BatchLimits, BuildError, Clients};

/// The adapter.
pub(crate) type Langfuse = OtlpVendor<Server>;

/// The Langfuse server.
#[derive(Debug)]
pub(crate) struct Server;

impl Vendor for Server {
    const LIMITS: BatchLimits = BatchLimits {
        spans_max: 200,
        bytes_max: 4_500_000,
        age_max: Duration::from_millis(200),
        concurrency_max: 8,
    };

    fn edit(&self) -> Option<&dyn Edit> {
        Some(&Dialect)
    }

    fn answer(&self, batch: &Batch, reply: &Reply, redactor: &Redactor) -> Answer {
        response::answer(batch, reply, redactor)
    }

    fn test_form(&self, _: Form) -> Form {
        Form::JSON
    }

    fn verdict(&self, reply: &Reply, redactor: &Redactor) -> Verdict {
        let advice = [
            (
                401,
                "the secret key does not belong to this public key, or both are of another region or installation: base \
                 urls are https://us.cloud.langfuse.com, https://cloud.langfuse.com (EU), or that of your own",
            ),
            (
                403,
                "these are keys of an organization, not of a project; or ingestion is suspended at its usage limit",
            ),
            (404, "enter the base url without a path; langfuse before version 3 has no OTLP endpoint"),
        ];
        verdict(reply, redactor, "the keys work; nothing was stored", &advice)
    }
}

impl Langfuse {
    /// Checks the URL and the headers; opens no connection.
    pub(crate) fn new(config: &LangfuseConfig, clients: &Clients) -> Result<Self, BuildError> {
        Ok(OtlpVendor::assemble(request::endpoint(config, clients)?, Server, vec![Form::PACKED]))
    }
}
