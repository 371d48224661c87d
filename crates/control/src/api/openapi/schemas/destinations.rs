//! Destinations: the settings and configs as the kinds declare them, alike in bodies and answers.

use serde_json::{Map, Value as Json, json};
use tracecast_destination::{Kind, json_schema};

use super::{data, kinds_of_destination, names, page, reference, time, uuid};
use crate::model::MANAGED_BY;

pub(super) fn all() -> Json {
    let schema = json_schema();
    let mut settings = schema["properties"].clone();
    let mut all = Map::new();
    let filter_rules = settings["filter_rules"].take();
    all.insert("FilterRules".to_owned(), filter_rules);
    settings["filter_rules"] = reference("FilterRules");
    let workspace_id =
        json!({ "type": ["string", "null"], "description": "Id or slug; by default the default workspace." });
    for name in ["id", "type", "config", "workspace_id"] {
        if let Some(fields) = settings.as_object_mut() {
            fields.remove(name);
        }
    }
    let setting_names: Vec<String> =
        settings.as_object().map(|fields| fields.keys().cloned().collect()).unwrap_or_default();
    all.insert("DestinationSettings".to_owned(), json!({ "type": "object", "properties": settings }));

    let mut kinds = Vec::new();
    let cases = schema["allOf"].as_array().map(Vec::as_slice).unwrap_or_default();
    for case in cases {
        let kind = &case["if"]["properties"]["type"]["const"];
        let name = format!("{}Config", pascal_case(kind.as_str().unwrap_or_default()));
        let mut config = case["then"]["properties"]["config"].clone();
        if kind == Kind::S3.as_str() {
            config["properties"]["externalId"] = json!({
                "type": "string",
                "readOnly": true,
                "description": "Assigned by the gateway; goes into the trust policy of the role.",
            });
        }
        if kind == Kind::Webhook.as_str() {
            config["properties"]["previousSigningSecrets"] = json!({
                "type": "array",
                "readOnly": true,
                "items": {
                    "type": "object",
                    "properties": { "secret": { "type": "string" }, "signsUntil": time() },
                },
                "description": "Kept by the gateway: replaced secrets sign beside the new one for 24 hours.",
            });
        }
        kinds.push(json!({
            "title": name.trim_end_matches("Config"),
            "properties": { "type": { "const": kind }, "config": reference(&name) },
        }));
        all.insert(name, config);
    }

    let settings = reference("DestinationSettings");
    all.insert(
        "DestinationCreate".to_owned(),
        json!({
            "type": "object",
            "required": ["type", "name", "config"],
            "properties": {
                "type": { "enum": kinds_of_destination() },
                "workspace_id": workspace_id,
                "config": { "type": "object" },
            },
            "allOf": [settings],
            "oneOf": kinds,
            "examples": [{
                "type": "langfuse",
                "name": "Production Langfuse",
                "config": {
                    "baseUrl": "https://us.cloud.langfuse.com",
                    "publicKey": "pk-l...EfGh",
                    "secretKey": "sk-l...AbCd",
                },
            }],
        }),
    );
    all.insert(
        "DestinationUpdate".to_owned(),
        json!({
            "type": "object",
            "properties": {
                "config": {
                    "type": "object",
                    "description": "Keys of the destination's kind; those absent and masked secrets are kept, null \
                                    clears.",
                },
            },
            "allOf": [settings],
            "examples": [{ "enabled": false, "name": "Updated Langfuse" }],
        }),
    );
    // Shown only where it is set.
    let mut required: Vec<String> =
        setting_names.into_iter().filter(|name| !["rate_limit", "retry"].contains(&name.as_str())).collect();
    let own = ["id", "type", "workspace_id", "config", "managed_by", "state", "created_at", "updated_at"];
    required.extend(own.map(str::to_owned));
    all.insert(
        "Destination".to_owned(),
        json!({
            "type": "object",
            "description": "Secrets of the config are masked: the first four characters, `...`, the last four.",
            "required": required,
            "properties": {
                "id": uuid(),
                "type": { "enum": kinds_of_destination() },
                "workspace_id": uuid(),
                "config": { "type": "object" },
                "managed_by": { "enum": names(MANAGED_BY).collect::<Vec<_>>() },
                "state": {
                    "type": "string",
                    "description": "`healthy`, `paused`, `retired` (gone from the config file), or what keeps it from \
                                    delivering.",
                },
                "created_at": time(),
                "updated_at": time(),
            },
            "allOf": [settings],
            "oneOf": kinds,
        }),
    );
    all.insert("DestinationData".to_owned(), data("Destination"));
    all.insert("DestinationPage".to_owned(), page("Destination"));
    Json::Object(all)
}

/// `otel-collector` is `OtelCollector`.
fn pascal_case(kind: &str) -> String {
    kind.split('-')
        .flat_map(|word| {
            let (first, rest) = word.split_at(word.len().min(1));
            [first.to_ascii_uppercase(), rest.to_owned()]
        })
        .collect()
}
