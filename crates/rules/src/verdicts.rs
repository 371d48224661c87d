//! What the filters of all destinations say about the spans of a request.

use crate::family::Family;
use crate::fields::Fields;
use crate::filter::Filter;
use crate::memory::Recall;
use crate::trace_index::TraceIndex;
use tracecast_genai::Generation;
use tracecast_otlp::Traces;

/// A destination with filter rules that some span of the request reaches.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Filtered<'a> {
    pub(crate) slot: u32,
    pub(crate) filter: &'a Filter,
    /// Per trace whether sampling keeps it; `None` = all.
    pub(crate) kept: Option<&'a [bool]>,
}

impl Filtered<'_> {
    fn reaches(&self, trace: usize) -> bool {
        self.kept.is_none_or(|kept| kept[trace])
    }
}

/// One row per span, one column per filtered destination. A verdict on a span that sampling keeps from
/// the destination means nothing.
#[derive(Debug)]
pub(crate) struct Verdicts {
    columns: usize,
    rows: Vec<bool>,
}

impl Verdicts {
    pub(crate) fn new(
        traces: &Traces,
        index: &TraceIndex,
        api_key_name: Option<&str>,
        filtered: &[Filtered<'_>],
        recall: &mut Recall<'_>,
    ) -> Verdicts {
        let columns = filtered.len();
        let mut rows = vec![false; traces.len() * columns];
        let mut generations = vec![false; traces.len()];
        let mut of_traces: Vec<Option<bool>> = vec![None; index.ids().len() * columns];

        for (i, span) in traces.spans().enumerate() {
            let generation = Generation::new(span);
            if !generation.is_generation() {
                continue;
            }
            generations[i] = true;
            let trace = index.trace_of(i) as usize;
            let fields = Fields::new(generation, api_key_name);
            for (column, destination) in filtered.iter().enumerate() {
                if destination.reaches(trace) {
                    let passed = destination.filter.passes(&fields);
                    rows[i * columns + column] = passed;
                    let of_trace = &mut of_traces[trace * columns + column];
                    *of_trace = Some(passed || of_trace.unwrap_or(false));
                }
            }
        }

        let slots: Vec<u32> = filtered.iter().map(|destination| destination.slot).collect();
        recall.verdicts(index.ids(), &slots, &mut of_traces);

        let only_generations = !generations.contains(&false);
        if only_generations {
            return Verdicts { columns, rows };
        }
        let found = if generations.contains(&true) {
            Family::new(traces, index).follow_nearest(&generations, &mut rows, columns)
        } else {
            generations
        };
        for (i, span) in traces.spans().enumerate() {
            if found[i] {
                continue;
            }
            let trace = index.trace_of(i) as usize;
            let fields = Fields::new(Generation::new(span), api_key_name);
            for (column, destination) in filtered.iter().enumerate() {
                if destination.reaches(trace) {
                    rows[i * columns + column] = of_traces[trace * columns + column]
                        .unwrap_or_else(|| destination.filter.passes(&fields));
                }
            }
        }
        Verdicts { columns, rows }
    }

    /// `column`: position of the destination among the filtered ones.
    pub(crate) fn passes(&self, span: usize, column: usize) -> bool {
        self.rows[span * self.columns + column]
    }
}
