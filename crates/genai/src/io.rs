//! Input and output of a call, from whichever attributes, flattened keys or span events hold them.

use std::borrow::Cow;

use serde_json::{Map, Value as Json, json};
use tracecast_otlp::{EventView, Value};

use crate::completion::Completion;
use crate::keys;
use crate::messages;
use crate::view::{Generation, is_given, json_of_text, plain_json, to_json};

/// Where the words were found.
enum Found<'a> {
    /// One attribute holds them all.
    Whole(Value<'a>),
    /// Put together here: messages, or for output one JSON body.
    Built(Json),
}

impl<'a> Generation<'a> {
    /// `{"messages":[...]}` as JSON text, in chat-completions shape where it can be had. JSON that is in
    /// that shape already is handed on byte for byte; an object of no known shape as it is.
    pub fn input_json(&self) -> Option<Cow<'a, str>> {
        match self.input()? {
            Found::Built(list) => Some(Cow::Owned(envelope(&list))),
            Found::Whole(value) => {
                let body = to_json(&value)?;
                let (bare, text) = (!self.has_instructions(), value.as_str());
                match (&body, text) {
                    (Json::Object(object), Some(text))
                        if bare
                            && is_chat_body(object)
                            && object.get("messages").is_some_and(messages::all_chat) =>
                    {
                        Some(Cow::Borrowed(text))
                    }
                    (Json::Array(_), Some(text)) if bare && messages::all_chat(&body) => {
                        Some(Cow::Owned(format!("{{\"messages\":{text}}}")))
                    }
                    _ => match self.messages_of(&body) {
                        Some(list) => Some(Cow::Owned(envelope(&Json::Array(list)))),
                        None => Some(text.map_or_else(|| Cow::Owned(body.to_string()), Cow::Borrowed)),
                    },
                }
            }
        }
    }

    /// The input as chat-completions messages; empty if there is none or its shape is not known.
    pub fn messages(&self) -> Vec<Json> {
        match self.input() {
            Some(Found::Built(Json::Array(list))) => list,
            Some(Found::Whole(value)) => {
                to_json(&value).and_then(|body| self.messages_of(&body)).unwrap_or_default()
            }
            _ => Vec::new(),
        }
    }

    /// `{"completion", "reasoning", "toolCalls"}` as JSON text, or the JSON object given as it is.
    pub fn output_json(&self) -> Option<Cow<'a, str>> {
        match self.output()? {
            Found::Built(body) => Some(Cow::Owned(Completion::from_json(&body)?.to_json().to_string())),
            Found::Whole(value) => {
                let text = value.as_str();
                match to_json(&value)? {
                    // Parts are no one's output format but OTel's: converted. Other objects stay.
                    Json::Object(object) if !object.contains_key("parts") => {
                        Some(text.map_or_else(|| Cow::Owned(Json::Object(object).to_string()), Cow::Borrowed))
                    }
                    body => match Completion::from_json(&body) {
                        Some(read) => Some(Cow::Owned(read.to_json().to_string())),
                        None => Some(Cow::Owned(json!({"completion": body}).to_string())),
                    },
                }
            }
        }
    }

    /// The answer, taken apart. `None` if there is none or its shape is not known.
    pub fn completion(&self) -> Option<Completion> {
        match self.output()? {
            Found::Built(body) => Completion::from_json(&body),
            Found::Whole(value) => Completion::from_json(&to_json(&value)?),
        }
    }

    /// Text of the messages, parts joined by newline, tool-call arguments included (for filter rules).
    pub fn input_text(&self) -> Option<Cow<'a, str>> {
        let list = match self.input()? {
            Found::Built(Json::Array(list)) => list,
            Found::Built(_) => return None,
            Found::Whole(value) => {
                let plain = value.as_str().filter(|text| json_of_text(text).is_none());
                if let Some(text) = plain.filter(|_| !self.has_instructions()) {
                    return Some(Cow::Borrowed(text));
                }
                let body = to_json(&value)?;
                match self.messages_of(&body) {
                    Some(list) => list,
                    None => {
                        return Some(value.as_str().map_or_else(|| body.to_string().into(), Cow::Borrowed));
                    }
                }
            }
        };
        let mut text = String::new();
        messages::push_text(&mut text, &list);
        Some(Cow::Owned(text))
    }

    /// Text of the answer, tool-call arguments included (for filter rules).
    pub fn output_text(&self) -> Option<Cow<'a, str>> {
        let body = match self.output()? {
            Found::Built(body) => body,
            Found::Whole(value) => match value.as_str() {
                Some(plain) if json_of_text(plain).is_none() => return Some(Cow::Borrowed(plain)),
                _ => to_json(&value)?,
            },
        };
        match Completion::from_json(&body) {
            Some(read) => {
                let mut text = String::new();
                read.push_text(&mut text);
                Some(Cow::Owned(text))
            }
            None => Some(Cow::Owned(body.to_string())),
        }
    }

    fn has_instructions(&self) -> bool {
        self.span().attribute(keys::SYSTEM_INSTRUCTIONS).is_some_and(|v| is_given(&v))
    }

    /// The messages of a body, the separate system instructions in front.
    fn messages_of(&self, body: &Json) -> Option<Vec<Json>> {
        let mut list = messages::from_request(body)?;
        if let Some(system) =
            self.span().attribute(keys::SYSTEM_INSTRUCTIONS).filter(is_given).and_then(|v| to_json(&v))
        {
            let mut first = messages::from_list(&json!({"role": "system", "content": system}));
            first.append(&mut list);
            list = first;
        }
        Some(list)
    }

    fn input(&self) -> Option<Found<'a>> {
        if let Some(value) = self.first(keys::INPUT_FIRST) {
            return Some(Found::Whole(value));
        }
        if let Some(list) =
            self.flattened(keys::OI_INPUT_PREFIX).or_else(|| self.flattened(keys::OI_PROMPTS_PREFIX))
        {
            return Some(Found::Built(Json::Array(as_messages(list, "user"))));
        }
        if let Some(value) = self.first(keys::INPUT_NEXT) {
            return Some(Found::Whole(value));
        }
        if let Some(list) = self.flattened(keys::PROMPT_PREFIX) {
            return Some(Found::Built(Json::Array(as_messages(list, "user"))));
        }
        if let Some(found) = self.input_of_events() {
            return Some(found);
        }
        self.first(keys::INPUT_LAST).map(Found::Whole)
    }

    fn output(&self) -> Option<Found<'a>> {
        if let Some(value) = self.first(keys::OUTPUT_FIRST) {
            return Some(Found::Whole(value));
        }
        if let Some(list) = self.flattened(keys::OI_OUTPUT_PREFIX).or_else(|| self.flattened("llm.choices."))
        {
            return Some(Found::Built(Json::Array(as_messages(list, "assistant"))));
        }
        if let Some(body) = self.vercel_output() {
            return Some(Found::Built(body));
        }
        if let Some(value) = self.first(keys::OUTPUT_NEXT) {
            return Some(Found::Whole(value));
        }
        if let Some(list) = self.flattened(keys::COMPLETION_PREFIX) {
            return Some(Found::Built(Json::Array(as_messages(list, "assistant"))));
        }
        if let Some(found) = self.output_of_events() {
            return Some(found);
        }
        self.first(keys::OUTPUT_LAST).map(Found::Whole)
    }

    fn vercel_output(&self) -> Option<Json> {
        let text = self.str(keys::VERCEL_TEXT).or_else(|| self.str(keys::VERCEL_OBJECT));
        let calls =
            self.span().attribute(keys::VERCEL_TOOL_CALLS).filter(is_given).and_then(|calls| to_json(&calls));
        if text.is_none() && calls.is_none() {
            return None;
        }
        Some(json!({"completion": text, "reasoning": self.str(keys::VERCEL_REASONING), "toolCalls": calls}))
    }

    /// The numbered attributes under `prefix` as a list of objects: `{prefix}{i}.a.{j}.b` = v becomes
    /// `[i] = {a: [j] = {b: v}}`. `None` if there are none.
    fn flattened(&self, prefix: &str) -> Option<Json> {
        let mut root = Json::Null;
        for raw in self.span().attributes().raw() {
            let Some(rest) = raw.key_bytes().strip_prefix(prefix.as_bytes()) else { continue };
            let is_numbered = rest.first().is_some_and(u8::is_ascii_digit);
            if let (true, Some(key), Some(value)) =
                (is_numbered, raw.key().get(prefix.len()..), plain_json(&raw.value()))
            {
                place(&mut root, key, value);
            }
        }
        if root.is_null() {
            return None;
        }
        Some(listed(root))
    }

    fn input_of_events(&self) -> Option<Found<'a>> {
        let mut list = Vec::new();
        for event in self.span().events() {
            let role = match event.name() {
                "gen_ai.content.prompt" | "gen_ai.client.inference.operation.details" => {
                    let found = ["gen_ai.input.messages", "gen_ai.prompt", "gen_ai.event.content"]
                        .iter()
                        .find_map(|key| event.attribute(key).filter(is_given));
                    match found {
                        Some(value) => return Some(Found::Whole(value)),
                        None => continue,
                    }
                }
                "gen_ai.system.message" => "system",
                "gen_ai.user.message" => "user",
                "gen_ai.assistant.message" => "assistant",
                "gen_ai.tool.message" => "tool",
                _ => continue,
            };
            list.extend(messages::from_list(&event_message(event, role)));
        }
        if list.is_empty() {
            list =
                self.logfire(|name| name != "gen_ai.choice").iter().flat_map(messages::from_list).collect();
        }
        (!list.is_empty()).then_some(Found::Built(Json::Array(list)))
    }

    fn output_of_events(&self) -> Option<Found<'a>> {
        let mut choices = Vec::new();
        for event in self.span().events() {
            match event.name() {
                "gen_ai.content.completion" | "gen_ai.client.inference.operation.details" => {
                    let found = ["gen_ai.output.messages", "gen_ai.completion", "gen_ai.event.content"]
                        .iter()
                        .find_map(|key| event.attribute(key).filter(is_given));
                    if let Some(value) = found {
                        return Some(Found::Whole(value));
                    }
                }
                "gen_ai.choice" => choices.push(event_message(event, "assistant")),
                _ => {}
            }
        }
        if choices.is_empty() {
            choices = self.logfire(|name| name == "gen_ai.choice");
        }
        (!choices.is_empty()).then(|| Found::Built(json!({"choices": choices})))
    }

    /// Logfire keeps the message events as a JSON list in one attribute.
    fn logfire(&self, wanted: impl Fn(&str) -> bool) -> Vec<Json> {
        let Some(Json::Array(events)) =
            self.span().attribute(keys::LOGFIRE_EVENTS).filter(is_given).and_then(|v| to_json(&v))
        else {
            return Vec::new();
        };
        let is_wanted = |event: &Json| {
            let name = event.get("event.name").and_then(Json::as_str);
            name.is_some_and(|name| name.starts_with("gen_ai.") && wanted(name))
        };
        events.into_iter().filter(is_wanted).collect()
    }
}

