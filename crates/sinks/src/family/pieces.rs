//! A request body in pieces: what is sent as it was received is referenced, not copied.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

/// Smaller pieces are copied next to each other: every piece is a buffer of its own to the kernel.
const COPY_BELOW: usize = 4 << 10;

/// The bytes of a body, in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pieces {
    pieces: Vec<Bytes>,
    len: usize,
}

impl Pieces {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.pieces.iter().map(|piece| &**piece)
    }

    /// In one piece; a copy unless there is only one.
    pub(crate) fn into_bytes(mut self) -> Bytes {
        if self.pieces.len() <= 1 {
            return self.pieces.pop().unwrap_or_default();
        }
        let mut all = Vec::with_capacity(self.len);
        self.iter().for_each(|piece| all.extend_from_slice(piece));
        all.into()
    }
}

impl<B: Into<Bytes>> From<B> for Pieces {
    fn from(bytes: B) -> Pieces {
        let bytes = bytes.into();
        Pieces { len: bytes.len(), pieces: if bytes.is_empty() { Vec::new() } else { vec![bytes] } }
    }
}

impl From<Pieces> for reqwest::Body {
    fn from(body: Pieces) -> reqwest::Body {
        match body.pieces.len() {
            0 | 1 => body.into_bytes().into(),
            _ => reqwest::Body::wrap(Sending { left: body.len as u64, pieces: body.pieces.into_iter() }),
        }
    }
}

/// Collects the pieces of a body.
#[derive(Debug, Default)]
pub(crate) struct Collector {
    done: Pieces,
    /// What is written or copied here, behind what is done.
    open: Vec<u8>,
}

impl Collector {
    /// Adds bytes that are there already.
    pub(crate) fn share(&mut self, bytes: &Bytes) {
        let is_first = self.open.is_empty() && self.done.pieces.is_empty();
        if bytes.len() < COPY_BELOW && !is_first {
            return self.open.extend_from_slice(bytes);
        }
        self.close();
        self.done.len += bytes.len();
        self.done.pieces.push(bytes.clone());
    }

    /// Where bytes are written that are made for this body.
    pub(crate) fn open(&mut self) -> &mut Vec<u8> {
        &mut self.open
    }

    pub(crate) fn finish(mut self) -> Pieces {
        self.close();
        self.done
    }

    fn close(&mut self) {
        if !self.open.is_empty() {
            self.done.len += self.open.len();
            self.done.pieces.push(std::mem::take(&mut self.open).into());
        }
    }
}

/// A body on its way out.
struct Sending {
    pieces: std::vec::IntoIter<Bytes>,
    left: u64,
}

impl http_body::Body for Sending {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = self.pieces.next();
        self.left -= next.as_ref().map_or(0, |piece| piece.len() as u64);
        Poll::Ready(next.map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_pieces_are_shared_and_small_ones_joined_in_order() {
        let (large, small) = (Bytes::from(vec![1; COPY_BELOW]), Bytes::from(vec![2; 10]));
        let mut collector = Collector::default();
        for bytes in [&small, &small, &large, &small] {
            collector.share(bytes);
        }
        collector.open().extend_from_slice(&[3; 5]);
        collector.share(&large);
        let pieces = collector.finish();
        let lens: Vec<usize> = pieces.iter().map(<[u8]>::len).collect();
        assert_eq!(lens, [10, 10, COPY_BELOW, 15, COPY_BELOW]);
        assert_eq!(pieces.pieces[2].as_ptr(), large.as_ptr());
        assert_eq!(pieces.pieces[4].as_ptr(), large.as_ptr());
        assert_eq!(pieces.len(), 35 + 2 * COPY_BELOW);
        let expected = [&small[..], &small, &large, &small, &[3; 5], &large].concat();
        assert_eq!(pieces.into_bytes(), expected);
    }

    #[test]
    fn one_piece_is_not_copied() {
        let bytes = Bytes::from(vec![7; 100]);
        let at = bytes.as_ptr();
        assert_eq!(Pieces::from(bytes).into_bytes().as_ptr(), at);
        assert_eq!(Pieces::from(Vec::new()).len(), 0);
    }
}
