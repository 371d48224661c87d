//! `POST /observability/destinations/preview`: what would become of an event, and nothing is sent.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Map, Value as Json};
use tracecast_destination::Destination;
use uuid::Uuid;

use super::destinations::{find, from_create_body};
use super::envelope::{self, ApiError};
use super::openapi::PreviewErrors;
use super::request::Body;
use crate::{Control, Preview};

/// The body is a create body or `{"id"}`, and `event`: an OTLP JSON request or a record of `/v1/events`.
#[utoipa::path(
    post, path = "/observability/destinations/preview", operation_id = "previewDestination", tag = "destinations",
    summary = "Shows the decision of each rule on an event and the requests it would become; nothing is sent.",
    request_body = ref("#/components/schemas/PreviewRequest"),
    responses(
        (status = 200, description = "What would happen.", body = ref("#/components/schemas/PreviewData")),
        PreviewErrors,
    ),
)]
pub(super) async fn preview(
    State(control): State<Arc<Control>>,
    Body(mut body): Body,
) -> Result<Response, ApiError> {
    let event = match body.remove("event") {
        None | Some(Json::Null) => None,
        Some(event @ (Json::Object(_) | Json::Array(_))) => Some(event),
        Some(_) => {
            return Err(ApiError::invalid_field(
                "event",
                "must be an OTLP JSON request or a record of /v1/events; without it a sample is used",
            ));
        }
    };
    let destination = destination(&control, &body)?;
    let workspace = control.model().workspaces.get(&destination.workspace_id).cloned();
    let is_broadcast_enabled =
        workspace.is_some_and(|workspace| workspace.settings.is_observability_broadcast_enabled);
    let preview = Preview { destination, is_broadcast_enabled, event };
    let runtime = control.runtime.clone();
    // Reads and encodes an event of up to a megabyte.
    let shown = tokio::task::spawn_blocking(move || runtime.0.preview(&preview))
        .await
        .map_err(|_| ApiError::internal())?
        .map_err(|issues| ApiError::invalid(&issues))?;
    Ok(envelope::data(StatusCode::OK, shown))
}

fn destination(control: &Control, body: &Map<String, Json>) -> Result<Arc<Destination>, ApiError> {
    let Some(id) = body.get("id") else {
        return from_create_body(control, body).map(Arc::new);
    };
    if body.len() > 1 {
        return Err(ApiError::invalid_field(
            "id",
            "stands for the whole destination: give either `id` or the fields of a create body",
        ));
    }
    let id = id
        .as_str()
        .and_then(|text| Uuid::try_parse(text).ok())
        .ok_or_else(|| ApiError::invalid_field("id", "must be the id of a destination"))?;
    Ok(Arc::clone(&find(&control.model(), id)?.destination))
}
