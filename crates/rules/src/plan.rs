//! The rules of one workspace, compiled once per configuration.

use crate::decide::{Context, Skip};
use crate::filter::Filter;
use crate::kinds::{self, Accepts};
use crate::sampling::Sampling;
use std::collections::BTreeMap;
use std::sync::Arc;
use tracecast_destination::{Destination, Region};
use uuid::Uuid;

/// A destination whose rules cannot be compiled. Validation refuses such rules when they are written.
#[derive(Debug, thiserror::Error)]
#[error("destination {destination}: {reason}")]
pub struct CompileError {
    /// Its id.
    pub destination: Uuid,
    /// The field path and what is wrong there.
    pub reason: String,
}

/// The compiled rules of one workspace.
#[derive(Debug, Default)]
pub struct Plan {
    pub(crate) broadcast_enabled: bool,
    /// By id. Shared with the plan before and the one after a change.
    pub(crate) destinations: Box<[Arc<Compiled>]>,
}

/// What a destination is to be in a plan: its slot in the log and itself, or `None` for not there.
pub type Place = Option<(u32, Arc<Destination>)>;

/// The compiled rules of one destination.
#[derive(Debug)]
pub(crate) struct Compiled {
    pub(crate) slot: u32,
    pub(crate) private: bool,
    enabled: bool,
    /// Bit per region.
    regions: u8,
    /// Sorted; `None` = all keys, and requests without one.
    keys: Option<Box<[[u8; 32]]>>,
    /// `None` = keeps everything.
    pub(crate) sampling: Option<Sampling>,
    /// `None` = passes everything.
    pub(crate) filter: Option<Filter>,
    /// `None` = has a place for every span.
    pub(crate) accepts: Option<Accepts>,
    /// For explanations.
    pub(crate) source: Arc<Destination>,
}

impl Plan {
    /// `destinations` with the slot each has in the log. Fails on the first one whose rules are not
    /// compilable: an allowlist that is not hexadecimal, a rate outside (0, 1], an impossible filter rule.
    pub fn compile(
        broadcast_enabled: bool,
        destinations: &[(u32, Arc<Destination>)],
    ) -> Result<Plan, CompileError> {
        let compiled = destinations.iter().map(|(slot, destination)| Compiled::shared(*slot, destination));
        let mut destinations: Box<[_]> = compiled.collect::<Result<_, _>>()?;
        destinations.sort_by_key(|compiled| compiled.source.id);
        Ok(Plan { broadcast_enabled, destinations })
    }

    /// The plan after a change, which names destinations by id: what it does not name is not compiled again.
    /// Fails like [`Plan::compile`].
    pub fn changed(
        &self,
        broadcast_enabled: bool,
        changes: &BTreeMap<Uuid, Place>,
    ) -> Result<Plan, CompileError> {
        let mut destinations = self.destinations.to_vec();
        for (id, place) in changes {
            let at = destinations.binary_search_by_key(id, |compiled| compiled.source.id);
            match (at, place) {
                (Ok(at), Some((slot, destination))) => {
                    destinations[at] = Compiled::shared(*slot, destination)?;
                }
                (Err(at), Some((slot, destination))) => {
                    destinations.insert(at, Compiled::shared(*slot, destination)?);
                }
                (Ok(at), None) => {
                    destinations.remove(at);
                }
                (Err(_), None) => {}
            }
        }
        Ok(Plan { broadcast_enabled, destinations: destinations.into() })
    }

    /// Number of destinations, enabled or not.
    pub fn len(&self) -> usize {
        self.destinations.len()
    }

    /// True if the workspace has no destination.
    pub fn is_empty(&self) -> bool {
        self.destinations.is_empty()
    }
}

impl Compiled {
    fn shared(slot: u32, destination: &Arc<Destination>) -> Result<Arc<Compiled>, CompileError> {
        let compiled = Compiled::new(slot, destination);
        compiled.map(Arc::new).map_err(|reason| CompileError { destination: destination.id, reason })
    }

    fn new(slot: u32, destination: &Arc<Destination>) -> Result<Compiled, String> {
        Ok(Compiled {
            slot,
            private: destination.privacy_mode,
            enabled: destination.enabled,
            regions: destination.regions.iter().fold(0, |mask, region| mask | region_bit(*region)),
            keys: destination.api_key_hashes.as_deref().map(allowlist).transpose()?,
            sampling: Sampling::new(destination.id, destination.sampling_rate)?,
            filter: destination.filter_rules.as_ref().map(Filter::compile).transpose()?.flatten(),
            accepts: kinds::accepts(destination.config.kind()),
            source: destination.clone(),
        })
    }

    /// Why no span of the request goes here; `None` if the spans are to be looked at.
    pub(crate) fn refuses(&self, context: &Context<'_>) -> Option<Skip> {
        if !self.enabled {
            return Some(Skip::Disabled);
        }
        if self.regions & region_bit(context.region) == 0 {
            return Some(Skip::Region);
        }
        if !self.allows_key(context.api_key_hash.as_ref()) {
            return Some(Skip::Key);
        }
        None
    }

    /// An allowlist lets no keyless request pass.
    pub(crate) fn allows_key(&self, hash: Option<&[u8; 32]>) -> bool {
        match &self.keys {
            None => true,
            Some(keys) => hash.is_some_and(|hash| keys.binary_search(hash).is_ok()),
        }
    }

    /// Nothing to look at in a span.
    pub(crate) fn takes_all(&self) -> bool {
        self.sampling.is_none() && self.filter.is_none() && self.accepts.is_none()
    }
}

fn region_bit(region: Region) -> u8 {
    match region {
        Region::Global => 1,
        Region::Europe => 2,
        Region::Us => 4,
    }
}

fn allowlist(hashes: &[String]) -> Result<Box<[[u8; 32]]>, String> {
    let mut keys = hashes
        .iter()
        .enumerate()
        .map(|(i, text)| {
            tracecast_otlp::from_hex(text).ok_or_else(|| format!("api_key_hashes[{i}]: not 64 hex digits"))
        })
        .collect::<Result<Vec<_>, _>>()?;
    keys.sort_unstable();
    keys.dedup();
    Ok(keys.into())
}
