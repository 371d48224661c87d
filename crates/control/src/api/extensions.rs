//! What upstream's API does not have: connection tests, statistics, pause and resume, the audit log.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Map, Value as Json, json};

use super::auth::Caller;
use super::destinations::{find, from_create_body, object, run_test, state};
use super::envelope::{self, ApiError};
use super::openapi::{
    ActionErrors, AuditErrors, DestinationPath, ListErrors, OfWorkspace, Paging, ReadErrors, StatsPaging,
    TestBodyErrors, TestErrors,
};
use super::request::{Body, LIMIT_DEFAULT, LIMIT_MAX, Params, PathId, paginate};
use crate::Control;
use crate::model::{Change, Entry, Model};
use crate::publish::{Signal, Write};

/// Page size of the statistics, which are read by machines.
const STATS_LIMIT_DEFAULT: usize = 100;
const STATS_LIMIT_MAX: usize = 1000;

/// Tests what a create body describes; nothing is stored.
#[utoipa::path(
    post, path = "/observability/destinations/test", operation_id = "testDestinationBody", tag = "destinations",
    summary = "Tests the connection a create body describes; nothing is stored.",
    request_body = ref("#/components/schemas/DestinationCreate"),
    responses(
        (status = 200, description = "The outcome, whatever it is.", body = ref("#/components/schemas/TestOutcomeData")),
        TestBodyErrors,
    ),
)]
pub(super) async fn test_body(
    State(control): State<Arc<Control>>,
    Body(body): Body,
) -> Result<Response, ApiError> {
    let destination = Arc::new(from_create_body(&control, &body)?);
    Ok(envelope::data(StatusCode::OK, run_test(&control, &destination).await))
}

#[utoipa::path(
    post, path = "/observability/destinations/{id}/test", operation_id = "testDestination", tag = "destinations",
    summary = "Tests the connection of a destination.",
    params(DestinationPath),
    responses(
        (status = 200, description = "The outcome, whatever it is.", body = ref("#/components/schemas/TestOutcomeData")),
        TestErrors,
    ),
)]
pub(super) async fn test(
    State(control): State<Arc<Control>>,
    PathId(id): PathId,
) -> Result<Response, ApiError> {
    let destination = Arc::clone(&find(&control.model(), id)?.destination);
    Ok(envelope::data(StatusCode::OK, run_test(&control, &destination).await))
}

#[utoipa::path(
    get, path = "/observability/destinations/{id}/stats", operation_id = "getDestinationStats", tag = "destinations",
    summary = "The books of a destination.",
    params(DestinationPath),
    responses(
        (status = 200, description = "The books.", body = ref("#/components/schemas/DestinationStatsData")),
        ReadErrors,
    ),
)]
pub(super) async fn stats(
    State(control): State<Arc<Control>>,
    PathId(id): PathId,
) -> Result<Response, ApiError> {
    let model = control.model();
    let entry = find(&model, id)?;
    Ok(envelope::data(StatusCode::OK, Json::Object(stats_of(&control, &model, entry))))
}

/// The gateway's figures and those of every destination of a workspace, by default of all.
#[utoipa::path(
    get, path = "/observability/stats", operation_id = "getStats", tag = "operations",
    summary = "The figures of the gateway and the books of its destinations.",
    params(StatsPaging, OfWorkspace),
    responses(
        (status = 200, description = "A page.", body = ref("#/components/schemas/StatsPage")),
        ListErrors,
    ),
)]
pub(super) async fn all_stats(
    State(control): State<Arc<Control>>,
    params: Params,
) -> Result<Response, ApiError> {
    let (offset, limit) = (params.offset()?, params.limit(STATS_LIMIT_DEFAULT, STATS_LIMIT_MAX)?);
    let model = control.model();
    let workspace = match params.text("workspace_id") {
        Some(reference) => Some(
            model
                .workspace(reference)
                .ok_or_else(|| ApiError::invalid_field("workspace_id", "there is no such workspace"))?
                .id,
        ),
        None => None,
    };
    let (entries, total) = paginate(model.destinations_of(workspace), offset, limit);
    let destinations: Vec<Json> =
        entries.into_iter().map(|entry| Json::Object(stats_of(&control, &model, entry))).collect();
    Ok(envelope::json_response(
        StatusCode::OK,
        &json!({
            "data": { "gateway": control.runtime().gateway_stats(), "destinations": destinations },
            "total_count": total,
        }),
    ))
}

