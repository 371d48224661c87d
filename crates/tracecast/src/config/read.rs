//! Reads typed settings from the tree. Every mistake is collected; unknown keys are mistakes.

use std::net::SocketAddr;
use std::time::Duration;

use tracecast_destination::did_you_mean;

use super::Mistakes;
use super::tree::{Node, Value};

/// One mapping being read: knows which of its keys were asked for.
pub(crate) struct Section<'a> {
    node: Option<&'a Node>,
    path: String,
    known: Vec<&'static str>,
}

impl<'a> Section<'a> {
    /// The mapping at `key` of the tree's root; absent is empty.
    pub(crate) fn root(node: &'a Node, mistakes: &mut Mistakes) -> Section<'a> {
        Section::new(Some(node), String::new(), mistakes)
    }

    fn new(node: Option<&'a Node>, path: String, mistakes: &mut Mistakes) -> Section<'a> {
        let node = match node {
            Some(n) => match &n.value {
                Value::Map(_) => Some(n),
                Value::Null => None,
                other => {
                    mistakes.add(&n.origin, &path, format!("must be a mapping, not {}", other.kind()), None);
                    None
                }
            },
            None => None,
        };
        Section { node, path, known: Vec::new() }
    }

    /// The path of one of its keys.
    pub(crate) fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// The node of a key, noted as known. `null` counts as absent.
    pub(crate) fn take(&mut self, key: &'static str) -> Option<&'a Node> {
        self.known.push(key);
        self.node.and_then(|n| n.get(key)).filter(|n| n.value != Value::Null)
    }

    pub(crate) fn section(&mut self, key: &'static str, mistakes: &mut Mistakes) -> Section<'a> {
        let path = self.path_of(key);
        let node = self.take(key);
        Section::new(node, path, mistakes)
    }

    /// A setting: `parse` turns its text into a value or says what is wrong with it.
    pub(crate) fn setting<T>(
        &mut self,
        key: &'static str,
        default: T,
        mistakes: &mut Mistakes,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> T {
        let Some(node) = self.take(key) else { return default };
        let text = match &node.value {
            Value::Text { text, .. } => text.clone(),
            Value::Int(i) => i.to_string(),
            Value::Float(f) => f.to_string(),
            Value::Bool(b) => b.to_string(),
            other => {
                let message = format!("must be a single value, not {}", other.kind());
                mistakes.add(&node.origin, &self.path_of(key), message, None);
                return default;
            }
        };
        match parse(&text) {
            Ok(value) => value,
            Err(message) => {
                mistakes.add(&node.origin, &self.path_of(key), message, None);
                default
            }
        }
    }

    /// Complains about every key nobody asked for.
    pub(crate) fn finish(self, mistakes: &mut Mistakes) {
        let Some(Node { value: Value::Map(entries), .. }) = self.node else { return };
        for (key, origin, _) in entries {
            if !self.known.contains(&key.as_str()) {
                let hint = match did_you_mean(key, self.known.iter().copied()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("known here: {}", self.known.join(", ")),
                };
                mistakes.add(origin, &self.path_of(key), "unknown key".into(), Some(hint));
            }
        }
    }
}

/// `127.0.0.1:4318`, `[::1]:4318`, `localhost:4318`.
pub(crate) fn address(text: &str) -> Result<SocketAddr, String> {
    let numeric = text.replacen("localhost:", "127.0.0.1:", 1);
    numeric.parse().map_err(|_| format!("`{text}` is not an address and port, like 127.0.0.1:4318"))
}

/// `10GiB`, `20 MB`, `1048576`.
pub(crate) fn bytes(text: &str) -> Result<u64, String> {
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

/// `500ms`, `30s`, `15m`, `24h`, `7d`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
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

/// `true` or `false`.
pub(crate) fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(format!("`{text}` is neither true nor false")),
    }
}

/// One of a few words.
pub(crate) fn word<T: Copy>(text: &str, words: &[(&str, T)]) -> Result<T, String> {
    words.iter().find(|(w, _)| *w == text).map(|(_, value)| *value).ok_or_else(|| {
        let known: Vec<_> = words.iter().map(|(w, _)| *w).collect();
        format!("`{text}` is not one of {}", known.join(", "))
    })
}
