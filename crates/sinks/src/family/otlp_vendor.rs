//! The adapter of every kind that takes OTLP over HTTP; what is particular to one is its [`Vendor`].

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderValue, header};
use tracecast_otlp::write::Edit;

use super::endpoint::Endpoint;
use super::fragments::Fragments;
use super::http::{BODY_BYTES_MAX, OTLP_BODY_BYTES_MAX, Outgoing, Reply};
use super::otlp_http::{self, Body};
use super::pieces::Pieces;
use super::probe::{self, Verdict};
use super::projection::{edit, projected};
use super::redact::Redactor;
use super::{answer, gzip, offload};
use crate::{Adapter, Answer, Batch, BatchLimits, Item, Preview, Sent, TestReport};

/// How a body is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Form {
    pub(crate) json: bool,
    pub(crate) gzip: bool,
}

impl Form {
    /// What every OTLP receiver is best at.
    pub(crate) const PACKED: Form = Form { json: false, gzip: true };
    pub(crate) const JSON: Form = Form { json: true, gzip: false };

    /// The request without spans, which the specification calls valid.
    fn empty(self) -> Bytes {
        let plain: &'static [u8] = if self.json { b"{\"resourceSpans\":[]}" } else { b"" };
        if self.gzip { gzip::compress([plain]) } else { Bytes::from_static(plain) }
    }

    fn dress(self, mut outgoing: Outgoing) -> Outgoing {
        let kind = if self.json { "application/json" } else { "application/x-protobuf" };
        outgoing.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        if self.gzip {
            outgoing.headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        outgoing
    }
}

/// What is particular to one kind.
pub(crate) trait Vendor: Debug + Send + Sync + 'static {
    const LIMITS: BatchLimits;
    /// What the vendor takes at most, as it is sent: nothing larger is.
    const BODY_BYTES_MAX: usize = usize::MAX;

    /// What is changed on the spans, after privacy.
    fn edit(&self) -> Option<&dyn Edit> {
        None
    }

    /// Why nothing may be sent now, if an earlier answer said so.
    fn hold(&self) -> Option<Answer> {
        None
    }

    /// The class of an answer.
    fn answer(&self, batch: &Batch, reply: &Reply, redactor: &Redactor) -> Answer {
        answer(batch, reply, redactor)
    }

    /// The form of the empty request of a test, given that of the batches.
    fn test_form(&self, form: Form) -> Form {
        form
    }

    /// What a test's answer means.
    fn verdict(&self, reply: &Reply, redactor: &Redactor) -> Verdict;
}

/// One destination.
#[derive(Debug)]
pub(crate) struct OtlpVendor<V> {
    pub(crate) endpoint: Endpoint,
    vendor: Arc<V>,
    /// To be tried in this order; a 415 moves on to the next, until restart.
    forms: Vec<Form>,
    form: AtomicU8,
}

impl<V: Vendor> OtlpVendor<V> {
    pub(crate) fn assemble(endpoint: Endpoint, vendor: V, forms: Vec<Form>) -> OtlpVendor<V> {
        OtlpVendor { endpoint, vendor: Arc::new(vendor), forms, form: AtomicU8::new(0) }
    }

    fn form(&self, position: u8) -> Form {
        self.forms.get(usize::from(position)).or(self.forms.last()).copied().unwrap_or(Form::PACKED)
    }

    fn is_last(&self, position: u8) -> bool {
        usize::from(position) + 1 >= self.forms.len()
    }

    fn outgoing(&self, form: Form, body: impl Into<Pieces>) -> Outgoing {
        form.dress(self.endpoint.request(body))
    }

