//! UUIDv7 out of what every retry knows again.
//!
//! Opik refuses new ids whose time is more than a day away from now, and takes older ones where they are referred to
//! (its backend: `UuidV7TimestampValidator`, `IdGenerator`). The start of a span's parent is known to nobody here, and
//! that of the trace is not the same in every request that brings spans of it. So the time is a mark: each trace has
//! one every twelve hours, and counts from the last one before its start. Where the marks lie depends on the trace id,
//! so that no time of the day is one at which every running trace is cut.

use tracecast_otlp::{SpanId, TraceId};
use uuid::{Builder, Uuid};

const BETWEEN_MARKS_MS: u64 = 12 * 3600 * 1000;

/// A trace id that is a UUIDv7 already is taken as it is.
pub(super) fn of_trace(trace_id: TraceId, trace_start_unix_nano: u64) -> Uuid {
    let given = Uuid::from_bytes(trace_id);
    if given.get_version_num() == 7 {
        return given;
    }
    let [.., a, b, c, d, e, f, g, h, i, j] = trace_id;
    made(trace_id, trace_start_unix_nano, [a, b, c, d, e, f, g, h, i, j])
}

pub(super) fn of_span(trace_id: TraceId, span_id: SpanId, trace_start_unix_nano: u64) -> Uuid {
    let [a, b, c, d, e, f, g, h] = span_id;
    let [.., y, z] = trace_id;
    made(trace_id, trace_start_unix_nano, [y, z, a, b, c, d, e, f, g, h])
}

fn made(trace_id: TraceId, trace_start_unix_nano: u64, rest: [u8; 10]) -> Uuid {
    let [a, b, c, d, e, f, g, h, ..] = trace_id;
    let shift = u64::from_be_bytes([a, b, c, d, e, f, g, h]) % BETWEEN_MARKS_MS;
    let millis = trace_start_unix_nano / 1_000_000;
    let since_mark = (millis + shift) % BETWEEN_MARKS_MS;
    Builder::from_unix_timestamp_millis(millis.saturating_sub(since_mark), &rest).into_uuid()
}
