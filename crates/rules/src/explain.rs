//! Why a request goes where it goes, in words: for previews and look-ups. Never shows content.

use crate::decide::{Context, Skip};
use crate::fields::Fields;
use crate::filter::rule_path;
use crate::memory::{Recall, TraceMemory};
use crate::plan::{Compiled, Plan};
use crate::sampling::{Key, TraceKeys};
use crate::trace_index::TraceIndex;
use tracecast_destination::{FilterRule, FilterValue, Logic};
use tracecast_genai::Generation;
use tracecast_otlp::{SpanSet, Traces};
use uuid::Uuid;

/// What one destination would get of a request, and what its rules say.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// Its id.
    pub destination: Uuid,
    /// Its number in the log.
    pub slot: u32,
    /// Spans it would get.
    pub selected: u32,
    /// Which (positions in the request); `None` if it gets none.
    pub spans: Option<SpanSet>,
    /// It would get them without content.
    pub private: bool,
    /// Spans it would not get, by reason.
    pub skips: Vec<(Skip, u32)>,
    /// Every rule in the order of evaluation, applied to the first generation of the request (to the
    /// first span if there is none). Also those after one that failed.
    pub checks: Vec<Check>,
}

/// One rule, applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// Field path in the destination (`regions`, `filter_rules.groups[0].rules[1]`), or
    /// `is_observability_broadcast_enabled` for the workspace switch.
    pub path: String,
    /// Whether it lets the span pass. A rule of an `or` group that is false passes if another one is true.
    pub passed: bool,
    /// What was compared, and the outcome: `model equals "x" is false`.
    pub text: String,
}

impl Explanation {
    /// The rule that stops the span, as `path: text`; `None` if none does.
    pub fn first_failure(&self) -> Option<String> {
        let failed = self.checks.iter().find(|check| !check.passed)?;
        Some(format!("{}: {}", failed.path, failed.text))
    }
}

impl Plan {
    /// What [`Plan::decide`] would say, with the reasons; the memory is only read. One entry per
    /// destination, in the order of the plan; empty if the request has no spans.
    pub fn explain(&self, traces: &Traces, context: &Context<'_>, memory: &TraceMemory) -> Vec<Explanation> {
        if traces.is_empty() {
            return Vec::new();
        }
        let decision = self.decide_again(traces, context, memory);
        let subject = traces.spans().position(|span| Generation::new(span).is_generation()).unwrap_or(0);
        let index = TraceIndex::new(traces);
        let keys = TraceKeys::new(traces, &index, &mut Recall::looking(memory, context.now_unix_nano));
        let key = keys.of_trace(index.trace_of(subject));
        let fields = Fields::new(Generation::new(traces.span(subject)), context.api_key_name);
        self.destinations
            .iter()
            .map(|compiled| {
                let slot = compiled.slot;
                let route = decision.routes.iter().find(|route| route.slot == slot);
                let skips = decision.skips.iter().filter(|(of, ..)| *of == slot);
                Explanation {
                    destination: compiled.source.id,
                    slot,
                    selected: route.map_or(0, |route| route.spans.count()),
                    spans: route.map(|route| route.spans.clone()),
                    private: compiled.private,
                    skips: skips.map(|(_, reason, count)| (*reason, *count)).collect(),
                    checks: self.checks(compiled, context, key, &fields),
                }
            })
            .collect()
    }

    fn checks(
        &self,
        compiled: &Compiled,
        context: &Context<'_>,
        key: Option<&Key<'_>>,
        fields: &Fields<'_>,
    ) -> Vec<Check> {
        let destination = &compiled.source;
        let mut checks = Vec::new();
        let mut check = |path: &str, passed: bool, text: String| {
            checks.push(Check { path: path.into(), passed, text });
        };
        let on_off = |on: bool| if on { "on" } else { "off" };

        let switch = self.broadcast_enabled;
        check(
            "is_observability_broadcast_enabled",
            switch,
            format!("broadcast is switched {} in the workspace", on_off(switch)),
        );
        check(
            "enabled",
            destination.enabled,
            format!("the destination is switched {}", on_off(destination.enabled)),
        );

        let served = destination.regions.contains(&context.region);
        let regions: Vec<&str> = destination.regions.iter().map(|region| region.as_str()).collect();
        check(
            "regions",
            served,
            format!(
                "region {} of the request is {}one of {}",
                context.region.as_str(),
                if served { "" } else { "not " },
                regions.join(", ")
            ),
        );

        if let Some(hashes) = &destination.api_key_hashes {
            let passed = compiled.allows_key(context.api_key_hash.as_ref());
            let text = match (&context.api_key_hash, passed) {
                (None, _) => "the request has no key, and only listed keys pass".into(),
                (Some(_), true) => "the key of the request is listed".into(),
                (Some(hash), false) => format!(
                    "the key of the request (hash {}...) is not among the {} listed",
                    hash.iter().take(4).map(|byte| format!("{byte:02x}")).collect::<String>(),
                    hashes.len()
                ),
            };
            check("api_key_hashes", passed, text);
        }

        if let (Some(sampling), Some(key)) = (&compiled.sampling, key) {
            let mut hex = [0; 32];
            let bytes = key.bytes(&mut hex);
            let passed = sampling.keeps(bytes);
            let kind = if matches!(key, Key::TraceId(_)) { "trace id" } else { "session id" };
            let text = format!(
                "{kind} {:?} falls at {:.6}, {} {}",
                String::from_utf8_lossy(bytes),
                sampling.position(bytes),
                if passed { "below" } else { "not below" },
                destination.sampling_rate
            );
            check("sampling_rate", passed, text);
        }

        if let (Some(filter), Some(rules)) = (&compiled.filter, &destination.filter_rules) {
            let mut outcomes = Vec::new();
            filter.each(fields, |group, rule, holds| outcomes.push((group, rule, holds)));
            for &(group, rule, holds) in &outcomes {
                let Some(of) = rules.groups.get(group) else { continue };
                let Some(written) = of.rules.get(rule) else { continue };
                let passed = match of.logic {
                    Logic::And => holds,
                    Logic::Or => outcomes.iter().any(|(other, _, holds)| *other == group && *holds),
                };
                let text = format!("{} is {holds}", RuleText(written));
                check(&rule_path(group, rule), passed, text);
            }
        }
        checks
    }
}

/// A rule as a reader would say it: `model equals "x"`.
struct RuleText<'a>(&'a FilterRule);

impl std::fmt::Display for RuleText<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let FilterRule { field, operator, value } = self.0;
        write!(f, "{} {}", field.as_str(), operator.as_str())?;
        match value {
            _ if !operator.takes_value() => Ok(()),
            Some(FilterValue::Text(text)) => write!(f, " {text:?}"),
            Some(FilterValue::Number(number)) => write!(f, " {number}"),
            None => Ok(()),
        }
    }
}
