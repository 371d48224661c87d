//! Spans as OTLP JSON, to be read by people.

use tracecast_otlp::write::Edit;
use tracecast_otlp::{SpanSet, Traces, json};

/// `{"resourceSpans": [...]}` of all spans.
pub(crate) fn otlp_text(traces: &Traces, edit: Option<&dyn Edit>) -> Vec<u8> {
    let mut text = b"{\"resourceSpans\":[".to_vec();
    json::encode(traces, &SpanSet::all(traces.len() as u32), edit, &mut text);
    text.extend_from_slice(b"]}");
    text
}
