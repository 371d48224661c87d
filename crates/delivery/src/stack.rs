//! The way a batch goes out: an adapter behind tower layers.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tower::limit::ConcurrencyLimit;
use tower::timeout::Timeout;
use tower::timeout::error::Elapsed;
use tower::{Service, ServiceBuilder, ServiceExt};
use tracecast_sinks::{Adapter, Answer, Batch, BatchLimits, Failure, Sent};

/// An adapter as a service: a batch in, the vendor's answer out. A bad answer is an answer, not an error.
#[derive(Clone, Debug)]
struct AdapterService {
    adapter: Arc<dyn Adapter>,
}

impl Service<Arc<Batch>> for AdapterService {
    type Response = Sent;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Sent, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, batch: Arc<Batch>) -> Self::Future {
        let adapter = self.adapter.clone();
        Box::pin(async move { Ok(adapter.send(&batch).await) })
    }
}

/// The sending path of one destination with one configuration. Clones share the concurrency limit.
#[derive(Clone, Debug)]
pub(crate) struct Sender {
    service: ConcurrencyLimit<Timeout<AdapterService>>,
    limits: BatchLimits,
    mapping_version: u32,
    keeps_batches: bool,
    timeout: Duration,
}

impl Sender {
    pub(crate) fn new(adapter: Arc<dyn Adapter>, timeout: Duration) -> Sender {
        let (limits, mapping_version) = (adapter.limits(), adapter.mapping_version());
        let keeps_batches = adapter.keeps_batches();
        let limits = BatchLimits {
            spans_max: limits.spans_max.max(1),
            bytes_max: limits.bytes_max.max(1),
            age_max: limits.age_max,
            concurrency_max: limits.concurrency_max.max(1),
        };
        let service = ServiceBuilder::new()
            // Outermost: a place is held from before the clock starts until the answer or the cut, so the
            // vendor never sees more requests than it allows, whatever the layers below do with one.
            .concurrency_limit(limits.concurrency_max)
            // Around the whole attempt: waiting for a place does not count, connecting, sending and
            // reading the reply do. A cut attempt drops its connection.
            .timeout(timeout)
            // Innermost, because it is the only one that knows the vendor.
            .service(AdapterService { adapter });
        Sender { service, limits, mapping_version, keeps_batches, timeout }
    }

    /// The adapter's bounds, each at least 1.
    pub(crate) fn limits(&self) -> BatchLimits {
        self.limits
    }

    /// See [`Adapter::mapping_version`].
    pub(crate) fn mapping_version(&self) -> u32 {
        self.mapping_version
    }

    /// See [`Adapter::keeps_batches`].
    pub(crate) fn keeps_batches(&self) -> bool {
        self.keeps_batches
    }

    /// Sends once.
    pub(crate) async fn send(&self, batch: Arc<Batch>) -> Sent {
        let failed = |message: String| Sent {
            answer: Answer::Retry(Failure { status: None, message, retry_after: None }),
            bytes: 0,
        };
        match self.service.clone().oneshot(batch).await {
            Ok(sent) => sent,
            Err(error) if error.is::<Elapsed>() => {
                failed(format!("no complete answer within {} s", self.timeout.as_secs_f64()))
            }
            Err(error) => failed(error.to_string()),
        }
    }
}
