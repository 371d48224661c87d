//! The memory of what was kept lately: a span that comes again is answered as its first copy was.
//!
//! A fingerprint is a keyed hash of workspace, trace id, span id, end time and encoded length. Those of kept spans lie
//! in a table of fixed size, four to a cache line; a full line loses its oldest. Those under way are kept aside until
//! the log has answered: whoever sends a copy meanwhile waits for that answer.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use siphasher::sip128::{Hasher128 as _, SipHasher13};
use tokio::sync::SetOnce;
use tokio::time::Instant;
use tracecast_otlp::{SpanSet, Traces};
use uuid::Uuid;

use crate::answer::Refusal;

/// A copy is recognised for so long.
const WINDOW: Duration = Duration::from_secs(600);
/// Fingerprints that share a cache line.
const LINE: usize = 4;
const ENTRY_BYTES: usize = size_of::<u128>();
/// The low bits of an entry are its time, the high ones its fingerprint; zero is empty.
const TIME_BITS: u32 = 32;

/// What the log answered for the first copy, or why it was not kept.
type Outcome = SetOnce<Result<(), Refusal>>;

/// The table, and what is under way.
#[derive(Debug)]
pub(crate) struct Dedupe {
    /// An empty hasher with keys of this process.
    hasher: SipHasher13,
    started: Instant,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    entries: Vec<u128>,
    under_way: HashMap<u128, Arc<Outcome>, BuildHasherDefault<Hashed>>,
}

/// A fingerprint is a hash already.
#[derive(Debug, Default)]
struct Hashed(u64);

