//! The sampling function: which keys a destination keeps, and the keys of a request's traces.

use crate::memory::Recall;
use crate::trace_index::TraceIndex;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::sync::Arc;
use tracecast_genai::Generation;
use tracecast_otlp::{TraceId, Traces};
use uuid::Uuid;

const TWO_POW_64: f64 = 18_446_744_073_709_551_616.0;

/// Sampling of one destination with a rate below 1.
#[derive(Clone, Debug)]
pub(crate) struct Sampling {
    /// Destination id as text, then 0x00.
    prefix: [u8; 37],
    /// Keep when `u < threshold`.
    threshold: u64,
}

impl Sampling {
    /// `None` for rate 1. The rate must lie in (0, 1].
    pub(crate) fn new(destination: Uuid, rate: f64) -> Result<Option<Sampling>, String> {
        if !(rate > 0.0 && rate <= 1.0) {
            return Err(format!("sampling_rate: {rate} is not in (0, 1]"));
        }
        if rate == 1.0 {
            return Ok(None);
        }
        let mut prefix = [0; 37];
        let (text, _zero) = prefix.split_at_mut(36);
        destination.hyphenated().encode_lower(text);
        // Scaling by a power of two is exact, and for an integer u, u < x is the same as u < ceil(x).
        // The largest rate below 1 gives 2^64 - 2^11, so the cast is exact as well.
        let threshold = (rate * TWO_POW_64).ceil() as u64;
        Ok(Some(Sampling { prefix, threshold }))
    }

    pub(crate) fn keeps(&self, key: &[u8]) -> bool {
        self.hash(key) < self.threshold
    }

    fn hash(&self, key: &[u8]) -> u64 {
        let digest: [u8; 32] = Sha256::new().chain_update(self.prefix).chain_update(key).finalize().into();
        let [a, b, c, d, e, f, g, h, ..] = digest;
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }

    /// Where the key falls in [0, 1), for explanations.
    pub(crate) fn position(&self, key: &[u8]) -> f64 {
        self.hash(key) as f64 / TWO_POW_64
    }
}

/// What decides whether a trace is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Key<'a> {
    /// The trace id as hex: no session id is known.
    TraceId(TraceId),
    /// A session id of this request.
    Session(&'a str),
    /// What the memory holds.
    Remembered(Arc<[u8]>),
}

impl Key<'_> {
    /// The bytes that are hashed. `hex` is room for a trace id's text.
    pub(crate) fn bytes<'b>(&'b self, hex: &'b mut [u8; 32]) -> &'b [u8] {
        match self {
            Key::TraceId(id) => {
                *hex = trace_id_hex(id);
                hex
            }
            Key::Session(session) => session.as_bytes(),
            Key::Remembered(bytes) => bytes,
        }
    }
}

fn trace_id_hex(id: &TraceId) -> [u8; 32] {
    const DIGITS: [u8; 16] = *b"0123456789abcdef";
    let mut hex = [0; 32];
    for (pair, byte) in hex.chunks_exact_mut(2).zip(id) {
        if let [high, low] = pair {
            *high = DIGITS[usize::from(byte >> 4)];
            *low = DIGITS[usize::from(byte & 15)];
        }
    }
    hex
}

/// The sampling keys of a request: each distinct key once, and which one each trace has.
#[derive(Debug)]
pub(crate) struct TraceKeys<'a> {
    keys: Vec<Key<'a>>,
    of_trace: Vec<u32>,
}

impl<'a> TraceKeys<'a> {
    pub(crate) fn new(traces: &'a Traces, index: &TraceIndex, recall: &mut Recall<'_>) -> TraceKeys<'a> {
        let sessions = first_sessions(traces, index);
        let used = recall.keys(index.ids(), &sessions);
        // Requests of one trace are the common case: no map for them.
        if used.len() <= 1 {
            return TraceKeys { of_trace: vec![0; used.len()], keys: used };
        }
        let mut keys: Vec<Key<'a>> = Vec::with_capacity(used.len());
        let mut of_trace = Vec::with_capacity(used.len());
        let mut known: HashMap<TextKey<'a>, u32> = HashMap::new();
        for key in used {
            let next = keys.len() as u32;
            let number = match TextKey::of(&key) {
                // Trace ids differ from each other already.
                None => next,
                Some(text) => *known.entry(text).or_insert(next),
            };
            if number == next {
                keys.push(key);
            }
            of_trace.push(number);
        }
        TraceKeys { keys, of_trace }
    }

    /// Per trace whether the destination keeps it; each distinct key is hashed once.
    pub(crate) fn kept(&self, sampling: &Sampling) -> Vec<bool> {
        let mut hex = [0; 32];
        let mut kept: Vec<bool> = self.keys.iter().map(|key| sampling.keeps(key.bytes(&mut hex))).collect();
        if self.keys.len() != self.of_trace.len() {
            kept = self.of_trace.iter().map(|&number| kept[number as usize]).collect();
        }
        kept
    }

    /// The key of a trace of the index.
    pub(crate) fn of_trace(&self, trace: u32) -> Option<&Key<'a>> {
        self.keys.get(*self.of_trace.get(trace as usize)? as usize)
    }
}

/// A session id wherever it came from, so that equal ones meet.
#[derive(Clone, Debug)]
enum TextKey<'a> {
    Borrowed(&'a [u8]),
    Shared(Arc<[u8]>),
}

impl<'a> TextKey<'a> {
    fn of(key: &Key<'a>) -> Option<TextKey<'a>> {
        match key {
            Key::TraceId(_) => None,
            Key::Session(session) => Some(TextKey::Borrowed(session.as_bytes())),
            Key::Remembered(bytes) => Some(TextKey::Shared(bytes.clone())),
        }
    }

    fn bytes(&self) -> &[u8] {
        match self {
            TextKey::Borrowed(bytes) => bytes,
            TextKey::Shared(bytes) => bytes,
        }
    }
}

impl PartialEq for TextKey<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.bytes() == other.bytes()
    }
}
impl Eq for TextKey<'_> {}
impl std::hash::Hash for TextKey<'_> {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.bytes().hash(state);
    }
}

/// Per trace the first session id in request order; an empty one is none.
fn first_sessions<'a>(traces: &'a Traces, index: &TraceIndex) -> Vec<Option<&'a str>> {
    let mut sessions = vec![None; index.ids().len()];
    let mut missing = sessions.len();
    for (i, span) in traces.spans().enumerate() {
        let session = &mut sessions[index.trace_of(i) as usize];
        if session.is_none() {
            *session = Generation::new(span).session_id().filter(|id| !id.is_empty());
            missing -= usize::from(session.is_some());
            if missing == 0 {
                break;
            }
        }
    }
    sessions
}
