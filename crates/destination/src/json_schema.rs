//! JSON Schema of a destination as it is written in a create body or the config file.
//!
//! Derived from the same tables that validate. It is for editors: rules that span fields are not
//! in it.
use serde_json::{Map, Value as Json, json};

use crate::config::schema;
use crate::filter;
use crate::kind::{Kind, Region};
use crate::rate_limit::RateLimit;
use crate::retry::Retry;
use crate::schema::{Field, Presence, Rule};
use crate::wire::Wire;

/// The schema (draft 2020-12) of one destination.
pub fn json_schema() -> Json {
    let types: Vec<Json> = Kind::ALL
        .iter()
        .map(|kind| {
            json!({
                "if": { "required": ["type"], "properties": { "type": { "const": kind.as_str() } } },
                "then": { "properties": { "config": config(*kind) } },
            })
        })
        .collect();
    let flag =
        |about: &str, default: bool| json!({ "type": "boolean", "default": default, "description": about });
    let regions: Vec<&str> = Region::NAMES.iter().copied().chain(["eu"]).collect();
    json!({
        "type": "object",
        "required": ["name", "type", "config"],
        "additionalProperties": false,
        "properties": {
            "id": {
                "type": "string",
                "format": "uuid",
                "description": "File destinations only; derived from workspace, type and name if absent.",
            },
            "type": { "enum": Kind::NAMES, "description": "The kind: decides what `config` holds." },
            "name": { "type": "string", "minLength": 1, "description": "Name for people." },
            "workspace_id": { "type": "string", "description": "Uuid; in the file also a slug." },
            "enabled": flag("Takes new events.", true),
            "privacy_mode": flag("Content is withheld.", false),
            "sampling_rate": {
                "type": "number",
                "minimum": 0.0001,
                "maximum": 1,
                "default": 1,
                "description": "Part of the sessions it gets.",
            },
            "api_key_hashes": {
                "type": ["array", "null"],
                "minItems": 1,
                "items": { "type": "string", "pattern": "^[0-9a-fA-F]{64}$" },
                "description": "SHA-256 of the keys whose traffic it gets; null = all keys.",
            },
            "filter_rules": filter_rules(),
            "regions": {
                "type": "array",
                "minItems": 1,
                "items": { "enum": regions },
                "default": ["global"],
                "description": "Regions whose traffic it gets.",
            },
            "rate_limit": RateLimit::json_schema(),
            "retry": {
                "enum": [Retry::Backoff.as_str(), Retry::Schedule.as_str(), null],
                "default": Retry::Backoff.as_str(),
                "description": "When a batch that failed is sent again: soon, growing to a minute; or by the schedule \
                                5 s, 5 min, 30 min, 2 h, 5 h, 10 h, 10 h. How long, is the log's max_age either way.",
            },
            "broadcast_generation_cost": flag("Send cost metadata.", false),
            "broadcast_generation_identity": flag("Send identity metadata.", false),
            "broadcast_generation_request_context": flag("Send request context metadata.", false),
            "broadcast_generation_cost_allocation": flag("Send cost allocation metadata.", false),
            "config": { "type": "object", "description": "Where and how events are sent, by `type`." },
        },
        "allOf": types,
    })
}

fn config(kind: Kind) -> Json {
    let schema = schema(kind);
    let fields = || schema.fields.iter().filter(|field| field.is_given());
    let mut properties: Map<String, Json> =
        fields().map(|field| (field.name.to_owned(), property(field))).collect();
    properties.insert(
        crate::headers::KEY.to_owned(),
        json!({
            "type": "object",
            "additionalProperties": { "type": "string" },
            "description": "Extra request headers.",
        }),
    );
    let required: Vec<&str> =
        fields().filter(|field| field.presence == Presence::Required).map(|field| field.name).collect();
    json!({
        "type": "object",
        "required": required,
        "additionalProperties": false,
        "properties": properties,
    })
}

fn property(field: &Field) -> Json {
    let mut property = match field.rule {
        Rule::Text | Rule::Token => json!({ "type": "string", "minLength": 1 }),
        Rule::TextOrEmpty => json!({ "type": "string" }),
        Rule::Url(_) => {
            json!({ "type": "string", "format": "uri" })
        }
        Rule::Choice(names) => json!({ "enum": names }),
        Rule::Flag => json!({ "type": "boolean" }),
        Rule::FormerSecrets => json!({ "type": "array" }),
    };
    property["description"] = Json::from(field.about.trim());
    if field.secret {
        property["format"] = Json::from("password");
    }
    match field.presence {
        Presence::Default(value) => property["default"] = Json::from(value),
        Presence::DefaultFalse => property["default"] = Json::from(false),
        Presence::Required | Presence::Optional => {}
    }
    property
}

fn filter_rules() -> Json {
    let rule = json!({
        "type": "object",
        "required": ["field", "operator"],
        "additionalProperties": false,
        "properties": {
            "field": { "enum": filter::Field::NAMES, "description": "What is looked at." },
            "operator": { "enum": filter::Operator::NAMES, "description": "How it is compared." },
            "value": {
                "type": ["string", "number"],
                "description": "With what: a number for costs and tokens, else text; none with exists and not_exists.",
            },
        },
    });
    let group = json!({
        "type": "object",
        "required": ["rules"],
        "additionalProperties": false,
        "properties": {
            "logic": {
                "enum": filter::Logic::NAMES,
                "default": "and",
                "description": "Whether all rules of the group must hold, or one.",
            },
            "rules": { "type": "array", "items": rule },
        },
    });
    json!({
        "type": ["object", "null"],
        "required": ["groups"],
        "additionalProperties": false,
        "properties": {
            "enabled": {
                "type": "boolean",
                "default": true,
                "description": "If false, everything passes.",
            },
            "groups": { "type": "array", "items": group, "description": "All must pass." },
        },
        "description": "Conditions on events; absent or null = none.",
    })
}
