//! The lazy reading of one span: model, provider, names, ids, errors, times.

use std::borrow::Cow;

use serde_json::Value as Json;
use tracecast_otlp::{SpanView, Value, json};

use crate::keys::{self, Keys};
use crate::usage::number_of;

/// A lazy reading of one span; nothing is decoded until asked.
#[derive(Clone, Copy, Debug)]
pub struct Generation<'a> {
    span: SpanView<'a>,
}

impl<'a> Generation<'a> {
    /// Reads `span`; costs nothing yet.
    pub fn new(span: SpanView<'a>) -> Self {
        Generation { span }
    }

    /// The span behind it.
    pub fn span(&self) -> SpanView<'a> {
        self.span
    }

    /// The requested model.
    pub fn model(&self) -> Option<&'a str> {
        self.first_str(keys::REQUEST_MODEL).or_else(|| self.first_str(keys::RESPONSE_MODEL))
    }

    /// The model that answered.
    pub fn response_model(&self) -> Option<&'a str> {
        self.first_str(keys::RESPONSE_MODEL)
    }

    /// The vendor's id of the answer (the generation id at OpenRouter).
    pub fn response_id(&self) -> Option<&'a str> {
        self.first_str(keys::RESPONSE_ID)
    }

    /// Display name if the span gives one (`Amazon Bedrock`), else the provider or system name.
    pub fn provider_name(&self) -> Option<&'a str> {
        self.first_str(keys::PROVIDER_DISPLAY).or_else(|| self.first_str(keys::PROVIDER))
    }

    /// The provider's slug if the span gives one (`amazon-bedrock/global`), else the provider or system name.
    pub fn provider_slug(&self) -> Option<&'a str> {
        self.first_str(keys::PROVIDER_SLUG).or_else(|| self.first_str(keys::PROVIDER))
    }

    /// The end user.
    pub fn user_id(&self) -> Option<&'a str> {
        self.first_str(keys::USER_ID)
    }

    /// The session or conversation.
    pub fn session_id(&self) -> Option<&'a str> {
        self.first_str(keys::SESSION_ID)
    }

    /// Name of the API key the request was made with.
    pub fn api_key_name(&self) -> Option<&'a str> {
        self.first_str(keys::API_KEY_NAME)
    }

    /// Account or organization, as OpenRouter names it.
    pub fn entity_id(&self) -> Option<&'a str> {
        self.first_str(keys::ENTITY_ID)
    }

    /// The organization, where it is told apart from the account.
    pub fn organization_id(&self) -> Option<&'a str> {
        self.first_str(keys::ORGANIZATION_ID)
    }

    /// Name of the trace (not of the span).
    pub fn trace_name(&self) -> Option<&'a str> {
        self.first_str(keys::TRACE_NAME)
    }

    /// `production`, ... from the span, else from the resource.
    pub fn environment(&self) -> Option<&'a str> {
        self.first_str_anywhere(keys::ENVIRONMENT)
    }

    /// The application's release, from the span, else from the resource.
    pub fn release(&self) -> Option<&'a str> {
        self.first_str_anywhere(keys::RELEASE)
    }

    /// `DEBUG`, `DEFAULT`, `WARNING` or `ERROR`: as given, else by the status.
    pub fn level(&self) -> &'a str {
        self.first_str(keys::LEVEL).unwrap_or(if self.span.status_code() == 2 { "ERROR" } else { "DEFAULT" })
    }

    /// Class of the error: `error.type`, else the type of the last exception.
    pub fn error_type(&self) -> Option<Cow<'a, str>> {
        match self.first(keys::ERROR_TYPE) {
            Some(Value::Str(text)) => Some(Cow::Borrowed(text)),
            Some(Value::Int(code)) => Some(Cow::Owned(code.to_string())),
            _ => self.exception("exception.type").map(Cow::Borrowed),
        }
    }

    /// What went wrong in words: the status message, an attribute for it, or the last exception's message.
    pub fn error_message(&self) -> Option<&'a str> {
        let status =
            Some(self.span.status_message()).filter(|m| !m.is_empty() && self.span.status_code() != 1);
        status.or_else(|| self.first_str(keys::ERROR_MESSAGE)).or_else(|| self.exception("exception.message"))
    }

    /// The caller's raw trace id string, where the id was hashed.
    pub fn raw_trace_id(&self) -> Option<&'a str> {
        self.first_str_anywhere(keys::RAW_TRACE_ID)
    }

    /// Milliseconds from the start to the first token.
    pub fn first_token_ms(&self) -> Option<f64> {
        let number = |keys: Keys| self.span.first(keys, |value| number_of(&value).filter(|ms| *ms >= 0.0));
        number(keys::FIRST_TOKEN_MS).or_else(|| number(keys::FIRST_TOKEN_SECONDS).map(|s| s * 1e3)).or_else(
            || {
                // Langfuse's SDK writes the time as JSON text, quotes included.
                let at = self.str(keys::FIRST_TOKEN_AT)?.trim_matches('"');
                let nanos = at.parse::<jiff::Timestamp>().ok()?.as_nanosecond();
                let since = nanos - i128::from(self.span.start_unix_nano());
                (since >= 0).then_some(since as f64 / 1e6)
            },
        )
    }

    fn exception(&self, key: &str) -> Option<&'a str> {
        let of_event = |event: tracecast_otlp::EventView<'a>| {
            let found = event.attributes().filter(|(name, _)| *name == key).last()?;
            found.1.as_str().filter(|text| !text.is_empty())
        };
        self.span.events().filter(|event| event.name() == "exception").filter_map(of_event).last()
    }

    /// The first of `keys` that is there and not empty.
    pub(crate) fn first(&self, keys: Keys) -> Option<Value<'a>> {
        self.span.first(keys, |value| Some(value).filter(is_given))
    }

    pub(crate) fn first_str(&self, keys: Keys) -> Option<&'a str> {
        self.span.first(keys, given_str)
    }

    /// The attribute if it is a string and not empty.
    #[inline]
    pub(crate) fn str(&self, key: &str) -> Option<&'a str> {
        self.span.attribute(key).and_then(given_str)
    }

    /// On the span by any of `keys`, else on the resource.
    fn first_str_anywhere(&self, keys: Keys) -> Option<&'a str> {
        self.first_str(keys).or_else(|| {
            let resource = self.span.resource();
            keys.iter().find_map(|key| resource.attribute(key).and_then(given_str))
        })
    }

    /// An attribute that is a JSON object, as text or structured.
    pub(crate) fn object(&self, key: &str) -> Option<Json> {
        to_json(&self.span.attribute(key)?).filter(Json::is_object)
    }
}

