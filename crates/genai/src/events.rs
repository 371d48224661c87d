//! `/v1/events` (design 3.6): one LLM request as JSON, NDJSON or an array, turned into spans.
use bytes::Bytes;

#[derive(Clone, Debug)]
pub struct Options<'a> { pub strict: bool, pub receive_unix_nano: u64, pub service_name: &'a str, pub max_records: usize }
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// OTLP protobuf (ExportTraceServiceRequest) of the good records.
    pub protobuf: Bytes,
    pub accepted: u32, pub rejected: u32, pub spans: u32,
    /// Hex, first 100.
    pub trace_ids: Vec<String>,
    /// First 20.
    pub errors: Vec<RecordError>,
    /// Credential-looking fields that were never stored.
    pub credentials_removed: u32,
}
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct RecordError { pub index: usize, pub line: usize, pub path: String, pub message: String }
/// Never fails as a whole: an unreadable body is one rejected record with its place.
pub fn transcode(body: &[u8], options: &Options<'_>) -> Outcome { unimplemented!() }
/// Ids of broadcast-contract.md 5.2.
pub fn trace_id_of(raw: &str) -> [u8; 16] { unimplemented!() }
pub fn span_id_of(raw: &str) -> [u8; 8] { unimplemented!() }
