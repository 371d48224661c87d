//! YAML as a tree whose every node knows where it stands, so that every mistake can name its line.

use std::cell::Cell;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_saphyr::budget::BudgetBreach;
use serde_saphyr::{Error, Spanned};

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Line and column in the file, from 1.
    File { line: u64, column: u64 },
    /// An environment variable that overrides the file.
    Env(String),
}

/// A value and its place.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Node {
    pub(crate) origin: Origin,
    pub(crate) value: Value,
}

/// What YAML knows. `Text` with `retype` came from a scalar that was exactly one `${...}` or from an
/// environment variable: it takes the type of the field it stands for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text { text: String, retype: bool },
    List(Vec<Node>),
    Map(Vec<(String, Origin, Node)>),
}

impl Value {
    /// What a person calls it, for messages.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Value::Null => "nothing",
            Value::Bool(_) => "a boolean",
            Value::Int(_) | Value::Float(_) => "a number",
            Value::Text { .. } => "text",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }
}

impl Node {
    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|(k, _, _)| k == key).map(|(_, _, node)| node),
            _ => None,
        }
    }

    /// The node a path like `config.headers.x` or `filter_rules.groups[0]` names, or the nearest above it.
    pub(crate) fn nearest(&self, path: &str) -> &Node {
        let mut node = self;
        for step in path.split(['.', '[', ']']).filter(|s| !s.is_empty()) {
            let next = match &node.value {
                Value::Map(_) => node.get(step),
                Value::List(items) => step.parse::<usize>().ok().and_then(|i| items.get(i)),
                _ => None,
            };
            match next {
                Some(next) => node = next,
                None => return node,
            }
        }
        node
    }
}

/// Mappings, lists and scalars of a file, keys among them: ten thousand destinations of a hundred each. Bounded, so
/// that a wrong file is refused and not read until memory ends.
const NODES_MAX: usize = 1_000_000;

/// Parses one YAML document, which may be JSON. An empty file is an empty mapping. Else where it is wrong, and how.
pub(crate) fn parse(text: &str) -> Result<Node, (Option<Origin>, String)> {
    parse_bounded(text, NODES_MAX)
}

fn parse_bounded(text: &str, nodes_max: usize) -> Result<Node, (Option<Origin>, String)> {
    let empty = Node { origin: Origin::File { line: 1, column: 1 }, value: Value::Map(Vec::new()) };
    let only_comments = text.lines().all(|l| {
        let l = l.trim();
        l.is_empty() || l.starts_with('#') || l == "---"
    });
    if only_comments {
        return Ok(empty);
    }
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! { max_nodes: nodes_max, max_events: 2 * nodes_max + 10 },
        // Its drawing of the source could show a secret.
        with_snippet: false,
    };
    let spanned: Spanned<Raw> = serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let at = error.location().map(|l| Origin::File { line: l.line(), column: l.column() });
        let message = match &error {
            Error::Budget { breach: BudgetBreach::Nodes { .. }, .. } => format!(
                "has more than {nodes_max} keys and values: create some of the destinations through the API"
            ),
            error => format!("not valid YAML or JSON: {}", first_line(&error.to_string())),
        };
        (at, message)
    })?;
    Ok(node(spanned))
}

/// The parser's message without whatever else it has to say.
fn first_line(message: &str) -> String {
    message.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned()
}

/// The tree as serde hands it over, before places are turned into origins.
enum Raw {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    List(Vec<Spanned<Raw>>),
    Map(Vec<(Spanned<String>, Spanned<Raw>)>),
}

fn origin<T>(spanned: &Spanned<T>) -> Origin {
    Origin::File { line: spanned.referenced.line(), column: spanned.referenced.column() }
}

fn node(spanned: Spanned<Raw>) -> Node {
    let origin_of_node = origin(&spanned);
    let value = match spanned.value {
        Raw::Null => Value::Null,
        Raw::Bool(b) => Value::Bool(b),
        Raw::Int(i) => Value::Int(i),
        Raw::Float(f) => Value::Float(f),
        Raw::Text(text) => Value::Text { text, retype: false },
        Raw::List(items) => Value::List(items.into_iter().map(node).collect()),
        Raw::Map(entries) => Value::Map(
            entries
                .into_iter()
                .map(|(key, value)| {
                    let at = origin(&key);
                    (key.value, at, node(value))
                })
                .collect(),
        ),
    };
    Node { origin: origin_of_node, value }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Raw, D::Error> {
        let Some(_level) = Level::enter() else {
            return Err(D::Error::custom(format_args!("nested deeper than {DEPTH_MAX} levels")));
        };
        deserializer.deserialize_any(RawVisitor)
    }
}

/// No config means anything deeper. The parser's own limit does not see what aliases add, and the stack
/// would end first.
const DEPTH_MAX: usize = 24;

thread_local! {
    static DEPTH: Cell<usize> = const { Cell::new(0) };
}

/// One level of nesting while it is read; serde passes nothing down that could count.
struct Level;

impl Level {
    fn enter() -> Option<Level> {
        let depth = DEPTH.get();
        (depth < DEPTH_MAX).then(|| {
            DEPTH.set(depth + 1);
            Level
        })
    }
}

impl Drop for Level {
    fn drop(&mut self) {
        DEPTH.set(DEPTH.get() - 1);
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Raw, D::Error> {
        Raw::deserialize(deserializer)
    }

    fn visit_bool<E>(self, v: bool) -> Result<Raw, E> {
        Ok(Raw::Bool(v))
    }

    fn visit_i64<E>(self, v: i64) -> Result<Raw, E> {
        Ok(Raw::Int(v))
    }

    fn visit_u64<E>(self, v: u64) -> Result<Raw, E> {
        Ok(i64::try_from(v).map_or(Raw::Float(v as f64), Raw::Int))
    }

    fn visit_f64<E>(self, v: f64) -> Result<Raw, E> {
        Ok(Raw::Float(v))
    }

    fn visit_str<E>(self, v: &str) -> Result<Raw, E> {
        Ok(Raw::Text(v.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Raw, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Raw::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Raw::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_file_holds_is_bounded_and_the_bound_is_told() {
        let list = |items: usize| format!("a: [{}]", "1,".repeat(items));
        // Besides the items: the mapping, its key, the list.
        assert!(parse_bounded(&list(97), 100).is_ok());
        let (at, message) = parse_bounded(&list(98), 100).unwrap_err();
        assert!(at.is_some() && message.contains("more than 100 keys and values"), "{message}");
    }
}
