//! What a model answered, from a response body or message list of any known API.

use serde_json::{Map, Value, json};

use crate::messages::{self, field, push_arguments, push_line, str_of};

/// One answer: the value behind `gen_ai.completion` (broadcast-contract.md 5.5).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Completion {
    /// The text; `None` if the answer is tool calls alone.
    pub text: Option<String>,
    /// What the model thought aloud.
    pub reasoning: Option<String>,
    /// `{id, index, type, function: {name, arguments}}`, arguments as JSON text.
    pub tool_calls: Vec<Value>,
    /// The vendor's own word for why it ended.
    pub finish_reason: Option<String>,
    /// Further choices of the same request (`n` > 1).
    pub others: Vec<Completion>,
}

impl Completion {
    /// An answer of plain text.
    pub(crate) fn from_text(text: impl Into<String>) -> Completion {
        Completion { text: Some(text.into()), ..Completion::default() }
    }

    /// Reads a response body, a message, a list of messages or choices. `None` if the shape is not known.
    pub fn from_json(body: &Value) -> Option<Completion> {
        match body {
            Value::String(text) => Some(Completion::from_text(text.clone())),
            Value::Array(items) => Completion::from_items(items),
            Value::Object(object) => Completion::from_object(body, object),
            _ => None,
        }
    }

    /// `{"completion", "reasoning", "toolCalls"}`, with `choices` if there is more than one.
    pub fn to_json(&self) -> Value {
        let mut out = json!({
            "completion": self.text,
            "reasoning": self.reasoning,
            "toolCalls": self.tool_calls,
        });
        if !self.others.is_empty() {
            let rest = Completion { others: Vec::new(), ..self.clone() };
            let choices: Vec<Value> =
                std::iter::once(&rest).chain(&self.others).map(Completion::to_json).collect();
            out["choices"] = choices.into();
        }
        out
    }

    /// Text and tool-call arguments of every choice, one per line.
    pub(crate) fn push_text(&self, out: &mut String) {
        push_line(out, self.text.as_deref().unwrap_or_default());
        for call in &self.tool_calls {
            push_arguments(out, Some(&Value::Array(vec![call.clone()])));
        }
        self.others.iter().for_each(|other| other.push_text(out));
    }

    fn from_object(body: &Value, object: &Map<String, Value>) -> Option<Completion> {
        if let Some(Value::Array(choices)) = object.get("choices") {
            return Some(first_of(choices.iter().filter_map(choice)));
        }
        if let Some(Value::Array(candidates)) = object.get("candidates") {
            return Some(first_of(candidates.iter().filter_map(|candidate| {
                let mut read = field(candidate, &["content"]).map(|c| message(&as_assistant(c)))?;
                read.finish_reason = str_of(candidate, &["finishReason"]).map(str::to_owned);
                Some(read)
            })));
        }
        if let Some(output @ Value::Array(items)) = object.get("output") {
            let mut read = Completion::from_items(items).unwrap_or_default();
            if output.as_array().is_some_and(Vec::is_empty) {
                read.text = str_of(body, &["output_text"]).map(str::to_owned);
            }
            read.finish_reason = responses_finish(body, &read);
            return Some(read);
        }
        if object.contains_key("completion") {
            let mut read = Completion {
                text: field(body, &["completion"]).map(messages::text_or_json),
                reasoning: str_of(body, &["reasoning"]).map(str::to_owned),
                finish_reason: str_of(body, &["finish_reason", "stop_reason"]).map(str::to_owned),
                ..Completion::default()
            };
            read.tool_calls = numbered(field(body, &["toolCalls", "tool_calls"]).unwrap_or(&Value::Null));
            return Some(read);
        }
        if object.contains_key("parts") || object.contains_key("content") {
            let mut read = message(&as_assistant(body));
            read.finish_reason = str_of(body, &["finish_reason", "stop_reason"]).map(str::to_owned);
            return Some(read);
        }
        if let Some(inner @ Value::Object(_)) = object.get("message") {
            let mut read = message(&as_assistant(inner));
            read.finish_reason = str_of(body, &["finish_reason", "done_reason"]).map(str::to_owned);
            return Some(read);
        }
        if object.contains_key("tool_calls") || object.contains_key("toolCalls") {
            let calls = field(body, &["tool_calls", "toolCalls"]).unwrap_or(&Value::Null);
            return Some(Completion { tool_calls: numbered(calls), ..Completion::default() });
        }
        if let Some(Value::Array(items)) = object.get("data")
            && items.iter().any(|item| item.get("embedding").is_some())
        {
            // Vectors are no text and far too long to keep.
            return Some(Completion::default());
        }
        str_of(body, &["response", "text", "generated_text", "output_text", "output"]).map(|text| {
            Completion {
                finish_reason: str_of(body, &["finish_reason", "done_reason", "stop_reason"])
                    .map(str::to_owned),
                ..Completion::from_text(text)
            }
        })
    }

