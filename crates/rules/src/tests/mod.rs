//! What the tests share: spans, requests, destinations and plans made with few words.

mod accounting;
mod change;
mod explain;
mod family;
mod filter;
mod fuzz;
mod memory;
mod privacy;
mod remembered;
mod sampling;

use crate::{Context, Decision, Plan, Skip, TraceMemory};
use bytes::Bytes;
use std::sync::Arc;
use tracecast_destination::{
    CreateDefaults, DEFAULT_WORKSPACE_ID, Destination, Field, FilterGroup, FilterRule, FilterRules,
    FilterValue, Logic, ManagedBy, Operator, Region,
};
use tracecast_otlp::write::{OwnedValue, SpanBuilder, resource_spans};
use tracecast_otlp::{Limits, TraceId, Traces};
use uuid::Uuid;

const NOW: u64 = 1_790_000_000_000_000_000;
const MINUTE: u64 = 60_000_000_000;

fn trace_id(n: u64) -> TraceId {
    let mut id = [0xaa; 16];
    id[8..].copy_from_slice(&n.to_be_bytes());
    id
}

/// A span that is no generation; ids count from 1.
fn span(trace: u64, id: u64, parent: u64) -> SpanBuilder {
    SpanBuilder {
        trace_id: trace_id(trace),
        span_id: id.to_be_bytes(),
        parent_span_id: (parent != 0).then(|| parent.to_be_bytes()),
        name: "work".into(),
        kind: 1,
        start_unix_nano: NOW,
        end_unix_nano: NOW + 1,
        ..SpanBuilder::default()
    }
}

/// A chat completion by `model`.
fn generation(trace: u64, id: u64, parent: u64, model: &str) -> SpanBuilder {
    let mut span = span(trace, id, parent);
    span.attributes.push(("gen_ai.operation.name".into(), "chat".into()));
    span.attributes.push(("gen_ai.request.model".into(), model.into()));
    span
}

trait With {
    fn with(self, key: &str, value: impl Into<OwnedValue>) -> Self;
}
impl With for SpanBuilder {
    fn with(mut self, key: &str, value: impl Into<OwnedValue>) -> Self {
        self.attributes.push((key.into(), value.into()));
        self
    }
}

fn request(spans: &[SpanBuilder]) -> Traces {
    let mut body = Vec::new();
    resource_spans(&[("service.name".into(), "test".into())], "test", "1", spans, &mut body);
    let traces = Traces::index(Bytes::from(body), &Limits::default()).unwrap();
    assert_eq!(traces.len(), spans.len(), "{:?}", traces.rejected());
    traces
}

fn id(n: u128) -> Uuid {
    Uuid::from_u128(0x5eed_0000_0000_4000_8000_0000_0000_0000 | n)
}

fn destination(n: u128, change: impl FnOnce(&mut Destination)) -> (u32, Arc<Destination>) {
    let body = serde_json::json!({
        "type": "webhook", "name": format!("destination {n}"), "config": {"url": "https://example.com/hook"},
    });
    let defaults = CreateDefaults {
        id: id(n),
        workspace_id: DEFAULT_WORKSPACE_ID,
        managed_by: ManagedBy::Api,
        now: jiff::Timestamp::UNIX_EPOCH,
    };
    let mut destination = Destination::create(&body, defaults).unwrap();
    change(&mut destination);
    (n as u32, Arc::new(destination))
}

fn plan(destinations: &[(u32, Arc<Destination>)]) -> Plan {
    Plan::compile(true, destinations).unwrap()
}

fn rule(field: Field, operator: Operator, value: impl Into<Option<FilterValue>>) -> FilterRule {
    FilterRule { field, operator, value: value.into() }
}

fn text(value: &str) -> FilterValue {
    FilterValue::Text(value.into())
}

fn rules(groups: Vec<(Logic, Vec<FilterRule>)>) -> Option<FilterRules> {
    let groups = groups.into_iter().map(|(logic, rules)| FilterGroup { logic, rules }).collect();
    Some(FilterRules { enabled: true, groups })
}

/// A destination that takes what `model` said.
fn model_destination(n: u128, model: &str) -> (u32, Arc<Destination>) {
    let only = rules(vec![(Logic::And, vec![rule(Field::Model, Operator::Equals, text(model))])]);
    destination(n, |destination| destination.filter_rules = only)
}

fn sampled_destination(n: u128, rate: f64) -> (u32, Arc<Destination>) {
    destination(n, |destination| destination.sampling_rate = rate)
}

fn at(now_unix_nano: u64) -> Context<'static> {
    Context { region: Region::Global, api_key_hash: None, api_key_name: None, now_unix_nano }
}

fn decide(plan: &Plan, spans: &[SpanBuilder], memory: &TraceMemory) -> Decision {
    plan.decide(&request(spans), &at(NOW), memory)
}

/// Positions selected for a slot.
fn selected(decision: &Decision, slot: u32) -> Vec<u32> {
    decision
        .routes
        .iter()
        .filter(|route| route.slot == slot)
        .flat_map(|route| route.spans.iter().collect::<Vec<_>>())
        .collect()
}

fn skips(decision: &Decision, slot: u32) -> Vec<(Skip, u32)> {
    decision.skips.iter().filter(|(of, ..)| *of == slot).map(|(_, reason, count)| (*reason, *count)).collect()
}

/// The books of one request: per destination selected + skipped = spans; the union is the union.
fn assert_balanced(decision: &Decision, slots: &[u32], spans: u32) {
    for slot in slots {
        let selected: u32 =
            decision.routes.iter().filter(|route| route.slot == *slot).map(|route| route.spans.count()).sum();
        let skipped: u32 = skips(decision, *slot).iter().map(|(_, count)| count).sum();
        assert_eq!(selected + skipped, spans, "slot {slot}: {decision:?}");
    }
    assert!(decision.skips.iter().all(|(.., count)| *count > 0));
    assert!(decision.routes.iter().all(|route| !route.spans.is_empty() && route.spans.len() == spans));
    let mut union: Vec<u32> =
        decision.routes.iter().flat_map(|route| route.spans.iter().collect::<Vec<_>>()).collect();
    union.sort_unstable();
    union.dedup();
    let kept: Vec<u32> = decision.union.iter().flat_map(|set| set.iter().collect::<Vec<_>>()).collect();
    assert_eq!(kept, union);
    assert_eq!(decision.union.is_none(), decision.routes.is_empty());
    let all_private = !decision.routes.is_empty() && decision.routes.iter().all(|route| route.private);
    assert_eq!(decision.all_private, all_private);
}
