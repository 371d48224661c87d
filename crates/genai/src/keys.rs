//! The attribute keys of every field, newest and most explicit first: the first one present wins.
//!
//! One table per field. `ALL` names them for the test that holds them against the content list.

pub(crate) use tracecast_otlp::Keys;

/// What keys may begin with, the preferred ones first.
pub(crate) type Prefixes = &'static [&'static str];

pub(crate) const REQUEST_MODEL: Keys = Keys::new(&[
    "gen_ai.request.model",
    "llm.request.model_name",
    "langfuse.observation.model.name",
    "llm.model_name",
    "ai.model.id",
    "embedding.model_name",
    "reranker.model_name",
]);
pub(crate) const RESPONSE_MODEL: Keys = Keys::new(&[
    "gen_ai.response.model",
    "llm.response.model_name",
    "ai.response.model",
    "langfuse.observation.model.name",
]);
pub(crate) const RESPONSE_ID: Keys =
    Keys::new(&["gen_ai.response.id", "ai.response.id", "llm.response.id", "openrouter.generation_id"]);

pub(crate) const PROVIDER_DISPLAY: Keys =
    Keys::new(&["trace.metadata.openrouter.provider_name", "openrouter.provider_name"]);
pub(crate) const PROVIDER_SLUG: Keys =
    Keys::new(&["trace.metadata.openrouter.provider_slug", "openrouter.provider_slug"]);
pub(crate) const PROVIDER: Keys =
    Keys::new(&["gen_ai.provider.name", "gen_ai.system", "llm.provider", "llm.system", "ai.model.provider"]);

pub(crate) const USER_ID: Keys = Keys::new(&[
    "user.id",
    "langfuse.user.id",
    "gen_ai.user",
    "enduser.id",
    "trace.metadata.openrouter.user_id",
    "openrouter.user_id",
    "traceloop.association.properties.user_id",
    "llm.user",
    "ai.telemetry.metadata.userId",
    "langsmith.metadata.user_id",
]);
pub(crate) const SESSION_ID: Keys = Keys::new(&[
    "session.id",
    "langfuse.session.id",
    "gen_ai.conversation.id",
    "openrouter.session_id",
    "traceloop.association.properties.session_id",
    "ai.telemetry.metadata.sessionId",
    "langsmith.metadata.session_id",
]);
pub(crate) const API_KEY_NAME: Keys =
    Keys::new(&["trace.metadata.openrouter.api_key_name", "openrouter.api_key_name"]);
pub(crate) const ENTITY_ID: Keys =
    Keys::new(&["trace.metadata.openrouter.entity_id", "openrouter.entity_id"]);
pub(crate) const ORGANIZATION_ID: Keys = Keys::new(&[
    "trace.metadata.openrouter.organization_id",
    "openrouter.organization_id",
    "trace.metadata.openrouter.org_id",
    "openrouter.org_id",
]);

pub(crate) const FINISH_REASON: Keys = Keys::new(&[
    "gen_ai.response.finish_reason",
    "gen_ai.response.finish_reasons",
    "llm.finish_reason",
    "ai.response.finishReason",
    "llm.response.finish_reason",
    "llm.response.stop_reason",
    "gen_ai.completion.0.finish_reason",
]);
pub(crate) const NATIVE_FINISH_REASON: Keys = Keys::new(&[
    "trace.metadata.openrouter.finish_reason",
    "openrouter.finish_reason",
    "openrouter.native_finish_reason",
]);

