//! `langsmith`: runs by LangSmith's own multipart route, or traces to its OTLP endpoint.
//!
//! Contract: the `langsmith` SDK 0.14 (`_internal/_operations`: parts; `run_trees`: `dotted_order`; headers, retries,
//! `UsageMetadata`), docs.langchain.com/langsmith "Trace with OpenTelemetry" (attribute table);
//! sinks-llm-platforms.md 4.
//!
//! | | |
//! | --- | --- |
//! | what to enter | API key, project; the workspace id with a key of the whole organization; the API base URL of the region or of one's own installation |
//! | URL | `{endpoint}/runs/multipart`; after a 404 (older servers) `{endpoint}/runs/batch`, kept until restart. `{endpoint}/otel/v1/traces` |
//! | which | runs keep cost, cached tokens and the first token, but name their whole way up to the root. So requests that hold whole traces by construction (OpenRouter's, and those of `/v1/events`) go as runs, and spans of SDKs that send a trace in pieces by OTLP, where LangSmith joins them. The header `x-tracecast-encoding: multipart` or `otlp` fixes it and is not sent; as runs a piece without its root is then a trace of its own |
//! | auth | `x-api-key`, `X-Tenant-Id`; `Langsmith-Project` by OTLP, `session_name` in runs |
//! | body | `multipart/form-data` with `post.{id}`, `post.{id}.inputs`, `.outputs`, `.extra`, `.events`, `.error`, uncompressed (zstd is for servers that say so in `/info`); protobuf, gzip |
//! | what arrives | runs of type `llm`, `chain`, `tool`, ...; messages and choices; tokens, cached tokens and cost as `usage_metadata` of the outputs; session, user and custom keys as metadata; tags |
//! | limits | 100 spans, 5 MB of the 20 MiB allowed, 200 ms; a larger run is cut and marked |
//! | identity | run ids are UUIDv5 of trace and span id: what is there already answers 409, a success |
//! | 403 | mostly a key of the organization without workspace id |
//! | privacy | prompts, answers and the messages of errors are not sent |
//! | test | an empty OTLP request: proves the key and the right to write |

mod dialect;
mod runs;
#[cfg(test)]
mod tests;

use std::time::Duration;

use futures_util::future::BoxFuture;
use http::{HeaderName, HeaderValue};
use tracecast_destination::{ExposeSecret, Headers, LangsmithConfig};
use tracecast_otlp::SpanView;
use tracecast_otlp::write::Edit;
use url::Url;

use self::dialect::Dialect;
use crate::family::endpoint::Endpoint;
use crate::family::http::{Outgoing, Reply};
use crate::family::json_vendor::{self, JsonVendor, Part};
use crate::family::otlp_vendor::{Form, OtlpVendor, Vendor, answer};
use crate::family::probe::{Verdict, verdict};
use crate::family::redact::Redactor;
use crate::family::rows::Row;
use crate::family::{answer as answers, headers, urls};
use crate::{
    Adapter, Answer, Batch, BatchLimits, BuildError, Clients, Item, ItemAnswer, Preview, Sent, TestReport,
};

const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const PROJECT: HeaderName = HeaderName::from_static("langsmith-project");
const TENANT: HeaderName = HeaderName::from_static("x-tenant-id");

/// Chooses how spans travel; consumed here, never sent.
const ENCODING_HEADER: &str = "x-tracecast-encoding";
/// Whose requests hold whole traces.
const WHOLE_SCOPES: [&str; 2] = ["openrouter", "tracecast"];
/// Of a body, unless the installation says otherwise.
const BYTES_MAX: usize = 20 << 20;
const MULTIPART: u8 = 0;
const BATCH: u8 = 1;

/// The adapter.
#[derive(Debug)]
pub(crate) struct Langsmith {
    runs: JsonVendor<Runs>,
    otlp: OtlpVendor<Project>,
    /// `None`: as the spans need it.
    always_runs: Option<bool>,
}

/// The same project by its own routes.
#[derive(Debug)]
pub(crate) struct Runs {
    project: String,
    multipart: Url,
    batch: Url,
}

impl json_vendor::Vendor for Runs {
    const LIMITS: BatchLimits = Project::LIMITS;
    const GZIP: bool = false;

