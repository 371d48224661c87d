//! The answer: the status alone decides.

use crate::Answer;
use crate::family::answer;
use crate::family::http::Reply;
use crate::family::probe::Verdict;
use crate::family::redact::Redactor;

pub(super) fn answer(reply: &Reply, redactor: &Redactor) -> Answer {
    match reply.status {
        410 => Answer::Gone(answer::failure(reply, redactor)),
        _ => answer::classify(reply, redactor),
    }
}

pub(super) fn verdict(reply: &Reply, redactor: &Redactor) -> Verdict {
    match reply.status {
        400 => Verdict::ok(Some(400), "the endpoint answers; it refuses the empty test body, as some do"),
        // Any 2xx, also a web page.
        200..300 => {
            Verdict::ok(Some(reply.status), "an empty body with X-Test-Connection: true was accepted")
        }
        _ => Verdict::reply(reply, redactor, ""),
    }
}
