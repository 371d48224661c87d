//! `langfuse`: OTLP with Langfuse's own attributes.
//!
//! Contract: Langfuse server `web/src/pages/api/public/otel/v1/traces` and
//! `packages/shared/src/server/otel` (`OtelIngestionProcessor`, `ObservationTypeMapper`);
//! sinks-llm-platforms.md 2, 3, 11.
//!
//! | | |
//! | --- | --- |
//! | URL | `{baseUrl}/api/public/otel/v1/traces` |
//! | auth | `Authorization: Basic base64(publicKey:secretKey)` |
//! | headers | `x-langfuse-ingestion-version: 4` (the direct write path), `x-langfuse-public-key`, `-sdk-name`, `-sdk-version` |
//! | body | protobuf, gzip (the only coding its server decodes) |
//! | dialect | see `dialect.rs`: usage and cost as Langfuse counts them, input and output, trace fields on every span |
//! | limits | 200 spans, 4.5 MB of the documented 5 MB, 200 ms |
//! | 400 | one bad span refuses the whole body: halve it |
//! | 207 | the legacy answer with per-event errors: retryable ones win, because a resent span overwrites itself |
//! | identity | (trace id, span id): resending overwrites |
//! | test | an empty JSON export: passes auth, rate limit and suspension checks, stores nothing |

mod dialect;
mod request;
mod response;
#[cfg(test)]
mod tests;

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tracecast_destination::LangfuseConfig;

use crate::family::endpoint::Endpoint;
use crate::family::http::{OTLP_BODY_BYTES_MAX, Reply};
use crate::family::{offload, probe};
use crate::{Adapter, Batch, BatchLimits, BuildError, Clients, Preview, Sent, TestReport};

const LIMITS: BatchLimits = BatchLimits {
    spans_max: 200,
    bytes_max: 4_500_000,
    age_max: Duration::from_millis(200),
    concurrency_max: 8,
};

/// The adapter.
#[derive(Debug)]
pub struct Langfuse {
    endpoint: Endpoint,
}

impl Langfuse {
    /// Checks the URL and the headers; opens no connection.
    pub fn new(config: &LangfuseConfig, clients: &Clients) -> Result<Self, BuildError> {
        Ok(Langfuse { endpoint: request::endpoint(config, clients)? })
    }

    async fn send_once(&self, batch: &Batch) -> Sent {
        let body = offload::encode(batch, request::packed).await;
        let outgoing = |bytes| request::outgoing(&self.endpoint, bytes);
        let answer = |reply: &Reply| response::answer(batch, reply, &self.endpoint.redactor);
        self.endpoint.deliver(batch, body, OTLP_BODY_BYTES_MAX, outgoing, answer).await
    }

    async fn probe(&self) -> probe::Verdict {
        self.endpoint.probe(request::test(&self.endpoint), response::verdict).await
    }
}

impl Adapter for Langfuse {
    fn limits(&self) -> BatchLimits {
        LIMITS
    }

    fn send<'a>(&'a self, batch: &'a Batch) -> BoxFuture<'a, Sent> {
        Box::pin(self.send_once(batch))
    }

    fn test<'a>(&'a self) -> BoxFuture<'a, TestReport> {
        Box::pin(probe::run(self.endpoint.shown_url(), self.probe()))
    }

    fn preview(&self, batch: &Batch) -> Vec<Preview> {
        let body = request::body(batch).bytes;
        vec![request::outgoing(&self.endpoint, Bytes::new()).preview(body)]
    }
}
