//! Failures below HTTP: told apart by their cause, worded without secrets.

use std::error::Error;
use std::io;

use url::Url;

use super::address::Blocked;
use super::outbound::ResolveFailed;
use super::pace::TooSlow;
use crate::{Answer, Diagnosis, Failure};

/// What went wrong before a whole answer was there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// The name is unknown, or (`false`) could not be asked for.
    Dns {
        unknown_name: bool,
    },
    Connect,
    /// The certificate is not trusted, or (`false`) the handshake broke.
    Tls {
        certificate: bool,
    },
    Timeout,
    /// It answers, but too slowly.
    Slow,
    /// Closed or reset before the whole answer was read.
    Reset,
    /// The answer is not HTTP.
    Garbled,
    /// The address policy.
    Blocked,
    /// The request could not be made from what we have.
    Invalid,
}

/// A failed exchange; the message holds no URL path, query or secret.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TransportError {
    pub(crate) cause: Cause,
    pub(crate) message: String,
}

impl TransportError {
    pub(crate) fn timeout(url: &Url) -> TransportError {
        TransportError {
            cause: Cause::Timeout,
            message: format!("no answer from {} in time", authority(url)),
        }
    }

    pub(crate) fn slow(url: &Url) -> TransportError {
        TransportError { cause: Cause::Slow, message: format!("{} answered too slowly", authority(url)) }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> TransportError {
        TransportError { cause: Cause::Invalid, message: message.into() }
    }

    /// Finds the cause by walking the chain of errors, whichever client library made it.
    pub(crate) fn find(error: &(dyn Error + 'static), url: &Url) -> TransportError {
        let place = authority(url);
        let found = links(error).find_map(cause_of);
        let (cause, detail) = found.unwrap_or((Cause::Reset, String::new()));
        let detail = if detail.is_empty() { detail } else { format!(": {detail}") };
        let message = match cause {
            Cause::Dns { .. } => format!("the host name of {place} cannot be resolved{detail}"),
            Cause::Connect => format!("cannot connect to {place}{detail}"),
            Cause::Tls { .. } => format!("tls with {place} failed{detail}"),
            Cause::Timeout => format!("no answer from {place} in time"),
            Cause::Slow => format!("{place} answered too slowly"),
            Cause::Reset => format!("{place} closed the connection before it had answered"),
            Cause::Garbled => format!("{place} did not answer with http{detail}"),
            Cause::Blocked => format!("the address of {place} is refused{detail}"),
            Cause::Invalid => format!("the request to {place} cannot be made{detail}"),
        };
        TransportError { cause, message }
    }

    /// The class for the delivery runtime. Names that do not exist and certificates that are not
    /// trusted are settings, not weather.
    pub(crate) fn answer(self) -> Answer {
        let failure = Failure { status: None, message: self.message, retry_after: None };
        match self.cause {
            Cause::Dns { unknown_name: true }
            | Cause::Tls { certificate: true }
            | Cause::Blocked
            | Cause::Invalid => Answer::Config(failure),
            _ => Answer::Retry(failure),
        }
    }

    pub(crate) fn diagnosis(&self) -> Diagnosis {
        match self.cause {
            Cause::Dns { .. } => Diagnosis::Dns,
            Cause::Connect => Diagnosis::Connect,
            Cause::Tls { .. } => Diagnosis::Tls,
            Cause::Timeout | Cause::Slow => Diagnosis::Timeout,
            Cause::Reset => Diagnosis::Unavailable,
            Cause::Garbled | Cause::Invalid => Diagnosis::Rejected,
            Cause::Blocked => Diagnosis::BlockedAddress,
        }
    }
}

/// `host:port`, the only part of a URL that goes into messages.
pub(crate) fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or("?");
    match url.port_or_known_default() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

/// The error and its sources; an `io::Error` hides what it wraps from `source`, so it is looked into.
fn links<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    let mut next = Some(error);
    // Bounded: a chain that refers to itself must not hang us.
    std::iter::from_fn(move || {
        let link = next?;
        next = match link.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner as &(dyn Error + 'static)),
            None => link.source(),
        };
        Some(link)
    })
    .take(32)
}

fn cause_of(link: &(dyn Error + 'static)) -> Option<(Cause, String)> {
    if let Some(blocked) = link.downcast_ref::<Blocked>() {
        return Some((Cause::Blocked, blocked.to_string()));
    }
    if let Some(failed) = link.downcast_ref::<ResolveFailed>() {
        let cause = Cause::Dns { unknown_name: failed.unknown_name };
        return Some((cause, failed.to_string()));
    }
    if let Some(error) = link.downcast_ref::<rustls::Error>() {
        let certificate =
            matches!(error, rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented);
        return Some((Cause::Tls { certificate }, error.to_string()));
    }
    if link.is::<TooSlow>() {
        return Some((Cause::Slow, String::new()));
    }
    if let Some(error) = link.downcast_ref::<io::Error>() {
        if error.get_ref().is_some_and(|inner| inner.is::<TooSlow>()) {
            return None;
        }
        use io::ErrorKind::*;
        return match error.kind() {
            TimedOut => Some((Cause::Timeout, String::new())),
            ConnectionRefused | HostUnreachable | NetworkUnreachable | AddrNotAvailable | NetworkDown
            | PermissionDenied => Some((Cause::Connect, error.to_string())),
            ConnectionReset | ConnectionAborted | BrokenPipe | NotConnected | UnexpectedEof
                if error.get_ref().is_none() =>
            {
                Some((Cause::Reset, String::new()))
            }
            _ => None,
        };
    }
    if link.is::<tokio::time::error::Elapsed>() {
        return Some((Cause::Timeout, String::new()));
    }
    if let Some(error) = link.downcast_ref::<reqwest::Error>() {
        return if error.is_builder() {
            // Its text can hold the URL.
            Some((Cause::Invalid, String::new()))
        } else if error.is_timeout() {
            Some((Cause::Timeout, String::new()))
        } else {
            None
        };
    }
    if let Some(error) = link.downcast_ref::<hyper::Error>() {
        return if error.is_timeout() {
            Some((Cause::Timeout, String::new()))
        } else if error.is_parse() {
            Some((Cause::Garbled, error.to_string()))
        } else if error.is_incomplete_message() || error.is_canceled() {
            Some((Cause::Reset, String::new()))
        } else {
            None
        };
    }
    None
}
