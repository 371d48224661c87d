//! OTLP/JSON to protobuf in one pass: fields are written while they are read, driven by the tables.
//!
//! Mistakes in a span do not stop the parser: it notes the first, skips what is left of the span
//! and goes on. Only syntax errors, and structure that holds no spans where spans must be, end it.

use std::fmt;

use bytes::Bytes;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::surrogates;
use super::text::base64_bytes;
use crate::check::{Fault, MAX_DEPTH};
use crate::ids::from_hex;
use crate::index::{DecodeError, Limits, Rejected, span_path};
use crate::schema::{ANY_VALUE, Kind, Message, REQUEST, Role, Shape, Spec};
use crate::wire::{Fields, abandon, close, open, put_bytes, put_fixed32, put_fixed64, put_uint};

/// Containers serde_json enters are at most 128; beyond this many they are skipped without recursion.
const JSON_DEPTH: u32 = 120;

/// Transcodes OTLP/JSON to protobuf bytes. A single bad span is rejected with its path, the rest
/// goes on.
///
/// Keys in lowerCamelCase or snake_case, ids as hex of either case, 64-bit integers as strings or
/// numbers, enums as numbers or names, doubles as numbers or text (`NaN`, `Infinity`), bytes in
/// either base64 alphabet. `null` is absent, unknown keys are ignored, the last of equal keys wins.
/// The `limits` apply here, so that [`Traces::index`](crate::Traces::index) finds nothing to refuse.
pub fn decode(text: &[u8], limits: &Limits) -> Result<(Bytes, Vec<Rejected>), DecodeError> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    match transcode(text, limits) {
        // Escapes without a partner are a syntax error to the parser, but not worth a whole request.
        Err(error) if error.path.is_empty() => match surrogates::repair(text) {
            Some(repaired) => transcode(&repaired, limits),
            None => Err(error),
        },
        done => done,
    }
}

fn transcode(text: &[u8], limits: &Limits) -> Result<(Bytes, Vec<Rejected>), DecodeError> {
    let mut state = State {
        limits,
        out: Vec::with_capacity(text.len() / 2),
        rejected: Vec::new(),
        path: Vec::new(),
        fault: None,
        json_depth: 0,
        spans: 0,
        good: Vec::new(),
    };
    let mut json = serde_json::Deserializer::from_slice(text);
    let read = MessageSeed { state: &mut state, message: &REQUEST, level: 0 }.deserialize(&mut json);
    let read = read.and_then(|_| json.end());
    match (read, state.fault) {
        (Ok(()), None) => Ok((state.out.into(), state.rejected)),
        (Err(error), None) => Err(syntax(&error)),
        (Err(error), Some(_)) if !error.is_data() => Err(syntax(&error)),
        (_, Some(fault)) => Err(DecodeError { path: fault.path, reason: fault.reason }),
    }
}

fn syntax(error: &serde_json::Error) -> DecodeError {
    DecodeError { path: String::new(), reason: format!("is not valid JSON: {error}") }
}

struct State<'l> {
    limits: &'l Limits,
    out: Vec<u8>,
    rejected: Vec<Rejected>,
    /// Field names from the request to where the parser stands; list positions where they matter.
    path: Vec<(&'static str, Option<u32>)>,
    /// The first mistake in what is being read; what follows is skipped.
    fault: Option<Box<Fault>>,
    json_depth: u32,
    spans: u32,
    /// Positions (scope, span) of the good spans of the present `ResourceSpans`.
    good: Vec<(u32, u32)>,
}

impl State<'_> {
    #[cold]
    fn fail(&mut self, reason: impl Into<String>) {
        if self.fault.is_some() {
            return;
        }
        let mut path = String::new();
        for (name, position) in &self.path {
            if !path.is_empty() {
                path.push('.');
            }
            path.push_str(name);
            if let Some(position) = position {
                path.push_str(&format!("[{position}]"));
            }
        }
        self.fault = Some(Box::new(Fault { path, reason: reason.into() }));
    }

    /// List position at a depth of the path.
    fn position(&self, depth: usize) -> u32 {
        self.path.get(depth).and_then(|(_, position)| *position).unwrap_or(0)
    }

    fn max_level(&self) -> u32 {
        self.limits.depth.min(MAX_DEPTH)
    }

    /// Rejects the good spans from `first` on because of what they stand in.
    fn reject_good(&mut self, first: usize, what: &str, fault: &Fault) {
        let resource = self.position(0);
        for (scope, span) in self.good.split_off(first) {
            let reason = format!("its {what} is unusable: {} {}", fault.path, fault.reason);
            self.rejected.push(Rejected { path: span_path(resource, scope, span), reason });
        }
    }
}

