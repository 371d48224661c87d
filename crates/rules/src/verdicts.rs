//! What the filters of all destinations say about the spans of a request.

use crate::family::Family;
use crate::fields::Fields;
use crate::filter::Filter;
use crate::memory::Recall;
use crate::needs::{Asked, Needs, Prints};
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
        // Side by side: most of them decide, and the filters themselves are not touched.
        let needs: Vec<Needs> = filtered.iter().map(|destination| destination.filter.needs).collect();
        let asked = Asked::by(&needs);

        for (i, span) in traces.spans().enumerate() {
            let generation = Generation::new(span);
            if !generation.is_generation() {
                continue;
            }
            generations[i] = true;
            let trace = index.trace_of(i) as usize;
            let fields = Fields::new(generation, api_key_name);
            let prints = Prints::of(&fields, asked);
            let row = &mut rows[i * columns..][..columns];
            let of_trace = &mut of_traces[trace * columns..][..columns];
            let judged = row.iter_mut().zip(of_trace).zip(&needs).zip(filtered);
            for (((passed, of_trace), needs), destination) in judged {
                if destination.reaches(trace) {
                    *passed = prints.may_have(needs) && destination.filter.passes(&fields);
                    *of_trace = Some(*passed || *of_trace == Some(true));
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

    /// Whether some span passes, by column.
    pub(crate) fn any(&self) -> Vec<bool> {
        let mut any = vec![false; self.columns];
        for row in self.rows.chunks_exact(self.columns.max(1)) {
            any.iter_mut().zip(row).for_each(|(any, passed)| *any |= *passed);
        }
        any
    }

    /// `column`: position of the destination among the filtered ones.
    pub(crate) fn passes(&self, span: usize, column: usize) -> bool {
        self.rows[span * self.columns + column]
    }
}
