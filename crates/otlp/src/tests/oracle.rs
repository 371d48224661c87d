//! Views turned into the structs of opentelemetry-proto, and what is compared with what.

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList, any_value,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{Span, Status, span};
use prost::Message;

use crate::{Attributes, Limits, SpanView, Traces, Value};

pub(super) type Request = ExportTraceServiceRequest;

pub(super) fn index(bytes: &[u8]) -> Traces {
    Traces::index(Bytes::copy_from_slice(bytes), &Limits::default()).expect("indexes")
}

pub(super) fn index_request(request: &Request) -> Traces {
    index(&request.encode_to_vec())
}

pub(super) fn prost(bytes: &[u8]) -> Request {
    Request::decode(bytes).expect("a standard decoder accepts")
}

/// A span with what stands around it, as seen through views or through structs.
#[derive(Debug, PartialEq)]
pub(super) struct Seen {
    span: Span,
    resource: Resource,
    resource_schema: String,
    scope: InstrumentationScope,
    scope_schema: String,
}

pub(super) fn seen_by_views(traces: &Traces) -> Vec<Seen> {
    traces.spans().map(seen).collect()
}

fn seen(view: SpanView<'_>) -> Seen {
    let (resource, scope) = (view.resource(), view.scope());
    Seen {
        span: span(view),
        resource: Resource {
            attributes: attributes(resource.attributes()),
            dropped_attributes_count: resource.dropped_attributes_count(),
            entity_refs: Vec::new(),
        },
        resource_schema: resource.schema_url().into(),
        scope: InstrumentationScope {
            name: scope.name().into(),
            version: scope.version().into(),
            attributes: attributes(scope.attributes()),
            dropped_attributes_count: scope.dropped_attributes_count(),
        },
        scope_schema: scope.schema_url().into(),
    }
}

pub(super) fn seen_by_prost(request: &Request) -> Vec<Seen> {
    let mut request = request.clone();
    visit_values(&mut request, &mut normal_value);
    let mut all = Vec::new();
    for rs in request.resource_spans {
        let mut resource = rs.resource.unwrap_or_default();
        resource.entity_refs.clear();
        for ss in rs.scope_spans {
            for mut span in ss.spans {
                if span.parent_span_id.iter().all(|&b| b == 0) {
                    span.parent_span_id.clear();
                }
                for link in &mut span.links {
                    link.trace_id.resize(16, 0);
                    link.span_id.resize(8, 0);
                }
                span.status = Some(span.status.unwrap_or_default());
                all.push(Seen {
                    span,
                    resource: resource.clone(),
                    resource_schema: rs.schema_url.clone(),
                    scope: ss.scope.clone().unwrap_or_default(),
                    scope_schema: ss.schema_url.clone(),
                });
            }
        }
    }
    all
}

fn span(view: SpanView<'_>) -> Span {
    Span {
        trace_id: view.trace_id().into(),
        span_id: view.span_id().into(),
        trace_state: view.trace_state().into(),
        parent_span_id: view.parent_span_id().map(Vec::from).unwrap_or_default(),
        flags: view.flags(),
        name: view.name().into(),
        kind: view.kind(),
        start_time_unix_nano: view.start_unix_nano(),
        end_time_unix_nano: view.end_unix_nano(),
        attributes: attributes(view.attributes()),
        dropped_attributes_count: view.dropped_attributes_count(),
        events: view
            .events()
            .map(|event| span::Event {
                time_unix_nano: event.time_unix_nano(),
                name: event.name().into(),
                attributes: attributes(event.attributes()),
                dropped_attributes_count: event.dropped_attributes_count(),
            })
            .collect(),
        dropped_events_count: view.dropped_events_count(),
        links: view
            .links()
            .map(|link| span::Link {
                trace_id: link.trace_id().into(),
                span_id: link.span_id().into(),
                trace_state: link.trace_state().into(),
                attributes: attributes(link.attributes()),
                dropped_attributes_count: link.dropped_attributes_count(),
                flags: link.flags(),
            })
            .collect(),
        dropped_links_count: view.dropped_links_count(),
        status: Some(Status { message: view.status_message().into(), code: view.status_code() }),
    }
}

fn attributes(view: Attributes<'_>) -> Vec<KeyValue> {
    view.map(|(key, value)| KeyValue { key: key.into(), value: Some(any_value(value)), key_strindex: 0 })
        .collect()
}

fn any_value(value: Value<'_>) -> AnyValue {
    use any_value::Value as Any;
    let value = match value {
        Value::Empty => None,
        Value::Str(s) => Some(Any::StringValue(s.into())),
        Value::Bool(v) => Some(Any::BoolValue(v)),
        Value::Int(v) => Some(Any::IntValue(v)),
        Value::Double(v) => Some(Any::DoubleValue(v)),
        Value::Bytes(b) => Some(Any::BytesValue(b.into())),
        Value::Array(a) => Some(Any::ArrayValue(ArrayValue { values: a.iter().map(any_value).collect() })),
        Value::Map(m) => Some(Any::KvlistValue(KeyValueList { values: attributes(m.iter()) })),
    };
    let mut value = AnyValue { value };
    normal_value(&mut value);
    value
}

/// String indexes exist in profiles only and read as empty; NaN is given a value that equals itself.
fn normal_value(value: &mut AnyValue) {
    match &mut value.value {
        Some(any_value::Value::StringValueStrindex(_)) => value.value = None,
        Some(any_value::Value::DoubleValue(v)) if v.is_nan() => *v = 4.25e99,
        _ => {}
    }
}

/// Calls `f` for every value at every level, and gives every key a value.
pub(super) fn visit_values(request: &mut Request, f: &mut dyn FnMut(&mut AnyValue)) {
    for rs in &mut request.resource_spans {
        rs.resource.iter_mut().for_each(|r| pairs(&mut r.attributes, f));
        for ss in &mut rs.scope_spans {
            ss.scope.iter_mut().for_each(|s| pairs(&mut s.attributes, f));
            for span in &mut ss.spans {
                pairs(&mut span.attributes, f);
                span.events.iter_mut().for_each(|e| pairs(&mut e.attributes, f));
                span.links.iter_mut().for_each(|l| pairs(&mut l.attributes, f));
            }
        }
    }
}

fn pairs(list: &mut [KeyValue], f: &mut dyn FnMut(&mut AnyValue)) {
    for pair in list {
        pair.key_strindex = 0;
        value(pair.value.get_or_insert_default(), f);
    }
}

fn value(any: &mut AnyValue, f: &mut dyn FnMut(&mut AnyValue)) {
    f(any);
    match &mut any.value {
        Some(any_value::Value::ArrayValue(a)) => a.values.iter_mut().for_each(|v| value(v, f)),
        Some(any_value::Value::KvlistValue(m)) => pairs(&mut m.values, f),
        _ => {}
    }
}
