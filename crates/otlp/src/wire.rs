//! Protobuf wire format: a checked field reader and the few writing primitives.

use crate::schema::Kind;

/// Nested groups are skipped by recursion, down to this many.
const GROUP_DEPTH: u32 = 32;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire {
    Varint,
    Fixed64,
    Len,
    Group,
    Fixed32,
}

impl Wire {
    /// The wire type a field of this kind must have.
    #[inline]
    pub(crate) fn of(kind: Kind) -> Wire {
        match kind {
            Kind::Str | Kind::Bytes | Kind::TraceId | Kind::SpanId | Kind::Message(_) => Wire::Len,
            Kind::Fixed64 | Kind::Double => Wire::Fixed64,
            Kind::Fixed32 => Wire::Fixed32,
            Kind::Bool | Kind::Int32 | Kind::UInt32 | Kind::Int64 | Kind::Enum(_) | Kind::Reserved => {
                Wire::Varint
            }
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Wire::Varint => "varint",
            Wire::Fixed64 => "fixed64",
            Wire::Len => "length-delimited",
            Wire::Group => "group",
            Wire::Fixed32 => "fixed32",
        }
    }
}

/// What is wrong with the framing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    Truncated,
    Varint,
    Tag,
    WireType,
    Group,
    GroupDepth,
}

impl Flaw {
    pub(crate) fn text(self) -> &'static str {
        match self {
            Flaw::Truncated => "a field reaches beyond the end of its message (truncated or wrong length)",
            Flaw::Varint => "a varint is longer than 10 bytes, over 64 bits or cut off",
            Flaw::Tag => "a field tag is invalid (number 0 or over 32 bits)",
            Flaw::WireType => "wire type 6 or 7 does not exist",
            Flaw::Group => "a group is not closed by its own end tag",
            Flaw::GroupDepth => "groups are nested too deep",
        }
    }
}

/// One field as it stands in the buffer. Positions are absolute.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Field {
    pub(crate) number: u32,
    pub(crate) wire: Wire,
    /// Where the tag starts.
    pub(crate) at: usize,
    /// The content: without tag and length prefix.
    pub(crate) from: usize,
    pub(crate) to: usize,
    /// Varint and fixed values; 0 otherwise.
    pub(crate) value: u64,
}

/// Reads the fields of one message out of a buffer that may hold more. Never reads beyond the message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    buf: &'a [u8],
    pos: usize,
}

impl<'a> Reader<'a> {
    #[inline]
    pub(crate) fn new(buf: &'a [u8]) -> Reader<'a> {
        Reader { buf, pos: 0 }
    }

    /// The message at `from..to` of `buf`; empty if the range is not within it.
    #[inline]
    pub(crate) fn at(buf: &'a [u8], from: usize, to: usize) -> Reader<'a> {
        Reader { buf: buf.get(..to).unwrap_or_default(), pos: from }
    }

    #[inline]
    pub(crate) fn pos(&self) -> usize {
        self.pos
    }

    /// What was not read yet.
    #[inline]
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.buf.get(self.pos..).unwrap_or_default()
    }

    /// Passes over bytes of [`Reader::rest`].
    #[inline]
    pub(crate) fn skip(&mut self, bytes: usize) {
        self.pos += bytes;
    }

    /// The next field; `None` at the end of the message. After an error the reader must not be used on.
    #[inline(always)]
    pub(crate) fn next(&mut self) -> Result<Option<Field>, Flaw> {
        if self.pos >= self.buf.len() {
            return Ok(None);
        }
        let at = self.pos;
        let tag = self.tag()?;
        let number = tag >> 3;
        let (wire, from, value) = match tag & 7 {
            0 => {
                let from = self.pos;
                (Wire::Varint, from, self.varint()?)
            }
            1 => {
                let from = self.pos;
                (Wire::Fixed64, from, u64::from_le_bytes(*self.take::<8>()?))
            }
            2 => {
                let len = self.length()?;
                let from = self.pos;
                if len > self.buf.len() - from {
                    return Err(Flaw::Truncated);
                }
                self.pos = from + len;
                (Wire::Len, from, 0)
            }
            3 => {
                let from = self.pos;
                self.skip_group(number, GROUP_DEPTH)?;
                (Wire::Group, from, 0)
            }
            4 => return Err(Flaw::Group),
            5 => {
                let from = self.pos;
                (Wire::Fixed32, from, u64::from(u32::from_le_bytes(*self.take::<4>()?)))
            }
            _ => return Err(Flaw::WireType),
        };
        Ok(Some(Field { number, wire, at, from, to: self.pos, value }))
    }

    #[inline]
    fn byte(&mut self) -> Result<u8, Flaw> {
        let byte = *self.buf.get(self.pos).ok_or(Flaw::Varint)?;
        self.pos += 1;
        Ok(byte)
    }

    #[inline]
    fn take<const N: usize>(&mut self) -> Result<&'a [u8; N], Flaw> {
        let bytes = self.buf.get(self.pos..).and_then(<[u8]>::first_chunk).ok_or(Flaw::Truncated)?;
        self.pos += N;
        Ok(bytes)
    }

