//! Sets of span positions, as rules select them and the log stores them.

use crate::wire::{Reader, put_varint};

/// A set of span positions out of `len` spans. All-selected, none-selected and up to 64 spans cost
/// no allocation. Equal sets compare equal however they came about.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct SpanSet {
    len: u32,
    bits: Bits,
}

/// `All` is the only form of a full set (an empty universe is full), `None` the only form of an
/// empty one, `Few` the only form of another set with at most 64 positions.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Bits {
    All,
    None,
    Few(u64),
    Many(Box<[u64]>),
}

impl SpanSet {
    /// Every position.
    pub fn all(len: u32) -> SpanSet {
        SpanSet { len, bits: Bits::All }
    }

    /// No position.
    pub fn none(len: u32) -> SpanSet {
        SpanSet { len, bits: if len == 0 { Bits::All } else { Bits::None } }
    }

    /// These positions; those beyond `len` are left out.
    pub fn from_positions(len: u32, positions: impl IntoIterator<Item = u32>) -> SpanSet {
        let mut words = Words::zero(len);
        positions.into_iter().filter(|&i| i < len).for_each(|i| words.set(i));
        words.finish(len)
    }

    /// Size of the universe.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Positions in the set.
    pub fn count(&self) -> u32 {
        match &self.bits {
            Bits::All => self.len,
            Bits::None => 0,
            Bits::Few(word) => word.count_ones(),
            Bits::Many(words) => words.iter().map(|w| w.count_ones()).sum(),
        }
    }

    /// Every position is in the set.
    pub fn is_all(&self) -> bool {
        self.bits == Bits::All
    }

    /// No position is in the set.
    pub fn is_empty(&self) -> bool {
        self.len == 0 || self.bits == Bits::None
    }

    /// The position is in the set.
    #[inline]
    pub fn contains(&self, i: u32) -> bool {
        i < self.len
            && match &self.bits {
                Bits::All => true,
                Bits::None => false,
                Bits::Few(word) => word >> i & 1 == 1,
                Bits::Many(words) => words.get(i as usize / 64).is_some_and(|w| w >> (i % 64) & 1 == 1),
            }
    }

    /// Adds a position; one beyond `len` is left out.
    pub fn insert(&mut self, i: u32) {
        if i >= self.len || self.contains(i) {
            return;
        }
        if let Bits::Many(words) = &mut self.bits
            && let Some(word) = words.get_mut(i as usize / 64)
        {
            *word |= 1 << (i % 64);
            if self.count() == self.len {
                self.bits = Bits::All;
            }
            return;
        }
        let mut words = Words::of(self);
        words.set(i);
        *self = words.finish(self.len);
    }