    async fn send_once(&self, batch: &Batch) -> Sent {
        if let Some(answer) = self.vendor.hold() {
            return Sent { answer, bytes: 0 };
        }
        let position = self.form.load(Ordering::Relaxed);
        let form = self.form(position);
        let body = if is_copy(&*self.vendor, form, batch) {
            body(&*self.vendor, form, batch)
        } else {
            let (vendor, clients) = (self.vendor.clone(), self.endpoint.clients.clone());
            offload::encode(batch, move |batch| packed(&*vendor, form, batch, clients.fragments())).await
        };
        if body.bytes.len() > V::BODY_BYTES_MAX {
            return Sent { answer: answer::too_large(body.bytes.len(), V::BODY_BYTES_MAX), bytes: 0 };
        }
        let outgoing = |bytes| self.outgoing(form, bytes);
        let answer = |reply: &Reply| {
            if reply.status == 415 && !self.is_last(position) {
                self.move_on(position);
                return again(reply, &self.endpoint.redactor);
            }
            self.vendor.answer(batch, reply, &self.endpoint.redactor)
        };
        self.endpoint.deliver(batch, body, OTLP_BODY_BYTES_MAX, outgoing, answer).await
    }

    /// Another sender may have moved on already; then this changes nothing.
    fn move_on(&self, position: u8) {
        let _ = self.form.compare_exchange(position, position + 1, Ordering::Relaxed, Ordering::Relaxed);
    }

    async fn probe(&self) -> Verdict {
        loop {
            let position = self.form.load(Ordering::Relaxed);
            let form = self.vendor.test_form(self.form(position));
            match self.endpoint.call(self.outgoing(form, form.empty()), BODY_BYTES_MAX).await {
                Ok(reply) if reply.status == 415 && !self.is_last(position) => self.move_on(position),
                Ok(reply) => return self.vendor.verdict(&reply, &self.endpoint.redactor),
                Err(error) => return Verdict::transport(&error),
            }
        }
    }
}

impl<V: Vendor> Adapter for OtlpVendor<V> {
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
        let form = self.form(self.form.load(Ordering::Relaxed));
        let body = body(&*self.vendor, form, batch).bytes.into_bytes();
        vec![self.outgoing(form, Bytes::new()).preview(body)]
    }
}

/// The body before compression.
fn body(vendor: &impl Vendor, form: Form, batch: &Batch) -> Body<Pieces> {
    match vendor.edit() {
        // A dialect reads what is left after privacy, so that goes first.
        Some(edit) => {
            let items: Vec<Item> = batch.items.iter().map(projected).collect();
            encode(form, &items, |_| Some(edit))
        }
        None => encode(form, &batch.items, edit),
    }
}

fn encode<'e>(form: Form, items: &[Item], edit: impl Fn(&Item) -> Option<&'e dyn Edit>) -> Body<Pieces> {
    if form.json { otlp_http::json(items, edit).into() } else { otlp_http::protobuf(items, edit) }
}

/// The body as it is sent.
fn packed(vendor: &impl Vendor, form: Form, batch: &Batch, fragments: &Fragments) -> Body<Pieces> {
    if form == Form::PACKED && vendor.edit().is_none() && batch.items.iter().any(|item| item.shared) {
        return otlp_http::packed(&batch.items, edit, fragments);
    }
    let mut body = body(vendor, form, batch);
    if form.gzip {
        body.bytes = gzip::compress(body.bytes.iter()).into();
    }
    body
}

/// The body is the received bytes: making it costs next to nothing.
fn is_copy(vendor: &impl Vendor, form: Form, batch: &Batch) -> bool {
    form == Form { json: false, gzip: false }
        && vendor.edit().is_none()
        && batch.items.iter().all(|item| !item.private && item.spans.is_all())
}

/// The class of an answer. Where OTLP calls 408 and 500 final they are retried all the same: load
/// balancers and young receivers send them for passing trouble.
pub(crate) fn answer(batch: &Batch, reply: &Reply, redactor: &Redactor) -> Answer {
    if reply.is_success() {
        let partial = otlp_http::partial_success(reply).map(|mut partial| {
            partial.message = redactor.text(&partial.message);
            partial
        });
        otlp_http::accepted(batch, partial)
    } else {
        answer::classify(reply, redactor)
    }
}

/// The receiver does not take this form; the next one is chosen and may be sent at once.
fn again(reply: &Reply, redactor: &Redactor) -> Answer {
    let mut failure = answer::failure(reply, redactor);
    failure.retry_after = Some(Duration::ZERO);
    Answer::Retry(failure)
}
