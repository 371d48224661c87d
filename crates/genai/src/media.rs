//! Embedded media: base64 payloads in content are replaced by a marker with media type and size.
//!
//! Two passes over the text, both leaving every other byte as it is. Data URLs are found anywhere, in JSON
//! or not. Bare base64 is only taken where JSON says what it is: a string value in a place that holds media
//! (`input_audio.data`, a `source` or part with a media type, `b64_json`, OTel `blob` parts, ...).

mod data_url;
mod fields;

use std::sync::LazyLock;

use aho_corasick::packed;
use memchr::memmem;
use serde_json::Value as Json;
use sha2::{Digest as _, Sha256};
use tracecast_otlp::Value;
use tracecast_otlp::write::{Edit, Place, Verdict};

use crate::content::{Class, classify};

/// A base64 run this long is looked at even if nothing else points to media.
const RUN_BYTES_MIN: usize = 256;

/// True if the text may hold embedded media; a substring probe without parsing.
pub fn probe(text: &str) -> bool {
    probe_bytes(text.as_bytes())
}

/// The same over any bytes, such as a whole OTLP body: false means that no span in it needs [`StripMedia`].
pub fn probe_bytes(bytes: &[u8]) -> bool {
    has_long_run(bytes)
        || match &*SIGNS {
            Some(signs) => signs.find(bytes).is_some(),
            // Where the processor has no vector instructions for it.
            None => SIGN_TEXTS.iter().any(|sign| memmem::find(bytes, sign).is_some()),
        }
}

/// `;base64,` and `"type":"base64"`, `b64_json`, `input_audio`, and OTel's blob parts, which may hold bytes instead of
/// base64: their type tells.
const SIGN_TEXTS: [&[u8]; 4] = [b"base64", b"b64", b"input_audio", b"blob"];

/// All of them in one pass.
static SIGNS: LazyLock<Option<packed::Searcher>> = LazyLock::new(|| packed::Searcher::new(SIGN_TEXTS));

/// The text without its embedded media; `None` if it holds none.
pub fn strip(text: &str) -> Option<String> {
    strip_at(text, 0, Marker::Size)
}

/// JSON in JSON in JSON: deeper nesting is left alone.
const NESTING_MAX: usize = 3;

fn strip_at(text: &str, nesting: usize, marker: Marker) -> Option<String> {
    let without_urls = data_url::strip(text, marker);
    let rest: &str = without_urls.as_deref().unwrap_or(text);
    let is_json = matches!(rest.trim_start().as_bytes().first(), Some(b'{' | b'[' | b'"'));
    let stripped = if is_json && nesting < NESTING_MAX { fields::strip(rest, nesting, marker) } else { None };
    stripped.or(without_urls)
}

/// What is put in the place of a payload: its media type and size, and its digest where asked for.
#[derive(Clone, Copy, Debug)]
enum Marker {
    Size,
    Digest,
}

impl Marker {
    /// For base64 as it is written, escapes included.
    fn base64(self, media_type: &str, byte_length: usize, written: &str) -> String {
        let digest = matches!(self, Marker::Digest).then(|| Sha256::digest(decoded(written)));
        marker(media_type, byte_length, digest.as_deref())
    }

    fn bytes(self, bytes: &[u8]) -> String {
        let digest = matches!(self, Marker::Digest).then(|| Sha256::digest(bytes));
        marker("application/octet-stream", bytes.len(), digest.as_deref())
    }
}

fn marker(media_type: &str, byte_length: usize, digest: Option<&[u8]>) -> String {
    // What goes into JSON text unescaped must need no escape.
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/.+-_".contains(c);
    let is_type = (1..=100).contains(&media_type.len()) && media_type.chars().all(is_plain);
    let media_type = if is_type { media_type } else { "application/octet-stream" };
    let digest = digest.map_or(String::new(), |digest| {
        let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        format!(", sha256 {hex}")
    });
    format!("[media removed: {media_type}, {byte_length} bytes{digest}]")
}

/// The bytes behind base64 in either alphabet, whatever it was escaped with; what is no digit is skipped.
fn decoded(written: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(written.len() / 4 * 3);
    let (mut bits, mut held) = (0u32, 0u32);
    let mut rest = written.bytes().peekable();
    while let Some(byte) = rest.next() {
        let digit = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            // Of `\/` the second is the digit, of `\n` none is; of `%2B` and `%2F` the last tells.
            b'\\' if rest.peek() == Some(&b'/') => continue,
            b'\\' => {
                rest.next();
                continue;
            }
            b'%' => match (rest.next(), rest.next()) {
                (Some(b'2'), Some(b'B' | b'b')) => 62,
                (Some(b'2'), Some(b'F' | b'f')) => 63,
                _ => continue,
            },
            _ => continue,
        };
        bits = (bits << 6) | u32::from(digit);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
            bits &= (1 << held) - 1;
        }
    }
    bytes
}

/// Bytes behind so many base64 digits (padding not counted).
fn decoded_length(digits: usize) -> usize {
    digits / 4 * 3 + (digits % 4).saturating_sub(1)
}

