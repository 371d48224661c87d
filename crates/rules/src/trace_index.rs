//! Which trace each span of a request belongs to.

use std::collections::HashMap;
use tracecast_otlp::{TraceId, Traces};

/// Up to here a scan beats a map.
const SCAN_LIMIT: usize = 16;

/// The distinct trace ids of a request, in order of appearance, and the number of each span's trace.
#[derive(Debug)]
pub struct TraceIndex {
    ids: Vec<TraceId>,
    of_span: Vec<u32>,
}

impl TraceIndex {
    /// One look at each span.
    pub fn new(traces: &Traces) -> TraceIndex {
        let mut ids: Vec<TraceId> = Vec::new();
        let mut of_span: Vec<u32> = Vec::with_capacity(traces.len());
        let mut numbers: HashMap<TraceId, u32> = HashMap::new();
        let mut last = None;
        for span in traces.spans() {
            let id = span.trace_id();
            let number = match last {
                // Spans of a trace mostly stand together.
                Some((last_id, number)) if last_id == id => number,
                _ => {
                    let next = ids.len() as u32;
                    let number = if ids.len() <= SCAN_LIMIT {
                        ids.iter().position(|known| *known == id).map_or(next, |at| at as u32)
                    } else {
                        if numbers.is_empty() {
                            numbers.extend(ids.iter().copied().zip(0..));
                        }
                        *numbers.entry(id).or_insert(next)
                    };
                    if number == next {
                        ids.push(id);
                    }
                    number
                }
            };
            last = Some((id, number));
            of_span.push(number);
        }
        TraceIndex { ids, of_span }
    }

    /// The trace ids, each once.
    pub fn ids(&self) -> &[TraceId] {
        &self.ids
    }

    /// The number of the trace of span `i` of the request.
    pub(crate) fn trace_of(&self, i: usize) -> u32 {
        self.of_span[i]
    }

    /// The same of all spans, in their order.
    pub fn into_numbers(self) -> Vec<u32> {
        self.of_span
    }
}
