//! The body of an answer as it is read: within a cap, and only as long as it keeps pace.

use bytes::{Bytes, BytesMut};
use tokio::time::Instant;

use super::pace::Pace;

#[derive(Debug)]
pub(crate) struct Body {
    bytes: BytesMut,
    cap: usize,
    pace: Pace,
}

impl Body {
    /// Empty; time runs from now.
    pub(crate) fn new(cap: usize) -> Body {
        Body { bytes: BytesMut::new(), cap, pace: Pace::new() }
    }

    /// When the next bytes must be there.
    pub(crate) fn deadline(&self) -> Instant {
        self.pace.deadline()
    }

    /// Takes what fits. True if nothing more does.
    pub(crate) fn push(&mut self, chunk: &[u8]) -> bool {
        let room = self.cap.saturating_sub(self.bytes.len());
        self.bytes.extend_from_slice(chunk.get(..room).unwrap_or(chunk));
        self.pace.came(chunk.len());
        self.bytes.len() >= self.cap
    }

    pub(crate) fn into_bytes(self) -> Bytes {
        self.bytes.freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
