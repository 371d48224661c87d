//! Stored OTLP bytes, indexed on first need and shared.

use std::fmt;
use std::sync::OnceLock;

use bytes::Bytes;

use crate::check::MAX_DEPTH;
use crate::index::{DecodeError, Limits, Traces};
use crate::span_set::SpanSet;
use crate::write;

/// Stored OTLP bytes, indexed on first need and shared.
pub struct Payload {
    bytes: Bytes,
    spans: u32,
    traces: OnceLock<Result<Traces, DecodeError>>,
}

impl Payload {
    /// Bytes that were accepted before and hold `spans` spans.
    pub fn new(bytes: Bytes, spans: u32) -> Payload {
        Payload { bytes, spans, traces: OnceLock::new() }
    }

    /// From a request that is already indexed. Rejected spans do not get in.
    pub fn from_traces(traces: Traces) -> Payload {
        let spans = traces.len() as u32;
        if traces.is_whole() {
            let bytes = traces.body().clone();
            return Payload { bytes, spans, traces: OnceLock::from(Ok(traces)) };
        }
        let mut good = Vec::new();
        write::select(&traces, &SpanSet::all(spans), None, &mut good);
        Payload::new(good.into(), spans)
    }

    /// An `ExportTraceServiceRequest`.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Number of spans.
    pub fn spans(&self) -> u32 {
        self.spans
    }

    /// The indexed spans; an error says that the stored bytes are damaged.
    pub fn traces(&self) -> Result<&Traces, DecodeError> {
        let traces = self.traces.get_or_init(|| {
            let traces = Traces::index(self.bytes.clone(), &stored_limits())?;
            if traces.len() == self.spans as usize && traces.is_whole() {
                return Ok(traces);
            }
            let reason = format!("the payload holds {} good spans, expected {}", traces.len(), self.spans);
            Err(DecodeError { path: String::new(), reason })
        });
        traces.as_ref().map_err(Clone::clone)
    }
}

impl fmt::Debug for Payload {
    /// Counts only: the bytes may be private.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Payload")
            .field("bytes", &self.bytes.len())
            .field("spans", &self.spans)
            .finish_non_exhaustive()
    }
}

/// What was accepted once is not judged by today's limits.
fn stored_limits() -> Limits {
    Limits {
        depth: MAX_DEPTH,
        attributes_per_span: u32::MAX,
        span_bytes: u32::MAX,
        spans_per_request: u32::MAX,
    }
}
