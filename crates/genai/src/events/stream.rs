//! Streamed answers put together again: SSE text or a list of chunks becomes the body the API would have
//! sent without streaming. OpenAI chat and legacy completions, Anthropic messages, OpenAI Responses.

use serde_json::{Map, Value, json};

use super::Fault;
use crate::messages::{field, str_of};

/// True if the text is a server-sent event stream.
pub(super) fn is_sse(text: &str) -> bool {
    let start = text.trim_start();
    ["data:", "event:", ": ", "id:", "retry:"].iter().any(|name| start.starts_with(name))
        && text.lines().any(|line| line.starts_with("data:"))
}

/// The JSON payloads of an event stream. The last event may be cut off (the client went away).
pub(super) fn chunks_of_sse(text: &str) -> Result<Vec<Value>, Fault> {
    let mut chunks = Vec::new();
    let mut data = String::new();
    let mut broken: Option<usize> = None;
    let mut number = 0;
    for line in text.lines().chain([""]) {
        let line = line.trim_end_matches('\r');
        if let Some(rest) = line.strip_prefix("data:") {
            // Some logs keep the data lines only: a line that starts an object is an event of its own.
            let rest = rest.trim_start();
            if !data.is_empty() && (rest.starts_with('{') || rest == "[DONE]") {
                take(&mut data, &mut number, &mut chunks, &mut broken)?;
            }
            if !data.is_empty() {
                data.push('\n');
            }
            data.push_str(rest);
        } else if line.is_empty() && !data.is_empty() {
            take(&mut data, &mut number, &mut chunks, &mut broken)?;
        }
    }
    Ok(chunks)
}

fn take(
    data: &mut String,
    number: &mut usize,
    chunks: &mut Vec<Value>,
    broken: &mut Option<usize>,
) -> Result<(), Fault> {
    let text = std::mem::take(data);
    if text.trim() == "[DONE]" {
        return Ok(());
    }
    *number += 1;
    if let Some(event) = *broken {
        return Err(Fault::new("response", format!("event {event} of the stream is not JSON")));
    }
    match serde_json::from_str(&text) {
        Ok(chunk) => chunks.push(chunk),
        Err(_) => *broken = Some(*number),
    }
    Ok(())
}

/// True if a list is chunks of a stream and not messages or items.
pub(super) fn are_chunks(items: &[Value]) -> bool {
    let is_chunk = |item: &Value| {
        let kind = str_of(item, &["type"]).unwrap_or_default();
        str_of(item, &["object"]).is_some_and(|object| object.ends_with(".chunk"))
            || item.pointer("/choices/0/delta").is_some()
            || (item.get("choices").is_some() && item.get("object").is_some_and(|o| o == "text_completion"))
            || kind.starts_with("response.")
            || matches!(
                kind,
                "message_start" | "content_block_start" | "content_block_delta" | "message_delta"
            )
    };
    items.iter().any(is_chunk)
}

/// The body behind the chunks.
pub(super) fn assemble(chunks: &[Value]) -> Value {
    let kind_of = |chunk: &Value| str_of(chunk, &["type"]).unwrap_or_default().to_owned();
    if chunks.iter().any(|c| kind_of(c).starts_with("response.")) {
        responses(chunks)
    } else if chunks.iter().any(|c| matches!(kind_of(c).as_str(), "message_start" | "content_block_delta")) {
        anthropic(chunks)
    } else {
        chat(chunks)
    }
}

fn append(object: &mut Map<String, Value>, name: &str, text: &str) {
    match object.get_mut(name) {
        Some(Value::String(before)) => before.push_str(text),
        _ => {
            object.insert(name.to_owned(), text.into());
        }
    }
}

/// Copies what chunks say about the whole.
fn carry(body: &mut Map<String, Value>, chunk: &Value, names: &[&str]) {
    for name in names {
        if let Some(value) = chunk.get(*name).filter(|v| !v.is_null()) {
            body.insert((*name).to_owned(), value.clone());
        }
    }
}

/// Streams number few choices, blocks and calls; hostile indexes must not make long lists.
const INDEX_MAX: usize = 1024;

/// The entry of that index, made if missing.
fn slot(list: &mut Vec<(usize, Map<String, Value>)>, index: usize) -> Option<&mut Map<String, Value>> {
    let at = match list.iter().position(|(i, _)| *i == index) {
        Some(at) => at,
        None if list.len() >= INDEX_MAX => return None,
        None => {
            list.push((index, Map::new()));
            list.len() - 1
        }
    };
    list.get_mut(at).map(|(_, object)| object)
}

