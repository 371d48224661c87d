//! Writes: commit, adapters, snapshot, answer; one at a time, never half way.
//!
//! A write runs in its own task, so a caller that hangs up cannot stop it between commit and swap. After the
//! commit nothing can fail any more: clients of the official SDKs repeat every request answered 5xx, so a 5xx for
//! something that was stored would store it twice.

use std::sync::Arc;
use std::time::Duration;

use tracecast_rules::Snapshot;
use uuid::Uuid;

use crate::model::{Change, Entry, Model};
use crate::snapshot::{self, Built, Touched};
use crate::store::{Answer, Audit, Found, RequestId};
use crate::{Control, RuntimeHandle};

/// What a write does, decided on the model as it is while no other write runs.
#[derive(Debug)]
pub(crate) struct Write<T> {
    /// Empty = nothing to store.
    pub(crate) changes: Vec<Change>,
    pub(crate) audit: Vec<Audit>,
    /// Sent to the runtime once the change is live, also if nothing was stored.
    pub(crate) signal: Option<Signal>,
    pub(crate) reply: T,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Signal {
    Pause(Uuid),
    Resume(Uuid),
}

/// Longest wait for the writes before this one, which wait for the store. Beyond it the store is the bottleneck.
const TURN_TIMEOUT: Duration = Duration::from_secs(10);

/// What a create answers, now and if the request is repeated.
#[derive(Debug)]
pub(crate) struct Created {
    pub(crate) answer: Answer,
    pub(crate) repeat: Answer,
}

/// The write was not made.
#[derive(Debug)]
pub(crate) enum WriteFailed {
    Store(sqlx::Error),
    /// The caller's name for this request stands for another one already.
    OtherRequest,
    /// Deciding it panicked; the panic is in the log.
    Panicked,
}

impl Control {
    /// Makes a write. `decide` may refuse it; then nothing happens.
    pub(crate) async fn write<T, E, F>(self: &Arc<Self>, decide: F) -> Result<T, E>
    where
        F: FnOnce(&Model) -> Result<Write<T>, E> + Send + 'static,
        T: Send + 'static,
        E: From<WriteFailed> + Send + 'static,
    {
        let control = Arc::clone(self);
        tokio::spawn(async move {
            let mut missed = control.turn().await?;
            control.make(&mut missed, decide, |_| None).await
        })
        .await
        .unwrap_or_else(|_| Err(WriteFailed::Panicked.into()))
    }

    /// Makes a write that is not made again when the request is repeated.
    pub(crate) async fn create<E, F>(
        self: &Arc<Self>,
        request: Option<RequestId>,
        decide: F,
    ) -> Result<Answer, E>
    where
        F: FnOnce(&Model) -> Result<Write<Created>, E> + Send + 'static,
        E: From<WriteFailed> + Send + 'static,
    {
        let control = Arc::clone(self);
        tokio::spawn(async move {
            let mut missed = control.turn().await?;
            // Again, and now for certain: the first one may have been under way.
            if let Some(answer) = control.answer_of(request.as_ref()).await? {
                return Ok(answer);
            }
            let keep = |created: &Created| Some((request?, created.repeat.clone()));
            Ok(control.make(&mut missed, decide, keep).await?.answer)
        })
        .await
        .unwrap_or_else(|_| Err(WriteFailed::Panicked.into()))
    }

    /// The answer to a request that was made before.
    pub(crate) async fn answer_of(&self, request: Option<&RequestId>) -> Result<Option<Answer>, WriteFailed> {
        let Some(request) = request else {
            return Ok(None);
        };
        match self.store.find_answer(request).await.map_err(WriteFailed::Store)? {
            None => Ok(None),
            Some(Found::Answer(answer)) => Ok(Some(answer)),
            Some(Found::OtherRequest) => Err(WriteFailed::OtherRequest),
        }
    }

