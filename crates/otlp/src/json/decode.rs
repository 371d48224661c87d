//! OTLP/JSON to protobuf in one pass: fields are written while they are read, driven by the tables.
//!
//! Mistakes in a span do not stop the parser: it notes the first, skips what is left of the span
//! and goes on. Only syntax errors, and structure that holds no spans where spans must be, end it.

mod scalar;

use std::fmt;

use bytes::Bytes;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use self::scalar::ScalarVisitor;
use super::surrogates;
use crate::check::{Fault, MAX_DEPTH};
use crate::index::{DecodeError, Limits, Rejected, span_path};
use crate::schema::{ANY_VALUE, Kind, Message, REQUEST, Role, Shape, Spec};
use crate::wire::{Fields, abandon, close, open};

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
        bounded: None,
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
    /// Start in the output, and path length, of the span, resource or scope being read.
    bounded: Option<(usize, usize)>,
    /// Positions (scope, span) of the good spans of the present `ResourceSpans`.
    good: Vec<(u32, u32)>,
}

impl State<'_> {
    #[cold]
    fn fail(&mut self, reason: impl Into<String>) {
        self.fail_at(self.path.len(), reason);
    }

    /// The first mistake stays.
    fn fail_at(&mut self, depth: usize, reason: impl Into<String>) {
        if self.fault.is_some() {
            return;
        }
        let mut path = String::new();
        for (name, position) in self.path.iter().take(depth) {
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

    /// Holds a span (or what is sent with each) to its limit while it grows: every message that is
    /// closed may move what is in it.
    fn check_len(&mut self) {
        let limit = self.limits.span_bytes as usize;
        match self.bounded {
            Some((from, depth)) if self.out.len() - from > limit => {
                self.fail_at(depth, format!("has more than {limit} bytes"));
            }
            _ => {}
        }
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
        let bounded = matches!(message.role, Role::Span | Role::Context);
        if bounded {
            state.bounded = Some((field.content(), state.path.len()));
        }
        let mut present = MessageSeed { state, message, level: level + 1 }.deserialize(json)?;
        state.check_len();
        if bounded {
            state.bounded = None;
        }
        if message.role == Role::Span && (present || state.fault.is_some()) {
            state.spans += 1;
            present = state.finish_span(field.content());
        }
        if message.role == Role::Structure && level == 0 {
            state.good.clear();
        }
        if state.fault.is_some() {
            // Whoever the mistake costs takes back all that was written.
            return Ok(false);
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
    }
}
