//! Privacy before anything else reads the spans.
//!
//! Rows, objects and dialects are made from many fields, each with its own way to content. So for
//! a private item the spans themselves are rewritten first, by the one projection all kinds share,
//! and what is built after that can only show what is left.

use std::sync::Arc;

use tracecast_genai::Privacy;
use tracecast_otlp::write::{self, Edit};
use tracecast_otlp::{Payload, SpanSet};

use crate::Item;

/// The item with only what may be sent: itself, or its selected spans without content.
pub(crate) fn projected(item: &Item) -> Item {
    if !item.private {
        return item.clone();
    }
    // A payload that cannot be read is reported by whoever reads it next.
    let Ok(traces) = item.payload.traces() else {
        return item.clone();
    };
    let mut bytes = Vec::with_capacity(item.payload.bytes().len() / 2);
    write::select(traces, &item.spans, Some(&Privacy), &mut bytes);
    let spans = item.spans.count();
    Item { payload: Arc::new(Payload::new(bytes.into(), spans)), spans: SpanSet::all(spans), ..item.clone() }
}

/// The edit of kinds that send spans as they are otherwise.
pub(crate) fn edit(item: &Item) -> Option<&'static dyn Edit> {
    item.private.then_some(&Privacy as &dyn Edit)
}
