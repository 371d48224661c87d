//! OpenInference attributes for spans of any other dialect.

use std::borrow::Cow;

use serde_json::{Map, Value as Json};
use tracecast_genai::{Completion, Generation};
use tracecast_otlp::write::{Edit, Place, RESOURCE_ATTRIBUTES, Verdict, append_attribute};
use tracecast_otlp::{SpanView, Value};

use crate::family::neutral::{self, Additions};
use crate::family::{chat, custom, provider};

const INPUT_MESSAGES: &str = "llm.input_messages.";
const OUTPUT_MESSAGES: &str = "llm.output_messages.";

/// The edit, with the resource attributes that name the project.
#[derive(Clone, Debug)]
pub(super) struct Dialect {
    resource: Vec<u8>,
}

impl Dialect {
    pub(super) fn new(project: &str) -> Dialect {
        let mut resource = Vec::new();
        // The second and third are what older receivers read.
        for key in ["openinference.project.name", "arize.project.name", "model_id"] {
            append_attribute(RESOURCE_ATTRIBUTES, key, &project.into(), &mut resource);
        }
        Dialect { resource }
    }
}

impl Edit for Dialect {
    fn attribute_by_key(&self, place: Place, key: &[u8]) -> Option<Verdict> {
        let is_project = place == Place::Resource
            && matches!(key, b"openinference.project.name" | b"arize.project.name" | b"model_id");
        // The destination decides the project; two values for one key would be anybody's guess.
        Some(if is_project { Verdict::Drop } else { Verdict::Keep })
    }

    fn attribute(&self, place: Place, key: &str, _: &Value<'_>) -> Verdict {
        self.attribute_by_key(place, key.as_bytes()).unwrap_or(Verdict::Keep)
    }

    fn extra_resource_attributes(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.resource);
    }

    fn extra_attributes(&self, span: SpanView<'_>, out: &mut Vec<u8>) {
        let generation = Generation::new(span);
        let mut additions = Additions::to(span, out);
        neutral::add(&generation, &mut additions);
        additions.add("openinference.span.kind", kind(&generation));
        content(&generation, &mut additions);
        if generation.is_generation() {
            match kind(&generation) {
                "EMBEDDING" => embedding(&generation, &mut additions),
                _ => model(&generation, &mut additions),
            }
            tokens(&generation, &mut additions);
        } else {
            named(&generation, &mut additions);
        }
        additions.list("tag.tags", generation.tags());
        if additions.lacks("metadata")
            && let metadata = metadata(&generation)
            && !metadata.is_empty()
        {
            additions.add("metadata", Json::Object(metadata).to_string());
        }
    }
}

fn kind(generation: &Generation<'_>) -> &'static str {
    if generation.is_generation() {
        return match generation.operation() {
            Some("embeddings" | "embedding") => "EMBEDDING",
            Some("rerank") => "RERANKER",
            _ => "LLM",
        };
    }
    match generation.span().attribute("gen_ai.operation.name").and_then(|value| value.as_str()) {
        Some("execute_tool") => "TOOL",
        Some("invoke_agent" | "create_agent") => "AGENT",
        Some("retrieval") => "RETRIEVER",
        _ => "CHAIN",
    }
}

/// A tool or an agent by its name.
fn named(generation: &Generation<'_>, to: &mut Additions<'_, '_>) {
    let span = generation.span();
    for (key, known_as) in [
        ("tool.name", ["gen_ai.tool.name", "ai.toolCall.name"]),
        ("tool.id", ["gen_ai.tool.call.id", "ai.toolCall.id"]),
        ("tool.description", ["gen_ai.tool.description", ""]),
        ("agent.name", ["gen_ai.agent.name", ""]),
    ] {
        to.text(key, known_as.iter().find_map(|key| span.attribute(key)?.as_str()));
    }
}

/// The convention knows neither system nor provider of an embedding ("Attributes not used in embedding spans").
fn embedding(generation: &Generation<'_>, to: &mut Additions<'_, '_>) {
    to.text("embedding.model_name", generation.response_model().or(generation.model()));
    parameters("embedding.invocation_parameters", generation, to);
    let texts = generation.messages();
    let texts = texts.iter().filter_map(|message| message.get("content")?.as_str());
    for (i, text) in texts.enumerate() {
        to.add(&format!("embedding.embeddings.{i}.embedding.text"), text);
    }
}

fn parameters(key: &str, generation: &Generation<'_>, to: &mut Additions<'_, '_>) {
    let parameters = generation.model_parameters();
    if !parameters.is_empty() {
        to.add(key, Json::Object(parameters).to_string());
    }
}

fn model(generation: &Generation<'_>, to: &mut Additions<'_, '_>) {
    let model = generation.response_model().or(generation.model());
    to.text("llm.model_name", model);
    to.text("llm.request.model_name", generation.model());
    to.text("llm.response.model_name", generation.response_model());
    if kind(generation) == "RERANKER" {
        to.text("reranker.model_name", model);
    }
    let provider = provider::of(generation);
    to.text("llm.provider", provider.map(|provider| provider.openinference_provider()));
    to.text("llm.system", provider.map(|provider| provider.openinference_system()));
    parameters("llm.invocation_parameters", generation, to);
    to.text("llm.finish_reason", generation.finish_reason().as_deref());
    if let Some(Json::Array(tools)) = generation.tools() {
        for (i, tool) in tools.iter().enumerate() {
            to.add(&format!("llm.tools.{i}.tool.json_schema"), tool.to_string());
        }
    }
}

fn tokens(generation: &Generation<'_>, to: &mut Additions<'_, '_>) {
    let usage = generation.usage();
    to.count("llm.token_count.prompt", usage.input);
    to.count("llm.token_count.completion", usage.output);
    to.count("llm.token_count.total", usage.total);
    to.count("llm.token_count.prompt_details.cache_read", usage.cached);
    to.count("llm.token_count.prompt_details.cache_write", usage.cache_write);
    to.count("llm.token_count.completion_details.reasoning", usage.reasoning);
    let cost = generation.cost();
    to.number("llm.cost.prompt", cost.input);
    to.number("llm.cost.completion", cost.output);
    to.number("llm.cost.total", cost.total);
}

/// Input and output as values, and message by message where the span has no messages in these words yet.
fn content(generation: &Generation<'_>, to: &mut Additions<'_, '_>) {
    let has = |prefix: &str| generation.span().attributes().any(|(key, _)| key.starts_with(prefix));
    put_value("input", || generation.input_json(), to);
    put_value("output", || generation.output_json(), to);
    if kind(generation) != "LLM" {
        return;
    }
    if !has(INPUT_MESSAGES) {
        for (i, message) in generation.messages().iter().enumerate() {
            put_message(&format!("{INPUT_MESSAGES}{i}.message"), message, to);
        }
    }
    if !has(OUTPUT_MESSAGES)
        && let Some(completion) = generation.completion()
    {
        for (i, choice) in std::iter::once(&completion).chain(&completion.others).enumerate() {
            put_choice(&format!("{OUTPUT_MESSAGES}{i}.message"), choice, to);
        }
    }
}

/// Input or output as one value, and what kind of text it is.
fn put_value<'a>(place: &str, words: impl FnOnce() -> Option<Cow<'a, str>>, to: &mut Additions<'_, '_>) {
    let (value, mime_type) = (format!("{place}.value"), format!("{place}.mime_type"));
    let is_json = match to.text_of(&value) {
        Some(own) => !chat::value(own).is_string(),
        None => match words() {
            Some(words) => {
                to.add(&value, words.into_owned());
                true
            }
            None => return,
        },
    };
    to.add(&mime_type, if is_json { "application/json" } else { "text/plain" });
}

