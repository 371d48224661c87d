//! Message lists of every known API and convention, read as chat-completions messages.
//!
//! Accepts OTel parts, OpenAI chat and Responses items, Anthropic and Gemini content, Vercel and LangChain
//! messages. A message that is in chat form already is kept as it is.

use serde_json::{Map, Value, json};

/// The first of `names` that is a string.
pub(crate) fn str_of<'v>(value: &'v Value, names: &[&str]) -> Option<&'v str> {
    names.iter().find_map(|name| value.get(name)?.as_str())
}

/// The first of `names` that is there and not null.
pub(crate) fn field<'v>(value: &'v Value, names: &[&str]) -> Option<&'v Value> {
    names.iter().find_map(|name| value.get(name).filter(|v| !v.is_null()))
}

/// A string as it is, anything else as JSON text.
pub(crate) fn text_or_json(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// The messages of a request body; `None` if it holds nothing that is known to be input.
pub(crate) fn from_request(body: &Value) -> Option<Vec<Value>> {
    let mut out = Vec::new();
    match body {
        Value::Object(object) => {
            for name in ["system", "instructions", "system_instruction", "systemInstruction"] {
                if let Some(system) = object.get(name).filter(|v| !v.is_null() && **v != json!("")) {
                    push_content(&mut out, "system", system, Map::new());
                }
            }
            for name in ["messages", "input", "prompt", "contents"] {
                match object.get(name) {
                    None | Some(Value::Null) => {}
                    // Vercel nests `{prompt: {messages}}`; one level is all there is.
                    Some(inner @ Value::Object(o)) if o.contains_key("messages") => {
                        out.extend(from_list(inner.get("messages").unwrap_or(&Value::Null)));
                    }
                    Some(list) => out.extend(from_list(list)),
                }
            }
        }
        list => out = from_list(list),
    }
    (!out.is_empty()).then_some(out)
}

/// A list of messages (or one, or a text).
pub(crate) fn from_list(list: &Value) -> Vec<Value> {
    let mut out = Vec::new();
    push_message(&mut out, list);
    out
}

/// True if every message can be handed on unchanged.
pub(crate) fn all_chat(messages: &Value) -> bool {
    messages.as_array().is_some_and(|list| !list.is_empty() && list.iter().all(is_chat))
}

fn is_chat(message: &Value) -> bool {
    let role = message.get("role").and_then(Value::as_str);
    if !matches!(role, Some("system" | "developer" | "user" | "assistant" | "tool" | "function"))
        || message.get("parts").is_some()
        // Responses items name their kind beside the role.
        || message.get("type").is_some()
    {
        return false;
    }
    match message.get("content") {
        None | Some(Value::Null | Value::String(_)) => true,
        Some(Value::Array(parts)) => parts.iter().all(|part| match str_of(part, &["type"]) {
            Some("text") => part.get("text").is_some(),
            Some("image_url" | "input_audio" | "file" | "refusal" | "video_url") => true,
            _ => false,
        }),
        Some(_) => false,
    }
}

fn push_message(out: &mut Vec<Value>, item: &Value) {
    match item {
        Value::Null => {}
        Value::String(text) => out.push(json!({"role": "user", "content": text})),
        Value::Array(items) => items.iter().for_each(|item| push_message(out, item)),
        Value::Object(object) => push_object(out, item, object),
        scalar => out.push(json!({"role": "user", "content": scalar.to_string()})),
    }
}

fn push_object(out: &mut Vec<Value>, item: &Value, object: &Map<String, Value>) {
    if is_chat(item) {
        out.push(item.clone());
        return;
    }
    // OpenInference's JSON form wraps each message.
    if let Some(inner @ Value::Object(_)) = object.get("message")
        && object.get("role").is_none()
    {
        push_message(out, inner);
        return;
    }
    // LangChain's serialised form has the message in `kwargs`.
    if let Some(inner @ Value::Object(_)) = object.get("kwargs")
        && object.contains_key("lc")
    {
        push_message(out, inner);
        return;
    }
    let kind = str_of(item, &["type"]);
    let role = match str_of(item, &["role"]).or(kind) {
        Some("human" | "user") => "user",
        Some("ai" | "assistant" | "model" | "AIMessageChunk") => "assistant",
        Some("system") => "system",
        Some("developer") => "developer",
        Some("tool") => "tool",
        Some("function") => "function",
        _ => match kind {
            Some("function_call" | "reasoning" | "custom_tool_call") => "assistant",
            Some("function_call_output" | "custom_tool_call_output") => "tool",
            _ if object.contains_key("role") => "assistant",
            _ => "user",
        },
    };
    let content = match kind {
        // Responses items that are content themselves.
        Some(
            "function_call"
            | "custom_tool_call"
            | "function_call_output"
            | "custom_tool_call_output"
            | "reasoning",
        ) => item,
        _ => match field(item, &["parts", "content"]) {
            Some(content) => content,
            None if object.contains_key("role") => &Value::Null,
            None => item,
        },
    };
    let mut rest = Map::new();
    for (key, value) in object {
        let is_read = matches!(key.as_str(), "role" | "parts" | "content" | "type" | "status");
        if !is_read && !std::ptr::eq(content, item) && !value.is_null() {
            rest.insert(key.clone(), value.clone());
        }
    }
    push_content(out, role, content, rest);
}

/// What the blocks of one message amount to.
#[derive(Default)]
struct Gathered {
    parts: Vec<Value>,
    reasoning: Vec<String>,
    tool_calls: Vec<Value>,
    tool_results: Vec<Value>,
}

fn push_content(out: &mut Vec<Value>, role: &str, content: &Value, mut rest: Map<String, Value>) {
    let mut gathered = Gathered::default();
    match content {
        Value::Array(blocks) => blocks.iter().for_each(|block| gathered.block(block)),
        Value::Object(object) if object.contains_key("parts") => {
            field(content, &["parts"])
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .for_each(|block| gathered.block(block));
        }
        Value::Null => {}
        block => gathered.block(block),
    }
    let Gathered { parts, reasoning, tool_calls, tool_results } = gathered;
    // A tool's answer precedes what the user says next, as chat completions want it.
    out.extend(tool_results.iter().cloned());
    let is_empty = parts.is_empty() && reasoning.is_empty() && tool_calls.is_empty();
    if is_empty && !tool_results.is_empty() {
        return;
    }
    rest.insert("role".into(), role.into());
    rest.insert("content".into(), joined(parts));
    if !reasoning.is_empty() {
        rest.insert("reasoning".into(), reasoning.join("\n").into());
    }
    if !tool_calls.is_empty() {
        rest.insert("tool_calls".into(), tool_calls.into());
    }
    out.push(Value::Object(rest));
}

/// Plain text parts become one string; anything richer stays a list.
fn joined(parts: Vec<Value>) -> Value {
    let is_plain = |part: &Value| {
        part.as_object().is_some_and(|o| o.len() == 2 && o.get("type").is_some_and(|t| t == "text"))
    };
    match parts.is_empty() {
        true => Value::Null,
        false if parts.iter().all(is_plain) => {
            let texts: Vec<&str> = parts.iter().filter_map(|part| str_of(part, &["text"])).collect();
            texts.join("\n").into()
        }
        false => parts.into(),
    }
}

impl Gathered {
    fn block(&mut self, block: &Value) {
        let object = match block {
            Value::String(text) => return self.text(text, block),
            Value::Object(object) => object,
            Value::Null => return,
            other => return self.parts.push(other.clone()),
        };
        if let Some(inner) = object.get("message_content") {
            return self.block(inner);
        }
        match str_of(block, &["type"]) {
            Some("text" | "input_text" | "output_text" | "summary_text") => {
                match str_of(block, &["text", "content"]) {
                    Some(text) => self.text(text, block),
                    None => self.parts.push(block.clone()),
                }
            }
            Some(
                "tool_use" | "tool_call" | "tool-call" | "server_tool_use" | "function_call"
                | "custom_tool_call",
            ) => self.tool_call(
                str_of(block, &["call_id", "id", "toolCallId", "tool_call_id"]),
                str_of(block, &["name", "toolName"]),
                field(block, &["input", "arguments", "args"]),
            ),
            Some(
                "tool_result"
                | "tool_call_response"
                | "tool-result"
                | "function_call_output"
                | "custom_tool_call_output",
            ) => self.tool_result(
                str_of(block, &["tool_use_id", "call_id", "id", "toolCallId"]),
                field(block, &["content", "response", "result", "output"]),
            ),
            Some("thinking" | "reasoning") => self.think(block),
            Some("redacted_thinking") => {}
            Some("image" | "document" | "file") if object.contains_key("source") => self.sourced(block),
            Some("image") if object.get("image").is_some_and(Value::is_string) => {
                self.image(str_of(block, &["image"]).unwrap_or_default());
            }
            Some("input_image") => match str_of(block, &["image_url"]) {
                Some(url) => self.image(url),
                None => self.parts.push(block.clone()),
            },
            Some("input_file") => {
                let mut file = object.clone();
                file.remove("type");
                self.parts.push(json!({"type": "file", "file": file}));
            }
            Some("blob") => self.blob(block),
            Some("uri") => match str_of(block, &["uri", "url"]) {
                Some(url) if str_of(block, &["modality"]).unwrap_or("image") == "image" => self.image(url),
                _ => self.parts.push(block.clone()),
            },
            Some(_) => self.parts.push(block.clone()),
            None => self.untyped(block),
        }
    }

    /// Gemini parts and other blocks that name their kind by their key.
    fn untyped(&mut self, block: &Value) {
        if let Some(text) = str_of(block, &["text"]) {
            match block.get("thought").and_then(Value::as_bool) {
                Some(true) => self.reasoning.push(text.to_owned()),
                _ => self.text(text, &Value::Null),
            }
        } else if let Some(call) = field(block, &["functionCall", "function_call"]) {
            self.tool_call(
                str_of(call, &["id"]),
                str_of(call, &["name"]),
                field(call, &["args", "arguments"]),
            );
        } else if let Some(answer) = field(block, &["functionResponse", "function_response"]) {
            self.tool_result(str_of(answer, &["id", "name"]), field(answer, &["response"]));
        } else if let Some(inline) = field(block, &["inlineData", "inline_data"]) {
            self.blob(inline);
        } else {
            self.parts.push(block.clone());
        }
    }

    fn text(&mut self, text: &str, block: &Value) {
        let mut part = json!({"type": "text", "text": text});
        if let (Some(cache), Some(object)) = (block.get("cache_control"), part.as_object_mut()) {
            object.insert("cache_control".into(), cache.clone());
        }
        self.parts.push(part);
    }

    fn think(&mut self, block: &Value) {
        let before = self.reasoning.len();
        if let Some(text) = str_of(block, &["thinking", "content", "text", "reasoning"]) {
            self.reasoning.push(text.to_owned());
        }
        // A Responses reasoning item: a list of summaries, or of the reasoning itself.
        for name in ["summary", "content"] {
            let texts = block.get(name).and_then(Value::as_array).into_iter().flatten();
            self.reasoning.extend(texts.filter_map(|t| str_of(t, &["text"])).map(str::to_owned));
            if self.reasoning.len() > before {
                return;
            }
        }
    }

    fn tool_call(&mut self, id: Option<&str>, name: Option<&str>, arguments: Option<&Value>) {
        self.tool_calls.push(tool_call(id, name, arguments));
    }

    fn tool_result(&mut self, id: Option<&str>, content: Option<&Value>) {
        let content = match content {
            // Blocks inside of an answer: their text if that is all they are.
            Some(Value::Array(blocks)) => {
                let mut inner = Gathered::default();
                blocks.iter().for_each(|block| inner.block(block));
                match joined(inner.parts) {
                    Value::Null => Value::String(String::new()),
                    content => content,
                }
            }
            Some(other) => text_or_json(other).into(),
            None => Value::String(String::new()),
        };
        let mut message = json!({"role": "tool", "content": content});
        if let (Some(id), Some(object)) = (id, message.as_object_mut()) {
            object.insert("tool_call_id".into(), id.into());
        }
        self.tool_results.push(message);
    }

    fn image(&mut self, url: &str) {
        self.parts.push(json!({"type": "image_url", "image_url": {"url": url}}));
    }

    /// Anthropic `{source: {type: base64 | url | text, ...}}`.
    fn sourced(&mut self, block: &Value) {
        let source = block.get("source").unwrap_or(&Value::Null);
        let is_image = block.get("type").is_some_and(|t| t == "image");
        let url = match str_of(source, &["type"]) {
            Some("url") => str_of(source, &["url"]).map(str::to_owned),
            Some("base64") => {
                let media_type = str_of(source, &["media_type"]).unwrap_or("application/octet-stream");
                str_of(source, &["data"]).map(|data| format!("data:{media_type};base64,{data}"))
            }
            Some("text") => {
                return self.text(str_of(source, &["data"]).unwrap_or_default(), &Value::Null);
            }
            _ => None,
        };
        match url {
            Some(url) if is_image => self.image(&url),
            Some(url) => {
                let name = str_of(block, &["title", "filename"]).unwrap_or("document");
                self.parts.push(json!({"type": "file", "file": {"filename": name, "file_data": url}}));
            }
            None => self.parts.push(block.clone()),
        }
    }

    fn blob(&mut self, block: &Value) {
        let media_type =
            str_of(block, &["mime_type", "mimeType", "media_type"]).unwrap_or("application/octet-stream");
        let data = str_of(block, &["content", "data", "blob"]).unwrap_or_default();
        let modality = str_of(block, &["modality"]).or(media_type.split('/').next());
        match modality {
            Some("image") => self.image(&format!("data:{media_type};base64,{data}")),
            Some("audio") => {
                let format = media_type.rsplit('/').next().unwrap_or_default();
                self.parts
                    .push(json!({"type": "input_audio", "input_audio": {"data": data, "format": format}}));
            }
            _ => self.parts.push(json!({"type": "file", "file": {
                "file_data": format!("data:{media_type};base64,{data}")
            }})),
        }
    }
}

/// A tool call in chat-completions shape; arguments are JSON text there.
pub(crate) fn tool_call(id: Option<&str>, name: Option<&str>, arguments: Option<&Value>) -> Value {
    let arguments = arguments.map(text_or_json).unwrap_or_default();
    let mut call = json!({"type": "function", "function": {"name": name, "arguments": arguments}});
    if let (Some(id), Some(object)) = (id, call.as_object_mut()) {
        object.insert("id".into(), id.into());
    }
    call
}

/// What filter rules compare: text of all parts and arguments of all tool calls, one per line.
pub(crate) fn push_text(out: &mut String, messages: &[Value]) {
    for message in messages {
        match message.get("content") {
            Some(Value::String(text)) => push_line(out, text),
            Some(Value::Array(parts)) => {
                parts.iter().filter_map(|part| str_of(part, &["text"])).for_each(|text| push_line(out, text));
            }
            _ => {}
        }
        push_arguments(out, message.get("tool_calls"));
    }
}

pub(crate) fn push_arguments(out: &mut String, tool_calls: Option<&Value>) {
    for call in tool_calls.and_then(Value::as_array).into_iter().flatten() {
        let function = call.get("function").unwrap_or(call);
        match field(function, &["arguments", "args", "input"]) {
            Some(Value::String(text)) => push_line(out, text),
            Some(other) => push_line(out, &other.to_string()),
            None => {}
        }
    }
}

pub(crate) fn push_line(out: &mut String, text: &str) {
    if text.is_empty() {
        return;
    }
    if !out.is_empty() {
        out.push('\n');
    }
    out.push_str(text);
}
