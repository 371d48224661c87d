//! What the server says: decided by its error codes. The HTTP status is 500 for most of them,
//! overload included.

use std::time::Duration;

use url::Url;

use super::request::Target;
use crate::family::answer::status_line;
use crate::family::probe::Verdict;
use crate::family::redact::Redactor;
use crate::family::transport::{Cause, TransportError};
use crate::{Answer, Diagnosis, Failure};

/// Codes nobody knows are tried this often before the batch is suspected.
const UNKNOWN_ATTEMPTS_MAX: u32 = 5;

/// Why a call failed.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Trouble {
    Transport(TransportError),
    /// The server or a proxy before it answered with an error.
    Server {
        code: Option<u32>,
        status: Option<u16>,
        text: String,
    },
    /// The table cannot take our rows.
    Schema(String),
}

/// What a code asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Delivered,
    Retry,
    /// Overloaded: a pause helps.
    RetryAfter(u64),
    /// Out of memory: halving helps too.
    RetrySmaller,
    Auth,
    Config,
    /// The columns changed under us: read them again, once.
    Columns,
    Isolate,
    Unknown,
}

fn class(code: u32) -> Class {
    match code {
        389 => Class::Delivered,
        252 | 242 => Class::RetryAfter(5),
        243 => Class::RetryAfter(60),
        201 => Class::RetryAfter(60),
        202 | 203 | 209 | 210 | 159 | 160 | 225 | 236 | 254 | 265 | 279 | 285 | 286 | 297 | 319 | 364
        | 369 | 373 | 394 | 425 | 439 | 999 => Class::Retry,
        241 => Class::RetrySmaller,
        192..=195 | 497 | 516 => Class::Auth,
        60 | 81 | 164 | 115 | 62 => Class::Config,
        16 | 47 | 8 | 44 | 349 => Class::Columns,
        117 | 53 | 27 | 26 | 25 | 6 | 38 | 41 | 72 | 33 | 69 | 70 | 321 | 407 | 376 | 131 => Class::Isolate,
        _ => Class::Unknown,
    }
}

impl Trouble {
    pub(super) fn of(error: ::clickhouse::error::Error, url: &Url) -> Trouble {
        use ::clickhouse::error::Error;
        match error {
            Error::BadResponse(text) => {
                Trouble::Server { code: code_in(&text), status: status_in(&text), text }
            }
            Error::TimedOut => Trouble::Transport(TransportError::timeout(url)),
            Error::Network(_) => Trouble::Transport(TransportError::find(&error, url)),
            Error::InvalidParams(_) => Trouble::Transport(TransportError::invalid(
                "the request to clickhouse cannot be made: check host and headers",
            )),
            other => Trouble::Server { code: None, status: None, text: other.to_string() },
        }
    }

    /// What we know of the table may be out of date.
    pub(super) fn concerns_columns(&self) -> bool {
        match self {
            Trouble::Server { code: Some(code), .. } => {
                matches!(code, 60 | 81) || class(*code) == Class::Columns
            }
            Trouble::Schema(_) => true,
            _ => false,
        }
    }
}

