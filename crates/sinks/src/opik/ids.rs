//! UUIDv7 out of what every retry knows again.
//!
//! Their time is the day of the trace's start: the start itself is not the same in every request that brings spans
//! of the trace, and the start of a span's parent is known to nobody here.

use tracecast_otlp::{SpanId, TraceId};
use uuid::{Builder, Uuid};

const DAY_MS: u64 = 24 * 3600 * 1000;

/// A trace id that is a UUIDv7 already is taken as it is.
pub(super) fn of_trace(trace_id: TraceId, trace_start_unix_nano: u64) -> Uuid {
    let given = Uuid::from_bytes(trace_id);
    if given.get_version_num() == 7 {
        return given;
    }
    let [.., a, b, c, d, e, f, g, h, i, j] = trace_id;
    made(trace_start_unix_nano, [a, b, c, d, e, f, g, h, i, j])
}

pub(super) fn of_span(trace_id: TraceId, span_id: SpanId, trace_start_unix_nano: u64) -> Uuid {
    let [a, b, c, d, e, f, g, h] = span_id;
    let [.., y, z] = trace_id;
    made(trace_start_unix_nano, [y, z, a, b, c, d, e, f, g, h])
}

fn made(trace_start_unix_nano: u64, rest: [u8; 10]) -> Uuid {
    let millis = trace_start_unix_nano / 1_000_000;
    Builder::from_unix_timestamp_millis(millis - millis % DAY_MS, &rest).into_uuid()
}
