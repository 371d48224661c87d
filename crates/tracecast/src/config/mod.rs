//! The config file: strict YAML, substitution, overrides, and every mistake told at once with its place.
//!
//! Precedence: flag, then `TRACECAST__SECTION__KEY`, then file, then default.

mod changes;
mod destinations;
mod entry;
mod forms;
mod mistakes;
mod read;
mod schema;
mod settings;
mod substitute;
mod tree;

use std::path::Path;

pub(crate) use entry::{Entry, Purpose, assign, read_entries, secret_text};
use mistakes::{Mistake, Mistakes};
pub(crate) use schema::json_schema;
pub(crate) use settings::Config;
use substitute::{Process, Sources, substitute};
use tree::{Node, Origin, Value};

/// Reads the file (or only the defaults), the process's environment, and says everything that is wrong.
pub(crate) fn load(file: Option<&Path>, data_dir: Option<&Path>) -> Result<Config, Mistakes> {
    let text = match file {
        None => String::new(),
        Some(path) => std::fs::read_to_string(path).map_err(|e| Mistakes {
            file: Some(path.to_owned()),
            list: vec![Mistake {
                origin: None,
                path: String::new(),
                message: format!("cannot be read: {e}"),
                hint: None,
            }],
        })?,
    };
    let env = std::env::vars().filter(|(name, _)| name.starts_with("TRACECAST__")).collect();
    build(&text, file, env, data_dir, &Process)
}

fn build(
    text: &str,
    file: Option<&Path>,
    env: Vec<(String, String)>,
    data_dir: Option<&Path>,
    sources: &dyn Sources,
) -> Result<Config, Mistakes> {
    let mut mistakes = Mistakes { file: file.map(Path::to_owned), list: Vec::new() };
    let mut root = match tree::parse(text) {
        Ok(root) => root,
        Err((origin, message)) => {
            mistakes.list.push(Mistake { origin, path: String::new(), message, hint: None });
            return Err(mistakes);
        }
    };
    substitute(&mut root, "", sources, &mut mistakes);
    for (name, value) in env {
        override_with(&mut root, &name, value, &mut mistakes);
    }
    match settings::read_config(&root, data_dir, sources, &mut mistakes) {
        (Some(config), _) if mistakes.list.is_empty() => Ok(config),
        _ => Err(mistakes),
    }
}

/// Puts the value of `TRACECAST__SECTION__KEY` in its place. Only single values can be overridden.
fn override_with(root: &mut Node, name: &str, value: String, mistakes: &mut Mistakes) {
    let origin = Origin::Env(name.to_owned());
    let steps: Vec<String> =
        name.trim_start_matches("TRACECAST__").split("__").map(str::to_ascii_lowercase).collect();
    if steps.iter().any(String::is_empty) || steps[0] == "destinations" || steps.join(".") == "ingest.keys" {
        let hint = "names are TRACECAST__SECTION__KEY for a single value, like TRACECAST__INGEST__HTTP";
        mistakes.add(&origin, "", "does not name a setting".into(), Some(hint.into()));
        return;
    }
    let mut node = root;
    for step in &steps {
        if matches!(node.value, Value::Null) {
            node.value = Value::Map(Vec::new());
        }
        let Value::Map(entries) = &mut node.value else {
            mistakes.add(&origin, "", "goes below a single value".into(), None);
            return;
        };
        let at = entries.iter().position(|(k, _, _)| k == step).unwrap_or_else(|| {
            let empty = Node { origin: origin.clone(), value: Value::Null };
            entries.push((step.clone(), origin.clone(), empty));
            entries.len() - 1
        });
        node = &mut entries[at].2;
    }
    *node = Node { origin, value: Value::Text { text: value, retype: true } };
}

#[cfg(test)]
mod tests;
