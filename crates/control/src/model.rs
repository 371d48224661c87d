//! What the store holds, in memory: immutable, cheap to clone, changed only by a list of [`Change`]s. Its maps share
//! with the version before what did not change, so that a write costs the same beside ten destinations and ten
//! thousand.
//!
//! The same list is what the store commits, so memory and disk cannot drift apart.

use std::sync::Arc;

use jiff::Timestamp;
use rpds::{HashTrieMapSync, RedBlackTreeMapSync};
use serde::{Deserialize, Serialize};
use tracecast_destination::{Destination, Kind, ManagedBy};
use tracecast_rules::CanAssert;
use uuid::Uuid;

use crate::usage::Ledger;

pub(crate) type KeyHash = [u8; 32];

/// One consistent state of the control plane.
#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    /// Grows by one with every write, also over restarts.
    pub(crate) generation: u64,
    pub(crate) workspaces: RedBlackTreeMapSync<Uuid, Arc<Workspace>>,
    pub(crate) destinations: RedBlackTreeMapSync<Uuid, Entry>,
    /// How many destinations of a kind were created through the API in a workspace.
    pub(crate) api_created: HashTrieMapSync<(Uuid, Kind), usize>,
    /// Ordinary keys.
    pub(crate) keys: HashTrieMapSync<KeyHash, Arc<Key>>,
    /// Management keys, the one given by the operator for this run included.
    pub(crate) management: HashTrieMapSync<KeyHash, Arc<Key>>,
    /// The numeric id the next key gets.
    pub(crate) next_key_id: i64,
    /// Destinations whose adapter or plan could not be made, and why.
    pub(crate) failures: HashTrieMapSync<Uuid, String>,
    /// What the keys spent; the same for all versions of the model.
    pub(crate) usage: Arc<Ledger>,
}

/// A stored destination.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) destination: Arc<Destination>,
    /// By the user.
    pub(crate) paused: bool,
    /// Of an earlier config file.
    pub(crate) retired: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Key {
    /// Numeric id, the form `io_logging_api_key_ids` uses. 0 for the operator's management key, which is not stored.
    pub(crate) id: i64,
    pub(crate) hash: KeyHash,
    pub(crate) kind: KeyKind,
    pub(crate) name: String,
    /// Masked form.
    pub(crate) label: String,
    /// `None` only for management keys.
    pub(crate) workspace_id: Option<Uuid>,
    pub(crate) disabled: bool,
    pub(crate) expires_at: Option<Timestamp>,
    pub(crate) can_assert: CanAssert,
    pub(crate) limit_usd: Option<f64>,
    pub(crate) limit_reset: Option<LimitReset>,
    pub(crate) include_byok_in_limit: bool,
    pub(crate) creator_user_id: Option<String>,
    pub(crate) external_user: Option<String>,
    pub(crate) managed_by: ManagedBy,
    pub(crate) created_at: Timestamp,
    pub(crate) updated_at: Option<Timestamp>,
}

impl Key {
    /// A management key, or the start of an ordinary one.
    pub(crate) fn new(hash: KeyHash, kind: KeyKind, name: &str, label: String) -> Key {
        Key {
            id: 0,
            hash,
            kind,
            name: name.to_owned(),
            label,
            workspace_id: None,
            disabled: false,
            expires_at: None,
            can_assert: CanAssert::None,
            limit_usd: None,
            limit_reset: None,
            include_byok_in_limit: false,
            creator_user_id: None,
            external_user: None,
            managed_by: ManagedBy::Api,
            created_at: now(),
            updated_at: None,
        }
    }

    pub(crate) fn is_expired(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }

