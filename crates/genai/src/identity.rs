//! Stated identity (design 3.2): what an event says about the key, workspace and region it belongs to.

use tracecast_otlp::write::{Edit, Place, Verdict};
use tracecast_otlp::{Keys, SpanView, Traces, Value};

/// SHA-256 (hex) of the API key the request was made with.
pub const API_KEY_HASH: &str = "tracecast.api_key_hash";
/// The same, as OpenRouter spells it.
pub const API_KEY_HASH_ALIAS: &str = "openrouter.api_key_hash";
/// Workspace (uuid or slug).
pub const WORKSPACE_ID: &str = "tracecast.workspace_id";
/// Data region: `global`, `europe`, `us`.
pub const REGION: &str = "tracecast.region";

/// All of them.
pub const ALL: [&str; 4] = [API_KEY_HASH, API_KEY_HASH_ALIAS, WORKSPACE_ID, REGION];

/// What stands for a stated value that is no string: no key, workspace or region has this name, so that a
/// mistyped statement is refused and never silently ignored.
pub const NOT_A_STRING: &str = "<not a string>";

/// What a span states, not yet authorised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StatedIdentity<'a> {
    /// SHA-256 (hex) of an API key.
    pub api_key_hash: Option<&'a str>,
    /// Workspace (uuid or slug).
    pub workspace_id: Option<&'a str>,
    /// Region name.
    pub region: Option<&'a str>,
}

impl StatedIdentity<'_> {
    /// True if nothing is stated.
    pub fn is_empty(&self) -> bool {
        *self == StatedIdentity::default()
    }
}

/// Reads the identity of a span; the span wins over its resource. Empty strings state nothing.
pub fn stated_identity(span: SpanView<'_>) -> StatedIdentity<'_> {
    let resource = span.resource();
    let read = |keys: Keys| {
        let on_span = span.first(keys, stated);
        on_span.or_else(|| keys.iter().find_map(|key| stated(resource.attribute(key)?)))
    };
    StatedIdentity {
        api_key_hash: read(Keys::new(&[API_KEY_HASH, API_KEY_HASH_ALIAS])),
        workspace_id: read(Keys::new(&[WORKSPACE_ID])),
        region: read(Keys::new(&[REGION])),
    }
}

/// True if any span states something, by itself or through its resource.
pub fn any_stated(traces: &Traces) -> bool {
    const KEYS: Keys = Keys::new(&ALL);
    let mut last_resource = None;
    traces.spans().any(|span| {
        let resource = span.resource();
        // Spans of a resource stand together: each resource is looked at once.
        let is_new = last_resource.replace(resource.index()) != Some(resource.index());
        let by_resource = || {
            let stating =
                resource.attributes().raw().filter(|a| ALL.iter().any(|key| a.key_bytes() == key.as_bytes()));
            stating.map(|a| a.value()).any(|value| stated(value).is_some())
        };
        span.first(KEYS, stated).is_some() || (is_new && by_resource())
    })
}

fn stated(value: Value<'_>) -> Option<&str> {
    match value {
        Value::Empty | Value::Str("") => None,
        Value::Str(text) => Some(text),
        _ => Some(NOT_A_STRING),
    }
}

/// Removes stated identity from spans and resources.
#[derive(Clone, Copy, Debug, Default)]
pub struct StripIdentity;

impl Edit for StripIdentity {
    fn attribute_by_key(&self, _place: Place, key: &[u8]) -> Option<Verdict> {
        Some(if ALL.iter().any(|name| name.as_bytes() == key) { Verdict::Drop } else { Verdict::Keep })
    }

    fn attribute(&self, place: Place, key: &str, _value: &Value<'_>) -> Verdict {
        self.attribute_by_key(place, key.as_bytes()).unwrap_or(Verdict::Keep)
    }
}
