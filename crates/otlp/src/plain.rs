//! The attributes every SDK writes, recognised at one glance. What is not recognised may be just as good: it is read
//! field by field.

use crate::check::is_utf8;
use crate::wire::{split_len, split_pair};

/// A span attribute of less than 128 bytes with a key, a plain value and nothing else.
pub(crate) struct Short {
    pub(crate) key_len: usize,
    /// All of it, from the tag on.
    pub(crate) len: usize,
}

/// Where the key of a [`Short`] starts: tag and length of the attribute, tag and length of the key come before.
pub(crate) const SHORT_KEY_AT: usize = 4;

/// The attribute that `rest` of a span starts with.
#[inline]
pub(crate) fn short_attribute(rest: &[u8]) -> Option<Short> {
    const TAGS: u32 = u32::from_le_bytes([0x4a, 0, 0x0a, 0]);
    // Both tags, and the high bits of both lengths.
    const MASK: u32 = u32::from_le_bytes([0xff, 0x80, 0xff, 0x80]);
    let head: &[u8; SHORT_KEY_AT] = rest.first_chunk()?;
    if u32::from_le_bytes(*head) & MASK != TAGS {
        return None;
    }
    let (len, key_len) = (usize::from(head[1]), usize::from(head[3]));
    let pair = rest.get(2..2 + len)?;
    let (key, value) = pair.get(2..)?.split_at_checked(key_len)?;
    let [0x12, value_len, value @ ..] = value else { return None };
    if usize::from(*value_len) != value.len() {
        return None;
    }
    let text = match value {
        // Tags and lengths are below 128 too: one look for key and value.
        [0x0a, text_len, text @ ..] if usize::from(*text_len) == text.len() => pair,
        [0x0a, ..] => return None,
        _ if is_plain(value) => key,
        _ => return None,
    };
    is_ascii(text).then_some(Short { key_len, len: 2 + len })
}

/// The key of a well-formed `KeyValue` with a plain value, and where it starts.
#[inline]
pub(crate) fn plain_pair(pair: &[u8], depth_left: u32) -> Option<(usize, &[u8])> {
    let (at, key, value) = split_pair(pair)?;
    let is_good = depth_left > 0 && is_utf8(key) && (is_plain(value) || is_plain_array(value, depth_left));
    is_good.then_some((at, key))
}

/// An `AnyValue` that holds one string, bool, number or nothing, and is well-formed for certain.
#[inline]
fn is_plain(value: &[u8]) -> bool {
    match value {
        [] | [0x10, 0..=1] | [0x18, 0..0x80] | [0x21, _, _, _, _, _, _, _, _] => true,
        [0x0a, rest @ ..] => {
            matches!(split_len(rest), Some((text, [])) if is_utf8(text))
        }
        [0x18, head @ .., 0..0x80] => head.len() < 9 && head.iter().all(|b| *b >= 0x80),
        _ => false,
    }
}

/// The same for an array of such values, which are two messages deeper.
fn is_plain_array(value: &[u8], depth_left: u32) -> bool {
    let [0x2a, rest @ ..] = value else { return false };
    let Some((mut items, [])) = split_len(rest) else { return false };
    while let [0x0a, rest @ ..] = items
        && let Some((item, rest)) = split_len(rest)
        && is_plain(item)
    {
        items = rest;
    }
    items.is_empty() && depth_left > 2
}

/// Looks at eight bytes at a time and has no way out in between.
#[inline]
fn is_ascii(text: &[u8]) -> bool {
    const HIGH_BITS: u64 = u64::from_ne_bytes([0x80; 8]);
    match text.last_chunk::<8>() {
        Some(last) => {
            let mut all = u64::from_ne_bytes(*last);
            for word in text.as_chunks::<8>().0 {
                all |= u64::from_ne_bytes(*word);
            }
            all & HIGH_BITS == 0
        }
        None => text.iter().fold(0, |all, byte| all | byte) < 0x80,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An attribute as the general writer of protobuf makes it.
    fn attribute(key: &str, value: &[u8]) -> Vec<u8> {
        let pair = [&[0x0a, key.len() as u8], key.as_bytes(), &[0x12, value.len() as u8], value].concat();
        [&[0x4a, pair.len() as u8][..], &pair].concat()
    }

    #[test]
    fn short_attributes_are_recognised_with_whatever_follows() {
        let text = |text: &str| [&[0x0a, text.len() as u8], text.as_bytes()].concat();
        let values = [
            text(""),
            text("x"),
            text("a longer text of some words"),
            vec![],
            vec![0x10, 1],
            vec![0x18, 5],
            vec![0x18, 0xff, 0x7f],
            [vec![0x21], 1.5f64.to_le_bytes().to_vec()].concat(),
        ];
        for value in values {
            for key in ["k", "gen_ai.request.model"] {
                let good = attribute(key, &value);
                let followed = [&good[..], &[0xff; 9]].concat();
                let short = short_attribute(&followed).unwrap();
                assert_eq!((short.key_len, short.len), (key.len(), good.len()), "{key} {value:?}");
                for cut in 0..good.len() {
                    assert!(short_attribute(&good[..cut]).is_none(), "{key} {value:?} cut at {cut}");
                }
            }
        }
    }

    #[test]
    fn what_may_be_bad_is_not_recognised() {
        let no = |bytes: &[u8]| assert!(short_attribute(bytes).is_none(), "{bytes:?}");
        no(&attribute("caf\u{e9}", &[0x10, 1]));
        no(&attribute("k", &[0x0a, 2, 0xc3, 0xa9]));
        no(&attribute("k", &[0x0a, 3, b'a', b'b']));
        no(&attribute("k", &[0x0a, 1, b'a', b'b']));
        no(&attribute("k", &[0x10, 2]));
        no(&attribute("k", &[0x18, 0x80]));
        no(&attribute("k", &[0x3a, 1, 7]));
        no(&[0x4a, 0]);
        no(&[0x4a, 3, 0x0a, 1, b'k']);
        no(&[0x4a, 7, 0x0a, 1, b'k', 0x12, 3, 0x10, 1]);
        // Two values.
        no(&[0x4a, 11, 0x0a, 1, b'k', 0x12, 2, 0x10, 1, 0x12, 2, 0x10, 0]);
    }

    #[test]
    fn arrays_of_plain_values_are_plain_down_to_their_depth() {
        let pair = |value: &[u8]| [&[0x0a, 1, b'k', 0x12, value.len() as u8][..], value].concat();
        let good = pair(&[0x2a, 8, 0x0a, 3, 0x0a, 1, b'x', 0x0a, 1 + 1, 0x18]);
        assert!(plain_pair(&good, 9).is_none(), "an int without its value");
        let good = pair(&[0x2a, 9, 0x0a, 3, 0x0a, 1, b'x', 0x0a, 2, 0x18, 7]);
        assert_eq!(plain_pair(&good, 3), Some((2, &b"k"[..])));
        assert_eq!(plain_pair(&good, 2), None);
        assert_eq!(plain_pair(&pair(&[0x2a, 0]), 3), Some((2, &b"k"[..])));
        for bad in [&[0x2a, 2, 0x12, 0][..], &[0x2a, 3, 0x0a, 1, 0xff], &[0x2a, 1, 0x0a]] {
            assert_eq!(plain_pair(&pair(bad), 9), None, "{bad:?}");
        }
        assert_eq!(plain_pair(&pair(&[0x10, 1]), 0), None);
    }
}
