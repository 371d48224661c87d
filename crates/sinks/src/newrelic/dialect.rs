//! Spans within New Relic's attribute limits, in neutral words.

use std::borrow::Cow;

use tracecast_genai::Generation;
use tracecast_otlp::json::plain_value;
use tracecast_otlp::write::{Edit, Place, Verdict};
use tracecast_otlp::{SpanView, Value};

use crate::family::cut::{cut, is_over, truncated_key};
use crate::family::neutral::{self, Additions};

/// Longest attribute value, characters.
const VALUE_CHARS_MAX: usize = 4_095;
/// Most entries of a list.
const ENTRIES_MAX: usize = 64;
/// Longest attribute name, characters.
const NAME_CHARS_MAX: usize = 255;

#[derive(Clone, Copy, Debug)]
pub(super) struct Dialect;

impl Edit for Dialect {
    fn attribute(&self, _: Place, key: &str, value: &Value<'_>) -> Verdict {
        match (value, text_of(value)) {
            _ if is_over(key, NAME_CHARS_MAX) => Verdict::Drop,
            (Value::Double(number), _) if !number.is_finite() => Verdict::Drop,
            (_, Some(text)) if is_over(&text, VALUE_CHARS_MAX) => {
                Verdict::ReplaceStr(cut(&text, VALUE_CHARS_MAX))
            }
            (Value::Array(items), Some(text)) if items.iter().nth(ENTRIES_MAX).is_some() => {
                Verdict::ReplaceStr(text.into_owned())
            }
            _ => Verdict::Keep,
        }
    }

    fn extra_attributes(&self, span: SpanView<'_>, out: &mut Vec<u8>) {
        let mut additions = Additions::to(span, out).at_most(VALUE_CHARS_MAX);
        neutral::add(&Generation::new(span), &mut additions);
        for (key, value) in span.attributes() {
            let key = truncated_key(key);
            let is_cut = text_of(&value).is_some_and(|text| is_over(&text, VALUE_CHARS_MAX));
            if is_cut && !is_over(&key, NAME_CHARS_MAX) {
                additions.add(&key, true);
            }
        }
    }
}

/// A text, or a structure as the text of its JSON.
fn text_of<'a>(value: &Value<'a>) -> Option<Cow<'a, str>> {
    match value {
        Value::Str(text) => Some(Cow::Borrowed(text)),
        Value::Array(_) | Value::Map(_) => {
            let mut text = Vec::new();
            plain_value(value, &mut text);
            Some(Cow::Owned(String::from_utf8_lossy(&text).into_owned()))
        }
        _ => None,
    }
}