/// `Code: 60. DB::Exception: ...`
fn code_in(text: &str) -> Option<u32> {
    let (_, rest) = text.split_once("Code: ")?;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

/// `503 Service Unavailable`: what the client says when the body was empty, and what proxies write over their pages.
/// The client does not tell the status itself.
fn status_in(text: &str) -> Option<u16> {
    let start = ["<title>", "<h1>"].iter().find_map(|tag| text.split_once(tag));
    let text = start.map_or(text, |(_, title)| title);
    let status = text.get(..3)?.parse().ok()?;
    let ends = text.as_bytes().get(3).is_none_or(|byte| matches!(byte, b' ' | b'<'));
    (ends && (300..600).contains(&status)).then_some(status)
}

pub(super) fn answer(trouble: &Trouble, attempt: u32, redactor: &Redactor) -> Answer {
    let (code, status, text) = match trouble {
        Trouble::Transport(error) => return error.clone().answer(),
        Trouble::Schema(text) => {
            return Answer::Config(Failure { status: None, message: text.clone(), retry_after: None });
        }
        Trouble::Server { code, status, text } => (*code, *status, text),
    };
    let mut failure = Failure { status, message: said(status, text, redactor), retry_after: None };
    let Some(code) = code else {
        return match status {
            Some(401 | 403 | 407) => Answer::Auth(failure),
            Some(413) => Answer::Isolate { by_size: true, failure },
            Some(300..=399 | 404 | 405) => Answer::Config(failure),
            _ => Answer::Retry(failure),
        };
    };
    match class(code) {
        Class::Delivered => Answer::Delivered,
        Class::Retry => Answer::Retry(failure),
        Class::RetryAfter(seconds) => {
            failure.retry_after = Some(Duration::from_secs(seconds));
            Answer::Retry(failure)
        }
        Class::RetrySmaller if attempt >= 2 => Answer::Isolate { by_size: true, failure },
        Class::RetrySmaller => Answer::Retry(failure),
        Class::Auth => Answer::Auth(failure),
        Class::Config => Answer::Config(failure),
        Class::Columns if attempt == 0 => {
            failure.retry_after = Some(Duration::ZERO);
            Answer::Retry(failure)
        }
        Class::Columns => Answer::Config(failure),
        Class::Isolate => Answer::Isolate { by_size: false, failure },
        Class::Unknown if attempt >= UNKNOWN_ATTEMPTS_MAX => Answer::Isolate { by_size: false, failure },
        Class::Unknown => Answer::Retry(failure),
    }
}

fn said(status: Option<u16>, text: &str, redactor: &Redactor) -> String {
    match status {
        Some(status) => status_line(status, ""),
        None => format!("clickhouse answered: {}", redactor.text(text)),
    }
}

pub(super) fn verdict(trouble: &Trouble, target: &Target) -> Verdict {
    let (code, status, text) = match trouble {
        Trouble::Transport(error) => {
            let mut verdict = Verdict::transport(error);
            let plain_port = target.url().scheme() == "https" && target.url().port() == Some(8123);
            if plain_port && !matches!(error.cause, Cause::Dns { .. } | Cause::Blocked) {
                verdict.hint.push_str("; 8123 is the plain port: use http, or https with port 8443");
            }
            return verdict;
        }
        Trouble::Schema(text) => {
            return Verdict::new(Some(200), Diagnosis::Schema, format!("{}: {text}", target.place()));
        }
        Trouble::Server { code, status, text } => (*code, *status, text),
    };
    let place = target.place();
    let (diagnosis, advice) = match (code, status) {
        (Some(60), _) => (
            Diagnosis::NotFound,
            format!("create the table {place}: {}", super::create_table(target.table())),
        ),
        (Some(81), _) => (Diagnosis::NotFound, format!("the database of {place} does not exist")),
        (Some(code), _) if class(code) == Class::Auth => {
            (Diagnosis::Auth, format!("check the user, the password and the right to INSERT into {place}"))
        }
        (Some(code), _) if class(code) == Class::Columns => {
            (Diagnosis::Schema, format!("check the columns of {place}"))
        }
        (Some(201 | 202), _) => (Diagnosis::RateLimited, "try again later".to_owned()),
        (Some(code), _) => match class(code) {
            Class::Retry | Class::RetryAfter(_) | Class::RetrySmaller => {
                (Diagnosis::Unavailable, "the server is there, but overloaded or read-only".to_owned())
            }
            _ => (Diagnosis::Rejected, String::new()),
        },
        (None, Some(401 | 403 | 407)) => (Diagnosis::Auth, "a proxy refuses the request".to_owned()),
        (None, Some(300..=399 | 404 | 405)) => (Diagnosis::NotFound, "check the host".to_owned()),
        (None, Some(429)) => (Diagnosis::RateLimited, "try again later".to_owned()),
        (None, Some(500..)) => {
            (Diagnosis::Unavailable, "a proxy before the server cannot reach it".to_owned())
        }
        _ => (Diagnosis::Rejected, "is this the http interface of clickhouse".to_owned()),
    };
    let mut hint = said(status, text, &target.redactor);
    if !advice.is_empty() {
        hint.push_str("; ");
        hint.push_str(&advice);
    }
    Verdict::new(status, diagnosis, hint)
}
