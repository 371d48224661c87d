//! OTLP/JSON: a lenient reader to protobuf bytes and a compact writer straight from the views.
use super::*;
use write::Edit;

/// Transcodes OTLP/JSON to protobuf bytes. A single bad span is rejected with its path, the rest goes on.
pub fn decode(text: &[u8], limits: &Limits) -> Result<(Bytes, Vec<Rejected>), DecodeError> { unimplemented!() }

/// Appends the comma-separated elements of `resourceSpans` for the selected spans (no brackets), so
/// that several requests can share one envelope.
pub fn encode(traces: &Traces, spans: &SpanSet, edit: Option<&dyn Edit>, out: &mut Vec<u8>) { unimplemented!() }
/// Appends an AnyValue as plain JSON (string, number, array, object; bytes as base64; NaN as string).
pub fn plain_value(value: &Value<'_>, out: &mut Vec<u8>) { unimplemented!() }
