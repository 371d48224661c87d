//! The adapter of every kind that takes bodies of its own shape over HTTP; what is particular to one is its [`Vendor`].

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderValue, header};
use jiff::Timestamp;
use url::Url;

use super::answer::{self, too_large, with_refused};
use super::endpoint::{Endpoint, mark};
use super::http::{BODY_BYTES_MAX, Outgoing, Reply};
use super::probe::{self, Verdict};
use super::projection::projected;
use super::redact::Redactor;
use super::rows::{Row, rows};
use super::{gzip, offload};
use crate::{Adapter, Answer, Batch, BatchLimits, Diagnosis, Failure, Item, Preview, Sent, TestReport};

/// One request of a batch.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(crate) url: Url,
    pub(crate) content_type: HeaderValue,
    pub(crate) body: Bytes,
    /// Bytes of it, before compression, of which the vendor takes no more than so many: then it is not sent.
    pub(crate) over: Option<(usize, usize)>,
}

impl Part {
    pub(crate) fn json(url: &Url, body: Vec<u8>) -> Part {
        let content_type = HeaderValue::from_static("application/json");
        Part { url: url.clone(), content_type, body: body.into(), over: None }
    }

    /// The vendor takes no larger body.
    pub(crate) fn at_most(self, bytes_max: usize) -> Part {
        let bytes = self.body.len();
        self.holding(bytes, bytes_max)
    }

    /// Of something in it with so many bytes the vendor takes no more than `bytes_max`.
    pub(crate) fn holding(self, bytes: usize, bytes_max: usize) -> Part {
        Part { over: self.over.or((bytes > bytes_max).then_some((bytes, bytes_max))), ..self }
    }
}

/// What is particular to one kind.
pub(crate) trait Vendor: Debug + Send + Sync + 'static {
    /// What most take.
    const LIMITS: BatchLimits = BatchLimits {
        spans_max: 100,
        bytes_max: 5_000_000,
        age_max: Duration::from_secs(1),
        concurrency_max: 4,
    };
    /// Bodies are compressed.
    const GZIP: bool;
    /// Spans that started longer ago are not accepted, by a vendor that answers before it looks.
    const AGE_MAX: Option<Duration> = None;

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

    /// Where [`Vendor::test`] does not show the right to write: a write of nothing, to the place where spans go. It is
    /// made after the other was answered well.
    fn empty_write(&self) -> Option<Part> {
        None
    }
    /// What it means that the key passes the test and not the write.
    const NO_WRITE: &'static str = "the key is right, and may read but not write here";

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

/// A batch as requests, and the positions of items that are not among them, with the reason.
struct Encoded {
    parts: Vec<Part>,
    refused: Vec<(usize, String)>,
    /// Why nothing is sent: one of the spans is not to be.
    isolate: Option<Answer>,
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
        let (vendor, now) = (self.vendor.clone(), self.endpoint.clients.now());
        let Encoded { parts, refused, isolate } =
            offload::encode(batch, move |batch| packed(&*vendor, batch, route, now)).await;
        if let Some(answer) = isolate {
            return Sent { answer, bytes: 0 };
        }
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
                return Sent { answer: with_refused(batch, &refused, answer), bytes };
            }
        }
        Sent { answer: with_refused(batch, &refused, Answer::Delivered), bytes }
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
        let found = self.endpoint.probe(test, |reply, redactor| self.vendor.verdict(reply, redactor)).await;
        match self.vendor.empty_write() {
            Some(part) if found.diagnosis == Diagnosis::Ok => {
                let verdict = |reply: &Reply, redactor: &Redactor| self.may_write(found, reply, redactor);
                self.endpoint.probe(self.outgoing(pack::<V>(part)), verdict).await
            }
            _ => found,
        }
    }

    /// Rights are looked at before the body: a refusal for another reason is one of the emptiness.
    fn may_write(&self, found: Verdict, reply: &Reply, redactor: &Redactor) -> Verdict {
        match reply.status {
            401 | 402 | 403 | 407 => {
                let status = reply.status;
                probe::verdict(reply, redactor, "", &[(status, V::NO_WRITE)])
            }
            404 | 405 if self.vendor.other_route(0, reply).is_none() => self.vendor.verdict(reply, redactor),
            _ => found,
        }
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
        let route = self.route.load(Ordering::Relaxed);
        let parts = encoded(&*self.vendor, batch, route, None).parts;
        let preview = |mut part: Part| {
            // A key can be a field of the body.
            let body = self.endpoint.redactor.body(&std::mem::take(&mut part.body)).into();
            self.outgoing(part).preview(body)
        };
        parts.into_iter().map(preview).collect()
    }
}

/// The bodies before compression. Privacy goes first, so that whatever a vendor reads is what may be said. Without a
/// time no span is too old.
fn encoded<V: Vendor>(vendor: &V, batch: &Batch, route: u8, now: Option<Timestamp>) -> Encoded {
    let items: Vec<Item> = batch.items.iter().map(projected).collect();
    let oldest = now.zip(V::AGE_MAX).map(|(now, age)| {
        u64::try_from(now.as_nanosecond().saturating_sub_unsigned(age.as_nanos())).unwrap_or(0)
    });
    let is_old = |row: &Row<'_>| oldest.is_some_and(|oldest| row.span.start_unix_nano() < oldest);
    let why = || {
        let hours = V::AGE_MAX.unwrap_or_default().as_secs() / 3600;
        format!("not sent: it started more than {hours} h ago, and older spans are not accepted")
    };
    let (mut all, mut refused, mut isolate) = (Vec::new(), Vec::new(), None);
    for (i, item) in items.iter().enumerate() {
        let Ok(traces) = item.payload.traces() else {
            refused.push((i, "the stored record cannot be read".to_owned()));
            continue;
        };
        let rows = rows(traces, &item.spans);
        if !rows.is_empty() && rows.iter().all(is_old) {
            refused.push((i, why()));
        } else if rows.iter().any(is_old) {
            // The old among the new are found by halving.
            let failure = Failure { message: why(), ..Failure::default() };
            isolate = Some(Answer::Isolate { by_size: false, failure });
        } else {
            all.extend(rows);
        }
    }
    let parts = if all.is_empty() { Vec::new() } else { vendor.parts(&all, route) };
    Encoded { parts, refused, isolate }
}

fn packed<V: Vendor>(vendor: &V, batch: &Batch, route: u8, now: Timestamp) -> Encoded {
    let mut encoded = encoded(vendor, batch, route, Some(now));
    if let Some((bytes, bytes_max)) = encoded.parts.iter().find_map(|part| part.over) {
        encoded.isolate = Some(too_large(bytes, bytes_max));
    }
    if encoded.isolate.is_none() {
        encoded.parts = encoded.parts.into_iter().map(pack::<V>).collect();
    }
    encoded
}

fn pack<V: Vendor>(part: Part) -> Part {
    if V::GZIP { Part { body: gzip::compress([&part.body[..]]), ..part } } else { part }
}
