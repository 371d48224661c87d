//! Whether a span is an LLM call, which operation it is, and how it ended.

use std::borrow::Cow;

use tracecast_otlp::Value;

use crate::keys;
use crate::view::Generation;

/// What a span says about its own kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    /// A model call, by its normalised operation name.
    Call(&'static str),
    /// A wrapper, a tool, an agent, an attempt.
    Other,
}

impl<'a> Generation<'a> {
    /// True for an LLM call (chat, completion, embeddings, ...), false for wrappers, tools, attempts.
    pub fn is_generation(&self) -> bool {
        match self.said() {
            Some(said) => said != Said::Other,
            None => self.first(keys::TOOL).is_none() && self.model().is_some(),
        }
    }

    /// `chat`, `text_completion`, `embeddings`, `rerank`, ..., normalised; what is not known as it is.
    pub fn operation(&self) -> Option<&'a str> {
        if let Some(name) = self.str(keys::OPERATION_NAME) {
            return Some(call_of(name).unwrap_or(name));
        }
        match self.said() {
            Some(Said::Call(name)) => Some(name),
            Some(Said::Other) => None,
            None => self.is_generation().then_some("chat"),
        }
    }

    /// The first statement about the kind. The explicit type comes before the operation name: the provider
    /// attempts of OpenRouter name the operation of the generation they belong to.
    fn said(&self) -> Option<Said> {
        if let Some(kind) = self.str(keys::LANGFUSE_TYPE) {
            return Some(match kind {
                "generation" => Said::Call("chat"),
                "embedding" => Said::Call("embeddings"),
                _ => Said::Other,
            });
        }
        match self.str(keys::SPAN_TYPE) {
            Some("generation") => return Some(Said::Call("chat")),
            Some("span" | "event") => return Some(Said::Other),
            _ => {}
        }
        if self.span().attribute(keys::ATTEMPT_INDEX).is_some() {
            return Some(Said::Other);
        }
        // The outer Vercel span repeats the usage of the inner one, so this comes before the operation.
        if let Some(operation) = self.str(keys::VERCEL_OPERATION) {
            return Some(match operation.rsplit('.').next() {
                Some("doGenerate" | "doStream") => Said::Call("chat"),
                Some("doEmbed") => Said::Call("embeddings"),
                Some("doRerank") => Said::Call("rerank"),
                _ => Said::Other,
            });
        }
        if let Some(operation) = self.str(keys::OPERATION_NAME) {
            if let Some(name) = call_of(operation) {
                return Some(Said::Call(name));
            }
            if is_wrapper(operation) {
                return Some(Said::Other);
            }
            // The conventions allow names of one's own: the other keys decide.
        }
        if let Some(kind) = self.str(keys::OPENINFERENCE_KIND) {
            return Some(match kind {
                "LLM" => Said::Call("chat"),
                "EMBEDDING" => Said::Call("embeddings"),
                "RERANKER" => Said::Call("rerank"),
                _ => Said::Other,
            });
        }
        if let Some(kind) = self.str(keys::REQUEST_TYPE) {
            return Some(call_of(kind).map_or(Said::Other, Said::Call));
        }
        if self.str(keys::TRACELOOP_KIND).is_some() {
            return Some(Said::Other);
        }
        match self.str(keys::LANGSMITH_KIND) {
            Some("llm") => Some(Said::Call("chat")),
            Some("embedding") => Some(Said::Call("embeddings")),
            Some(_) => Some(Said::Other),
            None => None,
        }
    }

    /// Why it ended: `stop`, `length`, `tool_calls`, `content_filter`, `error`, else the vendor's word.
    /// A span with error status and no reason of its own reads `error`.
    pub fn finish_reason(&self) -> Option<Cow<'a, str>> {
        match self.raw_finish_reason() {
            Some(Cow::Borrowed(reason)) => Some(Cow::Borrowed(normal_finish(reason))),
            Some(Cow::Owned(reason)) => Some(Cow::Owned(normal_finish(&reason).to_owned())),
            None => match self.native_given() {
                Some(native) => Some(Cow::Borrowed(normal_finish(native))),
                None if !self.is_generation() => None,
                None if self.span().status_code() == 2 => Some(Cow::Borrowed("error")),
                // Only the messages may say it.
                None => {
                    let reason = self.completion()?.finish_reason?;
                    Some(Cow::Owned(normal_finish(&reason).to_owned()))
                }
            },
        }
    }

    /// The vendor's own word (`tool_use`, `end_turn`).
    pub fn native_finish_reason(&self) -> Option<&'a str> {
        self.native_given().or_else(|| match self.raw_finish_reason()? {
            Cow::Borrowed(reason) => Some(reason),
            Cow::Owned(_) => None,
        })
    }

    fn native_given(&self) -> Option<&'a str> {
        self.first_str(keys::NATIVE_FINISH_REASON)
    }

    fn raw_finish_reason(&self) -> Option<Cow<'a, str>> {
        match self.first(keys::FINISH_REASON)? {
            Value::Str(text) => match text.trim_start().starts_with('[') {
                // `["stop"]` as text, as OpenRouter writes it.
                true => serde_json::from_str::<Vec<Option<String>>>(text)
                    .ok()?
                    .into_iter()
                    .flatten()
                    .find(|reason| !reason.is_empty())
                    .map(Cow::Owned),
                false => Some(Cow::Borrowed(text)),
            },
            Value::Array(reasons) => {
                reasons.iter().find_map(|reason| reason.as_str().filter(|r| !r.is_empty())).map(Cow::Borrowed)
            }
            _ => None,
        }
    }
}

