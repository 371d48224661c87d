//! The OTLP trace messages as tables: one description for checking, canonical form, stripping and JSON.

/// A message type. `fields[n - 1]` describes field number `n`.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) fields: &'static [Spec],
    pub(crate) role: Role,
}

/// How much of the input a mistake inside a message costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Holds spans somewhere below: a mistake in its framing leaves nothing to hold on to.
    Structure,
    /// Stands next to spans (resource, scope): a mistake costs the spans below.
    Context,
    /// A span: a mistake costs this span.
    Span,
    /// Part of a span, a resource or a scope.
    Part,
}

/// One field of a message.
#[derive(Debug)]
pub(crate) struct Spec {
    pub(crate) name: &'static str,
    pub(crate) snake: &'static str,
    pub(crate) kind: Kind,
    pub(crate) shape: Shape,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    One,
    Many,
    /// Member of the message's only oneof.
    Choice,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// A number that is not in use; treated as an unknown field.
    Reserved,
    Str,
    Bytes,
    TraceId,
    SpanId,
    Bool,
    Int32,
    UInt32,
    Int64,
    Enum(&'static [&'static str]),
    Fixed32,
    Fixed64,
    Double,
    Message(&'static Message),
}

impl Message {
    /// The field of that number; `None` for unknown and reserved numbers.
    #[inline]
    pub(crate) fn field(&self, number: u32) -> Option<&'static Spec> {
        let spec = self.fields.get((number as usize).wrapping_sub(1))?;
        (!matches!(spec.kind, Kind::Reserved)).then_some(spec)
    }

    /// Number and description of the field with that JSON (or proto) name.
    pub(crate) fn named(&self, name: &str) -> Option<(u32, &'static Spec)> {
        let at = self.fields.iter().position(|f| f.name == name || f.snake == name)?;
        let number = at as u32 + 1;
        Some((number, self.field(number)?))
    }
}

const fn one(name: &'static str, snake: &'static str, kind: Kind) -> Spec {
    Spec { name, snake, kind, shape: Shape::One }
}
const fn many(name: &'static str, snake: &'static str, kind: Kind) -> Spec {
    Spec { name, snake, kind, shape: Shape::Many }
}
const fn choice(name: &'static str, snake: &'static str, kind: Kind) -> Spec {
    Spec { name, snake, kind, shape: Shape::Choice }
}
const RESERVED: Spec = one("", "", Kind::Reserved);

pub(crate) static REQUEST: Message = Message {
    role: Role::Structure,
    fields: &[many("resourceSpans", "resource_spans", Kind::Message(&RESOURCE_SPANS))],
};

pub(crate) static RESOURCE_SPANS: Message = Message {
    role: Role::Structure,
    fields: &[
        one("resource", "resource", Kind::Message(&RESOURCE)),
        many("scopeSpans", "scope_spans", Kind::Message(&SCOPE_SPANS)),
        one("schemaUrl", "schema_url", Kind::Str),
    ],
};

pub(crate) static SCOPE_SPANS: Message = Message {
    role: Role::Structure,
    fields: &[
        one("scope", "scope", Kind::Message(&SCOPE)),
        many("spans", "spans", Kind::Message(&SPAN)),
        one("schemaUrl", "schema_url", Kind::Str),
    ],
};

pub(crate) static RESOURCE: Message = Message {
    role: Role::Context,
    fields: &[
        many("attributes", "attributes", Kind::Message(&KEY_VALUE)),
        one("droppedAttributesCount", "dropped_attributes_count", Kind::UInt32),
        many("entityRefs", "entity_refs", Kind::Message(&ENTITY_REF)),
    ],
};

pub(crate) static SCOPE: Message = Message {
    role: Role::Context,
    fields: &[
        one("name", "name", Kind::Str),
        one("version", "version", Kind::Str),
        many("attributes", "attributes", Kind::Message(&KEY_VALUE)),
        one("droppedAttributesCount", "dropped_attributes_count", Kind::UInt32),
    ],
};

