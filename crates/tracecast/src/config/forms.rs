//! What the text of a setting must be: how it is read, and the same said as JSON Schema.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value as Json, json};

type Read<T> = dyn Fn(&str) -> Result<T, String>;

/// Reads the text of a setting, or says what is wrong with it; and what an editor is told of it.
pub(crate) struct Form<T> {
    pub(super) schema: Json,
    read: Box<Read<T>>,
}

impl<T: 'static> Form<T> {
    fn new(schema: Json, read: impl Fn(&str) -> Result<T, String> + 'static) -> Form<T> {
        Form { schema, read: Box::new(read) }
    }

    pub(super) fn read(&self, text: &str) -> Result<T, String> {
        (self.read)(text)
    }

    /// The same text, read further: a bound, or another type.
    pub(crate) fn then<U: 'static>(
        self,
        further: impl Fn(&str, T) -> Result<U, String> + 'static,
    ) -> Form<U> {
        let Form { schema, read } = self;
        Form::new(schema, move |text| further(text, read(text)?))
    }

    /// `word` is a value of its own besides.
    pub(crate) fn or_word(self, word: &'static str, value: impl Fn() -> T + 'static) -> Form<T> {
        let Form { schema, read } = self;
        let mut words = vec![Json::from(word)];
        words.extend(word.parse::<u64>().ok().map(Json::from));
        let schema = json!({ "anyOf": [{ "enum": words }, schema] });
        Form::new(schema, move |text| if text == word { Ok(value()) } else { read(text) })
    }
}

/// Any text.
pub(crate) fn text() -> Form<String> {
    Form::new(json!({ "type": ["string", "number", "boolean"] }), |text| Ok(text.to_owned()))
}

/// `127.0.0.1:4318`, `[::1]:4318`, `localhost:4318`.
pub(crate) fn address() -> Form<SocketAddr> {
    let schema = json!({
        "type": "string",
        "pattern": r"^(localhost|[0-9.]+|\[[0-9A-Fa-f:.%]+\]):[0-9]+$",
        "examples": ["0.0.0.0:4318", "[::1]:4318", "localhost:4318"],
    });
    Form::new(schema, |text| {
        let numeric = text.replacen("localhost:", "127.0.0.1:", 1);
        numeric.parse().map_err(|_| format!("`{text}` is not an address and port, like 127.0.0.1:4318"))
    })
}

/// `10GiB`, `20 MB`, `1048576`.
pub(crate) fn size() -> Form<u64> {
    let schema = json!({
        "type": ["string", "number"],
        "minimum": 0,
        "pattern": r"^\s*([0-9]+\.?[0-9]*|\.[0-9]+)\s*([KkMmGgTt][Ii]?)?[Bb]?\s*$",
        "examples": ["1GiB", "512 MB", 1_073_741_824],
    });
    Form::new(schema, bytes)
}

/// `500ms`, `30s`, `15m`, `24h`, `7d`.
pub(crate) fn age() -> Form<Duration> {
    let schema = json!({
        "type": "string",
        "pattern": r"^\s*([0-9]+\.?[0-9]*|\.[0-9]+)\s*(ms|s|m|h|d)\s*$",
        "examples": ["15m", "12h", "1.5d"],
    });
    Form::new(schema, duration)
}

/// `true` or `false`.
pub(crate) fn boolean() -> Form<bool> {
    Form::new(json!({ "type": "boolean", "examples": [true, false] }), |text| match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(format!("`{text}` is neither true nor false")),
    })
}

pub(crate) fn whole_number() -> Form<u32> {
    let schema = json!({ "type": "integer", "minimum": 0, "maximum": u32::MAX, "examples": [20] });
    Form::new(schema, |text| text.parse().map_err(|_| format!("`{text}` is not a whole number")))
}

/// Where something is sent over HTTP.
pub(crate) fn http_url() -> Form<String> {
    let schema = json!({ "type": "string", "pattern": "^https?://", "examples": ["http://127.0.0.1:4318/v1/metrics"] });
    Form::new(schema, |text| match text.starts_with("http://") || text.starts_with("https://") {
        true => Ok(text.to_owned()),
        false => Err(format!("`{text}` is not an http or https URL")),
    })
}

/// A SHA-256 in hexadecimal.
pub(crate) fn sha256() -> Form<[u8; 32]> {
    let schema = json!({
        "type": "string",
        "pattern": "^[0-9A-Fa-f]{64}$",
        "examples": ["ab".repeat(32)],
    });
    // What is no hash may be the key itself, so it is not quoted.
    Form::new(schema, |text| {
        tracecast_otlp::from_hex(text).ok_or_else(|| "is not 64 hexadecimal digits".to_owned())
    })
}

/// One of a few words.
pub(crate) fn words<T: Copy + 'static, const N: usize>(words: [(&'static str, T); N]) -> Form<T> {
    let names = words.map(|(name, _)| name);
    Form::new(json!({ "enum": names.as_slice() }), move |text| {
        let known = words.iter().find(|(name, _)| *name == text).map(|(_, value)| *value);
        known.ok_or_else(|| format!("`{text}` is not one of {}", names.join(", ")))
    })
}

pub(super) fn bytes(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is not a size in bytes, like 64MiB");
    let trimmed = text.trim();
    let digits = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(trimmed.len());
    let number: f64 = trimmed[..digits].parse().map_err(|_| wrong())?;
    let unit: u64 = match trimmed[digits..].trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" => 1_000,
        "ki" | "kib" => 1 << 10,
        "m" | "mb" => 1_000_000,
        "mi" | "mib" => 1 << 20,
        "g" | "gb" => 1_000_000_000,
        "gi" | "gib" => 1 << 30,
        "t" | "tb" => 1_000_000_000_000,
        "ti" | "tib" => 1 << 40,
        _ => return Err(wrong()),
    };
    let value = number * unit as f64;
    if !(0.0..=(1u64 << 60) as f64).contains(&value) {
        return Err(wrong());
    }
    Ok(value as u64)
}

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is not a duration, like 30s, 15m or 24h");
    let trimmed = text.trim();
    let digits = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
    let number: f64 = trimmed[..digits].parse().map_err(|_| wrong())?;
    let seconds = match trimmed[digits..].trim() {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3_600.0,
        "d" => 86_400.0,
        _ => return Err(wrong()),
    };
    Duration::try_from_secs_f64(number * seconds).map_err(|_| wrong())
}
