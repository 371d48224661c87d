//! From the model to what the data plane decides by: only what a write touches is made anew, the rest is shared with
//! the snapshot before.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tracecast_rules::{IngestKey, Place, Plan, Snapshot};
use uuid::Uuid;

use crate::model::{Change, Key, KeyHash, Model, now};
use crate::{DestinationChange, Runtime};

/// What is to be brought in line with the model, by id.
#[derive(Clone, Debug, Default)]
pub(crate) struct Touched {
    workspaces: BTreeSet<Uuid>,
    /// With the workspace each lives in, or lived in.
    destinations: BTreeMap<Uuid, Uuid>,
    keys: BTreeSet<KeyHash>,
}

/// All that follows from a change of the model.
#[derive(Debug)]
pub(crate) struct Built {
    pub(crate) snapshot: Snapshot,
    /// For the runtime.
    pub(crate) changes: Vec<DestinationChange>,
    /// Destinations left out because their rules do not compile; validation makes this impossible for what was
    /// written by this version.
    pub(crate) failures: Vec<(Uuid, String)>,
}

impl Touched {
    /// Everything there is.
    pub(crate) fn all(model: &Model) -> Touched {
        let destinations = model.destinations.iter();
        Touched {
            workspaces: model.workspaces.keys().copied().collect(),
            destinations: destinations.map(|(id, entry)| (*id, entry.destination.workspace_id)).collect(),
            keys: model.keys.keys().chain(model.management.keys()).copied().collect(),
        }
    }

    /// Adds what a change touches; `model` is the one before it.
    pub(crate) fn add(&mut self, model: &Model, change: &Change) {
        match change {
            Change::Workspace(workspace) => {
                self.workspaces.insert(workspace.id);
            }
            Change::WorkspaceDeleted(id) => {
                self.workspaces.insert(*id);
            }
            Change::Destination(entry) => {
                let destination = &entry.destination;
                self.destinations.insert(destination.id, destination.workspace_id);
            }
            Change::DestinationDeleted(id) => {
                if let Some(entry) = model.destinations.get(id) {
                    self.destinations.insert(*id, entry.destination.workspace_id);
                }
            }
            Change::Key(key) => {
                self.keys.insert(key.hash);
            }
            Change::KeyDeleted(hash) => {
                self.keys.insert(*hash);
            }
        }
    }

    /// Adds what others touch.
    pub(crate) fn merge(&mut self, other: Touched) {
        self.workspaces.extend(other.workspaces);
        self.destinations.extend(other.destinations);
        self.keys.extend(other.keys);
    }

    /// Ids of the destinations.
    pub(crate) fn destinations(&self) -> impl Iterator<Item = &Uuid> {
        self.destinations.keys()
    }
}

/// The snapshot after `before`, in line with `model` in what is touched.
pub(crate) fn build(model: &Model, touched: &Touched, runtime: &dyn Runtime, before: &Snapshot) -> Built {
    let mut snapshot = Snapshot { generation: model.generation, ..before.clone() };
    let mut changes = Vec::with_capacity(touched.destinations.len());
    let mut by_workspace: BTreeMap<Uuid, BTreeMap<Uuid, Place>> =
        touched.workspaces.iter().map(|id| (*id, BTreeMap::new())).collect();
    for (id, workspace) in &touched.destinations {
        let mut place = None;
        changes.push(match model.destinations.get(id) {
            None => DestinationChange::Deleted(*id),
            Some(entry) => {
                let (slot, destination) = (runtime.slot(*id), Arc::clone(&entry.destination));
                if entry.retired {
                    DestinationChange::Retired(slot, destination)
                } else {
                    place = Some((slot, Arc::clone(&destination)));
                    match entry.paused {
                        true => DestinationChange::Paused(slot, destination),
                        false => DestinationChange::Active(slot, destination),
                    }
                }
            }
        });
        by_workspace.entry(*workspace).or_default().insert(*id, place);
    }

    let mut failures = Vec::new();
    for (id, places) in by_workspace {
        let Some(workspace) = model.workspaces.get(&id) else {
            snapshot.workspaces.remove(&id);
            continue;
        };
        let broadcast = workspace.settings.is_observability_broadcast_enabled;
        let plan = snapshot.workspaces.remove(&id).unwrap_or_default();
        snapshot.workspaces.insert(id, changed(&plan, broadcast, places, &mut failures));
    }

    let now = now();
    for hash in &touched.keys {
        let is_management = model.management.contains_key(hash);
        if is_management != snapshot.management_keys.contains(hash) {
            let keys = Arc::make_mut(&mut snapshot.management_keys);
            let _ = if is_management { keys.insert(*hash) } else { keys.remove(hash) };
        }
        let key = model.keys.get(hash).filter(|_| !is_management);
        let keys = Arc::make_mut(&mut snapshot.keys);
        match key.and_then(|key| ingest_key(key, model.usage.is_over_limit(key, now))) {
            Some(key) => keys.insert(*hash, Arc::new(key)),
            None => keys.remove(hash),
        };
    }
    Built { snapshot, changes, failures }
}

/// The plan with these destinations changed, leaving out what does not compile.
fn changed(
    plan: &Plan,
    broadcast: bool,
    mut places: BTreeMap<Uuid, Place>,
    failures: &mut Vec<(Uuid, String)>,
) -> Arc<Plan> {
    // One place less to compile each time.
    loop {
        match plan.changed(broadcast, &places) {
            Ok(plan) => return Arc::new(plan),
            Err(error) => {
                tracing::error!(destination = %error.destination, reason = %error.reason, "the rules of a stored destination do not compile, it gets no events");
                places.insert(error.destination, None);
                failures.push((error.destination, error.reason));
            }
        }
    }
}

fn ingest_key(key: &Key, over_limit: bool) -> Option<IngestKey> {
    Some(IngestKey {
        name: key.name.clone(),
        label: key.label.clone(),
        workspace_id: key.workspace_id?,
        disabled: key.disabled,
        expires_at: key.expires_at.map(|at| at.as_second()),
        can_assert: key.can_assert,
        over_limit,
    })
}
