//! What a receiver has to know of an OTLP body to be held to account, in one pass that costs next to nothing: the id,
//! the end and a checksum of every span.
//!
//! It shares no code with the product's reader. What is unreadable is not judged here but at the receiver's count.

use std::collections::HashMap;

use tracecast_otlp::SpanId;

/// Spans that were taken, and how long they were on their way.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    spans: HashMap<SpanId, Taken>,
    /// From the end of each span to its arrival, microseconds, duplicates included.
    pub delays_us: Vec<u32>,
}

#[derive(Clone, Copy, Debug)]
struct Taken {
    checksum: u64,
    times: u32,
    /// Two copies of one span said different things.
    torn: bool,
}

/// A span as [`read`] finds it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Its id.
    pub id: SpanId,
    /// When it ended.
    pub end_unix_nano: u64,
    /// Over everything it says but its ids and times, its resource and scope included; the order of fields does not
    /// matter, because it carries no meaning.
    pub checksum: u64,
}

impl Tally {
    /// Takes note of a span that arrived at `now_unix_nano`; true if it is the first of its id.
    pub fn take(&mut self, span: Counted, now_unix_nano: u64) -> bool {
        let delay_us = now_unix_nano.saturating_sub(span.end_unix_nano) / 1000;
        self.delays_us.push(delay_us.min(u64::from(u32::MAX)) as u32);
        let checksum = span.checksum;
        let taken = self.spans.entry(span.id).or_insert(Taken { checksum, times: 0, torn: false });
        taken.times += 1;
        taken.torn |= taken.checksum != checksum;
        taken.times == 1
    }

    /// Distinct spans.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Nothing was taken.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// The checksum of a span; `None` if it did not arrive, `Some(None)` if its copies differ.
    pub fn checksum(&self, id: &SpanId) -> Option<Option<u64>> {
        self.spans.get(id).map(|taken| (!taken.torn).then_some(taken.checksum))
    }
}

/// The spans of an OTLP trace request, in order; `None` if the framing is wrong.
pub fn read(body: &[u8]) -> Option<Vec<Counted>> {
    let mut spans = Vec::new();
    for field in Fields(body) {
        let (1, Value::Bytes(resource_spans)) = field?.parts() else { continue };
        let mut resource = 0u64;
        let first = spans.len();
        for field in Fields(resource_spans) {
            let field = field?;
            let (2, Value::Bytes(scope_spans)) = field.parts() else {
                resource = resource.wrapping_add(sum(field.raw));
                continue;
            };
            let (mut scope, first) = (0u64, spans.len());
            for field in Fields(scope_spans) {
                let field = field?;
                match field.parts() {
                    (2, Value::Bytes(span)) => spans.push(counted(span)?),
                    _ => scope = scope.wrapping_add(sum(field.raw)),
                }
            }
            spans[first..].iter_mut().for_each(|span| span.checksum = span.checksum.wrapping_add(scope));
        }
        spans[first..].iter_mut().for_each(|span| span.checksum = span.checksum.wrapping_add(resource));
    }
    Some(spans)
}

fn counted(span: &[u8]) -> Option<Counted> {
    let mut counted = Counted::default();
    for field in Fields(span) {
        let field = field?;
        match field.parts() {
            (1 | 7, _) => {}
            (2, Value::Bytes(id)) => counted.id = id.try_into().ok()?,
            (8, Value::Fixed64(nanos)) => counted.end_unix_nano = nanos,
            _ => counted.checksum = counted.checksum.wrapping_add(sum(field.raw)),
        }
    }
    Some(counted)
}

fn sum(raw: &[u8]) -> u64 {
    // The length beside the CRC, and spread: two fields that swap bytes must not cancel out in the sum.
    let crc = u64::from(crc32c::crc32c(raw)) << 32 | raw.len() as u64;
    crc.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// The fields of a message.
struct Fields<'a>(&'a [u8]);