pub(crate) const INPUT_TOKENS: Keys = Keys::new(&[
    "gen_ai.usage.input_tokens",
    "gen_ai.usage.prompt_tokens",
    "llm.token_count.prompt",
    "llm.usage.prompt_tokens",
    "ai.usage.inputTokens",
    "ai.usage.promptTokens",
    "ai.usage.tokens",
]);
pub(crate) const OUTPUT_TOKENS: Keys = Keys::new(&[
    "gen_ai.usage.output_tokens",
    "gen_ai.usage.completion_tokens",
    "llm.token_count.completion",
    "llm.usage.completion_tokens",
    "ai.usage.outputTokens",
    "ai.usage.completionTokens",
]);
pub(crate) const TOTAL_TOKENS: Keys = Keys::new(&[
    "gen_ai.usage.total_tokens",
    "llm.token_count.total",
    "llm.usage.total_tokens",
    "ai.usage.totalTokens",
    "ai.usage.tokens",
]);
pub(crate) const CACHED_TOKENS: Keys = Keys::new(&[
    "gen_ai.usage.cache_read.input_tokens",
    "gen_ai.usage.input_tokens.cached",
    "gen_ai.usage.cache_read_input_tokens",
    "llm.token_count.prompt_details.cache_read",
    "ai.usage.inputTokenDetails.cacheReadTokens",
    "ai.usage.cachedInputTokens",
    "gen_ai.usage.details.cached_tokens",
    "gen_ai.usage.details.cache_read_tokens",
]);
pub(crate) const CACHE_WRITE_TOKENS: Keys = Keys::new(&[
    "gen_ai.usage.cache_creation.input_tokens",
    "gen_ai.usage.cache_write.input_tokens",
    "gen_ai.usage.input_tokens.cache_write",
    "gen_ai.usage.cache_creation_input_tokens",
    "llm.token_count.prompt_details.cache_write",
    "ai.usage.inputTokenDetails.cacheWriteTokens",
    "gen_ai.usage.details.cache_write_tokens",
]);
pub(crate) const REASONING_TOKENS: Keys = Keys::new(&[
    "gen_ai.usage.reasoning.output_tokens",
    "gen_ai.usage.output_tokens.reasoning",
    "gen_ai.usage.reasoning_tokens",
    "llm.token_count.completion_details.reasoning",
    "gen_ai.usage.details.reasoning_tokens",
    "llm.usage.reasoning_tokens",
    "ai.usage.outputTokenDetails.reasoningTokens",
    "ai.usage.reasoningTokens",
]);
/// JSON text `{"input": n, "output": n, ...}` whose parts are disjoint.
pub(crate) const USAGE_DETAILS: &str = "langfuse.observation.usage_details";
pub(crate) const COST_DETAILS: &str = "langfuse.observation.cost_details";

pub(crate) const INPUT_COST: Keys = Keys::new(&["gen_ai.usage.input_cost", "llm.cost.prompt"]);
pub(crate) const OUTPUT_COST: Keys = Keys::new(&["gen_ai.usage.output_cost", "llm.cost.completion"]);
pub(crate) const TOTAL_COST: Keys = Keys::new(&[
    "gen_ai.usage.total_cost",
    "gen_ai.usage.cost",
    "llm.cost.total",
    "openrouter.total_cost",
    "openrouter.cost",
]);
/// Whether the provider was paid with a key of the caller's own.
pub(crate) const BYOK: Keys = Keys::new(&[
    "trace.metadata.openrouter.is_byok",
    "openrouter.is_byok",
    "span.metadata.is_byok",
    "trace.metadata.is_byok",
]);
/// JSON text: what each provider that was tried answered, the last one being the one that counted.
pub(crate) const PROVIDER_RESPONSES: &str = "trace.metadata.provider_responses";
/// JSON text; the charge is at `gateway.cost`.
pub(crate) const PROVIDER_METADATA: &str = "ai.response.providerMetadata";
pub(crate) const INPUT_UNIT_PRICE: Keys =
    Keys::new(&["trace.metadata.openrouter.input_unit_price", "openrouter.input_unit_price"]);
pub(crate) const OUTPUT_UNIT_PRICE: Keys =
    Keys::new(&["trace.metadata.openrouter.output_unit_price", "openrouter.output_unit_price"]);

/// Whole input as one value, before and after the flattened and event forms are looked for.
pub(crate) const INPUT_FIRST: Keys = Keys::new(&["gen_ai.input.messages", "langfuse.observation.input"]);
pub(crate) const SYSTEM_INSTRUCTIONS: &str = "gen_ai.system_instructions";
pub(crate) const OI_INPUT_PREFIX: &str = "llm.input_messages.";
pub(crate) const OI_PROMPTS_PREFIX: &str = "llm.prompts.";
pub(crate) const INPUT_NEXT: Keys =
    Keys::new(&["ai.prompt.messages", "ai.prompt", "traceloop.entity.input", "gen_ai.prompt"]);
pub(crate) const PROMPT_PREFIX: &str = "gen_ai.prompt.";
pub(crate) const INPUT_LAST: Keys = Keys::new(&[
    "span.input",
    "trace.input",
    "langfuse.trace.input",
    "braintrust.input_json",
    "mlflow.spanInputs",
    "lk.input_text",
    "ai.value",
    "ai.values",
    "input.value",
    "gen_ai.tool.call.arguments",
    "ai.toolCall.args",
]);

