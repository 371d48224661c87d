//! Cuts a body into records: one object, an array, NDJSON, or objects one after the other.
//!
//! The cut is made by brackets alone, before any record is parsed, so that a bad record ends where it ends
//! and not where the parser gives up.

use serde_json::Value;

use super::Fault;

/// The text of one record.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Piece<'b> {
    /// From 1.
    pub line: usize,
    pub text: &'b [u8],
}

/// The records of a body in order.
pub(super) struct Pieces<'b> {
    body: &'b [u8],
    at: usize,
    line: usize,
    in_array: bool,
    /// Inside of an array: an element was read and no comma since.
    has_element: bool,
    /// Inside of an array: a comma was read, so an element must follow.
    after_comma: bool,
}

impl<'b> Pieces<'b> {
    pub(super) fn new(body: &'b [u8]) -> Pieces<'b> {
        let at = if body.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
        Pieces { body, at, line: 1, in_array: false, has_element: false, after_comma: false }
    }

    fn peek(&self) -> Option<u8> {
        self.body.get(self.at).copied()
    }

    /// Moves on, counting lines.
    fn advance(&mut self, to: usize) -> &'b [u8] {
        let text = self.body.get(self.at..to).unwrap_or_default();
        self.line += memchr::memchr_iter(b'\n', text).count();
        self.at = to;
        text
    }

    fn piece(&mut self, to: usize) -> Piece<'b> {
        let line = self.line;
        let text = self.advance(to).trim_ascii_end();
        Piece { line, text }
    }

    fn skip_space(&mut self) {
        let rest = self.body.get(self.at..).unwrap_or_default();
        let space = rest.iter().take_while(|b| b.is_ascii_whitespace()).count();
        self.advance(self.at + space);
    }

    fn line_end(&self) -> usize {
        let rest = self.body.get(self.at..).unwrap_or_default();
        memchr::memchr(b'\n', rest).map_or(self.body.len(), |found| self.at + found)
    }

    /// The next array element: up to the comma or bracket at this level.
    fn element(&mut self) -> Piece<'b> {
        let end = scan(self.body, self.at, |depth, byte| depth == 0 && matches!(byte, b',' | b']'));
        self.after_comma = false;
        self.has_element = true;
        // An array that is cut off ends with the element that is.
        self.in_array = end.is_some();
        self.piece(end.unwrap_or(self.body.len()))
    }

    /// The next record outside of an array.
    fn record(&mut self) -> Piece<'b> {
        let line_end = self.line_end();
        if self.peek() != Some(b'{') {
            return self.piece(line_end);
        }
        // A line that starts an object of its own means that the one before was never closed.
        let bound = next_object_line(self.body, self.at).unwrap_or(self.body.len());
        let within = self.body.get(..bound).unwrap_or_default();
        let end = scan(within, self.at, |depth, byte| depth == 1 && byte == b'}').map(|end| end + 1);
        self.piece(end.unwrap_or(bound))
    }
}

impl<'b> Iterator for Pieces<'b> {
    type Item = Piece<'b>;

    fn next(&mut self) -> Option<Piece<'b>> {
        loop {
            self.skip_space();
            let byte = self.peek();
            if !self.in_array {
                match byte? {
                    b'[' => {
                        self.in_array = true;
                        self.has_element = false;
                        self.after_comma = false;
                        self.advance(self.at + 1);
                    }
                    _ => return Some(self.record()),
                }
                continue;
            }
            match byte {
                // Cut off after the bracket or a comma.
                None => {
                    self.in_array = false;
                    return Some(Piece { line: self.line, text: b"" });
                }
                Some(b']') => {
                    self.in_array = false;
                    let dangling = std::mem::take(&mut self.after_comma);
                    let line = self.line;
                    self.advance(self.at + 1);
                    if dangling {
                        return Some(Piece { line, text: b"" });
                    }
                }
                Some(b',') => {
                    let line = self.line;
                    self.advance(self.at + 1);
                    self.after_comma = true;
                    if !std::mem::take(&mut self.has_element) {
                        return Some(Piece { line, text: b"" });
                    }
                }
                Some(_) => return Some(self.element()),
            }
        }
    }
}

/// Walks JSON brackets from `from` until `stop(depth, byte)`, strings skipped; the position it stopped at.
fn scan(body: &[u8], from: usize, stop: impl Fn(usize, u8) -> bool) -> Option<usize> {
    let mut depth = 0usize;
    let mut at = from;
    while let Some(byte) = body.get(at).copied() {
        if stop(depth, byte) {
            return Some(at);
        }
        match byte {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'"' => {
                // A raw line break ends a string that was never closed: it is not legal inside of one.
                at += 1;
                loop {
                    let found = memchr::memchr3(b'"', b'\\', b'\n', body.get(at..)?)?;
                    at += found;
                    match body.get(at) {
                        Some(b'\\') => at += 2,
                        _ => break,
                    }
                }
            }
            _ => {}
        }
        at += 1;
    }
    None
}

/// Start of the next line that begins with `{`.
fn next_object_line(body: &[u8], from: usize) -> Option<usize> {
    let rest = body.get(from..)?;
    memchr::memmem::find(rest, b"\n{").map(|found| from + found + 1)
}

/// Parses one record; the error has the line of the mistake.
pub(super) fn parse(piece: &Piece<'_>) -> Result<Value, (usize, Fault)> {
    if piece.text.is_empty() {
        let message = "expected an object here: a comma too many, or the array is not closed";
        return Err((piece.line, Fault::new("", message)));
    }
    let failed = match serde_json::from_slice(piece.text) {
        Ok(value) => return Ok(value),
        Err(failed) => failed,
    };
    // Clients that cut text in the middle of a character write half a surrogate pair; everything else of
    // the record is good.
    if let Some(mended) = mend_surrogates(piece.text)
        && let Ok(value) = serde_json::from_slice(&mended)
    {
        return Ok(value);
    }
    let text = failed.to_string();
    let what = text.split(" at line ").next().unwrap_or("not JSON");
    let message = format!("not valid JSON: {what} at column {}", failed.column());
    Err((piece.line + failed.line().saturating_sub(1), Fault::new("", message)))
}

/// Replaces `\uD800`..`\uDFFF` escapes that are no pair by the replacement character.
fn mend_surrogates(text: &[u8]) -> Option<Vec<u8>> {
    let unit = |at: usize| -> Option<u16> {
        let escape = text.get(at..at + 6)?;
        let digits = escape.strip_prefix(b"\\u")?;
        u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    };
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    let mut is_mended = false;
    while let Some(byte) = text.get(at).copied() {
        if byte != b'\\' {
            out.push(byte);
            at += 1;
            continue;
        }
        let taken = match unit(at) {
            Some(0xD800..=0xDBFF) if matches!(unit(at + 6), Some(0xDC00..=0xDFFF)) => 12,
            Some(0xD800..=0xDFFF) => {
                out.extend_from_slice(b"\\ufffd");
                is_mended = true;
                at += 6;
                continue;
            }
            Some(_) => 6,
            None => 2,
        };
        out.extend_from_slice(text.get(at..(at + taken).min(text.len())).unwrap_or_default());
        at += taken;
    }
    is_mended.then_some(out)
}
