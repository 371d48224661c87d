//! Destinations in the file's form as bodies of the API: for `tracecast destination create` and `update`.

use std::path::Path;

use serde_json::Value as Json;
use tracecast_destination::did_you_mean;

use super::destinations::{DESTINATION_KEYS, to_json};
use super::substitute::{Process, Sources, resolve, substitute};
use super::tree::{self, Node, Origin, Value};
use super::{Mistake, Mistakes};

/// Shown on a destination and not for us to set: a PATCH that repeats them changes nothing.
const SHOWN_KEYS: [&str; 5] = ["managed_by", "state", "created_at", "updated_at", "deleted_at"];

/// What the entries are read for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Create bodies: one mapping, a list of them, or the `destinations` of a config file.
    Create,
    /// One PATCH body, or what `destination show --json` printed.
    Update,
}

/// One destination of a file: the body, and where each part of it stands. It may hold secrets: no `Debug`.
pub(crate) struct Entry {
    pub(crate) body: Json,
    node: Node,
    file: String,
}

impl Entry {
    /// `file:line:column` of what a path like `config.endpoint` names, or of the nearest thing above it.
    pub(crate) fn place(&self, path: &str) -> String {
        match &self.node.nearest(path).origin {
            Origin::File { line, column } => format!("{}:{line}:{column}", self.file),
            Origin::Env(name) => name.clone(),
        }
    }
}

/// Reads entries from YAML or JSON, with every `${...}` in them replaced from the environment and files.
pub(crate) fn read_entries(text: &str, file: &Path, purpose: Purpose) -> Result<Vec<Entry>, Mistakes> {
    read_from(text, file, purpose, &Process)
}

fn read_from(
    text: &str,
    file: &Path,
    purpose: Purpose,
    sources: &dyn Sources,
) -> Result<Vec<Entry>, Mistakes> {
    let mut mistakes = Mistakes { file: Some(file.to_owned()), list: Vec::new() };
    let mut nodes = match tree::parse(text) {
        Ok(root) => entries_of(root, purpose, &mut mistakes),
        Err((origin, message)) => {
            mistakes.list.push(Mistake { origin, path: String::new(), message, hint: None });
            Vec::new()
        }
    };
    for (path, node) in &mut nodes {
        check_keys(path, node, purpose, &mut mistakes);
        substitute(node, path, sources, &mut mistakes);
    }
    if !mistakes.list.is_empty() {
        return Err(mistakes);
    }
    let entry = |node: Node| Entry { body: to_json(&node, ""), node, file: file.display().to_string() };
    Ok(nodes.into_iter().map(|(_, node)| entry(node)).collect())
}

/// The mappings that are destinations, with their paths.
fn entries_of(root: Node, purpose: Purpose, mistakes: &mut Mistakes) -> Vec<(String, Node)> {
    let wrapped = match purpose {
        Purpose::Create => "destinations",
        Purpose::Update => "data",
    };
    let Node { origin, value } = root;
    let (prefix, origin, value) = match value {
        Value::Map(mut entries) => match entries.iter().position(|(key, _, _)| key == wrapped) {
            Some(at) => {
                let (key, _, node) = entries.swap_remove(at);
                (key, node.origin, node.value)
            }
            None => (String::new(), origin, Value::Map(entries)),
        },
        value => (String::new(), origin, value),
    };
    match value {
        Value::Map(entries) if entries.is_empty() => {
            mistakes.add(&origin, &prefix, "describes no destination".into(), None);
            Vec::new()
        }
        Value::Map(_) => vec![(prefix, Node { origin, value })],
        Value::List(items) if purpose == Purpose::Create => {
            if items.is_empty() {
                mistakes.add(&origin, &prefix, "describes no destination".into(), None);
            }
            items.into_iter().enumerate().map(|(i, node)| (format!("{prefix}[{i}]"), node)).collect()
        }
        other => {
            mistakes.add(&origin, &prefix, format!("must be a mapping, not {}", other.kind()), None);
            Vec::new()
        }
    }
}

/// Strict, as the config file is: the API ignores names it does not know, and a typo must not be silent.
fn check_keys(path: &str, node: &Node, purpose: Purpose, mistakes: &mut Mistakes) {
    let Value::Map(entries) = &node.value else {
        mistakes.add(&node.origin, path, format!("must be a mapping, not {}", node.value.kind()), None);
        return;
    };
    for (key, origin, _) in entries {
        let known = DESTINATION_KEYS.contains(&key.as_str())
            || purpose == Purpose::Update && SHOWN_KEYS.contains(&key.as_str());
        let below = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        if !known {
            let hint = did_you_mean(key, DESTINATION_KEYS).map(|near| format!("did you mean `{near}`?"));
            mistakes.add(origin, &below, "unknown key".into(), hint);
        } else if key == "id" && purpose == Purpose::Create {
            let hint =
                "remove it: the gateway gives the id; only destinations of its own config file choose one";
            mistakes.add(origin, &below, "cannot be chosen".into(), Some(hint.into()));
        }
    }
}