/// A chat-completions message.
fn put_message(at: &str, message: &Json, to: &mut Additions<'_, '_>) {
    let text = |key: &str| message.get(key).and_then(Json::as_str);
    to.text(&format!("{at}.role"), text("role"));
    to.text(&format!("{at}.name"), text("name"));
    to.text(&format!("{at}.tool_call_id"), text("tool_call_id"));
    match message.get("content") {
        Some(Json::String(content)) => to.text(&format!("{at}.content"), Some(content)),
        Some(Json::Array(parts)) => {
            for (j, part) in parts.iter().enumerate() {
                put_part(&format!("{at}.contents.{j}.message_content"), part, to);
            }
        }
        _ => {}
    }
    if let Some(Json::Array(calls)) = message.get("tool_calls") {
        put_tool_calls(at, calls, to);
    }
}

fn put_part(at: &str, part: &Json, to: &mut Additions<'_, '_>) {
    if let Some(text) = part.get("text").and_then(Json::as_str) {
        to.add(&format!("{at}.type"), "text");
        to.add(&format!("{at}.text"), text);
    } else if let Some(url) = part.pointer("/image_url/url").and_then(Json::as_str) {
        to.add(&format!("{at}.type"), "image");
        to.add(&format!("{at}.image.image.url"), url);
    } else {
        to.text(&format!("{at}.type"), part.get("type").and_then(Json::as_str));
    }
}

fn put_choice(at: &str, choice: &Completion, to: &mut Additions<'_, '_>) {
    to.add(&format!("{at}.role"), "assistant");
    to.text(&format!("{at}.content"), choice.text.as_deref());
    put_tool_calls(at, &choice.tool_calls, to);
}

/// `{id, function: {name, arguments}}`, arguments as JSON text.
fn put_tool_calls(at: &str, calls: &[Json], to: &mut Additions<'_, '_>) {
    for (j, call) in calls.iter().enumerate() {
        let at = format!("{at}.tool_calls.{j}.tool_call");
        to.text(&format!("{at}.id"), call.get("id").and_then(Json::as_str));
        let function = |key: &str| call.get("function").and_then(|function| function.get(key));
        to.text(&format!("{at}.function.name"), function("name").and_then(Json::as_str));
        match function("arguments") {
            Some(Json::String(arguments)) => to.add(&format!("{at}.function.arguments"), arguments.as_str()),
            Some(arguments) => to.add(&format!("{at}.function.arguments"), arguments.to_string()),
            None => {}
        }
    }
}

/// The convention wants them in one JSON text.
fn metadata(generation: &Generation<'_>) -> Map<String, Json> {
    let own = chat::compact([
        ("environment", chat::text(generation.environment())),
        ("release", chat::text(generation.release())),
        ("trace_name", chat::text(generation.trace_name())),
        ("time_to_first_token_ms", chat::number(generation.first_token_ms())),
    ]);
    custom::beside(own, generation, |_| false)
}
