//! The decision: for every span of a request, for every destination, selected or skipped and why.

use crate::memory::{Recall, TraceMemory};
use crate::plan::{Compiled, Plan};
use crate::sampling::TraceKeys;
use crate::trace_index::TraceIndex;
use crate::verdicts::{Filtered, Verdicts};
use tracecast_destination::Region;
use tracecast_otlp::{SpanSet, Traces};

/// Who sent it. The identity here has been authorised already.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// Region of the listener or stated by the event.
    pub region: Region,
    /// SHA-256 of the ordinary key; `None` = keyless.
    pub api_key_hash: Option<[u8; 32]>,
    /// The credential's name, what the filter field `api_key_name` sees; `None` = the span's own.
    pub api_key_name: Option<&'a str>,
    /// Receive time.
    pub now_unix_nano: u64,
}

/// What became of a request. Per destination, routes and skips add up to the spans of the request.
#[derive(Clone, Debug, Default)]
pub struct Decision {
    /// Destinations that select something, in the order of the plan.
    pub routes: Vec<Selected>,
    /// Slot, reason, number of spans (never 0).
    pub skips: Vec<(u32, Skip, u32)>,
    /// Per span, for the slots that skip for more than one reason.
    pub mixed: Vec<(u32, Vec<Option<Skip>>)>,
    /// Union of the routes (positions in the request): what must be kept. `None` if nobody selects.
    pub union: Option<SpanSet>,
    /// Every destination that selects anything is in privacy mode: content must go before the log.
    pub all_private: bool,
    /// What the trace memory learned from this request, encoded for the record ([`TraceMemory::restore`]).
    pub trace_keys: Vec<u8>,
}

/// The spans one destination gets.
#[derive(Clone, Debug)]
pub struct Selected {
    /// The destination's number in the log.
    pub slot: u32,
    /// Privacy mode: to be sent without content.
    pub private: bool,
    /// Positions in the request, at least one.
    pub spans: SpanSet,
}

/// Why a destination does not get a span. Same order and codes as the log's skip reasons.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Skip {
    /// The destination, or Broadcast in its workspace, is switched off.
    Disabled = 0,
    /// It does not serve the region of the request.
    Region = 1,
    /// The key is not on its allowlist.
    Key = 2,
    /// Sampled out.
    Sampled = 3,
    /// Refused by its filter rules.
    Filter = 4,
    /// Its shape has no place for the span.
    Kind = 5,
}

impl Plan {
    /// Decides every span of the request for every destination. `memory` is read and updated.
    pub fn decide(&self, traces: &Traces, context: &Context<'_>, memory: &TraceMemory) -> Decision {
        self.run(traces, context, Recall::learning(memory, context.now_unix_nano))
    }

    /// The same for a request that was decided before: `memory` is only read.
    pub fn decide_again(&self, traces: &Traces, context: &Context<'_>, memory: &TraceMemory) -> Decision {
        self.run(traces, context, Recall::looking(memory, context.now_unix_nano))
    }

