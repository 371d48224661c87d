//! What Sentry's AI views read on a span.

use serde_json::{Value as Json, json};
use tracecast_genai::{Completion, Generation};

use crate::family::neutral::{self, Adding, Additions};
use crate::family::{chat, custom};

/// Relay drops events; what they say of the messages is among the attributes that are added.
pub(super) const DIALECT: Adding = Adding { add, keep_events: false };

fn add(generation: &Generation<'_>, to: &mut Additions<'_, '_>) {
    neutral::add(generation, to);
    if let Some(operation) = operation(generation) {
        to.add("sentry.op", format!("gen_ai.{operation}"));
    }
    // Conversations are told by this name.
    to.text("gen_ai.conversation.id", generation.session_id());
    if generation.is_generation() {
        content(generation, to);
        let cost = generation.cost();
        to.number("gen_ai.cost.input_tokens", cost.input);
        to.number("gen_ai.cost.output_tokens", cost.output);
        to.number("gen_ai.cost.total_tokens", cost.total);
    }
    to.text("sentry.environment", generation.environment());
    to.text("sentry.release", generation.release());
    // Lists are stored but cannot be searched for.
    let tags = generation.tags();
    let own = chat::compact([("tags", (!tags.is_empty()).then(|| tags.join(",").into()))]);
    for (key, value) in custom::beside(own, generation, |_| false) {
        let value = match value {
            Json::String(text) => text,
            other => other.to_string(),
        };
        to.add(&format!("trace.metadata.{key}"), value);
    }
}

/// Texts that hold JSON, as Sentry's conventions have it: the messages of a chat, the input of an embedding.
fn content(generation: &Generation<'_>, to: &mut Additions<'_, '_>) {
    if matches!(generation.operation(), Some("embeddings" | "embedding")) {
        to.text("gen_ai.embeddings.input", generation.input_text().as_deref());
        return;
    }
    if to.lacks("gen_ai.input.messages") {
        let messages = generation.messages();
        if !messages.is_empty() {
            to.add("gen_ai.input.messages", Json::Array(messages).to_string());
        }
    }
    if to.lacks("gen_ai.output.messages") {
        let completion = generation.completion();
        let choices = completion.iter().flat_map(|first| std::iter::once(first).chain(&first.others));
        let messages: Vec<Json> = choices.map(message).collect();
        if !messages.is_empty() {
            to.add("gen_ai.output.messages", Json::Array(messages).to_string());
        }
    }
    if to.lacks("gen_ai.tool.definitions")
        && let Some(tools) = generation.tools()
    {
        to.add("gen_ai.tool.definitions", tools.to_string());
    }
}

/// A choice as a message of OpenTelemetry's parts.
fn message(choice: &Completion) -> Json {
    let text = |kind: &str, text: &Option<String>| Some(json!({ "type": kind, "content": text.as_ref()? }));
    let call = |call: &Json| {
        let function = call.get("function");
        let of = |key: &str| function.and_then(|function| function.get(key)).cloned();
        json!({ "type": "tool_call", "id": call.get("id"), "name": of("name"), "arguments": of("arguments") })
    };
    let mut parts: Vec<Json> = text("reasoning", &choice.reasoning).into_iter().collect();
    parts.extend(text("text", &choice.text));
    parts.extend(choice.tool_calls.iter().map(call));
    Json::Object(chat::compact([
        ("role", Some("assistant".into())),
        ("parts", Some(parts.into())),
        ("finish_reason", choice.finish_reason.as_deref().map(Json::from)),
    ]))
}

/// The operation, of LLM calls and of what stands around them.
fn operation<'a>(generation: &Generation<'a>) -> Option<&'a str> {
    if generation.is_generation() {
        return generation.operation();
    }
    let said = generation.span().attribute("gen_ai.operation.name")?.as_str()?;
    matches!(said, "execute_tool" | "invoke_agent" | "create_agent").then_some(said)
}
