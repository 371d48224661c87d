//! `/keys` and `/key`: ordinary keys, and what a key may know about itself.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Map, Value as Json, json};
use tracecast_destination::{DEFAULT_WORKSPACE_ID, ManagedBy};

use super::auth::Caller;
use super::destinations::workspace_param;
use super::envelope::{self, ApiError};
use super::fields::Fields;
use super::key_body::{KeyEdit, read_create_body};
use super::request::{Body, Params, PathText, paginate};
use crate::Control;
use crate::bootstrap::{generate_key, label};
use crate::hex;
use crate::model::{
    CAN_ASSERT, Change, Key, KeyHash, KeyKind, LimitReset, MANAGED_BY, Model, Workspace, now, wire_name,
};
use crate::publish::Write;

/// `GET /keys` has no `limit`.
const KEYS_PER_PAGE: usize = 100;

const FILE_MANAGED: &str = "the key is declared in the config file: change it there";

pub(super) async fn list(State(control): State<Arc<Control>>, params: Params) -> Result<Response, ApiError> {
    let offset = params.offset()?;
    let with_disabled = params.flag("include_disabled")?;
    let with_expired = params.flag("include_expired")?;
    let model = control.model();
    let workspace = workspace_param(&model, &params)?;
    let now = now();
    let mut keys: Vec<&Arc<Key>> = model
        .keys
        .values()
        .filter(|key| key.workspace_id == Some(workspace.id))
        .filter(|key| with_disabled || !key.disabled)
        .filter(|key| with_expired || !key.is_expired(now))
        .collect();
    keys.sort_by_key(|key| std::cmp::Reverse((key.created_at, key.id)));
    let (keys, _) = paginate(keys, offset, KEYS_PER_PAGE);
    let data: Vec<Json> = keys.into_iter().map(|key| object(key)).collect();
    Ok(envelope::data(StatusCode::OK, data.into()))
}

pub(super) async fn show(
    State(control): State<Arc<Control>>,
    PathText(hash): PathText,
) -> Result<Response, ApiError> {
    let model = control.model();
    Ok(envelope::data(StatusCode::OK, object(find(&model, path_hash(&hash)?)?)))
}

pub(super) async fn create(
    State(control): State<Arc<Control>>,
    caller: Caller,
    Body(body): Body,
) -> Result<Response, ApiError> {
    let (edit, external) = read_create_body(&body)?;
    let fields = body.keys().cloned().collect();
    let reply = control
        .write(move |model| {
            let (shown, mut key) = match &external.api_key {
                Some(secret) => imported_key(model, secret)?,
                None => {
                    let (secret, key) =
                        generate_key(KeyKind::Ordinary, "").map_err(|_| ApiError::internal())?;
                    (secret, key)
                }
            };
            key.id = model.next_key_id;
            key.external_user = external.user;
            key.workspace_id = Some(workspace(model, edit.workspace.as_deref())?.id);
            key.creator_user_id.clone_from(&edit.creator_user_id);
            key.expires_at = edit.expires_at;
            edit.apply_to(&mut key);
            let audit = caller.audit("key.create", hex::encode(&key.hash), fields);
            let key = Arc::new(key);
            Ok::<_, ApiError>(Write {
                changes: vec![Change::Key(Arc::clone(&key))],
                audit: vec![audit],
                signal: None,
                reply: (shown, key),
            })
        })
        .await?;
    let (shown, key) = reply;
    Ok(envelope::json_response(
        StatusCode::CREATED,
        &json!({ "data": object(&key), "key": shown.expose_secret() }),
    ))
}

