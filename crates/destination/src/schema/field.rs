//! The table behind a config: one [`Field`] per key, and what a single value must be.
use serde_json::Value as Json;
use uuid::Uuid;

use super::{Audience, Values};
use crate::address::Address;
use crate::issue::Fault;
use crate::mask::is_masked;
use crate::read;
use crate::signing;
use crate::wire::Wire;

/// One config key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Field {
    pub(crate) name: &'static str,
    /// What it means, for the JSON Schema: the doc comment of the struct field.
    pub(crate) about: &'static str,
    pub(crate) rule: Rule,
    pub(crate) presence: Presence,
    pub(crate) secret: bool,
    check: Option<Check>,
    /// The gateway gives the value, from the destination's id; a caller may only repeat it.
    pub(crate) assigned: Option<fn(Uuid) -> String>,
}

/// A rule on the text of one field. Its faults must not quote secrets.
pub(crate) type Check = fn(&str) -> Result<(), Fault>;

/// What a value must be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Rule {
    /// Not blank, no control characters.
    Text,
    /// As `Text`, but may be empty.
    TextOrEmpty,
    /// A key that travels in headers: printable ASCII without spaces.
    Token,
    Url(Address),
    Choice(&'static [&'static str]),
    Flag,
    /// Replaced signing secrets: the gateway keeps them, callers only see them.
    FormerSecrets,
}

/// What absence means.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Presence {
    Required,
    Optional,
    Default(&'static str),
    DefaultFalse,
}

impl Field {
    const fn new(name: &'static str, rule: Rule) -> Field {
        Field {
            name,
            about: "",
            rule,
            presence: Presence::Required,
            secret: false,
            check: None,
            assigned: None,
        }
    }

    pub(crate) const fn optional(mut self) -> Field {
        self.presence = Presence::Optional;
        self
    }

    pub(crate) const fn default(mut self, value: &'static str) -> Field {
        self.presence = Presence::Default(value);
        self
    }

    /// Masked when shown, sealed when stored.
    pub(crate) const fn secret(mut self) -> Field {
        self.secret = true;
        self
    }

    /// A rule of this field alone, applied after its type is right.
    pub(crate) const fn check(mut self, check: Check) -> Field {
        self.check = Some(check);
        self
    }

    pub(crate) const fn assigned(mut self, derive: fn(Uuid) -> String) -> Field {
        self.assigned = Some(derive);
        self.presence = Presence::Optional;
        self
    }

    pub(crate) const fn about(mut self, about: &'static str) -> Field {
        self.about = about;
        self
    }

    /// Whether a caller may give it.
    pub(crate) fn is_given(&self) -> bool {
        self.assigned.is_none() && self.rule != Rule::FormerSecrets
    }

    /// The value this field has when nothing is given.
    pub(super) fn absent(&self) -> Result<Option<Json>, Fault> {
        match self.presence {
            Presence::Required => Err(Fault::required()),
            Presence::Optional => Ok(None),
            Presence::Default(value) => Ok(Some(Json::from(value))),
            Presence::DefaultFalse => Ok(Some(Json::Bool(false))),
        }
    }

    /// The effective value. `current` is the whole config before a PATCH, `None` on create.
    pub(super) fn resolve(
        &self,
        given: Option<&Json>,
        current: Option<&Values>,
        id: Uuid,
    ) -> Result<Option<Json>, Fault> {
        let before = current.and_then(|values| values.get(self.name));
        if let Some(derive) = self.assigned {
            let own = before.cloned().unwrap_or_else(|| Json::from(derive(id)));
            return match given {
                Some(given) if !given.is_null() && *given != own => {
                    Err(Fault::new("is assigned by the gateway and cannot be chosen")
                        .hint("leave it out and read it from the answer"))
                }
                _ => Ok(Some(own)),
            };
        }
        if self.rule == Rule::FormerSecrets {
            return match given {
                Some(given) if current.is_none() && !given.is_null() => {
                    Err(Fault::new("is kept by the gateway and cannot be set").hint("leave it out"))
                }
                // The successor takes them over from the config before.
                _ => Ok(None),
            };
        }
        match (given, before) {
            (None, Some(before)) => Ok(Some(before.clone())),
            (None | Some(Json::Null), _) => self.absent(),
            (Some(given), before) if current.is_some() && self.keeps(given, before)? => {
                before.map_or_else(|| self.absent(), |before| Ok(Some(before.clone())))
            }
            (Some(given), _) => {
                self.validate(given)?;
                Ok(Some(given.clone()))
            }
        }
    }

