//! A span as a warehouse row: the columns of broadcast-contract.md 7.1 and their values.
//!
//! The warehouses differ in types and transport, not in what a row says; that is here. Spans of a
//! private item come in already projected.

use std::borrow::Cow;

use tracecast_genai::{Class, Generation, classify};
use tracecast_otlp::{Attributes, SpanSet, SpanView, TraceId, Traces, Value, hex, json as otlp_json};

use super::{chat, custom, json};

macro_rules! columns {
    ($($variant:ident $name:literal,)*) => {
        /// A column we know how to fill.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub(crate) enum Column { $($variant,)* }

        impl Column {
            /// In the order they are written.
            pub(crate) const ALL: &[Column] = &[$(Column::$variant,)*];

            /// The name in upper case, as upstream spells it.
            pub(crate) fn name(self) -> &'static str {
                match self { $(Column::$variant => $name,)* }
            }
        }
    };
}

columns! {
    EventId "EVENT_ID",
    TraceId "TRACE_ID",
    SpanId "SPAN_ID",
    ParentSpanId "PARENT_SPAN_ID",
    Name "NAME",
    UserId "USER_ID",
    SessionId "SESSION_ID",
    OrganizationId "ORGANIZATION_ID",
    EntityId "ENTITY_ID",
    ApiKeyName "API_KEY_NAME",
    Timestamp "TIMESTAMP",
    StartTime "START_TIME",
    EndTime "END_TIME",
    DurationMs "DURATION_MS",
    Model "MODEL",
    ProviderName "PROVIDER_NAME",
    ProviderSlug "PROVIDER_SLUG",
    Status "STATUS",
    Level "LEVEL",
    FinishReason "FINISH_REASON",
    PromptTokens "PROMPT_TOKENS",
    CompletionTokens "COMPLETION_TOKENS",
    TotalTokens "TOTAL_TOKENS",
    CachedTokens "CACHED_TOKENS",
    ReasoningTokens "REASONING_TOKENS",
    CacheWriteTokens "CACHE_WRITE_TOKENS",
    InputCost "INPUT_COST",
    OutputCost "OUTPUT_COST",
    TotalCost "TOTAL_COST",
    InputUnitPrice "INPUT_UNIT_PRICE",
    OutputUnitPrice "OUTPUT_UNIT_PRICE",
    SpanType "SPAN_TYPE",
    SpanKind "SPAN_KIND",
    OperationName "OPERATION_NAME",
    Attributes "ATTRIBUTES",
    Input "INPUT",
    Output "OUTPUT",
    Metadata "METADATA",
    Tags "TAGS",
    ModelParameters "MODEL_PARAMETERS",
    ResourceAttributes "RESOURCE_ATTRIBUTES",
}

/// The value of one column in one row.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Cell<'a> {
    /// Nothing is known: NULL, or the column's default.
    Absent,
    Text(Cow<'a, str>),
    Count(u64),
    /// Milliseconds, USD, USD per token.
    Number(f64),
    /// Nanoseconds since 1970, UTC.
    Time(u64),
    /// One JSON value, on one line.
    Json(String),
    List(Vec<String>),
}

/// What a row is made from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row<'a> {
    pub(crate) span: SpanView<'a>,
    pub(crate) generation: Generation<'a>,
    /// Start of the earliest selected span of its trace in the same request.
    pub(crate) trace_start: u64,
}

/// The rows of one item, in the order of its spans.
pub(crate) fn rows<'a>(traces: &'a Traces, spans: &SpanSet) -> Vec<Row<'a>> {
    let selected: Vec<SpanView<'a>> =
        spans.iter().filter(|i| (*i as usize) < traces.len()).map(|i| traces.span(i as usize)).collect();
    let mut starts: Vec<(TraceId, u64)> = Vec::with_capacity(1);
    for span in &selected {
        let (id, start) = (span.trace_id(), span.start_unix_nano());
        match starts.iter_mut().find(|(known, _)| *known == id) {
            Some((_, earliest)) => *earliest = start.min(*earliest),
            None => starts.push((id, start)),
        }
    }
    selected
        .into_iter()
        .map(|span| {
            let id = span.trace_id();
            let start = starts.iter().find(|(known, _)| *known == id);
            Row {
                span,
                generation: Generation::new(span),
                trace_start: start.map_or_else(|| span.start_unix_nano(), |(_, start)| *start),
            }
        })
        .collect()
}