    pub(crate) fn is_active(&self, now: Timestamp) -> bool {
        !self.disabled && !self.is_expired(now)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyKind {
    Ordinary,
    Management,
}

impl KeyKind {
    pub(crate) const ALL: &[(&str, KeyKind)] =
        &[("ordinary", KeyKind::Ordinary), ("management", KeyKind::Management)];
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LimitReset {
    Daily,
    Weekly,
    Monthly,
}

impl LimitReset {
    pub(crate) const ALL: &[(&str, LimitReset)] =
        &[("daily", LimitReset::Daily), ("weekly", LimitReset::Weekly), ("monthly", LimitReset::Monthly)];
}

pub(crate) const CAN_ASSERT: &[(&str, CanAssert)] = &[
    ("none", CanAssert::None),
    ("own_workspace", CanAssert::OwnWorkspace),
    ("any_workspace", CanAssert::AnyWorkspace),
];

pub(crate) const MANAGED_BY: &[(&str, ManagedBy)] = &[("api", ManagedBy::Api), ("file", ManagedBy::File)];

/// The wire name of a value in one of the tables above.
pub(crate) fn wire_name<T: PartialEq>(table: &[(&'static str, T)], value: &T) -> &'static str {
    table.iter().find(|(_, candidate)| candidate == value).map_or("", |(name, _)| *name)
}

/// The value a wire name stands for.
pub(crate) fn from_wire<T: Copy>(table: &[(&str, T)], name: &str) -> Option<T> {
    table.iter().find(|(candidate, _)| *candidate == name).map(|(_, value)| *value)
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Workspace {
    pub(crate) id: Uuid,
    pub(crate) slug: String,
    pub(crate) name: String,
    pub(crate) settings: Settings,
    pub(crate) created_at: Timestamp,
    pub(crate) updated_at: Option<Timestamp>,
    pub(crate) created_by: Option<String>,
}

/// Everything about a workspace that is neither identity nor time; stored as one JSON text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Settings {
    pub(crate) description: Option<String>,
    pub(crate) default_text_model: Option<String>,
    pub(crate) default_image_model: Option<String>,
    pub(crate) default_provider_sort: Option<String>,
    pub(crate) io_logging_api_key_ids: Option<Vec<i64>>,
    pub(crate) io_logging_sampling_rate: f64,
    pub(crate) is_observability_io_logging_enabled: bool,
    pub(crate) is_observability_broadcast_enabled: bool,
    pub(crate) is_data_discount_logging_enabled: bool,
    pub(crate) disabled_server_tools: Option<Vec<String>>,
    pub(crate) include_byok_in_budgets: bool,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            description: None,
            default_text_model: None,
            default_image_model: None,
            default_provider_sort: None,
            io_logging_api_key_ids: None,
            io_logging_sampling_rate: 1.0,
            is_observability_io_logging_enabled: false,
            // On, unlike upstream's examples: an enabled destination that never fires is the worse surprise.
            is_observability_broadcast_enabled: true,
            is_data_discount_logging_enabled: false,
            disabled_server_tools: None,
            include_byok_in_budgets: false,
        }
    }
}

/// One step of a write. Order matters: a workspace precedes what lives in it.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Workspace(Arc<Workspace>),
    WorkspaceDeleted(Uuid),
    Destination(Entry),
    DestinationDeleted(Uuid),
    Key(Arc<Key>),
    KeyDeleted(KeyHash),
}

impl Model {
    pub(crate) fn apply(&mut self, change: &Change) {
        match change {
            Change::Workspace(workspace) => {
                self.workspaces.insert_mut(workspace.id, Arc::clone(workspace));
            }
            Change::WorkspaceDeleted(id) => {
                self.workspaces.remove_mut(id);
            }
            Change::Destination(entry) => {
                self.uncount(entry.destination.id);
                let destination = &entry.destination;
                if destination.managed_by == ManagedBy::Api {
                    let kind = destination.config.kind();
                    let count = self.api_created(destination.workspace_id, kind).saturating_add(1);
                    self.api_created.insert_mut((destination.workspace_id, kind), count);
                }
                self.destinations.insert_mut(destination.id, entry.clone());
            }
            Change::DestinationDeleted(id) => {
                self.uncount(*id);
                self.destinations.remove_mut(id);
                self.failures.remove_mut(id);
            }
            Change::Key(key) => {
                self.next_key_id = self.next_key_id.max(key.id.saturating_add(1));
                let keys = match key.kind {
                    KeyKind::Ordinary => &mut self.keys,
                    KeyKind::Management => &mut self.management,
                };
                keys.insert_mut(key.hash, Arc::clone(key));
            }
            Change::KeyDeleted(hash) => {
                self.keys.remove_mut(hash);
                self.management.remove_mut(hash);
            }
        }
    }

    /// The destination is about to go, or to be another.
    fn uncount(&mut self, id: Uuid) {
        let counted = self.destinations.get(&id).filter(|e| e.destination.managed_by == ManagedBy::Api);
        let Some(entry) = counted else { return };
        let (workspace, kind) = (entry.destination.workspace_id, entry.destination.config.kind());
        let count = self.api_created(workspace, kind).saturating_sub(1);
        self.api_created.insert_mut((workspace, kind), count);
    }

    /// A workspace by id or slug.
    pub(crate) fn workspace(&self, reference: &str) -> Option<&Arc<Workspace>> {
        match Uuid::try_parse(reference) {
            Ok(id) => self.workspaces.get(&id),
            Err(_) => self.workspaces.values().find(|w| w.slug == reference),
        }
    }

    /// The destinations of a workspace (`None` = of all), by creation time, then id.
    pub(crate) fn destinations_of(&self, workspace: Option<Uuid>) -> Vec<&Entry> {
        let mut entries: Vec<&Entry> = self
            .destinations
            .values()
            .filter(|entry| workspace.is_none_or(|id| entry.destination.workspace_id == id))
            .collect();
        entries.sort_by_key(|entry| (entry.destination.created_at, entry.destination.id));
        entries
    }

    /// Whether any key of the workspace could still be used.
    pub(crate) fn has_active_keys(&self, workspace: Uuid) -> bool {
        let now = now();
        self.keys.values().any(|key| key.workspace_id == Some(workspace) && key.is_active(now))
    }

    /// How many of the API-created destinations of a workspace are of this kind.
    pub(crate) fn api_created(&self, workspace: Uuid, kind: Kind) -> usize {
        self.api_created.get(&(workspace, kind)).copied().unwrap_or(0)
    }
}

/// The current time in the precision the API shows, so that what is stored is what was answered.
pub(crate) fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now)
}
