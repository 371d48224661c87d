//! Attribute keys that are asked for often: what can be known of them beforehand is.

/// Keys that mean the same, the preferred ones first.
#[derive(Clone, Copy, Debug)]
pub struct Keys {
    names: &'static [&'static str],
    /// The bits of all of them.
    bits: u128,
}

impl Keys {
    /// To be made once, as a constant.
    pub const fn new(names: &'static [&'static str]) -> Keys {
        let (mut bits, mut i) = (0, 0);
        while i < names.len() {
            bits |= key_bit(names[i].as_bytes());
            i += 1;
        }
        Keys { names, bits }
    }

    /// Their names.
    pub fn iter(&self) -> impl Iterator<Item = &'static str> + use<> {
        self.names.iter().copied()
    }

    /// None of them is among keys with these bits.
    #[inline]
    pub(crate) fn are_missing(&self, bits: u128) -> bool {
        self.bits & bits == 0
    }
}

/// One of 128 bits, by what tells keys apart: the length, the middle and the end, because keys begin alike.
#[inline]
pub(crate) const fn key_bit(key: &[u8]) -> u128 {
    let end = match key.last_chunk() {
        Some(end) => u32::from_le_bytes(*end),
        None => 0,
    };
    let middle = if key.is_empty() { 0 } else { key[key.len() / 2] };
    let mixed = end ^ (middle as u32) << 8 ^ (key.len() as u32) << 20;
    1 << (mixed.wrapping_mul(0x9e37_79b1) >> 25)
}