fn index_of(chunk: &Value) -> usize {
    chunk.get("index").and_then(Value::as_u64).unwrap_or(0) as usize
}

fn sorted(mut list: Vec<(usize, Map<String, Value>)>) -> Vec<Map<String, Value>> {
    list.sort_by_key(|(index, _)| *index);
    list.into_iter().map(|(_, object)| object).collect()
}

#[derive(Default)]
struct Choice {
    message: Map<String, Value>,
    calls: Vec<(usize, Map<String, Value>)>,
    rest: Map<String, Value>,
}

fn chat(chunks: &[Value]) -> Value {
    let mut body = Map::new();
    let mut choices: Vec<(usize, Choice)> = Vec::new();
    for chunk in chunks {
        carry(&mut body, chunk, &["id", "model", "created", "usage", "error", "service_tier", "provider"]);
        for part in chunk.get("choices").and_then(Value::as_array).into_iter().flatten() {
            let index = index_of(part);
            if choices.len() >= INDEX_MAX {
                break;
            }
            let at = choices.iter().position(|(i, _)| *i == index).unwrap_or_else(|| {
                choices.push((index, Choice::default()));
                choices.len() - 1
            });
            let Some((_, choice)) = choices.get_mut(at) else { continue };
            carry(&mut choice.rest, part, &["finish_reason", "native_finish_reason", "error"]);
            if let Some(text) = str_of(part, &["text"]) {
                append(&mut choice.rest, "text", text);
            }
            let Some(delta) = field(part, &["delta", "message"]) else { continue };
            choice.delta(delta);
        }
    }
    choices.sort_by_key(|(index, _)| *index);
    let choices: Vec<Value> = choices.into_iter().map(|(index, choice)| choice.finish(index)).collect();
    body.insert("choices".into(), choices.into());
    Value::Object(body)
}

impl Choice {
    fn delta(&mut self, delta: &Value) {
        for (name, to) in [
            ("content", "content"),
            ("reasoning", "reasoning"),
            ("reasoning_content", "reasoning"),
            ("refusal", "refusal"),
        ] {
            // Some vendors repeat the reasoning under both names.
            let is_repeated =
                name == "reasoning_content" && delta.get("reasoning").is_some_and(Value::is_string);
            if let (Some(text), false) = (str_of(delta, &[name]), is_repeated) {
                append(&mut self.message, to, text);
            }
        }
        if let Some(call) = delta.get("function_call") {
            self.call(0, call, call);
        }
        for call in delta.get("tool_calls").and_then(Value::as_array).into_iter().flatten() {
            self.call(index_of(call), call, call.get("function").unwrap_or(&Value::Null));
        }
    }

    fn call(&mut self, index: usize, call: &Value, function: &Value) {
        let Some(slot) = slot(&mut self.calls, index) else { return };
        if let Some(id) = str_of(call, &["id"]).filter(|id| !id.is_empty()) {
            slot.insert("id".into(), id.into());
        }
        if let Some(name) = str_of(function, &["name"]) {
            append(slot, "name", name);
        }
        if let Some(arguments) = str_of(function, &["arguments"]) {
            append(slot, "arguments", arguments);
        }
    }

    fn finish(mut self, index: usize) -> Value {
        let calls: Vec<Value> = sorted(self.calls)
            .into_iter()
            .map(Value::Object)
            .map(|call| {
                crate::messages::tool_call(
                    str_of(&call, &["id"]),
                    str_of(&call, &["name"]),
                    field(&call, &["arguments"]),
                )
            })
            .collect();
        let mut choice = std::mem::take(&mut self.rest);
        choice.insert("index".into(), index.into());
        if !choice.contains_key("text") {
            self.message.insert("role".into(), "assistant".into());
            if !calls.is_empty() {
                self.message.insert("tool_calls".into(), calls.into());
            }
            choice.insert("message".into(), Value::Object(self.message));
        }
        Value::Object(choice)
    }
}

