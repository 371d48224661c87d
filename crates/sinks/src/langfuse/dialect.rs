//! What Langfuse wants to read on a span that is not there in its own words.
//!
//! Its server takes the first key that is present, its own `langfuse.*` names before all others.
//! So these are added (a key the sender has set itself is left alone), and attributes that would be
//! counted a second time are taken out: every `gen_ai.usage.*` key becomes a token type there, and
//! a cost among them a token type named after money.

use tracecast_genai::Generation;
use tracecast_otlp::write::{Edit, OwnedValue, Place, SPAN_ATTRIBUTES, Verdict, append_attribute};
use tracecast_otlp::{SpanView, Value};

use crate::family::cut::{cut, is_over, truncated_key};
use crate::family::json;

/// Langfuse silently files longer environments under `default`.
const ENVIRONMENT_CHARS_MAX: usize = 40;

/// Langfuse drops longer names and ids of traces, users and sessions.
const NAME_CHARS_MAX: usize = 200;

/// The edit. Spans of a private item come in already projected, so what is read here is what may be
/// said.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dialect;

impl Edit for Dialect {
    fn attribute_by_key(&self, place: Place, key: &[u8]) -> Option<Verdict> {
        if place != Place::Span {
            return Some(Verdict::Keep);
        }
        match key {
            // Dropped only as text, in which form the input and output below repeat them.
            b"gen_ai.prompt" | b"gen_ai.completion" => None,
            b"span.input" | b"span.output" | b"trace.input" | b"trace.output" => Some(Verdict::Drop),
            _ if key.starts_with(b"gen_ai.usage.") => Some(Verdict::Drop),
            _ => Some(Verdict::Keep),
        }
    }

    fn attribute(&self, place: Place, key: &str, value: &Value<'_>) -> Verdict {
        self.attribute_by_key(place, key.as_bytes()).unwrap_or(match value {
            Value::Str(_) => Verdict::Drop,
            _ => Verdict::Keep,
        })
    }

    fn extra_attributes(&self, span: SpanView<'_>, out: &mut Vec<u8>) {
        let generation = Generation::new(span);
        let mut add = |key: &str, value: OwnedValue| {
            if span.attribute(key).is_none() {
                append_attribute(SPAN_ATTRIBUTES, key, &value, out);
            }
        };
        add("langfuse.observation.type", observation_type(&generation).into());
        if generation.is_generation() {
            if let Some(usage) = usage_details(&generation) {
                add("langfuse.observation.usage_details", usage.into());
            }
            if let Some(cost) = cost_details(&generation) {
                add("langfuse.observation.cost_details", cost.into());
            }
            if let Some(model) = generation.response_model().or(generation.model()) {
                add("langfuse.observation.model.name", model.into());
            }
            if let Some(first) = first_token_time(&generation) {
                add("langfuse.observation.completion_start_time", first.into());
            }
        }
        if let Some(input) = generation.input_json() {
            add("langfuse.observation.input", input.into_owned().into());
        }
        if let Some(output) = generation.output_json() {
            add("langfuse.observation.output", output.into_owned().into());
        }
        for (key, value) in [
            ("langfuse.trace.name", generation.trace_name()),
            ("langfuse.user.id", generation.user_id()),
            ("langfuse.session.id", generation.session_id()),
            ("langfuse.release", generation.release()),
        ] {
            let Some(value) = value else { continue };
            if is_over(value, NAME_CHARS_MAX) {
                add(key, cut(value, NAME_CHARS_MAX).into());
                let name = key.trim_start_matches("langfuse.");
                add(&truncated_key(&format!("langfuse.trace.metadata.{name}")), OwnedValue::Bool(true));
            } else {
                add(key, value.into());
            }
        }
        if let Some(environment) = generation.environment().and_then(environment) {
            add("langfuse.environment", environment.into());
        }
        let tags = generation.tags();
        if !tags.is_empty() {
            let tags = tags.into_iter().map(OwnedValue::Str).collect();
            add("langfuse.trace.tags", OwnedValue::Array(tags));
        }
        for (key, value) in generation.metadata() {
            let text = match value {
                serde_json::Value::String(text) => text,
                other => other.to_string(),
            };
            add(&format!("langfuse.trace.metadata.{key}"), text.into());
        }
    }
}

