//! Several projections as one.

use tracecast_otlp::write::{Edit, Place, Verdict};
use tracecast_otlp::{SpanView, Value};

/// Applies edits in order: a later one sees what the earlier ones left, and what one drops is gone.
#[derive(Clone, Copy)]
pub struct Chain<'e>(pub &'e [&'e dyn Edit]);

impl Edit for Chain<'_> {
    fn attribute_by_key(&self, place: Place, key: &[u8]) -> Option<Verdict> {
        let mut is_decided = true;
        for edit in self.0 {
            match edit.attribute_by_key(place, key) {
                Some(Verdict::Drop) => return Some(Verdict::Drop),
                Some(Verdict::Keep) => {}
                // A later edit may still have to see the replaced value.
                Some(Verdict::ReplaceStr(_)) | None => is_decided = false,
            }
        }
        is_decided.then_some(Verdict::Keep)
    }

    fn attribute(&self, place: Place, key: &str, value: &Value<'_>) -> Verdict {
        let mut replaced: Option<String> = None;
        for edit in self.0 {
            let verdict = edit.attribute_by_key(place, key.as_bytes()).unwrap_or_else(|| match &replaced {
                Some(text) => edit.attribute(place, key, &Value::Str(text)),
                None => edit.attribute(place, key, value),
            });
            match verdict {
                Verdict::Keep => {}
                Verdict::Drop => return Verdict::Drop,
                Verdict::ReplaceStr(text) => replaced = Some(text),
            }
        }
        replaced.map_or(Verdict::Keep, Verdict::ReplaceStr)
    }

    fn status_message(&self, span: SpanView<'_>) -> Option<String> {
        self.0.iter().find_map(|edit| edit.status_message(span))
    }

    fn keep_event(&self, name: &str) -> bool {
        self.0.iter().all(|edit| edit.keep_event(name))
    }

    fn keep_unknown_fields(&self) -> bool {
        self.0.iter().all(|edit| edit.keep_unknown_fields())
    }

    fn extra_attributes(&self, span: SpanView<'_>, out: &mut Vec<u8>) {
        self.0.iter().for_each(|edit| edit.extra_attributes(span, out));
    }

    fn extra_resource_attributes(&self, out: &mut Vec<u8>) {
        self.0.iter().for_each(|edit| edit.extra_resource_attributes(out));
    }
}
