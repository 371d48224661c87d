//! What an attribute key is, over every dialect we know: content, known, metadata or unknown.
//!
//! The content names start from PostHog's OTel redaction list and cover the frameworks whose spans we have
//! met. Exact names win over prefixes, longer prefixes over shorter ones.

use std::sync::LazyLock;

use Class::{Content, Known, Metadata};

/// What an attribute key is, over every dialect we know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Prompt, completion, tool arguments, documents, error text ...: removed by privacy mode.
    Content,
    /// Known and harmless (model, usage, ids, timing ...).
    Known,
    /// The user's own metadata: kept.
    Metadata,
    /// In no list.
    Unknown,
}

/// Classifies a key. No allocation.
pub fn classify(key: &str) -> Class {
    let tables = &*TABLES;
    let exact = tables.by_length.get(key.len()).into_iter().flatten().find(|(name, _)| *name == key);
    if let Some((_, class)) = exact {
        return *class;
    }
    let first = key.as_bytes().first().copied().unwrap_or(0);
    let by_prefix = tables.by_first_byte.get(usize::from(first)).into_iter().flatten();
    match by_prefix.into_iter().find(|(prefix, _)| key.starts_with(prefix)) {
        Some((_, Content)) if is_harmless_leaf(key) => Known,
        Some((_, class)) => *class,
        None if is_mastra_content(key) => Content,
        None => Class::Unknown,
    }
}

/// Mastra names its content by the step: `mastra.<step>.input`.
fn is_mastra_content(key: &str) -> bool {
    key.starts_with("mastra.") && (key.ends_with(".input") || key.ends_with(".output"))
}

/// Parts of content families that say nothing about what was said.
fn is_harmless_leaf(key: &str) -> bool {
    const LEAVES: [&str; 5] =
        [".finish_reason", ".mime_type", ".document.id", ".document.score", ".message_content.type"];
    LEAVES.iter().any(|leaf| key.ends_with(leaf))
}

/// True if the last words of an unknown name promise content (`my.app.prompt`, `systemPrompt`,
/// `input_text`), false for what is counted or named (`prompt_id`, `input_format`).
pub fn looks_like_content(name: &str) -> bool {
    // Only the last dotted part speaks of the value: `prompt.template.id` is an id.
    let leaf = name.rsplit(['.', ':', '/']).find(|part| !part.bytes().all(|b| b.is_ascii_digit()));
    let Some(leaf) = leaf else { return false };
    let mut words = Words(leaf);
    let Some(first) = words.next() else { return false };
    let last = words.last();
    match last {
        None => is_content_word(first),
        Some(last) => is_content_word(last) || (is_content_word(first) && !is_measure_word(last)),
    }
}

/// The words of `snake_case`, `kebab-case` and `camelCase`.
struct Words<'a>(&'a str);

impl<'a> Iterator for Words<'a> {
    type Item = &'a str;
    fn next(&mut self) -> Option<&'a str> {
        self.0 = self.0.trim_start_matches(['_', '-', ' ', '$']);
        let mut previous_lower = false;
        let is_end = |(_, c): &(usize, char)| {
            let ends = matches!(c, '_' | '-' | ' ') || (previous_lower && c.is_ascii_uppercase());
            previous_lower = c.is_ascii_lowercase() || c.is_ascii_digit();
            ends
        };
        let end = self.0.char_indices().find(is_end).map_or(self.0.len(), |(at, _)| at);
        let (word, rest) = self.0.split_at(end);
        self.0 = rest;
        (!word.is_empty()).then_some(word)
    }
}

