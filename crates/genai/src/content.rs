//! What an attribute key is, over every dialect we know: content, known, metadata or unknown.
//!
//! The content names start from PostHog's OTel redaction list and cover the frameworks whose spans we have
//! met. Exact names win over prefixes, longer prefixes over shorter ones.

mod names;

use std::sync::LazyLock;

use Class::{Content, Known, Metadata};
#[cfg(test)]
pub(crate) use names::{CONTENT, CONTENT_PREFIXES, KNOWN};

/// What an attribute key is, over every dialect we know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Prompt, completion, tool arguments, documents, error text ...: removed by privacy mode.
    Content,
    /// Known and harmless (model, usage, ids, timing ...).
    Known,
    /// The user's own metadata: kept.
    Metadata,
    /// In no list.
    Unknown,
}

/// Classifies a key by its text or bytes. No allocation.
pub fn classify(key: impl AsRef<[u8]>) -> Class {
    let (tables, key) = (&*TABLES, key.as_ref());
    let exact =
        tables.by_shape.get(shape(key)).into_iter().flatten().find(|(name, _)| name.as_bytes() == key);
    if let Some((_, class)) = exact {
        return *class;
    }
    let head = head(key);
    let by_prefix = tables.by_first_byte.get(head as usize & 0xff).into_iter().flatten();
    match by_prefix.into_iter().find(|prefix| prefix.begins(key, head)) {
        Some(Prefix { class: Content, .. }) if is_harmless_leaf(key) => Known,
        Some(prefix) => prefix.class,
        None if is_mastra_content(key) => Content,
        None => Class::Unknown,
    }
}

/// Mastra names its content by the step: `mastra.<step>.input`.
fn is_mastra_content(key: &[u8]) -> bool {
    key.starts_with(b"mastra.") && (key.ends_with(b".input") || key.ends_with(b".output"))
}

/// Parts of content families that say nothing about what was said.
fn is_harmless_leaf(key: &[u8]) -> bool {
    const LEAVES: [&str; 5] =
        [".finish_reason", ".mime_type", ".document.id", ".document.score", ".message_content.type"];
    LEAVES.iter().any(|leaf| key.ends_with(leaf.as_bytes()))
}

/// True if the last words of an unknown name promise content (`my.app.prompt`, `systemPrompt`,
/// `input_text`), false for what is counted or named (`prompt_id`, `input_format`).
pub fn looks_like_content(name: &str) -> bool {
    // Only the last dotted part speaks of the value: `prompt.template.id` is an id.
    let leaf = name.rsplit(['.', ':', '/']).find(|part| !part.bytes().all(|b| b.is_ascii_digit()));
    let Some(leaf) = leaf else { return false };
    let mut words = Words(leaf);
    let Some(first) = words.next() else { return false };
    let last = words.last();
    match last {
        None => is_content_word(first),
        Some(last) => is_content_word(last) || (is_content_word(first) && !is_measure_word(last)),
    }
}

/// The words of `snake_case`, `kebab-case` and `camelCase`.
struct Words<'a>(&'a str);

impl<'a> Iterator for Words<'a> {
    type Item = &'a str;
    fn next(&mut self) -> Option<&'a str> {
        self.0 = self.0.trim_start_matches(['_', '-', ' ', '$']);
        let mut previous_lower = false;
        let is_end = |(_, c): &(usize, char)| {
            let ends = matches!(c, '_' | '-' | ' ') || (previous_lower && c.is_ascii_uppercase());
            previous_lower = c.is_ascii_lowercase() || c.is_ascii_digit();
            ends
        };
        let end = self.0.char_indices().find(is_end).map_or(self.0.len(), |(at, _)| at);
        let (word, rest) = self.0.split_at(end);
        self.0 = rest;
        (!word.is_empty()).then_some(word)
    }
}

fn is_content_word(word: &str) -> bool {
    const WORDS: &[&str] = &[
        "answer",
        "answers",
        "arguments",
        "args",
        "body",
        "choices",
        "completion",
        "completions",
        "content",
        "contents",
        "conversation",
        "context",
        "document",
        "documents",
        "embedding",
        "embeddings",
        "history",
        "input",
        "inputs",
        "instruction",
        "instructions",
        "message",
        "messages",
        "output",
        "outputs",
        "payload",
        "prompt",
        "prompts",
        "query",
        "queries",
        "question",
        "questions",
        "reasoning",
        "response",
        "responses",
        "result",
        "results",
        "stacktrace",
        "text",
        "texts",
        "thinking",
        "traceback",
        "transcript",
        "transcription",
        "utterance",
    ];
    WORDS.iter().any(|known| known.eq_ignore_ascii_case(word))
}

