//! The adapters: one folder per destination kind, one shape for all.
#![allow(unused, missing_docs, clippy::unimplemented)]
use std::sync::Arc;
use std::time::Duration;
use futures_util::future::BoxFuture;
use tracecast_destination::{Destination, Kind};
use tracecast_otlp::{Payload, SpanSet};

/// One record's spans for one destination.
#[derive(Clone, Debug)]
pub struct Item { pub sequence: u64, pub received_unix_nano: u64, pub payload: Arc<Payload>, pub spans: SpanSet,
    /// Content must not be sent (the stored projection OR the destination's privacy mode now).
    pub private: bool }
/// What is sent in one call. `token` is the same on every retry of the same composition.
#[derive(Clone, Debug)]
pub struct Batch { pub token: String, pub items: Vec<Item>, pub attempt: u32 }
impl Batch { pub fn spans(&self) -> u32 { self.items.iter().map(|i| i.spans.count()).sum() } }

/// Bounds the batcher keeps to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchLimits { pub spans_max: u32, pub bytes_max: u64, pub age_max: Duration, pub concurrency_max: usize }

/// How the vendor answered, in the classes of delivery-guarantees.md 6.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    Delivered,
    /// n spans were refused for good and not named; the rest is stored. Never resent.
    Partial { refused: u32, message: String },
    /// Per item (same order as the batch's items): stored, or refused for good, or to retry.
    PerItem(Vec<ItemAnswer>),
    Retry(Failure),
    /// The payload was refused: halve it.
    Isolate { by_size: bool, failure: Failure },
    Auth(Failure),
    Config(Failure),
    /// 410 from a webhook.
    Gone(Failure),
}
#[derive(Clone, Debug, PartialEq)]
pub enum ItemAnswer { Delivered, Refused(String), Retry }
/// What went wrong, for people: never a secret, body excerpt at most 2 KiB.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Failure { pub status: Option<u16>, pub message: String, pub retry_after: Option<Duration> }
/// Answer and bytes sent on the wire (after compression).
#[derive(Clone, Debug, PartialEq)]
pub struct Sent { pub answer: Answer, pub bytes: u64 }

/// One destination's adapter: no loop, no retry, no timer, no queue.
pub trait Adapter: Send + Sync + std::fmt::Debug {
    fn limits(&self) -> BatchLimits;
    fn send<'a>(&'a self, batch: &'a Batch) -> BoxFuture<'a, Sent>;
    fn test<'a>(&'a self) -> BoxFuture<'a, TestReport>;
}
/// The typed diagnosis of design 3.4.
#[derive(Clone, Debug, serde::Serialize)]
pub struct TestReport { pub ok: bool, pub status: Option<u16>, pub url: String, pub latency_ms: u64, pub diagnosis: Diagnosis, pub hint: String }
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Diagnosis { Ok, Dns, Connect, Tls, Auth, NotFound, Rejected, Schema, RateLimited, Unavailable, Timeout, BlockedAddress, Loop }

/// Shared by all adapters: connection pool.
#[derive(Clone, Debug)]
pub struct Clients {}
impl Clients { pub fn new() -> Result<Clients, BuildError> { unimplemented!() } }
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    #[error("{0} is not available in this build")] NotAvailable(&'static str),
    #[error("{0}")] Invalid(String),
}
/// Kinds whose adapter exists.
pub fn is_available(kind: Kind) -> bool { unimplemented!() }
pub fn build(destination: &Destination, clients: &Clients) -> Result<Arc<dyn Adapter>, BuildError> { unimplemented!() }