/// Reads the content of a message. The result says whether there is one (`null` is none).
struct MessageSeed<'s, 'l> {
    state: &'s mut State<'l>,
    message: &'static Message,
    level: u32,
}

impl<'de> DeserializeSeed<'de> for MessageSeed<'_, '_> {
    type Value = bool;
    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<bool, D::Error> {
        if self.level > self.state.max_level() || self.state.json_depth >= JSON_DEPTH {
            let limit = self.state.max_level();
            self.state.fail(format!("is nested deeper than {limit} messages"));
            return json.deserialize_ignored_any(IgnoredAny).map(|_| false);
        }
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for MessageSeed<'_, '_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<bool, A::Error> {
        let MessageSeed { state, message, level } = self;
        state.json_depth += 1;
        let first_good = state.good.len();
        let mut written = Written::default();
        let mut bad = None;
        while let Some(key) = map.next_key_seed(KeySeed(message))? {
            let Some((number, spec)) = key.filter(|_| state.fault.is_none()) else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            state.path.push((spec.name, None));
            let start = state.out.len();
            let good_before = state.good.len();
            let present = map.next_value_seed(FieldSeed { state, number, spec, level })?;
            state.path.pop();
            if state.fault.is_some() && message.role == Role::Structure {
                if spec.shape == Shape::Many {
                    return Err(A::Error::custom("unusable structure"));
                }
                bad = bad.or(state.fault.take());
                state.out.truncate(start);
            } else if present && state.fault.is_none() {
                let replaced = written.add(number, spec.shape, start, &mut state.out);
                if replaced && spec.shape == Shape::Many && message.role == Role::Structure {
                    // Spans of the overridden list are gone.
                    state.good.drain(first_good..good_before);
                }
            }
        }
        state.json_depth -= 1;
        if let Some(fault) = bad {
            let what = if message.role == Role::Structure && level == 1 { "resource" } else { "scope" };
            state.reject_good(first_good, what, &fault);
            return Ok(false);
        }
        Ok(true)
    }

    fn visit_unit<E: Error>(self) -> Result<bool, E> {
        Ok(false)
    }
    fn visit_bool<E: Error>(self, _: bool) -> Result<bool, E> {
        self.wrong("a boolean")
    }
    fn visit_i64<E: Error>(self, _: i64) -> Result<bool, E> {
        self.wrong("a number")
    }
    fn visit_u64<E: Error>(self, _: u64) -> Result<bool, E> {
        self.wrong("a number")
    }
    fn visit_f64<E: Error>(self, _: f64) -> Result<bool, E> {
        self.wrong("a number")
    }
    fn visit_str<E: Error>(self, _: &str) -> Result<bool, E> {
        self.wrong("a string")
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<bool, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        self.wrong("an array")
    }
}

impl MessageSeed<'_, '_> {
    fn wrong<E>(self, found: &str) -> Result<bool, E> {
        self.state.fail(format!("is {found}, expected an object"));
        Ok(false)
    }
}

/// Where the fields of the present message were written, so that a repeated key can take its
/// predecessor out again.
#[derive(Default)]
struct Written {
    ranges: [(usize, usize); 17],
}

impl Written {
    /// Notes that a field was written from `start` to the end of `out`; true if it replaces one.
    fn add(&mut self, number: u32, shape: Shape, start: usize, out: &mut Vec<u8>) -> bool {
        let place = if shape == Shape::Choice { 0 } else { number as usize };
        let Some(&(old_from, old_to)) = self.ranges.get(place) else { return false };
        let (mut from, mut to) = (start, out.len());
        let gone = old_to - old_from;
        if gone > 0 {
            out.drain(old_from..old_to);
            (from, to) = (from - gone, to - gone);
            for range in &mut self.ranges {
                if range.0 > old_from {
                    *range = (range.0 - gone, range.1 - gone);
                }
            }
        }
        if let Some(range) = self.ranges.get_mut(place) {
            *range = (from, to);
        }
        gone > 0
    }
}

/// A key, looked up in the table while it is still borrowed.
struct KeySeed(&'static Message);

impl<'de> DeserializeSeed<'de> for KeySeed {
    type Value = Option<(u32, &'static Spec)>;
    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_str(self)
    }
}

impl Visitor<'_> for KeySeed {
    type Value = Option<(u32, &'static Spec)>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }
    fn visit_str<E: Error>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self.0.named(key))
    }
}

