//! Reads typed settings from the tree. Every mistake is collected; unknown keys are mistakes.
//!
//! What is asked for is what the schema has: each setting is asked for with its form, its default and what it means,
//! and a section that was read is also described.

use serde_json::{Map, Value as Json, json};
use tracecast_destination::did_you_mean;

use super::forms::Form;
use super::tree::{Node, Value};
use super::{Mistake, Mistakes};

/// One mapping being read: knows which of its keys were asked for, and as what.
pub(crate) struct Section<'a> {
    node: Option<&'a Node>,
    key: &'static str,
    about: &'static str,
    path: String,
    known: Vec<&'static str>,
    required: Vec<&'static str>,
    properties: Map<String, Json>,
}

impl<'a> Section<'a> {
    /// A mapping that is in no other: the file, or an item of a list. Absent is empty.
    pub(crate) fn root(node: &'a Node, about: &'static str, mistakes: &mut Mistakes) -> Section<'a> {
        Section::new(Some(node), "", about, String::new(), mistakes)
    }

    fn new(
        node: Option<&'a Node>,
        key: &'static str,
        about: &'static str,
        path: String,
        mistakes: &mut Mistakes,
    ) -> Section<'a> {
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
        Section { node, key, about, path, known: Vec::new(), required: Vec::new(), properties: Map::new() }
    }

    /// The path of one of its keys.
    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// The node of a key, noted as known. `null` counts as absent.
    fn ask(&mut self, key: &'static str) -> Option<&'a Node> {
        self.known.push(key);
        self.node.and_then(|n| n.get(key)).filter(|n| n.value != Value::Null)
    }

    /// What the key holds, for a reader of its own, who says what it must be.
    pub(crate) fn take(&mut self, key: &'static str, schema: Json) -> Option<&'a Node> {
        self.properties.insert(key.to_owned(), schema);
        self.ask(key)
    }

    /// The mapping at `key`, to be given back to `end`.
    pub(crate) fn section(
        &mut self,
        key: &'static str,
        about: &'static str,
        mistakes: &mut Mistakes,
    ) -> Section<'a> {
        let path = self.path_of(key);
        let node = self.ask(key);
        Section::new(node, key, about, path, mistakes)
    }

    /// Nothing more is asked of a section of this one.
    pub(crate) fn end(&mut self, inner: Section<'a>, mistakes: &mut Mistakes) {
        let key = inner.key.to_owned();
        let schema = inner.finish(mistakes);
        self.properties.insert(key, schema);
    }

    /// The value of a setting. `None` only after a mistake.
    pub(crate) fn setting<T: 'static>(
        &mut self,
        key: &'static str,
        about: &'static str,
        form: Form<T>,
        default: &'static str,
        mistakes: &mut Mistakes,
    ) -> Option<T> {
        self.describe(key, about, &form, Some(default));
        match self.ask(key) {
            Some(node) => self.value(key, node, &form, mistakes),
            None => match form.read(default) {
                Ok(value) => Some(value),
                Err(message) => {
                    mistakes.list.push(Mistake {
                        origin: None,
                        path: self.path_of(key),
                        message: format!("has an unreadable default: {message}"),
                        hint: None,
                    });
                    None
                }
            },
        }
    }

    /// The value of a setting that may be absent.
    pub(crate) fn optional<T: 'static>(
        &mut self,
        key: &'static str,
        about: &'static str,
        form: Form<T>,
        mistakes: &mut Mistakes,
    ) -> Option<T> {
        self.describe(key, about, &form, None);
        let node = self.ask(key)?;
        self.value(key, node, &form, mistakes)
    }

    /// The value of a setting that must be there. `None` only after a mistake.
    pub(crate) fn required<T: 'static>(
        &mut self,
        key: &'static str,
        about: &'static str,
        form: Form<T>,
        mistakes: &mut Mistakes,
    ) -> Option<T> {
        self.describe(key, about, &form, None);
        self.required.push(key);
        match (self.ask(key), self.node) {
            (Some(node), _) => self.value(key, node, &form, mistakes),
            (None, Some(section)) => {
                mistakes.add(&section.origin, &self.path_of(key), "is missing".into(), None);
                None
            }
            (None, None) => None,
        }
    }

    fn value<T: 'static>(
        &self,
        key: &str,
        node: &Node,
        form: &Form<T>,
        mistakes: &mut Mistakes,
    ) -> Option<T> {
        let text = match &node.value {
            Value::Text { text, .. } => text.clone(),
            Value::Int(i) => i.to_string(),
            Value::Float(f) => f.to_string(),
            Value::Bool(b) => b.to_string(),
            other => {
                let message = format!("must be a single value, not {}", other.kind());
                mistakes.add(&node.origin, &self.path_of(key), message, None);
                return None;
            }
        };
        form.read(&text).map_err(|m| mistakes.add(&node.origin, &self.path_of(key), m, None)).ok()
    }

    fn describe<T>(&mut self, key: &str, about: &str, form: &Form<T>, default: Option<&str>) {
        // The text is read after substitution, so that any part of it may come from outside.
        let any_of =
            [form.schema.clone(), json!({ "$ref": "#/$defs/substituted" }), json!({ "type": "null" })];
        let mut schema = json!({ "description": about, "anyOf": any_of });
        if let Some(default) = default {
            // As YAML reads it: a number or a boolean, if it looks like one.
            schema["default"] = serde_json::from_str(default).unwrap_or_else(|_| Json::from(default));
        }
        self.properties.insert(key.to_owned(), schema);
    }

    /// Complains about every key nobody asked for; what was asked for is its schema.
    pub(crate) fn finish(self, mistakes: &mut Mistakes) -> Json {
        if let Some(Node { value: Value::Map(entries), .. }) = self.node {
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
        json!({
            "description": self.about,
            "type": ["object", "null"],
            "required": self.required,
            "additionalProperties": false,
            "properties": self.properties,
        })
    }
}
