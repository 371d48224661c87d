//! Who belongs to whom: the nearest generations of the spans that are none.

use crate::trace_index::TraceIndex;
use tracecast_otlp::Traces;

const NOBODY: u32 = u32::MAX;

/// The parent links of a request, by position. Links may be missing, doubled or run in circles.
#[derive(Debug)]
pub(crate) struct Family {
    parent: Vec<u32>,
}

impl Family {
    pub(crate) fn new(traces: &Traces, index: &TraceIndex) -> Family {
        let mut places: Vec<([u8; 8], u32, u32)> = traces
            .spans()
            .enumerate()
            .map(|(i, span)| (span.span_id(), index.trace_of(i), i as u32))
            .collect();
        places.sort_unstable();
        let parent = traces
            .spans()
            .enumerate()
            .map(|(i, span)| {
                let Some(parent) = span.parent_span_id() else { return NOBODY };
                let trace = index.trace_of(i);
                // Of several spans with that id the first counts.
                let at = places.partition_point(|(id, of, _)| (*id, *of) < (parent, trace));
                match places.get(at) {
                    Some(&(id, of, position)) if id == parent && of == trace && position != i as u32 => {
                        position
                    }
                    _ => NOBODY,
                }
            })
            .collect();
        Family { parent }
    }

    /// Copies to every span that is no generation the row of the generation nearest to it, up or down the
    /// links; rows (of `columns` each) of several equally near ones are joined by OR. Returns which spans
    /// have a row now: the generations and those that found one.
    pub(crate) fn follow_nearest(
        &self,
        generations: &[bool],
        rows: &mut [bool],
        columns: usize,
    ) -> Vec<bool> {
        let below = self.nearest_below(generations, rows, columns);
        let above = self.nearest_above(generations);
        let mut found = generations.to_vec();
        for i in 0..generations.len() {
            if generations[i] {
                continue;
            }
            let down = below[i];
            if let Some((up, generation)) = above[i]
                && up <= down
            {
                for column in 0..columns {
                    let keep = up == down && rows[i * columns + column];
                    rows[i * columns + column] = keep | rows[generation as usize * columns + column];
                }
            }
            found[i] = above[i].is_some() || down != NOBODY;
        }
        found
    }

    /// Steps down to the nearest generation, whose row the span gets. Goes up level by level from all
    /// generations at once, so that a row is complete before it is passed on.
    fn nearest_below(&self, generations: &[bool], rows: &mut [bool], columns: usize) -> Vec<u32> {
        let mut steps: Vec<u32> = generations.iter().map(|is| if *is { 0 } else { NOBODY }).collect();
        let mut level: Vec<u32> = (0..steps.len() as u32).filter(|i| generations[*i as usize]).collect();
        let mut next = Vec::new();
        for distance in 1.. {
            for &child in &level {
                let parent = self.parent[child as usize];
                if parent == NOBODY || steps[parent as usize] < distance {
                    continue;
                }
                if steps[parent as usize] == NOBODY {
                    steps[parent as usize] = distance;
                    next.push(parent);
                }
                for column in 0..columns {
                    rows[parent as usize * columns + column] |= rows[child as usize * columns + column];
                }
            }
            if next.is_empty() {
                break;
            }
            std::mem::swap(&mut level, &mut next);
            next.clear();
        }
        steps
    }

    /// The nearest generation above each span, and how many steps up. Every span is walked over once.
    fn nearest_above(&self, generations: &[bool]) -> Vec<Option<(u32, u32)>> {
        let mut above = vec![None; generations.len()];
        let mut seen = vec![false; generations.len()];
        let mut path: Vec<usize> = Vec::new();
        for start in 0..generations.len() {
            let mut at = start;
            let mut found = loop {
                if generations[at] {
                    break Some((0, at as u32));
                }
                // Also the end of a circle: who comes back to a span of its own path finds nothing there.
                if seen[at] {
                    break above[at];
                }
                seen[at] = true;
                path.push(at);
                match self.parent[at] {
                    NOBODY => break None,
                    parent => at = parent as usize,
                }
            };
            for span in path.drain(..).rev() {
                found = found.map(|(steps, generation)| (steps + 1, generation));
                above[span] = found;
            }
        }
        above
    }
}
