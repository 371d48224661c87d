//! What a request would become, on the way it would take: nothing is kept, counted or remembered.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value as Json;
use tracecast_genai::{events, stated_identity};
use tracecast_otlp::{Payload, Traces, json};
use tracecast_rules::{CanAssert, Context, Explanation, Plan};
use uuid::Uuid;

use crate::Ingest;
use crate::accept::{Identity, now_unix_nano, resolve};
use crate::http::EVENTS_MAX;

/// A request that was decided and not kept.
#[derive(Debug)]
pub struct Rehearsal {
    /// Where its first span goes.
    pub workspace: Uuid,
    /// Spans in it.
    pub spans: u32,
    /// When it arrived.
    pub received_unix_nano: u64,
    /// One per destination of the plan.
    pub explanations: Vec<Explanation>,
    /// What the log would keep for the first destination that selects something; its spans are all of these.
    pub payload: Option<Arc<Payload>>,
}

/// Why a request would be refused, in part or whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Field path inside of the request; empty for the request itself.
    pub path: String,
    /// What is wrong there.
    pub message: String,
}

impl Ingest {
    /// Decides `event` (an OTLP JSON request, or records of `/v1/events`) by `plan`, as sent to `workspace` by
    /// someone who may state any identity; that of the first span counts for all. Everything that would be refused
    /// is an error.
    pub fn rehearse(&self, event: &Json, workspace: Uuid, plan: &Plan) -> Result<Rehearsal, Vec<Mistake>> {
        let shared = &self.shared;
        let now = now_unix_nano();
        let traces = self.read(event, now)?;
        let snapshot = shared.snapshot.load();
        let own = Identity { workspace, key_hash: None, region: shared.options.region };
        let identity = match traces.spans().next() {
            Some(span) => resolve(&stated_identity(span), own, CanAssert::AnyWorkspace, &snapshot)
                .map_err(|(_, message)| vec![Mistake { path: String::new(), message }])?,
            None => return Err(vec![mistake("holds no span")]),
        };
        let Identity { workspace, key_hash, region } = identity;
        let over_limit = key_hash
            .and_then(|hash| snapshot.keys.get(&hash))
            .is_some_and(|key| key.over_limit && key.workspace_id == workspace);
        let context = Context { region, api_key_hash: key_hash, api_key_name: None, now_unix_nano: now };
        let explanations = plan.explain(&traces, &context, &shared.memory);
        let spans = traces.len() as u32;
        let selected = explanations.iter().find_map(|of| Some((of.spans.as_ref()?, of.private)));
        let payload = selected.map(|(kept, private)| Arc::new(self.keep(traces, kept, private, over_limit)));
        Ok(Rehearsal { workspace, spans, received_unix_nano: now, explanations, payload })
    }

    fn read(&self, event: &Json, now: u64) -> Result<Traces, Vec<Mistake>> {
        let shared = &self.shared;
        let text = event.to_string();
        let is_otlp = ["resourceSpans", "resource_spans"].iter().any(|name| event.get(name).is_some());
        let protobuf = if is_otlp {
            let (protobuf, rejected) = json::decode(text.as_bytes(), &shared.otlp_limits)
                .map_err(|e| vec![Mistake { path: e.path, message: e.reason }])?;
            match rejected.is_empty() {
                true => protobuf,
                false => {
                    let mistakes = rejected.into_iter().map(|r| Mistake { path: r.path, message: r.reason });
                    return Err(mistakes.collect());
                }
            }
        } else {
            self.read_records(&text, now)?
        };
        Traces::index(protobuf, &shared.otlp_limits)
            .map_err(|e| vec![Mistake { path: e.path, message: e.reason }])
    }

    fn read_records(&self, text: &str, now: u64) -> Result<Bytes, Vec<Mistake>> {
        let outcome = events::transcode(
            text.as_bytes(),
            &events::Options {
                strict: false,
                receive_unix_nano: now,
                service_name: &self.shared.options.service_name,
                max_records: EVENTS_MAX,
            },
        );
        if outcome.rejected == 0 {
            return Ok(outcome.protobuf);
        }
        Err(outcome.errors.into_iter().map(|e| Mistake { path: e.path, message: e.message }).collect())
    }
}

fn mistake(message: &str) -> Mistake {
    Mistake { path: String::new(), message: message.to_owned() }
}