fn is_measure_word(word: &str) -> bool {
    const WORDS: &[&str] = &[
        "id",
        "ids",
        "name",
        "version",
        "type",
        "kind",
        "format",
        "mime",
        "language",
        "lang",
        "hash",
        "sha256",
        "count",
        "tokens",
        "length",
        "len",
        "size",
        "bytes",
        "chars",
        "cost",
        "price",
        "ms",
        "seconds",
        "time",
        "latency",
        "duration",
        "code",
        "status",
        "mode",
        "model",
        "modality",
        "modalities",
        "class",
        "label",
        "score",
        "index",
        "limit",
        "url",
        "source",
        "key",
    ];
    WORDS.iter().any(|known| known.eq_ignore_ascii_case(word))
}

/// True for span events that only carry messages.
pub(crate) fn is_message_event(name: &str) -> bool {
    // No event is named with a kilobyte: that is a text logged as an event.
    const NAME_BYTES_MAX: usize = 256;
    name == "gen_ai.choice"
        || (name.starts_with("gen_ai.") && name.ends_with(".message"))
        || name.starts_with("gen_ai.content.")
        || name.starts_with("llm.content.")
        || name.len() > NAME_BYTES_MAX
}

/// A key's place among the exact names: its length and last bytes tell nearly all of them apart.
fn shape(key: &[u8]) -> usize {
    let [.., before, last] = key else { return 0 };
    (key.len() * 37 + usize::from(*before) * 7 + usize::from(*last)) % SHAPES
}

const SHAPES: usize = 1024;

type Entry = (&'static str, Class);

struct Tables {
    by_shape: Vec<Vec<Entry>>,
    /// Longest prefix first.
    by_first_byte: Vec<Vec<Prefix>>,
}

struct Prefix {
    text: &'static str,
    class: Class,
    /// Its first eight bytes, and a mask of those it has: nearly all others are told apart at once.
    head: u64,
    mask: u64,
}

impl Prefix {
    fn new(text: &'static str, class: Class) -> Prefix {
        let mask = u64::MAX.checked_shr(64 - 8 * text.len().min(8) as u32).unwrap_or(0);
        Prefix { text, class, head: head(text.as_bytes()), mask }
    }

    fn begins(&self, key: &[u8], head: u64) -> bool {
        (head ^ self.head) & self.mask == 0 && key.starts_with(self.text.as_bytes())
    }
}

/// The first eight bytes; zeros for those that are missing.
#[inline]
fn head(key: &[u8]) -> u64 {
    if let Some(head) = key.first_chunk() {
        return u64::from_le_bytes(*head);
    }
    let mut head = [0; 8];
    head.iter_mut().zip(key).for_each(|(to, from)| *to = *from);
    u64::from_le_bytes(head)
}

static TABLES: LazyLock<Tables> = LazyLock::new(|| {
    let mut by_shape = vec![Vec::new(); SHAPES];
    let mut by_first_byte: Vec<Vec<Prefix>> = (0..256).map(|_| Vec::new()).collect();
    for (class, names) in [(Content, names::CONTENT), (Known, names::KNOWN), (Metadata, names::METADATA)] {
        for name in names.iter().copied() {
            if let Some(bucket) = by_shape.get_mut(shape(name.as_bytes())) {
                bucket.push((name, class));
            }
        }
    }
    for (class, prefixes) in [
        (Content, names::CONTENT_PREFIXES),
        (Known, names::KNOWN_PREFIXES),
        (Metadata, names::METADATA_PREFIXES),
    ] {
        for prefix in prefixes.iter().map(|prefix| Prefix::new(prefix, class)) {
            if let Some(bucket) = by_first_byte.get_mut(prefix.head as usize & 0xff) {
                bucket.push(prefix);
            }
        }
    }
    for bucket in &mut by_first_byte {
        bucket.sort_by_key(|prefix| std::cmp::Reverse(prefix.text.len()));
    }
    Tables { by_shape, by_first_byte }
});
