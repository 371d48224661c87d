//! The admin listener: routes, the layers around them, and what answers where no route does.

mod auth;
mod destinations;
mod envelope;
mod extensions;
mod fields;
mod health;
mod key_body;
mod keys;
mod request;
mod workspaces;

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::{OriginalUri, Request};
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{get, post};
use tower_http::catch_panic::CatchPanicLayer;

use crate::Control;
use envelope::ApiError;

pub(crate) fn router(control: Arc<Control>) -> Router {
    let api = management(Arc::clone(&control))
        .merge(own_key(Arc::clone(&control)))
        .layer(middleware::map_response(no_store));
    Router::new()
        .nest("/api/v1", api)
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(health::metrics))
        .fallback(wrong_address)
        .method_not_allowed_fallback(method_not_allowed)
        // Inside tracing, so that a panic is traced as the 500 it becomes.
        .layer(CatchPanicLayer::custom(envelope::panicked))
        .layer(middleware::from_fn(trace))
        .with_state(control)
}

/// What only management keys may call, paths that do not exist included.
fn management(control: Arc<Control>) -> Router<Arc<Control>> {
    Router::new()
        .route("/observability/destinations", get(destinations::list).post(destinations::create))
        .route("/observability/destinations/test", post(extensions::test_body))
        .route(
            "/observability/destinations/{id}",
            get(destinations::show).patch(destinations::update).delete(destinations::delete),
        )
        .route("/observability/destinations/{id}/test", post(extensions::test))
        .route("/observability/destinations/{id}/stats", get(extensions::stats))
        .route("/observability/destinations/{id}/pause", post(extensions::pause))
        .route("/observability/destinations/{id}/resume", post(extensions::resume))
        .route("/observability/stats", get(extensions::all_stats))
        .route("/keys", get(keys::list).post(keys::create))
        .route("/keys/{hash}", get(keys::show).patch(keys::update).delete(keys::delete))
        .route("/workspaces", get(workspaces::list).post(workspaces::create))
        .route("/workspaces/{id}", get(workspaces::show).patch(workspaces::update).delete(workspaces::delete))
        .route("/audit-log", get(extensions::audit_log))
        .fallback(no_such_resource)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(middleware::from_fn_with_state(control, auth::management_only))
}

/// What every key may call.
fn own_key(control: Arc<Control>) -> Router<Arc<Control>> {
    Router::new()
        .route("/key", get(keys::current))
        .method_not_allowed_fallback(method_not_allowed)
        .layer(middleware::from_fn_with_state(control, auth::any_key))
}

async fn no_such_resource(OriginalUri(uri): OriginalUri) -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, format!("Resource not found: the control API has no {}", uri.path()))
}

async fn method_not_allowed(method: Method, OriginalUri(uri): OriginalUri) -> ApiError {
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, format!("{method} is not possible on {}", uri.path()))
}

/// The listener's own 404: most often a client that was pointed at the wrong port or left out the base path.
async fn wrong_address(uri: Uri) -> ApiError {
    const API_ROOTS: [&str; 5] = ["observability", "keys", "key", "workspaces", "audit-log"];
    let root = uri.path().split('/').nth(1).unwrap_or_default();
    let mut message =
        "this is the admin listener; the control API lives under /api/v1; OTLP goes to the ingest listener"
            .to_owned();
    if API_ROOTS.contains(&root) {
        message.push_str(&format!(" (did you mean /api/v1{}?)", uri.path()));
    }
    ApiError::new(StatusCode::NOT_FOUND, message)
}

/// Answers of the control API are for the caller alone; one of them holds a key.
async fn no_store(mut response: Response) -> Response {
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// One line per request: no header, no query, no body.
async fn trace(request: Request, next: Next) -> Response {
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let started = Instant::now();
    let response = next.run(request).await;
    let status = response.status().as_u16();
    let elapsed_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    if response.status().is_server_error() && status != 503 {
        tracing::error!(%method, path, status, elapsed_ms, "admin request failed");
    } else {
        tracing::debug!(%method, path, status, elapsed_ms, "admin request");
    }
    response
}
