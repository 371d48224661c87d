//! What LangSmith reads on a span that is not there in its own words.

use serde_json::{Map, Value as Json};
use tracecast_genai::Generation;
use tracecast_otlp::write::{Edit, Place, Verdict};
use tracecast_otlp::{SpanView, Value};

use crate::family::neutral::{self, Additions};
use crate::family::{chat, custom};

/// The edit. Spans of a private item come in already projected.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dialect;

impl Edit for Dialect {
    fn attribute_by_key(&self, place: Place, key: &[u8]) -> Option<Verdict> {
        // Written again below, in the shape that is rendered and carries tokens and cost.
        let is_replaced = place == Place::Span && matches!(key, b"gen_ai.prompt" | b"gen_ai.completion");
        Some(if is_replaced { Verdict::Drop } else { Verdict::Keep })
    }

    fn attribute(&self, place: Place, key: &str, _: &Value<'_>) -> Verdict {
        self.attribute_by_key(place, key.as_bytes()).unwrap_or(Verdict::Keep)
    }

    fn extra_attributes(&self, span: SpanView<'_>, out: &mut Vec<u8>) {
        let generation = Generation::new(span);
        if let Some(input) = input(&generation) {
            replace("gen_ai.prompt", input, out);
        }
        if let Some(output) = output(&generation) {
            replace("gen_ai.completion", output, out);
        }
        let mut additions = Additions::to(span, out);
        neutral::add(&generation, &mut additions);
        additions.add("langsmith.span.kind", kind(&generation));
        if span.parent_span_id().is_none() {
            additions.text("langsmith.trace.name", generation.trace_name());
        }
        let tags = generation.tags();
        if !tags.is_empty() {
            additions.add("langsmith.span.tags", tags.join(", "));
        }
        for (key, value) in custom::beside(metadata(&generation), &generation, is_read) {
            // What the sender has said in these words himself stands there already.
            if !additions.lacks(&format!("langsmith.metadata.{}", custom::bare(&key))) {
                continue;
            }
            let value = match value {
                Json::String(text) => text,
                other => other.to_string(),
            };
            additions.add(&format!("langsmith.metadata.{key}"), value);
        }
    }
}

/// What LangSmith's views group by, as metadata.
pub(super) fn metadata(generation: &Generation<'_>) -> Map<String, Json> {
    chat::compact([
        ("session_id", chat::text(generation.session_id())),
        ("user_id", chat::text(generation.user_id())),
        ("environment", chat::text(generation.environment())),
        ("release", chat::text(generation.release())),
        ("ls_provider", chat::text(generation.provider_slug().or(generation.provider_name()))),
        ("ls_model_name", chat::text(generation.response_model().or(generation.model()))),
    ])
}

/// Metadata of which LangSmith makes tokens, cost and model.
pub(super) fn is_read(key: &str) -> bool {
    key == "usage_metadata" || key.starts_with("ls_")
}

/// The attribute of this key was dropped, so it is written whether the span had it or not.
fn replace(key: &str, value: Json, out: &mut Vec<u8>) {
    use tracecast_otlp::write::{SPAN_ATTRIBUTES, append_attribute};
    append_attribute(SPAN_ATTRIBUTES, key, &value.to_string().into(), out);
}

pub(super) fn input(generation: &Generation<'_>) -> Option<Json> {
    Some(match chat::input(generation)? {
        messages @ Json::Array(_) => chat::object([("messages", messages)]),
        other => other,
    })
}

/// The choices, and what they took: the attribute table of the OTLP endpoint has no place for cost and cached tokens.
pub(super) fn output(generation: &Generation<'_>) -> Option<Json> {
    let usage = if generation.is_generation() { usage_metadata(generation) } else { Map::new() };
    let choices = chat::output(generation);
    if choices.is_none() && usage.is_empty() {
        return None;
    }
    let mut output = match choices {
        Some(Json::Object(object)) => object,
        Some(choices) => chat::compact([("choices", Some(choices))]),
        None => Map::new(),
    };
    if !usage.is_empty() {
        output.insert("usage_metadata".into(), usage.into());
    }
    Some(Json::Object(output))
}

fn usage_metadata(generation: &Generation<'_>) -> Map<String, Json> {
    let (usage, cost) = (generation.usage(), generation.cost());
    let details = |pairs: Map<String, Json>| (!pairs.is_empty()).then_some(Json::Object(pairs));
    let input = chat::compact([
        ("cache_read", chat::count(usage.cached)),
        ("cache_creation", chat::count(usage.cache_write)),
    ]);
    chat::compact([
        ("input_tokens", chat::count(usage.input)),
        ("output_tokens", chat::count(usage.output)),
        ("total_tokens", chat::count(usage.total)),
        ("input_token_details", details(input)),
        ("output_token_details", details(chat::compact([("reasoning", chat::count(usage.reasoning))]))),
        ("input_cost", chat::number(cost.input)),
        ("output_cost", chat::number(cost.output)),
        ("total_cost", chat::number(cost.total)),
    ])
}

pub(super) fn kind(generation: &Generation<'_>) -> &'static str {
    if generation.is_generation() {
        return match generation.operation() {
            Some("embeddings" | "embedding") => "embedding",
            _ => "llm",
        };
    }
    let span = generation.span();
    let text = |key| span.attribute(key).and_then(|value| value.as_str());
    match text("gen_ai.operation.name") {
        Some("execute_tool") => return "tool",
        Some("retrieval") => return "retriever",
        _ => {}
    }
    match text("span.type") {
        Some("event") => "tool",
        _ => "chain",
    }
}
