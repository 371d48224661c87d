//! A span that is too large for its receiver, made smaller: embedded media give way to markers, then the
//! longest texts of inputs and outputs are cut. Metadata, usage and cost are never touched.
//!
//! What was cut says so: in the text itself, by an attribute `<key>.truncated`, and by `truncated` on the
//! span.

use std::cell::RefCell;

use serde_json::Value as Json;
use tracecast_otlp::write::{Edit, OwnedValue, Place, SPAN_ATTRIBUTES, Verdict, append_attribute, select};
use tracecast_otlp::{DecodeError, Payload, SpanSet, SpanView, Value};

use crate::content::{Class, classify, looks_like_content};
use crate::media::{digested, probe_bytes};
use crate::privacy::is_reduced;
use crate::view::to_json;

/// Marks a span of which something was cut.
const TRUNCATED: &str = "truncated";
/// Texts are not cut to less than this as long as shorter ones can be cut.
const LEVEL_MIN: usize = 64;
/// About what a cut adds: the marker in the text and the attribute.
const CUT_COSTS: usize = 96;

/// The span at `position` alone, as OTLP bytes of at most `target_bytes` if that can be reached.
pub fn shrink(payload: &Payload, position: u32, target_bytes: usize) -> Result<Vec<u8>, DecodeError> {
    let traces = payload.traces()?;
    let only = SpanSet::from_positions(payload.spans(), [position]);
    let mut out = Vec::new();
    select(traces, &only, None, &mut out);
    if out.len() > target_bytes && probe_bytes(&out) {
        let cut = Cut::new(Depth::Media);
        out.clear();
        select(traces, &only, Some(&cut), &mut out);
    }
    if out.len() <= target_bytes {
        return Ok(out);
    }
    // The texts are cut in what is left without media.
    let whole = Payload::new(out.clone().into(), 1);
    let traces = whole.traces()?;
    for plain in [false, true] {
        let mut level = level(&texts(traces.span(0), plain), whole.bytes().len(), target_bytes);
        loop {
            let cut = Cut::new(Depth::Texts { level, plain });
            out.clear();
            select(traces, &SpanSet::all(1), Some(&cut), &mut out);
            if out.len() <= target_bytes {
                return Ok(out);
            }
            if level < LEVEL_MIN {
                break;
            }
            // The estimate was too high: texts take more bytes as JSON.
            level /= 2;
        }
    }
    Ok(out)
}

/// The longest that texts may be so that all fit: long ones are cut to it, short ones stay.
fn level(lengths: &[usize], all_bytes: usize, target_bytes: usize) -> usize {
    let mut sorted = lengths.to_vec();
    sorted.sort_unstable_by_key(|length| std::cmp::Reverse(*length));
    let mut excess = all_bytes.saturating_sub(target_bytes);
    // Lowers the highest to the next highest, then both, and so on, until the excess is gone.
    for (i, length) in sorted.iter().enumerate() {
        excess += CUT_COSTS;
        let cut = i + 1;
        let next = sorted.get(cut).copied().unwrap_or(0);
        let step = (length - next).saturating_mul(cut);
        if step >= excess {
            return length - excess.div_ceil(cut);
        }
        excess -= step;
    }
    0
}

/// Lengths of everything that may be cut.
fn texts(span: SpanView<'_>, plain: bool) -> Vec<usize> {
    let mut lengths = Vec::new();
    let events = span.events().flat_map(|event| event.attributes());
    for (key, value) in span.attributes().chain(events) {
        if !may_be_cut(key) {
            continue;
        }
        match structure(&value, plain) {
            Some(json) => leaves(&json, &mut lengths),
            None => lengths.push(value.as_str().map_or(0, str::len)),
        }
    }
    lengths
}

fn leaves(json: &Json, lengths: &mut Vec<usize>) {
    match json {
        Json::String(text) => lengths.push(text.len()),
        Json::Array(items) => items.iter().for_each(|item| leaves(item, lengths)),
        Json::Object(fields) => fields.values().for_each(|value| leaves(value, lengths)),
        _ => {}
    }
}

