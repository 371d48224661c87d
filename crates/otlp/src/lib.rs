//! OTLP trace data as borrowed views over wire bytes, a splicing writer, and OTLP/JSON both ways.
//!
//! [`Traces::index`] walks an `ExportTraceServiceRequest` once. It checks everything a standard
//! decoder may refuse, rejects bad spans one by one and records ranges; [`SpanView`] and its
//! relatives read fields out of the received bytes when asked. [`write::select`] makes a new
//! request of some of the spans by copying their bytes. Nothing is decoded into owned structs.
//!
//! Protobuf is last-wins and merges repeated submessages; a view that takes the first occurrence
//! would differ from what a receiver sees. So a body in which a singular field occurs twice, or
//! which holds groups, is brought into canonical form first ([`Traces::body`] is then a new buffer).

mod canonical;
mod check;
mod ids;
mod index;
pub mod json;
mod key;
mod payload;
mod plain;
mod schema;
mod span_set;
#[cfg(test)]
mod tests;
mod value;
mod view;
mod walk;
mod wire;
pub mod write;

pub use ids::{Hex, SpanId, TraceId, from_hex, hex};
pub use index::{DecodeError, Limits, Rejected, Traces};
pub use key::Keys;
pub use payload::Payload;
pub use span_set::SpanSet;
pub use value::{ArrayIter, ArrayValue, Attributes, MapValue, RawAttribute, Value};
pub use view::{EventView, Events, LinkView, Links, ResourceView, ScopeView, SpanView};
