//! Connection tests: bounded in time, ending in a typed diagnosis with advice (design 3.4).

use std::future::Future;
use std::time::{Duration, Instant};

use super::answer;
use super::http::Reply;
use super::redact::Redactor;
use super::transport::TransportError;
use crate::{Diagnosis, TestReport};

/// A test ends within this.
const TEST_TIMEOUT: Duration = Duration::from_millis(9_500);

/// What a test found, before the time is added.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Verdict {
    pub(crate) status: Option<u16>,
    pub(crate) diagnosis: Diagnosis,
    pub(crate) hint: String,
    /// What was called, if it is not where batches go.
    pub(crate) url: Option<String>,
}

impl Verdict {
    pub(crate) fn new(status: Option<u16>, diagnosis: Diagnosis, hint: impl Into<String>) -> Verdict {
        Verdict { status, diagnosis, hint: hint.into(), url: None }
    }

    pub(crate) fn ok(status: Option<u16>, hint: &str) -> Verdict {
        Verdict::new(status, Diagnosis::Ok, hint)
    }

    pub(crate) fn transport(error: &TransportError) -> Verdict {
        let diagnosis = error.diagnosis();
        let advice = match diagnosis {
            Diagnosis::Dns => "check the host name and the name server of this machine",
            Diagnosis::Connect => "check host and port, and that the receiver is running",
            Diagnosis::Tls => {
                "check that the port speaks tls (https) and that the certificate is trusted here"
            }
            Diagnosis::Timeout => "check firewalls between here and the receiver",
            Diagnosis::BlockedAddress => "allow the host in outbound.allow if it is meant",
            Diagnosis::Rejected => "check that the port speaks http and that the scheme fits",
            _ => "",
        };
        Verdict::new(None, diagnosis, join(&error.message, advice))
    }

    /// The diagnosis by status; a 2xx is ok.
    pub(crate) fn reply(reply: &Reply, redactor: &Redactor, ok_hint: &str) -> Verdict {
        verdict(reply, redactor, ok_hint, &[])
    }
}

/// The verdict by status, with a vendor's own advice where it has some.
pub(crate) fn verdict(reply: &Reply, redactor: &Redactor, ok_hint: &str, advice: &[(u16, &str)]) -> Verdict {
    let (diagnosis, general) = match reply.status {
        // Whatever is sent to it: no API answers so.
        200..300 if reply.content_type().is_some_and(|kind| kind == "text/html") => {
            let hint = "a web page answered: enter the address of the API, not that of the user interface";
            return Verdict::new(Some(reply.status), Diagnosis::NotFound, hint);
        }
        200..300 => return Verdict::ok(Some(reply.status), ok_hint),
        401 | 402 | 403 | 407 => (Diagnosis::Auth, "check the credentials and their rights"),
        300..=399 => (Diagnosis::NotFound, "redirects are not followed: enter the address it points to"),
        404 | 405 | 410 => (Diagnosis::NotFound, "check the path of the url"),
        429 => (Diagnosis::RateLimited, "try again later"),
        508 => (Diagnosis::Loop, "the address leads back to a tracecast gateway"),
        408 | 504 => (Diagnosis::Timeout, "the receiver did not get an answer in time"),
        500.. => (Diagnosis::Unavailable, "the receiver cannot serve right now"),
        _ => (Diagnosis::Rejected, ""),
    };
    let own = advice.iter().find(|(status, _)| *status == reply.status).map(|(_, advice)| *advice);
    let said = answer::failure(reply, redactor).message;
    Verdict::new(Some(reply.status), diagnosis, join(&said, own.unwrap_or(general)))
}

fn join(said: &str, advice: &str) -> String {
    if advice.is_empty() { said.to_owned() } else { format!("{said}; {advice}") }
}

/// Runs a test and adds what every report has; `url` is where batches go.
pub(crate) async fn run(url: String, test: impl Future<Output = Verdict>) -> TestReport {
    let started = Instant::now();
    let silence = "no answer within 10 s; check firewalls between here and the receiver";
    let verdict = tokio::time::timeout(TEST_TIMEOUT, test)
        .await
        .unwrap_or_else(|_| Verdict::new(None, Diagnosis::Timeout, silence));
    TestReport {
        ok: verdict.diagnosis == Diagnosis::Ok,
        status: verdict.status,
        url: verdict.url.unwrap_or(url),
        latency_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        diagnosis: verdict.diagnosis,
        hint: verdict.hint,
    }
}
