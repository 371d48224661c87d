//! `otel-collector`: OTLP/HTTP to any receiver.
//!
//! Contract: OTLP specification 1.x ("OTLP/HTTP"), the Collector's `otlphttpexporter` and
//! `confighttp`; sinks-infrastructure.md 1.
//!
//! | | |
//! | --- | --- |
//! | URL | `endpoint`; an empty path gets `/v1/traces`, a path ending in `/v1` gets `/traces`, anything else is used as given |
//! | auth | the user's `headers` |
//! | body | protobuf: the received bytes of whole, unedited requests are concatenated as they are |
//! | compression | none over plain http to this machine or a private network (bytes are cheaper than CPU there), gzip level 1 otherwise |
//! | encoding | protobuf; after a 415 first without compression, then as JSON, kept until restart. The header `x-tracecast-encoding: json` or `protobuf` fixes it and is not sent |
//! | limits | 512 spans, 4 MiB inflated (a gRPC relay behind the receiver takes no more), 200 ms |
//! | partial success | final: never resent; unreadable 2xx bodies are a full success |
//! | test | an empty request, which the specification calls valid; a 400 that calls it empty passes |

mod request;
mod response;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tracecast_destination::OtelCollectorConfig;

use self::request::{Form, Forms};
use crate::family::endpoint::Endpoint;
use crate::family::http::{BODY_BYTES_MAX, OTLP_BODY_BYTES_MAX, Reply};
use crate::family::{offload, probe};
use crate::{Adapter, Batch, BatchLimits, BuildError, Clients, Preview, Sent, TestReport};

const LIMITS: BatchLimits = BatchLimits {
    spans_max: 512,
    bytes_max: 4 << 20,
    age_max: Duration::from_millis(200),
    concurrency_max: 16,
};

/// The adapter.
#[derive(Debug)]
pub struct OtelCollector {
    endpoint: Endpoint,
    forms: Forms,
    /// Position in `forms`; rises when the receiver answers 415.
    form: AtomicU8,
}

impl OtelCollector {
    /// Checks the URL and the headers; opens no connection.
    pub fn new(config: &OtelCollectorConfig, clients: &Clients) -> Result<Self, BuildError> {
        let (endpoint, forms) = request::endpoint(config, clients)?;
        Ok(OtelCollector { endpoint, forms, form: AtomicU8::new(0) })
    }

    fn form(&self) -> Form {
        self.forms.at(self.form.load(Ordering::Relaxed))
    }

    async fn send_once(&self, batch: &Batch) -> Sent {
        let position = self.form.load(Ordering::Relaxed);
        let form = self.forms.at(position);
        let body = if request::is_copy(form, batch) {
            request::body(form, batch)
        } else {
            offload::encode(batch, move |batch| request::packed(form, batch)).await
        };
        let outgoing = |bytes| request::outgoing(&self.endpoint, form, bytes);
        let answer = |reply: &Reply| {
            if reply.status == 415 && self.forms.has(position + 1) {
                // Another sender may have moved on already; then this changes nothing.
                let _ =
                    self.form.compare_exchange(position, position + 1, Ordering::Relaxed, Ordering::Relaxed);
                return response::again(reply, &self.endpoint.redactor);
            }
            response::answer(batch, reply, &self.endpoint.redactor)
        };
        self.endpoint.deliver(batch, body, OTLP_BODY_BYTES_MAX, outgoing, answer).await
    }

    async fn probe(&self) -> probe::Verdict {
        loop {
            let position = self.form.load(Ordering::Relaxed);
            let form = self.forms.at(position);
            let outgoing = request::outgoing(&self.endpoint, form, form.empty());
            match self.endpoint.call(outgoing, BODY_BYTES_MAX).await {
                Ok(reply) if reply.status == 415 && self.forms.has(position + 1) => {
                    self.form.store(position + 1, Ordering::Relaxed);
                }
                Ok(reply) => return response::verdict(&reply, &self.endpoint.redactor),
                Err(error) => return probe::Verdict::transport(&error),
            }
        }
    }
}

impl Adapter for OtelCollector {
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
        let form = self.form();
        let body = request::body(form, batch).bytes;
        vec![request::outgoing(&self.endpoint, form, Bytes::new()).preview(body)]
    }
}
