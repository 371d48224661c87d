//! From the model to what the data plane decides by.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use tracecast_destination::Destination;
use tracecast_rules::{IngestKey, Plan, Snapshot};
use uuid::Uuid;

use crate::Runtime;
use crate::model::{Key, Model, now};

/// A destination with its slot in the log.
pub(crate) type Slotted = (u32, Arc<Destination>);

/// The compiled plans of the last snapshot, by workspace: what did not change is not compiled again.
#[derive(Debug, Default)]
pub(crate) struct Plans(HashMap<Uuid, Compiled>);

#[derive(Debug)]
struct Compiled {
    broadcast: bool,
    destinations: Vec<Slotted>,
    plan: Arc<Plan>,
}

/// All that follows from a model.
#[derive(Debug)]
pub(crate) struct Built {
    pub(crate) snapshot: Snapshot,
    pub(crate) active: Vec<Slotted>,
    pub(crate) retired: Vec<Slotted>,
    pub(crate) plans: Plans,
    /// Destinations left out because their rules do not compile; validation makes this impossible for what was
    /// written by this version.
    pub(crate) failures: Vec<(Uuid, String)>,
}

pub(crate) fn build(model: &Model, runtime: &dyn Runtime, mut previous: Plans) -> Built {
    let mut active = Vec::new();
    let mut retired = Vec::new();
    let mut by_workspace: HashMap<Uuid, Vec<Slotted>> =
        model.workspaces.keys().map(|id| (*id, Vec::new())).collect();
    for (id, entry) in &model.destinations {
        let slotted = (runtime.slot(*id), Arc::clone(&entry.destination));
        if entry.retired {
            retired.push(slotted);
            continue;
        }
        if let Some(destinations) = by_workspace.get_mut(&entry.destination.workspace_id) {
            destinations.push(slotted.clone());
        }
        active.push(slotted);
    }

    let mut failures = Vec::new();
    let mut plans = HashMap::with_capacity(by_workspace.len());
    for (id, destinations) in by_workspace {
        let broadcast =
            model.workspaces.get(&id).is_some_and(|w| w.settings.is_observability_broadcast_enabled);
        let compiled = match previous.0.remove(&id) {
            Some(compiled) if compiled.is_for(broadcast, &destinations) => Some(compiled),
            _ => compile(broadcast, destinations, &mut failures),
        };
        if let Some(compiled) = compiled {
            plans.insert(id, compiled);
        }
    }

    let now = now();
    let management_keys: HashSet<[u8; 32]> = model.management.keys().copied().collect();
    let snapshot = Snapshot {
        generation: model.generation,
        keys: model
            .keys
            .values()
            .filter(|key| !management_keys.contains(&key.hash))
            .filter_map(|key| Some((key.hash, ingest_key(key, model.usage.is_over_limit(key, now))?)))
            .collect(),
        management_keys,
        workspaces: plans.iter().map(|(id, compiled)| (*id, Arc::clone(&compiled.plan))).collect(),
    };
    Built { snapshot, active, retired, plans: Plans(plans), failures }
}

impl Compiled {
    /// The very same destinations: an edit makes a new `Arc`.
    fn is_for(&self, broadcast: bool, destinations: &[Slotted]) -> bool {
        self.broadcast == broadcast
            && self.destinations.len() == destinations.len()
            && self
                .destinations
                .iter()
                .zip(destinations)
                .all(|((slot, old), (new_slot, new))| slot == new_slot && Arc::ptr_eq(old, new))
    }
}

/// Compiles a workspace, leaving out what does not compile.
fn compile(
    broadcast: bool,
    mut destinations: Vec<Slotted>,
    failures: &mut Vec<(Uuid, String)>,
) -> Option<Compiled> {
    loop {
        match Plan::compile(broadcast, &destinations) {
            Ok(plan) => {
                return Some(Compiled { broadcast, destinations, plan: Arc::new(plan) });
            }
            Err(error) => {
                tracing::error!(destination = %error.destination, reason = %error.reason, "the rules of a stored destination do not compile, it gets no events");
                let before = destinations.len();
                destinations.retain(|(_, destination)| destination.id != error.destination);
                failures.push((error.destination, error.reason));
                if destinations.len() == before {
                    // The error names nobody we could leave out; without this the loop would not end.
                    return None;
                }
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
