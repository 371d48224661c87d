//! `datadog`: LLM Observability spans.
//!
//! Contract: Datadog documentation "LLM Observability HTTP API reference" (spans API); `dd-trace-py` 4.16
//! `llmobs/_writer.py` (limits, route and body by an agent), `_event_types.py`, `types.py` (messages, tool results
//! and definitions), `_constants.py` (metric names, cost keys); sinks-infrastructure.md 2.
//!
//! | | |
//! | --- | --- |
//! | what to enter | an API key (not an application key), the ML app, the API base URL of the account's site, or an agent's proxy: `http://agent:8126/evp_proxy/v4` |
//! | URL | `{url}/api/intake/llm-obs/v1/trace/spans`; by an agent `{url}/api/v2/llmobs` |
//! | auth | `DD-API-KEY`; an agent adds its own key, so that none is sent to it |
//! | body | `{"data":{"type":"span","attributes":{"ml_app","tags","spans":[...]}}}`, uncompressed; by an agent what Datadog's SDK sends it, an envelope per span |
//! | what arrives | generations as kind `llm`, roots as `workflow`, tools as `tool`; messages, model, provider, tokens and the billed cost (which overrides Datadog's estimate), session, `user_id:` and the trace's tags |
//! | limits | 200 spans, 4.5 MB of the 5 MB allowed, 1 s; a larger span is cut and marked. Spans that started more than 24 h ago are not accepted, which the answer does not tell: they become dead letters here. Tags end at 200 characters |
//! | 202 | taken; what is invalid vanishes later, unseen, so only what the reference names is sent |
//! | privacy | `input`, `output` and the text of errors are not sent |
//! | test | `GET /api/v1/validate`: proves key and site; then a request without spans, which needs LLM Observability. By an agent `GET /info`: proves that the agent passes spans on |

mod request;
#[cfg(test)]
mod tests;

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method};
use serde_json::Value as Json;
use tracecast_destination::{DatadogConfig, ExposeSecret};
use url::Url;

use crate::family::endpoint::Endpoint;
use crate::family::http::{Outgoing, Reply};
use crate::family::json_vendor::{JsonVendor, Part, Vendor};
use crate::family::probe::{Verdict, verdict};
use crate::family::redact::Redactor;
use crate::family::rows::Row;
use crate::family::{answer, headers, urls};
use crate::{Answer, BatchLimits, BuildError, Clients, Diagnosis};

const API_KEY: HeaderName = HeaderName::from_static("dd-api-key");
const SUBDOMAIN: HeaderName = HeaderName::from_static("x-datadog-evp-subdomain");

/// Of a body, and so of a span.
const BYTES_MAX: usize = 5_000_000;

/// The adapter.
pub(crate) type Datadog = JsonVendor<MlApp>;

/// An ML app of an account.
#[derive(Debug)]
pub(crate) struct MlApp {
    name: String,
    spans: Url,
    validate: Url,
    /// Spans go through an agent.
    by_agent: bool,
}

impl Vendor for MlApp {
    const LIMITS: BatchLimits = BatchLimits {
        spans_max: 200,
        bytes_max: 4_500_000,
        age_max: Duration::from_secs(1),
        concurrency_max: 4,
    };
    const GZIP: bool = false;
    const AGE_MAX: Option<Duration> = Some(Duration::from_secs(24 * 3600));

    fn parts(&self, rows: &[Row<'_>], _: u8) -> Vec<Part> {
        let body = if self.by_agent { request::agent_body } else { request::body };
        vec![Part::json(&self.spans, body(&self.name, rows)).at_most(BYTES_MAX)]
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

    fn empty_write(&self) -> Option<Part> {
        (!self.by_agent).then(|| Part::json(&self.spans, request::body(&self.name, &[])))
    }

    const NO_WRITE: &'static str = "the key is valid on this site and may not send LLM Observability spans: that has to be \
                                    part of the account's plan";

    fn verdict(&self, reply: &Reply, redactor: &Redactor) -> Verdict {
        if self.by_agent {
            return agent_verdict(reply, redactor);
        }
        let site = "the API key is not of this site: take the base url of your own (us3, us5, eu, ap1, ...), and an \
                    API key, not an application key";
        let ok_hint =
            "the key is valid on this site, and a request without spans was not refused for lack of rights";
        let no_api = "this is no API of Datadog: base urls are https://api.datadoghq.com, https://api.us5.datadoghq.com, \
                      https://api.datadoghq.eu and the like";
        verdict(reply, redactor, ok_hint, &[(401, site), (403, site), (404, no_api)])
    }
}

/// An agent lists what it takes.
fn agent_verdict(reply: &Reply, redactor: &Redactor) -> Verdict {
    let ok_hint = "the agent passes LLM Observability spans on, with its own API key: whether that is valid, the agent's \
                   log tells";
    let no_agent =
        "this is no Datadog agent: enter its address and proxy, e.g. http://agent:8126/evp_proxy/v4";
    let mut verdict = verdict(reply, redactor, ok_hint, &[(404, no_agent)]);
    let info: Json = serde_json::from_slice(&reply.body).unwrap_or(Json::Null);
    let endpoints = info.get("endpoints").and_then(Json::as_array).map(Vec::as_slice).unwrap_or_default();
    let is_proxy = |endpoint: &Json| endpoint.as_str().is_some_and(|path| path.contains("evp_proxy"));
    if reply.is_success() && !endpoints.iter().any(is_proxy) {
        verdict.diagnosis = Diagnosis::Rejected;
        verdict.hint = match endpoints {
            [] => no_agent.into(),
            _ => "the agent has no evp_proxy: it needs version 7.50 or later, and evp_proxy_config.enabled"
                .into(),
        };
    }
    verdict
}

impl Datadog {
    /// Checks the URL and the headers; opens no connection.
    pub(crate) fn new(config: &DatadogConfig, clients: &Clients) -> Result<Self, BuildError> {
        let spans = urls::parse("config.url", &config.spans_url())?;
        let validate = urls::parse("config.url", &config.validate_url())?;
        let by_agent = config.agent().is_some();
        let own = match by_agent {
            true => (SUBDOMAIN, HeaderValue::from_static("llmobs-intake")),
            false => (API_KEY, headers::secret("config.apiKey", config.api_key.expose_secret())?),
        };
        let endpoint = Endpoint::new(clients, spans.clone(), [own], &config.headers, &[])?;
        let app = MlApp { name: config.ml_app.clone(), spans, validate, by_agent };
        Ok(JsonVendor::assemble(endpoint, app))
    }
}
