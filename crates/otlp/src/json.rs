//! OTLP/JSON: a lenient reader to protobuf bytes and a compact writer straight from the views.

mod decode;
mod encode;
mod surrogates;
mod text;

pub use decode::decode;
pub use encode::{encode, plain_value};
pub use text::push_string;
