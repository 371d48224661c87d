//! `langsmith`: traces to LangSmith's OTLP endpoint.
//!
//! Contract: docs.langchain.com/langsmith "Trace with OpenTelemetry" (attribute table), the `langsmith` SDK 0.14
//! (headers, retries, `usage_metadata`); sinks-llm-platforms.md 4a.
//!
//! | | |
//! | --- | --- |
//! | what to enter | API key, project; the workspace id with a key of the whole organization; the API base URL of the region or of one's own installation |
//! | URL | `{endpoint}/otel/v1/traces` |
//! | auth | `x-api-key`, `Langsmith-Project`, `X-Tenant-Id` |
//! | body | protobuf, gzip |
//! | what arrives | runs of type `llm`, `chain`, `tool`, ...; messages and choices; tokens, cached tokens and cost as `usage_metadata` of the outputs; session, user and custom keys as metadata; tags |
//! | limits | 100 spans, 5 MB of the 20 MB allowed, 200 ms |
//! | 403 | mostly a key of the organization without workspace id |
//! | privacy | prompts, answers and the messages of errors are not sent |
//! | test | an empty request: proves the key and the right to write |

mod dialect;
#[cfg(test)]
mod tests;

use std::time::Duration;

use http::{HeaderMap, HeaderName, Method};
use tracecast_destination::{ExposeSecret, LangsmithConfig};
use tracecast_otlp::write::Edit;

use self::dialect::Dialect;
use crate::family::endpoint::Endpoint;
use crate::family::http::Reply;
use crate::family::otlp_vendor::{Form, OtlpVendor, Vendor, answer, verdict};
use crate::family::probe::Verdict;
use crate::family::redact::Redactor;
use crate::family::{headers, urls};
use crate::{Answer, Batch, BatchLimits, BuildError, Clients};

const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const PROJECT: HeaderName = HeaderName::from_static("langsmith-project");
const TENANT: HeaderName = HeaderName::from_static("x-tenant-id");

/// The adapter.
pub(crate) type Langsmith = OtlpVendor<Project>;

/// A tracing project.
#[derive(Debug)]
pub(crate) struct Project;

impl Vendor for Project {
    const LIMITS: BatchLimits = BatchLimits {
        spans_max: 100,
        bytes_max: 5_000_000,
        age_max: Duration::from_millis(200),
        concurrency_max: 8,
    };

    fn edit(&self) -> Option<&dyn Edit> {
        Some(&Dialect)
    }

    fn answer(&self, batch: &Batch, reply: &Reply, redactor: &Redactor) -> Answer {
        match reply.status {
            // The runs are there already.
            409 => Answer::Delivered,
            _ => answer(batch, reply, redactor),
        }
    }

    fn verdict(&self, reply: &Reply, redactor: &Redactor) -> Verdict {
        let advice = [
            (
                401,
                "the key is not of this region or installation (us, eu, apac and aws have endpoints of their own)",
            ),
            (403, "a key of the whole organization needs config.workspaceId"),
            (404, "the endpoint of an own installation ends in /api/v1"),
        ];
        verdict(reply, redactor, "the key may write; nothing was stored", &advice)
    }
}

impl Langsmith {
    /// Checks the URL and the headers; opens no connection.
    pub(crate) fn new(config: &LangsmithConfig, clients: &Clients) -> Result<Self, BuildError> {
        let url = urls::parse("config.endpoint", &config.traces_url())?;
        let mut own = HeaderMap::new();
        own.insert(API_KEY, headers::secret("config.apiKey", config.api_key.expose_secret())?);
        own.insert(PROJECT, headers::text("config.project", &config.project)?);
        if let Some(workspace) = &config.workspace_id {
            own.insert(TENANT, headers::text("config.workspaceId", workspace)?);
        }
        let secrets = vec![config.api_key.clone()];
        let endpoint = Endpoint::new(clients, Method::POST, url, own, &config.headers, secrets)?;
        Ok(OtlpVendor::assemble(endpoint, Project, vec![Form::PACKED]))
    }
}