fn is_content_word(word: &str) -> bool {
    const WORDS: &[&str] = &[
        "answer",
        "answers",
        "arguments",
        "args",
        "body",
        "choices",
        "completion",
        "completions",
        "content",
        "contents",
        "conversation",
        "context",
        "document",
        "documents",
        "embedding",
        "embeddings",
        "history",
        "input",
        "inputs",
        "instruction",
        "instructions",
        "message",
        "messages",
        "output",
        "outputs",
        "payload",
        "prompt",
        "prompts",
        "query",
        "queries",
        "question",
        "questions",
        "reasoning",
        "response",
        "responses",
        "result",
        "results",
        "stacktrace",
        "text",
        "texts",
        "thinking",
        "traceback",
        "transcript",
        "transcription",
        "utterance",
    ];
    WORDS.iter().any(|known| known.eq_ignore_ascii_case(word))
}

fn is_measure_word(word: &str) -> bool {
    const WORDS: &[&str] = &[
        "id",
        "ids",
        "name",
        "version",
        "type",
        "kind",
        "format",
        "mime",
        "language",
        "lang",
        "hash",
        "sha256",
        "count",
        "tokens",
        "length",
        "len",
        "size",
        "bytes",
        "chars",
        "cost",
        "price",
        "ms",
        "seconds",
        "time",
        "latency",
        "duration",
        "code",
        "status",
        "mode",
        "model",
        "modality",
        "modalities",
        "class",
        "label",
        "score",
        "index",
        "limit",
        "url",
        "source",
        "key",
    ];
    WORDS.iter().any(|known| known.eq_ignore_ascii_case(word))
}

/// True for span events that only carry messages.
pub(crate) fn is_message_event(name: &str) -> bool {
    // No event is named with a kilobyte: that is a text logged as an event.
    const NAME_BYTES_MAX: usize = 256;
    name == "gen_ai.choice"
        || (name.starts_with("gen_ai.") && name.ends_with(".message"))
        || name.starts_with("gen_ai.content.")
        || name.starts_with("llm.content.")
        || name.len() > NAME_BYTES_MAX
}

/// Up to this length keys are found by their length.
const KEY_BYTES_MAX: usize = 80;

