//! `/observability/destinations`: list, create, get, update, delete.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde_json::{Map, Value as Json, json};
use tracecast_destination::{CreateDefaults, DEFAULT_WORKSPACE_ID, Destination, ManagedBy};
use uuid::Uuid;

use super::auth::Caller;
use super::envelope::{self, ApiError, issue};
use super::once::Once;
use super::openapi::{
    CreateErrors, DeleteErrors, DestinationPath, InWorkspace, ListErrors, Paging, ReadErrors, Repeatable,
    Tested, UpdateErrors,
};
use super::request::{Body, LIMIT_DEFAULT, LIMIT_MAX, Params, PathId, paginate};
use crate::Control;
use crate::model::{Change, Entry, MANAGED_BY, Model, Workspace, now, wire_name};
use crate::publish::{Created, Write};

/// Bound of a connection test; the runtime's own is 10 s.
const TEST_TIMEOUT: Duration = Duration::from_secs(15);

#[utoipa::path(
    get, path = "/observability/destinations", operation_id = "listDestinations", tag = "destinations",
    summary = "The destinations of a workspace, oldest first.",
    params(Paging, InWorkspace),
    responses(
        (status = 200, description = "A page.", body = ref("#/components/schemas/DestinationPage")),
        ListErrors,
    ),
)]
pub(super) async fn list(State(control): State<Arc<Control>>, params: Params) -> Result<Response, ApiError> {
    let (offset, limit) = (params.offset()?, params.limit(LIMIT_DEFAULT, LIMIT_MAX)?);
    let model = control.model();
    let workspace = workspace_param(&model, &params)?;
    let (entries, total) = paginate(model.destinations_of(Some(workspace.id)), offset, limit);
    let data = entries.into_iter().map(|entry| object(&control, entry)).collect();
    Ok(envelope::page(data, total))
}

#[utoipa::path(
    get, path = "/observability/destinations/{id}", operation_id = "getDestination", tag = "destinations",
    summary = "One destination.",
    params(DestinationPath),
    responses(
        (status = 200, description = "The destination.", body = ref("#/components/schemas/DestinationData")),
        ReadErrors,
    ),
)]
pub(super) async fn show(
    State(control): State<Arc<Control>>,
    PathId(id): PathId,
) -> Result<Response, ApiError> {
    let model = control.model();
    let entry = find(&model, id)?;
    Ok(envelope::data(StatusCode::OK, object(&control, entry)))
}

#[utoipa::path(
    post, path = "/observability/destinations", operation_id = "createDestination", tag = "destinations",
    summary = "Creates a destination; it gets the next event.",
    params(Tested, Repeatable),
    request_body = ref("#/components/schemas/DestinationCreate"),
    responses(
        (status = 201, description = "The destination.", body = ref("#/components/schemas/DestinationData")),
        CreateErrors,
    ),
)]
pub(super) async fn create(
    State(control): State<Arc<Control>>,
    caller: Caller,
    once: Once,
    params: Params,
    Body(body): Body,
) -> Result<Response, ApiError> {
    let request = once.request_id(&control, &caller, &body);
    if let Some(answer) = control.answer_of(request.as_ref()).await? {
        return Ok(answer.into_response());
    }
    let destination = Arc::new(from_create_body(&control, &body)?);
    if params.flag("test")? {
        ensure_place(&control.model(), &destination, control.limits.destinations_per_kind)?;
        ensure_tested(&control, &destination).await?;
    }
    let per_kind_max = control.limits.destinations_per_kind;
    let fields = field_names(&body);
    let shower = Arc::clone(&control);
    let answer = control
        .create(request, move |model| {
            ensure_place(model, &destination, per_kind_max)?;
            let audit = caller.audit("destination.create", destination.id.to_string(), fields);
            let entry = Entry { destination, paused: false, retired: false };
            // Before the commit, as all that could fail.
            let reply = Created::repeatable(object(&shower, &entry));
            Ok::<_, ApiError>(Write {
                changes: vec![Change::Destination(entry)],
                audit: vec![audit],
                signal: None,
                reply,
            })
        })
        .await?;
    Ok(answer.into_response())
}