pub(super) async fn update(
    State(control): State<Arc<Control>>,
    caller: Caller,
    PathText(hash): PathText,
    Body(body): Body,
) -> Result<Response, ApiError> {
    let hash = path_hash(&hash)?;
    find(&control.model(), hash)?;
    let mut fields = Fields::new(&body);
    let edit = KeyEdit::read(&mut fields);
    fields.finish()?;
    let names = body.keys().cloned().collect();
    let key = control
        .write(move |model| {
            let current = find(model, hash)?;
            if current.managed_by == ManagedBy::File {
                return Err(ApiError::conflict(FILE_MANAGED));
            }
            let mut key = Key::clone(current);
            if let Some(reference) = &edit.workspace {
                key.workspace_id = Some(workspace(model, Some(reference))?.id);
            }
            edit.apply_to(&mut key);
            key.updated_at = Some(now());
            let key = Arc::new(key);
            Ok(Write {
                changes: vec![Change::Key(Arc::clone(&key))],
                audit: vec![caller.audit("key.update", hex::encode(&hash), names)],
                signal: None,
                reply: key,
            })
        })
        .await?;
    Ok(envelope::data(StatusCode::OK, object(&key)))
}

pub(super) async fn delete(
    State(control): State<Arc<Control>>,
    caller: Caller,
    PathText(hash): PathText,
) -> Result<Response, ApiError> {
    let hash = path_hash(&hash)?;
    control
        .write(move |model| {
            if find(model, hash)?.managed_by == ManagedBy::File {
                return Err(ApiError::conflict(FILE_MANAGED));
            }
            Ok(Write {
                changes: vec![Change::KeyDeleted(hash)],
                audit: vec![caller.audit("key.delete", hex::encode(&hash), Vec::new())],
                signal: None,
                reply: (),
            })
        })
        .await?;
    Ok(envelope::deleted())
}

/// `GET /key`: the key the request was made with.
pub(super) async fn current(caller: Caller) -> Response {
    let key = &caller.key;
    let is_management = key.kind == KeyKind::Management;
    let budget = key_limit_budget(key, now());
    let mut fields = usage(key);
    let own = json!({
        "label": key.label,
        "creator_user_id": key.creator_user_id,
        "is_free_tier": false,
        "is_management_key": is_management,
        "is_provisioning_key": is_management,
        "organization_id": null,
        "workspace_id": key.workspace_id,
        "expires_at": key.expires_at.map(|at| at.to_string()),
        "rate_limit": {
            "interval": "10s",
            "note": "This field is deprecated and safe to ignore.",
            "requests": -1,
        },
        "allowed_data_regions": ["global", "europe", "us"],
        "free_model_daily_requests": { "limit": 0, "used": 0, "remaining": 0 },
        "budgets": budget.iter().collect::<Vec<_>>(),
        "effective_budget": budget,
    });
    if let Json::Object(own) = own {
        fields.extend(own);
    }
    envelope::data(StatusCode::OK, Json::Object(fields))
}

/// The API object of a key.
fn object(key: &Key) -> Json {
    let mut fields = usage(key);
    let own = json!({
        "id": key.id,
        "hash": hex::encode(&key.hash),
        "name": key.name,
        "label": key.label,
        "disabled": key.disabled,
        "created_at": key.created_at.to_string(),
        "updated_at": key.updated_at.map(|at| at.to_string()),
        "expires_at": key.expires_at.map(|at| at.to_string()),
        "last_used_at": key.last_used_at.map(|at| at.to_string()),
        "creator_user_id": key.creator_user_id,
        "workspace_id": key.workspace_id,
        "external_user": key.external_user,
        "can_assert_identity": wire_name(CAN_ASSERT, &key.can_assert),
        "managed_by": wire_name(MANAGED_BY, &key.managed_by),
    });
    if let Json::Object(own) = own {
        fields.extend(own);
    }
    Json::Object(fields)
}

/// Limits and counters, common to both objects. Nothing is counted yet, so what remains is the limit.
fn usage(key: &Key) -> Map<String, Json> {
    let mut fields = Map::new();
    for name in ["usage", "byok_usage"] {
        for window in ["", "_daily", "_weekly", "_monthly"] {
            fields.insert(format!("{name}{window}"), 0.into());
        }
    }
    fields.insert("limit".to_owned(), key.limit_usd.into());
    fields.insert("limit_remaining".to_owned(), key.limit_usd.into());
    let reset = key.limit_reset.map(|reset| wire_name(LimitReset::ALL, &reset));
    fields.insert("limit_reset".to_owned(), reset.into());
    fields.insert("include_byok_in_limit".to_owned(), key.include_byok_in_limit.into());
    fields
}