type Entry = (&'static str, Class);

struct Tables {
    by_length: Vec<Vec<Entry>>,
    /// Longest prefix first.
    by_first_byte: Vec<Vec<Entry>>,
}

static TABLES: LazyLock<Tables> = LazyLock::new(|| {
    let mut by_length = vec![Vec::new(); KEY_BYTES_MAX];
    let mut by_first_byte = vec![Vec::new(); 256];
    for (class, names) in [(Content, CONTENT), (Known, KNOWN), (Metadata, METADATA)] {
        for name in names.iter().copied() {
            if let Some(bucket) = by_length.get_mut(name.len()) {
                bucket.push((name, class));
            }
        }
    }
    for (class, prefixes) in
        [(Content, CONTENT_PREFIXES), (Known, KNOWN_PREFIXES), (Metadata, METADATA_PREFIXES)]
    {
        for prefix in prefixes.iter().copied() {
            let first = prefix.as_bytes().first().copied().unwrap_or(0);
            if let Some(bucket) = by_first_byte.get_mut(usize::from(first)) {
                bucket.push((prefix, class));
            }
        }
    }
    by_first_byte.iter_mut().for_each(|bucket: &mut Vec<Entry>| {
        bucket.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
    });
    Tables { by_length, by_first_byte }
});

/// Exact names of content.
pub(crate) const CONTENT: &[&str] = &[
    // OTel GenAI, current and old
    "gen_ai.input.messages",
    "gen_ai.output.messages",
    "gen_ai.system_instructions",
    "gen_ai.prompt",
    "gen_ai.completion",
    "gen_ai.tool.definitions",
    "gen_ai.tool.description",
    "gen_ai.tool.call.arguments",
    "gen_ai.tool.call.result",
    "gen_ai.tool.parameters",
    "gen_ai.retrieval.documents",
    "gen_ai.retrieval.query.text",
    "gen_ai.memory.query.text",
    "gen_ai.memory.records",
    "gen_ai.evaluation.explanation",
    "gen_ai.task.input",
    "gen_ai.task.output",
    "gen_ai.guardrail.input",
    "gen_ai.guardrail.output",
    "gen_ai.guardrail.error.message",
    "gen_ai.response.revised_prompt",
    "gen_ai.event.content",
    // their span events, as attributes
    "content",
    "message",
    "body",
    "tool_calls",
    "arguments",
    // Vercel AI SDK
    "ai.prompt",
    "ai.request.text",
    "ai.documents",
    "ai.response.text",
    "ai.response.object",
    "ai.response.toolCalls",
    "ai.response.reasoning",
    "ai.response.reasoningDetails",
    "ai.response.files",
    "ai.response.providerMetadata",
    "ai.toolCall.args",
    "ai.toolCall.result",
    "ai.decision.state",
    "ai.decision.questions",
    "ai.decision.answers",
    "ai.value",
    "ai.values",
    "ai.embedding",
    "ai.embeddings",
    "ai.schema",
    "ai.schema.description",
    // OpenLLMetry
    "traceloop.entity.input",
    "traceloop.entity.output",
    "traceloop.prompt.template",
    "mcp.request.argument",
    "mcp.response.value",
    // OpenInference
    "llm.function_call",
    "llm.prompt_template.template",
    "llm.prompt_template.variables",
    "llm.invocation_parameters",
    "llm.input_messages",
    "llm.output_messages",
    "llm.prompts",
    "llm.completions",
    "llm.choices",
    "llm.tools",
    "llm.request.functions",
    "reranker.query",
    "reranker.input_documents",
    "reranker.output_documents",
    "retrieval.documents",
    "embedding.embeddings",
    "embedding.text",
    "embedding.vector",
    "embedding.invocation_parameters",
    "tool.description",
    "tool.parameters",
    "tool.json_schema",
    "tool_call.function.arguments",
    "image.url",
    "audio.url",
    "audio.transcript",
    // OpenRouter
    "span.input",
    "span.output",
    "trace.input",
    "trace.output",
    "span.status_message",
    // Langfuse
    "langfuse.trace.input",
    "langfuse.trace.output",
    "langfuse.observation.input",
    "langfuse.observation.output",
    "langfuse.observation.status_message",
    "langfuse.experiment.item.expected_output",
    "langfuse.experiment.item.input",
    "langfuse.experiment.item.output",
    // Pydantic AI, Logfire
    "pydantic_ai.all_messages",
    "pydantic_ai.all_messages_events",
    "all_messages_events",
    "request_data",
    "response_data",
    "model_request_parameters",
    "final_result",
    "tool_arguments",
    "tool_response",
    "events",
    // Braintrust, PostHog, MLflow, LiveKit
    "braintrust.input",
    "braintrust.output",
    "braintrust.input_json",
    "braintrust.output_json",
    "braintrust.expected",
    "$ai_input",
    "$ai_output",
    "$ai_output_choices",
    "$ai_input_state",
    "$ai_output_state",
    "$ai_instructions",
    "$ai_tools",
    "$ai_error",
    "mlflow.spanInputs",
    "mlflow.spanOutputs",
    "mlflow.traceInputs",
    "mlflow.traceOutputs",
    "mlflow.chat.messages",
    "mlflow.chat.tools",
    "lk.input_text",
    "lk.chat_ctx",
    "lk.instructions",
    "lk.user_input",
    "lk.user_transcript",
    "lk.response.text",
    "lk.response.function_calls",
    "lk.function_tools",
    "lk.function_tool.arguments",
    "lk.function_tool.output",
    // agents and frameworks
    "anthropic.tool_result.content",
    "user_prompt",
    "tool_input",
    "tool_output",
    "tool_parameters",
    "tool_result",
    "genkit:input",
    "genkit:output",
    "gcp.vertex.agent.llm_request",
    "gcp.vertex.agent.llm_response",
    "gcp.vertex.agent.tool_call_args",
    "gcp.vertex.agent.tool_response",
    "gcp.vertex.agent.data",
    "haystack.component.input",
    "haystack.component.output",
    "haystack.component.visible_input",
    "haystack.component.visible_output",
    // bare names
    "input",
    "inputs",
    "output",
    "outputs",
    "prompt",
    "prompts",
    "completion",
    "completions",
    "messages",
    "response",
    // errors quote prompts
    "exception.message",
    "exception.stacktrace",
    "error.message",
    "error.stack",
    "code.stacktrace",
    // a command line or a statement may carry the prompt or the retrieved text
    "process.command_line",
    "process.command_args",
    "process.command",
    "db.statement",
    "db.query.text",
    "http.request.body",
    "http.response.body",
    "http.request.body.content",
    "http.response.body.content",
];

/// Families of content.
pub(crate) const CONTENT_PREFIXES: &[&str] = &[
    "gen_ai.prompt.",
    "gen_ai.completion.",
    "gen_ai.input.messages.",
    "gen_ai.output.messages.",
    "gen_ai.content.",
    "gen_ai.tool.definitions.",
    "gen_ai.request.tools",
    "gen_ai.request.messages",
    "ai.prompt.",
    "ai.response.object.",
    "ai.response.providerMetadata.",
    "input.",
    "output.",
    "llm.prompts.",
    "llm.completions.",
    "llm.input_messages.",
    "llm.output_messages.",
    "llm.choices.",
    "llm.tools.",
    "llm.request.functions.",
    "llm.prompt_template.variables.",
    "embedding.embeddings.",
    "retrieval.documents.",
    "reranker.input_documents.",
    "reranker.output_documents.",
    "traceloop.prompt.template_variables.",
    "tracecast.content.",
    "db.query.parameter.",
    "db.operation.parameter.",
];

/// Exact names that are known and harmless, wherever a value may be structured or long, or a prefix would
/// take them.
pub(crate) const KNOWN: &[&str] = &[
    "gen_ai.prompt.name",
    "gen_ai.prompt.version",
    "gen_ai.prompt.id",
    "gen_ai.operation.name",
    "gen_ai.system",
    "gen_ai.provider.name",
    "gen_ai.user",
    "gen_ai.conversation.id",
    "gen_ai.output.type",
    "gen_ai.token.type",
    "gen_ai.is_streaming",
    "gen_ai.agent.id",
    "gen_ai.agent.name",
    "gen_ai.agent.version",
    "gen_ai.workflow.name",
    "gen_ai.data_source.id",
    "gen_ai.embeddings.dimension.count",
    "gen_ai.evaluation.name",
    "gen_ai.evaluation.score.value",
    "gen_ai.evaluation.score.label",
    "gen_ai.server.time_to_first_token",
    "gen_ai.tool.name",
    "gen_ai.tool.type",
    "gen_ai.tool.call.id",
    "gen_ai.request.model",
    "gen_ai.request.temperature",
    "gen_ai.request.top_p",
    "gen_ai.request.top_k",
    "gen_ai.request.max_tokens",
    "gen_ai.request.frequency_penalty",
    "gen_ai.request.presence_penalty",
    "gen_ai.request.seed",
    "gen_ai.request.stop_sequences",
    "gen_ai.request.choice.count",
    "gen_ai.request.encoding_formats",
    "gen_ai.request.stream",
    "gen_ai.request.reasoning_effort",
    "gen_ai.response.id",
    "gen_ai.response.model",
    "gen_ai.response.finish_reason",
    "gen_ai.response.finish_reasons",
    "gen_ai.response.time_to_first_chunk",
    "gen_ai.response.service_tier",
    "gen_ai.response.system_fingerprint",
    "gen_ai.openai.api_base",
    "input.mime_type",
    "output.mime_type",
    "openinference.span.kind",
    "openinference.project.name",
    "llm.model_name",
    "llm.request.model_name",
    "llm.response.model_name",
    "llm.provider",
    "llm.system",
    "llm.user",
    "llm.request.type",
    "llm.is_streaming",
    "llm.finish_reason",
    "llm.response.finish_reason",
    "llm.response.stop_reason",
    "llm.response.id",
    "llm.top_k",
    "llm.frequency_penalty",
    "llm.presence_penalty",
    "llm.chat.stop_sequences",
    "llm.prompt_template.version",
    "embedding.model_name",
    "reranker.model_name",
    "reranker.top_k",
    "tool.name",
    "tool.id",
    "tool_call.id",
    "tool_call.function.name",
    "session.id",
    "user.id",
    "enduser.id",
    "tag.tags",
    "ai.operationId",
    "ai.model.id",
    "ai.model.provider",
    "ai.telemetry.functionId",
    "ai.response.id",
    "ai.response.model",
    "ai.response.timestamp",
    "ai.response.finishReason",
    "ai.response.msToFirstChunk",
    "ai.response.msToFinish",
    "ai.response.avgOutputTokensPerSecond",
    "ai.response.avgCompletionTokensPerSecond",
    "ai.stream.msToFirstChunk",
    "ai.toolCall.name",
    "ai.toolCall.id",
    "operation.name",
    "resource.name",
    "traceloop.span.kind",
    "traceloop.entity.name",
    "traceloop.entity.path",
    "traceloop.entity.version",
    "traceloop.workflow.name",
    "traceloop.prompt.key",
    "traceloop.prompt.version",
    "span.type",
    "span.level",
    "trace.name",
    "trace.tags",
    "trace.span_name",
    "langfuse.user.id",
    "langfuse.session.id",
    "langfuse.environment",
    "langfuse.release",
    "langfuse.version",
    "langfuse.tags",
    "langfuse.trace.name",
    "langfuse.trace.tags",
    "langfuse.trace.public",
    "langfuse.observation.type",
    "langfuse.observation.level",
    "langfuse.observation.model.name",
    "langfuse.observation.model.parameters",
    "langfuse.observation.usage_details",
    "langfuse.observation.cost_details",
    "langfuse.observation.completion_start_time",
    "langfuse.observation.prompt.name",
    "langfuse.observation.prompt.version",
    "langfuse.internal.as_root",
    "langsmith.span.kind",
    "langsmith.span.tags",
    "langsmith.span.id",
    "langsmith.span.parent_id",
    "langsmith.span.dotted_order",
    "langsmith.trace.id",
    "langsmith.trace.name",
    "langsmith.trace.session_id",
    "langsmith.trace.session_name",
    "braintrust.tags",
    "braintrust.metrics",
    "braintrust.span_attributes",
    "braintrust.parent",
    "opik.tags",
    "exception.type",
    "exception.escaped",
    "error.type",
    "role",
    "id",
    "index",
    "finish_reason",
    "name",
    "model",
    "event.name",
];

/// Families of names and numbers.
const KNOWN_PREFIXES: &[&str] = &[
    "gen_ai.usage.",
    "gen_ai.cost.",
    "llm.token_count.",
    "llm.usage.",
    "llm.cost.",
    "ai.usage.",
    "openrouter.",
    "tracecast.",
    "service.",
    "telemetry.sdk.",
    "telemetry.distro.",
    "deployment.",
    "host.",
    "os.",
    "cloud.",
    "k8s.",
    "container.",
    "process.runtime.",
    "server.",
    "network.",
    "otel.",
];

const METADATA: &[&str] = &[
    "metadata",
    "langfuse.trace.metadata",
    "langfuse.observation.metadata",
    "braintrust.metadata",
    "opik.metadata",
];

/// The user's own words about the call; kept by contract.
const METADATA_PREFIXES: &[&str] = &[
    "trace.metadata.",
    "span.metadata.",
    "metadata.",
    "langfuse.trace.metadata.",
    "langfuse.observation.metadata.",
    "langfuse.metadata.",
    "langsmith.metadata.",
    "traceloop.association.properties.",
    "ai.telemetry.metadata.",
    "ai.settings.context.",
    "ai.request.headers.",
    "braintrust.metadata.",
    "opik.metadata.",
];
