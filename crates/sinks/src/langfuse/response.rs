//! The answer: Langfuse replies JSON to protobuf, and 207 on its older route.

use serde_json::Value;

use crate::family::http::Reply;
use crate::family::otlp_vendor;
use crate::family::redact::Redactor;
use crate::{Answer, Batch, Failure};

pub(super) fn answer(batch: &Batch, reply: &Reply, redactor: &Redactor) -> Answer {
    match reply.status {
        207 => multi_status(batch, reply, redactor),
        _ => otlp_vendor::answer(batch, reply, redactor),
    }
}

/// `{"successes":[...],"errors":[{"id","status","message","error"}]}`. The ids are those of
/// envelopes, so single spans cannot be named; what may be retried is resent as a whole, which
/// overwrites what was stored.
fn multi_status(batch: &Batch, reply: &Reply, redactor: &Redactor) -> Answer {
    let body: Value = serde_json::from_slice(&reply.body).unwrap_or(Value::Null);
    let errors = body.get("errors").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    if errors.is_empty() {
        return Answer::Delivered;
    }
    let status = |error: &Value| error.get("status").and_then(Value::as_u64).unwrap_or(400);
    let words = |error: &Value| {
        let text = ["message", "error"].iter().find_map(|key| error.get(key).and_then(Value::as_str));
        redactor.text(text.unwrap_or("refused"))
    };
    let failure = |error: &Value| Failure {
        status: Some(reply.status),
        message: format!("answered 207 with event status {}: {}", status(error), words(error)),
        retry_after: None,
    };
    if let Some(error) =
        errors.iter().find(|error| status(error) >= 500 || matches!(status(error), 408 | 429))
    {
        return Answer::Retry(failure(error));
    }
    if let Some(error) = errors.iter().find(|error| matches!(status(error), 401 | 403)) {
        return Answer::Auth(failure(error));
    }
    let refused = u32::try_from(errors.len()).unwrap_or(u32::MAX);
    Answer::Partial {
        refused: refused.min(batch.spans()),
        message: errors.first().map(words).unwrap_or_default(),
    }
}
