//! `components.schemas`: what bodies look like. A test holds every answer of every other test against them.

mod destinations;
mod keys;
mod workspaces;

use serde_json::{Map, Value as Json, json};
use tracecast_destination::Kind;

const DIAGNOSES: [&str; 13] = [
    "ok",
    "dns",
    "connect",
    "tls",
    "auth",
    "not_found",
    "rejected",
    "schema",
    "rate_limited",
    "unavailable",
    "timeout",
    "blocked_address",
    "loop",
];

pub(super) fn all() -> Json {
    let mut all = Map::new();
    for part in [common(), destinations::all(), extensions(), keys::all(), workspaces::all()] {
        if let Json::Object(part) = part {
            all.extend(part);
        }
    }
    Json::Object(all)
}

fn common() -> Json {
    json!({
        "Error": {
            "type": "object",
            "required": ["error"],
            "properties": {
                "error": {
                    "type": "object",
                    "required": ["code", "message"],
                    "properties": {
                        "code": { "type": "integer", "description": "The HTTP status." },
                        "message": { "type": "string" },
                        "metadata": {
                            "type": ["object", "null"],
                            "properties": {
                                "issues": { "type": "array", "items": { "$ref": "#/components/schemas/Issue" } },
                                "test": { "$ref": "#/components/schemas/TestOutcome" },
                                "hash": { "type": "string", "description": "Of the key that exists already." },
                            },
                            "additionalProperties": true,
                        },
                    },
                },
                "user_id": { "type": ["string", "null"] },
            },
        },
        "Issue": {
            "type": "object",
            "required": ["path", "message"],
            "properties": {
                "path": { "type": "string", "examples": ["config.secretKey"] },
                "message": { "type": "string", "examples": ["is required"] },
                "hint": { "type": "string" },
            },
        },
        "Deleted": object(json!({ "deleted": { "const": true } })),
        "Health": object(json!({ "status": { "enum": ["ok", "ready"] } })),
    })
}