/// Puts `text` at `config.<key>` of a body, in the type the field has. `headers.<name>` goes one level down;
/// header names may hold dots themselves.
pub(crate) fn assign(body: &mut Json, key: &str, text: Option<&str>) -> Result<(), String> {
    let value = match text {
        Some(text) => {
            let node = Node {
                origin: Origin::Env(String::new()),
                value: Value::Text { text: text.to_owned(), retype: true },
            };
            to_json(&node, &format!("config.{key}"))
        }
        None => Json::Null,
    };
    let mut steps = vec!["config"];
    steps.extend(key.splitn(2, '.'));
    let (last, above) = steps.split_last().ok_or("names nothing")?;
    if steps.iter().any(|step| step.is_empty()) {
        return Err(format!("`{key}` is not the name of a config field"));
    }
    let mut object = body;
    for step in above {
        let fields = object.as_object_mut().ok_or_else(|| format!("`{key}` goes below a single value"))?;
        object = fields.entry(*step).or_insert_with(|| Json::Object(serde_json::Map::new()));
    }
    let fields = object.as_object_mut().ok_or_else(|| format!("`{key}` goes below a single value"))?;
    fields.insert((*last).to_owned(), value);
    Ok(())
}

/// What `--secret key=REFERENCE` stands for: what `${REFERENCE}` is in the file.
pub(crate) fn secret_text(reference: &str) -> Result<String, String> {
    resolve(reference, &Process).map_err(|(message, _)| message)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use serde_json::json;

    use super::*;

    struct OneVariable;

    impl Sources for OneVariable {
        fn env(&self, name: &str) -> Option<String> {
            (name == "RATE").then(|| "0.5".to_owned())
        }

        fn file(&self, _: &Path) -> std::io::Result<String> {
            Err(std::io::ErrorKind::NotFound.into())
        }

        fn workspaces(&self, _: &Path) -> Result<HashMap<String, uuid::Uuid>, String> {
            Ok(HashMap::new())
        }
    }

    fn bodies(text: &str, purpose: Purpose) -> Result<Vec<Json>, String> {
        read_from(text, Path::new("d.yaml"), purpose, &OneVariable)
            .map(|entries| entries.into_iter().map(|e| e.body).collect())
            .map_err(|m| m.to_string())
    }

    #[test]
    fn one_a_list_and_a_config_file_are_read() {
        let one = json!({ "type": "webhook", "name": "w", "sampling_rate": 0.5 });
        let single = "type: webhook\nname: w\nsampling_rate: ${RATE}\n";
        let list = "- type: webhook\n  name: w\n  sampling_rate: ${RATE}\n";
        let file =
            "data_dir: ${UNSET}\ndestinations:\n  - type: webhook\n    name: w\n    sampling_rate: ${RATE}\n";
        let as_json = r#"{"type": "webhook", "name": "w", "sampling_rate": 0.5}"#;
        for text in [single, list, file, as_json] {
            assert_eq!(bodies(text, Purpose::Create).unwrap(), std::slice::from_ref(&one), "{text}");
        }
        let shown = r#"{"data": {"id": "x", "name": "w", "created_at": "t", "state": "healthy"}}"#;
        assert_eq!(bodies(shown, Purpose::Update).unwrap()[0]["name"], "w");
    }

    #[test]
    fn mistakes_name_the_line() {
        let cases = [
            ("nme: x\ntype: webhook\n", Purpose::Create, "d.yaml:1:1: nme: unknown key"),
            (
                "name: ${UNSET}\n",
                Purpose::Create,
                "d.yaml:1:7: name: the environment variable UNSET is not set",
            ),
            ("- name: a\n- 7\n", Purpose::Create, "d.yaml:2:3: [1]: must be a mapping, not a number"),
            ("id: x\n", Purpose::Create, "d.yaml:1:1: id: cannot be chosen"),
            ("created_at: x\n", Purpose::Create, "created_at: unknown key"),
            ("[]", Purpose::Create, "describes no destination"),
            ("", Purpose::Update, "describes no destination"),
            ("- name: a\n", Purpose::Update, "must be a mapping, not a list"),
            ("a: [", Purpose::Create, "not valid YAML or JSON"),
        ];
        for (text, purpose, expected) in cases {
            let told = bodies(text, purpose).unwrap_err();
            assert!(told.contains(expected), "{text:?}: {told}");
        }
    }

    #[test]
    fn a_place_is_found_for_an_issue() {
        let text = "type: webhook\nconfig:\n  url: nowhere\n";
        let entries = read_from(text, Path::new("d.yaml"), Purpose::Create, &OneVariable).unwrap();
        assert_eq!(entries[0].place("config.url"), "d.yaml:3:8");
        assert_eq!(entries[0].place("config.headers.x"), "d.yaml:3:3");
        assert_eq!(entries[0].place("name"), "d.yaml:1:1");
    }

    #[test]
    fn assignments_take_the_type_of_the_field() {
        let mut body = json!({ "name": "n" });
        assign(&mut body, "endpoint", Some("http://h")).unwrap();
        assign(&mut body, "shouldIncludeCacheWriteTokens", Some("true")).unwrap();
        assign(&mut body, "headers.x-a.b", Some("1")).unwrap();
        assign(&mut body, "headers.x-c", Some("")).unwrap();
        assign(&mut body, "region", None).unwrap();
        let config = json!({
            "endpoint": "http://h", "shouldIncludeCacheWriteTokens": true,
            "headers": { "x-a.b": "1", "x-c": "" }, "region": null,
        });
        assert_eq!(body, json!({ "name": "n", "config": config }));
        for key in ["", ".", "headers.", ".x", "endpoint.x"] {
            assert!(assign(&mut body, key, Some("v")).is_err(), "{key}");
        }
        let mut scalar = json!({ "config": "text" });
        assert!(assign(&mut scalar, "a", Some("v")).is_err());
    }
}
