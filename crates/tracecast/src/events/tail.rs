//! A line per event as it comes: what it was, where it goes, and why not elsewhere. Never content.
//!
//! Lines go through one bounded ring; a reader that is too slow is told how many it lost. Without a reader
//! nothing is made.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use serde_json::{Value as Json, json};
use tokio::sync::broadcast;
use tracecast_genai::Generation;
use tracecast_ingest::Decided;
use tracecast_log::SkipReason;
use tracecast_otlp::hex;

use crate::known::{Directory, Known};
use crate::runtime::time;

/// Lines kept for a slow reader.
const LINES: usize = 1024;
/// Names from outside are cut to this many characters.
const NAME_CHARS: usize = 200;

/// The readers. Cheap to clone.
#[derive(Clone)]
pub(super) struct Tail {
    lines: Arc<ArcSwapOption<broadcast::Sender<Arc<Json>>>>,
}

impl Default for Tail {
    fn default() -> Tail {
        let sender = broadcast::Sender::new(LINES);
        Tail { lines: Arc::new(ArcSwapOption::from_pointee(sender)) }
    }
}

impl Tail {
    pub(super) fn subscribe(&self) -> Option<broadcast::Receiver<Arc<Json>>> {
        self.lines.load().as_ref().map(|sender| sender.subscribe())
    }

    pub(super) fn close(&self) {
        self.lines.store(None);
    }

    /// The lines of a request; none while nobody reads.
    pub(super) fn lines(&self, decided: &Decided<'_>, known: &Directory) -> Vec<Json> {
        if self.lines.load().as_ref().is_none_or(|sender| sender.receiver_count() == 0) {
            return Vec::new();
        }
        let known = known.all();
        (0..decided.traces.len()).map(|i| line(decided, i, &known)).collect()
    }

    pub(super) fn show(&self, lines: Vec<Json>) {
        if lines.is_empty() {
            return;
        }
        if let Some(sender) = self.lines.load().as_ref() {
            for line in lines {
                let _ = sender.send(Arc::new(line));
            }
        }
    }
}

fn line(decided: &Decided<'_>, i: usize, known: &[Arc<Known>]) -> Json {
    let span = decided.traces.span(i);
    let generation = Generation::new(span);
    let usage = generation.usage();
    let destinations: Vec<Json> = known
        .iter()
        .filter_map(|known| {
            let skipped = why_not(decided, i, known.slot)?;
            Some(json!({
                "destination_id": known.destination.id,
                "name": known.destination.name,
                "selected": skipped.is_none(),
                "skipped": skipped.map(SkipReason::as_str),
            }))
        })
        .collect();
    json!({
        "at": time(Some(decided.received_unix_nano)),
        "workspace_id": decided.workspace,
        "trace_id": hex(&span.trace_id()),
        "span_id": hex(&span.span_id()),
        "name": cut(span.name()),
        "generation": generation.is_generation(),
        "model": generation.model().or(generation.response_model()).map(cut),
        "provider": generation.provider_name().map(cut),
        "input_tokens": usage.input,
        "output_tokens": usage.output,
        "cost": generation.total_cost(),
        "destinations": destinations,
    })
}

/// `None`: the destination was not asked. `Some(None)`: it gets the span.
fn why_not(decided: &Decided<'_>, i: usize, slot: u32) -> Option<Option<SkipReason>> {
    let decision = decided.decision;
    if decision.routes.iter().any(|route| route.slot == slot && route.spans.contains(i as u32)) {
        return Some(None);
    }
    let mixed = decision.mixed.iter().find(|(of, _)| *of == slot);
    let reason = match mixed {
        Some((_, reasons)) => reasons.get(i).copied().flatten(),
        None => decision.skips.iter().find(|(of, ..)| *of == slot).map(|(_, reason, _)| *reason),
    };
    reason.and_then(|reason| SkipReason::from_code(reason as u8)).map(Some)
}

fn cut(text: &str) -> String {
    text.chars().take(NAME_CHARS).collect()
}