pub(crate) const OUTPUT_FIRST: Keys = Keys::new(&["gen_ai.output.messages", "langfuse.observation.output"]);
pub(crate) const OI_OUTPUT_PREFIX: &str = "llm.output_messages.";
pub(crate) const VERCEL_TEXT: &str = "ai.response.text";
pub(crate) const VERCEL_OBJECT: &str = "ai.response.object";
pub(crate) const VERCEL_REASONING: &str = "ai.response.reasoning";
pub(crate) const VERCEL_TOOL_CALLS: &str = "ai.response.toolCalls";
pub(crate) const OUTPUT_NEXT: Keys = Keys::new(&["traceloop.entity.output", "gen_ai.completion"]);
pub(crate) const COMPLETION_PREFIX: &str = "gen_ai.completion.";
pub(crate) const OUTPUT_LAST: Keys = Keys::new(&[
    "span.output",
    "trace.output",
    "langfuse.trace.output",
    "braintrust.output_json",
    "mlflow.spanOutputs",
    "lk.response.text",
    "output.value",
    "gen_ai.tool.call.result",
    "ai.toolCall.result",
]);
/// Logfire: JSON list of the message events.
pub(crate) const LOGFIRE_EVENTS: &str = "events";

pub(crate) const TOOLS: Keys = Keys::new(&["gen_ai.tool.definitions", "ai.prompt.tools"]);
pub(crate) const OI_TOOLS_PREFIX: &str = "llm.tools.";

pub(crate) const TRACE_NAME: Keys =
    Keys::new(&["trace.name", "langfuse.trace.name", "langsmith.trace.name", "traceloop.workflow.name"]);
pub(crate) const ENVIRONMENT: Keys = Keys::new(&[
    "langfuse.environment",
    "deployment.environment.name",
    "deployment.environment",
    "trace.metadata.environment",
    "langsmith.metadata.environment",
]);
pub(crate) const RELEASE: Keys = Keys::new(&["langfuse.release", "trace.metadata.release"]);
pub(crate) const TAGS: Keys = Keys::new(&[
    "trace.tags",
    "langfuse.trace.tags",
    "langfuse.tags",
    "tag.tags",
    "ai.telemetry.metadata.tags",
    "langsmith.span.tags",
    "braintrust.tags",
    "opik.tags",
    "trace.metadata.tags",
]);
pub(crate) const LEVEL: Keys = Keys::new(&["span.level", "langfuse.observation.level"]);
pub(crate) const ERROR_TYPE: Keys = Keys::new(&["error.type"]);
pub(crate) const ERROR_MESSAGE: Keys = Keys::new(&[
    "span.status_message",
    "langfuse.observation.status_message",
    "error.message",
    "exception.message",
]);
pub(crate) const RAW_TRACE_ID: Keys = Keys::new(&["tracecast.trace.id", "openrouter.trace.id"]);

pub(crate) const FIRST_TOKEN_MS: Keys = Keys::new(&[
    "trace.metadata.openrouter.first_token_ms",
    "openrouter.first_token_ms",
    "ai.response.msToFirstChunk",
    "ai.stream.msToFirstChunk",
    "metadata.time_to_first_token_ms",
]);
pub(crate) const FIRST_TOKEN_SECONDS: Keys =
    Keys::new(&["gen_ai.response.time_to_first_chunk", "gen_ai.server.time_to_first_token"]);
/// ISO 8601 moment of the first token.
pub(crate) const FIRST_TOKEN_AT: &str = "langfuse.observation.completion_start_time";

/// What the user wrote about the call, by prefix; the first prefix wins over the later ones.
pub(crate) const METADATA_PREFIXES: Prefixes = &[
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
    "braintrust.metadata.",
    "opik.metadata.",
];
/// The same as one JSON object (text or structured).
pub(crate) const METADATA_OBJECTS: Keys = Keys::new(&[
    "metadata",
    "langfuse.trace.metadata",
    "langfuse.observation.metadata",
    "braintrust.metadata",
]);

pub(crate) const PARAMETER_PREFIXES: Prefixes = &["gen_ai.request.", "ai.settings."];
/// Parameters as one JSON object.
pub(crate) const PARAMETER_OBJECTS: Keys =
    Keys::new(&["langfuse.observation.model.parameters", "llm.invocation_parameters"]);