/// Reads the value of a field and writes it. The result says whether there is one.
struct FieldSeed<'s, 'l> {
    state: &'s mut State<'l>,
    number: u32,
    spec: &'static Spec,
    /// Level of the message the field is in.
    level: u32,
}

impl<'de> DeserializeSeed<'de> for FieldSeed<'_, '_> {
    type Value = bool;
    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<bool, D::Error> {
        if self.spec.shape == Shape::Many {
            return json.deserialize_any(self);
        }
        let FieldSeed { state, number, spec, level } = self;
        ElementSeed { state, number, spec, level }.deserialize(json)
    }
}

/// The list of a repeated field.
impl<'de> Visitor<'de> for FieldSeed<'_, '_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<bool, A::Error> {
        let FieldSeed { state, number, spec, level } = self;
        state.json_depth += 1;
        for position in 0.. {
            if let Some((_, place)) = state.path.last_mut() {
                *place = Some(position);
            }
            let element = ElementSeed { state, number, spec, level };
            if seq.next_element_seed(element)?.is_none() {
                break;
            }
            if state.fault.is_some() {
                if matches!(spec.kind, Kind::Message(m) if matches!(m.role, Role::Structure | Role::Span)) {
                    return Err(A::Error::custom("unusable structure"));
                }
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                break;
            }
        }
        if let Some((_, place)) = state.path.last_mut() {
            *place = None;
        }
        state.json_depth -= 1;
        Ok(true)
    }

    fn visit_unit<E: Error>(self) -> Result<bool, E> {
        Ok(false)
    }
    fn visit_bool<E: Error>(self, _: bool) -> Result<bool, E> {
        self.wrong("a boolean")
    }
    fn visit_i64<E: Error>(self, _: i64) -> Result<bool, E> {
        self.wrong("a number")
    }
    fn visit_u64<E: Error>(self, _: u64) -> Result<bool, E> {
        self.wrong("a number")
    }
    fn visit_f64<E: Error>(self, _: f64) -> Result<bool, E> {
        self.wrong("a number")
    }
    fn visit_str<E: Error>(self, _: &str) -> Result<bool, E> {
        self.wrong("a string")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<bool, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        self.wrong("an object")
    }
}

impl FieldSeed<'_, '_> {
    fn wrong<E>(self, found: &str) -> Result<bool, E> {
        self.state.fail(format!("is {found}, expected an array"));
        Ok(false)
    }
}

/// One value of a field: of a list, or the only one.
struct ElementSeed<'s, 'l> {
    state: &'s mut State<'l>,
    number: u32,
    spec: &'static Spec,
    level: u32,
}

impl<'de> DeserializeSeed<'de> for ElementSeed<'_, '_> {
    type Value = bool;
    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<bool, D::Error> {
        let ElementSeed { state, number, spec, level } = self;
        let message = match spec.kind {
            Kind::Message(message) => message,
            kind => return json.deserialize_any(ScalarVisitor { state, number, kind, shape: spec.shape }),
        };
        if message.role == Role::Span && state.spans >= state.limits.spans_per_request {
            let limit = state.limits.spans_per_request;
            state.fail(format!("the request has more than {limit} spans; send them in several requests"));
            return Err(D::Error::custom("too many spans"));
        }
        let field = open(&mut state.out, number, GUESS);
        let mut present = MessageSeed { state, message, level: level + 1 }.deserialize(json)?;
        if message.role == Role::Span && (present || state.fault.is_some()) {
            state.spans += 1;
            present = state.finish_span(field.content());
        }
        if message.role == Role::Structure && level == 0 {
            state.good.clear();
        }
        // An array keeps its places: null in it is an empty value.
        let kept_place = spec.shape == Shape::Many && std::ptr::eq(message, &ANY_VALUE);
        if present || kept_place {
            close(&mut state.out, field);
        } else {
            abandon(&mut state.out, field);
        }
        Ok(present)
    }
}

