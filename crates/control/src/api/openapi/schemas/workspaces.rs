//! Workspaces: the object and the bodies.

use serde_json::{Map, Value as Json, json};

use super::{data, extend, object, page, time, time_or_null, uuid};

const PROVIDER_SORTS: [&str; 4] = ["price", "throughput", "latency", "exacto"];

pub(super) fn all() -> Json {
    let sorts: Vec<Json> = PROVIDER_SORTS.map(Json::from).into_iter().chain([Json::Null]).collect();
    let settings = || {
        json!({
            "name": { "type": "string", "minLength": 1, "maxLength": 100 },
            "slug": {
                "type": "string",
                "minLength": 1,
                "maxLength": 50,
                "pattern": "^[a-z0-9]+(?:-[a-z0-9]+)*$",
                "description": "Unique, usable in place of the id; not in the form of a uuid.",
            },
            "description": { "type": ["string", "null"], "maxLength": 500 },
            "default_text_model": { "type": ["string", "null"] },
            "default_image_model": { "type": ["string", "null"] },
            "default_provider_sort": { "enum": sorts },
            "io_logging_api_key_ids": {
                "type": ["array", "null"],
                "items": { "type": "integer", "format": "int64" },
                "description": "Null = all keys.",
            },
            "io_logging_sampling_rate": { "type": "number", "minimum": 0.0001, "maximum": 1 },
            "is_observability_io_logging_enabled": { "type": "boolean" },
            "is_observability_broadcast_enabled": {
                "type": "boolean",
                "description": "Off: no destination of the workspace gets anything. On unless switched off.",
            },
            "is_data_discount_logging_enabled": { "type": "boolean", "description": "Kept, without effect." },
            "disabled_server_tools": { "type": ["array", "null"], "items": { "type": "string" } },
        })
    };
    let mut workspace = Map::new();
    extend(&mut workspace, settings());
    extend(
        &mut workspace,
        json!({
            "id": uuid(),
            "is_default": { "type": "boolean" },
            "include_byok_in_budgets": { "type": "boolean" },
            "default_guardrail_id": uuid(),
            "created_at": time(),
            "updated_at": time_or_null(),
            "created_by": { "type": ["string", "null"] },
        }),
    );
    json!({
        "Workspace": object(Json::Object(workspace)),
        "WorkspaceData": data("Workspace"),
        "WorkspacePage": page("Workspace"),
        "WorkspaceCreate": {
            "type": "object",
            "required": ["name", "slug"],
            "properties": settings(),
            "examples": [{ "name": "Production", "slug": "production" }],
        },
        "WorkspaceUpdate": {
            "type": "object",
            "properties": settings(),
            "examples": [{ "is_observability_broadcast_enabled": false }],
        },
    })
}
