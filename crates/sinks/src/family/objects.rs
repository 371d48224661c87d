//! A trace as one JSON object, and object keys that are the same on every retry
//! (broadcast-contract.md 5.8, 7.3). Spans of a private item come in already projected.

use std::collections::BTreeSet;

use tracecast_genai::Generation;
use tracecast_otlp::{SpanSet, SpanView, TraceId, Traces, hex};

use super::{json, rows};

/// The version of the object's shape.
const SCHEMA: &str = "tracecast.trace/1";
/// Longest value of `{apiKeyName}` in a key, bytes.
const NAME_BYTES_MAX: usize = 200;
/// Longest key S3 takes, bytes.
pub(crate) const KEY_BYTES_MAX: usize = 1024;

/// The selected spans of one trace in one request.
#[derive(Debug)]
pub(crate) struct TraceGroup<'a> {
    pub(crate) trace_id: TraceId,
    spans: Vec<Generation<'a>>,
}

/// The selected spans by trace, traces in the order they first appear.
pub(crate) fn traces<'a>(traces: &'a Traces, spans: &SpanSet) -> Vec<TraceGroup<'a>> {
    let mut groups: Vec<TraceGroup<'a>> = Vec::new();
    for i in spans.iter().filter(|i| (*i as usize) < traces.len()) {
        let span = traces.span(i as usize);
        let trace_id = span.trace_id();
        match groups.iter_mut().find(|group| group.trace_id == trace_id) {
            Some(group) => group.spans.push(Generation::new(span)),
            None => groups.push(TraceGroup { trace_id, spans: vec![Generation::new(span)] }),
        }
    }
    groups
}

impl<'a> TraceGroup<'a> {
    pub(crate) fn id(&self) -> String {
        hex(&self.trace_id)
    }

    /// Tells parts of one request apart that are sent separately, whatever else of it is still stored.
    pub(crate) fn first_span_id(&self) -> String {
        let first = self.spans.first();
        first.map_or_else(String::new, |generation| hex(&generation.span().span_id()))
    }

    pub(crate) fn api_key_name(&self) -> Option<&'a str> {
        self.first(Generation::api_key_name)
    }

    fn first<T>(&self, field: impl Fn(&Generation<'a>) -> Option<T>) -> Option<T> {
        self.spans.iter().find_map(field)
    }

    /// The span the others hang under: no parent here, the earliest of those.
    fn root(&self) -> Option<&Generation<'a>> {
        let here = |id| self.spans.iter().any(|other| other.span().span_id() == id);
        let is_root =
            |generation: &&Generation<'a>| generation.span().parent_span_id().is_none_or(|id| !here(id));
        let start = |generation: &&Generation<'a>| generation.span().start_unix_nano();
        self.spans.iter().filter(is_root).min_by_key(start).or(self.spans.iter().min_by_key(start))
    }

    /// Appends the object, on one line, without a line end.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let root = self.root();
        let starts = self.spans.iter().map(|g| g.span().start_unix_nano());
        let ends = self.spans.iter().map(|g| g.span().end_unix_nano());
        let (start, end) = (starts.min().unwrap_or(0), ends.max().unwrap_or(0));

        let mut object = json::Object::open(out);
        object.str("schema", SCHEMA);
        object.str("id", &self.id());
        object.opt_str("rawId", self.first(Generation::raw_trace_id));
        let name = self.first(Generation::trace_name).or(root.map(|root| root.span().name()));
        object.opt_str("name", name);
        object.opt_str("userId", self.first(Generation::user_id));
        object.opt_str("sessionId", self.first(Generation::session_id));
        object.str("timestamp", &json::rfc3339(start));
        object.str("startTime", &json::rfc3339(start));
        object.str("endTime", &json::rfc3339(end.max(start)));
        object.opt_f64("latencyMs", Some(end.saturating_sub(start) as f64 / 1e6));
        object.opt_str("environment", self.first(Generation::environment));
        object.opt_str("release", self.first(Generation::release));
        object.opt_str("apiKeyName", self.api_key_name());
        let tags: BTreeSet<String> = self.spans.iter().flat_map(Generation::tags).collect();
        object.value("tags", &tags);
        object.value("metadata", &self.metadata());
        let input = root.and_then(Generation::input_json).or_else(|| self.first(Generation::input_json));
        let output = root.and_then(Generation::output_json).or_else(|| self.first(Generation::output_json));
        object.opt_json("input", input.as_deref());
        object.opt_json("output", output.as_deref());
        let costs = self.spans.iter().filter(|g| g.is_generation());
        let total: Vec<f64> = costs.filter_map(|g| g.cost().total).collect();
        if !total.is_empty() {
            object.opt_f64("totalCost", Some(total.iter().sum()));
        }
        let list = object.key("observations");
        list.push(b'[');
        for (i, generation) in self.spans.iter().enumerate() {
            if i > 0 {
                list.push(b',');
            }
            observation(generation, list);
        }
        list.push(b']');
        object.close();
    }

    /// The metadata of all spans; the root's word counts where they differ.
    fn metadata(&self) -> serde_json::Map<String, serde_json::Value> {
        let mut all = self.root().map(Generation::metadata).unwrap_or_default();
        for (key, value) in self.spans.iter().flat_map(Generation::metadata) {
            all.entry(key).or_insert(value);
        }
        all
    }
}

