//! Spans within New Relic's attribute limits, in neutral words.

use tracecast_genai::Generation;
use tracecast_otlp::write::{Edit, Place, Verdict};
use tracecast_otlp::{SpanView, Value};

use crate::family::cut::{cut, is_over, truncated_key};
use crate::family::neutral::{self, Additions};

/// Longest attribute value, characters.
const VALUE_CHARS_MAX: usize = 4_095;
/// Longest attribute name, characters.
const NAME_CHARS_MAX: usize = 255;

#[derive(Clone, Copy, Debug)]
pub(super) struct Dialect;

impl Edit for Dialect {
    fn attribute(&self, _: Place, key: &str, value: &Value<'_>) -> Verdict {
        match value {
            _ if is_over(key, NAME_CHARS_MAX) => Verdict::Drop,
            Value::Str(text) if is_over(text, VALUE_CHARS_MAX) => {
                Verdict::ReplaceStr(cut(text, VALUE_CHARS_MAX))
            }
            Value::Double(number) if !number.is_finite() => Verdict::Drop,
            _ => Verdict::Keep,
        }
    }

    fn extra_attributes(&self, span: SpanView<'_>, out: &mut Vec<u8>) {
        let mut additions = Additions::to(span, out);
        neutral::add(&Generation::new(span), &mut additions);
        for (key, value) in span.attributes() {
            if value.as_str().is_some_and(|text| is_over(text, VALUE_CHARS_MAX)) {
                additions.add(&truncated_key(key), true);
            }
        }
    }
}
