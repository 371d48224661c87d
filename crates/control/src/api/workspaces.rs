//! `/workspaces`: list, create, get, update, delete. A path takes the id or the slug.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde_json::{Map, Value as Json, json};
use tracecast_destination::{DEFAULT_WORKSPACE_ID, ManagedBy};
use uuid::Uuid;

use super::auth::Caller;
use super::envelope::{self, ApiError};
use super::fields::Fields;
use super::once::Once;
use super::openapi::{
    CreateErrors, DefaultWorkspaceConfirmed, DeleteErrors, ListErrors, Paging, ReadErrors, Repeatable,
    UpdateErrors, WorkspacePath,
};
use super::request::{Body, LIMIT_DEFAULT, LIMIT_MAX, Params, PathText, paginate};
use crate::Control;
use crate::model::{Change, Model, Settings, Workspace, now};
use crate::publish::{Created, Write};

const PROVIDER_SORTS: &[(&str, &str)] =
    &[("price", "price"), ("throughput", "throughput"), ("latency", "latency"), ("exacto", "exacto")];

#[utoipa::path(
    get, path = "/workspaces", operation_id = "listWorkspaces", tag = "workspaces",
    summary = "All workspaces, oldest first.",
    params(Paging),
    responses(
        (status = 200, description = "A page.", body = ref("#/components/schemas/WorkspacePage")),
        ListErrors,
    ),
)]
pub(super) async fn list(State(control): State<Arc<Control>>, params: Params) -> Result<Response, ApiError> {
    let (offset, limit) = (params.offset()?, params.limit(LIMIT_DEFAULT, LIMIT_MAX)?);
    let model = control.model();
    let mut workspaces: Vec<&Arc<Workspace>> = model.workspaces.values().collect();
    workspaces.sort_by_key(|workspace| (workspace.created_at, workspace.id));
    let (workspaces, total) = paginate(workspaces, offset, limit);
    Ok(envelope::page(workspaces.into_iter().map(|w| object(w)).collect(), total))
}

#[utoipa::path(
    get, path = "/workspaces/{id}", operation_id = "getWorkspace", tag = "workspaces",
    summary = "One workspace.",
    params(WorkspacePath),
    responses(
        (status = 200, description = "The workspace.", body = ref("#/components/schemas/WorkspaceData")),
        ReadErrors,
    ),
)]
pub(super) async fn show(
    State(control): State<Arc<Control>>,
    PathText(reference): PathText,
) -> Result<Response, ApiError> {
    let model = control.model();
    Ok(envelope::data(StatusCode::OK, object(find(&model, &reference)?)))
}

#[utoipa::path(
    post, path = "/workspaces", operation_id = "createWorkspace", tag = "workspaces",
    summary = "Creates a workspace.",
    params(Repeatable),
    request_body = ref("#/components/schemas/WorkspaceCreate"),
    responses(
        (status = 201, description = "The workspace.", body = ref("#/components/schemas/WorkspaceData")),
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
    let mut fields = Fields::new(&body);
    let mut workspace = Workspace {
        id: Uuid::now_v7(),
        slug: String::new(),
        name: String::new(),
        settings: Settings::default(),
        created_at: now(),
        updated_at: None,
        created_by: caller.key.creator_user_id.clone(),
    };
    edit(&mut fields, &mut workspace);
    for name in ["name", "slug"] {
        if !body.contains_key(name) {
            fields.refuse(name, "is required");
        }
    }
    fields.finish()?;
    let names = body.keys().cloned().collect();
    let workspace = Arc::new(workspace);
    let answer = control
        .create(request, move |model| {
            ensure_slug_is_free(model, &workspace)?;
            let reply = Created::repeatable(object(&workspace));
            let audit = caller.audit("workspace.create", workspace.id.to_string(), names);
            Ok::<_, ApiError>(Write {
                changes: vec![Change::Workspace(workspace)],
                audit: vec![audit],
                signal: None,
                reply,
            })
        })
        .await?;
    Ok(answer.into_response())
}