fn observation(generation: &Generation<'_>, out: &mut Vec<u8>) {
    let span = generation.span();
    let mut object = json::Object::open(out);
    object.str("id", &hex(&span.span_id()));
    object.str("traceId", &hex(&span.trace_id()));
    let parent = span.parent_span_id().map(|id| hex(&id));
    object.opt_str("parentObservationId", parent.as_deref());
    object.str("type", rows::span_type(generation));
    object.str("name", span.name());
    object.str("startTime", &json::rfc3339(span.start_unix_nano()));
    object.str("endTime", &json::rfc3339(span.end_unix_nano()));
    object.opt_f64("durationMs", rows::duration_ms(span));
    object.opt_f64("firstTokenMs", generation.first_token_ms());
    object.str("status", rows::status(span));
    object.str("level", generation.level());
    let message = Some(span.status_message()).filter(|message| !message.is_empty());
    object.opt_str("statusMessage", message);
    object.opt_str("operation", generation.operation());
    object.opt_str("model", generation.response_model().or(generation.model()));
    object.opt_str("requestModel", generation.model());
    object.opt_str("provider", generation.provider_name());
    object.opt_str("responseId", generation.response_id());
    object.opt_str("finishReason", generation.finish_reason().as_deref());
    object.opt_str("nativeFinishReason", generation.native_finish_reason());
    let parameters = rows::parameters(generation);
    if parameters != "{}" {
        object.opt_json("modelParameters", Some(&parameters));
    }
    object.opt_json("input", generation.input_json().as_deref());
    object.opt_json("output", generation.output_json().as_deref());
    usage(generation, &mut object);
    let cost = generation.cost();
    object.opt_f64("inputCost", cost.input);
    object.opt_f64("outputCost", cost.output);
    object.opt_f64("totalCost", cost.total);
    object.value("metadata", &generation.metadata());
    object.opt_json("attributes", Some(&rows::plain_attributes(span)));
    events(span, &mut object);
    object.close();
}

fn usage(generation: &Generation<'_>, object: &mut json::Object<'_>) {
    let usage = generation.usage();
    object.opt_u64("promptTokens", usage.input);
    object.opt_u64("completionTokens", usage.output);
    object.opt_u64("totalTokens", usage.total);
    if usage.cached.is_some() || usage.cache_write.is_some() {
        let mut details = json::Object::open(object.key("promptTokensDetails"));
        details.opt_u64("cachedTokens", usage.cached);
        details.opt_u64("cacheWriteTokens", usage.cache_write);
        details.close();
    }
    if usage.reasoning.is_some() {
        let mut details = json::Object::open(object.key("completionTokensDetails"));
        details.opt_u64("reasoningTokens", usage.reasoning);
        details.close();
    }
}

