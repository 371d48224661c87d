//! The answer of a record: a body, its text, a list of chunks or an event stream, and the errors in it.

use serde_json::{Map, Value};

use super::Fault;
use super::stream;
use crate::messages::{field, str_of, text_or_json};
use crate::usage::kind_of;

/// A request or response that came as text: JSON if it looks like it.
pub(super) fn parsed(text: &str, path: &str) -> Result<Option<Value>, Fault> {
    if !text.trim_start().starts_with(['{', '[']) {
        return Ok(None);
    }
    let wrong = |error: serde_json::Error| {
        let what = error.to_string();
        let what = what.split(" at line ").next().unwrap_or("not JSON").to_owned();
        Fault::new(path, format!("text is not valid JSON: {what} at column {}", error.column()))
    };
    serde_json::from_str(text).map(Some).map_err(wrong)
}

/// The body of the answer and whether it was streamed.
pub(super) fn read(given: Option<Value>) -> Result<(Value, bool), Fault> {
    match given {
        None | Some(Value::Null) => Ok((Value::Null, false)),
        Some(Value::String(text)) if stream::is_sse(&text) => {
            Ok((stream::assemble(&stream::chunks_of_sse(&text)?), true))
        }
        Some(Value::String(text)) => match parsed(&text, "response")? {
            Some(body) => Ok(of_body(body)?),
            None => Ok((Value::String(text), false)),
        },
        Some(body @ (Value::Array(_) | Value::Object(_))) => of_body(body),
        Some(other) => {
            let message = format!("expected an object, an array of chunks or text, got {}", kind_of(&other));
            Err(Fault::new("response", message))
        }
    }
}

fn of_body(body: Value) -> Result<(Value, bool), Fault> {
    let Value::Array(items) = body else { return Ok((body, false)) };
    if !items.is_empty() && items.iter().all(|i| i.as_str().is_some_and(stream::is_sse)) {
        let lines: Vec<&str> = items.iter().filter_map(Value::as_str).collect();
        return Ok((stream::assemble(&stream::chunks_of_sse(&lines.join("\n"))?), true));
    }
    match stream::are_chunks(&items) {
        true => Ok((stream::assemble(&items), true)),
        false => Ok((Value::Array(items), false)),
    }
}

/// Puts the top-level parts of an answer (`choices`, `content`, ...) into its body.
pub(super) fn with_parts(body: Value, parts: Map<String, Value>) -> Value {
    if parts.is_empty() {
        return body;
    }
    match body {
        // `output` may be any of the shapes a whole answer has.
        Value::Null => match (parts.len(), parts.get("output")) {
            (1, Some(output @ Value::Object(_))) => output.clone(),
            (1, Some(Value::Array(items))) if stream::are_chunks(items) => stream::assemble(items),
            _ => Value::Object(parts),
        },
        Value::Object(mut object) => {
            for (name, value) in parts {
                object.entry(name).or_insert(value);
            }
            Value::Object(object)
        }
        other => other,
    }
}

/// What went wrong: class and words.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Failure {
    pub kind: String,
    pub message: String,
}

/// `error` as text or `{type, message, code}`; `None` if it says that nothing is wrong.
pub(super) fn failure(error: &Value) -> Option<Failure> {
    match error {
        Value::Null | Value::Bool(false) => None,
        Value::Bool(true) => Some(Failure { kind: "error".into(), message: String::new() }),
        Value::String(text) if text.is_empty() => None,
        Value::String(text) => Some(Failure { kind: "error".into(), message: text.clone() }),
        Value::Object(object) if object.is_empty() => None,
        Value::Object(_) => {
            // OpenAI and Anthropic bodies wrap it once more.
            if let Some(inner @ Value::Object(_)) = error.get("error") {
                return failure(inner);
            }
            let kind =
                field(error, &["type", "code", "status", "name"]).map(text_or_json).filter(|k| !k.is_empty());
            let message =
                field(error, &["message", "msg", "detail", "error"]).map(text_or_json).unwrap_or_default();
            Some(Failure { kind: kind.unwrap_or_else(|| "error".into()), message })
        }
        other => Some(Failure { kind: other.to_string(), message: String::new() }),
    }
}

/// The error inside of a response body.
pub(super) fn failure_in(body: &Value) -> Option<Failure> {
    let in_choice = || body.pointer("/choices/0/error");
    let error = field(body, &["error"]).or_else(in_choice);
    error.and_then(failure).or_else(|| {
        (str_of(body, &["status"]) == Some("failed"))
            .then(|| Failure { kind: "failed".into(), message: String::new() })
    })
}
