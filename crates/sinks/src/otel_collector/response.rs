//! The answer: OTLP partial success, and what a connection test makes of it.

use std::time::Duration;

use crate::family::answer;
use crate::family::http::Reply;
use crate::family::otlp_http;
use crate::family::probe::Verdict;
use crate::family::redact::Redactor;
use crate::{Answer, Batch};

/// The class of an answer. Where OTLP calls 408 and 500 final they are retried all the same: load
/// balancers and young receivers send them for passing trouble.
pub(super) fn answer(batch: &Batch, reply: &Reply, redactor: &Redactor) -> Answer {
    if reply.is_success() {
        let partial = otlp_http::partial_success(reply).map(|mut partial| {
            partial.message = redactor.text(&partial.message);
            partial
        });
        otlp_http::accepted(batch, partial)
    } else {
        answer::classify(reply, redactor)
    }
}

/// The receiver does not take this form; the next one is chosen and may be sent at once.
pub(super) fn again(reply: &Reply, redactor: &Redactor) -> Answer {
    let mut failure = answer::failure(reply, redactor);
    failure.retry_after = Some(Duration::ZERO);
    Answer::Retry(failure)
}

pub(super) fn verdict(reply: &Reply, redactor: &Redactor) -> Verdict {
    let empty = || {
        let text = String::from_utf8_lossy(&reply.body).to_ascii_lowercase();
        ["empty", "no spans", "no data", "no resource"].iter().any(|words| text.contains(words))
    };
    if reply.status == 400 && empty() {
        return Verdict::ok(
            Some(400),
            "the receiver refuses the empty test request only because it is empty",
        );
    }
    Verdict::reply(reply, redactor, "an empty request was accepted")
}
