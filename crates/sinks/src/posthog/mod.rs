//! `posthog`: LLM calls as PostHog's own AI events.
//!
//! Contract: posthog.com/docs/llm-analytics (manual capture), the `posthog` Python SDK 7.91 (AI lane, limits, retries),
//! PostHog `rust/capture`; sinks-llm-platforms.md 9.
//!
//! | | |
//! | --- | --- |
//! | what to enter | the project token (`phc_...`) and the ingestion host of the region |
//! | URL | `{endpoint}/i/v0/ai/batch/`; after a 404 (older servers) `{endpoint}/batch/`, kept until restart |
//! | auth | `api_key` in the body |
//! | body | `{"api_key","historical_migration":false,"batch":[...]}`, gzip |
//! | what arrives | model, messages, tools, tokens, cost, latency and errors as `$ai_` properties; a generation is `$ai_generation` (`$ai_embedding`), a root that is none `$ai_trace`, anything else `$ai_span` |
//! | person | the user; without one the trace id, and no person is made of it |
//! | custom | every key of the caller as `metadata_<key>`, values deeper than three levels as `[truncated]`, so that none is taken for one of PostHog's |
//! | limits | 100 spans, 5 MB, 1 s; an event of more than 8 MiB (900 KiB on the older route) is cut and marked |
//! | identity | `uuid` is UUIDv5 of trace and span id; event, person and time are those of the span, so a retry is the same row |
//! | privacy | `$ai_input`, `$ai_output_choices`, `$ai_error` and the texts of other spans are not sent |
//! | test | `/flags`, which refuses a wrong token; capture itself takes any token and drops the events later |

mod request;
#[cfg(test)]
mod tests;

use tracecast_destination::{ExposeSecret, PosthogConfig, SecretString};
use url::Url;

use crate::family::endpoint::Endpoint;
use crate::family::http::{Outgoing, Reply};
use crate::family::json_vendor::{JsonVendor, Part, Vendor};
use crate::family::probe::{Verdict, verdict};
use crate::family::redact::Redactor;
use crate::family::rows::Row;
use crate::family::urls;
use crate::{BuildError, Clients};

/// Of an event on the AI lane, and on the older route.
const EVENT_BYTES_MAX: usize = 8 << 20;
const OLDER_EVENT_BYTES_MAX: usize = 900 << 10;
const BODY_BYTES_MAX: usize = 20 << 20;

/// The adapter.
pub(crate) type Posthog = JsonVendor<Project>;

/// A project, by its token.
#[derive(Debug)]
pub(crate) struct Project {
    token: SecretString,
    /// The AI lane, and the route of older servers.
    routes: [Url; 2],
    flags: Url,
}

impl Vendor for Project {
    const GZIP: bool = true;

    fn parts(&self, rows: &[Row<'_>], route: u8) -> Vec<Part> {
        let url = &self.routes[usize::from(route.min(1))];
        let (body, largest) = request::body(self.token.expose_secret(), rows);
        let largest_max = if route == 0 { EVENT_BYTES_MAX } else { OLDER_EVENT_BYTES_MAX };
        vec![Part::json(url, body).at_most(BODY_BYTES_MAX).holding(largest, largest_max)]
    }

    fn other_route(&self, route: u8, reply: &Reply) -> Option<u8> {
        (route == 0 && reply.status == 404).then_some(1)
    }

    fn test(&self, endpoint: &Endpoint) -> Outgoing {
        let mut outgoing = endpoint.request(request::test(self.token.expose_secret()));
        outgoing.url = self.flags.clone();
        outgoing
    }

    fn verdict(&self, reply: &Reply, redactor: &Redactor) -> Verdict {
        let advice = [
            (401, "take the project token (phc_...) of the project settings, not a personal key"),
            (403, "the project takes no events with this token: look into its settings"),
            (404, "enter the ingestion host, e.g. https://us.i.posthog.com or https://eu.i.posthog.com"),
        ];
        verdict(reply, redactor, "the project token is known; nothing was stored", &advice)
    }
}

impl Posthog {
    /// Checks the URL and the headers; opens no connection.
    pub(crate) fn new(config: &PosthogConfig, clients: &Clients) -> Result<Self, BuildError> {
        let lane = urls::parse("config.endpoint", &config.ai_batch_url())?;
        let older = urls::parse("config.endpoint", &config.batch_url())?;
        let flags = urls::parse("config.endpoint", &config.flags_url())?;
        let endpoint = Endpoint::new(clients, lane.clone(), [], &config.headers, &[&config.api_key])?;
        let project = Project { token: config.api_key.clone(), routes: [lane, older], flags };
        Ok(JsonVendor::assemble(endpoint, project))
    }
}