fn extensions() -> Json {
    let count = || json!({ "type": "integer", "minimum": 0 });
    let counts = || json!({ "type": "object", "additionalProperties": count() });
    json!({
        "TestOutcome": {
            "type": "object",
            "required": ["ok", "status", "url", "latency_ms", "diagnosis", "hint"],
            "properties": {
                "ok": { "type": "boolean" },
                "status": { "type": ["integer", "null"], "description": "The vendor's answer." },
                "url": { "type": ["string", "null"] },
                "latency_ms": { "type": ["number", "null"] },
                "diagnosis": { "enum": DIAGNOSES },
                "hint": { "type": ["string", "null"] },
            },
            "additionalProperties": true,
        },
        "TestOutcomeData": data("TestOutcome"),
        "PreviewRequest": {
            "type": "object",
            "description": "A create body, or the `id` of a destination; and an event.",
            "properties": {
                "event": {
                    "type": ["object", "array", "null"],
                    "description": "An OTLP JSON request or a record of `/v1/events`; a sample if absent.",
                },
            },
            "anyOf": [
                { "required": ["id"], "properties": { "id": uuid() } },
                reference("DestinationCreate"),
            ],
        },
        "Preview": {
            "type": "object",
            "properties": {
                "decisions": {
                    "type": "array",
                    "items": object(json!({
                        "rule": { "type": "string" },
                        "passed": { "type": ["boolean", "null"] },
                        "text": { "type": "string" },
                    })),
                },
                "requests": {
                    "type": "array",
                    "items": { "type": "object", "additionalProperties": true },
                    "description": "As they would be sent, secrets masked.",
                },
            },
            "additionalProperties": true,
        },
        "PreviewData": data("Preview"),
        "DestinationStats": {
            "type": "object",
            "description": "The books: selected + requeued = delivered + dead_lettered + dropped + pending, \
                            accepted = selected + skipped.",
            "required": ["destination_id", "workspace_id", "type", "name", "state"],
            "properties": {
                "destination_id": uuid(),
                "workspace_id": uuid(),
                "type": { "enum": kinds_of_destination() },
                "name": { "type": "string" },
                "state": { "type": "string" },
                "accepted": count(),
                "selected": count(),
                "requeued": count(),
                "delivered": count(),
                "dead_lettered": count(),
                "dropped": counts(),
                "skipped": counts(),
                "pending": count(),
                "pending_bytes": count(),
                "warnings": { "type": "array", "items": { "type": "string" } },
                "history": {
                    "type": "array",
                    "items": reference("StateChange"),
                    "description": "The latest changes of state, newest first.",
                },
            },
            "additionalProperties": true,
        },
        "StateChange": object(json!({
            "from": { "type": "string" },
            "to": { "type": "string" },
            "at": { "type": ["string", "null"], "format": "date-time" },
            "times": {
                "type": "integer",
                "minimum": 1,
                "description": "How often in succession; `at` is the latest time.",
            },
            "error": {
                "type": ["object", "null"],
                "description": "The latest trouble at that time.",
                "additionalProperties": true,
            },
        })),
        "DestinationStatsData": data("DestinationStats"),
        "StatsPage": object(json!({
            "data": object(json!({
                "gateway": { "type": "object", "additionalProperties": true },
                "destinations": { "type": "array", "items": reference("DestinationStats") },
            })),
            "total_count": count(),
        })),
        "DeadLetter": {
            "type": "object",
            "required": ["id", "at", "received_at", "reason", "status", "excerpt", "attempts", "spans", "trace_ids"],
            "properties": {
                "id": count(),
                "at": time(),
                "received_at": time(),
                "first_attempt_at": {
                    "type": ["string", "null"], "format": "date-time",
                    "description": "Null if that was before the last restart.",
                },
                "mapping_version": {
                    "type": "integer", "minimum": 0,
                    "description": "Of the mapping that made the requests; 0 if unknown.",
                },
                "reason": { "type": "string", "examples": ["rejected", "too_large", "unencodable"] },
                "status": { "type": ["integer", "null"], "description": "The destination's last answer." },
                "excerpt": { "type": "string", "description": "What it said." },
                "attempts": count(),
                "spans": count(),
                "trace_ids": { "type": "array", "items": { "type": "string" } },
                "content": {
                    "type": "object", "additionalProperties": true,
                    "description": "Of a single letter: its spans as OTLP JSON, in the destination's projection.",
                },
            },
            "additionalProperties": true,
        },
        "DeadLetterData": data("DeadLetter"),
        "DeadLetterPage": object(json!({
            "data": { "type": "array", "items": reference("DeadLetter") },
            "total_count": count(),
            "by_reason": counts(),
            "replaying": { "type": "integer", "minimum": 0, "description": "Letters that wait to be sent again." },
        })),
        "DeletedLetters": object(json!({ "data": object(json!({ "deleted": count() })) })),
        "ReplayRequest": {
            "type": "object",
            "description": "Nothing = all.",
            "properties": {
                "id": { "type": ["integer", "null"], "minimum": 0 },
                "reason": { "type": ["string", "null"] },
                "from": time_or_null(),
                "to": time_or_null(),
            },
            "additionalProperties": false,
        },
        "Replay": object(json!({
            "matched": { "type": "integer", "minimum": 0, "description": "Letters asked for, without those that wait already." },
            "requeued": { "type": "integer", "minimum": 0, "description": "Spans that are on their way again." },
            "waiting": { "type": "integer", "minimum": 0, "description": "Letters that follow at the pace of the destination." },
        })),
        "ReplayData": data("Replay"),
        "BackfillRequest": { "type": "object", "required": ["from"], "properties": { "from": time() } },
        "Backfill": object(json!({
            "oldest_at": time_or_null(),
            "records": count(),
            "requeued": { "type": "integer", "minimum": 0, "description": "Spans that are on their way again." },
            "complete": { "type": "boolean", "description": "Everything from the asked time on was still there." },
            "next_from": time_or_null(),
        })),
        "BackfillData": data("Backfill"),
        "EventAtDestination": {
            "type": "object",
            "required": ["destination_id", "name", "state", "selected", "skipped", "attempts", "last_error"],
            "properties": {
                "destination_id": uuid(),
                "name": { "type": "string" },
                "state": { "enum": ["skipped", "pending", "in_flight", "delivered", "dead_lettered", "dropped", "unknown"] },
                "selected": count(),
                "skipped": counts(),
                "attempts": count(),
                "last_error": {
                    "type": ["object", "null"],
                    "properties": {
                        "status": { "type": ["integer", "null"] },
                        "excerpt": { "type": "string" },
                        "at": time_or_null(),
                    },
                },
            },
            "additionalProperties": true,
        },
        "Event": object(json!({
            "trace_id": { "type": "string" },
            "complete": { "type": "boolean" },
            "received_at": time_or_null(),
            "destinations": { "type": "array", "items": reference("EventAtDestination") },
        })),
        "EventData": data("Event"),
        "AuditEntry": object(json!({
            "at": time(),
            "actor": { "type": "string", "description": "Label of the key, or what else wrote." },
            "action": { "type": "string", "examples": ["destination.create"] },
            "target": { "type": "string", "description": "Id or hash." },
            "fields": {
                "type": "array",
                "items": { "type": "string" },
                "description": "Names of the fields written, never their values.",
            },
            "client": { "type": ["string", "null"], "description": "What the caller said about itself." },
        })),
        "AuditPage": page("AuditEntry"),
    })
}

/// An object whose fields are all there.
fn object(properties: Json) -> Json {
    let required: Vec<String> =
        properties.as_object().map(|fields| fields.keys().cloned().collect()).unwrap_or_default();
    json!({ "type": "object", "required": required, "properties": properties })
}

fn data(name: &str) -> Json {
    object(json!({ "data": reference(name) }))
}

fn page(name: &str) -> Json {
    object(json!({
        "data": { "type": "array", "items": reference(name) },
        "total_count": { "type": "integer", "minimum": 0, "description": "Of all pages." },
    }))
}

fn reference(name: &str) -> Json {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

fn uuid() -> Json {
    json!({ "type": "string", "format": "uuid" })
}

fn time() -> Json {
    json!({ "type": "string", "format": "date-time" })
}

fn time_or_null() -> Json {
    json!({ "type": ["string", "null"], "format": "date-time" })
}

fn nullable(kind: &str, about: &str) -> Json {
    json!({ "type": [kind, "null"], "description": about })
}

fn names<T>(table: &'static [(&'static str, T)]) -> impl Iterator<Item = Json> {
    table.iter().map(|(name, _)| Json::from(*name))
}

fn extend(fields: &mut Map<String, Json>, more: Json) {
    if let Json::Object(more) = more {
        fields.extend(more);
    }
}

fn kinds_of_destination() -> Vec<&'static str> {
    Kind::ALL.iter().map(|kind| kind.as_str()).collect()
}