fn stats_of(control: &Control, model: &Model, entry: &Entry) -> Map<String, Json> {
    let destination = &entry.destination;
    let mut fields = Map::new();
    fields.insert("destination_id".to_owned(), destination.id.to_string().into());
    fields.insert("workspace_id".to_owned(), destination.workspace_id.to_string().into());
    fields.insert("type".to_owned(), destination.config.kind().as_str().into());
    fields.insert("name".to_owned(), destination.name.clone().into());
    fields.extend(control.runtime().stats(destination.id));
    fields.insert("state".to_owned(), state(control, entry));
    if let Some(reason) = model.failures.get(&destination.id) {
        let warnings = fields.entry("warnings").or_insert_with(|| Json::Array(Vec::new()));
        if let Json::Array(warnings) = warnings {
            warnings.push(reason.clone().into());
        }
    }
    fields
}

#[utoipa::path(
    post, path = "/observability/destinations/{id}/pause", operation_id = "pauseDestination", tag = "destinations",
    summary = "Stops sending; events are kept.",
    params(DestinationPath),
    responses(
        (status = 200, description = "The destination.", body = ref("#/components/schemas/DestinationData")),
        ActionErrors,
    ),
)]
pub(super) async fn pause(
    State(control): State<Arc<Control>>,
    caller: Caller,
    PathId(id): PathId,
) -> Result<Response, ApiError> {
    set_paused(&control, caller, id, true).await
}

/// Also on a destination that is not paused: then it means "try now".
#[utoipa::path(
    post, path = "/observability/destinations/{id}/resume", operation_id = "resumeDestination", tag = "destinations",
    summary = "Sends again, at once.",
    params(DestinationPath),
    responses(
        (status = 200, description = "The destination.", body = ref("#/components/schemas/DestinationData")),
        ActionErrors,
    ),
)]
pub(super) async fn resume(
    State(control): State<Arc<Control>>,
    caller: Caller,
    PathId(id): PathId,
) -> Result<Response, ApiError> {
    set_paused(&control, caller, id, false).await
}

async fn set_paused(
    control: &Arc<Control>,
    caller: Caller,
    id: uuid::Uuid,
    paused: bool,
) -> Result<Response, ApiError> {
    let entry = control
        .write(move |model| {
            let current = find(model, id)?;
            if current.retired {
                return Err(ApiError::conflict(
                    "the destination is retired: its backlog stays paused until the config file names it again",
                ));
            }
            let entry = Entry {
                paused,
                ..current.clone()
            };
            let (signal, action) = if paused {
                (Signal::Pause(id), "destination.pause")
            } else {
                (Signal::Resume(id), "destination.resume")
            };
            let mut write = Write {
                changes: Vec::new(),
                audit: Vec::new(),
                signal: Some(signal),
                reply: entry.clone(),
            };
            if current.paused != paused {
                write.changes.push(Change::Destination(entry));
                write
                    .audit
                    .push(caller.audit(action, id.to_string(), Vec::new()));
            }
            Ok(write)
        })
        .await?;
    Ok(envelope::data(StatusCode::OK, object(control, &entry)))
}

/// Who wrote what and when, newest first.
#[utoipa::path(
    get, path = "/audit-log", operation_id = "getAuditLog", tag = "operations",
    summary = "Who wrote what and when, newest first.",
    params(Paging),
    responses(
        (status = 200, description = "A page.", body = ref("#/components/schemas/AuditPage")),
        AuditErrors,
    ),
)]
pub(super) async fn audit_log(
    State(control): State<Arc<Control>>,
    params: Params,
) -> Result<Response, ApiError> {
    let (offset, limit) = (params.offset()?, params.limit(LIMIT_DEFAULT, LIMIT_MAX)?);
    let (entries, total) = control.store.audit_log(offset, limit).await?;
    let data = entries
        .into_iter()
        .map(|entry| {
            json!({
                "at": format!("{:.3}", entry.at),
                "actor": entry.actor,
                "action": entry.action,
                "target": entry.target,
                "fields": entry.fields,
                "client": entry.client,
            })
        })
        .collect();
    Ok(envelope::page(data, total))
}
