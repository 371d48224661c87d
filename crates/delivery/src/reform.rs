//! Batches that an earlier process may have sent, formed again of the same spans: the same composition has the same
//! token, so a vendor that de-duplicates by it takes none of them twice.

use std::ops::Range;
use std::sync::Arc;

use tracecast_log::{Entry, Log, LogError, Slot};
use tracecast_otlp::SpanSet;

/// Records read at once.
const PAGE: usize = 256;

/// The spans of a batch: ordinals of one destination, in order.
pub(crate) type Plan = Vec<Range<u64>>;

/// Of one record what belongs to a plan.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) entry: Arc<Entry>,
    /// Position of the destination's route in the entry.
    pub(crate) route: usize,
    pub(crate) spans: SpanSet,
    pub(crate) bytes: u64,
}

/// What is pending of each plan, in its order.
pub(crate) async fn read(log: &Log, slot: Slot, plans: &[Plan]) -> Result<Vec<Vec<Found>>, LogError> {
    let mut all = Vec::with_capacity(plans.len());
    for plan in plans {
        all.push(read_one(log, slot, plan).await?);
    }
    Ok(all)
}

async fn read_one(log: &Log, slot: Slot, plan: &Plan) -> Result<Vec<Found>, LogError> {
    let mut found = Vec::new();
    let mut next = 0;
    for range in plan {
        next = next.max(range.start);
        while next < range.end {
            let page = log.pending(slot, next, PAGE).await?;
            for entry in page.entries {
                for (route, known) in entry.routes.iter().enumerate() {
                    let (spans, bytes) = known.within(plan);
                    if !spans.is_empty() {
                        found.push(Found { entry: entry.clone(), route, spans, bytes });
                    }
                }
            }
            if page.at_end || page.next <= next {
                return Ok(found);
            }
            next = page.next;
        }
    }
    Ok(found)
}
