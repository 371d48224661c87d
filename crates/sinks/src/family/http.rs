//! One HTTP exchange over the shared pool: the answer read within a cap, failures told apart.

use bytes::Bytes;
use http::{HeaderMap, Method, header};
use tokio::time::timeout_at;
use url::Url;

use super::body::Body;
use super::pieces::Pieces;
use super::redact::shown_url;
use super::transport::TransportError;
use crate::{Clients, Preview};

/// Most bytes of an answer that are read.
pub(crate) const BODY_BYTES_MAX: usize = 64 << 10;
/// The same where a protocol puts data into the answer.
pub(crate) const OTLP_BODY_BYTES_MAX: usize = 1 << 20;

/// A request, whole and ready.
#[derive(Clone, Debug)]
pub(crate) struct Outgoing {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Pieces,
}

impl Outgoing {
    /// What people may see of it; `body` is the body before compression.
    pub(crate) fn preview(&self, body: Bytes) -> Preview {
        Preview {
            method: self.method.to_string(),
            url: shown_url(&self.url),
            headers: shown_headers(&self.headers),
            body,
        }
    }
}

/// An answer, its body cut at the cap.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Reply {
    pub(crate) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Lower case, without parameters.
    pub(crate) fn content_type(&self) -> Option<String> {
        let value = self.headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
        let value = value.split(';').next().unwrap_or(value);
        Some(value.trim().to_ascii_lowercase())
    }
}

/// Sends the request and reads at most `cap` bytes of the answer. A 2xx whose body breaks off is
/// still an answer, because the status has decided; but not 207, whose body holds the verdicts.
pub(crate) async fn exchange(
    clients: &Clients,
    outgoing: Outgoing,
    cap: usize,
) -> Result<Reply, TransportError> {
    let url = outgoing.url.clone();
    let request = clients
        .request(outgoing.method, outgoing.url)
        .map_err(|blocked| TransportError::find(&blocked, &url))?;
    let request = request.headers(outgoing.headers).body(outgoing.body);
    let mut response = request.send().await.map_err(|error| TransportError::find(&error, &url))?;
    let status = response.status().as_u16();
    let headers = std::mem::take(response.headers_mut());
    let decided = (200..300).contains(&status) && status != 207;
    let mut body = Body::new(cap);
    loop {
        match timeout_at(body.deadline(), response.chunk()).await {
            Ok(Ok(Some(chunk))) if body.push(&chunk) => break,
            Ok(Ok(Some(_))) => {}
            Ok(Ok(None)) => break,
            _ if decided => break,
            Ok(Err(error)) => return Err(TransportError::find(&error, &url)),
            Err(_) => return Err(TransportError::slow(&url)),
        }
    }
    Ok(Reply { status, headers, body: body.into_bytes() })
}

pub(crate) fn shown_headers(headers: &HeaderMap) -> Vec<(String, String)> {
    headers
        .iter()
        .map(|(name, value)| {
            let value = match value.to_str() {
                Ok(value) if !value_is_secret(name, headers) => value,
                _ => "***",
            };
            (name.as_str().to_owned(), value.to_owned())
        })
        .collect()
}

fn value_is_secret(name: &http::HeaderName, headers: &HeaderMap) -> bool {
    headers.get_all(name).iter().any(http::HeaderValue::is_sensitive)
}
