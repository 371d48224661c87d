//! Input and output in the shapes of the chat-completions API, which most vendors render.

use serde_json::{Map, Value as Json};
use tracecast_genai::{Completion, Generation};
use tracecast_otlp::Value;

/// What a tool was called with, and what it said: no messages of a chat, whatever they look like.
const TOOL_INPUT: [&str; 2] = ["gen_ai.tool.call.arguments", "ai.toolCall.args"];
const TOOL_OUTPUT: [&str; 2] = ["gen_ai.tool.call.result", "ai.toolCall.result"];

/// The messages; where there are none in a known shape, what stands there instead.
pub(crate) fn input(generation: &Generation<'_>) -> Option<Json> {
    if let Some(arguments) = of_tool(generation, TOOL_INPUT) {
        return Some(arguments);
    }
    let messages = generation.messages();
    if !messages.is_empty() {
        return Some(Json::Array(messages));
    }
    generation.input_json().map(|text| value(&text))
}

/// The choices; where the answer has no known shape, what stands there instead.
pub(crate) fn output(generation: &Generation<'_>) -> Option<Json> {
    if let Some(result) = of_tool(generation, TOOL_OUTPUT) {
        return Some(result);
    }
    match generation.completion() {
        Some(completion) => Some(choices(completion, generation.finish_reason().as_deref())),
        None => generation.output_json().map(|text| value(&text)),
    }
}

fn of_tool(generation: &Generation<'_>, keys: [&str; 2]) -> Option<Json> {
    if generation.is_generation() {
        return None;
    }
    let said = keys.iter().find_map(|key| generation.span().attribute(key))?;
    match said {
        Value::Str(text) => Some(value(text)),
        other => {
            let mut text = Vec::new();
            tracecast_otlp::json::plain_value(&other, &mut text);
            serde_json::from_slice(&text).ok()
        }
    }
}

/// `[{"index", "message": {"role", "content", "tool_calls"}, "finish_reason"}]`.
fn choices(mut completion: Completion, finish_reason: Option<&str>) -> Json {
    let others = std::mem::take(&mut completion.others);
    let choice = |(i, choice): (usize, Completion)| {
        let message = compact([
            ("role", Some("assistant".into())),
            ("content", Some(choice.text.into())),
            ("reasoning", choice.reasoning.map(Json::from)),
            ("tool_calls", (!choice.tool_calls.is_empty()).then(|| choice.tool_calls.into())),
        ]);
        let own = choice.finish_reason.as_deref();
        let finish_reason = if i == 0 { finish_reason.or(own) } else { own };
        object([("index", i.into()), ("message", message.into()), ("finish_reason", finish_reason.into())])
    };
    std::iter::once(completion).chain(others).enumerate().map(choice).collect()
}

/// JSON text as a value; other text as a string.
pub(crate) fn value(text: &str) -> Json {
    serde_json::from_str(text).unwrap_or_else(|_| text.into())
}

/// A number, unless JSON cannot express it.
pub(crate) fn number(value: Option<f64>) -> Option<Json> {
    value.filter(|value| value.is_finite()).map(Json::from)
}

pub(crate) fn count(value: Option<u64>) -> Option<Json> {
    value.map(Json::from)
}

pub(crate) fn text(value: Option<&str>) -> Option<Json> {
    value.map(Json::from)
}

/// An object of values that are there already: `json!` would copy each of them.
pub(crate) fn object<const N: usize>(pairs: [(&str, Json); N]) -> Json {
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// A map without the keys that have no value.
pub(crate) fn compact<const N: usize>(pairs: [(&str, Option<Json>); N]) -> Map<String, Json> {
    pairs.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect()
}
