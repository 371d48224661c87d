//! `/keys` and `/key`: ordinary keys, and what a key may know about itself.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value as Json, json};
use tracecast_destination::{DEFAULT_WORKSPACE_ID, ManagedBy};

use super::auth::Caller;
use super::destinations::workspace_param;
use super::envelope::{self, ApiError};
use super::fields::Fields;
use super::key_body::{KeyEdit, read_create_body};
use super::key_usage::{key_limit_budget, usage_fields};
use super::once::Once;
use super::openapi::{
    CreateErrors, DeleteErrors, InWorkspace, KeyFilter, KeyPath, ListErrors, OwnKeyErrors, ReadErrors,
    Repeatable, UpdateErrors,
};
use super::request::{Body, Params, PathText, paginate};
use crate::Control;
use crate::bootstrap::{generate_key, label};
use crate::hex;
use crate::model::{CAN_ASSERT, Change, Key, KeyHash, KeyKind, MANAGED_BY, Model, Workspace, now, wire_name};
use crate::publish::{Created, Write};
use crate::store::Answer;

/// `GET /keys` has no `limit`.
const KEYS_PER_PAGE: usize = 100;

const FILE_MANAGED: &str = "the key is declared in the config file: change it there";

#[utoipa::path(
    get, path = "/keys", operation_id = "listKeys", tag = "keys",
    summary = "The keys of a workspace, newest first, 100 at a time.",
    params(KeyFilter, InWorkspace),
    responses(
        (status = 200, description = "A page.", body = ref("#/components/schemas/KeyList")),
        ListErrors,
    ),
)]
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
    let data: Vec<Json> = keys.into_iter().map(|key| object(&model, key)).collect();
    Ok(envelope::data(StatusCode::OK, data.into()))
}

#[utoipa::path(
    get, path = "/keys/{hash}", operation_id = "getKey", tag = "keys",
    summary = "One key.",
    params(KeyPath),
    responses(
        (status = 200, description = "The key.", body = ref("#/components/schemas/KeyData")),
        ReadErrors,
    ),
)]
pub(super) async fn show(
    State(control): State<Arc<Control>>,
    PathText(hash): PathText,
) -> Result<Response, ApiError> {
    let model = control.model();
    Ok(envelope::data(StatusCode::OK, object(&model, find(&model, path_hash(&hash)?)?)))
}

#[utoipa::path(
    post, path = "/keys", operation_id = "createKey", tag = "keys",
    summary = "Creates a key, or makes one known that exists elsewhere.",
    params(Repeatable),
    request_body = ref("#/components/schemas/KeyCreate"),
    responses(
        (status = 201, description = "The key, shown this once.", body = ref("#/components/schemas/CreatedKey")),
        CreateErrors,
    ),
)]
pub(super) async fn create(
    State(control): State<Arc<Control>>,
    caller: Caller,
    once: Once,
    Body(body): Body,
) -> Result<Response, ApiError> {
    let request = once.request_id(&control, &caller, &body);
    if let Some(answer) = control.answer_of(request.as_ref()).await? {
        return Ok(answer.into_response());
    }
    let (edit, external) = read_create_body(&body)?;
    let fields = body.keys().cloned().collect();
    let answer = control
        .create(request, move |model| {
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
            let reply = shown_once(object(model, &key), shown.expose_secret(), &key);
            Ok::<_, ApiError>(Write {
                changes: vec![Change::Key(Arc::new(key))],
                audit: vec![audit],
                signal: None,
                reply,
            })
        })
        .await?;
    Ok(answer.into_response())
}

/// The answer to a create. A repeat cannot be answered the same: the plaintext is stored nowhere.
fn shown_once(data: Json, secret: &str, key: &Key) -> Created {
    let repeat = ApiError::conflict(
        "the request was made before and its key was shown then; it cannot be shown again: delete that key and create \
         another if it was lost",
    )
    .with_metadata(json!({ "hash": hex::encode(&key.hash) }));
    Created {
        answer: Answer { status: StatusCode::CREATED.as_u16(), body: json!({ "data": data, "key": secret }) },
        repeat: Answer { status: StatusCode::CONFLICT.as_u16(), body: repeat.body() },
    }
}

#[utoipa::path(
    patch, path = "/keys/{hash}", operation_id = "updateKey", tag = "keys",
    summary = "Changes a key.",
    params(KeyPath),
    request_body = ref("#/components/schemas/KeyUpdate"),
    responses(
        (status = 200, description = "The key.", body = ref("#/components/schemas/KeyData")),
        UpdateErrors,
    ),
)]
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
    Ok(envelope::data(StatusCode::OK, object(&control.model(), &key)))
}

#[utoipa::path(
    delete, path = "/keys/{hash}", operation_id = "deleteKey", tag = "keys",
    summary = "Deletes a key.",
    params(KeyPath),
    responses(
        (status = 200, description = "It is gone.", body = ref("#/components/schemas/Deleted")),
        DeleteErrors,
    ),
)]
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
#[utoipa::path(
    get, path = "/key", operation_id = "getCurrentKey", tag = "keys",
    summary = "The key the request is made with.",
    responses(
        (status = 200, description = "What the key may know of itself.", body = ref("#/components/schemas/CurrentKeyData")),
        OwnKeyErrors,
    ),
)]
pub(super) async fn current(State(control): State<Arc<Control>>, caller: Caller) -> Response {
    let key = &caller.key;
    let (spent, now) = (control.model().usage.of(&key.hash), now());
    let is_management = key.kind == KeyKind::Management;
    let budget = key_limit_budget(key, &spent, now);
    let mut fields = usage_fields(key, &spent, now);
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
fn object(model: &Model, key: &Key) -> Json {
    let spent = model.usage.of(&key.hash);
    let mut fields = usage_fields(key, &spent, now());
    let own = json!({
        "id": key.id,
        "hash": hex::encode(&key.hash),
        "name": key.name,
        "label": key.label,
        "disabled": key.disabled,
        "created_at": envelope::seconds(key.created_at),
        "updated_at": key.updated_at.map(envelope::seconds),
        "expires_at": key.expires_at.map(|at| at.to_string()),
        "last_used_at": spent.last_used.map(envelope::seconds),
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

fn find(model: &Model, hash: KeyHash) -> Result<&Arc<Key>, ApiError> {
    model.keys.get(&hash).ok_or_else(ApiError::not_found)
}

fn path_hash(text: &str) -> Result<KeyHash, ApiError> {
    hex::decode(text).ok_or_else(ApiError::not_found)
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
