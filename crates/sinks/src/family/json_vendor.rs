//! The adapter of every kind that takes bodies of its own shape over HTTP; what is particular to one is its [`Vendor`].

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderValue, header};
use url::Url;

use super::answer::{self, with_damaged};
use super::endpoint::{Endpoint, mark};
use super::http::{BODY_BYTES_MAX, Outgoing, Reply};
use super::probe::{self, Verdict};
use super::projection::projected;
use super::redact::Redactor;
use super::rows::{Row, rows};
use super::{gzip, offload};
use crate::{Adapter, Answer, Batch, BatchLimits, Item, Preview, Sent, TestReport};

/// One request of a batch.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(crate) url: Url,
    pub(crate) content_type: HeaderValue,
    pub(crate) body: Bytes,
}

impl Part {
    pub(crate) fn json(url: &Url, body: Vec<u8>) -> Part {
        let content_type = HeaderValue::from_static("application/json");
        Part { url: url.clone(), content_type, body: body.into() }
    }
}

/// What is particular to one kind.
pub(crate) trait Vendor: Debug + Send + Sync + 'static {
    const LIMITS: BatchLimits;
    /// Bodies are compressed.
    const GZIP: bool;

    /// The requests for these spans, sent one after the other until one is not taken. `route` counts the ways a
    /// server can be spoken to, the best one first.
    fn parts(&self, rows: &[Row<'_>], route: u8) -> Vec<Part>;

    /// The route to take after this answer, if it says that `route` is not one of the server's.
    fn other_route(&self, _route: u8, _reply: &Reply) -> Option<u8> {
        None
    }

    /// The class of an answer.
    fn answer(&self, reply: &Reply, redactor: &Redactor) -> Answer {
        answer::classify(reply, redactor)
    }

    /// The request of a connection test.
    fn test(&self, endpoint: &Endpoint) -> Outgoing;

    /// What a test's answer means.
    fn verdict(&self, reply: &Reply, redactor: &Redactor) -> Verdict;
}

/// One destination.
#[derive(Debug)]
pub(crate) struct JsonVendor<V> {
    pub(crate) endpoint: Endpoint,
    vendor: Arc<V>,
    /// Kept until restart.
    route: AtomicU8,
}

/// A batch as requests, and the positions of items whose stored bytes cannot be read.
struct Encoded {
    parts: Vec<Part>,
    damaged: Vec<usize>,
}

impl<V: Vendor> JsonVendor<V> {
    pub(crate) fn assemble(endpoint: Endpoint, vendor: V) -> JsonVendor<V> {
        JsonVendor { endpoint, vendor: Arc::new(vendor), route: AtomicU8::new(0) }
    }

    fn outgoing(&self, part: Part) -> Outgoing {
        let mut outgoing = self.endpoint.request(part.body);
        outgoing.url = part.url;
        outgoing.headers.insert(header::CONTENT_TYPE, part.content_type);
        if V::GZIP {
            outgoing.headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        outgoing
    }

    async fn send_once(&self, batch: &Batch) -> Sent {
        let route = self.route.load(Ordering::Relaxed);
        let vendor = self.vendor.clone();
        let Encoded { parts, damaged } =
            offload::encode(batch, move |batch| packed(&*vendor, batch, route)).await;
        let mut bytes = 0;
        for part in parts {
            bytes += part.body.len() as u64;
            let mut outgoing = self.outgoing(part);
            mark(&mut outgoing.headers, batch);
            let answer = match self.endpoint.call(outgoing, BODY_BYTES_MAX).await {
                Ok(reply) => match self.vendor.other_route(route, &reply) {
                    Some(other) => self.change_route(route, other, &reply),
                    None => self.vendor.answer(&reply, &self.endpoint.redactor),
                },
                Err(error) => error.answer(),
            };
            if answer != Answer::Delivered {
                return Sent { answer: with_damaged(batch, &damaged, answer), bytes };
            }
        }
        Sent { answer: with_damaged(batch, &damaged, Answer::Delivered), bytes }
    }

    /// The batch may go again at once, by the other route.
    fn change_route(&self, route: u8, other: u8, reply: &Reply) -> Answer {
        // Another sender may have changed it already.
        let _ = self.route.compare_exchange(route, other, Ordering::Relaxed, Ordering::Relaxed);
        let mut failure = answer::failure(reply, &self.endpoint.redactor);
        failure.retry_after = Some(Duration::ZERO);
        Answer::Retry(failure)
    }

    async fn probe(&self) -> Verdict {
        let test = self.vendor.test(&self.endpoint);
        self.endpoint.probe(test, |reply, redactor| self.vendor.verdict(reply, redactor)).await
    }
}

impl<V: Vendor> Adapter for JsonVendor<V> {
    fn limits(&self) -> BatchLimits {
        V::LIMITS
    }

    fn send<'a>(&'a self, batch: &'a Batch) -> BoxFuture<'a, Sent> {
        Box::pin(self.send_once(batch))
    }

    fn test<'a>(&'a self) -> BoxFuture<'a, TestReport> {
        Box::pin(probe::run(self.endpoint.shown_url(), self.probe()))
    }

    fn preview(&self, batch: &Batch) -> Vec<Preview> {
        let parts = encoded(&*self.vendor, batch, self.route.load(Ordering::Relaxed)).parts;
        let preview = |mut part: Part| {
            // A key can be a field of the body.
            let body = self.endpoint.redactor.body(&std::mem::take(&mut part.body)).into();
            self.outgoing(part).preview(body)
        };
        parts.into_iter().map(preview).collect()
    }
}

/// The bodies before compression. Privacy goes first, so that whatever a vendor reads is what may be said.
fn encoded<V: Vendor>(vendor: &V, batch: &Batch, route: u8) -> Encoded {
    let items: Vec<Item> = batch.items.iter().map(projected).collect();
    let (mut all, mut damaged) = (Vec::new(), Vec::new());
    for (i, item) in items.iter().enumerate() {
        match item.payload.traces() {
            Ok(traces) => all.extend(rows(traces, &item.spans)),
            Err(_) => damaged.push(i),
        }
    }
    let parts = if all.is_empty() { Vec::new() } else { vendor.parts(&all, route) };
    Encoded { parts, damaged }
}

fn packed<V: Vendor>(vendor: &V, batch: &Batch, route: u8) -> Encoded {
    let mut encoded = encoded(vendor, batch, route);
    if V::GZIP {
        for part in &mut encoded.parts {
            part.body = gzip::compress([&part.body[..]]);
        }
    }
    encoded
}
