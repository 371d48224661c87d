//! Mutations of filter rules: refused, or compiled and decided within bounds.

use allocation_counter::measure;
use serde_json::Value as Json;
use tracecast_mutate::{corpus, fuzz};

use super::*;

/// Regexes are the large part: a rule may compile to `REGEX_SIZE_LIMIT_BYTES` and needs a multiple of
/// that on the way.
const MEMORY_MAX: u64 = 64 << 20;

#[test]
fn mutated_filter_rules() {
    let seeds: Vec<Vec<u8>> = corpus("filter").into_iter().map(|(_, text)| text).collect();
    let spans = [
        generation(1, 1, 0, "openai/gpt-4o")
            .with("gen_ai.usage.total_cost", 0.01)
            .with("session.id", "s-1")
            .with("gen_ai.prompt", r#"{"messages":[{"role":"user","content":"mail a@example.com"}]}"#)
            .with("gen_ai.completion", format!(r#"{{"completion":"{}"}}"#, "a@".repeat(2_000))),
        span(1, 2, 1),
        generation(2, 3, 0, "anthropic/claude"),
    ];
    let mut compiled = 0;
    fuzz("filter", &seeds, 20_000, |input| {
        let Ok(json) = serde_json::from_slice::<Json>(input) else { return };
        let mut read = None;
        let taken = measure(|| {
            let Ok(rules) = FilterRules::from_json(&json) else { return };
            let (slot, destination) = destination(1, |destination| destination.filter_rules = Some(rules));
            let memory = TraceMemory::default();
            let decision = decide(&plan(&[(slot, destination)]), &spans, &memory);
            read = Some((slot, decision));
        });
        assert!(taken.bytes_max < MEMORY_MAX, "{taken:?}");
        if let Some((slot, decision)) = read {
            assert_balanced(&decision, &[slot], spans.len() as u32);
            compiled += 1;
        }
    });
    assert!(compiled > 100, "only {compiled} inputs were rules");
}