    /// Tags and lengths have at most 5 bytes: some decoders read no further.
    #[inline]
    fn short_varint(&mut self, flaw: Flaw) -> Result<u32, Flaw> {
        let first = self.byte()?;
        if first < 0x80 {
            return Ok(u32::from(first));
        }
        let mut value = u64::from(first & 0x7f);
        for shift in [7, 14, 21, 28] {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return u32::try_from(value).map_err(|_| flaw);
            }
        }
        Err(flaw)
    }

    #[inline]
    fn tag(&mut self) -> Result<u32, Flaw> {
        let tag = self.short_varint(Flaw::Tag)?;
        if tag >> 3 == 0 { Err(Flaw::Tag) } else { Ok(tag) }
    }

    #[inline]
    fn length(&mut self) -> Result<usize, Flaw> {
        self.short_varint(Flaw::Truncated).map(|len| len as usize)
    }

    #[inline]
    pub(crate) fn varint(&mut self) -> Result<u64, Flaw> {
        let first = self.byte()?;
        if first < 0x80 {
            return Ok(u64::from(first));
        }
        let mut value = u64::from(first & 0x7f);
        for shift in (7..63).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        match self.byte()? {
            last @ 0..=1 => Ok(value | u64::from(last) << 63),
            _ => Err(Flaw::Varint),
        }
    }

    /// Called behind a start tag; ends behind the end tag of the same number.
    fn skip_group(&mut self, number: u32, depth: u32) -> Result<(), Flaw> {
        let depth = depth.checked_sub(1).ok_or(Flaw::GroupDepth)?;
        loop {
            if self.pos >= self.buf.len() {
                return Err(Flaw::Group);
            }
            let tag = self.tag()?;
            match tag & 7 {
                0 => {
                    self.varint()?;
                }
                1 => {
                    self.take::<8>()?;
                }
                2 => {
                    let len = self.length()?;
                    if len > self.buf.len() - self.pos {
                        return Err(Flaw::Truncated);
                    }
                    self.pos += len;
                }
                3 => self.skip_group(tag >> 3, depth)?,
                4 if tag >> 3 == number => return Ok(()),
                4 => return Err(Flaw::Group),
                5 => {
                    self.take::<4>()?;
                }
                _ => return Err(Flaw::WireType),
            }
        }
    }
}

/// Splits a `KeyValue` of the shape every SDK writes, key then value and nothing else, into the
/// position of the key, the key, and the content of the value. `None`: read it field by field.
#[inline]
pub(crate) fn split_pair(pair: &[u8]) -> Option<(usize, &[u8], &[u8])> {
    let (key, rest) = split_len(pair.strip_prefix(b"\x0a")?)?;
    let at = pair.len() - rest.len() - key.len();
    match split_len(rest.strip_prefix(b"\x12")?)? {
        (value, []) => Some((at, key, value)),
        _ => None,
    }
}

/// A length prefix of up to 3 bytes and the content behind it.
#[inline]
pub(crate) fn split_len(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = match *bytes {
        [a @ 0..0x80, ref rest @ ..] => (usize::from(a), rest),
        [a, b @ 0..0x80, ref rest @ ..] => (usize::from(a & 0x7f) | usize::from(b) << 7, rest),
        [a, b, c @ 0..0x80, ref rest @ ..] => {
            (usize::from(a & 0x7f) | usize::from(b & 0x7f) << 7 | usize::from(c) << 14, rest)
        }
        _ => return None,
    };
    rest.split_at_checked(len)
}

