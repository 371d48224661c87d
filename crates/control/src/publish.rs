//! Writes: commit, adapters, snapshot, answer; one at a time, never half way.
//!
//! A write runs in its own task, so a caller that hangs up cannot stop it between commit and swap. After the
//! commit nothing can fail any more: clients of the official SDKs repeat every request answered 5xx, so a 5xx for
//! something that was stored would store it twice.

use std::sync::Arc;

use arc_swap::ArcSwap;
use uuid::Uuid;

use crate::model::{Change, Model};
use crate::snapshot::{self, Built, Plans};
use crate::store::Audit;
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

/// The write was not made.
#[derive(Debug)]
pub(crate) enum WriteFailed {
    Store(sqlx::Error),
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
        tokio::spawn(async move { control.write_to_the_end(decide).await })
            .await
            .unwrap_or_else(|_| Err(WriteFailed::Panicked.into()))
    }

    async fn write_to_the_end<T, E, F>(&self, decide: F) -> Result<T, E>
    where
        F: FnOnce(&Model) -> Result<Write<T>, E>,
        E: From<WriteFailed>,
    {
        let mut plans = self.writer.lock().await;
        let current = self.model();
        let write = decide(&current)?;
        if !write.changes.is_empty() {
            let mut model = Model::clone(&current);
            model.generation = model.generation.saturating_add(1);
            self.store
                .commit(model.generation, &write.changes, &write.audit)
                .await
                .map_err(WriteFailed::Store)?;
            for change in &write.changes {
                model.apply(change);
            }
            let paused = write.changes.iter().filter_map(|change| match change {
                Change::Destination(entry) => entry.paused_id(),
                _ => None,
            });
            let paused = paused.collect();
            let runtime = self.runtime.clone();
            let published = publish(model, runtime, std::mem::take(&mut *plans), paused).await;
            match published {
                Ok(Published { model, built }) => {
                    *plans = built.plans;
                    self.snapshot.store(Arc::new(built.snapshot));
                    self.model.store(model);
                    self.stale.store(None);
                }
                Err(model) => {
                    let reason = format!(
                        "configuration {} is stored but not in effect: the gateway failed to take it over; restart it",
                        model.generation
                    );
                    tracing::error!("{reason}");
                    self.model.store(model);
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
    pub(crate) model: Arc<Model>,
    pub(crate) built: Built,
}

/// Brings the runtime in line with the model and builds what to swap in; `paused` are the destinations it may not
/// know to be paused. Fails only if the runtime panics.
pub(crate) async fn publish(
    mut model: Model,
    runtime: RuntimeHandle,
    plans: Plans,
    paused: Vec<Uuid>,
) -> Result<Published, Arc<Model>> {
    let fallback = Arc::new(model.clone());
    let published = tokio::task::spawn_blocking(move || {
        let built = snapshot::build(&model, runtime.0.as_ref(), plans);
        let mut failures = built.failures.clone();
        failures.extend(runtime.0.apply(&built.active, &built.retired));
        for (id, reason) in &failures {
            tracing::warn!(destination = %id, %reason, "the destination cannot be delivered to");
        }
        for id in paused {
            runtime.0.pause(id);
        }
        model.failures = failures.into_iter().collect();
        Published { model: Arc::new(model), built }
    })
    .await;
    published.map_err(|_| fallback)
}

/// The handle the data plane reads.
pub(crate) fn handle(built: Built) -> (Arc<ArcSwap<tracecast_rules::Snapshot>>, Plans) {
    (Arc::new(ArcSwap::from_pointee(built.snapshot)), built.plans)
}
