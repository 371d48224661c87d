//! `weave`: spans as completed calls of a W&B Weave project.
//!
//! Contract: the `weave` SDK 0.54 (routes, limits, retries, call schema), github.com/wandb/weave trace server;
//! sinks-llm-platforms.md 8.
//!
//! | | |
//! | --- | --- |
//! | what to enter | W&B API key, entity (user or team), project; the base URL of a dedicated installation |
//! | URL | `{baseUrl}/v2/{entity}/{project}/calls/complete`; after a 404 (older servers) `{baseUrl}/call/upsert_batch`, kept until restart; back again if that route says the project wants completed calls |
//! | auth | `Authorization: Basic base64(api:apiKey)` |
//! | body | `{"batch":[call, ...]}`, uncompressed |
//! | what arrives | `inputs` with model, messages and parameters, `output` as a chat completion, tokens by model in `summary.usage` (Weave prices them), our cost in `summary.cost_usd` and `attributes.cost`, session as `thread_id`, the rest in `attributes` |
//! | limits | 100 calls, 5 MB, 1 s; texts over 900,000 characters are cut and marked (`attributes["inputs.truncated"]`), because Weave replaces values over 1 MiB |
//! | identity | the call id is the span id: resending replaces |
//! | 422 | one bad call refuses all: halve |
//! | privacy | `inputs.messages`, `output` and `exception` are not sent |
//! | test | `POST /calls/query_stats`: proves key and access to the project; then a batch of no calls, which needs the right to write. W&B makes a project with the first write |

mod request;
#[cfg(test)]
mod tests;

use http::{HeaderValue, header};
use tracecast_destination::{ExposeSecret, WeaveConfig};
use url::Url;

use crate::family::endpoint::Endpoint;
use crate::family::http::{Outgoing, Reply};
use crate::family::json_vendor::{JsonVendor, Part, Vendor};
use crate::family::probe::{Verdict, verdict};
use crate::family::redact::Redactor;
use crate::family::rows::Row;
use crate::family::{headers, urls};
use crate::{BuildError, Clients};

/// The adapter.
pub(crate) type Weave = JsonVendor<Project>;

/// Of a body: where the SDK stops.
const BYTES_MAX: usize = 31 << 20;
const COMPLETE: u8 = 0;
const UPSERT: u8 = 1;

/// A project.
#[derive(Debug)]
pub(crate) struct Project {
    /// `entity/project`.
    id: String,
    complete: Url,
    upsert: Url,
    stats: Url,
}

impl Vendor for Project {
    const GZIP: bool = false;

    fn parts(&self, rows: &[Row<'_>], route: u8) -> Vec<Part> {
        vec![match route {
            COMPLETE => Part::json(&self.complete, request::complete(&self.id, rows)).at_most(BYTES_MAX),
            _ => Part::json(&self.upsert, request::upsert(&self.id, rows)).at_most(BYTES_MAX),
        }]
    }

    fn other_route(&self, route: u8, reply: &Reply) -> Option<u8> {
        let wants_complete = || {
            let text = String::from_utf8_lossy(&reply.body).to_ascii_lowercase();
            text.contains("error_code") && text.contains("calls_complete")
        };
        match route {
            COMPLETE => (reply.status == 404).then_some(UPSERT),
            _ => ((400..500).contains(&reply.status) && wants_complete()).then_some(COMPLETE),
        }
    }

    fn test(&self, endpoint: &Endpoint) -> Outgoing {
        let mut outgoing = endpoint.request(request::test(&self.id));
        outgoing.url = self.stats.clone();
        outgoing
    }

    fn empty_write(&self) -> Option<Part> {
        Some(Part::json(&self.complete, request::complete(&self.id, &[])))
    }

    fn verdict(&self, reply: &Reply, redactor: &Redactor) -> Verdict {
        let access = "the key has no access to config.entity, or the entity is misspelled";
        let advice = [
            (401, "take an API key from wandb.ai/authorize"),
            (403, access),
            (
                404,
                "entity or project are unknown, or the base url is wrong: that of an own installation ends in /traces",
            ),
        ];
        let ok_hint = "the key may use this project, and a batch of no calls was not refused for lack of rights; W&B makes \
                       the project with the first write";
        verdict(reply, redactor, ok_hint, &advice)
    }
}

impl Weave {
    /// Checks the URL and the headers; opens no connection.
    pub(crate) fn new(config: &WeaveConfig, clients: &Clients) -> Result<Self, BuildError> {
        let complete = urls::parse("config.baseUrl", &config.complete_url())?;
        let upsert = urls::parse("config.baseUrl", &config.upsert_url())?;
        let stats = urls::parse("config.baseUrl", &config.api_url("/calls/query_stats"))?;
        let credential = headers::basic("config.apiKey", "api", config.api_key.expose_secret())?;
        let json = HeaderValue::from_static("application/json");
        let own = [(header::AUTHORIZATION, credential), (header::CONTENT_TYPE, json)];
        let endpoint = Endpoint::new(clients, complete.clone(), own, &config.headers, &[&config.api_key])?;
        let id = format!("{}/{}", config.entity, config.project);
        Ok(JsonVendor::assemble(endpoint, Project { id, complete, upsert, stats }))
    }
}
