//! The declarative table behind every config.
//!
//! `config!` declares the typed struct and the table in one place; everything that treats all
//! kinds alike (validation, merging, masking, sealing, `Debug`, JSON Schema) walks the table.
mod field;
#[macro_use]
mod slot;

use serde_json::{Map, Value as Json};
use uuid::Uuid;

use crate::address::Address;
use crate::headers::{self, HeaderRules};
use crate::issue::{Fault, Issue, expected};
use crate::mask::{HIDDEN, mask};
use crate::read::unknown;

pub(crate) use field::{
    Field, Presence, Rule, base_url, choice, flag, former_secrets, text, text_or_empty, token, url,
};
pub(crate) use slot::Slot;

/// A config as the API spells it: effective values, secrets in clear. Never shown, never logged.
pub(crate) type Values = Map<String, Json>;

/// Who is going to see values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Audience {
    /// Callers of the API: masked secrets.
    Api,
    /// Logs and `Debug`: nothing of a secret, and nothing of what might be one.
    Log,
}

impl Audience {
    pub(crate) fn conceal(self, secret: &str) -> String {
        match self {
            Audience::Api => mask(secret),
            Audience::Log => HIDDEN.to_owned(),
        }
    }

    fn url(self, address: Address, url: &str) -> String {
        match self {
            Audience::Api => address.map_secrets(url, mask),
            Audience::Log => Address::Webhook.map_secrets(url, |_| HIDDEN.to_owned()),
        }
    }
}

/// A typed config and its table; implemented by `config!`.
pub(crate) trait Fields: Sized {
    const FIELDS: &'static [Field];
    /// From checked values; `None` if they do not fit the table.
    fn read(values: &Values) -> Option<Self>;
    fn write(&self) -> Values;
}

/// What a kind adds to its table.
pub(crate) trait Shape: Fields {
    const HEADERS: HeaderRules;

    /// Rules that span several fields.
    fn check(_draft: &mut Draft<'_>) {}

    /// The address events are sent to, as far as the config decides it.
    fn target_url(&self) -> Option<String>;
}

/// The values of a config under validation, for rules that span fields.
pub(crate) struct Draft<'a> {
    pub(crate) values: Values,
    refused: Vec<&'static str>,
    issues: &'a mut Vec<Issue>,
}

impl Draft<'_> {
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.values.get(name).and_then(Json::as_str)
    }

    pub(crate) fn refuse(&mut self, name: &str, fault: Fault) {
        self.issues.push(fault.at(format!("config.{name}")));
    }

    /// An issue if the field is absent (a field refused for another reason is not absent).
    pub(crate) fn require(&mut self, name: &str, because: &str) {
        if !self.values.contains_key(name) && !self.refused.contains(&name) {
            self.refuse(name, Fault::new(format!("is required {because}")));
        }
    }

    pub(crate) fn was_refused(&self, name: &str) -> bool {
        self.refused.contains(&name)
    }
}

/// Everything about one kind's config that does not need its type.
#[derive(Clone, Copy)]
pub(crate) struct Schema {
    pub(crate) fields: &'static [Field],
    headers: HeaderRules,
    check: fn(&mut Draft<'_>),
}

impl Schema {
    pub(crate) const fn of<T: Shape>() -> Schema {
        Schema { fields: T::FIELDS, headers: T::HEADERS, check: T::check }
    }

    /// The effective values of a create (`current` absent) or PATCH; `None` if anything is wrong.
    pub(crate) fn resolve(
        &self,
        given: &Json,
        current: Option<&Values>,
        id: Uuid,
        issues: &mut Vec<Issue>,
    ) -> Option<Values> {
        let Json::Object(given) = given else {
            issues.push(expected("an object", given).at("config"));
            return None;
        };
        let issues_before = issues.len();
        let known: Vec<&str> = self.fields.iter().map(|field| field.name).chain([headers::KEY]).collect();
        issues.extend(unknown(given, &known).map(|(key, fault)| fault.at(format!("config.{key}"))));
        let mut draft = Draft { values: Values::new(), refused: Vec::new(), issues };
        for field in self.fields {
            match field.resolve(given.get(field.name), current, id) {
                Ok(Some(value)) => {
                    draft.values.insert(field.name.to_owned(), value);
                }
                Ok(None) => {}
                Err(fault) => {
                    draft.refused.push(field.name);
                    draft.refuse(field.name, fault);
                }
            }
        }
        if let Some(headers) = self.headers.resolve(given.get(headers::KEY), current, draft.issues) {
            draft.values.insert(headers::KEY.to_owned(), headers);
        }
        (self.check)(&mut draft);
        let Draft { values, issues, .. } = draft;
        (issues.len() == issues_before).then_some(values)
    }

    /// Adds the defaults of fields a stored config does not have yet.
    pub(crate) fn complete(&self, values: &mut Values, issues: &mut Vec<Issue>) {
        for field in self.fields.iter().filter(|field| field.assigned.is_none()) {
            if values.contains_key(field.name) {
                continue;
            }
            match field.absent() {
                Ok(Some(value)) => {
                    values.insert(field.name.to_owned(), value);
                }
                Ok(None) => {}
                Err(fault) => issues.push(fault.at(format!("config.{}", field.name))),
            }
        }
    }

    /// The values as `audience` may see them.
    pub(crate) fn shown(&self, values: &Values, audience: Audience) -> Values {
        let show = |(name, value): (&String, &Json)| {
            let shown = match self.fields.iter().find(|field| field.name == name) {
                Some(field) => field.shown(value, audience),
                None => headers::shown(value, audience),
            };
            (name.clone(), shown)
        };
        values.iter().map(show).collect()
    }

    /// Splits values into those that may be stored in clear and those that must be sealed. A URL
    /// is sealed whole if any part of it is secret.
    pub(crate) fn split(&self, values: Values) -> (Values, Values) {
        values.into_iter().partition(|(name, value)| {
            self.fields
                .iter()
                .find(|field| field.name == name)
                .is_some_and(|field| !field.secret && field.shown(value, Audience::Api) == *value)
        })
    }
}
