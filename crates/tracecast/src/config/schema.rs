//! The JSON Schema of the config file, for editors: what the reader asks for, and what destinations may be.

use serde_json::{Value as Json, json};

use super::Mistakes;
use super::settings::read_config;
use super::substitute::Process;
use super::tree::{Node, Origin, Value};

/// The schema (draft 2020-12) of a config file.
pub(crate) fn json_schema() -> Json {
    // The reader describes what it asks for, whatever the file holds.
    let empty = Node { origin: Origin::File { line: 1, column: 1 }, value: Value::Null };
    let (_, mut schema) = read_config(&empty, None, &Process, &mut Mistakes::default());
    let mut destination = tracecast_destination::json_schema();
    substitutable(&mut destination);
    schema["$schema"] = Json::from("https://json-schema.org/draft/2020-12/schema");
    schema["title"] = Json::from("tracecast");
    schema["$defs"] = json!({
        "destinations": {
            "description": "Where events go; as in the API, and read-only there.",
            "type": ["array", "null"],
            "items": destination,
        },
        "substituted": {
            "description": "Text with ${NAME}, ${NAME:-default} or ${file:/path} in it.",
            "type": "string",
            "pattern": r"\$\{",
        },
        "reference": {
            "description": "Exactly one ${NAME}, ${NAME:-default} or ${file:/path}.",
            "type": "string",
            "pattern": r"^\$\{[^}]*\}$",
        },
    });
    schema
}

/// Lets every value below `schema` also be given as text that is replaced when the file is read. The value of a number
/// or a boolean must be replaced as a whole.
fn substitutable(schema: &mut Json) {
    let Some(keywords) = schema.as_object_mut() else { return };
    let types: Vec<&str> = match keywords.get("type") {
        Some(Json::String(one)) => vec![one],
        Some(Json::Array(several)) => several.iter().filter_map(Json::as_str).collect(),
        _ => Vec::new(),
    };
    let is_text = types.contains(&"string") || keywords.contains_key("enum");
    if is_text || types.contains(&"number") || types.contains(&"boolean") {
        let about = ["description", "default"].map(|name| (name, keywords.remove(name)));
        let other = if is_text { "#/$defs/substituted" } else { "#/$defs/reference" };
        let mut either = json!({ "anyOf": [keywords, { "$ref": other }] });
        for (name, value) in about {
            if let Some(value) = value {
                either[name] = value;
            }
        }
        *schema = either;
        return;
    }
    if let Some(Json::Object(properties)) = keywords.get_mut("properties") {
        properties.values_mut().for_each(substitutable);
    }
    for below in ["items", "additionalProperties", "then"] {
        if let Some(below) = keywords.get_mut(below) {
            substitutable(below);
        }
    }
    if let Some(Json::Array(all)) = keywords.get_mut("allOf") {
        all.iter_mut().for_each(substitutable);
    }
}
