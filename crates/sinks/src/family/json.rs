//! Compact JSON written straight into a buffer.

use std::io::Write;

use jiff::Timestamp;

/// Appends a JSON string.
pub(crate) fn string(out: &mut Vec<u8>, text: &str) {
    // Writing a str to a Vec cannot fail.
    let _ = serde_json::to_writer(out, text);
}

/// Appends a number; what JSON cannot express becomes null.
pub(crate) fn float(out: &mut Vec<u8>, value: f64) {
    if value.is_finite() {
        // Rust writes floats without exponent, which every reader takes.
        let _ = write!(out, "{value}");
    } else {
        out.extend_from_slice(b"null");
    }
}

/// The text if it is one JSON value, on one line; `None` if it is not JSON.
pub(crate) fn one_line(text: &str) -> Option<Vec<u8>> {
    serde_json::from_str::<&serde_json::value::RawValue>(text).ok()?;
    let mut bytes = text.trim_ascii().as_bytes().to_vec();
    // Inside strings line ends are escaped, so these are only layout.
    for byte in &mut bytes {
        if matches!(*byte, b'\n' | b'\r') {
            *byte = b' ';
        }
    }
    Some(bytes)
}

/// A time as RFC 3339 in UTC with milliseconds.
pub(crate) fn rfc3339(unix_nano: u64) -> String {
    timestamp(unix_nano).strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

pub(crate) fn timestamp(unix_nano: u64) -> Timestamp {
    // Every u64 of nanoseconds lies before the year 2555.
    Timestamp::from_nanosecond(i128::from(unix_nano)).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// An object under construction: commas, and keys left out when there is no value.
pub(crate) struct Object<'o> {
    out: &'o mut Vec<u8>,
    first: bool,
}

impl<'o> Object<'o> {
    pub(crate) fn open(out: &'o mut Vec<u8>) -> Object<'o> {
        out.push(b'{');
        Object { out, first: true }
    }

    /// Writes the key; the caller writes the value into what is returned.
    pub(crate) fn key(&mut self, key: &str) -> &mut Vec<u8> {
        if !self.first {
            self.out.push(b',');
        }
        self.first = false;
        string(self.out, key);
        self.out.push(b':');
        self.out
    }

    pub(crate) fn str(&mut self, key: &str, value: &str) {
        string(self.key(key), value);
    }

    pub(crate) fn opt_str(&mut self, key: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.str(key, value);
        }
    }

    pub(crate) fn opt_u64(&mut self, key: &str, value: Option<u64>) {
        if let Some(value) = value {
            let _ = write!(self.key(key), "{value}");
        }
    }

    pub(crate) fn opt_f64(&mut self, key: &str, value: Option<f64>) {
        if let Some(value) = value.filter(|value| value.is_finite()) {
            float(self.key(key), value);
        }
    }

    /// JSON text as a value; text that is not JSON as a string.
    pub(crate) fn opt_json(&mut self, key: &str, text: Option<&str>) {
        if let Some(text) = text {
            match one_line(text) {
                Some(json) => self.key(key).extend_from_slice(&json),
                None => self.str(key, text),
            }
        }
    }

    pub(crate) fn value(&mut self, key: &str, value: &impl serde::Serialize) {
        let out = self.key(key);
        if serde_json::to_writer(&mut *out, value).is_err() {
            out.extend_from_slice(b"null");
        }
    }

    pub(crate) fn close(self) {
        self.out.push(b'}');
    }
}