const fn is_digit(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'-' | b'_')
}

/// The bytes of a run. JSON escapes `/` in some encoders, so a backslash does not end one.
static RUNS: [bool; 256] = {
    let mut runs = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        runs[byte] = is_digit(byte as u8) || byte as u8 == b'\\';
        byte += 1;
    }
    runs
};

/// True if there is a run of base64 digits of at least `RUN_BYTES_MIN`; looks at every 128th byte and around.
fn has_long_run(bytes: &[u8]) -> bool {
    let step = RUN_BYTES_MIN / 2;
    let runs = |b: &u8| RUNS[usize::from(*b)];
    let mut at = step;
    while let Some(ahead) = bytes.get(at..) {
        // Of two marks within a run the first is far from its end. Words of a text are short, and what stands between
        // them is below all digits: that is enough to tell, without a way out of the loop in between.
        let lowest = |word: &[u8; 16]| word.iter().fold(u8::MAX, |low, byte| low.min(*byte));
        let is_word = ahead.first_chunk().is_some_and(|word| lowest(word) >= b'+');
        if is_word && ahead.get(..step).is_some_and(|word| word.iter().all(runs)) {
            let before = bytes.get(..at).unwrap_or_default().iter().rev().take(RUN_BYTES_MIN);
            let after = ahead.iter().take(RUN_BYTES_MIN);
            let length = |run: &mut dyn Iterator<Item = &u8>| run.take_while(|b| runs(b)).count();
            if length(&mut before.into_iter()) + length(&mut after.into_iter()) >= RUN_BYTES_MIN {
                return true;
            }
        }
        at += step;
    }
    false
}

/// Replaces embedded media in content attributes and in attributes of no known list.
#[derive(Clone, Copy, Debug, Default)]
pub struct StripMedia;

impl Edit for StripMedia {
    fn attribute_by_key(&self, _place: Place, key: &[u8]) -> Option<Verdict> {
        match classify(key) {
            Class::Content | Class::Unknown => None,
            Class::Known | Class::Metadata => Some(Verdict::Keep),
        }
    }

    fn attribute(&self, place: Place, key: &str, value: &Value<'_>) -> Verdict {
        self.attribute_by_key(place, key.as_bytes()).unwrap_or_else(|| judge(key, value, Marker::Size))
    }
}

/// The same with digests in the markers: the text in the attribute's place, if it holds media.
pub(crate) fn digested(key: &str, value: &Value<'_>) -> Option<String> {
    let by_key = StripMedia.attribute_by_key(Place::Span, key.as_bytes());
    match by_key.unwrap_or_else(|| judge(key, value, Marker::Digest)) {
        Verdict::ReplaceStr(text) => Some(text),
        _ => None,
    }
}

fn judge(key: &str, value: &Value<'_>, marker: Marker) -> Verdict {
    match value {
        Value::Str(text) if probe(text) => {
            strip_at(text, 0, marker).map_or(Verdict::Keep, Verdict::ReplaceStr)
        }
        Value::Bytes(bytes) if classify(key) == Class::Content => Verdict::ReplaceStr(marker.bytes(bytes)),
        Value::Array(_) | Value::Map(_) if holds_media(value) => {
            // A structured value becomes its JSON text: both are valid forms of every such key.
            let text = without_bytes(value, marker).to_string();
            match strip_at(&text, 0, marker) {
                Some(stripped) => Verdict::ReplaceStr(stripped),
                None if holds_bytes(value) => Verdict::ReplaceStr(text),
                None => Verdict::Keep,
            }
        }
        _ => Verdict::Keep,
    }
}

fn holds_media(value: &Value<'_>) -> bool {
    any_leaf(value, &|leaf| matches!(leaf, Value::Bytes(_)) || leaf.as_str().is_some_and(probe))
}

fn holds_bytes(value: &Value<'_>) -> bool {
    any_leaf(value, &|leaf| matches!(leaf, Value::Bytes(_)))
}

fn any_leaf(value: &Value<'_>, is_wanted: &dyn Fn(&Value<'_>) -> bool) -> bool {
    match value {
        Value::Array(items) => items.iter().any(|item| any_leaf(&item, is_wanted)),
        Value::Map(pairs) => pairs.iter().any(|(_, value)| any_leaf(&value, is_wanted)),
        leaf => is_wanted(leaf),
    }
}

fn without_bytes(value: &Value<'_>, marker: Marker) -> Json {
    match value {
        Value::Empty => Json::Null,
        Value::Str(text) => Json::from(*text),
        Value::Bool(b) => Json::from(*b),
        Value::Int(n) => Json::from(*n),
        Value::Double(n) => Json::from(*n),
        Value::Bytes(bytes) => Json::from(marker.bytes(bytes)),
        Value::Array(items) => items.iter().map(|item| without_bytes(&item, marker)).collect(),
        Value::Map(pairs) => {
            pairs.iter().map(|(key, value)| (key.to_owned(), without_bytes(&value, marker))).collect()
        }
    }
}
