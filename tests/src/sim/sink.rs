//! Scripted destinations: each has a mood, and in it answers, refuses, stalls or falls over as chance has it.
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use rand::RngExt;
use rand::rngs::SmallRng;
use tracecast_sinks::{
    Adapter, Answer, Batch, BatchLimits, Diagnosis, Failure, ItemAnswer, Sent, TestReport,
};

use super::Sabotage;
use super::baton::Baton;
use super::oracle::{Oracle, Span};

/// How a destination is disposed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mood {
    Fine,
    Slow,
    /// Any of the failures that pass, now and then.
    Flaky,
    Down,
    /// Answers nothing.
    Hanging,
    BadCredentials,
    WrongAddress,
    Gone,
    TooMany,
    /// Stores a part and does not say which.
    Partial,
    /// Answers for each item.
    ItemByItem,
    /// Takes nothing above a size.
    Narrow,
    /// Stores, and the answer is lost on the way.
    Deaf,
    Panicking,
}

impl Mood {
    pub(super) const ALL: [Mood; 14] = [
        Mood::Fine,
        Mood::Slow,
        Mood::Flaky,
        Mood::Down,
        Mood::Hanging,
        Mood::BadCredentials,
        Mood::WrongAddress,
        Mood::Gone,
        Mood::TooMany,
        Mood::Partial,
        Mood::ItemByItem,
        Mood::Narrow,
        Mood::Deaf,
        Mood::Panicking,
    ];
}

/// What all sinks of a simulation share.
#[derive(Debug)]
pub(super) struct Shore {
    pub(super) world: Arc<Baton>,
    pub(super) oracle: Mutex<Oracle>,
    pub(super) rng: Mutex<SmallRng>,
    /// By destination.
    pub(super) moods: Mutex<Vec<Mood>>,
    /// Tokens are unique: sequences are never used twice.
    pub(super) tokens_are_unique: bool,
    /// Nothing can happen, or has happened yet, that makes a batch another one after it was sent: no power cut, no
    /// failure of the disk, no span that is given up.
    pub(super) batches_stay: AtomicBool,
    /// Payloads cannot be read for a while.
    pub(super) reads_fail: bool,
    pub(super) sabotage: Sabotage,
}

pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One destination's adapter.
pub(super) struct Sink {
    pub(super) shore: Arc<Shore>,
    pub(super) destination: usize,
    pub(super) limits: BatchLimits,
    /// It knows batches by their tokens, and answers for a batch as a whole.
    pub(super) keeps_batches: bool,
}

impl fmt::Debug for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sink {}", self.destination)
    }
}

/// What becomes of a call.
enum Reply {
    Say(Answer),
    Hang,
    Panic,
}

fn failure(status: u16) -> Failure {
    Failure { status: Some(status), message: format!("status {status}"), retry_after: None }
}

/// The spans an answer settles for good, unless somebody asks for them again.
fn settled(answer: &Answer, items: &[Vec<Span>]) -> Vec<Span> {
    match answer {
        Answer::Delivered | Answer::Partial { .. } => items.concat(),
        Answer::PerItem(verdicts) => {
            let delivered =
                items.iter().zip(verdicts).filter(|(_, verdict)| matches!(verdict, ItemAnswer::Delivered));
            delivered.flat_map(|(spans, _)| spans.iter().copied()).collect()
        }
        _ => Vec::new(),
    }
}

impl Sink {
    /// The spans of a batch by item; what must not be there ends the simulation.
    fn read(&self, batch: &Batch) -> Vec<Vec<Span>> {
        let world = &self.shore.world;
        let mut oracle = locked(&self.shore.oracle);
        let mut items = Vec::new();
        for item in &batch.items {
            let spans = match oracle.spans_of_item(self.destination, &item.payload, &item.spans, item.private)
            {
                Ok(spans) => spans,
                Err(finding) => world.fail(format!("destination {}: {finding}", self.destination)),
            };
            if let Err(finding) = oracle.check_sent(self.destination, &spans, item.private) {
                world.fail(finding);
            }
            // What is sent at the same time may overtake; so may others what could not be read, and after a start what
            // an earlier process may have sent.
            let is_first = !(self.keeps_batches && oracle.was_ended());
            let in_order = self.limits.concurrency_max == 1 && !self.shore.reads_fail && is_first;
            let sequence = match self.shore.sabotage {
                Sabotage::NotInOrder => u64::MAX - item.sequence,
                _ => item.sequence,
            };
            if let Err(finding) = oracle.check_turn(self.destination, sequence, &spans, in_order) {
                world.fail(finding);
            }
            items.push(spans);
        }
        let limits = self.limits;
        if batch.spans() > limits.spans_max {
            world.fail(format!("destination {}: a batch of {} spans", self.destination, batch.spans()));
        }
        if self.shore.tokens_are_unique
            && let Err(finding) = oracle.check_token(self.destination, &batch.token, &items.concat())
        {
            world.fail(finding);
        }
        items
    }

    fn poisoned(&self, spans: &[Span]) -> bool {
        let oracle = locked(&self.shore.oracle);
        spans.iter().any(|span| oracle.is_poisoned(self.destination, *span))
    }

    fn take(&self, batch: &Batch, spans: &[Span]) {
        match self.shore.sabotage {
            Sabotage::NotSent => return,
            Sabotage::NotReplayed if batch.replayed => return,
            _ => {}
        }
        let mut oracle = locked(&self.shore.oracle);
        oracle.take(self.destination, spans);
        let strictly = self.shore.batches_stay.load(Ordering::Relaxed);
        if self.keeps_batches
            && let Err(finding) = oracle.store(self.destination, &batch.token, spans, strictly)
        {
            self.shore.world.fail(finding);
        }
    }

