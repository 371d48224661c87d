//! `/openapi.json`: the OpenAPI 3.1 document of the admin listener.
//!
//! Paths, parameters and status codes are declared on the handlers and registered with the routes, so a route
//! without them does not exist. The objects are in [`schemas`]; those of destinations follow from the declarations
//! of the 17 kinds.

mod errors;
mod params;
mod schemas;

use std::sync::OnceLock;

use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Value as Json, json};
use utoipa::OpenApi as _;

use super::envelope::json_response;

pub(crate) use errors::{
    ActionErrors, AuditErrors, BackfillErrors, CreateErrors, DeleteErrors, LettersErrors, ListErrors,
    NotReady, OwnKeyErrors, PreviewErrors, ReadErrors, ReplayErrors, TailErrors, TestBodyErrors, TestErrors,
    UpdateErrors,
};
pub(crate) use params::{
    DefaultWorkspaceConfirmed, DestinationPath, InWorkspace, KeyFilter, KeyPath, LetterFilters, LetterPath,
    OfWorkspace, Paging, Repeatable, StatsPaging, TailFilters, Tested, TracePath, WorkspacePath,
};

/// What the document says beside paths and objects.
#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "tracecast control API",
        description = "Manages destinations, keys and workspaces of a tracecast gateway. `/api/v1/observability/destinations`, \
                       `/api/v1/keys`, `/api/v1/key` and `/api/v1/workspaces` answer as the OpenRouter API does, so its \
                       SDKs work with the base URL `http://127.0.0.1:4320/api/v1`; what is added is additive.\n\n\
                       Every error is `{\"error\": {\"code\", \"message\", \"metadata\"}}`; a 400 lists each mistake in \
                       `metadata.issues`. In a PATCH an absent field is kept and `null` clears. Unknown fields of a body \
                       are ignored, unknown keys of a `config` are refused. An answered write holds for the next event; \
                       a write that is answered 503 was not made.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    tags(
        (name = "destinations", description = "Where events are delivered to."),
        (name = "keys", description = "Who sends events."),
        (name = "workspaces", description = "Which keys and destinations belong together."),
        (name = "operations", description = "What the gateway does and did."),
    ),
)]
struct Frame;

/// The document without its paths.
pub(super) fn frame() -> utoipa::openapi::OpenApi {
    Frame::openapi()
}

/// The whole document.
pub(crate) fn document() -> &'static Json {
    static DOCUMENT: OnceLock<Json> = OnceLock::new();
    DOCUMENT.get_or_init(|| complete(serde_json::to_value(super::paths()).unwrap_or_default()))
}

fn complete(mut document: Json) -> Json {
    // None of ours can do without its body.
    for body in operations(&mut document).filter_map(|operation| operation.get_mut("requestBody")) {
        body["required"] = true.into();
    }
    // The key of the API is asked for everywhere but where the paths say otherwise.
    document["security"] = json!([{ "bearer": [] }]);
    document["components"] = json!({
        "schemas": schemas::all(),
        "responses": errors::components(),
        "securitySchemes": {
            "bearer": {
                "type": "http",
                "scheme": "bearer",
                "description": "A management key; for `/api/v1/key` any key.",
            },
        },
    });
    document
}

fn operations(document: &mut Json) -> impl Iterator<Item = &mut Json> {
    let paths = document.get_mut("paths").and_then(Json::as_object_mut);
    paths
        .into_iter()
        .flat_map(|paths| paths.values_mut())
        .filter_map(Json::as_object_mut)
        .flat_map(|path| path.values_mut())
}

/// The OpenAPI document of this listener.
#[utoipa::path(get, path = "/openapi.json", operation_id = "getOpenApi", tag = "operations", security(()),
    responses((status = 200, description = "The document.", body = Object)))]
pub(super) async fn openapi() -> Response {
    json_response(StatusCode::OK, document())
}
