//! The adapters: one folder per destination kind, one shape for all.
//!
//! An adapter knows one vendor: how a batch becomes a request, how the answer is read, which bounds
//! a batch must keep, and how a connection is tested. It holds no loop, retry, timer or queue; those
//! live in the delivery runtime, which reads the classes of [`Answer`].
//!
//! # How a kind is proved
//!
//! All 17 go through the same matrix (`src/matrix`: every documented answer, privacy, secrets, identity, a megabyte, empty
//! fields, every letter, and what a connection test finds) and the same five golden bodies (`<kind>/golden.json`, written
//! from the vendors' tables). Beyond that:
//!
//! | kind | against what |
//! | --- | --- |
//! | `otel-collector` | Arize Phoenix and MLflow store what is sent, Datadog's test agent reads both encodings alike (`tests/backends`, as everything below that stores) |
//! | `arize` | Phoenix, behind a front that asks for the credentials as Arize does: kinds, models, messages, tokens, cost; the attributes that are added are OpenInference's |
//! | `clickhouse` | chDB, the embedded engine of ClickHouse |
//! | `datadog` | by an agent: Datadog's test agent, and what it got fits the types of Datadog's SDK; the intake itself only against a fake |
//! | `s3` | s3s-fs, signatures checked; roles: moto with IAM and STS enforced |
//! | `snowflake` | fakesnow (DuckDB) behind a front that speaks the SQL API; no privileges, no warehouse |
//! | `weave` | W&B's own trace server of release 0.51 (start and end of calls); golden bodies of completed calls fit the models of 0.52 |
//! | `braintrust`, `langsmith`, `opik`, `posthog` | golden bodies fit the models of the vendor's own SDK; answers and limits only against fakes |
//! | `sentry` | golden spans pass Sentry Relay's normalizer; answers and limits only against fakes |
//! | `webhook` | signatures read by the reference implementation of Standard Webhooks |
//! | `langfuse` | the attributes that are added are those of its SDK; the rest against a fake written from its documentation and server |
//! | `grafana`, `newrelic` | fakes written from the vendor's documentation only |
//! | `ramp` | a fake only, and no documentation of the vendor |
//!
//! A new kind is a folder beside the others, its variant in `tracecast_destination::Config`, and one
//! line in [`build`]; the compiler names every place.

pub mod arize;
pub mod braintrust;
pub mod clickhouse;
mod clients;
pub mod datadog;
mod family;
pub mod grafana;
pub mod langfuse;
pub mod langsmith;
pub mod newrelic;
pub mod opik;
pub mod otel_collector;
pub mod posthog;
pub mod ramp;
pub mod s3;
pub mod sentry;
pub mod snowflake;
pub mod weave;
pub mod webhook;

#[cfg(test)]
mod golden;
#[cfg(test)]
mod matrix;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tracecast_destination::{Config, Destination};
use tracecast_otlp::{Payload, SpanSet};

pub use clients::{ClientOptions, Clients};
pub use family::address::OutboundPolicy;

/// One record's spans for one destination.
#[derive(Clone, Debug)]
pub struct Item {
    /// Position of the record in the log; unique and rising.
    pub sequence: u64,
    /// When the record was accepted, nanoseconds since 1970 (UTC).
    pub received_unix_nano: u64,
    /// The stored OTLP bytes.
    pub payload: Arc<Payload>,
    /// Which of the payload's spans are meant.
    pub spans: SpanSet,
    /// Content must not be sent (the stored projection or the destination's privacy mode now).
    pub private: bool,
    /// Other destinations get spans of this record too: what is made of it can serve them.
    pub shared: bool,
}

/// What is sent in one call.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// The same on every retry of the same composition.
    pub token: String,
    /// In log order.
    pub items: Vec<Item>,
    /// How often this composition was sent before.
    pub attempt: u32,
    /// When the oldest of it was received, unix nanoseconds: the same on every retry, and on a replay. Said where a
    /// header can carry it.
    pub first_seen_unix_nano: Option<u64>,
    /// The gateways all items have passed before this one, comma-separated as in `x-tracecast-via`; mostly empty.
    pub via: Bytes,
    /// All items were here before: replayed dead letters, or a backfill. Said where a header can carry it.
    pub replayed: bool,
}

impl Batch {
    /// Number of spans selected over all items.
    pub fn spans(&self) -> u32 {
        self.items.iter().map(|item| item.spans.count()).sum()
    }
}

/// Bounds the batcher keeps to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchLimits {
    /// Spans in one batch.
    pub spans_max: u32,
    /// Payload bytes in one batch, before compression.
    pub bytes_max: u64,
    /// How long the first item may wait for company.
    pub age_max: Duration,
    /// Batches on their way at the same time.
    pub concurrency_max: usize,
}

/// How the vendor answered, in the classes of delivery-guarantees.md 6.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// Everything is stored.
    Delivered,
    /// Some spans were refused for good and not named; the rest is stored. Never resent.
    Partial {
        /// How many spans were refused.
        refused: u32,
        /// What the vendor said about it.
        message: String,
    },
    /// One verdict per item, in the order of the batch's items.
    PerItem(Vec<ItemAnswer>),
    /// Nothing is known to be stored; the same batch may succeed later.
    Retry(Failure),
    /// The payload was refused: halve it.
    Isolate {
        /// The refusal speaks of size: halve by bytes and learn the limit.
        by_size: bool,
        /// What the vendor said.
        failure: Failure,
    },
    /// Credentials or rights: keep the data, hold the destination.
    Auth(Failure),
    /// Address, table, bucket or certificate: keep the data, hold the destination.
    Config(Failure),
    /// 410 from a webhook: the receiver wants nothing more.
    Gone(Failure),
}

