//! Keys: the object, the bodies, what a key may know of itself.

use serde_json::{Map, Value as Json, json};

use super::{data, extend, names, nullable, object, reference, time, time_or_null, uuid};
use crate::model::{CAN_ASSERT, LimitReset, MANAGED_BY};

pub(super) fn all() -> Json {
    let reset: Vec<Json> = names(LimitReset::ALL).chain([Json::Null]).collect();
    let usd = |about: &str| json!({ "type": "number", "description": about });
    let mut usage = Map::new();
    for (name, whose) in
        [("usage", "through the gateway's own accounts"), ("byok_usage", "with keys of one's own")]
    {
        for (suffix, when) in
            [("", "ever"), ("_daily", "this day"), ("_weekly", "this week"), ("_monthly", "this month")]
        {
            usage.insert(format!("{name}{suffix}"), usd(&format!("USD spent {when} (UTC), {whose}.")));
        }
    }
    usage.insert("limit".to_owned(), nullable("number", "USD; null = no limit."));
    usage
        .insert("limit_remaining".to_owned(), nullable("number", "USD left in the window; null = no limit."));
    usage.insert(
        "limit_reset".to_owned(),
        json!({ "enum": reset, "description": "When spending starts anew." }),
    );
    usage.insert("include_byok_in_limit".to_owned(), json!({ "type": "boolean" }));

    let mut key = usage.clone();
    extend(
        &mut key,
        json!({
            "id": { "type": "integer", "description": "The form `io_logging_api_key_ids` uses." },
            "hash": { "type": "string", "pattern": "^[0-9a-f]{64}$", "description": "SHA-256 of the key." },
            "name": { "type": "string" },
            "label": { "type": "string", "examples": ["sk-tc-v1-0e6...1c96"] },
            "disabled": { "type": "boolean" },
            "created_at": time(),
            "updated_at": time_or_null(),
            "expires_at": time_or_null(),
            "last_used_at": time_or_null(),
            "creator_user_id": nullable("string", "Who created it."),
            "workspace_id": uuid(),
            "external_user": nullable("string", "The partner's end user."),
            "can_assert_identity": can_assert(),
            "managed_by": { "enum": names(MANAGED_BY).collect::<Vec<_>>() },
        }),
    );
    let mut current = usage;
    extend(
        &mut current,
        json!({
            "label": { "type": "string" },
            "creator_user_id": { "type": ["string", "null"] },
            "is_free_tier": { "type": "boolean" },
            "is_management_key": { "type": "boolean" },
            "is_provisioning_key": { "type": "boolean", "deprecated": true },
            "organization_id": { "type": ["string", "null"] },
            "workspace_id": { "type": ["string", "null"], "format": "uuid" },
            "expires_at": time_or_null(),
            "rate_limit": object(json!({
                "interval": { "type": "string" },
                "note": { "type": "string" },
                "requests": { "type": "integer" },
            })),
            "allowed_data_regions": { "type": "array", "items": { "enum": ["global", "europe", "us"] } },
            "free_model_daily_requests": object(json!({
                "limit": { "type": "integer" },
                "used": { "type": "integer" },
                "remaining": { "type": "integer" },
            })),
            "budgets": { "type": "array", "items": reference("Budget") },
            "effective_budget": { "oneOf": [reference("Budget"), { "type": "null" }] },
        }),
    );
    let written = |more: Json| {
        let mut fields = Map::new();
        extend(
            &mut fields,
            json!({
                "name": { "type": "string", "minLength": 1 },
                "limit": { "type": ["number", "null"], "minimum": 0, "description": "USD; null = no limit." },
                "limit_reset": { "enum": names(LimitReset::ALL).chain([Json::Null]).collect::<Vec<_>>() },
                "include_byok_in_limit": { "type": "boolean" },
                "can_assert_identity": can_assert(),
                "workspace_id": { "type": ["string", "null"], "description": "Id or slug." },
            }),
        );
        extend(&mut fields, more);
        Json::Object(fields)
    };
    json!({
        "Key": object(Json::Object(key)),
        "KeyData": data("Key"),
        "KeyList": object(json!({ "data": { "type": "array", "items": reference("Key") } })),
        "CreatedKey": object(json!({
            "data": reference("Key"),
            "key": { "type": "string", "description": "The key itself, shown this once; of an imported key its label." },
        })),
        "KeyCreate": {
            "type": "object",
            "required": ["name"],
            "properties": written(json!({
                "expires_at": { "type": ["string", "null"], "format": "date-time", "description": "UTC, in the future." },
                "creator_user_id": { "type": ["string", "null"], "minLength": 1 },
                "external": {
                    "type": ["object", "null"],
                    "required": ["user"],
                    "properties": {
                        "user": { "type": "string", "minLength": 1 },
                        "api_key": {
                            "type": ["string", "null"],
                            "minLength": 32,
                            "description": "A key that exists already, to be known by its hash; stored as SHA-256 only.",
                        },
                    },
                },
            })),
            "examples": [{ "name": "My Production Key", "limit": 100, "limit_reset": "monthly" }],
        },
        "KeyUpdate": {
            "type": "object",
            "properties": written(json!({ "disabled": { "type": "boolean" } })),
            "examples": [{ "disabled": true }],
        },
        "Budget": object(json!({
            "scope": { "type": "string", "examples": ["key_limit"] },
            "limit_usd": { "type": "number" },
            "spend_usd": { "type": "number" },
            "remaining_usd": { "type": "number" },
            "reset_interval": { "enum": reset },
            "resets_at": time_or_null(),
            "include_byok": { "type": "boolean" },
            "guardrail_id": { "type": ["string", "null"] },
            "budget_id": { "type": ["string", "null"] },
        })),
        "CurrentKey": object(Json::Object(current)),
        "CurrentKeyData": data("CurrentKey"),
    })
}

fn can_assert() -> Json {
    json!({
        "enum": names(CAN_ASSERT).collect::<Vec<_>>(),
        "description": "Which identity events sent with the key may state.",
    })
}
