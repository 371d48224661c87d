//! What Sentry's AI views read on a span.

use tracecast_genai::Generation;
use tracecast_otlp::write::{Edit, Place, Verdict};
use tracecast_otlp::{SpanView, Value};

use crate::family::neutral::{self, Additions};

#[derive(Clone, Copy, Debug)]
pub(super) struct Dialect;

impl Edit for Dialect {
    fn attribute_by_key(&self, _: Place, _: &[u8]) -> Option<Verdict> {
        Some(Verdict::Keep)
    }

    fn attribute(&self, _: Place, _: &str, _: &Value<'_>) -> Verdict {
        Verdict::Keep
    }

    /// Relay drops events; what they say of the messages is among the attributes below.
    fn keep_event(&self, _: &str) -> bool {
        false
    }

    fn extra_attributes(&self, span: SpanView<'_>, out: &mut Vec<u8>) {
        let generation = Generation::new(span);
        let mut additions = Additions::to(span, out);
        neutral::add(&generation, &mut additions);
        if let Some(operation) = operation(&generation) {
            additions.add("sentry.op", format!("gen_ai.{operation}"));
        }
        if generation.is_generation() {
            let messages = generation.messages();
            if !messages.is_empty() {
                additions.add("gen_ai.input.messages", serde_json::Value::Array(messages).to_string());
            }
            additions.text("gen_ai.output.messages", generation.output_json().as_deref());
            let cost = generation.cost();
            additions.number("gen_ai.cost.input_tokens", cost.input);
            additions.number("gen_ai.cost.output_tokens", cost.output);
            additions.number("gen_ai.cost.total_tokens", cost.total);
        }
        additions.text("sentry.environment", generation.environment());
        additions.text("sentry.release", generation.release());
        for (key, value) in generation.metadata() {
            let value = match value {
                serde_json::Value::String(text) => text,
                other => other.to_string(),
            };
            additions.add(&format!("trace.metadata.{key}"), value);
        }
        // Lists are stored but cannot be searched for.
        let tags = generation.tags();
        if !tags.is_empty() {
            additions.add("trace.metadata.tags", tags.join(","));
        }
    }
}

/// The operation, of LLM calls and of what stands around them.
fn operation<'a>(generation: &Generation<'a>) -> Option<&'a str> {
    if generation.is_generation() {
        return generation.operation();
    }
    let said = generation.span().attribute("gen_ai.operation.name")?.as_str()?;
    matches!(said, "execute_tool" | "invoke_agent" | "create_agent").then_some(said)
}
