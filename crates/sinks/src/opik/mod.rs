//! `opik`: traces and spans by Opik's REST API.
//!
//! Contract: the `opik` SDK 2.2 (REST models, batch limits, retries), Opik backend `TracesResource`, `SpansResource`,
//! `IdGenerator`; sinks-llm-platforms.md 7.
//!
//! | | |
//! | --- | --- |
//! | what to enter | API key, Comet workspace, project name; `baseUrl` (ours) for a self-hosted Opik |
//! | URL | `{api}/v1/private/traces/batch`, then `{api}/v1/private/spans/batch` |
//! | auth | `Authorization: apiKey` (no scheme), `Comet-Workspace` |
//! | body | `{"traces":[...]}` and `{"spans":[...]}`, gzip |
//! | what arrives | one trace per trace with input, output, tags and `thread_id` (the session); spans with model, provider, usage, cost, time to first token |
//! | ids | Opik wants UUIDv7 with a time at most a day away. They are made of the ids and of a mark that each trace has every twelve hours (`ids.rs`): every retry repeats them, and what is older than about 12 h when it is first sent (a long outage, a replay) is refused there. A trace that comes in several requests and goes on over its mark becomes two. Foreign ids stand in the metadata as `openrouter_trace_id` and `openrouter_observation_id` |
//! | traces | told by the span without a parent; a trace whose root never comes has spans and no object, as by Opik's own OTLP route |
//! | limits | 500 spans, 4.5 MB of the 5 MB allowed, 1 s |
//! | 409 | there already: a success |
//! | privacy | input, output and the texts of errors are not sent |
//! | test | `GET /v1/private/auth/workspace`: proves key and workspace; then a batch of no traces, which Opik refuses only after it has looked at the key's rights |

mod ids;
mod request;
#[cfg(test)]
mod tests;

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, Method, header};
use tracecast_destination::{ExposeSecret, OpikConfig};
use url::Url;

use crate::family::endpoint::Endpoint;
use crate::family::http::{Outgoing, Reply};
use crate::family::json_vendor::{JsonVendor, Part, Vendor};
use crate::family::probe::{Verdict, verdict};
use crate::family::redact::Redactor;
use crate::family::rows::Row;
use crate::family::{answer, headers, urls};
use crate::{Answer, BatchLimits, BuildError, Clients};

const WORKSPACE: HeaderName = HeaderName::from_static("comet-workspace");

/// The adapter.
pub(crate) type Opik = JsonVendor<Project>;

/// A project of a workspace.
#[derive(Debug)]
pub(crate) struct Project {
    name: String,
    traces: Url,
    spans: Url,
    workspace: Url,
}

impl Vendor for Project {
    const LIMITS: BatchLimits = BatchLimits {
        spans_max: 500,
        bytes_max: 4_500_000,
        age_max: Duration::from_secs(1),
        concurrency_max: 4,
    };
    const GZIP: bool = true;

    fn parts(&self, rows: &[Row<'_>], _: u8) -> Vec<Part> {
        let (traces, spans) = request::bodies(&self.name, rows);
        let traces = traces.map(|body| Part::json(&self.traces, body));
        traces.into_iter().chain([Part::json(&self.spans, spans)]).collect()
    }

    fn answer(&self, reply: &Reply, redactor: &Redactor) -> Answer {
        match reply.status {
            409 => Answer::Delivered,
            _ => answer::with_reset(answer::classify(reply, redactor), reply, "ratelimit-reset"),
        }
    }

    fn test(&self, endpoint: &Endpoint) -> Outgoing {
        let mut outgoing = endpoint.request(Bytes::new());
        outgoing.method = Method::GET;
        outgoing.url = self.workspace.clone();
        outgoing
    }

    fn empty_write(&self) -> Option<Part> {
        Some(Part::json(&self.traces, br#"{"traces":[]}"#.to_vec()))
    }

    fn verdict(&self, reply: &Reply, redactor: &Redactor) -> Verdict {
        let advice = [
            (401, "the key is not of this workspace; on the cloud both come from Comet's account settings"),
            (403, "the key has no access to this workspace"),
            (404, "the api base url of a self-hosted Opik ends in /api, e.g. http://host:5173/api"),
        ];
        let ok_hint =
            "the key is known in this workspace, and a batch of no traces was not refused for lack of rights";
        verdict(reply, redactor, ok_hint, &advice)
    }
}

impl Opik {
    /// Checks the URL and the headers; opens no connection.
    pub(crate) fn new(config: &OpikConfig, clients: &Clients) -> Result<Self, BuildError> {
        let traces = urls::parse("config.baseUrl", &config.traces_url())?;
        let spans = urls::parse("config.baseUrl", &config.spans_url())?;
        let workspace = urls::parse("config.baseUrl", &config.api_url("/v1/private/auth/workspace"))?;
        let own = [
            (header::AUTHORIZATION, headers::secret("config.apiKey", config.api_key.expose_secret())?),
            (WORKSPACE, headers::text("config.workspace", &config.workspace)?),
        ];
        let endpoint = Endpoint::new(clients, traces.clone(), own, &config.headers, &[])?;
        let project = Project { name: config.project_name.clone(), traces, spans, workspace };
        Ok(JsonVendor::assemble(endpoint, project))
    }
}