#[derive(Clone, Copy)]
struct Field<'a> {
    number: u64,
    value: Value<'a>,
    /// Tag and value.
    raw: &'a [u8],
}

#[derive(Clone, Copy)]
enum Value<'a> {
    Bytes(&'a [u8]),
    Fixed64(u64),
    Other,
}

impl<'a> Field<'a> {
    fn parts(self) -> (u64, Value<'a>) {
        (self.number, self.value)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Option<Field<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = field(self.0);
        self.0 = field.and_then(|field| self.0.get(field.raw.len()..)).unwrap_or_default();
        Some(field)
    }
}

fn field(bytes: &[u8]) -> Option<Field<'_>> {
    let (tag, mut at) = varint(bytes, 0)?;
    let value = match tag & 7 {
        0 => {
            at = varint(bytes, at)?.1;
            Value::Other
        }
        1 => {
            let value = bytes.get(at..at + 8)?;
            at += 8;
            Value::Fixed64(u64::from_le_bytes(value.try_into().ok()?))
        }
        2 => {
            let (len, start) = varint(bytes, at)?;
            at = start.checked_add(usize::try_from(len).ok()?)?;
            Value::Bytes(bytes.get(start..at)?)
        }
        5 => {
            at += 4;
            Value::Other
        }
        _ => return None,
    };
    Some(Field { number: tag >> 3, value, raw: bytes.get(..at)? })
}

fn varint(bytes: &[u8], mut at: usize) -> Option<(u64, usize)> {
    let (mut value, mut shift) = (0u64, 0);
    loop {
        let byte = *bytes.get(at)?;
        at += 1;
        value |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte < 0x80 {
            return Some((value, at));
        }
        shift += 7;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::{Template, span_id};

    #[test]
    fn ids_and_times_are_read_and_checksums_know_what_is_said_alone() {
        let template = Template::new(3, 4, 500);
        let one = read(&template.request(7, 100, 2_000_000_000)).unwrap();
        let two = read(&template.request(9, 200, 3_000_000_000)).unwrap();
        assert_eq!(one.len(), 4);
        for (i, (a, b)) in one.iter().zip(&two).enumerate() {
            assert_eq!((a.id, a.end_unix_nano), (span_id(7, 100 + i as u64), 2_000_000_000));
            assert_eq!((b.id, b.end_unix_nano), (span_id(9, 200 + i as u64), 3_000_000_000));
            assert_eq!(a.checksum, b.checksum);
        }
        assert_ne!(one[0].checksum, one[1].checksum);
    }

    #[test]
    fn one_changed_byte_changes_one_checksum() {
        let body = Template::new(3, 2, 500).request(7, 0, 2_000_000_000);
        let at = body.windows(4).position(|w| w == b"chat").unwrap();
        let mut changed = body.clone();
        changed[at] ^= 1;
        let (before, after) = (read(&body).unwrap(), read(&changed).unwrap());
        assert_ne!(before[0].checksum, after[0].checksum);
        assert_eq!(before[1].checksum, after[1].checksum);
    }

    #[test]
    fn a_cut_body_is_unreadable() {
        let body = Template::new(3, 2, 500).request(7, 0, 2_000_000_000);
        assert_eq!(read(&body[..body.len() - 1]), None);
    }

    #[test]
    fn copies_that_differ_have_no_checksum() {
        let mut tally = Tally::default();
        let span = Counted { id: [1; 8], end_unix_nano: 1000, checksum: 5 };
        assert!(tally.take(span, 4000));
        assert!(!tally.take(span, 5000));
        assert_eq!(tally.checksum(&[1; 8]), Some(Some(5)));
        tally.take(Counted { checksum: 6, ..span }, 6000);
        assert_eq!(tally.checksum(&[1; 8]), Some(None));
        assert_eq!(tally.checksum(&[2; 8]), None);
        assert_eq!(tally.delays_us, [3, 4, 5]);
        assert_eq!(tally.len(), 1);
    }
}
