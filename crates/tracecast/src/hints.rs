//! Why nothing can arrive: one sentence per reason, told at the start.

use std::sync::Arc;

use tracecast_destination::Destination;
use tracecast_rules::{CanAssert, Snapshot};

use crate::gateway::Gateway;

/// One hint per reason. `auth_none` says that events need no key.
pub(crate) fn hints(gateway: &Gateway, auth_none: bool) -> Vec<String> {
    let mut hints: Vec<String> = gateway
        .silent_workspaces()
        .iter()
        .map(|slug| format!("workspace `{slug}`: its broadcast is switched off, nothing of it is sent"))
        .collect();
    let (destinations, snapshot, region) = (gateway.destinations(), gateway.snapshot(), gateway.region());
    about_destinations(&destinations, &snapshot, region, auth_none, &mut hints);
    hints.extend(gateway.unreported());
    hints
}

fn about_destinations(
    destinations: &[Arc<Destination>],
    snapshot: &Snapshot,
    region: tracecast_destination::Region,
    auth_none: bool,
    hints: &mut Vec<String>,
) {
    if destinations.is_empty() {
        hints.push(
            "no destination yet: events are accepted and go nowhere. Add one to the config file, or POST it to \
             /api/v1/observability/destinations"
                .to_owned(),
        );
    }
    if !auth_none && snapshot.keys.is_empty() {
        hints.push(
            "no ingest key yet: every event is refused with 401. Declare one under ingest.keys, or POST it to \
             /api/v1/keys"
                .to_owned(),
        );
    }
    let may_assert = snapshot.keys.values().any(|k| k.can_assert != CanAssert::None);
    for destination in destinations {
        let name = &destination.name;
        if !destination.enabled {
            hints.push(format!("destination `{name}` is disabled: nothing is sent to it"));
        }
        if !destination.regions.contains(&region) && !may_assert {
            let wants: Vec<_> = destination.regions.iter().map(|r| r.as_str()).collect();
            hints.push(format!(
                "destination `{name}` only takes region {}, but events here are labelled {}: set ingest.region",
                wants.join(", "),
                region.as_str()
            ));
        }
        if let Some(hashes) = &destination.api_key_hashes {
            let known = |hash: &String| snapshot.keys.keys().any(|k| tracecast_otlp::hex(k) == *hash);
            if !auth_none && !may_assert && !hashes.iter().any(known) {
                hints.push(format!("destination `{name}` allows only keys that do not exist here"));
            }
        }
    }
}
