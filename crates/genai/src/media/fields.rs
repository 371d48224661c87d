//! Bare base64 in JSON: a scanner that knows in which object a string stands and leaves the rest untouched.

use super::{Marker, decoded_length, is_digit, probe, strip_at};

/// Objects and arrays deeper than this are not looked into.
const DEPTH_MAX: usize = 128;

/// A string value that may be a payload, by its range without quotes.
#[derive(Clone, Copy)]
struct Candidate<'t> {
    from: usize,
    to: usize,
    /// The key it stands under.
    key: &'t str,
}

/// An open object or array.
#[derive(Default)]
struct Frame<'t> {
    is_object: bool,
    /// The key it stands under in its parent.
    name: &'t str,
    /// The key whose value comes next.
    key: &'t str,
    wants_key: bool,
    kind: &'t str,
    media_type: &'t str,
    format: &'t str,
    candidates: Vec<Candidate<'t>>,
}

/// Replaces payloads; `None` if there is none. Text that is not JSON to its end is worked on as far as it is.
pub(super) fn strip(text: &str, nesting: usize, marker: Marker) -> Option<String> {
    let mut edits: Vec<(usize, usize, String)> = Vec::new();
    scan(text, nesting, marker, &mut edits);
    if edits.is_empty() {
        return None;
    }
    edits.sort_by_key(|(from, _, _)| *from);
    let mut out = String::with_capacity(text.len() / 2);
    let mut copied = 0;
    for (from, to, replacement) in edits {
        if from < copied {
            continue;
        }
        out.push_str(text.get(copied..from).unwrap_or_default());
        out.push_str(&replacement);
        copied = to;
    }
    out.push_str(text.get(copied..).unwrap_or_default());
    Some(out)
}

fn scan<'t>(text: &'t str, nesting: usize, marker: Marker, edits: &mut Vec<(usize, usize, String)>) {
    let bytes = text.as_bytes();
    let mut frames: Vec<Frame<'t>> = Vec::new();
    let mut at = 0;
    while let Some(byte) = bytes.get(at).copied() {
        match byte {
            b'{' | b'[' => {
                if frames.len() >= DEPTH_MAX {
                    return;
                }
                let name =
                    frames.last().map_or("", |frame| if frame.is_object { frame.key } else { frame.name });
                let is_object = byte == b'{';
                frames.push(Frame { is_object, name, wants_key: is_object, ..Frame::default() });
                at += 1;
            }
            b'}' | b']' => {
                let Some(frame) = frames.pop() else { return };
                close(text, &frame, marker, edits);
                at += 1;
            }
            b',' => {
                if let Some(frame) = frames.last_mut() {
                    frame.wants_key = frame.is_object;
                }
                at += 1;
            }
            b'"' => {
                let Some(end) = string_end(bytes, at + 1) else { return };
                let inner = text.get(at + 1..end).unwrap_or_default();
                match frames.last_mut() {
                    Some(frame) if frame.wants_key => {
                        frame.key = inner;
                        frame.wants_key = false;
                    }
                    frame => value((inner, at + 1, end), frame, nesting, marker, edits),
                }
                at = end + 1;
            }
            _ => at += 1,
        }
    }
}

/// Position of the closing quote.
fn string_end(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    loop {
        let found = memchr::memchr2(b'"', b'\\', bytes.get(at..)?)?;
        at += found;
        match bytes.get(at)? {
            b'"' => return Some(at),
            _ => at += 2,
        }
    }
}

fn value<'t>(
    (inner, from, to): (&'t str, usize, usize),
    frame: Option<&mut Frame<'t>>,
    nesting: usize,
    marker: Marker,
    edits: &mut Vec<(usize, usize, String)>,
) {
    if looks_like_json(inner) {
        if probe(inner)
            && let Some(replacement) = nested(inner, nesting, marker)
        {
            edits.push((from, to, replacement));
        }
        return;
    }
    let Some(frame) = frame else { return };
    let key = if frame.is_object { frame.key } else { frame.name };
    match key {
        "type" | "kind" => frame.kind = inner,
        "media_type" | "mime_type" | "mimeType" | "mediaType" => frame.media_type = inner,
        "format" if frame.media_type.is_empty() => frame.format = inner,
        _ => {}
    }
    let may_be = is_certain(key)
        || matches!(key, "data" | "content" | "bytes" | "blob" | "result" | "image" | "audio" | "thumbnail");
    if may_be && is_base64(inner) {
        frame.candidates.push(Candidate { from, to, key });
    }
}

