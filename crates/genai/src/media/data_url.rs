//! Data URLs with base64 payloads, in plain text or inside of JSON strings.

use memchr::memmem;

use super::{Marker, decoded_length, is_digit};

const SEPARATOR: &[u8] = b";base64,";
/// A media type with parameters is never longer.
const HEAD_BYTES_MAX: usize = 160;
/// Lines of wrapped base64 are at least this long, so that a word on the next line is no payload.
const LINE_BYTES_MIN: usize = 60;

/// Replaces each `data:<media type>;base64,<payload>`; `None` if there is none.
pub(super) fn strip(text: &str, marker: Marker) -> Option<String> {
    let bytes = text.as_bytes();
    let mut out = String::new();
    let mut copied = 0;
    let mut from = 0;
    while let Some(found) = bytes.get(from..).and_then(|rest| memmem::find(rest, SEPARATOR)) {
        let separator = from + found;
        let payload = separator + SEPARATOR.len();
        from = payload;
        let Some((start, media_type)) = head(text, copied, separator) else { continue };
        let (end, digits) = payload_end(bytes, payload);
        if digits == 0 {
            continue;
        }
        out.push_str(text.get(copied..start).unwrap_or_default());
        let written = text.get(payload..end).unwrap_or_default();
        out.push_str(&marker.base64(&media_type, decoded_length(digits), written));
        copied = end;
        from = end;
    }
    if copied == 0 {
        return None;
    }
    out.push_str(text.get(copied..).unwrap_or_default());
    Some(out)
}

/// Start of the URL and its media type, looking back from `;base64,` no further than `floor`.
fn head(text: &str, floor: usize, separator: usize) -> Option<(usize, String)> {
    let mut lowest = separator.saturating_sub(HEAD_BYTES_MAX).max(floor);
    while !text.is_char_boundary(lowest) {
        lowest += 1;
    }
    let window = text.get(lowest..separator)?;
    let at = window.to_ascii_lowercase().rfind("data:")?;
    let media_type = window.get(at + "data:".len()..)?;
    let is_media_type = |b: u8| b.is_ascii_alphanumeric() || b"/.+-_;=\\*%\"".contains(&b);
    if !media_type.bytes().all(is_media_type) {
        return None;
    }
    // `image\/png`: an escaped slash; parameters are not part of the type.
    let plain = media_type.replace('\\', "");
    Some((lowest + at, plain.split(';').next().unwrap_or_default().to_owned()))
}

/// End of the payload and the number of its digits.
fn payload_end(bytes: &[u8], from: usize) -> (usize, usize) {
    let mut at = from;
    let mut digits = 0;
    let mut line = 0;
    loop {
        match (bytes.get(at).copied(), bytes.get(at + 1).copied()) {
            (Some(b), _) if is_digit(b) => {
                digits += 1;
                line += 1;
                at += 1;
            }
            (Some(b'\\'), Some(b'/')) => {
                digits += 1;
                line += 1;
                at += 2;
            }
            // Percent-encoded digits and padding of URLs in URLs.
            (Some(b'%'), Some(b'2' | b'3')) if bytes.get(at + 2).is_some_and(u8::is_ascii_hexdigit) => {
                digits += usize::from(bytes.get(at + 1) == Some(&b'2'));
                at += 3;
            }
            (Some(b'='), _) => at += 1,
            // Wrapped lines, as escapes of JSON or as they are.
            (Some(b'\\'), Some(b'n' | b'r')) if wraps(bytes, at + 2, line) => {
                line = 0;
                at += 2;
            }
            (Some(b'\\'), Some(b'r'))
                if bytes.get(at + 2..at + 4) == Some(b"\\n") && wraps(bytes, at + 4, line) =>
            {
                line = 0;
                at += 4;
            }
            (Some(b'\n' | b'\r'), _) if wraps(bytes, at + 1, line) => {
                line = 0;
                at += 1;
            }
            _ => return (at, digits),
        }
    }
}

fn wraps(bytes: &[u8], next: usize, line: usize) -> bool {
    line >= LINE_BYTES_MIN && bytes.get(next).is_some_and(|b| is_digit(*b))
}
