//! `${NAME}`, `${NAME:-default}`, `${file:/path}` and `$${`, replaced in scalars after parsing, once.

use std::collections::HashMap;
use std::path::Path;

use uuid::Uuid;

use super::Mistakes;
use super::tree::{Node, Value};

/// Where substitutions read from; tests bring their own.
pub(crate) trait Sources {
    fn env(&self, name: &str) -> Option<String>;
    fn file(&self, path: &Path) -> std::io::Result<String>;
    /// The workspaces in the store of a data directory, by slug.
    fn workspaces(&self, data_dir: &Path) -> Result<HashMap<String, Uuid>, String>;
}

/// The process's environment and files.
pub(crate) struct Process;

impl Sources for Process {
    fn env(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn file(&self, path: &Path) -> std::io::Result<String> {
        std::fs::read_to_string(path)
    }

    fn workspaces(&self, data_dir: &Path) -> Result<HashMap<String, Uuid>, String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let workspaces = runtime
            .map_err(|e| e.to_string())?
            .block_on(tracecast_control::read_workspaces(data_dir))
            .map_err(|e| e.to_string())?;
        Ok(workspaces.into_iter().map(|(id, slug)| (slug, id)).collect())
    }
}

/// Replaces in every scalar below `node`. What cannot be resolved becomes a mistake and an empty text.
pub(crate) fn substitute(node: &mut Node, path: &str, sources: &dyn Sources, mistakes: &mut Mistakes) {
    match &mut node.value {
        Value::Text { text, retype } if text.contains("${") => {
            let exact = is_one_reference(text);
            match expand(text, sources) {
                Ok(expanded) => {
                    *text = expanded;
                    *retype = exact;
                }
                Err((message, hint)) => {
                    mistakes.add(&node.origin, path, message, Some(hint));
                    // The mistake is told once; whatever the field wants must not complain again.
                    node.value = Value::Null;
                }
            }
        }
        Value::List(items) => {
            for (i, item) in items.iter_mut().enumerate() {
                substitute(item, &format!("{path}[{i}]"), sources, mistakes);
            }
        }
        Value::Map(entries) => {
            for (key, _, value) in entries {
                let below = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                substitute(value, &below, sources, mistakes);
            }
        }
        _ => {}
    }
}

/// `${...}` and nothing else around it.
fn is_one_reference(text: &str) -> bool {
    text.starts_with("${") && text.find('}') == Some(text.len() - 1)
}

/// The text with its references replaced, or what is wrong and what to do. The value of a variable or a
/// file never appears in an error.
fn expand(text: &str, sources: &dyn Sources) -> Result<String, (String, String)> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        if rest[..at].ends_with('$') {
            out.push_str(&rest[..at - 1]);
            out.push_str("${");
            rest = &rest[at + 2..];
            continue;
        }
        out.push_str(&rest[..at]);
        let inner = &rest[at + 2..];
        let end = inner.find('}').ok_or_else(|| {
            ("`${` has no closing `}`".to_owned(), "write `$${` for a literal `${`".to_owned())
        })?;
        let reference = &inner[..end];
        if reference.contains("${") {
            return Err((
                "references cannot be nested".to_owned(),
                "use one `${NAME:-default}` with a plain default".to_owned(),
            ));
        }
        out.push_str(&resolve(reference, sources)?);
        rest = &inner[end + 1..];
    }
    out.push_str(rest);
    Ok(out)
}

/// What `${reference}` stands for, or what is wrong and what to do.
pub(super) fn resolve(reference: &str, sources: &dyn Sources) -> Result<String, (String, String)> {
    if let Some(path) = reference.strip_prefix("file:") {
        let text = sources.file(Path::new(path)).map_err(|e| {
            (format!("cannot read the file {path}: {e}"), "check the path and who may read it".to_owned())
        })?;
        return Ok(text.trim_end_matches(['\n', '\r']).to_owned());
    }
    let (name, default) = match reference.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (reference, None),
    };
    let legal = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !legal {
        return Err((
            "`${...}` does not name an environment variable".to_owned(),
            "use `${NAME}`, `${NAME:-default}` or `${file:/path}`; write `$${` for a literal `${`".to_owned(),
        ));
    }
    match (sources.env(name), default) {
        (Some(value), Some(default)) if value.is_empty() => Ok(default.to_owned()),
        (Some(value), _) => Ok(value),
        (None, Some(default)) => Ok(default.to_owned()),
        (None, None) => Err((
            format!("the environment variable {name} is not set"),
            format!("set it, or give a default with `${{{name}:-default}}`"),
        )),
    }
}