fn anthropic(chunks: &[Value]) -> Value {
    let mut body = Map::new();
    let mut usage = Map::new();
    let mut blocks: Vec<(usize, Map<String, Value>)> = Vec::new();
    for chunk in chunks {
        match str_of(chunk, &["type"]).unwrap_or_default() {
            "message_start" => {
                let message = chunk.get("message").unwrap_or(&Value::Null);
                carry(&mut body, message, &["id", "model", "role"]);
                merge(&mut usage, message.get("usage"));
            }
            "content_block_start" => {
                if let (Some(block), Some(slot)) = (
                    chunk.get("content_block").and_then(Value::as_object),
                    slot(&mut blocks, index_of(chunk)),
                ) {
                    *slot = block.clone();
                }
            }
            "content_block_delta" => {
                let delta = chunk.get("delta").unwrap_or(&Value::Null);
                let Some(slot) = slot(&mut blocks, index_of(chunk)) else { continue };
                for (name, to, kind) in [
                    ("text", "text", "text"),
                    ("thinking", "thinking", "thinking"),
                    ("partial_json", "partial_json", "tool_use"),
                ] {
                    if let Some(text) = str_of(delta, &[name]) {
                        slot.entry("type").or_insert_with(|| kind.into());
                        append(slot, to, text);
                    }
                }
            }
            "message_delta" => {
                carry(&mut body, chunk.get("delta").unwrap_or(&Value::Null), &["stop_reason"]);
                // Its counts are cumulative and replace those of the start.
                merge(&mut usage, chunk.get("usage"));
            }
            "error" => carry(&mut body, chunk, &["error"]),
            _ => {}
        }
    }
    let finish = |mut block: Map<String, Value>| {
        if let Some(Value::String(text)) = block.remove("partial_json") {
            let input =
                if text.is_empty() { json!({}) } else { serde_json::from_str(&text).unwrap_or(text.into()) };
            block.insert("input".into(), input);
        }
        Value::Object(block)
    };
    body.insert("type".into(), "message".into());
    body.insert("role".into(), "assistant".into());
    body.insert("content".into(), sorted(blocks).into_iter().map(finish).collect());
    if !usage.is_empty() {
        body.insert("usage".into(), usage.into());
    }
    Value::Object(body)
}

fn merge(usage: &mut Map<String, Value>, more: Option<&Value>) {
    for (name, value) in more.and_then(Value::as_object).into_iter().flatten() {
        if !value.is_null() {
            usage.insert(name.clone(), value.clone());
        }
    }
}

/// Where text is gathered until the item is whole.
const STREAMED_TEXT: &str = "streamed_text";

fn responses(chunks: &[Value]) -> Value {
    let kind_of = |chunk: &Value| str_of(chunk, &["type"]).unwrap_or_default().to_owned();
    let last = chunks.iter().rev().find(|chunk| {
        matches!(kind_of(chunk).as_str(), "response.completed" | "response.incomplete" | "response.failed")
    });
    if let Some(body @ Value::Object(_)) = last.and_then(|chunk| chunk.get("response")) {
        return body.clone();
    }
    // The end is missing: what arrived.
    let mut body = Map::new();
    let mut items: Vec<(usize, Map<String, Value>)> = Vec::new();
    let position = |chunk: &Value| chunk.get("output_index").and_then(Value::as_u64).unwrap_or(0) as usize;
    for chunk in chunks {
        match kind_of(chunk).as_str() {
            "response.created" | "response.in_progress" => {
                carry(&mut body, chunk.get("response").unwrap_or(&Value::Null), &["id", "model", "usage"]);
            }
            "response.output_item.added" | "response.output_item.done" => {
                if let (Some(item), Some(slot)) =
                    (chunk.get("item").and_then(Value::as_object), slot(&mut items, position(chunk)))
                {
                    *slot = item.clone();
                }
            }
            "response.output_text.delta" => {
                if let (Some(text), Some(slot)) =
                    (str_of(chunk, &["delta"]), slot(&mut items, position(chunk)))
                {
                    slot.insert("type".into(), "message".into());
                    slot.insert("role".into(), "assistant".into());
                    append(slot, STREAMED_TEXT, text);
                }
            }
            "response.function_call_arguments.delta" => {
                if let (Some(text), Some(slot)) =
                    (str_of(chunk, &["delta"]), slot(&mut items, position(chunk)))
                {
                    slot.entry("type").or_insert_with(|| "function_call".into());
                    append(slot, "arguments", text);
                }
            }
            "error" => {
                body.insert("error".into(), chunk.get("error").unwrap_or(chunk).clone());
            }
            _ => {}
        }
    }
    body.insert("object".into(), "response".into());
    body.insert("status".into(), "incomplete".into());
    let finish = |mut item: Map<String, Value>| {
        if let Some(text) = item.remove(STREAMED_TEXT) {
            item.insert("content".into(), json!([{"type": "output_text", "text": text}]));
        }
        Value::Object(item)
    };
    body.insert("output".into(), sorted(items).into_iter().map(finish).collect());
    Value::Object(body)
}