fn observation_type(generation: &Generation<'_>) -> &'static str {
    let span = generation.span();
    let text = |key| span.attribute(key).and_then(|value| value.as_str());
    if generation.is_generation() {
        return match generation.operation() {
            Some("embeddings" | "embedding") => "embedding",
            _ => "generation",
        };
    }
    match text("gen_ai.operation.name") {
        Some("execute_tool") => return "tool",
        Some("invoke_agent" | "create_agent") => return "agent",
        Some("retrieval") => return "retriever",
        _ => {}
    }
    let kind = text("openinference.span.kind").or_else(|| text("traceloop.span.kind"));
    match kind.map(str::to_ascii_lowercase).as_deref() {
        Some("tool") => "tool",
        Some("agent") => "agent",
        Some("chain" | "workflow") => "chain",
        Some("retriever") => "retriever",
        Some("embedding") => "embedding",
        Some("guardrail") => "guardrail",
        Some("evaluator") => "evaluator",
        _ => "span",
    }
}

/// Usage in disjoint parts: Langfuse adds up what stands here and subtracts nothing.
fn usage_details(generation: &Generation<'_>) -> Option<String> {
    let usage = generation.usage();
    if usage.is_empty() {
        return None;
    }
    let span = generation.span();
    let count = |keys: &[&str]| {
        keys.iter().find_map(|key| match span.attribute(key)? {
            Value::Int(n) => u64::try_from(n).ok(),
            _ => None,
        })
    };
    let audio_in = count(&[
        "gen_ai.usage.input_tokens.audio",
        "gen_ai.usage.audio.input_tokens",
        "llm.token_count.prompt_details.audio",
    ]);
    let audio_out = count(&[
        "gen_ai.usage.output_tokens.audio",
        "gen_ai.usage.audio.output_tokens",
        "llm.token_count.completion_details.audio",
    ]);
    let rest = |whole: Option<u64>, parts: [Option<u64>; 3]| {
        let parts: u64 = parts.into_iter().flatten().sum();
        // Parts larger than the whole were reported beside it, not within it.
        whole.map(|whole| whole.checked_sub(parts).unwrap_or(whole))
    };
    let mut text = Vec::new();
    let mut object = json::Object::open(&mut text);
    object.opt_u64("input", rest(usage.input, [usage.cached, usage.cache_write, audio_in]));
    object.opt_u64("output", rest(usage.output, [usage.reasoning, audio_out, None]));
    let total = usage.total.or_else(|| usage.input?.checked_add(usage.output.unwrap_or(0)));
    object.opt_u64("total", total);
    object.opt_u64("input_cached_tokens", usage.cached);
    object.opt_u64("input_cache_creation", usage.cache_write);
    object.opt_u64("input_audio_tokens", audio_in);
    object.opt_u64("output_reasoning_tokens", usage.reasoning);
    object.opt_u64("output_audio_tokens", audio_out);
    object.close();
    String::from_utf8(text).ok()
}

/// USD. What is said here is shown as it is; Langfuse's price table is not asked.
fn cost_details(generation: &Generation<'_>) -> Option<String> {
    let cost = generation.cost();
    if cost == tracecast_genai::Cost::default() {
        return None;
    }
    let mut text = Vec::new();
    let mut object = json::Object::open(&mut text);
    object.opt_f64("input", cost.input);
    object.opt_f64("output", cost.output);
    object.opt_f64("total", cost.total);
    object.close();
    String::from_utf8(text).ok()
}

fn first_token_time(generation: &Generation<'_>) -> Option<String> {
    let delay_ms = generation.first_token_ms().filter(|ms| *ms >= 0.0)?;
    // A float becomes the nearest integer it fits into.
    let delay_nano = (delay_ms * 1e6) as u64;
    let start = generation.span().start_unix_nano();
    Some(json::rfc3339(start.checked_add(delay_nano)?))
}

/// The environment in the letters Langfuse accepts.
fn environment(name: &str) -> Option<String> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-');
    let mut name: String = name.to_lowercase().chars().map(|c| if allowed(c) { c } else { '-' }).collect();
    if name.starts_with("langfuse") {
        name.insert_str(0, "env-");
    }
    name.truncate(ENVIRONMENT_CHARS_MAX);
    (!name.is_empty()).then_some(name)
}
