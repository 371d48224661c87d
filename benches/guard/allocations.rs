//! The regression guard that runs everywhere: allocations do not depend on the machine, so they can be asserted.
//!
//! The steps between an OTLP client and an OTLP destination allocate per request: a change that allocates once per
//! span more breaks their bound. Steps that read the messages in a span have a bound per span.

mod works;

use allocation_counter::measure;

/// Allocations that a step may make for the whole request of [`works::SPANS`] spans.
fn bound(name: &str) -> u64 {
    let spans = u64::from(works::SPANS);
    match name {
        "splice half as it is" => 8,
        "walk" | "decide" | "otlp body" | "json out" | "webhook body" => spans / 2,
        "splice without content" => spans,
        // Messages are read into JSON values and written anew.
        "langfuse body" => 110 * spans,
        "events to spans" => 140 * spans,
        other => panic!("{other} has no bound"),
    }
}

#[test]
fn no_step_of_the_data_path_allocates_more_than_it_may() {
    let counts = works::NAMES.map(|name| {
        let mut work = works::named(name);
        // Once before, to fill what is filled once.
        work();
        (name, measure(&mut work).count_total)
    });
    let over: Vec<_> = counts.into_iter().filter(|(name, count)| *count > bound(name)).collect();
    assert!(over.is_empty(), "for {} spans: {over:?} of {counts:?}", works::SPANS);
}
