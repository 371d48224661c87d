//! The line of writes: whoever has the turn makes its own and those that have come meanwhile, as one transaction and
//! one snapshot. Each is decided on the model as the ones before it leave it.

use std::collections::{HashSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::model::Model;
use crate::publish::{Write, WriteFailed};
use crate::store::{Answer, RequestId};

/// Writes made in one turn, at most.
const GROUP_MAX: usize = 64;

/// A write that waits for its turn.
pub(crate) trait Proposal: Send {
    /// What its caller calls it.
    fn request(&self) -> Option<&RequestId>;

    /// Decides it; `None` if it was refused, and its caller told so.
    fn decide(self: Box<Self>, model: &Model) -> Option<Decided>;

    /// It was made before: its caller is told this.
    fn repeat(self: Box<Self>, answer: Answer);

    /// It will not be made.
    fn fail(self: Box<Self>, failed: WriteFailed);
}

/// What is to be done, and who is to be told of it.
pub(crate) struct Decided {
    pub(crate) write: Write<()>,
    /// What a repeat of the request is to be answered.
    pub(crate) kept: Option<(RequestId, Answer)>,
    pub(crate) tell: Box<dyn FnOnce(Result<(), WriteFailed>) + Send>,
}

/// A write of one kind; how it is decided, and how what it replies is kept for a repeat.
pub(crate) struct Pending<T, E, F> {
    pub(crate) request: Option<RequestId>,
    pub(crate) decide: F,
    pub(crate) keep: fn(&T) -> Option<Answer>,
    pub(crate) known: fn(Answer) -> Option<T>,
    pub(crate) told: oneshot::Sender<Result<T, E>>,
}

impl<T, E, F> Proposal for Pending<T, E, F>
where
    F: FnOnce(&Model) -> Result<Write<T>, E> + Send,
    T: Send + 'static,
    E: From<WriteFailed> + Send + 'static,
{
    fn request(&self) -> Option<&RequestId> {
        self.request.as_ref()
    }

    fn decide(self: Box<Self>, model: &Model) -> Option<Decided> {
        let Pending { request, decide, keep, told, .. } = *self;
        // One that panics is no reason for the others to fail; the panic is in the log.
        let decided = catch_unwind(AssertUnwindSafe(|| decide(model)));
        let Write { changes, audit, signal, reply } = match decided {
            Ok(Ok(write)) => write,
            Ok(Err(refused)) => {
                let _ = told.send(Err(refused));
                return None;
            }
            Err(_) => {
                let _ = told.send(Err(WriteFailed::Panicked.into()));
                return None;
            }
        };
        Some(Decided {
            write: Write { changes, audit, signal, reply: () },
            kept: request.zip(keep(&reply)),
            // Whoever has gone is not told, and has its write all the same.
            tell: Box::new(move |done| drop(told.send(done.map(|()| reply).map_err(E::from)))),
        })
    }

    fn repeat(self: Box<Self>, answer: Answer) {
        let known = (self.known)(answer).ok_or_else(|| WriteFailed::Panicked.into());
        let _ = self.told.send(known);
    }

    fn fail(self: Box<Self>, failed: WriteFailed) {
        let _ = self.told.send(Err(failed.into()));
    }
}

/// The line. Each write in it has a task that waits for the turn, until the write is out of the line.
#[derive(Default)]
pub(crate) struct Queue {
    line: Mutex<Line>,
}

#[derive(Default)]
struct Line {
    next: u64,
    waiting: VecDeque<(u64, Box<dyn Proposal>)>,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Goes to the end of the line; answers the number by which it is known there.
    pub(crate) fn push(&self, proposal: Box<dyn Proposal>) -> u64 {
        let mut line = self.lock();
        let number = line.next;
        line.next += 1;
        line.waiting.push_back((number, proposal));
        number
    }

    /// Whether the write is still in the line.
    pub(crate) fn holds(&self, number: u64) -> bool {
        self.lock().waiting.iter().any(|(n, _)| *n == number)
    }

    /// The number of the next that comes.
    #[cfg(test)]
    pub(crate) fn next(&self) -> u64 {
        self.lock().next
    }

    /// Takes one out that has waited too long; `None` if it has its turn already.
    pub(crate) fn withdraw(&self, number: u64) -> Option<Box<dyn Proposal>> {
        let mut line = self.lock();
        let at = line.waiting.iter().position(|(n, _)| *n == number)?;
        line.waiting.remove(at).map(|(_, proposal)| proposal)
    }

    /// Takes the next group. Of two that their caller calls by the same name, the second stays: it is to find what
    /// the first was answered.
    pub(crate) fn take(&self) -> Vec<Box<dyn Proposal>> {
        let mut line = self.lock();
        let mut named = HashSet::new();
        let (mut taken, mut left) = (Vec::new(), VecDeque::new());
        for (number, proposal) in std::mem::take(&mut line.waiting) {
            let is_first = proposal
                .request()
                .is_none_or(|request| named.insert((request.caller, request.token.clone())));
            if is_first && taken.len() < GROUP_MAX {
                taken.push(proposal);
            } else {
                left.push_back((number, proposal));
            }
        }
        line.waiting = left;
        taken
    }
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue").field("waiting", &self.lock().waiting.len()).finish()
    }
}
