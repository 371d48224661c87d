//! Gzip of request bodies: level 1, without name or time.
//!
//! A body is one ordinary member, also where its parts were compressed apart: a fragment is raw deflate that ends at
//! a byte (a sync flush) and refers to nothing before it, so fragments follow one another as they are, and their
//! checksums combine. Several members after one another would be shorter code, but some receivers read only the
//! first (RFC 1952, 2.2).

use std::cell::RefCell;
use std::io::Write;

use bytes::Bytes;
use flate2::write::GzEncoder;
use flate2::{Compress, Compression, Crc, FlushCompress};

use super::pieces::{Collector, Pieces};

const LEVEL: u32 = 1;
/// Deflate, no flags, no time, fastest, unknown system.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 4, 0xff];
/// A last block with nothing in it.
const END: [u8; 2] = [3, 0];

thread_local! {
    /// Made once a thread: its tables are large.
    static DEFLATE: RefCell<Compress> = RefCell::new(Compress::new(Compression::new(LEVEL), false));
}

/// One gzip member of the pieces joined: the same bytes for the same body.
pub(crate) fn compress<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::new(LEVEL));
    // Writing to a Vec cannot fail.
    pieces.into_iter().for_each(|piece| drop(encoder.write_all(piece)));
    encoder.finish().unwrap_or_default().into()
}

/// A part of a body, compressed apart from the others.
#[derive(Debug)]
pub(crate) struct Fragment {
    deflated: Bytes,
    crc: Crc,
}

impl Fragment {
    pub(crate) fn new(plain: &[u8]) -> Fragment {
        let mut crc = Crc::new();
        crc.update(plain);
        let deflated = DEFLATE.with_borrow_mut(|deflate| {
            deflate.reset();
            let mut out = Vec::with_capacity(plain.len() / 3 + 64);
            loop {
                let taken = usize::try_from(deflate.total_in()).unwrap_or(plain.len());
                let rest = plain.get(taken..).unwrap_or_default();
                // A raw stream is not refused anything: it only runs out of room.
                let _ = deflate.compress_vec(rest, &mut out, FlushCompress::Sync);
                if out.len() < out.capacity() {
                    break;
                }
                out.reserve(plain.len() / 6 + 64);
            }
            out.shrink_to_fit();
            out
        });
        Fragment { deflated: deflated.into(), crc }
    }
}

/// Puts fragments together to one member.
#[derive(Debug)]
pub(crate) struct Member {
    body: Collector,
    crc: Crc,
}

impl Member {
    pub(crate) fn new() -> Member {
        let mut body = Collector::default();
        body.open().extend_from_slice(&HEADER);
        Member { body, crc: Crc::new() }
    }

    pub(crate) fn add(&mut self, fragment: &Fragment) {
        self.body.share(&fragment.deflated);
        self.crc.combine(&fragment.crc);
    }

    /// Compresses what is there, if anything is, and leaves nothing of it.
    pub(crate) fn take(&mut self, plain: &mut Vec<u8>) {
        if !plain.is_empty() {
            self.add(&Fragment::new(plain));
            plain.clear();
        }
    }

    pub(crate) fn finish(mut self) -> Pieces {
        let end = self.body.open();
        end.extend_from_slice(&END);
        end.extend_from_slice(&self.crc.sum().to_le_bytes());
        // Modulo 2^32, as the format has it.
        end.extend_from_slice(&self.crc.amount().to_le_bytes());
        self.body.finish()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::GzDecoder;

    use super::*;

    /// What a reader of one member sees; it fails if anything follows.
    fn inflate(mut packed: &[u8]) -> Vec<u8> {
        let mut plain = Vec::new();
        let mut decoder = GzDecoder::new(&mut packed);
        decoder.read_to_end(&mut plain).expect("one intact member");
        drop(decoder);
        assert!(packed.is_empty(), "{} bytes follow the member", packed.len());
        plain
    }

    /// Text that compresses, and bytes that do not.
    fn samples() -> Vec<Vec<u8>> {
        let text = |n: usize| (0..n).flat_map(|i| format!("word {} of {n}, ", i * i).into_bytes()).collect();
        let noise = |n: u32| (0..n).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        vec![text(1000), noise(100_000), text(3), Vec::new(), noise(1), text(40_000)]
    }

    #[test]
    fn fragments_become_one_member() {
        let samples = samples();
        for from in 0..samples.len() {
            let mut member = Member::new();
            samples[from..].iter().for_each(|plain| member.add(&Fragment::new(plain)));
            assert_eq!(inflate(&member.finish().into_bytes()), samples[from..].concat());
        }
        assert_eq!(inflate(&Member::new().finish().into_bytes()), b"");
    }

    #[test]
    fn a_fragment_says_nothing_of_what_was_compressed_before() {
        let plain = &samples()[0];
        let first = Fragment::new(plain);
        Fragment::new(&samples()[1]);
        assert_eq!(Fragment::new(plain).deflated, first.deflated);
    }

    #[test]
    fn pieces_compress_as_if_they_were_one() {
        let samples = samples();
        let packed = compress(samples.iter().map(Vec::as_slice));
        assert_eq!(packed, compress([samples.concat().as_slice()]));
        assert_eq!(inflate(&packed), samples.concat());
    }
}
