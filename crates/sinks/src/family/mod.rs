//! What several kinds share: HTTP, OTLP bodies, rows, objects, headers, addresses.

pub(crate) mod address;
pub(crate) mod answer;
pub(crate) mod body;
pub(crate) mod chat;
pub(crate) mod custom;
pub(crate) mod cut;
pub(crate) mod endpoint;
pub(crate) mod fragments;
pub(crate) mod gzip;
pub(crate) mod headers;
pub(crate) mod http;
pub(crate) mod json;
pub(crate) mod json_vendor;
pub(crate) mod neutral;
pub(crate) mod objects;
pub(crate) mod offload;
pub(crate) mod otlp_http;
pub(crate) mod otlp_vendor;
pub(crate) mod outbound;
pub(crate) mod pace;
pub(crate) mod pieces;
pub(crate) mod probe;
pub(crate) mod projection;
pub(crate) mod provider;
pub(crate) mod redact;
pub(crate) mod retry_after;
pub(crate) mod rows;
pub(crate) mod transport;
pub(crate) mod urls;

#[cfg(test)]
mod tests;
