//! Trace and span ids and their hex form.

use std::fmt;

/// A W3C trace id; never all zero in an indexed span.
pub type TraceId = [u8; 16];
/// A W3C span id; never all zero in an indexed span.
pub type SpanId = [u8; 8];

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// Lower-case hex text of some bytes.
pub fn hex(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() * 2);
    out.extend(bytes.iter().flat_map(|&byte| digits(byte).map(char::from)));
    out
}

/// Shows bytes as lower-case hex without allocating.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Hex<'a>(pub &'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.chunks(16) {
            let mut text = [0u8; 32];
            for (pair, &byte) in text.chunks_exact_mut(2).zip(chunk) {
                pair.copy_from_slice(&digits(byte));
            }
            let text = text.get(..chunk.len() * 2).unwrap_or_default();
            f.write_str(std::str::from_utf8(text).unwrap_or_default())?;
        }
        Ok(())
    }
}

impl fmt::Debug for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The two hex digits of a byte.
#[inline]
pub(crate) fn digits(byte: u8) -> [u8; 2] {
    [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]
}

/// Reads exactly `N` bytes of hex, either case.
pub fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let text = text.as_bytes();
    if text.len() != N * 2 {
        return None;
    }
    let mut id = [0u8; N];
    for (byte, pair) in id.iter_mut().zip(text.chunks_exact(2)) {
        for &digit in pair {
            *byte = *byte << 4 | char::from(digit).to_digit(16)? as u8;
        }
    }
    Some(id)
}
