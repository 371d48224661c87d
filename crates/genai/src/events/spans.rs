//! The spans of one record: root, provider attempts, streamed body (broadcast-contract.md 5.3 and 5.4).

use serde_json::{Value, json};
use tracecast_otlp::write::{OwnedValue, SpanBuilder, resource_spans};
use tracecast_otlp::{SpanId, TraceId};

use super::record::{Attempt, Record};
use super::response::Failure;
use super::{Options, span_id_of, trace_id_of};
use crate::completion::Completion;
use crate::identity;
use crate::kind::normal_finish;
use crate::messages::{self, field, str_of, text_or_json};

const SCOPE: &str = "tracecast";
const KIND_SERVER: i32 = 2;
const KIND_CLIENT: i32 = 3;
const STATUS_OK: i32 = 1;
const STATUS_ERROR: i32 = 2;

/// A record as spans of one resource.
pub(super) struct Built {
    resource: Vec<(String, OwnedValue)>,
    pub trace_id: TraceId,
    pub spans: Vec<SpanBuilder>,
}

impl Built {
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        resource_spans(&self.resource, SCOPE, env!("CARGO_PKG_VERSION"), &self.spans, out);
    }
}

type Attributes = Vec<(String, OwnedValue)>;

fn put(to: &mut Attributes, key: &str, value: impl Into<OwnedValue>) {
    to.push((key.to_owned(), value.into()));
}

fn put_text(to: &mut Attributes, key: &str, value: Option<&str>) {
    if let Some(text) = value.filter(|text| !text.is_empty()) {
        put(to, key, text);
    }
}

fn put_count(to: &mut Attributes, key: &str, value: Option<u64>) {
    if let Some(count) = value {
        put(to, key, i64::try_from(count).unwrap_or(i64::MAX));
    }
}

fn put_number(to: &mut Attributes, key: &str, value: Option<f64>) {
    if let Some(number) = value {
        put(to, key, number);
    }
}

/// What all spans of a record share.
struct Call<'r> {
    record: &'r Record,
    completion: Option<Completion>,
    generation_id: String,
    operation: &'static str,
    start: u64,
    end: u64,
    /// `received` or `adjusted` if the times are not the record's own.
    time_source: Option<&'static str>,
    trace_id: TraceId,
    root: SpanId,
}

/// Builds the spans; `derived_id` stands in for a missing generation id.
pub(super) fn build(record: Record, derived_id: String, options: &Options<'_>) -> Built {
    let generation_id = record.id.clone().unwrap_or(derived_id);
    let raw_trace_id = record.trace.trace_id.clone().unwrap_or_else(|| generation_id.clone());
    let trace_id = trace_id_of(&raw_trace_id);
    let root = span_id_of(&generation_id);
    let (start, end, time_source) = times(&record, options.receive_unix_nano);
    let operation = operation(&record);
    let completion = Completion::from_json(&record.response);
    let call = Call {
        record: &record,
        completion,
        generation_id,
        operation,
        start,
        end,
        time_source,
        trace_id,
        root,
    };
    let mut spans = vec![call.root_span()];
    spans
        .extend(record.attempts.iter().enumerate().map(|(index, attempt)| call.attempt_span(index, attempt)));
    if record.is_streamed {
        spans.push(call.streamed_span());
    }
    let mut resource = Vec::new();
    put(&mut resource, "service.name", options.service_name);
    put(&mut resource, "tracecast.trace.id", raw_trace_id.as_str());
    put(&mut resource, "openrouter.trace.id", raw_trace_id);
    Built { resource, trace_id, spans }
}

/// Start and end, and how they were come by where the record does not say.
fn times(record: &Record, received: u64) -> (u64, u64, Option<&'static str>) {
    match (record.start, record.end) {
        (Some(start), Some(end)) if end < start => (start, start, Some("adjusted")),
        (Some(start), Some(end)) => (start, end, None),
        (Some(start), None) => (start, record.first_token.map_or(start, |t| t.max(start)), Some("adjusted")),
        (None, Some(end)) => (record.first_token.map_or(end, |t| t.min(end)), end, Some("adjusted")),
        (None, None) => (received, received, Some("received")),
    }
}

fn operation(record: &Record) -> &'static str {
    let (request, response) = (&record.request, &record.response);
    let has = |name: &str| request.get(name).is_some();
    let answers_vectors = response.pointer("/data/0/embedding").is_some();
    let names_embedding = record.model.as_deref().is_some_and(|model| model.contains("embed"));
    if answers_vectors || (names_embedding && has("input") && !has("messages")) {
        "embeddings"
    } else if has("query") && has("documents") {
        "rerank"
    } else if has("prompt")
        && !has("messages")
        && response.get("object").is_some_and(|o| o == "text_completion")
    {
        "text_completion"
    } else {
        "chat"
    }
}

