//! Input and output in the shapes of the chat-completions API, which most vendors render.

use serde_json::{Map, Value as Json, json};
use tracecast_genai::{Completion, Generation};

/// The messages; where there are none in a known shape, what stands there instead.
pub(crate) fn input(generation: &Generation<'_>) -> Option<Json> {
    let messages = generation.messages();
    if !messages.is_empty() {
        return Some(Json::Array(messages));
    }
    generation.input_json().map(|text| value(&text))
}

/// The choices; where the answer has no known shape, what stands there instead.
pub(crate) fn output(generation: &Generation<'_>) -> Option<Json> {
    match generation.completion() {
        Some(completion) => Some(choices(&completion, generation.finish_reason().as_deref())),
        None => generation.output_json().map(|text| value(&text)),
    }
}

/// `[{"index", "message": {"role", "content", "tool_calls"}, "finish_reason"}]`.
fn choices(completion: &Completion, finish_reason: Option<&str>) -> Json {
    let choice = |(i, choice): (usize, &Completion)| {
        let mut message = Map::new();
        message.insert("role".into(), "assistant".into());
        message.insert("content".into(), choice.text.clone().into());
        if let Some(reasoning) = &choice.reasoning {
            message.insert("reasoning".into(), reasoning.clone().into());
        }
        if !choice.tool_calls.is_empty() {
            message.insert("tool_calls".into(), choice.tool_calls.clone().into());
        }
        let own = choice.finish_reason.as_deref();
        json!({ "index": i, "message": message, "finish_reason": if i == 0 { finish_reason.or(own) } else { own } })
    };
    std::iter::once(completion).chain(&completion.others).enumerate().map(choice).collect()
}

/// JSON text as a value; other text as a string.
pub(crate) fn value(text: &str) -> Json {
    serde_json::from_str(text).unwrap_or_else(|_| text.into())
}

/// A number, unless JSON cannot express it.
pub(crate) fn number(value: Option<f64>) -> Option<Json> {
    value.filter(|value| value.is_finite()).map(Json::from)
}

/// A map without the keys that have no value.
pub(crate) fn compact<const N: usize>(pairs: [(&str, Option<Json>); N]) -> Map<String, Json> {
    pairs.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect()
}