    /// Whether a PATCH value is only the masked form of what is stored.
    fn keeps(&self, given: &Json, before: Option<&Json>) -> Result<bool, Fault> {
        let Some(given) = given.as_str() else { return Ok(false) };
        match self.rule {
            Rule::Url(address) => address.keeps(given, before.and_then(Json::as_str)),
            _ => Ok(self.secret && is_masked(given)),
        }
    }

    fn validate(&self, given: &Json) -> Result<(), Fault> {
        if given.as_str() == Some("") && !matches!(self.rule, Rule::TextOrEmpty | Rule::Flag) {
            let empty = Fault::new("must not be empty");
            return Err(match self.presence {
                Presence::Default(value) => empty.hint(format!("leave it out to use {value}")),
                Presence::Optional => empty.hint("leave it out instead"),
                Presence::Required | Presence::DefaultFalse => empty,
            });
        }
        let text = match self.rule {
            Rule::Flag => return read::flag(given).map(drop),
            Rule::FormerSecrets => return Err(Fault::new("is kept by the gateway and cannot be set")),
            Rule::TextOrEmpty if given.as_str() == Some("") => return Ok(()),
            Rule::Text | Rule::TextOrEmpty => read::text(given)?,
            Rule::Token => {
                let token = read::text(given)?;
                if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
                    return Err(Fault::new("must be printable ASCII without spaces")
                        .hint("copy the key again: white space or a typographic character got in"));
                }
                token
            }
            Rule::Url(address) => {
                let url = read::string(given)?;
                address.check(url)?;
                url
            }
            Rule::Choice(names) => {
                let name = read::string(given)?;
                if !names.contains(&name) {
                    return Err(read::not_one_of(name, names));
                }
                name
            }
        };
        self.check.map_or(Ok(()), |check| check(text))
    }

    /// The value as `audience` may see it.
    pub(crate) fn shown(&self, value: &Json, audience: Audience) -> Json {
        match (self.rule, value.as_str()) {
            (Rule::FormerSecrets, _) => signing::shown(value, |secret| audience.conceal(secret)),
            (_, Some(text)) if self.secret => Json::from(audience.conceal(text)),
            (Rule::Url(address), Some(url)) => Json::from(audience.url(address, url)),
            _ => value.clone(),
        }
    }
}

/// A string that must not be blank.
pub(crate) const fn text(name: &'static str) -> Field {
    Field::new(name, Rule::Text)
}

/// A string that may be empty.
pub(crate) const fn text_or_empty(name: &'static str) -> Field {
    Field::new(name, Rule::TextOrEmpty)
}

/// A secret that travels in headers.
pub(crate) const fn token(name: &'static str) -> Field {
    Field::new(name, Rule::Token).secret()
}

/// A URL to which paths are appended.
pub(crate) const fn base_url(name: &'static str) -> Field {
    Field::new(name, Rule::Url(Address::Base))
}

pub(crate) const fn url(name: &'static str, address: Address) -> Field {
    Field::new(name, Rule::Url(address))
}

pub(crate) const fn choice<T: Wire>(name: &'static str) -> Field {
    Field::new(name, Rule::Choice(T::NAMES))
}

/// A boolean, false unless given.
pub(crate) const fn flag(name: &'static str) -> Field {
    let mut field = Field::new(name, Rule::Flag);
    field.presence = Presence::DefaultFalse;
    field
}

/// Signing secrets that were replaced.
pub(crate) const fn former_secrets(name: &'static str) -> Field {
    Field::new(name, Rule::FormerSecrets).secret().optional()
}