impl Hasher for Hashed {
    fn write(&mut self, bytes: &[u8]) {
        let high = bytes.last_chunk().map_or(0, |high: &[u8; 8]| u64::from_le_bytes(*high));
        self.0 = self.0.rotate_left(32) ^ high;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// The spans of one request that nobody sent before, until the log has answered. Dropped without an answer, they
/// count as not kept.
#[derive(Debug)]
pub(crate) struct Claim {
    dedupe: Arc<Dedupe>,
    fingerprints: Vec<u128>,
    outcome: Arc<Outcome>,
}

/// The first copy of a span, still on its way into the log.
#[derive(Debug)]
pub(crate) struct FirstCopy(Arc<Outcome>);

/// What is known of the spans of a request.
#[derive(Debug)]
pub(crate) struct Sorted {
    pub(crate) claim: Claim,
    /// `None`: all of them.
    pub(crate) fresh: Option<SpanSet>,
    pub(crate) first_copies: Vec<FirstCopy>,
}

impl Dedupe {
    /// Remembers as many spans as fit `bytes`.
    pub(crate) fn new(bytes: usize) -> Dedupe {
        let lines = (bytes / (LINE * ENTRY_BYTES)).max(1);
        Dedupe {
            hasher: SipHasher13::new_with_key(&rand::random()),
            started: Instant::now(),
            state: Mutex::new(State { entries: vec![0; lines * LINE], under_way: HashMap::default() }),
        }
    }

    /// Bytes the table takes.
    pub(crate) fn bytes(&self) -> usize {
        self.state().entries.len() * ENTRY_BYTES
    }

    /// Tells new spans from copies, and claims the new ones.
    pub(crate) fn sort(self: &Arc<Self>, workspace: Uuid, traces: &Traces) -> Sorted {
        let fingerprints: Vec<u128> = traces
            .spans()
            .map(|s| {
                let mut of = [0; 56];
                of[..16].copy_from_slice(workspace.as_bytes());
                of[16..32].copy_from_slice(&s.trace_id());
                of[32..40].copy_from_slice(&s.span_id());
                of[40..48].copy_from_slice(&s.end_unix_nano().to_le_bytes());
                of[48..].copy_from_slice(&(s.encoded_len() as u64).to_le_bytes());
                let mut hasher = self.hasher;
                hasher.write(&of);
                hasher.finish128().as_u128()
            })
            .collect();
        let outcome = Arc::new(Outcome::new());
        let mut claim = Claim { dedupe: self.clone(), fingerprints: Vec::new(), outcome: outcome.clone() };
        let mut fresh = Vec::with_capacity(fingerprints.len());
        let mut first_copies = Vec::new();
        let now = self.now();
        let mut state = self.state();
        for (position, fingerprint) in (0u32..).zip(&fingerprints) {
            if state.holds(*fingerprint, now) {
                continue;
            }
            match state.under_way.get(fingerprint) {
                // Twice in one request: it is its own first copy.
                Some(first) if Arc::ptr_eq(first, &outcome) => {}
                Some(first) => first_copies.push(FirstCopy(first.clone())),
                None => {
                    state.under_way.insert(*fingerprint, outcome.clone());
                    fresh.push(position);
                    claim.fingerprints.push(*fingerprint);
                }
            }
        }
        drop(state);
        let all = fresh.len() == fingerprints.len();
        let fresh = (!all).then(|| SpanSet::from_positions(fingerprints.len() as u32, fresh));
        Sorted { claim, fresh, first_copies }
    }

    /// Seconds since the start, from 1.
    fn now(&self) -> u32 {
        (self.started.elapsed().as_secs() + 1).try_into().unwrap_or(u32::MAX)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The line a fingerprint belongs to: its low bits choose it, the others are compared.
    fn line(&mut self, fingerprint: u128) -> &mut [u128] {
        let lines = self.entries.len() / LINE;
        let at = (fingerprint as u32 as usize % lines) * LINE;
        &mut self.entries[at..at + LINE]
    }

    fn holds(&mut self, fingerprint: u128, now: u32) -> bool {
        let alike = |entry: &&mut u128| **entry >> TIME_BITS == fingerprint >> TIME_BITS;
        self.line(fingerprint).iter_mut().find(alike).is_some_and(|entry| is_recent(*entry, now))
    }

    fn remember(&mut self, fingerprint: u128, now: u32) {
        let alike = |entry: &u128| *entry >> TIME_BITS == fingerprint >> TIME_BITS;
        // Its own old entry, else the oldest (an empty one is older than all).
        let place = self.line(fingerprint).iter_mut().min_by_key(|entry| (!alike(entry), time(**entry)));
        if let Some(place) = place {
            *place = fingerprint >> TIME_BITS << TIME_BITS | u128::from(now);
        }
    }
}

fn time(entry: u128) -> u32 {
    entry as u32
}

fn is_recent(entry: u128, now: u32) -> bool {
    time(entry) != 0 && u64::from(now.saturating_sub(time(entry))) <= WINDOW.as_secs()
}

impl Claim {
    /// Everything claimed is in the log.
    pub(crate) fn kept(mut self) {
        self.end(Ok(()));
    }

    /// The log did not take it: a copy that comes later is new.
    pub(crate) fn refused(mut self, refusal: &Refusal) {
        self.end(Err(refusal.clone()));
    }

    fn end(&mut self, outcome: Result<(), Refusal>) {
        let is_kept = outcome.is_ok();
        let now = self.dedupe.now();
        let mut state = self.dedupe.state();
        for fingerprint in self.fingerprints.drain(..) {
            state.under_way.remove(&fingerprint);
            if is_kept {
                state.remember(fingerprint, now);
            }
        }
        drop(state);
        // The first answer stands.
        let _ = self.outcome.set(outcome);
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if !self.fingerprints.is_empty() {
            let reason = "an earlier copy of the request was given up by its sender";
            self.end(Err(Refusal::overloaded(reason, 1)));
        }
    }
}

impl FirstCopy {
    /// Resolves as the first copy's request was answered.
    pub(crate) async fn answered(self) -> Result<(), Refusal> {
        self.0.wait().await.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remembered(entries: usize) -> State {
        State { entries: vec![0; entries], under_way: HashMap::default() }
    }

    #[test]
    fn a_copy_is_known_for_ten_minutes_and_a_full_line_loses_its_oldest() {
        let mut state = remembered(LINE);
        let of = |n: u128| n << TIME_BITS;
        state.remember(of(1), 1);
        assert!(state.holds(of(1), 601));
        assert!(!state.holds(of(1), 602));
        assert!(!state.holds(of(9), 1));
        for n in 2..=5 {
            state.remember(of(n), n as u32);
        }
        let held: Vec<bool> = (1..=5).map(|n| state.holds(of(n), 10)).collect();
        assert_eq!(held, [false, true, true, true, true]);
        // Seen again: its time is renewed, and it takes no second place.
        state.remember(of(2), 9);
        state.remember(of(6), 10);
        let held: Vec<bool> = (2..=6).map(|n| state.holds(of(n), 10)).collect();
        assert_eq!(held, [true, false, true, true, true]);
    }

    #[test]
    fn the_table_takes_the_bytes_it_was_given() {
        assert_eq!(Dedupe::new(16 << 20).bytes(), 16 << 20);
        assert_eq!(Dedupe::new(0).bytes(), LINE * ENTRY_BYTES);
    }
}