    pub(crate) fn run(&self, traces: &Traces, context: &Context<'_>, mut recall: Recall<'_>) -> Decision {
        let mut decision = Decision::default();
        let spans = traces.len() as u32;
        if spans == 0 {
            return decision;
        }
        let mut open: Vec<&Compiled> = Vec::with_capacity(self.destinations.len());
        for destination in &self.destinations {
            let refused =
                if self.broadcast_enabled { destination.refuses(context) } else { Some(Skip::Disabled) };
            match refused {
                Some(reason) => decision.skips.push((destination.slot, reason, spans)),
                None => open.push(destination),
            }
        }
        if open.iter().all(|destination| destination.takes_all()) {
            for destination in open {
                decision.select(destination, SpanSet::all(spans));
            }
            return decision;
        }

        let index = TraceIndex::new(traces);
        let keys = open
            .iter()
            .any(|destination| destination.sampling.is_some())
            .then(|| TraceKeys::new(traces, &index, &mut recall));
        let kept: Vec<Option<Vec<bool>>> = open
            .iter()
            .map(|destination| Some(keys.as_ref()?.kept(destination.sampling.as_ref()?)))
            .collect();
        let filtered: Vec<Filtered<'_>> = open
            .iter()
            .zip(&kept)
            .filter_map(|(destination, kept)| {
                let filter = destination.filter.as_ref()?;
                // Nothing of the request is left to be judged.
                let idle = kept.as_ref().is_some_and(|kept| !kept.contains(&true));
                (!idle).then_some(Filtered { slot: destination.slot, filter, kept: kept.as_deref() })
            })
            .collect();
        let verdicts = (!filtered.is_empty())
            .then(|| Verdicts::new(traces, &index, context.api_key_name, &filtered, &mut recall));
        let passing = verdicts.as_ref().map(Verdicts::any).unwrap_or_default();
        let mut column = 0;
        for (destination, kept) in open.into_iter().zip(&kept) {
            let kept = kept.as_deref();
            if kept.is_some_and(|kept| !kept.contains(&true)) {
                decision.skips.push((destination.slot, Skip::Sampled, spans));
                continue;
            }
            let kept = kept.filter(|kept| kept.contains(&false));
            let verdicts = verdicts.as_ref().filter(|_| destination.filter.is_some());
            if kept.is_none() && verdicts.is_some() && !passing[column] {
                decision.skips.push((destination.slot, Skip::Filter, spans));
                column += 1;
                continue;
            }
            decision.sift(destination, traces, |i| {
                if kept.is_some_and(|kept| !kept[index.trace_of(i) as usize]) {
                    return Some(Skip::Sampled);
                }
                if verdicts.is_some_and(|verdicts| !verdicts.passes(i, column)) {
                    return Some(Skip::Filter);
                }
                if destination.accepts.is_some_and(|accepts| !accepts(traces.span(i))) {
                    return Some(Skip::Kind);
                }
                None
            });
            column += usize::from(destination.filter.is_some());
        }
        decision.trace_keys = recall.into_learned();
        decision
    }
}

impl Decision {
    /// Asks for every span and books the answers.
    fn sift(&mut self, destination: &Compiled, traces: &Traces, skip: impl Fn(usize) -> Option<Skip>) {
        let spans = traces.len() as u32;
        let [mut sampled, mut filtered, mut unfit] = [0; 3];
        // Made at the first span that is not like those before it.
        let mut some: Option<SpanSet> = None;
        let mut selected = 0;
        for i in 0..spans {
            match skip(i as usize) {
                None => {
                    if some.is_none() && selected < i {
                        some = Some(SpanSet::none(spans));
                    }
                    if let Some(set) = &mut some {
                        set.insert(i);
                    }
                    selected += 1;
                    continue;
                }
                Some(Skip::Kind) => unfit += 1,
                Some(Skip::Filter) => filtered += 1,
                Some(_) => sampled += 1,
            }
            if some.is_none() && selected > 0 {
                some = Some(SpanSet::from_positions(spans, 0..selected));
            }
        }
        let before = self.skips.len();
        for (reason, count) in [(Skip::Sampled, sampled), (Skip::Filter, filtered), (Skip::Kind, unfit)] {
            if count > 0 {
                self.skips.push((destination.slot, reason, count));
            }
        }
        if self.skips.len() - before > 1 {
            self.mixed.push((destination.slot, (0..spans).map(|i| skip(i as usize)).collect()));
        }
        match some {
            Some(set) => self.select(destination, set),
            None if selected > 0 => self.select(destination, SpanSet::all(spans)),
            None => {}
        }
    }

    fn select(&mut self, destination: &Compiled, spans: SpanSet) {
        self.all_private = destination.private && (self.routes.is_empty() || self.all_private);
        self.union = Some(match self.union.take() {
            Some(union) if union.is_all() => union,
            Some(union) => union.union(&spans),
            None => spans.clone(),
        });
        self.routes.push(Selected { slot: destination.slot, private: destination.private, spans });
    }
}
