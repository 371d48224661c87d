//! Reading JSON objects of foreign origin: every mistake is recorded, nothing stops at the first.
use serde_json::{Map, Value as Json};
use uuid::Uuid;

use crate::issue::{Fault, Issue, expected, quote};
use crate::suggest::advice;
use crate::wire::Wire;

/// An object being read. Problems go to `issues`, with the path at which they were found.
pub(crate) struct Reader<'a> {
    members: &'a Map<String, Json>,
    path: String,
    pub(crate) issues: &'a mut Vec<Issue>,
}

impl<'a> Reader<'a> {
    /// `None`, and an issue, if `json` is no object.
    pub(crate) fn open(
        json: &'a Json,
        path: impl Into<String>,
        issues: &'a mut Vec<Issue>,
    ) -> Option<Reader<'a>> {
        let path = path.into();
        match json.as_object() {
            Some(members) => Some(Reader { members, path, issues }),
            None => {
                let at = if path.is_empty() { "body" } else { &path };
                issues.push(expected("an object", json).at(at));
                None
            }
        }
    }

    pub(crate) fn member(&self, key: &str) -> Option<&'a Json> {
        self.members.get(key)
    }

    pub(crate) fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    pub(crate) fn refuse(&mut self, key: &str, fault: Fault) {
        let path = self.path_of(key);
        self.issues.push(fault.at(path));
    }

    /// The member's value; `None` if it is absent, or wrong (then with an issue).
    pub(crate) fn optional<T>(
        &mut self,
        key: &str,
        read: impl FnOnce(&'a Json) -> Result<T, Fault>,
    ) -> Option<T> {
        match read(self.members.get(key)?) {
            Ok(value) => Some(value),
            Err(fault) => {
                self.refuse(key, fault);
                None
            }
        }
    }

    /// As `optional`, but absence is an issue.
    pub(crate) fn required<T>(
        &mut self,
        key: &str,
        read: impl FnOnce(&'a Json) -> Result<T, Fault>,
    ) -> Option<T> {
        if !self.members.contains_key(key) {
            self.refuse(key, Fault::required());
            return None;
        }
        self.optional(key, read)
    }

    /// An issue for every member not in `known`.
    pub(crate) fn refuse_unknown(&mut self, known: &[&str]) {
        for (key, fault) in unknown(self.members, known) {
            self.refuse(&key, fault);
        }
    }
}

/// The members not in `known`: enough of them to act on, should a caller send thousands.
pub(crate) fn unknown(members: &Map<String, Json>, known: &[&str]) -> impl Iterator<Item = (String, Fault)> {
    const REPORTED_MAX: usize = 32;
    members
        .keys()
        .filter(|key| !known.contains(&key.as_str()))
        .take(REPORTED_MAX)
        .map(|key| (shorten(key), Fault::new("unknown field").hint(advice(key, known))))
}

/// A foreign key, bounded for use in a path.
pub(crate) fn shorten(key: &str) -> String {
    key.chars().take(64).collect()
}

pub(crate) fn flag(json: &Json) -> Result<bool, Fault> {
    json.as_bool().ok_or_else(|| {
        let fault = expected("true or false", json);
        match json.as_str() {
            Some("true" | "false") => fault.hint("write it without quotes"),
            _ => fault,
        }
    })
}

pub(crate) fn array(json: &Json) -> Result<&[Json], Fault> {
    json.as_array().map(Vec::as_slice).ok_or_else(|| expected("an array", json))
}

pub(crate) fn string(json: &Json) -> Result<&str, Fault> {
    json.as_str().ok_or_else(|| {
        let fault = expected("a string", json);
        match json {
            Json::Number(_) | Json::Bool(_) => fault.hint("put it in quotes"),
            _ => fault,
        }
    })
}

/// A string that is not blank and holds no control character.
pub(crate) fn text(json: &Json) -> Result<&str, Fault> {
    let text = string(json)?;
    if text.trim().is_empty() {
        return Err(Fault::new("must not be empty"));
    }
    if text.chars().any(char::is_control) {
        return Err(Fault::new("must not hold control characters")
            .hint("a line feed at the end often comes from a file: remove it"));
    }
    Ok(text)
}

pub(crate) fn uuid(json: &Json) -> Result<Uuid, Fault> {
    let text = string(json)?;
    Uuid::parse_str(text).map_err(|_| Fault::new(format!("must be a uuid, found {}", quote(text))))
}

pub(crate) fn choice<T: Wire>(json: &Json) -> Result<T, Fault> {
    let text = string(json)?;
    T::from_wire(text).ok_or_else(|| not_one_of(text, T::NAMES))
}

pub(crate) fn not_one_of(found: &str, names: &[&str]) -> Fault {
    let message = format!("must be one of {}; found {}", names.join(", "), quote(found));
    match crate::did_you_mean(found, names.iter().copied()) {
        Some(name) => Fault::new(message).hint(format!("did you mean {name:?}?")),
        None => Fault::new(message),
    }
}
