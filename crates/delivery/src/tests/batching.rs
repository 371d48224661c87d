//! How batches are formed: order, limits, waiting for company, and how much is outstanding.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tracecast_otlp::SpanSet;
use tracecast_sinks::{Answer, BatchLimits};

use super::harness::*;

#[tokio::test(start_paused = true)]
async fn first_attempts_go_in_log_order() {
    let bench = Bench::new();
    let limits = BatchLimits { spans_max: 7, concurrency_max: 1, ..LIMITS };
    let adapter = Scripted::new(limits, |_| Answer::Delivered.into());
    let slot = bench.add("a", &adapter);
    for spans in [1, 3, 2, 5, 1, 1, 4, 2] {
        bench.append(spans, &[slot]).await;
    }
    bench.quiet().await;
    let sent: Vec<SpanKey> = adapter.calls().iter().flat_map(|c| c.spans.clone()).collect();
    assert!(sent.is_sorted());
    assert_eq!(sent.len(), 19);
    assert_eq!(bench.books(slot).await.delivered, 19);
}

#[tokio::test(start_paused = true)]
async fn a_lone_record_waits_the_age_and_a_full_batch_does_not() {
    let bench = Bench::new();
    let adapter = Scripted::new(BatchLimits { spans_max: 10, ..LIMITS }, |_| Answer::Delivered.into());
    let slot = bench.add("a", &adapter);
    let start = Instant::now();
    bench.append(1, &[slot]).await;
    sleep(Duration::from_millis(150)).await;
    bench.append(1, &[slot]).await;
    bench.quiet().await;
    let calls = adapter.calls();
    assert_eq!(calls.len(), 1);
    let waited = calls[0].at - start;
    assert!(waited >= Duration::from_millis(200) && waited <= Duration::from_millis(202), "{waited:?}");

    let start = Instant::now();
    bench.append(10, &[slot]).await;
    bench.quiet().await;
    assert!(adapter.calls()[1].at - start <= Duration::from_millis(2));
    assert_eq!(bench.books(slot).await.delivered, 12);
}

#[tokio::test(start_paused = true)]
async fn batches_keep_the_limits_and_do_not_cut_records_without_need() {
    let bench = Bench::new();
    let adapter = Scripted::new(BatchLimits { spans_max: 10, ..LIMITS }, |_| Answer::Delivered.into());
    let slot = bench.add("a", &adapter);
    bench.delivery.pause(id("a"));
    for spans in [6, 6, 4, 25, 3] {
        bench.append(spans, &[slot]).await;
    }
    bench.delivery.resume(id("a"));
    bench.quiet().await;
    let mut sent: Vec<Vec<SpanKey>> = adapter.calls().into_iter().map(|c| c.spans).collect();
    sent.sort();
    let sizes: Vec<usize> = sent.iter().map(Vec::len).collect();
    // 6 | 6 + 4 | 10 of 25 | 10 of 25 | 5 of 25 + 3
    assert_eq!(sizes, [6, 10, 10, 10, 8]);
    assert_eq!(bench.books(slot).await.delivered, 44);
}

#[tokio::test(start_paused = true)]
async fn the_byte_limit_holds_and_a_span_above_it_goes_alone() {
    let bench = Bench::new();
    let adapter = Scripted::new(BatchLimits { bytes_max: 50_000, ..LIMITS }, |_| Answer::Delivered.into());
    let slot = bench.add("a", &adapter);
    bench.delivery.pause(id("a"));
    for size in [20_000, 20_000, 20_000, 200_000, 1_000] {
        let new = record(payload(1, |_| size), 1, vec![route(slot, SpanSet::all(1))]);
        bench.append_record(new).await;
    }
    bench.delivery.resume(id("a"));
    bench.quiet().await;
    let mut sent: Vec<Vec<SpanKey>> = adapter.calls().into_iter().map(|c| c.spans).collect();
    sent.sort();
    assert_eq!(sent.iter().map(Vec::len).collect::<Vec<_>>(), [2, 1, 1, 1]);
    assert_eq!(bench.books(slot).await.delivered, 5);
}