#[utoipa::path(
    patch, path = "/observability/destinations/{id}", operation_id = "updateDestination", tag = "destinations",
    summary = "Changes a destination.",
    params(DestinationPath, Tested),
    request_body = ref("#/components/schemas/DestinationUpdate"),
    responses(
        (status = 200, description = "The destination.", body = ref("#/components/schemas/DestinationData")),
        UpdateErrors,
    ),
)]
pub(super) async fn update(
    State(control): State<Arc<Control>>,
    caller: Caller,
    PathId(id): PathId,
    params: Params,
    Body(mut body): Body,
) -> Result<Response, ApiError> {
    let is_tested = params.flag("test")?;
    // Shown on the object and not ours to set: with them a whole GET body can be sent back.
    body.remove("state");
    body.remove("managed_by");
    let fields = field_names(&body);
    let body = Json::Object(body);

    // With a test the edit is made outside the writer's lock, so it holds only if nobody else wrote meanwhile.
    let tested = if is_tested {
        let current = Arc::clone(&find(&control.model(), id)?.destination);
        let edited = Arc::new(edit(&control, &current, &body)?);
        ensure_tested(&control, &edited).await?;
        Some((current, edited))
    } else {
        None
    };
    let editor = Arc::clone(&control);
    let object = control
        .write(move |model| {
            let entry = find(model, id)?;
            let edited = match tested {
                Some((current, edited)) if Arc::ptr_eq(&current, &entry.destination) => edited,
                Some(_) => {
                    return Err(ApiError::conflict("Resource conflict. Please try again later."));
                }
                None => Arc::new(edit(&editor, &entry.destination, &body)?),
            };
            let entry = Entry { destination: edited, ..entry.clone() };
            let reply = object(&editor, &entry);
            Ok(Write {
                changes: vec![Change::Destination(entry)],
                audit: vec![caller.audit("destination.update", id.to_string(), fields)],
                signal: None,
                reply,
            })
        })
        .await?;
    Ok(envelope::data(StatusCode::OK, object))
}

#[utoipa::path(
    delete, path = "/observability/destinations/{id}", operation_id = "deleteDestination", tag = "destinations",
    summary = "Deletes a destination and gives its backlog up.",
    params(DestinationPath),
    responses(
        (status = 200, description = "It is gone.", body = ref("#/components/schemas/Deleted")),
        DeleteErrors,
    ),
)]
pub(super) async fn delete(
    State(control): State<Arc<Control>>,
    caller: Caller,
    PathId(id): PathId,
) -> Result<Response, ApiError> {
    control
        .write(move |model| {
            let entry = find(model, id)?;
            if entry.destination.managed_by == ManagedBy::File && !entry.retired {
                return Err(ApiError::conflict(
                    "the destination is declared in the config file: remove it there first",
                ));
            }
            Ok(Write {
                changes: vec![Change::DestinationDeleted(id)],
                audit: vec![caller.audit("destination.delete", id.to_string(), Vec::new())],
                signal: None,
                reply: (),
            })
        })
        .await?;
    Ok(envelope::deleted())
}

/// The API object: what the destination says of itself, and the state it is in.
pub(super) fn object(control: &Control, entry: &Entry) -> Json {
    let mut object = entry.destination.to_json();
    if let Json::Object(fields) = &mut object {
        let managed_by = wire_name(MANAGED_BY, &entry.destination.managed_by);
        fields.insert("managed_by".to_owned(), managed_by.into());
        fields.insert("state".to_owned(), state(control, entry));
    }
    object
}

/// `retired` and `paused` are stored facts; anything else the runtime knows.
pub(super) fn state(control: &Control, entry: &Entry) -> Json {
    if entry.retired {
        return "retired".into();
    }
    if entry.paused {
        return "paused".into();
    }
    control
        .runtime()
        .stats(entry.destination.id)
        .remove("state")
        .filter(Json::is_string)
        .unwrap_or_else(|| "healthy".into())
}

pub(super) fn find(model: &Model, id: Uuid) -> Result<&Entry, ApiError> {
    model.destinations.get(&id).ok_or_else(ApiError::not_found)
}

/// The workspace a query names, by default the default one.
pub(super) fn workspace_param<'m>(model: &'m Model, params: &Params) -> Result<&'m Arc<Workspace>, ApiError> {
    let found = match params.text("workspace_id") {
        Some(reference) => model.workspace(reference),
        None => model.workspaces.get(&DEFAULT_WORKSPACE_ID),
    };
    found.ok_or_else(|| ApiError::invalid_field("workspace_id", "there is no such workspace"))
}

