//! The schema and the reader know the same keys, and what the schema offers is read.

use std::collections::BTreeSet;

use serde_json::{Map, Value as Json, json};

use super::super::destinations::{BOOLEANS, DESTINATION_KEYS, NUMBERS};
use super::{Fixed, with};
use crate::config::json_schema;

/// The mappings of the file below `schema` by their places, `ingest.keys` with its items among them.
fn sections(schema: Json, place: Vec<String>) -> Vec<(Vec<String>, Json)> {
    let mut found = Vec::new();
    for (key, below) in properties(&schema) {
        for below in [below, &below["items"]] {
            if below.get("properties").is_some() {
                found.extend(sections(below.clone(), [&place[..], std::slice::from_ref(key)].concat()));
            }
        }
    }
    found.push((place, schema));
    found
}

/// A file with `value` at the key of the section, and with whatever else the section needs.
fn file(section: &[String], key: &str, value: &Json) -> String {
    let mut inner = json!({ key: value });
    if section.last().is_some_and(|last| last == "keys") {
        for (needed, text) in [("name", "a"), ("key", "k")] {
            let stands_in = needed == "key" && key == "sha256";
            if inner.get(needed).is_none() && !stands_in {
                inner[needed] = Json::from(text);
            }
        }
        inner = json!([inner]);
    }
    for name in section.iter().rev() {
        inner = json!({ name: inner });
    }
    inner.to_string()
}

/// Defaults, examples and words, and any text where that is the form.
fn samples(schema: &Json) -> Vec<Json> {
    let mut found: Vec<Json> = schema.get("default").into_iter().cloned().collect();
    for several in ["examples", "enum"] {
        found.extend(schema[several].as_array().into_iter().flatten().cloned());
    }
    if schema["type"] == json!(["string", "number", "boolean"]) {
        found.extend([json!("any text"), json!(7), json!(true)]);
    }
    found.extend(schema["anyOf"].as_array().into_iter().flatten().flat_map(samples));
    found
}

fn properties(schema: &Json) -> &Map<String, Json> {
    schema["properties"].as_object().expect("properties")
}

#[test]
fn what_the_schema_offers_is_read() {
    let mut read = 0;
    for (section, schema) in sections(json_schema(), Vec::new()) {
        for (key, property) in properties(&schema) {
            let about = property.get("description").and_then(Json::as_str).unwrap_or_default();
            let is_defined_elsewhere = property.get("$ref").is_some();
            assert!(!about.is_empty() || is_defined_elsewhere, "{section:?} {key} says nothing of itself");
            if property.get("anyOf").is_none() {
                continue;
            }
            let samples = samples(property);
            assert!(!samples.is_empty(), "{section:?} {key} has neither default nor example");
            for value in samples {
                let text = file(&section, key, &value);
                with(&text, &Fixed::default()).unwrap_or_else(|m| panic!("{text}: {m}"));
                read += 1;
            }
        }
    }
    assert!(read > 60, "only {read} values");
}

#[test]
fn the_reader_knows_the_keys_of_the_schema_and_no_others() {
    for (section, schema) in sections(json_schema(), Vec::new()) {
        let text = file(&section, "qqqqqqqqqqqq", &json!(1));
        let told = with(&text, &Fixed::default()).unwrap_err().to_string();
        let (_, known) = told.split_once("known here: ").unwrap_or_else(|| panic!("{section:?}: {told}"));
        let known: BTreeSet<&str> = known.lines().next().unwrap_or_default().split(", ").collect();
        assert_eq!(known, properties(&schema).keys().map(String::as_str).collect(), "{section:?}");
        assert_eq!(schema["additionalProperties"], false, "{section:?}");
    }
}

#[test]
fn the_keys_of_a_destination_are_those_of_its_schema() {
    let schema = tracecast_destination::json_schema();
    let keys: BTreeSet<&str> = properties(&schema).keys().map(String::as_str).collect();
    assert_eq!(keys, DESTINATION_KEYS.into());
}

/// The paths of the values below `schema` that are of this type, those in lists aside.
fn paths_of(wanted: &str, schema: &Json, path: &str, found: &mut BTreeSet<String>) {
    if schema["type"] == wanted {
        found.insert(path.to_owned());
    }
    for (key, below) in schema["properties"].as_object().into_iter().flatten() {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        paths_of(wanted, below, &path, found);
    }
    for kind in schema["allOf"].as_array().into_iter().flatten() {
        paths_of(wanted, &kind["then"], path, found);
    }
}

#[test]
fn a_reference_takes_the_type_that_the_schema_says() {
    let schema = tracecast_destination::json_schema();
    for (wanted, known) in [("number", &NUMBERS[..]), ("boolean", &BOOLEANS[..])] {
        let mut found = BTreeSet::new();
        paths_of(wanted, &schema, "", &mut found);
        assert_eq!(found, known.iter().map(|path| (*path).to_owned()).collect(), "{wanted}");
    }
}
