//! The compiled decision per destination: switch, region, key, sampling, filter, privacy. Pure: no I/O, no clock.
//!
//! [`Plan::compile`] turns the destinations of one workspace into a [`Plan`]; [`Plan::decide`] says for
//! every span of a request and every destination whether it goes there or which rule stopped it. What a
//! request cannot say about itself (which sampling key its traces got earlier, what the filters said
//! about their generations) comes from a bounded [`TraceMemory`].
//!
//! # Order
//!
//! Workspace switch and `enabled`, region, API key allowlist: these speak about the request, so all its
//! spans are skipped together. Then per span sampling, filter rules, and what the destination's kind has
//! a place for. Each step only removes; a span is counted under the first step that removes it, so per
//! destination `selected + skipped = spans`.
//!
//! # Sampling
//!
//! ```text
//! u    = first 8 bytes, big endian, of SHA-256(destination id ‖ 0x00 ‖ key)
//! keep = u / 2^64 < sampling_rate
//! ```
//!
//! The *destination id* is its lower-case hyphenated text (36 bytes, as the API shows it). The *key* is
//! the session id as sent, or, for a trace without one, the trace id as 32 lower-case hex digits. The
//! comparison is exact (no rounding of `u`); rate 1 keeps everything and hashes nothing.
//!
//! A trace has one key: the remembered one, else the first session id in the request on a span of that
//! trace, else the trace id. So a session id that turns up on a later request of a trace, or a second one
//! on the same trace, does not re-key it, and no trace is torn while it is remembered. A session id longer
//! than [`MAX_KEY_BYTES`] is hashed as it is but not remembered.
//!
//! # Filter rules
//!
//! All groups must pass; inside a group `and` or `or`. Text compares case-sensitively. On a missing field
//! positive operators are false and `not_equals`, `not_contains`, `not_exists` true; an empty text counts
//! as missing for `exists` and `not_exists`. `model` means the requested or the response model, `provider`
//! the display name (for `equals` and `not_equals` also the slug): with two readings a positive operator
//! is true if either matches, a negative one only if neither does.
//!
//! A generation is judged on its own fields. Any other span follows the nearest generation it belongs to
//! in the request, up or down the parent links (at equal distance one that passes is enough); else the
//! verdict on its trace (it passes if any generation seen so far passed); else its own fields decide.
//! What was decided stays decided.

mod decide;
mod explain;
mod family;
mod fields;
mod filter;
mod kinds;
mod memory;
mod needs;
mod plan;
mod sampling;
mod snapshot;
mod trace_index;
mod trace_keys;
mod verdicts;

#[cfg(test)]
mod tests;

pub use decide::{Context, Decision, Selected, Skip};
pub use explain::{Check, Explanation};
pub use memory::{DEFAULT_MEMORY_BYTES, MEMORY_WINDOW_NANOS, TraceMemory};
pub use plan::{CompileError, Place, Plan};
pub use snapshot::{CanAssert, IngestKey, Snapshot};
pub use trace_index::TraceIndex;
pub use trace_keys::MAX_KEY_BYTES;