/// The verdict on one item of a batch.
#[derive(Clone, Debug, PartialEq)]
pub enum ItemAnswer {
    /// Stored.
    Delivered,
    /// Refused for good, and why.
    Refused(String),
    /// Not stored; may succeed later.
    Retry,
}

/// What went wrong, for people: never a secret, body excerpt at most 2 KiB.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Failure {
    /// HTTP status of the answer, if there was one.
    pub status: Option<u16>,
    /// Lower case, no full stop.
    pub message: String,
    /// How long the vendor asked to wait. Zero means: the same batch may be sent again at once,
    /// because the adapter has changed how it will send it.
    pub retry_after: Option<Duration>,
}

/// Answer and bytes sent on the wire (after compression).
#[derive(Clone, Debug, PartialEq)]
pub struct Sent {
    /// The class of the answer.
    pub answer: Answer,
    /// Body bytes, after compression; 0 if no connection was made.
    pub bytes: u64,
}

/// A request as it would be sent, secrets masked.
#[derive(Clone, Debug, PartialEq)]
pub struct Preview {
    /// HTTP method.
    pub method: String,
    /// Without userinfo; query values that may be secret are masked.
    pub url: String,
    /// In sending order; secret values are `***`.
    pub headers: Vec<(String, String)>,
    /// Before compression.
    pub body: Bytes,
}

/// One destination's adapter: no loop, no retry, no timer, no queue.
pub trait Adapter: Send + Sync + std::fmt::Debug {
    /// The bounds a batch must keep.
    fn limits(&self) -> BatchLimits;
    /// Version of the mapping from spans to requests: one more whenever the same span would look different. Dead
    /// letters say with which one they were refused.
    fn mapping_version(&self) -> u32 {
        1
    }
    /// Whether the vendor, or an object's key, tells a repetition by the batch as a whole (its token, its first and
    /// last record). Then a batch is noted before it is first sent, and after a crash it is formed again of the same
    /// spans; kinds that name each span need none of it.
    fn keeps_batches(&self) -> bool {
        false
    }
    /// Builds the request of a batch, sends it once and classifies the answer.
    fn send<'a>(&'a self, batch: &'a Batch) -> BoxFuture<'a, Sent>;
    /// Tests address, credentials and rights without sending anything that looks like user data;
    /// ends within 10 s.
    fn test<'a>(&'a self) -> BoxFuture<'a, TestReport>;
    /// The requests a batch would become; nothing is sent.
    fn preview(&self, _batch: &Batch) -> Vec<Preview> {
        Vec::new()
    }
}

/// The result of a connection test (design 3.4).
#[derive(Clone, Debug, serde::Serialize)]
pub struct TestReport {
    /// The destination would take data.
    pub ok: bool,
    /// The vendor's status, if it answered.
    pub status: Option<u16>,
    /// What was called, without secrets.
    pub url: String,
    /// From call to verdict, milliseconds.
    pub latency_ms: u64,
    /// The kind of result.
    pub diagnosis: Diagnosis,
    /// What to do, or what the test left behind.
    pub hint: String,
}

/// What a connection test found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Diagnosis {
    /// Data would be taken.
    Ok,
    /// The host name has no address.
    Dns,
    /// No connection.
    Connect,
    /// The TLS handshake or the certificate.
    Tls,
    /// Credentials or rights.
    Auth,
    /// Wrong path, method, bucket or a redirect.
    NotFound,
    /// Refused for another reason.
    Rejected,
    /// The table does not have the columns.
    Schema,
    /// Too many requests.
    RateLimited,
    /// The server is there but cannot serve.
    Unavailable,
    /// No answer in time.
    Timeout,
    /// The outbound address policy forbids it.
    BlockedAddress,
    /// The address leads back to this gateway.
    Loop,
}

/// Why an adapter cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The configuration cannot work; names the field.
    #[error("{0}")]
    Invalid(String),
}

/// The adapter of a destination. Opens no connection.
pub fn build(destination: &Destination, clients: &Clients) -> Result<Arc<dyn Adapter>, BuildError> {
    Ok(match &destination.config {
        Config::OtelCollector(config) => Arc::new(otel_collector::OtelCollector::new(config, clients)?),
        Config::Webhook(config) => Arc::new(webhook::Webhook::new(config, clients)?),
        Config::Langfuse(config) => Arc::new(langfuse::Langfuse::new(config, clients)?),
        Config::S3(config) => Arc::new(s3::S3::new(config, clients)?),
        Config::Clickhouse(config) => Arc::new(clickhouse::Clickhouse::new(config, clients)?),
        Config::Arize(config) => Arc::new(arize::Arize::new(config, clients)?),
        Config::Grafana(config) => Arc::new(grafana::Grafana::new(config, clients)?),
        Config::Newrelic(config) => Arc::new(newrelic::Newrelic::new(config, clients)?),
        Config::Ramp(config) => Arc::new(ramp::Ramp::new(config, clients)?),
        Config::Sentry(config) => Arc::new(sentry::Sentry::new(config, clients)?),
        Config::Braintrust(config) => Arc::new(braintrust::Braintrust::new(config, clients)?),
        Config::Datadog(config) => Arc::new(datadog::Datadog::new(config, clients)?),
        Config::Langsmith(config) => Arc::new(langsmith::Langsmith::new(config, clients)?),
        Config::Opik(config) => Arc::new(opik::Opik::new(config, clients)?),
        Config::Posthog(config) => Arc::new(posthog::Posthog::new(config, clients)?),
        Config::Snowflake(config) => Arc::new(snowflake::Snowflake::new(config, clients)?),
        Config::Weave(config) => Arc::new(weave::Weave::new(config, clients)?),
    })
}
