//! From a status and a body to a class (delivery-guarantees.md 6), for kinds without rules of their own.

use std::time::Duration;

use http::StatusCode;
use jiff::Timestamp;

use super::http::Reply;
use super::otlp_http;
use super::redact::Redactor;
use super::retry_after::{retry_after, seconds};
use crate::{Answer, Batch, Failure, ItemAnswer};

/// The wait after statuses that promise no quick recovery.
const SLOW_RETRY: Duration = Duration::from_secs(60);

/// The default class of an answer.
pub(crate) fn classify(reply: &Reply, redactor: &Redactor) -> Answer {
    let mut failure = failure(reply, redactor);
    match reply.status {
        200..300 => Answer::Delivered,
        // Never followed: a redirect turns POST into GET and leads past the address policy.
        300..400 => Answer::Config(failure),
        400 | 422 => Answer::Isolate { by_size: speaks_of_size(&reply.body), failure },
        401 | 402 | 403 | 407 => Answer::Auth(failure),
        404 | 405 | 406 | 410 | 411 | 414 | 415 | 426 | 428 | 431 | 451 => Answer::Config(failure),
        408 | 421 | 423 | 424 | 425 | 429 => Answer::Retry(failure),
        409 if speaks_of_duplicate(&reply.body) => Answer::Delivered,
        413 => Answer::Isolate { by_size: true, failure },
        // Loop detected: another gateway, or this one, saw its own mark.
        508 => Answer::Config(failure),
        400..500 => Answer::Isolate { by_size: false, failure },
        500 | 502 | 503 | 504 | 507 | 509 | 520..=530 => Answer::Retry(failure),
        _ => {
            failure.retry_after.get_or_insert(SLOW_RETRY);
            Answer::Retry(failure)
        }
    }
}

/// The class of a 429 whose wait stands, in seconds, under a name of the vendor's own.
pub(crate) fn with_reset(class: Answer, reply: &Reply, header: &str) -> Answer {
    match class {
        Answer::Retry(failure) if reply.status == 429 => {
            let retry_after = failure.retry_after.or_else(|| seconds(&reply.headers, header));
            Answer::Retry(Failure { retry_after, ..failure })
        }
        class => class,
    }
}

/// Status, the vendor's words and its wish to wait.
pub(crate) fn failure(reply: &Reply, redactor: &Redactor) -> Failure {
    let said = match otlp_http::status_message(reply) {
        Some(message) => redactor.text(&message),
        None => redactor.excerpt(&reply.body),
    };
    Failure {
        status: Some(reply.status),
        message: status_line(reply.status, &said),
        retry_after: retry_after(&reply.headers, Timestamp::now()).or_else(|| otlp_http::retry_info(reply)),
    }
}

/// `answered 503 service unavailable: try later`.
pub(crate) fn status_line(status: u16, said: &str) -> String {
    let reason = StatusCode::from_u16(status)
        .ok()
        .and_then(|status| status.canonical_reason())
        .map(|reason| format!(" {}", reason.to_ascii_lowercase()))
        .unwrap_or_default();
    if said.is_empty() {
        format!("answered {status}{reason}")
    } else {
        format!("answered {status}{reason}: {said}")
    }
}

/// A refusal because of size hides behind 400 and 422 at many receivers.
pub(crate) fn speaks_of_size(body: &[u8]) -> bool {
    let text = String::from_utf8_lossy(body.get(..4096).unwrap_or(body)).to_ascii_lowercase();
    [
        "too large",
        "too big",
        "too long",
        "larger than max",
        "exceeds the limit",
        "exceeds limit",
        "exceeds the maximum",
        "exceeds maximum",
        "exceeded maximum",
        "max_request_body_size",
        "maximum size",
        "size limit",
        "body size",
        "payload size",
    ]
    .iter()
    .any(|words| text.contains(words))
}

fn speaks_of_duplicate(body: &[u8]) -> bool {
    let text = String::from_utf8_lossy(body.get(..4096).unwrap_or(body)).to_ascii_lowercase();
    ["already exist", "duplicate", "already received", "already processed"]
        .iter()
        .any(|words| text.contains(words))
}

/// A body that is not sent, because the vendor takes no larger one.
pub(crate) fn too_large(bytes: usize, bytes_max: usize) -> Answer {
    let message = format!("not sent: {bytes} bytes, of which {bytes_max} are taken at once");
    Answer::Isolate { by_size: true, failure: Failure { message, ..Failure::default() } }
}

/// Brings items whose stored bytes could not be read into the answer of the rest.
pub(crate) fn with_damaged(batch: &Batch, damaged: &[usize], answer: Answer) -> Answer {
    let refused: Vec<(usize, String)> =
        damaged.iter().map(|i| (*i, "the stored record cannot be read".to_owned())).collect();
    with_refused(batch, &refused, answer)
}

/// Brings items that were not sent, and why, into the answer of the rest: they are refused for good, whatever became of
/// the others.
pub(crate) fn with_refused(batch: &Batch, refused: &[(usize, String)], answer: Answer) -> Answer {
    if refused.is_empty() {
        return answer;
    }
    let mut items = match answer {
        Answer::Delivered => vec![ItemAnswer::Delivered; batch.items.len()],
        Answer::PerItem(items) => items,
        other => return other,
    };
    for (i, why) in refused {
        if let Some(item) = items.get_mut(*i) {
            *item = ItemAnswer::Refused(why.clone());
        }
    }
    Answer::PerItem(items)
}
