//! What an LLM span says, whichever dialect it was written in.
#![allow(unused, missing_docs, clippy::unimplemented)]
use std::borrow::Cow;
use tracecast_otlp::{SpanView, write::{Edit, Place, Verdict}};

pub mod events;

/// A lazy reading of one span; nothing is decoded until asked.
#[derive(Clone, Copy, Debug)]
pub struct Generation<'a> { span: SpanView<'a> }
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage { pub input: Option<u64>, pub output: Option<u64>, pub total: Option<u64>, pub cached: Option<u64>, pub cache_write: Option<u64>, pub reasoning: Option<u64> }
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost { pub input: Option<f64>, pub output: Option<f64>, pub total: Option<f64> }
impl<'a> Generation<'a> {
    pub fn new(span: SpanView<'a>) -> Self { Generation { span } }
    pub fn span(&self) -> SpanView<'a> { self.span }
    /// True for an LLM call (chat, completion, embeddings ...), false for wrappers, tools, attempts.
    pub fn is_generation(&self) -> bool { unimplemented!() }
    /// `chat`, `embeddings`, ... normalised.
    pub fn operation(&self) -> Option<&'a str> { unimplemented!() }
    pub fn model(&self) -> Option<&'a str> { unimplemented!() }
    pub fn response_model(&self) -> Option<&'a str> { unimplemented!() }
    pub fn response_id(&self) -> Option<&'a str> { unimplemented!() }
    /// Display name if known (`Amazon Bedrock`), else the system/provider name.
    pub fn provider_name(&self) -> Option<&'a str> { unimplemented!() }
    pub fn provider_slug(&self) -> Option<&'a str> { unimplemented!() }
    pub fn user_id(&self) -> Option<&'a str> { unimplemented!() }
    pub fn session_id(&self) -> Option<&'a str> { unimplemented!() }
    pub fn api_key_name(&self) -> Option<&'a str> { unimplemented!() }
    /// Normalised: stop, length, tool_calls, content_filter, error.
    pub fn finish_reason(&self) -> Option<Cow<'a, str>> { unimplemented!() }
    pub fn native_finish_reason(&self) -> Option<&'a str> { unimplemented!() }
    pub fn usage(&self) -> Usage { unimplemented!() }
    pub fn cost(&self) -> Cost { unimplemented!() }
    /// USD per token.
    pub fn unit_prices(&self) -> (Option<f64>, Option<f64>) { unimplemented!() }
    /// Text of the messages, parts joined by newline, tool-call arguments included (for filter rules).
    pub fn input_text(&self) -> Option<Cow<'a, str>> { unimplemented!() }
    pub fn output_text(&self) -> Option<Cow<'a, str>> { unimplemented!() }
    /// `{"messages":[...]}` as JSON text (chat-completions shape where it can be had).
    pub fn input_json(&self) -> Option<Cow<'a, str>> { unimplemented!() }
    pub fn output_json(&self) -> Option<Cow<'a, str>> { unimplemented!() }
    /// temperature, top_p, max_tokens, ...
    pub fn model_parameters(&self) -> serde_json::Map<String, serde_json::Value> { unimplemented!() }
    pub fn trace_name(&self) -> Option<&'a str> { unimplemented!() }
    pub fn environment(&self) -> Option<&'a str> { unimplemented!() }
    pub fn release(&self) -> Option<&'a str> { unimplemented!() }
    pub fn tags(&self) -> Vec<String> { unimplemented!() }
    /// Custom metadata: `trace.metadata.<key>` (without openrouter's own), `metadata.*`, OpenInference `metadata` JSON...
    pub fn metadata(&self) -> serde_json::Map<String, serde_json::Value> { unimplemented!() }
    pub fn error_type(&self) -> Option<Cow<'a, str>> { unimplemented!() }
    pub fn error_message(&self) -> Option<&'a str> { unimplemented!() }
    /// The caller's raw trace id string, where the id was hashed.
    pub fn raw_trace_id(&self) -> Option<&'a str> { unimplemented!() }
    pub fn first_token_ms(&self) -> Option<f64> { unimplemented!() }
}

/// What an attribute key is, over every dialect we know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Prompt, completion, tool arguments, documents, error text ...: removed by privacy mode.
    Content,
    /// Known and harmless (model, usage, ids, timing ...).
    Known,
    /// The user's own metadata: kept.
    Metadata,
    Unknown,
}
pub fn classify(key: &str) -> Class { unimplemented!() }

/// Privacy mode (design 4.2 step 4): content removed, status and exception messages replaced by their class,
/// fails closed on unknown large or structured values and unknown protobuf fields.
#[derive(Clone, Copy, Debug, Default)]
pub struct Privacy;
impl Edit for Privacy {
    fn attribute(&self, place: Place, key: &str, value: &tracecast_otlp::Value<'_>) -> Verdict { unimplemented!() }
}