    async fn turn(&self) -> Result<tokio::sync::MutexGuard<'_, Touched>, WriteFailed> {
        tokio::time::timeout(TURN_TIMEOUT, self.writer.lock())
            .await
            .map_err(|_| WriteFailed::Store(sqlx::Error::PoolTimedOut))
    }

    /// Makes a write to its end; `keep` says what a repeat of the request is to be answered. `missed` is what the
    /// gateway failed to take over before: this write makes up for it.
    async fn make<T, E, F, K>(&self, missed: &mut Touched, decide: F, keep: K) -> Result<T, E>
    where
        F: FnOnce(&Model) -> Result<Write<T>, E>,
        E: From<WriteFailed>,
        K: FnOnce(&T) -> Option<(RequestId, Answer)>,
    {
        let current = self.model();
        let write = decide(&current)?;
        if !write.changes.is_empty() {
            let mut model = Model::clone(&current);
            model.generation = model.generation.saturating_add(1);
            let kept = keep(&write.reply);
            let kept = kept.as_ref().map(|(request, answer)| (request, answer));
            self.store
                .commit(model.generation, &write.changes, &write.audit, kept)
                .await
                .map_err(WriteFailed::Store)?;
            missed.add(&current, &write.changes);
            for change in &write.changes {
                model.apply(change);
            }
            let (runtime, before) = (self.runtime.clone(), self.snapshot.load_full());
            match publish(model, std::mem::take(missed), runtime, before).await {
                Ok(Published { model, snapshot }) => {
                    self.snapshot.store(Arc::new(snapshot));
                    self.model.store(Arc::new(model));
                    self.stale.store(None);
                }
                Err(Missed { model, touched }) => {
                    let reason = format!(
                        "configuration {} is stored but not in effect: the gateway failed to take it over; restart it",
                        model.generation
                    );
                    tracing::error!("{reason}");
                    *missed = touched;
                    self.model.store(Arc::new(model));
                    self.stale.store(Some(Arc::new(reason)));
                }
            }
            for entry in &write.audit {
                tracing::info!(actor = %entry.actor, action = %entry.action, target_id = %entry.target, fields = ?entry.fields, "configuration changed");
            }
        }
        if let Some(signal) = write.signal {
            self.signal(signal).await;
        }
        Ok(write.reply)
    }

    async fn signal(&self, signal: Signal) {
        let runtime = self.runtime.clone();
        let sent = tokio::task::spawn_blocking(move || match signal {
            Signal::Pause(id) => runtime.0.pause(id),
            Signal::Resume(id) => runtime.0.resume(id),
        })
        .await;
        if !matches!(sent, Ok(true)) {
            tracing::warn!(?signal, "the runtime does not know the destination");
        }
    }
}

pub(crate) struct Published {
    pub(crate) model: Model,
    pub(crate) snapshot: Snapshot,
}

/// The runtime panicked on the way.
pub(crate) struct Missed {
    pub(crate) model: Model,
    pub(crate) touched: Touched,
}

/// Brings the runtime in line with the model in what is touched, and builds what to swap in for `before`. Fails only
/// if the runtime panics.
pub(crate) async fn publish(
    model: Model,
    touched: Touched,
    runtime: RuntimeHandle,
    before: Arc<Snapshot>,
) -> Result<Published, Missed> {
    let fallback = Missed { model: model.clone(), touched: touched.clone() };
    let published = tokio::task::spawn_blocking(move || {
        let Built { snapshot, changes, mut failures } =
            snapshot::build(&model, &touched, runtime.0.as_ref(), &before);
        failures.extend(runtime.0.apply(&changes));
        let mut model = model;
        for id in touched.destinations() {
            model.failures.remove_mut(id);
            if let Some(id) = model.destinations.get(id).and_then(Entry::paused_id) {
                runtime.0.pause(id);
            }
        }
        for (id, reason) in failures {
            tracing::warn!(destination = %id, %reason, "the destination cannot be delivered to");
            model.failures.insert_mut(id, reason);
        }
        Published { model, snapshot }
    })
    .await;
    published.map_err(|_| fallback)
}