/// Guessed length of a message: one byte of prefix.
const GUESS: usize = 100;

impl State<'_> {
    /// Judges the span whose content starts at `from` and ends the output: kept (true) or rejected.
    fn finish_span(&mut self, from: usize) -> bool {
        if self.fault.is_none() {
            self.check_span(from);
        }
        match self.fault.take() {
            None => {
                self.good.push((self.position(1), self.position(2)));
                true
            }
            Some(fault) => {
                self.rejected.push(Rejected { path: fault.path, reason: fault.reason });
                false
            }
        }
    }

    fn check_span(&mut self, from: usize) {
        let span = self.out.get(from..).unwrap_or_default();
        let (mut trace_id, mut span_id, mut attributes) = (None, None, 0);
        for field in Fields::new(span) {
            let zero = span.get(field.from..field.to).unwrap_or_default().iter().all(|&b| b == 0);
            match field.number {
                1 => trace_id = Some(zero),
                2 => span_id = Some(zero),
                9 => attributes += 1,
                _ => {}
            }
        }
        let len = span.len();
        for (name, id) in [("traceId", trace_id), ("spanId", span_id)] {
            self.path.push((name, None));
            match id {
                Some(false) => {}
                Some(true) => self.fail("is all zero"),
                None => self.fail("is missing"),
            }
            self.path.pop();
        }
        if attributes > self.limits.attributes_per_span {
            self.path.push(("attributes", None));
            self.fail(format!("has more than {} attributes", self.limits.attributes_per_span));
            self.path.pop();
        }
        if len > self.limits.span_bytes as usize {
            self.fail(format!("has {len} bytes, the limit is {}", self.limits.span_bytes));
        }
    }
}

/// Writes a scalar field. The result says whether there was a value (`null` is none).
struct ScalarVisitor<'s, 'l> {
    state: &'s mut State<'l>,
    number: u32,
    kind: Kind,
    shape: Shape,
}

impl<'de> Visitor<'de> for ScalarVisitor<'_, '_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }
    fn visit_unit<E: Error>(self) -> Result<bool, E> {
        Ok(false)
    }
    fn visit_bool<E: Error>(self, value: bool) -> Result<bool, E> {
        match self.kind {
            Kind::Bool => self.put_uint(u64::from(value)),
            _ => self.wrong("a boolean"),
        }
        Ok(true)
    }
    fn visit_i64<E: Error>(self, value: i64) -> Result<bool, E> {
        self.number(value.into(), value as f64);
        Ok(true)
    }
    fn visit_u64<E: Error>(self, value: u64) -> Result<bool, E> {
        self.number(value.into(), value as f64);
        Ok(true)
    }
    fn visit_f64<E: Error>(self, value: f64) -> Result<bool, E> {
        match (self.kind, integral(value)) {
            (Kind::Double, _) => self.put_double(value),
            (_, Some(whole)) => self.number(whole, value),
            _ => self.wrong("not a whole number"),
        }
        Ok(true)
    }
    fn visit_str<E: Error>(self, text: &str) -> Result<bool, E> {
        self.text(text);
        Ok(true)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<bool, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        self.wrong("an array");
        Ok(true)
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<bool, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        self.wrong("an object");
        Ok(true)
    }
}

