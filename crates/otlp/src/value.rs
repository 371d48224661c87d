//! Borrowed attribute values and the iterators over them.

use crate::wire::{Field, Fields, Wire, find_bytes, split_len, split_pair};

/// A borrowed `AnyValue`.
#[derive(Clone, Debug)]
pub enum Value<'a> {
    /// No value is set.
    Empty,
    /// A string.
    Str(&'a str),
    /// A boolean.
    Bool(bool),
    /// A signed integer.
    Int(i64),
    /// A double; may be NaN or infinite.
    Double(f64),
    /// Bytes.
    Bytes(&'a [u8]),
    /// A list of values.
    Array(ArrayValue<'a>),
    /// A list of key-value pairs.
    Map(MapValue<'a>),
}

impl<'a> Value<'a> {
    /// The text of a string value.
    pub fn as_str(&self) -> Option<&'a str> {
        match self {
            Value::Str(s) => Some(s),
            _ => None,
        }
    }

    /// The integer, if it is one.
    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Value::Int(v) => Some(*v),
            _ => None,
        }
    }

    /// The number, integer or double.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Value::Int(v) => Some(*v as f64),
            Value::Double(v) => Some(*v),
            _ => None,
        }
    }

    /// The boolean, if it is one.
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Value::Bool(v) => Some(*v),
            _ => None,
        }
    }

    /// The value in a checked `KeyValue`; an absent value is empty.
    pub(crate) fn of_key_value(key_value: &'a [u8]) -> Value<'a> {
        match split_pair(key_value) {
            Some((_, _, value)) => Value::decode(value),
            None => Value::decode(find_bytes(key_value, 2)),
        }
    }

    /// Reads a checked `AnyValue`.
    pub(crate) fn decode(any_value: &'a [u8]) -> Value<'a> {
        if let [0x0a, rest @ ..] = any_value
            && let Some((string, [])) = split_len(rest)
        {
            return Value::Str(text(string));
        }
        for field in Fields::new(any_value) {
            let content = any_value.get(field.from..field.to).unwrap_or_default();
            return match field.number {
                1 => Value::Str(text(content)),
                2 => Value::Bool(field.value != 0),
                3 => Value::Int(field.value as i64),
                4 => Value::Double(f64::from_bits(field.value)),
                5 => Value::Array(ArrayValue { bytes: content }),
                6 => Value::Map(MapValue { bytes: content }),
                7 => Value::Bytes(content),
                _ => continue,
            };
        }
        Value::Empty
    }
}

/// Text that was checked when it was indexed.
#[inline]
pub(crate) fn text(bytes: &[u8]) -> &str {
    simdutf8::basic::from_utf8(bytes).unwrap_or_default()
}

/// Key-value pairs in wire order, duplicates included.
#[derive(Clone, Debug)]
pub struct Attributes<'a> {
    content: &'a [u8],
    fields: Fields<'a>,
    number: u32,
}

impl<'a> Attributes<'a> {
    /// The attributes in field `number` of a checked message.
    pub(crate) fn new(content: &'a [u8], number: u32) -> Attributes<'a> {
        Attributes { content, fields: Fields::new(content), number }
    }

    /// Like the iterator, but keys and values stay bytes until they are asked for: the way to look
    /// at many attributes and read few.
    pub fn raw(mut self) -> impl Iterator<Item = RawAttribute<'a>> {
        std::iter::from_fn(move || {
            let field = next_of(&mut self.fields, self.number)?;
            Some(RawAttribute { bytes: self.content.get(field.from..field.to).unwrap_or_default() })
        })
    }

    /// The last value of that key.
    pub fn find(self, key: &str) -> Option<Value<'a>> {
        self.raw().filter(|a| a.key_bytes() == key.as_bytes()).last().map(|a| a.value())
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = (&'a str, Value<'a>);
    fn next(&mut self) -> Option<Self::Item> {
        let field = next_of(&mut self.fields, self.number)?;
        let raw = RawAttribute { bytes: self.content.get(field.from..field.to).unwrap_or_default() };
        Some((raw.key(), raw.value()))
    }
}

/// An undecoded key-value pair.
#[derive(Clone, Copy)]
pub struct RawAttribute<'a> {
    bytes: &'a [u8],
}

impl<'a> RawAttribute<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> RawAttribute<'a> {
        RawAttribute { bytes }
    }
    /// The key's bytes (valid UTF-8).
    pub fn key_bytes(&self) -> &'a [u8] {
        split_pair(self.bytes).map_or_else(|| find_bytes(self.bytes, 1), |(_, key, _)| key)
    }
    /// The key.
    pub fn key(&self) -> &'a str {
        text(self.key_bytes())
    }
    /// The value, read now.
    pub fn value(&self) -> Value<'a> {
        Value::of_key_value(self.bytes)
    }
    /// Encoded bytes of key and value together.
    pub fn encoded_len(&self) -> usize {
        self.bytes.len()
    }
}

/// The next length-delimited field of that number.
#[inline]
pub(crate) fn next_of(fields: &mut Fields<'_>, number: u32) -> Option<Field> {
    fields.find(|f| f.number == number && f.wire == Wire::Len)
}

/// The values of an array.
#[derive(Clone, Debug)]
pub struct ArrayValue<'a> {
    bytes: &'a [u8],
}

impl<'a> ArrayValue<'a> {
    /// The values in order.
    pub fn iter(&self) -> ArrayIter<'a> {
        ArrayIter { content: self.bytes, fields: Fields::new(self.bytes) }
    }
}

/// Iterator over the values of an array.
#[derive(Clone, Debug)]
pub struct ArrayIter<'a> {
    content: &'a [u8],
    fields: Fields<'a>,
}

impl<'a> Iterator for ArrayIter<'a> {
    type Item = Value<'a>;
    fn next(&mut self) -> Option<Self::Item> {
        let field = next_of(&mut self.fields, 1)?;
        Some(Value::decode(self.content.get(field.from..field.to).unwrap_or_default()))
    }
}

/// A list of key-value pairs as a value.
#[derive(Clone, Debug)]
pub struct MapValue<'a> {
    bytes: &'a [u8],
}

impl<'a> MapValue<'a> {
    /// The pairs in wire order, duplicates included.
    pub fn iter(&self) -> Attributes<'a> {
        Attributes::new(self.bytes, 1)
    }
    /// The last value of that key.
    pub fn get(&self, key: &str) -> Option<Value<'a>> {
        self.iter().find(key)
    }
}
