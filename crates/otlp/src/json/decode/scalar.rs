//! Scalar members of OTLP/JSON: what text and numbers each kind of field takes.

use std::fmt;

use serde::de::{Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::State;
use crate::ids::from_hex;
use crate::json::text::base64_bytes;
use crate::schema::{Kind, Shape};
use crate::wire::{put_bytes, put_fixed32, put_fixed64, put_uint};

/// Writes a scalar field. The result says whether there was a value (`null` is none).
pub(super) struct ScalarVisitor<'s, 'l> {
    pub(super) state: &'s mut State<'l>,
    pub(super) number: u32,
    pub(super) kind: Kind,
    pub(super) shape: Shape,
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
