//! What the caller added to a call: metadata, tags, model parameters, offered tools.

use serde_json::{Map, Value as Json};
use tracecast_otlp::Value;

use crate::keys;
use crate::messages::field;
use crate::view::{Generation, plain_json, to_json};

impl<'a> Generation<'a> {
    /// Custom metadata of every dialect under its bare key, without what OpenRouter writes there itself.
    pub fn metadata(&self) -> Map<String, Json> {
        let mut found: Vec<(usize, &str, Json)> = Vec::new();
        for (key, value) in self.span().attributes() {
            let by_prefix = keys::METADATA_PREFIXES
                .iter()
                .enumerate()
                .find_map(|(rank, prefix)| Some((rank, key.strip_prefix(prefix)?)));
            let Some((rank, name)) = by_prefix else { continue };
            let is_own = name.starts_with("openrouter.") || name == "provider_responses";
            if let Some(value) = plain_json(&value)
                && !is_own
                && !name.is_empty()
                && !is_attempt_detail(key)
            {
                found.push((rank, name, value));
            }
        }
        found.sort_by_key(|(rank, _, _)| *rank);
        let mut out = Map::new();
        let mut previous_rank = usize::MAX;
        let mut of_rank: Vec<&str> = Vec::new();
        for (rank, name, value) in found {
            if rank != previous_rank {
                previous_rank = rank;
                of_rank.clear();
            }
            // Within one prefix the last attribute counts, between prefixes the first prefix.
            if !out.contains_key(name) || of_rank.contains(&name) {
                of_rank.push(name);
                out.insert(name.to_owned(), value);
            }
        }
        for key in keys::METADATA_OBJECTS.iter() {
            if let Some(Json::Object(object)) = self.object(key) {
                for (name, value) in object {
                    out.entry(name).or_insert(value);
                }
            }
        }
        out
    }

    /// Tags from an array, a JSON array as text, or a comma list.
    pub fn tags(&self) -> Vec<String> {
        let of_text = |text: &str| -> Vec<String> {
            match text.trim_start().starts_with('[') {
                true => strings(&serde_json::from_str(text).unwrap_or(Json::Null)),
                false => {
                    text.split(',').map(str::trim).filter(|t| !t.is_empty()).map(str::to_owned).collect()
                }
            }
        };
        match self.first(keys::TAGS) {
            Some(Value::Str(text)) => of_text(text),
            Some(other) => strings(&plain_json(&other).unwrap_or(Json::Null)),
            None => Vec::new(),
        }
    }

    /// temperature, top_p, max_tokens, ... by their chat-completions names.
    pub fn model_parameters(&self) -> Map<String, Json> {
        let mut out = Map::new();
        for (key, value) in self.span().attributes() {
            for prefix in keys::PARAMETER_PREFIXES {
                if let Some(name) = key.strip_prefix(prefix).and_then(parameter_name)
                    && let Some(value) = to_json(&value)
                {
                    out.insert(name.to_owned(), value);
                }
            }
        }
        for key in keys::PARAMETER_OBJECTS.iter() {
            let Some(Json::Object(object)) = self.object(key) else { continue };
            for (name, value) in object {
                if !is_request_content(&name) && !value.is_null() {
                    out.entry(name).or_insert(value);
                }
            }
        }
        out
    }

    /// The tools the model was offered, as a JSON array.
    pub fn tools(&self) -> Option<Json> {
        if let Some(value) = self.first(keys::TOOLS) {
            return match to_json(&value)? {
                // Vercel writes a list of JSON texts.
                Json::Array(items) => Some(items.into_iter().map(unwrapped).collect()),
                other => Some(other),
            };
        }
        let schemas: Vec<Json> = self
            .span()
            .attributes()
            .filter(|(key, _)| key.starts_with(keys::OI_TOOLS_PREFIX) && key.ends_with(".json_schema"))
            .filter_map(|(_, value)| to_json(&value))
            .collect();
        if !schemas.is_empty() {
            return Some(Json::Array(schemas));
        }
        let parameters = self.object("llm.invocation_parameters")?;
        field(&parameters, &["tools"]).cloned()
    }
}

/// `span.metadata.*` on provider attempts is OpenRouter's own record of the try.
fn is_attempt_detail(key: &str) -> bool {
    matches!(
        key.strip_prefix("span.metadata."),
        Some("attempt_index" | "status_code" | "is_byok" | "endpoint_id" | "model_permaslug")
    )
}

fn unwrapped(item: Json) -> Json {
    match &item {
        Json::String(text) => serde_json::from_str(text).unwrap_or(item),
        _ => item,
    }
}

fn strings(list: &Json) -> Vec<String> {
    let text = |item: &Json| match item {
        Json::String(text) => (!text.is_empty()).then(|| text.clone()),
        Json::Number(n) => Some(n.to_string()),
        Json::Bool(b) => Some(b.to_string()),
        _ => None,
    };
    list.as_array().into_iter().flatten().filter_map(text).collect()
}

/// The chat-completions name of a parameter; `None` for what is no parameter.
fn parameter_name(name: &str) -> Option<&str> {
    Some(match name {
        "model" | "encoding_formats" | "messages" | "" => return None,
        _ if name.starts_with("context.") => return None,
        "choice.count" => "n",
        "stop_sequences" | "stopSequences" => "stop",
        "maxTokens" | "maxOutputTokens" | "max_output_tokens" => "max_tokens",
        "topP" => "top_p",
        "topK" => "top_k",
        "frequencyPenalty" => "frequency_penalty",
        "presencePenalty" => "presence_penalty",
        "is_stream" | "streaming" => "stream",
        other => other,
    })
}

/// Parts of a request body that are content or said elsewhere.
fn is_request_content(name: &str) -> bool {
    matches!(
        name,
        "messages"
            | "input"
            | "prompt"
            | "system"
            | "instructions"
            | "tools"
            | "functions"
            | "model"
            | "contents"
            | "extra_headers"
            | "extra_body"
            | "headers"
            | "api_key"
            | "user"
            | "metadata"
    )
}