/// Inputs and outputs, by a list or by their name.
fn may_be_cut(key: &str) -> bool {
    let is_content = match classify(key) {
        Class::Content => true,
        Class::Unknown => looks_like_content(key),
        Class::Known | Class::Metadata => false,
    };
    is_content && !is_reduced(key.as_bytes())
}

/// What is inside, so that the texts in it can be cut and it stays readable for machines. `plain`: only if
/// it is no text anyway.
fn structure(value: &Value<'_>, plain: bool) -> Option<Json> {
    match value {
        Value::Str(text) if !plain && text.trim_start().starts_with(['{', '[']) => {
            serde_json::from_str(text).ok()
        }
        Value::Array(_) | Value::Map(_) | Value::Bytes(_) => to_json(value),
        _ => None,
    }
}

#[derive(Clone, Copy, Debug)]
enum Depth {
    /// Embedded media only.
    Media,
    /// Texts to at most `level` bytes; structured ones as a whole if `plain`.
    Texts { level: usize, plain: bool },
}

/// Cuts, and remembers what it cut from the present span.
#[derive(Debug)]
struct Cut {
    depth: Depth,
    keys: RefCell<Vec<String>>,
}

impl Cut {
    fn new(depth: Depth) -> Cut {
        Cut { depth, keys: RefCell::default() }
    }

    fn cut(&self, key: &str, value: &Value<'_>) -> Option<String> {
        match self.depth {
            Depth::Media => digested(key, value),
            Depth::Texts { level, plain } if may_be_cut(key) => match structure(value, plain) {
                Some(json) if plain => shortened(&json.to_string(), level),
                Some(mut json) => shorten_leaves(&mut json, level).then(|| json.to_string()),
                None => shortened(value.as_str()?, level),
            },
            Depth::Texts { .. } => None,
        }
    }
}

impl Edit for Cut {
    fn attribute(&self, place: Place, key: &str, value: &Value<'_>) -> Verdict {
        let of_span = matches!(place, Place::Span | Place::Event);
        if !of_span && !matches!(self.depth, Depth::Media) {
            return Verdict::Keep;
        }
        let Some(text) = self.cut(key, value) else { return Verdict::Keep };
        let mut keys = self.keys.borrow_mut();
        if of_span && !keys.iter().any(|known| known == key) {
            keys.push(key.to_owned());
        }
        Verdict::ReplaceStr(text)
    }

    fn extra_attributes(&self, span: SpanView<'_>, out: &mut Vec<u8>) {
        let keys = self.keys.take();
        let mark = |key: &str, out: &mut Vec<u8>| {
            if span.attribute(key).is_none() {
                append_attribute(SPAN_ATTRIBUTES, key, &OwnedValue::Bool(true), out);
            }
        };
        keys.iter().for_each(|key| mark(&format!("{key}.{TRUNCATED}"), out));
        if !keys.is_empty() {
            mark(TRUNCATED, out);
        }
    }
}

/// True if anything was cut. Every leaf has its turn, whatever became of the ones before.
fn shorten_leaves(json: &mut Json, level: usize) -> bool {
    let mut cut = false;
    match json {
        Json::String(text) => {
            if let Some(short) = shortened(text, level) {
                *text = short;
                cut = true;
            }
        }
        Json::Array(items) => items.iter_mut().for_each(|item| cut |= shorten_leaves(item, level)),
        Json::Object(fields) => fields.values_mut().for_each(|value| cut |= shorten_leaves(value, level)),
        _ => {}
    }
    cut
}

/// `None` if the text is short enough, or would not become shorter.
fn shortened(text: &str, level: usize) -> Option<String> {
    if text.len() <= level {
        return None;
    }
    let head = text.get(..text.floor_char_boundary(level)).unwrap_or_default();
    let short = format!("{head}…[truncated: {} of {} bytes]", text.len() - head.len(), text.len());
    (short.len() < text.len()).then_some(short)
}