/// The slug without OpenRouter's variant (`openai/gpt-5:nitro`); tags of local models (`llama3:8b`) stay.
fn without_variant(model: &str) -> &str {
    const VARIANTS: [&str; 8] =
        ["nitro", "floor", "online", "free", "extended", "beta", "thinking", "exacto"];
    match model.rsplit_once(':') {
        Some((slug, variant)) if slug.contains('/') && VARIANTS.contains(&variant) => slug,
        _ => model,
    }
}

impl Call<'_> {
    fn span(&self, suffix: &str, name: String) -> SpanBuilder {
        let (id, parent) = match suffix {
            "" => (self.root, self.record.trace.parent_span_id.as_deref().map(span_id_of)),
            _ => (span_id_of(&format!("{}{suffix}", self.generation_id)), Some(self.root)),
        };
        SpanBuilder {
            trace_id: self.trace_id,
            span_id: id,
            parent_span_id: parent,
            name,
            kind: if suffix.is_empty() { KIND_CLIENT } else { KIND_SERVER },
            start_unix_nano: self.start,
            end_unix_nano: self.end,
            status_code: STATUS_OK,
            ..SpanBuilder::default()
        }
    }

    fn root_span(&self) -> SpanBuilder {
        let record = self.record;
        let name = record.trace.generation_name.clone().unwrap_or_else(|| "LLM Generation".to_owned());
        let mut span = self.span("", name);
        let to = &mut span.attributes;
        self.put_trace(to);
        put(to, "span.type", "generation");
        put(to, "span.level", level(&record.failure));
        put(to, "gen_ai.operation.name", self.operation);
        self.put_model(to);
        put(to, "gen_ai.response.id", self.generation_id.as_str());
        self.put_usage(to);
        self.put_parameters(to);
        self.put_content(to);
        self.put_finish(to);
        self.put_timing(to);
        put_text(to, "trace.metadata.openrouter.api_key_name", record.api_key_name.as_deref());
        self.put_identity(to);
        if let Some(failure) = &record.failure {
            put_text(to, "span.status_message", Some(&failure.message));
            put_text(to, "error.type", Some(&failure.kind));
            span.status_code = STATUS_ERROR;
            span.status_message.clone_from(&failure.message);
            let mut exception = Attributes::new();
            put(&mut exception, "exception.type", failure.kind.as_str());
            put(&mut exception, "exception.message", failure.message.as_str());
            span.events.push((self.end, "exception".to_owned(), exception));
        }
        span
    }

    fn put_trace(&self, to: &mut Attributes) {
        let (record, trace) = (self.record, &self.record.trace);
        put_text(to, "trace.name", trace.trace_name.as_deref().or(record.model.as_deref()));
        put_text(to, "trace.span_name", trace.span_name.as_deref());
        put_text(to, "user.id", record.user.as_deref());
        put_text(to, "session.id", record.session_id.as_deref());
        for (key, value) in &record.metadata {
            if let Some(value) = owned(value) {
                put(to, &format!("trace.metadata.{key}"), value);
            }
        }
        for (key, value) in &record.content {
            if !value.is_null() {
                put(to, &format!("tracecast.content.{key}"), text_or_json(value));
            }
        }
        if !record.tags.is_empty() {
            put(to, "trace.tags", json!(record.tags).to_string());
        }
        if !record.attempts.is_empty() {
            let tries: Vec<Value> = record.attempts.iter().map(provider_response).collect();
            put(to, "trace.metadata.provider_responses", Value::Array(tries).to_string());
        }
    }

    fn put_model(&self, to: &mut Attributes) {
        let record = self.record;
        let requested = record.model.as_deref();
        let plain = requested.map(without_variant);
        let vendor = plain.and_then(|model| model.split_once('/')).map(|(vendor, _)| vendor.to_owned());
        let vendor = vendor.or_else(|| record.provider.as_deref().map(slug));
        put_text(to, "gen_ai.system", vendor.as_deref());
        put_text(to, "gen_ai.provider.name", vendor.as_deref());
        put_text(to, "gen_ai.request.model", plain);
        if plain != requested {
            put_text(to, "tracecast.request.model", requested);
        }
        put_text(to, "gen_ai.response.model", str_of(&record.response, &["model", "modelVersion"]));
        put_text(to, "trace.metadata.openrouter.provider_name", record.provider.as_deref());
        put_text(
            to,
            "trace.metadata.openrouter.provider_slug",
            record.provider.as_deref().map(slug).as_deref(),
        );
    }

    fn put_usage(&self, to: &mut Attributes) {
        let (usage, cost) = (&self.record.usage, &self.record.cost);
        put_count(to, "gen_ai.usage.input_tokens", usage.input);
        put_count(to, "gen_ai.usage.output_tokens", usage.output);
        put_count(to, "gen_ai.usage.total_tokens", usage.total);
        put_number(to, "gen_ai.usage.input_cost", cost.input);
        put_number(to, "gen_ai.usage.output_cost", cost.output);
        put_number(to, "gen_ai.usage.total_cost", cost.total);
        put_count(to, "gen_ai.usage.input_tokens.cached", usage.cached);
        put_count(to, "gen_ai.usage.input_tokens.cache_write", usage.cache_write);
        put_count(to, "gen_ai.usage.output_tokens.reasoning", usage.reasoning);
    }

    fn put_parameters(&self, to: &mut Attributes) {
        let request = &self.record.request;
        const SAME: [&str; 9] = [
            "temperature",
            "top_p",
            "top_k",
            "min_p",
            "frequency_penalty",
            "presence_penalty",
            "repetition_penalty",
            "seed",
            "stream",
        ];
        for name in SAME {
            if let Some(value) =
                field(request, &[name]).filter(|v| v.is_number() || v.is_boolean()).and_then(owned)
            {
                put(to, &format!("gen_ai.request.{name}"), value);
            }
        }
        let renamed = [
            ("gen_ai.request.max_tokens", ["max_tokens", "max_completion_tokens", "max_output_tokens"]),
            ("gen_ai.request.choice.count", ["n", "n", "n"]),
        ];
        for (key, names) in renamed {
            if let Some(count) = field(request, &names).and_then(Value::as_i64) {
                put(to, key, count);
            }
        }
        let effort = str_of(request, &["reasoning_effort"]);
        let effort = effort.or_else(|| str_of(field(request, &["reasoning"])?, &["effort"]));
        put_text(to, "gen_ai.request.reasoning_effort", effort);
        match field(request, &["stop", "stop_sequences"]) {
            Some(Value::String(stop)) => {
                put(to, "gen_ai.request.stop_sequences", OwnedValue::Array(vec![stop.as_str().into()]));
            }
            Some(Value::Array(stops)) => {
                let stops: Vec<OwnedValue> =
                    stops.iter().filter_map(Value::as_str).map(OwnedValue::from).collect();
                put(to, "gen_ai.request.stop_sequences", OwnedValue::Array(stops));
            }
            _ => {}
        }
        if let Some(tools) = field(request, &["tools", "functions"]).filter(|tools| tools.is_array()) {
            put(to, "gen_ai.tool.definitions", tools.to_string());
        }
    }

    fn put_content(&self, to: &mut Attributes) {
        if let Some(list) = messages::from_request(&self.record.request) {
            put(to, "gen_ai.prompt", format!("{{\"messages\":{}}}", Value::Array(list)));
        }
        if self.record.response.is_null() {
            return;
        }
        match &self.completion {
            Some(read) => put(to, "gen_ai.completion", read.to_json().to_string()),
            // An error body or an API of its own: kept as it is.
            None => put(to, "gen_ai.completion", text_or_json(&self.record.response)),
        }
    }

    fn put_finish(&self, to: &mut Attributes) {
        let response = &self.record.response;
        let read = self.completion.as_ref().and_then(|read| read.finish_reason.as_deref());
        let native = response.pointer("/choices/0/native_finish_reason").and_then(Value::as_str);
        let reason = match (read, native, &self.record.failure) {
            (Some(reason), _, _) => normal_finish(reason),
            (None, Some(native), _) => normal_finish(native),
            (None, None, Some(_)) => "error",
            (None, None, None) => return,
        };
        put(to, "gen_ai.response.finish_reasons", json!([reason]).to_string());
        put(to, "gen_ai.response.finish_reason", reason);
        put_text(to, "trace.metadata.openrouter.finish_reason", native.or(read));
    }

    fn put_timing(&self, to: &mut Attributes) {
        let is_measured = |first: &u64| self.record.start.is_some() && *first >= self.start;
        if let Some(first) = self.record.first_token.filter(is_measured) {
            put(to, "trace.metadata.openrouter.first_token_ms", (first - self.start) as f64 / 1e6);
        }
        put_text(to, "tracecast.time.source", self.time_source);
    }

    /// On every span, so that each is authorised by itself as spans of OTLP are.
    fn put_identity(&self, to: &mut Attributes) {
        put_text(to, identity::API_KEY_HASH, self.record.api_key_hash.as_deref());
        put_text(to, identity::WORKSPACE_ID, self.record.workspace_id.as_deref());
        put_text(to, identity::REGION, self.record.region.as_deref());
    }

    fn attempt_span(&self, index: usize, attempt: &Attempt) -> SpanBuilder {
        let provider = attempt.provider.as_deref().unwrap_or("unknown");
        let suffix = format!(":attempt-{index}");
        let mut span = self.span(&suffix, format!("provider attempt {}: {provider}", index + 1));
        span.start_unix_nano = attempt.start.unwrap_or(self.start);
        let latency = attempt.latency_ms.map(|ms| (ms * 1e6) as u64);
        let end = attempt.end.or_else(|| latency.map(|nanos| span.start_unix_nano.saturating_add(nanos)));
        span.end_unix_nano = end.unwrap_or(self.end).max(span.start_unix_nano);
        let failure = attempt.failure.clone().or_else(|| {
            let code = attempt.status_code.filter(|code| *code >= 400)?;
            Some(Failure { kind: code.to_string(), message: format!("HTTP status {code}") })
        });
        let to = &mut span.attributes;
        put(to, "span.type", "span");
        put(to, "span.level", level(&failure));
        put(to, "span.metadata.attempt_index", index as i64);
        if let Some(code) = attempt.status_code {
            put(to, "span.metadata.status_code", code);
        }
        if let Some(is_byok) = attempt.is_byok {
            put(to, "span.metadata.is_byok", is_byok);
        }
        put_text(to, "span.metadata.endpoint_id", attempt.endpoint_id.as_deref());
        put_text(to, "span.metadata.model_permaslug", attempt.model.as_deref());
        put(to, "gen_ai.operation.name", self.operation);
        put(to, "gen_ai.response.id", format!("{}{suffix}", self.generation_id));
        put_text(to, "trace.metadata.openrouter.provider_name", attempt.provider.as_deref());
        put_text(to, "session.id", self.record.session_id.as_deref());
        self.put_identity(to);
        if let Some(failure) = failure {
            put_text(to, "span.status_message", Some(&failure.message));
            put_text(to, "error.type", Some(&failure.kind));
            span.status_code = STATUS_ERROR;
            span.status_message = failure.message;
        }
        span
    }

    fn streamed_span(&self) -> SpanBuilder {
        let mut span = self.span(":generation", "generation".to_owned());
        let first = self.record.first_token.unwrap_or(self.start);
        span.start_unix_nano = first.clamp(self.start, self.end);
        let to = &mut span.attributes;
        put(to, "span.type", "span");
        put(to, "span.level", level(&self.record.failure));
        put(to, "gen_ai.operation.name", self.operation);
        put(to, "gen_ai.response.id", format!("{}:generation", self.generation_id));
        put_text(to, "session.id", self.record.session_id.as_deref());
        self.put_identity(to);
        if let Some(failure) = &self.record.failure {
            span.status_code = STATUS_ERROR;
            put_text(to, "error.type", Some(&failure.kind));
        }
        span
    }
}