    fn from_items(items: &[Value]) -> Option<Completion> {
        let is_choice = |item: &Value| {
            item.get("role").is_none()
                && item.get("type").is_none()
                && (item.get("message").is_some()
                    || item.get("text").is_some()
                    || item.get("delta").is_some())
        };
        if items.is_empty() {
            return Some(Completion::default());
        }
        if items.iter().all(is_choice) {
            return Some(first_of(items.iter().filter_map(choice)));
        }
        if items.iter().all(Value::is_string) {
            let texts: Vec<&str> = items.iter().filter_map(Value::as_str).collect();
            return Some(Completion::from_text(texts.join("\n")));
        }
        // OTel output messages: one per choice.
        if items.len() > 1 && items.iter().all(|item| item.get("parts").is_some()) {
            return Some(first_of(items.iter().filter_map(Completion::from_json)));
        }
        if items.iter().all(|item| item.get("role").is_some() || is_responses_item(item)) {
            let mut read = Completion::default();
            for item in items {
                read.absorb(message(&as_assistant(item)));
                if let Some(reason) = str_of(item, &["finish_reason"]) {
                    read.finish_reason = Some(reason.to_owned());
                }
            }
            read.renumber();
            return Some(read);
        }
        // Content blocks of one message.
        let is_block = |item: &Value| item.get("type").is_some_and(Value::is_string);
        items.iter().all(is_block).then(|| message(&json!({"role": "assistant", "content": items})))
    }

    fn absorb(&mut self, other: Completion) {
        let join = |into: &mut Option<String>, from: Option<String>| {
            let Some(from) = from else { return };
            push_line(into.get_or_insert_default(), &from);
        };
        join(&mut self.text, other.text);
        join(&mut self.reasoning, other.reasoning);
        self.tool_calls.extend(other.tool_calls);
    }

    fn renumber(&mut self) {
        for (index, call) in self.tool_calls.iter_mut().enumerate() {
            if let Some(object) = call.as_object_mut() {
                object.insert("index".into(), index.into());
            }
        }
    }
}

fn is_responses_item(item: &Value) -> bool {
    matches!(
        str_of(item, &["type"]),
        Some("message" | "function_call" | "reasoning" | "custom_tool_call" | "function_call_output")
    ) || str_of(item, &["type"]).is_some_and(|kind| kind.ends_with("_call"))
}

/// Content without a role is the model's here.
fn as_assistant(item: &Value) -> Value {
    let mut item = item.clone();
    if let Some(object) = item.as_object_mut()
        && !matches!(object.get("role"), Some(Value::String(_)))
    {
        object.insert("role".into(), "assistant".into());
    }
    item
}

fn first_of(all: impl Iterator<Item = Completion>) -> Completion {
    let mut all = all;
    let mut first = all.next().unwrap_or_default();
    first.others = all.collect();
    first
}

fn choice(item: &Value) -> Option<Completion> {
    let mut read = match field(item, &["message", "delta"]) {
        Some(Value::String(text)) => Completion::from_text(text.clone()),
        Some(inner) => message(&as_assistant(inner)),
        None => match str_of(item, &["text"]) {
            Some(text) => Completion::from_text(text),
            None => Completion::from_json(item).unwrap_or_default(),
        },
    };
    read.finish_reason = str_of(item, &["finish_reason"]).map(str::to_owned);
    Some(read)
}

/// One message, whatever its form.
fn message(item: &Value) -> Completion {
    let mut read = Completion::default();
    for chat in messages::from_list(item) {
        let mut text = String::new();
        let content = chat.get("content").unwrap_or(&Value::Null);
        match content {
            Value::String(content) => text.clone_from(content),
            Value::Array(parts) => parts.iter().for_each(|part| match str_of(part, &["text", "refusal"]) {
                Some(line) => push_line(&mut text, line),
                // An image or a hosted tool's own item: kept as what it is.
                None => push_line(&mut text, &part.to_string()),
            }),
            _ => {}
        }
        if text.is_empty() {
            text.push_str(str_of(&chat, &["refusal"]).unwrap_or_default());
        }
        // A tool's answer inside of the output is not the model's text.
        let is_models = chat.get("role").is_none_or(|role| role != "tool");
        let has_text = is_models && (!text.is_empty() || content.is_string());
        let calls = match field(&chat, &["tool_calls", "toolCalls"]) {
            Some(calls) => numbered(calls),
            None => chat.get("function_call").filter(|c| c.is_object()).map_or(Vec::new(), |call| {
                vec![messages::tool_call(None, str_of(call, &["name"]), field(call, &["arguments"]))]
            }),
        };
        read.absorb(Completion {
            text: has_text.then_some(text),
            reasoning: str_of(&chat, &["reasoning", "reasoning_content", "thinking"]).map(str::to_owned),
            tool_calls: calls,
            ..Completion::default()
        });
    }
    read.renumber();
    read
}

/// Tool calls of any spelling as `{id, index, type, function{name, arguments}}`.
fn numbered(calls: &Value) -> Vec<Value> {
    let one = |(index, call): (usize, &Value)| {
        let mut call = match call.get("function") {
            Some(Value::Object(_)) => call.clone(),
            _ => messages::tool_call(
                str_of(call, &["id", "toolCallId", "call_id"]),
                str_of(call, &["name", "toolName"]),
                field(call, &["arguments", "args", "input"]),
            ),
        };
        if let Some(object) = call.as_object_mut() {
            object.entry("index").or_insert(index.into());
        }
        call
    };
    calls.as_array().into_iter().flatten().enumerate().map(one).collect()
}

/// Responses bodies say how they ended by status and details.
fn responses_finish(body: &Value, read: &Completion) -> Option<String> {
    let details = body.get("incomplete_details").and_then(|d| str_of(d, &["reason"]));
    if let Some(reason) = details {
        return Some(reason.to_owned());
    }
    match str_of(body, &["status"])? {
        "completed" if !read.tool_calls.is_empty() => Some("tool_calls".into()),
        "completed" => Some("stop".into()),
        "failed" => Some("error".into()),
        other => Some(other.to_owned()),
    }
}