impl ScalarVisitor<'_, '_> {
    fn text(self, text: &str) {
        match self.kind {
            Kind::Str => self.put_bytes(text.as_bytes()),
            Kind::TraceId => self.id::<16>(text),
            Kind::SpanId => self.id::<8>(text),
            Kind::Bytes => match base64_bytes(text) {
                Some(bytes) => self.put_bytes(&bytes),
                None => self.state.fail("is not valid base64"),
            },
            Kind::Bool => match text {
                "true" => self.put_uint(1),
                "false" => self.put_uint(0),
                _ => self.wrong("a string"),
            },
            Kind::Double => match text {
                "NaN" => self.put_double(f64::NAN),
                "Infinity" => self.put_double(f64::INFINITY),
                "-Infinity" => self.put_double(f64::NEG_INFINITY),
                _ => match text.parse::<f64>() {
                    Ok(value) if value.is_finite() => self.put_double(value),
                    _ => self.wrong("a string that is no number"),
                },
            },
            Kind::Enum(names) => match names.iter().position(|&name| name == text) {
                Some(value) => self.put_uint(value as u64),
                None => self.digits(text),
            },
            _ => self.digits(text),
        }
    }

    fn digits(self, text: &str) {
        let whole = text.parse::<i128>().ok().or_else(|| integral(text.parse::<f64>().ok()?));
        match whole {
            Some(whole) => self.number(whole, whole as f64),
            None => self.wrong("a string that is no whole number"),
        }
    }

    fn number(self, whole: i128, double: f64) {
        match self.kind {
            Kind::Int32 | Kind::Enum(_) => match i32::try_from(whole) {
                Ok(value) => self.put_uint(i64::from(value) as u64),
                Err(_) => self.wrong("out of range"),
            },
            Kind::Int64 => match i64::try_from(whole) {
                Ok(value) => self.put_uint(value as u64),
                Err(_) => self.wrong("out of range"),
            },
            Kind::UInt32 | Kind::Fixed32 => match (u32::try_from(whole), self.kind) {
                (Ok(0), _) if self.shape == Shape::One => {}
                (Ok(value), Kind::Fixed32) => put_fixed32(&mut self.state.out, self.number, value),
                (Ok(value), _) => self.put_uint(value.into()),
                (Err(_), _) => self.wrong("out of range"),
            },
            Kind::Fixed64 => match u64::try_from(whole) {
                Ok(0) if self.shape == Shape::One => {}
                Ok(value) => put_fixed64(&mut self.state.out, self.number, value),
                Err(_) => self.wrong("out of range"),
            },
            Kind::Double => self.put_double(double),
            _ => self.wrong("a number"),
        }
    }

    fn id<const N: usize>(self, text: &str) {
        match from_hex::<N>(text) {
            Some(id) => self.put_bytes(&id),
            None if text.is_empty() => {}
            None => self.state.fail(format!(
                "must be {} hex digits, has {} characters (OTLP/JSON ids are hex, not base64)",
                N * 2,
                text.chars().count()
            )),
        }
    }

    /// A plain field is not written when it holds its default; in a oneof or a list it is.
    fn put_bytes(self, bytes: &[u8]) {
        if !(bytes.is_empty() && self.shape == Shape::One) {
            put_bytes(&mut self.state.out, self.number, bytes);
        }
    }
    fn put_uint(self, value: u64) {
        if !(value == 0 && self.shape == Shape::One) {
            put_uint(&mut self.state.out, self.number, value);
        }
    }
    fn put_double(self, value: f64) {
        put_fixed64(&mut self.state.out, self.number, value.to_bits());
    }

    #[cold]
    fn wrong(self, found: &str) {
        let expected = match self.kind {
            Kind::Str => "a string",
            Kind::Bytes => "base64 text",
            Kind::TraceId => "32 hex digits",
            Kind::SpanId => "16 hex digits",
            Kind::Bool => "true or false",
            Kind::Double => "a number, NaN, Infinity or -Infinity",
            Kind::Enum(_) => "an enum number or name",
            Kind::Fixed64 => "an integer from 0 to 2^64-1",
            Kind::Int64 => "an integer of 64 bits",
            _ => "an integer of 32 bits",
        };
        self.state.fail(format!("is {found}, expected {expected}"));
    }
}

/// The whole number a double stands for.
fn integral(value: f64) -> Option<i128> {
    (value.fract() == 0.0 && value.abs() <= 2f64.powi(64)).then_some(value as i128)
}
