//! Changes of destinations' states as events of their own, sent to one destination that somebody watches: an alarm must
//! not depend on the destination that fails.
//!
//! An event is a span that this gateway makes, one for each change. It goes into the log for that destination alone, as
//! a replayed span does, and is kept, retried and counted there like any other (`requeued`): what other destinations
//! accept or skip is not touched. The destination never reports about itself, so no report causes another. The
//! vendors' words are left out: they may quote what the watching destination must not see.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, watch};
use tracecast_delivery::{Delivery, State, Transition};
use tracecast_destination::Destination;
use tracecast_ingest::Ending;
use tracecast_otlp::Payload;
use tracecast_otlp::write::{OwnedValue, SpanBuilder, resource_spans};
use uuid::Uuid;

use crate::known::{Directory, Known};

/// Reports that wait, at most: beyond, the oldest are lost, and counted. With `EVERY` it bounds how fast they come.
const WAITING_MAX: usize = 1_024;
/// Reports that come together go together.
const EVERY: Duration = Duration::from_secs(1);

/// Where reports go, and those that are on their way.
pub(crate) struct Operations {
    known: Arc<Directory>,
    instance_id: String,
    state: Mutex<Reports>,
    arrived: Notify,
    lost: AtomicU64,
}

#[derive(Default)]
struct Reports {
    /// The id or name of the destination that gets them.
    to: Option<String>,
    waiting: VecDeque<Report>,
}

/// One change.
struct Report {
    destination: Uuid,
    span: SpanBuilder,
}

impl Operations {
    pub(crate) fn new(known: Arc<Directory>, instance_id: String, to: Option<String>) -> Operations {
        let state = Mutex::new(Reports { to, ..Reports::default() });
        Operations { known, instance_id, state, arrived: Notify::new(), lost: AtomicU64::new(0) }
    }

    /// From now on reports go there; `None`: nowhere.
    pub(crate) fn send_to(&self, to: Option<String>) {
        self.state().to = to;
        if let Some(trouble) = self.trouble() {
            tracing::warn!("{trouble}");
        }
    }

    /// Why reports cannot go where they should.
    pub(crate) fn trouble(&self) -> Option<String> {
        let to = self.state().to.clone()?;
        self.find(&to).err()
    }

    /// Reports that could not be put into the log.
    pub(crate) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Takes note of a change. Returns at once.
    pub(crate) fn changed(&self, destination: &Destination, transition: &Transition) {
        let mut state = self.state();
        if state.to.is_none() {
            return;
        }
        if state.waiting.len() >= WAITING_MAX {
            state.waiting.pop_front();
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        state.waiting.push_back(Report { destination: destination.id, span: span(destination, transition) });
        drop(state);
        self.arrived.notify_one();
    }

    /// Sends what is reported until the gateway stops, and what is left then.
    pub(crate) async fn keep_sending(
        self: Arc<Self>,
        delivery: Delivery,
        mut end: watch::Receiver<Option<Ending>>,
    ) {
        let mut is_failing = false;
        loop {
            let is_ending = tokio::select! {
                () = self.arrived.notified() => false,
                _ = end.wait_for(Option::is_some) => true,
            };
            let sent = self.send(&delivery).await;
            if let Err(error) = &sent
                && !is_failing
            {
                tracing::warn!(error, "changes of destinations' states are not reported");
            }
            is_failing = sent.is_err();
            if is_ending {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                _ = end.wait_for(Option::is_some) => {}
            }
        }
    }

    /// Sends what waits, in one record.
    async fn send(&self, delivery: &Delivery) -> Result<(), String> {
        let (to, waiting) = {
            let mut state = self.state();
            (state.to.clone(), std::mem::take(&mut state.waiting))
        };
        let Some(to) = to.filter(|_| !waiting.is_empty()) else { return Ok(()) };
        let lose = |reason: String| {
            self.lost.fetch_add(waiting.len() as u64, Ordering::Relaxed);
            reason
        };
        let to = self.find(&to).map_err(lose)?.destination.id;
        let others = waiting.iter().filter(|report| report.destination != to);
        let spans: Vec<SpanBuilder> = others.map(|report| report.span.clone()).collect();
        if spans.is_empty() {
            return Ok(());
        }
        let mut body = Vec::new();
        let resource = [("service.name", "tracecast"), ("service.instance.id", &self.instance_id)]
            .map(|(key, value)| (key.to_owned(), OwnedValue::from(value)));
        resource_spans(&resource, "tracecast", env!("CARGO_PKG_VERSION"), &spans, &mut body);
        let payload = Payload::new(Bytes::from(body), spans.len() as u32);
        match delivery.inform(to, payload).await {
            Some(Ok(_)) => Ok(()),
            Some(Err(error)) => Err(lose(error.to_string())),
            None => Err(lose("the destination is gone".to_owned())),
        }
    }

    /// The destination of that id or name, if it takes events.
    fn find(&self, to: &str) -> Result<Arc<Known>, String> {
        let told = |why: &str| format!("operations.destination `{to}`: {why}");
        let is_meant = |known: &Arc<Known>| match Uuid::try_parse(to) {
            Ok(id) => known.destination.id == id,
            Err(_) => known.destination.name == to,
        };
        let all = self.known.all().into_iter();
        let meant: Vec<Arc<Known>> = all.filter(|known| !known.retired && is_meant(known)).collect();
        match meant.as_slice() {
            [one] if one.destination.enabled => Ok(one.clone()),
            [_] => Err(told("the destination is disabled, changes of state are not reported to it")),
            [] => Err(told("there is no such destination, changes of state are not reported")),
            _ => Err(told("several destinations have that name: give the id of the one that is meant")),
        }
    }

    fn state(&self) -> MutexGuard<'_, Reports> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The change as a span without duration.
fn span(destination: &Destination, transition: &Transition) -> SpanBuilder {
    let Transition { from, to, at_unix_nano, ref error, .. } = *transition;
    let texts = [
        ("tracecast.destination.id", destination.id.to_string()),
        ("tracecast.destination.name", destination.name.clone()),
        ("tracecast.destination.type", destination.config.kind().as_str().to_owned()),
        ("tracecast.destination.workspace_id", destination.workspace_id.to_string()),
        ("tracecast.destination.state", to.as_str().to_owned()),
        ("tracecast.destination.previous_state", from.as_str().to_owned()),
    ];
    let mut attributes: Vec<(String, OwnedValue)> =
        texts.into_iter().map(|(key, value)| (key.to_owned(), OwnedValue::from(value))).collect();
    if let Some(status) = error.as_ref().and_then(|error| error.status) {
        attributes.push(("http.response.status_code".to_owned(), OwnedValue::Int(i64::from(status))));
    }
    let is_trouble = matches!(
        to,
        State::Open | State::HeldAuth | State::HeldConfig | State::AutoPaused | State::Gone | State::Degraded
    );
    let (trace_id, span_id) = (Uuid::new_v4().into_bytes(), Uuid::new_v4().into_bytes());
    let [.., a, b, c, d, e, f, g, h] = span_id;
    SpanBuilder {
        trace_id,
        span_id: [a, b, c, d, e, f, g, h],
        parent_span_id: None,
        name: "destination state changed".to_owned(),
        kind: 1,
        start_unix_nano: at_unix_nano,
        end_unix_nano: at_unix_nano,
        attributes,
        events: Vec::new(),
        status_code: if is_trouble { 2 } else { 0 },
        status_message: if is_trouble { to.as_str().to_owned() } else { String::new() },
    }
}
