//! The mark on events whose key has spent its limit: they go on, and say so.

use tracecast_otlp::write::{Edit, OwnedValue, Place, SPAN_ATTRIBUTES, Verdict, append_attribute};
use tracecast_otlp::{SpanView, Value};

/// Which budget was exceeded.
const EXCEEDED: &str = "tracecast.budget.exceeded";
/// The scope of a key's own limit, as the budgets of `GET /key` name it.
const KEY_LIMIT: &str = "key_limit";

/// Puts `tracecast.budget.exceeded=key_limit` on every span, in place of what the sender wrote there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MarkOverLimit;

impl Edit for MarkOverLimit {
    fn attribute_by_key(&self, place: Place, key: &[u8]) -> Option<Verdict> {
        Some(if place == Place::Span && key == EXCEEDED.as_bytes() { Verdict::Drop } else { Verdict::Keep })
    }

    fn attribute(&self, place: Place, key: &str, _value: &Value<'_>) -> Verdict {
        self.attribute_by_key(place, key.as_bytes()).unwrap_or(Verdict::Keep)
    }

    fn extra_attributes(&self, _span: SpanView<'_>, out: &mut Vec<u8>) {
        append_attribute(SPAN_ATTRIBUTES, EXCEEDED, &OwnedValue::from(KEY_LIMIT), out);
    }
}