fn envelope(list: &Json) -> String {
    format!("{{\"messages\":{list}}}")
}

/// A body whose only input is its `messages`.
fn is_chat_body(object: &Map<String, Json>) -> bool {
    !["system", "instructions", "input", "prompt"].iter().any(|name| object.contains_key(*name))
}

/// The message of a v1.28 event, from its attributes or from one attribute that holds them as JSON.
fn event_message(event: EventView<'_>, role: &str) -> Json {
    let mut message = Map::new();
    for (key, value) in event.attributes() {
        let Some(value) = to_json(&value) else { continue };
        match (key, value) {
            ("gen_ai.event.content", Json::Object(object)) => message.extend(object),
            ("gen_ai.event.content", text) => {
                message.insert("content".into(), text);
            }
            ("content" | "role" | "tool_calls" | "name" | "finish_reason" | "message" | "index", value) => {
                message.insert(key.to_owned(), value);
            }
            ("id", value) => {
                message.insert("tool_call_id".into(), value);
            }
            _ => {}
        }
    }
    if !message.contains_key("message") {
        message.entry("role").or_insert_with(|| role.into());
    }
    Json::Object(message)
}

/// Puts `value` at a dotted path below `root`. Levels of numbers stay objects until `listed`.
fn place(root: &mut Json, path: &str, value: Json) {
    // Deeper paths are not written by anyone; the bound keeps hostile keys from building deep trees.
    const DEPTH_MAX: usize = 16;
    let mut at = root;
    for segment in path.split('.').take(DEPTH_MAX) {
        if !at.is_object() {
            *at = Json::Object(Map::new());
        }
        let Some(object) = at.as_object_mut() else { return };
        at = object.entry(segment).or_insert(Json::Null);
    }
    *at = value;
}

