//! Requests to test with: valid structs, and wire bytes with every kind of oddity.

use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, EntityRef, InstrumentationScope, KeyValue, KeyValueList, any_value,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status, span};
use proptest::prelude::*;

use super::oracle::Request;
use crate::schema::{Kind, Message, Shape};
use crate::wire::{Wire, put_bytes, put_fixed32, put_fixed64, put_uint, put_varint};

/// A small generator: cheap in debug builds, reproducible from proptest's seed.
pub(super) struct Rng(u64);

impl Rng {
    pub(super) fn new(seed: u64) -> Rng {
        Rng(seed | 1)
    }
    pub(super) fn next(&mut self) -> u64 {
        // splitmix64
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    pub(super) fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
    pub(super) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
    pub(super) fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }
    fn list<T>(&mut self, max: usize, mut make: impl FnMut(&mut Rng) -> T) -> Vec<T> {
        (0..self.below(max + 1)).map(|_| make(self)).collect()
    }
    fn number(&mut self) -> u64 {
        let bits = self.below(65);
        if bits == 0 { 0 } else { self.next() >> (64 - bits) }
    }
    pub(super) fn text(&mut self) -> String {
        const PIECES: [&str; 12] = [
            "",
            "a",
            "gen_ai.",
            "prompt",
            "\u{e4}",
            "\u{1f600}",
            "\"",
            "\\",
            "\n",
            "\u{1}",
            " x/y ",
            "0123456789abcdef",
        ];
        let mut text: String = (0..self.below(5)).map(|_| PIECES[self.below(PIECES.len())]).collect();
        if self.one_in(40) {
            text = text.repeat(60);
        }
        text
    }
    fn id(&mut self, len: usize) -> Vec<u8> {
        let mut id = self.bytes(len);
        id[0] |= 1;
        id
    }
}

/// Valid requests.
pub(super) fn requests() -> impl Strategy<Value = Request> {
    any::<u64>().prop_map(|seed| request(&mut Rng::new(seed)))
}

pub(super) fn request(rng: &mut Rng) -> Request {
    Request {
        resource_spans: rng.list(3, |rng| ResourceSpans {
            resource: (!rng.one_in(5)).then(|| Resource {
                attributes: rng.list(3, key_value),
                dropped_attributes_count: rng.below(3) as u32,
                entity_refs: rng.list(1, |rng| EntityRef {
                    schema_url: "https://x".into(),
                    r#type: "service".into(),
                    id_keys: rng.list(2, Rng::text),
                    description_keys: rng.list(2, Rng::text),
                }),
            }),
            scope_spans: rng.list(3, |rng| ScopeSpans {
                scope: (!rng.one_in(5)).then(|| InstrumentationScope {
                    name: rng.text(),
                    version: rng.text(),
                    attributes: rng.list(2, key_value),
                    dropped_attributes_count: rng.below(3) as u32,
                }),
                spans: rng.list(4, span),
                schema_url: rng.text(),
            }),
            schema_url: rng.text(),
        }),
    }
}

fn span(rng: &mut Rng) -> Span {
    Span {
        trace_id: rng.id(16),
        span_id: rng.id(8),
        trace_state: rng.text(),
        parent_span_id: if rng.one_in(2) { rng.id(8) } else { Vec::new() },
        flags: rng.number() as u32,
        name: rng.text(),
        kind: rng.below(6) as i32,
        start_time_unix_nano: rng.number(),
        end_time_unix_nano: rng.number(),
        attributes: rng.list(6, key_value),
        dropped_attributes_count: rng.number() as u32,
        events: rng.list(2, |rng| span::Event {
            time_unix_nano: rng.number(),
            name: rng.text(),
            attributes: rng.list(3, key_value),
            dropped_attributes_count: rng.below(3) as u32,
        }),
        dropped_events_count: rng.number() as u32,
        links: rng.list(2, |rng| span::Link {
            trace_id: if rng.one_in(4) { Vec::new() } else { rng.id(16) },
            span_id: if rng.one_in(4) { vec![0; 8] } else { rng.id(8) },
            trace_state: rng.text(),
            attributes: rng.list(2, key_value),
            dropped_attributes_count: rng.below(3) as u32,
            flags: rng.number() as u32,
        }),
        dropped_links_count: rng.number() as u32,
        status: (!rng.one_in(3)).then(|| Status { message: rng.text(), code: rng.below(3) as i32 }),
    }
}

fn key_value(rng: &mut Rng) -> KeyValue {
    nested_key_value(rng, 3)
}

