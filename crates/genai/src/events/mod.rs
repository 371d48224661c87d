//! `/v1/events` (design 3.6): one LLM request as JSON, NDJSON or an array, turned into spans.
//!
//! `read` cuts the body into records, `record` reads the fields of one, `stream` reassembles streamed
//! answers, `spans` writes the spans of broadcast-contract.md 5.3. A bad record is one error with its place
//! and costs no other record.

mod credentials;
mod ids;
mod read;
mod record;
mod response;
mod spans;
mod stream;
mod time;

#[cfg(test)]
mod tests;

use bytes::Bytes;
use serde_json::Value;
use tracecast_otlp::Limits;

pub use ids::{span_id_of, trace_id_of};

/// At most this many trace ids and errors are reported.
const TRACE_IDS_MAX: usize = 100;
const ERRORS_MAX: usize = 20;
const PATH_CHARS_MAX: usize = 200;

/// How a body is read.
#[derive(Clone, Debug)]
pub struct Options<'a> {
    /// Unknown fields are errors.
    pub strict: bool,
    /// When the request arrived; stands in for missing times.
    pub receive_unix_nano: u64,
    /// `service.name` of the resource.
    pub service_name: &'a str,
    /// Records beyond this many are rejected.
    pub max_records: usize,
}

/// What became of a body.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// OTLP protobuf (ExportTraceServiceRequest) of the good records.
    pub protobuf: Bytes,
    /// Records kept.
    pub accepted: u32,
    /// Records refused.
    pub rejected: u32,
    /// Spans in `protobuf`.
    pub spans: u32,
    /// Hex, first 100 different ones.
    pub trace_ids: Vec<String>,
    /// First 20.
    pub errors: Vec<RecordError>,
    /// Credential-looking fields that were never stored.
    pub credentials_removed: u32,
}

/// Why a record was refused.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct RecordError {
    /// Position of the record in the body, from 0.
    pub index: usize,
    /// Line it starts on (of the syntax error, if that is the matter), from 1.
    pub line: usize,
    /// Field path inside of the record (`usage.prompt_tokens`); empty for the record itself.
    pub path: String,
    /// What is wrong and what to do; never quotes texts.
    pub message: String,
}

/// What is wrong with a record, and where.
#[derive(Clone, Debug, PartialEq)]
struct Fault {
    path: String,
    message: String,
}

impl Fault {
    fn new(path: impl Into<String>, message: impl Into<String>) -> Fault {
        Fault { path: path.into(), message: message.into() }
    }

    /// The same below `parent`.
    fn below(parent: &str, (path, message): (String, String)) -> Fault {
        match path.is_empty() {
            true => Fault::new(parent, message),
            false => Fault::new(format!("{parent}.{path}"), message),
        }
    }
}

/// Never fails as a whole: an unreadable body is one rejected record with its place.
pub fn transcode(body: &[u8], options: &Options<'_>) -> Outcome {
    let mut outcome = Outcome::default();
    let mut out = Vec::new();
    let mut index = 0;
    for piece in read::Pieces::new(body) {
        let read = match index < options.max_records {
            true => one(&piece, index, options, &mut out, &mut outcome),
            false => {
                let message = format!("too many records in one request: at most {}", options.max_records);
                Err((piece.line, Fault::new("", message)))
            }
        };
        match read {
            Ok(()) => outcome.accepted += 1,
            Err((line, fault)) => refuse(&mut outcome, index, line, fault),
        }
        index += 1;
    }
    if index == 0 {
        let fault =
            Fault::new("", "the body is empty: send a JSON object, an array of objects, or one per line");
        refuse(&mut outcome, 0, 1, fault);
    }
    outcome.protobuf = out.into();
    outcome
}

fn refuse(outcome: &mut Outcome, index: usize, line: usize, fault: Fault) {
    outcome.rejected = outcome.rejected.saturating_add(1);
    if outcome.errors.len() < ERRORS_MAX {
        // Paths hold names the sender chose.
        let path = fault.path.chars().take(PATH_CHARS_MAX).collect();
        outcome.errors.push(RecordError { index, line, path, message: fault.message });
    }
}

fn one(
    piece: &read::Piece<'_>,
    index: usize,
    options: &Options<'_>,
    out: &mut Vec<u8>,
    outcome: &mut Outcome,
) -> Result<(), (usize, Fault)> {
    let value = read::parse(piece)?;
    let at_start = |fault| (piece.line, fault);
    let has_id = value.get("id").is_some_and(|id| !id.is_null() && *id != Value::String(String::new()));
    let derived = if has_id { String::new() } else { ids::derived(&value, index, options.receive_unix_nano) };
    let Value::Object(object) = value else {
        let got = crate::usage::kind_of(&value);
        return Err(at_start(Fault::new("", format!("expected an object, got {got}"))));
    };
    let record = record::Record::read(object, options.strict).map_err(at_start)?;
    let credentials_removed = record.credentials_removed;
    let built = spans::build(record, derived, options);
    let before = out.len();
    built.write(out);
    let (written, bytes_max) = (out.len() - before, Limits::default().span_bytes as usize);
    if written > bytes_max {
        out.truncate(before);
        return Err(at_start(Fault::new(
            "",
            format!("record too large: {written} bytes as a span, at most {bytes_max}"),
        )));
    }
    outcome.credentials_removed = outcome.credentials_removed.saturating_add(credentials_removed);
    outcome.spans = outcome.spans.saturating_add(u32::try_from(built.spans.len()).unwrap_or(u32::MAX));
    let trace_id = tracecast_otlp::hex(&built.trace_id);
    if outcome.trace_ids.len() < TRACE_IDS_MAX && !outcome.trace_ids.contains(&trace_id) {
        outcome.trace_ids.push(trace_id);
    }
    Ok(())
}
