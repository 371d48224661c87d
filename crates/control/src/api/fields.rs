//! Typed reading of the fields of a body, every mistake collected before any is reported.
//!
//! Absent, `null` and a value are three different things: a PATCH keeps, clears and sets.

use std::ops::RangeInclusive;

use serde_json::{Map, Value as Json};
use tracecast_destination::Issue;

use super::envelope::{ApiError, issue};
use crate::model::from_wire;

/// `None` = absent, `Some(None)` = `null`.
pub(crate) type Given<T> = Option<Option<T>>;

/// The fields of one object.
#[derive(Debug)]
pub(crate) struct Fields<'a> {
    body: &'a Map<String, Json>,
    /// Put before each name: `external.` for a nested object.
    prefix: &'static str,
    pub(crate) issues: Vec<Issue>,
}

impl<'a> Fields<'a> {
    pub(crate) fn new(body: &'a Map<String, Json>) -> Fields<'a> {
        Fields::nested(body, "")
    }

    pub(crate) fn nested(body: &'a Map<String, Json>, prefix: &'static str) -> Fields<'a> {
        Fields { body, prefix, issues: Vec::new() }
    }

    pub(crate) fn refuse(&mut self, name: &str, message: impl Into<String>) {
        self.issues.push(issue(format!("{}{name}", self.prefix), message));
    }

    /// A field read by `read`; a value it does not take counts as absent and is reported.
    pub(crate) fn read<T>(
        &mut self,
        name: &str,
        expected: &str,
        read: impl FnOnce(&'a Json) -> Option<T>,
    ) -> Given<T> {
        match self.body.get(name)? {
            Json::Null => Some(None),
            value => match read(value) {
                Some(value) => Some(Some(value)),
                None => {
                    self.refuse(name, format!("must be {expected}"));
                    None
                }
            },
        }
    }

    pub(crate) fn text(&mut self, name: &str, chars: RangeInclusive<usize>) -> Given<String> {
        let expected = match (*chars.start(), *chars.end()) {
            (0, usize::MAX) => "a string".to_owned(),
            (1, usize::MAX) => "a string that is not empty".to_owned(),
            (0, max) => format!("a string of at most {max} characters"),
            (min, max) => format!("a string of {min} to {max} characters"),
        };
        self.read(name, &expected, |value| {
            value.as_str().filter(|text| chars.contains(&text.chars().count())).map(str::to_owned)
        })
    }

    pub(crate) fn boolean(&mut self, name: &str) -> Given<bool> {
        self.read(name, "true or false", Json::as_bool)
    }

    pub(crate) fn number(&mut self, name: &str, expected: &str, range: RangeInclusive<f64>) -> Given<f64> {
        self.read(name, expected, |value| value.as_f64().filter(|number| range.contains(number)))
    }

    pub(crate) fn choice<T: Copy>(&mut self, name: &str, table: &[(&str, T)]) -> Given<T> {
        let names: Vec<&str> = table.iter().map(|(name, _)| *name).collect();
        self.read(name, &format!("one of {}", names.join(", ")), |value| from_wire(table, value.as_str()?))
    }

    /// A field that `null` does not clear.
    pub(crate) fn not_null<T>(&mut self, name: &str, given: Given<T>) -> Option<T> {
        match given {
            None => None,
            Some(None) => {
                self.refuse(name, "must not be null");
                None
            }
            Some(value) => value,
        }
    }

    /// A field a create cannot do without.
    pub(crate) fn required<T>(&mut self, name: &str, given: Given<T>) -> Option<T> {
        if given.is_none() && !self.body.contains_key(name) {
            self.refuse(name, "is required");
        }
        self.not_null(name, given)
    }

    /// Fails with everything that was wrong.
    pub(crate) fn finish(self) -> Result<(), ApiError> {
        if self.issues.is_empty() { Ok(()) } else { Err(ApiError::invalid(&self.issues)) }
    }
}