// What kind of span it is.
pub(crate) const SPAN_TYPE: &str = "span.type";
pub(crate) const LANGFUSE_TYPE: &str = "langfuse.observation.type";
pub(crate) const OPERATION_NAME: &str = "gen_ai.operation.name";
pub(crate) const OPENINFERENCE_KIND: &str = "openinference.span.kind";
pub(crate) const REQUEST_TYPE: &str = "llm.request.type";
pub(crate) const TRACELOOP_KIND: &str = "traceloop.span.kind";
pub(crate) const VERCEL_OPERATION: &str = "ai.operationId";
pub(crate) const LANGSMITH_KIND: &str = "langsmith.span.kind";
pub(crate) const ATTEMPT_INDEX: &str = "span.metadata.attempt_index";
pub(crate) const TOOL: Keys =
    Keys::new(&["gen_ai.tool.name", "gen_ai.tool.call.id", "tool.name", "ai.toolCall.name"]);
#[cfg(test)]
pub(crate) const KIND: Keys = Keys::new(&[
    SPAN_TYPE,
    LANGFUSE_TYPE,
    OPERATION_NAME,
    OPENINFERENCE_KIND,
    REQUEST_TYPE,
    TRACELOOP_KIND,
    VERCEL_OPERATION,
    LANGSMITH_KIND,
]);

/// Every table that is read by exact key and whether what it holds is content.
#[cfg(test)]
pub(crate) const ALL: &[(&str, Keys, bool)] = &[
    ("request model", REQUEST_MODEL, false),
    ("response model", RESPONSE_MODEL, false),
    ("response id", RESPONSE_ID, false),
    ("provider display name", PROVIDER_DISPLAY, false),
    ("provider slug", PROVIDER_SLUG, false),
    ("provider", PROVIDER, false),
    ("user", USER_ID, false),
    ("session", SESSION_ID, false),
    ("api key name", API_KEY_NAME, false),
    ("entity", ENTITY_ID, false),
    ("organization", ORGANIZATION_ID, false),
    ("finish reason", FINISH_REASON, false),
    ("native finish reason", NATIVE_FINISH_REASON, false),
    ("input tokens", INPUT_TOKENS, false),
    ("output tokens", OUTPUT_TOKENS, false),
    ("total tokens", TOTAL_TOKENS, false),
    ("cached tokens", CACHED_TOKENS, false),
    ("cache write tokens", CACHE_WRITE_TOKENS, false),
    ("reasoning tokens", REASONING_TOKENS, false),
    ("details", Keys::new(&[USAGE_DETAILS, COST_DETAILS, FIRST_TOKEN_AT, ATTEMPT_INDEX]), false),
    ("input cost", INPUT_COST, false),
    ("output cost", OUTPUT_COST, false),
    ("total cost", TOTAL_COST, false),
    ("own provider key", BYOK, false),
    ("provider responses", Keys::new(&[PROVIDER_RESPONSES]), false),
    ("input price", INPUT_UNIT_PRICE, false),
    ("output price", OUTPUT_UNIT_PRICE, false),
    ("trace name", TRACE_NAME, false),
    ("environment", ENVIRONMENT, false),
    ("release", RELEASE, false),
    ("tags", TAGS, false),
    ("level", LEVEL, false),
    ("error type", ERROR_TYPE, false),
    ("raw trace id", RAW_TRACE_ID, false),
    ("first token ms", FIRST_TOKEN_MS, false),
    ("first token s", FIRST_TOKEN_SECONDS, false),
    ("metadata objects", METADATA_OBJECTS, false),
    ("tool", TOOL, false),
    ("kind", KIND, false),
    ("first input", INPUT_FIRST, true),
    ("next input", INPUT_NEXT, true),
    ("last input", INPUT_LAST, true),
    ("first output", OUTPUT_FIRST, true),
    ("next output", OUTPUT_NEXT, true),
    ("last output", OUTPUT_LAST, true),
    ("tools", TOOLS, true),
    ("error message", ERROR_MESSAGE, true),
    (
        "single values",
        Keys::new(&[
            SYSTEM_INSTRUCTIONS,
            VERCEL_TEXT,
            VERCEL_OBJECT,
            VERCEL_REASONING,
            VERCEL_TOOL_CALLS,
            LOGFIRE_EVENTS,
            PROVIDER_METADATA,
        ]),
        true,
    ),
];
