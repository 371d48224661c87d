//! Checks a message against its table: everything a standard decoder may refuse.

use crate::plain::plain_pair;
use crate::schema::{KEY_VALUE, Kind, Message, Role, Shape, Spec};
use crate::wire::{Field, Fields, Flaw, Reader, Wire};

/// Message levels below the request that are ever accepted. The usual decoders stop at 100.
pub(crate) const MAX_DEPTH: u32 = 96;

/// Repeats of singular fields in one request: far more than concatenated messages have, and few
/// enough to be merged in little memory.
pub(crate) const MAX_REPEATS: u32 = 1 << 16;

/// What is wrong, and the field path below the message being checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) path: String,
    pub(crate) reason: String,
}

impl Fault {
    #[cold]
    pub(crate) fn new(reason: impl Into<String>) -> Box<Fault> {
        Box::new(Fault { path: String::new(), reason: reason.into() })
    }

    /// The same fault seen from one level further up.
    #[cold]
    pub(crate) fn under(mut self: Box<Self>, parent: &str) -> Box<Fault> {
        self.path = join(parent, &self.path);
        self
    }
}

impl From<Flaw> for Box<Fault> {
    #[cold]
    fn from(flaw: Flaw) -> Box<Fault> {
        Fault::new(flaw.text())
    }
}

pub(crate) fn join(parent: &str, child: &str) -> String {
    match (parent, child) {
        (p, "") => p.into(),
        ("", c) => c.into(),
        (p, c) => format!("{p}.{c}"),
    }
}

/// Walks messages of one buffer. The notes add up until the caller resets them.
#[derive(Debug)]
pub(crate) struct Checker<'a> {
    pub(crate) buf: &'a [u8],
    pub(crate) max_depth: u32,
    /// A singular field occurred twice, or a group occurred: a view may differ from a decoder.
    pub(crate) odd: bool,
    /// How often a singular field occurred again.
    pub(crate) repeats: u32,
    /// A field of unknown number occurred.
    pub(crate) unknown: bool,
}

impl<'a> Checker<'a> {
    pub(crate) fn new(buf: &'a [u8], depth: u32) -> Checker<'a> {
        Checker { buf, max_depth: depth.min(MAX_DEPTH), odd: false, repeats: 0, unknown: false }
    }

    /// Checks the message at `from..to`, which stands `level` messages below the request.
    pub(crate) fn message(
        &mut self,
        message: &'static Message,
        from: usize,
        to: usize,
        level: u32,
    ) -> Result<(), Box<Fault>> {
        if level > self.max_depth {
            return Err(Fault::new(format!("is nested deeper than {} messages", self.max_depth)));
        }
        let mut reader = Reader::at(self.buf, from, to);
        let mut seen = 0;
        while let Some(field) = reader.next()? {
            self.field(message, from, &field, level, &mut seen)?;
        }
        Ok(())
    }

    /// Checks one field of a message that starts at `from`; `seen` are the singular fields so far.
    #[inline]
    pub(crate) fn field(
        &mut self,
        message: &'static Message,
        from: usize,
        field: &Field,
        level: u32,
        seen: &mut u32,
    ) -> Result<(), Box<Fault>> {
        let Some(spec) = self.known(message, field, seen) else { return Ok(()) };
        let content = match spec.kind {
            _ if Wire::of(spec.kind) != field.wire => Err(wrong_wire(spec, field)),
            Kind::Str => self.utf8(field),
            Kind::TraceId => id_len(field, 16),
            Kind::SpanId => id_len(field, 8),
            Kind::Message(sub) if std::ptr::eq(sub, &KEY_VALUE) => self.key_value(field, level + 1).map(drop),
            Kind::Message(sub) => self.message(sub, field.from, field.to, level + 1),
            _ => Ok(()),
        };
        content.map_err(|fault| fault.under(&segment(self.buf, from, field, spec)))
    }

    /// The description of a field, with repetition and unknown numbers noted.
    #[inline]
    pub(crate) fn known(
        &mut self,
        message: &'static Message,
        field: &Field,
        seen: &mut u32,
    ) -> Option<&'static Spec> {
        let Some(spec) = message.field(field.number) else {
            self.unknown = true;
            self.odd |= field.wire == Wire::Group;
            return None;
        };
        let bit = match spec.shape {
            Shape::Many => 0,
            Shape::One => 1 << field.number,
            Shape::Choice => 1,
        };
        if *seen & bit != 0 {
            self.odd = true;
            self.repeats = self.repeats.saturating_add(1);
        }
        *seen |= bit;
        Some(spec)
    }

    /// Checks a `KeyValue` and gives the range of its key.
    #[inline]
    pub(crate) fn key_value(&mut self, outer: &Field, level: u32) -> Result<(usize, usize), Box<Fault>> {
        let pair = self.buf.get(outer.from..outer.to).unwrap_or_default();
        if let Some((at, key)) = plain_pair(pair, self.max_depth.saturating_sub(level)) {
            return Ok((outer.from + at, outer.from + at + key.len()));
        }
        self.message(&KEY_VALUE, outer.from, outer.to, level)?;
        let key = Fields(Reader::at(self.buf, outer.from, outer.to)).filter(|f| f.number == 1).last();
        Ok(key.map_or((0, 0), |key| (key.from, key.to)))
    }

    #[inline]
    pub(crate) fn utf8(&self, field: &Field) -> Result<(), Box<Fault>> {
        let text = self.buf.get(field.from..field.to).unwrap_or_default();
        if is_utf8(text) { Ok(()) } else { Err(not_utf8(text)) }
    }
}

/// A message that is neither structure nor free of doubt about who owns a mistake in it.
pub(crate) fn is_guarded(message: &Message) -> bool {
    matches!(message.role, Role::Span | Role::Context)
}

#[inline]
pub(crate) fn is_utf8(text: &[u8]) -> bool {
    // Most strings are short and ASCII. Without a way out in between the loop is a few vector instructions.
    (text.len() < 64 && text.iter().fold(0, |all, byte| all | byte) < 0x80)
        || simdutf8::basic::from_utf8(text).is_ok()
}

#[cold]
fn not_utf8(text: &[u8]) -> Box<Fault> {
    let valid = std::str::from_utf8(text).map_or_else(|e| e.valid_up_to(), str::len);
    Fault::new(format!("is not valid UTF-8 (at byte {valid} of {})", text.len()))
}

#[cold]
fn wrong_wire(spec: &Spec, field: &Field) -> Box<Fault> {
    Fault::new(format!("has wire type {}, expected {}", field.wire.name(), Wire::of(spec.kind).name()))
}

fn id_len(field: &Field, len: usize) -> Result<(), Box<Fault>> {
    match field.to - field.from {
        0 => Ok(()),
        n if n == len => Ok(()),
        n => Err(Fault::new(format!("has {n} bytes, must have {len}"))),
    }
}

/// `attributes[3]` or `status`: the field in the message that starts at `from`.
#[cold]
pub(crate) fn segment(buf: &[u8], from: usize, field: &Field, spec: &Spec) -> String {
    if spec.shape != Shape::Many {
        return spec.name.into();
    }
    let mut reader = Reader::at(buf, from, field.at);
    let mut position = 0;
    while let Ok(Some(earlier)) = reader.next() {
        position += usize::from(earlier.number == field.number);
    }
    format!("{}[{position}]", spec.name)
}
