//! The OpenAPI document: complete, the one checked in, and true of every answer in the other tests.

use std::collections::BTreeSet;
use std::path::Path;

use axum::body::Body;
use http::Request;
use serde_json::Value as Json;

use super::{Gateway, MANAGEMENT_KEY};
use crate::api::document;

const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

/// To take over a changed document: `TRACECAST_UPDATE_OPENAPI=1 cargo test -p tracecast-control openapi`
#[test]
fn the_document_is_the_one_checked_in() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi.json");
    let current = serde_json::to_string_pretty(document()).unwrap() + "\n";
    if std::env::var_os("TRACECAST_UPDATE_OPENAPI").is_some() {
        std::fs::write(&path, &current).unwrap();
    }
    let checked_in = std::fs::read_to_string(&path).unwrap();
    assert!(
        checked_in == current,
        "{} is not what the code says: if the change is meant, run\n\
         TRACECAST_UPDATE_OPENAPI=1 cargo test -p tracecast-control openapi",
        path.display()
    );
}

#[tokio::test]
async fn it_is_served_without_a_key() {
    let gateway = Gateway::new().await;
    let (status, served) = gateway.call_as(None, "GET", "/openapi.json", None).await;
    assert_eq!(status, 200);
    assert_eq!(&served, document());
    assert_eq!(served["openapi"], "3.1.0");
}

#[tokio::test]
async fn it_names_every_route_and_only_routes() {
    let gateway = Gateway::new().await;
    let documented: BTreeSet<&str> =
        document()["paths"].as_object().unwrap().keys().map(String::as_str).collect();
    // The router shows its paths in its debug form only.
    let router = format!("{:?}", std::sync::Arc::clone(&gateway.control).router());
    let routed: BTreeSet<&str> =
        router.split('"').skip(1).step_by(2).filter(|text| text.starts_with('/')).collect();
    // The roots stand for the two fallbacks.
    let is_fallback = |path: &str| path == "/" || path == "/api/v1" || path.contains("__private__");
    let routed: BTreeSet<&str> = routed.into_iter().filter(|path| !is_fallback(path)).collect();
    assert_eq!(routed, documented);
    assert!(documented.len() >= 18, "{documented:?}");

    for (path, operations) in document()["paths"].as_object().unwrap() {
        let concrete = path
            .replace("{id}", "0190a000-0000-7000-8000-000000000000")
            .replace("{hash}", &"ab".repeat(32))
            .replace("{trace_id}", &"ab".repeat(16))
            .replace("{letter}", "1");
        for method in METHODS {
            let request = Request::builder()
                .method(method.to_ascii_uppercase().as_str())
                .uri(&concrete)
                .header("authorization", format!("Bearer {MANAGEMENT_KEY}"))
                .body(Body::from("{}"))
                .unwrap();
            let is_routed = gateway.raw(request).await.status() != 405;
            assert_eq!(is_routed, operations.get(method).is_some(), "{method} {path}");
        }
    }
}

#[test]
fn every_operation_says_what_a_client_needs() {
    let mut ids = BTreeSet::new();
    for (path, operations) in document()["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let id = operation["operationId"].as_str().unwrap();
            assert!(ids.insert(id), "{id} twice");
            assert!(operation["summary"].is_string(), "{id}");
            let statuses: Vec<&str> =
                operation["responses"].as_object().unwrap().keys().map(String::as_str).collect();
            if path.starts_with("/api/v1") {
                assert!(operation.get("security").is_none(), "{id} needs a key");
                assert!(statuses.contains(&"401") && statuses.contains(&"500"), "{id}");
            } else {
                assert!(operation["security"][0].as_object().unwrap().is_empty(), "{id} needs no key");
            }
            assert_eq!(operation.get("requestBody").is_some(), statuses.contains(&"413"), "{id}");
            assert_eq!(path.contains('{'), operation["parameters"].to_string().contains("\"path\""), "{id}");
            assert!(!(method == "post" && statuses.contains(&"201")) || statuses.contains(&"503"), "{id}");
        }
    }
    // Each reference leads somewhere.
    let text = document().to_string();
    for part in text.split("\"$ref\":\"#").skip(1) {
        let pointer = part.split('"').next().unwrap();
        assert!(document().pointer(pointer).is_some(), "{pointer}");
    }
    let schemas = document()["components"]["schemas"].as_object().unwrap();
    assert_eq!(schemas.keys().filter(|name| name.ends_with("Config")).count(), 17);
}

#[test]
fn the_examples_fit_their_schemas() {
    for (name, schema) in document()["components"]["schemas"].as_object().unwrap() {
        for example in schema["examples"].as_array().into_iter().flatten() {
            assert_eq!(mismatch(schema, example, name), None);
        }
    }
    let config = &document()["components"]["schemas"]["LangfuseConfig"];
    let refused = |body: Json| mismatch(config, &body, "config").unwrap();
    assert!(refused(serde_json::json!({ "publicKey": "p" })).contains("secretKey"));
    assert!(refused(serde_json::json!({ "publicKey": 1, "secretKey": "s" })).contains("publicKey"));
    assert!(refused(serde_json::json!({ "publicKey": "p", "secretKey": "s", "x": 1 })).contains("x"));
}