#[tokio::test(start_paused = true)]
async fn concurrency_is_used_and_kept() {
    let bench = Bench::new();
    let limits = BatchLimits { spans_max: 1, concurrency_max: 3, ..LIMITS };
    let slow = |_: &Call| Reply::Later(Duration::from_secs(1), Answer::Delivered);
    let adapter = Scripted::new(limits, slow);
    let slot = bench.add("a", &adapter);
    let start = Instant::now();
    for _ in 0..30 {
        bench.append(1, &[slot]).await;
    }
    bench.quiet().await;
    assert_eq!(adapter.most_in_flight(), 3);
    // Two at first, three after the second round.
    assert!(Instant::now() - start < Duration::from_secs(12));
    assert_eq!(bench.books(slot).await.delivered, 30);
}

#[tokio::test(start_paused = true)]
async fn a_failing_destination_takes_a_bounded_number_of_batches_out_of_its_queue() {
    let bench = Bench::new();
    let limits = BatchLimits { spans_max: 1, concurrency_max: 3, ..LIMITS };
    let adapter = Scripted::new(limits, |_| retry(503).into());
    let slot = bench.add("a", &adapter);
    for _ in 0..100 {
        bench.append(1, &[slot]).await;
    }
    sleep(Duration::from_secs(3600)).await;
    let mut tried: Vec<SpanKey> = adapter.calls().iter().flat_map(|c| c.spans.clone()).collect();
    tried.sort();
    tried.dedup();
    assert!(tried.len() <= 6, "{} batches outstanding", tried.len());
    // A dead destination is asked about twice a minute at the cap of the backoff, not by every batch.
    let late = adapter.calls().iter().filter(|c| Instant::now() - c.at < Duration::from_secs(1800)).count();
    assert!(late <= 120, "{late} requests within half an hour");
    adapter.then(|_| Answer::Delivered.into());
    bench.quiet().await;
    assert_eq!(bench.books(slot).await.delivered, 100);
}

#[tokio::test(start_paused = true)]
async fn only_the_selected_spans_are_sent() {
    let bench = Bench::new();
    let (a, b) = (Scripted::willing(), Scripted::willing());
    let (slot_a, slot_b) = (bench.add("a", &a), bench.add("b", &b));
    let (odd, few) = (SpanSet::from_positions(6, [1, 3, 5]), SpanSet::from_positions(6, [0, 5]));
    let sequence = bench.append_routed(6, vec![route(slot_a, odd), route(slot_b, few)]).await;
    bench.quiet().await;
    assert_eq!(a.calls()[0].spans, [(sequence, 1), (sequence, 3), (sequence, 5)]);
    assert_eq!(b.calls()[0].spans, [(sequence, 0), (sequence, 5)]);
    assert_eq!(bench.books(slot_a).await.delivered, 3);
    assert_eq!(bench.books(slot_b).await.delivered, 2);
}

#[tokio::test(start_paused = true)]
async fn batches_that_fail_alone_are_bounded_too() {
    let bench = Bench::new();
    let limits = BatchLimits { spans_max: 1, concurrency_max: 3, ..LIMITS };
    // Every other record is never taken, the rest always: the destination as a whole looks well.
    let adapter = Scripted::new(limits, |call| match call.spans[0].0 % 2 {
        0 => retry(503).into(),
        _ => Answer::Delivered.into(),
    });
    let slot = bench.add("a", &adapter);
    for _ in 0..100 {
        bench.append(1, &[slot]).await;
    }
    sleep(Duration::from_secs(600)).await;
    let mut failed: Vec<SpanKey> = adapter.calls().iter().flat_map(|c| c.spans.clone()).collect();
    failed.retain(|(sequence, _)| sequence % 2 == 0);
    failed.sort();
    failed.dedup();
    assert_eq!(failed.len(), 6, "twice the concurrency");
    adapter.then(|_| Answer::Delivered.into());
    bench.quiet().await;
    assert_eq!(bench.books(slot).await.delivered, 100);
}