fn given_str(value: Value<'_>) -> Option<&str> {
    value.as_str().filter(|text| !text.is_empty())
}

pub(crate) fn is_given(value: &Value<'_>) -> bool {
    !matches!(value, Value::Empty | Value::Str(""))
}

/// A value as JSON; text that is itself a JSON array or object is read as such.
pub(crate) fn to_json(value: &Value<'_>) -> Option<Json> {
    match value {
        Value::Empty => None,
        Value::Str(text) => Some(json_of_text(text).unwrap_or_else(|| Json::String((*text).to_owned()))),
        other => plain_json(other),
    }
}

/// A value as JSON, texts unread.
pub(crate) fn plain_json(value: &Value<'_>) -> Option<Json> {
    match value {
        Value::Empty => None,
        Value::Str(text) => Some(Json::String((*text).to_owned())),
        Value::Bool(b) => Some(Json::Bool(*b)),
        Value::Int(n) => Some(Json::from(*n)),
        Value::Double(n) => Some(Json::from(*n)),
        structured => {
            let mut text = Vec::new();
            json::plain_value(structured, &mut text);
            serde_json::from_slice(&text).ok()
        }
    }
}

/// `Some` if the text is a JSON array, object or quoted string.
pub(crate) fn json_of_text(text: &str) -> Option<Json> {
    match text.trim_start().as_bytes().first()? {
        b'{' | b'[' | b'"' => serde_json::from_str(text).ok(),
        _ => None,
    }
}
