//! Ids of broadcast-contract.md 5.2: W3C ids verbatim, anything else hashed.

use serde_json::Value;
use sha2::{Digest, Sha256};
use tracecast_otlp::{SpanId, TraceId, hex};

/// Trace id of a caller's trace id or of a generation id: 32 hex digits as they are, else the first half of
/// SHA-256.
pub fn trace_id_of(raw: &str) -> TraceId {
    unhex(raw).unwrap_or_else(|| hashed(raw))
}

/// Span id of a generation id, a generation id with suffix or a caller's parent id: 16 hex digits as they
/// are, else the first quarter of SHA-256.
pub fn span_id_of(raw: &str) -> SpanId {
    unhex(raw).unwrap_or_else(|| hashed(raw))
}

/// A generation id for a record without one: the same content at the same time and place is the same id.
pub(super) fn derived(content: &Value, index: usize, receive_unix_nano: u64) -> String {
    let mut hash = Sha256::new();
    // Objects keep their keys sorted, so the text is canonical.
    hash.update(content.to_string());
    hash.update(receive_unix_nano.to_be_bytes());
    hash.update((index as u64).to_be_bytes());
    let digest = hash.finalize();
    let digits = hex(&digest);
    format!("gen-{}-{}", receive_unix_nano / 1_000_000_000, digits.get(..20).unwrap_or(&digits))
}

/// Exactly N bytes of hex, not all zero.
fn unhex<const N: usize>(raw: &str) -> Option<[u8; N]> {
    tracecast_otlp::from_hex(raw).filter(|id| *id != [0; N])
}

fn hashed<const N: usize>(raw: &str) -> [u8; N] {
    let digest = Sha256::digest(raw.as_bytes());
    let mut out = [0; N];
    out.iter_mut().zip(digest.iter()).for_each(|(to, from)| *to = *from);
    if out == [0; N]
        && let Some(last) = out.last_mut()
    {
        // All zero means "no id" to every receiver.
        *last = 1;
    }
    out
}