fn events(span: SpanView<'_>, object: &mut json::Object<'_>) {
    let mut events = span.events().peekable();
    if events.peek().is_none() {
        return;
    }
    let list = object.key("events");
    list.push(b'[');
    for (i, event) in events.enumerate() {
        if i > 0 {
            list.push(b',');
        }
        let mut object = json::Object::open(list);
        object.str("name", event.name());
        object.str("time", &json::rfc3339(event.time_unix_nano()));
        let attributes = rows::attributes(event.attributes(), |_| true);
        object.opt_json("attributes", Some(&attributes));
        object.close();
    }
    list.push(b']');
}

/// A path template, read once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PathTemplate(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(String),
    Date,
    Year,
    Month,
    Day,
    ApiKeyName,
}

impl PathTemplate {
    /// `{prefix} {date} {year} {month} {day} {apiKeyName}`; another name is an error.
    pub(crate) fn read(template: &str, prefix: &str) -> Result<PathTemplate, String> {
        let mut parts = Vec::new();
        let mut rest = template;
        while let Some((literal, after)) = rest.split_once('{') {
            parts.push(Part::Literal(literal.to_owned()));
            let Some((name, after)) = after.split_once('}') else {
                return Err("config.pathTemplate: a { is never closed".into());
            };
            parts.push(match name {
                "prefix" => Part::Literal(prefix.to_owned()),
                "date" => Part::Date,
                "year" => Part::Year,
                "month" => Part::Month,
                "day" => Part::Day,
                "apiKeyName" => Part::ApiKeyName,
                _ => {
                    return Err(format!(
                        "config.pathTemplate: {{{name}}} is not known; use {{prefix}} {{date}} {{year}} {{month}} {{day}} {{apiKeyName}}"
                    ));
                }
            });
            rest = after;
        }
        parts.push(Part::Literal(rest.to_owned()));
        Ok(PathTemplate(parts))
    }

    /// The path at a time (UTC), without slashes at either end.
    pub(crate) fn expand(&self, unix_nano: u64, api_key_name: Option<&str>) -> String {
        let time = json::timestamp(unix_nano);
        let mut path = String::new();
        for part in &self.0 {
            match part {
                Part::Literal(text) => path.push_str(text),
                Part::Date => path.push_str(&time.strftime("%Y-%m-%d").to_string()),
                Part::Year => path.push_str(&time.strftime("%Y").to_string()),
                Part::Month => path.push_str(&time.strftime("%m").to_string()),
                Part::Day => path.push_str(&time.strftime("%d").to_string()),
                Part::ApiKeyName => path.push_str(&segment(api_key_name.unwrap_or_default())),
            }
        }
        clean(&path)
    }
}

/// Joins a path and a name; a path of nothing adds no slash.
pub(crate) fn join_key(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") }
}

/// A prefix as it stands in keys.
pub(crate) fn clean(path: &str) -> String {
    let segments: Vec<&str> =
        path.split('/').filter(|segment| !matches!(*segment, "" | "." | "..")).collect();
    segments.join("/")
}

/// A foreign name as one segment of a key: no separators, no control characters, nothing that some
/// tool reads as "here" or "up", `unknown` if nothing is left.
pub(crate) fn segment(name: &str) -> String {
    let mut out = String::new();
    for c in name.trim().chars() {
        let before = out.len();
        match c {
            '/' | '\\' => out.push('-'),
            c if c.is_control() => out.push('-'),
            '{' | '}' | '^' | '%' | '`' | '[' | ']' | '"' | '<' | '>' | '~' | '#' | '|' | '?' => {
                out.push_str(&format!("%{:02X}", u32::from(c)));
            }
            c => out.push(c),
        }
        if out.len() > NAME_BYTES_MAX {
            out.truncate(before);
            break;
        }
    }
    if out.chars().all(|c| c == '.') {
        return "unknown".into();
    }
    out
}