fn nested_key_value(rng: &mut Rng, depth: usize) -> KeyValue {
    let key = if rng.one_in(3) { format!("k{}", rng.below(4)) } else { rng.text() };
    KeyValue { key, value: Some(any_value(rng, depth)), key_strindex: 0 }
}

fn any_value(rng: &mut Rng, depth: usize) -> AnyValue {
    use any_value::Value as Any;
    let value = match rng.below(if depth == 0 { 8 } else { 11 }) {
        0 => None,
        1 => Some(Any::BoolValue(rng.one_in(2))),
        2 => Some(Any::IntValue(rng.number() as i64)),
        3 => Some(Any::DoubleValue(finite(rng))),
        4 => {
            let len = rng.below(7);
            Some(Any::BytesValue(rng.bytes(len)))
        }
        5..8 => Some(Any::StringValue(rng.text())),
        8 | 9 => Some(Any::ArrayValue(ArrayValue { values: rng.list(3, |rng| any_value(rng, depth - 1)) })),
        _ => Some(Any::KvlistValue(KeyValueList {
            values: rng.list(3, |rng| nested_key_value(rng, depth - 1)),
        })),
    };
    AnyValue { value }
}

fn finite(rng: &mut Rng) -> f64 {
    let value = f64::from_bits(rng.next());
    if value.is_finite() { value } else { 0.5 }
}

/// Wire bytes of a message with fields in any order, repeated singular fields, unknown fields and
/// groups, and, `bad_in` being how rare, things a decoder refuses.
pub(super) fn soup(message: &'static Message, rng: &mut Rng, level: usize, bad_in: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let is_span = std::ptr::eq(message, &crate::schema::SPAN);
    if is_span && !rng.one_in(bad_in) {
        put_bytes(&mut out, 1, &rng.id(16));
        put_bytes(&mut out, 2, &rng.id(8));
    }
    let fields = rng.below(if level > 7 { 2 } else { 6 });
    for _ in 0..fields {
        let number = 1 + rng.below(message.fields.len()) as u32;
        let known = message.field(number);
        if known.is_none() || rng.one_in(12) {
            unknown(rng, &mut out);
            continue;
        }
        let spec = known.unwrap();
        if spec.shape == Shape::One && is_span && number < 3 && !rng.one_in(6) {
            continue;
        }
        if rng.one_in(bad_in) {
            broken(number, rng, &mut out);
            continue;
        }
        match spec.kind {
            Kind::Message(sub) => {
                let content = soup(sub, rng, level + 1, bad_in);
                put_bytes(&mut out, number, &content);
            }
            Kind::Str => put_bytes(&mut out, number, rng.text().as_bytes()),
            Kind::Bytes => put_bytes(&mut out, number, b"\xff\x00"),
            Kind::TraceId => put_bytes(&mut out, number, &rng.id(16)),
            Kind::SpanId => {
                let own = is_span && number == 2;
                let id = if rng.one_in(4) && !own { vec![0; 8] } else { rng.id(8) };
                put_bytes(&mut out, number, &id);
            }
            kind => match Wire::of(kind) {
                Wire::Fixed64 => put_fixed64(&mut out, number, rng.number()),
                Wire::Fixed32 => put_fixed32(&mut out, number, rng.number() as u32),
                _ => put_uint(&mut out, number, rng.number()),
            },
        }
    }
    out
}

fn unknown(rng: &mut Rng, out: &mut Vec<u8>) {
    let number = 17 + rng.below(40) as u32;
    match rng.below(5) {
        0 => put_uint(out, number, rng.number()),
        1 => put_fixed64(out, number, rng.next()),
        2 => put_fixed32(out, number, rng.next() as u32),
        3 => put_bytes(out, number, b"\xffopaque"),
        _ => {
            put_varint(out, u64::from(number << 3 | 3));
            put_uint(out, 1, rng.number());
            if rng.one_in(3) {
                unknown(rng, out);
            }
            put_varint(out, u64::from(number << 3 | 4));
        }
    }
}

fn broken(number: u32, rng: &mut Rng, out: &mut Vec<u8>) {
    match rng.below(7) {
        0 => put_uint(out, number, 1),
        1 => put_fixed32(out, number, 1),
        2 => put_bytes(out, number, b"\xff\xfe"),
        3 => {
            put_varint(out, u64::from(number << 3 | 2));
            put_varint(out, 1000);
        }
        4 => {
            put_varint(out, u64::from(number << 3));
            out.extend([0xff; 10]);
        }
        5 => put_varint(out, u64::from(number << 3 | 4)),
        _ => put_bytes(out, number, &[7; 9]),
    }
}
