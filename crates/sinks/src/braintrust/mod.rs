//! `braintrust`: spans as rows of a project's logs.
//!
//! Contract: Braintrust API reference "Insert project logs events", the `braintrust` SDK 0.48 (row fields, limits);
//! sinks-llm-platforms.md 5.
//!
//! | | |
//! | --- | --- |
//! | what to enter | API key, project id (the uuid, not the name), base URL of the region or the own data plane |
//! | URL | `{baseUrl}/v1/project_logs/{projectId}/insert` |
//! | auth | `Authorization: Bearer apiKey` |
//! | body | `{"events":[row, ...]}`, uncompressed |
//! | what arrives | input and output as messages and choices, model in `metadata.model`, tokens, cost and times in `metrics`, user, session and custom keys in `metadata`, tags on roots |
//! | limits | 100 rows, 5 MB of the 6 MiB allowed, 1 s; a larger row is cut and marked |
//! | identity | row `id` is made of trace and span id: a retry replaces the row |
//! | 421 | the key is of another region |
//! | privacy | `input`, `output` and the text of `error` are not sent |
//! | test | `GET /v1/project/{projectId}`: proves key, region and project; then an insert of no rows, which needs the right to write |

mod request;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use http::{Method, header};
use tracecast_destination::BraintrustConfig;
use url::Url;

use crate::family::endpoint::Endpoint;
use crate::family::http::{Outgoing, Reply};
use crate::family::json_vendor::{JsonVendor, Part, Vendor};
use crate::family::probe::{Verdict, verdict};
use crate::family::redact::Redactor;
use crate::family::rows::Row;
use crate::family::{answer, headers, urls};
use crate::{Answer, BuildError, Clients};

/// Of a body, unless the data plane says otherwise.
const BYTES_MAX: usize = 6 << 20;

/// The adapter.
pub(crate) type Braintrust = JsonVendor<Project>;

/// A project.
#[derive(Debug)]
pub(crate) struct Project {
    insert: Url,
    project: Url,
}

impl Vendor for Project {
    const GZIP: bool = false;

    fn parts(&self, rows: &[Row<'_>], _: u8) -> Vec<Part> {
        vec![Part::json(&self.insert, request::body(rows)).at_most(BYTES_MAX)]
    }

    fn answer(&self, reply: &Reply, redactor: &Redactor) -> Answer {
        match reply.status {
            // "Misdirected request": the account lives in another region.
            421 => Answer::Config(answer::failure(reply, redactor)),
            _ => answer::classify(reply, redactor),
        }
    }

    fn test(&self, endpoint: &Endpoint) -> Outgoing {
        let mut outgoing = endpoint.request(Bytes::new());
        outgoing.method = Method::GET;
        outgoing.url = self.project.clone();
        outgoing
    }

    fn empty_write(&self) -> Option<Part> {
        Some(Part::json(&self.insert, request::body(&[])))
    }

    fn verdict(&self, reply: &Reply, redactor: &Redactor) -> Verdict {
        let not_its_name = "config.projectId is the project's id (a uuid), not its name";
        let region = "EU accounts have their own base url: https://api-eu.braintrust.dev";
        let advice = [
            (
                401,
                "the key is unknown here; EU accounts have their own base url: https://api-eu.braintrust.dev",
            ),
            (403, "the key has no access to this project"),
            (400, not_its_name),
            (404, not_its_name),
            (421, region),
        ];
        let ok_hint =
            "key and project are right, and an insert of no rows was not refused for lack of rights";
        verdict(reply, redactor, ok_hint, &advice)
    }
}

impl Braintrust {
    /// Checks the URL and the headers; opens no connection.
    pub(crate) fn new(config: &BraintrustConfig, clients: &Clients) -> Result<Self, BuildError> {
        let insert = urls::parse("config.baseUrl", &config.insert_url())?;
        let project = urls::parse("config.baseUrl", &config.project_url())?;
        let own = [(header::AUTHORIZATION, headers::bearer("config.apiKey", &config.api_key)?)];
        let endpoint = Endpoint::new(clients, insert.clone(), own, &config.headers, &[])?;
        Ok(JsonVendor::assemble(endpoint, Project { insert, project }))
    }
}