/// Keys that hold nothing else.
fn is_certain(key: &str) -> bool {
    matches!(key, "b64_json" | "file_data" | "fileData" | "base64" | "image_base64" | "audio_base64")
}

/// Decides on the candidates of an object, now that all of its fields are known.
fn close(text: &str, frame: &Frame<'_>, marker: Marker, edits: &mut Vec<(usize, usize, String)>) {
    // Shorter payloads need a clear sign that they are media.
    const LONG_BYTES_MIN: usize = 64;
    let is_place =
        matches!(frame.name, "input_audio" | "audio" | "inlineData" | "inline_data" | "image" | "blob");
    let says_media = is_place
        || frame.media_type.contains('/')
        || matches!(
            frame.kind,
            "base64" | "blob" | "binary" | "image" | "audio" | "video" | "media" | "file"
        );
    for candidate in &frame.candidates {
        let payload = text.get(candidate.from..candidate.to).unwrap_or_default();
        let is_long = payload.len() >= LONG_BYTES_MIN;
        let is_payload = match candidate.key {
            key if is_certain(key) => true,
            // A message's words go by the same name.
            "content" => matches!(frame.kind, "blob" | "binary"),
            "result" => frame.kind == "image_generation_call",
            "image" | "audio" | "thumbnail" => says_media && is_long,
            _ => says_media || (is_long && matches!(frame.name, "source" | "file")),
        };
        if is_payload {
            let media_type = media_type(frame, candidate.key);
            let text = marker.base64(&media_type, decoded_length(digits(payload)), payload);
            edits.push((candidate.from, candidate.to, text));
        }
    }
}

fn media_type(frame: &Frame<'_>, key: &str) -> String {
    if !frame.media_type.is_empty() {
        return frame.media_type.replace('\\', "");
    }
    let (family, default) = match (frame.name, frame.kind, key) {
        ("input_audio" | "audio", _, _) | (_, "audio", _) | (_, _, "audio" | "audio_base64") => ("audio", ""),
        ("image", _, _) | (_, "image", _) | (_, _, "image" | "image_base64") => ("image", ""),
        (_, "image_generation_call", _) | (_, _, "b64_json") => ("image", "png"),
        _ => return String::new(),
    };
    match (frame.format, default) {
        ("", "") => family.to_owned(),
        ("", default) => format!("{family}/{default}"),
        (format, _) => format!("{family}/{format}"),
    }
}

/// Base64 digits of a raw JSON string, escapes resolved.
fn digits(raw: &str) -> usize {
    let mut count = 0;
    let mut bytes = raw.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => count += usize::from(bytes.next() == Some(b'/')),
            byte => count += usize::from(is_digit(byte)),
        }
    }
    count
}

/// True if the raw string (escapes not resolved) is base64 and nothing else.
fn is_base64(raw: &str) -> bool {
    // Shorter payloads cannot be told from words.
    const PAYLOAD_BYTES_MIN: usize = 8;
    let body = raw.trim_end_matches('=');
    let mut bytes = body.bytes().peekable();
    while let Some(byte) = bytes.next() {
        let is_escape = byte == b'\\' && matches!(bytes.peek(), Some(b'/' | b'n' | b'r'));
        if is_escape {
            bytes.next();
        } else if !is_digit(byte) && !matches!(byte, b'\n' | b'\r') {
            return false;
        }
    }
    body.len() >= PAYLOAD_BYTES_MIN
}

fn looks_like_json(raw: &str) -> bool {
    let start = raw.trim_start_matches(['\\', 'n', 'r', 't', ' ']);
    start.starts_with(['{', '[']) && raw.len() > 16
}

/// JSON inside of a string: unescaped, stripped, escaped again.
fn nested(raw: &str, nesting: usize, marker: Marker) -> Option<String> {
    let unescaped: String = serde_json::from_str(&format!("\"{raw}\"")).ok()?;
    let stripped = strip_at(&unescaped, nesting + 1, marker)?;
    let quoted = serde_json::to_string(&stripped).ok()?;
    quoted.get(1..quoted.len() - 1).map(str::to_owned)
}
