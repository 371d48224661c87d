//! What the tests share: spans made of attributes.

mod content;
mod dialects;
mod identity;
mod media;
mod privacy;
mod shrink;

use tracecast_otlp::write::{OwnedValue, SpanBuilder, resource_spans};
use tracecast_otlp::{Limits, Traces};

/// A value from a literal.
pub(crate) fn text(value: &str) -> OwnedValue {
    value.into()
}

pub(crate) fn array(items: &[&str]) -> OwnedValue {
    OwnedValue::Array(items.iter().map(|item| (*item).into()).collect())
}

pub(crate) fn builder(attributes: Vec<(&str, OwnedValue)>) -> SpanBuilder {
    SpanBuilder {
        trace_id: [1; 16],
        span_id: [2; 8],
        name: "span".into(),
        start_unix_nano: 1_790_606_294_000_000_000,
        end_unix_nano: 1_790_606_295_500_000_000,
        attributes: attributes.into_iter().map(|(key, value)| (key.to_owned(), value)).collect(),
        ..SpanBuilder::default()
    }
}

pub(crate) fn traces(resource: Vec<(&str, OwnedValue)>, spans: &[SpanBuilder]) -> Traces {
    let resource: Vec<_> = resource.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    let mut out = Vec::new();
    resource_spans(&resource, "test", "1", spans, &mut out);
    Traces::index(out.into(), &Limits::default()).expect("built spans are valid")
}

/// One span with these attributes.
pub(crate) fn one(attributes: Vec<(&str, OwnedValue)>) -> Traces {
    traces(Vec::new(), &[builder(attributes)])
}
