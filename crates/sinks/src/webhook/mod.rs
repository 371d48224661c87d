//! `webhook`: OTLP JSON to any HTTP endpoint.
//!
//! Contract: OpenRouter's webhook page (broadcast-contract.md 5.3, 7.4, 8), Standard Webhooks for
//! id, signature and 410 (delivery-guarantees.md 14).
//!
//! | | |
//! | --- | --- |
//! | what to enter | the URL, POST or PUT, headers that say who calls; a `signingSecret` if the receiver checks signatures |
//! | what arrives | OTLP/JSON: the spans as they were sent, with every attribute of theirs |
//! | URL, method | `url` as entered; POST or PUT |
//! | auth | the user's `headers`, which may also set another `content-type` |
//! | body | `{"resourceSpans":[...]}`, uncompressed: receivers that sign or log see what was sent |
//! | ids | `webhook-id` and `idempotency-key` are the batch's token, the same on every retry; `x-tracecast-attempt` counts from 1, `x-tracecast-first-seen` is when the gateway received the oldest of it (RFC 3339), the same on retries and replays |
//! | signature | with `signingSecret`: `webhook-timestamp` (of the attempt) and `webhook-signature`, `v1,` and the base64 of HMAC-SHA256 over `id.timestamp.body`; a replaced secret signs beside the new one for 24 h. Tests are signed too |
//! | limits | 100 spans, 1 MiB, 200 ms |
//! | success | 2xx only; redirects are not followed; 410 means the receiver wants nothing more |
//! | privacy | prompts, answers and the messages of errors are not sent |
//! | test | an empty body with `X-Test-Connection: true`; 2xx or 400 pass |

mod request;
mod response;
mod signature;
#[cfg(test)]
mod tests;

use std::time::Duration;

use futures_util::future::BoxFuture;
use tracecast_destination::WebhookConfig;

use self::signature::Signer;
use crate::family::endpoint::Endpoint;
use crate::family::http::{BODY_BYTES_MAX, Reply};
use crate::family::pieces::Pieces;
use crate::family::{offload, probe};
use crate::{Adapter, Batch, BatchLimits, BuildError, Clients, Preview, Sent, TestReport};

const LIMITS: BatchLimits = BatchLimits {
    spans_max: 100,
    bytes_max: 1 << 20,
    age_max: Duration::from_millis(200),
    concurrency_max: 8,
};

/// The adapter.
#[derive(Debug)]
pub struct Webhook {
    endpoint: Endpoint,
    signer: Signer,
}

impl Webhook {
    /// Checks the URL and the headers; opens no connection.
    pub fn new(config: &WebhookConfig, clients: &Clients) -> Result<Self, BuildError> {
        Ok(Webhook { endpoint: request::endpoint(config, clients)?, signer: Signer::new(config)? })
    }

    async fn send_once(&self, batch: &Batch) -> Sent {
        let body = offload::encode(batch, request::body).await;
        let outgoing =
            |body: Pieces| request::outgoing(&self.endpoint, &self.signer, batch, body.into_bytes());
        let answer = |reply: &Reply| response::answer(reply, &self.endpoint.redactor);
        self.endpoint.deliver(batch, body, BODY_BYTES_MAX, outgoing, answer).await
    }

    async fn probe(&self) -> probe::Verdict {
        self.endpoint.probe(request::test(&self.endpoint, &self.signer), response::verdict).await
    }
}

impl Adapter for Webhook {
    fn limits(&self) -> BatchLimits {
        LIMITS
    }

    fn keeps_batches(&self) -> bool {
        true
    }

    fn send<'a>(&'a self, batch: &'a Batch) -> BoxFuture<'a, Sent> {
        Box::pin(self.send_once(batch))
    }

    fn test<'a>(&'a self) -> BoxFuture<'a, TestReport> {
        Box::pin(probe::run(self.endpoint.shown_url(), self.probe()))
    }

    fn preview(&self, batch: &Batch) -> Vec<Preview> {
        let body = request::body(batch).bytes;
        vec![request::outgoing(&self.endpoint, &self.signer, batch, body.clone()).preview(body)]
    }
}