    /// The positions in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        (0..self.words()).flat_map(|at| {
            let mut word = self.word(at);
            std::iter::from_fn(move || {
                let bit = (word != 0).then(|| word.trailing_zeros())?;
                word &= word - 1;
                Some(at * 64 + bit)
            })
        })
    }

    /// Positions that are in either set.
    pub fn union(&self, other: &SpanSet) -> SpanSet {
        self.combine(other, |a, b| a | b)
    }

    /// Positions that are in both sets.
    pub fn intersection(&self, other: &SpanSet) -> SpanSet {
        self.combine(other, |a, b| a & b)
    }

    /// Positions that are in this set and not in the other.
    pub fn difference(&self, other: &SpanSet) -> SpanSet {
        self.combine(other, |a, b| a & !b)
    }

    /// The same spans as positions within `kept` (what remains after only `kept` was written).
    /// Spans that were not kept are left out.
    pub fn within(&self, kept: &SpanSet) -> SpanSet {
        if kept.is_all() && kept.len == self.len {
            return self.clone();
        }
        let len = kept.count();
        if self == kept {
            return SpanSet::all(len);
        }
        let places = kept.iter().zip(0u32..).filter(|&(i, _)| self.contains(i));
        SpanSet::from_positions(len, places.map(|(_, place)| place))
    }

    /// Compact: varint len, then 0 = all / 1 = bitmap bytes (bit `i % 8` of byte `i / 8`).
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, u64::from(self.len));
        out.push(u8::from(!self.is_all()));
        if !self.is_all() {
            let bytes = (0..self.words()).flat_map(|at| self.word(at).to_le_bytes());
            out.extend(bytes.take(self.len.div_ceil(8) as usize));
        }
    }

    /// Returns the set and the bytes read; `None` if damaged.
    pub fn decode(bytes: &[u8]) -> Option<(SpanSet, usize)> {
        let mut reader = Reader::new(bytes);
        let len = u32::try_from(reader.varint().ok()?).ok()?;
        let at = reader.pos() + 1;
        match bytes.get(reader.pos())? {
            0 => Some((SpanSet::all(len), at)),
            1 => {
                let bitmap = bytes.get(at..)?.get(..len.div_ceil(8) as usize)?;
                let stray = len % 8 != 0 && bitmap.last().is_some_and(|last| last >> (len % 8) != 0);
                if stray {
                    return None;
                }
                let mut words = Words::zero(len);
                for (word, chunk) in words.0.iter_mut().zip(bitmap.chunks(8)) {
                    *word = chunk.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte));
                }
                Some((words.finish(len), at + bitmap.len()))
            }
            _ => None,
        }
    }

    fn words(&self) -> u32 {
        self.len.div_ceil(64)
    }

    fn word(&self, at: u32) -> u64 {
        match &self.bits {
            Bits::All => full_word(self.len, at),
            Bits::None => 0,
            Bits::Few(word) => *word * u64::from(at == 0),
            Bits::Many(words) => words.get(at as usize).copied().unwrap_or(0),
        }
    }

    /// Word by word; the universe is the larger one.
    fn combine(&self, other: &SpanSet, op: impl Fn(u64, u64) -> u64) -> SpanSet {
        let len = self.len.max(other.len);
        let mut words = Words::zero(len);
        for (word, at) in words.0.iter_mut().zip(0u32..) {
            *word = op(self.word(at), other.word(at));
        }
        words.finish(len)
    }
}

/// Bits of word `at` that belong to a universe of `len`.
fn full_word(len: u32, at: u32) -> u64 {
    match len.saturating_sub(at.saturating_mul(64)) {
        0 => 0,
        n @ 1..64 => (1 << n) - 1,
        _ => u64::MAX,
    }
}

/// A set being built.
struct Words(Inline);

/// Up to 64 positions without an allocation.
enum Inline {
    One([u64; 1]),
    Many(Box<[u64]>),
}

impl std::ops::Deref for Inline {
    type Target = [u64];
    fn deref(&self) -> &[u64] {
        match self {
            Inline::One(word) => word,
            Inline::Many(words) => words,
        }
    }
}

impl std::ops::DerefMut for Inline {
    fn deref_mut(&mut self) -> &mut [u64] {
        match self {
            Inline::One(word) => word,
            Inline::Many(words) => words,
        }
    }
}

impl Words {
    fn zero(len: u32) -> Words {
        match len.div_ceil(64) {
            0 | 1 => Words(Inline::One([0])),
            n => Words(Inline::Many(vec![0; n as usize].into())),
        }
    }

    fn of(set: &SpanSet) -> Words {
        let mut words = Words::zero(set.len);
        for (word, at) in words.0.iter_mut().zip(0u32..) {
            *word = set.word(at);
        }
        words
    }

    fn set(&mut self, i: u32) {
        if let Some(word) = self.0.get_mut(i as usize / 64) {
            *word |= 1 << (i % 64);
        }
    }

    fn finish(self, len: u32) -> SpanSet {
        let count: u32 = self.0.iter().map(|w| w.count_ones()).sum();
        let bits = match self.0 {
            _ if count == len => Bits::All,
            _ if count == 0 => Bits::None,
            Inline::One([word]) => Bits::Few(word),
            Inline::Many(words) => Bits::Many(words),
        };
        SpanSet { len, bits }
    }
}