#[utoipa::path(
    patch, path = "/workspaces/{id}", operation_id = "updateWorkspace", tag = "workspaces",
    summary = "Changes a workspace.",
    params(WorkspacePath),
    request_body = ref("#/components/schemas/WorkspaceUpdate"),
    responses(
        (status = 200, description = "The workspace.", body = ref("#/components/schemas/WorkspaceData")),
        UpdateErrors,
    ),
)]
pub(super) async fn update(
    State(control): State<Arc<Control>>,
    caller: Caller,
    PathText(reference): PathText,
    Body(body): Body,
) -> Result<Response, ApiError> {
    let workspace = control
        .write(move |model| {
            let mut workspace = Workspace::clone(find(model, &reference)?);
            let mut fields = Fields::new(&body);
            edit(&mut fields, &mut workspace);
            fields.finish()?;
            ensure_slug_is_free(model, &workspace)?;
            workspace.updated_at = Some(now());
            let workspace = Arc::new(workspace);
            let names = body.keys().cloned().collect();
            Ok::<_, ApiError>(Write {
                changes: vec![Change::Workspace(Arc::clone(&workspace))],
                audit: vec![caller.audit("workspace.update", workspace.id.to_string(), names)],
                signal: None,
                reply: workspace,
            })
        })
        .await?;
    Ok(envelope::data(StatusCode::OK, object(&workspace)))
}

/// Deletes a workspace with its destinations and the keys that could not be used any more.
#[utoipa::path(
    delete, path = "/workspaces/{id}", operation_id = "deleteWorkspace", tag = "workspaces",
    summary = "Deletes a workspace without active keys, with its destinations.",
    params(WorkspacePath, DefaultWorkspaceConfirmed),
    responses(
        (status = 200, description = "It is gone.", body = ref("#/components/schemas/Deleted")),
        DeleteErrors,
    ),
)]
pub(super) async fn delete(
    State(control): State<Arc<Control>>,
    caller: Caller,
    PathText(reference): PathText,
    params: Params,
) -> Result<Response, ApiError> {
    let is_confirmed = params.flag("confirm_default_workspace_deletion")?;
    control
        .write(move |model| {
            let id = find(model, &reference)?.id;
            if id == DEFAULT_WORKSPACE_ID && !is_confirmed {
                return Err(ApiError::bad_request(
                    "this is the default workspace, the home of traffic without a key: it cannot be created again, so \
                     deleting it needs ?confirm_default_workspace_deletion=true",
                ));
            }
            if model.has_active_keys(id) {
                return Err(ApiError::bad_request(
                    "the workspace has active keys: delete or disable them first, or move them to another workspace",
                ));
            }
            let destinations = model.destinations_of(Some(id));
            let from_file = |managed_by| managed_by == ManagedBy::File;
            let holds_file_key = model
                .keys
                .values()
                .any(|key| key.workspace_id == Some(id) && from_file(key.managed_by));
            if holds_file_key
                || destinations
                    .iter()
                    .any(|entry| from_file(entry.destination.managed_by) && !entry.retired)
            {
                return Err(ApiError::bad_request(
                    "the config file declares destinations or keys in this workspace: remove them there first",
                ));
            }
            let mut changes: Vec<Change> = destinations
                .iter()
                .map(|entry| Change::DestinationDeleted(entry.destination.id))
                .collect();
            let keys = model.keys.values().filter(|key| key.workspace_id == Some(id));
            changes.extend(keys.map(|key| Change::KeyDeleted(key.hash)));
            changes.push(Change::WorkspaceDeleted(id));
            Ok(Write {
                changes,
                audit: vec![caller.audit("workspace.delete", id.to_string(), Vec::new())],
                signal: None,
                reply: (),
            })
        })
        .await?;
    Ok(envelope::deleted())
}

/// The API object.
fn object(workspace: &Workspace) -> Json {
    let mut fields = match serde_json::to_value(&workspace.settings) {
        Ok(Json::Object(settings)) => settings,
        _ => Map::new(),
    };
    let own = json!({
        "id": workspace.id,
        "name": workspace.name,
        "slug": workspace.slug,
        "is_default": workspace.id == DEFAULT_WORKSPACE_ID,
        "default_guardrail_id": default_guardrail_id(workspace.id),
        "created_at": envelope::seconds(workspace.created_at),
        "updated_at": workspace.updated_at.map(envelope::seconds),
        "created_by": workspace.created_by,
    });
    if let Json::Object(own) = own {
        fields.extend(own);
    }
    Json::Object(fields)
}

