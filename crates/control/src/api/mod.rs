//! The admin listener: routes, the layers around them, and what answers where no route does.

mod auth;
mod destinations;
mod envelope;
mod extensions;
mod fields;
mod health;
mod key_body;
mod key_usage;
mod keys;
mod letters;
mod once;
mod openapi;
mod preview;
mod request;
mod workspaces;

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::{OriginalUri, Request, State};
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::Response;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::Control;
use envelope::ApiError;
#[cfg(test)]
pub(crate) use openapi::document;

pub(crate) fn router(control: Arc<Control>) -> Router {
    let (management, _) = management().split_for_parts();
    let management = management
        .fallback(no_such_resource)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(middleware::from_fn_with_state(Arc::clone(&control), auth::management_only));
    let (own_key, _) = own_key().split_for_parts();
    let own_key = own_key
        .method_not_allowed_fallback(method_not_allowed)
        .layer(middleware::from_fn_with_state(Arc::clone(&control), auth::any_key));
    let api = management.merge(own_key).layer(middleware::map_response(no_store));
    let (open, _) = open().split_for_parts();
    open.nest("/api/v1", api)
        .fallback(wrong_address)
        .method_not_allowed_fallback(method_not_allowed)
        // Inside tracing, so that a panic is traced as the 500 it becomes.
        .layer(CatchPanicLayer::custom(envelope::panicked))
        .layer(middleware::from_fn(trace))
        .with_state(control)
}

/// The paths of all routes, as OpenAPI describes them.
fn paths() -> utoipa::openapi::OpenApi {
    OpenApiRouter::with_openapi(openapi::frame())
        .merge(open())
        .nest("/api/v1", management().merge(own_key()))
        .into_openapi()
}

/// What needs no key.
fn open() -> OpenApiRouter<Arc<Control>> {
    OpenApiRouter::new()
        .routes(routes!(health::healthz))
        .routes(routes!(health::readyz))
        .routes(routes!(health::metrics))
        .routes(routes!(openapi::openapi))
}

/// What only management keys may call, paths that do not exist included.
fn management() -> OpenApiRouter<Arc<Control>> {
    OpenApiRouter::new()
        .routes(routes!(destinations::list, destinations::create))
        .routes(routes!(extensions::test_body))
        .routes(routes!(preview::preview))
        .routes(routes!(destinations::show, destinations::update, destinations::delete))
        .routes(routes!(extensions::test))
        .routes(routes!(extensions::stats))
        .routes(routes!(extensions::pause))
        .routes(routes!(extensions::resume))
        .routes(routes!(letters::list, letters::delete))
        .routes(routes!(letters::show))
        .routes(routes!(letters::replay))
        .routes(routes!(letters::backfill))
        .routes(routes!(letters::event))
        .routes(routes!(letters::tail))
        .routes(routes!(extensions::all_stats))
        .routes(routes!(keys::list, keys::create))
        .routes(routes!(keys::show, keys::update, keys::delete))
        .routes(routes!(workspaces::list, workspaces::create))
        .routes(routes!(workspaces::show, workspaces::update, workspaces::delete))
        .routes(routes!(extensions::audit_log))
}

/// What every key may call.
fn own_key() -> OpenApiRouter<Arc<Control>> {
    OpenApiRouter::new().routes(routes!(keys::current))
}

async fn no_such_resource(OriginalUri(uri): OriginalUri) -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, format!("Resource not found: the control API has no {}", uri.path()))
}

async fn method_not_allowed(method: Method, OriginalUri(uri): OriginalUri) -> ApiError {
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, format!("{method} is not possible on {}", uri.path()))
}

/// The listener's own 404: most often a client that was pointed at the wrong port or left out the base path.
async fn wrong_address(State(control): State<Arc<Control>>, uri: Uri) -> ApiError {
    const API_ROOTS: [&str; 5] = ["observability", "keys", "key", "workspaces", "audit-log"];
    let root = uri.path().split('/').nth(1).unwrap_or_default();
    let mut message =
        "this is the admin listener; the control API lives under /api/v1; OTLP goes to the ingest listener"
            .to_owned();
    if let Some(address) = control.runtime().ingest_address() {
        message.push_str(&format!(" at {address}"));
    }
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
