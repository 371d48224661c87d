//! Writes: commit, adapters, snapshot, answer; one group at a time, never half way.
//!
//! A group is made in a task of its own, so a caller that hangs up cannot stop it between commit and swap. After the
//! commit nothing can fail any more: clients of the official SDKs repeat every request answered 5xx, so a 5xx for
//! something that was stored would store it twice.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;
use tracecast_rules::Snapshot;
use uuid::Uuid;

use crate::model::{Change, Model};
use crate::queue::{Decided, Pending, Proposal};
use crate::snapshot::{self, Built, Touched};
use crate::store::{Answer, Audit, Found, Record, RequestId};
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
#[derive(Clone, Debug)]
pub(crate) enum WriteFailed {
    /// The same for all of a group.
    Store(Arc<sqlx::Error>),
    /// The caller's name for this request stands for another one already.
    OtherRequest,
    /// Deciding it panicked; the panic is in the log.
    Panicked,
}

impl From<sqlx::Error> for WriteFailed {
    fn from(error: sqlx::Error) -> WriteFailed {
        WriteFailed::Store(Arc::new(error))
    }
}

impl<'a> From<&'a Decided> for Record<'a> {
    fn from(decided: &'a Decided) -> Record<'a> {
        Record {
            changes: &decided.write.changes,
            audit: &decided.write.audit,
            kept: decided.kept.as_ref().map(|(request, answer)| (request, answer)),
        }
    }
}

impl Control {
    /// Makes a write. `decide` may refuse it; then nothing happens.
    pub(crate) async fn write<T, E, F>(self: &Arc<Self>, decide: F) -> Result<T, E>
    where
        F: FnOnce(&Model) -> Result<Write<T>, E> + Send + 'static,
        T: Send + 'static,
        E: From<WriteFailed> + Send + 'static,
    {
        let (told, answer) = oneshot::channel();
        self.propose(Pending { request: None, decide, keep: |_| None, known: |_| None, told });
        answer.await.unwrap_or_else(|_| Err(WriteFailed::Panicked.into()))
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
        let (told, answer) = oneshot::channel();
        let keep = |created: &Created| Some(created.repeat.clone());
        let known = |answer: Answer| Some(Created { repeat: answer.clone(), answer });
        self.propose(Pending { request, decide, keep, known, told });
        let created = answer.await.unwrap_or_else(|_| Err(WriteFailed::Panicked.into()))?;
        Ok(created.answer)
    }

    /// The answer to a request that was made before.
    pub(crate) async fn answer_of(&self, request: Option<&RequestId>) -> Result<Option<Answer>, WriteFailed> {
        let Some(request) = request else {
            return Ok(None);
        };
        match self.store.find_answer(request).await.map_err(WriteFailed::from)? {
            None => Ok(None),
            Some(Found::Answer(answer)) => Ok(Some(answer)),
            Some(Found::OtherRequest) => Err(WriteFailed::OtherRequest),
        }
    }

    /// Puts a write into the line, and sees to it that it gets its turn.
    fn propose(self: &Arc<Self>, proposal: impl Proposal + 'static) {
        let number = self.writes.push(Box::new(proposal));
        let control = Arc::clone(self);
        tokio::spawn(async move {
            let deadline = Instant::now() + TURN_TIMEOUT;
            while control.writes.holds(number) {
                match tokio::time::timeout_at(deadline, control.writer.lock()).await {
                    Ok(mut missed) => control.make(&mut missed, control.writes.take()).await,
                    Err(_) => {
                        if let Some(late) = control.writes.withdraw(number) {
                            late.fail(sqlx::Error::PoolTimedOut.into());
                        }
                    }
                }
            }
        });
    }

    /// Makes writes to their end. `missed` is what the gateway failed to take over before: these make up for it.
    async fn make(&self, missed: &mut Touched, proposals: Vec<Box<dyn Proposal>>) {
        let mut model = Model::clone(&self.model());
        let (mut touched, mut decided) = (Touched::default(), Vec::with_capacity(proposals.len()));
        for proposal in proposals {
            // Again, and now for certain: the first one may have been under way.
            match self.answer_of(proposal.request()).await {
                Ok(None) => {}
                Ok(Some(answer)) => {
                    proposal.repeat(answer);
                    continue;
                }
                Err(failed) => {
                    proposal.fail(failed);
                    continue;
                }
            }
            let Some(decision) = proposal.decide(&model) else { continue };
            if !decision.write.changes.is_empty() {
                model.generation = model.generation.saturating_add(1);
                for change in &decision.write.changes {
                    touched.add(&model, change);
                    model.apply(change);
                }
            }
            decided.push(decision);
        }
        if decided.iter().any(|decision| !decision.write.changes.is_empty()) {
            let records: Vec<Record<'_>> = decided.iter().map(Record::from).collect();
            if let Err(error) = self.store.commit(model.generation, &records).await {
                let failed = WriteFailed::from(error);
                decided.into_iter().for_each(|decision| (decision.tell)(Err(failed.clone())));
                return;
            }
            missed.merge(touched);
            self.take_over(model, missed).await;
            for entry in decided.iter().flat_map(|decision| &decision.write.audit) {
                tracing::info!(actor = %entry.actor, action = %entry.action, target_id = %entry.target, fields = ?entry.fields, "configuration changed");
            }
        }
        for decision in decided {
            if let Some(signal) = decision.write.signal {
                self.signal(signal).await;
            }
            (decision.tell)(Ok(()));
        }
    }

    /// Makes what is stored the configuration in effect.
    async fn take_over(&self, model: Model, missed: &mut Touched) {
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