    /// The answer, and what is stored along with it.
    fn reply(&self, batch: &Batch, items: &[Vec<Span>]) -> Reply {
        let all = items.concat();
        let mood = locked(&self.shore.moods).get(self.destination).copied().unwrap_or(Mood::Fine);
        let roll = locked(&self.shore.rng).random_range(0..100);
        let retry = |status| Reply::Say(Answer::Retry(failure(status)));
        let mood = match (mood, roll) {
            (Mood::Flaky, 0..40) => Mood::Fine,
            (Mood::Flaky, 40..60) => Mood::Down,
            (Mood::Flaky, 60..65) => Mood::Hanging,
            (Mood::Flaky, 65..75) => Mood::TooMany,
            (Mood::Flaky, 75..80) => Mood::Panicking,
            (Mood::Flaky, 80..90) => Mood::Deaf,
            (Mood::Flaky, _) => Mood::WrongAddress,
            (mood, _) => mood,
        };
        match mood {
            // A batch that fails with 500 again and again is halved, whatever became of it.
            Mood::Down if self.keeps_batches => return retry([504, 502, 503, 501][roll % 4]),
            Mood::Down => return retry([500, 502, 503, 501][roll % 4]),
            Mood::Hanging => return Reply::Hang,
            Mood::BadCredentials => return Reply::Say(Answer::Auth(failure(401))),
            Mood::WrongAddress => return Reply::Say(Answer::Config(failure(404))),
            Mood::Gone => return Reply::Say(Answer::Gone(failure(410))),
            Mood::Panicking => return Reply::Panic,
            Mood::TooMany => {
                let wait = Some(Duration::from_millis([0, 300, 5_000, 40_000][roll % 4]));
                return Reply::Say(Answer::Retry(Failure { retry_after: wait, ..failure(429) }));
            }
            _ if self.keeps_batches
                && locked(&self.shore.oracle).knows(self.destination, &batch.token, &all) =>
            {
                self.take(batch, &all);
                return match mood {
                    Mood::Deaf => retry(504),
                    _ => Reply::Say(Answer::Delivered),
                };
            }
            Mood::Narrow if all.len() > 2 => {
                return Reply::Say(Answer::Isolate { by_size: true, failure: failure(413) });
            }
            Mood::ItemByItem if !self.keeps_batches || !self.poisoned(&all) => {
                let verdicts = items.iter().map(|spans| {
                    if self.poisoned(spans) {
                        return ItemAnswer::Refused("poison".to_owned());
                    }
                    if locked(&self.shore.rng).random_bool(0.3) {
                        return ItemAnswer::Retry;
                    }
                    self.take(batch, spans);
                    ItemAnswer::Delivered
                });
                return Reply::Say(Answer::PerItem(verdicts.collect()));
            }
            _ => {}
        }
        if self.poisoned(&all) || self.shore.sabotage == Sabotage::NotRefused {
            return Reply::Say(Answer::Isolate { by_size: false, failure: failure(400) });
        }
        let refused = if mood == Mood::Partial && roll < 50 { 1 + roll % all.len() } else { 0 };
        self.take(batch, all.get(refused..).unwrap_or_default());
        match mood {
            Mood::Partial if refused > 0 => {
                let message = "some were refused".to_owned();
                Reply::Say(Answer::Partial { refused: refused as u32, message })
            }
            Mood::Deaf => retry(504),
            _ => Reply::Say(Answer::Delivered),
        }
    }
}

impl Adapter for Sink {
    fn limits(&self) -> BatchLimits {
        self.limits
    }

    fn keeps_batches(&self) -> bool {
        self.keeps_batches && self.shore.sabotage != Sabotage::NotNoted
    }

    fn send<'a>(&'a self, batch: &'a Batch) -> BoxFuture<'a, Sent> {
        Box::pin(async move {
            let shore = &self.shore;
            if shore.world.disk().dead {
                return std::future::pending().await;
            }
            let items = self.read(batch);
            let slow = locked(&shore.moods).get(self.destination) == Some(&Mood::Slow);
            let delay = locked(&shore.rng).random_range(0..if slow { 20_000 } else { 60 });
            tokio::time::sleep(Duration::from_millis(delay)).await;
            if shore.world.disk().dead {
                return std::future::pending().await;
            }
            let answer = match self.reply(batch, &items) {
                Reply::Say(answer) => answer,
                Reply::Hang => std::future::pending().await,
                // Without the hook: it is no finding.
                Reply::Panic => std::panic::resume_unwind(Box::new("scripted")),
            };
            shore.world.tell(|| {
                format!("  sink {} {:?} {} -> {answer:?}", self.destination, items.concat(), batch.token)
            });
            // The answer takes its way back.
            let delay = locked(&shore.rng).random_range(0..10);
            tokio::time::sleep(Duration::from_millis(delay)).await;
            if !shore.world.disk().dead {
                let now = shore.world.time();
                locked(&shore.oracle).answer(self.destination, &settled(&answer, &items), now);
            }
            let answer = match (self.shore.sabotage, answer) {
                (Sabotage::NotSettled, Answer::Delivered) => Answer::Retry(failure(503)),
                (_, answer) => answer,
            };
            Sent { answer, bytes: 10 }
        })
    }

    fn test(&self) -> BoxFuture<'_, TestReport> {
        Box::pin(async {
            TestReport {
                ok: true,
                status: None,
                url: String::new(),
                latency_ms: 0,
                diagnosis: Diagnosis::Ok,
                hint: String::new(),
            }
        })
    }
}
