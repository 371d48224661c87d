//! Privacy mode: content removed, error texts replaced by their class, failing closed on what is not known.

use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Map, Value as Json, json};
use tracecast_otlp::write::{Edit, Place, Verdict};
use tracecast_otlp::{SpanView, Value};

use crate::content::{Class, classify, is_message_event, looks_like_content};
use crate::keys;
use crate::view::{Generation, to_json};

/// Unknown strings longer than this are taken for content.
const UNKNOWN_BYTES_MAX: usize = 1024;
/// An error class is a name, not a sentence.
const CLASS_BYTES_MAX: usize = 128;

/// Privacy mode (design 4.2 step 4): content removed at every place, status and exception messages replaced
/// by their class, fails closed on unknown large or structured values and unknown protobuf fields.
#[derive(Clone, Copy, Debug, Default)]
pub struct Privacy;

/// See [`failed_closed`].
static FAILED_CLOSED: AtomicU64 = AtomicU64::new(0);

/// Attributes that privacy mode has removed in this process only because they are in no list, each time it did. One
/// count for all: the same attribute is removed at arrival or at each attempt, as it comes.
pub fn failed_closed() -> u64 {
    FAILED_CLOSED.load(Ordering::Relaxed)
}

impl Edit for Privacy {
    fn attribute_by_key(&self, _place: Place, key: &[u8]) -> Option<Verdict> {
        by_class(classify(key), key)
    }

    fn attribute(&self, _place: Place, key: &str, value: &Value<'_>) -> Verdict {
        let (verdict, is_unknown) = judge(key, value);
        if is_unknown && verdict == Verdict::Drop {
            FAILED_CLOSED.fetch_add(1, Ordering::Relaxed);
        }
        verdict
    }

    fn status_message(&self, span: SpanView<'_>) -> Option<String> {
        Some(error_class(span))
    }

    fn keep_event(&self, name: &str) -> bool {
        !is_message_event(name)
    }

    fn keep_unknown_fields(&self) -> bool {
        false
    }
}

/// `Some` where the value does not matter.
fn by_class(class: Class, key: &[u8]) -> Option<Verdict> {
    match class {
        Class::Unknown => None,
        _ if is_reduced(key) => None,
        Class::Content => Some(Verdict::Drop),
        Class::Known | Class::Metadata => Some(Verdict::Keep),
    }
}

/// Keys of which a harmless part is kept.
pub(crate) fn is_reduced(key: &[u8]) -> bool {
    const REDUCED: [&str; 4] = [
        keys::PROVIDER_METADATA,
        "langfuse.observation.model.parameters",
        "trace.metadata.openrouter_generation",
        "metadata.openrouter_generation",
    ];
    REDUCED.iter().any(|name| name.as_bytes() == key)
}

/// The verdict, and whether the key is in no list.
fn judge(key: &str, value: &Value<'_>) -> (Verdict, bool) {
    let class = classify(key);
    if let Some(verdict) = by_class(class, key.as_bytes()) {
        return (verdict, false);
    }
    if is_reduced(key.as_bytes()) {
        return (reduced(key, value), false);
    }
    let verdict = match value {
        Value::Empty | Value::Bool(_) | Value::Int(_) | Value::Double(_) => Verdict::Keep,
        Value::Str(text) if text.len() <= UNKNOWN_BYTES_MAX && !looks_like_content(key) => Verdict::Keep,
        _ => Verdict::Drop,
    };
    (verdict, true)
}

fn reduced(key: &str, value: &Value<'_>) -> Verdict {
    let Some(Json::Object(mut object)) = to_json(value) else { return Verdict::Drop };
    match key {
        // Of what the vendor adds only the charge is kept.
        keys::PROVIDER_METADATA => match object.get("gateway").and_then(|gateway| gateway.get("cost")) {
            Some(cost @ (Json::Number(_) | Json::String(_))) if is_small(cost) => {
                Verdict::ReplaceStr(json!({"gateway": {"cost": cost}}).to_string())
            }
            _ => Verdict::Drop,
        },
        "langfuse.observation.model.parameters" => {
            let harmless: Map<String, Json> =
                object.into_iter().filter(|(name, value)| is_parameter(name) && is_small(value)).collect();
            Verdict::ReplaceStr(Json::Object(harmless).to_string())
        }
        // The vendor's raw answer inside of OpenRouter's cost record.
        _ => {
            let name = "upstream_raw_response_usage";
            if object.get(name).is_none_or(Json::is_null) {
                return Verdict::Keep;
            }
            object.insert(name.into(), Json::Null);
            object.insert(format!("{name}_suppression_reason"), "privacy_mode".into());
            Verdict::ReplaceStr(Json::Object(object).to_string())
        }
    }
}

fn is_small(value: &Json) -> bool {
    match value {
        Json::Bool(_) | Json::Number(_) => true,
        Json::String(text) => text.len() <= 64,
        _ => false,
    }
}

fn is_parameter(name: &str) -> bool {
    matches!(
        name,
        "temperature"
            | "top_p"
            | "top_k"
            | "min_p"
            | "n"
            | "seed"
            | "stream"
            | "max_tokens"
            | "max_completion_tokens"
            | "max_output_tokens"
            | "frequency_penalty"
            | "presence_penalty"
            | "repetition_penalty"
            | "reasoning_effort"
            | "service_tier"
            | "logprobs"
            | "top_logprobs"
            | "verbosity"
            | "parallel_tool_calls"
    )
}

/// What stands for the status message: the error's class, `error` if it has none, nothing without error.
fn error_class(span: SpanView<'_>) -> String {
    let class = Generation::new(span).error_type();
    // A type that is a sentence would smuggle the message.
    let is_name = |class: &str| class.len() <= CLASS_BYTES_MAX && !class.chars().any(char::is_whitespace);
    match class {
        Some(class) if is_name(&class) => class.into_owned(),
        _ if span.status_code() == 2 => "error".to_owned(),
        _ => String::new(),
    }
}
