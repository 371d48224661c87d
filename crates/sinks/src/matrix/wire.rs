//! What a vendor would read out of a request.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use crate::testing::{Received, decode, gunzip, multipart};

/// The body as it was before compression.
pub(super) fn plain(received: &Received) -> Vec<u8> {
    match received.header("content-encoding") {
        "gzip" => gunzip(&received.body),
        "" => received.body.clone(),
        other => panic!("coding {other}"),
    }
}

/// The body's values: JSON, JSON lines, or protobuf in its JSON form. Nothing for an empty body.
pub(super) fn values(received: &Received) -> Vec<Json> {
    let body = plain(received);
    if received.header("content-type") == "application/x-protobuf" {
        return vec![serde_json::to_value(decode(&body)).unwrap()];
    }
    if received.header("content-type").starts_with("multipart/") {
        return vec![multipart(received.header("content-type"), &body).into()];
    }
    body.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect()
}

/// Every text in the body; texts that are JSON themselves are read on.
pub(super) fn texts(received: &Received) -> Vec<String> {
    let mut out = Vec::new();
    for value in values(received) {
        collect(&value, &mut out);
    }
    out
}

fn collect(value: &Json, out: &mut Vec<String>) {
    match value {
        Json::String(text) => {
            out.push(text.clone());
            if let Ok(inner @ (Json::Object(_) | Json::Array(_))) = serde_json::from_str(text) {
                collect(&inner, out);
            }
        }
        Json::Array(items) => items.iter().for_each(|item| collect(item, out)),
        Json::Object(object) => object.values().for_each(|value| collect(value, out)),
        _ => {}
    }
}

/// Every value by the way to it; attributes by their keys. An error if one of them is there twice.
pub(super) fn leaves(received: &[Received]) -> Result<BTreeMap<String, String>, String> {
    let mut out = BTreeMap::new();
    for (i, value) in received.iter().flat_map(values).enumerate() {
        walk(&value, &i.to_string(), &mut out)?;
    }
    Ok(out)
}

fn walk(value: &Json, at: &str, out: &mut BTreeMap<String, String>) -> Result<(), String> {
    match value {
        Json::Object(object) => {
            object.iter().try_for_each(|(key, value)| walk(value, &format!("{at}/{key}"), out))
        }
        Json::Array(items) => items.iter().enumerate().try_for_each(|(i, item)| {
            match (item.get("key").and_then(Json::as_str), item.get("value")) {
                (Some(key), Some(value)) => walk(value, &format!("{at}/{key}"), out),
                _ => walk(item, &format!("{at}/{i}"), out),
            }
        }),
        Json::String(text) => put(at, text.clone(), out),
        plain => put(at, plain.to_string(), out),
    }
}

fn put(at: &str, text: String, out: &mut BTreeMap<String, String>) -> Result<(), String> {
    out.insert(at.to_owned(), text).map_or(Ok(()), |_| Err(format!("{at} is there twice")))
}

/// All a server gets to see: target, headers and body.
pub(super) fn all(received: &Received) -> String {
    let headers: String = received
        .headers
        .iter()
        .map(|(name, value)| format!("{name}: {}\n", value.to_str().unwrap()))
        .collect();
    format!("{}\n{headers}{}", received.target, texts(received).join("\n"))
}