/// The fields of a message that was checked before: a flaw ends the iteration.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fields<'a>(pub(crate) Reader<'a>);

impl<'a> Fields<'a> {
    pub(crate) fn new(content: &'a [u8]) -> Fields<'a> {
        Fields(Reader::new(content))
    }
}

impl Iterator for Fields<'_> {
    type Item = Field;
    #[inline]
    fn next(&mut self) -> Option<Field> {
        self.0.next().ok().flatten()
    }
}

/// The first field of that number in a checked message.
#[inline]
pub(crate) fn find(content: &[u8], number: u32) -> Option<Field> {
    Fields::new(content).find(|f| f.number == number)
}

/// Content of a length-delimited field; empty if absent.
#[inline]
pub(crate) fn find_bytes(content: &[u8], number: u32) -> &[u8] {
    find(content, number).and_then(|f| content.get(f.from..f.to)).unwrap_or_default()
}

/// Value of a scalar field; 0 if absent.
#[inline]
pub(crate) fn find_scalar(content: &[u8], number: u32) -> u64 {
    find(content, number).map_or(0, |f| f.value)
}

/// Bytes a varint takes.
#[inline]
pub(crate) const fn varint_len(value: u64) -> usize {
    // 1 byte per started 7 bits.
    ((64 - (value | 1).leading_zeros() as usize) * 9 + 64) / 64
}

#[inline]
pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[inline]
fn put_tag(out: &mut Vec<u8>, number: u32, wire: u32) {
    put_varint(out, u64::from(number << 3 | wire));
}

pub(crate) fn put_uint(out: &mut Vec<u8>, number: u32, value: u64) {
    put_tag(out, number, 0);
    put_varint(out, value);
}

pub(crate) fn put_fixed64(out: &mut Vec<u8>, number: u32, value: u64) {
    put_tag(out, number, 1);
    out.extend_from_slice(&value.to_le_bytes());
}

pub(crate) fn put_fixed32(out: &mut Vec<u8>, number: u32, value: u32) {
    put_tag(out, number, 5);
    out.extend_from_slice(&value.to_le_bytes());
}

/// Tag and length prefix of a field whose content follows.
pub(crate) fn put_prefix(out: &mut Vec<u8>, number: u32, len: usize) {
    put_tag(out, number, 2);
    put_varint(out, len as u64);
}

pub(crate) fn put_bytes(out: &mut Vec<u8>, number: u32, content: &[u8]) {
    put_prefix(out, number, content.len());
    out.extend_from_slice(content);
}

/// A message being written whose length is not known yet.
#[derive(Debug)]
#[must_use]
pub(crate) struct Open {
    start: usize,
    prefix: usize,
    reserved: usize,
}

impl Open {
    /// Where the content starts for now.
    pub(crate) fn content(&self) -> usize {
        self.prefix + self.reserved
    }
}

/// Starts a message field. With a good guess of its length nothing has to move when it is closed.
pub(crate) fn open(out: &mut Vec<u8>, number: u32, guess: usize) -> Open {
    let start = out.len();
    put_tag(out, number, 2);
    let (prefix, reserved) = (out.len(), varint_len(guess as u64));
    out.resize(prefix + reserved, 0);
    Open { start, prefix, reserved }
}

/// Ends the message and writes its length.
pub(crate) fn close(out: &mut Vec<u8>, open: Open) {
    let content = open.content();
    let end = out.len();
    let len = end - content;
    let needed = varint_len(len as u64);
    if needed > open.reserved {
        out.resize(end + needed - open.reserved, 0);
    }
    if needed != open.reserved {
        out.copy_within(content..end, open.prefix + needed);
        out.truncate(open.prefix + needed + len);
    }
    let mut rest = len;
    for (i, byte) in out.iter_mut().skip(open.prefix).take(needed).enumerate() {
        *byte = rest as u8 & 0x7f | if i + 1 < needed { 0x80 } else { 0 };
        rest >>= 7;
    }
}

/// Takes the message back as if it had never been opened.
pub(crate) fn abandon(out: &mut Vec<u8>, open: Open) {
    out.truncate(open.start);
}
