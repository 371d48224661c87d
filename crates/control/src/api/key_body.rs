//! The bodies that create and change a key.

use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Map, Value as Json};
use tracecast_rules::CanAssert;

use super::envelope::ApiError;
use super::fields::Fields;
use crate::bootstrap::IMPORTED_KEY_CHARS_MIN;
use crate::model::{CAN_ASSERT, Key, LimitReset, now};

/// A brought-along key with fewer different characters is a typo or a placeholder, no secret.
const IMPORTED_KEY_DISTINCT_CHARS_MIN: usize = 8;

/// What both bodies can say of a key.
#[derive(Debug, Default)]
pub(super) struct KeyEdit {
    name: Option<String>,
    disabled: Option<bool>,
    limit: Option<Option<f64>>,
    limit_reset: Option<Option<LimitReset>>,
    include_byok_in_limit: Option<bool>,
    can_assert: Option<CanAssert>,
    /// Id or slug.
    pub(super) workspace: Option<String>,
    /// Create only.
    pub(super) creator_user_id: Option<String>,
    /// Create only.
    pub(super) expires_at: Option<Timestamp>,
}

impl KeyEdit {
    pub(super) fn read(fields: &mut Fields<'_>) -> KeyEdit {
        let name = fields.text("name", 1..=usize::MAX);
        let disabled = fields.boolean("disabled");
        let include_byok = fields.boolean("include_byok_in_limit");
        let can_assert = fields.choice("can_assert_identity", CAN_ASSERT);
        let workspace = fields.text("workspace_id", 1..=usize::MAX);
        KeyEdit {
            // `openrouter-rs` sends null for what it does not change: nothing else can be meant by it.
            name: name.flatten(),
            disabled: disabled.flatten(),
            limit: fields.number("limit", "a number of 0 or more, or null", 0.0..=f64::MAX),
            limit_reset: fields.choice("limit_reset", LimitReset::ALL),
            include_byok_in_limit: fields.not_null("include_byok_in_limit", include_byok),
            can_assert: fields.not_null("can_assert_identity", can_assert),
            workspace: workspace.flatten(),
            creator_user_id: None,
            expires_at: None,
        }
    }

    pub(super) fn apply_to(&self, key: &mut Key) {
        if let Some(name) = &self.name {
            key.name.clone_from(name);
        }
        if let Some(disabled) = self.disabled {
            key.disabled = disabled;
        }
        if let Some(limit) = self.limit {
            key.limit_usd = limit;
        }
        if let Some(reset) = self.limit_reset {
            key.limit_reset = reset;
        }
        if let Some(include) = self.include_byok_in_limit {
            key.include_byok_in_limit = include;
        }
        if let Some(can_assert) = self.can_assert {
            key.can_assert = can_assert;
        }
    }
}

/// The `external` object: a key that exists elsewhere already.
#[derive(Debug, Default)]
pub(super) struct External {
    pub(super) user: Option<String>,
    pub(super) api_key: Option<SecretString>,
}

pub(super) fn read_create_body(body: &Map<String, Json>) -> Result<(KeyEdit, External), ApiError> {
    let mut fields = Fields::new(body);
    let mut edit = KeyEdit::read(&mut fields);
    match body.get("name") {
        None => fields.refuse("name", "is required"),
        Some(Json::Null) => fields.refuse("name", "must not be null"),
        Some(_) => {}
    }
    edit.disabled = None;
    edit.creator_user_id = fields.text("creator_user_id", 1..=usize::MAX).flatten();
    edit.expires_at = fields
        .read("expires_at", "a time in UTC with seconds, such as 2027-12-31T23:59:59Z", |value| {
            parse_utc(value.as_str()?)
        })
        .flatten();
    if edit.expires_at.is_some_and(|at| at <= now()) {
        fields.refuse("expires_at", "must be in the future");
    }
    let mut external = External::default();
    if let Some(Some(given)) = fields.read("external", "an object", Json::as_object) {
        let mut nested = Fields::nested(given, "external.");
        let user = nested.text("user", 1..=usize::MAX);
        external.user = nested.required("user", user);
        external.api_key = nested.text("api_key", 0..=usize::MAX).flatten().map(SecretString::from);
        if let Some(reason) = external.api_key.as_ref().and_then(|key| weakness(key.expose_secret())) {
            nested.refuse("api_key", reason);
        }
        fields.issues.append(&mut nested.issues);
    }
    fields.finish()?;
    Ok((edit, external))
}

/// Why a brought-along key is not acceptable.
fn weakness(secret: &str) -> Option<String> {
    if secret.chars().count() < IMPORTED_KEY_CHARS_MIN {
        return Some(format!("must have at least {IMPORTED_KEY_CHARS_MIN} characters"));
    }
    if !secret.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Some("must be printable ASCII without blanks".to_owned());
    }
    let distinct: std::collections::HashSet<u8> = secret.bytes().collect();
    (distinct.len() < IMPORTED_KEY_DISTINCT_CHARS_MIN)
        .then(|| "has too few different characters to be a secret".to_owned())
}

/// RFC 3339 in UTC, with seconds; fractions are fine.
fn parse_utc(text: &str) -> Option<Timestamp> {
    let zone_start = text.find(['Z', 'z', '+']).or_else(|| text.rfind('-'))?;
    let (local, zone) = text.split_at_checked(zone_start)?;
    if !matches!(zone, "Z" | "z" | "+00:00") || !local.is_ascii() {
        return None;
    }
    let bytes = local.as_bytes();
    let is_shaped = bytes.len() >= "2027-12-31T23:59:59".len()
        && matches!(bytes.get(10), Some(b'T' | b't'))
        && bytes.get(13) == Some(&b':')
        && bytes.get(16) == Some(&b':');
    is_shaped.then(|| text.parse().ok()).flatten()
}
