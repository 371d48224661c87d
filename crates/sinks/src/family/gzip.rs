//! Gzip of request bodies.

use std::io::Write;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;

/// Larger bodies are compressed on a blocking thread, so that one destination's megabytes do not
/// hold up the others on its worker.
const INLINE_BYTES_MAX: usize = 256 << 10;

/// One gzip member, level 1, without name or time: the same bytes for the same body.
pub(crate) fn compress(body: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 3 + 64), Compression::new(1));
    // Writing to a Vec cannot fail.
    let _ = encoder.write_all(body);
    encoder.finish().unwrap_or_default().into()
}

/// [`compress`] for bodies of any size.
pub(crate) async fn compress_any(body: Bytes) -> Bytes {
    if body.len() <= INLINE_BYTES_MAX {
        return compress(&body);
    }
    let copy = body.clone();
    match tokio::task::spawn_blocking(move || compress(&copy)).await {
        Ok(packed) => packed,
        // Only at shutdown of the runtime.
        Err(_) => compress(&body),
    }
}
