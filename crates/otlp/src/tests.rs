//! Tests against opentelemetry-proto and prost as the standard receiver.

mod fuzz;
mod generate;
mod hostile;
mod json;
mod oracle;
mod select;
mod span_set;
mod views;
