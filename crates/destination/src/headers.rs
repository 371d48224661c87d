//! Extra request headers: every kind takes them; which names are refused differs.
use http::{HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value as Json};

use crate::issue::{Fault, Issue, expected};
use crate::mask::is_masked;
use crate::read::{shorten, string};
use crate::schema::{Audience, Values};

/// Extra headers of a destination: names checked, values secret.
pub type Headers = Vec<(String, SecretString)>;

/// The config key under which headers stand, in every kind.
pub(crate) const KEY: &str = "headers";

/// More than common servers take in one request.
const HEADERS_MAX: usize = 100;

/// What belongs to the connection or the framing, and our own loop guard.
const NEVER: &[&str] = &[
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-tracecast-attempt",
    "x-tracecast-first-seen",
    "x-tracecast-replayed",
    "x-tracecast-via",
];
const BODY: &[&str] = &["content-encoding", "content-type"];
const AMZ: &[&str] = &[
    "x-amz-acl",
    "x-amz-expected-bucket-owner",
    "x-amz-request-payer",
    "x-amz-storage-class",
    "x-amz-tagging",
];
const AMZ_PREFIXES: &[&str] = &["x-amz-meta-", "x-amz-server-side-encryption"];

/// Which header names one kind refuses beyond those that all refuse.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeaderRules {
    own: &'static [&'static str],
    body: bool,
}

impl HeaderRules {
    /// `own`: lower-case names that the adapter sets itself from the config.
    pub(crate) const fn own(own: &'static [&'static str]) -> HeaderRules {
        HeaderRules { own, body: false }
    }

    /// The user may say what the body is.
    pub(crate) const fn allow_body(mut self) -> HeaderRules {
        self.body = true;
        self
    }

    fn check_name(&self, name: &str) -> Result<(), Fault> {
        HeaderName::from_bytes(name.as_bytes()).map_err(|_| Fault::new("is not a legal header name"))?;
        let lower = name.to_ascii_lowercase();
        let is = |names: &[&str]| names.contains(&lower.as_str());
        if is(NEVER) || lower.starts_with("proxy-") {
            return Err(Fault::new("is set by the connection and cannot be configured"));
        }
        if is(BODY) && !self.body {
            return Err(Fault::new("is set by the gateway for this type"));
        }
        if is(self.own) {
            return Err(Fault::new("is set by the gateway from the config of this type")
                .hint("use the config field instead of a header"));
        }
        let amz_allowed = is(AMZ) || AMZ_PREFIXES.iter().any(|prefix| lower.starts_with(prefix));
        if self.own.contains(&"x-amz-*") && lower.starts_with("x-amz-") && !amz_allowed {
            return Err(Fault::new("is part of the request signature and cannot be configured")
                .hint(format!("allowed: {}, {}*", AMZ.join(", "), AMZ_PREFIXES.join("*, "))));
        }
        Ok(())
    }

    /// The headers a body asks for. On PATCH (`current` given) they replace the current ones as a
    /// whole, except that a masked value stands for the current value of that name.
    pub(crate) fn resolve(
        &self,
        given: Option<&Json>,
        current: Option<&Values>,
        issues: &mut Vec<Issue>,
    ) -> Option<Json> {
        let before = current.and_then(|values| values.get(KEY));
        let given = match given {
            None => return before.cloned(),
            Some(Json::Null) => return None,
            Some(Json::Object(given)) => given,
            Some(other) => {
                issues.push(expected("an object of strings", other).at(format!("config.{KEY}")));
                return None;
            }
        };
        if given.len() > HEADERS_MAX {
            let fault = Fault::new(format!("has more than {HEADERS_MAX} headers"));
            issues.push(fault.at(format!("config.{KEY}")));
            return None;
        }
        let mut headers = Map::new();
        for (name, value) in given {
            let path = format!("config.{KEY}.{}", shorten(name));
            let value = match string(value) {
                Ok(text) if current.is_some() && is_masked(text) => match value_of(before, name) {
                    Some(kept) => kept.to_owned(),
                    None => continue,
                },
                Ok(text) => text.to_owned(),
                Err(fault) => {
                    issues.push(fault.at(path));
                    continue;
                }
            };
            let checked =
                self.check_name(name).and_then(|()| check_value(&value)).and_then(|()| {
                    match headers.keys().any(|other: &String| other.eq_ignore_ascii_case(name)) {
                        true => Err(Fault::new("is given twice (header names ignore case)")),
                        false => Ok(()),
                    }
                });
            match checked {
                Ok(()) => {
                    headers.insert(name.clone(), Json::String(value));
                }
                Err(fault) => issues.push(fault.at(path)),
            }
        }
        (!headers.is_empty()).then_some(Json::Object(headers))
    }
}

fn check_value(value: &str) -> Result<(), Fault> {
    HeaderValue::from_str(value).map(drop).map_err(|_| {
        Fault::new("is not a legal header value: it holds a control character")
            .hint("a line feed at the end often comes from a file: remove it")
    })
}

fn value_of<'a>(headers: Option<&'a Json>, name: &str) -> Option<&'a str> {
    let (_, value) = headers?.as_object()?.iter().find(|(other, _)| other.eq_ignore_ascii_case(name))?;
    value.as_str()
}

/// The typed headers of checked config values.
pub(crate) fn read(values: &Values) -> Option<Headers> {
    match values.get(KEY) {
        None => Some(Headers::new()),
        Some(Json::Object(headers)) => headers
            .iter()
            .map(|(name, value)| Some((name.clone(), SecretString::from(value.as_str()?))))
            .collect(),
        Some(_) => None,
    }
}

/// Adds the headers to config values, if there are any.
pub(crate) fn write(headers: &Headers, values: &mut Values) {
    if headers.is_empty() {
        return;
    }
    let headers =
        headers.iter().map(|(name, value)| (name.clone(), Json::from(value.expose_secret()))).collect();
    values.insert(KEY.to_owned(), Json::Object(headers));
}

/// The headers object as `audience` may see it: names, concealed values.
pub(crate) fn shown(headers: &Json, audience: Audience) -> Json {
    let shown = headers.as_object().into_iter().flatten().map(|(name, value)| {
        (name.clone(), Json::from(audience.conceal(value.as_str().unwrap_or_default())))
    });
    Json::Object(shown.collect())
}
