//! What is wrong with an input, where, and what to do about it.
use std::fmt;

use serde_json::Value as Json;

/// One thing wrong with an input. `path` like `config.secretKey` or
/// `filter_rules.groups[0].rules[1].value`; `body` means the input as a whole.
///
/// No field ever holds a secret: values of secret fields are not quoted.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Issue {
    /// Where, in the spelling of the input.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What to do, if there is something to say beyond the message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl fmt::Display for Issue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message)?;
        match &self.hint {
            Some(hint) => write!(f, " ({hint})"),
            None => Ok(()),
        }
    }
}

/// What is wrong with one value, said by code that does not know where the value stood.
#[derive(Debug)]
pub(crate) struct Fault {
    message: String,
    hint: Option<String>,
}

impl Fault {
    pub(crate) fn new(message: impl Into<String>) -> Fault {
        Fault { message: message.into(), hint: None }
    }

    pub(crate) fn required() -> Fault {
        Fault::new("is required")
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Fault {
        self.hint = Some(hint.into());
        self
    }

    pub(crate) fn at(self, path: impl Into<String>) -> Issue {
        Issue { path: path.into(), message: self.message, hint: self.hint }
    }
}

/// The fault of a value of the wrong JSON type; says what was found, never its content.
pub(crate) fn expected(what: &str, found: &Json) -> Fault {
    let found = match found {
        Json::Null => "null",
        Json::Bool(_) => "a boolean",
        Json::Number(_) => "a number",
        Json::String(_) => "a string",
        Json::Array(_) => "an array",
        Json::Object(_) => "an object",
    };
    Fault::new(format!("must be {what}, found {found}"))
}

/// Text of the caller, cut and quoted for a message.
pub(crate) fn quote(text: &str) -> String {
    const CHARS_MAX: usize = 48;
    if text.chars().count() <= CHARS_MAX {
        format!("{text:?}")
    } else {
        let cut: String = text.chars().take(CHARS_MAX).collect();
        format!("{:?}", cut + "...")
    }
}
