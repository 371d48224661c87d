//! `otel-collector`: OTLP/HTTP to any receiver.
//!
//! Contract: OTLP specification 1.x ("OTLP/HTTP"), the Collector's `otlphttpexporter` and
//! `confighttp`; sinks-infrastructure.md 1.
//!
//! | | |
//! | --- | --- |
//! | what to enter | the URL of any OTLP/HTTP receiver, and the headers it wants (its credential) |
//! | what arrives | the spans as they were sent, with every attribute of theirs: nothing is translated |
//! | URL | `endpoint`; an empty path gets `/v1/traces`, a path ending in `/v1` gets `/traces`, anything else is used as given |
//! | auth | the user's `headers` |
//! | body | protobuf: the received bytes of whole, unedited requests are concatenated as they are |
//! | compression | none over plain http to this machine or a private network (bytes are cheaper than CPU there), gzip level 1 otherwise. The header `x-tracecast-compression: gzip` or `none` fixes it and is not sent |
//! | encoding | protobuf; after a 415 first without compression, then as JSON, kept until restart. The header `x-tracecast-encoding: json` or `protobuf` fixes it and is not sent |
//! | limits | 512 spans, 4 MiB inflated (a gRPC relay behind the receiver takes no more), 200 ms |
//! | partial success | final: never resent; unreadable 2xx bodies are a full success |
//! | privacy | removes content from attributes, events, links and status messages |
//! | test | an empty request, which the specification calls valid; a 400 that calls it empty passes |

mod request;
#[cfg(test)]
mod tests;

use std::time::Duration;

use tracecast_destination::OtelCollectorConfig;

use crate::family::http::Reply;
use crate::family::otlp_vendor::{OtlpVendor, Vendor};
use crate::family::probe::Verdict;
use crate::family::redact::Redactor;
use crate::{BatchLimits, BuildError, Clients};

/// The adapter.
pub(crate) type OtelCollector = OtlpVendor<Receiver>;

/// Nothing is particular to a receiver that follows the specification.
#[derive(Debug)]
pub(crate) struct Receiver;

impl Vendor for Receiver {
    const LIMITS: BatchLimits = BatchLimits {
        spans_max: 512,
        bytes_max: 4 << 20,
        age_max: Duration::from_millis(200),
        concurrency_max: 16,
    };

    fn verdict(&self, reply: &Reply, redactor: &Redactor) -> Verdict {
        let empty = || {
            let text = String::from_utf8_lossy(&reply.body).to_ascii_lowercase();
            ["empty", "no spans", "no data", "no resource"].iter().any(|words| text.contains(words))
        };
        if reply.status == 400 && empty() {
            return Verdict::ok(
                Some(400),
                "the receiver refuses the empty test request only because it is empty",
            );
        }
        Verdict::reply(reply, redactor, "an empty request was accepted")
    }
}

impl OtelCollector {
    /// Checks the URL and the headers; opens no connection.
    pub(crate) fn new(config: &OtelCollectorConfig, clients: &Clients) -> Result<Self, BuildError> {
        let (endpoint, forms) = request::endpoint(config, clients)?;
        Ok(OtlpVendor::assemble(endpoint, Receiver, forms))
    }
}
