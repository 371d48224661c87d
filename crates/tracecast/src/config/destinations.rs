//! The destinations of the file: each is the create body of the API, read strictly, with an `id` if it wants one.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::path::Path;

use serde_json::{Map, Value as Json};
use tracecast_destination::{
    CreateDefaults, DEFAULT_WORKSPACE_ID, Destination, Field, ManagedBy, did_you_mean,
};
use uuid::Uuid;

use super::Mistakes;
use super::substitute::Sources;
use super::tree::{Node, Value};

/// Fields that are not text. A substituted scalar takes this type where it stands for one of them.
pub(super) const NUMBERS: [&str; 3] =
    ["sampling_rate", "rate_limit.requests_per_second", "rate_limit.spans_per_second"];
pub(super) const BOOLEANS: [&str; 8] = [
    "enabled",
    "privacy_mode",
    "broadcast_generation_cost",
    "broadcast_generation_identity",
    "broadcast_generation_request_context",
    "broadcast_generation_cost_allocation",
    "config.shouldIncludeCacheWriteTokens",
    "filter_rules.enabled",
];

/// A mapping whose `field` decides whether its `value` is a number.
const FILTER_RULE: &str = "filter_rules.groups.rules";

/// The body that a mapping of the file stands for.
pub(super) fn to_json(node: &Node, path: &str) -> Json {
    match &node.value {
        Value::Null => Json::Null,
        Value::Bool(b) => Json::Bool(*b),
        Value::Int(i) => Json::from(*i),
        Value::Float(f) => serde_json::Number::from_f64(*f).map_or(Json::Null, Json::Number),
        Value::Text { text, retype } => {
            let number = (*retype && NUMBERS.contains(&path)).then(|| number(text)).flatten();
            let flag = (*retype && BOOLEANS.contains(&path)).then(|| text.parse().ok()).flatten();
            match (number, flag) {
                (Some(n), _) => Json::Number(n),
                (_, Some(b)) => Json::Bool(b),
                _ => Json::String(text.clone()),
            }
        }
        Value::List(items) => Json::Array(items.iter().map(|n| to_json(n, path)).collect()),
        Value::Map(entries) => {
            let mut fields: Map<_, _> = entries
                .iter()
                .map(|(key, _, value)| {
                    let below = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                    (key.clone(), to_json(value, &below))
                })
                .collect();
            if path == FILTER_RULE {
                let field = fields.get("field").and_then(Json::as_str).and_then(Field::parse);
                let value = node.get("value").map(|node| &node.value);
                if let (Some(true), Some(Value::Text { text, retype: true })) =
                    (field.map(Field::is_numeric), value)
                    && let Some(number) = number(text)
                {
                    fields.insert("value".to_owned(), Json::Number(number));
                }
            }
            Json::Object(fields)
        }
    }
}

fn number(text: &str) -> Option<serde_json::Number> {
    text.parse().ok().and_then(serde_json::Number::from_f64)
}

/// Keys a destination may have in the file: those of the API's create body, and `id`.
pub(super) const DESTINATION_KEYS: [&str; 17] = [
    "id",
    "type",
    "name",
    "config",
    "workspace_id",
    "enabled",
    "privacy_mode",
    "sampling_rate",
    "api_key_hashes",
    "filter_rules",
    "regions",
    "rate_limit",
    "retry",
    "broadcast_generation_cost",
    "broadcast_generation_identity",
    "broadcast_generation_request_context",
    "broadcast_generation_cost_allocation",
];

/// The workspaces of the store in the data directory, asked for once, when the first slug needs them.
struct Workspaces<'a> {
    data_dir: &'a Path,
    sources: &'a dyn Sources,
    by_slug: OnceCell<Result<HashMap<String, Uuid>, String>>,
}

impl Workspaces<'_> {
    /// A workspace by uuid or slug.
    fn resolve(&self, text: &str) -> Result<Uuid, String> {
        if let Ok(id) = Uuid::parse_str(text) {
            return Ok(id);
        }
        match self.by_slug.get_or_init(|| self.sources.workspaces(self.data_dir)) {
            Ok(by_slug) => by_slug
                .get(text)
                .copied()
                .ok_or_else(|| format!("there is no workspace `{text}` in {}", self.data_dir.display())),
            Err(error) => Err(format!("workspace `{text}` cannot be looked up: {error}")),
        }
    }
}

pub(super) fn read_destinations(
    node: &Node,
    data_dir: &Path,
    sources: &dyn Sources,
    mistakes: &mut Mistakes,
) -> Vec<Destination> {
    let Value::List(items) = &node.value else {
        let message = format!("must be a list, not {}", node.value.kind());
        mistakes.add(&node.origin, "destinations", message, None);
        return Vec::new();
    };
    let workspaces = Workspaces { data_dir, sources, by_slug: OnceCell::new() };
    let mut destinations: Vec<Destination> = Vec::with_capacity(items.len());
    // Where each id was first given.
    let mut places: HashMap<Uuid, usize> = HashMap::with_capacity(items.len());
    for (i, item) in items.iter().enumerate() {
        let path = format!("destinations[{i}]");
        let Value::Map(entries) = &item.value else {
            mistakes.add(&item.origin, &path, format!("must be a mapping, not {}", item.value.kind()), None);
            continue;
        };
        // Strict here, though the API ignores what it does not know: a typo in a file must not be silent.
        for (key, origin, _) in entries {
            if !DESTINATION_KEYS.contains(&key.as_str()) {
                let hint = did_you_mean(key, DESTINATION_KEYS).map(|near| format!("did you mean `{near}`?"));
                mistakes.add(origin, &format!("{path}.{key}"), "unknown key".into(), hint);
            }
        }
        let mut body = to_json(item, "");
        let workspace = match body.get("workspace_id").and_then(Json::as_str) {
            None | Some("default") => DEFAULT_WORKSPACE_ID,
            Some(text) => workspaces.resolve(text).unwrap_or_else(|message| {
                let at = &item.nearest("workspace_id").origin;
                mistakes.add(at, &format!("{path}.workspace_id"), message, None);
                DEFAULT_WORKSPACE_ID
            }),
        };
        if let Some(object) = body.as_object_mut() {
            object.insert("workspace_id".into(), Json::String(workspace.to_string()));
        }
        let defaults = CreateDefaults {
            // The file's `id`, else derived from workspace, type and name.
            id: Uuid::nil(),
            workspace_id: workspace,
            managed_by: ManagedBy::File,
            now: jiff::Timestamp::now(),
        };
        match Destination::create(&body, defaults) {
            Ok(destination) => {
                let first = *places.entry(destination.id).or_insert(i);
                if first != i {
                    let message = format!("is the same destination as destinations[{first}]");
                    let hint = "workspace, type and name together must be unique, or give each an `id`";
                    mistakes.add(&item.origin, &path, message, Some(hint.into()));
                }
                destinations.push(destination);
            }
            Err(issues) => {
                for issue in issues {
                    let at = &item.nearest(&issue.path).origin;
                    let full =
                        if issue.path.is_empty() { path.clone() } else { format!("{path}.{}", issue.path) };
                    mistakes.add(at, &full, issue.message, issue.hint);
                }
            }
        }
    }
    destinations
}