/// The key's own limit as a budget layer.
fn key_limit_budget(key: &Key, now: Timestamp) -> Option<Json> {
    let limit_usd = key.limit_usd?;
    let reset = key.limit_reset;
    Some(json!({
        "scope": "key_limit",
        "limit_usd": limit_usd,
        "spend_usd": 0,
        "remaining_usd": limit_usd,
        "reset_interval": reset.map(|reset| wire_name(LimitReset::ALL, &reset)),
        "resets_at": reset.and_then(|reset| next_reset(reset, now)).map(|at| at.to_string()),
        "include_byok": key.include_byok_in_limit,
        "guardrail_id": null,
        "budget_id": null,
    }))
}

/// The next midnight UTC at which a window of this length starts; weeks start on Monday.
fn next_reset(reset: LimitReset, now: Timestamp) -> Option<Timestamp> {
    use jiff::ToSpan as _;
    let today = now.to_zoned(jiff::tz::TimeZone::UTC).date();
    let start = match reset {
        LimitReset::Daily => today.tomorrow().ok()?,
        LimitReset::Weekly => {
            let days_left = 7 - today.weekday().to_monday_zero_offset();
            today.checked_add(i32::from(days_left).days()).ok()?
        }
        LimitReset::Monthly => today.last_of_month().tomorrow().ok()?,
    };
    Some(start.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp())
}

fn find(model: &Model, hash: KeyHash) -> Result<&Arc<Key>, ApiError> {
    model.keys.get(&hash).ok_or_else(ApiError::not_found)
}

fn path_hash(text: &str) -> Result<KeyHash, ApiError> {
    hex::decode_32(text).ok_or_else(ApiError::not_found)
}

fn workspace<'m>(model: &'m Model, reference: Option<&str>) -> Result<&'m Arc<Workspace>, ApiError> {
    let found = match reference {
        Some(reference) => model.workspace(reference),
        None => model.workspaces.get(&DEFAULT_WORKSPACE_ID),
    };
    found.ok_or_else(|| ApiError::invalid_field("workspace_id", "there is no such workspace"))
}

/// A key that exists elsewhere: known by its hash from now on, and never returned.
fn imported_key(model: &Model, secret: &SecretString) -> Result<(SecretString, Key), ApiError> {
    let hash = hex::sha256(secret.expose_secret());
    if model.management.contains_key(&hash) {
        return Err(ApiError::invalid_field(
            "external.api_key",
            "is a management key, and those cannot be ordinary keys",
        ));
    }
    if let Some(existing) = model.keys.get(&hash) {
        return Err(ApiError::bad_request(format!(
            "external.api_key: the key is registered already, as `{}`",
            existing.name
        ))
        .with_metadata(json!({ "hash": hex::encode(&hash) })));
    }
    let label = label(secret.expose_secret());
    let key = Key::new(hash, KeyKind::Ordinary, "", label.clone());
    Ok((SecretString::from(label), key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_start_at_midnight_utc_and_weeks_on_monday() {
        // 2026-11-21 is a Saturday.
        let cases = [
            ("2026-11-21T08:48:00Z", LimitReset::Daily, "2026-11-22T00:00:00Z"),
            ("2026-11-21T08:48:00Z", LimitReset::Weekly, "2026-11-23T00:00:00Z"),
            ("2026-11-22T23:59:59Z", LimitReset::Weekly, "2026-11-23T00:00:00Z"),
            ("2026-11-23T00:00:00Z", LimitReset::Weekly, "2026-11-30T00:00:00Z"),
            ("2026-11-21T08:48:00Z", LimitReset::Monthly, "2026-12-01T00:00:00Z"),
            ("2026-12-31T23:59:59Z", LimitReset::Monthly, "2027-01-01T00:00:00Z"),
        ];
        for (now, reset, next) in cases {
            let at = next_reset(reset, now.parse().unwrap()).unwrap();
            assert_eq!(at.to_string(), next, "{now} {reset:?}");
        }
    }
}