/// The destination a create body describes, with everything that is wrong about it reported at once.
pub(super) fn from_create_body(control: &Control, body: &Map<String, Json>) -> Result<Destination, ApiError> {
    let model = control.model();
    let mut body = body.clone();
    let mut issues = Vec::new();
    let workspace = match body.get("workspace_id") {
        None | Some(Json::Null) => model.workspaces.get(&DEFAULT_WORKSPACE_ID),
        Some(Json::String(reference)) => model.workspace(reference),
        Some(_) => None,
    };
    // Given as a slug or not at all: from here on it is an id.
    let workspace_id = match workspace {
        Some(workspace) => {
            body.insert("workspace_id".to_owned(), workspace.id.to_string().into());
            workspace.id
        }
        None => {
            body.remove("workspace_id");
            issues.push(issue("workspace_id", "there is no such workspace"));
            DEFAULT_WORKSPACE_ID
        }
    };
    let defaults = CreateDefaults {
        // Version 7 grows within the process: creation order also within one millisecond.
        id: Uuid::now_v7(),
        workspace_id,
        managed_by: ManagedBy::Api,
        now: now(),
    };
    match Destination::create(&Json::Object(body), defaults) {
        Ok(destination) => {
            issues.extend(control.runtime().check(&destination));
            if issues.is_empty() {
                return Ok(destination);
            }
        }
        Err(found) => issues.extend(found),
    }
    Err(ApiError::invalid(&issues))
}

fn edit(control: &Control, current: &Destination, patch: &Json) -> Result<Destination, ApiError> {
    if current.managed_by == ManagedBy::File {
        return Err(ApiError::conflict("the destination is declared in the config file: change it there"));
    }
    let edited = current.patch(patch, now()).map_err(|issues| ApiError::invalid(&issues))?;
    let issues = control.runtime().check(&edited);
    if issues.is_empty() { Ok(edited) } else { Err(ApiError::invalid(&issues)) }
}

/// The workspace still exists and has room for one more of the kind.
fn ensure_place(model: &Model, destination: &Destination, per_kind_max: u32) -> Result<(), ApiError> {
    let workspace = model
        .workspaces
        .get(&destination.workspace_id)
        .ok_or_else(|| ApiError::invalid_field("workspace_id", "there is no such workspace"))?;
    let kind = destination.config.kind();
    let existing = model.api_created(workspace.id, kind);
    if u32::try_from(existing).is_ok_and(|existing| existing < per_kind_max) {
        return Ok(());
    }
    Err(ApiError::conflict(format!(
        "the workspace `{}` already has {existing} destinations of type {} and {per_kind_max} is the most: delete one \
         first",
        workspace.slug,
        kind.as_str()
    ))
    .with_metadata(json!({ "limit": per_kind_max, "type": kind.as_str() })))
}

/// Runs the connection test; the answer always has the fields of a test.
pub(super) async fn run_test(control: &Control, destination: &Arc<Destination>) -> Json {
    let test = control.runtime().test(Arc::clone(destination));
    match tokio::time::timeout(TEST_TIMEOUT, test).await {
        Ok(outcome) => outcome,
        Err(_) => json!({
            "ok": false,
            "status": null,
            "url": null,
            "latency_ms": u64::try_from(TEST_TIMEOUT.as_millis()).unwrap_or(u64::MAX),
            "diagnosis": "timeout",
            "hint": "the test did not end in time",
        }),
    }
}

async fn ensure_tested(control: &Control, destination: &Arc<Destination>) -> Result<(), ApiError> {
    let outcome = run_test(control, destination).await;
    if outcome.get("ok").and_then(Json::as_bool) == Some(true) {
        return Ok(());
    }
    let told = |field: &str| outcome.get(field).and_then(Json::as_str);
    let mut message = format!(
        "the connection test failed ({}), nothing was stored",
        told("diagnosis").unwrap_or("unknown")
    );
    if let Some(hint) = told("hint") {
        message.push_str(": ");
        message.push_str(hint);
    }
    Err(ApiError::bad_request(message).with_metadata(json!({ "test": outcome })))
}

/// The names given in a body, for the audit log; those of the config one by one.
fn field_names(body: &Map<String, Json>) -> Vec<String> {
    body.iter()
        .flat_map(|(name, value)| match value {
            Json::Object(config) if name == "config" => {
                config.keys().map(|key| format!("config.{key}")).collect::<Vec<_>>()
            }
            _ => vec![name.clone()],
        })
        .collect()
}
