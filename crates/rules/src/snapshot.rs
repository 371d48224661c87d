//! What the data plane knows about keys and workspaces, immutable and swapped as a whole.

use crate::Plan;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use uuid::Uuid;

/// Everything the data plane needs to know, immutable; swapped as a whole. A snapshot shares with the one before it
/// what did not change.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Number of the configuration; grows with every write.
    pub generation: u64,
    /// Ordinary keys by SHA-256 of the secret. Management keys are in `management_keys` only.
    pub keys: Arc<HashMap<[u8; 32], Arc<IngestKey>>>,
    /// SHA-256 of the management keys, so that ingest can say "management keys never ingest" (403).
    pub management_keys: Arc<HashSet<[u8; 32]>>,
    /// The compiled rules of each workspace that exists.
    pub workspaces: HashMap<Uuid, Arc<Plan>>,
}

impl Snapshot {
    /// The rules of a workspace; `None` if no such workspace exists.
    pub fn plan(&self, workspace: &Uuid) -> Option<&Arc<Plan>> {
        self.workspaces.get(workspace)
    }
}

/// An ordinary key: may send events, may not manage.
#[derive(Clone, Debug)]
pub struct IngestKey {
    /// What the filter field `api_key_name` compares with.
    pub name: String,
    /// The shortened form that can be shown (`sk-tc-...a1b2`).
    pub label: String,
    /// Where its events go.
    pub workspace_id: Uuid,
    /// A disabled key is refused.
    pub disabled: bool,
    /// Unix seconds; `None` = never.
    pub expires_at: Option<i64>,
    /// Which stated identities count.
    pub can_assert: CanAssert,
    /// What was counted under it has reached its limit: its events go on and are marked.
    pub over_limit: bool,
}

/// Whether events sent with a key may name another identity (`tracecast.api_key_hash` and the like).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CanAssert {
    /// Stated identities are removed and counted.
    #[default]
    None,
    /// Key and region may be stated, the workspace only if it is the key's own.
    OwnWorkspace,
    /// Any existing workspace may be stated.
    AnyWorkspace,
}
