//! How the config file's destinations and keys enter the store: compared at start and at every reload.
//!
//! They are stored (sealed like the others), so that one the file no longer names can still be shown, keep its
//! backlog, and come back.

use std::collections::HashSet;
use std::sync::Arc;

use tracecast_destination::{DEFAULT_WORKSPACE_ID, Destination, ManagedBy};

use crate::bootstrap::{DEFAULT_WORKSPACE_SLUG, entry};
use crate::model::{Change, Entry, Key, KeyKind, Model, now};
use crate::publish::Write;
use crate::{Error, FileKey, Runtime, hex};

const CONFIG_FILE: &str = "config file";

/// What has to change so that the store shows the config file: new and edited destinations are put, missing ones
/// retired, returning ones revived; keys are put and removed. An error names everything that is wrong.
pub(crate) fn reconcile(
    model: &Model,
    runtime: &dyn Runtime,
    destinations: &[Destination],
    keys: &[FileKey],
) -> Result<Write<()>, Error> {
    let mut mistakes = Vec::new();
    let mut write = Write { changes: Vec::new(), audit: Vec::new(), signal: None, reply: () };
    reconcile_destinations(model, runtime, destinations, &mut write, &mut mistakes);
    reconcile_keys(model, keys, &mut write, &mut mistakes);
    if mistakes.is_empty() { Ok(write) } else { Err(Error::Invalid(mistakes.join("; "))) }
}

fn reconcile_destinations(
    model: &Model,
    runtime: &dyn Runtime,
    destinations: &[Destination],
    write: &mut Write<()>,
    mistakes: &mut Vec<String>,
) {
    let mut named = HashSet::new();
    for destination in destinations {
        let mut refuse =
            |reason: String| mistakes.push(format!("destinations `{}`: {reason}", destination.name));
        if !named.insert(destination.id) {
            refuse(format!("the id {} is used twice", destination.id));
            continue;
        }
        if !model.workspaces.contains_key(&destination.workspace_id) {
            refuse(format!(
                "there is no workspace {}: create it through the API first, or leave `workspace_id` out",
                destination.workspace_id
            ));
        }
        let existing = model.destinations.get(&destination.id);
        if existing.is_some_and(|entry| entry.destination.managed_by == ManagedBy::Api) {
            refuse(format!(
                "the id {} belongs to a destination created through the API: give another `id`, or leave it out",
                destination.id
            ));
            continue;
        }
        for issue in runtime.check(destination) {
            refuse(format!("{}: {}", issue.path, issue.message));
        }

        let mut wanted = destination.clone();
        wanted.managed_by = ManagedBy::File;
        let (created_at, updated_at) = existing.map_or_else(
            || (now(), now()),
            |entry| (entry.destination.created_at, entry.destination.updated_at),
        );
        wanted.created_at = created_at;
        wanted.updated_at = updated_at;
        if let Some(entry) = existing {
            wanted.succeed(&entry.destination, now());
        }
        let is_same = existing.is_some_and(|entry| entry.destination.to_stored() == wanted.to_stored());
        if is_same && existing.is_some_and(|entry| !entry.retired) {
            continue;
        }
        if !is_same && existing.is_some() {
            wanted.updated_at = now();
        }
        let action = if existing.is_some() { "destination.update" } else { "destination.create" };
        write.audit.push(entry(CONFIG_FILE, action, destination.id.to_string()));
        write.changes.push(Change::Destination(Entry {
            destination: Arc::new(wanted),
            paused: existing.is_some_and(|entry| entry.paused),
            retired: false,
        }));
    }

    let missing = model.destinations.values().filter(|candidate| {
        candidate.destination.managed_by == ManagedBy::File
            && !candidate.retired
            && !named.contains(&candidate.destination.id)
    });
    for gone in missing {
        write.audit.push(entry(CONFIG_FILE, "destination.retire", gone.destination.id.to_string()));
        write.changes.push(Change::Destination(Entry { retired: true, ..gone.clone() }));
    }
}

fn reconcile_keys(model: &Model, keys: &[FileKey], write: &mut Write<()>, mistakes: &mut Vec<String>) {
    let mut named = HashSet::new();
    let mut next_id = model.next_key_id;
    for file_key in keys {
        let mut refuse = |reason: String| mistakes.push(format!("ingest.keys `{}`: {reason}", file_key.name));
        if !named.insert(file_key.sha256) {
            refuse("the same key is declared twice".to_owned());
            continue;
        }
        if model.management.contains_key(&file_key.sha256) {
            refuse("is a management key, and those never ingest: declare another key".to_owned());
            continue;
        }
        let reference = file_key.workspace.as_deref();
        let workspace = match reference {
            Some(reference) => model.workspace(reference).map(|workspace| workspace.id),
            None => Some(DEFAULT_WORKSPACE_ID).filter(|id| model.workspaces.contains_key(id)),
        };
        let Some(workspace) = workspace else {
            refuse(format!(
                "there is no workspace `{}`: create it through the API first, or name another",
                reference.unwrap_or(DEFAULT_WORKSPACE_SLUG)
            ));
            continue;
        };

        let existing = model.keys.get(&file_key.sha256);
        let mut wanted = match existing {
            Some(key) => Key::clone(key),
            None => {
                Key::new(file_key.sha256, KeyKind::Ordinary, &file_key.name, hash_label(&file_key.sha256))
            }
        };
        let is_same = existing.is_some_and(|key| {
            key.managed_by == ManagedBy::File
                && key.name == file_key.name
                && key.workspace_id == Some(workspace)
                && key.can_assert == file_key.can_assert
        });
        if is_same {
            continue;
        }
        if existing.is_some_and(|key| key.managed_by == ManagedBy::Api) {
            tracing::warn!(key = %file_key.name, "a key created through the API is now declared in the config file, which takes it over");
        }
        match existing {
            Some(_) => wanted.updated_at = Some(now()),
            None => {
                wanted.id = next_id;
                next_id = next_id.saturating_add(1);
            }
        }
        wanted.name.clone_from(&file_key.name);
        wanted.workspace_id = Some(workspace);
        wanted.can_assert = file_key.can_assert;
        wanted.managed_by = ManagedBy::File;
        // What the API may have set and the file cannot say.
        wanted.disabled = false;
        wanted.expires_at = None;
        let action = if existing.is_some() { "key.update" } else { "key.create" };
        write.audit.push(entry(CONFIG_FILE, action, hex::encode(&wanted.hash)));
        write.changes.push(Change::Key(Arc::new(wanted)));
    }

    let missing =
        model.keys.values().filter(|key| key.managed_by == ManagedBy::File && !named.contains(&key.hash));
    for gone in missing {
        write.audit.push(entry(CONFIG_FILE, "key.delete", hex::encode(&gone.hash)));
        write.changes.push(Change::KeyDeleted(gone.hash));
    }
}

/// What stands in for the masked key where only the hash is known.
fn hash_label(hash: &[u8; 32]) -> String {
    let text = hex::encode(hash);
    format!("sha256:{}...{}", &text[..4], &text[60..])
}