fn level(failure: &Option<Failure>) -> &'static str {
    if failure.is_some() { "ERROR" } else { "DEFAULT" }
}

/// `Amazon Bedrock` as `amazon-bedrock`.
fn slug(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for c in name.trim().chars() {
        match c {
            ' ' => out.push('-'),
            c => out.extend(c.to_lowercase()),
        }
    }
    out
}

/// Metadata keep their type; structured values travel as JSON text.
fn owned(value: &Value) -> Option<OwnedValue> {
    Some(match value {
        Value::Null => return None,
        Value::Bool(b) => (*b).into(),
        Value::Number(n) => match n.as_i64() {
            Some(whole) => whole.into(),
            None => n.as_f64()?.into(),
        },
        Value::String(text) => text.as_str().into(),
        structured => structured.to_string().into(),
    })
}

fn provider_response(attempt: &Attempt) -> Value {
    let mut out = serde_json::Map::new();
    let mut put = |name: &str, value: Value| {
        if !value.is_null() {
            out.insert(name.to_owned(), value);
        }
    };
    put("id", json!(attempt.id));
    put("provider_name", json!(attempt.provider));
    put("status", json!(attempt.status_code));
    put("latency", json!(attempt.latency_ms));
    put("is_byok", json!(attempt.is_byok));
    put("endpoint_id", json!(attempt.endpoint_id));
    put("model_permaslug", json!(attempt.model));
    Value::Object(out)
}