/// Operations around or beside model calls.
fn is_wrapper(operation: &str) -> bool {
    matches!(operation, "plan" | "retrieval" | "task" | "guardrail" | "handoff")
        || ["agent", "tool", "workflow", "memory"].iter().any(|word| operation.contains(word))
}

/// The normalised operation if the name means a model call.
fn call_of(operation: &str) -> Option<&'static str> {
    Some(match operation {
        "chat" | "responses" | "messages" | "chat_completion" | "chat.completions" | "converse" => "chat",
        "completion" | "text_completion" | "completions" => "text_completion",
        "generate_content" | "generate" => "generate_content",
        "embeddings" | "embedding" => "embeddings",
        "rerank" | "reranking" => "rerank",
        "image_generation" | "generate_image" | "images" => "image_generation",
        "speech" | "text_to_speech" => "speech",
        "transcription" | "speech_to_text" | "audio_transcription" => "transcription",
        "video_generation" | "video" => "video_generation",
        "moderation" => "moderation",
        _ => return None,
    })
}

/// The five normalised reasons; any other word unchanged.
pub(crate) fn normal_finish(reason: &str) -> &str {
    match reason {
        "stop" | "STOP" | "end_turn" | "stop_sequence" | "completed" | "complete" | "COMPLETE" | "eos"
        | "eos_token" | "finished" | "FINISH_REASON_STOP" | "pause_turn" => "stop",
        "length"
        | "max_tokens"
        | "MAX_TOKENS"
        | "max_output_tokens"
        | "model_length"
        | "max_length"
        | "model_context_window_exceeded" => "length",
        "tool_calls" | "tool_call" | "tool-calls" | "tool_use" | "function_call" | "TOOL_CALL"
        | "TOOL_USE" => "tool_calls",
        "content_filter"
        | "content-filter"
        | "content_filtered"
        | "SAFETY"
        | "RECITATION"
        | "BLOCKLIST"
        | "PROHIBITED_CONTENT"
        | "SPII"
        | "IMAGE_SAFETY"
        | "refusal"
        | "guardrail_intervened" => "content_filter",
        "error" | "ERROR" | "failed" | "MALFORMED_FUNCTION_CALL" => "error",
        other => other,
    }
}
