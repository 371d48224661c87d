//! Request headers: ours first, the user's after, none of ours replaced.

use http::{HeaderMap, HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use tracecast_destination::Headers;

use crate::BuildError;

/// Framing and hop-by-hop names: the HTTP client writes these.
const RESERVED: [&str; 17] = [
    "connection",
    "content-encoding",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-tracecast-attempt",
    "x-tracecast-first-seen",
    "x-tracecast-replayed",
    "x-tracecast-via",
];

/// A header value that never shows in logs and previews.
pub(crate) fn secret(field: &str, value: &str) -> Result<HeaderValue, BuildError> {
    let mut value = text(field, value)?;
    value.set_sensitive(true);
    Ok(value)
}

/// A header value that may be shown.
pub(crate) fn text(field: &str, value: &str) -> Result<HeaderValue, BuildError> {
    HeaderValue::from_str(value)
        .map_err(|_| BuildError::Invalid(format!("{field} holds a character no header can carry")))
}

/// A key behind `Bearer`.
pub(crate) fn bearer(field: &str, key: &SecretString) -> Result<HeaderValue, BuildError> {
    secret(field, &format!("Bearer {}", key.expose_secret()))
}

/// `Basic` credentials.
pub(crate) fn basic(field: &str, user: &str, password: &str) -> Result<HeaderValue, BuildError> {
    use base64::Engine;
    let pair = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    secret(field, &format!("Basic {pair}"))
}

/// The user's headers. A name of ours (`is_own`) or of the framing is left out: validation refuses
/// it earlier, and here it must not win silently.
pub(crate) fn user(user: &Headers, is_own: impl Fn(&HeaderName) -> bool) -> Result<HeaderMap, BuildError> {
    let mut headers = HeaderMap::new();
    for (name, value) in user {
        let header = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| BuildError::Invalid(format!("config.headers.{name}: not a header name")))?;
        if is_own(&header) || RESERVED.contains(&header.as_str()) {
            continue;
        }
        let value = secret(&format!("config.headers.{name}"), value.expose_secret())?;
        headers.insert(header, value);
    }
    Ok(headers)
}

/// What must be taken out of texts because of sensitive headers: each value, and the credential behind a scheme name
/// (`Bearer x`).
pub(crate) fn secrets_of(headers: &HeaderMap) -> impl Iterator<Item = SecretString> {
    let texts = headers.values().filter(|value| value.is_sensitive()).filter_map(|value| value.to_str().ok());
    texts.flat_map(|text| {
        let credential = text.split_once(' ').map(|(_, credential)| credential.trim());
        std::iter::once(text).chain(credential).map(SecretString::from)
    })
}
