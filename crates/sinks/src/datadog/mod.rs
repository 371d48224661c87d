//! `datadog`: LLM Observability spans.
//!
//! Contract: Datadog documentation "LLM Observability HTTP API reference" (spans API), `dd-trace-py` `llmobs/_writer`
//! (limits, metric names, cost keys); sinks-infrastructure.md 2.
//!
//! | | |
//! | --- | --- |
//! | what to enter | an API key (not an application key), the ML app, the API base URL of the account's site; an agent's base URL with its path works too |
//! | URL | `{url}/api/intake/llm-obs/v1/trace/spans` |
//! | auth | `DD-API-KEY` |
//! | body | `{"data":{"type":"span","attributes":{"ml_app","tags","spans":[...]}}}`, uncompressed |
//! | what arrives | generations as kind `llm`, roots as `workflow`, tools as `tool`; messages, model, provider, tokens and the billed cost (which overrides Datadog's estimate), session, `user_id:` and the trace's tags |
//! | limits | 200 spans, 4.5 MB of the 5 MB allowed, 1 s. Spans older than 24 h are refused by Datadog |
//! | 202 | taken; what is invalid vanishes later, unseen, so only what the reference names is sent |
//! | privacy | `input`, `output` and the text of errors are not sent |
//! | test | `GET /api/v1/validate`: proves key and site, not that LLM Observability is part of the plan |

mod request;
#[cfg(test)]
mod tests;

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method};
use tracecast_destination::{DatadogConfig, ExposeSecret};
use url::Url;

use crate::family::endpoint::Endpoint;
use crate::family::http::{Outgoing, Reply};
use crate::family::json_vendor::{JsonVendor, Part, Vendor};
use crate::family::probe::{Verdict, verdict};
use crate::family::redact::Redactor;
use crate::family::rows::Row;
use crate::family::{answer, headers, urls};
use crate::{Answer, BatchLimits, BuildError, Clients};

const API_KEY: HeaderName = HeaderName::from_static("dd-api-key");

/// The adapter.
pub(crate) type Datadog = JsonVendor<MlApp>;

/// An ML app of an account.
#[derive(Debug)]
pub(crate) struct MlApp {
    name: String,
    spans: Url,
    validate: Url,
}

impl Vendor for MlApp {
    const LIMITS: BatchLimits = BatchLimits {
        spans_max: 200,
        bytes_max: 4_500_000,
        age_max: Duration::from_secs(1),
        concurrency_max: 4,
    };
    const GZIP: bool = false;

    fn parts(&self, rows: &[Row<'_>], _: u8) -> Vec<Part> {
        vec![Part::json(&self.spans, request::body(&self.name, rows))]
    }

    fn answer(&self, reply: &Reply, redactor: &Redactor) -> Answer {
        answer::with_reset(answer::classify(reply, redactor), reply, "x-ratelimit-reset")
    }

    fn test(&self, endpoint: &Endpoint) -> Outgoing {
        let mut outgoing = endpoint.request(Bytes::new());
        outgoing.method = Method::GET;
        outgoing.url = self.validate.clone();
        outgoing
    }

    fn verdict(&self, reply: &Reply, redactor: &Redactor) -> Verdict {
        let site = "the API key is not of this site: take the base url of your own (us3, us5, eu, ap1, ...), and an \
                    API key, not an application key";
        let ok_hint = "the key is valid on this site; LLM Observability itself shows with the first spans";
        verdict(reply, redactor, ok_hint, &[(401, site), (403, site)])
    }
}

impl Datadog {
    /// Checks the URL and the headers; opens no connection.
    pub(crate) fn new(config: &DatadogConfig, clients: &Clients) -> Result<Self, BuildError> {
        let spans = urls::parse("config.url", &config.spans_url())?;
        let validate = urls::parse("config.url", &config.validate_url())?;
        let mut own = HeaderMap::new();
        own.insert(API_KEY, headers::secret("config.apiKey", config.api_key.expose_secret())?);
        let secrets = vec![config.api_key.clone()];
        let endpoint = Endpoint::new(clients, Method::POST, spans.clone(), own, &config.headers, secrets)?;
        Ok(JsonVendor::assemble(endpoint, MlApp { name: config.ml_app.clone(), spans, validate }))
    }
}