/// Holds an answer against the document. Addresses it does not know are the router's 404.
pub(crate) fn check_answer(method: &str, path: &str, status: u16, body: &Json) {
    let path = path.split('?').next().unwrap_or_default();
    let Some((template, operations)) = find_path(path) else {
        assert!(status == 404 || status == 401 || status == 403, "{method} {path}: {status}");
        return;
    };
    let place = format!("{method} {template}: {status}");
    let Some(operation) = operations.get(method.to_ascii_lowercase()) else {
        assert!(status == 405 || status == 401 || status == 403, "{place}");
        return;
    };
    let response = resolve(&operation["responses"][status.to_string()]);
    let schema = &response["content"]["application/json"]["schema"];
    assert!(!schema.is_null(), "{place} is not in the document: {body}");
    if let Some(mismatch) = mismatch(schema, body, "body") {
        panic!("{place}: {mismatch}: {body}");
    }
}

/// The path a concrete one stands for; literal segments come first.
fn find_path(path: &str) -> Option<(&'static str, &'static Json)> {
    let paths = document()["paths"].as_object().unwrap();
    let fits = |template: &str| {
        let (mut template, mut path) = (template.split('/'), path.split('/'));
        loop {
            match (template.next(), path.next()) {
                (None, None) => return true,
                (Some(expected), Some(found)) if expected == found || expected.starts_with('{') => {}
                _ => return false,
            }
        }
    };
    let found = paths.get_key_value(path).or_else(|| paths.iter().find(|(template, _)| fits(template)))?;
    Some((found.0.as_str(), found.1))
}

fn resolve(value: &'static Json) -> &'static Json {
    match value["$ref"].as_str() {
        Some(reference) => document().pointer(reference.trim_start_matches('#')).unwrap(),
        None => value,
    }
}

/// What does not fit, and where: the keywords the document uses, and stricter in one point: an object may have no
/// field the schema does not name, unless it says so.
fn mismatch(schema: &'static Json, value: &Json, place: &str) -> Option<String> {
    let mut known = BTreeSet::new();
    let open = collect_names(schema, &mut known);
    if let (Json::Object(fields), false) = (value, open || known.is_empty())
        && let Some(name) = fields.keys().find(|name| !known.contains(name.as_str()))
    {
        return Some(format!("{place}.{name} is not in the schema"));
    }
    fits(schema, value, place).err()
}

/// The names of the properties, wherever they are combined; whether others are fine.
fn collect_names(schema: &'static Json, known: &mut BTreeSet<&'static str>) -> bool {
    let schema = resolve(schema);
    known.extend(schema["properties"].as_object().into_iter().flatten().map(|(name, _)| name.as_str()));
    let mut open = schema.get("additionalProperties").is_some();
    for combination in ["allOf", "oneOf", "anyOf"] {
        for part in schema[combination].as_array().into_iter().flatten() {
            open |= collect_names(part, known);
        }
    }
    open
}

fn fits(schema: &'static Json, value: &Json, place: &str) -> Result<(), String> {
    let schema = resolve(schema);
    let wrong = |what: String| Err(format!("{place} {what}"));
    let types: Vec<&str> = match &schema["type"] {
        Json::String(one) => vec![one],
        Json::Array(several) => several.iter().filter_map(Json::as_str).collect(),
        _ => Vec::new(),
    };
    let is_of = |kind: &str| match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        "number" => value.is_number(),
        "integer" => value.is_i64() || value.is_u64(),
        _ => false,
    };
    if !types.is_empty() && !types.iter().any(|kind| is_of(kind)) {
        return wrong(format!("is not {types:?}: {value}"));
    }
    if schema.get("const").is_some_and(|constant| constant != value) {
        return wrong(format!("is not {}", schema["const"]));
    }
    if schema["enum"].as_array().is_some_and(|values| !values.contains(value)) {
        return wrong(format!("is none of {}: {value}", schema["enum"]));
    }
    if let Some(text) = value.as_str() {
        let is_shaped = match schema["format"].as_str() {
            Some("date-time") => text.ends_with('Z') && text.parse::<jiff::Timestamp>().is_ok(),
            Some("uuid") => uuid::Uuid::try_parse(text).is_ok(),
            _ => true,
        };
        if !is_shaped {
            return wrong(format!("is no {}: {text}", schema["format"]));
        }
    }
    if let (Some(number), Some(min)) = (value.as_f64(), schema["minimum"].as_f64())
        && number < min
    {
        return wrong(format!("is less than {min}"));
    }
    if let Some(fields) = value.as_object() {
        for name in schema["required"].as_array().into_iter().flatten().filter_map(Json::as_str) {
            if !fields.contains_key(name) {
                return wrong(format!("has no {name}"));
            }
        }
        for (name, value) in fields {
            let path = format!("{place}.{name}");
            if let Some(schema) = schema["properties"].get(name) {
                mismatch(schema, value, &path).map_or(Ok(()), Err)?;
            } else if schema["additionalProperties"] == Json::Bool(false) {
                return wrong(format!("has no field {name}"));
            } else if schema["additionalProperties"].is_object() {
                mismatch(&schema["additionalProperties"], value, &path).map_or(Ok(()), Err)?;
            }
        }
    }
    for (i, item) in value.as_array().into_iter().flatten().enumerate() {
        if schema.get("items").is_some() {
            mismatch(&schema["items"], item, &format!("{place}[{i}]")).map_or(Ok(()), Err)?;
        }
    }
    for part in schema["allOf"].as_array().into_iter().flatten() {
        fits(part, value, place)?;
    }
    if let Some(parts) = schema["oneOf"].as_array() {
        let failed: Vec<String> = parts.iter().filter_map(|part| fits(part, value, place).err()).collect();
        if failed.len() + 1 != parts.len() {
            return wrong(format!("fits {} of oneOf: {failed:?}", parts.len() - failed.len()));
        }
    }
    if let Some(parts) = schema["anyOf"].as_array()
        && !parts.iter().any(|part| fits(part, value, place).is_ok())
    {
        return wrong("fits none of anyOf".to_owned());
    }
    Ok(())
}