impl<'a> Row<'a> {
    pub(crate) fn cell(&self, column: Column) -> Cell<'a> {
        let span = self.span;
        let generation = &self.generation;
        let text =
            |value: Option<&'a str>| value.map_or(Cell::Absent, |value| Cell::Text(Cow::Borrowed(value)));
        let count = |value: Option<u64>| Cell::Count(value.unwrap_or(0));
        let number = |value: Option<f64>| match value {
            Some(value) if value.is_finite() => Cell::Number(value),
            _ => Cell::Absent,
        };
        let fixed = |value: &'static str| Cell::Text(Cow::Borrowed(value));
        match column {
            Column::EventId => {
                Cell::Text(format!("{}-{}", hex(&span.trace_id()), hex(&span.span_id())).into())
            }
            Column::TraceId => Cell::Text(hex(&span.trace_id()).into()),
            Column::SpanId => Cell::Text(hex(&span.span_id()).into()),
            Column::ParentSpanId => {
                span.parent_span_id().map_or(Cell::Absent, |id| Cell::Text(hex(&id).into()))
            }
            Column::Name => text(Some(span.name())),
            Column::UserId => text(generation.user_id()),
            Column::SessionId => text(generation.session_id()),
            Column::OrganizationId => text(generation.organization_id()),
            Column::EntityId => text(generation.entity_id().or(Some(""))),
            Column::ApiKeyName => text(generation.api_key_name()),
            Column::Timestamp => Cell::Time(self.trace_start),
            Column::StartTime => Cell::Time(span.start_unix_nano()),
            Column::EndTime => match span.end_unix_nano() {
                0 => Cell::Absent,
                end => Cell::Time(end),
            },
            Column::DurationMs => number(duration_ms(span)),
            Column::Model => text(generation.response_model().or(generation.model())),
            Column::ProviderName => text(generation.provider_name()),
            Column::ProviderSlug => text(generation.provider_slug()),
            Column::Status => fixed(status(span)),
            Column::Level => text(Some(generation.level())),
            Column::FinishReason => generation.finish_reason().map_or(Cell::Absent, Cell::Text),
            Column::PromptTokens => count(generation.usage().input),
            Column::CompletionTokens => count(generation.usage().output),
            Column::TotalTokens => {
                let usage = generation.usage();
                let sum = usage.input.unwrap_or(0).saturating_add(usage.output.unwrap_or(0));
                Cell::Count(usage.total.unwrap_or(sum))
            }
            Column::CachedTokens => count(generation.usage().cached),
            Column::ReasoningTokens => count(generation.usage().reasoning),
            Column::CacheWriteTokens => count(generation.usage().cache_write),
            Column::InputCost => number(generation.cost().input),
            Column::OutputCost => number(generation.cost().output),
            Column::TotalCost => number(generation.cost().total),
            Column::InputUnitPrice => number(generation.unit_prices().0),
            Column::OutputUnitPrice => number(generation.unit_prices().1),
            Column::SpanType => fixed(span_type(generation)),
            Column::SpanKind => fixed(kind(span)),
            Column::OperationName => text(generation.operation().or(Some(""))),
            Column::Attributes => Cell::Json(attributes(span.attributes(), |_| true)),
            Column::Input => content(generation.input_json()),
            Column::Output => content(generation.output_json()),
            Column::Metadata => Cell::Json(metadata(generation)),
            Column::Tags => Cell::List(generation.tags()),
            Column::ModelParameters => Cell::Json(parameters(generation)),
            Column::ResourceAttributes => Cell::Json(attributes(span.resource().attributes(), |_| true)),
        }
    }
}

/// Input or output as JSON; text that is not JSON as a JSON string; empty if there is none.
fn content(value: Option<Cow<'_, str>>) -> Cell<'_> {
    let Some(value) = value else {
        return Cell::Text(Cow::Borrowed(""));
    };
    let json = json::one_line(&value).unwrap_or_else(|| {
        let mut quoted = Vec::new();
        json::string(&mut quoted, &value);
        quoted
    });
    Cell::Json(String::from_utf8(json).unwrap_or_default())
}

/// `GENERATION`, `EVENT` or `SPAN`.
pub(crate) fn span_type(generation: &Generation<'_>) -> &'static str {
    if generation.is_generation() {
        return "GENERATION";
    }
    let span = generation.span();
    let said =
        ["span.type", "langfuse.observation.type"].iter().find_map(|key| span.attribute(key)?.as_str());
    match said {
        Some(kind) if kind.eq_ignore_ascii_case("event") => "EVENT",
        _ => "SPAN",
    }
}

pub(crate) fn status(span: SpanView<'_>) -> &'static str {
    if span.status_code() == 2 { "error" } else { "ok" }
}

fn kind(span: SpanView<'_>) -> &'static str {
    match span.kind() {
        2 => "SERVER",
        3 => "CLIENT",
        4 => "PRODUCER",
        5 => "CONSUMER",
        _ => "INTERNAL",
    }
}

pub(crate) fn duration_ms(span: SpanView<'_>) -> Option<f64> {
    let nanos = span.end_unix_nano().checked_sub(span.start_unix_nano())?;
    Some(nanos as f64 / 1e6)
}

/// Attributes as a JSON object: the last of equal keys, `keep` by key.
pub(crate) fn attributes(attributes: Attributes<'_>, keep: impl Fn(&str) -> bool) -> String {
    let all: Vec<(&str, Value<'_>)> = attributes.filter(|(key, _)| keep(key)).collect();
    let mut out = Vec::new();
    let mut object = json::Object::open(&mut out);
    for (i, (key, value)) in all.iter().enumerate() {
        // A second mention wins; a JSON object with equal keys is refused by some warehouses.
        if all.iter().skip(i + 1).any(|(later, _)| later == key) {
            continue;
        }
        otlp_json::plain_value(value, object.key(key));
    }
    object.close();
    String::from_utf8(out).unwrap_or_else(|_| "{}".into())
}

/// The attributes that are no content: what an object holds besides its own fields.
pub(crate) fn plain_attributes(span: SpanView<'_>) -> String {
    attributes(span.attributes(), |key| classify(key) != Class::Content)
}

/// The user's metadata, and the trace fields that have no column of their own.
pub(crate) fn metadata(generation: &Generation<'_>) -> String {
    let name = if generation.is_generation() { "generation_name" } else { "span_name" };
    let own = chat::compact([
        ("trace_id", chat::text(generation.raw_trace_id())),
        ("trace_name", chat::text(generation.trace_name())),
        (name, chat::text(Some(generation.span().name()))),
        ("environment", chat::text(generation.environment())),
        ("release", chat::text(generation.release())),
    ]);
    serde_json::Value::Object(custom::beside(own, generation, |_| false)).to_string()
}

/// Model parameters as a JSON object.
pub(crate) fn parameters(generation: &Generation<'_>) -> String {
    serde_json::Value::Object(generation.model_parameters()).to_string()
}