/// Objects whose keys are all numbers become lists in numeric order.
fn listed(value: Json) -> Json {
    let Json::Object(object) = value else { return value };
    let is_list = !object.is_empty() && object.keys().all(|key| key.bytes().all(|b| b.is_ascii_digit()));
    if !is_list {
        return object.into_iter().map(|(key, value)| (key, listed(value))).collect();
    }
    let number = |key: &str| key.parse::<u64>().unwrap_or(u64::MAX);
    let mut items: Vec<(u64, Json)> =
        object.into_iter().map(|(key, value)| (number(&key), listed(value))).collect();
    items.sort_by_key(|(index, _)| *index);
    items.into_iter().map(|(_, value)| value).collect()
}

/// Messages of the flattened forms (`{"message": {...}}` of OpenInference, bare ones of OpenLLMetry).
fn as_messages(list: Json, default_role: &str) -> Vec<Json> {
    let Json::Array(items) = list else { return Vec::new() };
    let mut out = Vec::new();
    for item in items {
        let Json::Object(object) = item else {
            out.push(json!({"role": default_role, "content": item}));
            continue;
        };
        let (mut message, finish) = (object.get("message").cloned(), object.get("finish_reason").cloned());
        let mut body = match message.take() {
            Some(Json::Object(inner)) => inner,
            _ => object,
        };
        // `llm.prompts.{i}.prompt.text` and `llm.choices.{i}.completion.text`.
        for name in ["prompt", "completion"] {
            if let Some(text) = body.get(name).and_then(|inner| inner.get("text")).cloned() {
                body.remove(name);
                body.insert("content".into(), text);
            }
        }
        if let Some(contents) = body.remove("contents") {
            body.insert("content".into(), contents);
        }
        if let Some(Json::Array(calls)) = body.remove("tool_calls") {
            body.insert("tool_calls".into(), calls.iter().map(flattened_call).collect());
        }
        body.entry("role").or_insert_with(|| default_role.into());
        let mut read = messages::from_list(&unwrapped_contents(Json::Object(body)));
        if let (Some(reason), Some(object)) = (finish, read.last_mut().and_then(Json::as_object_mut)) {
            object.insert("finish_reason".into(), reason);
        }
        out.append(&mut read);
    }
    out
}

/// `{"tool_call": {"id", "function": {...}}}` or `{"id", "name", "arguments"}`.
fn flattened_call(call: &Json) -> Json {
    let call = call.get("tool_call").unwrap_or(call);
    let function = call.get("function").unwrap_or(call);
    messages::tool_call(
        messages::str_of(call, &["id"]),
        messages::str_of(function, &["name"]),
        messages::field(function, &["arguments"]),
    )
}

/// OpenInference's `message_content` parts: `{type, text}` or an image at `image.image.url`.
fn unwrapped_contents(mut message: Json) -> Json {
    let Some(Json::Array(parts)) = message.get_mut("content") else { return message };
    for part in parts {
        let Some(inner) = part.get("message_content") else { continue };
        *part = match inner.pointer("/image/image/url").or_else(|| inner.pointer("/image/url")) {
            Some(url) => json!({"type": "image_url", "image_url": {"url": url}}),
            None => inner.clone(),
        };
    }
    message
}
