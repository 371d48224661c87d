//! What needs no key: `/healthz`, `/readyz`, `/metrics`.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::envelope::{ApiError, json_response};
use super::openapi::NotReady;
use crate::Control;

/// The process answers.
#[utoipa::path(
    get, path = "/healthz", operation_id = "getHealth", tag = "operations",
    summary = "The process answers.",
    security(()),
    responses(
        (status = 200, description = "It does.", body = ref("#/components/schemas/Health")),
    ),
)]
pub(crate) async fn healthz() -> Response {
    json_response(StatusCode::OK, &json!({ "status": "ok" }))
}

/// The gateway can take events; else 503 with every reason.
#[utoipa::path(
    get, path = "/readyz", operation_id = "getReadiness", tag = "operations",
    summary = "The gateway can take events.",
    security(()),
    responses(
        (status = 200, description = "It can.", body = ref("#/components/schemas/Health")),
        NotReady,
    ),
)]
pub(crate) async fn readyz(State(control): State<Arc<Control>>) -> Response {
    let mut reasons = control.runtime().not_ready();
    if let Some(reason) = control.stale.load_full() {
        reasons.push(String::clone(&reason));
    }
    if reasons.is_empty() {
        return json_response(StatusCode::OK, &json!({ "status": "ready" }));
    }
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {}", reasons.join("; ")))
        .with_metadata(json!({ "reasons": reasons }))
        .into_response()
}

/// Prometheus text.
#[utoipa::path(
    get, path = "/metrics", operation_id = "getMetrics", tag = "operations",
    summary = "Prometheus text.",
    security(()),
    responses(
        (status = 200, description = "All metrics.", body = String, content_type = "text/plain"),
    ),
)]
pub(crate) async fn metrics(State(control): State<Arc<Control>>) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], control.runtime().metrics())
        .into_response()
}
