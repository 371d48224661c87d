//! The caller's own keys where a vendor has one object for them and for what it reads itself.

use serde_json::{Map, Value as Json};
use tracecast_genai::Generation;

/// What stands before a caller's key that would be taken for another.
const PREFIX: &str = "metadata.";

/// `own`, and beside it the caller's metadata. A key that is one of `own` already, or of which `is_read` says that the
/// vendor reads something of its own there, is prefixed: neither value is lost, and none is taken for the other.
pub(crate) fn beside(
    mut own: Map<String, Json>,
    generation: &Generation<'_>,
    is_read: impl Fn(&str) -> bool,
) -> Map<String, Json> {
    for (key, value) in generation.metadata() {
        let held = own.get(&key);
        if held == Some(&value) {
            continue;
        }
        let key = if held.is_some() || is_read(&key) { format!("{PREFIX}{key}") } else { key };
        own.entry(key).or_insert(value);
    }
    own
}

/// The caller's own name of a key.
pub(crate) fn bare(key: &str) -> &str {
    key.strip_prefix(PREFIX).unwrap_or(key)
}
