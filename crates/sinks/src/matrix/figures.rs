//! What an event costs by kind: `cargo test --release -p tracecast-sinks figures -- --nocapture`.
//!
//! Events of 4 KB of text, full batches of each kind to a vendor on loopback that takes them. CPU is that of the whole
//! process, so it has the vendor's reading in it.

use super::*;

/// Events of one request of a client.
const EVENTS_PER_ITEM: usize = 10;

/// How often a batch is sent: CPU is counted in hundredths of a second, which is more than one takes.
const TIMES: usize = if cfg!(debug_assertions) { 1 } else { 50 };

/// Text that packs about as well as prose.
fn prose(seed: usize) -> String {
    let words =
        ["the", "model", "answers", "with", "a", "table", "of", "prices", "and", "then", "asks", "again"];
    let mut state = seed.wrapping_mul(0x9e37_79b9).wrapping_add(1);
    let mut text = String::new();
    while text.len() < 4_000 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        text.push_str(words[(state >> 33) % words.len()]);
        text.push(' ');
        if (state >> 20).is_multiple_of(7) {
            text.push_str(&format!("{} ", state >> 44));
        }
    }
    text
}

/// Hundredths of a second this process has worked.
fn ticks() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    [11, 12].iter().filter_map(|i| fields.get(*i)?.parse::<u64>().ok()).sum()
}

#[tokio::test]
async fn figures() {
    let clients = clients();
    println!(
        "{:<16}{:>8}{:>14}{:>14}{:>18}",
        "kind", "batch", "us CPU/event", "bytes/event", "requests/10,000"
    );
    for kind in Kind::ALL {
        let server = accepting(kind).await;
        let adapter = adapter(kind, &server, &clients);
        let limits = adapter.limits();
        let room = usize::try_from(limits.bytes_max / 5_000).unwrap();
        let events = usize::try_from(limits.spans_max).unwrap().min(room).clamp(1, 500) / EVENTS_PER_ITEM
            * EVENTS_PER_ITEM;
        let items = (0..events / EVENTS_PER_ITEM).map(|i| {
            let spans: Vec<SpanBuilder> = (0..EVENTS_PER_ITEM)
                .map(|j| {
                    let n = i * EVENTS_PER_ITEM + j;
                    let mut span = with_prompt(&prose(n));
                    // A trace of its own each, as calls through a gateway are.
                    span.trace_id[8..].copy_from_slice(&(n as u64 + 1).to_be_bytes());
                    span
                })
                .collect();
            item(i as u64 + 1, &spans)
        });
        let full = batch(items.collect());
        // The first request of some asks for the table.
        assert_eq!(adapter.send(&one(generation(1))).await.answer, Answer::Delivered, "{kind}");
        let before = server.received().len();
        let started = ticks();
        for _ in 0..TIMES {
            assert_eq!(adapter.send(&full).await.answer, Answer::Delivered, "{kind}");
        }
        let events_sent = TIMES * events;
        let worked_us = (ticks() - started) * 10_000;
        let received = server.received().split_off(before);
        let bytes: usize = received.iter().map(|received| received.body.len()).sum();
        println!(
            "{:<16}{:>8}{:>14}{:>14}{:>18}",
            kind.as_str(),
            events,
            worked_us / events_sent as u64,
            bytes / events_sent,
            received.len() * 10_000 / events_sent
        );
        // Every event is in it, and nothing is in it several times.
        let per_event = bytes / events_sent;
        assert!((100..20_000).contains(&per_event), "{kind}: {per_event} bytes per event");
    }
}