/// Known before the guardrail is configured, the same in every installation.
fn default_guardrail_id(workspace: Uuid) -> Uuid {
    const NAMESPACE: Uuid = Uuid::from_u128(0x7472_6163_6563_4173_8000_0000_0000_0002);
    Uuid::new_v5(&NAMESPACE, workspace.as_bytes())
}

fn find<'m>(model: &'m Model, reference: &str) -> Result<&'m Arc<Workspace>, ApiError> {
    model.workspace(reference).ok_or_else(ApiError::not_found)
}

fn ensure_slug_is_free(model: &Model, workspace: &Workspace) -> Result<(), ApiError> {
    let taken =
        model.workspaces.values().any(|other| other.slug == workspace.slug && other.id != workspace.id);
    if taken {
        return Err(ApiError::invalid_field(
            "slug",
            format!("`{}` is taken by another workspace", workspace.slug),
        ));
    }
    Ok(())
}

/// Applies the fields of a body: absent keeps, `null` clears where that has a meaning.
fn edit(fields: &mut Fields<'_>, workspace: &mut Workspace) {
    let name = fields.text("name", 1..=100);
    if let Some(name) = fields.not_null("name", name) {
        workspace.name = name;
    }
    let slug = fields.read(
        "slug",
        "1 to 50 lower-case letters, digits and single hyphens between them, and no uuid",
        |value| value.as_str().filter(|text| is_slug(text)).map(str::to_owned),
    );
    if let Some(slug) = fields.not_null("slug", slug) {
        workspace.slug = slug;
    }

    let settings = &mut workspace.settings;
    if let Some(description) = fields.text("description", 0..=500) {
        settings.description = description;
    }
    if let Some(model) = fields.text("default_text_model", 0..=usize::MAX) {
        settings.default_text_model = model;
    }
    if let Some(model) = fields.text("default_image_model", 0..=usize::MAX) {
        settings.default_image_model = model;
    }
    if let Some(sort) = fields.choice("default_provider_sort", PROVIDER_SORTS) {
        settings.default_provider_sort = sort.map(str::to_owned);
    }
    let key_ids = fields.read("io_logging_api_key_ids", "an array of integers, or null", |value| {
        value.as_array()?.iter().map(Json::as_i64).collect()
    });
    if let Some(ids) = key_ids {
        settings.io_logging_api_key_ids = ids;
    }
    let tools = fields.read("disabled_server_tools", "an array of strings, or null", |value| {
        let names = value.as_array()?.iter();
        names.map(|name| name.as_str().map(str::to_owned)).collect()
    });
    if let Some(tools) = tools {
        settings.disabled_server_tools = tools;
    }
    let rate = fields.number("io_logging_sampling_rate", "a number from 0.0001 to 1", 0.0001..=1.0);
    if let Some(rate) = fields.not_null("io_logging_sampling_rate", rate) {
        settings.io_logging_sampling_rate = rate;
    }
    let switches = [
        ("is_observability_io_logging_enabled", &mut settings.is_observability_io_logging_enabled),
        ("is_observability_broadcast_enabled", &mut settings.is_observability_broadcast_enabled),
        ("is_data_discount_logging_enabled", &mut settings.is_data_discount_logging_enabled),
    ];
    for (name, switch) in switches {
        let given = fields.boolean(name);
        if let Some(value) = fields.not_null(name, given) {
            *switch = value;
        }
    }
}

/// `^[a-z0-9]+(?:-[a-z0-9]+)*$`, 1 to 50 characters. What reads as a uuid is left to ids.
fn is_slug(text: &str) -> bool {
    let is_word = |word: &str| {
        !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    };
    text.len() <= 50 && text.split('-').all(is_word) && Uuid::try_parse(text).is_err()
}
