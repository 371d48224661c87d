//! Encoding off the async workers, so that one destination's megabytes do not hold up the others.

use crate::Batch;

/// Smaller batches are encoded where they are: a change of thread would cost more.
const INLINE_BYTES_MAX: usize = 256 << 10;

/// Runs `encode` on the batch, on a blocking thread if it is large.
pub(crate) async fn encode<T: Send + 'static>(
    batch: &Batch,
    encode: impl FnOnce(&Batch) -> T + Send + 'static,
) -> T {
    let bytes: usize = batch.items.iter().map(|item| item.payload.bytes().len()).sum();
    if bytes <= INLINE_BYTES_MAX {
        return encode(batch);
    }
    // Payloads are shared, so this copies a list of references.
    let batch = batch.clone();
    match tokio::task::spawn_blocking(move || encode(&batch)).await {
        Ok(encoded) => encoded,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is going down and will drop this task too.
            Err(_) => std::future::pending().await,
        },
    }
}
