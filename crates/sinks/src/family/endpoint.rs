//! A URL with its headers and secrets: what the HTTP kinds have in common.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method};
use tracecast_destination::Headers;
use url::Url;

use super::headers;
use super::http::{Outgoing, Reply, exchange};
use super::redact::{Redactor, shown_url};
use super::transport::TransportError;
use crate::{BuildError, Clients};

const VIA: HeaderName = HeaderName::from_static("x-tracecast-via");

/// Where requests go, complete except for the body.
#[derive(Debug)]
pub(crate) struct Endpoint {
    clients: Clients,
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
    pub(crate) redactor: Redactor,
}

impl Endpoint {
    /// `own` are the headers of the kind, with its credential; the user's are added after.
    pub(crate) fn new(
        clients: &Clients,
        method: Method,
        url: Url,
        mut own: HeaderMap,
        user: &Headers,
        secrets: Vec<secrecy::SecretString>,
    ) -> Result<Endpoint, BuildError> {
        let theirs = headers::user(user, |name| own.contains_key(name))?;
        own.extend(theirs);
        if let Some(via) = clients.via() {
            own.insert(VIA, via.clone());
        }
        let mut all = headers::secrets_of(user);
        all.extend(secrets);
        Ok(Endpoint { clients: clients.clone(), method, url, headers: own, redactor: Redactor::new(all) })
    }

    pub(crate) fn request(&self, body: Bytes) -> Outgoing {
        Outgoing { method: self.method.clone(), url: self.url.clone(), headers: self.headers.clone(), body }
    }

    pub(crate) async fn call(&self, outgoing: Outgoing, cap: usize) -> Result<Reply, TransportError> {
        exchange(&self.clients, outgoing, cap).await
    }

    pub(crate) fn shown_url(&self) -> String {
        shown_url(&self.url)
    }
}