pub(crate) static SPAN: Message = Message {
    role: Role::Span,
    fields: &[
        one("traceId", "trace_id", Kind::TraceId),
        one("spanId", "span_id", Kind::SpanId),
        one("traceState", "trace_state", Kind::Str),
        one("parentSpanId", "parent_span_id", Kind::SpanId),
        one("name", "name", Kind::Str),
        one("kind", "kind", Kind::Enum(&SPAN_KINDS)),
        one("startTimeUnixNano", "start_time_unix_nano", Kind::Fixed64),
        one("endTimeUnixNano", "end_time_unix_nano", Kind::Fixed64),
        many("attributes", "attributes", Kind::Message(&KEY_VALUE)),
        one("droppedAttributesCount", "dropped_attributes_count", Kind::UInt32),
        many("events", "events", Kind::Message(&EVENT)),
        one("droppedEventsCount", "dropped_events_count", Kind::UInt32),
        many("links", "links", Kind::Message(&LINK)),
        one("droppedLinksCount", "dropped_links_count", Kind::UInt32),
        one("status", "status", Kind::Message(&STATUS)),
        one("flags", "flags", Kind::Fixed32),
    ],
};

static SPAN_KINDS: [&str; 6] = [
    "SPAN_KIND_UNSPECIFIED",
    "SPAN_KIND_INTERNAL",
    "SPAN_KIND_SERVER",
    "SPAN_KIND_CLIENT",
    "SPAN_KIND_PRODUCER",
    "SPAN_KIND_CONSUMER",
];

pub(crate) static STATUS: Message = Message {
    role: Role::Part,
    fields: &[RESERVED, one("message", "message", Kind::Str), one("code", "code", Kind::Enum(&STATUS_CODES))],
};

static STATUS_CODES: [&str; 3] = ["STATUS_CODE_UNSET", "STATUS_CODE_OK", "STATUS_CODE_ERROR"];

pub(crate) static EVENT: Message = Message {
    role: Role::Part,
    fields: &[
        one("timeUnixNano", "time_unix_nano", Kind::Fixed64),
        one("name", "name", Kind::Str),
        many("attributes", "attributes", Kind::Message(&KEY_VALUE)),
        one("droppedAttributesCount", "dropped_attributes_count", Kind::UInt32),
    ],
};

pub(crate) static LINK: Message = Message {
    role: Role::Part,
    fields: &[
        one("traceId", "trace_id", Kind::TraceId),
        one("spanId", "span_id", Kind::SpanId),
        one("traceState", "trace_state", Kind::Str),
        many("attributes", "attributes", Kind::Message(&KEY_VALUE)),
        one("droppedAttributesCount", "dropped_attributes_count", Kind::UInt32),
        one("flags", "flags", Kind::Fixed32),
    ],
};

static ENTITY_REF: Message = Message {
    role: Role::Part,
    fields: &[
        one("schemaUrl", "schema_url", Kind::Str),
        one("type", "type", Kind::Str),
        many("idKeys", "id_keys", Kind::Str),
        many("descriptionKeys", "description_keys", Kind::Str),
    ],
};

pub(crate) static KEY_VALUE: Message = Message {
    role: Role::Part,
    fields: &[
        one("key", "key", Kind::Str),
        one("value", "value", Kind::Message(&ANY_VALUE)),
        one("keyStrindex", "key_strindex", Kind::Int32),
    ],
};

pub(crate) static ANY_VALUE: Message = Message {
    role: Role::Part,
    fields: &[
        choice("stringValue", "string_value", Kind::Str),
        choice("boolValue", "bool_value", Kind::Bool),
        choice("intValue", "int_value", Kind::Int64),
        choice("doubleValue", "double_value", Kind::Double),
        choice("arrayValue", "array_value", Kind::Message(&ARRAY_VALUE)),
        choice("kvlistValue", "kvlist_value", Kind::Message(&KEY_VALUE_LIST)),
        choice("bytesValue", "bytes_value", Kind::Bytes),
        choice("stringValueStrindex", "string_value_strindex", Kind::Int32),
    ],
};

static ARRAY_VALUE: Message =
    Message { role: Role::Part, fields: &[many("values", "values", Kind::Message(&ANY_VALUE))] };

static KEY_VALUE_LIST: Message =
    Message { role: Role::Part, fields: &[many("values", "values", Kind::Message(&KEY_VALUE))] };