    fn parts(&self, rows: &[Row<'_>], route: u8) -> Vec<Part> {
        vec![match route {
            MULTIPART => {
                let content_type = format!("multipart/form-data; boundary={}", runs::BOUNDARY);
                let part = Part::json(&self.multipart, runs::multipart(&self.project, rows));
                let kind = HeaderValue::try_from(content_type);
                let plain = HeaderValue::from_static("multipart/form-data");
                Part { content_type: kind.unwrap_or(plain), ..part }.at_most(BYTES_MAX)
            }
            _ => Part::json(&self.batch, runs::batch(&self.project, rows)).at_most(BYTES_MAX),
        }]
    }

    fn other_route(&self, route: u8, reply: &Reply) -> Option<u8> {
        (route == MULTIPART && reply.status == 404).then_some(BATCH)
    }

    fn answer(&self, reply: &Reply, redactor: &Redactor) -> Answer {
        match reply.status {
            409 => Answer::Delivered,
            _ => answers::classify(reply, redactor),
        }
    }

    fn test(&self, endpoint: &Endpoint) -> Outgoing {
        endpoint.request(bytes::Bytes::new())
    }

    fn verdict(&self, reply: &Reply, redactor: &Redactor) -> Verdict {
        Project.verdict(reply, redactor)
    }
}

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
        let always_runs = encoding(&config.headers)?;
        let mut user = config.headers.clone();
        user.retain(|(name, _)| !name.eq_ignore_ascii_case(ENCODING_HEADER));
        let mut own = vec![(API_KEY, headers::secret("config.apiKey", config.api_key.expose_secret())?)];
        if let Some(workspace) = &config.workspace_id {
            own.push((TENANT, headers::text("config.workspaceId", workspace)?));
        }
        let multipart = urls::parse("config.endpoint", &config.runs_url("/runs/multipart"))?;
        let batch = urls::parse("config.endpoint", &config.runs_url("/runs/batch"))?;
        let endpoint = Endpoint::new(clients, multipart.clone(), own.clone(), &user, &[])?;
        let runs = JsonVendor::assemble(endpoint, Runs { project: config.project.clone(), multipart, batch });
        let url = urls::parse("config.endpoint", &config.traces_url())?;
        own.push((PROJECT, headers::text("config.project", &config.project)?));
        let endpoint = Endpoint::new(clients, url, own, &user, &[])?;
        let otlp = OtlpVendor::assemble(endpoint, Project, vec![Form::PACKED]);
        Ok(Langsmith { runs, otlp, always_runs })
    }

    fn goes_as_runs(&self, item: &Item) -> bool {
        self.always_runs.unwrap_or_else(|| is_whole(item))
    }

    /// The batch by the two ways, each with the positions its items had.
    fn split(&self, batch: &Batch) -> [(Vec<usize>, Batch); 2] {
        let as_runs: Vec<bool> = batch.items.iter().map(|item| self.goes_as_runs(item)).collect();
        [true, false].map(|way| {
            let of_way = as_runs.iter().enumerate().filter(|(_, as_runs)| **as_runs == way);
            let positions: Vec<usize> = of_way.map(|(i, _)| i).collect();
            let items = positions.iter().filter_map(|i| batch.items.get(*i).cloned()).collect();
            // Without copying the items.
            let Batch { token, items: _, attempt, first_seen_unix_nano, via, replayed } = batch;
            let (token, via) = (token.clone(), via.clone());
            let (attempt, first_seen_unix_nano, replayed) = (*attempt, *first_seen_unix_nano, *replayed);
            (positions, Batch { token, items, attempt, first_seen_unix_nano, via, replayed })
        })
    }

    async fn send_once(&self, batch: &Batch) -> Sent {
        let [(runs_at, runs), (otlp_at, otlp)] = self.split(batch);
        if otlp.items.is_empty() {
            return self.runs.send(batch).await;
        }
        if runs.items.is_empty() {
            return self.otlp.send(batch).await;
        }
        // If the second part fails the first is sent again with it, under the same ids.
        let first = self.runs.send(&runs).await;
        if !matches!(first.answer, Answer::Delivered | Answer::PerItem(_)) {
            return first;
        }
        let second = self.otlp.send(&otlp).await;
        let bytes = first.bytes + second.bytes;
        let per_item = |answer: &Answer| matches!(answer, Answer::PerItem(_));
        let settled = matches!(second.answer, Answer::Delivered | Answer::PerItem(_));
        let answer = if settled && (per_item(&first.answer) || per_item(&second.answer)) {
            let mut items = vec![ItemAnswer::Delivered; batch.items.len()];
            for (positions, answer) in [(runs_at, first.answer), (otlp_at, second.answer)] {
                let Answer::PerItem(answers) = answer else { continue };
                for (at, answer) in positions.into_iter().zip(answers) {
                    if let Some(item) = items.get_mut(at) {
                        *item = answer;
                    }
                }
            }
            Answer::PerItem(items)
        } else {
            second.answer
        };
        Sent { answer, bytes }
    }
}

/// What the header chooses; `true` for runs.
fn encoding(user: &Headers) -> Result<Option<bool>, BuildError> {
    let Some((_, value)) = user.iter().find(|(name, _)| name.eq_ignore_ascii_case(ENCODING_HEADER)) else {
        return Ok(None);
    };
    match value.expose_secret().trim().to_ascii_lowercase().as_str() {
        "multipart" => Ok(Some(true)),
        "otlp" => Ok(Some(false)),
        _ => Err(BuildError::Invalid(format!("config.headers.{ENCODING_HEADER} must be multipart or otlp"))),
    }
}

/// Every selected span has its parent beside it, up to a root, and comes from where traces are not sent in pieces.
fn is_whole(item: &Item) -> bool {
    let Ok(traces) = item.payload.traces() else { return false };
    let selected: Vec<SpanView<'_>> =
        item.spans.iter().filter(|i| (*i as usize) < traces.len()).map(|i| traces.span(i as usize)).collect();
    selected.iter().all(|span| {
        let has_parent = span.parent_span_id().is_none_or(|parent| {
            selected.iter().any(|other| other.trace_id() == span.trace_id() && other.span_id() == parent)
        });
        has_parent && WHOLE_SCOPES.contains(&span.scope().name())
    })
}

impl Adapter for Langsmith {
    fn limits(&self) -> BatchLimits {
        Project::LIMITS
    }

    fn send<'a>(&'a self, batch: &'a Batch) -> BoxFuture<'a, Sent> {
        Box::pin(self.send_once(batch))
    }

    fn test<'a>(&'a self) -> BoxFuture<'a, TestReport> {
        self.otlp.test()
    }

    fn preview(&self, batch: &Batch) -> Vec<Preview> {
        let [(_, runs), (_, otlp)] = self.split(batch);
        let mut previews = Vec::new();
        if !runs.items.is_empty() {
            previews.extend(self.runs.preview(&runs));
        }
        if !otlp.items.is_empty() || runs.items.is_empty() {
            previews.extend(self.otlp.preview(&otlp));
        }
        previews
    }
}
