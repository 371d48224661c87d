//! A URL with its headers and secrets: what the HTTP kinds have in common.

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use jiff::Timestamp;
use secrecy::SecretString;
use tracecast_destination::Headers;
use url::Url;

use super::answer::with_damaged;
use super::http::{BODY_BYTES_MAX, Outgoing, Reply, exchange};
use super::otlp_http::Body;
use super::pieces::Pieces;
use super::probe::Verdict;
use super::redact::{Redactor, shown_url};
use super::transport::TransportError;
use super::{headers, urls};
use crate::{Answer, Batch, BuildError, Clients, Sent};

const VIA: HeaderName = HeaderName::from_static("x-tracecast-via");
/// Counts from 1.
pub(crate) const ATTEMPT: HeaderName = HeaderName::from_static("x-tracecast-attempt");
const FIRST_SEEN: HeaderName = HeaderName::from_static("x-tracecast-first-seen");
const REPLAYED: HeaderName = HeaderName::from_static("x-tracecast-replayed");

/// Where requests go, complete except for the body.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) clients: Clients,
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
    pub(crate) redactor: Redactor,
}

impl Endpoint {
    /// `own` are the headers of the kind, with its credential; the user's are added after. Secret is what stands in a
    /// sensitive header, in the URL, and `besides`.
    pub(crate) fn new(
        clients: &Clients,
        url: Url,
        own: impl IntoIterator<Item = (HeaderName, HeaderValue)>,
        user: &Headers,
        besides: &[&SecretString],
    ) -> Result<Endpoint, BuildError> {
        let mut own = HeaderMap::from_iter(own);
        let theirs = headers::user(user, |name| own.contains_key(name))?;
        own.extend(theirs);
        if let Some(via) = clients.via() {
            own.insert(VIA, via.clone());
        }
        let secrets: Vec<SecretString> = headers::secrets_of(&own)
            .chain(urls::secrets_of(&url))
            .chain(besides.iter().map(|secret| (*secret).clone()))
            .collect();
        let redactor = Redactor::new(secrets);
        Ok(Endpoint { clients: clients.clone(), method: Method::POST, url, headers: own, redactor })
    }

    pub(crate) fn request(&self, body: impl Into<Pieces>) -> Outgoing {
        Outgoing {
            method: self.method.clone(),
            url: self.url.clone(),
            headers: self.headers.clone(),
            body: body.into(),
        }
    }

    pub(crate) async fn call(&self, outgoing: Outgoing, cap: usize) -> Result<Reply, TransportError> {
        exchange(&self.clients, outgoing, cap).await
    }

    /// Sends an encoded batch in one request. If no item of it could be encoded, nothing is sent.
    pub(crate) async fn deliver(
        &self,
        batch: &Batch,
        body: impl Into<Body<Pieces>>,
        cap: usize,
        outgoing: impl FnOnce(Pieces) -> Outgoing,
        answer: impl FnOnce(&Reply) -> Answer,
    ) -> Sent {
        let body = body.into();
        if body.damaged.len() == batch.items.len() && !batch.items.is_empty() {
            let answer = with_damaged(batch, &body.damaged, Answer::Delivered);
            return Sent { answer, bytes: 0 };
        }
        let bytes = body.bytes.len() as u64;
        let mut outgoing = outgoing(body.bytes);
        mark(&mut outgoing.headers, batch);
        match self.call(outgoing, cap).await {
            Ok(reply) => Sent { answer: with_damaged(batch, &body.damaged, answer(&reply)), bytes },
            Err(error) => Sent { answer: error.answer(), bytes: 0 },
        }
    }

    /// Makes the request of a connection test.
    pub(crate) async fn probe(
        &self,
        outgoing: Outgoing,
        verdict: impl FnOnce(&Reply, &Redactor) -> Verdict,
    ) -> Verdict {
        let url = shown_url(&outgoing.url);
        let found = match self.call(outgoing, BODY_BYTES_MAX).await {
            Ok(reply) => verdict(&reply, &self.redactor),
            Err(error) => Verdict::transport(&error),
        };
        Verdict { url: found.url.or(Some(url)), ..found }
    }

    pub(crate) fn shown_url(&self) -> String {
        shown_url(&self.url)
    }
}

/// Says of a batch what is not its content: how often it was sent, when it was received, and the way it came.
pub(crate) fn mark(headers: &mut HeaderMap, batch: &Batch) {
    headers.insert(ATTEMPT, HeaderValue::from(u64::from(batch.attempt) + 1));
    let first_seen = batch.first_seen_unix_nano.map(i128::from).map(Timestamp::from_nanosecond);
    if let Some(Ok(time)) = first_seen
        && let Ok(time) = HeaderValue::from_str(&format!("{time:.3}"))
    {
        headers.insert(FIRST_SEEN, time);
    }
    if batch.replayed {
        headers.insert(REPLAYED, HeaderValue::from_static("true"));
    }
    if !batch.via.is_empty()
        && let Some(own) = headers.get(VIA)
        && let Ok(via) = HeaderValue::from_bytes(&[own.as_bytes(), b", ", &batch.via].concat())
    {
        headers.insert(VIA, via);
    }
}
