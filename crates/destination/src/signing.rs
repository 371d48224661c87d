//! Secrets that sign (Standard Webhooks): their form, and the former ones that still sign for a while.
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value as Json, json};

use crate::issue::Fault;
use crate::schema::Slot;

const PREFIX: &str = "whsec_";
const KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;
/// How long a replaced secret goes on signing beside the new one, so that receivers can change over.
const ROTATION: SignedDuration = SignedDuration::from_hours(24);
/// Each adds a signature to every request.
const FORMER_MAX: usize = 3;

const SECRET: &str = "secret";
const SIGNS_UNTIL: &str = "signsUntil";

/// The key inside a signing secret, `whsec_` and the base64 of 24 to 64 bytes; `None` in another form.
pub fn signing_key(secret: &str) -> Option<Zeroizing<Vec<u8>>> {
    let key = Zeroizing::new(STANDARD.decode(secret.strip_prefix(PREFIX)?).ok()?);
    KEY_BYTES.contains(&key.len()).then_some(key)
}

pub(crate) fn check(secret: &str) -> Result<(), Fault> {
    signing_key(secret).map(drop).ok_or_else(|| {
        Fault::new("must be whsec_ and the base64 of 24 to 64 bytes")
            .hint("make one with: echo whsec_$(openssl rand -base64 32)")
    })
}

/// A replaced signing secret and the time until which it goes on signing.
#[derive(Clone, Debug)]
pub struct FormerSecret {
    /// As it was configured.
    pub secret: SecretString,
    /// From then on it is not used.
    pub signs_until: Timestamp,
}

/// The former secrets after a change from `old` to `new` (the same if nothing changed), newest first.
pub(crate) fn succeed(
    old: Option<&SecretString>,
    former: &[FormerSecret],
    new: Option<&SecretString>,
    now: Timestamp,
) -> Vec<FormerSecret> {
    let Some(new) = new else { return Vec::new() };
    let replaced = old.map(|old| FormerSecret {
        secret: old.clone(),
        signs_until: now.saturating_add(ROTATION).unwrap_or(Timestamp::MAX),
    });
    replaced
        .into_iter()
        .chain(former.iter().cloned())
        .filter(|former| former.secret.expose_secret() != new.expose_secret() && former.signs_until > now)
        .take(FORMER_MAX)
        .collect()
}

impl Slot for Vec<FormerSecret> {
    fn read(value: Option<&Json>) -> Option<Self> {
        let Some(value) = value else { return Some(Vec::new()) };
        let read = |item: &Json| {
            Some(FormerSecret {
                secret: item.get(SECRET)?.as_str()?.into(),
                signs_until: item.get(SIGNS_UNTIL)?.as_str()?.parse().ok()?,
            })
        };
        value.as_array()?.iter().map(read).collect()
    }

    fn write(&self) -> Option<Json> {
        let write = |former: &FormerSecret| json!({ SECRET: former.secret.expose_secret(), SIGNS_UNTIL: former.signs_until.to_string() });
        (!self.is_empty()).then(|| self.iter().map(write).collect())
    }
}

/// Former secrets as `conceal` lets them be seen.
pub(crate) fn shown(former: &Json, conceal: impl Fn(&str) -> String) -> Json {
    let show = |item: &Json| {
        let secret = item.get(SECRET).and_then(Json::as_str).unwrap_or_default();
        json!({ SECRET: conceal(secret), SIGNS_UNTIL: item.get(SIGNS_UNTIL) })
    };
    former.as_array().into_iter().flatten().map(show).collect()
}
