//! The body of an answer as it is read: within a cap, and only as long as it makes progress.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::time::Instant;

/// A receiver that answers more slowly than this, bytes per second, is cut off ...
const PROGRESS_BYTES_PER_S: f64 = 1024.0;
/// ... after so much patience at the start.
const GRACE: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(crate) struct Body {
    bytes: BytesMut,
    cap: usize,
    start: Instant,
}

impl Body {
    /// Empty; time runs from now.
    pub(crate) fn new(cap: usize) -> Body {
        Body { bytes: BytesMut::new(), cap, start: Instant::now() }
    }

    /// When the next bytes must be there: every byte that came buys the time it may take.
    pub(crate) fn deadline(&self) -> Instant {
        self.start + GRACE + Duration::from_secs_f64(self.bytes.len() as f64 / PROGRESS_BYTES_PER_S)
    }

    /// Takes what fits. True if nothing more does.
    pub(crate) fn push(&mut self, chunk: &[u8]) -> bool {
        let room = self.cap.saturating_sub(self.bytes.len());
        self.bytes.extend_from_slice(chunk.get(..room).unwrap_or(chunk));
        self.bytes.len() >= self.cap
    }

    pub(crate) fn into_bytes(self) -> Bytes {
        self.bytes.freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of `chunks` chunks, one every `pause`, come in time.
    fn in_time(chunks: u32, bytes: usize, pause: Duration) -> u32 {
        let mut body = Body::new(1 << 20);
        let start = body.start;
        for n in 0..chunks {
            if start + pause * (n + 1) > body.deadline() {
                return n;
            }
            body.push(&vec![0; bytes]);
        }
        chunks
    }

    #[test]
    fn less_than_a_kilobyte_a_second_is_cut_off() {
        assert_eq!(in_time(1_000, 1, Duration::from_secs(1)), 5);
        assert_eq!(in_time(1, 1, Duration::from_secs(6)), 0);
        assert!(in_time(1_000, 1_000, Duration::from_secs(1)) < 1_000);
        assert_eq!(in_time(1_000, 1_025, Duration::from_secs(1)), 1_000);
        assert_eq!(in_time(9, 10_240, Duration::from_secs(4)), 9);
    }

    #[test]
    fn nothing_beyond_the_cap_is_kept() {
        let mut body = Body::new(1_000);
        assert!(!body.push(&[1; 999]));
        assert!(body.push(&[2; 999]));
        assert!(body.push(&[3; 999]));
        let bytes = body.into_bytes();
        assert_eq!((bytes.len(), bytes[999]), (1_000, 2));
    }
}
